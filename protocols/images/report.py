"""Table, charts and sentences of `image_benchmark`: what was found, beside what was published, and what differs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words, references_in_words
from analysis.statistics import Estimate
from analysis.tables import column_names
from protocols.images import published
from protocols.images.decisions import Decision, decide, decision_records, difference_records, named_pairs
from protocols.images.drawn import charts
from protocols.images.readouts import FOLLOWED, PUBLISHED_READOUT, TOGETHER, Split
from protocols.images.runs import RANDOM, STAGES, Task
from protocols.images.sentences import how_rates_were_chosen, sentences_of

Record = dict[str, Any]
BySeed = dict[int, float]
PERCENT = "validation accuracy, all populations (%)"
TESTED = "test accuracy, all populations (%)"
PUBLISHED, SOURCE = "published (%)", "published figure from"
AS_PUBLISHED = "published readout, epoch chosen on the test images (% of them)"
AS_PUBLISHED_LAST = "published readout, last epoch (% of the test images)"


def results_of(
    comparison: analysis.Comparison,
    tasks: Sequence[Task],
    splits: Mapping[str, Split],
    tried: Sequence[Record],
    options: Mapping[str, Any],
) -> analysis.Results:
    """Return the results of the runs that have finished.

    Parameters
    ----------
    comparison : Comparison
    tasks : sequence of Task
    splits : mapping of str to Split
    tried : list of dict
        What the trials of learning rates have found.
    options : mapping
        With what the protocol was run.
    """
    chosen = {task.label: task for task in tasks if task.label in comparison.rules}
    found = {label: accuracies_by_seed(comparison, label) for label in chosen}
    table = [_record(comparison, task, found[label]) for label, task in chosen.items()]
    tested = {label: found[label]["probe_accuracy"].get(TOGETHER, {}) for label in chosen}
    final, during = _decisions(comparison, chosen, tested)
    differences = difference_records(during)
    data: dict[str, list[Record]] = {"together": [], "layers": [], "differences": differences, "trials": list(tried)}
    data |= {"decisions": decision_records(final), "decisions over training": decision_records(during)}
    for label, task in chosen.items():
        common = {"data set": task.dataset, "method": label}
        for name, values in found[label]["probe_accuracy"].items():
            percent = _percent(values)
            if name == TOGETHER:
                data["together"].append(analysis.put({**common, "source": "here"}, "accuracy (%)", percent))
            else:
                data["layers"].append(analysis.put({**common, "population": name}, "accuracy (%)", percent))
        known = _published(task)
        if known is not None:
            data["together"].append(
                {**common, "source": "published (second-hand; full network, 300 epochs)", "accuracy (%)": known}
            )
    data |= {"learning": _beginning(chosen, comparison)}
    data["learning"] += _curves(comparison, chosen, "performance", FOLLOWED, "accuracy (%)", 100)
    data |= {"active": _curves(comparison, chosen, "activity", "active_fraction", "active fraction", 1)}
    sentences = [how_rates_were_chosen(options)] if tried else []
    for name, split in splits.items():
        mine = {label: task for label, task in chosen.items() if task.dataset == name}
        decided, followed = ([one for one in every if one.asked.place == name] for every in (final, during))
        sentences += sentences_of(name, split, mine, tested, decided, followed, options)
    columns = column_names(table)
    shown = ["data set", "method", "seeds", "learning rate", PUBLISHED, SOURCE, TESTED]
    shown += [name for name in (AS_PUBLISHED, AS_PUBLISHED_LAST) if name in columns]
    shown += [f"test accuracy, {name} (%)" for name in comparison.populations]
    shown += [*(name for name in columns if name.startswith("cosine")), "minutes of learning"]
    title = "Does local learning match backprop on natural images?"
    drawn = charts(list(chosen), list(dict.fromkeys(record["pair"] for record in differences)))
    notes = references_in_words(comparison)
    return analysis.Results(
        "image_benchmark", title, table, sentences, drawn, data, columns=shown, options=options, notes=notes
    )


def accuracies_by_seed(comparison: analysis.Comparison, label: str) -> dict[str, dict[str, BySeed]]:
    """Return, per measure and per name of a readout, the final accuracy by seed."""
    runs = comparison.rules[label]
    found: dict[str, dict[str, BySeed]] = {}
    for measure in ("probe_accuracy", "validation_accuracy", *PUBLISHED_READOUT):
        entries = comparison.accuracies(label, measure)
        names = [name for name in (*runs[0].populations, TOGETHER) if name in entries]
        finals = {name: zip(runs, entries[name]["final"], strict=True) for name in names}
        by_seed = {name: {r.about["seed"]: float(v) for r, v in final if np.isfinite(v)} for name, final in finals.items()}
        found[measure] = {name: values for name, values in by_seed.items() if values}
    return found


def _decisions(
    comparison: analysis.Comparison, chosen: Mapping[str, Task], tested: Mapping[str, BySeed]
) -> tuple[list[Decision], list[Decision]]:
    """Return what is decided of all data sets after learning, on the test images, and over training, on those set aside."""
    final, during = [], []
    for dataset in dict.fromkeys(task.dataset for task in chosen.values()):
        mine = {label: task for label, task in chosen.items() if task.dataset == dataset}
        methods = {task.name: label for label, task in mine.items()}
        final += named_pairs(dataset, methods, {label: {STAGES: tested[label]} for label in mine if tested[label]})
        during += named_pairs(dataset, methods, {label: _by_stage(comparison, task) for label, task in mine.items()})
    return decide(final), decide(during)


def _by_stage(comparison: analysis.Comparison, task: Task) -> dict[int, BySeed]:
    """Return the accuracy followed over training by stage and seed; what does not learn is the same at all stages."""
    values = comparison.scalars(task.label, "performance", FOLLOWED)
    if values is None:
        return {}
    followed = values.sel(population=TOGETHER).dropna("event", how="all")
    last = int(followed["event"].max())
    found: dict[int, BySeed] = {}
    for event in followed["event"].values:
        one = followed.sel(event=event).dropna("seed")
        by_seed = {int(seed): float(value) for seed, value in zip(one["seed"].values, one.values, strict=True)}
        stages = range(1, STAGES + 1) if not task.epochs else [round(STAGES * int(event) / last)]
        found |= dict.fromkeys(stages, by_seed)
    return found


def _percent(by_seed: BySeed) -> np.ndarray:
    return 100 * np.array(list(by_seed.values()))


def _record(comparison: analysis.Comparison, task: Task, found: Mapping[str, Mapping[str, BySeed]]) -> Record:
    runs = comparison.rules[task.label]
    record: Record = {
        "data set": task.dataset,
        "method": task.label,
        "rule": task.name,
        "information needed": ", ".join(runs[0].about.get("needs") or []) or "nothing beyond the synapse",
        COLUMN: reference_in_words(runs[0].about) or None,
        "seeds": len(runs),
        "learning rate": task.rate if task.epochs else None,
        "epochs": task.epochs,
        PUBLISHED: _published(task),
        SOURCE: published.source(task.dataset, task.name),
    }
    for measure, words in (("probe_accuracy", "test"), ("validation_accuracy", "validation")):
        for name, values in found[measure].items():
            analysis.put(record, f"{words} accuracy, {name} (%)", _percent(values))
    for measure, column in zip(PUBLISHED_READOUT, (AS_PUBLISHED, AS_PUBLISHED_LAST), strict=True):
        if TOGETHER in found[measure]:
            analysis.put(record, column, _percent(found[measure][TOGETHER]))
    for name, value in comparison.mean_alignment(task.label).items():
        analysis.put(record, f"cosine, {name}", value)
    minutes = [(run.about.get("seconds") or np.nan) / 60 for run in runs]
    return analysis.put(record, "minutes of learning", minutes if task.epochs else [np.nan])


def _published(task: Task) -> float | None:
    return published.LINEAR_PROBE.get(published.known_as(task.dataset), {}).get(task.name)


def _beginning(chosen: Mapping[str, Task], comparison: analysis.Comparison) -> list[Record]:
    """Return where the curves of all methods that learn begin: the network before learning, if it is there."""
    records: list[Record] = []
    for dataset in dict.fromkeys(task.dataset for task in chosen.values()):
        mine = {label: task for label, task in chosen.items() if task.dataset == dataset}
        control = next((task for task in mine.values() if task.name == RANDOM), None)
        before = _by_stage(comparison, control).get(STAGES) if control else None
        for label, task in mine.items():
            if before and task.epochs:
                about: Record = {"data set": dataset, "method": label, "population": TOGETHER, "epochs": 0.0}
                records.append(analysis.put(about, "accuracy (%)", _percent(before)))
    return records


def _curves(
    comparison: analysis.Comparison,
    chosen: Mapping[str, Task],
    kind: str,
    measure: str,
    column: str,
    factor: float,
) -> list[Record]:
    """Return a measure over epochs, mean and 95 % interval over seeds, of every population that has it."""
    records: list[Record] = []
    for label, task in chosen.items():
        curve = comparison.over_training(label, kind, measure) if task.epochs else None
        if curve is None:
            continue
        last = float(curve["event"].max())
        for name in curve["population"].values:
            one = curve.sel(population=name).dropna("event", subset=["mean"])
            columns = (one[name].values for name in ("event", "mean", "half_width", "count"))
            for event, mean, half, count in zip(*columns, strict=True):
                about: Record = {"data set": task.dataset, "method": label, "population": str(name)}
                about |= {"epochs": task.epochs * float(event) / last}
                found = Estimate(factor * float(mean), factor * float(half), int(count))
                records.append(analysis.put(about, column, found))
    return records
