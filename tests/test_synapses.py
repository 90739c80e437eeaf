"""Synapses: they follow torch.optim, keep their bounds, hold no state, and change during a run as asked."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import clones, dense_circuit, full_moment, same, simulated
from torch import Tensor

from neurossl import Circuit, Homeostasis, Moment, Parameters, Update, WeightNormalisation
from neurossl.anatomy import Pathway
from neurossl.engine.optimisers import Optimisers
from neurossl.errors import OptionError
from neurossl.events import Neuromodulation
from neurossl.plasticity import Synapses


def moments(circuit: Circuit, count: int = 6) -> list[Moment]:
    return [full_moment(circuit, seed=number) for number in range(count)]


def reference_step(kind: str, weight: Tensor, gradient: Tensor, steps: int) -> Tensor:
    weight = weight.clone().requires_grad_()
    make = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    }
    optimiser = make[kind]([weight])
    for _ in range(steps):
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


OPTIONS: dict[str, dict[str, float]] = {
    "adamw": {"weight_decay": 0.1},
    "adam": {},
    "sgd": {"momentum": 0.9, "weight_decay": 0.1},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_synapses_follow_torch_optim(kind: str) -> None:
    circuit = dense_circuit()
    held = circuit.weights["V1->V2"]
    assert held.bias is not None
    update = Update(torch.randn_like(held.weight), torch.randn_like(held.bias))
    want = reference_step(kind, held.weight, -update.weight, 5)
    optimisers = Optimisers(circuit.network, circuit.weights, Synapses(kind, lr=0.01, **OPTIONS[kind]))  # type: ignore[arg-type]
    for _ in range(5):
        optimisers.change("V1->V2", update)
    assert torch.allclose(held.weight, want, rtol=1e-12, atol=1e-14)


def test_bounds_signs_and_exceptions_per_pathway() -> None:
    circuit = dense_circuit()
    before = clones(circuit.weights)
    synapses = Synapses("sgd", lr=5.0, bounds=(-0.2, 0.3), pathways={"V1->*": {"bounds": "sign"}})
    weights = simulated(circuit, "bp", synapses).run(moments(circuit, 5)).weights
    first = weights["retina->V1"].weight
    assert -0.2 <= float(first.min()) <= float(first.max()) <= 0.3
    kept = weights["V1->V2"].weight
    assert bool((kept * before["V1->V2"][0] >= 0).all())
    for options, message in (
        ({"lr": -1}, "lr must be"),
        ({"optimizer": "rprop"}, "expected sgd, adam"),
        ({"bounds": (1, -1)}, "low <= high"),
        ({"bounds": "positive"}, "bounds must be"),
        ({"bounds": "dale"}, r"say Population\(..., inhibitory=0.2\) instead"),
        ({"bounds": 5}, "bounds must be"),
        ({"lr": "fast"}, "lr must be"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"pathways": {"*": {"speed": 1}}}, "'speed' does not exist"),
        ({"after": ["normalise"]}, "after must be functions"),
    ):
        with pytest.raises(OptionError, match=message):
            Synapses(**options)  # type: ignore[arg-type]


def test_one_object_in_two_simulations_works_in_both() -> None:
    circuit, other = dense_circuit(), dense_circuit(seed=5)
    shared = Synapses(lr=0.01)
    first = simulated(circuit, "bp", shared)
    second = simulated(other, "bp", shared)
    for moment in moments(circuit, 4):  # in turn, as nobody would expect them to disturb each other
        first.step(moment)
        second.step(moment)
    for simulation, start in ((first, circuit), (second, other)):
        alone = simulated(start, "bp", Synapses(lr=0.01)).run(moments(start, 4))
        assert same(clones(simulation.weights), clones(alone.weights))
        assert not same(clones(simulation.weights), clones(start.weights))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_neuromodulator_of_0_changes_nothing_not_even_what_optimisers_remember(optimizer: str) -> None:
    """Neither between silent moments nor through the momentum of what was learned before."""
    circuit = dense_circuit()
    quiet = [moment.with_events(Neuromodulation(torch.zeros(10))) for moment in moments(circuit, 3)]
    loud = moments(circuit, 3)
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9 if optimizer == "sgd" else 0.0}
    interrupted, plain = (simulated(circuit, "bp", Synapses(optimizer, **options)) for _ in range(2))
    for moment, silence in zip(loud, quiet, strict=True):
        interrupted.step(moment)
        before = clones(interrupted.weights)
        interrupted.step(silence)
        assert same(before, clones(interrupted.weights))
    assert same(clones(interrupted.weights), clones(plain.run(loud).weights))


def test_options_change_during_a_run_from_the_next_update_on() -> None:
    circuit = dense_circuit()
    synapses = Synapses(lr=0.01)
    simulation = simulated(circuit, "bp", synapses)
    simulation.at(0.5)(lambda s: s.synapses.set(lr=0.0))
    simulation.at(1.0)(lambda s: s.synapses.set(lr=0.01, pathways="V1->*"))
    changed = []
    for moment in moments(circuit, 6):
        before = clones(simulation.weights)
        simulation.step(moment)
        changed.append([name for name in before if not same(before[name], clones(simulation.weights)[name])])
    assert changed == [list(circuit.weights)] * 2 + [[]] * 2 + [["V1->V2"]] * 2
    noted = [entry["options"]["lr"] for entry in simulation.interventions if entry["what"] == "synapses"]
    assert noted == [0.0, 0.0]


def test_a_learning_rate_set_for_all_holds_for_those_with_one_of_their_own() -> None:
    synapses = Synapses(lr=0.1, pathways={"*=>*": {"lr": 0.2, "weight_decay": 0.3}})
    synapses.set(lr=0.4)
    assert synapses.options_for("V1=>V1")["lr"] == 0.4
    assert synapses.options_for("V1=>V1")["weight_decay"] == 0.3
    synapses.set(pathways="*=>*", lr=0.5)
    assert [synapses.options_for(name)["lr"] for name in ("V1=>V1", "V1->V2")] == [0.5, 0.4]
    for wrong in ({"lr": -1}, {"speed": 1}, {"pathways": "V1->*", "lr": "fast"}):
        with pytest.raises(OptionError, match="synapses"):
            synapses.set(**wrong)  # type: ignore[arg-type]
    assert synapses.options_for("V1->V2")["lr"] == 0.4, "nothing is changed by what is refused"


def test_options_are_there_to_read() -> None:
    synapses = Synapses(lr=0.1, pathways={"*=>*": {"lr": 0.2}})
    assert synapses.options["lr"] == 0.1
    for shown, name in ((synapses.options, "lr"), (synapses.exceptions, "*->*"), (synapses.exceptions["*=>*"], "lr")):
        with pytest.raises(TypeError, match="does not support item assignment"):
            shown[name] = 0.3  # type: ignore[index]
    given = {"V1->*": {"lr": 0.5}}
    mine = Synapses(pathways=given)
    given["V1->*"]["lr"] = 0.7
    assert mine.options_for("V1->V2")["lr"] == 0.5


def test_patterns_that_match_nothing_are_refused() -> None:
    circuit = dense_circuit()
    with pytest.raises(OptionError, match=r"synapses of 'V1=>V2': no pathway has such a name .*retina->V1"):
        simulated(circuit, "bp", Synapses(pathways={"V1=>V2": {"lr": 0.1}}))
    simulated(circuit, "bp", Synapses(pathways={"V1->*": {"lr": 0.1}}))
    simulation = simulated(circuit, "bp").run(moments(circuit, 1))
    simulation.synapses.set(lr=0.1, pathways="V1->V9")
    with pytest.raises(OptionError, match="synapses of 'V1->V9': no pathway has such a name"):
        simulation.run(moments(circuit, 1))


def test_weight_normalisation_keeps_the_norm_of_every_neuron() -> None:
    circuit = dense_circuit()
    synapses = Synapses("sgd", lr=1.0, pathways={"V1->*": {"after": [WeightNormalisation(2.5)]}})
    weights = simulated(circuit, "bp", synapses).run(moments(circuit, 3)).weights
    assert torch.allclose(weights["V1->V2"].weight.norm(dim=1), torch.full((7,), 2.5).double(), rtol=1e-12)
    assert not torch.allclose(weights["retina->V1"].weight.norm(dim=1), torch.full((9,), 2.5).double())
    with pytest.raises(OptionError, match="norm must be > 0"):
        WeightNormalisation(0)


def test_homeostasis_brings_every_neuron_to_its_target() -> None:
    circuit = dense_circuit(None, "softplus")
    synapses = Synapses("sgd", lr=0.0, after=[Homeostasis(0.3, rate=0.1)])
    simulation = simulated(circuit, "clapp++gap", synapses)
    moment = full_moment(circuit, rows=40)
    simulation.run([moment] * 300)
    for name in ("V1", "V2"):
        mean = simulation.respond(moment.events[0].stimulus)[name].mean(0)  # type: ignore[attr-defined]
        assert torch.allclose(mean, torch.full_like(mean, 0.3), atol=1e-3), name
    assert same(clones(simulation.weights)["V1=>V1"], clones(simulated(circuit, "clapp++gap").weights)["V1=>V1"])


def test_a_hook_of_ones_own_sees_pathway_parameters_and_activity() -> None:
    seen = []

    def halved(pathway: Pathway, parameters: Parameters, activity: Tensor | None) -> None:
        seen.append((pathway.name, None if activity is None else tuple(activity.shape)))
        parameters.weight.mul_(0.5)

    circuit = dense_circuit()
    before = clones(circuit.weights)
    still = Synapses("sgd", lr=0.0, after=[halved])
    weights = simulated(circuit, "bp", still).run(moments(circuit, 1)).weights
    assert set(seen) == {("retina->V1", (10, 9)), ("V1->V2", (10, 7)), ("V2->readout", (10, 4))}
    assert all(torch.equal(weights[name].weight, before[name][0] * 0.5) for name in before)


def test_an_optimiser_of_ones_own_descends_or_ascends() -> None:
    circuit = dense_circuit()
    want = clones(simulated(circuit, "bp", Synapses("sgd", lr=0.1)).run(moments(circuit, 3)).weights)
    for maximize in (False, True):
        synapses = Synapses(lambda p, up=maximize: torch.optim.SGD(p, lr=0.1, maximize=up))
        got = clones(simulated(circuit, "bp", synapses).run(moments(circuit, 3)).weights)
        for name, parameters in want.items():
            for one, other in zip(parameters, got[name], strict=True):
                assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_numbers_of_numpy_are_numbers() -> None:
    circuit = dense_circuit()
    learned = [
        clones(simulated(circuit, "bp", Synapses(lr=lr, betas=betas)).run(moments(circuit, 2)).weights)
        for lr, betas in ((0.01, (0.9, 0.999)), (np.float64(0.01), np.array([0.9, 0.999])))
    ]
    assert same(*learned)
