"""Objectives: what is good, at one population."""

from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.objectives.clapp import Clapp
from neurossl.plasticity.objectives.contrastive import Contrastive
from neurossl.plasticity.objectives.goodness import Goodness, LocationGoodness
from neurossl.plasticity.objectives.infonce import InfoNCE
from neurossl.plasticity.objectives.supervised import CrossEntropy, SquaredError

__all__ = [
    "Clapp",
    "Contrastive",
    "CrossEntropy",
    "Goodness",
    "InfoNCE",
    "LocationGoodness",
    "Objective",
    "SquaredError",
]
