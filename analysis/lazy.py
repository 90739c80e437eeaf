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
TOGETHER = 2**20
"""Bytes of all variables of a table that are read together where one is wanted."""
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


class Table:
    """A table of a run, (event, name): numbers of all segments at the events of the root, NaN where there are none.

    Of a small one all variables are read together, once: who asks many runs for one measure after the other would open the
    files of all of them for each.

    Parameters
    ----------
    stored : Stored
        The segments of the table; two that follow one another may share an event.
    columns : sequence of array of int
        Of each segment, which names its columns are.
    variables : sequence of container of str
        Of each segment, which variables it has.
    kind : str
    shape : tuple of int
    """

    def __init__(
        self,
        stored: Stored,
        columns: Sequence[np.ndarray],
        variables: Sequence[Sequence[str]],
        kind: str,
        shape: tuple[int, int],
    ) -> None:
        self.stored, self.columns, self.variables = stored, columns, variables
        self.kind, self.shape = kind, shape
        self._all = list(dict.fromkeys(name for names in variables for name in names))
        self._kept: dict[str, np.ndarray] = {}

    def whole(self, variable: str) -> np.ndarray | None:
        """Return all of a variable, which is kept from then on; None if that would be too much."""
        size = 8 * self.shape[0] * self.shape[1]
        if variable not in self._kept:
            if size > KEPT:
                return None
            together = size * len(self._all) <= TOGETHER
            self._kept |= self.between(self._all if together else [variable], 0, self.shape[0])
        return self._kept[variable]

    def between(self, wanted: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Return the rows of variables from ``start`` to ``stop``."""
        blocks = {name: np.full((stop - start, self.shape[1]), np.nan) for name in wanted}
        starts, stops = self.stored.starts, self.stored.stops
        begin, end = np.searchsorted(stops, start, side="right"), np.searchsorted(starts, stop, side="left")
        for number in range(int(begin), int(end)):
            here = [name for name in wanted if name in self.variables[number]]
            first, last = max(start, int(starts[number])), min(stop, int(stops[number]))
            rows = slice(first - int(starts[number]), last - int(starts[number]))
            place = (slice(first - start, last - start), self.columns[number])
            for name, found in self._of_segment(number, here, rows):
                blocks[name][place] = np.where(np.isnan(found), blocks[name][place], found)
        return blocks

    def _of_segment(self, number: int, wanted: Sequence[str], rows: slice) -> Iterator[tuple[str, np.ndarray]]:
        if not wanted:
            return
        path = self.stored.path(number)
        expected = int(self.stored.stops[number] - self.stored.starts[number]), len(self.columns[number])
        with _reading(path, self.stored.segments[number], self.kind) as dataset:
            for name in wanted:
                shape = dataset.groups[self.kind][name].shape
                if shape != expected:
                    raise TrajectoryError(f"{path} holds {self.kind}/{name} of shape {shape}, expected {expected}")
                yield name, scalars_of(dataset, self.kind, name, rows)


class TableArray(BackendArray):
    """A variable of a table.

    Parameters
    ----------
    table : Table
    variable : str
    """

    dtype = np.dtype(np.float64)

    def __init__(self, table: Table, variable: str) -> None:
        self.table, self.variable, self.shape = table, variable, table.shape

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        whole = self.table.whole(self.variable)
        if whole is not None:
            return np.array(whole[(key[0], *key[1:])])
        rows = np.arange(self.shape[0])[key[0]]
        if not np.size(rows):
            return np.empty((0, self.shape[1]))[(slice(None), *key[1:])]
        first, last = int(np.min(rows)), int(np.max(rows))
        block = self.table.between([self.variable], first, last + 1)[self.variable]
        return block[(rows - first, *key[1:])]


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
