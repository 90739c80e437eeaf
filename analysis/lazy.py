"""Arrays that are read from immutable segments when they are used: tensors along snapshots, tables along events.

A segment is held against its checksum before anything of it is read for the first time, and against what its line in the
index says it holds whenever it is read. Files stay open between reads (`analysis.handles`); nothing else does, so that a
tree survives a fork and can be sent to another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from analysis.handles import held
from analysis.index import require_whole
from analysis.netcdf import stored_dtype
from analysis.outline import coordinates_of, scalars_of
from analysis.records import Segment
from neurossl.errors import TrajectoryError

KEPT = 2**26
"""Bytes of a table that is kept once it was read."""
_CHUNK = 2**25


class Stored(NamedTuple):
    """Segments, and where those that hold an array begin and end along its first axis."""

    run: Path
    segments: Sequence[Segment]
    starts: np.ndarray
    stops: np.ndarray

    def path(self, number: int) -> Path:
        """Return the file of a segment."""
        return self.run / self.segments[number].file


class StackedArray(BackendArray):
    """A tensor (snapshot, ...) spread over segments that follow one another.

    Parameters
    ----------
    stored : Stored
    group, variable : str
    shape : tuple of int
    dtype : numpy dtype
    """

    def __init__(self, stored: Stored, group: str, variable: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.stored, self.group, self.variable = stored, group, variable
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    @property
    def preferred_chunks(self) -> tuple[int, ...]:
        """Lengths along the snapshots to read at a time: whole segments, some tens of megabytes of them."""
        row = max(1, int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize)
        sizes: list[int] = []
        room = 0
        for size in (self.stored.stops - self.stored.starts).tolist():
            if sizes and room + size * row <= _CHUNK:
                sizes[-1] += size
                room += size * row
            else:
                sizes.append(size)
                room = size * row
        return tuple(sizes)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        place, rest = key[0], key[1:]
        if isinstance(place, int | np.integer):  # one snapshot, as often as not
            snapshot = int(place) % self.shape[0]
            number = int(self.stored.stops.searchsorted(snapshot, side="right"))
            return self._read_part(number, snapshot - int(self.stored.starts[number]), rest)
        rows = np.arange(self.shape[0])[place]
        if not rows.size:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        values = np.empty(0, self.dtype)
        for number, places, part in self._parts(rows):
            found = self._read_part(number, part, rest)
            if len(found) == rows.size:
                return found
            if not values.size:
                values = np.empty((rows.size, *found.shape[1:]), self.dtype)
            values[places[0] : places[-1] + 1] = found
        return values

    def _parts(self, snapshots: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield the segments that hold these snapshots, which of them, and the rows to read."""
        numbers = np.searchsorted(self.stored.stops, snapshots, side="right")
        for part in np.split(np.arange(numbers.size), np.flatnonzero(np.diff(numbers)) + 1):
            number = int(numbers[part[0]])
            yield number, part, snapshots[part] - self.stored.starts[number]

    def _read_part(self, number: int, rows: np.ndarray | int, rest: tuple[Any, ...]) -> np.ndarray:
        path = self.stored.path(number)
        expected = int(self.stored.stops[number] - self.stored.starts[number]), *self.shape[1:]
        with _reading(path, self.stored.segments[number], f"{self.group}/{self.variable}") as dataset:
            stored = dataset[self.group][self.variable]
            if stored.shape != expected or stored_dtype(stored) != self.dtype:
                found = f"{stored_dtype(stored)} of shape {stored.shape}"
                raise TrajectoryError(
                    f"{path} holds {self.group}/{self.variable} as {found}, expected {self.dtype} {expected}"
                )
            values = stored[(rows, *rest)] if isinstance(rows, int) else _rows_of(stored, rows, rest)
            return np.asarray(values, self.dtype)


class TableArray(BackendArray):
    """A variable of a table (event, name): numbers of all segments at the events of the root, NaN where there are none.

    Parameters
    ----------
    stored : Stored
        The segments of the table; two that follow one another may share an event.
    columns : sequence of array of int
        Of each segment, which names its columns are.
    variables : sequence of container of str
        Of each segment, which variables it has.
    kind, variable : str
    shape : tuple of int
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        stored: Stored,
        columns: Sequence[np.ndarray],
        variables: Sequence[Sequence[str]],
        kind: str,
        variable: str,
        shape: tuple[int, int],
    ) -> None:
        self.stored, self.columns, self.variables = stored, columns, variables
        self.kind, self.variable, self.shape = kind, variable, shape
        self._kept: np.ndarray | None = None

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        rows = np.arange(self.shape[0])[key[0]]
        if self._kept is None and 8 * self.shape[0] * self.shape[1] <= KEPT:
            self._kept = self._between(0, self.shape[0])
        if self._kept is not None:
            return np.array(self._kept[(key[0], *key[1:])])
        if not np.size(rows):
            return np.empty((0, self.shape[1]))[(slice(None), *key[1:])]
        first, last = int(np.min(rows)), int(np.max(rows))
        return self._between(first, last + 1)[(rows - first, *key[1:])]

    def _between(self, start: int, stop: int) -> np.ndarray:
        """Return the rows from ``start`` to ``stop``."""
        block = np.full((stop - start, self.shape[1]), np.nan)
        starts, stops = self.stored.starts, self.stored.stops
        begin, end = np.searchsorted(stops, start, side="right"), np.searchsorted(starts, stop, side="left")
        for number in range(int(begin), int(end)):
            if self.variable not in self.variables[number]:
                continue
            first, last = max(start, int(starts[number])), min(stop, int(stops[number]))
            found = self._of_segment(number, slice(first - int(starts[number]), last - int(starts[number])))
            place = (slice(first - start, last - start), self.columns[number])
            block[place] = np.where(np.isnan(found), block[place], found)
        return block

    def _of_segment(self, number: int, rows: slice) -> np.ndarray:
        path = self.stored.path(number)
        expected = int(self.stored.stops[number] - self.stored.starts[number]), len(self.columns[number])
        with _reading(path, self.stored.segments[number], f"{self.kind}/{self.variable}") as dataset:
            shape = dataset.groups[self.kind][self.variable].shape
            if shape != expected:
                raise TrajectoryError(f"{path} holds {self.kind}/{self.variable} of shape {shape}, expected {expected}")
            return scalars_of(dataset, self.kind, self.variable, rows)


def coordinates_in(run: Path, segment: Segment, group: str) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the unchanging coordinates of a group of tensors, as name to (dimensions, array).

    Raises
    ------
    TrajectoryError
        If the segment is missing, damaged or without them.
    """
    with _reading(run / segment.file, segment, group) as dataset:
        return coordinates_of(dataset[group])


class _reading:
    """Lend a segment that is whole; whatever goes wrong is said with its name."""

    def __init__(self, path: Path, segment: Segment, what: str) -> None:
        self.path, self.segment, self.what = path, segment, what

    def __enter__(self) -> netCDF4.Dataset:
        try:
            self._lent = held(self.path, require_whole(self.path, self.segment))
            return self._lent.__enter__()
        except Exception as error:
            raise self._said(error) from None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            self._lent.__exit__(kind, error, traceback)
        except (TrajectoryError, OSError, RuntimeError, LookupError, ValueError, AttributeError) as reason:
            raise self._said(reason) from None

    def _said(self, error: Exception) -> Exception:
        if isinstance(error, TrajectoryError):
            remedy = "if the run was made again since this tree was opened, open it again"
            return TrajectoryError(f"{error}; {remedy}")
        if isinstance(error, OSError | RuntimeError | LookupError | ValueError | AttributeError):
            return TrajectoryError(f"cannot read {self.what} from {self.path}: {error}")
        return error


def _rows_of(stored: netCDF4.Variable, rows: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
    """Return the given rows of one stored tensor, (rows, ...), reading nothing else of it.

    Parameters
    ----------
    stored : netCDF4.Variable
    rows : ndarray of int64, ascending
        Which snapshots of this file.
    rest : tuple of slice, int or at most one ascending array
        What of each of the other axes.
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    if not breaks.size:
        return stored[(slice(int(rows[0]), int(rows[-1]) + 1), *rest)]
    runs = [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(rows, breaks)]
    return np.concatenate([stored[(run, *rest)] for run in runs])
