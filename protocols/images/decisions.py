"""What the runs decide: named pairs of methods, their differences paired by seed, all tests of a question one family.

A difference is decided where Holm's correction over its family leaves p < 0.05. Where it is undecided, the ends of its 95 %
interval say within how many points the two methods are equal. Of one seed nothing is claimed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from analysis.inference import LEVEL, holm, paired_difference
from analysis.page_claims import p_text
from analysis.statistics import NO_INTERVAL, Estimate, estimate_of
from analysis.tables import put
from protocols.images import published
from protocols.images.runs import RANDOM, STAGES

Record = dict[str, Any]
BySeed = Mapping[int, float]
ByStage = Mapping[int, BySeed]

PAIRS: tuple[tuple[str, str, str], ...] = (
    ("Spatial dependence", "clapp++", "clapp++gap"),
    ("Direct feedback in place of the lateral context", "clapp++dfb", "clapp++"),
    ("Direct feedback beside the lateral context", "clapp++both", "clapp++"),
    ("Local learning in place of backprop with one score of the whole map at its top", "clapp++", "bp-clapp++"),
    ("Local learning in place of backprop with the spatial score at its top", "clapp++", "bp-clapp++spatial"),
    ("Local InfoNCE in place of backprop", "infonce-local", "bp-infonce"),
    ("Local InfoNCE in place of backprop with its context held", "infonce-local", "bp-infonce-held"),
)
"""What a claim of the paper comes down to, and the two methods of which the first minus the second says it."""


@dataclass(frozen=True)
class Asked:
    """A pair of methods in one place, at one time.

    Attributes
    ----------
    place, what : str
        The data set, or the network; and what the difference says.
    first, second : str
        Labels of the methods.
    a, b : mapping of int to float
        Their accuracies by seed, of which the seeds that both have are paired.
    stage : int
        Fifth of training, or so (of `STAGES`), after which they were read out.
    """

    place: str
    what: str
    first: str
    second: str
    a: BySeed
    b: BySeed
    stage: int = STAGES


@dataclass(frozen=True)
class Decision:
    """What the seeds say of a pair.

    Attributes
    ----------
    asked : Asked
    difference : Estimate
        First minus second, in points: mean and half-width of the 95 % interval.
    p, p_holm : float
        Of the paired t test, two-sided, and after Holm's correction over the family; NaN without a test.
    family : int
        Tests that are corrected together.
    """

    asked: Asked
    difference: Estimate
    p: float
    p_holm: float = float("nan")
    family: int = 0

    @property
    def is_decided(self) -> bool:
        """Whether the difference is not 0 after correction."""
        return self.p_holm < LEVEL

    @property
    def sign(self) -> str:
        """Of the difference."""
        return "+" if self.difference.mean > 0 else "-"

    @property
    def text(self) -> str:
        """What is asked, and the verdict."""
        return f"{self.asked.what} ({self.asked.first} minus {self.asked.second}): {self.verdict}"

    @property
    def verdict(self) -> str:
        """The difference, the numbers on which it rests, and whether it is decided."""
        found = self.difference
        said = f"{found.mean:+.1f} points"
        if np.isnan(self.p):
            why = NO_INTERVAL if found.n < 2 else f"{found.n_text}, no spread: no test"
            return f"{said} ({why}): nothing is claimed"
        low, high = found.mean - found.half_width, found.mean + found.half_width
        numbers = f"95 % interval {low:+.1f} to {high:+.1f}, {found.n_text}, p {p_text(self.p_holm)} after Holm's correction"
        numbers += f" over {self.family} pairs"
        if self.is_decided:
            return f"{said} ({numbers}): decided"
        return f"{said} ({numbers}): undecided; equal within {max(-low, high):.1f} points"


def decide(asked: Sequence[Asked]) -> list[Decision]:
    """Return what is decided of pairs, corrected together; pairs without a common seed are left out."""
    found = []
    for one in asked:
        seeds = sorted(one.a.keys() & one.b.keys())
        if not seeds:
            continue
        first, second = (xr.DataArray([100 * side[s] for s in seeds], {"seed": seeds}, ["seed"]) for side in (one.a, one.b))
        test = paired_difference(first, second)
        found.append(Decision(one, estimate_of(test, "difference"), float(test["p"])))
    corrected = holm(np.array([one.p for one in found]))
    family = int(np.isfinite(corrected).sum())
    return [replace(one, p_holm=float(p), family=family) for one, p in zip(found, corrected, strict=True)]


def named_pairs(dataset: str, methods: Mapping[str, str], accuracies: Mapping[str, ByStage]) -> list[Asked]:
    """Return the pairs that a data set can say something of, at every stage that both methods have.

    Parameters
    ----------
    dataset : str
    methods : mapping of str to str
        Label by name of the rule.
    accuracies : mapping
        Accuracy by label, stage and seed.
    """
    pairs = [pair for pair in PAIRS if {pair[1], pair[2]} <= methods.keys()]
    if RANDOM in methods:
        pairs += [(f"Learning by {label}", name, RANDOM) for name, label in methods.items() if name != RANDOM]
    asked = []
    for what, first, second in pairs:
        a, b = methods[first], methods[second]
        one, other = accuracies.get(a, {}), accuracies.get(b, {})
        asked += [Asked(dataset, what, a, b, one[stage], other[stage], stage) for stage in sorted(one.keys() & other.keys())]
    return asked


def said_of(final: Sequence[Decision], over_training: Sequence[Decision]) -> list[str]:
    """Return a sentence for each pair: what is decided of it after learning, on the test images, and from when on."""
    said = []
    for one in final:
        pair = one.asked.place, one.asked.what
        steps = [step for step in over_training if (step.asked.place, step.asked.what) == pair]
        during = ""
        if any(np.isfinite(step.p) for step in steps):
            during = f". Over training, on images set aside ({steps[0].family} tests): {when_decided(steps)}"
        said.append(f"{one.text}{during}.")
    return said


def when_decided(steps: Sequence[Decision]) -> str:
    """Return at which shares of training a difference is decided, and in which direction: steps in the order of training."""
    held: list[Decision] = []
    for step in reversed(steps):
        if not step.is_decided or (held and step.sign != held[0].sign):
            break
        held.insert(0, step)
    passing = [step for step in steps if step.is_decided and step not in held]
    parts = [f"decided ({step.sign}) at {_share(step)}" for step in passing]
    if held:
        parts.append(f"decided ({held[0].sign}) {'from' if len(held) > 1 else 'at'} {_share(held[0])}")
        parts[-1] += " on" if len(held) > 1 else ""
    return ", ".join(parts) or "decided at no time"


def _share(step: Decision) -> str:
    return "the end" if step.asked.stage == STAGES else f"{100 * step.asked.stage / STAGES:.0f} % of training"


def difference_records(decisions: Sequence[Decision]) -> list[Record]:
    """Return the differences of the pairs that the claims come down to, over training, as they are drawn."""
    claimed = {what for what, *_ in PAIRS}
    records = []
    for one in decisions:
        if one.asked.what in claimed:
            record: Record = {"data set": one.asked.place, "pair": f"{one.asked.first} minus {one.asked.second}"}
            record |= {"share of training (%)": 100 * one.asked.stage / STAGES, "decided": one.is_decided}
            records.append(put(record, "difference (points)", one.difference))
    return records


def decision_records(decisions: Sequence[Decision]) -> list[Record]:
    """Return decisions as a table, with their p-values."""
    records = []
    for one in decisions:
        record: Record = {"data set": one.asked.place, "question": one.asked.what}
        record |= {"method": one.asked.first, "against": one.asked.second, "stage": one.asked.stage}
        put(record, "difference (points)", one.difference)
        records.append(record | {"p": one.p, "p (Holm)": one.p_holm, "tests": one.family, "decided": one.is_decided})
    return records


def published_order(dataset: str, methods: Mapping[str, str], tested: Mapping[str, BySeed]) -> list[str]:
    """Say how many of the pairs that are separated here and in the published table come in the same order.

    Parameters
    ----------
    dataset : str
    methods : mapping of str to str
        Label by name of the rule.
    tested : mapping
        Accuracy by label and seed.
    """
    known = published.known_as(dataset)
    figures = published.LINEAR_PROBE.get(known, {})
    listed = [name for name in methods if name in figures and tested.get(methods[name])]
    names = {methods[name]: name for name in listed}
    pairs = [(methods[a], methods[b]) for a, b in combinations(listed, 2)]
    if not pairs:
        return []
    found = decide([Asked(dataset, "", a, b, tested[a], tested[b]) for a, b in pairs])
    if not any(np.isfinite(one.p) for one in found):
        return [f"Published order: nothing is claimed ({NO_INTERVAL})."]
    counted = []
    for one in found:
        apart = figures[names[one.asked.first]] - figures[names[one.asked.second]]
        if one.is_decided and abs(apart) > published.MARGIN:
            counted.append((one.asked, one.difference.mean * apart > 0))
    same = sum(agrees for _, agrees in counted)
    corrected = f"p < {LEVEL:g} after Holm's correction over {found[0].family} pairs"
    said = (
        f"Of {len(counted)} pairs of methods separated here ({corrected}) and by more than {published.MARGIN:g} points in "
        f"the published table (second-hand), {same} have the published order"
    )
    return [f"{said}; the other {len(found) - len(counted)} pairs are not separated."]
