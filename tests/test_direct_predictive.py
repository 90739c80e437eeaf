"""Direct feedback into predictive coding: between DFA and PC, from the equations, and in its limits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, full_moment, map_circuit, same, simulated, stimulus_of, wired
from oracle import TRANSFER, Autograd, assert_close, proposals, skip_circuit
from torch import Tensor

from neurossl import Circuit, Convolution, Moment, Synapses, Teaching, make_rule
from neurossl.errors import OptionError
from neurossl.events import Neuromodulation
from neurossl.plasticity import CrossEntropy, DirectFeedbackAlignment, DirectPredictiveCoding, PredictiveCoding, settle
from neurossl.plasticity.construction import by_construction

MAKE: dict[str, Any] = {"dense": dense_circuit, "maps": lambda: map_circuit(4), "skips": skip_circuit}


def predicted(plain: Autograd, stimulus: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return mu of every population when those below send values."""
    mu: dict[str, Tensor] = {}
    for name in plain.network.order:
        population = plain.network.populations[name]
        drive: Any = 0
        for p in plain.network.incoming(name):
            weight, bias = plain.weights[p.name]
            c, x = p.connectivity, stimulus if p.pre == "retina" else values.get(p.pre, mu.get(p.pre))
            assert x is not None
            convolved = isinstance(c, Convolution)
            drive = drive + (F.conv2d(x, weight, bias, 1, c.padding) if convolved else F.linear(x.flatten(1), weight, bias))
        mu[name] = TRANSFER[population.transfer.name](drive)
        if population.pooling is not None:
            mu[name] = F.max_pool2d(mu[name], population.pooling.kernel)
    return mu


def by_the_equation(circuit: Circuit, moment: Moment, steps: int, rate: float, kappa: float) -> dict[str, list[Tensor]]:
    """Return the updates, B's as well; slopes of the energy by autograd, what is sent directly written out."""
    plain, x = Autograd(circuit), stimulus_of(moment)
    labels, order = moment.require(Teaching, "test").labels, circuit.network.order
    top = order[-1]
    direct = {name: circuit.weights[f"{top}=>{name}"].weight for name in order[:-1]}

    def error(mu: dict[str, Tensor]) -> Tensor:
        return F.one_hot(labels, 4).double() - mu[top].detach().softmax(1)

    def energy(values: dict[str, Tensor]) -> Tensor:
        mu = predicted(plain, x, values)
        squares = [(values[n] - mu[n]).square().sum() / 2 for n in values]
        return torch.stack(squares).sum() + F.cross_entropy(mu[top], labels, reduction="sum")

    def sent(name: str, e: Tensor, like: Tensor) -> Tensor:
        return torch.stack([(direct[name] @ e[r]).view(like.shape[1:]) for r in range(len(e))])

    mu = {name: m.detach() for name, m in predicted(plain, x, {}).items()}
    values = {name: mu[name] + sent(name, error(mu), mu[name]) for name in direct}
    for _ in range(steps):
        values = {name: v.detach().requires_grad_() for name, v in values.items()}
        slopes = torch.autograd.grad(energy(values), list(values.values()))
        e = error(predicted(plain, x, values))
        values = {
            name: (v - rate * slope + rate * kappa * sent(name, e, v)).detach()
            for (name, v), slope in zip(values.items(), slopes, strict=True)
        }
    want = plain.gradients(energy(values) / len(x))
    mu = {name: m.detach() for name, m in predicted(plain, x, values).items()}
    e = error(mu)
    for name, v in values.items():
        missed = v - mu[name] - sent(name, e, v)
        want[f"{top}=>{name}"] = [torch.einsum("ri,rj->ij", missed.flatten(1), e) / len(x)]
    return want


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("feedback", ["fixed", "learned"])
@pytest.mark.parametrize(("steps", "rate", "kappa"), [(1, 0.3, 0.0), (6, 0.1, 0.5), (3, 0.2, 1.0)])
def test_it_is_its_equation(steps: int, rate: float, kappa: float, feedback: str, kind: str) -> None:
    rule = make_rule("dfa-pc", steps=steps, rate=rate, kappa=kappa, feedback=feedback)
    circuit = wired(rule, MAKE[kind]())
    moment = full_moment(circuit)
    want = by_the_equation(circuit, moment, steps, rate, kappa)
    got = proposals(rule, circuit, moment)
    names = [name for name in want if feedback == "learned" or "=>" not in name]
    assert set(got) == set(names)
    assert_close(got, want, names)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("objective", ["cross-entropy", "squared-error", "contrastive", "infonce"])
def test_without_steps_it_is_dfa_and_learned_feedback_has_nothing_to_learn(objective: str, kind: str) -> None:
    dfa = make_rule("dfa", objective=objective)
    circuit = wired(dfa, MAKE[kind]())
    moment = full_moment(circuit)
    want = proposals(dfa, circuit, moment)
    fixed = make_rule("dfa-pc", objective=objective, steps=0)
    assert same(proposals(fixed, circuit, moment), want)
    learning = make_rule("dfa-pc", objective=objective, steps=0, feedback="learned")
    assert same(proposals(learning, circuit, moment), want)


def held_errors(circuit: Circuit, moment: Moment, steps: int, rate: float, kappa: float) -> dict[str, list[Tensor]]:
    """Return the updates where the errors alone settle; what comes down by autograd of the sweep, step for step."""
    plain, x = Autograd(circuit), stimulus_of(moment)
    labels, order = moment.require(Teaching, "test").labels, circuit.network.order
    top = order[-1]
    free = {name: m.detach() for name, m in predicted(plain, x, {}).items()}
    below = {name: free[name].clone().requires_grad_() for name in order[:-1]}
    mu = predicted(plain, x, below)  # of every population by itself: no slope goes further than to the one below
    e_top = F.one_hot(labels, 4).double() - free[top].softmax(1)
    sent = {
        name: torch.stack([(circuit.weights[f"{top}=>{name}"].weight @ e).view(v.shape[1:]) for e in e_top])
        for name, v in below.items()
    }
    errors = dict(sent)
    for _ in range(steps):
        said = torch.stack([(mu[name] * e).sum() for name, e in (errors | {top: e_top}).items()]).sum()
        pull = torch.autograd.grad(said, list(below.values()), retain_graph=True)
        errors = {
            name: errors[name] + rate * (p - errors[name] + kappa * sent[name]) for name, p in zip(below, pull, strict=True)
        }
    said = torch.stack([(mu[name] * e).sum() for name, e in (errors | {top: e_top}).items()]).sum()
    want = plain.gradients(-said / len(x))
    for name, e in errors.items():
        want[f"{top}=>{name}"] = [torch.einsum("ri,rj->ij", (e - sent[name]).flatten(1), e_top) / len(x)]
    return want


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("feedback", ["fixed", "learned"])
@pytest.mark.parametrize(("steps", "rate", "kappa"), [(1, 0.3, 0.0), (6, 0.1, 0.5), (3, 1.0, 0.0)])
def test_with_predictions_held_it_is_its_equation(steps: int, rate: float, kappa: float, feedback: str, kind: str) -> None:
    options: dict[str, Any] = {"steps": steps, "rate": rate, "kappa": kappa, "feedback": feedback}
    rule = make_rule("dfa-pc", schedule="fixed-prediction", **options)
    circuit = wired(rule, MAKE[kind]())
    moment = full_moment(circuit)
    want = held_errors(circuit, moment, steps, rate, kappa)
    got = proposals(rule, circuit, moment)
    names = [name for name in want if feedback == "learned" or "=>" not in name]
    assert set(got) == set(names)
    assert_close(got, want, names)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("objective", ["cross-entropy", "contrastive"])
def test_with_predictions_held_it_goes_from_dfa_to_backprop(objective: str, kind: str) -> None:
    def held(steps: int, rate: float) -> Any:
        return make_rule("dfa-pc", objective=objective, steps=steps, rate=rate, schedule="fixed-prediction")

    dfa, bp = make_rule("dfa", objective=objective), make_rule("bp", objective=objective)
    circuit = wired(dfa, MAKE[kind]())
    moment = full_moment(circuit)
    want = proposals(bp, circuit, moment)
    assert same(proposals(held(0, 0.3), circuit, moment), proposals(dfa, circuit, moment))
    for steps, rate in ((200, 0.3), (len(circuit.network.order) - 1, 1.0)):
        assert_close(proposals(held(steps, rate), circuit, moment), want, list(want))
    short = proposals(held(1, 0.3), circuit, moment)
    lowest = circuit.network.incoming(circuit.network.order[0])[0].name
    assert float((short[lowest][0] - want[lowest][0]).norm()) > 0.1 * float(want[lowest][0].norm())


def test_held_errors_that_begin_at_0_are_those_of_predictive_coding_with_fixed_predictions() -> None:
    pc = make_rule("pc-fixed", steps=3, rate=0.2)
    rule = make_rule("dfa-pc", steps=3, rate=0.2, kappa=1.0, schedule="fixed-prediction")
    circuit = wired(rule, map_circuit(4))
    for name in circuit.network.order[:-1]:
        circuit.weights[f"{circuit.network.top}=>{name}"].weight.zero_()
    moment = full_moment(circuit)
    want = proposals(pc, circuit, moment)
    assert_close(proposals(rule, circuit, moment), want, list(want), 1e-12)


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("objective", ["cross-entropy", "squared-error", "contrastive", "infonce"])
def test_with_nothing_sent_directly_it_is_predictive_coding(objective: str, kind: str) -> None:
    pc = make_rule("pc", objective=objective, steps=5, rate=0.2)
    for kappa in (0.0, 1.0):
        rule = make_rule("dfa-pc", objective=objective, steps=5, rate=0.2, kappa=kappa)
        circuit = wired(rule, MAKE[kind]())
        for name in circuit.network.order[:-1]:
            circuit.weights[f"{circuit.network.top}=>{name}"].weight.zero_()
        moment = full_moment(circuit)
        want = proposals(pc, circuit, moment)
        assert_close(proposals(rule, circuit, moment), want, list(want), 1e-12)


def test_learned_feedback_sends_in_the_end_what_settling_arrives_at() -> None:
    """In a linear network whose synapses stay, the settled errors are W^T ... W^T e: so does B become."""
    rule = DirectPredictiveCoding(CrossEntropy(), steps=200, rate=0.3, feedback="learned")
    synapses = Synapses("sgd", lr=0.0, pathways={"*=>*": {"lr": 2.0}})
    simulation = simulated(dense_circuit(4, "linear"), rule, synapses)
    weights = simulation.weights
    chain = weights["V2->readout"].weight
    wanted = {"readout=>V2": chain.T, "readout=>V1": (chain @ weights["V1->V2"].weight).T}

    def seen(name: str) -> Tensor:
        """Return what differs, for errors as they are: those of a softmax add up to 0."""
        apart = weights[name].weight - wanted[name]
        return apart - apart.mean(1, keepdim=True)

    before = {name: float(seen(name).norm()) for name in wanted}
    simulation.run([full_moment(simulation.network, rows=20, seed=n) for n in range(60)])
    for name in wanted:
        assert before[name] > 0.3
        assert float(seen(name).norm()) < 1e-3 * before[name]


def test_errors_are_everywhere_from_the_first_step_on() -> None:
    """Where predictive coding needs a step for every population."""
    circuit = wired(make_rule("dfa-pc"), dense_circuit())
    moment = full_moment(circuit)
    activity = circuit.sweep(stimulus_of(moment))
    *_, settled = settle(PredictiveCoding(CrossEntropy(), steps=1), activity, moment)
    *_, direct = settle(make_rule("dfa-pc", steps=1), activity, moment)
    assert float(settled._activity.errors["V1"].abs().max()) == 0
    assert float(direct._activity.errors["V1"].abs().max()) > 0


def test_the_energy_is_noted_where_somebody_watches() -> None:
    circuit = wired(make_rule("dfa-pc"), dense_circuit())
    moment = full_moment(circuit)
    (scope,) = settle(make_rule("dfa-pc", steps=4), circuit.sweep(stimulus_of(moment)), moment, is_watched=True)
    energies = scope._activity.notes["energy"].tolist()
    assert len(energies) == 5
    assert energies == sorted(energies, reverse=True)


def test_a_gain_of_0_leaves_its_row_where_it_is() -> None:
    rule = make_rule("dfa-pc", steps=3, kappa=1.0, feedback="learned")
    circuit = wired(rule, dense_circuit())
    moment = full_moment(circuit)
    gain = torch.tensor([1.0] * 5 + [0.0] * 5).double()
    got = proposals(rule, circuit, moment.with_events(Neuromodulation(gain)))
    half = Moment(type(moment.events[0])(stimulus_of(moment)[:5]), Teaching(moment.require(Teaching, "test").labels[:5]))
    alone = proposals(rule, circuit, half)
    assert_close({n: [2 * part for part in parts] for n, parts in got.items()}, alone, list(alone), 1e-12)


def test_the_ledger_says_what_it_needs() -> None:
    assert make_rule("dfa-pc").needs == {"target", "broadcast error", "weight transport", "settling", "phases"}
    assert make_rule("dfa-pc", steps=0).needs == make_rule("dfa").needs
    assert isinstance(make_rule("dfa-pc").reference(), type(make_rule("bp")))
    pathways = wired(make_rule("dfa-pc", feedback="learned"), dense_circuit()).network.pathways
    assert list(pathways) == list(wired(DirectFeedbackAlignment(CrossEntropy()), dense_circuit()).network.pathways)
    assert all(pathways[name].plastic for name in ("readout=>V1", "readout=>V2"))


def test_only_without_steps_does_the_top_learn_what_backprop_says() -> None:
    network = dense_circuit().network
    marked = {steps: by_construction(make_rule("dfa-pc", steps=steps), network, "V2->readout") for steps in (0, 1)}
    assert marked == {0: True, 1: False}


def test_with_predictions_held_the_top_learns_what_backprop_says_and_all_once_nothing_is_left_of_what_was_sent() -> None:
    network = dense_circuit().network

    def marked(pathway: str, **options: Any) -> bool:
        return by_construction(make_rule("dfa-pc", schedule="fixed-prediction", **options), network, pathway)

    assert marked("V2->readout", steps=1)
    assert not marked("V1->V2", steps=1, rate=1.0)
    assert marked("V1->V2", steps=2, rate=1.0)
    assert not marked("V1->V2", steps=2, rate=1.0, kappa=0.5)


def test_what_makes_no_sense_is_refused_in_a_line() -> None:
    for options, words in (
        ({"steps": -1}, "steps: expected a whole number >= 0, got -1"),
        ({"rate": 0}, "expected a rate > 0, got 0"),
        ({"kappa": -0.5}, "expected a finite kappa >= 0, got -0.5"),
        ({"kappa": float("nan")}, "expected a finite kappa >= 0, got nan"),
        ({"feedback": "transposed"}, "feedback 'transposed' does not exist, expected fixed, learned"),
        ({"schedule": "z-il"}, "schedule 'z-il' does not exist, expected standard, fixed-prediction"),
    ):
        with pytest.raises(OptionError, match=words):
            make_rule("dfa-pc", **options)  # type: ignore[arg-type]
