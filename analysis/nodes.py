"""The nodes of a run's tree, lazy, from what its segments hold together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from analysis.contents import Contents
from analysis.lazy import StackedArray, Stored, Table, TableArray, coordinates_in
from analysis.moments import Moments
from analysis.schema import LABELS, VARIABLES, coordinate_attributes, variable_attributes
from neurossl.surroundings import undisturbed
from neurossl.text import printable

with undisturbed():
    xr.Variable("event", np.empty(0))
"""What xarray imports for its first variable (dask, where it is installed) is imported here: a process that is forked while
another thread imports waits for ever."""


def moments_along(axis: str, moments: Moments) -> dict[str, xr.Variable]:
    """Return the coordinates along an axis of moments, "event" or "snapshot"."""
    columns = zip((axis, "time", "observers_seen"), moments.columns(), strict=True)
    return {name: xr.Variable(axis, values, coordinate_attributes(name)) for name, values in columns}


def stack_of(contents: Contents, group: str) -> xr.Dataset:
    """Return the lazy tensors of one pathway, from the segments that hold any of it."""
    numbers, counts = contents.holding(group)
    first = contents.layouts[numbers[0]].stacks[group]
    stops = np.cumsum(counts)
    stored = Stored(contents.run, [contents.segments[number] for number in numbers], stops - counts, stops)
    fixed = coordinates_in(contents.run, stored.segments[0], group) if first.coordinates else {}
    coords = {name: xr.Variable(dims, values, coordinate_attributes(name)) for name, (dims, values) in fixed.items()}
    variables = {}
    for name, variable in first.variables.items():
        array = StackedArray(stored, group, name, (int(stops[-1]), *variable.shape), variable.dtype)
        dims = ("snapshot", *variable.dims)
        chunks: Mapping[str, Any] = {"preferred_chunks": {"snapshot": array.preferred_chunks}}
        lazily = indexing.LazilyIndexedArray(array)
        variables[name] = xr.Variable(dims, lazily, variable.attributes, chunks)
    attributes = {key: printable(value) if isinstance(value, str) else value for key, value in first.attributes.items()}
    return xr.Dataset(variables, moments_along("snapshot", contents.moments(group)) | coords, attributes)


def table_of(contents: Contents, kind: str, events: Moments) -> xr.Dataset:
    """Return the lazy scalars of one kind at every event of the root."""
    numbers = [number for number, layout in enumerate(contents.layouts) if kind in layout.tables]
    tables = [contents.layouts[number].tables[kind] for number in numbers]
    labels = list(dict.fromkeys(label for table in {id(t): t for t in tables}.values() for label in table.labels))
    place = {label: column for column, label in enumerate(labels)}
    columns = {id(table): np.array([place[label] for label in table.labels], int) for table in tables}
    starts, stops = contents.rows(numbers, events)
    stored = Stored(contents.run, [contents.segments[number] for number in numbers], starts, stops)
    of_each, names = [columns[id(table)] for table in tables], [table.variables for table in tables]
    present = {name for table in {id(t): t for t in tables}.values() for name in table.variables}
    whole = Table(stored, of_each, names, kind, (events.events.size, len(labels)))
    variables = {}
    for name in VARIABLES[kind]:
        if name in present:
            lazily = indexing.LazilyIndexedArray(TableArray(whole, name))
            variables[name] = xr.Variable(("event", LABELS[kind]), lazily, variable_attributes(kind, name))
    label = xr.Variable(LABELS[kind], np.array(labels, str), coordinate_attributes(LABELS[kind]))
    return xr.Dataset(variables, moments_along("event", events) | {LABELS[kind]: label})
