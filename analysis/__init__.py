"""Stored trajectories: written while a simulation runs, opened weeks later on a laptop, without torch or brian2.

Every public name is loaded when it is first used, so that ``import analysis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.alignment import alignment_of_updates, alignment_over_training, weight_drift
    from analysis.comparison import Comparison, format_table, open_comparison, verdicts
    from analysis.exporter import export
    from analysis.inspect import describe, verify
    from analysis.probes import linear_probe, nearest_neighbour_probe
    from analysis.report import write_report
    from analysis.results import Chart, Results, put, put_median, put_with_error, read_results, text_table
    from analysis.schema import group_of
    from analysis.statistics import estimate, over_seeds
    from analysis.storage import write_comparison
    from analysis.trajectory import manifest, open_trajectory
    from analysis.writer import TrajectoryWriter

_MODULES = {
    "Chart": "results",
    "Results": "results",
    "put": "results",
    "put_median": "results",
    "put_with_error": "results",
    "read_results": "results",
    "text_table": "results",
    "Comparison": "comparison",
    "TrajectoryWriter": "writer",
    "alignment_over_training": "alignment",
    "alignment_of_updates": "alignment",
    "describe": "inspect",
    "estimate": "statistics",
    "export": "exporter",
    "format_table": "comparison",
    "group_of": "schema",
    "linear_probe": "probes",
    "manifest": "trajectory",
    "nearest_neighbour_probe": "probes",
    "open_comparison": "comparison",
    "open_trajectory": "trajectory",
    "over_seeds": "statistics",
    "verdicts": "comparison",
    "verify": "inspect",
    "weight_drift": "alignment",
    "write_comparison": "storage",
    "write_report": "report",
}

__all__ = [
    "Chart",
    "Comparison",
    "Results",
    "TrajectoryWriter",
    "alignment_of_updates",
    "alignment_over_training",
    "describe",
    "estimate",
    "export",
    "format_table",
    "group_of",
    "linear_probe",
    "manifest",
    "nearest_neighbour_probe",
    "open_comparison",
    "open_trajectory",
    "over_seeds",
    "put",
    "put_median",
    "put_with_error",
    "read_results",
    "text_table",
    "verdicts",
    "verify",
    "weight_drift",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}; it has {', '.join(_MODULES)}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
