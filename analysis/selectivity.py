"""How selective neurons are: sparseness of responses, and tuning to classes.

* *Sparseness* ``1 - <r>^2 / <r^2>`` (Treves & Rolls 1991; Rolls & Tovee 1995), of non-negative responses: over neurons for
  each stimulus (*population* sparseness), or over stimuli for each neuron (*lifetime* sparseness); 0 for equal responses,
  ``1 - 1/N`` for a single one among N. Normalised it is divided by ``1 - 1/N`` (Vinje & Gallant 2000).
* *Tuning*: the class to which a neuron responds most; the *selectivity* index ``(m_max - m_rest) / (m_max + m_rest)`` of
  the mean response to that class and to all other classes (Morcos et al. 2018), which, the class being chosen from the same
  responses, is above 0 by chance too; the share of the variance that the classes explain, ``eta^2 = SS_B / SS_total``,
  ``(K - 1)/(n - 1)`` by chance; and ``omega^2 = (SS_B - (K - 1) MS) / (SS_total + MS)`` (Hays 1963), about 0 by chance,
  with the mean square MS of independent samples within a class (of images, where several views show one). Omega^2 is the
  one to compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import Undefined, as_responses, measured
from analysis.stimuli import groups_of, images_of
from analysis.variance import variance_of
from neurossl.errors import OptionError

NEGATIVE = "negative responses: defined for rates that are 0 or more"


def population_sparseness(response: Any, *, normalised: bool = False) -> xr.DataArray:
    """Return the sparseness over neurons of the response to each stimulus; equation and sources above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
        Not negative.
    normalised : bool
        Divide by the largest possible value, so that populations of different size compare.

    Returns
    -------
    DataArray
        (..., stimulus), 0 to 1; NaN for stimuli without any response, and where undefined, with the reason in
        ``attrs["undefined"]``.

    Raises
    ------
    TrajectoryError
        If these are no responses.
    """
    return _sparseness(response, "stimulus", normalised)


def lifetime_sparseness(response: Any, *, normalised: bool = False) -> xr.DataArray:
    """Return the sparseness over stimuli of each neuron, (..., neuron); equation and sources above.

    Parameters and result as of `population_sparseness`; NaN for silent neurons.
    """
    return _sparseness(response, "neuron", normalised)


def class_tuning(response: Any, labels: Any = None, images: Any = None) -> xr.Dataset:
    """Return what class each neuron prefers and how much the classes explain; equations and sources above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    labels, images : array, (stimuli,), optional
        Class of each stimulus (numbers), and which image it shows; the coordinates ``label`` and ``image`` by default;
        without images each stimulus is its own.

    Returns
    -------
    Dataset
        preferred (a label), selectivity, eta_squared, omega_squared, each (..., neuron). NaN for neurons that do not vary,
        for the selectivity of silent ones, and where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        If there are no labels, of one class only, or not numbers.
    TrajectoryError
        If these are no responses.
    """
    response = as_responses(response)
    classes, shown = groups_of(response, labels, "label", "class_tuning"), images_of(response, images)
    names = np.unique(classes)
    if len(names) < 2:
        raise OptionError(f"class_tuning: expected labels of at least two classes, got {len(names)}")
    if names.dtype.kind not in "iufb":
        raise OptionError(f"class_tuning: expected labels that are numbers, got {names.dtype}: pass labels= as numbers")
    own = classes[:, None] == names

    def tuning(values: np.ndarray) -> dict[str, Any]:
        v = variance_of(values, classes, shown)
        total = v.between + v.within
        varies = total > 0
        means = (own.T @ values) / own.sum(0)[:, None]
        best = means.argmax(0)
        rest = (means.sum(0) - means.max(0)) / (len(names) - 1)
        eta, omega, index = (np.full(values.shape[1], np.nan) for _ in range(3))
        np.divide(v.between, total, out=eta, where=varies)
        np.divide(v.between - (v.groups - 1) * v.error, total + v.error, out=omega, where=varies)
        np.divide(means.max(0) - rest, means.max(0) + rest, out=index, where=means.max(0) + rest > 0)
        return {
            "preferred": np.where(varies, names[best], np.nan),
            "selectivity": Undefined(NEGATIVE) if (values < 0).any() else index,
            "eta_squared": eta,
            "omega_squared": omega,
        }

    meanings = {
        "preferred": "class with the largest mean response",
        "selectivity": "class selectivity index",
        "eta_squared": "share of the variance that the classes explain, uncorrected",
        "omega_squared": "share of the variance that the classes explain, corrected for chance",
    }
    found = measured(response, tuning, dict.fromkeys(meanings, "neuron"))
    for name, meaning in meanings.items():
        found[name].attrs |= {"long_name": meaning, "units": "1"}
    return found.assign_attrs(classes=len(names))


def _sparseness(response: Any, over: str, normalised: bool) -> xr.DataArray:
    axis, which = (1, "population") if over == "stimulus" else (0, "lifetime")

    def sparseness(values: np.ndarray) -> dict[str, Any]:
        if (values < 0).any():
            raise Undefined(NEGATIVE)
        number = values.shape[axis]
        if normalised and number < 2:
            raise Undefined(f"one {'neuron' if axis else 'stimulus'}: nothing to normalise by")
        largest = values.max(axis, keepdims=True)
        r = np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)
        power = np.square(r).mean(axis)
        found = np.full(len(power), np.nan)
        np.divide(np.square(r.mean(axis)), power, out=found, where=power > 0)
        return {"sparseness": np.maximum(1 - found, 0) / (1 - 1 / number if normalised else 1)}

    found = measured(response, sparseness, {"sparseness": over})["sparseness"]
    name = f"{which} sparseness (Treves-Rolls{', normalised' if normalised else ''})"
    silent = int(found.isnull().sum())
    attrs: dict[str, Any] = {"long_name": name, "units": "1"}
    if silent and "undefined" not in found.attrs:
        attrs["undefined"] = f"{silent} {'stimuli evoke no response' if axis else 'neurons never respond'}"
    return found.assign_attrs(attrs)
