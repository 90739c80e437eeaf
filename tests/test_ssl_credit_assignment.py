"""Transports of self-supervised credit, small: what the protocol writes, chooses and says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refusal

import analysis
from analysis.statistics import Estimate
from neurossl.stimuli import load_images
from protocols import ssl_credit_assignment
from protocols.credit import results as credit_results
from protocols.credit import sentences as credit_sentences
from protocols.credit.conditions import OBJECTIVES, conditions_for
from protocols.credit.rates import RATES, without_test


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credit") / "run"
    ssl_credit_assignment.run(str(folder), objectives=["infonce", "cross-entropy"], tiny=True)
    return folder


def test_it_writes_table_answer_and_charts(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    rows = {(r["objective"], r["transport"]): r for r in results["table"]}
    assert {o for o, _ in rows} == {"InfoNCE", "supervised"}
    for objective in ("InfoNCE", "supervised"):
        assert {"BP", "FA", "DFA", "PC"} <= {t for o, t in rows if o == objective}
        bp = rows[objective, "BP"]
        assert bp["cosine with BP, V2->V3 (mean)"] == pytest.approx(1, abs=1e-9)
        assert bp[f"{credit_results.AGAINST_BP} (mean)"] == 0
        assert bp["learning rate"] in RATES
    assert "weight transport" in rows["InfoNCE", "PC"]["information needed"]
    assert "target" in rows["supervised", "DFA"]["information needed"]
    assert results["sentences"][0].startswith("Does PC fail for self-supervision and work ")
    assert len(list((out / "figures").glob("chart-*.png"))) == 10, "one chart is of the hinge alone"
    assert {e["state"] for e in json.loads((out / "comparison.json").read_text())["runs"]} == {"finished"}


def test_learning_rates_are_chosen_where_the_validation_accuracy_is_highest(out: Path) -> None:
    tried = json.loads((out / "results.json").read_text())["data"]["learning rates"]
    for condition in {(t["objective"], t["transport"]) for t in tried}:
        mine = [t for t in tried if (t["objective"], t["transport"]) == condition]
        (chosen,) = (t for t in mine if t["chosen"])
        assert chosen[credit_results.VALIDATION] == max(t[credit_results.VALIDATION] for t in mine)


def test_learning_rates_are_not_chosen_on_test_images() -> None:
    images = load_images("digits")
    without = without_test(images, 16)
    assert len(without.train) + len(without.test) == len(images.train)
    assert set(without.test_labels.tolist()) == set(range(10))
    training = {row.numpy().tobytes() for row in images.train}
    assert {row.numpy().tobytes() for row in without.test} <= training
    assert abs(len(without.test) / len(images.train) - 0.2) < 0.01


def test_all_transports_start_from_the_same_network_and_the_control_learns_at_the_top_alone(out: Path) -> None:
    runs = [out / f"infonce-{name}" / "seed-0" for name in ("bp", "fa", "dfa", "pc", "pc-weak", "pc-long")]
    first = [analysis.open_trajectory(r)["weights/V1_to_V2/weight"][0].values for r in runs]
    assert all(np.array_equal(first[0], other) for other in first)
    control = analysis.open_trajectory(out / "infonce-top" / "seed-0")
    learned = {str(group.attrs["pathway"]) for group in control["weights"].children.values()}
    assert learned == {"V3->V4", "V4=>V4:projection"}


def test_the_settling_is_seen_at_every_stage(out: Path) -> None:
    settling = json.loads((out / "results.json").read_text())["data"]["settling"]
    stages = {r["share of training"] for r in settling if r["series"] == "training"}
    assert stages == {0, 0.25, 0.5, 0.75, 1}
    start = [r for r in settling if r["step"] == 0]
    assert start
    assert all(r["displacement (mean)"] == 0 for r in start)
    weakest = [r for r in settling if r["series"] == "strength"]
    assert min(r["strength set"] for r in weakest) <= 1e-3


def test_weak_errors_are_better_aligned_than_natural_ones(out: Path) -> None:
    alignment = json.loads((out / "results.json").read_text())["data"]["alignment"]
    found = {(r["objective"], r["transport"], r["pathway"]): r["cosine (mean)"] for r in alignment}
    for pathway in ("retina->V1", "V1->V2", "V2->V3", "V3->V4"):
        assert found["InfoNCE", "PC, top error 1% of activity", pathway] > found["InfoNCE", "PC", pathway]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objectives", "infonce,hinge"], "objectives: expected different names out of"),
        (["--objectives", "infonce,infonce"], "objectives: expected different names"),
        (["--steps", "0"], "steps: expected a whole number >= 1"),
        (["--seeds", "0"], "seeds: expected a whole number"),
        (["--network", "mlp:0"], "mlp:0"),
        (["--dataset", "digit"], "did you mean 'digits'"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("ssl_credit_assignment", options)


class Readouts:
    """Scores of one population that are what they are said to be."""

    def __init__(self, before: float, bp: float, pc: float) -> None:
        self.found = {"x, BP": bp, "x, PC": pc}
        self.before = before

    def of(self, label: str, population: str | None = None, initial: bool = False) -> dict[int, float]:
        noise = (-0.002, 0.0, 0.002)
        return {s: (self.before if initial else self.found[label]) + n for s, n in enumerate(noise)}

    def gain(self, label: str, population: str | None = None) -> Estimate:
        now, before = self.of(label), self.of(label, initial=True)
        return credit_sentences.difference(now, {s: before[2 - s] for s in before})


@pytest.mark.parametrize(
    ("bp", "pc", "state"),
    [
        (0.8, 0.8, "works"),
        (0.8, 0.75, "short"),
        (0.8, 0.7, "fails"),
        (0.8, 0.6, "harms"),
        (0.8, 0.78, "works"),
        (0.7, 0.7, "idle"),
        (0.6, 0.7, "idle"),
        (0.8, 0.9, "works"),
    ],
)
def test_the_verdict_follows_from_the_scores(bp: float, pc: float, state: str) -> None:
    assert credit_sentences._state(Readouts(0.7, bp, pc), "x") == state  # type: ignore[arg-type]


def test_conditions_have_labels_and_rules_of_their_own() -> None:
    conditions = [c for name in OBJECTIVES for c in conditions_for(name, 3, 0.1)]
    assert len({c.label for c in conditions}) == len({c.name for c in conditions}) == len(conditions)
    assert len({c.make().transport for c in conditions if c.objective == "infonce"}) >= 5
    assert torch.is_grad_enabled()
