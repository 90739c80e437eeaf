"""The rules against reference values."""

from neurossl.selftest.files import Outcome, UnreadableReference, UnsuitableArray
from neurossl.selftest.run import check_file, run_selftest, shipped_files

__all__ = ["Outcome", "UnreadableReference", "UnsuitableArray", "check_file", "run_selftest", "shipped_files"]
