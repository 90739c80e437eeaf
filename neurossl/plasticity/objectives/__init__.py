"""Objectives: what is good, at one population."""

from neurossl.plasticity.objectives.barlow import BarlowTwins
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.objectives.clapp import Clapp
from neurossl.plasticity.objectives.contrastive import Contrastive
from neurossl.plasticity.objectives.goodness import Goodness, LocationGoodness
from neurossl.plasticity.objectives.infonce import InfoNCE
from neurossl.plasticity.objectives.lpl import LatentPrediction
from neurossl.plasticity.objectives.mono_forward import MonoForward
from neurossl.plasticity.objectives.response_prediction import ResponsePrediction
from neurossl.plasticity.objectives.supervised import CrossEntropy, SquaredError
from neurossl.plasticity.objectives.vicreg import VICReg

__all__ = [
    "BarlowTwins",
    "Clapp",
    "Contrastive",
    "CrossEntropy",
    "Goodness",
    "InfoNCE",
    "LatentPrediction",
    "LocationGoodness",
    "MonoForward",
    "Objective",
    "ResponsePrediction",
    "SquaredError",
    "VICReg",
]
