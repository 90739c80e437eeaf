"""Whether predictive coding learns what backprop learns: what is held against what, and which claims are decided.

A transport *works* for an objective if it gains at least three quarters of what backprop gains by the same objective, and
*falls short* if it gains less: paired t tests over seeds of ``gain - 0.75 * gain of BP``, all of them corrected (Holm).
Where backprop itself gains nothing, an objective cannot tell. What learns at every step is held against backprop that learns
as often.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

import analysis
from analysis.statistics import NO_INTERVAL, Estimate, estimate
from protocols.credit.conditions import OBJECTIVES, PREDICTIVE, SUPERVISED, Condition

ENOUGH = 0.75
"""Share of what BP gains that a transport has to gain to work."""
AS_OFTEN = {"ipc": "bp-repeated"}
"""Which BP a transport is held against where that does not learn once per moment: the one that learns as often."""
WORDS = {
    "works": "works",
    "short": "falls short",
    "harms": "falls short, and reads out worse than before learning",
    "undecided": "undecided",
    "idle": "cannot be judged (BP is not shown to gain)",
    "one seed": f"cannot be judged ({NO_INTERVAL})",
}


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

    def gains(self, label: str, population: str | None = None) -> dict[int, float]:
        """Return the change by learning per seed."""
        before = self.of(label, population, initial=True)
        return {s: after - before[s] for s, after in self.of(label, population).items()}

    def gain(self, label: str, population: str | None = None) -> Estimate:
        """Return the change by learning."""
        return estimate(list(self.gains(label, population).values()))


def difference(one: Mapping[int, float], other: Mapping[int, float]) -> Estimate:
    """Return the mean of paired differences."""
    return estimate([one[s] - other[s] for s in one if s in other])


class Verdict(NamedTuple):
    """What a transport gains of what backprop gains.

    Attributes
    ----------
    condition : Condition
    gain : Estimate
    share, low, high : float
        Gain over that of BP, with the 95 % interval of the ratio.
    p : float
        Of the gain being three quarters of BP's, corrected.
    state : str
        One of `WORDS`.
    """

    condition: Condition
    gain: Estimate
    share: float
    low: float
    high: float
    p: float
    state: str


def verdicts(scores: Scores, conditions: Sequence[Condition]) -> dict[str, Verdict]:
    """Return, by the name of the condition, what predictive coding, FA and DFA gain of what BP gains."""
    gains = {(c.objective, c.kind): scores.gains(c.label) for c in conditions}
    judged = [c for c in conditions if c.kind in (*PREDICTIVE, "fa", "dfa") and (c.objective, _reference(c, gains)) in gains]
    paired = {c.name: _paired(gains[c.objective, c.kind], gains[c.objective, _reference(c, gains)]) for c in judged}
    tests = {
        name: float(analysis.paired_difference(mine, ENOUGH * reference)["p"]) for name, (mine, reference) in paired.items()
    }
    able = [name for name, (_, reference) in paired.items() if estimate(reference).is_above(0)]
    corrected = dict(zip(able, analysis.holm(np.array([tests[name] for name in able])), strict=True))
    found = {}
    for condition in judged:
        mine, reference = paired[condition.name]
        ratio = analysis.ratio_of_means(mine, reference)
        gain, p = estimate(mine), float(corrected.get(condition.name, np.nan))
        short = float(np.mean(mine - ENOUGH * reference)) < 0
        if not gain.has_interval:
            state = "one seed"
        elif condition.name not in corrected:
            state = "idle"
        elif not p < 0.05:
            state = "undecided"
        else:
            state = ("harms" if gain.is_below(0) else "short") if short else "works"
        ends = float(ratio["ratio"]), float(ratio["low"]), float(ratio["high"])
        found[condition.name] = Verdict(condition, gain, *ends, p, state)
    return found


def _reference(condition: Condition, known: Collection[tuple[str, str]]) -> str:
    """Return the kind of BP that a condition is held against."""
    kind = AS_OFTEN.get(condition.kind, "bp")
    return kind if (condition.objective, kind) in known else "bp"


def _paired(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    shared = [seed for seed in one if seed in other]
    return np.array([one[seed] for seed in shared]), np.array([other[seed] for seed in shared])


def claim(found: Mapping[str, Verdict], kind: str) -> str:
    """Return whether one way to settle works with supervision and falls short with self-supervision, in words.

    "decided, yes"; "decided, no" if it works with an objective of self-supervision or falls short with supervision, with the
    reason; or "undecided".
    """
    states = {v.condition.objective: v.state for v in found.values() if v.condition.kind == kind}
    supervised = states.pop(SUPERVISED, "idle")
    working = [OBJECTIVES[name][0] for name, state in states.items() if state == "works"]
    against = ["it falls short with supervision, too"] if supervised in ("short", "harms") else []
    against += [f"it works with {' and '.join(working)}"] if working else []
    if against:
        return f"decided, no: {' and '.join(against)}"
    others = [state for state in states.values() if state != "idle"]
    fails = bool(others) and all(state in ("short", "harms") for state in others)
    return "decided, yes" if fails and supervised == "works" else "undecided"


def answers(
    scores: Scores, conditions: Sequence[Condition], objectives: Mapping[str, str], found: Mapping[str, Verdict]
) -> Iterator[str]:
    """Yield the answer to the question and what it rests on."""
    kinds = {c.kind: c.transport for c in conditions if c.kind in PREDICTIVE}
    tested = {kind: {v.condition.objective for v in found.values() if v.condition.kind == kind} for kind in kinds}
    asked = [kind for kind, of in tested.items() if SUPERVISED in of and len(of) > 1]
    if asked:
        said = "; ".join(f"{kinds[kind]}: {claim(found, kind)}" for kind in asked)
        yield (
            f"Does predictive coding fall short for self-supervision where it works for supervision (works: gains at least "
            f"{ENOUGH:.0%} of what BP gains)? {said}."
        )
    as_often = " (of iPC: of what BP gains that learns as often)" if set(AS_OFTEN) <= set(kinds) else ""
    for name, objective in objectives.items():
        mine = [c for c in conditions if c.objective == name]
        if not mine:
            continue
        before = estimate(list(scores.of(mine[0].label, initial=True).values()))
        gains = ", ".join(f"{c.transport} {points(scores.gain(c.label))}" for c in mine)
        yield (
            f"{objective}: readout accuracy, mean over the hidden populations, before learning {percent(before)}; "
            f"change by learning in points: {gains}."
        )
        shares = [f"{v.condition.transport} {_share(v)}" for v in found.values() if v.condition.objective == name]
        if shares:
            yield f"{objective}: share of what BP gains{as_often}, [95 % interval of the ratio]: {'; '.join(shares)}."
    if judged := [v for v in found.values() if np.isfinite(v.p)]:
        yield f"Verdicts are corrected over the {len(judged)} that BP's gain allows (Holm); intervals are not."
    yield from _interactions(scores, conditions, objectives, kinds)


def _share(verdict: Verdict) -> str:
    ends = f" [{verdict.low:.0%}, {verdict.high:.0%}]" if np.isfinite(verdict.low) else ""
    share = f"{verdict.share:.0%}{ends}, " if verdict.state not in ("idle", "one seed") else ""
    return f"{share}{WORDS[verdict.state]}"


def _interactions(
    scores: Scores, conditions: Sequence[Condition], objectives: Mapping[str, str], kinds: Mapping[str, str]
) -> Iterator[str]:
    """Yield by how much more a way to settle costs with self-supervision than with supervision, in points."""
    known = {(c.objective, c.kind): c for c in conditions}
    labels = {place: c.label for place, c in known.items()}

    def cost(objective: str, kind: str) -> dict[int, float]:
        bp = scores.of(labels[objective, _reference(known[objective, kind], known)])
        mine = scores.of(labels[objective, kind])
        return {seed: bp[seed] - mine[seed] for seed in bp if seed in mine}

    others = [name for name in objectives if name != SUPERVISED and (name, "bp") in labels]
    asked = [(name, kind) for kind in kinds for name in others if {(name, kind), (SUPERVISED, kind)} <= set(labels)]
    if not asked or (SUPERVISED, "bp") not in labels:
        return
    pairs = [_paired(cost(name, kind), cost(SUPERVISED, kind)) for name, kind in asked]
    corrected = analysis.holm(np.array([float(analysis.paired_difference(*pair)["p"]) for pair in pairs]))
    as_often = " (of iPC: of BP as often)" if set(AS_OFTEN) <= set(kinds) else ""
    parts = []
    for (name, kind), pair, p in zip(asked, pairs, corrected, strict=True):
        told = "decided" if p < 0.05 else "undecided"
        parts.append(f"{objectives[name]}, {kinds[kind]} {points(estimate(pair[0] - pair[1]))} ({told})")
    yield (
        f"What it costs to have predictive coding in place of BP{as_often}, in points, with self-supervision minus with "
        f"supervision: {'; '.join(parts)}. Corrected over these {len(parts)} (Holm)."
    )


def points(value: Estimate) -> str:
    """Return a change of accuracy in points."""
    half = "" if np.isnan(value.half_width) else f"±{100 * value.half_width:.1f}"
    return f"{100 * value.mean:+.1f}{half}"


def percent(value: Estimate) -> str:
    """Return an accuracy in per cent."""
    half = "" if np.isnan(value.half_width) else f"±{100 * value.half_width:.1f}"
    return f"{100 * value.mean:.1f}{half} %"
