"""Table and sentences of `protocols.streaming_fixations`, and what its charts draw."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words, references_in_words
from analysis.results import Results
from analysis.statistics import NO_INTERVAL, Estimate, estimate
from analysis.tables import Record, column_names, put
from protocols.streaming.charts import CHARTS
from protocols.streaming.lives import Life
from protocols.streaming.recorders import FACTORS

BINS = 24
"""Intervals of time over which scores are averaged."""
EVENTS = {False: "after fixations", True: "after saccades"}
Lives = Sequence[Life]


def results_of(comparison: analysis.Comparison, labels: Mapping[str, str], options: Mapping[str, Any]) -> Results:
    """Return table, sentences and charts.

    Parameters
    ----------
    comparison : analysis.Comparison
        Of the stored runs; rules are conditions by label.
    labels : mapping of str to str
        Of the conditions, by name.
    options : mapping
    """
    there = {name: label for name, label in labels.items() if label in comparison.rules}
    lives = {name: [Life.read(run) for run in comparison.rules[label]] for name, label in there.items()}
    table = [_record(comparison, labels[name], found) for name, found in lives.items()]
    data = {
        "scores": [r for name, found in lives.items() for r in _scores(labels[name], found, options)],
        "separation": [r for name, found in lives.items() for r in _separations(labels[name], found)],
        "synapse": [r for name, found in lives.items() for r in _excerpt(labels[name], found[0])],
    }
    sentences = list(_sentences(comparison, labels, lives, options))
    title = "One observer, one fixation at a time"
    shown = ("P(", "linear probe accuracy, ", "cosine")
    columns = ["condition", "information needed", *(c for c in column_names(table) if c.startswith(shown))]
    told: dict[str, Any] = {"columns": columns, "options": dict(options), "notes": references_in_words(comparison)}
    return Results("streaming_fixations", title, table, sentences, CHARTS, data, **told)


def _record(comparison: analysis.Comparison, label: str, lives: Lives) -> Record:
    runs = comparison.rules[label]
    record: Record = {
        "condition": label,
        "information needed": ", ".join(runs[0].about.get("needs") or []),
        COLUMN: reference_in_words(runs[0].about) or None,
        "animals": len(lives),
    }
    for population in lives[0].populations:
        found = [life.separation(population) for life in lives]
        put(record, f"P(fixation scores above saccade), {population}", found)
    accuracies = comparison.accuracies(label)
    for population in runs[0].populations:
        put(record, f"linear probe accuracy, {population}", accuracies[population]["final"])
        put(record, f"accuracy of the same before learning, {population}", accuracies[population]["initial"])
    for pathway, cosine in comparison.mean_alignment(label).items():
        put(record, f"cosine with BP-CLAPP++, {pathway}", cosine)
    for half, where in (("first", 0), ("second", 1)):
        for pathway in lives[0].moved:
            moved = [life.moved[pathway][where] for life in lives]
            put(record, f"weights moved in the {half} half, {pathway}", moved)
    return record


def _scores(label: str, lives: Lives, options: Mapping[str, Any]) -> Iterator[Record]:
    """Yield the mean score after fixations and saccades in intervals of time; the bars are over animals."""
    duration = float(options["budget"]) * float(options["fixation"])
    edges = np.linspace(0, duration, min(BINS, max(2, int(options["budget"]) // (4 * int(options["fixations"])))) + 1)
    for population in lives[0].populations:
        for saccade, event in EVENTS.items():
            for low, high in pairwise(edges):
                means = [life.mean_score(population, saccade, low, high) for life in lives]
                record = {"condition": label, "population": population, "event": event, "time (s)": float(low + high) / 2}
                yield put(record, "score", means)


def _separations(label: str, lives: Lives) -> Iterator[Record]:
    for number, time in enumerate(lives[0].tests["time"].values):
        for population in lives[0].populations:
            record = {"condition": label, "population": population, "time (s)": float(time)}
            yield put(record, "separation", [life.separation(population, number) for life in lives])


def _excerpt(label: str, life: Life) -> Iterator[Record]:
    """Yield what one synapse of one animal has seen: every value at the begin and at the end of its fixation."""
    seen, number = life.synapse, 0
    before, after = (seen[name].values - float(seen["weight_before"][0]) for name in ("weight_before", "weight_after"))
    for place in range(seen.sizes["snapshot"]):
        number += int(seen["saccade"][place]) or not number
        for time, weight in (("begin", before), ("time", after)):
            record = {"condition": label, "object": f"object {number}", "time (s)": float(seen[time][place])}
            for name in FACTORS:
                yield {**record, "factor": name.replace("_", " "), "value": float(seen[name][place])}
            yield {**record, "factor": "weight change since the beginning", "value": float(weight[place])}


def _sentences(
    comparison: analysis.Comparison, labels: Mapping[str, str], lives: Mapping[str, Lives], options: Mapping[str, Any]
) -> Iterator[str]:
    duration = float(options["budget"]) * float(options["fixation"])
    populations = next(iter(lives.values()))[0].populations
    apart = {
        name: {p: estimate([life.separation(p) for life in found]) for p in populations} for name, found in lives.items()
    }
    yield (
        f"Every animal made {options['budget']} fixations of {1000 * options['fixation']:g} ms ({duration / 60:.1f} min), "
        f"{options['fixations']} per object. Probability that a fixation on an object never seen scores above a saccade, in "
        f"{', '.join(populations)} (chance 0.5): "
        + "; ".join(f"{labels[n]} {', '.join(e.text(2) for e in found.values())}" for n, found in apart.items())
        + "."
    )
    for name in ("lateral", "feedback", "shuffled", "no-signal"):
        if name in apart:
            yield f"{labels[name].capitalize()}: {_separates(apart[name])}."
    for name in ("shuffled", "no-signal"):
        if name in lives and "lateral" in lives:
            gains = {p: _paired(lives["lateral"], lives[name], lambda life, p=p: life.separation(p)) for p in populations}
            yield f"True signal instead of {labels[name].split(', ')[1]}: {_changes(gains, 2)} in that probability."
    if "feedback" in lives and "feedback-lesion" in lives:
        parts = [
            f"{pathway} {estimate([life.moved[pathway][1] for life in lives['feedback-lesion']]).text()} "
            f"(intact {estimate([life.moved[pathway][1] for life in lives['feedback']]).text()})"
            for pathway in lives["feedback"][0].moved
        ]
        yield (
            "After the lesion of the direct feedback, in the second half of life, weights moved by "
            f"{'; '.join(parts)} of their initial norm."
        )
    for name in lives:
        found = comparison.accuracies(labels[name])
        gains = {p: estimate(found[p]["final"] - found[p]["initial"]) for p in populations}
        yield f"{labels[name].capitalize()}: a linear readout changes by {_changes(gains, 1, 100)} points with learning."


def _separates(found: Mapping[str, Estimate]) -> str:
    """Say where the score separates fixations from saccades: where the interval lies above chance."""
    if not all(value.has_interval for value in found.values()):
        return NO_INTERVAL
    above = [population for population, value in found.items() if value.is_above(0.5)]
    return f"the score separates fixations from saccades in {', '.join(above) or 'no population'}"


def _changes(found: Mapping[str, Estimate], digits: int, factor: float = 1.0) -> str:
    """Return differences per population, and whether there is an interval."""
    listed = ", ".join(f"{population} {value.text(digits, factor, sign=True)}" for population, value in found.items())
    return listed if all(value.has_interval for value in found.values()) else f"{listed} ({NO_INTERVAL})"


def _paired(one: Lives, other: Lives, measure: Any) -> Estimate:
    """Return the mean difference of animals of the same seed."""
    others = {life.seed: measure(life) for life in other}
    return estimate([measure(life) - others[life.seed] for life in one if life.seed in others])
