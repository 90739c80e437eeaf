"""neurossl: populations, pathways and plasticity rules; how close is local learning to backpropagation?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neurossl.siblings import SIBLINGS, install
from neurossl.surroundings import installed
from neurossl.version import __version__

if TYPE_CHECKING:
    from neurossl.anatomy import (
        BandedPathway,
        Connectivity,
        Convolution,
        Dense,
        FeedbackPathway,
        FeedforwardPathway,
        InputPopulation,
        InterneuronPathway,
        LocalFields,
        LowRankPathway,
        MirrorPathway,
        Network,
        Pathway,
        Pooling,
        Population,
        Sparse,
        Transfer,
        convolutional,
        from_description,
        linear_stack,
        mlp,
        register_transfer,
        residual,
        vgg6,
        vgg8,
    )
    from neurossl.checkpoint import Checkpointer
    from neurossl.dynamics import Activity, Circuit
    from neurossl.engine import Parameters, Update, Weights
    from neurossl.errors import NeurosslError
    from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
    from neurossl.generators import Generators
    from neurossl.plasticity import (
        NEEDS,
        PUBLISHED_SYNAPSES,
        RULES,
        Backprop,
        Contrastive,
        Credit,
        CrossEntropy,
        DirectFeedbackAlignment,
        Factors,
        FeedbackAlignment,
        Goodness,
        InfoNCE,
        Local,
        LocationGoodness,
        Objective,
        OptimalFeedback,
        PredictiveCoding,
        Rule,
        Scope,
        Site,
        SquaredError,
        Synapses,
        make_rule,
        propose,
        register,
        register_objective,
        rule_options,
    )
    from neurossl.plasticity.homeostasis import Homeostasis, WeightNormalisation
    from neurossl.recorders import (
        ActivityRecorder,
        AlignmentMeasures,
        NeuronRecorder,
        Observation,
        PerformanceRecorder,
        Recorder,
        ResponseRecorder,
        SignalRecorder,
        Stimuli,
        UpdateRecorder,
        WeightRecorder,
    )
    from neurossl.repeats import repeat_updates
    from neurossl.replicas import Replicas
    from neurossl.simulation import Simulation
    from neurossl.state import State
    from neurossl.stimuli import Stream

# Resolved on first use, so that `import neurossl.errors` (and with it reading a stored run) does not load torch.
_HOMES = {
    "anatomy": (
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
        "Network",
        "Pathway",
        "Pooling",
        "Population",
        "Sparse",
        "Transfer",
        "convolutional",
        "from_description",
        "linear_stack",
        "mlp",
        "register_transfer",
        "residual",
        "vgg6",
        "vgg8",
    ),
    "checkpoint": ("Checkpointer",),
    "dynamics": ("Activity", "Circuit"),
    "engine": (
        "Parameters",
        "Update",
        "Weights",
    ),
    "errors": ("NeurosslError",),
    "events": (
        "Fixation",
        "Moment",
        "Neuromodulation",
        "Phase",
        "Saccade",
        "Teaching",
    ),
    "generators": ("Generators",),
    "plasticity": (
        "NEEDS",
        "PUBLISHED_SYNAPSES",
        "RULES",
        "Backprop",
        "Contrastive",
        "Credit",
        "CrossEntropy",
        "DirectFeedbackAlignment",
        "Factors",
        "FeedbackAlignment",
        "Goodness",
        "InfoNCE",
        "Local",
        "LocationGoodness",
        "Objective",
        "OptimalFeedback",
        "PredictiveCoding",
        "Rule",
        "Scope",
        "Site",
        "SquaredError",
        "Synapses",
        "make_rule",
        "propose",
        "register",
        "register_objective",
        "rule_options",
    ),
    "plasticity.homeostasis": (
        "Homeostasis",
        "WeightNormalisation",
    ),
    "recorders": (
        "ActivityRecorder",
        "AlignmentMeasures",
        "NeuronRecorder",
        "Observation",
        "PerformanceRecorder",
        "Recorder",
        "ResponseRecorder",
        "SignalRecorder",
        "Stimuli",
        "UpdateRecorder",
        "WeightRecorder",
    ),
    "repeats": ("repeat_updates",),
    "replicas": ("Replicas",),
    "simulation": ("Simulation",),
    "state": ("State",),
    "stimuli": ("Stream",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


install()


def __getattr__(name: str) -> Any:
    if name in SIBLINGS:
        return import_module(f"neurossl.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'neurossl' has no attribute {name!r}")
    with installed():
        return getattr(import_module(f"neurossl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "NEEDS",
    "PUBLISHED_SYNAPSES",
    "RULES",
    "Activity",
    "ActivityRecorder",
    "AlignmentMeasures",
    "Backprop",
    "BandedPathway",
    "Checkpointer",
    "Circuit",
    "Connectivity",
    "Contrastive",
    "Convolution",
    "Credit",
    "CrossEntropy",
    "Dense",
    "DirectFeedbackAlignment",
    "Factors",
    "FeedbackAlignment",
    "FeedbackPathway",
    "FeedforwardPathway",
    "Fixation",
    "Generators",
    "Goodness",
    "Homeostasis",
    "InfoNCE",
    "InputPopulation",
    "InterneuronPathway",
    "Local",
    "LocalFields",
    "LocationGoodness",
    "LowRankPathway",
    "MirrorPathway",
    "Moment",
    "Network",
    "Neuromodulation",
    "NeuronRecorder",
    "NeurosslError",
    "Objective",
    "Observation",
    "OptimalFeedback",
    "Parameters",
    "Pathway",
    "PerformanceRecorder",
    "Phase",
    "Pooling",
    "Population",
    "PredictiveCoding",
    "Recorder",
    "Replicas",
    "ResponseRecorder",
    "Rule",
    "Saccade",
    "Scope",
    "SignalRecorder",
    "Simulation",
    "Site",
    "Sparse",
    "SquaredError",
    "State",
    "Stimuli",
    "Stream",
    "Synapses",
    "Teaching",
    "Transfer",
    "Update",
    "UpdateRecorder",
    "WeightNormalisation",
    "WeightRecorder",
    "Weights",
    "__version__",
    "convolutional",
    "from_description",
    "linear_stack",
    "make_rule",
    "mlp",
    "propose",
    "register",
    "register_objective",
    "register_transfer",
    "repeat_updates",
    "residual",
    "rule_options",
    "vgg6",
    "vgg8",
]
