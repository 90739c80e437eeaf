"""Anatomy: populations, pathways, connectivity and the graph that they form. It holds no tensors: see `neurossl.state`."""

from neurossl.anatomy.architectures import convolutional, from_description, linear_stack, mlp, vgg6, vgg8
from neurossl.anatomy.blocks import residual, tokens
from neurossl.anatomy.connectivity import Connectivity, Convolution, Dense, LocalFields, Mixing, Sparse
from neurossl.anatomy.depth import deep
from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.anatomy.pooling import Pooling
from neurossl.anatomy.populations import InputPopulation, Population
from neurossl.anatomy.prediction import BandedPathway, InterneuronPathway, LowRankPathway, PredictionForm
from neurossl.anatomy.transfer import TRANSFERS, Transfer, register_transfer

__all__ = [
    "TRANSFERS",
    "BandedPathway",
    "Connectivity",
    "Convolution",
    "Dense",
    "FeedbackPathway",
    "FeedforwardPathway",
    "InputPopulation",
    "InterneuronPathway",
    "LocalFields",
    "LowRankPathway",
    "MirrorPathway",
    "Mixing",
    "Network",
    "Pathway",
    "Pooling",
    "Population",
    "PredictionForm",
    "Sparse",
    "Transfer",
    "convolutional",
    "deep",
    "from_description",
    "linear_stack",
    "mlp",
    "register_transfer",
    "residual",
    "tokens",
    "vgg6",
    "vgg8",
]
