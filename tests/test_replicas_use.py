"""Replicas between and within runs: each is a simulation as any other, and what is done to one of them is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MemoryStore, clones, same

from neurossl import Checkpointer, Moment, Neuromodulation, Simulation, Synapses, mlp
from neurossl.errors import OptionError
from neurossl.recorders import SignalRecorder
from neurossl.replicas import Replicas
from neurossl.stimuli import ViewPairs, load_images


def pairs(moments: int, seed: int) -> ViewPairs:
    return ViewPairs(load_images("digits"), observers=8, moments=moments, seed=seed)


def both(rule: str = "clapp++gap", **options: Any) -> list[Simulation]:
    return [
        Simulation(
            mlp((1, 16, 16), [16, 12]), rule, Synapses(**{"lr": 1e-2, **options}), seed=seed, device="cpu", dtype="float64"
        )
        for seed in (0, 1)
    ]


def one_by_one(made: Sequence[Simulation], moments: int, offset: int = 0) -> None:
    for seed, simulation in enumerate(made):
        simulation.run(pairs(moments, seed + offset))


def joined(made: Sequence[Simulation], moments: int, offset: int = 0) -> None:
    Replicas(made).run([pairs(moments, seed + offset) for seed in range(len(made))])


def differ(one: Sequence[Simulation], other: Sequence[Simulation]) -> float:
    found = [a.state().tensors for a in one], [b.state().tensors for b in other]
    assert all(a.keys() == b.keys() for a, b in zip(*found, strict=True))
    return max(float((a[name] - b[name]).abs().max()) for a, b in zip(*found, strict=True) for name in a)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("order", ["sj", "js", "jj", "sjs"])
def test_joined_and_alone_in_any_order_is_the_same_state(order: str, optimizer: str) -> None:
    mixed, plain = both(optimizer=optimizer, momentum=0.5), both(optimizer=optimizer, momentum=0.5)
    for number, how in enumerate(order):
        (joined if how == "j" else one_by_one)(mixed, 4, 10 * number)
        one_by_one(plain, 4, 10 * number)
    assert differ(mixed, plain) < 1e-8
    again = both(optimizer=optimizer, momentum=0.5)
    for simulation, other in zip(again, mixed, strict=True):
        simulation.restore(other.state())
    joined(again, 3, 50)
    one_by_one(plain, 3, 50)
    assert differ(again, plain) < 1e-8


def test_options_that_change_between_or_within_runs_hold() -> None:
    synapses, plain = Synapses(lr=1e-2), both()
    made = [Simulation(mlp((1, 16, 16), [16, 12]), "clapp++gap", synapses, seed=seed, device="cpu") for seed in (0, 1)]
    together = Replicas(made)
    together.run([pairs(3, seed) for seed in (0, 1)])
    one_by_one(plain, 3)
    synapses.set(lr=0.0)
    before = [clones(s.weights) for s in made]
    together.run([pairs(3, seed) for seed in (0, 1)])
    assert all(same(clones(s.weights)[name], w) for s, kept in zip(made, before, strict=True) for name, w in kept.items())
    assert "synapses" in {entry["what"] for entry in made[0].interventions}


@pytest.mark.parametrize("act", ["silence", "freeze", "lesion", "at"])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_done_to_one_of_them_is_refused_once_they_are_joined(act: str, which: int) -> None:
    made = both()
    together = Replicas(made)
    if act == "at":
        made[which].at(0.0)(lambda simulation: None)
    else:
        getattr(made[which], act)("V1" if act == "silence" else "V1->V2")
    with pytest.raises(OptionError, match=r"interventions .* are of one simulation"):
        together.run([pairs(2, seed) for seed in (0, 1)])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_one_without_a_neuromodulator_stands_still_with_all_that_its_optimiser_remembers(optimizer: str) -> None:
    made, plain = both(optimizer=optimizer), both(optimizer=optimizer)

    def stream(seed: int) -> list[Moment]:
        shut = torch.zeros(16, dtype=torch.float64)
        return [m.with_events(Neuromodulation(shut)) if seed == 1 and n % 2 else m for n, m in enumerate(pairs(6, seed))]

    Replicas(made).run([stream(0), stream(1)])
    for seed, simulation in enumerate(plain):
        simulation.run(stream(seed))
    assert differ(made, plain) < 1e-8


def test_they_are_computed_exactly_under_autocast_and_write_checkpoints(tmp_path: Path) -> None:
    made, plain = both(), both()
    for seed, simulation in enumerate(made):
        simulation.checkpoints = Checkpointer(every=2, path=tmp_path / str(seed))
    with torch.autocast("cpu"):
        joined(made, 5)
    one_by_one(plain, 5)
    assert differ(made, plain) < 1e-8
    gone_on = Simulation.from_checkpoint(tmp_path / "1", moment=4, device="cpu")
    gone_on.run(pairs(5, 1))
    assert differ([gone_on], [plain[1]]) < 1e-8


def test_what_is_no_list_of_simulations_is_refused() -> None:
    for given in (3, both()[0], ["a"]):
        with pytest.raises(OptionError, match="expected a list of simulations"):
            Replicas(given)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="SignalRecorder"):
        Replicas([Simulation(mlp(8, [4]), "clapp++gap", store=MemoryStore(), recorders=[SignalRecorder(["score"], 1)])])
    Replicas(both()).run((pairs(2, seed) for seed in (0, 1)), report="text")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_single_steps_between_joined_ones_count_for_whoever_takes_them(optimizer: str) -> None:
    made, plain = both(optimizer=optimizer, momentum=0.5), both(optimizer=optimizer, momentum=0.5)
    together, streams = Replicas(made), [list(pairs(8, seed)) for seed in (0, 1)]
    for number in range(6):
        moments = [stream[number] for stream in streams]
        together.step(moments)
        for simulation, moment in zip(plain, moments, strict=True):
            simulation.step(moment)
        if number == 3:
            made[0].step(streams[0][7])
            plain[0].step(streams[0][7])
        assert differ(made, plain) < 1e-8
