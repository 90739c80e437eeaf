"""What a comparison of runs has found: the results of `neurossl compare`, and of protocols without a table of their own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.comparison import Comparison
from analysis.results import Results
from analysis.statistics import NO_INTERVAL, estimate
from analysis.tables import MEAN, Record, cell
from neurossl.text import one_line

COSINE, PROBE, BEFORE = "cosine with reference, ", "linear probe accuracy, ", "linear probe accuracy before learning, "
PIXELS = "linear probe accuracy, raw pixels"
TITLE = "How close is local learning to backprop?"
CAPTION = (
    "cos: cosine of the proposed with the backprop-derived update of the same objective, on the same activity and weights, "
    "mean over training (at the top of a local rule, and wherever a rule computes what its reference does, 1 by "
    "construction); probe: linear readout after learning; ± half-width of the 95 % interval over seeds (Student's t), with "
    "n where it is not the number of seeds; s: seconds of learning per run, without probes"
)


def summarise(
    comparison: Comparison, protocol: str = "comparison", title: str = TITLE, options: Mapping[str, Any] | None = None
) -> Results:
    """Return the results of a comparison: one row per rule, and in words where each reads out better than at its start.

    Parameters
    ----------
    comparison : Comparison
    protocol, title : str
    options : mapping, optional
        With what the protocol was run.
    """
    table = comparison.table()
    headings = {"rule": "rule", "information needed": "information needed"}
    headings |= {COSINE + name: f"cos {name}" for name in _names(table, COSINE)}
    headings |= {PROBE + name: f"probe {name} (%)" for name in _names(table, PROBE) if name != "raw pixels"}
    headings |= {"seconds of learning": "s"}
    return Results(
        protocol,
        title,
        table,
        [*_baselines(table, comparison.populations), *verdicts(comparison), *_not_counted(comparison)],
        columns=list(headings),
        headings=headings,
        caption=CAPTION,
        options=dict(options or {}),
    )


def _not_counted(comparison: Comparison) -> list[str]:
    """Say which runs do not count and how many moments stand behind the cosines."""
    said = comparison.unfinished()
    return [*([said] if said else []), *moments_in_words(comparison)]


def _names(table: Sequence[Record], start: str) -> list[str]:
    """Return what follows ``start`` in the names of columns."""
    found = [column for record in table for column in record if column.startswith(start) and column.endswith(MEAN)]
    return list(dict.fromkeys(column[len(start) :].removesuffix(MEAN) for column in found))


def _baselines(table: Sequence[Record], populations: Sequence[str]) -> list[str]:
    """Say what a readout finds in the raw pixels, and in each population before learning."""
    record = next((r for r in table if r.get(PIXELS + MEAN) is not None), None)
    if record is None:
        return []
    shown = [("raw pixels", PIXELS), *((name, BEFORE + name) for name in populations)]
    parts = [f"{n} {cell(record, column, percent=True)} %" for n, column in shown if record.get(column + MEAN) is not None]
    return [one_line(f"Before learning ({record['rule']}): {', '.join(parts)}.")]


def verdicts(comparison: Comparison) -> list[str]:
    """Return plain sentences: where each rule reads out better than its own random initialisation, and where it does not.

    "Better" means that the interval of the paired difference over seeds excludes 0; one seed has no interval, so that the
    differences are told and nothing is claimed. Runs that have not finished have nothing after learning.
    """
    sentences = []
    for label, runs in comparison.rules.items():
        accuracies = comparison.accuracies(label)
        better: list[str] = []
        worse: list[str] = []
        same: list[str] = []
        counts: set[int] = set()
        gains = {name: entry["final"] - entry["initial"] for name, entry in accuracies.items() if name != runs[0].input}
        several = {int(np.isfinite(gain).sum()) for gain in gains.values()} - {0}
        for name, gain in gains.items():
            n = int(np.isfinite(gain).sum())
            if not n:
                continue
            counts.add(n)
            found = estimate(gain)
            text = f"{name} ({100 * found.mean:+.1f} points{f', n = {n}' if len(several) > 1 else ''})"
            (same if not found.excludes_zero else better if found.mean > 0 else worse).append(text)
        if counts == {1}:
            sentences.append(one_line(f"{label}: a linear readout changes ({NO_INTERVAL}) at {', '.join(same)}."))
        elif better or worse or same:
            parts = [f"better than before learning at {', '.join(better)}"] if better else []
            parts += [f"WORSE than before learning at {', '.join(worse)}"] if worse else []
            parts += [f"not shown to differ at {', '.join(same)}"] if same else []
            n_told = f" (n = {counts.pop()} seeds)" if len(counts) == 1 else ""
            sentences.append(one_line(f"{label}: a linear readout is {'; '.join(parts)}{n_told}."))
    return sentences


def moments_in_words(comparison: Comparison) -> list[str]:
    """Say where a cosine averaged over training rests on fewer moments than were recorded, as after a lesion."""
    told = []
    for label in comparison.rules:
        if (found := comparison.alignments(label)) is None:
            continue
        fewer = []
        for name in map(str, found["pathway"].values):
            mine = found.sel(pathway=name)
            used, recorded = mine["moments"].values, mine["recorded"].values
            if (used < recorded).any():
                least = int((recorded - used).argmax())
                fewer.append(f"{name} {used[least]} of {recorded[least]}")
        if fewer:
            told.append(f"{label} {', '.join(fewer)}")
    if not told:
        return []
    where = "fewest of any seed; the others are not trustworthy, or an update or its reference vanishes"
    return [one_line(f"Mean cosines over training rest on fewer moments than were recorded ({where}): {'; '.join(told)}.")]


def left_out_in_words(comparison: Comparison) -> list[str]:
    """Say which runs have not finished, how many comparisons of updates are not trusted and why, and what does not fit."""
    lines = [said] if (said := comparison.unfinished()) else []
    for label in comparison.rules:
        reasons = comparison.untrusted(label)
        if count := sum(reasons.values()):
            because = ", ".join(f"{n} {'for reasons not stored' if why == 'unknown' else why}" for why, n in reasons.items())
            lines.append(one_line(f"{label}: {count} comparisons of updates are not trusted and are left out ({because})."))
    lines += [one_line(f"Not side by side: {misfit}.") for misfit in json.loads(comparison.tree.attrs.get("misfits", "[]"))]
    return lines + moments_in_words(comparison)
