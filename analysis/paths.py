"""Where learning leads: how far the weights have moved, and whether as in the run of another rule.

The *change* of a pathway's weights is ``D(t) = W(t) - W(0)``, with W(0) the first recorded snapshot. Of two runs from the
same initial weights, a rule's and a reference's (of backprop), the accumulated alignment is

    cos(t) = <D(t), D_ref(t)> / (|D(t)| |D_ref(t)|),

at equal numbers of observers seen. It is not the alignment of single updates: those are compared at the weights of one
run, this at the end of two paths, along which small differences may cancel or add up.

The ceiling is not 1: backprop itself, from the same initial weights but on another stream of stimuli, ends elsewhere (on
the digits, after 360 moments, at a cosine of 0.24 to 0.53 with its twin where it is supervised, of 0.55 to 0.64 where it is
contrastive; one seed each). Without such a run beside it, a cosine below 1 does not say that a rule differs from backprop;
and a rule that saw the very same stimuli has the advantage of it.

Chance has three levels, each the standard deviation of a cosine whose mean is 0 (closed forms, with O a random rotation,
since ``Var tr(O M) = |M|^2 / dim`` for O uniform on the orthogonal group; Collins & Sniady 2006, Commun. Math. Phys. 264,
773):

    chance                  1 / sqrt(n): the change has any direction among the n synapses
    chance_shared_inputs    |D D_ref^T| / (sqrt(post) |D| |D_ref|): it has any rotation O D of its postsynaptic neurons, but
                            reads the same presynaptic directions, as two runs on the same stimuli do without any relation
    chance_shared_outputs   |D^T D_ref| / (sqrt(pre) |D| |D_ref|): the same with any rotation D O of what is presynaptic

with the Frobenius norm. ``1 / chance^2`` is the number of effective dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.pairing import (
    Pairs,
    common_moments,
    incomparable,
    no_common_moments,
    on_own_snapshots,
    ratio,
    rule_named,
    with_partners,
)
from analysis.pathway_weights import Measures, RunWeights, changes, pathway_weights, recorded_pathways
from neurossl.errors import OptionError, TrajectoryError


def accumulated_alignment(
    tree: xr.DataTree,
    reference: xr.DataTree | str | Mapping[str, str],
    pathways: str | Sequence[str] | None = None,
    pairing: str = "seed",
    ceiling: xr.DataTree | str | Mapping[str, xr.DataTree | str] | None = None,
) -> xr.Dataset:
    """Return how close the accumulated change of the weights is to that of a reference run, (..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    reference : DataTree, str, or mapping of str to str
        The tree of the reference run (or of its seeds), the name of a rule in ``tree``, or of one for each rule, as
        `own_references` returns it (a rule that is not named there is left out).
    pathways : str or sequence of str, optional
        All recorded ones by default.
    pairing : {"seed", "other seed"}
        Each run with the reference of its own seed; or with that of the next seed, from other initial weights: what a cosine
        of unrelated runs looks like, to be held against the closed forms.
    ceiling : DataTree, str, or mapping of str to either, optional
        A twin of the reference: the same rule from the same initial weights on other stimuli, as a tree or as the name of
        a rule in ``tree``; where rules have different references, {reference: twin}.

    Returns
    -------
    Dataset
        ``cosine``; ``relative_distance`` ``|D - D_ref| / |D_ref|`` (0 at the reference, 1 where it is as far as the
        start); ``norm_ratio`` ``|D| / |D_ref|``; ``chance``, ``chance_shared_inputs``, ``chance_shared_outputs`` (see the
        module; the last two NaN where only some synapses were recorded); ``reason`` (..., pathway), why there is nothing,
        or "". NaN at snapshots at which the reference has not been recorded at as many observers (nothing is
        interpolated), at the start, and where a path has not moved. The coordinate ``by_construction`` (rule) says which
        rule is its own reference.

    Raises
    ------
    TrajectoryError
        If nothing can be compared: other initial weights, no common moments, other synapses, no run of that seed; says
        which.
    OptionError
        If ``pairing`` is neither.

    Notes
    -----
    Biases are left out. Pathways are kept apart: over all synapses together the widest pathway would decide.
    """
    if pairing not in ("seed", "other seed"):
        raise OptionError(f"pairing: expected 'seed' or 'other seed', got {pairing!r}")
    weights = pathway_weights(tree, pathways)
    pairs = Pairs.of(tree, reference, other=pairing == "other seed")
    together = with_partners(weights, pairs, _alignment).assign_attrs(pairing=pairing, reference=pairs.text)
    for name, (long_name, units) in _ALIGNMENT.items():
        together[name].attrs |= {"long_name": long_name, "units": units}
    if ceiling is not None:
        together["ceiling"] = _ceiling(tree, pairs, ceiling, together)
    if "rule" in together.coords and together["rule"].ndim:
        own = [pairs.rule_of(rule) == rule for rule in together["rule"].values]
        together = together.assign_coords(by_construction=("rule", own))
    return together


_ALIGNMENT = {
    "cosine": ("cosine of the accumulated change with that of the reference run", "1"),
    "relative_distance": ("distance from the weights of the reference over the distance that those have moved", "1"),
    "norm_ratio": ("norm of the accumulated change over that of the reference run", "1"),
    "chance": ("standard deviation of the cosine of unrelated changes, every direction alike", "1"),
    "chance_shared_inputs": ("the same for unrelated postsynaptic neurons that read the same presynaptic directions", "1"),
    "chance_shared_outputs": (
        "the same for unrelated presynaptic neurons that write to the same postsynaptic directions",
        "1",
    ),
}


def _ceiling(
    tree: xr.DataTree, pairs: Pairs, ceiling: xr.DataTree | str | Mapping[str, xr.DataTree | str], like: xr.Dataset
) -> xr.DataArray:
    """Return the cosine of the references with their twins, on the axes of what it is the ceiling of."""
    references: list[Any] = [None] if pairs.rules is None else list(dict.fromkeys(pairs.rules.values()))
    known = ", ".join(map(str, references))
    if isinstance(ceiling, xr.DataTree | str):
        if len(references) > 1:
            raise TrajectoryError(f"there are several references: give ceiling={{reference: twin}} of {known}")
        twins: dict[Any, xr.DataTree | str] = {references[0]: ceiling}
    else:
        twins = dict(ceiling)
    for reference in twins:
        if reference not in references:
            raise TrajectoryError(f"ceiling names {reference!r}, which is no reference here; there are {known}")
    found = {name: _twin(tree, pairs, name, twin, like).reindex(snapshot=like["snapshot"]) for name, twin in twins.items()}
    if pairs.rules is None:
        return found[None]
    empty = xr.full_like(next(iter(found.values())), np.nan)
    each = [found.get(pairs.rules.get(str(rule)), empty) for rule in like["rule"].values]
    return xr.concat(each, "rule").assign_coords(rule=like["rule"].values)


def _twin(tree: xr.DataTree, pairs: Pairs, reference: str | None, twin: xr.DataTree | str, like: xr.Dataset) -> xr.DataArray:
    """Return the cosine of a reference with its twin, without the dim rule."""
    if isinstance(twin, str):
        rule = rule_named(tree, twin)
        weights = pathway_weights(tree, list(like["pathway"].values))
        partners = pairs if reference is None else Pairs(pairs.tree, {rule: reference}, None, False, pairs.text)
        cosine = with_partners(weights, partners, _alignment)["cosine"].sel(rule=rule)
    else:
        weights = pathway_weights(twin, [name for name in recorded_pathways(twin) if name in like["pathway"].values])
        partners = Pairs(pairs.tree, None, twin.attrs.get("seed"), False, pairs.text, reference)
        cosine = with_partners(weights, partners, _alignment)["cosine"]
        cosine = cosine.isel(rule=0) if "rule" in cosine.dims else cosine
    return cosine.reset_coords(drop=True).reindex(pathway=like["pathway"].values)


def _alignment(run: RunWeights, partner: RunWeights) -> Measures:
    """Return the measures of `accumulated_alignment` for a run and that of its reference; the reason if there are none."""
    rows, theirs = common_moments(run, partner)
    same_seed = run.where.get("seed") == partner.where.get("seed")
    reason = incomparable(run, partner, start="seed" not in run.where or same_seed)
    if not reason and not (rows > 0).any():
        reason = no_common_moments(run, partner)
    if reason:
        return {"reason": ((), np.asarray(reason))}
    products, own, others, apart = (np.zeros(len(rows)) for _ in range(4))
    for which, (change, aim) in changes([run, partner], [rows, theirs]):
        products[which] += (change * aim).sum(1)
        own[which] += np.square(change).sum(1)
        others[which] += np.square(aim).sum(1)
        apart[which] += np.square(change - aim).sum(1)
    norms = np.sqrt(own) * np.sqrt(others)
    moved = norms > 0
    values = {
        "cosine": ratio(products, norms),
        "relative_distance": ratio(np.sqrt(apart), np.sqrt(others)),
        "norm_ratio": ratio(np.sqrt(own), np.sqrt(others)),
        "chance": np.where(moved, 1 / np.sqrt(run.synapses), np.nan),
        **_structured_chance(run, partner, rows, theirs, norms),
    }
    return {"reason": ((), np.asarray("")), **on_own_snapshots(run, rows, values)}


def _structured_chance(
    run: RunWeights, partner: RunWeights, rows: np.ndarray, theirs: np.ndarray, norms: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the chance levels under rotations of the postsynaptic and of the presynaptic side."""
    found = {name: np.full(len(rows), np.nan) for name in ("chance_shared_inputs", "chance_shared_outputs")}
    if run.kept is not None:
        return found
    for at in np.flatnonzero(norms > 0):
        change, aim = run.matrix(int(rows[at]), 0), partner.matrix(int(theirs[at]), 0)
        post, pre = change.shape
        inputs = np.linalg.norm(change @ aim.T)
        # |A^T B|^2 = <A A^T, B B^T>: of the two, the smaller products.
        outputs = np.sqrt(np.sum((change @ change.T) * (aim @ aim.T))) if post < pre else np.linalg.norm(change.T @ aim)
        found["chance_shared_inputs"][at] = inputs / np.sqrt(post) / norms[at]
        found["chance_shared_outputs"][at] = outputs / np.sqrt(pre) / norms[at]
    return found
