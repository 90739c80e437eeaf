"""The tree of a run: nodes called as the user calls them, which answer to their stored names too.

``tree["weights/V1->V2"]`` and ``tree["weights/V1_to_V2"]`` are the same node. What no node can be called (a name with a
slash, ``.`` or ``..``) keeps the name of `analysis.group_of`. The moments of the root have no index: an index is what a tree
hands down, and the weights have an axis of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from analysis.schema import LABELS, TENSOR_KINDS, group_of
from neurossl.text import is_plain

MOMENTS = ("event", "time", "observers_seen")


class RunTree(xr.DataTree):
    """A tree whose nodes answer to the names that they have in files, beside their own."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the child or variable of that name, stored or own; else ``default``."""
        found = super().get(key)
        if found is None:
            found = next((child for name, child in self.children.items() if stored_name(name) == key), None)
        return default if found is None else found

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or any(stored_name(name) == key for name in self.children)

    def map_over_datasets(self, func: Callable[..., Any], *args: Any, kwargs: Mapping[str, Any] | None = None) -> Any:
        """Apply a function to every node, as trees of xarray do."""
        if getattr(func, "__name__", "") == "_maybe_create_default_indexes":
            return self  # xarray indexes what a backend has opened, so that the weights would inherit the events
        mapped = super().map_over_datasets(func, *args, kwargs=kwargs)
        return _as_run_tree(mapped) if isinstance(mapped, xr.DataTree) else mapped


def named_tree(nodes: Mapping[str, xr.Dataset]) -> RunTree:
    """Return the tree of a run.

    Parameters
    ----------
    nodes : mapping of path to Dataset
        As they are stored: ``/``, ``/alignment``, ``/weights/V1_to_V2``, ...
    """
    named: dict[str, xr.Dataset] = {}
    for path, node in nodes.items():
        *above, stored = path.split("/")
        wanted = "/".join([*above, node_name(stored, node.attrs)]) if len(above) > 1 else path
        named[path if wanted in named or (wanted != path and wanted in nodes) else wanted] = node
    tree = RunTree.from_dict(named)
    for path, node in named.items():
        tree[path].set_close(node._close)
    return tree


def node_name(stored: str, attributes: Mapping[Any, Any]) -> str:
    """Return what a group is called in a tree: the name that its attributes keep, if a node can be called that."""
    name = attributes.get("pathway", attributes.get("name"))
    if not isinstance(name, str) or not is_plain(name) or "/" in name or name in (".", ".."):
        return stored
    return name if group_of(name) == stored else stored


def stored_name(name: str, attributes: Mapping[Any, Any] | None = None) -> str:
    """Return the name in files of a node of a tree.

    Parameters
    ----------
    name : str
        Of the node.
    attributes : mapping, optional
        Of the node; they tell a name that is the stored one already.
    """
    if attributes is not None and name not in (attributes.get("pathway"), attributes.get("name")):
        return name
    return group_of(name)


def root_of_moments(columns: Mapping[str, xr.Variable], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return the root of a tree with the moments at which any scalar was recorded, without an index."""
    return xr.Dataset(coords=xr.Coordinates(dict(columns), indexes={}), attrs=attributes)


def is_stack(path: str) -> bool:
    """Return whether a node holds tensors or what recorders of one's own declared: ``/kind/name``."""
    kind = path.strip("/").split("/")[0]
    return path.count("/") == 2 and (kind in TENSOR_KINDS or kind not in LABELS)


def _as_run_tree(tree: xr.DataTree) -> RunTree:
    return RunTree.from_dict({node.path: node.to_dataset(inherit=False) for node in tree.subtree}, name=tree.name)
