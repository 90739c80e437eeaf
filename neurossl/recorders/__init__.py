"""Recorders: observers of a simulation that hand what they see to a sink that they do not know."""

from neurossl.recorders.base import Recorder, Sink
from neurossl.recorders.performance import ActivityRecorder, PerformanceRecorder
from neurossl.recorders.updates import ALIGNMENT, UpdateRecorder
from neurossl.recorders.weights import WeightRecorder

__all__ = [
    "ALIGNMENT",
    "ActivityRecorder",
    "PerformanceRecorder",
    "Recorder",
    "Sink",
    "UpdateRecorder",
    "WeightRecorder",
]
