"""What error units do while they settle: how far errors reach, and that settling overwrites nothing."""

import pytest
import torch
from conftest import drawn, full_moment, stimulus_of, wired
from torch import Tensor

from neurossl import Activity, mlp
from neurossl.plasticity import Backprop, CrossEntropy, PredictiveCoding, SquaredError, settle
from neurossl.plasticity.transports.predictive_coding import SCHEDULES


def test_errors_reach_one_population_more_per_step_and_what_they_have_not_reached_does_not_respond_again() -> None:
    """Below the front, values are the responses of the sweep, and nothing is computed for them."""
    objective = CrossEntropy()
    rule = PredictiveCoding(objective, steps=2)
    circuit = wired(Backprop(objective), drawn(mlp(12, [9, 8, 7], 4, "tanh"), 3))
    moment = full_moment(circuit)
    activity = circuit.sweep(stimulus_of(moment))
    *_, scope = settle(rule, activity, moment)
    settled = scope._activity
    errors = {name: float(error.abs().max()) for name, error in settled.errors.items()}
    assert errors["V1"] == 0
    assert min(errors["V2"], errors["V3"], errors["readout"]) > 0
    assert settled.responses["V2"] is activity.responses["V2"]
    assert settled.responses["V3"] is not activity.responses["V3"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("normalisation", [None, "length"])
def test_settling_overwrites_neither_what_it_is_given_nor_what_it_has_yielded(
    schedule: str, normalisation: str | None
) -> None:
    circuit = drawn(mlp((1, 4, 4), [7, 6, 5], 4, normalisation=normalisation))
    moment = full_moment(circuit)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.1, schedule=schedule)
    activity = circuit.sweep(stimulus_of(moment))
    seen = [(activity, _copies(activity))]
    for scope in settle(rule, activity, moment):
        seen.append((scope._activity, _copies(scope._activity)))
    assert len(seen) == (6 if schedule == "incremental" else 2)
    for state, copies in seen:
        for name, tensor in _tensors(state).items():
            assert torch.equal(tensor, copies[name]), name


def _tensors(state: Activity) -> dict[str, Tensor]:
    kinds = {"output": state.output, "source": state.source, "errors": state.errors, "presynaptic": state.presynaptic}
    return {f"{kind} {name}": tensor for kind, tensors in kinds.items() for name, tensor in tensors.items()}


def _copies(state: Activity) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _tensors(state).items()}
