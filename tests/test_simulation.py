"""The simulation: events online and batched, biological time, steps and progress, divergence that is named."""

from typing import Any

import pytest
import torch
from brian2 import ms, mV, second
from conftest import MemoryStore, clones, dense_circuit, drawn, full_moment, same, simulated, stimulus_of, wired
from torch import Tensor

from neurossl import Circuit, Simulation, mlp
from neurossl.errors import DivergenceError, EventError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade, Teaching
from neurossl.generators import Generators
from neurossl.moment import STEPS
from neurossl.plasticity import Contrastive, Local, Synapses, make_rule, propose
from neurossl.recorders import Observation, Recorder
from neurossl.units import seconds


def moments(circuit: Circuit, count: int = 6, **options: Any) -> list[Moment]:
    return [full_moment(circuit, seed=number, **options) for number in range(count)]


class Proposed(Recorder):
    """Keeps what is proposed in every moment."""

    wants_updates = True

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[dict[str, Tensor]] = []

    def after(self, now: Observation) -> None:
        self.kept.append({name: update.weight.clone() for name, update in now.updates.items()})


@pytest.mark.parametrize("context", ["lateral", "top", "both"])
@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear"])
def test_online_and_batched_clapp_agree_on_the_same_sequence(context: str, contrast: str) -> None:
    """One observer: look, look again at the object, jump; its mean update is that of one batched moment."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.randn(4, 3, 12, generator=generator, dtype=torch.float64)  # object, fixation, pixels
    circuit, proposed = dense_circuit(None), Proposed()
    rule = Local(Contrastive(contrast, context))
    still = Synapses("sgd", lr=0.0)
    simulation = simulated(circuit, rule, still, store=MemoryStore(), recorders=[proposed])
    stream: list[Any] = []
    for number, fixations in enumerate(objects):
        stream += [Saccade()] if number else []
        stream += [Moment(Fixation(view[None]), duration=0.25) for view in fixations]
    simulation.run(stream)
    assert simulation.moment == 12
    assert simulation.time == pytest.approx(12 * 0.25 + 3 * 0.25)
    # The same twelve fixations at once: row r is the context of row r + 1, by fixation or by saccade.
    rows = objects.reshape(12, 12)
    following = (torch.arange(12) + 1) % 12
    stays = torch.tensor([1.0, 1, 0] * 4, dtype=torch.float64)
    jumps = torch.tensor([0.0, 0, 1] * 3 + [0, 0, 0], dtype=torch.float64)
    moment = Moment(Fixation(rows, following), Saccade(following[None]), Neuromodulation(stays, jumps))
    batched = {name: u.weight for name, u in propose(rule, wired(rule, circuit).sweep(rows), moment)}
    for name, update in batched.items():
        mean = torch.stack([kept[name] for kept in proposed.kept]).mean(0)
        assert float(update.abs().max()) > 0
        assert torch.allclose(mean, update, rtol=1e-12, atol=1e-15), name


def test_many_observers_online_are_many_single_observers() -> None:
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(6, 3, 12, generator=generator, dtype=torch.float64)  # fixation, observer, pixels
    jumped = torch.rand(6, 3, generator=generator) < 0.5

    def updates(observers: list[int]) -> list[dict[str, Tensor]]:
        proposed = Proposed()
        options: dict[str, Any] = {"store": MemoryStore(), "recorders": [proposed]}
        simulation = simulated(dense_circuit(None), "clapp-dfb", Synapses("sgd", lr=0.0), **options)
        simulation.run(Moment(Fixation(views[t, observers]), Saccade(observers=jumped[t, observers])) for t in range(6))
        return proposed.kept

    together = updates([0, 1, 2])
    alone = [updates([observer]) for observer in range(3)]
    for t, kept in enumerate(together):
        for name, update in kept.items():
            mean = torch.stack([single[t][name] for single in alone]).mean(0)
            assert torch.allclose(update, mean, rtol=1e-12, atol=1e-15)
    assert all(float(u.abs().max()) == 0 for u in together[0].values()), "the first fixation has no context"


def test_teaching_may_come_after_the_fixation() -> None:
    circuit = dense_circuit()
    together, apart = (simulated(circuit, "bp", Synapses("sgd", lr=0.1)) for _ in range(2))
    for moment in moments(circuit, 3):
        fixation, teaching = moment.require(Fixation, "test"), moment.require(Teaching, "test")
        together.step(Moment(fixation, teaching))
        apart.step(fixation)
        apart.step(teaching)
    assert same(clones(together.weights), clones(apart.weights))
    assert (together.moment, apart.moment) == (3, 3)
    with pytest.raises(EventError, match="waits for a Teaching event after the Fixation, but got the next Fixation"):
        apart.run([Fixation(torch.zeros(1, 12)), Fixation(torch.zeros(1, 12))])
    with pytest.raises(EventError, match="but the stream ended"):
        simulated(circuit, "bp").run([Fixation(torch.zeros(1, 12))])


def test_a_failed_run_leaves_the_simulation_usable() -> None:
    circuit = dense_circuit()
    failed, other = (simulated(circuit, "bp") for _ in range(2))
    for _ in range(2):
        with pytest.raises(EventError, match="but the stream ended"):
            failed.run([Fixation(torch.zeros(1, 12))])
        with pytest.raises(EventError, match="expected one per row"):
            failed.run([Moment(Fixation(torch.zeros(2, 12)), Teaching(torch.zeros(3).long()))])
    stream = moments(circuit, 2)
    assert same(clones(failed.run(stream).weights), clones(other.run(stream).weights))


def test_a_second_run_of_an_online_stream_begins_without_a_trace() -> None:
    """The last object of one run and the first of the next are no pair."""
    circuit = dense_circuit(None)
    views = torch.randn(3, 1, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    proposed = Proposed()
    simulation = simulated(circuit, "clapp++gap", store=MemoryStore(), recorders=[proposed])
    simulation.run([Fixation(view) for view in views]).run([Fixation(view) for view in views])
    silent = [all(float(update.abs().max()) == 0 for update in kept.values()) for kept in proposed.kept]
    assert silent == [True, False, False] * 2


def test_reset_begins_anew_with_the_weights_as_they_are() -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++gap", Synapses(lr=0.01))
    simulation.silence("V1")
    simulation.freeze("V1->V2")
    simulation.run(moments(circuit, 3))
    learned = clones(simulation.weights)
    simulation.reset()
    assert same(learned, clones(simulation.weights))
    assert (simulation.moment, simulation.time, simulation.observers_seen, simulation.interventions) == (0, 0, 0, [])
    anew = Simulation(
        circuit.network, "clapp++gap", Synapses(lr=0.01), weights=simulation.weights, dtype="float64", device="cpu"
    )
    stream = moments(circuit, 3)
    assert same(clones(simulation.run(stream).weights), clones(anew.run(stream).weights))
    stored = simulated(circuit, "clapp++gap", store=MemoryStore()).run(stream)
    with pytest.raises(OptionError, match="this run is being stored"):
        stored.reset()


def test_interventions_happen_in_biological_time() -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++gap")
    seen: list[tuple[str, float]] = []
    simulation.at(500 * ms)(lambda s: seen.append(("once", s.time)))
    simulation.every(0.75)(lambda s: seen.append(("often", s.time)))
    simulation.at(1 * second)(lambda s: s.lesion("V1->V2"))
    simulation.run(Moment(*m, duration=0.25) for m in moments(circuit, 10))
    assert seen == [("once", 0.5), ("often", 0.75), ("often", 1.5), ("often", 2.25)]
    assert float(simulation.weights["V1->V2"].weight.abs().max()) == 0
    for wrong in (3 * mV, -1, float("nan"), "soon"):
        with pytest.raises(OptionError, match="expected a"):
            simulation.at(wrong)(lambda s: None)
        with pytest.raises(OptionError, match="expected a"):
            Moment(duration=wrong)
    with pytest.raises(OptionError, match="expected a function"):
        simulation.at(1)("lesion")  # type: ignore[arg-type]
    assert seconds(250 * ms) == Moment(duration=250 * ms).duration == 0.25


def test_steps_and_progress_are_said() -> None:
    assert list(STEPS) == ["intervene", "present", "settle", "modulate", "reduce", "update", "record"]
    circuit = dense_circuit(None)
    seen: list[tuple[int, int | None]] = []
    simulation = simulated(circuit, "clapp++gap")
    assert list(simulation.steps) == list(STEPS)
    simulation.run(moments(circuit, 3), report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "3 moments" in repr(simulation)
    with pytest.raises(OptionError, match="report"):
        simulation.run([], report="loud")


def test_divergence_names_moment_population_and_pathway() -> None:
    circuit = dense_circuit(transfer="relu")
    stream = moments(circuit, 30)
    simulation = simulated(circuit, "bp", Synapses("sgd", lr=1e30), dtype="float32", check_every=1)
    with pytest.raises(DivergenceError, match=r"moment \d+ .*population '(V\d|readout)', pathway '.*->"):
        simulation.run(stream)
    broken = stimulus_of(stream[0]).clone()
    broken[2, 3] = float("nan")
    simulation = simulated(dense_circuit(), "bp", check_every=1)
    with pytest.raises(DivergenceError, match="stimulus on population 'retina'"):
        simulation.run([stream[0].with_events(Fixation(broken))])
    simulation = simulated(dense_circuit(None, "relu"), "clapp++gap", check_every=5)
    simulation.run(stream[:1])
    simulation.weights["V1->V2"].weight[0, 0] = float("inf")
    with pytest.raises(DivergenceError, match="population 'V2', pathway 'V1->V2'"):
        simulation.run(stream[:10])


def test_a_bias_that_is_not_a_number_is_found_before_the_run_counts_as_finished() -> None:
    circuit = dense_circuit(None)
    for rule, place in (("clapp++gap", r"population 'V2', pathway 'V1->V2' \(bias\)"), ("bp-clapp++", "NaN or infinity")):
        simulation = simulated(circuit, rule, check_every=1000)
        bias = simulation.weights["V1->V2"].bias
        assert bias is not None
        bias[3] = float("nan")
        with pytest.raises(DivergenceError, match=place):
            simulation.run(moments(circuit, 2))


@pytest.mark.parametrize("rule", ["clapp++gap", "bp-clapp++", "ff"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_stimulus_that_is_not_a_number_is_the_stimulus_fault(rule: str, value: float) -> None:
    """Whether the populations learn along the sweep or after it, and before any weight has changed."""
    circuit = dense_circuit(None, normalisation=make_rule(rule).normalisation)
    simulation = simulated(circuit, rule, check_every=10)
    before = clones(simulation.weights)
    moment = full_moment(circuit)
    stimulus_of(moment)[2, 3] = value
    fault = r"moment 1 .*stimulus on population 'retina' is not finite \(row 2\): check the images"
    with pytest.raises(DivergenceError, match=fault):
        simulation.run([moment, *moments(circuit, 3)])
    assert same(before, clones(simulation.weights))


def test_one_decision_about_device_and_dtype() -> None:
    circuit = dense_circuit()
    with pytest.raises(OptionError, match="expected auto, cpu or cuda"):
        Simulation(circuit.network, "bp", device="tpu")
    for wrong in ("int8", "float16", torch.float16, torch.int64):
        with pytest.raises(OptionError, match="float32 or float64"):
            Simulation(circuit.network, "bp", dtype=wrong)
    simulation = Simulation(circuit.network, "bp", device="cpu", dtype="float32")
    simulation.run(moments(circuit, 2))
    assert simulation.respond(torch.zeros(1, 12))["V1"].dtype == torch.float32


def test_the_network_that_is_handed_in_is_not_changed() -> None:
    network = mlp(12, [9, 7])
    before = network.describe()
    given = drawn(network)
    kept = clones(given.weights)
    for _ in range(2):
        simulation = simulated(given, "clapp++gap", Synapses(lr=0.1)).run(moments(given, 2))
        assert set(simulation.network.feedback) == {"V1=>V1", "V2=>V2"}
    assert network.describe() == before
    assert same(kept, clones(given.weights))


def test_generators_depend_on_name_and_seed_alone() -> None:
    one, two = Generators(3), Generators(3)
    torch.rand(5, generator=two["stimuli"])
    assert torch.equal(torch.rand(4, generator=one["weights"]), torch.rand(4, generator=two["weights"]))
    assert not torch.equal(
        torch.rand(4, generator=Generators(4)["weights"]), torch.rand(4, generator=Generators(3)["weights"])
    )
