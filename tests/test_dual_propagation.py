"""Dual propagation: two activities per neuron, whose difference is the credit; backprop in its limits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, drawn, full_moment, map_circuit, simulated, stimulus_of, wired
from oracle import TRANSFER, assert_close, proposals, skip_circuit
from torch import Tensor

from neurossl import (
    Circuit,
    Convolution,
    FeedforwardPathway,
    InputPopulation,
    Moment,
    Network,
    Pooling,
    Population,
    Teaching,
    make_rule,
)
from neurossl.errors import NetworkError, OptionError
from neurossl.plasticity import Backprop, Contrastive, CrossEntropy, DualPropagation


def averaging() -> Circuit:
    network = Network(InputPopulation("retina", (2, 9, 7)), name="averaging")
    network.add(Population("V1", (3, 9, 7), "softplus", Pooling("average", 2)))
    network.add(FeedforwardPathway("retina", "V1", Convolution(3, 1, 1)))
    network.add(Population("readout", 4, "linear"), FeedforwardPathway("V1", "readout"))
    return drawn(network)


MAKE = {"dense": dense_circuit, "maps": lambda: map_circuit(4, "softplus"), "averaging": averaging, "skips": skip_circuit}


def by_the_equation(circuit: Circuit, moment: Moment, beta: float) -> dict[str, list[Tensor]]:
    """Return the updates, one population after the other; pooling and convolutions are undone by autograd of themselves."""
    network = circuit.network
    z = {"retina": stimulus_of(moment)}
    a: dict[str, Tensor] = {}
    carry: dict[str, Any] = {}
    for name in network.order:
        population = network.populations[name]
        incoming = network.incoming(name)

        def drive(incoming: Any = incoming, **sent: Tensor) -> Tensor:
            parts = []
            for p in incoming:
                weight, bias = circuit.weights[p.name]
                x = sent[p.pre]
                c = p.connectivity
                convolved = isinstance(c, Convolution)
                parts.append(F.conv2d(x, weight, bias, 1, c.padding) if convolved else F.linear(x.flatten(1), weight, bias))
            return sum(parts)  # type: ignore[return-value]

        def pooled(r: Tensor, population: Population = population) -> Tensor:
            if population.pooling is None:
                return r
            pool = F.max_pool2d if population.pooling.kind == "max" else F.avg_pool2d
            return pool(r, population.pooling.kernel)

        a[name] = drive(**{p.pre: z[p.pre] for p in incoming})
        z[name] = pooled(TRANSFER[population.transfer.name](a[name]))
        carry[name] = drive, pooled
    labels = moment.require(Teaching, "test").labels
    arrived = {"readout": F.one_hot(labels, 4).double() - z["readout"].softmax(1)}
    updates: dict[str, list[Tensor]] = {}
    for name in reversed(network.order):
        rho = TRANSFER[network.populations[name].transfer.name]
        drive, pooled = carry[name]
        neurons = rho(a[name]).requires_grad_()
        (d,) = torch.autograd.grad(pooled(neurons), neurons, arrived[name])
        s = (rho(a[name] + beta / 2 * d) - rho(a[name] - beta / 2 * d)) / beta
        for p in network.incoming(name):
            x = z[p.pre].detach().clone().requires_grad_()
            weight, bias = (part.clone().requires_grad_() for part in circuit.weights[p.name].present)
            c = p.connectivity
            convolved = isinstance(c, Convolution)
            total = F.conv2d(x, weight, bias, 1, c.padding) if convolved else F.linear(x.flatten(1), weight, bias)
            down, dw, db = torch.autograd.grad(total, [x, weight, bias], s)
            arrived[p.pre] = arrived.get(p.pre, torch.zeros(())) + down
            updates[p.name] = [dw / len(s), db / len(s)]
    return updates


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_it_is_its_equation(kind: str, beta: float) -> None:
    circuit = MAKE[kind]()
    moment = full_moment(circuit)
    got = proposals(make_rule("dual-prop", beta=beta), circuit, moment)
    want = by_the_equation(circuit, moment, beta)
    assert set(got) == set(want)
    assert_close(got, want, list(want), 1e-11)


@pytest.mark.parametrize("make", [lambda: dense_circuit(4, "tanh"), lambda: map_circuit(4, "softplus"), skip_circuit])
def test_as_beta_goes_to_0_it_becomes_backprop_with_its_square(make: Any) -> None:
    circuit = make()
    moment = full_moment(circuit)
    want = proposals(Backprop(CrossEntropy()), circuit, moment)
    apart = []
    for beta in (0.2, 0.1, 0.05):
        got = proposals(DualPropagation(CrossEntropy(), beta), circuit, moment)
        apart.append(max(float((got[n][0] - want[n][0]).abs().max()) for n in want))
    assert 0 < apart[0] < 1e-3
    assert apart[0] / apart[1] == pytest.approx(4, rel=0.05)
    assert apart[1] / apart[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("objective", [CrossEntropy(), Contrastive("softplus")])
def test_between_linear_populations_it_is_backprop_at_any_beta(objective: Any, beta: float) -> None:
    for bare in (dense_circuit(4, "linear"), map_circuit(4, "linear")):
        rule = DualPropagation(objective, beta)
        circuit = wired(rule, bare)
        moment = full_moment(circuit)
        want = proposals(Backprop(objective), circuit, moment)
        got = proposals(rule, circuit, moment)
        assert set(got) == set(want), "the objective's predictions learn as well"
        assert_close(got, want, list(want), 1e-12)


def test_rectified_units_that_a_nudge_wakes_take_part() -> None:
    """Backprop's slope is 0 there: dual propagation looks as far as beta."""
    network = Network(InputPopulation("retina", 1), Population("V1", 1), Population("readout", 2, "linear"))
    circuit = drawn(network.add(FeedforwardPathway("retina", "V1"), FeedforwardPathway("V1", "readout")))
    for name in circuit.weights:
        weight, bias = circuit.weights[name]
        weight.copy_(torch.tensor([[1.0], [-1.0]]) if name == "V1->readout" else torch.ones(1, 1))
        assert bias is not None
        bias.fill_(-1.1 if name == "retina->V1" else 0.0)
    moment = full_moment(circuit, rows=2).with_events(Teaching(torch.tensor([0, 0])))
    moment = moment.with_events(type(moment.events[0])(torch.ones(2, 1).double()))  # a drive of -0.1, and a credit of 1
    update = proposals(make_rule("dual-prop", beta=1.0), circuit, moment)["retina->V1"][0]
    assert float(update) == pytest.approx(-0.1 + 0.5)
    assert float(proposals(make_rule("bp"), circuit, moment)["retina->V1"][0]) == 0


def test_what_an_experimenter_holds_answers_to_nothing() -> None:
    simulation = simulated(dense_circuit(), "dual-prop")
    simulation.clamp("V2", 0.5)
    before = simulation.weights["V1->V2"].weight.clone()
    simulation.run([full_moment(simulation.network)])
    assert torch.equal(simulation.weights["V1->V2"].weight, before)


def test_what_makes_no_sense_is_refused_in_a_line() -> None:
    for wrong in (0, -1.0, float("nan"), float("inf"), True, "much"):
        with pytest.raises(OptionError, match="dual propagation: expected a finite beta > 0, got"):
            make_rule("dual-prop", beta=wrong)
    with pytest.raises(NetworkError, match="rectified units are no class scores"):
        proposals(make_rule("dual-prop"), dense_circuit(None, "relu"), full_moment(dense_circuit()))
    assert make_rule("dual-prop").needs == make_rule("bp").needs
