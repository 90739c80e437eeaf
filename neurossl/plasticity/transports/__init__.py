"""Transports: who tells the synapse what is good."""

from neurossl.plasticity.transports.backprop import Backprop
from neurossl.plasticity.transports.blocks import Blocks
from neurossl.plasticity.transports.direct_predictive import DirectPredictiveCoding
from neurossl.plasticity.transports.dual_propagation import DualPropagation
from neurossl.plasticity.transports.error_optimised import ErrorOptimised
from neurossl.plasticity.transports.feedback_alignment import DirectFeedbackAlignment, FeedbackAlignment
from neurossl.plasticity.transports.local import Local
from neurossl.plasticity.transports.optimal_feedback import OptimalFeedback
from neurossl.plasticity.transports.predictive_coding import PredictiveCoding

__all__ = [
    "Backprop",
    "Blocks",
    "DirectFeedbackAlignment",
    "DirectPredictiveCoding",
    "DualPropagation",
    "ErrorOptimised",
    "FeedbackAlignment",
    "Local",
    "OptimalFeedback",
    "PredictiveCoding",
]
