"""Alignment of local with backprop-derived updates, from a stored trajectory."""

import numpy as np
import xarray as xr

from analysis.distances import weight_drift as weight_drift
from neurossl.errors import TrajectoryError
from neurossl.measures import compare_updates


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
