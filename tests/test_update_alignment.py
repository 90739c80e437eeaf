"""Alignment over training for four kinds of feedback: the protocol, tiny."""

import json
from pathlib import Path

import pytest
from conftest import Refusal

import analysis
from protocols import update_alignment


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alignment") / "run"
    update_alignment.run(str(out), tiny=True)
    return out


def test_every_network_and_kind_of_feedback_has_its_cosines(results: Path) -> None:
    stored = json.loads((results / "results.json").read_text())
    assert [(r["network"][:4], r["feedback"]) for r in stored["table"]] == [
        (network, feedback) for network in ("mlp:", "conv") for feedback in ("lateral", "direct", "optimal", "random")
    ]
    for record in stored["table"]:
        assert record["cosine, V2->V3 (mean)"] == pytest.approx(1), "the top learns by the same loss as backprop"
        below = [record[f"cosine below the top, {half} half (mean)"] for half in ("first", "last")]
        assert all(-1 < cosine < 1 for cosine in below), "as far as backprop's own update is stable enough to compare with"
    assert {c["data"] for c in stored["charts"]} == {"layers", "over training"}
    course = [r for r in stored["data"]["over training"] if r["network"][:4] == "conv" and r["feedback"] == "random"]
    assert [r["observers seen"] for r in course] == [0, 48, 96, 144, 192]
    assert len(stored["data"]["layers"]) == 8 * 3
    assert (results / "report.html").stat().st_size > 10_000


def test_random_feedback_stays_and_the_rest_learns(results: Path) -> None:
    tree = analysis.open_trajectory(results / "mlp-24-24-24" / "random" / "seed-0", verify=True)
    weights = {name: node["weight"] for name, node in tree["weights"].children.items()}
    fixed = [weights.pop(name) for name in ("V3=>V1", "V3=>V2")]
    assert [w.sizes["snapshot"] for w in fixed] == [1, 1], "fixed pathways are stored once"
    assert all(float(abs(w[-1] - w[0]).max()) > 0 for w in weights.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--feedback", "sideways"],
            "feedback: expected different names out of lateral, direct, optimal, random",
        ),
        (["--feedback", "lateral,lateral"], "feedback: expected different names"),
        (["--networks", ""], "networks: expected one or more different ones, got none"),
        (["--networks", "mlp:8,mlp:8"], "networks: expected one or more different ones, got mlp:8, mlp:8"),
        (["--networks", "mlp:8"], "mlp:8 has no population below the top"),
        (["--observers", "100000"], "observers: expected at most the 1,438 images"),
        (["--rates", "1e-3"], "expected two between 0 and 1, of the feedforward and of the feedback weights"),
        (["--contrast", "hing"], "contrast 'hing' does not exist, expected hinge, softplus, linear or phyll"),
        (["--seeds", "0"], "seeds: expected a whole number from 1 to 1,000"),
        (["--networks", "mlp:none"], "expected mlp:256"),
        (["--workers", "0"], "workers: expected a whole number from 1"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("update_alignment", options)
