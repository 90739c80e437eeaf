"""The version of neurossl."""

__version__ = "0.1.0"
