"""Variables of many runs as one lazy array: (rule, seed, ...), of which nothing is read that is not asked for.

Every run holds a part, found by labels rather than positions: its snapshots, pathways or synapses stand where they belong
among those of all runs, and where a run has none there is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

Place = tuple[int, ...]
"""Where a run stands: one number per dimension along which runs lie."""


class Part(NamedTuple):
    """What one run holds of a variable.

    Attributes
    ----------
    variable : Variable
        Of the run, lazy or not.
    sources : tuple of array of int or None
        Per axis of the variable, for every label of the whole its position in the run, -1 where the run has none; None where
        the labels are the same.
    """

    variable: xr.Variable
    sources: tuple[np.ndarray | None, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the run has every label."""
        return all(source is None or bool((source >= 0).all()) for source in self.sources)


def lazily(
    dims: Sequence[str],
    shape: Sequence[int],
    parts: Mapping[Place, Part],
    runs: Sequence[int],
    attributes: Mapping[str, Any],
) -> xr.Variable:
    """Return the variable of all runs, lazy.

    Parameters
    ----------
    dims : sequence of str
        Those along which runs lie, then those of the variable of one run.
    shape : sequence of int
        Lengths of the latter.
    parts : mapping of tuple of int to Part
        By where the run stands; at least one.
    runs : sequence of int
        Lengths of the dimensions along which runs lie.
    attributes : mapping

    Returns
    -------
    Variable
        Whole numbers and truth values stay what they are if every run has all of it, and become float with NaN if not.
    """
    gaps = len(parts) < int(np.prod(runs, dtype=int)) or not all(part.is_whole for part in parts.values())
    dtype, fill = _type_of([part.variable.dtype for part in parts.values()], gaps)
    array = _RunsArray(dict(parts), (*runs, *shape), len(runs), dtype, fill)
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), dict(attributes))


def _type_of(found: Sequence[np.dtype], gaps: bool) -> tuple[np.dtype, Any]:
    """Return the type of the whole, and what stands where nothing is."""
    dtype = np.result_type(*found) if all(d.kind in "biufc" for d in found) or len(set(found)) == 1 else np.dtype(object)
    if all(d.kind in "US" for d in found):
        dtype = np.result_type(*found)
    if not gaps:
        return dtype, np.zeros((), dtype)[()] if dtype.kind != "O" else None
    if dtype.kind in "biu":
        dtype = np.dtype(np.float32 if dtype.itemsize <= 2 and dtype.kind != "b" else np.float64)
    if dtype.kind in "fc":
        return dtype, np.nan
    return np.dtype(object), np.nan


class _RunsArray(BackendArray):
    """The array behind such a variable; a run is read when some of it is asked for."""

    def __init__(self, parts: dict[Place, Part], shape: tuple[int, ...], over: int, dtype: np.dtype, fill: Any) -> None:
        self.parts, self.shape, self.over, self.dtype, self.fill = parts, shape, over, dtype, fill

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        axes = [np.arange(length)[chosen] for length, chosen in zip(self.shape, key, strict=True)]
        wanted = [np.atleast_1d(axis) for axis in axes]
        values = np.full([axis.size for axis in wanted], self.fill, self.dtype)
        runs, inside = wanted[: self.over], wanted[self.over :]
        for place in product(*(range(axis.size) for axis in runs)):
            part = self.parts.get(tuple(int(axis[n]) for axis, n in zip(runs, place, strict=True)))
            if part is not None:
                self._put(values[place] if inside else values, place if not inside else (), part, inside)
        return values.reshape([axis.size for axis in axes if axis.ndim])

    def _put(self, values: np.ndarray, place: Place, part: Part, inside: Sequence[np.ndarray]) -> None:
        """Write into ``values`` what a run has of what is asked for."""
        there: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for chosen, source in zip(inside, part.sources, strict=True):
            found = chosen if source is None else source[chosen]
            there.append(np.flatnonzero(found >= 0))
            rows.append(found[there[-1]])
        if not inside:
            values[place] = part.variable.values
        elif all(row.size for row in rows):
            values[np.ix_(*there)] = part.variable[tuple(map(_slice, rows))].values


def _slice(rows: np.ndarray) -> slice | np.ndarray:
    """Return neighbouring rows as a slice: it is read faster."""
    if rows.size and rows[-1] - rows[0] + 1 == rows.size and bool((np.diff(rows) == 1).all()):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
