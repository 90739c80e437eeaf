"""What the data of `protocols.ssl_credit_assignment` say, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import analysis
from analysis.statistics import NO_INTERVAL, Estimate, estimate

REST = 40
"""Times the settling steps after which values should have come to rest."""
ENOUGH = 0.75
"""Share of what BP gains that a transport has to gain to work."""
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


def answers(
    scores: Scores, conditions: Sequence[Any], objectives: Mapping[str, str], tried: Traces, rates: Mapping[str, float]
) -> Iterator[str]:
    """Yield the answer to the question and what it rests on."""
    by_name = {c.name: c for c in conditions}
    compared = [name for name in objectives if {f"{name}-bp", f"{name}-pc"} <= set(by_name)]
    states = {name: _state(scores, objectives[name]) for name in compared}
    others = [state for name, state in states.items() if name != "cross-entropy"]
    if others and "cross-entropy" in states:
        fails, works = all(state not in ("works", "idle") for state in others), states["cross-entropy"] == "works"
        partly = any(state not in ("works", "idle") for state in others)
        answer = ("Yes" if fails else "For some objectives" if partly else "No") if works else "No"
        shares = "; ".join(f"{objectives[n]}: PC {WORDS[s]}, gains {_shares(scores, by_name, n)}" for n, s in states.items())
        yield (
            f"Does PC fail for self-supervision and work (gain at least {ENOUGH:.0%} of what BP gains) for supervision? "
            f"{answer}. {shares}."
        )
    parts = []
    for name in compared:
        rate = rates[f"{name}-bp"]
        found = {t["condition"].name: t["accuracy"] for t in tried if t["rate"] == rate and t["accuracy"] is not None}
        shown = [
            f"{by_name[c].transport} {found[c]:.1%}" for c in (f"{name}-{t}" for t in ("bp", "pc", "pc-weak")) if c in found
        ]
        parts.append(f"{objectives[name]} (rate {rate:g}): {', '.join(shown)}")
    if parts:
        where = "validation accuracy, mean over V1, V2, ..., one seed"
        yield f"At the learning rate that suits BP best ({where}): {'; '.join(parts)}."
    for name, objective in objectives.items():
        mine = [c for c in conditions if c.objective == name]
        if mine:
            before = estimate(list(scores.of(mine[0].label, initial=True).values()))
            gains = ", ".join(f"{c.transport} {_points(scores.gain(c.label))}" for c in mine)
            yield (
                f"{objective}: readout accuracy, mean over the hidden populations, before learning {_percent(before)}; "
                f"change by learning in points: {gains}."
            )


def _shares(scores: Scores, by_name: Mapping[str, Any], objective: str) -> str:
    """Return how much of what BP gains PC gains, with natural and with weak top errors, and DFA."""
    reference = scores.gain(by_name[f"{objective}-bp"].label).mean
    parts = []
    for name, words in (("pc", ""), ("pc-weak", " with a weak top error"), ("dfa", " (DFA)")):
        if f"{objective}-{name}" in by_name and reference > 0:
            parts.append(f"{scores.gain(by_name[f'{objective}-{name}'].label).mean / reference:.0%}{words}")
    return ", ".join(parts) or "-"


WORDS = {
    "works": "works",
    "short": "falls short",
    "fails": "fails (no better than before learning)",
    "harms": "fails (worse than before learning)",
    "idle": "cannot be judged (BP is no better than before learning)",
    "one seed": f"cannot be judged ({NO_INTERVAL})",
}


def _state(scores: Scores, objective: str) -> str:
    """Return whether predictive coding works for an objective, one of `WORDS`."""
    gain, reference = scores.gain(f"{objective}, PC"), scores.gain(f"{objective}, BP")
    if not (gain.has_interval and reference.has_interval):
        return "one seed"
    if not (reference.excludes_zero and reference.mean > 0):
        return "idle"
    if not gain.excludes_zero:
        return "fails"
    return "harms" if gain.mean < 0 else "works" if gain.mean >= ENOUGH * reference.mean else "short"


def reasons(
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
    silent = left.mean < 0.9
    before, after = (open_gates(0, "PC", stage) for stage in (0.0, 1.0))
    settled_before, settled_after = (open_gates(steps, "PC", stage) for stage in (0.0, 1.0))
    return (
        f"Under the hinge, gamma is not 0 for {before} of fixations and saccades before learning and for {after} after PC "
        f"has learned; {steps} settling steps leave {settled_before} and {settled_after}, and {left.mean:.0%} of the top "
        f"error{': values move until the margin is met, which silences rows that BP would learn from' if silent else ''}."
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
        away |= not far - near < near
        parts.append(f"{objectives[name]} {near:.2g} and {far:.2g} (gamma recomputed at every step: {free:.2g})")
    verdict = (
        "the values run away"
        if away
        else "they slow down: the energy of the errors grows with the square of the displacement, the work of a linear "
        "force only linearly, so there is a minimum, but it may be far from the activity before settling"
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
