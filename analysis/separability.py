"""How well classes are separated in a population, without fitting a readout.

* ``trace_ratio``, Fisher's ``tr(S_B) / tr(S_W)``: variance of the classes' means (weighted by their frequency) over that
  within classes, summed over neurons. The plain ratio of K classes and n stimuli is about (K - 1)/n for labels drawn at
  random; the default subtracts what the means vary by chance, ``tr(S_B) = (SS_B - (K - 1) MS) / n`` with the mean square MS
  of independent samples within a class (of images, where several views show one; equal numbers of views), and can be
  negative.
* ``d_prime`` of each class against all others (Green & Swets 1966): the distance of the means of both along an axis over
  the root of the mean of their variances along it. The axis, the difference of the two means, is taken from one half of the
  images, d' from the other half, then the halves are exchanged and the two averaged: 0 on average for labels drawn at
  random, however many neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import Undefined, as_responses, measured, scaled
from analysis.stimuli import codes, groups_of, images_of
from analysis.variance import variance_of
from neurossl.errors import OptionError

LEAST_IMAGES = 4
"""Of a class, for its d': two in each half."""


def fisher_separability(response: Any, labels: Any = None, images: Any = None, *, corrected: bool = True) -> xr.DataArray:
    """Return Fisher's trace ratio; equation above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    labels, images : array, (stimuli,), optional
        Class of each stimulus, and which image it shows; the coordinates ``label`` and ``image`` by default; without images
        each stimulus is its own.
    corrected : bool
        Less what labels drawn at random would give.

    Returns
    -------
    DataArray
        With the leading dims; NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        If there are no labels, or of one class only.
    TrajectoryError
        If these are no responses.
    """
    response = as_responses(response)
    classes, shown = _classes(response, labels, "fisher_separability"), images_of(response, images)

    def ratio(values: np.ndarray) -> dict[str, Any]:
        v = variance_of(values, classes, shown)
        within = v.within.sum() / (v.count - v.groups if corrected else v.count)
        if not within > 0:
            raise Undefined("no variance within classes: the ratio is infinite")
        chance = (v.groups - 1) * v.error.sum() if corrected else 0.0
        return {"trace_ratio": float((v.between.sum() - chance) / v.count / within)}

    found = measured(response, ratio, {"trace_ratio": None})["trace_ratio"]
    name = "Fisher's trace ratio" + (", less what chance gives" if corrected else "")
    return found.assign_attrs(long_name=name, units="1", classes=len(np.unique(classes)))


def class_d_prime(response: Any, labels: Any = None, images: Any = None) -> xr.DataArray:
    """Return d' of each class against all others, cross-validated over two halves of the images; equation above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    labels, images : array, (stimuli,), optional
        As of `fisher_separability`. All views of an image are in one half; images go to the halves in turn within each
        class.

    Returns
    -------
    DataArray
        (..., class) in standard deviations; NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        If there are no labels, or of one class only.
    TrajectoryError
        If these are no responses.
    """
    response = as_responses(response)
    classes, shown = _classes(response, labels, "class_d_prime"), images_of(response, images)
    names = np.unique(classes)
    half, images_per_class = _halves(classes, shown)
    few = [name for name, count in zip(names, images_per_class, strict=True) if count < LEAST_IMAGES]

    def all_classes(values: np.ndarray) -> dict[str, Any]:
        found, values = np.full(len(names), np.nan), scaled(values)
        for at, name in enumerate(names):
            if name not in few:
                found[at] = np.mean([_d_prime(values, classes == name, half == axis) for axis in (0, 1)])
        return {"d_prime": found}

    found = measured(response, all_classes, {"d_prime": "class"}, {"class": names})["d_prime"]
    reasons = [found.attrs["undefined"]] if "undefined" in found.attrs else []
    reasons += [f"class {', '.join(map(str, few))}: fewer than {LEAST_IMAGES} images"] if few else []
    silent = found.isnull() & ~found["class"].isin(few)
    if bool(silent.any()) and "undefined" not in found.attrs:
        reasons.append("a class does not vary along its axis, or does not differ from the others in one half: no d'")
    attrs = {"long_name": "d' against the other classes, cross-validated", "units": "1"}
    return found.assign_attrs(attrs | ({"undefined": "; ".join(reasons)} if reasons else {}))


def _classes(response: xr.DataArray, labels: Any, why: str) -> np.ndarray:
    classes = groups_of(response, labels, "label", why)
    if len(np.unique(classes)) < 2:
        raise OptionError(f"{why}: expected labels of at least two classes, got {len(np.unique(classes))}")
    return classes


def _halves(classes: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the half, 0 or 1, of every stimulus, and the images per class."""
    half = np.zeros(len(classes), dtype=int)
    counts = []
    for number, name in enumerate(np.unique(classes)):
        own = classes == name
        place = codes(images[own])
        # Every other class begins with the other half, so that odd numbers of images even out.
        half[own] = (place + number) % 2
        counts.append(int(place.max()) + 1)
    return half, counts


def _d_prime(values: np.ndarray, own: np.ndarray, axis_half: np.ndarray) -> float:
    """Return d' along the axis that one half gives, measured in the other."""
    axis = values[own & axis_half].mean(0) - values[~own & axis_half].mean(0)
    norm = np.linalg.norm(axis)
    if not norm > 0:
        return np.nan
    mine, others = (values[which & ~axis_half] @ (axis / norm) for which in (own, ~own))
    spread = np.sqrt((mine.var(ddof=1) + others.var(ddof=1)) / 2)
    # Rounding is no variance.
    scale = max(np.abs(mine).max(), np.abs(others).max())
    return float((mine.mean() - others.mean()) / spread) if spread > 1e-12 * scale else np.nan
