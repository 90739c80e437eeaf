"""What a comparison of runs has found: the results of `neurossl compare`, and of protocols without a table of their own."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.comparison import Comparison
from analysis.cosine_references import references_in_words
from analysis.page_claims import sentences
from analysis.path_results import accumulated_in_words
from analysis.results import Results
from analysis.tables import MEAN, Record, cell
from neurossl.text import one_line

COSINE, PROBE, BEFORE = "cosine with reference, ", "linear probe accuracy, ", "linear probe accuracy before learning, "
PIXELS = "linear probe accuracy, raw pixels"
TITLE = "How close is local learning to backprop?"
CAPTION = (
    "cos: cosine of the proposed update with that of the reference named below, on the same activity and weights, "
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
        [
            *_baselines(table, comparison.populations),
            *accumulated_in_words(comparison),
            *verdicts(comparison),
            *_not_counted(comparison),
        ],
        data={"accumulated": comparison.accumulated_table},
        columns=list(headings),
        headings=headings,
        caption=CAPTION,
        notes=references_in_words(comparison),
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
    seeds = record.get("seeds")
    said = f", n = {seeds}" if seeds else ""
    return [one_line(f"Before learning ({record['rule']}{said}): {', '.join(parts)}.")]


def verdicts(comparison: Comparison) -> list[str]:
    """Return plain sentences: where rules read out better than at their start, or than backprop, and where not.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    list of str
        One line per rule, and one that says how many claims were corrected for; see `analysis.claims`. With one seed the
        differences are told and nothing is claimed.
    """
    return sentences(comparison.claims)


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
