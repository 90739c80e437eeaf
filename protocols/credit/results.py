"""Tables of `protocols.ssl_credit_assignment`, put together with its sentences and charts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words, references_in_words
from analysis.results import Results
from analysis.tables import Record, column_names, put
from protocols.credit.charts import CHARTS, VALIDATION
from protocols.credit.sentences import SEEN, Scores, Traces, answers, difference, reasons

MEAN_ACCURACY = "linear probe accuracy, mean over V1, V2, ..."
GAIN = "change of that mean by learning"
AGAINST_BP = "difference of that mean from BP"
BEFORE = "before learning"


def results_of(
    comparison: analysis.Comparison,
    conditions: Sequence[Any],
    objectives: Mapping[str, str],
    tried: Sequence[Mapping[str, Any]],
    rates: Mapping[str, float],
    traces: Traces,
    options: Mapping[str, Any],
) -> Results:
    """Return table, sentences and charts.

    Parameters
    ----------
    comparison : analysis.Comparison
        Of the stored runs; rules are conditions by label.
    conditions : sequence of Condition
    objectives : mapping of str to str
        Labels by name.
    tried : sequence of mapping
        condition, rate, validation accuracy.
    rates : mapping of str to float
        Chosen, by name of the condition.
    traces : sequence of mapping
        What `settling.trace` has seen, with where it was seen.
    options : mapping
    """
    scores = Scores(comparison)
    learned = [c for c in conditions if c.label in comparison.rules]
    table = [_record(comparison, scores, c, objectives[c.objective], rates[c.name]) for c in learned]
    data = {
        "accuracy": list(_accuracies(scores, [c for c in learned if not c.transport.startswith("PC,")], objectives)),
        "accuracy of PC": list(_accuracies(scores, [c for c in learned if c.transport[:2] in ("BP", "PC")], objectives)),
        "alignment": list(_alignments(comparison, learned, objectives)),
        "learning rates": [
            {
                "objective": objectives[t["condition"].objective],
                "transport": t["condition"].transport,
                "learning rate": t["rate"],
                VALIDATION: t["accuracy"],
                "chosen": rates[t["condition"].name] == t["rate"],
            }
            for t in tried
        ],
        **_settling_tables(traces, objectives),
    }
    sentences = [
        *answers(scores, learned, objectives, tried, rates),
        *reasons(scores, learned, traces, objectives, options),
    ]
    names = [p.removeprefix("linear probe accuracy, ") for p in column_names(table) if p.startswith("linear probe")]
    columns = [
        *("objective", "transport", "learning rate"),
        *(f"linear probe accuracy, {n}" for n in names),
        *(GAIN, AGAINST_BP),
        *(c for c in column_names(table) if c.startswith("cosine")),
    ]
    transports = list(dict.fromkeys(c.transport for c in learned))
    order = [*(t for t in transports if not t.startswith("PC,")), BEFORE, *(t for t in transports if t.startswith("PC,"))]
    charts = [replace(chart, order=order) if chart.series == "transport" else chart for chart in CHARTS]
    title = "Can predictive coding carry the credit of self-supervised learning?"
    told: dict[str, Any] = {
        "notes": references_in_words(comparison),
        "columns": columns,
        "options": dict(options),
        "curves": False,
    }
    return Results("ssl_credit_assignment", title, table, sentences, charts, data, **told)


def _record(comparison: analysis.Comparison, scores: Scores, condition: Any, objective: str, rate: float) -> Record:
    label = condition.label
    runs = comparison.rules[label]
    record: Record = {
        "objective": objective,
        "transport": condition.transport,
        "information needed": ", ".join(runs[0].about.get("needs") or []) or "nothing beyond the synapse",
        COLUMN: reference_in_words(runs[0].about) or None,
        "seeds": len(runs),
        "learning rate": rate,
    }
    for population in next(iter(scores.final[label].values()), {}):
        put(record, f"linear probe accuracy, {population}", list(scores.of(label, population).values()))
    put(record, MEAN_ACCURACY, list(scores.of(label).values()))
    put(record, GAIN, scores.gain(label))
    put(record, AGAINST_BP, difference(scores.of(label), scores.of(f"{objective}, BP")))
    for pathway, cosine in comparison.mean_alignment(label).items():
        put(record, f"cosine with BP, {pathway}", cosine)
    return put(record, "seconds of learning", [run.about.get("seconds") or np.nan for run in runs])


def _accuracies(scores: Scores, conditions: Sequence[Any], objectives: Mapping[str, str]) -> Iterator[Record]:
    """Yield the accuracy in % per condition and population, and before learning, in every panel."""
    for name, objective in objectives.items():
        mine = [c for c in conditions if c.objective == name]
        for condition in mine:
            for population in next(iter(scores.final[condition.label].values()), {}):
                record = {"objective": objective, "transport": condition.transport, "population": population}
                yield put(record, "accuracy (%)", [100 * a for a in scores.of(condition.label, population).values()])
        if mine:
            for population in next(iter(scores.initial[mine[0].label].values()), {}):
                record = {"objective": objective, "transport": BEFORE, "population": population}
                before = scores.of(mine[0].label, population, initial=True).values()
                yield put(record, "accuracy (%)", [100 * a for a in before])


def _alignments(
    comparison: analysis.Comparison, conditions: Sequence[Any], objectives: Mapping[str, str]
) -> Iterator[Record]:
    for condition in conditions:
        if condition.transport == "BP" or condition.top_only:
            continue
        for pathway, cosine in comparison.mean_alignment(condition.label).items():
            record = {"objective": objectives[condition.objective], "transport": condition.transport, "pathway": pathway}
            yield put(record, "cosine", cosine)


def _settling_tables(traces: Traces, objectives: Mapping[str, str]) -> dict[str, list[Record]]:
    """Return means over seeds of what was seen while settling, and of the cosines per pathway."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    keys = ("series", "objective", "learned by", "share of training", "rate", "strength set", "step")
    for seen in traces:
        groups.setdefault(tuple(seen.get(k) for k in keys), []).append(seen)
    settling: list[Record] = []
    cosines: list[Record] = []
    for key, seeds in groups.items():
        where = dict(zip(keys, key, strict=True))
        where["objective"] = objectives[where["objective"]]
        where["stage"] = f"{where['share of training']:.0%} of training"
        where["shown rate"] = f"rate {where['rate']:g}"
        record: Record = dict(where)
        for name, get in SEEN.items():
            put(record, name, [get(t) for t in seeds])
        settling.append(record)
        for pathway in seeds[0]["update"]:
            measured = [t["update"][pathway] for t in seeds if pathway in t["update"]]
            entry = put({**where, "pathway": pathway}, "cosine", [m["cosine"] for m in measured])
            cosines.append(put(entry, "relative error", [m["relative_error"] for m in measured]))
    forces = {"held": "gamma held", "recomputed": "gamma recomputed"}
    held = [{**r, "force": forces[r["series"]]} for r in settling if r["series"] in forces]
    order = list(dict.fromkeys(r["pathway"] for r in cosines))
    return {"settling": settling, "cosines": sorted(cosines, key=lambda r: order.index(r["pathway"])), "held": held}
