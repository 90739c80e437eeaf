"""Table, charts and sentences of `image_benchmark`: what was found, beside what was published, and what differs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words, references_in_words
from analysis.statistics import NO_INTERVAL, Estimate, estimate
from analysis.tables import column_names
from protocols.images import published
from protocols.images.readouts import TOGETHER, Split
from protocols.images.runs import RANDOM, Task

Record = dict[str, Any]
BySeed = dict[int, float]
PERCENT = "validation accuracy, all populations (%)"
TESTED = "test accuracy, all populations (%)"
PUBLISHED = "published (%)"
DEFAULT_NEGATIVES = "1, all for BP-InfoNCE"


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
    bars: list[Record] = []
    layers: list[Record] = []
    for label, task in chosen.items():
        common = {"data set": task.dataset, "method": label}
        for name, values in found[label]["probe_accuracy"].items():
            percent = _percent(values)
            if name == TOGETHER:
                bars.append(analysis.put({**common, "source": "here"}, "accuracy (%)", percent))
            else:
                layers.append(analysis.put({**common, "population": name}, "accuracy (%)", percent))
        known = published.LINEAR_PROBE.get(published.known_as(task.dataset), {}).get(task.name)
        if known is not None:
            bars.append({**common, "source": "published (full network, 300 epochs)", "accuracy (%)": known})
    data: dict[str, list[Record]] = {"together": bars, "layers": layers}
    data |= {"learning": _curves(comparison, chosen, "performance", "validation_accuracy", "accuracy (%)", 100)}
    data |= {"active": _curves(comparison, chosen, "activity", "active_fraction", "active fraction", 1)}
    data |= {"trials": list(tried)}
    sentences = [s for name in splits for s in _sentences(name, splits[name], chosen, found, options)]
    cosines = [name for name in column_names(table) if name.startswith("cosine")]
    shown = ["data set", "method", "seeds", "learning rate", PUBLISHED, TESTED]
    shown += [f"test accuracy, {name} (%)" for name in comparison.populations]
    shown += [*cosines, "minutes of learning"]
    notes = references_in_words(comparison)
    title = "Does local learning match backprop on natural images?"
    return analysis.Results(
        "image_benchmark", title, table, sentences, _charts(list(chosen)), data, columns=shown, options=options, notes=notes
    )


def accuracies_by_seed(comparison: analysis.Comparison, label: str) -> dict[str, dict[str, BySeed]]:
    """Return, per measure and per name of a readout, the final accuracy by seed."""
    runs = comparison.rules[label]
    found: dict[str, dict[str, BySeed]] = {}
    for measure in ("probe_accuracy", "validation_accuracy"):
        entries = comparison.accuracies(label, measure)
        names = [name for name in (*runs[0].populations, TOGETHER) if name in entries]
        finals = {name: zip(runs, entries[name]["final"], strict=True) for name in names}
        by_seed = {name: {r.about["seed"]: float(v) for r, v in final if np.isfinite(v)} for name, final in finals.items()}
        found[measure] = {name: values for name, values in by_seed.items() if values}
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
        PUBLISHED: published.LINEAR_PROBE.get(published.known_as(task.dataset), {}).get(task.name),
    }
    for measure, words in (("probe_accuracy", "test"), ("validation_accuracy", "validation")):
        for name, values in found[measure].items():
            analysis.put(record, f"{words} accuracy, {name} (%)", _percent(values))
    for name, value in comparison.mean_alignment(task.label).items():
        analysis.put(record, f"cosine, {name}", value)
    minutes = [(run.about.get("seconds") or np.nan) / 60 for run in runs]
    return analysis.put(record, "minutes of learning", minutes if task.epochs else [np.nan])


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


def _charts(order: Sequence[str]) -> list[analysis.Chart]:
    interval = "bars: 95 % interval over seeds (Student's t)"
    return [
        analysis.Chart(
            "Linear readout of all populations together",
            "method",
            "accuracy (%)",
            "",
            "test accuracy (%)",
            series="source",
            panel="data set",
            kind="points",
            data="together",
            errors=interval,
            text="Published figures are of the full network and 300 epochs on all images: compare orders, not heights.",
        ),
        analysis.Chart(
            "Linear readout of each population",
            "population",
            "accuracy (%)",
            "population",
            "test accuracy (%)",
            series="method",
            panel="data set",
            data="layers",
            errors=interval,
            order=order,
        ),
        analysis.Chart(
            "What the representation is worth over learning",
            "epochs",
            "accuracy (%)",
            "epochs",
            "validation accuracy, all populations (%)",
            series="method",
            panel="data set",
            data="learning",
            where={"population": TOGETHER},
            errors=interval,
            order=order,
            text="The last point has the best of several penalties, those before a fixed one.",
        ),
        analysis.Chart(
            "Observers that still learn",
            "epochs",
            "active fraction",
            "epochs",
            "active fraction of rows",
            series="method",
            panel="population",
            data="active",
            y_range=(0.0, 1.05),
            errors=interval,
            order=order,
            text="With the hinge, a row whose scores are beyond the margin changes no synapse.",
        ),
    ]


def _sentences(
    dataset: str,
    split: Split,
    chosen: Mapping[str, Task],
    found: Mapping[str, Mapping[str, Mapping[str, BySeed]]],
    options: Mapping[str, Any],
) -> list[str]:
    """Say in which order the methods come here and in the paper, what can be told apart, and what differs."""
    mine = {label: task for label, task in chosen.items() if task.dataset == dataset}
    by_seed = {label: found[label]["probe_accuracy"].get(TOGETHER, {}) for label in mine}
    tested = {label: _percent(values) for label, values in by_seed.items() if values}
    if not tested:
        return []
    order = sorted(tested, key=lambda label: -tested[label].mean())
    listed_here = ", ".join(f"{label} {tested[label].mean():.1f} %" for label in order)
    said = [f"{dataset}, from the best: {listed_here}{_unless_several(tested.values())}."]
    known = published.LINEAR_PROBE.get(published.known_as(dataset), {})
    listed = {label: known[mine[label].name] for label in order if mine[label].name in known}
    if listed:
        ranked = sorted(listed, key=lambda label: -listed[label])
        said.append(f"Published, from the best: {', '.join(f'{label} {listed[label]:.1f} %' for label in ranked)}.")
        said += _agreement(listed, tested)
    tests = len(split.images.test)
    accuracy = float(np.mean([values.mean() for values in tested.values()])) / 100
    sampling = 196 * np.sqrt(2 * accuracy * (1 - accuracy) / tests)
    said.append(
        f"{tests:,} test images: two methods that differ by less than {sampling:.1f} points in one run may differ by the "
        "choice of the test images alone."
    )
    said += _differences(by_seed, mine)
    return [*said, _what_differs(dataset, split, options, list(mine.values()))]


def _agreement(listed: Mapping[str, float], tested: Mapping[str, np.ndarray]) -> list[str]:
    """Say how many pairs of methods come in the published order."""
    pairs = list(combinations(listed, 2))
    same = sum((listed[a] - listed[b]) * (tested[a].mean() - tested[b].mean()) > 0 for a, b in pairs)
    unless = _unless_several(tested[label] for label in listed)
    return [f"{same} of {len(pairs)} pairs of methods come in the published order{unless}."] if pairs else []


def _unless_several(found: Iterable[np.ndarray]) -> str:
    """Return what is said of an order in which not every method has several seeds."""
    return "" if all(len(values) > 1 for values in found) else f" ({NO_INTERVAL})"


def _differences(by_seed: Mapping[str, BySeed], mine: Mapping[str, Task]) -> list[str]:
    """Say what spatial dependence, direct feedback and backprop change, over the seeds that both methods have."""
    by_name = {task.name: label for label, task in mine.items() if by_seed[label]}
    asked = [
        ("clapp++", "clapp++gap", "Spatial dependence"),
        ("clapp++dfb", "clapp++", "Direct feedback in place of the lateral context"),
        ("clapp++both", "clapp++", "Direct feedback beside the lateral context"),
        ("bp-clapp++", "clapp++", "Backprop in place of spatially dependent local learning"),
        ("bp-clapp++", "clapp++gap", "Backprop in place of local learning, both without spatial dependence"),
    ]
    asked += [(name, RANDOM, f"Learning by {by_name[name]}") for name in by_name if name != RANDOM]
    said = []
    for first, second, what in asked:
        if first in by_name and second in by_name:
            a, b = by_seed[by_name[first]], by_seed[by_name[second]]
            gains = [100 * (a[seed] - b[seed]) for seed in sorted(a.keys() & b.keys())]
            if gains:
                gain = estimate(gains)
                each = f"by seed: {', '.join(f'{value:+.1f}' for value in gains)}" if gain.has_interval else NO_INTERVAL
                said.append(f"{what}: {gain.text(1, sign=True)} points ({each}).")
    return said


def _what_differs(dataset: str, split: Split, options: Mapping[str, Any], tasks: Sequence[Task]) -> str:
    """Return what differs from the published setting."""
    name = published.known_as(dataset)
    if name not in published.LINEAR_PROBE:
        return f"{dataset}: no figures are published."
    here: list[tuple[Any, Any, str]] = [
        (options["network"], published.NETWORK, "network"),
        (len(split.learned), published.TRAINING_IMAGES[name], "images to learn from"),
        (split.images.shape[1], published.IMAGE_SIZE[name], "pixels per side"),
        (options["epochs"], published.EPOCHS, "epochs"),
        (options["observers"], published.OBSERVERS, "observers"),
        (options["prediction"], "full", "prediction weights"),
        (options["negatives"] or DEFAULT_NEGATIVES, DEFAULT_NEGATIVES, "negatives per positive pair"),
        (options["products"] or "float32", "float32", "matrix products"),
    ]
    differing = [f"{what} {mine} (published: {theirs})" for mine, theirs, what in here if mine != theirs]
    rates = sorted({task.rate for task in tasks if task.epochs})
    if rates and rates != [published.RATE]:
        differing.append(f"learning rates {', '.join(f'{r:g}' for r in rates)} (published: {published.RATE:g})")
    differing.append(
        f"readouts: logistic regressions of standardised features with a penalty chosen on {len(split.validation):,} images "
        f"set aside, from {len(split.images.train):,} labelled images (published: {published.READOUT})"
    )
    return f"What differs from the published setting: {'; '.join(differing)}."
