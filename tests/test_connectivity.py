"""Connectivity: sparse, untied and one's own equal autograd under every rule, and are stored and counted as such."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MemoryStore, drawn, full_moment, simulated, stimulus_of, wired
from oracle import assert_close, contrastive_loss, proposals
from torch import Tensor

from analysis import TrajectoryWriter, export, open_trajectory
from neurossl import Circuit, Connectivity, Network, Simulation
from neurossl.anatomy import (
    Convolution,
    FeedbackPathway,
    FeedforwardPathway,
    InputPopulation,
    LocalFields,
    Mixing,
    Population,
    Sparse,
)
from neurossl.engine.projections import SomaticProjection
from neurossl.errors import NetworkError
from neurossl.events import Fixation, Moment, Teaching
from neurossl.plasticity import Backprop, Contrastive, CrossEntropy, FeedbackAlignment, Local, Rule, Site, Synapses
from neurossl.plasticity.homeostasis import Homeostasis
from neurossl.recorders import WeightRecorder

Shape = tuple[int, ...]


class Diagonal(Connectivity):
    """One to one, on flattened activity: nothing but the two methods that are needed."""

    dims = ("post",)

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post,)."""
        if int(np.prod(pre)) != int(np.prod(post)):
            raise ValueError(f"one-to-one: {pre} and {post} differ in their number of values")
        return (int(np.prod(post)),)

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``w_j x_j + b_j``."""
        drive = x.flatten(1) * weight
        return drive if bias is None else drive + bias


class Columns(Connectivity):
    """Every row of the image drives with weights of its own a map of the same height: not flat, a bias per channel."""

    dims = ("post", "pre", "ky")

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post channels, pre channels, rows)."""
        if pre[1:] != post[1:]:
            raise ValueError(f"columns join maps of one size, not {pre} and {post}")
        return post[0], pre[0], pre[1]

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the sum over channels with the weights of the row."""
        drive = torch.einsum("nchw,och->nohw", x, weight)
        return drive if bias is None else drive + bias[:, None, None]


def sparse(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the drive of 5 partners each, from a matrix that is 0 elsewhere."""
    index = torch.from_numpy(Sparse(5, 3).index(x[0].numel(), len(weight)))
    dense = torch.zeros(len(weight), x[0].numel(), dtype=weight.dtype).scatter(1, index, weight)
    return F.linear(x.flatten(1), dense, bias)


def fields(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the drive of 3 x 2 fields of stride 1 and 2, place by place."""
    padded = F.pad(x, (1, 1, 1, 1))
    high, wide = (padded.shape[2] - 3) + 1, (padded.shape[3] - 2) // 2 + 1
    kernels = weight.view(-1, high, wide, *weight.shape[1:])
    rows = []
    for y in range(high):
        for column in range(wide):
            patch = padded[:, :, y : y + 3, 2 * column : 2 * column + 2]
            rows.append(torch.einsum("nchw,ochw->no", patch, kernels[:, y, column]))
    drive = torch.stack(rows, 2).flatten(1)
    return drive if bias is None else drive + bias


def one_to_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.flatten(1) * weight + (0 if bias is None else bias)


def columns(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    by_row = [torch.einsum("ncw,oc->now", x[:, :, y], weight[:, :, y]) for y in range(x.shape[2])]
    drive = torch.stack(by_row, 2)
    return drive + (0 if bias is None else bias.view(-1, 1, 1))


def mixed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the drive of 4 x 5 places, one channel after the other."""
    by_channel = [F.linear(x[:, channel].flatten(1), weight, bias) for channel in range(x.shape[1])]
    return torch.stack(by_channel, 1).view(len(x), -1, 4, 5)


KINDS: dict[str, tuple[Connectivity, Any, Shape, Any]] = {
    "sparse": (Sparse(5, 3), sparse, (9,), (10, 5)),
    "local fields": (LocalFields((3, 2), (1, 2), 1), fields, (4, 6, 4), (96, 2, 3, 2)),
    "mixing": (Mixing(), mixed, (2, 4, 5), (20, 36)),
    "diagonal": (Diagonal(), one_to_one, (72,), (72,)),
    "columns": (Columns(), columns, (3, 6, 6), (3, 2, 6)),
}
by_kind = pytest.mark.parametrize("kind", KINDS)


def circuit_of(kind: str, bias: bool = True, normalisation: str | None = None) -> Circuit:
    """Return (2, 6, 6) -> V1 -> V2 -> readout, the first pathway of this kind; the second is sparse, too."""
    wiring, _, neurons, _ = KINDS[kind]
    network = Network(
        InputPopulation("retina", (2, 6, 6)),
        Population("V1", neurons, "tanh"),
        Population("V2", 6, "softplus"),
        Population("readout", 4, "linear"),
        FeedforwardPathway("retina", "V1", wiring, bias=bias, normalisation=normalisation),
        FeedforwardPathway("V1", "V2", Sparse(5, 3), bias=bias, normalisation=normalisation),
        FeedforwardPathway("V2", "readout"),
    )
    return drawn(network)


class Plain:
    """The same circuit in plain torch."""

    def __init__(self, circuit: Circuit, kind: str) -> None:
        self.drive, self.neurons = KINDS[kind][1], KINDS[kind][2]
        self.weights = {name: [p.clone().requires_grad_() for p in held.present] for name, held in circuit.weights.items()}

    def of(self, name: str) -> tuple[Tensor, Tensor | None]:
        weight, bias = (*self.weights[name], None)[:2]
        assert weight is not None
        return weight, bias

    def sweep(self, x: Tensor, detach: bool) -> dict[str, Tensor]:
        v1 = torch.tanh(self.drive(x, *self.of("retina->V1"))).view(-1, *self.neurons)
        drive = sparse(v1.detach() if detach else v1, *self.of("V1->V2"))
        v2 = torch.logaddexp(drive, torch.zeros_like(drive))
        return {"V1": v1, "V2": v2, "readout": F.linear(v2.detach() if detach else v2, *self.of("V2->readout"))}

    def gradients(self, loss: Tensor) -> dict[str, list[Tensor]]:
        names = [(name, p) for name, parameters in self.weights.items() for p in parameters]
        found = torch.autograd.grad(loss, [p for _, p in names], allow_unused=True)
        result: dict[str, list[Tensor]] = {}
        for (name, _), gradient in zip(names, found, strict=True):
            if gradient is not None:
                result.setdefault(name, []).append(-gradient)
        return result


@by_kind
@pytest.mark.parametrize("bias", [True, False])
def test_backprop_through_it_equals_autograd(kind: str, bias: bool) -> None:
    circuit = circuit_of(kind, bias)
    moment = full_moment(circuit)
    plain = Plain(circuit, kind)
    z = plain.sweep(stimulus_of(moment), detach=False)
    for name, activity in z.items():
        assert torch.allclose(circuit.sweep(stimulus_of(moment))[name], activity.detach(), rtol=1e-12)
    want = plain.gradients(F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels))
    got = proposals(Backprop(CrossEntropy()), circuit, moment)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@by_kind
def test_local_learning_through_it_equals_autograd(kind: str) -> None:
    objective = Contrastive("softplus", "lateral", "global")
    rule = Local(objective)
    circuit = wired(rule, circuit_of(kind))
    moment = full_moment(circuit)
    plain = Plain(circuit, kind)
    z = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name, activity in z.items():
        pathway = circuit.network.pathways[f"{name}=>{name}"]
        assert isinstance(pathway, FeedbackPathway)
        pools, weight = (pathway.source_pool, pathway.target_pool), plain.weights[pathway.name][0]
        loss = loss + contrastive_loss(activity, activity.detach(), weight, moment, "softplus", pools)
    got, want = proposals(rule, circuit, moment), plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@by_kind
@pytest.mark.parametrize("normalisation", [None, "length", "standard"])
def test_hebbian_and_transpose_follow_from_the_drive(kind: str, normalisation: str | None) -> None:
    circuit = circuit_of(kind, normalisation=normalisation)
    projection = circuit["retina->V1"]
    assert isinstance(projection, SomaticProjection)
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    weight, bias = (p.clone().requires_grad_() for p in projection.parameters.present)
    centred = x - x.mean((1, 2, 3), keepdim=True) if normalisation == "standard" else x
    seen = centred if normalisation is None else centred / (centred.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-8)
    drive = KINDS[kind][1](seen, weight, bias).view(4, *KINDS[kind][2])
    credit = torch.randn(drive.shape, dtype=torch.float64)
    to_x, to_weight, to_bias = torch.autograd.grad(drive, [x, weight, bias], credit)
    presynaptic = projection.presynaptic(x.detach())
    assert torch.allclose(projection.drive(presynaptic), drive.detach(), rtol=1e-12, atol=1e-14)
    update = projection.hebbian(presynaptic, credit)
    assert update.bias is not None
    assert torch.allclose(update.weight, to_weight / 4, rtol=1e-11, atol=1e-13)
    assert torch.allclose(update.bias, to_bias / 4, rtol=1e-11, atol=1e-13)
    assert torch.allclose(projection.transpose(credit, x.detach()), to_x, rtol=1e-10, atol=1e-12)


@by_kind
@pytest.mark.parametrize("rule", ["clapp++gap", "bp", "pc", "dfa"])
def test_it_learns_in_a_simulation_and_its_weights_are_recorded(kind: str, rule: str) -> None:
    circuit, store = circuit_of(kind), MemoryStore()
    simulation = simulated(
        circuit, rule, Synapses(lr=0.01), store=store, recorders=[WeightRecorder(1), WeightRecorder(2, index=3)]
    )
    simulation.remove_recorder(simulation.recorders[1])
    simulation.run([full_moment(circuit, seed=seed) for seed in range(3)])
    wiring, _, _, shape = KINDS[kind] if kind != "sparse" else (*KINDS[kind][:3], (9, 5))
    stored = store.of("weights", "retina->V1")
    assert list(stored) == [0, 1, 2, 3]
    assert stored[0]["weight"].shape == shape
    assert store.dims("weights", "retina->V1")["weight"] == wiring.dims
    assert not np.array_equal(stored[0]["weight"], stored[3]["weight"])


def test_what_is_not_there_is_not_counted() -> None:
    """9 neurons of 5 partners each, not of 72; fields of 12 weights at each of 24 places and 4 channels; 20 of 36 places."""
    counted = {kind: circuit_of(kind).network.pathways["retina->V1"].synapses for kind in KINDS}
    untied = {"sparse": 9 * 5 + 9, "local fields": 24 * 4 * 12 + 96, "diagonal": 72 + 72}
    assert counted == {**untied, "columns": 36 + 3, "mixing": 20 * 36 + 20}
    for kind in KINDS:
        circuit = circuit_of(kind)
        pathway = circuit.network.pathways["retina->V1"]
        assert pathway.synapses == sum(p.numel() for p in circuit.weights["retina->V1"].present)
        line = next(text for text in circuit.network.summary().splitlines() if text.split()[:1] == ["retina->V1"])
        assert f"{pathway.synapses:,}" in line


def test_partners_are_drawn_once_by_seed_and_sizes() -> None:
    index = Sparse(5, 3).index(72, 9)
    assert np.array_equal(index, Sparse(5, 3).index(72, 9))
    assert not np.array_equal(index, Sparse(5, 4).index(72, 9))
    assert all(len(set(row)) == 5 and list(row) == sorted(row) for row in index.tolist())
    assert 0 <= index.min() <= index.max() < 72
    index[:] = 0
    assert not np.array_equal(index, Sparse(5, 3).index(72, 9)), "what is handed out is a copy"


def test_untied_fields_with_equal_weights_are_a_convolution() -> None:
    ends = (InputPopulation("retina", (2, 6, 6)), Population("V1", (4, 6, 6), "linear"))
    tied = drawn(Network(*ends, FeedforwardPathway("retina", "V1", Convolution(3, 1, 1))))
    untied = drawn(Network(*ends, FeedforwardPathway("retina", "V1", LocalFields(3))))
    weight, bias = tied.weights["retina->V1"]
    assert bias is not None
    untied.weights.set("retina->V1", weight.repeat_interleave(36, 0), bias.repeat_interleave(36))
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    assert torch.allclose(tied.sweep(x)["V1"], untied.sweep(x)["V1"], rtol=1e-12)


def test_what_does_not_fit_is_refused_with_the_pathway() -> None:
    ends = (InputPopulation("retina", (2, 6, 6)), Population("V1", (4, 6, 6)), Population("V2", 5))
    for wiring, post, message in (
        (Sparse(100), "V2", "'retina->V2': there are only 72 presynaptic values for 100 partners each"),
        (LocalFields(3, 2), "V1", r"'retina->V1': a 3x3 convolution \(stride 2.*drives \(4, 3, 3\) neurons"),
        (LocalFields(3), "V2", "'retina->V2': a convolution joins maps"),
        (Mixing(), "V1", r"'retina->V1': mixing joins maps .* of as many channels, not \(2, 6, 6\) and \(4, 6, 6\)"),
        (Diagonal(), "V2", r"'retina->V2': one-to-one: \(2, 6, 6\) and \(5,\) differ"),
    ):
        with pytest.raises(NetworkError, match=message):
            Network(*ends, FeedforwardPathway("retina", post, wiring))


@by_kind
def test_a_pathway_without_a_mirror_says_so(kind: str) -> None:
    with pytest.raises(NetworkError, match=r"'V2=>V1': Sparse\(partners=5, seed=3\) has no mirror"):
        FeedbackAlignment(CrossEntropy()).wire(circuit_of(kind).network)


@pytest.mark.parametrize("index", [None, 7])
def test_the_presynaptic_partners_lie_beside_the_stored_weights(tmp_path: Path, index: int | None) -> None:
    network = Network(InputPopulation("retina", 8), Population("V1", 6), FeedforwardPathway("retina", "V1", Sparse(3, 2)))
    with TrajectoryWriter(tmp_path / "run") as store:
        recorder = WeightRecorder(1, index=index)
        simulation = Simulation(network, Hebb(), seed=1, device="cpu", store=store, recorders=[recorder])
        simulation.run([Moment(Fixation(torch.rand(4, 8))) for _ in range(3)])
    export(tmp_path / "run", tmp_path / "run.nc")
    partners = Sparse(3, 2).index(8, 6)
    for place in ("run", "run.nc"):
        stored = open_trajectory(tmp_path / place)["weights/retina_to_V1/weight"]
        assert stored["presynaptic"].attrs["long_name"] == "flat index of the presynaptic neuron"
        if index is None:
            assert stored["presynaptic"].dims == ("post", "partner")
            assert np.array_equal(stored["presynaptic"], partners)
        else:
            assert stored["presynaptic"].dims == ("synapse",)
            assert np.array_equal(stored["presynaptic"], partners[stored["post"], stored["partner"]])


class Hebb(Rule):
    """dW = z x."""

    def credit_at(self, site: Site, moment: Moment) -> Tensor:
        return site.activity


def test_mixing_is_dense_where_there_is_one_channel() -> None:
    ends = InputPopulation("retina", (1, 3, 2)), Population("V1", (1, 2, 2), "tanh"), Population("V2", 4, "linear")
    mixing = drawn(Network(*ends, FeedforwardPathway("retina", "V1", Mixing()), FeedforwardPathway("V1", "V2")))
    dense = drawn(Network(*ends, FeedforwardPathway("retina", "V1"), FeedforwardPathway("V1", "V2")))
    for name, held in mixing.weights.items():
        dense.weights.set(name, held.weight, held.bias)
    moment = full_moment(mixing)
    for rule in (Backprop(CrossEntropy()), Local(Contrastive())):
        one, other = proposals(rule, mixing, moment), proposals(rule, dense, moment)
        assert_close(one, other, ["retina->V1", "V1->V2"], 1e-12)


def test_channels_of_both_signs_cannot_share_the_weights_that_mix_places() -> None:
    network = Network(
        InputPopulation("retina", (4, 2, 2)),
        Population("V1", (4, 2, 2), inhibitory=0.25),
        Population("V2", (4, 2, 2)),
        FeedforwardPathway("retina", "V1", Mixing()),
        FeedforwardPathway("V1", "V2", Mixing()),
    )
    with pytest.raises(NetworkError, match="'V1->V2': excitatory and inhibitory channels cannot share the weights"):
        drawn(network)


def test_homeostasis_of_what_mixes_places_is_per_place() -> None:
    """With as many places as channels, too: biases are those of places."""
    network = Network(
        InputPopulation("retina", (4, 2, 2)), Population("V1", (4, 2, 2)), FeedforwardPathway("retina", "V1", Mixing())
    )
    circuit = drawn(network)
    _, bias = circuit.weights["retina->V1"]
    assert bias is not None
    before, activity = bias.clone(), torch.rand(5, 4, 2, 2, dtype=torch.float64)
    Homeostasis(0.2, 0.1)(circuit.network.pathways["retina->V1"], circuit.weights["retina->V1"], activity)
    assert torch.allclose(bias, before + 0.1 * (0.2 - activity.mean((0, 1)).flatten()), rtol=1e-12)
