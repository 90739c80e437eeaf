"""Who can tell the rules apart: a random forest on the observables of stored runs, tried on what it has not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import analysis
from analysis.observables import ACTIVITIES, PARTS, WEIGHTS, observables, table_of
from analysis.tables import put_share
from neurossl.surroundings import imported
from protocols.fingerprints.learning import hidden
from protocols.harness.trial import Trial

UNITS = (None, 16, 4)
"""Neurons that are looked at per population; None: all."""
KINDS = {"weights and activities": ("weights", "activities"), "weights": ("weights",), "activities": ("activities",)}
TREES = 300
SEED_FOLDS, ARCHITECTURE, DATASET = "seeds", "architecture", "data set"

Progress = Callable[[int], None]


def read(folder: Path) -> Callable[[Trial, Progress], dict[str, Any]]:
    """Return a function that gives the observables of a run, of all and of some of its neurons, from what is stored."""

    def read_one(trial: Trial, progress: Progress) -> dict[str, Any]:
        pathways, populations = hidden(trial.network)
        with analysis.open_trajectory(folder / trial.path) as tree:
            found: dict[str, Any] = {}
            for number, units in enumerate(UNITS):
                draw = np.random.default_rng([trial.seed % 2**32, number])
                seen = observables(tree, pathways, populations, units, draw)
                found[str(units)] = {kind: seen[kind].values.tolist() for kind in ("weights", "activities")}
                progress(number + 1)
        about = {name: trial.about[name] for name in ("dataset", "architecture", "rate", "observers")}
        return {"rule": trial.name, "seed": trial.seed, **about, "observables": found}

    return read_one


@dataclass(frozen=True)
class Table:
    """The runs as a classifier sees them.

    Attributes
    ----------
    rules, seeds, architectures, datasets : ndarray, (runs,)
    seen : dict of str to list of Dataset
        By number of units.
    """

    rules: np.ndarray
    seeds: np.ndarray
    architectures: np.ndarray
    datasets: np.ndarray
    seen: dict[str, list[xr.Dataset]]

    @classmethod
    def of(cls, outcomes: Sequence[Any]) -> "Table":
        """Return the table of what `read` found; runs that could not be read are left out."""
        found = [outcome.result for outcome in outcomes if outcome.result is not None]
        column = {name: np.array([one[name] for one in found]) for name in ("rule", "seed", "architecture", "dataset")}
        seen = {str(u): [_dataset(one["observables"][str(u)]) for one in found] for u in UNITS}
        return cls(column["rule"], column["seed"], column["architecture"], column["dataset"], seen)

    @property
    def snapshots(self) -> int:
        """Recorded moments, the initial one included."""
        return self.seen[str(None)][0].sizes["snapshot"]

    def features(self, kinds: Sequence[str], snapshots: Sequence[int], units: int | None = None) -> np.ndarray:
        """Return one row of numbers per run."""
        return table_of(self.seen[str(units)], kinds, snapshots)


def tables(outcomes: Sequence[Any], permutations: int, workers: int) -> dict[str, Any]:
    """Return everything that is asked of the classifier, as JSON.

    Returns
    -------
    dict
        ``trials``: accuracy per way of holding out and held-out seed, per kind of observable, units and snapshots;
        ``confusion``: how often each rule was called what; ``permuted``: accuracies with permuted names; ``importance``.
    """
    table = Table.of(outcomes)
    everything = range(table.snapshots)
    trials: list[dict[str, Any]] = []
    confusion: list[dict[str, Any]] = []
    for held in (SEED_FOLDS, ARCHITECTURE, DATASET):
        for what, kinds in KINDS.items():
            named = _held_out(table, table.features(kinds, everything), held, workers)
            if named is None:
                continue
            trials += _by_seed(table, named, held=held, observables=what, units="all", snapshots=len(everything))
            if what == "weights and activities":
                confusion += _confusion(table, named, held)
    both = KINDS["weights and activities"]
    for units in UNITS[1:]:
        for what, kinds in KINDS.items():
            named = _held_out(table, table.features(kinds, everything, units), SEED_FOLDS, workers)
            trials += _by_seed(table, named, held=SEED_FOLDS, observables=what, units=units, snapshots=len(everything))
    for few in _fewer(table.snapshots):
        named = _held_out(table, table.features(both, few), SEED_FOLDS, workers)
        trials += _by_seed(
            table, named, held=SEED_FOLDS, observables="weights and activities", units="all", snapshots=len(few)
        )
    features = table.features(both, everything)
    return {
        "rules": sorted(set(table.rules.tolist())),
        "trials": trials,
        "confusion": confusion,
        "permuted": [_permuted(table, features, number, workers) for number in range(permutations)],
        "importance": _importance(table, features, workers),
    }


def _dataset(found: dict[str, Any]) -> xr.Dataset:
    axes = {"weights": "weight_observable", "activities": "activity_observable"}
    return xr.Dataset({kind: (("part", "snapshot", axis), np.array(found[kind], float)) for kind, axis in axes.items()})


def _fewer(count: int) -> list[list[int]]:
    """Return the last moment alone, the first and the last, and every other one."""
    return [[count - 1], [0, count - 1], list(range(0, count, 2))]


def _forest(seed: int, workers: int, trees: int = TREES) -> Any:
    forest = imported("sklearn.ensemble").RandomForestClassifier
    return forest(trees, random_state=seed, n_jobs=workers, min_samples_leaf=1, max_features="sqrt")


def _parts(table: Table, held: str) -> np.ndarray | None:
    """Return the group of every run, each of which is held out once; None where there is one alone."""
    of = {SEED_FOLDS: table.seeds, ARCHITECTURE: table.architectures, DATASET: table.datasets}[held]
    groups = np.unique(of)
    if len(groups) < 2:
        return None
    if held != SEED_FOLDS:
        return np.searchsorted(groups, of)
    folds = min(5, len(groups))
    return np.searchsorted(groups, of) * folds // len(groups)


def _held_out(
    table: Table, features: np.ndarray, held: str, workers: int, rules: np.ndarray | None = None, trees: int = TREES
) -> np.ndarray | None:
    """Return what a forest that has not seen its group calls every run; None where there is one group alone."""
    parts = _parts(table, held)
    if parts is None:
        return None
    taught = table.rules if rules is None else rules
    named = np.empty(len(taught), dtype=taught.dtype)
    for part in np.unique(parts):
        inside = parts == part
        named[inside] = _forest(int(part), workers, trees).fit(features[~inside], taught[~inside]).predict(features[inside])
    return named


def _by_seed(table: Table, named: np.ndarray | None, **about: Any) -> list[dict[str, Any]]:
    """Return one record per seed: the share of its runs that were called by their rule."""
    if named is None:
        return []
    right = named == table.rules
    return [
        {
            **about,
            "seed": int(seed),
            "accuracy": float(right[table.seeds == seed].mean()),
            "runs": int((table.seeds == seed).sum()),
        }
        for seed in np.unique(table.seeds)
    ]


def _confusion(table: Table, named: np.ndarray, held: str) -> list[dict[str, Any]]:
    """Return, per rule and name, how many of its runs were called so, with the Wilson interval of the share."""
    records = []
    for rule in np.unique(table.rules):
        mine = named[table.rules == rule]
        for name in np.unique(table.rules):
            count = int((mine == name).sum())
            record = {"held out": held, "rule": str(rule), "called": str(name), "runs": count, "of": len(mine)}
            records.append(put_share(record, "share", count, len(mine)))
    return records


def _permuted(table: Table, features: np.ndarray, number: int, workers: int) -> float:
    """Return the accuracy on held-out seeds of forests that learn from names permuted among the runs of every seed."""
    draw = np.random.default_rng([number, 1])
    rules = table.rules.copy()
    for seed in np.unique(table.seeds):
        mine = np.flatnonzero(table.seeds == seed)
        rules[mine] = rules[draw.permutation(mine)]
    named = _held_out(table, features, SEED_FOLDS, workers, rules, trees=50)
    return float(np.mean(named == rules))


def _importance(table: Table, features: np.ndarray, workers: int) -> list[dict[str, Any]]:
    """Return how much each observable adds to the purity of a forest's branches, over all parts and moments; sums to 1."""
    weights = _forest(0, workers).fit(features, table.rules).feature_importances_
    shares = []
    start = 0
    for kind, own in (("weights", WEIGHTS), ("activities", ACTIVITIES)):
        size = len(PARTS) * table.snapshots * len(own)
        block = weights[start : start + size].reshape(len(PARTS), table.snapshots, len(own))
        shares += [(kind, name, float(share)) for name, share in zip(own, block.sum((0, 1)), strict=True)]
        start += size
    return [{"kind": k, "observable": n, "importance": s} for k, n, s in sorted(shares, key=lambda found: -found[2])]
