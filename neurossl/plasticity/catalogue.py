"""The rules by name: each an objective and a transport.

Options given to `make_rule` go to the objective or the transport, whichever takes them.
"""

from collections.abc import Callable
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any

from neurossl.errors import OptionError
from neurossl.plasticity.objectives import (
    BarlowTwins,
    Clapp,
    Contrastive,
    CrossEntropy,
    Goodness,
    InfoNCE,
    LatentPrediction,
    LocationGoodness,
    MonoForward,
    Objective,
    ResponsePrediction,
    SquaredError,
    VICReg,
)
from neurossl.plasticity.rule import Rule, register
from neurossl.plasticity.softhebb import SoftHebb
from neurossl.plasticity.transports import (
    Backprop,
    Blocks,
    DirectFeedbackAlignment,
    DirectPredictiveCoding,
    DualPropagation,
    ErrorOptimised,
    FeedbackAlignment,
    Local,
    OptimalFeedback,
    PredictiveCoding,
)

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "cross-entropy": CrossEntropy,
    "squared-error": SquaredError,
    "clapp": Clapp,
    "contrastive": Contrastive,
    "infonce": InfoNCE,
    "goodness": Goodness,
    "barlow": BarlowTwins,
    "vicreg": VICReg,
    "lpl": LatentPrediction,
    "rpl": ResponsePrediction,
}
"""Objectives that can stand at the top, by the name that the option ``objective`` takes."""

PUBLISHED_SYNAPSES: dict[str, Any] = {"optimizer": "adamw", "lr": 2e-4, "weight_decay": 0.0}
"""Options of `Synapses` with which CLAPP++ and its references were published (arXiv 2601.21683; Tiny ImageNet: with a weight
decay of 1e-5), together with 32 observers, one negative per fixation, on the next row, and 300 epochs."""


def register_objective(name: str) -> Callable[[Callable[..., Objective]], Callable[..., Objective]]:
    """Make an objective available by name, for ``make_rule("dfa", objective=name)``."""

    def keep(objective: Callable[..., Objective]) -> Callable[..., Objective]:
        OBJECTIVES[name] = objective
        return objective

    return keep


def _compose(transport: Callable[..., Rule], objective: Callable[..., Objective], **defaults: Any) -> Callable[..., Rule]:
    """Return a function of options that joins a transport with an objective."""
    own = {name: p for name, p in signature(transport).parameters.items() if name not in ("self", "objective", "needs")}

    def chosen(option: Any) -> Callable[..., Objective] | Objective:
        if option is None or isinstance(option, Objective):
            return objective if option is None else option
        if isinstance(option, type) and issubclass(option, Objective):
            return option
        if option not in OBJECTIVES:
            close = get_close_matches(str(option), OBJECTIVES, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise OptionError(f"objective {option!r} does not exist; {hint}there are: {', '.join(OBJECTIVES)}")
        return OBJECTIVES[option]

    def options_of(**given: Any) -> dict[str, Parameter]:
        """Return what `make` takes, with the defaults that it has here."""
        build = chosen(given.get("objective"))
        of_objective = {} if isinstance(build, Objective) else dict(signature(build).parameters)
        known = {**of_objective, **own}
        if build is objective:
            known = {n: p.replace(default=defaults[n]) if n in defaults else p for n, p in known.items()}
        choice = Parameter("objective", Parameter.KEYWORD_ONLY, default=None, annotation=str)
        return {**known, "objective": choice}

    def make(**options: Any) -> Rule:
        option = options.pop("objective", None)
        build = chosen(option)
        # Defaults of another objective mean nothing to the chosen one; those of the transport stay.
        passed = {k: v for k, v in defaults.items() if option is None or k in own}
        settings = {**passed, **options}
        for_transport = {k: v for k, v in settings.items() if k in own or k == "needs"}
        for_objective = {k: v for k, v in settings.items() if k not in for_transport}
        return transport(build if isinstance(build, Objective) else build(**for_objective), **for_transport)

    make.options_of = options_of  # type: ignore[attr-defined]
    return make


register("clapp")(_compose(Local, Clapp))
register("clapp-s")(_compose(Local, Clapp, retrodiction="transposed"))
register("clapp++gap")(_compose(Local, Contrastive, context="lateral", pool="global"))
register("clapp-dfb")(_compose(Local, Contrastive, context="top", pool="global"))
register("clapp++")(_compose(Local, Contrastive, context="lateral", pool="spatial"))
register("clapp++dfb")(_compose(Local, Contrastive, context="top", pool="spatial"))
register("clapp++both")(_compose(Local, Contrastive, context="both", pool="spatial"))
register("clapp-fixed")(_compose(Local, Contrastive, context="top", pool="global", plastic=False))
register("clapp++fixed")(_compose(Local, Contrastive, context="top", pool="spatial", plastic=False))
register("clapp-optimal")(_compose(OptimalFeedback, Contrastive, context="top", pool="global"))
register("clapp++optimal")(_compose(OptimalFeedback, Contrastive, context="top", pool="spatial"))
register("bp-clapp++")(_compose(Backprop, Contrastive, context="lateral", pool="global"))
register("bp-clapp++spatial")(_compose(Backprop, Contrastive, context="lateral", pool="spatial"))
register("bp-clapp++both")(_compose(Backprop, Contrastive, context="both", pool="spatial"))
register("bp-hinge-cpc")(_compose(Backprop, Clapp))
register("bp-infonce")(_compose(Backprop, InfoNCE))
register("bp-infonce-held")(_compose(Backprop, InfoNCE, held=True))
register("infonce-local")(_compose(Local, InfoNCE))
register("barlow-local")(_compose(Local, BarlowTwins))
register("vicreg-local")(_compose(Local, VICReg))
register("lpl")(_compose(Local, LatentPrediction))
register("rpl")(_compose(Local, ResponsePrediction))
register("bp-barlow")(_compose(Backprop, BarlowTwins))
register("mono-forward")(_compose(Local, MonoForward))
register("softhebb")(SoftHebb)
register("ff")(_compose(Local, Goodness, needs={"label in the stimulus"}))
register("ff-hybrid")(_compose(Local, Goodness))
register("phyll")(_compose(Local, Goodness, paired=True))
register("clapp-phyll")(_compose(Local, Contrastive, context="lateral", contrast="phyll"))
register("scff")(_compose(Local, LocationGoodness))
register("bp-ff")(_compose(Backprop, Goodness))
register("dfa")(_compose(DirectFeedbackAlignment, CrossEntropy))
register("fa")(_compose(FeedbackAlignment, CrossEntropy))
register("pc")(_compose(PredictiveCoding, CrossEntropy))
register("ipc")(_compose(PredictiveCoding, CrossEntropy, schedule="incremental"))
register("pc-fixed")(_compose(PredictiveCoding, CrossEntropy, schedule="fixed-prediction", rate=1.0))
register("z-il")(_compose(PredictiveCoding, CrossEntropy, schedule="z-il", rate=1.0))
register("bp")(_compose(Backprop, CrossEntropy))
register("dfa-clapp")(_compose(DirectFeedbackAlignment, Contrastive))
register("fa-clapp")(_compose(FeedbackAlignment, Contrastive))
register("pc-clapp")(_compose(PredictiveCoding, Contrastive))
register("dfa-infonce")(_compose(DirectFeedbackAlignment, InfoNCE))
register("pc-infonce")(_compose(PredictiveCoding, InfoNCE))
register("fa-sign")(_compose(FeedbackAlignment, CrossEntropy, feedback="sign"))
register("fa-kp")(_compose(FeedbackAlignment, CrossEntropy, feedback="learned"))
register("dual-prop")(_compose(DualPropagation, CrossEntropy))
register("epc")(_compose(ErrorOptimised, CrossEntropy))
register("dfa-pc")(_compose(DirectPredictiveCoding, CrossEntropy))
register("blocks-clapp")(_compose(Blocks, Contrastive))
