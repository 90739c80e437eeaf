"""Alignment of local with backprop-derived updates, and how far the weights have moved, from a stored trajectory."""

from collections.abc import Mapping, Sequence
from typing import Any

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
        Of one run or of many.
    trusted_only : bool
        Replace what is not trustworthy by NaN. What was never judged, as by recorders that store no ``trustworthy``, stays.

    Returns
    -------
    Dataset
        cosine, angle (degrees), norm_ratio, sign_agreement, relative_error, ... ([rule, seed,] event, pathway); where it was
        stored, ``trustworthy`` is 1, 0, or NaN where nothing was recorded. ``attrs["masked"]`` says how many comparisons are
        not trustworthy, ``attrs["unjudged"]`` of how many that is unknown.

    Raises
    ------
    TrajectoryError
        If the run was recorded without a reference.
    """
    if "alignment" not in tree.children:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no alignment was recorded (the rule has no reference)")
    measures = tree.children["alignment"].to_dataset(inherit=True)
    recorded = measures["cosine"].notnull() if "cosine" in measures else None
    if "trustworthy" not in measures:
        return measures.assign_attrs(masked=0, unjudged=0 if recorded is None else int(recorded.sum()))
    said = measures["trustworthy"].astype(float)
    doubted = said == 0
    known = said.notnull() if recorded is None else recorded
    masked, unjudged = int((known & doubted).sum()), int((known & said.isnull()).sum())
    if trusted_only:
        kept = [name for name in measures.data_vars if name not in ABOUT_TRUST and measures[name].dtype.kind == "f"]
        measures = measures.assign({name: measures[name].where(~doubted) for name in kept})
    return measures.assign(trustworthy=said.assign_attrs(measures["trustworthy"].attrs)).assign_attrs(
        masked=masked, unjudged=unjudged
    )


ABOUT_TRUST = ("trustworthy", "untrusted_because", "activity_growth")
"""Variables that say whether a comparison is trusted, and why not: they are never hidden by it."""


def why_untrusted(alignment: xr.Dataset) -> dict[str, int]:
    """Return for how many comparisons each reason not to trust them was stored; "unknown" where none was.

    Parameters
    ----------
    alignment : Dataset
        The group of a tree, of one run or of many, or what `alignment_over_training` returns.
    """
    if "trustworthy" not in alignment:
        return {}
    doubted = (alignment["trustworthy"].astype(float) == 0).values
    if "cosine" in alignment and "untrusted_because" not in alignment and alignment["trustworthy"].dtype.kind == "b":
        doubted &= alignment["cosine"].notnull().values
    if not doubted.any():
        return {}
    codes = np.full(doubted.shape, np.nan)
    meanings: dict[int, str] = {}
    if "untrusted_because" in alignment:
        because = alignment["untrusted_because"].transpose(*alignment["trustworthy"].dims)
        codes = because.values.astype(float)
        meanings = _meanings(because.attrs)
    words = [meanings.get(int(code), "unknown") if np.isfinite(code) and code else "unknown" for code in codes[doubted]]
    return {word: words.count(word) for word in dict.fromkeys(words)}


def _meanings(attributes: Mapping[Any, Any]) -> dict[int, str]:
    """Return what flags mean, by CF's ``flag_values`` and ``flag_meanings``: words joined by underscores."""
    values = np.atleast_1d(attributes.get("flag_values", []))
    said = attributes.get("flag_meanings", "")
    meanings = said.split() if isinstance(said, str) else [str(word) for word in said]
    return {int(value): word.replace("_", " ") for value, word in zip(values, meanings, strict=False)}


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
    """Return how far the weights are from the first snapshot, ``|W(t) - W(0)| / |W(0)|``, ([rule, seed,] snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : sequence of str, optional
        Names; all recorded ones by default. At most some `BLOCK` bytes are read at a time.

    Raises
    ------
    TrajectoryError
        If no weights were recorded, or none of one of these pathways; names those there are.
    """
    groups = tree.children["weights"].children if "weights" in tree.children else {}
    there = {str(node.attrs.get("pathway", safe)): node for safe, node in groups.items() if "weight" in node.data_vars}
    if not there:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no weights were recorded")
    if isinstance(pathways, str):
        raise TrajectoryError(f"pathways is {pathways!r}: expected a list of names, as [{pathways!r}]")
    wanted = list(there if pathways is None else pathways)
    if unknown := [name for name in wanted if name not in there]:
        raise TrajectoryError(f"no weights of {unknown[0]!r} were recorded: there are those of {', '.join(there)}")
    drifts = [_drift_of(there[name].to_dataset(inherit=True)) for name in wanted]
    if not drifts:
        raise TrajectoryError("pathways is empty: expected names, or none for all that were recorded")
    found = side_by_side(drifts, xr.Variable("pathway", np.array(wanted, str)))
    return found.transpose(..., "snapshot", "pathway").rename("drift")


def _drift_of(group: xr.Dataset) -> xr.DataArray:
    weight = group["weight"]
    axis = weight.get_axis_num("snapshot")
    moved = np.full(weight.shape[: axis + 1], np.nan)
    for place in np.ndindex(moved.shape[:-1]):
        moved[place] = _drift_of_run(weight[place])
    dims = weight.dims[: axis + 1]
    coords = {str(name): value for name, value in group.coords.items() if set(value.dims) <= set(dims)}
    named = {"units": "1", "long_name": "distance of the weights from the first snapshot over their norm there"}
    return xr.DataArray(moved, coords, dims, name="drift", attrs=named)


def _drift_of_run(weight: xr.DataArray) -> np.ndarray:
    """Return the relative distance of every snapshot from the first that was recorded; NaN for those that were not."""
    count = weight.sizes["snapshot"]
    moved = np.full(count, np.nan)
    first: np.ndarray | None = None
    norm = 0.0
    block = max(1, BLOCK // max(1, 8 * weight[0].size)) if count else 1
    for start in range(0, count, block):
        read = weight[start : start + block].values.astype(np.float64).reshape(min(block, count - start), -1)
        there = ~np.isnan(read).all(1) if read.shape[1] else np.zeros(len(read), bool)
        if first is None:
            if not there.any():
                continue
            first = read[there.argmax()]
            norm = float(np.sqrt(np.nansum(np.square(first))))
        held = ~np.isnan(first)  # synapses that other runs recorded and this one did not
        moved[start : start + len(read)][there] = np.sqrt(np.square(read[there][:, held] - first[held]).sum(1))
    return moved / norm if norm else np.full(count, np.nan)


MOMENTS = ("time", "observers_seen")
"""Coordinates that say when an event was."""


def side_by_side(arrays: Sequence[xr.DataArray], along: xr.Variable) -> xr.DataArray:
    """Return arrays along a new dimension, at the moments of all: NaN where one has none, but never in when that was.

    Parameters
    ----------
    arrays : sequence of DataArray
        Along event or snapshot, with the coordinates time and observers_seen.
    along : Variable, 1-D
        The labels of the new dimension.
    """
    plain = [array.drop_vars([name for name in MOMENTS if name in array.coords]) for array in arrays]
    found = xr.concat(plain, along, join="outer", coords="minimal", compat="override")
    for name in MOMENTS:
        known = [array.coords[name].reset_coords(drop=True) for array in arrays if name in array.coords]
        if known:
            whole = known[0]
            for other in known[1:]:
                if not whole.equals(other):
                    whole = whole.combine_first(other)
            exact = bool(whole.notnull().all()) and known[0].dtype.kind in "iu"
            found = found.assign_coords({name: whole.astype(known[0].dtype) if exact else whole})
    return found
