"""Why: what the error units of `protocols.ssl_credit_assignment` did while they settled, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.statistics import Estimate, estimate
from protocols.credit.verdicts import Scores, difference, percent, points

AT_REST = "rest"
"""The series of traces that say how far settling comes."""
REST = 40
"""Times the settling steps after which values should have come to rest."""
Traces = Sequence[Mapping[str, Any]]


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
    yield from _rest_sentences([t for t in traces if t["series"] == AT_REST], present, objectives)
    traces = [t for t in traces if t["series"] != AT_REST]
    strength = "top error / top activity"
    yield (
        "Size of the top error relative to the top activity before settling, before learning and after it (PC's networks, "
        f"BP's networks): {listed(lambda n: _path(n, strength, at))}."
    )
    yield (
        f"After {steps} steps in BP's networks the highest value neurons have moved, relative to their activity, by "
        f"{listed(lambda n: percent(at(n, 'training', steps, 'displacement')))}; this alone brings the loss to "
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


def _rest_sentences(traces: Traces, present: Sequence[str], objectives: Mapping[str, str]) -> Iterator[str]:
    """Yield how far settling comes: to rest, and in a few steps."""
    parts = []
    for name in present:
        mine = [t for t in traces if t["objective"] == name]
        steps = [t["steps to rest"] for t in mine]
        shares = []
        for schedule in [key for key in (mine[0] if mine else {}) if " steps of " in key]:
            first, last = (
                np.mean([t[schedule] for t in mine if t["learned by"] == "BP" and t["share of training"] == stage])
                for stage in (0.0, 1.0)
            )
            shares.append(f"{schedule} {_taken(first)} and {_taken(last)}")
        if mine:
            parts.append(f"{objectives[name]} {min(steps):.0f} to {max(steps):.0f} steps ({', '.join(shares)})")
    if parts:
        yield (
            "How settled: until ten steps of a rate that adapts change the energy by less than a hundredth, held-out images "
            "at all stages of training; in brackets, of the energy that settling takes away by then, what a few steps take, "
            f"in BP's networks before and after learning: {'; '.join(parts)}."
        )


def _taken(share: float) -> str:
    """Return a share of the energy in words; some settling raises it."""
    return f"{share:.0%}" if share >= 0 else "raise it"


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
                f"{objectives[name]}: a weak top error changes what PC learns by {points(difference(weak, natural))} "
                f"points, to {points(difference(weak, bp))} points from BP."
            )
        if "pc-long" in mine and "bp" in mine:
            yield (
                f"{objectives[name]}: with {mine['pc-long'].transport.removeprefix('PC, ')}, PC is "
                f"{points(difference(scores.of(mine['pc-long'].label), scores.of(mine['bp'].label)))} points from BP."
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
