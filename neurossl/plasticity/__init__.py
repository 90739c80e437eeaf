"""Plasticity: objectives, transports and rules. See `neurossl.plasticity.rule` for the contract."""

from neurossl.plasticity import catalogue as _catalogue
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.needs import NEEDS
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
from neurossl.plasticity.proposal import evaluate, losses, propose, settle
from neurossl.plasticity.rule import RULES, Rule, make_rule, register, rule_options
from neurossl.plasticity.softhebb import SoftHebb
from neurossl.plasticity.synapses import Synapses
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

OBJECTIVES = _catalogue.OBJECTIVES
PUBLISHED_SYNAPSES = _catalogue.PUBLISHED_SYNAPSES
register_objective = _catalogue.register_objective

__all__ = [
    "NEEDS",
    "OBJECTIVES",
    "PUBLISHED_SYNAPSES",
    "RULES",
    "Backprop",
    "BarlowTwins",
    "Blocks",
    "Clapp",
    "Contrastive",
    "Credit",
    "CrossEntropy",
    "DirectFeedbackAlignment",
    "DirectPredictiveCoding",
    "DualPropagation",
    "ErrorOptimised",
    "Factors",
    "FeedbackAlignment",
    "Goodness",
    "InfoNCE",
    "LatentPrediction",
    "Local",
    "LocationGoodness",
    "MonoForward",
    "Objective",
    "OptimalFeedback",
    "PredictiveCoding",
    "ResponsePrediction",
    "Rule",
    "Scope",
    "Site",
    "SoftHebb",
    "SquaredError",
    "Synapses",
    "VICReg",
    "evaluate",
    "losses",
    "make_rule",
    "propose",
    "register",
    "register_objective",
    "rule_options",
    "settle",
]
