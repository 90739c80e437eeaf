"""Networks with the scalings of muPC: weights are a gain times variables of order one, which optimisers change."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import drawn
from oracle import proposals
from torch import Tensor

from neurossl import Moment, Population, Replicas, Simulation, Update, Weights, mlp
from neurossl.anatomy import FeedforwardPathway, InputPopulation, Network, deep, from_description
from neurossl.anatomy.description import described_network
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Fixation, Teaching
from neurossl.plasticity import CrossEntropy, PredictiveCoding, Synapses, make_rule

INPUTS, DEPTH, WIDTH, CLASSES = 6, 5, 7, 3
GAINS = [1 / sqrt(INPUTS), *[1 / sqrt(WIDTH * (DEPTH + 1))] * (DEPTH - 1), 1 / WIDTH]
LAYERS = ["retina->V1", *(f"V{n}->V{n + 1}" for n in range(1, DEPTH)), f"V{DEPTH}->readout"]


def small(**options: Any) -> Network:
    return deep(INPUTS, DEPTH, WIDTH, CLASSES, "tanh", **options)


def moments(count: int, rows: int = 8, seed: int = 0) -> list[Moment]:
    generator = torch.Generator().manual_seed(seed)

    def moment() -> Moment:
        stimulus = torch.randn(rows, INPUTS, generator=generator, dtype=torch.float64)
        return Moment(Fixation(stimulus), Teaching(torch.randint(CLASSES, (rows,), generator=generator)))

    return [moment() for _ in range(count)]


def told(moment: Moment) -> tuple[Tensor, Tensor]:
    return moment.require(Fixation, by="the test").stimulus, moment.require(Teaching, by="the test").labels


def thetas(weights: Weights) -> list[Tensor]:
    return [(weights[name].weight / gain).clone().requires_grad_() for name, gain in zip(LAYERS, GAINS, strict=True)]


def drives(parameters: list[Tensor], x: Tensor) -> list[Tensor]:
    """Return the drives of V1, V2, ..., readout, from the equation."""
    found = [GAINS[0] * x @ parameters[0].T]
    for theta, gain in zip(parameters[1:-1], GAINS[1:-1], strict=True):
        sent = torch.tanh(found[-1])
        found.append(sent + gain * sent @ theta.T)
    return [*found, GAINS[-1] * torch.tanh(found[-1]) @ parameters[-1].T]


OPTIMISERS: dict[str, tuple[dict[str, Any], Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "sgd": (
        {"momentum": 0.9, "weight_decay": 0.03},
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=0.03),
    ),
    "adam": ({"weight_decay": 0.03}, lambda p: torch.optim.Adam(p, lr=0.2, weight_decay=0.03)),
    "adamw": ({"weight_decay": 0.03}, lambda p: torch.optim.AdamW(p, lr=0.2, weight_decay=0.03)),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_weights_change_as_an_optimiser_of_the_variables_has_them_change(kind: str) -> None:
    options, make = OPTIMISERS[kind]
    circuit = drawn(small(), 3)
    parameters = thetas(circuit.weights)
    simulation = Simulation(
        circuit.network, make_rule("bp"), Synapses(kind, lr=0.2, **options), weights=circuit.weights, dtype="float64"
    )
    optimiser = make(parameters)
    for moment in moments(6):
        optimiser.zero_grad()
        x, label = told(moment)
        F.cross_entropy(drives(parameters, x)[-1], label).backward()
        optimiser.step()
        simulation.run([moment])
    for name, gain, theta in zip(LAYERS, GAINS, parameters, strict=True):
        torch.testing.assert_close(simulation.weights[name].weight, gain * theta.detach(), rtol=0, atol=1e-10)
    skip = simulation.weights["V1->V2:skip"].weight
    torch.testing.assert_close(skip, torch.eye(WIDTH, dtype=torch.float64), rtol=0, atol=0)


def test_adam_holds_its_epsilon_against_the_gradient_of_the_variables() -> None:
    """With a gradient as small as epsilon the size of a step is not that of a sign."""
    network = Network(InputPopulation("retina", 1))
    network.add(Population("V1", 1, "linear"), FeedforwardPathway("retina", "V1", init="normal", bias=False, gain=1e-3))
    circuit = drawn(network, 1)
    before = circuit.weights["retina->V1"].weight.clone()
    theta = (before / 1e-3).requires_grad_()
    simulation = Simulation(
        network, make_rule("softhebb"), Synapses("adam", lr=0.1), weights=circuit.weights, dtype="float64"
    )
    optimiser = torch.optim.Adam([theta], lr=0.1)
    tiny = torch.full_like(before, 1e-5)
    simulation.optimisers.change("retina->V1", Update(tiny))
    theta.grad = -1e-3 * tiny
    optimiser.step()
    changed = simulation.weights["retina->V1"].weight
    torch.testing.assert_close(changed, 1e-3 * theta.detach(), rtol=1e-12, atol=0)
    assert 0.3 < float((changed - before).abs() / (0.1 * 1e-3)) < 0.6


def test_predictive_coding_settles_and_learns_as_autograd_of_its_energy_has_it() -> None:
    """muPC's energy: sum |z_l - (r + a theta r)|^2 / 2 + loss; the change of theta is -dF/dtheta where it has settled."""
    circuit = drawn(small(), 4)
    (moment,) = moments(1)
    rule = PredictiveCoding(CrossEntropy(), steps=9, rate=0.3, values="drive")
    parameters = thetas(circuit.weights)
    x, label = told(moment)
    values = [z.detach().requires_grad_() for z in drives(parameters, x)[:-1]]

    def energy() -> Tensor:
        predicted = [GAINS[0] * x @ parameters[0].T]
        for z, theta, gain in zip(values[:-1], parameters[1:-1], GAINS[1:-1], strict=True):
            predicted.append(torch.tanh(z) + gain * torch.tanh(z) @ theta.T)
        at_top = GAINS[-1] * torch.tanh(values[-1]) @ parameters[-1].T
        errors = sum(((z - mu) ** 2).sum() / 2 for z, mu in zip(values, predicted, strict=True))
        return errors + F.cross_entropy(at_top, label, reduction="sum")

    for _ in range(9):
        slopes = torch.autograd.grad(energy(), values)
        values = [(z - 0.3 * slope).detach().requires_grad_() for z, slope in zip(values, slopes, strict=True)]
    slopes = torch.autograd.grad(energy(), parameters)
    proposed = {name: parts[0] for name, parts in proposals(rule, circuit, moment).items()}
    for name, gain, slope in zip(LAYERS, GAINS, slopes, strict=True):
        torch.testing.assert_close(gain * proposed[name], -slope / len(x), rtol=0, atol=1e-10)


def test_biases_are_scaled_with_the_weights() -> None:
    network = Network(InputPopulation("retina", 400))
    wide = FeedforwardPathway("retina", "V1", init="normal", gain=0.05)
    network.add(Population("V1", 300), wide)
    scaled, usual = Weights.draw(network, 2)["retina->V1"], Weights.draw(mlp(400, [300]), 2)["retina->V1"]
    assert float(scaled.weight.std()) == pytest.approx(0.05, rel=0.02)
    assert scaled.bias is not None
    assert usual.bias is not None
    assert float(scaled.bias.abs().max() / usual.bias.abs().max()) == pytest.approx(0.05, rel=0.05)


def sizes(description: str, images: int = 200) -> list[float]:
    """Return the root of the mean square of what every population sends."""
    network = from_description(description, (1, 8, 8), 10)
    weights = Weights.draw(network, 1)
    sent = torch.randn(images, 64, generator=torch.Generator().manual_seed(0))
    found = []
    for name in network.order[:-1]:
        arriving = [(network.pathways[p.name], weights[p.name].weight) for p in network.incoming(name)]
        sent = torch.relu(sum((sent @ weight.T for _, weight in arriving), torch.zeros(())))
        found.append(float(sent.square().mean().sqrt()))
    return found


def test_activities_keep_their_size_at_any_depth_and_width() -> None:
    for description in ("deep:8x32", "deep:8x256", "deep:96x64"):
        found = sizes(description)
        assert max(found) < 3 * min(found), description
    without = sizes("deep:96x64:none")
    assert without[-1] > 100 * without[0]


def test_a_network_with_gains_is_made_again_from_its_description() -> None:
    network = small()
    again = described_network(network.describe())
    assert [p.describe() for p in again.pathways.values()] == [p.describe() for p in network.pathways.values()]
    assert again.pathways["V1->V2"].gain == network.pathways["V1->V2"].gain == pytest.approx(GAINS[1])
    assert "gain" not in small(scaling="none").pathways["V1->V2"].describe()


def test_a_state_goes_on_bit_for_bit() -> None:
    stream = moments(8)
    whole, half = (
        Simulation(small(), make_rule("bp"), Synapses("adamw", lr=0.1), seed=5, dtype="float64") for _ in range(2)
    )
    whole.run(stream)
    half.run(stream[:4])
    again = Simulation(small(), make_rule("bp"), Synapses("adamw", lr=0.1), seed=6, dtype="float64")
    again.restore(half.state())
    again.run(stream[4:])
    for name in whole.weights:
        assert torch.equal(whole.weights[name].weight, again.weights[name].weight), name


def test_replicas_learn_as_single_runs_do() -> None:
    def two() -> list[Simulation]:
        return [
            Simulation(small(), make_rule("bp"), Synapses("adam", lr=0.1), seed=seed, dtype="float64") for seed in (1, 2)
        ]

    stream = [moments(5, seed=seed) for seed in (1, 2)]
    joined, single = two(), two()
    Replicas(joined).run(stream)
    for simulation, its in zip(single, stream, strict=True):
        simulation.run(its)
    for ours, theirs in zip(joined, single, strict=True):
        for name in LAYERS:
            torch.testing.assert_close(ours.weights[name].weight, theirs.weights[name].weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize("gain", [0, -1.0, float("nan"), "2", True, np.inf])
def test_a_gain_is_a_positive_number(gain: Any) -> None:
    with pytest.raises(NetworkError, match=r"'retina->V1': gain must be a finite number > 0"):
        FeedforwardPathway("retina", "V1", gain=gain)


def test_wrong_descriptions_and_optimisers_of_ones_own_are_refused() -> None:
    for text in ("deep:", "deep:32", "deep:0x4", "deep:4xx", "deep:4x-3"):
        with pytest.raises(OptionError, match="deep:32x128"):
            from_description(text, (1, 8, 8))
    with pytest.raises(OptionError, match="scaling 'mup' does not exist, expected depth, none"):
        from_description("deep:4x8:mup", (1, 8, 8))
    own = Synapses(lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    refused = r"'retina->V1' has a gain of 0\.4082, which does not reach an optimiser of your own"
    with pytest.raises(OptionError, match=refused):
        Simulation(small(), make_rule("bp"), own, dtype="float64")
    later = Simulation(small(), make_rule("bp"), dtype="float64")
    later.synapses.set(optimizer=own.options["optimizer"])
    with pytest.raises(OptionError, match=refused):
        later.run(moments(1))
    assert later.moment == 0


def test_divisive_normalisation_holds_for_skips_too() -> None:
    network = from_description("deep:3x8", (1, 8, 8), 4, normalisation="length")
    feedforward = [p for p in network.pathways.values() if isinstance(p, FeedforwardPathway)]
    assert [p.normalisation for p in feedforward] == ["length"] * 6
