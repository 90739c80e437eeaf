"""Tables of `protocols.ssl_credit_assignment`, put together with its sentences and charts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import COLUMN, reference_in_words
from analysis.results import Results
from analysis.tables import Record, column_names, put, put_interval
from protocols.credit.charts import CHARTS, GAINED, SHARE, VALIDATION
from protocols.credit.conditions import PREDICTIVE, Condition
from protocols.credit.rates import Chosen, Tried, budget_in_words
from protocols.credit.sentences import AT_REST, SEEN, Traces, reasons
from protocols.credit.verdicts import WORDS, Scores, Verdict, answers, difference, verdicts

MEAN_ACCURACY = "linear probe accuracy, mean over V1, V2, ..."
GAIN = "change of that mean by learning"
OF_BP = "share of what BP gains"
AGAINST_BP = "difference of that mean from BP"
BEFORE = "before learning"
VERDICT = "verdict"


def results_of(
    comparison: analysis.Comparison,
    conditions: Sequence[Condition],
    objectives: Mapping[str, str],
    tried: Sequence[Tried],
    chosen: Chosen,
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
    tried : sequence of Tried
    chosen : mapping
        Learning rates by network, which is one, and name of the condition.
    traces : sequence of mapping
        What `settling.trace` has seen, with where it was seen.
    options : mapping
    """
    scores, rates = Scores(comparison), {name: rate for (_, name), rate in chosen.items()}
    learned = [c for c in conditions if c.label in comparison.rules]
    judged = verdicts(scores, learned)
    table = [_record(comparison, scores, c, objectives[c.objective], rates[c.name], judged.get(c.name)) for c in learned]
    data = {
        "gains": list(_gains(scores, learned, objectives, judged)),
        "accuracy": list(_accuracies(scores, [c for c in learned if c.kind not in PREDICTIVE], objectives)),
        "accuracy of PC": list(_accuracies(scores, [c for c in learned if c.kind in ("bp", *PREDICTIVE)], objectives)),
        "alignment": list(_alignments(comparison, learned, objectives)),
        "learning rates": list(_tried(tried, rates, objectives)),
        **_settling_tables([t for t in traces if t["series"] != AT_REST], objectives),
    }
    sentences = [
        *answers(scores, learned, objectives, judged),
        budget_in_words(
            tried, {(one.choice.network, one.choice.condition.name): rates[one.choice.condition.name] for one in tried}
        ),
        *_lengths(comparison, learned),
        *reasons(scores, learned, traces, objectives, options),
    ]
    names = [p.removeprefix("linear probe accuracy, ") for p in column_names(table) if p.startswith("linear probe")]
    columns = [
        *("objective", "transport", "learning rate"),
        *(f"linear probe accuracy, {n}" for n in names),
        *(GAIN, OF_BP, VERDICT, AGAINST_BP),
        *(c for c in column_names(table) if c.startswith("cosine")),
    ]
    transports = list(dict.fromkeys(c.transport for c in learned))
    predictive = {c.transport for c in learned if c.kind in PREDICTIVE}
    order = [*(t for t in transports if t not in predictive), BEFORE, *(t for t in transports if t in predictive)]
    charts = [replace(chart, order=order) if chart.series == "transport" else chart for chart in CHARTS]
    title = "Can predictive coding carry the credit of self-supervised learning?"
    told: dict[str, Any] = {
        "notes": ["cosines with BP of the same objective at the top of the same network"],
        "columns": columns,
        "options": dict(options),
        "curves": False,
    }
    return Results("ssl_credit_assignment", title, table, sentences, charts, data, **told)


def _record(
    comparison: analysis.Comparison,
    scores: Scores,
    condition: Condition,
    objective: str,
    rate: float,
    judged: Verdict | None,
) -> Record:
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
    if judged is not None:
        record = put_interval(record, OF_BP, judged.share, judged.low, judged.high) | {VERDICT: WORDS[judged.state]}
    put(record, AGAINST_BP, difference(scores.of(label), scores.of(f"{objective}, BP")))
    for pathway, cosine in comparison.mean_alignment(label).items():
        put(record, f"cosine with BP, {pathway}", cosine)
    return put(record, "seconds of learning", [run.about.get("seconds") or np.nan for run in runs])


def _gains(
    scores: Scores, conditions: Sequence[Condition], objectives: Mapping[str, str], judged: Mapping[str, Verdict]
) -> Iterator[Record]:
    """Yield what every transport gains, in points, and which share of what BP gains that is."""
    for condition in conditions:
        record: Record = {"objective": objectives[condition.objective], "transport": condition.transport}
        put(record, GAINED, [100 * gain for gain in scores.gains(condition.label).values()])
        verdict = judged.get(condition.name)
        if verdict is not None and verdict.state not in ("idle", "one seed"):
            record = put_interval(record, SHARE, verdict.share, verdict.low, verdict.high)
        yield record


def _tried(tried: Sequence[Tried], rates: Mapping[str, float], objectives: Mapping[str, str]) -> Iterator[Record]:
    """Yield the validation accuracy at every learning rate."""
    for (_, condition, rate), accuracy in tried:
        record: Record = {"objective": objectives[condition.objective], "transport": condition.transport}
        yield record | {"learning rate": rate, VALIDATION: accuracy, "chosen": rates[condition.name] == rate}


def _lengths(comparison: analysis.Comparison, conditions: Sequence[Condition]) -> Iterator[str]:
    """Yield how long predictive coding's updates of the lowest pathway are beside backprop's."""
    parts = []
    for condition in conditions:
        if condition.kind in PREDICTIVE and (found := comparison.alignments(condition.label, "norm_ratio")) is not None:
            lowest = next(name for name in comparison.pathways if name in found["pathway"].values)
            ratio = float(found["mean"].sel(pathway=lowest).mean())
            parts.append(f"{condition.label} {ratio:.1g}")
    if parts:
        yield (
            "Length of the update of the lowest pathway over that of BP's in the same network, mean over training "
            f"(AdamW makes steps of the same size of both): {'; '.join(parts)}."
        )


def _accuracies(scores: Scores, conditions: Sequence[Condition], objectives: Mapping[str, str]) -> Iterator[Record]:
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
    comparison: analysis.Comparison, conditions: Sequence[Condition], objectives: Mapping[str, str]
) -> Iterator[Record]:
    for condition in conditions:
        if condition.kind in ("bp", "top"):
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
