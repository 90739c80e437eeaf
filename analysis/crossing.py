"""A measure between two labelled arrays: dims that both have are matched by label, those of one alone are crossed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import CORE, Undefined, as_responses, described, in_words, matrix
from analysis.stimuli import check_same_stimuli
from neurossl.errors import TrajectoryError


@dataclass(frozen=True)
class Measure:
    """A way to compare two representations, in two steps, so that one of many is prepared once.

    Attributes
    ----------
    prepare : callable
        Takes responses (stimuli, neurons); raises `Undefined`.
    compare : callable
        Takes two prepared ones, returns the value; raises `Undefined`.
    symmetric : bool
    perfect : float
        The value of a representation with itself.
    """

    long_name: str
    prepare: Callable[[np.ndarray], Any]
    compare: Callable[[Any, Any], float]
    symmetric: bool = True
    perfect: float = 1.0
    units: str = "1"


def paired(x: Any, y: Any, measure: Measure) -> xr.DataArray:
    """Return a measure of each representation in x with that in y, leading dims matched by label or crossed.

    Raises
    ------
    TrajectoryError
        If stimuli or the labels of a common dim differ, or these are no responses.
    """
    x, y = as_responses(x, "x"), as_responses(y, "y")
    check_same_stimuli({"x": x, "y": y})
    return crossed(x, y, CORE, lambda one, place: measure.prepare(matrix(one, place)[0]), measure)


def crossed(
    x: xr.DataArray,
    y: xr.DataArray,
    core: Sequence[str],
    read: Callable[[xr.DataArray, Mapping[str, int]], Any],
    measure: Measure,
) -> xr.DataArray:
    """Return a measure between what is read at each place of x and of y.

    Parameters
    ----------
    x, y : DataArray
    core : sequence of str
        Dims of one thing that is compared.
    read : callable
        Takes an array and the place along its other dims, returns what ``measure.compare`` takes; may raise `Undefined`.
    measure : Measure
    """
    before = [[str(dim) for dim in one.dims if dim not in core] for one in (x, y)]
    for dim in set(before[0]) & set(before[1]):
        labelled = dim in x.coords and dim in y.coords
        if x.sizes[dim] != y.sizes[dim] or (labelled and not np.array_equal(x[dim].values, y[dim].values)):
            raise TrajectoryError(
                f"{dim}: labels differ between x and y: select the same, or rename the dim of one to compare all with all"
            )
    dims = list(dict.fromkeys(before[0] + before[1]))
    sizes = {**dict(y.sizes), **dict(x.sizes)}
    coords: dict[Any, Any] = {}
    for one, own in zip((y, x), reversed(before), strict=True):
        coords.update(
            {name: coord.variable for name, coord in one.coords.items() if set(coord.dims) <= set(own) and coord.dims}
        )
    result = xr.DataArray(np.full([sizes[dim] for dim in dims], np.nan), coords, dims)
    reasons: dict[str, str] = {}
    # The last one of each side is kept: along a dim that only one of them has, the other is prepared once.
    last: list[tuple[Any, Any]] = [(None, None), (None, None)]
    for at in product(*(range(sizes[dim]) for dim in dims)):
        place = dict(zip(dims, at, strict=True))
        for side, one in enumerate((x, y)):
            here = {dim: place[dim] for dim in before[side]}
            if last[side][0] != here:
                last[side] = (here, attempted(read, one, here))
        found = [thing for _, thing in last]
        wrong = next((thing for thing in found if isinstance(thing, Undefined)), None)
        value = wrong or attempted(measure.compare, *found)
        if isinstance(value, Undefined):
            reasons[described(result, place)] = str(value)
        else:
            result.values[at] = value
    result.attrs = {"long_name": measure.long_name, "units": measure.units}
    if reasons:
        result.attrs["undefined"] = in_words(reasons)
    return result


def attempted(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return a value, or the `Undefined` that was raised instead."""
    try:
        return function(*arguments)
    except Undefined as reason:
        return reason
