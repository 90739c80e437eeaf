"""Dale's law: a neuron excites or inhibits whatever it projects to, from the first weights on and for ever."""

from typing import Any

import pytest
import torch
from conftest import drawn, full_moment, map_circuit, simulated, wired
from torch import Tensor

from neurossl import Circuit, Network, Replicas, Simulation, Weights
from neurossl.anatomy import (
    Convolution,
    FeedbackPathway,
    FeedforwardPathway,
    InputPopulation,
    LocalFields,
    Pooling,
    Population,
    Sparse,
)
from neurossl.errors import NetworkError
from neurossl.plasticity import Synapses, make_rule


def inhibited(*wiring: Any, kind: str = "dense") -> Network:
    """Return V1, a quarter of whose neurons inhibit V2, V3 and, by feedback, itself and V0."""
    if kind == "dense":
        v0, v1, v2 = 12, 8, 6
        onto_v1 = onto_v2 = None
    else:
        v0, v1, v2 = (4, 6, 6), (8, 6, 6), (6, 3, 3)  # type: ignore[assignment]
        onto_v1 = Convolution(3)  # type: ignore[assignment]
        onto_v2 = wiring[0] if wiring else Convolution(3)
    pooling = None if kind == "dense" else Pooling("max", 2)
    return Network(
        InputPopulation("retina", (2, 6, 6)),
        Population("V0", v0, "tanh"),
        Population("V1", v1, "relu", pooling, inhibitory=0.25),
        Population("V2", v2, "relu", inhibitory=0.5),
        Population("V3", 5, "relu"),
        FeedforwardPathway("retina", "V0", None if kind == "dense" else Convolution(3)),
        FeedforwardPathway("V0", "V1", onto_v1),
        FeedforwardPathway("V1", "V2", onto_v2),
        FeedforwardPathway("V1", "V3", Sparse(4, 2)),
        FeedforwardPathway("V2", "V3"),
        FeedbackPathway("V1", "V0"),
        FeedbackPathway("V1", "V1", source_pool=None if kind == "dense" else "global"),
    )


def outgoing(circuit: Circuit, population: str) -> list[Tensor]:
    """Return the weights of all pathways from a population, by presynaptic channel: (channels, synapses)."""
    found = []
    channels = circuit.network.populations[population].shape[0]
    cells = circuit.network.populations[population].size // channels
    for name, pathway in circuit.network.pathways.items():
        if pathway.pre != population:
            continue
        weight = circuit.weights[name].weight
        wiring = getattr(pathway, "connectivity", None)
        if isinstance(wiring, Sparse):
            channel = torch.from_numpy(wiring.index(channels * cells, len(weight))) // cells
            for c in range(channels):
                found.append((c, weight[channel == c]))
        else:
            by_channel = weight if weight.ndim == 4 else weight.view(len(weight), channels, -1)
            found += [(c, by_channel[:, c].flatten()) for c in range(channels)]
    return [torch.cat([w for c, w in found if c == channel]) for channel in range(channels)]


def assert_dale(circuit: Circuit, moved: bool = True) -> None:
    for population, inhibitory in (("V1", 2), ("V2", 3)):
        signs = outgoing(circuit, population)
        for number, weights in enumerate(signs):
            inhibits = number >= len(signs) - inhibitory
            assert bool((weights <= 0).all() if inhibits else (weights >= 0).all()), (population, number)
            assert bool((weights != 0).any()), (population, number)


KINDS: dict[str, tuple[Any, ...]] = {"dense": (), "maps": (), "local fields": (LocalFields(3),)}


def network_for(kind: str) -> Network:
    return inhibited(*KINDS[kind], kind="dense" if kind == "dense" else "maps")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_drawn_with_the_sign_of_their_neuron(kind: str) -> None:
    network = network_for(kind)
    circuit = drawn(network, 3)
    assert_dale(circuit)
    assert all(float(abs(weights).min()) > 0 for weights in outgoing(circuit, "V1")), "no synapse is 0 to begin with"
    spread = circuit.weights["V0->V1"].weight
    assert float(spread.min()) < 0 < float(spread.max()), "V0 may do both"
    free = Network(*(Population(p.name, p.neurons, p.transfer, p.pooling) for p in list(network.populations.values())[1:]))
    assert free.populations["V1"].signs is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["clapp++", "bp-clapp++", "infonce-local"])
def test_no_neuron_ever_makes_synapses_of_both_signs(kind: str, rule: str) -> None:
    """Over all its pathways, feedback and predictions included, after every single event of fast learning."""
    network = network_for(kind)
    circuit = wired(make_rule(rule), drawn(network, 3))
    simulation = simulated(circuit, rule, Synapses("sgd", lr=0.5))
    assert_dale(simulation.circuit)
    for seed in range(5):
        before = simulation.weights["V1->V2"].weight.clone()
        simulation.step(full_moment(network, seed=seed))
        assert_dale(simulation.circuit)
        assert not torch.equal(before, simulation.weights["V1->V2"].weight)


def test_one_event_of_learning_leaves_most_synapses_alive() -> None:
    circuit = drawn(network_for("dense"))
    simulation = simulated(circuit, "bp-clapp++").run([full_moment(circuit)])
    for weights in outgoing(simulation.circuit, "V1"):
        assert float((weights != 0).double().mean()) > 0.9


def test_given_and_loaded_weights_keep_the_law_from_event_0(tmp_path: Any) -> None:
    network = network_for("dense")
    network_free = Network(
        *(Population(p.name, p.neurons, p.transfer) if not p.is_input else p for p in network.populations.values()),
        *network.pathways.values(),
    )
    unlawful = Weights.draw(network_free, 1)
    with pytest.raises(NetworkError, match=r"'V1->V2': .*Dale's law"):
        Weights.draw(network, given=unlawful)
    lawful = Weights.draw(network, 1)
    with pytest.raises(NetworkError, match=r"'V1->V2': .*Dale's law"):
        lawful.set("V1->V2", -lawful["V1->V2"].weight)
    with pytest.raises(NetworkError, match=r"Dale's law"):
        lawful.load_state_dict(unlawful.state_dict())
    lawful.save(tmp_path / "w.safetensors")
    assert_dale(Circuit(network, Weights.load(tmp_path / "w.safetensors")))


def test_replicas_keep_the_law_as_one_does() -> None:
    network = network_for("dense")
    moments = [full_moment(network, seed=seed) for seed in range(3)]

    def made() -> list[Simulation]:
        return [
            Simulation(network, "bp-clapp++", Synapses("sgd", lr=0.5), seed=seed, dtype="float64", device="cpu")
            for seed in range(2)
        ]

    alone, joined = made(), made()
    Replicas(joined).run([moments, moments])
    for one, other in zip(alone, joined, strict=True):
        one.run(moments)
        assert_dale(other.circuit)
        for name in one.weights:
            assert torch.allclose(one.weights[name].weight, other.weights[name].weight, rtol=1e-10, atol=1e-12)


def test_silent_and_excited_by_what_they_are() -> None:
    """More activity of an inhibitory neuron never raises the drive of what it projects to."""
    circuit = drawn(network_for("dense"))
    x = torch.rand(4, 2, 6, 6, dtype=torch.float64)
    before = circuit.sweep(x)
    more = before["V1"].clone()
    more[:, -2:] += 1
    drive = circuit["V1->V2"].drive(more) - circuit["V1->V2"].drive(before["V1"])  # type: ignore[attr-defined]
    assert bool((drive < 0).all())


def test_the_law_is_said_and_checked() -> None:
    assert "25% inhibitory" in repr(network_for("dense").populations["V1"])
    assert network_for("dense").describe()["populations"][2]["inhibitory"] == 0.25
    assert Population("V1", 8, inhibitory=0).signs.tolist() == [1.0] * 8  # type: ignore[union-attr]
    assert Population("V1", 8, inhibitory=1).signs.tolist() == [-1.0] * 8  # type: ignore[union-attr]
    for wrong in (-0.1, 1.1, "some", float("nan")):
        with pytest.raises(NetworkError, match="inhibitory must be a fraction from 0 to 1"):
            Population("V1", 8, inhibitory=wrong)  # type: ignore[arg-type]
    assert map_circuit().network.populations["V1"].signs is None
