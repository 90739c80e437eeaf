"""All measures of single representations beside one another, per population, rule, seed and moment, from a tree of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import xarray as xr

from analysis.dimension import effective_rank, participation_ratio, two_nn
from analysis.invariance import invariance_across_views
from analysis.representation_arrays import described, each, in_words, leading, responses_in
from analysis.selectivity import class_tuning, lifetime_sparseness, population_sparseness
from analysis.separability import class_d_prime, fisher_separability
from analysis.similarity_matrices import at_moment
from neurossl.errors import OptionError


def _mean_of(array: xr.DataArray) -> xr.DataArray:
    """Return the mean over what a measure has besides the leading dims, with the reason where it is undefined."""
    mean = array.mean()
    return mean.assign_attrs(
        array.attrs if bool(mean.isnull()) else {k: v for k, v in array.attrs.items() if k != "undefined"}
    )


MEASURES: dict[str, tuple[str, Callable[[xr.DataArray], xr.DataArray]]] = {
    "participation_ratio": ("participation ratio (dimensions)", participation_ratio),
    "effective_rank": ("effective rank (dimensions)", effective_rank),
    "two_nn": ("intrinsic dimension, TwoNN (dimensions)", two_nn),
    "invariance": ("invariance across views (ICC)", lambda r: invariance_across_views(r)["invariance"]),
    "separability": ("Fisher separability tr(S_B) / tr(S_W)", fisher_separability),
    "d_prime": ("d' of a class against the others, mean", lambda r: _mean_of(class_d_prime(r))),
    "population_sparseness": ("population sparseness, mean", lambda r: _mean_of(population_sparseness(r))),
    "lifetime_sparseness": ("lifetime sparseness, mean", lambda r: _mean_of(lifetime_sparseness(r))),
    "selectivity": ("class selectivity index, mean", lambda r: _mean_of(class_tuning(r)["selectivity"])),
    "omega_squared": ("variance explained by class (omega²), mean", lambda r: _mean_of(class_tuning(r)["omega_squared"])),
}
"""Name -> (what an axis says, function of one representation); means are over what has a value."""


def representation_measures(
    source: Any, measures: Sequence[str] | None = None, *, populations: Sequence[str] | None = None, snapshot: Any = "last"
) -> xr.Dataset:
    """Return measures of dimension, invariance, separability, sparseness and tuning of every representation.

    Parameters
    ----------
    source : DataTree, or mapping of str to DataArray or array
        With ``/responses``, of one run or of many; or the responses of each population.
    measures : sequence of str, optional
        Names of `MEASURES`; all by default.
    populations : sequence of str, optional
    snapshot : "last", "all", or a label
        Moments that are measured: the last that any run has (a run that has stopped before is NaN), each, or one event.

    Returns
    -------
    Dataset
        One variable per measure, (population, rule, seed, ...) as the source has them. NaN where undefined, or where labels
        or views that a measure needs were not recorded, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        For an unknown measure, population or moment.
    TrajectoryError
        If no responses were recorded.
    """
    asked = list(MEASURES) if measures is None else [measures] if isinstance(measures, str) else list(measures)
    unknown = [name for name in asked if name not in MEASURES]
    if unknown or not asked:
        raise OptionError(f"measures: expected some of {', '.join(MEASURES)}, got {', '.join(map(str, unknown)) or 'none'}")
    found = {name: at_moment(response, snapshot) for name, response in responses_in(source, populations).items()}
    rows, reasons = [], {name: dict[str, str]() for name in asked}
    for population, response in found.items():
        before = leading(response)
        values = {name: np.full([response.sizes[dim] for dim in before], np.nan) for name in asked}
        known: dict[str, list[tuple[float, str]]] = {}  # rules that start from the same weights respond alike at first
        for place in each(response):
            # Read once for all measures.
            one = response.isel(place).load()
            key = _digest(one)
            if key not in known:
                known[key] = [_value(MEASURES[name][1], one) for name in asked]
            for name, (value, reason) in zip(asked, known[key], strict=True):
                values[name][tuple(place.values())] = value
                if reason:
                    where = ", ".join(filter(None, [f"population={population}", described(response, place)]))
                    reasons[name][where] = reason
        coords = {name: coord.variable for name, coord in response.coords.items() if set(coord.dims) <= set(before)}
        rows.append(xr.Dataset({name: (before, values[name]) for name in asked}, coords))
    result = xr.concat(rows, xr.Variable("population", list(found)), join="outer", combine_attrs="drop_conflicts")
    for name in asked:
        result[name].attrs = {"long_name": MEASURES[name][0], "units": "1"}
        if reasons[name]:
            result[name].attrs["undefined"] = in_words(reasons[name])
    return result


def _digest(one: xr.DataArray) -> str:
    """Return what tells responses, with the labels and images of their stimuli, from others."""
    parts = [one, *(coord for _, coord in sorted(one.coords.items(), key=lambda item: str(item[0])) if coord.ndim)]
    return sha256(b"".join(np.ascontiguousarray(part.values).tobytes() for part in parts)).hexdigest()


def _value(measure: Callable[[xr.DataArray], xr.DataArray], one: xr.DataArray) -> tuple[float, str]:
    """Return a value and, where there is none, the reason: what the responses lack is one."""
    try:
        found = measure(one)
    except OptionError as error:
        return np.nan, str(error)
    value = float(found)
    return value, str(found.attrs.get("undefined", "no neuron, class or stimulus has a value")) if np.isnan(value) else ""
