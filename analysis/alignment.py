"""Alignment of local with backprop-derived updates, from a stored trajectory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.construction import excluding_by_construction, marked_by_construction
from analysis.distances import weight_drift as weight_drift
from neurossl.errors import TrajectoryError
from neurossl.measures import compare_updates
from neurossl.surroundings import imported


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
        not trustworthy, ``attrs["unjudged"]`` of how many that is unknown. The
        coordinate ``by_construction`` says which comparisons are 1 whatever is learned (`excluding_by_construction`).

    Raises
    ------
    TrajectoryError
        If the run was recorded without a reference.
    """
    measures = marked_by_construction(tree)
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


def positive_fraction(tree: xr.DataTree, dim: str | Sequence[str] = "event", trusted_only: bool = True) -> xr.Dataset:
    """Return in which part of the recorded comparisons update and reference have a positive inner product (M6).

    ``<d, g> > 0`` at a pathway means an angle of less than 90 degrees. Where the sum over all pathways is positive, a small
    enough step of the whole network descends the objective: its change is ``-eta sum <d, g> + O(eta^2)``.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    dim : str or sequence of str
        Over which comparisons are counted; "event" keeps seeds apart, ("event", "seed") pools them.
    trusted_only : bool
        Leave out what is not trustworthy at a pathway; the inner product of the network counts all.

    Returns
    -------
    Dataset
        Along pathways: ``fraction``, Wilson's 95 % interval ``lower`` and ``upper``, ``count``; of the network:
        ``network_fraction``, ... Comparisons that are 1 by construction are left out at the pathways, NaN with a count of 0.

    Raises
    ------
    TrajectoryError
        If no alignment was recorded, or not along ``dim``.

    Notes
    -----
    The interval is over comparisons as if they were independent; those of one run follow on each other, and seeds are what
    another laboratory would repeat.
    """
    measures = alignment_over_training(tree, trusted_only)
    over = [dim] if isinstance(dim, str) else list(dim)
    for name in ("cosine", "update_norm", "reference_norm"):
        if name not in measures:
            raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: positive_fraction needs {name!r}, not recorded")
    cosine = excluding_by_construction(measures["cosine"])
    missing = [name for name in over if name not in cosine.dims]
    if missing or "pathway" in over:
        lies = ", ".join(str(name) for name in cosine.dims if name != "pathway")
        raise TrajectoryError(f"positive_fraction: expected dim of {lies}, got {dim!r}")
    found = _fraction(cosine, over)
    network = _fraction(_whole_inner_product(alignment_over_training(tree, False)), over)
    return found.merge(network.rename({name: f"network_{name}" for name in network.data_vars}))


def _fraction(values: xr.DataArray, over: list[str]) -> xr.Dataset:
    """Return which part of the values is positive, with Wilson's interval."""
    count = values.notnull().sum(over)
    positive = (values > 0).sum(over)
    binomtest = imported("scipy.stats").binomtest

    def limits(hits: int, trials: int) -> tuple[float, float]:
        if not trials:
            return np.nan, np.nan
        low, high = binomtest(int(hits), int(trials)).proportion_ci(0.95, "wilson")
        return float(low), float(high)

    low, high = xr.apply_ufunc(
        limits, positive, count, output_core_dims=[[], []], vectorize=True, dask="parallelized", output_dtypes=[float, float]
    )
    fraction = positive / count.where(count > 0)
    return xr.Dataset({"fraction": fraction, "lower": low, "upper": high, "count": count})


def _whole_inner_product(measures: xr.Dataset) -> xr.DataArray:
    """Return ``sum over pathways of <d, g>``; NaN where a pathway of the run was not recorded."""
    norms = measures["update_norm"] * measures["reference_norm"]
    product = (measures["cosine"] * norms).where(norms != 0, norms)  # a zero update has no cosine, but an inner product
    there = product.notnull().any("event")
    return product.sum("pathway").where((product.notnull() | ~there).all("pathway") & product.notnull().any("pathway"))


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
