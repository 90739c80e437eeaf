"""Recorders: observers of a simulation that hand what they see to its store."""

from neurossl.recorders.activity import ActivityRecorder, NeuronRecorder
from neurossl.recorders.alignment import MEASURES, AlignmentMeasures
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.recorders.performance import PerformanceRecorder
from neurossl.recorders.responses import ResponseRecorder
from neurossl.recorders.signals import SignalRecorder
from neurossl.recorders.stimuli import Stimuli
from neurossl.recorders.updates import ALIGNMENT, UpdateRecorder
from neurossl.recorders.weights import WeightRecorder

__all__ = [
    "ALIGNMENT",
    "MEASURES",
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
]
