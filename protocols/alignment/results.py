"""Table, sentences and charts of `protocols.update_alignment`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

import analysis
from analysis.cosine_references import COLUMN, reference_in_words, references_in_words
from analysis.statistics import NO_INTERVAL
from analysis.tables import Record, column_names

HALVES = ("first half", "last half")
STAGES = 8
"""Parts of learning over which the course of alignment is averaged."""
BELOW_TOP = "cosine below the top"


def label_of(network: str, feedback: str) -> str:
    """Return the label of the runs of a network with a kind of feedback."""
    return f"{network}, {feedback}"


def results_of(
    comparison: analysis.Comparison, networks: Sequence[str], feedback: Sequence[str], options: Mapping[str, Any]
) -> analysis.Results:
    """Return the table, one record per network and kind of feedback, and the cosines by layer and over training."""
    table: list[Record] = []
    layers: list[Record] = []
    course: list[Record] = []
    halves: dict[tuple[str, str, str], xr.DataArray] = {}
    for network in networks:
        for name in feedback:
            where: Record = {"network": network, "feedback": name}
            label = label_of(network, name)
            if label not in comparison.rules:
                continue
            cosines = _cosines(comparison, label)
            pathways, events = cosines["pathway"].values.tolist(), cosines["event"].values
            top = comparison.rules[label][0].populations[-1]
            below = cosines.sel(pathway=[p for p in pathways if not p.endswith(f"->{top}")])
            late = events > 0.5 * events.max()
            record = {**where, COLUMN: reference_in_words(comparison.rules[label][0].about) or None}
            for depth, pathway in enumerate(pathways, 1):
                values = _mean(cosines.sel(event=events[late], pathway=[pathway])).values
                analysis.put(record, f"cosine, {pathway}", values)
                layers.append(analysis.put({**where, "layer": depth, "pathway": pathway}, "cosine", values))
            for which, kept in zip(HALVES, (~late, late), strict=True):
                halves[network, name, which] = _mean(below.sel(event=events[kept]))
                analysis.put(record, f"{BELOW_TOP}, {which}", halves[network, name, which].values)
            record["comparisons trusted"] = float(below.notnull().mean())
            for some in np.array_split(events, min(STAGES, len(events))):
                seen = {**where, "observers seen": float(some.mean()) * options["observers"]}
                course.append(analysis.put(seen, "cosine", _mean(below.sel(event=some)).values))
            table.append(_with_readouts(record, comparison, label))
    return analysis.Results(
        "update_alignment",
        "Who predicts? Alignment with backprop for four kinds of feedback",
        table,
        [said for network in networks for which in HALVES for said in _order(halves, network, feedback, which)],
        CHARTS,
        {"layers": layers, "over training": course},
        columns=[name for name in column_names(table) if name != COLUMN],
        notes=references_in_words(comparison),
        options=options,
    )


def _with_readouts(record: Record, comparison: analysis.Comparison, label: str) -> Record:
    """Add what a linear readout finds at the top and over all populations, and how much of it came with learning."""
    accuracies = comparison.accuracies(label)
    names = [name for name in comparison.rules[label][0].populations if name in accuracies]
    if names:
        gains = [accuracies[name]["final"] - accuracies[name]["initial"] for name in names]
        analysis.put(record, f"linear probe accuracy of the top, {names[-1]}", accuracies[names[-1]]["final"])
        analysis.put(record, "its change by learning", gains[-1])
        analysis.put(record, "change of the mean over all populations by learning", np.mean(gains, 0))
    return record


def _cosines(comparison: analysis.Comparison, label: str) -> xr.DataArray:
    """Return the trusted cosines of every seed with backprop, (seed, event, feedforward pathway)."""
    found = comparison.scalars(label, "alignment", "cosine")
    assert found is not None, "every condition records its alignment"
    return found.sel(pathway=[p for p in comparison.rules[label][0].pathways if p in found["pathway"].values])


def _mean(cosines: xr.DataArray) -> xr.DataArray:
    """Return the mean per seed, (seed,): over the trusted moments of every pathway, then over pathways."""
    return cosines.mean("event").mean("pathway")


def _order(
    halves: Mapping[tuple[str, str, str], xr.DataArray], network: str, feedback: Sequence[str], which: str
) -> Iterator[str]:
    """Yield in which order the kinds of feedback align below the top, and which neighbours differ over the seeds."""
    found = {name: halves[network, name, which] for name in feedback if (network, name, which) in halves}
    mine = {name: values for name, values in found.items() if bool(values.notnull().any())}
    said = f"{network}, {which} of learning: "
    if not mine:
        if found:
            yield f"{said}no comparison with backprop can be trusted."
        return
    order = sorted(mine, key=lambda name: -float(mine[name].mean()))
    values = ", ".join(f"{name} {analysis.estimate(mine[name].values)}" for name in order)
    said += f"mean cosine below the top, from the best: {values}"
    if len(mine) < len(found):
        said += f"; none that can be trusted: {', '.join(name for name in found if name not in mine)}"
    if min(values.sizes["seed"] for values in mine.values()) == 1:
        said += f" ({NO_INTERVAL})"
    elif len(order) > 1:
        gaps = {f"{one} - {other}": analysis.estimate((mine[one] - mine[other]).values) for one, other in pairwise(order)}
        told = [f"{pair} {gap}{'' if gap.excludes_zero else ' (no difference shown)'}" for pair, gap in gaps.items()]
        said += f"; paired by seed, {', '.join(told)}"
    yield f"{said}."


CHARTS = (
    analysis.Chart(
        "Alignment with backprop below the top, over training",
        "observers seen",
        "cosine",
        "observers seen",
        "cosine with backprop",
        series="feedback",
        panel="network",
        data="over training",
        levels={"no alignment": 0.0},
        y_range=(-1.05, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="Mean over the pathways below the top, over parts of learning.",
    ),
    analysis.Chart(
        "Alignment with backprop by layer, last half of learning",
        "layer",
        "cosine",
        "layer (1: from the retina)",
        "cosine with backprop",
        series="feedback",
        panel="network",
        data="layers",
        levels={"no alignment": 0.0},
        y_range=(-1.05, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="The top learns by the same loss as backprop, so its cosine is 1 in all conditions.",
    ),
)
