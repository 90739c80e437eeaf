"""What a comparison claims: every difference that a page speaks of, tested as one family.

For each rule and population: does a readout find more than before learning, and more than in backprop of the same objective?
Or is it as good as backprop, within a margin? All tests are paired by seed, and all p-values of the page are corrected
together by Holm's method, so that the chance of one wrong claim on the whole page stays below 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.inference import LEVEL, equivalence_test, holm, paired_difference
from analysis.outcomes import MEASURE, about_rules, before_and_after
from analysis.references import counterpart
from analysis.statistics import NO_INTERVAL, Estimate, estimate_of
from neurossl.errors import OptionError, TrajectoryError
from neurossl.text import one_line

if TYPE_CHECKING:
    from analysis.comparison import Comparison

MARGIN = 0.02
"""Difference in accuracy that does not matter: 2 points, which a rule must gain over frozen blocks to count as learning."""
GAIN, DIFFERENCE, EQUIVALENCE = "gain", "difference", "equivalence"


@dataclass(frozen=True)
class Claim:
    """One thing that a page might claim of a rule at a population, and whether it may.

    Attributes
    ----------
    kind : str
        "gain" (differs from before learning), "difference" (differs from backprop) or "equivalence" (is as good as backprop,
        within the margin).
    subject, against : str
        Labels of the rule, and of what it is compared with; "before learning" for a gain.
    population : str
    difference : Estimate
        Mean of the paired differences in accuracy, half-width of the 95 % interval, n.
    p, p_holm : float
        Of the test, and after Holm's correction over ``family`` claims; NaN where there is no test.
    holds : bool
        Whether ``p_holm`` is below 0.05.
    margin : float
        Of an equivalence; NaN for others.
    family : int
        Claims that are corrected together.
    """

    kind: str
    subject: str
    against: str
    population: str
    difference: Estimate
    p: float
    p_holm: float = float("nan")
    holds: bool = False
    margin: float = float("nan")
    family: int = 0

    @property
    def text(self) -> str:
        """The claim, or that it is not shown, in one sentence with its numbers."""
        points = f"{self.difference.text(1, 100, sign=True)} points"
        where = f"{self.subject}, readout of {self.population}"
        if np.isnan(self.p):
            why = NO_INTERVAL if self.difference.n < 2 else f"{self.difference.n_text}, no spread: no test"
            return one_line(f"{where}: {points} against {self.against} ({why}).")
        corrected = f"p {p_text(self.p)}, p {p_text(self.p_holm)} after Holm's correction over {self.family} claims"
        numbers = f"{points}, {self.difference.n_text}, {corrected}"
        if self.kind == EQUIVALENCE:
            within = f"as {self.against} within {100 * self.margin:g} points"
            return one_line(f"{where}: {'as good' if self.holds else 'not shown to be as good'} {within} ({numbers}).")
        direction = "better" if self.difference.mean > 0 else "WORSE"
        said = f"{direction} than {self.against}" if self.holds else f"not shown to differ from {self.against}"
        return one_line(f"{where}: {said} ({numbers}).")


def claims(
    source: Comparison | xr.DataTree, margin: float = MARGIN, measure: str = MEASURE, level: float = LEVEL
) -> list[Claim]:
    """Return the claims that a comparison of runs might make, with what holds after correction for all of them.

    Parameters
    ----------
    source : Comparison or DataTree
        Of many runs. Runs that have not come to their end do not count.
    margin : float
        Difference in accuracy below which two rules are as good as each other, chosen before looking.
    measure : str
        Of ``/performance``.
    level : float
        Of the whole family.

    Returns
    -------
    list of Claim
        By rule, then population, in their order; empty if nothing was read out. With one seed there is no test, and no
        claim holds.

    Raises
    ------
    TrajectoryError
        If the tree is of one run.
    OptionError
        If the margin is not above 0, or runs lie along more than rule and seed.
    """
    tree = tree_of(source)
    about = about_rules(tree)
    if not about or "performance" not in tree.children or measure not in tree.children["performance"].data_vars:
        return []
    found = before_and_after(tree, measure).reset_coords(drop=True)
    others = [str(dim) for dim in found.dims if dim not in ("rule", "seed", "population")]
    if others:
        raise OptionError(f"the runs differ along {', '.join(others)} as well: choose along it before, as with tree.sel")
    untested = [claim for rule in about for claim in _of_rule(rule, found, about, margin)]
    corrected = holm(np.array([claim.p for claim in untested]))
    family = int(np.isfinite(corrected).sum())
    return [
        replace(claim, p_holm=float(p), holds=bool(p < level), family=family)
        for claim, p in zip(untested, corrected, strict=True)
    ]


def tree_of(source: Comparison | xr.DataTree) -> xr.DataTree:
    """Return the tree of the runs that have come to their end; an empty tree if there are none.

    Raises
    ------
    TrajectoryError
        If the source is neither a comparison nor the tree of many runs.
    """
    if isinstance(source, xr.DataTree):
        if not about_rules(source) and source.children:
            raise TrajectoryError("this is the tree of one run: claims compare rules, open many runs with open_runs")
        return source
    finished = source.finished()
    return finished.tree if finished.runs else xr.DataTree()


def _of_rule(rule: str, found: xr.Dataset, about: dict[str, dict[str, Any]], margin: float) -> Iterator[Claim]:
    """Yield the claims of one rule, not yet corrected."""
    mine, label, other = found.sel(rule=rule), about[rule]["label"], counterpart(rule, about)
    gains = paired_difference(mine["after"], mine["before"])
    if other is not None:
        reached = found["after"].sel(rule=other)
        differences, equal = paired_difference(mine["after"], reached), equivalence_test(mine["after"], reached, margin)
    for population in map(str, found["population"].values):
        gain = gains.sel(population=population)
        if int(gain["n"]):
            yield Claim(GAIN, label, "before learning", population, estimate_of(gain, "difference"), float(gain["p"]))
        if other is None:
            continue
        one, same = differences.sel(population=population), equal.sel(population=population)
        if int(one["n"]):
            against, value = about[other]["label"], estimate_of(one, "difference")
            yield Claim(DIFFERENCE, label, against, population, value, float(one["p"]))
            yield Claim(EQUIVALENCE, label, against, population, value, float(same["p"]), margin=margin)


def sentences(family: Sequence[Claim]) -> list[str]:
    """Return what claims come to, one or two sentences per rule, and how many tests that took.

    Parameters
    ----------
    family : sequence of Claim
        From `claims`.
    """
    told = [
        one_line(f"{subject}: {' '.join(_of_subject([c for c in family if c.subject == subject]))}")
        for subject in dict.fromkeys(claim.subject for claim in family)
    ]
    tests = family[0].family if family else 0
    if tests:
        held = sum(claim.holds for claim in family)
        told.append(
            "Differences are paired by seed, ± half-width of their 95 % interval. What is called better, worse or as good "
            f"is so after Holm's correction over {tests} claims; {held or 'none'} of them hold."
        )
    return told


def _of_subject(mine: Sequence[Claim]) -> Iterator[str]:
    """Yield what holds of one rule: against before learning, and against backprop."""
    gains = [claim for claim in mine if claim.kind == GAIN]
    against = [claim for claim in mine if claim.kind == DIFFERENCE]
    equal = {claim.population: claim for claim in mine if claim.kind == EQUIVALENCE}
    if gains:
        yield f"a linear readout {_told(gains, {}, 'before learning')}."
    if against:
        yield f"It {_told(against, equal, against[0].against)}."


def _told(claims: Sequence[Claim], equal: dict[str, Claim], against: str) -> str:
    """Return where there is a difference and where not: ``is better than X at V1 (+5.8±1.2 points); not shown ...``."""
    counts = sorted({claim.difference.n for claim in claims})
    if counts[-1] < 2:
        listed = ", ".join(f"{c.population} ({c.difference.text(1, 100, sign=True)} points)" for c in claims)
        return f"changes against {against} ({NO_INTERVAL}) at {listed}"
    groups: dict[str, list[str]] = {}
    for claim in claims:
        same = equal.get(claim.population)
        if claim.holds:
            said = f"is {'better' if claim.difference.mean > 0 else 'WORSE'} than {against} at"
        elif same is not None and same.holds:
            said = f"is as good as {against} within {100 * same.margin:g} points at"
        else:
            said = f"is not shown to differ from {against} at"
        groups.setdefault(said, []).append(f"{claim.population} ({claim.difference.text(1, 100, sign=True)} points)")
    order = ("is better", "is WORSE", "is as good", "is not")
    parts = [f"{said} {', '.join(places)}" for start in order for said, places in groups.items() if said.startswith(start)]
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    left_out = max(claim.difference.left_out for claim in claims)
    missing = f", {left_out} at most not finite left out" if left_out else ""
    return f"{'; '.join(parts)} (n = {n}{missing})"


def p_text(value: float) -> str:
    """Return a p-value with its sign: ``= 0.017``, ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
