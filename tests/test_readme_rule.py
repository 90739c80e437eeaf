"""The rules that the README shows learn: a readout finds more in every population, two phases name digits."""

from pathlib import Path

import pytest
import readme_phases
import readme_rule
import torch

from analysis.probes import linear_probe
from neurossl import Network, Simulation, Synapses, convolutional, mlp
from neurossl.errors import DivergenceError
from neurossl.stimuli import ViewPairs, default_views, load_images


def test_it_takes_fifteen_lines() -> None:
    source = Path(readme_rule.__file__).read_text().split('@register("stay-or-leave")')[1].split("\n\n\ndef run")[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 15


def readouts(simulation: Simulation) -> list[float]:
    """Return the accuracy of a linear readout of every population, on moved digits."""
    images, generator = load_images("digits"), torch.Generator().manual_seed(7)
    views = default_views(images)
    train = simulation.respond(torch.cat([views(images.train, generator) for _ in range(2)]))
    test = simulation.respond(torch.cat([views(images.test, generator) for _ in range(3)]))
    labels = images.train_labels.repeat(2).numpy(), images.test_labels.repeat(3).numpy()
    flat = [(train[name].flatten(1).numpy(), test[name].flatten(1).numpy()) for name in simulation.network.order]
    return [linear_probe(seen, labels[0], held_out, labels[1]) for seen, held_out in flat]


def gains(network: Network, seed: int, moments: int) -> list[float]:
    images = load_images("digits")
    simulation = Simulation(network, readme_rule.StayOrLeave(), Synapses(lr=1e-3), seed=seed, device="cpu")
    before = readouts(simulation)
    views = default_views(images)
    simulation.run(ViewPairs(images.train, images.train_labels, views, observers=32, moments=moments, seed=seed))
    return [after - start for after, start in zip(readouts(simulation), before, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_it_learns_in_every_population(seed: int) -> None:
    found = gains(mlp(256, [64, 64, 64, 64]), seed, moments=360)
    assert min(found) > 0.01, found
    assert sum(found) / 4 > 0.05, found


@pytest.mark.slow
def test_it_learns_with_convolutions_too() -> None:
    found = gains(convolutional((1, 16, 16), [(8, True), (16, True), (32, True)]), 1, moments=150)
    assert min(found) > 0, found
    assert max(found) > 0.02, found


def test_the_rule_of_two_phases_names_digits_and_says_so_when_it_does_not_settle() -> None:
    images = load_images("digits")
    still, stream = default_views(images).still(images.test), ViewPairs(images, observers=64, moments=300)

    def learned(synapses: Synapses) -> float:
        network = mlp(images.shape, [32], classes=10, transfer="tanh")
        simulation = Simulation(network, readme_phases.EquilibriumPropagation(), synapses, device="cpu").run(stream)
        named = simulation.respond(still)["readout"].argmax(1)
        return float((named == images.test_labels).float().mean())

    assert learned(Synapses()) > 0.7
    with pytest.raises(DivergenceError, match="what it has settled to is NaN, infinite or too large"):
        learned(Synapses("sgd", lr=0.2))
