"""Recorders: what they store, that they change nothing, that they come and go between runs, and refuse to store nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, dense_circuit, full_moment, map_circuit, same, simulated
from torch import Tensor

from analysis import TrajectoryWriter, describe, manifest, open_trajectory
from neurossl import Circuit, Simulation, mlp
from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.recorders import (
    ActivityRecorder,
    NeuronRecorder,
    Observation,
    PerformanceRecorder,
    Recorder,
    ResponseRecorder,
    SignalRecorder,
    UpdateRecorder,
    WeightRecorder,
)


def moments(circuit: Circuit, count: int = 6, **options: Any) -> list[Moment]:
    return [full_moment(circuit, seed=number, **options) for number in range(count)]


def mean_rate(now: Observation) -> dict[str, dict[str, Any]]:
    return {"V1": {"rate": now.seen["V1"].mean(), "by_neuron": now.seen["V1"].flatten(1).mean(0)}}


RECORDERS: dict[str, Callable[[], Recorder]] = {
    "weights": lambda: WeightRecorder(2),
    "some weights": lambda: WeightRecorder(1, index=5),
    "updates": lambda: UpdateRecorder(1, keep=True, index=4),
    "activity": lambda: ActivityRecorder(1),
    "performance": lambda: PerformanceRecorder(1, lambda now: {"V1": {"probe_accuracy": 0.5}}, probe_every=2),
    "neurons": lambda: NeuronRecorder({"V1": 3}, 1),
    "responses": lambda: ResponseRecorder(np.ones((3, 2, 9, 9)), 1, neurons=4),
    "own": lambda: Recorder(mean_rate, kind="rates"),
}


@pytest.mark.parametrize("rule", ["clapp++gap", "clapp-dfb", "dfa", "pc", "ipc", "ff", "bp"])
@pytest.mark.parametrize("recorder", RECORDERS)
def test_a_recorder_changes_nothing(rule: str, recorder: str) -> None:
    def final(recorders: Sequence[Recorder] = (), store: MemoryStore | None = None) -> dict[str, list[Tensor]]:
        made = make_rule(rule)
        circuit = map_circuit(4 if "target" in made.needs else None, normalisation=made.normalisation)
        simulation = simulated(circuit, made, seed=3, dtype="float32", store=store, recorders=recorders)
        return clones(simulation.run(moments(circuit, 4)).weights)

    store = MemoryStore()
    with_recorder, without = final([RECORDERS[recorder]()], store), final()
    assert store.records
    assert all(same(with_recorder[name], weights) for name, weights in without.items())


def test_the_same_seed_twice_is_identical_and_another_is_not() -> None:
    def run(seed: int) -> tuple[Any, Any]:
        store = MemoryStore()
        recorders = [RECORDERS[name]() for name in ("updates", "activity", "performance", "neurons")]
        recorders.append(WeightRecorder(2, index=7))
        simulation = Simulation(mlp(12, [9, 7]), "clapp++gap", seed=seed, device="cpu", store=store, recorders=recorders)
        simulation.run(moments(dense_circuit(None)))
        return clones(simulation.weights), [record[-1] for record in store.records]

    assert same(run(1), run(1))
    assert not same(run(1)[0], run(2)[0])


def test_weights_are_recorded_at_the_start_after_updates_and_at_the_end(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    start = clones(circuit.weights)
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[WeightRecorder(2)])
    simulation.run(moments(circuit, 5))
    stored = store.of("weights", "V1->V2")
    assert list(stored) == [0, 2, 4, 5]
    assert np.array_equal(stored[0]["weight"], start["V1->V2"][0].numpy())
    assert np.array_equal(stored[5]["weight"], simulation.weights["V1->V2"].weight.numpy())
    assert store.dims("weights", "V1->V2") == {"weight": ("post", "pre"), "bias": ("post",)}
    times = {event: (time, seen) for kind, name, event, time, seen, _ in store.records}
    assert times[4] == (pytest.approx(1.0), 20)


def test_chosen_synapses_are_those_of_the_full_record() -> None:
    def stored(**options: Any) -> MemoryStore:
        store, circuit = MemoryStore(), map_circuit()
        simulated(circuit, "clapp++gap", store=store, recorders=[WeightRecorder(1, **options)]).run(moments(circuit, 2))
        return store

    full = stored()
    some = stored(index={"V1->V2": [3, 17, 80], "V2->V3": 6}, pathways=["V1->V2", "V2->V3"])
    for name in ("V1->V2", "V2->V3"):
        coords = some.declared["weights", name][1]
        assert some.dims("weights", name)["weight"] == ("synapse",)
        place = tuple(coords[axis][1] for axis in ("post", "pre", "ky", "kx"))
        for event, values in some.of("weights", name).items():
            assert np.array_equal(values["weight"], full.of("weights", name)[event]["weight"][place])
    with pytest.raises(OptionError, match=r"expected whole numbers from 0 to"):
        stored(index=[10**6])
    with pytest.raises(OptionError, match="no pathway 'V9->V10'"):
        stored(pathways=["V9->V10"])
    with pytest.raises(OptionError, match=r"every .*expected a whole number >= 1, got 0"):
        WeightRecorder(0)


def test_alignment_of_backprop_with_itself_is_perfect(store: MemoryStore) -> None:
    circuit = map_circuit(4)
    recorder = UpdateRecorder(1, reference="bp", keep=True)
    simulated(circuit, "bp", Synapses(lr=1e-3), store=store, recorders=[recorder]).run(moments(circuit, 3))
    for name in circuit.network.feedforward:
        for values in store.of("alignment", name).values():
            assert values["cosine"] == pytest.approx(1, abs=1e-12)
            assert values["relative_error"] < 1e-12
            assert values["sign_agreement"] == 1
            assert values["loss_decrease"] > 0
            assert values["trustworthy"]
        stored = store.of("updates", name)[2]
        assert np.array_equal(stored["update"], stored["reference_update"])


def test_losses_and_activity_are_recorded(store: MemoryStore) -> None:
    circuit = dense_circuit(None, "relu")
    recorders = [PerformanceRecorder(2), ActivityRecorder(2)]
    simulated(circuit, "clapp++gap", Synapses(lr=1e-2), store=store, recorders=recorders).run([full_moment(circuit)] * 40)
    losses = [v["loss"] for v in store.of("performance", "V1").values()]
    assert losses[-1] < losses[0]
    last = store.of("activity", "V2")[40]
    assert 0 <= last["sparseness"] <= 1
    assert 1 <= last["effective_rank"] <= 7


def test_the_active_fraction_is_that_of_the_rows_whose_neuromodulator_is_open(store: MemoryStore) -> None:
    circuit = dense_circuit(None, "relu")
    moment = full_moment(circuit, rows=10, negatives=2)
    gain = torch.zeros(10)
    gain[3] = 1
    rule = make_rule("clapp++gap", contrast="softplus")
    simulation = simulated(circuit, rule, store=store, recorders=[ActivityRecorder(1)])
    simulation.run([moment, moment.with_events(Neuromodulation(gain))])
    partner, jumps = moment.require(Fixation, "test").partner, moment.require(Saccade, "test").negatives
    targets = {int(partner[3]), *jumps[:, 3].tolist()}
    for population in ("V1", "V2"):
        found = store.of("activity", population)
        assert found[1]["active_fraction"] == 1, "the softplus has no margin beyond which it is silent"
        assert found[2]["active_fraction"] == pytest.approx(len(targets) / 10)


def test_the_active_fraction_falls_when_scores_pass_the_margin(store: MemoryStore) -> None:
    circuit = dense_circuit(None, "relu")
    simulation = simulated(circuit, "clapp++gap", Synapses(lr=3e-2), store=store, recorders=[ActivityRecorder(20)])
    simulation.run([full_moment(circuit)] * 200)
    found = store.of("activity", "V2")
    assert found[20]["active_fraction"] > found[200]["active_fraction"]


def test_a_recorder_of_ones_own_declares_what_it_is(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    recorder = Recorder(mean_rate, kind="rates", every=2, units={"rate": "Hz"}, dims={"by_neuron": ("neuron",)})
    simulated(circuit, "clapp++gap", store=store, recorders=[recorder]).run(moments(circuit, 4))
    variables, _ = store.declared["rates", "V1"]
    assert (variables["rate"].units, variables["rate"].dims) == ("Hz", ())
    assert variables["by_neuron"].dims == ("neuron",)
    assert list(store.of("rates", "V1")) == [2, 4]
    assert store.of("rates", "V1")[2]["by_neuron"].shape == (9,)


def test_inner_signals_of_a_rule_are_recorded_by_name(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    recorder = SignalRecorder(["gamma", "score"], every=1)
    simulated(circuit, "clapp++gap", store=store, recorders=[recorder]).run(moments(circuit, 2))
    kinds = {(kind, name) for kind, name, *_ in store.records}
    assert len({name for _, name in kinds}) == 2, "both populations"
    assert all(np.isfinite(value).all() for *_, values in store.records for value in values.values())


def test_recorders_are_added_and_removed_between_runs(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    first, late = WeightRecorder(1), ActivityRecorder(1)
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[first])
    simulation.run(moments(circuit, 2))
    simulation.add_recorder(late)
    simulation.run(moments(circuit, 2))
    simulation.remove_recorder(first)
    simulation.run(moments(circuit, 2))
    assert list(store.of("weights", "V1->V2")) == [0, 1, 2, 3, 4]
    assert list(store.of("activity", "V1")) == [3, 4, 5, 6]
    with pytest.raises(OptionError, match="none of this simulation's recorders"):
        simulation.remove_recorder(first)
    with pytest.raises(OptionError, match="is there twice"):
        simulation.add_recorder(late)
    with pytest.raises(OptionError, match="records another simulation already"):
        simulated(circuit, "clapp++gap", store=MemoryStore(), recorders=[late])
    with pytest.raises(OptionError, match="needs pathways that were not there"):
        simulation.add_recorder(UpdateRecorder(1, reference="bp-infonce"))


def test_a_list_of_recorders_cannot_be_changed_past_the_simulation(store: MemoryStore) -> None:
    """What is appended to a list that is only looked at would record nothing, without a word."""
    circuit = dense_circuit(None)
    mine: list[Recorder] = [WeightRecorder(1)]
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=mine)
    late = ActivityRecorder(1)
    with pytest.raises(AttributeError):
        simulation.recorders.append(late)  # type: ignore[attr-defined]
    assert late not in simulation.recorders


def test_a_recorder_that_would_store_nothing_says_so(store: MemoryStore) -> None:
    class Hebb(Rule):
        """Has no objective, and so no reference."""

        name = "hebb"

        def credit_at(self, site: Any, moment: Moment) -> Tensor:
            return site.activity

    circuit = dense_circuit(None)
    with pytest.raises(OptionError, match="has nowhere to record to: give the simulation store="):
        simulated(circuit, "clapp++gap", recorders=[WeightRecorder(1)])
    with pytest.raises(OptionError, match=r"would store nothing: rule 'hebb' has no backprop reference"):
        simulated(circuit, Hebb(), store=store, recorders=[UpdateRecorder(1)])
    frozen = dense_circuit(None, plastic=False)
    with pytest.raises(OptionError, match="WeightRecorder would store nothing: no pathway is plastic"):
        simulated(frozen, Hebb(), store=store, recorders=[WeightRecorder(1)]).run(moments(frozen, 1))
    with pytest.raises(OptionError, match="would record nothing: name a population"):
        NeuronRecorder({}, 1)
    for wrong in ("weights", None, WeightRecorder):
        with pytest.raises(OptionError, match="expected recorders such as"):
            simulated(circuit, "clapp++gap", store=store, recorders=[wrong])


class Endless(Sequence[Moment]):
    """A stream that would go on for ten billion moments."""

    def __len__(self) -> int:
        return 10**10

    def __getitem__(self, number: Any) -> Any:
        raise AssertionError("nothing is to be learned")


LARGE: dict[str, Callable[[], Recorder]] = {
    "weights": lambda: WeightRecorder(1),
    "some weights": lambda: WeightRecorder(1, index=400),
    "updates": lambda: UpdateRecorder(1, keep=True),
    "some updates": lambda: UpdateRecorder(1, keep=True, index=300),
    "responses": lambda: ResponseRecorder(np.ones((30, 40)), 1),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_the_disk_has_no_room_for_is_refused_before_anything_is_learned(tmp_path: Path, what: str) -> None:
    with TrajectoryWriter(tmp_path / "run") as store:
        simulation = Simulation(mlp(40, [30]), "clapp++gap", device="cpu", store=store, recorders=[LARGE[what]()])
        with pytest.raises(OptionError, match=r"would take [0-9,.]+ GB in .*free: record less often"):
            simulation.run(Endless())
        assert simulation.moment == 0


def test_the_expected_size_is_what_is_stored(tmp_path: Path) -> None:
    circuit = dense_circuit(None)
    with TrajectoryWriter(tmp_path / "run") as store:
        recorders = [WeightRecorder(2), UpdateRecorder(1, keep=True, index=20)]
        simulation = Simulation(mlp(12, [90, 70]), "clapp++gap", device="cpu", store=store, recorders=recorders)
        simulation.run(moments(circuit, 40))
    about = manifest(tmp_path / "run")
    tree = open_trajectory(tmp_path / "run")
    leaves = [leaf for leaf in tree.subtree if leaf.path.startswith(("/weights", "/updates"))]
    arrays = [leaf[name] for leaf in leaves for name in leaf.data_vars]
    values = sum(array.nbytes for array in arrays if array.name != "bias")
    assert 1.0 <= about["expected_bytes"] / values < 1.1
    assert about["stored_bytes"] > values
    assert f"stored     {about['stored_bytes'] / 1e6:.1f} MB" in describe(tmp_path / "run")
