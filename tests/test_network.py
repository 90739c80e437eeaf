"""Populations, pathways and networks: equal to autograd piece by piece, and checked when built."""

import pytest
import torch
import torch.nn.functional as F
from conftest import clones, dense_circuit, drawn, full_moment, same, simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from neurossl import Network, Weights
from neurossl.anatomy import (
    TRANSFERS,
    Convolution,
    Dense,
    FeedbackPathway,
    FeedforwardPathway,
    InputPopulation,
    MirrorPathway,
    Pooling,
    Population,
    convolutional,
    from_description,
    mlp,
    vgg6,
)
from neurossl.anatomy.shapes import pooled_shape
from neurossl.engine.draw import INITIALISERS
from neurossl.engine.pooling import pooled, unpooled
from neurossl.engine.projections import MirrorProjection, SomaticProjection
from neurossl.engine.responses import at_soma, respond
from neurossl.errors import NetworkError, OptionError

PLAIN = {
    "relu": torch.relu,
    "linear": lambda a: a * 1,
    "tanh": torch.tanh,
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "triangle": lambda a: torch.relu(a - a.mean(1, keepdim=True)),
}


@settings(max_examples=25, deadline=None)
@given(
    transfer=st.sampled_from(sorted(TRANSFERS)),
    kind=st.sampled_from(["max", "average", None]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    size=st.integers(3, 7),
)
def test_somatic_credit_is_the_gradient(transfer: str, kind: str | None, kernel: int, stride: int, size: int) -> None:
    pooling = None if kind is None else Pooling(kind, kernel, stride, kernel // 2)
    population = Population("V1", (3, size, size + 1), transfer, pooling)
    generator = torch.Generator().manual_seed(size)
    drive = torch.randn(4, *population.neurons, generator=generator, dtype=torch.float64).requires_grad_()
    response = PLAIN[transfer](drive)
    if pooling is not None:
        pool = F.max_pool2d if kind == "max" else F.avg_pool2d
        response = pool(response, kernel, stride, kernel // 2)
    answer = respond(population, drive.detach().clone())
    activity = answer.activity
    assert tuple(activity.shape[1:]) == population.shape
    assert torch.allclose(activity, response.detach(), rtol=1e-14, atol=0)
    credit = torch.randn(activity.shape, generator=generator, dtype=torch.float64)
    want = torch.autograd.grad(response, drive, credit)[0]
    assert torch.allclose(at_soma(population, credit, answer), want, rtol=1e-12, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    mode=st.sampled_from(["zeros", "reflect"]),
    normalisation=st.sampled_from([None, "length", "standard", "doubled"]),
    dense=st.booleans(),
)
def test_hebbian_and_transpose_are_the_gradients(
    kernel: int, stride: int, padding: int, mode: str, normalisation: str | None, dense: bool
) -> None:
    wiring = Dense() if dense else Convolution(kernel, stride, padding, mode)
    pre = InputPopulation("retina", (2, 6, 5))
    neurons = 7 if dense else wiring.output_shape(pre.shape, 3)  # type: ignore[attr-defined]
    pathway = FeedforwardPathway("retina", "V1", wiring, normalisation=normalisation)
    network = Network(pre, Population("V1", neurons), pathway)
    network.add(MirrorPathway(network.feedforward["retina->V1"]))
    circuit = drawn(network, 1)
    projection, mirror = circuit["retina->V1"], circuit["V1=>retina"]
    assert isinstance(projection, SomaticProjection)
    assert isinstance(mirror, MirrorProjection)
    generator = torch.Generator().manual_seed(3)
    activity = torch.randn(5, 2, 6, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight, bias = (p.clone().requires_grad_() for p in projection.parameters.present)
    parts = [activity] if normalisation != "doubled" else list(activity.split(1, 1))
    if normalisation in ("standard", "doubled"):
        parts = [x - x.mean((1, 2, 3), keepdim=True) for x in parts]
    if normalisation is not None:
        parts = [x / (x.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-8) for x in parts]
    x = torch.stack(parts).sum(0)
    if dense:
        drive = F.linear(x.flatten(1), weight, bias)
    elif mode == "reflect":
        drive = F.conv2d(F.pad(x, [padding] * 4, mode="reflect"), weight, bias, stride)
    else:
        drive = F.conv2d(x, weight, bias, stride, padding)
    seen = projection.presynaptic(activity.detach())
    assert torch.allclose(projection.drive(seen), drive.detach(), rtol=1e-12, atol=1e-13)
    somatic = torch.randn(drive.shape, generator=generator, dtype=torch.float64)
    to_activity, to_weight, to_bias = torch.autograd.grad(drive, [activity, weight, bias], somatic)
    update = projection.hebbian(seen, somatic)
    assert update.bias is not None
    assert torch.allclose(update.weight, to_weight / 5, rtol=1e-11, atol=1e-13)
    assert torch.allclose(update.bias, to_bias / 5, rtol=1e-11, atol=1e-13)
    assert torch.allclose(projection.transpose(somatic, activity.detach()), to_activity, rtol=1e-10, atol=1e-12)
    circuit.weights.set("V1=>retina", projection.weight.transpose(0, 1))
    assert torch.allclose(mirror.apical(somatic, activity.detach()), to_activity, rtol=1e-10, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(kernel=st.sampled_from([None, "global", 1, 2, 3]), height=st.integers(3, 7), width=st.integers(3, 7))
def test_unpooling_is_the_transpose_of_pooling(kernel: int | str | None, height: int, width: int) -> None:
    shape = (2, height, width)
    generator = torch.Generator().manual_seed(0)
    activity = torch.randn(3, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    cells = pooled(activity, kernel)
    assert cells.shape[1] == torch.Size(pooled_shape(shape, kernel)).numel()
    credit = torch.randn(cells.shape, generator=generator, dtype=torch.float64)
    want = torch.autograd.grad(cells, activity, credit)[0]
    assert torch.allclose(unpooled(credit, shape, kernel), want, rtol=1e-12, atol=1e-15)


def test_populations_that_cannot_be_are_refused() -> None:
    for arguments, message in (
        (("a->b", 3), "without '->'"),
        (("V1", (3, 4)), "channels, height, width"),
        (("V1", 0), ">= 1"),
        (("V1", 3, "sigmoid"), "expected relu, linear"),
        (("V1", 3, "relu", Pooling()), "pooling needs"),
        (("V1", (3, 1, 1), "relu", Pooling()), "does not fit"),
    ):
        with pytest.raises(NetworkError, match=message):
            Population(*arguments)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="expected max, average"):
        Pooling("median")


def build(*pathways: FeedforwardPathway, populations: tuple[Population, ...] = ()) -> Network:
    parts = populations or (InputPopulation("retina", (2, 6, 6)), Population("V1", (4, 6, 6)), Population("V2", 5))
    return Network(*parts, *pathways)


def test_networks_are_checked_when_built() -> None:
    ok = FeedforwardPathway("retina", "V1", Convolution(3, 1, 1))
    with pytest.raises(
        NetworkError, match=r"'retina->V1': a 3x3 convolution .* drives \(4, 4, 4\) neurons, not \(4, 6, 6\)"
    ):
        build(FeedforwardPathway("retina", "V1", Convolution(3, 1, 0)))
    with pytest.raises(NetworkError, match=r"'retina->V2': a convolution joins maps"):
        build(FeedforwardPathway("retina", "V2", Convolution()))
    with pytest.raises(NetworkError, match="two populations are called 'V1'"):
        build(populations=(InputPopulation("retina", 2), Population("V1", 2), Population("V1", 3)))
    with pytest.raises(NetworkError, match="no population above 'retina'"):
        Network(InputPopulation("retina", 2)).check()
    with pytest.raises(NetworkError, match=r"two pathways are called 'retina->V1'; give one a label$"):
        build(ok, FeedforwardPathway("retina", "V1", Convolution(3, 1, 1)))
    with pytest.raises(NetworkError, match="'V1->V7': there is no population 'V7'"):
        build(ok, FeedforwardPathway("V1", "V7"))
    with pytest.raises(NetworkError, match="receives the stimulus only"):
        build(FeedforwardPathway("V2", "retina"))
    with pytest.raises(NetworkError, match="'V2' receives no input"):
        build(ok).check()
    with pytest.raises(NetworkError, match="no InputPopulation"):
        Weights.draw(Network(Population("V1", 2)))
    with pytest.raises(NetworkError, match=r"'V2=>V1'.*leaves no cell"):
        build(ok).add(FeedbackPathway("V2", "V1", target_pool=7))
    network = mlp(3, [2])
    weights = Weights.draw(network)
    network.add(FeedbackPathway("V1", "V1"))
    with pytest.raises(NetworkError, match="'V1=>V1' has no weights: it was added to the network after they were drawn"):
        weights["V1=>V1"]


def test_cycles_are_refused_by_the_pathway_that_closes_them() -> None:
    parts = [InputPopulation("retina", 2), *(Population(f"V{i}", 2) for i in (1, 2, 3))]
    network = Network(*parts)
    for pre, post in (("retina", "V1"), ("V1", "V2"), ("V2", "V3")):
        network.add(FeedforwardPathway(pre, post))
    with pytest.raises(NetworkError, match=r"'V3->V1' closes a cycle.*use a FeedbackPathway"):
        network.add(FeedforwardPathway("V3", "V1"))
    network.add(FeedbackPathway("V3", "V1"))
    assert network.order == ["V1", "V2", "V3"]


def test_several_pathways_into_a_population_add_up() -> None:
    network = Network(InputPopulation("retina", 4), Population("V1", 3, "linear"), Population("V2", 3, "tanh"))
    for pre, post in (("retina", "V1"), ("V1", "V2"), ("retina", "V2")):
        network.add(FeedforwardPathway(pre, post))
    circuit = drawn(network)
    x = torch.randn(5, 4, dtype=torch.float64)
    p = circuit.weights
    drive = F.linear(F.linear(x, *p["retina->V1"]), *p["V1->V2"]) + F.linear(x, *p["retina->V2"])
    assert torch.allclose(circuit.sweep(x)["V2"], drive.tanh(), rtol=1e-13)


def test_weights_depend_on_seed_and_name_alone() -> None:
    one = dense_circuit(seed=5).weights
    network = mlp(12, [9, 7], 4, "tanh").add(FeedbackPathway("V2", "V1"))
    two = Weights.draw(network, 5, dtype="float64")
    for name in one:
        assert torch.equal(one[name].weight, two[name].weight)
    late = Weights.draw(network, 5, dtype="float64", given=one)
    assert torch.equal(late["V2=>V1"].weight, two["V2=>V1"].weight)
    assert not same(clones(one), clones(dense_circuit(seed=6).weights))
    half = Weights.draw(mlp(12, [9, 7], 4, "tanh"), 5)
    assert torch.equal(half["V1->V2"].weight.double(), one["V1->V2"].weight)


@pytest.mark.parametrize("init", sorted(INITIALISERS))
def test_initialisers(init: str) -> None:
    weight = Weights.draw(mlp(400, [100], init=init))["retina->V1"].weight
    spread = {"uniform": 3**-0.5 / 20, "xavier": (6 / 500) ** 0.5 / 3**0.5, "normal": 1.0, "normal-post": 0.1}
    assert float(weight.std()) == pytest.approx(spread.get(init, 1 / 20), rel=0.05)
    if init in ("orthogonal", "identity"):
        assert torch.allclose(weight @ weight.T, torch.eye(100), atol=1e-5)


def test_a_lesion_silences_a_pathway_for_good() -> None:
    circuit = dense_circuit()
    simulation = simulated(circuit, "bp")
    simulation.lesion("V1->V2")
    assert float(simulation.respond(torch.randn(3, 12, dtype=torch.float64))["V2"].abs().max()) == 0
    simulation.run([full_moment(circuit)] * 3)
    assert float(simulation.respond(torch.randn(3, 12, dtype=torch.float64))["V2"].abs().max()) == 0
    assert not simulation.circuit["V1->V2"].plastic


def test_summary_and_repr_say_what_is_there() -> None:
    network = vgg6((3, 32, 32), width=0.1)
    summary = network.summary()
    for part in ("retina", "V6", "V5->V6", "102x102x3x3 + bias", "max-pooling 2/2", "MiB", "total"):
        assert part in summary
    total = sum(tensor.numel() for held in Weights.draw(network).values() for tensor in held.present)
    assert f"{total:,}" in summary
    assert "retina -> V1" in repr(network)
    assert "'V1->V2'" in repr(network.pathways["V1->V2"])


def test_architectures() -> None:
    assert [p.shape for p in vgg6((3, 96, 96)).populations.values()] == [
        *((3, 96, 96), (128, 96, 96), (256, 48, 48), (256, 48, 48), (512, 24, 24), (1024, 12, 12), (1024, 6, 6)),
    ]
    assert from_description("mlp:8-6", (1, 4, 4), 3).order == ["V1", "V2", "readout"]
    circuit = drawn(from_description("conv:4M-6", (1, 8, 8), normalisation="length"), dtype="float32")
    assert circuit.sweep(torch.rand(2, 1, 8, 8))["V2"].shape == (2, 6, 4, 4)
    assert from_description("vgg6:0.125", (3, 32, 32)).populations["V1"].neurons[0] == 16
    for text in ("mlp", "mlp:", "mlp:8-x", "mlp:0", "conv:", "resnet:18", "vgg6:wide", "mlp:-4"):
        with pytest.raises(OptionError, match="expected mlp:256"):
            from_description(text, (1, 8, 8))
    with pytest.raises(NetworkError, match=r"'V4'.*does not fit"):
        convolutional((1, 8, 8), [(4, True)] * 4)
    with pytest.raises(NetworkError, match=r"stimulus: expected rows of \(3, 8, 8\) as in 'retina', got \(1, 8, 8\)"):
        drawn(from_description("conv:4", (3, 8, 8)), dtype="float32").sweep(torch.rand(2, 1, 8, 8))
    with pytest.raises(NetworkError, match="stimulus: expected float32 as the weights are, got float64"):
        circuit.sweep(torch.rand(2, 1, 8, 8).double())
