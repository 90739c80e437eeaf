"""Weights and networks from stored runs, read through xarray, which knows who reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurossl.anatomy.description import described_network
from neurossl.anatomy.network import Network
from neurossl.errors import TrajectoryError
from neurossl.files import absolute

if TYPE_CHECKING:
    import xarray as xr


def opened(run: str | os.PathLike[str]) -> xr.DataTree:
    """Return the tree of a stored run, or of its export as one NetCDF file.

    Raises
    ------
    TrajectoryError
        If it is no run.
    """
    import xarray as xr

    path = absolute(run)
    if not path.exists():
        raise TrajectoryError(f"{path}: there is no such run")
    try:
        return xr.open_datatree(path, engine="neurossl" if path.is_dir() else None)
    except (OSError, ValueError) as reason:
        if isinstance(reason, TrajectoryError):
            raise
        raise TrajectoryError(f"{path}: cannot be read as a run ({str(reason).splitlines()[0]})") from None


def stored_network(tree: xr.DataTree, where: str) -> Network:
    """Return the network of a stored run, as it was after wiring.

    Raises
    ------
    TrajectoryError
        If the run does not say.
    """
    said = tree.attrs.get("network")
    if said is None:
        raise TrajectoryError(f"{where}: the run does not say of which network it is")
    return described_network(json.loads(said) if isinstance(said, str) else said)


def stored_weights(tree: xr.DataTree, event: int | None, where: str) -> Mapping[str, tuple[Any, Any]]:
    """Return the recorded weights and biases by pathway, of one moment.

    Parameters
    ----------
    tree : xarray.DataTree
    event : int, optional
        Moments that had been learned from; the last snapshot by default. Of a fixed pathway, which is stored once and again
        when it was changed, the last one until then.
    where : str
        The run, for error messages.

    Raises
    ------
    TrajectoryError
        If no weights were recorded whole, or not at that moment; lists the moments at which they were.
    """
    found: dict[str, tuple[Any, Any]] = {}
    groups = tree["weights"].children if "weights" in tree.children else {}
    for node in groups.values():
        name = str(node.attrs.get("pathway", node.name))
        data = node.to_dataset()
        if "synapse" in data.dims:
            raise TrajectoryError(f"{where}: of {name!r} only {data.sizes['synapse']} synapses were recorded (index=)")
        moments = data["snapshot"].values
        chosen = moments[-1] if event is None else event
        if "fixed" in node.attrs:
            chosen = max((moment for moment in moments if moment <= chosen), default=chosen)
        if chosen not in moments:
            shown = ", ".join(map(str, moments[:20])) + (" ..." if len(moments) > 20 else "")
            raise TrajectoryError(f"{where}: there is no snapshot of {name!r} at event {event}; there are: {shown}")
        at = data.isel(snapshot=int(np.flatnonzero(moments == chosen)[0]))
        found[name] = tuple(
            torch.from_numpy(np.array(at[part].values)) if part in at else None for part in ("weight", "bias")
        )  # type: ignore[assignment]
    if not found:
        raise TrajectoryError(f"{where}: no weights were recorded; add a WeightRecorder to the simulation")
    return found
