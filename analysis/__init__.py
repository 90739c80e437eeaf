"""Stored trajectories: written while a simulation runs, opened weeks later on a laptop, without torch or brian2.

Every public name is loaded when it is first used, so that ``import analysis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.alignment import alignment_of_updates, alignment_over_training
    from analysis.comparison import Comparison, open_comparison
    from analysis.distances import distance_between, distance_to_end, distance_to_start, weight_drift
    from analysis.exporter import export
    from analysis.feedback_weights import feedback_angle
    from analysis.inspect import describe, verify
    from analysis.pairing import own_references
    from analysis.path_figures import PATH_FIGURES
    from analysis.path_shape import effective_dimension, path_geometry, principal_axes, random_walk_variances
    from analysis.paths import accumulated_alignment
    from analysis.probes import (
        linear_probe,
        linear_probe_correctness,
        nearest_neighbour_correctness,
        nearest_neighbour_probe,
    )
    from analysis.report import write_report
    from analysis.responses import require_same_stimuli
    from analysis.results import Chart, Results, read_results
    from analysis.schema import group_of
    from analysis.spectra import weight_spectrum
    from analysis.statistics import estimate, over_seeds
    from analysis.storage import write_comparison
    from analysis.summary import summarise, verdicts
    from analysis.synapses import time_to_learn, turnover, weight_distribution
    from analysis.tables import put, put_median, put_with_error, text_table
    from analysis.trajectory import manifest, open_trajectory
    from analysis.weight_images import receptive_fields
    from analysis.writer import TrajectoryWriter

_MODULES = {
    "accumulated_alignment": "paths",
    "distance_between": "distances",
    "distance_to_end": "distances",
    "distance_to_start": "distances",
    "own_references": "pairing",
    "effective_dimension": "path_shape",
    "path_geometry": "path_shape",
    "principal_axes": "path_shape",
    "random_walk_variances": "path_shape",
    "weight_spectrum": "spectra",
    "weight_distribution": "synapses",
    "turnover": "synapses",
    "time_to_learn": "synapses",
    "feedback_angle": "feedback_weights",
    "receptive_fields": "weight_images",
    "PATH_FIGURES": "path_figures",
    "Chart": "results",
    "Results": "results",
    "put": "tables",
    "put_median": "tables",
    "put_with_error": "tables",
    "read_results": "results",
    "text_table": "tables",
    "Comparison": "comparison",
    "TrajectoryWriter": "writer",
    "alignment_over_training": "alignment",
    "alignment_of_updates": "alignment",
    "describe": "inspect",
    "estimate": "statistics",
    "export": "exporter",
    "group_of": "schema",
    "linear_probe": "probes",
    "linear_probe_correctness": "probes",
    "manifest": "trajectory",
    "nearest_neighbour_correctness": "probes",
    "nearest_neighbour_probe": "probes",
    "open_comparison": "comparison",
    "open_trajectory": "trajectory",
    "over_seeds": "statistics",
    "require_same_stimuli": "responses",
    "summarise": "summary",
    "verdicts": "summary",
    "verify": "inspect",
    "weight_drift": "distances",
    "write_comparison": "storage",
    "write_report": "report",
}

__all__ = [
    "PATH_FIGURES",
    "Chart",
    "Comparison",
    "Results",
    "TrajectoryWriter",
    "accumulated_alignment",
    "alignment_of_updates",
    "alignment_over_training",
    "describe",
    "distance_between",
    "distance_to_end",
    "distance_to_start",
    "effective_dimension",
    "estimate",
    "export",
    "feedback_angle",
    "group_of",
    "linear_probe",
    "linear_probe_correctness",
    "manifest",
    "nearest_neighbour_correctness",
    "nearest_neighbour_probe",
    "open_comparison",
    "open_trajectory",
    "over_seeds",
    "own_references",
    "path_geometry",
    "principal_axes",
    "put",
    "put_median",
    "put_with_error",
    "random_walk_variances",
    "read_results",
    "receptive_fields",
    "require_same_stimuli",
    "summarise",
    "text_table",
    "time_to_learn",
    "turnover",
    "verdicts",
    "verify",
    "weight_distribution",
    "weight_drift",
    "weight_spectrum",
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
