"""Responses of a population to stimuli, as the measures of a representation want them: labelled, checked, one at a time.

A representation is a matrix (stimulus, neuron). What stands in front (snapshot, rule, seed) is carried through; one matrix
is read at a time, so that a long run is never in memory. What cannot be measured is NaN, and ``attrs["undefined"]`` says
why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from neurossl.errors import OptionError, TrajectoryError

CORE = ("stimulus", "neuron")
NOT_RECORDED = "not recorded"
NO_VARIANCE = "zero variance: the responses do not depend on the stimulus"
MOST_REASONS = 5
"""Reasons that an attribute lists; of more it gives the number."""


class Undefined(Exception):
    """A measure has no value for these responses; the message is the reason."""


def as_responses(response: Any, name: str = "responses") -> xr.DataArray:
    """Return responses with dims (..., stimulus, neuron), still lazy.

    Parameters
    ----------
    response : DataArray, Dataset or array
        With dims stimulus and neuron and any others; a dataset that holds ``response``; or an array (stimuli, neurons).
    name : str
        What errors call it.

    Raises
    ------
    TrajectoryError
        If it has other dims, holds nothing, or is not made of real numbers.
    """
    if isinstance(response, xr.Dataset):
        if "response" not in response:
            raise TrajectoryError(
                f"{name}: expected a dataset that holds 'response', got {', '.join(map(str, response)) or 'none'}"
            )
        response = response["response"].assign_attrs(response.attrs | response["response"].attrs)
    if not isinstance(response, xr.DataArray):
        try:
            array = np.asarray(response)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TrajectoryError(f"{name}: cannot be made an array: {error}") from None
        if array.ndim != 2:
            raise TrajectoryError(
                f"{name}: expected an array (stimuli, neurons), got shape {array.shape}: flatten what belongs "
                "to one stimulus, or name the axes in an xarray.DataArray"
            )
        response = xr.DataArray(array, dims=CORE)
    missing = [dim for dim in CORE if dim not in response.dims]
    if missing:
        raise TrajectoryError(
            f"{name}: expected dims stimulus and neuron, got {', '.join(map(str, response.dims)) or 'none'}: rename them, "
            "or stack the axes of one stimulus with .stack(neuron=(...))"
        )
    if response.dtype.kind not in "fiub":
        raise TrajectoryError(f"{name}: expected real numbers, got {response.dtype}")
    empty = [str(dim) for dim in response.dims if not response.sizes[dim]]
    if empty:
        raise TrajectoryError(f"{name}: nothing along {', '.join(empty)}")
    return response.transpose(..., *CORE)


def responses_in(source: Any, populations: Sequence[str] | None = None) -> dict[str, xr.DataArray]:
    """Return the responses of each population, (..., stimulus, neuron), in the order of the network, lazy.

    Parameters
    ----------
    source : DataTree, mapping of str to DataArray or array, or one of these
        A tree with ``/responses``, of one run or of many.
    populations : sequence of str, optional
        Names; all that were recorded by default.

    Raises
    ------
    TrajectoryError
        If no responses were recorded.
    OptionError
        If a population is not among them.
    """
    if isinstance(source, xr.DataTree):
        children = source["responses"].children if "responses" in source.children else {}
        nodes = {str(node.attrs.get("name", key)): node.to_dataset() for key, node in children.items()}
        found = {name: as_responses(node, name) for name, node in nodes.items() if "response" in node}
        if not found:
            raise TrajectoryError(
                f"{source.attrs.get('rule', 'this tree')}: no responses were recorded: show a fixed set of "
                "stimuli during learning (ResponseRecorder)"
            )
    elif isinstance(source, Mapping) and not isinstance(source, xr.Dataset):
        found = {str(name): as_responses(value, str(name)) for name, value in source.items()}
        if not found:
            raise TrajectoryError("responses: none were given")
    else:
        found = {str(getattr(source, "name", None) or "responses"): as_responses(source)}
    chosen = list(found) if populations is None else [populations] if isinstance(populations, str) else list(populations)
    unknown = [name for name in chosen if name not in found]
    if unknown or not chosen:
        raise OptionError(f"populations: expected some of {', '.join(found)}, got {', '.join(map(str, unknown)) or 'none'}")
    return {name: found[name] for name in chosen}


def leading(response: xr.DataArray) -> list[str]:
    """Return the dims in front of stimulus and neuron."""
    return [str(dim) for dim in response.dims if dim not in CORE]


def each(response: xr.DataArray) -> Iterator[dict[str, int]]:
    """Yield the place of every representation along the leading dims."""
    dims = leading(response)
    for places in product(*(range(response.sizes[dim]) for dim in dims)):
        yield dict(zip(dims, places, strict=True))


def described(response: xr.DataArray, place: Mapping[str, int]) -> str:
    """Return a place in words: ``rule=clapp, seed=0``."""
    return ", ".join(f"{dim}={response[dim].values[at] if dim in response.coords else at}" for dim, at in place.items())


def matrix(response: xr.DataArray, place: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read one representation.

    Returns
    -------
    (values, kept) : array (stimuli, neurons) of float64; array of bool, (neurons,)
        Neurons of which nothing was recorded here are left out of the values; ``kept`` says which remain.

    Raises
    ------
    Undefined
        If nothing was recorded here, or single values are not finite.
    TrajectoryError
        If only some of the stimuli were shown here.
    """
    values = np.array(response.isel(place).values, dtype=np.float64)
    missing = np.isnan(values)
    if missing.all():
        raise Undefined(NOT_RECORDED)
    kept = np.logical_not(missing.all(0))
    absent = int(missing.all(1).sum())
    if absent:
        where = described(response, place)
        raise TrajectoryError(
            f"responses{f' of {where}' if where else ''}: {absent} of {len(values)} stimuli have none: the stimuli differ "
            "between what is compared; select those that were shown to all"
        )
    values = values[:, kept]
    if not np.isfinite(values).all():
        raise Undefined(f"NaN or infinity in the responses to {int((~np.isfinite(values)).any(1).sum())} stimuli")
    return values, kept


def centred(values: np.ndarray) -> np.ndarray:
    """Return responses less the mean of each neuron; constant neurons are exactly 0."""
    constant = values.max(0) == values.min(0)
    result = values - values.mean(0)
    result[:, constant] = 0
    return result


def scaled(values: np.ndarray) -> np.ndarray:
    """Return centred responses with a largest magnitude of 1: powers of them are neither 0 nor infinite.

    Raises
    ------
    Undefined
        If they do not vary.
    """
    if len(values) < 2:
        raise Undefined("one stimulus: nothing to compare it with")
    largest = float(np.abs(values).max())
    x = centred(values / largest) if largest > 0 else values
    largest = float(np.abs(x).max())
    if not largest > 0:
        raise Undefined(NO_VARIANCE)
    return x / largest


def measured(
    response: Any,
    compute: Callable[[np.ndarray], Mapping[str, Any]],
    outputs: Mapping[str, str | None],
    coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return measures of every representation, NaN with the reason where they are undefined.

    Parameters
    ----------
    response : DataArray or array
    compute : callable
        Takes an array (stimuli, neurons), returns a value for each output; raises `Undefined`. A value may be an
        `Undefined`.
    outputs : mapping
        Name of each output, and the dim that it has besides the leading ones: stimulus, neuron, one of ``coords``, or none.
    coords : mapping, optional
        Labels of other dims.
    """
    response = as_responses(response)
    before = leading(response)
    labels = {dim: np.asarray(values) for dim, values in (coords or {}).items()}
    sizes: dict[Any, int] = {**dict(response.sizes), **{dim: len(values) for dim, values in labels.items()}}
    dims = {name: [*before, *([dim] if dim else [])] for name, dim in outputs.items()}
    arrays = {name: np.full([sizes[dim] for dim in d], np.nan) for name, d in dims.items()}
    reasons: dict[str, dict[str, str]] = {name: {} for name in outputs}
    for place in each(response):
        where, at = described(response, place), tuple(place.values())
        try:
            values, kept = matrix(response, place)
            found = compute(values)
        except Undefined as reason:
            found, kept = dict.fromkeys(outputs, reason), np.ones(0, bool)
        for name, value in found.items():
            if isinstance(value, Undefined):
                reasons[name][where] = str(value)
            elif outputs[name] == "neuron":
                arrays[name][at][kept] = value
            else:
                arrays[name][at] = value
    kept_coords = {
        name: coord
        for name, coord in response.coords.items()
        if set(coord.dims) <= {*before} or coord.dims in [(dim,) for dim in outputs.values() if dim]
    }
    result = xr.Dataset({name: (dims[name], arrays[name]) for name in outputs}, kept_coords)
    result = result.assign_coords({dim: (dim, values) for dim, values in labels.items()})
    for name in outputs:
        if reasons[name]:
            result[name].attrs["undefined"] = in_words(reasons[name])
    return result


def in_words(reasons: Mapping[str, str]) -> str:
    """Return the reasons why something is undefined, where, as one line."""
    told = [f"{where}: {reason}" if where else reason for where, reason in reasons.items()]
    more = f"; and {len(told) - MOST_REASONS} more" if len(told) > MOST_REASONS else ""
    return "; ".join(told[:MOST_REASONS]) + more
