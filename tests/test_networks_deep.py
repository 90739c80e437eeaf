"""The deep networks of the paper, and a residual network in which every rule equals autograd."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import clones, drawn, full_moment, same, stimulus_of, wired
from oracle import TRANSFER, Autograd, assert_close, contrastive_loss, every_rule, proposals, softplus
from torch import Tensor

from neurossl import Circuit
from neurossl.anatomy import (
    Convolution,
    FeedbackPathway,
    MirrorPathway,
    Mixing,
    from_description,
    residual,
    tokens,
    vgg6,
    vgg8,
)
from neurossl.anatomy.blocks import SKIPS
from neurossl.anatomy.description import described_network
from neurossl.engine.optimisers import Optimisers
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Moment, Neuromodulation, Phase, Teaching
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    Goodness,
    InfoNCE,
    Local,
    LocationGoodness,
    PredictiveCoding,
    Rule,
    SquaredError,
    Synapses,
    make_rule,
    propose,
    settle,
)

SPATIAL = {
    (vgg6, 32): [4, 4, 4, 2, 2, 1],
    (vgg6, 64): [8, 8, 8, 4, 4, 2],
    (vgg6, 96): [12, 12, 12, 6, 6, 3],
    (vgg8, 224): [28, 28, 14, 14, 14, 7, 7, 7],
}


@pytest.mark.parametrize(("architecture", "size"), SPATIAL)
def test_the_published_networks_and_their_pools(architecture: Any, size: int) -> None:
    network = architecture((3, size, size))
    channels = [128, 256, 256, 512, 1024, 1024] if architecture is vgg6 else [128, 256, 512, 512, 1024, 1024, 1024, 1024]
    halvings = [0, 1, 1, 2, 3, 4] if architecture is vgg6 else [0, 1, 2, 2, 3, 4, 4, 5]
    for name, count, halved in zip(network.order, channels, halvings, strict=True):
        population, (pathway,) = network.populations[name], network.incoming(name)
        assert population.shape == (count, size >> halved, size >> halved)
        assert (population.transfer.name, pathway.connectivity) == ("relu", Convolution(3, 1, 1))
        assert pathway.has_bias
        assert pathway.init == "uniform"
        assert pathway.normalisation is None
    assert [Contrastive(pool="spatial").pool(network, name) for name in network.order] == SPATIAL[architecture, size]
    compared = [Contrastive(pool="spatial, global top").pool(network, name) for name in network.order]
    assert compared == [*SPATIAL[architecture, size][:-1], network.populations[network.top].shape[1]]


def test_the_full_network_has_the_published_number_of_weights() -> None:
    """B of the lateral rule: d = 8192, 4096, 4096, 8192, 4096, 4096; with direct feedback all contexts have 4096 values."""
    for name, scored in (
        ("clapp++", [8192**2, 4096**2, 4096**2, 8192**2, 4096**2, 4096**2]),
        ("clapp++dfb", [8192 * 4096, 4096**2, 4096**2, 8192 * 4096, 4096**2, 4096**2]),
        ("clapp++gap", [128**2, 256**2, 256**2, 512**2, 1024**2, 1024**2]),
        ("bp-clapp++", [1024**2]),
        ("bp-infonce", [1024**2]),
    ):
        network = make_rule(name).wire(vgg6((3, 32, 32)))
        assert [p.synapses for p in network.feedback.values()] == scored
    channels = [3, 128, 256, 256, 512, 1024, 1024]
    kernels = sum(9 * below * above + above for below, above in pairwise(channels))
    assert sum(p.synapses for p in network.feedforward.values()) == kernels == 16_226_816


def test_networks_by_description() -> None:
    assert from_description("vgg8:0.125", (3, 64, 64)).populations["V8"].shape == (128, 2, 2)
    network = from_description("residual:8-8-16", (3, 9, 9), 4, normalisation="length")
    assert network.order == ["V1", "V2", "V3", "V4", "V5", "V6", "V7", "readout"]
    assert [network.populations[n].shape for n in ("V1", "V5", "V7")] == [(8, 9, 9), (8, 9, 9), (16, 5, 5)]
    assert [p.name for p in network.incoming("V7")] == ["V6->V7", "V5->V7"]
    assert {p.normalisation for p in network.feedforward.values()} == {"length"}
    assert not network.pathways["V1->V3"].plastic
    plastic = from_description("residual:8-16:plastic", (3, 9, 9))
    assert plastic.pathways["V3->V5"].plastic
    assert plastic.pathways["V3->V5"].weight_shape == (16, 8, 1, 1)
    assert "skip plastic" in plastic.name
    assert "V1->V3" not in from_description("residual:8:none", (3, 9, 9)).pathways
    network = from_description("tokens:3x4-6", (3, 9, 9), 4)
    assert [network.populations[n].shape for n in ("V1", "V2", "V3", "V5")] == [(4, 3, 3), (4, 3, 3), (4, 3, 3), (6, 3, 3)]
    assert [p.name for p in network.incoming("V5")] == ["V4->V5", "V3->V5"]
    kinds = [network.pathways[n].connectivity for n in ("retina->V1", "V1->V2", "V2->V3", "V1->V3")]
    assert kinds == [Convolution(3, 3, 0), Mixing(), Convolution(1, 1, 0), Convolution(1, 1, 0)]
    assert described_network(network.describe()).describe() == network.describe()
    assert from_description("tokens:3x4:plastic", (3, 9, 9)).pathways["V1->V3"].plastic
    with pytest.raises(NetworkError, match="patches of 2x2 pixels do not tile an image of 9x9"):
        tokens((3, 9, 9), 2, [4])
    for text in (
        "residual:",
        "residual:8-x",
        "vgg8:wide",
        "residual:0",
        "tokens:8-8",
        "tokens:4x",
        "tokens:x4",
        "tokens:0x4",
    ):
        with pytest.raises(OptionError, match="residual:64-128-256"):
            from_description(text, (3, 32, 32))
    with pytest.raises(OptionError, match="expected identity, plastic, none"):
        from_description("residual:8:dense", (3, 9, 9))
    with pytest.raises(OptionError, match="factor > 0"):
        vgg6(width=-0.5)
    with pytest.raises(NetworkError, match="channels, height, width"):
        residual((9,), [4])
    with pytest.raises(NetworkError, match="does not fit"):
        vgg8((3, 16, 16))


def test_a_skip_pathway_adds_its_activity_to_the_drive() -> None:
    """One-to-one: the block computes rho(W2 rho(W1 x) + x), with the map halved and channels left out where they differ."""
    circuit = drawn(residual((3, 8, 8), [4, 6]), 1)
    stimulus = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    z = circuit.sweep(stimulus)

    def convolved(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(x, *circuit.weights[name], stride, 1)

    v1 = convolved("retina->V1", stimulus).relu()
    v3 = (convolved("V2->V3", convolved("V1->V2", v1).relu()) + v1).relu()
    short = F.pad(v3[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))
    v5 = (convolved("V4->V5", convolved("V3->V4", v3, 2).relu()) + short).relu()
    assert torch.allclose(z["V3"], v3, rtol=1e-12, atol=1e-14)
    assert torch.allclose(z["V5"], v5, rtol=1e-12, atol=1e-14)


def skipped(skip: str, classes: int | None = None, transfer: str = "relu", **options: Any) -> Circuit:
    """Return a residual network of two blocks, the second of which halves an odd map, in float64.

    Skip pathways that learn do not begin one-to-one here, so that none of their weights is 0.
    """
    circuit = drawn(residual((2, 9, 9), [4, 6], classes, transfer, skip, **options))
    for name, pathway in circuit.network.feedforward.items():
        if pathway.init == "identity" and pathway.plastic:
            random = torch.randn(pathway.weight_shape, generator=torch.Generator().manual_seed(1))
            circuit.weights.set(name, random.double())
    return circuit


def learning(circuit: Circuit, want: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Return the gradients of the plastic pathways alone."""
    return {name: gradient for name, gradient in want.items() if circuit.network.pathways[name].plastic}


def agrees(rule: Rule, circuit: Circuit, moment: Moment, want: Mapping[str, list[Tensor]], bound: float = 1e-10) -> None:
    got, want = proposals(rule, circuit, moment), learning(circuit, want)
    assert set(got) == set(want)
    assert_close(got, dict(want), list(want), bound)


BOTH = pytest.mark.parametrize("skip", [name for name, options in SKIPS.items() if options is not None])


@BOTH
@pytest.mark.parametrize(
    ("context", "kernel", "contrast"),
    [("lateral", "spatial", "hinge"), ("top", "spatial", "softplus"), ("both", 2, "phyll"), ("lateral", "global", "linear")],
)
def test_clapp_with_skips(skip: str, context: str, kernel: Any, contrast: str) -> None:
    objective = Contrastive(contrast, context, kernel)
    circuit = wired(Local(objective), skipped(skip))
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in circuit.network.order:
        for prediction in objective.pathway_names(name, circuit.network.top):
            pathway = circuit.network.pathways[prediction]
            assert isinstance(pathway, FeedbackPathway)
            pools = pathway.source_pool, pathway.target_pool
            weight = plain.weights[prediction][0]
            loss = loss + contrastive_loss(z[name], z[pathway.pre].detach(), weight, moment, contrast, pools)
    agrees(Local(objective), circuit, moment, plain.gradients(loss))


@BOTH
@pytest.mark.parametrize("paired", [False, True])
def test_forward_forward_with_skips(skip: str, paired: bool) -> None:
    circuit = skipped(skip, normalisation="length")
    moment = full_moment(circuit)
    sign = moment.require(Phase, "test").sign
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in circuit.network.order:
        goodness, units = z[name].flatten(1).square().sum(1), z[name][0].numel()
        if paired:
            loss = loss + softplus((goodness[sign < 0] - goodness[sign > 0]) / units).mean()
        else:
            loss = loss + F.binary_cross_entropy_with_logits(goodness - units, (sign > 0).double())
    agrees(Local(Goodness(paired=paired)), circuit, moment, plain.gradients(loss))


@BOTH
def test_scff_with_skips(skip: str) -> None:
    circuit = skipped(skip, transfer="triangle", normalisation="doubled")
    moment = full_moment(circuit)
    sign = moment.require(Phase, "test").sign
    plain = Autograd(circuit)
    _, drives = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for drive in drives.values():
        goodness = torch.relu(drive).square().mean(1)
        loss = loss + softplus(0.2 - goodness[sign > 0]).mean() + softplus(goodness[sign < 0] - 0.5).mean()
        loss = loss + 0.01 * goodness[sign > 0].flatten(1).norm(dim=1).mean()
    agrees(Local(LocationGoodness((0.2, 0.5), penalty=0.01)), circuit, moment, plain.gradients(loss))


@BOTH
def test_backprop_with_skips(skip: str) -> None:
    circuit = skipped(skip, 4)
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    loss = F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels)
    agrees(Backprop(CrossEntropy()), circuit, moment, plain.gradients(loss))

    rule = Backprop(Contrastive("softplus", "lateral", "global"))
    circuit = wired(rule, skipped(skip))
    top = circuit.network.top
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    weight = plain.weights[f"{top}=>{top}"][0]
    loss = contrastive_loss(z[top], z[top].detach(), weight, moment, "softplus", ("global", "global"))
    agrees(rule, circuit, moment, plain.gradients(loss))


@BOTH
def test_feedback_alignment_with_skips(skip: str) -> None:
    """Held against a network whose drives are W x to its weights, but M^T x to the activity below."""
    rule = FeedbackAlignment(CrossEntropy())
    circuit = wired(rule, skipped(skip, 4, "tanh"))
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z = {"retina": stimulus_of(moment)}
    for name in circuit.network.order:
        drive = torch.zeros(())
        for pathway in circuit.network.incoming(name):
            x = z[pathway.pre]
            drive = drive + _driven(pathway, x.detach(), *plain.weights[pathway.name])
            if pathway.pre != "retina":
                through = _driven(pathway, x, circuit.weights[f"{name}=>{pathway.pre}"].weight.transpose(0, 1))
                drive = drive + through - through.detach()
        z[name] = TRANSFER[circuit.network.populations[name].transfer.name](drive)
    loss = F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels)
    agrees(rule, circuit, moment, plain.gradients(loss))
    for pathway in circuit.network.feedforward.values():
        if pathway.pre != "retina":
            transposed = circuit.weights[pathway.name].weight.transpose(0, 1)
            circuit.weights.set(f"{pathway.post}=>{pathway.pre}", transposed)
    backprop = proposals(Backprop(CrossEntropy()), circuit, moment)
    assert_close(proposals(rule, circuit, moment), backprop, list(backprop), 1e-12)


def _driven(pathway: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    wiring = pathway.connectivity
    if isinstance(wiring, Convolution):
        return F.conv2d(x, weight, bias, wiring.stride, wiring.padding)
    return F.linear(x.flatten(1), weight, bias)


def test_the_mirror_of_a_fixed_one_to_one_pathway_is_one() -> None:
    """The error then goes down the skip as the activity came up, as in published residual networks with random feedback."""
    circuit = wired(FeedbackAlignment(CrossEntropy()), skipped("identity", 4))
    assert isinstance(circuit.network.pathways["V3=>V1"], MirrorPathway)
    assert torch.equal(circuit.weights["V3=>V1"].weight, circuit.weights["V1->V3"].weight.transpose(0, 1))
    rule = PredictiveCoding(CrossEntropy(), feedback="learned")
    learned = wired(rule, skipped("identity", 4)).network
    assert not learned.pathways["V3=>V1"].plastic
    assert learned.pathways["V2=>V1"].plastic
    random = wired(rule, skipped("plastic", 4)).network
    assert random.pathways["V3=>V1"].plastic


@BOTH
def test_direct_feedback_alignment_with_skips(skip: str) -> None:
    rule = DirectFeedbackAlignment(CrossEntropy())
    circuit = wired(rule, skipped(skip, 4))
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    labels = moment.require(Teaching, "test").labels
    error = (z["readout"].softmax(1) - F.one_hot(labels, 4)).detach()
    loss = F.cross_entropy(z["readout"], labels)
    for name in circuit.network.order[:-1]:
        arrived = error @ circuit.weights[f"readout=>{name}"].weight.T
        loss = loss + (arrived * z[name].flatten(1)).sum() / len(labels)
    agrees(rule, circuit, moment, plain.gradients(loss))


class Energy:
    """Predictive coding from its energy and autograd: ``1/2 sum ||v - mu||^2`` per row, and the loss at the top."""

    def __init__(self, circuit: Circuit, moment: Moment, squared: bool) -> None:
        self.network, self.moment, self.squared = circuit.network, moment, squared
        self.plain = Autograd(circuit)
        start = circuit.sweep(stimulus_of(moment))
        self.values = {n: start[n].clone() for n in circuit.network.order[:-1]}

    def __call__(self) -> Tensor:
        """Return the energy of every row."""
        labels = self.moment.require(Teaching, "test").labels
        z = {"retina": stimulus_of(self.moment), **self.values}
        total = torch.zeros(len(labels), dtype=torch.float64)
        for name in self.network.order:
            drive = torch.zeros(())
            for pathway in self.network.incoming(name):
                drive = drive + _driven(pathway, z[pathway.pre], *self.plain.weights[pathway.name])
            mu = TRANSFER[self.network.populations[name].transfer.name](drive)
            if name != self.network.top:
                total = total + (z[name] - mu).flatten(1).square().sum(1) / 2
            elif self.squared:
                total = total + (F.one_hot(labels, 4) - mu).square().sum(1) / 2
            else:
                total = total + F.cross_entropy(mu, labels, reduction="none")
        return total

    def relax(self, rate: float) -> None:
        """Take one step of all value neurons down the energy of their row."""
        self.values = {n: v.detach().requires_grad_() for n, v in self.values.items()}
        slopes = torch.autograd.grad(self().sum(), list(self.values.values()))
        self.values = {n: (v - rate * g).detach() for (n, v), g in zip(self.values.items(), slopes, strict=True)}


@BOTH
@pytest.mark.parametrize("squared", [True, False])
def test_predictive_coding_with_skips(skip: str, squared: bool) -> None:
    circuit = skipped(skip, 4, "softplus")
    moment = full_moment(circuit)
    rule = PredictiveCoding(SquaredError() if squared else CrossEntropy(), steps=6, rate=0.1)
    energy = Energy(circuit, moment, squared)
    for _ in range(6):
        energy.relax(0.1)
    *_, scope = settle(rule, circuit.sweep(stimulus_of(moment)), moment)
    settled = scope._activity
    for name, value in energy.values.items():
        assert torch.allclose(settled.source[name], value, rtol=1e-11, atol=1e-13)
    agrees(rule, circuit, moment, energy.plain.gradients(energy().mean()))


@BOTH
def test_incremental_predictive_coding_with_skips(skip: str) -> None:
    circuit = skipped(skip, 4, "tanh")
    moment = full_moment(circuit)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.1, schedule="incremental")
    energy = Energy(circuit, moment, squared=True)
    optimisers = Optimisers(circuit.network, circuit.weights, Synapses("sgd", lr=0.05))
    for scope in settle(rule, circuit.sweep(stimulus_of(moment)), moment):
        for name, update in propose(rule, scope, moment):
            optimisers.change(name, update)
    for _ in range(5):
        gradients = learning(circuit, energy.plain.gradients(energy().mean()))
        energy.relax(0.1)
        with torch.no_grad():
            for name, steps in gradients.items():
                for parameter, step in zip(energy.plain.weights[name], steps, strict=True):
                    parameter.add_(step, alpha=0.05)
    for name, parameters in energy.plain.weights.items():
        for ours, oracle in zip(circuit.weights[name].present, parameters, strict=True):
            assert torch.allclose(ours, oracle.detach(), rtol=1e-10, atol=1e-12), name


@BOTH
@pytest.mark.parametrize("objective", [CrossEntropy(), Contrastive("hinge", "lateral", "spatial"), InfoNCE()])
def test_fixed_predictions_equal_backprop_with_skips_and_z_il_refuses(skip: str, objective: Any) -> None:
    circuit = skipped(skip, 4 if isinstance(objective, CrossEntropy) else None)
    moment = full_moment(circuit)
    want = proposals(Backprop(objective), circuit, moment)
    steps = len(circuit.network.order)
    rule = PredictiveCoding(objective, steps=steps, rate=1.0, schedule="fixed-prediction")
    assert_close(proposals(rule, circuit, moment), want, list(want), 1e-10)
    with pytest.raises(NetworkError, match="chains only"):
        PredictiveCoding(objective, schedule="z-il").wire(circuit.network)
    PredictiveCoding(objective, schedule="z-il").wire(residual((2, 9, 9), [4], 4, skip="none"))


@BOTH
@pytest.mark.parametrize("name", [name for name in every_rule() if name not in ("z-il", "blocks-clapp")])
def test_every_rule_learns_with_skips(name: str, skip: str) -> None:
    """Fixed skips stay; a silent observer changes nothing; changes applied one at a time are those proposed first."""
    rule = make_rule(name)
    classes = 4 if "target" in rule.needs else None
    circuit, other = (wired(rule, skipped(skip, classes, normalisation=rule.normalisation)) for _ in range(2))
    moment = full_moment(circuit)
    before = clones(circuit.weights)
    quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
    assert all(float(t.abs().max()) == 0 for ts in proposals(rule, circuit, quiet).values() for t in ts)
    one, two = (Optimisers(c.network, c.weights, Synapses("sgd", lr=0.1)) for c in (circuit, other))
    for scope in settle(rule, circuit.sweep(stimulus_of(moment)), moment):
        for path, update in propose(rule, scope, moment):
            one.change(path, update)
    for scope in settle(rule, other.sweep(stimulus_of(moment)), moment):
        for path, update in list(propose(rule, scope, moment)):
            assert update.weight.isfinite().all()
            two.change(path, update)
    assert same(clones(circuit.weights), clones(other.weights))
    for path, pathway in circuit.network.feedforward.items():
        unchanged = torch.equal(circuit.weights[path].weight, before[path][0])
        assert unchanged == (not pathway.plastic), path


@pytest.mark.parametrize(("context", "kernel"), [("lateral", "spatial"), ("top", "spatial"), ("both", "global")])
def test_clapp_on_tokens(context: str, kernel: str) -> None:
    """One token per place of the score: V1, mixed over places, dense per token with a plastic skip."""
    objective = Contrastive("softplus", context, kernel)
    circuit = wired(Local(objective), token_circuit())
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in circuit.network.order:
        for prediction in objective.pathway_names(name, circuit.network.top):
            pathway = circuit.network.pathways[prediction]
            assert isinstance(pathway, FeedbackPathway)
            pools, weight = (pathway.source_pool, pathway.target_pool), plain.weights[prediction][0]
            loss = loss + contrastive_loss(z[name], z[pathway.pre].detach(), weight, moment, "softplus", pools)
    agrees(Local(objective), circuit, moment, plain.gradients(loss))


def test_backprop_and_its_mirrors_on_tokens() -> None:
    """Feedback alignment whose mirrors are the transposed weights is backprop: mixing has a mirror as well."""
    circuit = wired(FeedbackAlignment(CrossEntropy()), token_circuit(4))
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    loss = F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels)
    want = plain.gradients(loss)
    agrees(Backprop(CrossEntropy()), circuit, moment, want)
    for pathway in circuit.network.feedforward.values():
        if pathway.pre != "retina":
            transposed = circuit.weights[pathway.name].weight.transpose(0, 1)
            circuit.weights.set(f"{pathway.post}=>{pathway.pre}", transposed)
    agrees(FeedbackAlignment(CrossEntropy()), circuit, moment, want)


def token_circuit(classes: int | None = None, skip: str = "plastic", **options: Any) -> Circuit:
    """Return a token network of one block with another number of channels, in float64."""
    return drawn(tokens((2, 8, 6), 2, [3, 5], classes, "tanh", skip, **options))


@pytest.mark.parametrize("name", every_rule())
def test_every_rule_that_can_learn_in_maps_learns_on_tokens(name: str) -> None:
    rule = make_rule(name)
    skip = "none" if name in ("z-il", "blocks-clapp") else "identity"
    circuit = token_circuit(4 if "target" in rule.needs else None, skip, normalisation=rule.normalisation)
    if name == "softhebb":
        as_many_places_as_channels = tokens((2, 8, 6), 2, [12])
        with pytest.raises(NetworkError, match="'V1->V2' differ from place to place"):
            rule.wire(as_many_places_as_channels)
        return
    found = proposals(rule, circuit, full_moment(circuit))
    learned = {n for n, p in circuit.network.feedforward.items() if p.plastic}
    changed = {n for n, parts in found.items() if n in learned and all(bool(part.any()) for part in parts)}
    assert changed == learned
