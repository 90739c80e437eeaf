"""What a cosine with backprop is measured against: nothing changes, events stay whole, what cannot be measured is said."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, dense_circuit, drawn, full_moment, map_circuit, same, simulated, stimulus_of
from measuring import labels_of, negatives_of, partner_of, recorded
from torch import Tensor

from analysis import (
    TrajectoryWriter,
    alignment_over_training,
    corrected_cosine,
    efficiency,
    open_trajectory,
)
from neurossl import Circuit, Replicas, Simulation, mlp
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade
from neurossl.plasticity import Credit, Rule, make_rule
from neurossl.recorders import MEASURES, AlignmentMeasures, Recorder, UpdateRecorder
from neurossl.recorders.hearing import hear
from neurossl.recorders.rows import activity_of, halves, moment_of, observers_of, some_observers
from neurossl.repeats import repeat_updates
from neurossl.stimuli import ImageSet, ViewPairs
from neurossl.stimuli.pairs import negative_rows, partner_rows

RULES = [
    "clapp++gap",
    "clapp-dfb",
    "clapp++both",
    "infonce-local",
    "dfa",
    "fa-clapp",
    "pc",
    "ipc",
    "ff",
    "phyll",
    "scff",
    "bp",
]


# Nothing is changed


@pytest.mark.parametrize("rule", RULES)
def test_it_changes_nothing(rule: str) -> None:
    def final(recorders: Sequence[Recorder] = (), store: MemoryStore | None = None) -> dict[str, list[Tensor]]:
        made = make_rule(rule)
        circuit = map_circuit(4 if "target" in made.needs else None, normalisation=made.normalisation)
        simulation = simulated(circuit, made, seed=3, dtype="float32", store=store, recorders=recorders)
        return clones(simulation.run([full_moment(circuit, seed=number) for number in range(3)]).weights)

    store = MemoryStore()
    reference = rule if rule.startswith("bp") else None
    with_recorder, without = final([AlignmentMeasures(1, reference, directions=4, rows=2)], store), final()
    variables = {variable for kind in MEASURES.values() for variable in kind}
    assert all(set(values) == variables for *_, values in store.records)
    assert len(store.records) >= 9
    assert all(same(with_recorder[name], weights) for name, weights in without.items())


def test_the_same_seed_records_the_same_and_another_does_not() -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(3)]

    def values(seed: int) -> Any:
        return [record[-1] for record in recorded(circuit, "clapp++gap", moments, seed, rows=2, directions=4)[0].records]

    assert same(values(1), values(1))
    assert not same(values(1), values(2))


def test_a_run_that_is_resumed_records_what_it_would_have_recorded() -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(4)]

    def made(store: MemoryStore) -> Simulation:
        return simulated(circuit, "clapp++gap", store=store, recorders=[AlignmentMeasures(1, rows=2, directions=4)])

    whole, first, second = MemoryStore(), MemoryStore(), MemoryStore()
    made(whole).run(moments)
    begun = made(first)
    for moment in moments[:2]:
        begun.step(moment)
    goes_on = made(second)
    goes_on.start()
    goes_on.restore(begun.state())
    for moment in moments[2:]:
        goes_on.step(moment)
    assert same([r[-1] for r in whole.records if r[2] > 2], [r[-1] for r in second.records])


# Some observers of a moment


def test_halves_keep_pairs_and_events_together() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit, rows=14, negatives=3)
    moment = moment.with_events(Neuromodulation(torch.rand(14), torch.rand(14)))
    parts = halves(moment, torch.Generator().manual_seed(1))
    assert [len(part) for part in parts] == [6, 6], "of seven observers one is left out"
    assert not set(parts[0].tolist()) & set(parts[1].tolist())
    for rows in parts:
        some = moment_of(moment, rows)
        some.check()
        assert some.observers == 3
        assert torch.equal(stimulus_of(some), stimulus_of(moment)[rows])
        assert torch.equal(rows[partner_of(some)], partner_of(moment)[rows])
        assert torch.equal(labels_of(some), labels_of(moment)[rows])
        assert torch.equal(some.require(Phase, "test").sign, moment.require(Phase, "test").sign[rows])
        gains, kept = some.require(Neuromodulation, "test"), moment.require(Neuromodulation, "test")
        assert torch.equal(gains.gain, kept.gain[rows])
        assert torch.equal(gains.saccade_gain, kept.saccade_gain[rows])
        stays = torch.isin(negatives_of(moment)[:, rows], rows)
        assert torch.equal(rows[negatives_of(some)][stays], negatives_of(moment)[:, rows][stays]), "within: as they were"
        owners = observers_of(moment)[rows]
        assert (owners[negatives_of(some)] != owners)[~stays].all(), "never the own object"


@pytest.mark.parametrize("observers", [4, 9, 32])
def test_where_every_row_is_landed_on_once_it_is_in_every_half(observers: int) -> None:
    rows = 2 * observers
    moment = Moment(Fixation(torch.randn(rows, 3), partner_rows(rows)), Saccade(negative_rows(rows, 1, None)))
    for half in halves(moment, torch.Generator().manual_seed(observers)):
        landed = negatives_of(moment_of(moment, half))[0]
        owners = observers_of(moment)[half]
        assert (owners[landed] != owners).all()
        counts = torch.bincount(landed, minlength=len(half))
        assert counts.max() <= 2
        assert (counts == 1).double().mean() > 0.7


def test_rows_without_partners_are_joined_by_what_the_moment_says() -> None:
    stimulus = torch.randn(6, 3)
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1])
    assert observers_of(Moment(Fixation(stimulus), observers=3)).tolist() == [0, 1, 2, 0, 1, 2]
    assert observers_of(Moment(Fixation(stimulus), Phase(signs))).tolist() == [0, 0, 1, 1, 2, 2]
    assert observers_of(Moment(Fixation(stimulus))).tolist() == list(range(6))
    ring = torch.tensor([1, 2, 0, 4, 3, 5])
    assert observers_of(Moment(Fixation(stimulus, ring))).tolist() == [0, 0, 0, 1, 1, 2]
    chosen = some_observers(Moment(Fixation(stimulus, ring)), 2, torch.Generator())
    assert len(observers_of(Moment(Fixation(stimulus, ring)))[chosen].unique()) == 2
    assert len(some_observers(Moment(Fixation(stimulus, ring)), 99, torch.Generator())) == 6


def test_what_cannot_be_halved_is_refused_by_name() -> None:
    moment = full_moment(dense_circuit(), rows=6)
    with pytest.raises(EventError, match="expected at least 4 observers, got 3"):
        halves(moment, torch.Generator())
    with pytest.raises(EventError, match="the partner of one of them is left out"):
        moment_of(moment, torch.tensor([0, 1]))
    with pytest.raises(EventError, match="no other observer is left"):
        moment_of(moment.with_events(Saccade(torch.tensor([[1, 0, 0, 4, 3, 3]]))), torch.tensor([0, 3]))


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_the_activity_of_some_rows_is_what_they_evoke_alone(make: Callable[..., Circuit]) -> None:
    circuit = make(4)
    moment = full_moment(circuit)
    rows = torch.tensor([1, 4, 6, 9])
    some, alone = activity_of(circuit.sweep(stimulus_of(moment)), rows), circuit.sweep(stimulus_of(moment)[rows])
    for name in circuit.network.order:
        assert torch.allclose(some[name], alone[name], atol=1e-14)
    part = moment_of(moment, rows)
    one, other = (hear(make_rule("pc"), activity, part).updates for activity in (some, alone))
    assert all(torch.allclose(one[name].weight, other[name].weight, atol=1e-14) for name in circuit.network.feedforward)


# In use


def test_from_a_run_to_its_analysis(tmp_path: Path) -> None:
    circuit = dense_circuit(None)
    with TrajectoryWriter(tmp_path / "run") as store:
        recorders = [UpdateRecorder(1), AlignmentMeasures(2, rows=2, directions=4)]
        simulated(circuit, "clapp++gap", store=store, recorders=recorders).run(
            [full_moment(circuit, seed=k) for k in range(6)]
        )
    measures = alignment_over_training(open_trajectory(tmp_path / "run"))
    for kind in MEASURES.values():
        for name in kind:
            assert measures[name].notnull().any("pathway").values.tolist()[1::2] == [True] * 3, name
            assert "long_name" in measures[name].attrs
    assert measures["by_construction"].values.tolist() == [False, True]
    found = efficiency(measures)
    assert set(found) == {"efficiency", "joint_efficiency", "heldout_efficiency", "heldout_joint_efficiency"}
    top = found["efficiency"].sel(pathway="V1->V2").dropna("event")
    assert np.allclose(top, 1, atol=1e-3), "the top steps as its reference does"
    assert corrected_cosine(measures).dims == ("pathway",)


def test_replicas_record_what_each_does_alone(digits: ImageSet) -> None:
    def made(seed: int, store: MemoryStore) -> Simulation:
        options: dict[str, Any] = {"seed": seed, "dtype": "float64", "device": "cpu", "store": store}
        recorders = [AlignmentMeasures(1, rows=2, directions=4)]
        return Simulation(mlp(256, [10, 8]), "clapp++gap", recorders=recorders, **options)

    def stream(seed: int) -> ViewPairs:
        return ViewPairs(digits, observers=8, moments=3, seed=seed)

    together, alone = [MemoryStore(), MemoryStore()], [MemoryStore(), MemoryStore()]
    Replicas([made(seed, together[seed]) for seed in (0, 1)]).run([stream(0), stream(1)])
    for seed in (0, 1):
        made(seed, alone[seed]).run(stream(seed))
        for one, other in zip(together[seed].records, alone[seed].records, strict=True):
            assert one[:3] == other[:3]
            for key, value in one[-1].items():
                assert value == pytest.approx(other[-1][key], abs=1e-6, nan_ok=True), key


class Averaging(Rule):
    """Remembers the mean activity of every neuron, and of every observer."""

    state = {"mean": "population", "last": "rows"}

    def credit_at(self, site: Any, moment: Moment) -> Credit:
        old, last = site.state["mean"], site.state["last"]
        return Credit(site.activity - old - last, state={"mean": 0.5 * old + site.activity.mean(0), "last": site.activity})


def test_a_rule_that_remembers_is_heard_with_its_memory_and_refused_where_it_is_elsewhere(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(3)]
    recorder = AlignmentMeasures(1, "bp-clapp++", measures=["ceiling", "credit"])
    simulation = simulated(circuit, Averaging(), store=store, recorders=[recorder])
    simulation.run(moments)
    assert all(math.isfinite(v["self_ceiling"]) for v in store.of("alignment", "V1->V2").values())
    several = [
        simulated(
            circuit, Averaging(), store=MemoryStore(), recorders=[AlignmentMeasures(1, "bp-clapp++", measures="credit")]
        )
        for _ in range(2)
    ]
    with pytest.raises(OptionError, match="remembers what cannot be seen here"):
        Replicas(several).run([moments, moments])


def test_products_in_bfloat16_are_measured_too(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    recorders = [AlignmentMeasures(1, rows=2, directions=8)]
    simulation = Simulation(
        circuit.network, "clapp++gap", device="cpu", products="bfloat16", store=store, recorders=recorders
    )
    simulation.run([full_moment(circuit)])
    values = store.of("alignment", "V1->V2")[1]
    assert values["reference_perturbation_correlation"] > 0.98
    assert values["credit_cosine"] == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_measured_is_refused_by_name(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    for wrong, message in (
        (
            {"measures": ["ceilings"]},
            "expected some of ceiling, baselines, credit, descent, perturbation, got ceilings",
        ),
        ({"measures": []}, "got none"),
        ({"step": 0}, "step must be a number > 0, or several, got 0"),
        ({"step": [1e-3, math.nan]}, "step must be a number > 0"),
        ({"heldout": iter([])}, "expected a moment, a list of moments or a stream"),
        ({"heldout": []}, "expected a moment"),
        ({"directions": 2}, "directions: expected a whole number >= 3"),
        ({"rows": 0}, "rows: expected a whole number >= 1"),
        ({"reference": "bb"}, "rule 'bb' does not exist"),
    ):
        with pytest.raises(OptionError, match=message):
            AlignmentMeasures(1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="rule 'bp' has no backprop reference: give it one"):
        simulated(circuit, "bp", store=store, recorders=[AlignmentMeasures(1)])
    with pytest.raises(EventError, match="waits for a Teaching event"):
        recorded(dense_circuit(4), "dfa", [full_moment(circuit)], heldout=Moment(Fixation(torch.randn(4, 12))))
    recorder = AlignmentMeasures(1)
    one = simulated(circuit, "clapp++gap", store=store, recorders=[recorder])
    with pytest.raises(OptionError, match="records another simulation already"):
        simulated(circuit, "clapp++gap", store=MemoryStore(), recorders=[recorder])
    one.remove_recorder(recorder)
    again = MemoryStore()
    simulated(circuit, "clapp++gap", store=again, recorders=[recorder]).run([full_moment(circuit)])
    assert again.records


def test_nothing_is_said_where_all_can_be_measured() -> None:
    circuit = drawn(mlp(12, [9, 7], None, "relu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded(circuit, "clapp++gap", [full_moment(circuit, rows=16)], rows=2, directions=4)


# Repeats


def test_repeats_ask_again_without_learning() -> None:
    circuit = dense_circuit(4)
    simulation = simulated(circuit, "dfa")
    moments = [full_moment(circuit, seed=number) for number in range(3)]
    before, where = clones(simulation.weights), simulation.generators.state()
    found = repeat_updates(simulation, moments, 5)
    assert same(before, clones(simulation.weights))
    assert same(where, simulation.generators.state())
    assert simulation.moment == 0
    updates = found["V1->V2"]
    assert updates["update"].dims == ("repeat", "post", "pre")
    assert updates["update"].shape == (5, 7, 9)
    assert np.array_equal(updates["update"][0], updates["update"][3]), "from the beginning once more"
    expected = hear(make_rule("bp"), simulation.circuit.sweep(stimulus_of(moments[1])), moments[1]).updates["V1->V2"].weight
    assert np.allclose(updates["reference_update"][1], expected, atol=1e-15)
    assert len(repeat_updates(simulation, iter(moments))["V1->V2"]["repeat"]) == 3
    assert set(repeat_updates(simulated(circuit, "bp"), moments[0])["V1->V2"].data_vars) == {"update"}
    with pytest.raises(OptionError, match="the stream yields nothing"):
        repeat_updates(simulation, [])
    with pytest.raises(OptionError, match="needs 'readout=>readout', which the simulation lacks"):
        repeat_updates(simulation, moments, reference="bp-clapp++")


def test_a_single_moment_again_and_again_shows_what_the_rule_draws() -> None:
    class Noisy(Rule):
        """Perturbs its nodes."""

        def credit_at(self, site: Any, moment: Moment) -> Tensor:
            return torch.randn(site.activity.shape, generator=site.generator("noise"), dtype=site.activity.dtype)

    circuit = dense_circuit(None)
    simulation = simulated(circuit, Noisy())
    updates = repeat_updates(simulation, full_moment(circuit), 4)["V1->V2"]["update"]
    assert len({values.tobytes() for values in updates.values}) == 4
    assert same(repeat_updates(simulation, full_moment(circuit), 4)["V1->V2"]["update"].values, updates.values)
