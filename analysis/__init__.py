"""Stored trajectories: written while a simulation runs, opened weeks later on a laptop, without torch or brian2.

Every public name is loaded when it is first used, so that ``import analysis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.alignment import alignment_of_updates, alignment_over_training
    from analysis.between_seeds import noise_ceiling, similarity_of_rules
    from analysis.canonical import canonical_correlations, cca, pwcca, svcca
    from analysis.comparison import Comparison, open_comparison
    from analysis.dimension import effective_rank, participation_ratio, two_nn
    from analysis.distances import distance_between, distance_to_end, distance_to_start, weight_drift
    from analysis.exporter import export
    from analysis.feedback_weights import feedback_angle
    from analysis.inspect import describe, verify
    from analysis.invariance import invariance_across_views
    from analysis.pairing import own_references
    from analysis.path_figures import PATH_FIGURES
    from analysis.path_shape import effective_dimension, path_geometry, principal_axes, random_walk_variances
    from analysis.paths import accumulated_alignment
    from analysis.probes import linear_probe, nearest_neighbour_probe
    from analysis.rdm_comparison import compare_dissimilarities
    from analysis.report import write_report
    from analysis.representation_figures import REPRESENTATION_FIGURES
    from analysis.representations import representation_measures
    from analysis.results import Chart, Results, read_results
    from analysis.rsa import dissimilarity, to_rsatoolbox
    from analysis.runs import open_runs
    from analysis.schema import group_of
    from analysis.selectivity import class_tuning, lifetime_sparseness, population_sparseness
    from analysis.separability import class_d_prime, fisher_separability
    from analysis.similarities import cka, procrustes
    from analysis.similarity_matrices import similarity
    from analysis.spectra import weight_spectrum
    from analysis.statistics import estimate, over_seeds
    from analysis.stimuli import average_views
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
    "manifest": "trajectory",
    "nearest_neighbour_probe": "probes",
    "open_comparison": "comparison",
    "open_runs": "runs",
    "open_trajectory": "trajectory",
    "over_seeds": "statistics",
    "summarise": "summary",
    "verdicts": "summary",
    "verify": "inspect",
    "weight_drift": "distances",
    "write_comparison": "storage",
    "write_report": "report",
    "noise_ceiling": "between_seeds",
    "similarity_of_rules": "between_seeds",
    "canonical_correlations": "canonical",
    "cca": "canonical",
    "pwcca": "canonical",
    "svcca": "canonical",
    "effective_rank": "dimension",
    "participation_ratio": "dimension",
    "two_nn": "dimension",
    "invariance_across_views": "invariance",
    "compare_dissimilarities": "rdm_comparison",
    "REPRESENTATION_FIGURES": "representation_figures",
    "representation_measures": "representations",
    "dissimilarity": "rsa",
    "to_rsatoolbox": "rsa",
    "class_tuning": "selectivity",
    "lifetime_sparseness": "selectivity",
    "population_sparseness": "selectivity",
    "class_d_prime": "separability",
    "fisher_separability": "separability",
    "cka": "similarities",
    "procrustes": "similarities",
    "similarity": "similarity_matrices",
    "average_views": "stimuli",
}

__all__ = [
    "PATH_FIGURES",
    "REPRESENTATION_FIGURES",
    "Chart",
    "Comparison",
    "Results",
    "TrajectoryWriter",
    "accumulated_alignment",
    "alignment_of_updates",
    "alignment_over_training",
    "average_views",
    "canonical_correlations",
    "cca",
    "cka",
    "class_d_prime",
    "class_tuning",
    "compare_dissimilarities",
    "describe",
    "dissimilarity",
    "distance_between",
    "distance_to_end",
    "distance_to_start",
    "effective_dimension",
    "effective_rank",
    "estimate",
    "export",
    "feedback_angle",
    "fisher_separability",
    "group_of",
    "invariance_across_views",
    "lifetime_sparseness",
    "linear_probe",
    "manifest",
    "nearest_neighbour_probe",
    "noise_ceiling",
    "open_comparison",
    "open_runs",
    "open_trajectory",
    "over_seeds",
    "own_references",
    "participation_ratio",
    "path_geometry",
    "population_sparseness",
    "principal_axes",
    "procrustes",
    "put",
    "put_median",
    "put_with_error",
    "pwcca",
    "random_walk_variances",
    "read_results",
    "receptive_fields",
    "representation_measures",
    "similarity",
    "similarity_of_rules",
    "summarise",
    "svcca",
    "text_table",
    "time_to_learn",
    "to_rsatoolbox",
    "turnover",
    "two_nn",
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
