"""The conditions of `protocols.ssl_credit_assignment`: an objective at the top, and what carries its credit down."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from neurossl.plasticity import (
    Backprop,
    BarlowTwins,
    Blocks,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    InfoNCE,
    Local,
    Objective,
    PredictiveCoding,
    ResponsePrediction,
    Rule,
)
from protocols.credit.settled import RepeatedBackprop, SettledPredictiveCoding
from protocols.credit.settling import GradedPredictiveCoding

OBJECTIVES: dict[str, tuple[str, Callable[[], Objective]]] = {
    "infonce": ("InfoNCE", InfoNCE),
    "barlow": ("Barlow Twins", BarlowTwins),
    "cross-entropy": ("supervised", CrossEntropy),
    "contrastive": ("CLAPP++ (hinge)", Contrastive),
    "prediction": ("next response", ResponsePrediction),
}
"""Name, label and class. Backprop learns the first three well. The last two are there if asked for: a hinge, which backprop
hardly learns here, and prediction of the next response without negatives (RPL, MPC), which is predictive coding's own."""
USUAL_OBJECTIVES = ("infonce", "barlow", "cross-entropy")
SUPERVISED = "cross-entropy"
WEAK, STRONG = 0.01, 30.0
"""Norm of the top error relative to the top activity, where it is set: far below 1, and about that of InfoNCE."""
LONG = (20, 0.1)
"""Steps and rate of the settling that most codes have, which is longer and rougher."""
TRANSPORTS = (
    *("bp", "bp-repeated", "fa", "dfa", "pc", "pc-long", "pc-rest", "ipc", "pc-weak", "pc-strong"),
    *("top", "local", "local-direct"),
)
LONG_ONES = ("bp-repeated", "pc-rest", "ipc")
"""Those that take half of the time; there with `--full`. Fixed predictions are no arm: once settled they are backprop."""
CARRIERS = ("bp", "blocks", "fa", "fa-sign", "dfa", "pc", "pc-long", "pc-rest", "pc-weak", "local")
"""Those of `protocols.closer_is_better`: all learn everywhere, once per moment."""
PREDICTIVE = ("pc", "pc-long", "pc-rest", "ipc", "pc-weak", "pc-strong")
"""Those of predictive coding, which are held against backprop."""


@dataclass(frozen=True)
class Condition:
    """An objective and a transport, each with the name that options give it."""

    objective: str
    kind: str
    transport: str
    make: Callable[[], Rule]

    @property
    def name(self) -> str:
        """Of its runs."""
        return f"{self.objective}-{self.kind}"

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{OBJECTIVES[self.objective][0]}, {self.transport}"

    @property
    def top_only(self) -> bool:
        """Whether all but the top stays as it was drawn."""
        return self.kind == "top"

    def reference(self) -> Rule:
        """Return backprop of the objective."""
        return Backprop(OBJECTIVES[self.objective][1]())


def conditions_for(
    objective: str, steps: int, rate: float, transports: Sequence[str] = TRANSPORTS, long: tuple[int, float] = LONG
) -> list[Condition]:
    """Return the conditions of one objective.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    steps, rate : int, float
        Of the settling of predictive coding.
    transports : sequence of str
        In the order of the conditions; what an objective has not got is left out.
    long : (int, float)
        Steps and rate of the condition that settles for longer.
    """
    found = {
        kind: Condition(objective, kind, label, make) for kind, label, make in _transports(objective, steps, rate, long)
    }
    return [found[kind] for kind in transports if kind in found]


def _transports(
    objective: str, steps: int, rate: float, long: tuple[int, float]
) -> Iterator[tuple[str, str, Callable[[], Rule]]]:
    """Yield name, label and rule."""
    good = OBJECTIVES[objective][1]

    def pc(steps: int, rate: float, schedule: str = "standard") -> Rule:
        return PredictiveCoding(good(), steps=steps, rate=rate, schedule=schedule)

    yield "bp", "BP", lambda: Backprop(good())
    yield "fa", "FA", lambda: FeedbackAlignment(good())
    yield "fa-sign", "FA, signs of the weights", lambda: FeedbackAlignment(good(), feedback="sign")
    yield "dfa", "DFA", lambda: DirectFeedbackAlignment(good())
    yield "pc", f"PC, {steps} steps of {rate:g}", partial(pc, steps, rate)
    yield "pc-long", f"PC, {long[0]} steps of {long[1]:g}", partial(pc, *long)
    yield "pc-rest", "PC, at rest", lambda: SettledPredictiveCoding(good())
    yield "ipc", f"PC, learning at each of {steps} steps (iPC)", partial(pc, steps, rate, "incremental")
    yield "bp-repeated", f"BP, {steps} times per moment", lambda: RepeatedBackprop(good(), steps)

    def graded(strength: float) -> Callable[[], Rule]:
        return lambda: GradedPredictiveCoding(good(), strength, steps=steps, rate=rate)

    yield "pc-weak", f"PC, top error {WEAK:.0%} of activity", graded(WEAK)
    if objective == SUPERVISED:
        yield "pc-strong", f"PC, top error {STRONG:g} times activity", graded(STRONG)
    if objective != SUPERVISED:
        yield "top", "none, top alone learns", lambda: Backprop(good())
        yield "local", "local", lambda: Local(good())
        yield "blocks", "BP in blocks of two", lambda: Blocks(good())
    if objective == "contrastive":
        yield "local-direct", "local, direct feedback", lambda: Local(Contrastive(context="top"))
