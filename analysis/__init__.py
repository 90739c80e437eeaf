"""Stored trajectories: written while a simulation runs, opened weeks later on a laptop, without torch or brian2.

Every public name is loaded when it is first used, so that ``import analysis`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.alignment import alignment_of_updates, alignment_over_training, weight_drift
    from analysis.closeness import relation, relation_in_words
    from analysis.comparison import Comparison, open_comparison
    from analysis.correctness import answers_beside, clustered_bootstrap, mcnemar, seeds_and_images
    from analysis.exporter import export
    from analysis.inference import (
        compare_pairs,
        detectable_difference,
        equivalence_test,
        holm,
        paired_difference,
        seeds_needed,
    )
    from analysis.inspect import describe, verify
    from analysis.outcomes import before_and_after, over_training
    from analysis.page_answers import Answers, answers
    from analysis.page_claims import Claim, claims
    from analysis.probes import linear_probe, nearest_neighbour_probe
    from analysis.relation_figures import relation_figure
    from analysis.report import write_report
    from analysis.results import Chart, Results, read_results
    from analysis.runs import open_runs
    from analysis.schema import group_of
    from analysis.statistics import Estimate, estimate, over_seeds
    from analysis.storage import write_comparison
    from analysis.summary import summarise, verdicts
    from analysis.tables import put, put_median, put_with_error, text_table
    from analysis.trajectory import manifest, open_trajectory
    from analysis.writer import TrajectoryWriter

_MODULES = {
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
    "Answers": "page_answers",
    "answers": "page_answers",
    "Claim": "page_claims",
    "claims": "page_claims",
    "before_and_after": "outcomes",
    "over_training": "outcomes",
    "relation": "closeness",
    "relation_in_words": "closeness",
    "relation_figure": "relation_figures",
    "answers_beside": "correctness",
    "clustered_bootstrap": "correctness",
    "mcnemar": "correctness",
    "seeds_and_images": "correctness",
    "compare_pairs": "inference",
    "detectable_difference": "inference",
    "equivalence_test": "inference",
    "holm": "inference",
    "paired_difference": "inference",
    "seeds_needed": "inference",
    "Estimate": "statistics",
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
    "weight_drift": "alignment",
    "write_comparison": "storage",
    "write_report": "report",
}

__all__ = [
    "Answers",
    "Chart",
    "Claim",
    "Comparison",
    "Estimate",
    "Results",
    "TrajectoryWriter",
    "alignment_of_updates",
    "alignment_over_training",
    "answers",
    "answers_beside",
    "before_and_after",
    "claims",
    "clustered_bootstrap",
    "compare_pairs",
    "describe",
    "detectable_difference",
    "equivalence_test",
    "estimate",
    "export",
    "group_of",
    "holm",
    "linear_probe",
    "manifest",
    "mcnemar",
    "nearest_neighbour_probe",
    "open_comparison",
    "open_runs",
    "open_trajectory",
    "over_seeds",
    "over_training",
    "paired_difference",
    "put",
    "put_median",
    "put_with_error",
    "read_results",
    "relation",
    "relation_figure",
    "relation_in_words",
    "seeds_and_images",
    "seeds_needed",
    "summarise",
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
