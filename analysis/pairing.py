"""Which run of a reference belongs to a run, and whether the paths of the two can be compared.

Runs are paired by seed, and only paths from the same initial weights, with the same synapses, at equal numbers of
observers seen are compared. What cannot be compared says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from analysis.pathway_weights import Measures, PathwayWeights, RunWeights, beside, parts, pathway_weights
from neurossl.errors import TrajectoryError

SAME_START = 1e-6
"""Largest relative difference of initial weights that are the same: those of a rounding to float32."""


@dataclass(frozen=True)
class Pairs:
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
    text : str
        What the reference is called.
    only : str or None
        The one rule that is the reference of all, where the runs that are compared are not in its tree.
    """

    tree: xr.DataTree
    rules: Mapping[str, str] | None
    alone: Any
    other: bool
    text: str
    only: str | None = None
    known: dict[str, PathwayWeights] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tree: xr.DataTree, reference: xr.DataTree | str | Mapping[str, str], other: bool = False) -> Pairs:
        """Return the pairs that a reference means: a tree of its own, a rule of this tree, or one for each rule."""
        if isinstance(reference, xr.DataTree):
            text = str(reference.attrs.get("rule", "the reference"))
            return cls(reference, None, tree.attrs.get("seed"), other, text)
        if isinstance(reference, str):
            named = rule_named(tree, reference)
            return cls(tree, dict.fromkeys(_along_rule(tree, "rule") or [], named), None, other, named)
        chosen = {rule_named(tree, rule): rule_named(tree, str(name)) for rule, name in reference.items()}
        return cls(tree, chosen, None, other, ", ".join(f"{rule}: {name}" for rule, name in chosen.items()))

    def rule_of(self, rule: str) -> str | None:
        """Return the reference of a rule, or None where it lies in another tree or there is none."""
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
            elif dim == "rule" and self.only is not None:
                wanted = self.only
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


def with_partners(
    weights: Sequence[PathwayWeights], pairs: Pairs, compare: Callable[[RunWeights, RunWeights], Measures]
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


def common_moments(run: RunWeights, partner: RunWeights) -> tuple[np.ndarray, np.ndarray]:
    """Return which recorded snapshots of two runs were taken at as many observers seen."""
    _, rows, theirs = np.intersect1d(run.seen, partner.seen, return_indices=True)
    return rows, theirs


def incomparable(run: RunWeights, partner: RunWeights, start: bool = True) -> str:
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


def on_own_snapshots(run: RunWeights, rows: np.ndarray, values: Mapping[str, np.ndarray]) -> Measures:
    """Return values at some of the snapshots of a run on all of them, NaN at the others."""
    whole = {name: np.full(len(run.rows), np.nan) for name in values}
    for name, found in values.items():
        whole[name][rows] = found
    return {name: (("snapshot",), found) for name, found in whole.items()}


def rule_named(tree: xr.DataTree, name: str) -> str:
    """Return the rule of a tree of many runs that is called so, or has such a label.

    Raises
    ------
    TrajectoryError
        If there is none; names those there are.
    """
    rules = _along_rule(tree, "rule")
    if rules is None:
        raise TrajectoryError(f"the tree of one run has no rule {name!r}: give the tree of the reference run")
    labels = dict(zip(_along_rule(tree, "label") or rules, rules, strict=True)) | {rule: rule for rule in rules}
    if name not in labels:
        raise TrajectoryError(f"there is no rule {name!r}; there are {', '.join(rules)}")
    return labels[name]


def ratio(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return a quotient, NaN where it would be one by 0."""
    return np.divide(values, by, out=np.full(values.shape, np.nan), where=by > 0)


def _reasons(found: xr.Dataset) -> list[str]:
    return [str(r) for r in np.unique(found["reason"].values.astype(str)) if r] if "reason" in found else []


def no_common_moments(run: RunWeights, partner: RunWeights) -> str:
    """Say at how many observers two runs were recorded, which have no moment in common."""
    return f"no common moments: at {_listed(run.seen)} observers, the reference at {_listed(partner.seen)}"


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in values[:4]) + (", ..." if len(values) > 4 else "")


def _along_rule(tree: xr.DataTree, name: str) -> list[str] | None:
    """Return a coordinate along ``rule``, wherever in the tree it is, or None."""
    for node in tree.subtree:
        if name in node.coords and "rule" in node.dims and node.coords[name].dims in (("rule",), ()):
            return [str(value) for value in np.broadcast_to(node.coords[name].values, node.sizes["rule"])]
    return None
