"""neurossl: populations, pathways and plasticity rules; how close is local learning to backpropagation?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neurossl.siblings import SIBLINGS, install
from neurossl.version import __version__

if TYPE_CHECKING:
    from neurossl.architectures import convolutional, from_description, linear_stack, mlp, residual, vgg6, vgg8
    from neurossl.connectivity import Convolution, Dense
    from neurossl.errors import NeurosslError
    from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
    from neurossl.feedback import FeedbackPathway, MirrorPathway
    from neurossl.generators import Generators
    from neurossl.network import Network
    from neurossl.pathways import FeedforwardPathway
    from neurossl.plasticity import (
        NEEDS,
        PUBLISHED_SYNAPSES,
        RULES,
        Backprop,
        Contrastive,
        CrossEntropy,
        DirectFeedbackAlignment,
        FeedbackAlignment,
        Goodness,
        InfoNCE,
        Local,
        LocationGoodness,
        OptimalFeedback,
        PredictiveCoding,
        Rule,
        SquaredError,
        Synapses,
        make_rule,
        register,
    )
    from neurossl.populations import InputPopulation, Pooling, Population
    from neurossl.prediction import BandedPathway, LowRankPathway, ProjectionPathway
    from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
    from neurossl.simulation import Simulation

# Resolved on first use, so that `import neurossl.errors` (and with it reading a stored run) does not load torch.
_HOMES = {
    "architectures": ("convolutional", "from_description", "linear_stack", "mlp", "residual", "vgg6", "vgg8"),
    "errors": ("NeurosslError",),
    "events": ("Fixation", "Moment", "Neuromodulation", "Phase", "Saccade", "Teaching"),
    "feedback": ("FeedbackPathway", "MirrorPathway"),
    "generators": ("Generators",),
    "network": ("Network",),
    "connectivity": ("Convolution", "Dense"),
    "pathways": ("FeedforwardPathway",),
    "plasticity": (
        *("NEEDS", "PUBLISHED_SYNAPSES", "RULES", "Backprop", "Contrastive", "CrossEntropy", "DirectFeedbackAlignment"),
        *("FeedbackAlignment", "Goodness", "InfoNCE", "Local", "LocationGoodness", "OptimalFeedback", "PredictiveCoding"),
        *("Rule", "SquaredError", "Synapses", "make_rule", "register"),
    ),
    "populations": ("InputPopulation", "Pooling", "Population"),
    "prediction": ("BandedPathway", "LowRankPathway", "ProjectionPathway"),
    "recorders": ("ActivityRecorder", "PerformanceRecorder", "UpdateRecorder", "WeightRecorder"),
    "simulation": ("Simulation",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


install()


def __getattr__(name: str) -> Any:
    if name in SIBLINGS:
        return import_module(f"neurossl.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'neurossl' has no attribute {name!r}")
    return getattr(import_module(f"neurossl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "NEEDS",
    "PUBLISHED_SYNAPSES",
    "RULES",
    "ActivityRecorder",
    "Backprop",
    "BandedPathway",
    "Contrastive",
    "Convolution",
    "CrossEntropy",
    "Dense",
    "DirectFeedbackAlignment",
    "FeedbackAlignment",
    "FeedbackPathway",
    "FeedforwardPathway",
    "Fixation",
    "Generators",
    "Goodness",
    "InfoNCE",
    "InputPopulation",
    "Local",
    "LocationGoodness",
    "LowRankPathway",
    "MirrorPathway",
    "Moment",
    "Network",
    "Neuromodulation",
    "NeurosslError",
    "OptimalFeedback",
    "PerformanceRecorder",
    "Phase",
    "Pooling",
    "Population",
    "PredictiveCoding",
    "ProjectionPathway",
    "Rule",
    "Saccade",
    "Simulation",
    "SquaredError",
    "Synapses",
    "Teaching",
    "UpdateRecorder",
    "WeightRecorder",
    "__version__",
    "convolutional",
    "from_description",
    "linear_stack",
    "make_rule",
    "mlp",
    "register",
    "residual",
    "vgg6",
    "vgg8",
]
