"""Stored trajectories: written while a simulation runs, opened weeks later on a laptop, without torch or brian2.

Every public name is loaded when it is first used, so that ``import analysis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.alignment import alignment_of_updates, alignment_over_training, positive_fraction, weight_drift
    from analysis.between_seeds import noise_ceiling, similarity_of_rules
    from analysis.canonical import canonical_correlations, cca, pwcca, svcca
    from analysis.closeness import relation, relation_in_words
    from analysis.compaction import compact
    from analysis.comparison import Comparison, open_comparison
    from analysis.construction import excluding_by_construction, marked_by_construction
    from analysis.correctness import answers_beside, clustered_bootstrap, mcnemar, seeds_and_images
    from analysis.dimension import effective_rank, participation_ratio, two_nn
    from analysis.distances import distance_between, distance_to_end, distance_to_start
    from analysis.exporter import export
    from analysis.feedback_weights import feedback_angle
    from analysis.inference import compare_pairs, equivalence_test, holm, paired_difference
    from analysis.inspect import describe, runs_below, verify
    from analysis.invariance import invariance_across_views
    from analysis.noise import bias_variance, corrected_cosine, expected_ceiling
    from analysis.outcomes import before_and_after, over_training
    from analysis.page_answers import Answers, answers
    from analysis.page_claims import Claim, claims
    from analysis.path_figures import PATH_FIGURES
    from analysis.path_shape import effective_dimension, path_geometry, principal_axes, random_walk_variances
    from analysis.paths import accumulated_alignment
    from analysis.power import detectable_difference, seeds_needed
    from analysis.probes import (
        linear_probe,
        linear_probe_correctness,
        nearest_neighbour_correctness,
        nearest_neighbour_probe,
    )
    from analysis.ratios import ratio_of_means
    from analysis.rdm_comparison import compare_dissimilarities
    from analysis.references import own_references
    from analysis.relation_figures import relation_figure
    from analysis.report import write_report
    from analysis.representation_figures import REPRESENTATION_FIGURES
    from analysis.representations import representation_measures
    from analysis.responses import require_same_stimuli
    from analysis.results import Chart, Results, read_results
    from analysis.rsa import dissimilarity, to_rsatoolbox
    from analysis.runs import open_runs
    from analysis.schema import group_of
    from analysis.selectivity import class_tuning, lifetime_sparseness, population_sparseness
    from analysis.separability import class_d_prime, fisher_separability
    from analysis.similarities import cka, procrustes
    from analysis.similarity_matrices import similarity
    from analysis.spectra import weight_spectrum
    from analysis.statistics import Estimate, estimate, over_seeds
    from analysis.stimuli import average_views
    from analysis.storage import write_comparison
    from analysis.summary import summarise, verdicts
    from analysis.synapses import time_to_learn, turnover, weight_distribution
    from analysis.tables import put, put_median, put_with_error, text_table
    from analysis.trajectory import manifest, open_trajectory
    from analysis.trust import efficiency, gates
    from analysis.weight_images import receptive_fields
    from analysis.writer import TrajectoryWriter

_MODULES = {
    "Answers": "page_answers",
    "Chart": "results",
    "Claim": "page_claims",
    "Comparison": "comparison",
    "Estimate": "statistics",
    "PATH_FIGURES": "path_figures",
    "REPRESENTATION_FIGURES": "representation_figures",
    "Results": "results",
    "TrajectoryWriter": "writer",
    "accumulated_alignment": "paths",
    "alignment_of_updates": "alignment",
    "alignment_over_training": "alignment",
    "answers": "page_answers",
    "answers_beside": "correctness",
    "average_views": "stimuli",
    "before_and_after": "outcomes",
    "bias_variance": "noise",
    "canonical_correlations": "canonical",
    "cca": "canonical",
    "cka": "similarities",
    "claims": "page_claims",
    "class_d_prime": "separability",
    "class_tuning": "selectivity",
    "clustered_bootstrap": "correctness",
    "compact": "compaction",
    "compare_dissimilarities": "rdm_comparison",
    "compare_pairs": "inference",
    "corrected_cosine": "noise",
    "describe": "inspect",
    "detectable_difference": "power",
    "dissimilarity": "rsa",
    "distance_between": "distances",
    "distance_to_end": "distances",
    "distance_to_start": "distances",
    "effective_dimension": "path_shape",
    "effective_rank": "dimension",
    "efficiency": "trust",
    "equivalence_test": "inference",
    "estimate": "statistics",
    "excluding_by_construction": "construction",
    "expected_ceiling": "noise",
    "export": "exporter",
    "feedback_angle": "feedback_weights",
    "fisher_separability": "separability",
    "gates": "trust",
    "group_of": "schema",
    "holm": "inference",
    "invariance_across_views": "invariance",
    "lifetime_sparseness": "selectivity",
    "linear_probe": "probes",
    "linear_probe_correctness": "probes",
    "manifest": "trajectory",
    "marked_by_construction": "construction",
    "mcnemar": "correctness",
    "nearest_neighbour_correctness": "probes",
    "nearest_neighbour_probe": "probes",
    "noise_ceiling": "between_seeds",
    "open_comparison": "comparison",
    "open_runs": "runs",
    "open_trajectory": "trajectory",
    "over_seeds": "statistics",
    "over_training": "outcomes",
    "own_references": "references",
    "paired_difference": "inference",
    "participation_ratio": "dimension",
    "path_geometry": "path_shape",
    "population_sparseness": "selectivity",
    "positive_fraction": "alignment",
    "principal_axes": "path_shape",
    "procrustes": "similarities",
    "put": "tables",
    "put_median": "tables",
    "put_with_error": "tables",
    "pwcca": "canonical",
    "random_walk_variances": "path_shape",
    "ratio_of_means": "ratios",
    "read_results": "results",
    "receptive_fields": "weight_images",
    "relation": "closeness",
    "relation_figure": "relation_figures",
    "relation_in_words": "closeness",
    "representation_measures": "representations",
    "require_same_stimuli": "responses",
    "runs_below": "inspect",
    "seeds_and_images": "correctness",
    "seeds_needed": "power",
    "similarity": "similarity_matrices",
    "similarity_of_rules": "between_seeds",
    "summarise": "summary",
    "svcca": "canonical",
    "text_table": "tables",
    "time_to_learn": "synapses",
    "to_rsatoolbox": "rsa",
    "turnover": "synapses",
    "two_nn": "dimension",
    "verdicts": "summary",
    "verify": "inspect",
    "weight_distribution": "synapses",
    "weight_drift": "alignment",
    "weight_spectrum": "spectra",
    "write_comparison": "storage",
    "write_report": "report",
}

__all__ = [
    "PATH_FIGURES",
    "REPRESENTATION_FIGURES",
    "Answers",
    "Chart",
    "Claim",
    "Comparison",
    "Estimate",
    "Results",
    "TrajectoryWriter",
    "accumulated_alignment",
    "alignment_of_updates",
    "alignment_over_training",
    "answers",
    "answers_beside",
    "average_views",
    "before_and_after",
    "bias_variance",
    "canonical_correlations",
    "cca",
    "cka",
    "claims",
    "class_d_prime",
    "class_tuning",
    "clustered_bootstrap",
    "compact",
    "compare_dissimilarities",
    "compare_pairs",
    "corrected_cosine",
    "describe",
    "detectable_difference",
    "dissimilarity",
    "distance_between",
    "distance_to_end",
    "distance_to_start",
    "effective_dimension",
    "effective_rank",
    "efficiency",
    "equivalence_test",
    "estimate",
    "excluding_by_construction",
    "expected_ceiling",
    "export",
    "feedback_angle",
    "fisher_separability",
    "gates",
    "group_of",
    "holm",
    "invariance_across_views",
    "lifetime_sparseness",
    "linear_probe",
    "linear_probe_correctness",
    "manifest",
    "marked_by_construction",
    "mcnemar",
    "nearest_neighbour_correctness",
    "nearest_neighbour_probe",
    "noise_ceiling",
    "open_comparison",
    "open_runs",
    "open_trajectory",
    "over_seeds",
    "over_training",
    "own_references",
    "paired_difference",
    "participation_ratio",
    "path_geometry",
    "population_sparseness",
    "positive_fraction",
    "principal_axes",
    "procrustes",
    "put",
    "put_median",
    "put_with_error",
    "pwcca",
    "random_walk_variances",
    "ratio_of_means",
    "read_results",
    "receptive_fields",
    "relation",
    "relation_figure",
    "relation_in_words",
    "representation_measures",
    "require_same_stimuli",
    "runs_below",
    "seeds_and_images",
    "seeds_needed",
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
