"""Replicas: several seeds along one axis learn what each of them learns alone."""

import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, full_moment, same

from neurossl import Network, Simulation, Synapses, convolutional, mlp
from neurossl.errors import DivergenceError, EventError, OptionError
from neurossl.events import Moment, Teaching
from neurossl.plasticity import make_rule
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.replicas import Replicas

JOINABLE = [
    "clapp++gap",
    "clapp-dfb",
    "clapp++",
    "clapp++both",
    "ff",
    "phyll",
    "dfa",
    "fa",
    "pc",
    "pc-fixed",
    "bp",
    "bp-clapp++",
]
JOINABLE += ["bp-infonce", "infonce-local", "barlow-local", "bp-barlow", "vicreg-local", "lpl", "rpl", "mono-forward"]
JOINABLE += ["softhebb", "bp-infonce-held", "bp-clapp++spatial"]
FEEL_NO_SHIFT = {"barlow-local", "bp-barlow", "vicreg-local", "lpl"}
JOINABLE += ["fa-sign", "fa-kp", "dual-prop", "epc", "dfa-pc", "blocks-clapp"]


def network_for(rule: str, kind: str) -> Network:
    classes, normalisation = 4 if "target" in make_rule(rule).needs else None, make_rule(rule).normalisation
    if kind == "maps":
        return convolutional((2, 9, 9), [(4, False), (5, True), (3, False)], classes, normalisation=normalisation)
    return mlp(12, [9, 7], classes, "tanh", normalisation=normalisation)


OPTIMISERS: dict[str, dict[str, float]] = {"adamw": {"lr": 1e-2, "weight_decay": 1e-3}, "sgd": {"lr": 0.1, "momentum": 0.9}}


def simulations(
    rule: str, kind: str, count: int = 3, seed: int = 0, optimizer: str = "adamw", **options: object
) -> list[Simulation]:
    made = []
    for own in range(seed, seed + count):
        network = network_for(rule, kind)
        feedback = {"*=>*": {"lr": 3e-2}} if make_rule(rule).wire(network.copy()).feedback else {}
        synapses = Synapses(optimizer, pathways=feedback, **OPTIMISERS[optimizer])  # type: ignore[arg-type]
        made.append(Simulation(network, rule, synapses, seed=own, dtype="float64", check_every=1, **options))  # type: ignore[arg-type]
    return made


def moments(simulation: Simulation, seed: int, count: int = 4) -> list[Moment]:
    return [full_moment(simulation.network, rows=8, seed=100 * seed + i) for i in range(count)]


@pytest.mark.parametrize("kind", ["dense", "maps"])
@pytest.mark.parametrize("rule", JOINABLE)
@pytest.mark.parametrize(("optimizer", "bound"), [("sgd", 1e-12), ("adamw", 1e-9)])
def test_replicas_equal_separate_runs(rule: str, kind: str, optimizer: str, bound: float) -> None:
    """Up to rounding, which AdamW makes larger where a gradient is almost 0.

    As is that of the bias of a unit that is on for all observers, where an objective does not feel what all responses share.
    """
    bound = 1e-6 if optimizer == "adamw" and rule in FEEL_NO_SHIFT else bound
    alone, joined = (simulations(rule, kind, optimizer=optimizer) for _ in range(2))
    for seed, simulation in enumerate(alone):
        simulation.run(moments(simulation, seed))
    Replicas(joined).run([moments(s, seed) for seed, s in enumerate(joined)])
    for one, other in zip(alone, joined, strict=True):
        assert (one.moment, one.time, one.observers_seen) == (other.moment, other.time, other.observers_seen)
        again = clones(other.weights)
        for name, parameters in clones(one.weights).items():
            for parameter, joint in zip(parameters, again[name], strict=True):
                assert torch.allclose(parameter, joint, rtol=bound, atol=bound), name


def test_recorders_see_what_they_see_alone() -> None:
    records = []
    for join in (False, True):
        stores, made = [MemoryStore() for _ in range(2)], []
        for seed, store in enumerate(stores):
            recorders = [WeightRecorder(2), UpdateRecorder(2), ActivityRecorder(1), PerformanceRecorder(2)]
            made += simulations("clapp-dfb", "dense", 1, store=store, recorders=recorders, seed=seed)
        streams = [moments(s, seed) for seed, s in enumerate(made)]
        if join:
            Replicas(made).run(streams)
        else:
            for simulation, stream in zip(made, streams, strict=True):
                simulation.run(stream)
        records.append([store.records for store in stores])
    for separate, joined in zip(*records, strict=True):
        assert [record[:5] for record in separate] == [record[:5] for record in joined]
        for one, other in zip(separate, joined, strict=True):
            for key, value in one[5].items():
                pair = np.asarray(value, dtype=float), np.asarray(other[5][key], dtype=float)
                assert np.allclose(*pair, rtol=1e-6, atol=1e-5 if key == "angle" else 1e-9, equal_nan=True), (one[:3], key)
    assert not same(records[1][0], records[1][1]), "seeds differ"


def test_what_cannot_be_joined_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="differ in their rule"):
        Replicas([*simulations("clapp++gap", "dense", 1), *simulations("clapp-dfb", "dense", 1)])
    with pytest.raises(OptionError, match="differ in their network"):
        Replicas([*simulations("clapp++gap", "dense", 1), *simulations("clapp++gap", "maps", 1)])
    with pytest.raises(OptionError, match="changes its weights while it settles"):
        Replicas(simulations("ipc", "dense"))
    with pytest.raises(OptionError, match="at least one"):
        Replicas([])
    made = simulations("clapp++gap", "dense", 2)
    made[1].at(1.0)(lambda simulation: None)
    with pytest.raises(OptionError, match="interventions"):
        Replicas(made)
    made = simulations("clapp++gap", "dense", 2)
    joined = Replicas(made)
    with pytest.raises(OptionError, match="one stream per simulation"):
        joined.run([[]])
    with pytest.raises(EventError, match="not of one length: one of them ended after 1 moments"):
        joined.run([moments(made[0], 0, 2), moments(made[1], 1, 1)])
    taught = simulations("bp", "dense", 2)
    wrong = [full_moment(s.network, rows=8, classes=4) for s in taught]
    wrong[1] = wrong[1].with_events(Teaching(torch.full((8,), 7)))
    with pytest.raises((EventError, OptionError)):
        Replicas(taught).step(wrong)


def test_a_replica_that_diverges_is_named() -> None:
    made = simulations("clapp++gap", "dense", 3)
    joined = Replicas(made)
    made[2].weights["retina->V1"].weight.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="seed 2"):
        joined.run([moments(s, seed) for seed, s in enumerate(made)])
