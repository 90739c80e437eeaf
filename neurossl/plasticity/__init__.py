"""Plasticity: objectives, transports and rules. See `neurossl.plasticity.rule` for the contract."""

from neurossl.plasticity import catalogue as _catalogue
from neurossl.plasticity.backprop import Backprop
from neurossl.plasticity.contrastive import Contrastive, InfoNCE
from neurossl.plasticity.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from neurossl.plasticity.local import Local
from neurossl.plasticity.locality import NEEDS, Site, View
from neurossl.plasticity.objectives import CrossEntropy, Goodness, LocationGoodness, Objective, SquaredError
from neurossl.plasticity.predictive_coding import PredictiveCoding
from neurossl.plasticity.rule import RULES, Credit, Rule, make_rule, register
from neurossl.plasticity.synapses import Synapses

OBJECTIVES = _catalogue.OBJECTIVES

__all__ = [
    "NEEDS",
    "OBJECTIVES",
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
    "PredictiveCoding",
    "Rule",
    "Site",
    "SquaredError",
    "Synapses",
    "View",
    "make_rule",
    "register",
]
