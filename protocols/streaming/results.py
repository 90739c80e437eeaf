"""Tables, sentences and charts of `protocols.streaming_fixations`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import analysis
from analysis.results import Chart, Record, Results, column_names, put
from analysis.statistics import Estimate, estimate

BINS = 24
"""Intervals of time over which scores are averaged."""
EVENTS = {False: "after fixations", True: "after saccades"}
FACTORS = (
    *("presynaptic activity", "postsynaptic gate", "dendritic prediction", "gamma", "proposed change"),
    "weight change since the beginning",
)
Lives = Sequence[Mapping[str, Any]]


def results_of(
    comparison: analysis.Comparison, labels: Mapping[str, str], lives: Lives, options: Mapping[str, Any]
) -> Results:
    """Return table, sentences and charts.

    Parameters
    ----------
    comparison : analysis.Comparison
        Of the stored runs; rules are conditions by label.
    labels : mapping of str to str
        Of the conditions.
    lives : sequence of mapping
        What every animal has experienced.
    options : mapping
    """
    grouped = {name: [life for life in lives if life["condition"] == name] for name in labels}
    grouped = {name: found for name, found in grouped.items() if found}
    table = [_record(comparison, labels[name], found) for name, found in grouped.items()]
    data = {
        "scores": [r for name, found in grouped.items() for r in _scores(labels[name], found, options)],
        "told apart": [r for name, found in grouped.items() for r in _told_apart(labels[name], found)],
        "synapse": [r for name, found in grouped.items() for r in _excerpt(labels[name], found[0])],
    }
    sentences = list(_sentences(comparison, labels, grouped, options))
    title = "One observer, one fixation at a time"
    shown = ("P(", "linear probe accuracy, ", "cosine")
    columns = ["condition", "information needed", *(c for c in column_names(table) if c.startswith(shown))]
    return Results("streaming_fixations", title, table, sentences, CHARTS, data, columns, dict(options))


def _record(comparison: analysis.Comparison, label: str, lives: Lives) -> Record:
    runs = comparison.rules[label]
    record: Record = {
        "condition": label,
        "information needed": ", ".join(runs[0].about.get("needs") or []),
        "animals": len(lives),
    }
    for population in lives[0]["scores"][-1][2]:
        put(record, f"P(fixation scores above saccade), {population}", _final(lives, population))
    accuracies = comparison.accuracies(label)
    for population in runs[0].populations:
        put(record, f"linear probe accuracy, {population}", accuracies[population]["final"])
        put(record, f"accuracy of the same before learning, {population}", accuracies[population]["initial"])
    for pathway, cosine in comparison.mean_alignment(label).items():
        put(record, f"cosine with BP-CLAPP, {pathway}", cosine)
    for half, where in (("first", 0), ("second", 1)):
        for pathway, values in _travelled(comparison, label).items():
            put(record, f"weights moved in the {half} half, {pathway}", [v[where] for v in values])
    return record


def _final(lives: Lives, population: str, at: int = -1) -> list[float]:
    """Return how well scores told fixations from saccades in a test, the last by default, per animal."""
    return [[t["told apart"] for t in life["tests"] if t["population"] == population][at] for life in lives]


def _travelled(comparison: analysis.Comparison, label: str) -> dict[str, list[tuple[float, float]]]:
    """Return how far the weights of every pathway went in each half of life, ``|W(t2) - W(t1)| / |W(0)|``, per animal."""
    found: dict[str, list[tuple[float, float]]] = {}
    for run in comparison.rules[label]:
        for node in run.tree["weights"].children.values():
            group = node.to_dataset()
            name = str(group.attrs["pathway"])
            if name in run.pathways:
                weight = group["weight"].values.astype(np.float64)
                middle = int(np.argmin(np.abs(group["snapshot"].values - group["snapshot"].values[-1] / 2)))
                size = np.linalg.norm(weight[0])
                first, second = weight[middle] - weight[0], weight[-1] - weight[middle]
                found.setdefault(name, []).append(
                    (float(np.linalg.norm(first) / size), float(np.linalg.norm(second) / size))
                )
    return found


def _scores(label: str, lives: Lives, options: Mapping[str, Any]) -> Iterator[Record]:
    """Yield the mean score after fixations and saccades in intervals of time; the bars are over animals."""
    life = float(options["budget"]) * float(options["fixation"])
    edges = np.linspace(0, life, min(BINS, max(2, int(options["budget"]) // (4 * int(options["fixations"])))) + 1)
    for population in lives[0]["scores"][-1][2]:
        for jumped, event in EVENTS.items():
            for low, high in pairwise(edges):
                means = []
                for one in lives:
                    inside = [s[population] for t, j, s in one["scores"] if j == jumped and low < t <= high]
                    means.append(float(np.mean(inside)) if inside else np.nan)
                record = {"condition": label, "population": population, "event": event, "time (s)": float(low + high) / 2}
                yield put(record, "score", means)


def _told_apart(label: str, lives: Lives) -> Iterator[Record]:
    for place, test in enumerate(lives[0]["tests"]):
        record = {"condition": label, "population": test["population"], "time (s)": test["time"]}
        yield put(record, "told apart", [life["tests"][place]["told apart"] for life in lives])


def _excerpt(label: str, life: Mapping[str, Any]) -> Iterator[Record]:
    """Yield what one synapse of one animal has seen: every value at the begin and at the end of its fixation."""
    number = 0
    for moment in life["synapse"]:
        number += moment["jumped"] or not number
        for factor in FACTORS:
            for when in ("begin", "end"):
                weight = moment["before" if when == "begin" else "after"] - life["synapse"][0]["before"]
                record = {"condition": label, "object": f"object {number}", "factor": factor, "time (s)": moment[when]}
                yield {**record, "value": weight if factor == FACTORS[-1] else moment[factor]}


def _sentences(
    comparison: analysis.Comparison, labels: Mapping[str, str], grouped: Mapping[str, Lives], options: Mapping[str, Any]
) -> Iterator[str]:
    life = float(options["budget"]) * float(options["fixation"])
    populations = list(next(iter(grouped.values()))[0]["scores"][-1][2])
    apart = {name: {p: estimate(_final(lives, p)) for p in populations} for name, lives in grouped.items()}
    yield (
        f"Every animal made {options['budget']} fixations of {1000 * options['fixation']:g} ms ({life / 60:.1f} min), "
        f"{options['fixations']} per object. Probability that a fixation on an object never seen scores above a saccade, in "
        f"{', '.join(populations)} (chance 0.5): "
        + "; ".join(f"{labels[n]} {', '.join(_rounded(e) for e in found.values())}" for n, found in apart.items())
        + "."
    )
    for name in ("lateral", "feedback"):
        if name in apart:
            above = [p for p in populations if _above(apart[name][p], 0.5)]
            where = ", ".join(above) or "no population"
            yield f"{labels[name].capitalize()}: the score tells fixations from saccades in {where}."
    for name in ("shuffled", "no-signal"):
        if name in apart and "lateral" in apart:
            above = [p for p in populations if _above(apart[name][p], 0.5)]
            lost = [apart["lateral"][p].mean - apart[name][p].mean for p in populations]
            yield (
                f"{labels[name].capitalize()}: above chance in {', '.join(above) or 'no population'}; the true signal is "
                f"better by {', '.join(f'{x:.2f}' for x in lost)} in {', '.join(populations)}."
            )
    if "feedback" in grouped and "feedback-lesion" in grouped:
        moved = {n: _travelled(comparison, labels[n]) for n in ("feedback", "feedback-lesion")}
        parts = [
            f"{pathway} {np.mean([v[1] for v in moved['feedback-lesion'][pathway]]):.3f} "
            f"(intact {np.mean([v[1] for v in values]):.3f})"
            for pathway, values in moved["feedback"].items()
        ]
        yield (
            "After the lesion of the direct feedback, in the second half of life, weights moved by "
            f"{'; '.join(parts)} of their initial norm."
        )
    for name in grouped:
        found = comparison.accuracies(labels[name])
        gains = {p: estimate(found[p]["final"] - found[p]["initial"]) for p in populations}
        text = ", ".join(f"{p} {100 * g.mean:+.1f}" + _half(100 * g.half_width) for p, g in gains.items())
        yield f"{labels[name].capitalize()}: a linear readout changes by {text} points with learning."


def _above(value: Estimate, level: float) -> bool:
    """Return whether a mean is above a level: its interval, or, with one animal, the value by 0.05."""
    return value.mean - level > (value.half_width if np.isfinite(value.half_width) else 0.05)


def _rounded(value: Estimate) -> str:
    return f"{value.mean:.2f}" + (f"±{value.half_width:.2f}" if np.isfinite(value.half_width) else "")


def _half(half: float) -> str:
    return f"±{half:.1f}" if np.isfinite(half) else ""


def _score_chart(population: str) -> Chart:
    return Chart(
        f"Score of single fixations over life, at {population}",
        "time (s)",
        "score",
        "biological time (s)",
        "score u",
        series="event",
        panel="condition",
        data="scores",
        where={"population": population},
        levels={"margin of the hinge for fixations": 1.0, "for saccades": -1.0},
        errors="bars: 95 % interval over animals",
    )


def _synapse_chart(condition: str) -> Chart:
    return Chart(
        f"What one synapse sees, {condition}",
        "time (s)",
        "value",
        "biological time (s)",
        "value",
        series="object",
        panel="factor",
        stacked=True,
        data="synapse",
        where={"condition": condition},
        text="Three objects, a saccade between them. The proposed change is the product of the four factors above it; the "
        "weight follows through its optimiser.",
    )


CHARTS = (
    _score_chart("V1"),
    _score_chart("V4"),
    Chart(
        "How well the score tells fixations on new objects from saccades",
        "time (s)",
        "told apart",
        "biological time (s)",
        "P(score after fixation > after saccade)",
        series="condition",
        panel="population",
        data="told apart",
        levels={"chance": 0.5},
        errors="bars: 95 % interval over animals",
    ),
    _synapse_chart("lateral context"),
    _synapse_chart("direct feedback"),
)
