"""Table, sentences and charts of `protocols.spatial_dependence`.

    gain        = accuracy with - accuracy without spatial dependence, paired by seed
    difference  = gain in a network - gain in the plain one, paired by seed

Whether these differ from 0 is one family of claims, corrected by Holm's method.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words
from analysis.statistics import NO_INTERVAL, estimate
from analysis.tables import Record
from protocols.compare_rules import LABELS
from protocols.images.decisions import Asked, Decision, decide
from protocols.images.readouts import TOGETHER
from protocols.images.report import accuracies_by_seed
from protocols.images.runs import RANDOM, Task

METHODS = (RANDOM, "clapp++gap", "clapp++", "clapp-dfb", "clapp++dfb", "bp-clapp++")
CONTEXTS = {"lateral context": ("clapp++", "clapp++gap"), "direct feedback": ("clapp++dfb", "clapp-dfb")}
"""The rules with and without spatial dependence."""
NAMES = {
    **{name: LABELS.get(name, name) for name in METHODS},
    RANDOM: "before learning",
    "clapp-dfb": "CLAPP++DFB without spatial dependence",
}
TESTED = "test accuracy, all populations (%)"
TOP = "test accuracy, top (%)"
LEARNED = "change by learning (points)"
GAIN = "gain of spatial dependence (points)"
GAIN_AT_TOP = "the same of the top (points)"
DIFFERENCE = "difference of the gain from that in the first network (points)"
BELOW_TOP = "mean cosine below the top"
REFERENCE = "cosines: with backprop of the rule's own score at the top, in as many cells as the rule has there"


def label_of(network: str, method: str) -> str:
    """Return the label of the runs of a method in a network."""
    return f"{network}, {NAMES[method]}"


class Scores:
    """Accuracies of linear readouts of all populations together, by label and seed.

    Parameters
    ----------
    comparison : analysis.Comparison
    tasks : sequence of Task
    """

    def __init__(self, comparison: analysis.Comparison, tasks: Sequence[Task]) -> None:
        self.found = {t.label: accuracies_by_seed(comparison, t.label) for t in tasks if t.label in comparison.rules}

    def of(self, network: str, method: str, population: str = TOGETHER) -> dict[int, float]:
        """Return the test accuracy by seed; empty where there is none."""
        found = self.found.get(label_of(network, method), {}).get("probe_accuracy", {})
        return dict(found.get(population, {}))

    def gain(self, network: str, context: str, population: str = TOGETHER) -> dict[int, float]:
        """Return the gain of spatial dependence by seed."""
        with_it, without = (self.of(network, method, population) for method in CONTEXTS[context])
        return {seed: with_it[seed] - without[seed] for seed in sorted(with_it.keys() & without.keys())}


def decisions_of(scores: Scores, networks: Sequence[str]) -> tuple[list[Decision], list[Decision]]:
    """Return what is decided of gains, and of their differences from that in the first network, as one family."""
    gains, differences = [], []
    for context, (with_it, without) in CONTEXTS.items():
        plain = scores.gain(networks[0], context)
        for network in networks:
            gains.append(Asked(network, context, with_it, without, scores.of(network, with_it), scores.of(network, without)))
            if network != networks[0]:
                differences.append(Asked(network, context, network, networks[0], scores.gain(network, context), plain))
    told = decide([*gains, *differences])
    of_gains = [one for one in told if any(one.asked is asked for asked in gains)]
    return of_gains, [one for one in told if one not in of_gains]


def results_of(
    comparison: analysis.Comparison,
    tasks: Sequence[Task],
    networks: Sequence[str],
    tried: Sequence[Record],
    options: Mapping[str, Any],
) -> analysis.Results:
    """Return the results of the runs that have finished.

    Parameters
    ----------
    comparison : Comparison
    tasks : sequence of Task
    networks : sequence of str
        The plain one first.
    tried : list of dict
        What the trials of learning rates have found.
    options : mapping
    """
    scores = Scores(comparison, tasks)
    gains, differences = decisions_of(scores, networks)
    there = {task.label: task for task in tasks if task.label in comparison.rules}
    table = [_record(comparison, scores, task, gains, differences) for task in there.values()]
    told: list[Record] = [
        analysis.put(
            {"network": c.asked.place, "context": c.asked.what, "p": c.p, "p after Holm": c.p_holm}, GAIN, c.difference
        )
        for c in gains
    ]
    columns = ["network", "method", "seeds", "learning rate", TESTED, TOP, LEARNED, GAIN, GAIN_AT_TOP, DIFFERENCE, BELOW_TOP]
    return analysis.Results(
        "spatial_dependence",
        "Does the gain of spatial dependence carry over to other networks?",
        table,
        [*_answers(gains, differences, networks[0]), *_accuracies(scores, networks), *_tuning(there, tried, options)],
        CHARTS,
        {"gains": told, "trials": list(tried)},
        columns=[*columns, "minutes of learning"],
        notes=[REFERENCE],
        options=options,
        curves=False,
    )


def _record(
    comparison: analysis.Comparison, scores: Scores, task: Task, gains: Sequence[Decision], differences: Sequence[Decision]
) -> Record:
    runs = comparison.rules[task.label]
    record: Record = {
        "network": task.network,
        "method": NAMES[task.name],
        "rule": task.name,
        "information needed": ", ".join(runs[0].about.get("needs") or []) or "nothing beyond the synapse",
        COLUMN: reference_in_words(runs[0].about) or None,
        "populations": len(runs[0].populations),
        "seeds": len(runs),
        "learning rate": task.rate if task.epochs else None,
    }
    mine, top = scores.of(task.network, task.name), runs[0].populations[-1]
    analysis.put(record, TESTED, _percent(mine))
    analysis.put(record, TOP, _percent(scores.of(task.network, task.name, top)))
    before = scores.of(task.network, RANDOM) if task.epochs else {}
    analysis.put(record, LEARNED, _percent({seed: mine[seed] - before[seed] for seed in mine if seed in before}))
    context = next((name for name, (rule, _) in CONTEXTS.items() if rule == task.name), None)
    for column, claims in ((GAIN, gains), (DIFFERENCE, differences)):
        for claim in claims:
            if (claim.asked.place, claim.asked.what) == (task.network, context):
                analysis.put(record, column, claim.difference)
    if context is not None:
        analysis.put(record, GAIN_AT_TOP, _percent(scores.gain(task.network, context, top)))
    found = comparison.alignments(task.label)
    if found is not None:
        below = [name for name in found["pathway"].values if "->" in name and not name.endswith(f"->{top}")]
        analysis.put(record, BELOW_TOP, found["mean"].sel(pathway=below).mean("pathway").values)
    minutes = [(run.about.get("seconds") or np.nan) / 60 for run in runs]
    return analysis.put(record, "minutes of learning", minutes if task.epochs else [np.nan])


def _percent(by_seed: Mapping[int, float]) -> list[float]:
    return [100 * value for value in by_seed.values()]


def _answers(gains: Sequence[Decision], differences: Sequence[Decision], plain: str) -> Iterator[str]:
    """Say where spatial dependence gains, and where it gains another amount than in the plain network."""
    for context in CONTEXTS:
        mine = [claim for claim in gains if claim.asked.what == context]
        if mine:
            listed = "; ".join(f"{claim.asked.place} {claim.verdict}" for claim in mine)
            yield f"Gain of spatial dependence, {context}: {listed}."
        beside = [claim for claim in differences if claim.asked.what == context]
        if beside:
            listed = "; ".join(f"{claim.asked.place} {claim.verdict}" for claim in beside)
            yield f"That gain, less the gain in {plain}, {context}: {listed}."
        others = [claim for claim in mine if claim.asked.place != plain]
        if others and all(claim.difference.has_interval for claim in others):
            shown = [claim.asked.place for claim in others if claim.is_decided and claim.difference.mean > 0]
            lost = [claim.asked.place for claim in others if claim.is_decided and claim.difference.mean < 0]
            said = f"With {context}, a gain of spatial dependence is shown in {', '.join(shown) or 'none'}"
            said += f" of {len(others)} networks beside {plain}" + (f"; a loss in {', '.join(lost)}" if lost else "")
            unlike = [claim for claim in beside if claim.is_decided]
            words = [f"{'larger' if claim.difference.mean > 0 else 'smaller'} in {claim.asked.place}" for claim in unlike]
            than = f"{', '.join(words)} than in {plain}" if words else f"in none shown to differ from that in {plain}"
            yield f"{said}. It is {than}."


def _accuracies(scores: Scores, networks: Sequence[str]) -> Iterator[str]:
    for network in networks:
        found = {name: estimate(_percent(scores.of(network, name))) for name in METHODS if scores.of(network, name)}
        order = sorted(found, key=lambda name: -found[name].mean)
        if order:
            listed = ", ".join(f"{NAMES[name]} {found[name].text(1)} %" for name in order)
            several = all(one.has_interval for one in found.values())
            yield f"{network}, from the best: {listed}{'' if several else f' ({NO_INTERVAL})'}."


def _tuning(there: Mapping[str, Task], tried: Sequence[Record], options: Mapping[str, Any]) -> Iterator[str]:
    """Say how learning rates were chosen, and which are at an end of those that were tried."""
    rates = sorted(options["rates"])
    if not tried:
        yield f"One learning rate for all: {rates[0]:g}."
        return
    ends = {task.label: task.rate for task in there.values() if task.epochs and task.rate in (rates[0], rates[-1])}
    said = ", ".join(f"{label}: {rate:g}" for label, rate in ends.items())
    listed = ", ".join(f"{rate:g}" for rate in rates)
    yield (
        f"Each method in each network had {len(rates)} learning rates ({listed}) in trials of "
        f"{options['trial_epochs']} epochs, and that with the best validation accuracy is used; at an end "
        f"of these: {said or 'none'}."
    )


CHARTS = (
    analysis.Chart(
        "Gain of spatial dependence",
        "network",
        GAIN,
        "",
        "gain of spatial dependence (points)",
        series="context",
        data="gains",
        kind="points",
        levels={"no gain": 0.0},
        errors="bars: 95 % interval of the paired differences (Student's t)",
        text="Accuracy of a linear readout of all populations with spatial dependence, less that without.",
    ),
    analysis.Chart(
        "Linear readout of all populations together",
        "method",
        TESTED,
        "",
        "test accuracy (%)",
        series="network",
        kind="points",
        errors="bars: 95 % interval over seeds (Student's t)",
        text="Networks differ in size: compare methods within a network.",
    ),
)
