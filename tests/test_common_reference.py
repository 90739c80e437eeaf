"""One reference for all rules of a table: backprop of an objective that stands at a population which all networks have."""

import pytest
import torch

from neurossl import MemoryStore, Simulation
from neurossl.anatomy.architectures import from_description
from neurossl.errors import NetworkError
from neurossl.plasticity import Backprop, make_rule, propose
from neurossl.plasticity.objectives import BarlowTwins, Contrastive
from neurossl.recorders import AlignmentMeasures, UpdateRecorder

