"""Tables, sentences and charts of `protocols.ssl_credit_assignment`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import analysis
from analysis.results import Chart, Record, Results, column_names, put
from analysis.statistics import Estimate, estimate

MEAN_ACCURACY = "linear probe accuracy, mean over V1, V2, ..."
GAIN = "change of that mean by learning"
AGAINST_BP = "difference of that mean from BP"
BEFORE = "before learning"
REST = 40
"""Times the settling steps after which values should have come to rest."""
Traces = Sequence[Mapping[str, Any]]


class Scores:
    """What linear readouts found in every hidden population, per condition and seed.

    Parameters
    ----------
    comparison : analysis.Comparison
    """

    def __init__(self, comparison: analysis.Comparison) -> None:
        self.final: dict[str, dict[int, dict[str, float]]] = {}
        self.initial: dict[str, dict[int, dict[str, float]]] = {}
        for label, runs in comparison.rules.items():
            seeds = [int(run.about["seed"]) for run in runs]
            found = comparison.accuracies(label)
            names = [p for p in runs[0].populations if p != "readout" and p in found]
            for when, kept in (("final", self.final), ("initial", self.initial)):
                kept[label] = {s: {n: float(found[n][when][i]) for n in names} for i, s in enumerate(seeds)}

    def of(self, label: str, population: str | None = None, initial: bool = False) -> dict[int, float]:
        """Return the accuracy per seed, of one population or the mean over all."""
        found = (self.initial if initial else self.final).get(label, {})
        return {s: v[population] if population else float(np.mean(list(v.values()))) for s, v in found.items()}

    def gain(self, label: str, population: str | None = None) -> Estimate:
        """Return the change by learning."""
        return difference(self.of(label, population), self.of(label, population, initial=True))


def difference(one: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """Return the mean of paired differences."""
    return estimate([one[s] - other[s] for s in one if s in other])


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
                "condition": t["condition"].label,
                "learning rate": t["rate"],
                "validation accuracy, mean over V1, V2, ...": t["accuracy"],
                "chosen": rates[t["condition"].name] == t["rate"],
            }
            for t in tried
        ],
        **_settling_tables(traces, objectives),
    }
    sentences = [*_answers(scores, learned, objectives), *_reasons(scores, learned, traces, objectives, options)]
    names = [p.removeprefix("linear probe accuracy, ") for p in column_names(table) if p.startswith("linear probe")]
    columns = [
        *("objective", "transport", "learning rate"),
        *(f"linear probe accuracy, {n}" for n in names),
        *(GAIN, AGAINST_BP),
        *(c for c in column_names(table) if c.startswith("cosine")),
    ]
    title = "Can predictive coding carry the credit of self-supervised learning?"
    return Results("ssl_credit_assignment", title, table, sentences, CHARTS, data, columns=columns, options=dict(options))


def _record(comparison: analysis.Comparison, scores: Scores, condition: Any, objective: str, rate: float) -> Record:
    label = condition.label
    runs = comparison.rules[label]
    record: Record = {
        "objective": objective,
        "transport": condition.transport,
        "information needed": ", ".join(runs[0].about.get("needs") or []) or "nothing beyond the synapse",
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


SEEN: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "top error / top activity": lambda t: t["strength"],
    "top error left": lambda t: t["top error left"],
    "loss": lambda t: t["loss"],
    "energy": lambda t: t["energy"],
    "displacement": lambda t: list(t["displacement"].values())[-1],
    "displacement of the top prediction": lambda t: t["top displacement"],
    "gates changed": lambda t: t["gates changed"],
    "fixations with open gate": lambda t: t.get("fixations open", np.nan),
    "saccades with open gate": lambda t: t.get("saccades open", np.nan),
    "score after fixations": lambda t: t.get("score after fixations", np.nan),
    "score after saccades": lambda t: t.get("score after saccades", np.nan),
}
"""What is drawn of the traces; displacement is that of the highest value neurons relative to their activity."""


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
    return {"settling": settling, "cosines": cosines, "held": held}


def _answers(scores: Scores, conditions: Sequence[Any], objectives: Mapping[str, str]) -> Iterator[str]:
    """Yield the answer to the question and what it rests on."""
    states: dict[str, str] = {}
    for name, objective in objectives.items():
        if {"BP", "PC"} <= {c.transport for c in conditions if c.objective == name}:
            states[name] = _state(scores, objective)
    supervised = states.get("cross-entropy")
    others = [s for n, s in states.items() if n != "cross-entropy"]
    if supervised and others:
        fails, works = all(s != "works" for s in others), supervised == "works"
        short = {(True, True): "Yes", (False, True): "Not in general", (True, False): "Only half", (False, False): "No"}
        listed = "; ".join(f"{objectives[n]}: {WORDS[s]}" for n, s in states.items())
        yield f"Does PC fail for self-supervision and work for supervision? {short[fails, works]}. {listed}."
    for name, objective in objectives.items():
        mine = [c for c in conditions if c.objective == name]
        if not mine:
            continue
        before = estimate(list(scores.of(mine[0].label, initial=True).values()))
        gains = ", ".join(f"{c.transport} {_points(scores.gain(c.label))}" for c in mine)
        yield (
            f"{objective}: readout accuracy, mean over the hidden populations, before learning {_percent(before)}; "
            f"change by learning in points: {gains}."
        )


WORDS = {
    "works": "works (better than before learning, and no worse than BP as far as these seeds tell)",
    "short": "falls short (better than before learning, but worse than BP)",
    "fails": "fails (no better than before learning, unlike BP)",
    "harms": "fails (worse than before learning, unlike BP)",
    "idle": "cannot be judged (BP is no better than before learning)",
}


def _state(scores: Scores, objective: str) -> str:
    """Return whether predictive coding works for an objective, one of `WORDS`."""
    bp, pc = f"{objective}, BP", f"{objective}, PC"
    gain, reference = scores.gain(pc), scores.gain(bp)
    behind = difference(scores.of(pc), scores.of(bp))
    if _clear(gain) and gain.mean > 0:
        return "short" if _clear(behind) and behind.mean < 0 else "works"
    if not (_clear(reference) and reference.mean > 0):
        return "idle"
    return "harms" if _clear(gain) else "fails"


def _clear(value: Estimate) -> bool:
    """Return whether a difference is there: its interval excludes 0; with one seed, a point or more."""
    return value.excludes_zero if np.isfinite(value.half_width) else abs(value.mean) >= 0.01


def _reasons(
    scores: Scores, conditions: Sequence[Any], traces: Traces, objectives: Mapping[str, str], options: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what the settling shows."""
    steps = int(options["steps"])
    present = [n for n in objectives if any(t["objective"] == n for t in traces)]

    def at(name: str, series: str, step: int, what: str, learner: str = "BP", stage: float = 1.0, **also: Any) -> Estimate:
        mine = [
            t
            for t in traces
            if (t["objective"], t["series"], t["step"], t["learned by"]) == (name, series, step, learner)
            and t["share of training"] == stage
            and all(t.get(k) == v for k, v in also.items())
        ]
        return estimate([SEEN[what](t) for t in mine])

    def listed(text: Callable[[str], str]) -> str:
        return "; ".join(f"{objectives[n]} {text(n)}" for n in present)

    if not present:
        return
    strength = "top error / top activity"
    yield (
        "Size of the top error relative to the top activity before settling, before learning and after it (PC's networks, "
        f"BP's networks): {listed(lambda n: _path(n, strength, at))}."
    )
    yield (
        f"After {steps} steps in BP's networks the highest value neurons have moved, relative to their activity, by "
        f"{listed(lambda n: _percent(at(n, 'training', steps, 'displacement')))}; this alone brings the loss to "
        f"{listed(lambda n: _share(at, n, steps))} of its value before settling."
    )
    yield (
        f"Cosine with BP's update after {steps} steps in BP's networks, from the lowest to the highest pathway: "
        f"{listed(lambda n: _cosines(traces, n, 'training', steps))}."
    )
    if "contrastive" in present:
        yield _hinge_sentence(at, steps)
    yield from _energy_sentences(at, present, objectives, steps)
    yield from _strength_sentences(scores, conditions, traces, present, objectives, steps)
    yield from _rate_sentences(traces, present, objectives)


def _path(name: str, what: str, at: Callable[..., Estimate]) -> str:
    first, pc, bp = (
        at(name, "training", 0, what, stage=0.0),
        at(name, "training", 0, what, "PC"),
        at(name, "training", 0, what),
    )
    return f"{first.mean:.2g} before, {pc.mean:.2g} after PC, {bp.mean:.2g} after BP"


def _share(at: Callable[..., Estimate], name: str, steps: int) -> str:
    return f"{at(name, 'training', steps, 'loss').mean / at(name, 'training', 0, 'loss').mean:.0%}"


def _cosines(traces: Traces, name: str, series: str, step: int, **also: Any) -> str:
    """Return the mean cosines of a trace, one per pathway."""
    mine = [
        t["update"]
        for t in traces
        if (t["objective"], t["series"], t["step"], t["learned by"], t["share of training"])
        == (name, series, step, "BP", 1.0)
        and all(t.get(k) == v for k, v in also.items())
    ]
    return ", ".join(f"{np.nanmean([u[p]['cosine'] for u in mine]):.2f}" for p in mine[0]) if mine else "-"


def _hinge_sentence(at: Callable[..., Estimate], steps: int) -> str:
    def open_gates(step: int, learner: str, stage: float) -> str:
        ends = [
            at("contrastive", "training", step, f"{w} with open gate", learner, stage) for w in ("fixations", "saccades")
        ]
        return " and ".join(f"{e.mean:.0%}" for e in ends)

    left = at("contrastive", "training", steps, "top error left", "PC")
    before, after = (open_gates(0, "PC", stage) for stage in (0.0, 1.0))
    settled_before, settled_after = (open_gates(steps, "PC", stage) for stage in (0.0, 1.0))
    return (
        f"Under the hinge, gamma is not 0 for {before} of fixations and saccades before learning and for {after} after PC "
        f"has learned; {steps} settling steps leave {settled_before} and {settled_after}, and {left.mean:.0%} of the top "
        "error: the values move until the margin is met, which silences rows that BP would learn from."
    )


def _energy_sentences(
    at: Callable[..., Estimate], present: Sequence[str], objectives: Mapping[str, str], steps: int
) -> Iterator[str]:
    """Yield whether the energy has a minimum with gamma held fixed, and where the values go."""
    parts = []
    away = False
    last = REST * steps
    for name in present:
        near, far = (at(name, "held", step, "displacement").mean for step in (last // 2, last))
        free = at(name, "recomputed", last, "displacement").mean
        away |= not far < 1.5 * near
        parts.append(f"{objectives[name]} {near:.2g} -> {far:.2g} (gamma recomputed at every step: {free:.2g})")
    verdict = (
        "the values run away"
        if away
        else "they come to rest far away: the energy of the errors grows with the square of the displacement, the work of a "
        "linear force only linearly, so there is a minimum"
    )
    yield (
        f"With the top error held fixed (a linear force), displacement after {last // 2} and {last} steps: "
        f"{'; '.join(parts)}: {verdict}."
    )


def _strength_sentences(
    scores: Scores,
    conditions: Sequence[Any],
    traces: Traces,
    present: Sequence[str],
    objectives: Mapping[str, str],
    steps: int,
) -> Iterator[str]:
    strengths = sorted({t["strength set"] for t in traces if t["series"] == "strength"})
    if strengths:
        low, high = strengths[0], strengths[-1]
        parts = [
            f"{objectives[n]} {_cosines(traces, n, 'strength', steps, **{'strength set': low})} at {low:g}, "
            f"{_cosines(traces, n, 'strength', steps, **{'strength set': high})} at {high:g}"
            for n in present
        ]
        yield f"Scaling the top error to a fraction of the top activity, cosine with BP per pathway: {'; '.join(parts)}."
    for name in present:
        mine = {c.name.removeprefix(f"{name}-"): c for c in conditions if c.objective == name}
        if "pc-weak" in mine and "pc" in mine:
            weak, natural, bp = (scores.of(mine[k].label) for k in ("pc-weak", "pc", "bp"))
            yield (
                f"{objectives[name]}: a weak top error changes what PC learns by {_points(difference(weak, natural))} "
                f"points, to {_points(difference(weak, bp))} points from BP."
            )
        if "pc-long" in mine and "bp" in mine:
            yield (
                f"{objectives[name]}: with {mine['pc-long'].transport.removeprefix('PC, ')}, PC is "
                f"{_points(difference(scores.of(mine['pc-long'].label), scores.of(mine['bp'].label)))} points from BP."
            )
        if "pc-strong" in mine:
            strong = scores.of(mine["pc-strong"].label)
            yield (
                f"{objectives[name]}: with a top error {mine['pc-strong'].transport.split('error ')[1]}, PC is "
                f"{_points(difference(strong, scores.of(mine['bp'].label)))} points from BP."
            )


def _rate_sentences(traces: Traces, present: Sequence[str], objectives: Mapping[str, str]) -> Iterator[str]:
    """Yield at which rates settling goes uphill."""
    parts = []
    for name in present:
        mine = [t for t in traces if t["objective"] == name and t["series"] == "rate"]
        uphill = []
        for rate in sorted({t["rate"] for t in mine}):
            for seed in {t["seed"] for t in mine}:
                energies = [t["energy"] for t in mine if t["rate"] == rate and t["seed"] == seed]
                last = max((t["step"] for t in mine if t["rate"] == rate and t["seed"] == seed), default=0)
                whole = last == max(t["step"] for t in mine)
                if energies and (not whole or energies[-1] > energies[0]):
                    uphill.append(rate)
        parts.append(f"{objectives[name]} {f'from rate {min(uphill):g}' if uphill else 'at none of the rates tried'}")
    if parts:
        yield f"Settling ends with more energy than it began with (unstable) in BP's networks: {'; '.join(parts)}."


def _points(value: Estimate) -> str:
    half = "" if np.isnan(value.half_width) else f"±{100 * value.half_width:.1f}"
    return f"{100 * value.mean:+.1f}{half}"


def _percent(value: Estimate) -> str:
    half = "" if np.isnan(value.half_width) else f"±{100 * value.half_width:.1f}"
    return f"{100 * value.mean:.1f}{half} %"


CHARTS = (
    Chart(
        "What a linear readout finds in every population",
        "population",
        "accuracy (%)",
        "population",
        "test accuracy (%)",
        series="transport",
        panel="objective",
        data="accuracy",
        kind="points",
        text="Credit that arrives makes the populations below the top better than before learning.",
    ),
    Chart(
        "The same for predictive coding that settles for longer, or with a weaker or stronger top error",
        "population",
        "accuracy (%)",
        "population",
        "test accuracy (%)",
        series="transport",
        panel="objective",
        data="accuracy of PC",
        kind="points",
    ),
    Chart(
        "Alignment of the proposed with BP's update, mean over training",
        "pathway",
        "cosine",
        "pathway",
        "cosine with BP",
        series="transport",
        panel="objective",
        data="alignment",
        kind="points",
        levels={"no relation": 0.0},
        y_range=(-0.5, 1.05),
    ),
    Chart(
        "How strong the top error is relative to the top activity, in the networks that PC makes",
        "share of training",
        "top error / top activity",
        "fraction of training",
        "|top error| / |top activity|",
        series="objective",
        data="settling",
        where={"series": "training", "learned by": "PC", "step": 0},
        log="y",
        text="The softmax of a taught readout bounds its error; the credit of InfoNCE grows as one over the activity.",
    ),
    Chart(
        "How far settling moves the highest value neurons",
        "step",
        "displacement",
        "settling steps",
        "|v - v before settling| / |v before settling|",
        series="shown rate",
        panel="objective",
        data="settling",
        where={"series": "rate"},
        log="xy",
        text="Networks learned by BP, held-out images.",
    ),
    Chart(
        "What is left of the loss while the values settle",
        "step",
        "loss",
        "settling steps",
        "loss of the objective",
        series="stage",
        panel="objective",
        data="settling",
        where={"series": "training", "learned by": "BP"},
        text="Settling removes the loss without learning; what is removed does not teach the synapses onto the top.",
    ),
    Chart(
        "Hinge: fixations from which the top still learns",
        "step",
        "fixations with open gate",
        "settling steps",
        "share of fixations with gamma = 1",
        series="stage",
        panel="learned by",
        data="settling",
        where={"series": "training", "objective": "CLAPP++ (hinge)"},
        y_range=(0, 1.05),
    ),
    Chart(
        "Alignment with BP while the values settle",
        "step",
        "cosine",
        "settling steps",
        "cosine with BP",
        series="pathway",
        panel="objective",
        data="cosines",
        where={"series": "training", "learned by": "BP", "share of training": 1.0},
        levels={"no relation": 0.0},
        y_range=(-1.05, 1.05),
        text="Networks learned by BP. A pathway has an update only once the error has arrived there.",
    ),
    Chart(
        "Where the values go when gamma is held fixed (BP's networks)",
        "step",
        "displacement",
        "settling steps",
        "|v - v before settling| / |v before settling|",
        series="force",
        panel="objective",
        data="held",
        log="xy",
    ),
    Chart(
        "The limit of weak errors",
        "strength set",
        "cosine",
        "|top error| / |top activity|, set",
        "cosine with BP after settling",
        series="pathway",
        panel="objective",
        data="cosines",
        where={"series": "strength"},
        log="x",
        levels={"no relation": 0.0},
        y_range=(-1.05, 1.05),
        text="Whatever the objective, errors that are weak relative to the activity settle to what backprop carries down.",
    ),
)
