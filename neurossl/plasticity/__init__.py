"""Plasticity: objectives, transports and rules. See `neurossl.plasticity.rule` for the contract."""

from neurossl.plasticity import catalogue as _catalogue
from neurossl.plasticity.backprop import Backprop
from neurossl.plasticity.contrastive import Contrastive
from neurossl.plasticity.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from neurossl.plasticity.infonce import InfoNCE
from neurossl.plasticity.local import Local
from neurossl.plasticity.locality import NEEDS, Site, View
from neurossl.plasticity.objectives import CrossEntropy, Goodness, LocationGoodness, Objective, SquaredError
from neurossl.plasticity.optimal_feedback import OptimalFeedback
from neurossl.plasticity.predictive_coding import PredictiveCoding
from neurossl.plasticity.rule import RULES, Credit, Rule, make_rule, register
from neurossl.plasticity.synapses import Synapses

OBJECTIVES = _catalogue.OBJECTIVES
PUBLISHED_SYNAPSES = _catalogue.PUBLISHED_SYNAPSES

__all__ = [
    "NEEDS",
    "OBJECTIVES",
    "PUBLISHED_SYNAPSES",
    "RULES",
    "Backprop",
    "Contrastive",
    "Credit",
    "CrossEntropy",
    "DirectFeedbackAlignment",
    "FeedbackAlignment",
    "Goodness",
    "InfoNCE",
    "Local",
    "LocationGoodness",
    "Objective",
    "OptimalFeedback",
    "PredictiveCoding",
    "Rule",
    "Site",
    "SquaredError",
    "Synapses",
    "View",
    "make_rule",
    "register",
]
