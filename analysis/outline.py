"""What a stored segment holds without its values: layout and moments, as the file says it and as the index tells it.

The line of a segment in the index carries both, so that a run is opened without its segments. A line without them, of an
earlier version, is made good from the segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from analysis.moments import Moments
from analysis.netcdf import dataset_of, declared_bytes, stored_dtype
from analysis.schema import LABELS, VARIABLES

_MOVING = ("snapshot", "time", "observers_seen")
SCALARS = ""
"""Whose moments are those of the scalars, among the axes of a segment."""


@dataclass(frozen=True)
class StackedVariable:
    """A variable of a stack: axes and shape of one snapshot, number type, attributes."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Stack:
    """A group of tensors: variables, attributes, and the axes of its unchanging coordinates."""

    variables: dict[str, StackedVariable]
    attributes: dict[str, Any]
    coordinates: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Table:
    """A kind of scalars: the names along its axis, and its variables."""

    labels: list[str]
    variables: list[str]


@dataclass(frozen=True)
class Layout:
    """Everything but moments and values."""

    stacks: dict[str, Stack]
    tables: dict[str, Table]

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "stacks": {
                path: {
                    "variables": {
                        name: {
                            "dims": list(variable.dims),
                            "shape": list(variable.shape),
                            "dtype": variable.dtype.name,
                            "attributes": {key: _plain(value) for key, value in variable.attributes.items()},
                        }
                        for name, variable in stack.variables.items()
                    },
                    "attributes": {key: _plain(value) for key, value in stack.attributes.items()},
                    "coordinates": {name: list(dims) for name, dims in stack.coordinates.items()},
                }
                for path, stack in self.stacks.items()
            },
            "tables": {
                kind: {"labels": list(table.labels), "variables": list(table.variables)}
                for kind, table in self.tables.items()
            },
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Layout:
        """Return the layout that `record` gave, whose members have their types.

        Raises
        ------
        ValueError
            If it makes no sense.
        """
        stacks = {}
        for path, stack in record["stacks"].items():
            variables = {}
            for name, told in stack["variables"].items():
                dtype, dims, shape = _dtype(told["dtype"]), tuple(told["dims"]), tuple(told["shape"])
                if len(dims) != len(shape) or not all(size >= 0 for size in shape) or len({*dims, "snapshot"}) <= len(dims):
                    raise ValueError(f"{path}/{name} has shape {shape} along {dims}")
                attributes = {key: _array(value) for key, value in told["attributes"].items()}
                variables[name] = StackedVariable(dims, shape, dtype, attributes)
            attributes = {key: _array(value) for key, value in stack["attributes"].items()}
            coordinates = {name: tuple(dims) for name, dims in stack["coordinates"].items()}
            if path.count("/") != 1 or path.split("/")[0] in LABELS or not all(path.split("/")):
                raise ValueError(f"{path} is no group of tensors")
            stacks[path] = Stack(variables, attributes, coordinates)
        tables = {}
        for kind, table in record["tables"].items():
            if kind not in LABELS or not set(table["variables"]) <= VARIABLES[kind].keys():
                raise ValueError(f"{kind} is no table of {', '.join(table['variables'])}")
            if len(set(table["labels"])) != len(table["labels"]):
                raise ValueError(f"{kind} has a {LABELS[kind]} twice")
            tables[kind] = Table(list(table["labels"]), list(table["variables"]))
        return cls(stacks, tables)


@dataclass(frozen=True)
class Outline:
    """What one segment holds: layout, and moments by group (`SCALARS` for the scalars)."""

    layout: Layout
    moments: dict[str, Moments]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of each variable by its path."""
        return shapes_of(self.layout, {group: moments.events.size for group, moments in self.moments.items()})

    @property
    def event_range(self) -> tuple[int, int]:
        """First and last event of anything in it."""
        events = np.concatenate([moments.events for moments in self.moments.values()])
        return int(events.min()), int(events.max())

    def axes(self) -> list[dict[str, Any]]:
        """Return the moments as JSON: each axis once, with the groups that share it."""
        found: list[tuple[Moments, list[str]]] = []
        for group, moments in self.moments.items():
            same = next((groups for other, groups in found if other.same_as(moments)), None)
            if same is not None:
                same.append(group)
            elif moments.events.size or group != SCALARS:
                found.append((moments, [group]))
        return [{"groups": groups, **moments.record()} for moments, groups in found]


def shapes_of(layout: Layout, counts: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the shape of each variable by its path, with so many moments in each group."""
    shapes = {}
    for path, stack in layout.stacks.items():
        for name, variable in stack.variables.items():
            shapes[f"{path}/{name}"] = [counts[path], *variable.shape]
    for kind, table in layout.tables.items():
        for name in table.variables:
            shapes[f"{kind}/{name}"] = [counts.get(SCALARS, 0), len(table.labels)]
    return shapes


def read_outline(path: Path) -> Outline:
    """Return what a segment holds without reading its values.

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
        return coordinates_of(dataset[group])


def coordinates_of(group: netCDF4.Group) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the unchanging coordinates of an open group; the lock of NetCDF is held."""
    found = {}
    for name, dims in _coordinate_dims(group).items():
        variable = group[name]
        values = variable[...]
        found[name] = (dims, values.astype(bool) if stored_dtype(variable).kind == "b" else values)
    return found


def outline_of(dataset: netCDF4.Dataset) -> Outline:
    """Return what an open segment holds; the lock of NetCDF is held."""
    dataset.set_auto_maskandscale(False)
    moments = {SCALARS: _moments(dataset, "event")}
    stacks = {}
    for kind, name, group in _stacked_groups(dataset):
        stacks[f"{kind}/{name}"] = _stack(kind, group)
        moments[f"{kind}/{name}"] = _moments(group, "snapshot")
    tables = {}
    for kind, label in LABELS.items():
        if kind in dataset.groups:
            group = dataset.groups[kind]
            names = group[label]
            names.set_auto_chartostring(True)
            table = Table([str(text) for text in names[...]], [n for n in VARIABLES[kind] if n in group.variables])
            if any(group[name].shape != (*dataset["event"].shape, len(table.labels)) for name in table.variables):
                raise ValueError(f"{kind} does not fit its events and names")
            tables[kind] = table
    return Outline(Layout(stacks, tables), moments)


def scalars_of(dataset: netCDF4.Dataset, kind: str, variable: str, rows: slice) -> np.ndarray:
    """Return rows of a table, (event, name); the booleans of earlier versions as 1 and 0."""
    stored = dataset.groups[kind][variable]
    return stored[rows].astype(np.float64, copy=False)


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
        {name: _stacked_variable(group[name]) for name in names},
        {name: group.getncattr(name) for name in group.ncattrs() if name != "coordinates"},
        _coordinate_dims(group),
    )


def _stacked_variable(variable: netCDF4.Variable) -> StackedVariable:
    attributes = {name: variable.getncattr(name) for name in variable.ncattrs() if name not in _HOW_IT_IS_STORED}
    return StackedVariable(variable.dimensions[1:], variable.shape[1:], stored_dtype(variable), attributes)


_HOW_IT_IS_STORED = ("_FillValue", "dtype", "coordinates")


def _coordinate_dims(group: netCDF4.Group) -> dict[str, tuple[str, ...]]:
    """Return the axes of the unchanging coordinates; text has an axis of characters, of which its values know nothing."""
    found = {}
    for name, variable in group.variables.items():
        if name not in _MOVING and variable.dimensions[:1] != ("snapshot",):
            is_text = variable.dtype == "S1" and "_Encoding" in variable.ncattrs()
            found[name] = variable.dimensions[:-1] if is_text else variable.dimensions
    return found


def _moments(group: netCDF4.Dataset, axis: str) -> Moments:
    events, times, seen = group[axis][...], group["time"][...], group["observers_seen"][...]
    if events.ndim != 1 or not events.shape == times.shape == seen.shape or (np.diff(events) <= 0).any():
        raise ValueError(f"the {axis}s of {group.path} are not in order")
    return Moments(events, times, seen)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _array(value: Any) -> Any:
    if isinstance(value, list):
        return value if any(isinstance(one, str | list | dict) for one in value) else np.array(value)
    if value is None or isinstance(value, dict):
        raise ValueError("an attribute is neither text nor numbers")
    return value


def _dtype(name: str) -> np.dtype:
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name[:40]} is no type of number")
    return dtype
