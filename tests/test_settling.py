"""What error units do while they settle: constant forces, weak errors, hinges."""

from pathlib import Path

import pytest
import torch
from conftest import full_moment
from neurossl.activity import Activity
from neurossl.architectures import mlp
from neurossl.network import Network
from neurossl.plasticity.predictive_coding import SCHEDULES
from torch import Tensor

import analysis
from neurossl.events import Fixation, Moment
from neurossl.plasticity import Backprop, Contrastive, CrossEntropy, InfoNCE, Objective, PredictiveCoding, SquaredError
from neurossl.recorders import WeightRecorder
from neurossl.simulation import Simulation
from protocols.credit.settling import GradedPredictiveCoding, restore, trace

OBJECTIVES = {"hinge": Contrastive, "InfoNCE": InfoNCE, "supervised": CrossEntropy}


def network_for(objective: Objective, transfer: str = "tanh") -> Network:
    classes = 4 if "target" in objective.needs else None
    network = mlp(12, [9, 8, 7], classes, transfer).initialise(3, dtype=torch.float64)
    return Backprop(objective).wire(network)


def seen_at(objective: Objective, network: Network, step: int, rate: float = 0.1, **how: object) -> dict:
    moment = full_moment(network)
    (seen,) = trace(objective, Backprop(objective), network, moment, rate=rate, wanted=[step], **how)  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_constant_force_in_a_linear_network_settles_to_backprop(name: str) -> None:
    """The energy of the errors is quadratic and the force linear: there is a minimum, and it is backprop's credit."""
    objective = OBJECTIVES[name]()
    seen = seen_at(objective, network_for(objective, "linear"), 800, held=True)
    assert seen["update"]["retina->V1"]["relative_error"] < 1e-9, "presynaptic activity does not move here"


def test_a_squared_error_in_the_same_network_does_not() -> None:
    """The error shrinks while the output moves towards its target: S^-1 r instead of r."""
    objective = SquaredError()
    seen = seen_at(objective, network_for(objective, "linear"), 600)
    assert seen["update"]["retina->V1"]["relative_error"] > 0.05
    assert seen["top error left"] < 0.9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weak_errors_settle_to_backprop(name: str) -> None:
    """The relative error is proportional to the strength of the top error (limit of weak output precision)."""
    objective = OBJECTIVES[name]()
    network = network_for(objective)
    far, near = (
        max(m["relative_error"] for m in seen_at(objective, network, 600, strength=s)["update"].values())
        for s in (1e-3, 1e-4)
    )
    assert near < 0.02
    assert far / near == pytest.approx(10, rel=0.3)


def test_graded_errors_give_updates_of_the_size_of_backprop() -> None:
    objective = InfoNCE()
    network = network_for(objective)
    moment = full_moment(network)
    rule = GradedPredictiveCoding(objective, 1e-3, steps=400, rate=0.1)
    activity = network.sweep(moment.require(Fixation, by="test").stimulus)
    proposed = dict(rule.propose(rule.settle(activity, moment), moment))
    expected = dict(Backprop(objective).propose(activity, moment))
    assert set(proposed) == set(expected)
    for pathway, update in expected.items():
        ratio = proposed[pathway].weight.norm() / update.weight.norm()
        assert float(ratio) == pytest.approx(1, abs=0.05), pathway.name


def test_without_a_strength_predictive_coding_is_as_it_is() -> None:
    objective = Contrastive()
    network = network_for(objective)
    moment = full_moment(network)
    activity = network.sweep(moment.require(Fixation, by="test").stimulus)
    rule = PredictiveCoding(objective, steps=7, rate=0.1)
    proposed = {p.name: u.weight for p, u in rule.propose(rule.settle(activity, moment), moment)}
    seen = seen_at(objective, network, 7)
    bp = {p.name: u.weight for p, u in Backprop(objective).propose(activity, moment)}
    for name, measures in seen["update"].items():
        assert measures["update_norm"] == pytest.approx(float(proposed[name].norm()), rel=1e-12)
        assert measures["reference_norm"] == pytest.approx(float(bp[name].norm()), rel=1e-12)


def test_values_move_until_the_hinge_is_satisfied_and_no_further() -> None:
    objective = Contrastive()
    network = Backprop(objective).wire(mlp(12, [40, 40, 40]).initialise(3, dtype=torch.float64))
    network.pathways["V3=>V3"].weight.mul_(40)
    moment = full_moment(network, rows=40)
    options: dict = {"rate": 0.02, "wanted": [0, 300]}
    first, last = trace(objective, Backprop(objective), network, moment, **options)
    _, held = trace(objective, Backprop(objective), network, moment, held=True, **options)
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
    seen = seen_at(objective, network_for(objective), 0)
    assert seen["update"]["V3->readout"]["relative_error"] < 1e-12
    assert [e for n, e in seen["error"].items() if n != "readout"] == [0, 0, 0]
    assert seen["top error left"] == pytest.approx(1)


def test_errors_reach_one_population_more_per_step_and_what_they_have_not_reached_does_not_respond_again() -> None:
    """Below the front, values are the responses of the sweep, and nothing is computed for them."""
    objective = CrossEntropy()
    network = network_for(objective)
    moment = full_moment(network)
    rule = PredictiveCoding(objective, steps=2)
    activity = network.sweep(moment.require(Fixation, "test").stimulus)
    settled = rule.settle(activity, moment)
    errors = {name: float(error.abs().max()) for name, error in settled.errors.items()}
    assert errors["V1"] == 0
    assert min(errors["V2"], errors["V3"], errors["readout"]) > 0
    assert settled.responses["V2"] is activity.responses["V2"]
    assert settled.responses["V3"] is not activity.responses["V3"]


def test_stored_weights_come_back(tmp_path: Path) -> None:
    network = network_for(Contrastive()).initialise(3)
    moments = [full_moment(network, seed=s) for s in range(3)]
    with analysis.TrajectoryWriter(tmp_path / "run", {"protocol": "test"}) as writer:
        simulation = Simulation(network, Backprop(Contrastive()), recorders=[WeightRecorder(writer, 1)], device="cpu")
        simulation.run(moments)
    tree = analysis.open_trajectory(tmp_path / "run")
    again = network_for(Contrastive()).initialise(5)
    restore(again, tree, 3)
    for name, pathway in network.pathways.items():
        assert all(torch.equal(a, b) for a, b in zip(pathway.parameters, again.pathways[name].parameters, strict=True))
    restore(again, tree, 0)
    assert not torch.equal(again.pathways["V1->V2"].weight, network.pathways["V1->V2"].weight)
    assert isinstance(moments[0], Moment)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("normalisation", [None, "length"])
def test_settling_overwrites_neither_what_it_is_given_nor_what_it_has_yielded(
    schedule: str, normalisation: str | None
) -> None:
    network = mlp((1, 4, 4), [7, 6, 5], 4).initialise(0, dtype=torch.float64)
    for pathway in network.feedforward.values():
        pathway.normalisation = normalisation
    moment = full_moment(network)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.1, schedule=schedule)
    activity = network.sweep(moment.require(Fixation, by="test").stimulus)
    seen = [(activity, _copies(activity))]
    for settled in rule.settling(activity, moment):
        seen.append((settled, _copies(settled)))
    assert len(seen) == (6 if schedule == "incremental" else 2)
    for state, copies in seen:
        for name, tensor in _tensors(state).items():
            assert torch.equal(tensor, copies[name]), name


def _tensors(state: Activity) -> dict[str, Tensor]:
    kinds = {"output": state.output, "source": state.source, "errors": state.errors, "presynaptic": state.presynaptic}
    return {f"{kind} {name}": tensor for kind, tensors in kinds.items() for name, tensor in tensors.items()}


def _copies(state: Activity) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _tensors(state).items()}
