"""Transports of self-supervised credit, small: what the protocol writes, chooses and says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Refusal

import analysis
from neurossl.stimuli import load_images
from protocols import ssl_credit_assignment
from protocols.credit import results as credit_results
from protocols.credit.conditions import CARRIERS, OBJECTIVES, PREDICTIVE, SUPERVISED, TRANSPORTS, Condition, conditions_for
from protocols.credit.rates import RATES, Choice, Tried, best_rate, budget_in_words, without_test
from protocols.credit.verdicts import Scores, answers, claim, verdicts

KINDS = ("bp", "fa", "dfa", "pc", "pc-rest", "pc-weak", "top")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credit") / "run"
    ssl_credit_assignment.run(str(folder), objectives=["infonce", "cross-entropy"], transports=KINDS, tiny=True)
    return folder


def test_it_writes_table_answer_and_charts(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    rows = {(r["objective"], r["transport"]): r for r in results["table"]}
    assert {o for o, _ in rows} == {"InfoNCE", "supervised"}
    for objective in ("InfoNCE", "supervised"):
        assert {"BP", "FA", "DFA", "PC, 4 steps of 0.05", "PC, at rest"} <= {t for o, t in rows if o == objective}
        bp = rows[objective, "BP"]
        assert bp["cosine with BP, V2->V3 (mean)"] == pytest.approx(1, abs=1e-9)
        assert bp[f"{credit_results.AGAINST_BP} (mean)"] == 0
        assert bp["learning rate"] in RATES
    assert "weight transport" in rows["InfoNCE", "PC, 4 steps of 0.05"]["information needed"]
    assert "target" in rows["supervised", "DFA"]["information needed"]
    assert results["sentences"][0].startswith("Does predictive coding fall short for self-supervision ")
    assert len(list((out / "figures").glob("chart-*.png"))) == 11, (
        "of one seed there are no shares, and one chart is of the hinge alone"
    )
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
    runs = [out / f"infonce-{name}" / "seed-0" for name in KINDS if name != "top"]
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
        assert found["InfoNCE", "PC, top error 1% of activity", pathway] > found["InfoNCE", "PC, 4 steps of 0.05", pathway]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objectives", "infonce,hinge"], "objectives: expected different names out of"),
        (["--objectives", "infonce,infonce"], "objectives: expected different names"),
        (["--transports", "bp,pc-longer"], "transports: expected different names out of"),
        (["--transports", "local", "--objectives", "cross-entropy"], "transports: local do not exist for cross-entropy"),
        (["--steps", "0"], "steps: expected a whole number from 1 to 10,000"),
        (["--rate", "0"], "rate: expected a finite rate of settling above 0, got 0"),
        (["--full", "--tiny"], "--full and --tiny: give one of them"),
        (["--full", "--transports", "bp,pc"], "--full and --transports: give one of them"),
        (["--seeds", "0"], "seeds: expected a whole number"),
        (["--network", "mlp:0"], "mlp:0"),
        (["--dataset", "digit"], "did you mean 'digits'"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("ssl_credit_assignment", options)


class Readouts(Scores):
    """Mean accuracies that are what they are said to be, with a little noise that is not the same before and after."""

    def __init__(self, before: float, found: dict[str, float], seeds: int = 4) -> None:
        noise = {seed: 0.004 * np.sin(3 * seed) for seed in range(seeds)}
        self.final = {label: {s: {"V1": mean + n} for s, n in noise.items()} for label, mean in found.items()}
        self.initial = {label: {s: {"V1": before - n} for s, n in noise.items()} for label in found}


def judge(before: float, bp: float, pc: float, seeds: int = 4, objective: str = "infonce") -> str:
    conditions = conditions_for(objective, 6, 0.05, ("bp", "pc"))
    found = verdicts(Readouts(before, dict(zip([c.label for c in conditions], (bp, pc), strict=True)), seeds), conditions)
    return found[f"{objective}-pc"].state


@pytest.mark.parametrize(
    ("bp", "pc", "state"),
    [
        (0.8, 0.8, "works"),
        (0.8, 0.9, "works"),
        (0.8, 0.79, "works"),
        (0.8, 0.7755, "undecided"),
        (0.8, 0.74, "short"),
        (0.8, 0.7, "short"),
        (0.8, 0.6, "harms"),
        (0.7, 0.7, "idle"),
        (0.6, 0.7, "idle"),
    ],
)
def test_the_verdict_follows_from_the_scores(bp: float, pc: float, state: str) -> None:
    assert judge(0.7, bp, pc) == state


def test_of_one_seed_nothing_is_said() -> None:
    assert judge(0.7, 0.8, 0.8, seeds=1) == "one seed"


@pytest.mark.parametrize(
    ("supervised", "infonce", "barlow", "answer"),
    [
        (0.8, 0.7, 0.7, "decided, yes"),
        (0.8, 0.7, 0.7755, "undecided"),
        (0.8, 0.8, 0.7, "decided, no: it works with InfoNCE"),
        (0.7, 0.7, 0.7, "decided, no: it falls short with supervision, too"),
        (0.7, 0.8, 0.8, "decided, no: it falls short with supervision, too and it works with InfoNCE and Barlow Twins"),
        (0.7755, 0.7, 0.7, "undecided"),
    ],
)
def test_the_claim_is_of_all_objectives_together(supervised: float, infonce: float, barlow: float, answer: str) -> None:
    pc = {SUPERVISED: supervised, "infonce": infonce, "barlow": barlow}
    conditions = [c for name in pc for c in conditions_for(name, 6, 0.05, ("bp", "pc"))]
    scores = Readouts(0.7, {c.label: 0.8 if c.kind == "bp" else pc[c.objective] for c in conditions})
    found = verdicts(scores, conditions)
    assert claim(found, "pc") == answer
    told = list(answers(scores, conditions, {name: OBJECTIVES[name][0] for name in pc}, found))
    assert told[0].endswith(f"PC, 6 steps of 0.05: {answer}.")


def test_what_learns_at_every_step_is_held_against_backprop_that_learns_as_often() -> None:
    conditions = conditions_for("infonce", 6, 0.05, ("bp", "bp-repeated", "ipc"))
    means = dict(zip([c.label for c in conditions], (0.8, 0.9, 0.8), strict=True))
    found = verdicts(Readouts(0.7, means), conditions)["infonce-ipc"]
    assert found.share == pytest.approx(0.5, abs=0.02)
    assert found.state == "short"
    assert verdicts(Readouts(0.7, means), [c for c in conditions if c.kind != "bp-repeated"])["infonce-ipc"].state == "works"


def test_an_objective_that_backprop_does_not_learn_decides_nothing() -> None:
    conditions = [c for name in (SUPERVISED, "contrastive") for c in conditions_for(name, 6, 0.05, ("bp", "pc"))]
    scores = Readouts(0.7, {c.label: 0.7 if c.objective == "contrastive" else 0.8 for c in conditions})
    assert claim(verdicts(scores, conditions), "pc") == "undecided"


def test_rates_are_the_best_that_did_not_diverge_and_ends_of_the_grid_are_said() -> None:
    (condition,) = conditions_for("infonce", 6, 0.05, ("bp",))
    found = [(1e-4, 0.5), (1e-3, 0.7), (3e-3, 0.6), (1e-2, None)]
    tried = [Tried(Choice("mlp:8-8", condition, rate), accuracy) for rate, accuracy in found]
    assert best_rate(tried) == 1e-3
    assert best_rate([Tried(one.choice, None) for one in tried]) == 1e-4
    place = ("mlp:8-8", condition.name)
    assert budget_in_words(tried, {place: 1e-3}).endswith("at the end of what was tried: none.")
    assert budget_in_words(tried, {place: 1e-2}).endswith("at the end of what was tried: InfoNCE, BP 0.01.")


def test_conditions_have_labels_and_rules_of_their_own() -> None:
    conditions: list[Condition] = [
        c for name in OBJECTIVES for c in conditions_for(name, 3, 0.1, (*TRANSPORTS, "fa-sign", "blocks"))
    ]
    assert len({c.label for c in conditions}) == len({c.name for c in conditions}) == len(conditions)
    assert {c.kind for c in conditions} == {*TRANSPORTS, *CARRIERS}
    assert set(PREDICTIVE) < set(TRANSPORTS)
    assert len({c.make().transport for c in conditions if c.objective == "infonce"}) >= 9
    assert torch.is_grad_enabled()
