"""What a stored segment holds: everything small by value, the tensors by shape; and rows of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from analysis.netcdf import dataset_of, declared_bytes, stored_dtype
from analysis.schema import LABELS, VARIABLES

_MOVING = ("snapshot", "time", "observers_seen")


@dataclass(frozen=True)
class Moments:
    """When something was recorded: event numbers, biological times in s, observers seen; each (moments,)."""

    events: np.ndarray
    times: np.ndarray
    observers_seen: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Moments]) -> Moments:
        """Return the moments of consecutive segments as one; an event on either side of a seam counts once."""
        events = np.concatenate([np.empty(0, np.int64), *(part.events for part in parts)])
        times = np.concatenate([np.empty(0), *(part.times for part in parts)])
        observers_seen = np.concatenate([np.empty(0, np.int64), *(part.observers_seen for part in parts)])
        first = np.diff(events, prepend=-1) != 0
        return cls(events[first], times[first], observers_seen[first])


@dataclass(frozen=True)
class StackedVariable:
    """A variable of a stack: axes, shape with the snapshots first, number type, attributes."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """A group of tensors in one segment."""

    moments: Moments
    variables: dict[str, StackedVariable]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A kind of scalars in one segment: names, and per variable the values (event, name)."""

    labels: list[str]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Outline:
    """What a segment holds."""

    moments: Moments
    stacks: dict[str, Stack]
    tables: dict[str, Table]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of each variable by its path."""
        tensors = {f"{path}/{name}": v.shape for path, stack in self.stacks.items() for name, v in stack.variables.items()}
        scalars = {f"{kind}/{name}": v.shape for kind, table in self.tables.items() for name, v in table.values.items()}
        return {path: list(shape) for path, shape in {**tensors, **scalars}.items()}

    @property
    def event_range(self) -> tuple[int, int]:
        """First and last event of anything in it."""
        events = np.concatenate([self.moments.events, *(stack.moments.events for stack in self.stacks.values())])
        return int(events.min()), int(events.max())


def read_outline(path: Path) -> Outline:
    """Return what a segment holds without reading its tensors.

    Raises
    ------
    OSError, RuntimeError, LookupError, ValueError
        If it is missing or no segment, or claims to hold more than there are bytes.
    """
    with dataset_of(path) as dataset:
        claimed, there = declared_bytes(dataset), path.stat().st_size
        if claimed > there:
            raise ValueError(f"it claims to hold {claimed:,} bytes of values, but has only {there:,}")
        return outline_of(dataset)


def read_coordinates(path: Path, group: str) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the unchanging coordinates of a stack, as name to (dimensions, array)."""
    with dataset_of(path) as dataset:
        found = {
            name: (variable.dimensions, _values(variable))
            for name, variable in dataset[group].variables.items()
            if name not in _MOVING and variable.dimensions[:1] != ("snapshot",)
        }
    # Text has an axis of characters, of which its values know nothing.
    return {name: (dims[: values.ndim], values) for name, (dims, values) in found.items()}


def read_rows(path: Path, group: str, variable: str, rows: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
    """Return the given rows of one stored tensor, (rows, ...), reading nothing else of it.

    Parameters
    ----------
    rows : ndarray of int64, ascending
        Which snapshots of this file.
    rest : tuple of slice, int or at most one ascending array
        What of each of the other axes.
    """
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = [slice(int(run[0]), int(run[-1]) + 1) if run.size else slice(0, 0) for run in np.split(rows, breaks)]
    with dataset_of(path) as dataset:
        stored = dataset[group][variable]
        return np.concatenate([stored[(run, *rest)] for run in runs]).astype(stored_dtype(stored), copy=False)


def outline_of(dataset: netCDF4.Dataset) -> Outline:
    """Return what an open segment holds; the lock of NetCDF is held."""
    dataset.set_auto_maskandscale(False)
    stacks = {f"{kind}/{name}": _stack(kind, group) for kind, name, group in _stacked_groups(dataset)}
    tables = {}
    for kind, label in LABELS.items():
        if kind in dataset.groups:
            group = dataset.groups[kind]
            values = {name: _numbers(group[name]) for name in VARIABLES[kind] if name in group.variables}
            tables[kind] = Table([str(text) for text in group[label][...]], values)
            if any(value.shape != (*dataset["event"].shape, len(tables[kind].labels)) for value in values.values()):
                raise ValueError(f"{kind} does not fit its events and names")
    return Outline(_moments(dataset, "event"), stacks, tables)


def _stacked_groups(dataset: netCDF4.Dataset) -> Iterator[tuple[str, str, netCDF4.Group]]:
    """Yield the groups of tensors: first of the kinds of the schema, then of others."""
    for kind in dict.fromkeys((*VARIABLES, *dataset.groups)):
        if kind in dataset.groups and kind not in LABELS:
            yield from ((kind, name, group) for name, group in dataset.groups[kind].groups.items())


def _stack(kind: str, group: netCDF4.Group) -> Stack:
    names = [n for n, v in group.variables.items() if v.dimensions[:1] == ("snapshot",) and n not in _MOVING]
    if kind in VARIABLES:
        names = [name for name in VARIABLES[kind] if name in names]
    return Stack(
        _moments(group, "snapshot"),
        {name: _stacked_variable(group[name]) for name in names},
        {name: group.getncattr(name) for name in group.ncattrs() if name != "coordinates"},
    )


def _stacked_variable(variable: netCDF4.Variable) -> StackedVariable:
    attributes = {name: variable.getncattr(name) for name in variable.ncattrs() if name not in ("_FillValue", "dtype")}
    return StackedVariable(variable.dimensions, variable.shape, stored_dtype(variable), attributes)


def _numbers(variable: netCDF4.Variable) -> np.ndarray:
    """Return scalars; the booleans of earlier versions as 1 and 0."""
    return variable[...].astype(np.float64) if stored_dtype(variable).kind == "b" else variable[...]


def _values(variable: netCDF4.Variable) -> np.ndarray:
    values = variable[...]
    return values.astype(bool) if stored_dtype(variable).kind == "b" else values


def _moments(group: netCDF4.Dataset, axis: str) -> Moments:
    events, times, seen = group[axis][...], group["time"][...], group["observers_seen"][...]
    if events.ndim != 1 or not events.shape == times.shape == seen.shape or (np.diff(events) <= 0).any():
        raise ValueError(f"the {axis}s of {group.path} are not in order")
    return Moments(events, times, seen)
