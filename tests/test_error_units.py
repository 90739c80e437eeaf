"""What error units do while they settle, as the settling protocol traces it: constant forces, weak errors, hinges."""

import pytest
from conftest import drawn, full_moment, stimulus_of, wired

from neurossl import Circuit, mlp
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    InfoNCE,
    Objective,
    PredictiveCoding,
    SquaredError,
    propose,
    settle,
)
from protocols.credit.settling import GradedPredictiveCoding, trace

OBJECTIVES = {"hinge": Contrastive, "InfoNCE": InfoNCE, "supervised": CrossEntropy}


def circuit_for(objective: Objective, transfer: str = "tanh") -> Circuit:
    classes = 4 if "target" in objective.needs else None
    return wired(Backprop(objective), drawn(mlp(12, [9, 8, 7], classes, transfer), 3), 3)


def seen_at(objective: Objective, circuit: Circuit, step: int, rate: float = 0.1, **how: object) -> dict:
    moment = full_moment(circuit)
    (seen,) = trace(objective, Backprop(objective), circuit, moment, rate=rate, wanted=[step], **how)  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_constant_force_in_a_linear_network_settles_to_backprop(name: str) -> None:
    """The energy of the errors is quadratic and the force linear: there is a minimum, and it is backprop's credit."""
    objective = OBJECTIVES[name]()
    seen = seen_at(objective, circuit_for(objective, "linear"), 800, held=True)
    assert seen["update"]["retina->V1"]["relative_error"] < 1e-9, "presynaptic activity does not move here"


def test_a_squared_error_in_the_same_network_does_not() -> None:
    """The error shrinks while the output moves towards its target: S^-1 r instead of r."""
    objective = SquaredError()
    seen = seen_at(objective, circuit_for(objective, "linear"), 600)
    assert seen["update"]["retina->V1"]["relative_error"] > 0.05
    assert seen["top error left"] < 0.9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weak_errors_settle_to_backprop(name: str) -> None:
    """The relative error is proportional to the strength of the top error (limit of weak output precision)."""
    objective = OBJECTIVES[name]()
    circuit = circuit_for(objective)
    far, near = (
        max(m["relative_error"] for m in seen_at(objective, circuit, 600, strength=s)["update"].values())
        for s in (1e-3, 1e-4)
    )
    assert near < 0.02
    assert far / near == pytest.approx(10, rel=0.3)


def test_graded_errors_give_updates_of_the_size_of_backprop() -> None:
    objective = InfoNCE()
    circuit = circuit_for(objective)
    moment = full_moment(circuit)
    rule = GradedPredictiveCoding(objective, 1e-3, steps=400, rate=0.1)
    activity = circuit.sweep(stimulus_of(moment))
    *_, scope = settle(rule, activity, moment)
    proposed = dict(propose(rule, scope, moment))
    expected = dict(propose(Backprop(objective), activity, moment))
    assert set(proposed) == set(expected)
    for pathway, update in expected.items():
        ratio = proposed[pathway].weight.norm() / update.weight.norm()
        assert float(ratio) == pytest.approx(1, abs=0.05), pathway


def test_without_a_strength_predictive_coding_is_as_it_is() -> None:
    objective = Contrastive()
    circuit = circuit_for(objective)
    moment = full_moment(circuit)
    activity = circuit.sweep(stimulus_of(moment))
    rule = PredictiveCoding(objective, steps=7, rate=0.1)
    *_, scope = settle(rule, activity, moment)
    proposed = {name: u.weight for name, u in propose(rule, scope, moment)}
    seen = seen_at(objective, circuit, 7)
    bp = {name: u.weight for name, u in propose(Backprop(objective), activity, moment)}
    for name, measures in seen["update"].items():
        assert measures["update_norm"] == pytest.approx(float(proposed[name].norm()), rel=1e-12)
        assert measures["reference_norm"] == pytest.approx(float(bp[name].norm()), rel=1e-12)


def test_values_move_until_the_hinge_is_satisfied_and_no_further() -> None:
    objective = Contrastive()
    circuit = wired(Backprop(objective), drawn(mlp(12, [40, 40, 40]), 3), 3)
    circuit.weights["V3=>V3"].weight.mul_(40)
    moment = full_moment(circuit, rows=40)
    options: dict = {"rate": 0.02, "wanted": [0, 300]}
    first, last = trace(objective, Backprop(objective), circuit, moment, **options)
    _, held = trace(objective, Backprop(objective), circuit, moment, held=True, **options)
    assert first["fixations open"] == 1
    assert last["fixations open"] < 0.8
    assert last["saccades open"] < 0.8
    assert last["loss"] < 0.5 * first["loss"], "settled away without learning"
    assert last["energy"] < first["energy"]
    assert held["top error left"] == pytest.approx(1)
    assert held["score after fixations"] > 1 > last["score after fixations"], "a held force goes past the margin"
    assert held["displacement"]["V2"] > 2 * last["displacement"]["V2"]


def test_before_settling_only_the_top_has_an_error_and_its_update_is_backprops() -> None:
    objective = CrossEntropy()
    seen = seen_at(objective, circuit_for(objective), 0)
    assert seen["update"]["V3->readout"]["relative_error"] < 1e-12
    assert [e for n, e in seen["error"].items() if n != "readout"] == [0, 0, 0]
    assert seen["top error left"] == pytest.approx(1)
