"""Stored runs for xarray: ``xarray.open_datatree(RUN, engine="neurossl")``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from analysis.storage import INDEX, MANIFEST
from analysis.trajectory import open_trajectory
from analysis.tree import RunTree
from neurossl.errors import TrajectoryError


class RunBackend(BackendEntrypoint):
    """Opens a run folder as `analysis.open_trajectory` does; xarray finds it by its entry point."""

    description = "Open runs of neurossl: folders with manifest.json and segments.jsonl"
    supports_groups = True

    def open_datatree(  # type: ignore[override]
        self, filename_or_obj: str | os.PathLike[str], *, drop_variables: str | Iterable[str] | None = None
    ) -> xr.DataTree:
        """Return the run as one lazy tree."""
        tree = open_trajectory(filename_or_obj)
        if drop_variables is None:
            return tree
        unwanted = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables)
        nodes = {node.path: node.to_dataset(inherit=False).drop_vars(unwanted, errors="ignore") for node in tree.subtree}
        return RunTree.from_dict(nodes)

    def open_groups_as_dict(  # type: ignore[override]
        self, filename_or_obj: str | os.PathLike[str], *, drop_variables: str | Iterable[str] | None = None
    ) -> dict[str, xr.Dataset]:
        """Return every group of the run by its path."""
        tree = self.open_datatree(filename_or_obj, drop_variables=drop_variables)
        return {node.path: node.to_dataset(inherit=False) for node in tree.subtree}

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
    ) -> xr.Dataset:
        """Return one group of the run, the root by default.

        Raises
        ------
        TrajectoryError
            If there is no such group; lists those that there are.
        """
        tree = self.open_datatree(filename_or_obj, drop_variables=drop_variables)
        try:
            node = tree if group in (None, "", "/") else tree[str(group)]
        except KeyError:
            node = None
        if not isinstance(node, xr.DataTree):
            there = ", ".join(each.path.strip("/") for each in tree.subtree if each.has_data)
            raise TrajectoryError(f"{filename_or_obj} has no group {str(group)!r}; there are: {there or 'none'}")
        data = node.to_dataset()
        data.set_close(tree.close)
        return data

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether it is the folder of a run."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        folder = Path(filename_or_obj)
        return (folder / MANIFEST).is_file() and (folder / INDEX).is_file()
