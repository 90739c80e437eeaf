"""Where learning leads: how far the weights have moved, and whether as in the run of another rule.

The *change* of a pathway's weights is ``D(t) = W(t) - W(0)``, with W(0) the first recorded snapshot. Of two runs from the
same initial weights, a rule's and a reference's (of backprop), the accumulated alignment is

    cos(t) = <D(t), D_ref(t)> / (|D(t)| |D_ref(t)|),

at equal numbers of observers seen. It is not the alignment of single updates: those are compared at the weights of one
run, this at the end of two paths, along which small differences may cancel or add up.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from analysis.pathway_weights import (
    Measures,
    PathwayWeights,
    RunWeights,
    beside,
    changes,
    over_pathways,
    parts,
    pathway_weights,
)
from neurossl.errors import OptionError, TrajectoryError

SAME_START = 1e-6
"""Largest relative difference of initial weights that are the same: those of a rounding to float32."""


def weight_drift(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.DataArray:
    """Return how far the weights are from the first snapshot, ``|W(t) - W(0)| / |W(0)|``, (..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        Names; all recorded ones by default. Some `pathway_weights.MEMORY` bytes are held at a time.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """
    return _relative(distance_to_start(tree, pathways)).rename("drift")


def distance_to_start(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return ``distance`` ``|W(t) - W(0)|``, (..., snapshot, pathway), and ``initial_norm`` ``|W(0)|``, (..., pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """

    def measure(run: RunWeights) -> Measures:
        squares = np.zeros(len(run.rows))
        for which, (change,) in changes([run], [np.arange(len(run.rows))]):
            squares[which] += np.square(change).sum(1)
        return {"distance": (("snapshot",), np.sqrt(squares)), "initial_norm": ((), np.asarray(_norm(run, 0)))}

    return over_pathways(pathway_weights(tree, pathways), measure)


def own_references(tree: xr.DataTree) -> dict[str, str]:
    """Return, for each rule of a tree of many runs, the rule that its manifest names as its reference, where it is there.

    Parameters
    ----------
    tree : DataTree
        Of many runs, with ``reference`` (and ``label``) along ``rule``.

    Returns
    -------
    dict of str to str
        Rule -> rule. A rule without a reference (backprop itself) is its own.
    """
    rules, references, labels = (_along_rule(tree, name) for name in ("rule", "reference", "label"))
    if rules is None or references is None:
        raise TrajectoryError("the runs do not say what their references are: name one, or give {rule: reference}")
    names = {label: rule for known in (labels or rules, rules) for label, rule in zip(known, rules, strict=True)}
    found = {rule: names.get(reference) for rule, reference in zip(rules, references, strict=True)}
    own = {rule: rule for rule, said in zip(rules, references, strict=True) if said in ("", "None", "nan")}
    return own | {rule: reference for rule, reference in found.items() if reference is not None}


def accumulated_alignment(
    tree: xr.DataTree,
    reference: xr.DataTree | str | Mapping[str, str],
    pathways: str | Sequence[str] | None = None,
    pairing: str = "seed",
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
    pairs = _Pairs.of(tree, reference, other=pairing == "other seed")
    together = _with_partners(weights, pairs, _alignment).assign_attrs(pairing=pairing, reference=pairs.text)
    for name, (long_name, units) in _ALIGNMENT.items():
        together[name].attrs |= {"long_name": long_name, "units": units}
    if "rule" in together.coords and together["rule"].ndim:
        own = [pairs.rule_of(rule) == rule for rule in together["rule"].values]
        together = together.assign_coords(by_construction=("rule", own))
    return together


def distance_to_end(
    tree: xr.DataTree, reference: xr.DataTree | str | Mapping[str, str], pathways: str | Sequence[str] | None = None
) -> xr.Dataset:
    """Return how far the weights are from where the reference run ends, (..., snapshot, pathway).

    Parameters
    ----------
    tree, reference, pathways
        As for `accumulated_alignment`.

    Returns
    -------
    Dataset
        ``distance`` ``|W(t) - W_ref(end)|``, and ``relative_distance``, by the distance from the start to that end:
        1 at the start, 0 there, more than 1 for a path that leads away from it.

    Raises
    ------
    TrajectoryError
        If nothing can be compared.
    """
    weights = pathway_weights(tree, pathways)
    pairs = _Pairs.of(tree, reference)

    return _with_partners(weights, pairs, _from_end).assign_attrs(reference=pairs.text)


def distance_between(tree: xr.DataTree, pathways: str | Sequence[str] | None = None, dim: str = "rule") -> xr.Dataset:
    """Return how far any two rules are from each other at equal observers, (rule, other, ..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of many runs.
    pathways : str or sequence of str, optional
    dim : str
        Along which the runs lie that are compared; all other labels (the seed) are equal.

    Returns
    -------
    Dataset
        ``distance`` ``|W_a(t) - W_b(t)|``; ``relative_distance``, of the changes, ``|D_a - D_b| / sqrt(|D_a|^2 + |D_b|^2)``
        (0: the same, 1: at right angles, sqrt(2): opposite); ``cosine`` of the changes. The coordinate ``other`` holds the
        second rule. Pairs from other initial weights or with other synapses are NaN.

    Raises
    ------
    TrajectoryError
        If the tree has no such dim, or no pair of runs can be compared.
    """
    weights = pathway_weights(tree, pathways)
    found = []
    for one in weights:
        if dim not in one.carried:
            raise TrajectoryError(f"{one.name}: there are no several runs along {dim!r}; expected the tree of many runs")
        place = one.carried.index(dim)
        others = []
        for other in range(one.weight.sizes[dim]):

            def measure(run: RunWeights, other: int = other, one: PathwayWeights = one, place: int = place) -> Measures:
                partner = one.at((*run.place[:place], other, *run.place[place + 1 :]))
                return {} if partner is None or _incomparable(run, partner) else _apart(run, partner)

            others.append(one.dataset(measure))
        labels = one.weight[dim].values if dim in one.weight.coords else np.arange(one.weight.sizes[dim])
        known = [o for o in others if o.data_vars]
        if not known:
            continue
        empty = xr.full_like(known[0], np.nan)
        found.append(xr.concat([o if o.data_vars else empty for o in others], "other", coords="minimal", compat="override"))
        found[-1] = found[-1].assign_coords(other=labels)
    if len(found) < len(weights):
        raise TrajectoryError("no two runs can be compared: they differ in their initial weights or in what was recorded")
    return beside(weights, found).transpose(dim, "other", ...)


@dataclass(frozen=True)
class _Pairs:
    """Which run of a reference belongs to a run.

    Attributes
    ----------
    tree : DataTree
        That holds the reference.
    rules : dict of str to str, or None
        The reference of each rule where they are in one tree; None for a tree of its own.
    alone : int or None
        The seed of the run that is compared, where its tree holds no other.
    other : bool
        Pair with the next seed.
    """

    tree: xr.DataTree
    rules: Mapping[str, str] | None
    alone: Any
    other: bool
    text: str
    known: dict[str, PathwayWeights] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tree: xr.DataTree, reference: xr.DataTree | str | Mapping[str, str], other: bool = False) -> _Pairs:
        if isinstance(reference, xr.DataTree):
            text = str(reference.attrs.get("rule", "the reference"))
            return cls(reference, None, tree.attrs.get("seed"), other, text)
        rules = _along_rule(tree, "rule")
        if rules is None:
            raise TrajectoryError(f"the tree of one run has no rule {reference!r}: give the tree of the reference run")
        labels = dict(zip(_along_rule(tree, "label") or rules, rules, strict=True)) | {rule: rule for rule in rules}
        asked = dict.fromkeys(rules, reference) if isinstance(reference, str) else dict(reference)
        for name in (*asked, *asked.values()):
            if name not in labels:
                raise TrajectoryError(f"there is no rule {name!r}; there are {', '.join(rules)}")
        chosen = {labels[rule]: labels[name] for rule, name in asked.items()}
        text = labels[reference] if isinstance(reference, str) else ", ".join(f"{r}: {n}" for r, n in chosen.items())
        return cls(tree, chosen, None, other, text)

    def rule_of(self, rule: str) -> str | None:
        return None if self.rules is None else self.rules.get(rule)

    def partner(self, run: RunWeights, one: PathwayWeights) -> RunWeights | str:
        """Return the run of the reference that belongs to a run, or why there is none."""
        if self.rules is not None and run.where["rule"] not in self.rules:
            return f"rule {run.where['rule']} has no reference here"
        weights = self._weights(one.name)
        if weights is None:
            return "not recorded in the reference"
        place = []
        for dim in weights.carried:
            labels = [label.item() for label in weights.weight[dim].values]
            if dim == "rule" and self.rules is not None:
                wanted = self.rules[run.where["rule"]]
            elif dim == "rule" and len(labels) == 1:
                wanted = labels[0]
            elif dim == "rule":
                raise TrajectoryError(f"the reference has several rules ({', '.join(map(str, labels))}): select one of them")
            else:
                known = run.where.get(dim, self.alone if dim == "seed" else None)
                wanted = labels[0] if known is None and len(labels) == 1 else known
            if wanted not in labels:
                return f"the reference has no run of {dim} {wanted} (it has {', '.join(map(str, labels))})"
            at = labels.index(wanted)
            if dim == "seed" and self.other:
                if len(labels) < 2:
                    return "the reference has no other seed"
                at = (at + 1) % len(labels)
            place.append(at)
        if self.other and "seed" not in weights.carried:
            raise TrajectoryError("pairing='other seed' needs several seeds of the reference")
        seed = self._seed(weights)
        if seed is not None and "seed" in run.where and seed != run.where["seed"]:
            return f"the reference is of seed {seed}"
        return weights.at(tuple(place)) or "not recorded in the reference"

    def _weights(self, name: str) -> PathwayWeights | None:
        if not self.known:
            self.known.update({one.name: one for one in pathway_weights(self.tree)})
        return self.known.get(name)

    def _seed(self, weights: PathwayWeights) -> Any:
        """Return the seed of a reference that is a single run, if it says so."""
        if "seed" in weights.carried:
            return None
        if "seed" in weights.weight.coords and not weights.weight["seed"].ndim:
            return weights.weight["seed"].item()
        return self.tree.attrs.get("seed")


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


def _with_partners(
    weights: Sequence[PathwayWeights], pairs: _Pairs, compare: Callable[[RunWeights, RunWeights], Measures]
) -> xr.Dataset:
    """Return what comes of every run and that of its reference, with ``reason`` where nothing does.

    Raises
    ------
    TrajectoryError
        If nothing comes of any.
    """

    def measure(one: PathwayWeights, run: RunWeights) -> Measures:
        partner = pairs.partner(run, one)
        return {"reason": ((), np.asarray(partner))} if isinstance(partner, str) else compare(run, partner)

    found = [one.dataset(partial(measure, one)) for one in weights]
    if all(set(one.data_vars) <= {"reason"} for one in found):
        told = {f"{w.name}: {r}": None for w, f in zip(weights, found, strict=True) for r in _reasons(f)}
        raise TrajectoryError(f"nothing to compare with the reference: {'; '.join(list(told)[:4]) or 'no weights'}")
    together = beside(weights, found)
    measured = together[next(name for name in together.data_vars if name != "reason")]
    reason = together["reason"].fillna("").astype(str)
    return together.assign(
        reason=reason.where((reason != "") | measured.notnull().any("snapshot"), "not recorded, or not moved")
    )


def _alignment(run: RunWeights, partner: RunWeights) -> Measures:
    """Return the measures of `accumulated_alignment` for a run and that of its reference; the reason if there are none."""
    rows, theirs = _common(run, partner)
    same_seed = run.where.get("seed") == partner.where.get("seed")
    reason = _incomparable(run, partner, start="seed" not in run.where or same_seed)
    if not reason and not (rows > 0).any():
        reason = f"no common moments: at {_listed(run.seen)} observers, the reference at {_listed(partner.seen)}"
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
        "cosine": _ratio(products, norms),
        "relative_distance": _ratio(np.sqrt(apart), np.sqrt(others)),
        "norm_ratio": _ratio(np.sqrt(own), np.sqrt(others)),
        "chance": np.where(moved, 1 / np.sqrt(run.synapses), np.nan),
        **_structured_chance(run, partner, rows, theirs, norms),
    }
    whole = {name: np.full(len(run.rows), np.nan) for name in values}
    for name, found in values.items():
        whole[name][rows] = found
    return {"reason": ((), np.asarray("")), **{name: (("snapshot",), found) for name, found in whole.items()}}


def _from_end(run: RunWeights, partner: RunWeights) -> Measures:
    """Return the measures of `distance_to_end`."""
    if reason := _incomparable(run, partner):
        return {"reason": ((), np.asarray(reason))}
    count = len(run.rows)
    apart, whole = np.zeros(count), np.zeros(count)
    for which, (change, goal) in changes([run, partner], [np.arange(count), np.full(count, len(partner.rows) - 1)]):
        apart[which] += np.square(change - goal).sum(1)
        whole[which] += np.square(goal).sum(1)
    distance, relative = np.sqrt(apart), _ratio(np.sqrt(apart), np.sqrt(whole))
    return {
        "reason": ((), np.asarray("")),
        "distance": (("snapshot",), distance),
        "relative_distance": (("snapshot",), relative),
    }


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


def _apart(run: RunWeights, partner: RunWeights) -> Measures:
    """Return distance and cosine of two runs at their common moments, on the snapshots of the first."""
    rows, theirs = _common(run, partner)
    sums = {name: np.zeros(len(rows)) for name in ("product", "own", "others", "apart")}
    for which, (a, b) in changes([run, partner], [rows, theirs]):
        sums["product"][which] += (a * b).sum(1)
        sums["own"][which] += np.square(a).sum(1)
        sums["others"][which] += np.square(b).sum(1)
        sums["apart"][which] += np.square(a - b).sum(1)
    apart = np.sqrt(sums["apart"])
    values = {
        "distance": apart,
        "relative_distance": _ratio(apart, np.sqrt(sums["own"] + sums["others"])),
        "cosine": _ratio(sums["product"], np.sqrt(sums["own"]) * np.sqrt(sums["others"])),
    }
    whole = {name: np.full(len(run.rows), np.nan) for name in values}
    for name, found in values.items():
        whole[name][rows] = found
    return {name: (("snapshot",), found) for name, found in whole.items()}


def _common(run: RunWeights, partner: RunWeights) -> tuple[np.ndarray, np.ndarray]:
    """Return which recorded snapshots of two runs were taken at as many observers seen."""
    _, rows, theirs = np.intersect1d(run.seen, partner.seen, return_indices=True)
    return rows, theirs


def _incomparable(run: RunWeights, partner: RunWeights, start: bool = True) -> str:
    """Return why the paths of two runs cannot be compared, or ""."""
    if run.shape != partner.shape or run.weight.dims != partner.weight.dims:
        return f"of shape {run.shape}, in the reference {partner.shape}"
    if run.chosen != partner.chosen:
        return "other synapses were chosen than in the reference"
    if run.seen[0] != partner.seen[0]:
        return f"first recorded at {run.seen[0]:g} observers, the reference at {partner.seen[0]:g}"
    if not start:
        return ""
    squares = norm = 0.0
    for part in parts([run, partner], 1):
        mine, other = run.read(np.array([0]), part), partner.read(np.array([0]), part)
        squares += float(np.square(mine - other).sum())
        norm += float(np.square(other).sum())
    if np.sqrt(squares) > SAME_START * np.sqrt(norm):
        apart = np.sqrt(squares / norm) if norm else np.inf
        return f"other initial weights than the reference (|W(0) - W_ref(0)| / |W_ref(0)| = {apart:.2g})"
    return ""


def _norm(run: RunWeights, which: int) -> float:
    return float(np.sqrt(sum(np.square(run.read(np.array([which]), part)).sum() for part in parts([run], 1))))


def _ratio(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return a quotient, NaN where it would be one by 0."""
    return np.divide(values, by, out=np.full(values.shape, np.nan), where=by > 0)


def _relative(found: xr.Dataset) -> xr.DataArray:
    return found["distance"] / found["initial_norm"].where(found["initial_norm"] > 0)


def _reasons(found: xr.Dataset) -> list[str]:
    return [str(r) for r in np.unique(found["reason"].values.astype(str)) if r] if "reason" in found else []


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in values[:4]) + (", ..." if len(values) > 4 else "")


def _along_rule(tree: xr.DataTree, name: str) -> list[str] | None:
    """Return a coordinate along ``rule``, wherever in the tree it is, or None."""
    for node in tree.subtree:
        if name in node.coords and "rule" in node.dims and node.coords[name].dims in (("rule",), ()):
            return [str(value) for value in np.broadcast_to(node.coords[name].values, node.sizes["rule"])]
    return None
