"""Responses to a fixed set of stimuli, as runs store them: whether several can be compared at all.

Representations are compared stimulus by stimulus: a similarity between responses to different images, or to the same in
another order, is a number without meaning. Whoever compares asks `require_same_stimuli` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError
from neurossl.text import one_line

_ALONG = {"stimulus": "identifiers", "image": "images", "label": "labels"}


def require_same_stimuli(compared: Any, kind: str = "responses") -> str:
    """Return the digest of the stimuli that all of these were shown; refuse them where they differ.

    Parameters
    ----------
    compared : DataTree, Dataset or DataArray, or a sequence or mapping of them
        Trees of runs, of which all groups of ``kind`` are looked at; or groups, such as ``tree["responses/V1"]``; or
        responses, which must have the stimuli as a coordinate. The names of a mapping are those in the message.
    kind : str
        What is compared: "responses", or "correctness".

    Returns
    -------
    str
        The attribute ``stimuli`` of all; "" where the first has none, such as an array without the attributes of its group,
        of which only the coordinates can be compared.

    Raises
    ------
    TrajectoryError
        If there is nothing to compare, or the stimuli differ; names which, and in what: number, identifiers, order,
        images, labels, or the values that were shown under the same identifiers.
    """
    first: tuple[str, dict[str, np.ndarray], str] | None = None
    for name, group in _groups(compared, kind):
        along = {key: np.asarray(group.coords[key].values) for key in _ALONG if key in group.coords}
        if "stimulus" not in along:
            raise TrajectoryError(f"{name}: no stimuli lie along it: expected the coordinate 'stimulus', as /{kind} have it")
        this = name, along, str(group.attrs.get("stimuli", ""))
        if first is None:
            first = this
        elif difference := _difference(first, this):
            raise TrajectoryError(f"{name} and {first[0]} were not shown the same stimuli: {difference}")
    if first is None:
        raise TrajectoryError(f"no {kind} were recorded: give the simulation a ResponseRecorder with the same stimuli")
    return first[2]


def _difference(one: tuple[str, dict[str, np.ndarray], str], other: tuple[str, dict[str, np.ndarray], str]) -> str:
    """Return what differs between stimuli, in words; nothing where they are the same."""
    mine, theirs = one[1], other[1]
    ids, their_ids = mine["stimulus"], theirs["stimulus"]
    if len(ids) != len(their_ids):
        return f"{len(their_ids)} stimuli, and {len(ids)}"
    if not np.array_equal(ids, their_ids):
        if np.array_equal(np.sort(ids), np.sort(their_ids)):
            return "the same identifiers in another order"
        place = int(np.flatnonzero(ids != their_ids)[0])
        return f"other identifiers, stimulus {place} being {their_ids[place]} and {ids[place]}"
    for key, words in _ALONG.items():
        if key in mine and key in theirs and not np.array_equal(mine[key], theirs[key]):
            place = int(np.flatnonzero(mine[key] != theirs[key])[0])
            return f"other {words}, stimulus {ids[place]} having {theirs[key][place]} and {mine[key][place]}"
    if one[2] and other[2] and one[2] != other[2]:  # an array alone has lost the attribute of its group
        return f"other values under the same identifiers (digests {other[2]} and {one[2]})"
    return ""


def _groups(compared: Any, kind: str, name: str = "") -> Iterator[tuple[str, xr.Dataset | xr.DataArray]]:
    """Yield everything in which stimuli can differ, and its name."""
    if isinstance(compared, xr.DataArray | xr.Dataset):
        yield name or str(getattr(compared, "name", None) or compared.attrs.get("name", "a data set")), compared
    elif isinstance(compared, xr.DataTree):
        yield from _of_tree(compared, kind, name)
    elif isinstance(compared, Mapping):
        for key, one in compared.items():
            yield from _groups(one, kind, one_line(key))
    elif isinstance(compared, Iterable) and not isinstance(compared, str | bytes):
        for number, one in enumerate(compared):
            yield from _groups(one, kind, f"number {number}")
    else:
        raise TrajectoryError(f"expected trees of runs, groups or responses, got {type(compared).__name__}")


def _of_tree(tree: xr.DataTree, kind: str, name: str) -> Iterator[tuple[str, xr.Dataset | xr.DataArray]]:
    if "stimulus" in tree.dims:  # a group itself
        yield f"{name}: {tree.path}" if name else tree.path, tree.to_dataset()
        return
    group = tree if tree.name == kind else tree.children.get(kind)
    if group is None:
        rule = tree.attrs.get("rule", "this run")
        raise TrajectoryError(f"{name or rule}: no {kind} were recorded: give the simulation a ResponseRecorder")
    for node in group.children.values():
        label = f"/{kind}/{node.attrs.get('name', node.name)}"
        yield f"{name}: {label}" if name else label, node.to_dataset()
