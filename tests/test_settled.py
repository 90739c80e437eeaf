"""Predictive coding at rest, and backprop as often as incremental predictive coding."""

import pytest
import torch

from neurossl import Simulation
from neurossl.anatomy.architectures import mlp
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.weights import Weights
from neurossl.events import Fixation, Moment
from neurossl.plasticity import BarlowTwins, CrossEntropy, InfoNCE, Objective, PredictiveCoding, Synapses
from neurossl.plasticity.proposal import settle
from neurossl.plasticity.transports import Backprop
from neurossl.stimuli import ViewPairs, default_views, load_images
from protocols.credit.settled import RepeatedBackprop, SettledPredictiveCoding


def moments(count: int, times: int = 1, dtype: torch.dtype = torch.float64) -> list[Moment]:
    images = load_images("digits")
    shown = {"observers": 12, "moments": count, "seed": 3}
    stream = ViewPairs(images.train, images.train_labels, default_views(images), **shown)
    return [stream[n].to(torch.device("cpu"), dtype) for n in range(count) for _ in range(times)]


def energies(rule: PredictiveCoding) -> torch.Tensor:
    network = rule.wire(mlp((1, 16, 16), [14, 12, 10], classes=10 if "target" in rule.needs else None, transfer="tanh"))
    circuit = Circuit(network, Weights.draw(network, 0, "cpu", "float64"))
    (moment,) = moments(1)
    (scope,) = settle(rule, circuit.sweep(moment.require(Fixation, by="test").stimulus), moment, is_watched=True)
    found: torch.Tensor = scope._activity.notes["energy"]
    return found.double()


@pytest.mark.parametrize("objective", [InfoNCE, BarlowTwins, CrossEntropy])
def test_at_rest_the_energy_is_that_of_very_many_small_steps(objective: type[Objective]) -> None:
    found = energies(SettledPredictiveCoding(objective()))
    steps, rate = (6000, 0.001) if objective is BarlowTwins else (2000, 0.01)
    slow = energies(PredictiveCoding(objective(), steps=steps, rate=rate))
    assert float(found[0]) == pytest.approx(float(slow[0]))
    assert bool((found.diff() <= 0).all())
    assert SettledPredictiveCoding.is_at_rest(found.tolist())
    fallen = float(slow[0] - slow[-1])
    assert fallen > 0
    assert float(found[-1] - slow[-1]) < 0.03 * fallen


def test_rest_is_ten_steps_that_take_less_than_a_hundredth() -> None:
    is_at_rest = SettledPredictiveCoding.is_at_rest
    assert not is_at_rest([1.0] * 10)
    assert is_at_rest([1.0] + [0.0] * 11)
    assert not is_at_rest([1.0] + [0.02] * 9 + [0.0])
    assert is_at_rest([1.0, 0.009] + [0.0] * 10)


def test_backprop_several_times_per_moment_is_backprop_of_moments_shown_as_often() -> None:
    images = load_images("digits")
    common = {"observers": 8, "seed": 5}
    weights = []
    for rule, times in ((RepeatedBackprop(InfoNCE(), 3), 1), (Backprop(InfoNCE()), 3)):
        stream = ViewPairs(images.train, images.train_labels, default_views(images), moments=2, **common)
        shown = [stream[n] for n in range(2) for _ in range(times)]
        simulation = Simulation(mlp((1, 16, 16), [7, 6]), rule, Synapses("sgd", lr=0.1), seed=0, dtype="float64")
        simulation.run(shown)
        weights.append([p.weight.clone() for p in simulation.weights.values()])
    before = Weights.draw(Backprop(InfoNCE()).wire(mlp((1, 16, 16), [7, 6])), 0, "cpu", "float64")
    for one, other, first in zip(*weights, before.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert not torch.equal(one, first.weight)
