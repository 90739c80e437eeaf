"""The reader of trajectories: a run of any state, or an exported file, as one lazy :class:`xarray.DataTree`.

The list of segments in ``segments.jsonl`` is trusted alone, and every segment is held against its checksum there before it
is first read. Moments and scalars are read at once; weights and updates when they are asked for, a snapshot at a time,
without dask (``.chunk()`` hands them to dask). No file stays open, so a tree survives a fork and sees only what was complete
when it was opened; if its files have become others since, it says so. Neither torch nor brian2 is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from analysis.exported import open_exported, read_exported_manifest
from analysis.index import find_damage, read_index, require_whole
from analysis.outline import Moments, Outline, Stack, read_coordinates, read_outline, read_rows
from analysis.records import Segment
from analysis.schema import LABELS, VARIABLES, coordinate_attributes, tree_attributes, variable_attributes
from analysis.storage import INDEX, MANIFEST, read_manifest
from analysis.tree import named_tree, root_of_moments
from neurossl.errors import TrajectoryError
from neurossl.files import absolute, read_whole
from neurossl.text import printable

_TRIES = 3
"""How often a run is opened anew whose writer changes it meanwhile."""


def open_trajectory(run: str | os.PathLike[str], verify: bool = False) -> xr.DataTree:
    """Return what a run has stored so far.

    Parameters
    ----------
    run : str or path
        A run folder (running, finished, failed, interrupted or died) or a file made by ``neurossl export``.
    verify : bool
        Re-read every stored byte against its checksum first, those that have been read before too.

    Returns
    -------
    DataTree
        ``/`` with coords event, time (s), observers_seen and the description of the run as attributes, among them
        ``interventions`` as JSON (`manifest` returns all of it);
        ``/weights/<pathway>`` weight (snapshot, post, pre[, ky, kx]) or (snapshot, synapse), bias (snapshot, post);
        ``/updates/<pathway>`` update, reference_update (snapshot, ...); ``/alignment`` cosine, ... (event, pathway);
        ``/activity`` and ``/performance`` (event, population). Where nothing was recorded: NaN.
        ``/<kind>/<name>`` (snapshot, ...) for what recorders of one's own have declared.

        Nodes are called as their pathways and populations are: ``tree["weights/V1->V2/weight"]``. They answer to the names
        that they have in files, too (`analysis.group_of`): ``tree["weights/V1_to_V2/weight"]``. The attribute ``pathway``
        (``name`` for kinds of one's own) keeps the name where no node can be called so, as with a slash in it. The moments
        of the root have no index, so that nothing is inherited; ``tree["event"]`` are all events of the scalars.

    Raises
    ------
    TrajectoryError
        If it is no run, or a segment is missing, damaged, doubled, out of order or not what its line in the index says.
    """
    path = absolute(run)
    if path.is_file():
        return open_exported(path)
    before = _lists(path)
    for _ in range(_TRIES):
        try:
            return _open_run(path, verify)
        except TrajectoryError:
            now = _lists(path)
            if now == before:
                raise
            before = now  # its writer has gone back, or on, while it was being opened
    return _open_run(path, verify)


def manifest(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a run says about itself: configuration, state ("died" if its process has gone), versions, hardware.

    Parameters
    ----------
    run : str or path
        A run folder, or a file made by ``neurossl export``, which says what was so when it was made.

    Raises
    ------
    TrajectoryError
        If ``run`` is neither, or its manifest is damaged.
    """
    path = absolute(run)
    return read_exported_manifest(path) if path.is_file() else read_manifest(path)


def _lists(path: Path) -> list[bytes | None]:
    """Return what the lists of a run say at this moment."""
    found: list[bytes | None] = []
    for name in (MANIFEST, INDEX):
        try:
            found.append(read_whole(path / name))
        except OSError:
            found.append(None)
    return found


def _open_run(path: Path, verify: bool) -> xr.DataTree:
    about = read_manifest(path)
    segments = read_index(path, about)
    if verify and (damage := find_damage(path, segments)):
        raise TrajectoryError(f"{path} is damaged: {'; '.join(damage)}")
    outlines = [outline_segment(path, segment) for segment in segments]
    nodes = {"/": _root(outlines, tree_attributes(about))}
    for group in dict.fromkeys(group for outline in outlines for group in outline.stacks):
        pieces = [(s, o.stacks[group]) for s, o in zip(segments, outlines, strict=True) if group in o.stacks]
        nodes[f"/{group}"] = _stack(path, group, pieces)
    for kind in LABELS:
        if any(kind in outline.tables for outline in outlines):
            nodes[f"/{kind}"] = _table(kind, outlines)
    return named_tree(nodes)


@dataclass(frozen=True)
class _Piece:
    """The snapshots from ``start`` to ``stop`` of a tensor, in one segment."""

    path: Path
    segment: Segment
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
            require_whole(piece.path, piece.segment)
            return read_rows(piece.path, self.group, self.variable, rows, rest)
        except TrajectoryError as error:
            raise TrajectoryError(f"{error}; if the run was made again since this tree was opened, open it again") from None
        except (OSError, RuntimeError, LookupError) as error:
            raise TrajectoryError(f"cannot read {self.group}/{self.variable} from {piece.path}: {error}") from error


def outline_segment(run: Path, segment: Segment) -> Outline:
    """Return the outline of a segment that is whole and is what its line in the index says.

    Raises
    ------
    TrajectoryError
        If it is not; names the file.
    """
    path = run / segment.file
    require_whole(path, segment)
    try:
        outline = read_outline(path)
        first, last = outline.event_range
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError) as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from None
    if (first, last) != (segment.first_event, segment.last_event):
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
    return root_of_moments(_coordinates("event", Moments.join([o.moments for o in outlines])), attributes)


def _stack(run: Path, group: str, stored: Sequence[tuple[Segment, Stack]]) -> xr.Dataset:
    """Return the lazy tensors of one pathway, from the segments that hold any of it."""
    stops = np.cumsum([stack.moments.events.size for _, stack in stored])
    pieces = [
        _Piece(run / s.file, s, int(b) - stack.moments.events.size, int(b))
        for (s, stack), b in zip(stored, stops, strict=True)
    ]
    segment, first = stored[0]
    for (_, before), (other, stack) in pairwise(stored):
        if _layout(stack) != _layout(first):
            found, expected = _layout(stack), _layout(first)
            raise TrajectoryError(f"{run / other.file} holds {group} as {found}, expected {expected} as in {segment.file}")
        if stack.moments.events[0] <= before.moments.events[-1]:
            raise TrajectoryError(f"{run / other.file} holds {group} at event {stack.moments.events[0]} once more")
    fixed = read_coordinates(run / segment.file, group)
    coords = {name: xr.Variable(dims, values, coordinate_attributes(name)) for name, (dims, values) in fixed.items()}
    variables = {}
    for name, variable in first.variables.items():
        array = _StackedArray(group, name, pieces, (int(stops[-1]), *variable.shape[1:]), variable.dtype)
        variables[name] = xr.Variable(variable.dims, indexing.LazilyIndexedArray(array), variable.attributes)
    moments = Moments.join([stack.moments for _, stack in stored])
    attributes = {key: printable(value) if isinstance(value, str) else value for key, value in first.attributes.items()}
    return xr.Dataset(variables, _coordinates("snapshot", moments) | coords, attributes)


def _layout(stack: Stack) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What must be the same in every segment: type and shape of a snapshot of each variable."""
    return {name: (variable.dtype.name, variable.shape[1:]) for name, variable in stack.variables.items()}


def _table(kind: str, outlines: Sequence[Outline]) -> xr.Dataset:
    """Return the scalars of one kind at every event of the root."""
    tables = [outline.tables[kind] for outline in outlines if kind in outline.tables]
    labels = list(dict.fromkeys(label for table in tables for label in table.labels))
    present = {name for table in tables for name in table.values}
    moments = Moments.join([outline.moments for outline in outlines])
    variables = {}
    for name in VARIABLES[kind]:
        if name not in present:
            continue
        values = np.full((moments.events.size, len(labels)), np.nan)
        for outline in outlines:
            table = outline.tables.get(kind)
            if table and name in table.values:
                rows = np.searchsorted(moments.events, outline.moments.events)
                place = np.ix_(rows, np.array([labels.index(label) for label in table.labels], int))
                found, before = table.values[name], values[place]
                values[place] = np.where(np.isnan(found), before, found)
        variables[name] = xr.Variable(("event", LABELS[kind]), values, variable_attributes(kind, name))
    label = xr.Variable(LABELS[kind], np.array(labels, str), coordinate_attributes(LABELS[kind]))
    return xr.Dataset(variables, _coordinates("event", moments) | {LABELS[kind]: label})
