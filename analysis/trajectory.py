"""The reader of trajectories: a run of any state, or an exported file, as one lazy :class:`xarray.DataTree`.

The list of segments in ``segments.jsonl`` is trusted alone, and every segment is held against its line there before anything
is returned. Moments and scalars are read at once; weights and updates when they are asked for, a snapshot at a time, without
dask (``.chunk()`` hands them to dask). No file stays open, so a tree survives a fork and sees only what was complete when
it was opened. Neither torch nor brian2 is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from analysis.schema import (
    LABELS,
    SCHEMA_VERSION,
    VARIABLES,
    coordinate_attributes,
    root_attributes,
    variable_attributes,
)
from analysis.segment import Moments, Outline, Stack, read_group, read_outline, read_rows
from analysis.storage import Segment, find_damage, read_index, read_manifest
from neurossl.errors import TrajectoryError


def open_trajectory(run: str | os.PathLike[str], verify: bool = False) -> xr.DataTree:
    """Return what a run has stored so far.

    Parameters
    ----------
    run : str or path
        A run folder (running, finished, failed, interrupted or killed) or a file made by ``neurossl export``.
    verify : bool
        Re-read every stored byte against its checksum first.

    Returns
    -------
    DataTree
        ``/`` with coords event, time (s), observers_seen and the description of the run as attributes;
        ``/weights/<pathway>`` weight (snapshot, post, pre[, ky, kx]) or (snapshot, synapse), bias (snapshot, post);
        ``/updates/<pathway>`` update, reference_update (snapshot, ...); ``/alignment`` cosine, ... (event, pathway);
        ``/activity`` and ``/performance`` (event, population). Where nothing was recorded: NaN, and trustworthy False.

    Raises
    ------
    TrajectoryError
        If it is no run, or a segment is missing, damaged, doubled, out of order or not what its line in the index says.
    """
    path = Path(run)
    if path.is_file():
        return _open_file(path, verify)
    about = read_manifest(path, strict=verify)
    segments = read_index(path, about)
    if verify and (damage := find_damage(path, segments)):
        raise TrajectoryError(f"{path} is damaged: {'; '.join(damage)}")
    outlines = [_outline(path, segment) for segment in segments]
    nodes = {"/": _root(outlines, {**root_attributes(about), "state": about["state"]})}
    for group in dict.fromkeys(group for outline in outlines for group in outline.stacks):
        pieces = [(path / s.file, o.stacks[group]) for s, o in zip(segments, outlines, strict=True) if group in o.stacks]
        nodes[f"/{group}"] = _stack(group, pieces)
    for kind in LABELS:
        if any(kind in outline.tables for outline in outlines):
            nodes[f"/{kind}"] = _table(kind, outlines)
    return xr.DataTree.from_dict(nodes)


def manifest(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a run folder: configuration, state, versions, hardware.

    Raises
    ------
    TrajectoryError
        If ``run`` is no run folder, or its manifest is damaged.
    """
    return read_manifest(Path(run))


@dataclass(frozen=True)
class _Piece:
    """The snapshots from ``start`` to ``stop`` of a tensor, in one file."""

    path: Path
    start: int
    stop: int


class _StackedArray(BackendArray):
    """A tensor (snapshot, ...) spread over immutable segments, each opened only while some of it is read."""

    def __init__(self, group: str, variable: str, pieces: Sequence[_Piece], shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.group, self.variable, self.pieces = group, variable, pieces
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        snapshots = np.arange(self.shape[0])[key[0]]
        values = np.concatenate([self._read_piece(*part, key[1:]) for part in self._parts(np.atleast_1d(snapshots))])
        return values if np.ndim(snapshots) else values[0]

    def _parts(self, snapshots: np.ndarray) -> Iterator[tuple[_Piece, np.ndarray]]:
        """Yield the files that hold these snapshots (ascending), with the rows to read; for none of them, no rows of one."""
        if not snapshots.size:
            yield self.pieces[0], snapshots
        for piece in self.pieces:
            inside = (snapshots >= piece.start) & (snapshots < piece.stop)
            if inside.any():
                yield piece, snapshots[inside] - piece.start

    def _read_piece(self, piece: _Piece, rows: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
        try:
            return read_rows(piece.path, self.group, self.variable, rows, rest)
        except (OSError, RuntimeError) as error:
            raise TrajectoryError(f"cannot read {self.group}/{self.variable} from {piece.path}: {error}") from error


def _outline(run: Path, segment: Segment) -> Outline:
    """Return the outline of a segment that is what its line in the index says."""
    path = run / segment.file
    try:
        size = path.stat().st_size
        if size != segment.bytes:
            raise TrajectoryError(f"{path} has {size} bytes, expected {segment.bytes}: it was cut short or replaced")
        outline = read_outline(path)
    except FileNotFoundError:
        raise TrajectoryError(f"{path} is missing") from None
    except (OSError, RuntimeError, LookupError) as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from None
    if outline.event_range != (segment.first_event, segment.last_event):
        first, last = outline.event_range
        raise TrajectoryError(
            f"{path} holds events {first} to {last}, expected {segment.first_event} to {segment.last_event}: "
            "it was replaced by another segment"
        )
    for name in outline.shapes | segment.shapes:
        found, expected = outline.shapes.get(name), segment.shapes.get(name)
        if found != expected:
            raise TrajectoryError(f"{path} holds {name} of shape {found}, expected {expected}")
    return outline


def _coordinates(axis: str, moments: Moments) -> dict[str, xr.Variable]:
    columns = {axis: moments.events, "time": moments.times, "observers_seen": moments.observers_seen}
    return {name: xr.Variable(axis, values, coordinate_attributes(name)) for name, values in columns.items()}


def _root(outlines: Sequence[Outline], attributes: dict[str, Any]) -> xr.Dataset:
    return xr.Dataset(coords=_coordinates("event", Moments.join([o.moments for o in outlines])), attrs=attributes)


def _stack(group: str, stored: Sequence[tuple[Path, Stack]]) -> xr.Dataset:
    """Return the lazy tensors of one pathway, from the segments that hold any of it."""
    stops = np.cumsum([stack.moments.events.size for _, stack in stored])
    pieces = [_Piece(path, int(b) - s.moments.events.size, int(b)) for (path, s), b in zip(stored, stops, strict=True)]
    path, first = stored[0]
    kind = group.split("/")[0]
    for other, stack in stored[1:]:
        if _layout(stack) != _layout(first):
            raise TrajectoryError(f"{other} holds {group} as {_layout(stack)}, expected {_layout(first)} as in {path.name}")
    fixed, attributes = read_group(path, group)
    coords = {name: xr.Variable(dim, values, coordinate_attributes(name)) for name, (dim, values) in fixed.items()}
    variables = {}
    for name, (dims, shape, dtype) in first.variables.items():
        array = _StackedArray(group, name, pieces, (int(stops[-1]), *shape[1:]), dtype)
        variables[name] = xr.Variable(dims, indexing.LazilyIndexedArray(array), variable_attributes(kind, name))
    moments = Moments.join([stack.moments for _, stack in stored])
    return xr.Dataset(variables, _coordinates("snapshot", moments) | coords, attributes)


def _layout(stack: Stack) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What must be the same in every segment: type and shape of a snapshot of each variable."""
    return {name: (dtype.name, shape[1:]) for name, (_, shape, dtype) in stack.variables.items()}


def _table(kind: str, outlines: Sequence[Outline]) -> xr.Dataset:
    """Return the scalars of one kind at every event of the root."""
    tables = [outline.tables[kind] for outline in outlines if kind in outline.tables]
    labels = list(dict.fromkeys(label for table in tables for label in table.labels))
    present = {name for table in tables for name in table.values}
    rows = np.cumsum([0, *(outline.moments.events.size for outline in outlines)])
    variables = {}
    for name, variable in VARIABLES[kind].items():
        if name not in present:
            continue
        values = np.full((rows[-1], len(labels)), False if variable.boolean else np.nan)
        for start, stop, outline in zip(rows[:-1], rows[1:], outlines, strict=True):
            table = outline.tables.get(kind)
            if table and name in table.values:
                values[start:stop, [labels.index(label) for label in table.labels]] = table.values[name]
        variables[name] = xr.Variable(("event", LABELS[kind]), values, variable_attributes(kind, name))
    label = xr.Variable(LABELS[kind], np.array(labels, str), coordinate_attributes(LABELS[kind]))
    # A tree hands down the index of an axis, not the other coordinates along it.
    columns = _coordinates("event", Moments.join([outline.moments for outline in outlines]))
    return xr.Dataset(variables, {LABELS[kind]: label} | {n: columns[n] for n in ("time", "observers_seen")})


def _open_file(path: Path, verify: bool) -> xr.DataTree:
    if verify:
        raise TrajectoryError(f"{path} carries no checksums: verify the run folder that it was exported from")
    try:
        tree = xr.open_datatree(path, engine="netcdf4")
    except (OSError, RuntimeError, ValueError) as error:
        raise TrajectoryError(f"{path} cannot be read as NetCDF: {error}") from None
    if tree.attrs.get("schema_version") != SCHEMA_VERSION:
        found = tree.attrs.get("schema_version")
        tree.close()
        raise TrajectoryError(f"{path} is no exported trajectory: schema_version is {found}, expected {SCHEMA_VERSION}")
    return tree
