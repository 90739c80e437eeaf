"""Dynamics: how populations respond to a stimulus, given anatomy and weights. One feedforward sweep per moment."""

from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.dynamics.manipulations import Manipulation
from neurossl.dynamics.sweep import Sweep

__all__ = ["Activity", "Circuit", "Manipulation", "Sweep"]
