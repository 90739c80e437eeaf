"""One segment of a trajectory: records in memory to the bytes of a NetCDF-4 file.

A segment is a small trajectory in itself, laid out like the whole tree. Scalars become tables (event, name), tensors and
what recorders of one's own declare become stacks (snapshot, ...) stored contiguously: a contiguous variable wastes no room
and a single synapse can be read on its own. No clock goes into a segment: equal records give equal bytes, but for the second
of creation that HDF5 stamps on the root group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np

from analysis.netcdf import create_variable, netcdf_lock, write_coordinate
from analysis.outline import Outline, outline_of
from analysis.schema import LABELS, coordinate_attributes, variable_attributes
from analysis.series import Series


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one series at one event."""

    series: Series
    event: int
    time: float
    observers_seen: int
    values: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """How much it takes."""
        return sum(np.asarray(value).nbytes for value in self.values.values())


def encode(records: Sequence[Record], root: Mapping[str, Any]) -> tuple[memoryview, Outline]:
    """Return the bytes of a NetCDF-4 file with ``records``, and what is in it.

    Parameters
    ----------
    records : sequence of Record
        At least one; in the order of their events.
    root : mapping
        Attributes of the root group.
    """
    size = sum(record.nbytes for record in records)
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
                if record.series.kind not in LABELS:
                    stacks.setdefault(record.series.group, []).append(record)
            for group, stack in stacks.items():
                _write_stack(dataset.createGroup(group), stack)
            outline = outline_of(dataset)
        finally:
            image = dataset.close()
    return image, outline


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
        write_coordinate(group, name, (axis,), values, coordinate_attributes(name))
    return {event: row for row, event in enumerate(events)}


def _write_table(dataset: netCDF4.Dataset, kind: str, records: Sequence[Record], row: Mapping[int, int]) -> None:
    if not records:
        return
    label = LABELS[kind]
    group = dataset.createGroup(kind)
    column = {name: i for i, name in enumerate(dict.fromkeys(record.series.name for record in records))}
    group.createDimension(label, len(column))
    write_coordinate(group, label, (label,), np.array(list(column), str), coordinate_attributes(label))
    for name in dict.fromkeys(name for record in records for name in record.values):
        table = np.full((len(row), len(column)), np.nan)
        for record in records:
            if name in record.values:
                table[row[record.event], column[record.series.name]] = record.values[name]
        create_variable(group, name, ("event", label), table.dtype, variable_attributes(kind, name))[...] = table


def _write_stack(group: netCDF4.Dataset, records: Sequence[Record]) -> None:
    series = records[0].series
    group.setncatts(series.group_attributes())
    _write_moments(group, "snapshot", records)
    sizes = {dim: size for dims, values in series.coords.values() for dim, size in zip(dims, values.shape, strict=True)}
    for name, variable in series.variables.items():
        sizes.update(zip(variable.dims, np.shape(records[0].values[name]), strict=True))
    for dim, size in sizes.items():
        group.createDimension(dim, size)
    for name, (dims, values) in series.coords.items():
        write_coordinate(group, name, dims, values, coordinate_attributes(name))
    others = [name for name, (dims, _) in series.coords.items() if dims != (name,)]
    group.setncattr("coordinates", " ".join(["time", "observers_seen", *others]))
    for name, variable in series.variables.items():
        dtype = records[0].values[name].dtype
        stored = create_variable(group, name, ("snapshot", *variable.dims), dtype, series.attributes_of(name))
        for i, record in enumerate(records):
            stored[i] = record.values[name]
