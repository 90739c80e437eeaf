"""Anatomy: described and made again, built from numpy's numbers, with shapes that are not square, and free of tensors."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import clones, drawn, full_moment, same, simulated, wired
from oracle import Autograd, assert_close, proposals
from torch import Tensor, nn

from neurossl import Network, Weights, convolutional, linear_stack, mlp, register_transfer, residual, vgg6, vgg8
from neurossl.anatomy import (
    TRANSFERS,
    BandedPathway,
    Convolution,
    FeedbackPathway,
    FeedforwardPathway,
    InputPopulation,
    InterneuronPathway,
    LocalFields,
    LowRankPathway,
    Pooling,
    Population,
    Sparse,
    Transfer,
)
from neurossl.anatomy.description import described_network
from neurossl.errors import NetworkError
from neurossl.events import Teaching
from neurossl.plasticity import Backprop, CrossEntropy, make_rule


def odd_network() -> Network:
    """Return what is not square, padded, reflected, sparse, untied, inhibited and normalised."""
    return Network(
        InputPopulation("retina", (2, 7, 9)),
        Population("V1", (4, 7, 5), "triangle", Pooling("average", (3, 2), (2, 1), (1, 0)), inhibitory=0.25),
        Population("V2", (3, 4, 4), "softplus"),
        Population("V3", 6, "softplus", inhibitory=0.5),
        FeedforwardPathway("retina", "V1", Convolution((3, 5), (1, 2), (1, 2), "reflect"), normalisation="standard"),
        FeedforwardPathway("V1", "V2", LocalFields(3), bias=False),
        FeedforwardPathway("V2", "V3", Sparse(5, seed=3), init="xavier"),
        FeedforwardPathway("retina", "V3", plastic=False, label="fixed"),
        FeedbackPathway("V3", "V2", target_pool=2, init="orthogonal", label="apical"),
        name="odd",
    )


ARCHITECTURES: dict[str, Callable[[], Network]] = {
    "mlp": lambda: mlp((1, 4, 4), [7, 6], 3, "tanh", "length", init="normal-post"),
    "conv": lambda: convolutional((3, 9, 8), [(4, True), (6, False)], 5, normalisation="standard"),
    "linear": lambda: linear_stack(12, [9, 7]),
    "patches": lambda: linear_stack((2, 8, 8), [4, 4], 3, kernel=2),
    "vgg6": lambda: vgg6(width=1 / 32),
    "vgg8": lambda: vgg8((3, 64, 64), 10, 1 / 64),
    "residual": lambda: residual((3, 9, 9), [4, 6], 3),
    "plastic skips": lambda: residual((3, 9, 9), [4, 6], skip="plastic"),
    "odd": odd_network,
}


def again(network: Network) -> Network:
    """Return the network that its stored description is of."""
    return described_network(json.loads(json.dumps(network.describe())))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_description_makes_the_same_network(name: str) -> None:
    network = ARCHITECTURES[name]()
    other = again(network)
    assert other.describe() == network.describe()
    assert (other.order, other.summary(), repr(other)) == (network.order, network.summary(), repr(network))
    one, two = drawn(network, 4), drawn(other, 4)
    assert same(clones(one.weights), clones(two.weights))
    images = torch.randn(3, *network.input.shape, dtype=torch.float64)
    assert torch.equal(one.sweep(images)[network.top], two.sweep(images)[network.top])


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        *(("clapp++both", {"prediction": form}) for form in ("full", "low-rank:3", "banded:1")),
        *((rule, {}) for rule in ("clapp-fixed", "bp-infonce", "infonce-local", "fa-clapp", "dfa-clapp", "pc-clapp")),
        *((rule, {"feedback": "learned"}) for rule in ("pc", "ipc")),
    ],
)
def test_a_description_knows_the_pathways_of_a_rule(rule: str, options: dict[str, Any]) -> None:
    made = make_rule(rule, **options)
    network = made.wire(convolutional((2, 9, 9), [(4, False), (5, True)], 4 if "target" in made.needs else None))
    assert again(network).describe() == network.describe()
    assert made.wire(again(network)).describe() == network.describe(), "nothing is missing"


def test_what_is_no_description_is_refused_in_a_line() -> None:
    whole = mlp(4, [3]).describe()
    for part in ("populations", "pathways", "name"):
        with pytest.raises(NetworkError, match="lacks something"):
            described_network({key: value for key, value in whole.items() if key != part})
    for place, value, message in (
        (("populations", 1, "neurons"), "many", "expected a whole number|must be a number"),
        (("populations", 1, "transfer"), "gelu", "transfer 'gelu' does not exist"),
        (("populations", 1, "pooling"), "max", "lacks something|no description"),
        (("pathways", 0, "kind"), "axon", "."),
        (("pathways", 0, "shape"), [3, 5], "cannot be made again"),
        (("pathways", 0, "name"), "V1->V9", "no population 'V9'"),
    ):
        wrong: Any = deepcopy(whole)
        wrong[place[0]][place[1]][place[2]] = value
        with pytest.raises(NetworkError, match=message):
            described_network(wrong)
    for nothing in ([], "network", None, {"name": 3, "populations": 5, "pathways": []}):
        with pytest.raises(NetworkError):
            described_network(nothing)  # type: ignore[arg-type]


def test_numbers_of_numpy_build_the_same_network() -> None:
    i = np.int64
    one = convolutional(np.array([3, 9, 9]), [(i(4), np.bool_(True)), (i(6), False)], i(5), kernel=np.int32(3))
    assert one.describe() == convolutional((3, 9, 9), [(4, True), (6, False)], 5).describe()
    dense = mlp(np.uint8(12), np.array([9, 7]), np.int16(4))
    assert dense.describe() == mlp(12, [9, 7], 4).describe()
    assert mlp(np.array([1, 3, 4]), [9]).describe() == mlp((1, 3, 4), [9]).describe()
    assert (
        linear_stack(np.array([2, 8, 8]), np.array([4]), kernel=i(2)).describe()
        == linear_stack((2, 8, 8), [4], kernel=2).describe()
    )
    assert residual(np.array([3, 9, 9]), np.array([4, 6]), i(3)).describe() == residual((3, 9, 9), [4, 6], 3).describe()
    assert vgg6(np.array([3, 32, 32]), i(10), np.float32(0.125)).describe() == vgg6((3, 32, 32), 10, 0.125).describe()
    parts = Network(
        InputPopulation("retina", np.array([2, 8, 8])),
        Population("V1", (i(4), i(8), i(8)), pooling=Pooling("max", i(2)), inhibitory=np.float32(0.25)),
        Population("V2", i(6)),
        FeedforwardPathway("retina", "V1", Convolution(i(3), i(1), (i(1), i(1)))),
        FeedforwardPathway("V1", "V2", Sparse(i(5), i(1))),
        FeedbackPathway("V2", "V1", target_pool=i(2)),
        first := InterneuronPathway("V2", "V1", i(3), label="first"),
        LowRankPathway(first, label="low", target_pool=i(2)),
        BandedPathway("V1", "V1", i(1), label="band"),
    )
    assert again(parts).describe() == parts.describe()
    assert drawn(parts, np.int64(3)).weights["V2=>V1"].weight.shape == (16, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3", True, None, (3, 4), np.float64(3)])
def test_neurons_are_counted_in_whole_numbers(wrong: Any) -> None:
    with pytest.raises(NetworkError, match="neurons"):
        Population("V1", wrong)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_kernels_strides_paddings_and_poolings_need_not_be_square(mode: str) -> None:
    network = Network(
        InputPopulation("retina", (2, 8, 11)),
        Population("V1", (3, 8, 6), "tanh", Pooling("max", (2, 3), (2, 1))),
        Population("readout", 4, "linear"),
        FeedforwardPathway("retina", "V1", Convolution((3, 5), (1, 2), (1, 2), mode)),
        FeedforwardPathway("V1", "readout"),
    )
    circuit, moment = drawn(network), full_moment(network)
    images = moment.events[0].stimulus  # type: ignore[attr-defined]
    w = {name: [p.clone().requires_grad_() for p in held.present] for name, held in circuit.weights.items()}
    x, margin = (F.pad(images, (2, 2, 1, 1), mode="reflect"), 0) if mode == "reflect" else (images, (1, 2))
    z = F.max_pool2d(torch.tanh(F.conv2d(x, *w["retina->V1"], (1, 2), margin)), (2, 3), (2, 1))
    assert torch.allclose(circuit.sweep(images)["V1"], z.detach(), rtol=1e-12)
    labels = moment.require(Teaching, "test").labels
    loss = F.cross_entropy(F.linear(z.flatten(1), *w["V1->readout"]), labels)
    found = torch.autograd.grad(loss, [p for parameters in w.values() for p in parameters])
    want = {"retina->V1": [-found[0], -found[1]], "V1->readout": [-found[2], -found[3]]}
    assert_close(proposals(Backprop(CrossEntropy()), circuit, moment), want, list(want))


def test_geometries_that_cannot_be_are_refused() -> None:
    for make in (
        lambda: Convolution((3, 5, 7)),  # type: ignore[arg-type]
        lambda: Convolution(0),
        lambda: Convolution(3, 0),
        lambda: Convolution(3, 1, -1),
        lambda: Convolution("3"),  # type: ignore[arg-type]
        lambda: Convolution(3, padding_mode="circular"),
        lambda: Pooling("max", (2, 2, 2)),  # type: ignore[arg-type]
        lambda: Pooling("max", 0),
        lambda: Pooling("max", 2, 2, 2),
        lambda: Sparse(0),
        lambda: Sparse(3, -1),
        lambda: LocalFields(0).weight_shape((1, 3, 3), (1, 3, 3)),
    ):
        with pytest.raises(NetworkError):
            make()
    with pytest.raises(NetworkError, match=r"does not exist, expected relu, linear.*or a subclass of neurossl.Transfer"):
        Population("V1", 3, nn.GELU())  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="expected a Connectivity"):
        FeedforwardPathway("a", "b", "dense")  # type: ignore[arg-type]


class Exponential(Transfer):
    """``rho(a) = exp(a) - 1``, whose slope is its activity plus 1."""

    name = "test-exponential"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``exp(a) - 1``."""
        return drive.expm1()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Multiply with ``exp(a) = z + 1``."""
        return credit * (activity + 1)


def test_a_transfer_function_of_ones_own_learns_as_autograd_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSFERS, "test-exponential", register_transfer(Exponential()))
    monkeypatch.setitem(__import__("oracle").TRANSFER, "test-exponential", torch.expm1)
    for network in (
        mlp(12, [9, 7], 4, "test-exponential"),
        convolutional((2, 9, 9), [(4, True), (3, False)], 4, Exponential()),  # type: ignore[arg-type]
    ):
        assert again(network).describe() == network.describe()
        rule = Backprop(CrossEntropy())
        circuit = wired(rule, drawn(network))
        moment = full_moment(network)
        plain = Autograd(circuit)
        z, _ = plain.sweep(0.3 * moment.events[0].stimulus, detach=False)  # type: ignore[attr-defined]
        moment = moment.with_events(type(moment.events[0])(0.3 * moment.events[0].stimulus, moment.events[0].partner))  # type: ignore[attr-defined, call-arg]
        want = plain.gradients(F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels))
        assert_close(proposals(rule, circuit, moment), want, list(want))
    with pytest.raises(NetworkError, match="another transfer function called 'relu'"):
        register_transfer(type("Relu", (Exponential,), {"name": "relu"})())
    for wrong in (Exponential, torch.tanh, "tanh"):
        with pytest.raises(NetworkError, match="expected an instance of a subclass of Transfer"):
            register_transfer(wrong)  # type: ignore[arg-type]


def test_anatomy_holds_no_tensors_and_one_network_serves_many_simulations() -> None:
    network = odd_network()
    for part in (*network.populations.values(), *network.pathways.values()):
        held = [value for value in vars(part).values() if isinstance(value, Tensor)]
        assert not held, part
    simulations = [simulated(drawn(network, seed), "clapp++gap", seed=seed) for seed in range(2)]
    for simulation in simulations:
        simulation.run([full_moment(network)])
    assert not same(*(clones(simulation.weights) for simulation in simulations))
    assert list(network.pathways) == list(odd_network().pathways)


def test_one_pathway_may_be_part_of_two_networks() -> None:
    pathway = FeedforwardPathway("retina", "V1")
    small = Network(InputPopulation("retina", 3), Population("V1", 2), pathway)
    large = Network(InputPopulation("retina", 30), Population("V1", 20), pathway)
    shapes = [Weights.draw(network)["retina->V1"].weight.shape for network in (small, large)]
    assert shapes == [(2, 3), (20, 30)]
