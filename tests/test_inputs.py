"""Networks with several input populations: what falls on each is named, in any order."""

import pytest
import torch
from conftest import MemoryStore, clones, same

from neurossl import (
    Circuit,
    FeedforwardPathway,
    Fixation,
    InputPopulation,
    Moment,
    Network,
    Population,
    Replicas,
    Saccade,
    Simulation,
    UpdateRecorder,
    Weights,
)
from neurossl.errors import EventError, NetworkError


def two_senses() -> Network:
    return Network(
        InputPopulation("retina", (1, 2, 3)),
        InputPopulation("cochlea", 4),
        Population("A1", 5),
        Population("V1", 5),
        Population("top", 6),
        FeedforwardPathway("cochlea", "A1"),
        FeedforwardPathway("retina", "V1"),
        FeedforwardPathway("A1", "top"),
        FeedforwardPathway("V1", "top"),
    )


def shown(rows: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"cochlea": torch.rand(rows, 4, generator=generator), "retina": torch.rand(rows, 1, 2, 3, generator=generator)}


def moment(seed: int = 0) -> Moment:
    rows = torch.arange(6)
    return Moment(Fixation(shown(seed=seed), (rows + 3) % 6), Saccade([((rows + 1) % 6).tolist()]))


def test_each_population_receives_what_is_named_for_it_in_any_order() -> None:
    network = two_senses()
    circuit = Circuit(network, Weights.draw(network, 1))
    given = shown()
    for order in (given, dict(reversed(given.items()))):
        activity = circuit.sweep(circuit.stimulus_of(Fixation(order)))
        assert torch.equal(activity["retina"], given["retina"])
        assert torch.equal(activity["cochlea"], given["cochlea"])
    assert torch.equal(activity["A1"], circuit["cochlea->A1"].drive(given["cochlea"]).relu())


@pytest.mark.parametrize("rule", ["clapp++gap", "clapp-dfb", "bp-clapp++", "pc-clapp", "dfa-clapp"])
def test_a_network_with_two_senses_learns_and_is_recorded(rule: str) -> None:
    recorders = [] if rule.startswith("bp") else [UpdateRecorder(1)]
    simulation = Simulation(two_senses(), rule, seed=1, store=MemoryStore(), recorders=recorders)
    before = clones(simulation.weights)
    simulation.run([moment(0), moment(1)])
    after = clones(simulation.weights)
    assert not same(before["cochlea->A1"], after["cochlea->A1"])
    assert not same(before["retina->V1"], after["retina->V1"])


def test_replicas_with_two_senses_are_separate_runs() -> None:
    alone = [Simulation(two_senses(), "clapp++gap", seed=seed, dtype="float64").run([moment(seed)]) for seed in (1, 2)]
    joined = [Simulation(two_senses(), "clapp++gap", seed=seed, dtype="float64") for seed in (1, 2)]
    Replicas(joined).run([[moment(1)], [moment(2)]])
    for one, other in zip(alone, joined, strict=True):
        for name, held in one.weights.items():
            assert torch.allclose(held.weight, other.weights[name].weight, rtol=0, atol=1e-12)


def test_what_does_not_fit_is_refused_in_words() -> None:
    network = two_senses()
    circuit = Circuit(network, Weights.draw(network, 1))
    with pytest.raises(NetworkError, match="10 values of 'retina' \\(6\\), 'cochlea' \\(4\\)"):
        circuit.sweep(torch.rand(3, 6))
    with pytest.raises(NetworkError, match="expected one for retina, cochlea each, got retina, nose"):
        circuit.stimulus_of(Fixation({"retina": torch.rand(2, 6), "nose": torch.rand(2, 4)}))
    with pytest.raises(EventError, match="same number of rows"):
        Fixation({"retina": torch.rand(2, 6), "cochlea": torch.rand(3, 4)})
