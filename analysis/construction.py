"""Comparisons that are 1 by construction, and how to leave them out.

Where a rule and its reference compute the very same update whatever is learned (the top of a local rule against backprop of
its own objective, every pathway of backprop against itself), a cosine of 1 says nothing of how close the rule is to it.
The simulation notes these pathways (`neurossl.plasticity.construction`); they enter no mean, claim or correlation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError

NAME = "by_construction"
_ATTRIBUTES = {"units": "1", "long_name": "whether update and reference are equal by construction"}
_OBJECTIVES = {
    **dict.fromkeys(("BP-CLAPP", "bp-clapp", "BP-CLAPP++", "bp-clapp++"), ("contrastive",)),
    **dict.fromkeys(("BP-InfoNCE", "bp-infonce"), ("InfoNCE",)),
    **dict.fromkeys(("BP-goodness", "bp-ff"), ("goodness", "paired goodness")),
    **dict.fromkeys(("BP, supervised", "bp"), ("cross-entropy", "squared-error")),
}
"""By name of the reference, with what the objective begins that it shares."""


def equal_pathways(about: Mapping[Any, Any]) -> list[str]:
    """Return the pathways of a run whose update is that of the reference by construction.

    Parameters
    ----------
    about : mapping
        The manifest of a run, or the attributes of its tree.

    Notes
    -----
    Runs of versions that did not note them are judged by objective, transport and reference, as far as the words tell:
    backprop everywhere, local rules and feedback alignment at the top where the reference has the same objective.
    """
    noted = _plain(about.get(NAME))
    if noted is not None:
        return [str(name) for name in noted]
    objective, transport, reference = (str(about.get(key) or "") for key in ("objective", "transport", "reference"))
    network = _plain(about.get("network")) or {}
    pathways = [p["name"] for p in network.get("pathways", []) if p.get("kind", "feedforward") == "feedforward"]
    populations = [p["name"] for p in network.get("populations", []) if not p.get("input")]
    same = any(objective.startswith(word) for word in _OBJECTIVES.get(reference, ()))
    if not same or "both context" in objective:
        return []
    if transport == "backprop" or "Z-IL" in transport or "fixed predictions" in transport:
        return pathways
    if transport.startswith("none: own dendrite") or transport in ("feedback alignment", "direct feedback alignment"):
        return [name for name in pathways if populations and name.partition("->")[2].partition(":")[0] == populations[-1]]
    return []


def _plain(value: Any) -> Any:
    """Return a member of a manifest, which attributes hold as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def marked_by_construction(tree: xr.DataTree) -> xr.Dataset:
    """Return the table of alignment with the coordinate ``by_construction``, (pathway) or (rule, pathway), bool.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.

    Raises
    ------
    TrajectoryError
        If the run was recorded without a reference.
    """
    if "alignment" not in tree.children:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no alignment was recorded (the rule has no reference)")
    table = tree.children["alignment"].to_dataset(inherit=True)
    if NAME in table.coords:
        return table
    equal = equal_pathways(tree.attrs)
    marks = np.array([str(name) in equal for name in table["pathway"].values], bool)
    return table.assign_coords({NAME: ("pathway", marks, _ATTRIBUTES)})


Labelled = TypeVar("Labelled", xr.Dataset, xr.DataArray)


def excluding_by_construction(data: Labelled) -> Labelled:
    """Return measures with NaN at the pathways that are equal by construction.

    Parameters
    ----------
    data : Dataset or DataArray
        With the coordinate ``by_construction``: from `alignment_over_training`, `marked_by_construction`, or the table of
        many runs. What does not lie along pathways stays as it is.

    Raises
    ------
    TrajectoryError
        If it does not say which those are.
    """
    if NAME not in data.coords:
        raise TrajectoryError(
            "excluding_by_construction: the measures do not say which comparisons are 1 by construction: take them from "
            "alignment_over_training(tree), which marks them"
        )
    kept = ~data[NAME].astype(bool)
    if isinstance(data, xr.DataArray):
        return data.where(kept)
    along = set(kept.dims)
    return data.assign({name: v.where(kept) for name, v in data.data_vars.items() if along & set(v.dims)})
