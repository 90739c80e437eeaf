"""How close the change of the weights came to that of backprop's own run, as records of a table and in words.

A cosine of accumulated changes below 1 does not say that a rule differs from backprop: backprop on other views of the same
images ends elsewhere too. It is held against that ceiling, where such twins of the references were run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.inference import holm, paired_difference
from analysis.paths import accumulated_alignment
from analysis.references import own_references
from analysis.statistics import Estimate, estimate
from analysis.tables import Record, put
from neurossl.errors import NeurosslError
from neurossl.text import one_line

if TYPE_CHECKING:
    from analysis.comparison import Comparison

CHANCE = ("chance", "chance_shared_inputs", "chance_shared_outputs")
LEVEL = 0.05
_COSINE = "cosine of accumulated changes"


def accumulated_with_own_references(comparison: Comparison) -> xr.Dataset | None:
    """Return `accumulated_alignment` of the feedforward pathways with each rule's own reference.

    With ``ceiling`` where twins of the references were run. None where no weights, or no runs of the references, were
    stored.
    """
    if not comparison.runs:  # all were stopped before their end
        return None
    tree = comparison.tree
    if "weights" not in tree.children:
        return None
    forward = [name for name in comparison.pathways if name in tree["weights"].children]
    try:
        references = own_references(tree)
        twins = {name: twin for name, twin in comparison.twins.items() if name in set(references.values())}
        return accumulated_alignment(tree, references, forward, ceiling=twins or None)
    except NeurosslError:
        return None


def accumulated_at_the_end(comparison: Comparison) -> xr.Dataset | None:
    """Return the same at the last common snapshot, (rule, seed, pathway), of the rules that are not their own reference."""
    found = comparison.accumulated
    if found is None:
        return None
    there = found["cosine"].notnull().any([dim for dim in found["cosine"].dims if dim != "snapshot"])
    if not bool(there.any()):
        return None
    last = found.isel(snapshot=int(np.flatnonzero(there.values)[-1]))
    return last.sel(rule=~last["by_construction"].values)


def accumulated_records(comparison: Comparison) -> list[Record]:
    """Return, per rule and pathway, the cosine of the accumulated change with its reference's, its ceiling and chance."""
    found = accumulated_at_the_end(comparison)
    if found is None or not found.sizes["rule"]:
        return []
    labels = {name: label for label, name in comparison.names.items()}
    references = own_references(comparison.tree)
    records: list[Record] = []
    for rule in map(str, found["rule"].values):
        for pathway in map(str, found["pathway"].values):
            here = found.sel(rule=rule, pathway=pathway)
            if not bool(here["cosine"].notnull().any()):
                continue
            record: Record = {"rule": labels[rule], "reference": labels[references[rule]], "pathway": pathway}
            single = comparison.scalars(labels[rule], "alignment", "cosine")
            if single is not None and pathway in single["pathway"].values:
                mine = single.sel(pathway=pathway).where(single["event"] > 0)
                put(record, "cosine of single updates", mine.mean("event").values)
            put(record, _COSINE, here["cosine"].values)
            if "ceiling" in here:
                put(record, "ceiling", here["ceiling"].values)
                record |= _below_ceiling(here)
            record["chance (standard deviation)"] = float(max(float(here[name].max()) for name in CHANCE if name in here))
            records.append(record)
    return _corrected(records)


def accumulated_in_words(comparison: Comparison) -> list[str]:
    """Say for every rule how close the change of its weights came to backprop's own, beside its ceiling."""
    records = comparison.accumulated_table
    said = []
    for rule in dict.fromkeys(record["rule"] for record in records):
        mine = [record for record in records if record["rule"] == rule]
        parts = []
        for record in mine:
            text = f"{record['pathway']} {_of(record, 'cosine of accumulated changes').text(2)}"
            ceiling = _of(record, "ceiling")
            text += f" (ceiling {ceiling.text(2)})" if ceiling.n else ""
            parts.append(text)
        n = max(_of(record, _COSINE).n for record in mine)
        reference = mine[0]["reference"]
        said.append(
            one_line(f"{rule}: change of the weights with that of {reference}, cosine {', '.join(parts)} (n = {n}).")
        )
    tested = [record for record in records if record.get("below ceiling, p (Holm)") is not None]
    if tested:
        below = [record for record in tested if record["below ceiling, p (Holm)"] < LEVEL and record["below ceiling"] < 0]
        at = {rule: [r["pathway"] for r in below if r["rule"] == rule] for rule in dict.fromkeys(r["rule"] for r in below)}
        where = "; ".join(f"{rule} at {', '.join(pathways)}" for rule, pathways in at.items()) or "nowhere"
        said.append(
            one_line(
                "The ceiling is the reference's own cosine with a twin on other views of the same images; rules on the same "
                f"views may exceed it. Shown to be below it after Holm's correction over {len(tested)} comparisons: {where}."
            )
        )
    elif records and not any(record.get("ceiling (mean)") is not None for record in records):
        said.append("Their ceiling is not known: no reference was run a second time on other stimuli.")
    return said


def accumulated_headline(comparison: Comparison) -> str:
    """Return one sentence: the closest and the farthest rule after learning, each with its reference and its ceiling."""
    records = comparison.accumulated_table
    if not records:
        return ""
    of_rule = {rule: [r for r in records if r["rule"] == rule] for rule in dict.fromkeys(r["rule"] for r in records)}
    ordered = sorted(of_rule, key=lambda rule: -float(np.mean([_of(r, _COSINE).mean for r in of_rule[rule]])))
    ends = [_range_in_words(rule, of_rule[rule]) for rule in dict.fromkeys((ordered[0], ordered[-1]))]
    seeds = sorted({_of(record, _COSINE).n for record in records})
    known = any(_of(record, "ceiling").n for record in records)
    meant = (
        "in brackets, what that reference reaches with itself on other views"
        if known
        else "what the references reach with themselves on other views was not run"
    )
    return (
        f"After learning, the change of the weights has a cosine of {' and of '.join(ends)} "
        f"(range of means over pathways, n = {'-'.join(map(str, seeds))}; {meant})."
    )


def _range_in_words(rule: str, mine: list[Record]) -> str:
    """Say between which values the cosines of a rule lie, of which reference, and where its ceilings lie."""
    text = f"{_range([_of(record, _COSINE).mean for record in mine])} in {rule} with that of {mine[0]['reference']}"
    ceilings = [ceiling.mean for record in mine if (ceiling := _of(record, "ceiling")).n]
    return f"{text} ({_range(ceilings)})" if ceilings else text


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _below_ceiling(here: xr.Dataset) -> Record:
    """Return by how much a rule is above (below: negative) the ceiling of its reference, paired by seed, and its p value."""
    both = here["cosine"].notnull() & here["ceiling"].notnull()
    if int(both.sum()) < 2:
        return {}
    found = paired_difference(here["cosine"].where(both, drop=True), here["ceiling"].where(both, drop=True))
    return {"below ceiling": float(found["difference"]), "below ceiling, p": float(found["p"])}


def _corrected(records: list[Record]) -> list[Record]:
    """Add p values corrected over all comparisons with a ceiling."""
    tested = [record for record in records if np.isfinite(record.get("below ceiling, p", np.nan))]
    if tested:
        corrected = holm(np.array([record["below ceiling, p"] for record in tested]))
        for record, p in zip(tested, np.asarray(corrected), strict=True):
            record["below ceiling, p (Holm)"] = float(p)
    return records


def _of(record: Record, column: str) -> Estimate:
    """Return a mean of a record as an estimate."""
    mean = record.get(f"{column} (mean)")
    if mean is None:
        return estimate([])
    half = record.get(f"{column} (95 % half-width)")
    return Estimate(mean, float("nan") if half is None else half, int(record.get(f"{column} (n)", 1)))
