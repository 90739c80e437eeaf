"""The rules by name: each an objective and a transport.

Options given to `make_rule` go to the objective or the transport, whichever takes them.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

from neurossl.plasticity.backprop import Backprop
from neurossl.plasticity.contrastive import Contrastive
from neurossl.plasticity.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from neurossl.plasticity.infonce import InfoNCE
from neurossl.plasticity.local import Local
from neurossl.plasticity.objectives import CrossEntropy, Goodness, LocationGoodness, Objective, SquaredError
from neurossl.plasticity.optimal_feedback import OptimalFeedback
from neurossl.plasticity.predictive_coding import PredictiveCoding
from neurossl.plasticity.rule import Rule, register

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "cross-entropy": CrossEntropy,
    "squared-error": SquaredError,
    "contrastive": Contrastive,
    "infonce": InfoNCE,
    "goodness": Goodness,
}
"""Objectives that can stand at the top, by the name that the option ``objective`` takes."""

PUBLISHED_SYNAPSES: dict[str, Any] = {"optimizer": "adamw", "lr": 2e-4, "weight_decay": 0.0}
"""Options of `Synapses` with which CLAPP++ and its references were published (arXiv 2601.21683; Tiny ImageNet: with a weight
decay of 1e-5), together with 32 observers, one landing per fixation, on the next row, and 300 epochs."""


def _compose(transport: Callable[..., Rule], objective: Callable[..., Objective], **defaults: Any) -> Callable[..., Rule]:
    """Return a function of options that joins a transport with an objective."""

    def make(**options: Any) -> Rule:
        chosen = options.pop("objective", None)
        if chosen is not None and chosen not in OBJECTIVES:
            raise TypeError(f"objective {chosen!r} does not exist, expected {', '.join(OBJECTIVES)}")
        build = objective if chosen is None else OBJECTIVES[chosen]
        own = set(signature(transport).parameters) - {"objective"}
        # Defaults of another objective mean nothing to the chosen one; those of the transport stay.
        settings = {**{k: v for k, v in defaults.items() if chosen is None or k in own}, **options}
        for_transport = {k: v for k, v in settings.items() if k in own}
        return transport(build(**{k: v for k, v in settings.items() if k not in own}), **for_transport)

    return make


register("clapp")(_compose(Local, Contrastive, context="lateral", pool="global"))
register("clapp-dfb")(_compose(Local, Contrastive, context="top", pool="global"))
register("clapp++")(_compose(Local, Contrastive, context="lateral", pool="spatial"))
register("clapp++dfb")(_compose(Local, Contrastive, context="top", pool="spatial"))
register("clapp++both")(_compose(Local, Contrastive, context="both", pool="spatial"))
register("clapp++gap")(_compose(Local, Contrastive, context="lateral", pool="global"))
register("clapp-fixed")(_compose(Local, Contrastive, context="top", pool="global", plastic=False))
register("clapp++fixed")(_compose(Local, Contrastive, context="top", pool="spatial", plastic=False))
register("clapp-optimal")(_compose(OptimalFeedback, Contrastive, context="top", pool="global"))
register("clapp++optimal")(_compose(OptimalFeedback, Contrastive, context="top", pool="spatial"))
register("bp-clapp")(_compose(Backprop, Contrastive, context="lateral", pool="global"))
register("bp-clapp++")(_compose(Backprop, Contrastive, context="lateral", pool="global"))
register("bp-infonce")(_compose(Backprop, InfoNCE))
register("infonce-local")(_compose(Local, InfoNCE))
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
