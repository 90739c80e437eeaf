"""Twins of references: the same rule from the same weights on other views, as the ceiling of accumulated alignment."""

import json
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.path_results import accumulated_headline, accumulated_in_words, accumulated_records
from protocols import compare_rules

PATHWAY = "V1->V2"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "out"
    compare_rules.run(str(folder), rules=["clapp++gap", "bp-clapp++"], tiny=True, seeds=3, workers=1)
    return folder


@pytest.fixture(scope="module")
def comparison(out: Path) -> analysis.Comparison:
    return analysis.open_comparison(out).finished()


def change(run: Path) -> np.ndarray:
    weight = analysis.open_trajectory(run)[f"weights/{PATHWAY}"]["weight"].values.astype(float)
    return (weight[-1] - weight[0]).ravel()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_a_twin_begins_with_the_same_weights_and_sees_other_views(out: Path) -> None:
    one, twin = (analysis.open_trajectory(out / place / "bp-clapp++" / "seed-1") for place in (".", "twins"))
    assert np.array_equal(one[f"weights/{PATHWAY}"]["weight"][0], twin[f"weights/{PATHWAY}"]["weight"][0])
    assert not np.array_equal(one[f"weights/{PATHWAY}"]["weight"][-1], twin[f"weights/{PATHWAY}"]["weight"][-1])
    assert analysis.manifest(out / "twins" / "bp-clapp++" / "seed-1")["twin_of"] == "BP-CLAPP++"
    assert "performance" not in twin.children, "the weights alone are recorded"


def test_rules_that_are_nobodys_reference_have_no_twin(out: Path) -> None:
    assert [path.name for path in (out / "twins").iterdir()] == ["bp-clapp++"]


def test_a_twin_is_no_rule_of_the_comparison(out: Path, comparison: analysis.Comparison) -> None:
    assert list(comparison.rules) == ["CLAPP++ without spatial dependence", "BP-CLAPP++"]
    assert [row["seeds"] for row in comparison.table()] == [3, 3]
    assert list(comparison.twins) == ["bp-clapp++"]
    assert comparison.twins["bp-clapp++"].sizes.get("seed", 3) == 3
    tree = analysis.open_runs(out)
    assert tree["runs"]["rule"].values.tolist() == ["clapp++gap", "bp-clapp++"]
    assert len(json.loads(tree.attrs["twins"])) == 3


def test_twins_alone_open_as_any_run(out: Path) -> None:
    tree = analysis.open_runs([out / "twins" / "bp-clapp++" / f"seed-{seed}" for seed in range(3)])
    assert tree["runs"]["rule"].values.tolist() == ["bp-clapp++"]


def test_records_equal_the_cosines_of_the_stored_weights(out: Path, comparison: analysis.Comparison) -> None:
    (record,) = [record for record in accumulated_records(comparison) if record["pathway"] == PATHWAY]
    assert (record["rule"], record["reference"]) == ("CLAPP++ without spatial dependence", "BP-CLAPP++")
    paths = [
        {name: change(out / name / f"seed-{seed}") for name in ("clapp++gap", "bp-clapp++", "twins/bp-clapp++")}
        for seed in range(3)
    ]
    own = [cosine(path["clapp++gap"], path["bp-clapp++"]) for path in paths]
    ceiling = [cosine(path["twins/bp-clapp++"], path["bp-clapp++"]) for path in paths]
    assert record["cosine of accumulated changes (mean)"] == pytest.approx(np.mean(own), abs=1e-10)
    assert record["ceiling (mean)"] == pytest.approx(np.mean(ceiling), abs=1e-10)
    assert record["below ceiling"] == pytest.approx(np.mean(own) - np.mean(ceiling), abs=1e-10)
    assert record["cosine of accumulated changes (n)"] == 3
    tests = [one for one in accumulated_records(comparison) if "below ceiling, p" in one]
    assert all(one["below ceiling, p"] <= one["below ceiling, p (Holm)"] <= 1 for one in tests)


def test_words_and_results_say_the_ceiling(out: Path, comparison: analysis.Comparison) -> None:
    said = accumulated_in_words(comparison)
    assert said[0].startswith(
        "CLAPP++ without spatial dependence: change of the weights with that of BP-CLAPP++, cosine retina->V1 "
    )
    assert "(ceiling " in said[0]
    assert "what that reference reaches with itself on other views" in accumulated_headline(comparison)
    stored = analysis.read_results(out)
    assert len(stored.data["accumulated"]) == len(comparison.pathways)
    assert accumulated_headline(comparison) in analysis.answers(comparison).how_close


def test_without_twins_the_ceiling_is_said_to_be_unknown(out: Path) -> None:
    alone = analysis.open_comparison(
        [out / name / f"seed-{seed}" for name in ("clapp++gap", "bp-clapp++") for seed in range(3)]
    )
    assert accumulated_in_words(alone)[-1].startswith("Their ceiling is not known")
    assert "was not run" in accumulated_headline(alone)
    nobody = analysis.open_comparison([out / "clapp++gap" / f"seed-{seed}" for seed in range(3)])
    assert accumulated_records(nobody) == []
    assert accumulated_headline(nobody) == ""
