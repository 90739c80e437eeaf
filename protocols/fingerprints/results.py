"""Table, sentences and charts of `protocols.rule_fingerprints`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import analysis
from analysis.statistics import Estimate, estimate
from analysis.tables import Record
from protocols.fingerprints.classifying import ARCHITECTURE, DATASET, KINDS, SEED_FOLDS

HELD = (SEED_FOLDS, ARCHITECTURE, DATASET)
CAPTION = (
    "accuracy: share of runs that are called by their rule, mean over seeds ± half-width of the 95 % interval (Student's t "
    "over the seeds); a forest of 300 trees that has not seen the seed, the architecture or the data set"
)


def results_of(found: Mapping[str, Any], options: Mapping[str, Any]) -> analysis.Results:
    """Return the table of accuracies, the confusions, and in words what suffices to tell the rules apart.

    Parameters
    ----------
    found : mapping
        As `protocols.fingerprints.classifying.tables` returns it.
    options : mapping
        With what the protocol was run.
    """
    chance = 1 / len(found["rules"])
    table: list[Record] = []
    for key in _keys(found["trials"]):
        mine = [one for one in found["trials"] if _key(one) == key]
        record = dict(zip(("held out", "observables", "units", "snapshots"), key, strict=True))
        record["runs"] = sum(one["runs"] for one in mine)
        record["seeds"] = len(mine)
        table.append(analysis.put(record, "accuracy", [one["accuracy"] for one in mine]))
    permuted = np.array(found["permuted"])
    matrix = found["confusion"]
    return analysis.Results(
        "rule_fingerprints",
        "Which rule was it? Rules told apart by the path of weights and activities",
        table,
        [*_sentences(found, table, permuted, chance)],
        _charts(found, chance),
        {"confusion": matrix, "importance": found["importance"], "recognised": _recognised(matrix)},
        options=options,
        caption=CAPTION,
        headings={name: name for name in ("held out", "observables", "units", "snapshots", "runs", "seeds")}
        | {"accuracy": "accuracy (%)"},
        columns=["held out", "observables", "units", "snapshots", "runs", "seeds", "accuracy"],
        curves=False,
    )


def _key(one: Mapping[str, Any]) -> tuple[Any, ...]:
    return one["held"], one["observables"], one["units"], one["snapshots"]


def _keys(trials: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return list(dict.fromkeys(_key(one) for one in trials))


def _accuracy(found: Mapping[str, Any], **wanted: Any) -> Estimate | None:
    mine = [one["accuracy"] for one in found["trials"] if all(one[name] == value for name, value in wanted.items())]
    return estimate(mine) if mine else None


def _sentences(found: Mapping[str, Any], table: Sequence[Record], permuted: np.ndarray, chance: float) -> list[str]:
    """Say how well the rules are told apart, from what, and whether that is above what permuted names give."""
    several = len(found["rules"])
    most = max(record["snapshots"] for record in table)
    usual = {"observables": "weights and activities", "units": "all", "snapshots": most}
    said = []
    for held in HELD:
        if (mean := _accuracy(found, held=held, **usual)) is not None:
            what = (
                f"that the classifier has not seen the {held} of" if held != SEED_FOLDS else "of seeds that it has not seen"
            )
            said.append(
                f"Of runs {what}, {_percent(mean)} are called by their rule, one of {several} (chance {100 * chance:.1f} %)."
            )
    kinds = [(what, _accuracy(found, held=SEED_FOLDS, **{**usual, "observables": what})) for what in KINDS]
    said.append(
        "By observables (held-out seeds): " + ", ".join(f"{n} {_percent(a)}" for n, a in kinds if a is not None) + "."
    )
    for column, name in (("units", "neurons per population"), ("snapshots", "moments")):
        rest = {key: value for key, value in usual.items() if key != column}
        values = dict.fromkeys(record[column] for record in table)
        parts = [(value, _accuracy(found, held=SEED_FOLDS, **rest, **{column: value})) for value in values]
        said.append(
            f"By {name}: " + ", ".join(f"{value}: {_percent(mean)}" for value, mean in parts if mean is not None) + "."
        )
    if permuted.size:
        best = _accuracy(found, held=SEED_FOLDS, **usual)
        beyond = 0 if best is None else int((permuted >= best.mean).sum())
        said.append(
            f"With permuted names: {100 * permuted.mean():.1f} % on average, at most {100 * permuted.max():.1f} % in "
            f"{permuted.size} permutations (p = {(1 + beyond) / (1 + permuted.size):.2g})."
        )
    confused = [one for one in found["confusion"] if one["held out"] == SEED_FOLDS and one["rule"] != one["called"]]
    worst = sorted((one for one in confused if one["runs"]), key=lambda one: -one["share"])[:4]
    if worst:
        pairs = "; ".join(f"{one['rule']} as {one['called']} ({one['runs']} of {one['of']})" for one in worst)
        said.append(f"Most often confused: {pairs}.")
    return said


def _percent(value: Estimate) -> str:
    return f"{value.text(1, 100)} %"


def _recognised(matrix: Sequence[Record]) -> list[Record]:
    """Return the share of the runs of every rule that are called by it."""
    return [{key: one[key] for key in one if key != "called"} for one in matrix if one["rule"] == one["called"]]


def _charts(found: Mapping[str, Any], chance: float) -> list[analysis.Chart]:
    shown = dict.fromkeys(one["held out"] for one in found["confusion"])
    matrices = [
        analysis.Chart(
            f"What the runs of each rule are called, {held} held out",
            x="called",
            y="share",
            series="rule",
            x_label="called",
            y_label="rule",
            data="confusion",
            where={"held out": held},
            kind="matrix",
            order=found["rules"],
            text="Each row is a rule, and sums to 1: which share of its runs is called what. 0 is not written.",
        )
        for held in shown
    ]
    return [
        *matrices,
        analysis.Chart(
            "Which runs are recognised",
            x="rule",
            y="share",
            series="held out",
            x_label="rule",
            y_label="share of runs called by their rule",
            data="recognised",
            kind="points",
            levels={"chance": chance},
            y_range=(0, 1.02),
            errors="bars: 95 % Wilson interval over runs",
        ),
        analysis.Chart(
            "Which observables the classifier uses",
            x="observable",
            y="importance",
            series="kind",
            x_label="observable",
            y_label="importance (share)",
            data="importance",
            kind="bars",
            text="How much each adds to the purity of the forest's branches, summed over parts of the network and moments.",
        ),
    ]
