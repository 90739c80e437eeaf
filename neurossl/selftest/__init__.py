"""The rules against reference values, and any rule against the contract that all of them keep to."""

from neurossl.selftest.contract import Check, check_rule, check_rules
from neurossl.selftest.files import Outcome, UnreadableReference, UnsuitableArray
from neurossl.selftest.run import check_file, run_selftest, shipped_files

__all__ = [
    "Check",
    "Outcome",
    "UnreadableReference",
    "UnsuitableArray",
    "check_file",
    "check_rule",
    "check_rules",
    "run_selftest",
    "shipped_files",
]
