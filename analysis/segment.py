"""One segment of a trajectory: records in memory to the bytes of a NetCDF-4 file, and a file back to its outline.

A segment is a small trajectory in itself, laid out like the whole tree. Scalars become tables (event, name), tensors stacks
(snapshot, ...) stored contiguously: a contiguous variable wastes no room and a single synapse can be read on its own.
No clock goes into a segment: equal records give equal bytes, but for the second of creation that
HDF5 stamps on the root group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from analysis.schema import (
    LABELS,
    TENSOR_KINDS,
    VARIABLES,
    coordinate_attributes,
    safe_name,
    variable_attributes,
)
from analysis.storage import netcdf_lock


@dataclass(frozen=True)
class Series:
    """What is recorded under one name: a pathway's weights, a population's activity.

    Parameters
    ----------
    kind, name : str
        One of the kinds of the schema; a pathway or population as the user named it.
    dims : mapping of variable to tuple of str
        The axes of each variable behind the leading snapshot or event axis.
    coords : mapping of name to (dimension, array)
        What lies along those axes and never changes, such as which synapses were chosen.
    attrs : mapping
        Further attributes of the group.
    """

    kind: str
    name: str
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, tuple[str, np.ndarray]]
    attrs: Mapping[str, Any]

    @property
    def group(self) -> str:
        """Where its tensors are stored."""
        return f"{self.kind}/{safe_name(self.name)}"


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one series at one event."""

    series: Series
    event: int
    time: float
    observers_seen: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Moments:
    """When something was recorded: event numbers, biological times in s, observers seen; each (moments,)."""

    events: np.ndarray
    times: np.ndarray
    observers_seen: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Moments]) -> Moments:
        """Return the moments of consecutive segments as one."""
        empty = cls(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64))
        rows = [empty, *parts]
        return cls(
            np.concatenate([part.events for part in rows]),
            np.concatenate([part.times for part in rows]),
            np.concatenate([part.observers_seen for part in rows]),
        )


@dataclass(frozen=True)
class Stack:
    """A group of tensors in one segment: its moments and, per variable, axes, shape with the snapshots first, and type."""

    moments: Moments
    variables: dict[str, tuple[tuple[str, ...], tuple[int, ...], np.dtype]]


@dataclass(frozen=True)
class Table:
    """A kind of scalars in one segment: names, and per variable the values (event, name)."""

    labels: list[str]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Outline:
    """What a segment holds: everything small by value, the tensors by shape."""

    moments: Moments
    stacks: dict[str, Stack]
    tables: dict[str, Table]

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of each variable by its path."""
        tensors = {f"{path}/{name}": v[1] for path, stack in self.stacks.items() for name, v in stack.variables.items()}
        scalars = {f"{kind}/{name}": v.shape for kind, table in self.tables.items() for name, v in table.values.items()}
        return {path: list(shape) for path, shape in {**tensors, **scalars}.items()}

    @property
    def event_range(self) -> tuple[int, int]:
        """First and last event of anything in it."""
        events = np.concatenate([self.moments.events, *(stack.moments.events for stack in self.stacks.values())])
        return int(events.min()), int(events.max())


def encode(records: Sequence[Record], root: Mapping[str, Any]) -> tuple[memoryview, dict[str, list[int]]]:
    """Return the bytes of a NetCDF-4 file with ``records``, and the shape of each variable in it.

    Parameters
    ----------
    records : sequence of Record
        At least one; in the order of their events.
    root : mapping
        Attributes of the root group.
    """
    size = sum(np.asarray(value).nbytes for record in records for value in record.values.values())
    with netcdf_lock():
        dataset = netCDF4.Dataset("segment.nc", "w", memory=size + 65536)
        try:
            dataset.set_fill_off()  # every variable is written in full
            dataset.setncatts(root)
            scalars = [record for record in records if record.series.kind in LABELS]
            row = _write_moments(dataset, "event", scalars)
            for kind in LABELS:
                _write_table(dataset, kind, [record for record in scalars if record.series.kind == kind], row)
            stacks: dict[str, list[Record]] = {}
            for record in records:
                if record.series.kind in TENSOR_KINDS:
                    stacks.setdefault(record.series.group, []).append(record)
            for group, stack in stacks.items():
                _write_stack(dataset.createGroup(group), stack)
            shapes = _outline(dataset).shapes
        finally:
            image = dataset.close()
    return image, shapes


def read_outline(path: Path) -> Outline:
    """Return what a segment holds without reading its tensors.

    Raises
    ------
    OSError, RuntimeError
        If it is missing or no NetCDF file.
    """
    with netcdf_lock(), netCDF4.Dataset(path) as dataset:
        return _outline(dataset)


def read_group(path: Path, group: str) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, Any]]:
    """Return the unchanging coordinates of a stack, as name to (dimension, array), and its attributes."""
    with netcdf_lock(), netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        node = dataset[group]
        moving = {"snapshot", "time", "observers_seen", *VARIABLES[group.split("/")[0]]}
        coords = {name: (v.dimensions[0], v[...]) for name, v in node.variables.items() if name not in moving}
        attributes = {name: node.getncattr(name) for name in node.ncattrs() if name != "coordinates"}
    return coords, attributes


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
    with netcdf_lock(), netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        stored = dataset[group][variable]
        return np.concatenate([stored[(run, *rest)] for run in runs])


def create_variable(
    group: netCDF4.Dataset, name: str, dims: tuple[str, ...], dtype: np.dtype, attributes: Mapping[str, Any]
) -> netCDF4.Variable:
    """Create a variable of numbers the way xarray reads it back: booleans as int8, NaN as the fill value of floats."""
    if dtype.kind == "b":
        variable = group.createVariable(name, "i1", dims)
        variable.setncattr("dtype", "bool")
    else:
        variable = group.createVariable(name, dtype, dims, fill_value=np.nan if dtype.kind == "f" else None)
    variable.setncatts(attributes)
    return variable


def write_coordinate(group: netCDF4.Dataset, name: str, dim: str, values: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """Write a coordinate of numbers or text; text as characters, since HDF5 crashes on strings in a file opened twice."""
    if values.dtype.kind not in "UOT":
        create_variable(group, name, (dim,), values.dtype, attributes)[...] = values
        return
    encoded = np.array([str(value).encode() for value in values], bytes)
    width = encoded.dtype.itemsize
    if f"string{width}" not in group.dimensions:
        group.createDimension(f"string{width}", width)
    variable = group.createVariable(name, "S1", (dim, f"string{width}"))
    variable.setncatts({**attributes, "_Encoding": "utf-8"})
    variable.set_auto_chartostring(False)
    variable[...] = encoded.view("S1").reshape(len(values), width)


def _write_moments(group: netCDF4.Dataset, axis: str, records: Iterable[Record]) -> dict[int, int]:
    """Write the axis and its times; return the row of each event."""
    moments = {record.event: record for record in reversed(list(records))}
    events = sorted(moments)
    group.createDimension(axis, len(events))
    group.setncattr("coordinates", "time observers_seen")
    columns = {
        axis: np.array(events, np.int64),
        "time": np.array([moments[event].time for event in events], np.float64),
        "observers_seen": np.array([moments[event].observers_seen for event in events], np.int64),
    }
    for name, values in columns.items():
        write_coordinate(group, name, axis, values, coordinate_attributes(name))
    return {event: row for row, event in enumerate(events)}


def _write_table(dataset: netCDF4.Dataset, kind: str, records: Sequence[Record], row: Mapping[int, int]) -> None:
    if not records:
        return
    label = LABELS[kind]
    group = dataset.createGroup(kind)
    column = {name: i for i, name in enumerate(dict.fromkeys(record.series.name for record in records))}
    group.createDimension(label, len(column))
    write_coordinate(group, label, label, np.array(list(column), str), coordinate_attributes(label))
    for name in dict.fromkeys(name for record in records for name in record.values):
        table = np.full((len(row), len(column)), False if VARIABLES[kind][name].boolean else np.nan)
        for record in records:
            if name in record.values:
                table[row[record.event], column[record.series.name]] = record.values[name]
        create_variable(group, name, ("event", label), table.dtype, variable_attributes(kind, name))[...] = table


def _write_stack(group: netCDF4.Dataset, records: Sequence[Record]) -> None:
    series = records[0].series
    group.setncatts({"pathway": series.name, **series.attrs})
    _write_moments(group, "snapshot", records)
    sizes = {dim: len(values) for dim, values in series.coords.values()}
    for name, dims in series.dims.items():
        sizes.update(zip(dims, records[0].values[name].shape, strict=True))
    for dim, size in sizes.items():
        group.createDimension(dim, size)
    for name, (dim, values) in series.coords.items():
        write_coordinate(group, name, dim, values, coordinate_attributes(name))
    others = [name for name, (dim, _) in series.coords.items() if name != dim]
    group.setncattr("coordinates", " ".join(["time", "observers_seen", *others]))
    for name, dims in series.dims.items():
        dtype = records[0].values[name].dtype
        variable = create_variable(group, name, ("snapshot", *dims), dtype, variable_attributes(series.kind, name))
        for i, record in enumerate(records):
            variable[i] = record.values[name]


def _outline(dataset: netCDF4.Dataset) -> Outline:
    dataset.set_auto_maskandscale(False)
    stacks = {}
    for kind in TENSOR_KINDS:
        for name, group in dataset.groups[kind].groups.items() if kind in dataset.groups else ():
            variables = {v: group[v] for v in VARIABLES[kind] if v in group.variables}
            stacks[f"{kind}/{name}"] = Stack(
                _moments(group, "snapshot"), {v: (x.dimensions, x.shape, x.dtype) for v, x in variables.items()}
            )
    tables = {}
    for kind, label in LABELS.items():
        if kind in dataset.groups:
            group = dataset.groups[kind]
            values = {
                name: group[name][...].astype(bool) if variable.boolean else group[name][...]
                for name, variable in VARIABLES[kind].items()
                if name in group.variables
            }
            tables[kind] = Table(list(group[label][...]), values)
    return Outline(_moments(dataset, "event"), stacks, tables)


def _moments(group: netCDF4.Dataset, axis: str) -> Moments:
    return Moments(group[axis][...], group["time"][...], group["observers_seen"][...])
