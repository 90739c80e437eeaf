"""What a new user met on the first day: silence where something was meant, raw errors where something was mistaken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brian2 import mV
from conftest import MemoryStore, clones, dense_circuit, full_moment, same

from analysis import TrajectoryWriter, manifest
from neurossl import (
    Checkpointer,
    Credit,
    Fixation,
    Moment,
    Neuromodulation,
    NeurosslError,
    Recorder,
    Rule,
    Simulation,
    Synapses,
    WeightRecorder,
    mlp,
)
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.stimuli import ViewPairs, default_views, load_images


def stream(moments: int = 8, seed: int = 0, observers: int = 4) -> ViewPairs:
    images = load_images("digits")
    data = images.train, images.train_labels, default_views(images)
    return ViewPairs(*data, moments=moments, seed=seed, observers=observers)


def stored(folder: Path, moments: int = 4) -> None:
    with TrajectoryWriter(folder) as store:
        recorders = [WeightRecorder(2)]
        simulation = Simulation(mlp((1, 16, 16), [5, 4]), "clapp++gap", store=store, recorders=recorders, device="cpu")
        simulation.at(60.0)(planned)
        simulation.run(stream(moments))


def planned(simulation: Simulation) -> None:
    simulation.lesion("V1->V2")


def go_on(folder: Path, then: Any, plan: bool = True, **options: Any) -> Simulation:
    given = {"recorders": [WeightRecorder(2)], "device": "cpu", **options}
    with TrajectoryWriter.reopen(folder) as store:
        simulation = Simulation.from_checkpoint(folder, store=store, **given)
        if plan:
            simulation.at(60.0)(planned)
        return simulation.run(then)


def test_a_checkpoint_goes_on_with_its_own_stream_alone(tmp_path: Path) -> None:
    stored(tmp_path / "run")
    for other in (stream(8, seed=5), stream(8, observers=3)):
        with pytest.raises(OptionError, match="the checkpoint was taken in a stream with options"):
            go_on(tmp_path / "run", other)
    with pytest.raises(OptionError, match="4 moments of the stream have been learned from, it has 2"):
        go_on(tmp_path / "run", stream(2))
    assert go_on(tmp_path / "run", stream(8)).moment == 8


def test_what_is_given_otherwise_is_refused_or_noted(tmp_path: Path) -> None:
    stored(tmp_path / "run")
    with pytest.raises(OptionError, match="recorded by WeightRecorder, not by nobody"):
        go_on(tmp_path / "run", stream(8), recorders=[])
    with pytest.warns(UserWarning, match="planned before the checkpoint and not asked for again: at 60 planned"):
        go_on(tmp_path / "run", stream(6), plan=False)
    go_on(tmp_path / "run", stream(8), synapses=Synapses(lr=1e-2))
    (entry,) = manifest(tmp_path / "run")["interventions"]
    assert (entry["what"], entry["options"]["lr"], entry["moment"]) == ("synapses", 1e-2, 6)


def test_the_log_says_what_a_population_was_clamped_to_and_who_did_it() -> None:
    store = MemoryStore()
    circuit = dense_circuit(None)
    simulation = Simulation(circuit.network, "clapp++gap", dtype="float64", store=store, recorders=[WeightRecorder(1)])
    simulation.at(0.25)(lambda s: s.clamp("V1", 0.5))
    simulation.run([full_moment(circuit, seed=seed) for seed in range(3)])
    (entry,) = store.manifest["interventions"]
    assert entry["value"] == 0.5
    assert entry["scheduled"] == "at"


def test_a_population_can_be_silenced_after_its_run_has_been_closed(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as store:
        simulation = Simulation(
            mlp((1, 16, 16), [5, 4]), "clapp++gap", store=store, recorders=[WeightRecorder(2)], device="cpu"
        )
        simulation.run(stream(2))
    simulation.silence("V1")
    assert float(simulation.respond(np.zeros((1, 1, 16, 16), np.float32))["V1"].abs().max()) == 0
    assert manifest(tmp_path / "run")["interventions"] == []


def test_a_moment_alone_is_a_stream_of_one() -> None:
    circuit = dense_circuit(None)
    moment = full_moment(circuit).with_events(Neuromodulation(torch.zeros(10)))
    simulation = Simulation(circuit.network, "clapp++gap", dtype="float64")
    before = clones(simulation.weights)
    simulation.run(moment)
    assert simulation.moment == 1
    assert same(before, clones(simulation.weights))


def test_a_reward_without_a_fixation_teaches_nobody_and_says_so() -> None:
    circuit = dense_circuit(None)
    simulation = Simulation(circuit.network, "clapp++gap", dtype="float64")
    with pytest.raises(EventError, match="ended with a Neuromodulation without a Fixation"):
        simulation.run([full_moment(circuit), Neuromodulation(np.ones(10))])


class Traced(Rule):
    """A rule with a trace per observer."""

    state = {"trace": "rows"}

    def credit_at(self, site: Any, moment: Moment) -> Credit:
        return Credit(site.state["trace"], state={"trace": site.state["trace"] + site.activity})


def test_traces_of_other_observers_are_not_forgotten_without_a_word() -> None:
    simulation = Simulation(mlp(6, [4]), Traced())
    assert simulation.rule.name == "Traced"
    with pytest.raises(EventError, match=r"remembers 'V1/trace' of 5 rows, but the moment has 3"):
        simulation.run([Fixation(torch.ones(5, 6)), Fixation(torch.ones(3, 6))])


def test_a_module_beside_those_that_are_named_is_not_lost() -> None:
    weights = Simulation(mlp(6, [4, 3]), "clapp++gap").weights
    names = {"features.0": "retina->V1", "features.2": "V1->V2"}
    out = weights.state_dict(names)
    assert list(out) == ["features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias"]
    weights.load_state_dict({**out, "classifier.0.weight": torch.zeros(1)}, names)
    with pytest.raises(NetworkError, match=r"'features.1.running_mean' belongs to no pathway"):
        weights.load_state_dict({**out, "features.1.running_mean": torch.zeros(4)}, names)
    with pytest.raises(NetworkError, match=r"there is no 'V1->V2.weight'"):
        weights.load_state_dict(out, {"features.0": "retina->V1"})


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda: Simulation(mlp(6, [4]), "clapp++gap", {"lr": 1e-3}), "synapses: expected a Synapses"),  # type: ignore[arg-type]
        (lambda: Simulation("mlp:4", "clapp++gap"), "network: expected a Network"),  # type: ignore[arg-type]
        (lambda: Simulation(mlp(6, [4]), "clapp++gap", store="folder"), "expected a TrajectoryWriter"),  # type: ignore[arg-type]
        (lambda: Simulation(mlp(6, [4]), "clapp++gap").run(torch.ones(3, 6)), "expected a stream of moments"),  # type: ignore[arg-type]
        (lambda: Simulation(mlp(6, [4]), "clapp++gap").run([np.ones((3, 6))]), "yields moments of events, got ndarray"),  # type: ignore[list-item]
        (lambda: Neuromodulation([float("nan")]), "expected finite numbers"),
        (lambda: Neuromodulation(np.ones(3) * mV), "Neuromodulation.gain: expected plain numbers without a unit"),
        (lambda: Fixation(np.ones((2, 3)) * mV), "Fixation.stimulus: expected plain numbers without a unit"),
        (lambda: Simulation(mlp(12, [9]), "clapp++gap").clamp("V1", 5 * mV), "clamp.'V1'.: expected plain numbers without"),
        (lambda: Simulation(mlp(12, [9]), "clapp++gap").stimulate("V1", 5 * mV), "stimulate.'V1'.: expected plain numbers"),
        (lambda: Simulation(mlp(12, [9]), "clapp++gap").at(5 * mV), "at: expected a time such as"),
        (lambda: Simulation(mlp(12, [9]), "clapp++gap").respond(load_images("digits")), "for an image set default_views"),
        (lambda: setattr(Synapses(), "lr", 0.5), r"use synapses.set\(lr=...\)"),
    ],
)
def test_mistakes_are_named(mistake: Any, says: str) -> None:
    with pytest.raises(NeurosslError, match=says):
        mistake()


@pytest.mark.parametrize(
    ("function", "units", "says"),
    [
        (lambda now: 0.5, {}, r"must return \{name: \{variable: value\}\}"),
        (lambda now: {"V1": 0.5}, {}, r"must return \{name: \{variable: value\}\}"),
        (lambda now: {"V1": {"rate": 0.5}}, {"rats": "Hz"}, "'rats' is described, but records are rate"),
    ],
)
def test_mistakes_of_a_recorder_are_named(function: Any, units: dict[str, str], says: str) -> None:
    circuit = dense_circuit(None)
    recorder = Recorder(function, kind="own", units=units)
    simulation = Simulation(circuit.network, "clapp++gap", dtype="float64", store=MemoryStore(), recorders=recorder)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=says):
        simulation.run(full_moment(circuit))


def test_a_pattern_that_was_a_mistake_can_be_taken_back() -> None:
    synapses = Synapses()
    synapses.set("V9->*", lr=0.1)
    synapses.set("V9->*")
    Simulation(mlp(6, [4]), "clapp++gap", synapses, checkpoints=Checkpointer(path="nowhere"))


def test_a_stream_that_says_nothing_of_itself_is_stored_by_its_kind_and_name_not_by_its_address(tmp_path: Path) -> None:
    def first_look():  # type: ignore[no-untyped-def]
        yield from stream(2)

    said = {}
    for number, given in enumerate((first_look(), list(first_look()), filter(None, first_look()))):
        with TrajectoryWriter(tmp_path / str(number)) as store:
            Simulation(mlp((1, 16, 16), [5, 4]), "clapp++gap", store=store, device="cpu").run(given)
        said[number] = manifest(tmp_path / str(number))["stream"]
    assert said[0].startswith("generator")
    assert "first_look" in said[0]
    assert said[1] == "list of 2 moments"
    assert not any("0x" in words for words in said.values())
