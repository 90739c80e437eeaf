"""Alignment of local with backprop-derived updates, and how far the weights have moved, from a stored trajectory."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError
from neurossl.measures import compare_updates

BLOCK = 2**26
"""Bytes of weights that are read at a time."""


def alignment_over_training(tree: xr.DataTree, trusted_only: bool = True) -> xr.Dataset:
    """Return the stored measures per event and pathway.

    Parameters
    ----------
    tree : DataTree
        From `open_trajectory`.
    trusted_only : bool
        Replace what is not trustworthy by NaN; ``attrs["masked"]`` says how many comparisons that were.

    Returns
    -------
    Dataset
        cosine, angle (degrees), norm_ratio, sign_agreement, relative_error, ... (event, pathway).

    Raises
    ------
    TrajectoryError
        If the run was recorded without a reference.
    """
    if "alignment" not in tree.children:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no alignment was recorded (the rule has no reference)")
    measures = tree.children["alignment"].to_dataset(inherit=True)
    recorded = measures["cosine"].notnull()
    said = measures["trustworthy"] if "trustworthy" in measures else recorded.astype(float)
    trusted = said == 1
    masked = int((recorded & ~trusted).sum())
    if trusted_only:
        measures = measures.where(trusted).assign(trustworthy=said)
    return measures.assign_attrs(masked=masked)


def alignment_of_updates(tree: xr.DataTree) -> xr.Dataset:
    """Return the measures computed anew from stored updates, (pathway, snapshot).

    Parameters
    ----------
    tree : DataTree
        Of a run that stored ``update`` and ``reference_update``.

    Raises
    ------
    TrajectoryError
        If it did not.
    """
    groups = tree["updates"].children if "updates" in tree.children else {}
    stored = {name: group.to_dataset() for name, group in groups.items() if "reference_update" in group.data_vars}
    if not stored:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no updates were stored beside those of a reference")
    per_pathway = []
    for name, group in stored.items():
        rows = [
            compare_updates(group["update"][i].values, group["reference_update"][i].values)
            for i in range(group.sizes["snapshot"])
        ]
        measures = {key: ("snapshot", np.array([row[key] for row in rows])) for key in rows[0]}
        pathway = group.attrs.get("pathway", name)
        per_pathway.append(xr.Dataset(measures, {"snapshot": group["snapshot"], "pathway": pathway}))
    return xr.concat(per_pathway, "pathway", join="outer")


def weight_drift(tree: xr.DataTree, pathways: Sequence[str] | None = None) -> xr.DataArray:
    """Return how far the weights are from the first snapshot, ``|W(t) - W(0)| / |W(0)|``, (snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        From `open_trajectory`.
    pathways : sequence of str, optional
        Names; all recorded ones by default. At most some `BLOCK` bytes are read at a time.

    Raises
    ------
    TrajectoryError
        If no weights of these pathways were recorded.
    """
    groups = tree["weights"].children if "weights" in tree.children else {}
    drifts = []
    for safe, node in groups.items():
        group = node.to_dataset()
        name = str(group.attrs.get("pathway", safe))
        if pathways is not None and name not in pathways:
            continue
        weight = group["weight"]
        first = weight[0].values.astype(np.float64)
        norm = np.linalg.norm(first)
        block = max(1, BLOCK // max(1, first.nbytes))
        moved = []
        for start in range(0, weight.sizes["snapshot"], block):
            distance = weight[start : start + block].values - first
            moved += list(np.sqrt(np.square(distance).reshape(len(distance), -1).sum(1)))
        coords = {"snapshot": group["snapshot"].values, "pathway": name}
        coords["observers_seen"] = ("snapshot", group["observers_seen"].values)
        relative = np.array(moved) / norm if norm else np.full(len(moved), np.nan)
        drifts.append(xr.DataArray(relative, coords, ["snapshot"], name="drift"))
    if not drifts:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no weights were recorded")
    return xr.concat(drifts, "pathway", join="outer").transpose("snapshot", "pathway")
