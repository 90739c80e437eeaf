"""Which rule of a comparison another one is held against: backprop of its objective, on the same stimuli for paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import analysis
from analysis.outcomes import about_rules
from analysis.references import backprop_of, counterpart, own_references
from neurossl.errors import TrajectoryError
from protocols import compare_rules


def rule(transport: str, objective: str, reference: str = "", **told: Any) -> dict[str, Any]:
    return {"label": "", "transport": transport, "objective": objective, "reference_objective": reference, **told}


ABOUT = {
    "ff": rule("none: own dendrite", "goodness, all", "goodness, at the top", stimuli={"negatives": "labels"}),
    "ff-hybrid": rule(
        "none: own dendrite", "goodness, everywhere", "goodness, at the top", stimuli={"negatives": "hybrids"}
    ),
    "phyll": rule("none: own dendrite", "paired", "paired goodness, at the top", stimuli={"negatives": "hybrids"}),
    "bp-ff": rule("backprop", "goodness, at the top", stimuli={"negatives": "hybrids"}),
    "twice": rule("backprop", "goodness, at the top", stimuli={"negatives": "labels"}),
    "pc": rule("predictive coding", "cross-entropy, at the top", "cross-entropy, at the top", stimuli={}),
    "bp": rule("backprop", "cross-entropy, at the top", stimuli={}),
}


def test_a_rule_is_held_against_backprop_of_its_objective_on_its_own_stimuli_where_there_is_one() -> None:
    assert backprop_of("ff", ABOUT) == ["twice", "bp-ff"]
    assert backprop_of("ff-hybrid", ABOUT) == ["bp-ff", "twice"]
    assert backprop_of("phyll", ABOUT) == []
    assert [counterpart(name, ABOUT) for name in ABOUT] == ["twice", "bp-ff", "bp", None, None, "bp", None]


def test_rivals_of_backprop_at_the_same_objective_are_no_reference() -> None:
    assert backprop_of("pc", ABOUT) == ["bp"]
    assert counterpart("pc", {name: its for name, its in ABOUT.items() if name != "bp"}) is None


def test_without_the_objective_the_name_or_the_label_of_the_reference_counts() -> None:
    about = {"mine": {"reference": "Backprop", "label": "m"}, "bp": {"label": "Backprop", "reference": ""}}
    assert backprop_of("mine", about) == ["bp"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ff"
    compare_rules.run(str(folder), rules=["ff", "ff-hybrid", "phyll", "bp-ff"], tiny=True, seeds=2)
    return folder


def test_paths_are_compared_where_the_reference_saw_the_same_stimuli(out: Path) -> None:
    comparison = analysis.open_comparison(out)
    assert own_references(comparison.tree) == {"ff-hybrid": "bp-ff", "bp-ff": "bp-ff"}
    assert {one.name for one in (out / "twins").iterdir()} == {"bp-ff"}
    assert comparison.accumulated is not None
    ends = comparison.accumulated["cosine"].isel(snapshot=-1).notnull().any(["seed", "pathway"])
    assert [str(name) for name in ends["rule"].values[ends.values]] == ["ff-hybrid", "bp-ff"]


def test_readouts_are_compared_with_backprop_of_the_objective_even_on_other_stimuli(out: Path) -> None:
    about = about_rules(analysis.open_comparison(out).tree)
    assert counterpart("ff", about) == counterpart("ff-hybrid", about) == "bp-ff"
    assert counterpart("phyll", about) is None
    assert about["ff"]["stimuli"] != about["bp-ff"]["stimuli"] == about["ff-hybrid"]["stimuli"]


def test_the_tree_of_one_run_has_no_references_of_others(out: Path) -> None:
    with pytest.raises(TrajectoryError, match="name one, or give"):
        own_references(analysis.open_trajectory(out / "ff" / "seed-0"))


def test_coordinates_are_found_in_whichever_node_they_stand() -> None:
    weights = xr.Dataset(
        {"weight": (("rule", "snapshot"), np.zeros((2, 1)))},
        {
            "rule": ["dfa", "bp"],
            "reference": ("rule", ["bp", ""]),
            "transport": ("rule", ["direct feedback alignment", "backprop"]),
        },
    )
    bare = weights.drop_vars(["reference", "transport"])
    tree = xr.DataTree.from_dict({"/alignment": bare, "/weights/V1->V2": weights})
    assert about_rules(tree)["bp"]["transport"] == "backprop"
    assert own_references(tree) == {"dfa": "bp", "bp": "bp"}
