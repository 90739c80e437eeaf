"""Blocks: from local learning to backprop, by the number of populations that share an objective."""

from typing import Any

import pytest
import torch
from conftest import drawn, full_moment, map_circuit, same, simulated, stimulus_of, wired
from oracle import Autograd, assert_close, contrastive_loss, proposals, skip_circuit
from torch import Tensor

from neurossl import Circuit, Moment, make_rule, mlp, residual
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Neuromodulation
from neurossl.plasticity import Backprop, Blocks, Contrastive, Goodness, InfoNCE, Local, losses


def deep() -> Circuit:
    return drawn(mlp(12, [9, 8, 7, 6, 5], transfer="tanh"))


def wanted(circuit: Circuit, moment: Moment, ends: list[str], contrast: str) -> tuple[dict[str, list[Tensor]], list[float]]:
    """Return updates and losses: autograd of every block by itself, its input a constant."""
    plain, order = Autograd(circuit), circuit.network.order
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    total, found, first = torch.zeros(()).double(), [], 0
    for end in ends:
        last = order.index(end) + 1
        inside = {name: response.detach() for name, response in z.items()}
        for name in order[first:last]:
            inside[name] = one_population(plain, name, inside)
        b, first = plain.weights[f"{end}=>{end}"][0], last
        loss = contrastive_loss(inside[end], inside[end].detach(), b, moment, contrast, ("global", "global"))
        found.append(float(loss.detach()))
        total = total + loss
    return plain.gradients(total), found


def one_population(plain: Autograd, name: str, z: dict[str, Tensor]) -> Tensor:
    """Return the response of one population to what is below it."""
    (pathway,) = plain.network.incoming(name)
    weight, bias = plain.weights[pathway.name]
    population = plain.network.populations[name]
    if len(population.neurons) == 1:
        return torch.tanh(torch.nn.functional.linear(z[pathway.pre].flatten(1), weight, bias))
    response = torch.relu(torch.nn.functional.conv2d(z[pathway.pre], weight, bias, 1, 1))
    return response if population.pooling is None else torch.nn.functional.max_pool2d(response, population.pooling.kernel)


ENDS = {
    (2, "dense"): ["V1", "V3", "V5"],
    (3, "dense"): ["V2", "V5"],
    (4, "dense"): ["V1", "V5"],
    (2, "maps"): ["V1", "V3"],
}


@pytest.mark.parametrize(("size", "kind"), ENDS)
@pytest.mark.parametrize("contrast", ["hinge", "softplus"])
def test_credit_of_a_block_is_the_gradient_of_its_own_loss(size: int, kind: str, contrast: str) -> None:
    rule = make_rule("blocks-clapp", size=size, contrast=contrast)
    circuit = wired(rule, deep() if kind == "dense" else map_circuit())
    ends, moment = ENDS[size, kind], full_moment(circuit)
    assert sorted(circuit.network.feedback) == [f"{end}=>{end}" for end in ends]
    want, of_blocks = wanted(circuit, moment, ends, contrast)
    got = proposals(rule, circuit, moment)
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    assert {name: float(loss) for name, loss in said.items()} == pytest.approx(dict(zip(ends, of_blocks, strict=True)))


@pytest.mark.parametrize("make", [deep, map_circuit])
@pytest.mark.parametrize(
    "objective",
    [Contrastive("softplus"), Contrastive(context="top"), Contrastive("softplus", "both", 2), InfoNCE(0.3)],
)
def test_blocks_of_one_are_local_and_one_block_is_backprop_bit_for_bit(objective: Any, make: Any) -> None:
    depth = len(make().network.order)
    for size, same_as in ((1, Local(objective)), (depth, Backprop(objective)), (depth + 3, Backprop(objective))):
        rule = Blocks(objective, size)
        circuit, other = wired(rule, make()), wired(same_as, make())
        assert list(circuit.network.pathways) == list(other.network.pathways)
        moment = full_moment(circuit)
        assert same(proposals(rule, circuit, moment), proposals(same_as, other, moment))
    assert Blocks(objective, 1).learns_along is False


def test_forward_forward_in_blocks_goes_through_the_normalisation_inside_them() -> None:
    objective = Goodness()
    one, other = Blocks(objective, 2), Backprop(objective)
    circuit = drawn(mlp(12, [9, 7], normalisation="length"))
    moment = full_moment(circuit)
    assert same(proposals(one, circuit, moment), proposals(other, circuit, moment))
    assert one.normalisation == "length"


def test_no_block_feels_the_weights_above_it() -> None:
    rule = make_rule("blocks-clapp", size=2)
    circuit = wired(rule, deep())
    moment = full_moment(circuit)
    before = proposals(rule, circuit, moment)
    circuit.weights["V4->V5"].weight.mul_(-3)
    after = proposals(rule, circuit, moment)
    moved = {name for name in before if not same(before[name], after[name])}
    assert moved == {"V3->V4", "V4->V5", "V5=>V5"}


def test_a_gain_scales_the_loss_of_its_row() -> None:
    rule = make_rule("blocks-clapp", size=2)
    circuit = wired(rule, deep())
    moment = full_moment(circuit)
    twice = moment.with_events(Neuromodulation(torch.full((10,), 2.0).double()))
    got, plain = proposals(rule, circuit, twice), proposals(rule, circuit, moment)
    assert_close(got, {n: [2 * part for part in parts] for n, parts in plain.items()}, list(plain), 1e-12)


def test_networks_that_are_no_chain_and_sizes_that_are_none_are_refused_in_a_line() -> None:
    for network in (skip_circuit().network, residual((2, 8, 8), [4, 4])):
        with pytest.raises(
            NetworkError, match=r"blocks are those of a chain, but 'V\d' does not listen to 'V\d' alone: use"
        ):
            make_rule("blocks-clapp").wire(network.copy())
    for wrong in (0, -1, 1.5, True, "two"):
        with pytest.raises(OptionError, match="blocks: size: expected a whole number >= 1, got"):
            make_rule("blocks-clapp", size=wrong)
    with pytest.raises(NetworkError, match="objective 'cross-entropy' at 'V2': its units are to be class scores"):
        simulated(map_circuit(4), make_rule("blocks-clapp", objective="cross-entropy"))


def test_the_ledger_says_what_a_block_needs() -> None:
    assert make_rule("blocks-clapp", size=1).needs == make_rule("clapp++gap").needs
    assert make_rule("blocks-clapp").needs == make_rule("bp-clapp++").needs
    described = make_rule("blocks-clapp", size=3).describe()
    assert described["objective"] == "contrastive hinge, lateral context, at the top of every block of 3"
    assert described["transport"] == "backprop within blocks"
    assert described["rule_options"] == {"size": 3}
