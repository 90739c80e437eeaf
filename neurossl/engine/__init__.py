"""The engine: how what `anatomy` and `plasticity` define is computed fast. It has no mathematics of its own."""

from neurossl.engine.execution import Execution
from neurossl.engine.updates import Update
from neurossl.engine.weights import Parameters, Weights

__all__ = ["Execution", "Parameters", "Update", "Weights"]
