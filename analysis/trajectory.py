"""The reader of trajectories: a run of any state, or an exported file, as one lazy :class:`xarray.DataTree`.

The list of segments in ``segments.jsonl`` is trusted alone. Its lines tell what each segment holds and when it was recorded,
so that opening a run reads no segment, however many there are; a segment is held against its checksum before it is first
read. Scalars, weights and updates are read when they are asked for, without dask (``.chunk()`` hands them to dask). If the
files have become others since a tree was opened, it says so. Neither torch nor brian2 is needed.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from analysis.contents import Contents, outline_segment, require_there
from analysis.exported import open_exported, read_exported_manifest
from analysis.handles import let_go
from analysis.index import find_damage, read_index
from analysis.nodes import moments_along, stack_of, table_of
from analysis.outline import SCALARS
from analysis.schema import LABELS, tree_attributes
from analysis.storage import INDEX, MANIFEST, read_manifest
from analysis.tree import named_tree, root_of_moments
from neurossl.errors import TrajectoryError
from neurossl.files import absolute, read_whole
from neurossl.text import one_line

_TRIES = 3
"""How often a run is opened anew whose writer changes it meanwhile."""


def open_trajectory(run: str | os.PathLike[str], verify: bool = False) -> xr.DataTree:
    """Return what a run has stored so far.

    Parameters
    ----------
    run : str or path
        A run folder (running, finished, failed, interrupted or died) or a file made by ``neurossl export``.
    verify : bool
        Re-read every stored byte against its checksum first, those that have been read before too, and hold what the index
        says of every segment against the segment.

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
    if verify:
        if damage := find_damage(path, segments):
            raise TrajectoryError(f"{path} is damaged: {'; '.join(damage)}")
        for segment in segments:
            outline_segment(path, segment)
    require_there(path, segments)
    contents = Contents.of(path, segments)
    try:
        tree = named_tree(_nodes(contents, tree_attributes(about)))
    except TrajectoryError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as fault:
        raise TrajectoryError(f"{path} is damaged: its segments make no tree ({one_line(fault)})") from None
    tree.set_close(partial(let_go, path))
    return tree


def _nodes(contents: Contents, attributes: dict[str, Any]) -> dict[str, xr.Dataset]:
    """Return the nodes of the tree by their stored paths."""
    events = contents.moments(SCALARS).without_seams()
    nodes = {"/": root_of_moments(moments_along("event", events), attributes)}
    for group in contents.groups:
        nodes[f"/{group}"] = stack_of(contents, group)
    for kind in LABELS:
        if kind in contents.kinds:
            nodes[f"/{kind}"] = table_of(contents, kind, events)
    return nodes
