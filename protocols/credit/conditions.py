"""The conditions of `protocols.ssl_credit_assignment`: an objective at the top, and what carries its credit down."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    InfoNCE,
    Local,
    Objective,
    PredictiveCoding,
    Rule,
)
from protocols.credit.settling import GradedPredictiveCoding

OBJECTIVES: dict[str, tuple[str, Callable[[], Objective]]] = {
    "contrastive": ("CLAPP++ (hinge)", Contrastive),
    "infonce": ("InfoNCE", InfoNCE),
    "cross-entropy": ("supervised", CrossEntropy),
}
WEAK, STRONG = 0.01, 30.0
"""Norm of the top error relative to the top activity, where it is set: far below 1, and about that of InfoNCE."""
LONG = (20, 0.1)
"""Steps and rate of the usual settling, which is longer and rougher than what suits these networks."""


@dataclass(frozen=True)
class Condition:
    """An objective and a transport."""

    name: str
    objective: str
    transport: str
    make: Callable[[], Rule]
    top_only: bool = False

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{OBJECTIVES[self.objective][0]}, {self.transport}"

    def reference(self) -> Rule:
        """Return backprop of the objective."""
        return Backprop(OBJECTIVES[self.objective][1]())


def conditions_for(objective: str, steps: int, rate: float, long: tuple[int, float] = LONG) -> list[Condition]:
    """Return the conditions of one objective.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    steps, rate : int, float
        Of the settling of predictive coding.
    long : (int, float)
        The same, of the condition that settles for longer.
    """
    good = OBJECTIVES[objective][1]
    settling: dict[str, Any] = {"steps": steps, "rate": rate}

    def graded(strength: float) -> Callable[[], Rule]:
        return lambda: GradedPredictiveCoding(good(), strength, **settling)

    transports: list[tuple[str, str, Callable[[], Rule]]] = [
        ("bp", "BP", lambda: Backprop(good())),
        ("fa", "FA", lambda: FeedbackAlignment(good())),
        ("dfa", "DFA", lambda: DirectFeedbackAlignment(good())),
        ("pc", "PC", lambda: PredictiveCoding(good(), **settling)),
        ("pc-long", f"PC, {long[0]} steps of {long[1]:g}", lambda: PredictiveCoding(good(), steps=long[0], rate=long[1])),
        ("pc-weak", f"PC, top error {WEAK:.0%} of activity", graded(WEAK)),
    ]
    found = [Condition(f"{objective}-{name}", objective, label, make) for name, label, make in transports]
    if objective == "cross-entropy":
        label = f"PC, top error {STRONG:g} times activity"
        found.append(Condition(f"{objective}-pc-strong", objective, label, graded(STRONG)))
    else:
        found.append(Condition(f"{objective}-top", objective, "none, top alone learns", lambda: Backprop(good()), True))
    if objective == "contrastive":
        for context, label in (("lateral", "local, lateral"), ("top", "local, direct feedback")):
            make = partial(lambda c: Local(Contrastive(context=c)), context)
            found.append(Condition(f"clapp-{context}", objective, label, make))
    return found
