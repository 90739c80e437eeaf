"""Mono-Forward: every population names the object by a readout of its own; equal to autograd of its cross-entropies."""

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, full_moment, map_circuit, simulated, stimulus_of, wired
from oracle import Autograd, assert_close, proposals, skip_circuit

from neurossl import Synapses
from neurossl.errors import EventError, LocalityError, NetworkError
from neurossl.events import Neuromodulation, Teaching
from neurossl.plasticity import Local, MonoForward, losses, make_rule

CIRCUITS = {"dense": dense_circuit, "convolution": lambda: map_circuit(4), "skips": skip_circuit}


@pytest.mark.parametrize("with_gain", [False, True])
@pytest.mark.parametrize("kind", CIRCUITS)
def test_it_equals_autograd(kind: str, with_gain: bool) -> None:
    rule = make_rule("mono-forward")
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    gain = torch.linspace(-0.5, 2, 10, dtype=torch.float64) if with_gain else torch.ones(10, dtype=torch.float64)
    if with_gain:
        moment = moment.with_events(Neuromodulation(gain))
    labels = moment.require(Teaching, "test").labels
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    each = {}
    for name in circuit.network.order:
        scores = z[name].flatten(1)
        if name != circuit.network.top:
            scores = scores @ plain.weights[f"{name}=>{name}:classes"][0].T
        each[name] = (gain * F.cross_entropy(scores, labels, reduction="none")).mean()
    want = plain.gradients(torch.stack(list(each.values())).sum())
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    for name, loss in each.items():
        assert float(said[name]) == pytest.approx(float(loss.detach()), rel=1e-12)


def test_its_readouts_see_every_cell_and_have_one_interneuron_per_class() -> None:
    rule = make_rule("mono-forward")
    network = rule.wire(map_circuit(4).network.copy())
    shapes = {name: network.pathways[name].weight_shape for name in network.pathways if name.endswith(":classes")}
    assert shapes == {
        f"{name}=>{name}:classes": (4, network.populations[name].size) for name in network.order if name != "readout"
    }


def test_it_is_refused_where_it_makes_no_sense() -> None:
    for circuit, message in (
        (dense_circuit(None, "relu"), "rectified units are no class scores"),
        (map_circuit(None), "its units are to be class scores, but it is a map"),
    ):
        with pytest.raises(NetworkError, match=message):
            make_rule("mono-forward").wire(circuit.network.copy())
    circuit = dense_circuit(2)
    with pytest.raises(EventError, match=r"do not fit the 2 units of 'V1=>V1:classes': give the top population one unit"):
        proposals(make_rule("mono-forward"), circuit, full_moment(circuit))


def test_it_declares_the_label_and_the_transport_within_its_own_pathway() -> None:
    rule = make_rule("mono-forward")
    assert rule.needs == {"target", "weight transport"}
    rule.needs = rule.needs - {"target"}
    circuit = dense_circuit()
    with pytest.raises(LocalityError, match="'target'"):
        proposals(rule, circuit, full_moment(circuit))
    assert Local(MonoForward()).reference().objective_name == "cross-entropy, at the top"


def test_each_population_learns_to_name_the_object_by_itself() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit, rows=16)
    simulation = simulated(circuit, "mono-forward", Synapses("adamw", lr=1e-2))
    before = losses(simulation.rule, simulation.circuit.sweep(stimulus_of(moment)), moment)
    simulation.run([moment] * 100)
    after = losses(simulation.rule, simulation.circuit.sweep(stimulus_of(moment)), moment)
    assert all(float(after[name]) < float(before[name]) / 2 for name in circuit.network.order)
