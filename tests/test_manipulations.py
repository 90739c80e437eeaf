"""What an experimenter does: silence, clamp, stimulate, lesion, freeze; what follows, and that each leaves its trace."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, dense_circuit, full_moment, map_circuit, same, simulated, stimulus_of

from neurossl import Circuit, Simulation
from neurossl.errors import NetworkError
from neurossl.events import Fixation, Moment
from neurossl.plasticity import Synapses


def moments(circuit: Circuit, count: int = 4) -> list[Moment]:
    return [full_moment(circuit, seed=number) for number in range(count)]


def done(simulation: Simulation) -> list[str]:
    return [entry["what"] for entry in simulation.interventions]


def test_a_silenced_population_sends_nothing_and_what_it_drives_hears_its_biases() -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++gap")
    x = torch.randn(3, 12, dtype=torch.float64)
    before = simulation.respond(x)
    simulation.silence("V1")
    silenced = simulation.respond(x)
    assert float(silenced["V1"].abs().max()) == 0
    bias = simulation.weights["V1->V2"].bias
    assert bias is not None
    assert torch.equal(silenced["V2"], bias.tanh().expand(3, -1))
    simulation.release("V1")
    assert torch.equal(simulation.respond(x)["V2"], before["V2"])


@pytest.mark.parametrize("value", [0.5, np.arange(9.0), torch.arange(9)])
def test_a_clamped_population_holds_its_activity_for_every_observer(value: Any) -> None:
    simulation = simulated(dense_circuit(None), "clapp++gap")
    simulation.clamp("V1", value)
    held = simulation.respond(torch.randn(3, 12, dtype=torch.float64))
    assert torch.equal(held["V1"], torch.as_tensor(value).double().expand(3, 9))
    assert torch.equal(held["V2"][0], held["V2"][1]), "nothing of the stimulus gets through"


def test_injected_drive_adds_to_that_of_the_synapses() -> None:
    circuit = map_circuit()
    simulation = simulated(circuit, "clapp++gap")
    x = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    drive = simulation.respond(x).drive("V2")
    current = torch.randn(5, 9, 9, dtype=torch.float64)
    simulation.stimulate("V2", current)
    want = torch.nn.functional.max_pool2d((drive + current).relu(), 2)
    assert torch.allclose(simulation.respond(x)["V2"], want, rtol=1e-12)
    simulation.stimulate("V2", -1e9)
    assert float(simulation.respond(x)["V2"].abs().max()) == 0


@pytest.mark.parametrize("rule", ["clapp++gap", "clapp-dfb", "bp-clapp++", "bp", "pc", "ipc", "dfa", "fa", "ff"])
@pytest.mark.parametrize("how", ["silence", "clamp", "stimulate"])
def test_every_rule_learns_in_a_manipulated_network(rule: str, how: str) -> None:
    """Whether it learns along the sweep, after it or while it settles; synapses of a silent neuron get nothing."""
    needs_classes = rule in ("bp", "pc", "ipc", "dfa", "fa")
    circuit = dense_circuit(4 if needs_classes else None, normalisation="length" if rule == "ff" else None)
    simulation = simulated(circuit, rule, Synapses("sgd", lr=0.1))
    getattr(simulation, how)("V1", *([] if how == "silence" else [0.3]))
    simulation.run(moments(circuit))
    assert all(torch.isfinite(p).all() for held in simulation.weights.values() for p in held.present)
    if how == "silence":
        learned = simulation.weights["V1->V2"].weight
        assert torch.equal(learned, circuit.weights["V1->V2"].weight), "presynaptic activity is 0"


def test_a_lesion_is_for_good_and_a_frozen_pathway_thaws() -> None:
    circuit = dense_circuit()
    simulation = simulated(circuit, "bp")
    simulation.lesion("V1->V2")
    simulation.freeze("retina->V1")
    simulation.run(moments(circuit))
    assert all(float(p.abs().max()) == 0 for p in simulation.weights["V1->V2"].present)
    assert same(clones(simulation.weights)["retina->V1"], clones(circuit.weights)["retina->V1"])
    assert not same(clones(simulation.weights)["V2->readout"], clones(circuit.weights)["V2->readout"])
    thawed = simulated(circuit, "bp")
    thawed.freeze("retina->V1")
    thawed.thaw("retina->V1")
    assert not same(clones(thawed.run(moments(circuit)).weights)["retina->V1"], clones(circuit.weights)["retina->V1"])


def test_a_frozen_prediction_stays_while_the_encoder_learns() -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++gap")
    before = clones(simulation.weights)
    simulation.freeze("V1=>V1")
    after = clones(simulation.run(moments(circuit)).weights)
    assert [name for name in before if same(before[name], after[name])] == ["V1=>V1"]


def test_every_act_is_an_entry_of_the_stored_run(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++gap", store=store)
    simulation.freeze("V1->V2")

    @simulation.at(0.5)
    def operate(s: Simulation) -> None:
        s.silence("V1")
        s.lesion("V1=>V1")

    simulation.every(0.5)(lambda s: s.release("V1"))
    simulation.when(lambda s: s.moment == 3)(lambda s: None)
    simulation.run(moments(circuit, 5))
    simulation.thaw("V1->V2")
    assert store.manifest["interventions"] == simulation.interventions
    told = [(entry["what"], entry["moment"], entry["time"]) for entry in simulation.interventions]
    assert told[:3] == [("freeze", 0, 0.0), ("silence", 2, 0.5), ("lesion", 2, 0.5)]
    assert ("call", 3, 0.75) in told, "a function that does nothing to the simulation itself is noted, too"
    assert told.count(("release", 2, 0.5)) == told.count(("release", 4, 1.0)) == 1
    assert told[-1] == ("thaw", 5, 1.25)
    scheduled = simulation.interventions[1]
    assert (scheduled["scheduled"], scheduled["function"], scheduled["population"]) == ("at", "operate", "V1")
    assert simulation.interventions[2]["pathway"] == "V1=>V1"


def test_the_log_that_is_handed_out_is_a_copy() -> None:
    simulation = simulated(dense_circuit(None), "clapp++gap")
    simulation.freeze("V1->V2")
    simulation.interventions.clear()
    simulation.interventions[0]["what"] = "nothing"
    assert done(simulation) == ["freeze"]


def test_what_is_done_to_one_simulation_is_not_done_to_another() -> None:
    circuit = dense_circuit(None)
    operated, other, plain = (simulated(circuit, "clapp++gap") for _ in range(3))
    operated.silence("V1")
    operated.lesion("V1->V2")
    stream = moments(circuit)
    for moment in stream:
        operated.step(moment)
        other.step(moment)
    assert same(clones(other.weights), clones(plain.run(stream).weights))
    assert float(circuit.weights["V1->V2"].weight.abs().max()) > 0
    assert done(other) == []


def test_manipulations_are_part_of_the_state() -> None:
    circuit = dense_circuit(None)
    first = simulated(circuit, "clapp++gap", Synapses(lr=0.01))
    first.clamp("V1", np.linspace(0, 1, 9))
    first.freeze("V2=>V2")
    first.run(moments(circuit, 2))
    second = simulated(circuit, "clapp++gap", Synapses(lr=0.01)).restore(first.state())
    later = moments(circuit, 4)[2:]
    assert same(clones(first.run(later).weights), clones(second.run(later).weights))
    assert second.interventions == first.interventions
    assert torch.equal(second.respond(stimulus_of(later[0]))["V1"], first.respond(stimulus_of(later[0]))["V1"])


def test_what_cannot_be_done_is_refused_and_not_noted() -> None:
    simulation = simulated(dense_circuit(None), "clapp++gap")
    for act, arguments, message in (
        ("lesion", ("V9->V1",), "no pathway 'V9->V1' .*there are: retina->V1"),
        ("freeze", ("V1",), "no pathway 'V1'"),
        ("thaw", ("V1",), "no pathway 'V1'"),
        ("silence", ("V9",), "no population 'V9'"),
        ("release", ("V9",), "no population 'V9'"),
        ("silence", ("retina",), "'retina' is the input population: change the stimulus instead"),
        ("clamp", ("V1", np.zeros(4)), r"clamp\('V1'\): expected a number or values of shape \(9,\), got \(4,\)"),
        ("stimulate", ("V1", np.zeros((2, 9))), r"stimulate\('V1'\): expected a number or values of shape \(9,\)"),
        ("clamp", ("V1", "high"), r"clamp\('V1'\): expected a number or values of shape \(9,\), got 'high'"),
        ("clamp", ("V1", float("nan")), r"clamp\('V1'\): expected finite values"),
    ):
        with pytest.raises(NetworkError, match=message):
            getattr(simulation, act)(*arguments)
    assert done(simulation) == []


def test_respond_does_not_learn_and_takes_images_as_they_come() -> None:
    circuit = map_circuit()
    simulation = simulated(circuit, "clapp++gap").run(moments(circuit, 1))
    before, state = clones(simulation.weights), simulation.moment
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 9, 9), np.uint8)
    seen = simulation.respond(pixels)["V3"]
    assert torch.allclose(seen, simulation.respond(torch.from_numpy(pixels) / 255)["V3"], atol=1e-6)
    assert torch.equal(seen, simulation.respond(torch.from_numpy(pixels))["V3"])
    assert same(before, clones(simulation.weights))
    assert simulation.moment == state
    with pytest.raises(NetworkError, match=r"expected rows of \(2, 9, 9\) as in 'retina', got \(3, 9, 9\)"):
        simulation.respond(np.zeros((1, 3, 9, 9)))


def test_a_manipulation_reaches_predictions_and_online_traces() -> None:
    """Online, what a population did while it was silenced is its trace."""
    circuit = dense_circuit(None)
    views = torch.randn(3, 1, 12, dtype=torch.float64)
    simulation = simulated(circuit, "clapp++gap", Synapses("sgd", lr=0.1))
    simulation.at(0.25)(lambda s: s.silence("V1"))
    simulation.run([Fixation(views[0])])
    before = clones(simulation.weights)
    simulation.run([Fixation(view) for view in views[1:]])
    assert same(before["V1=>V1"], clones(simulation.weights)["V1=>V1"]), "z = 0 and c = 0: nothing to learn"
