"""The deep networks of the paper, and a residual network in which every rule equals autograd."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import clones, full_moment, same
from judge import TRANSFER, Autograd, assert_close, contrastive_loss, every_rule, proposals, softplus
from neurossl.architectures import SKIPS, from_description, residual, vgg6, vgg8
from neurossl.connectivity import Convolution
from neurossl.feedback import FeedbackPathway, MirrorPathway
from neurossl.network import Network
from torch import Tensor

from neurossl.errors import NetworkError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Teaching
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
    for text in ("residual:", "residual:8-x", "vgg8:wide", "residual:0"):
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
    network = residual((3, 8, 8), [4, 6]).initialise(1, dtype=torch.float64)
    stimulus = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    z = network.sweep(stimulus)

    def convolved(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(x, network.pathways[name].weight, network.pathways[name].bias, stride, 1)

    v1 = convolved("retina->V1", stimulus).relu()
    v3 = (convolved("V2->V3", convolved("V1->V2", v1).relu()) + v1).relu()
    short = F.pad(v3[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))
    v5 = (convolved("V4->V5", convolved("V3->V4", v3, 2).relu()) + short).relu()
    assert torch.allclose(z["V3"], v3, rtol=1e-12, atol=1e-14)
    assert torch.allclose(z["V5"], v5, rtol=1e-12, atol=1e-14)


def skipped(skip: str, classes: int | None = None, transfer: str = "relu", **options: Any) -> Network:
    """Return a residual network of two blocks, the second of which halves an odd map, in float64.

    Skip pathways that learn do not begin one-to-one here, so that none of their weights is 0.
    """
    network = residual((2, 9, 9), [4, 6], classes, transfer, skip, **options).initialise(0, dtype=torch.float64)
    for pathway in network.feedforward.values():
        if pathway.init == "identity" and pathway.plastic:
            pathway.set_weights(torch.randn(pathway.weight_shape, generator=torch.Generator().manual_seed(1)).double())
    return network


def stimulus_of(moment: Moment) -> Tensor:
    return moment.require(Fixation, "test").stimulus


def learning(network: Network, want: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Return the gradients of the plastic pathways alone."""
    return {name: gradient for name, gradient in want.items() if network.pathways[name].plastic}


def agrees(rule: Rule, network: Network, moment: Moment, want: Mapping[str, list[Tensor]], bound: float = 1e-10) -> None:
    got, want = proposals(rule, network, moment), learning(network, want)
    assert set(got) == set(want)
    assert_close(got, dict(want), list(want), bound)


BOTH = pytest.mark.parametrize("skip", [name for name, options in SKIPS.items() if options is not None])


@BOTH
@pytest.mark.parametrize(
    ("context", "kernel", "contrast"),
    [("lateral", "spatial", "hinge"), ("top", "spatial", "softplus"), ("both", 2, "phyll"), ("lateral", "global", "linear")],
)
def test_clapp_with_skips(skip: str, context: str, kernel: Any, contrast: str) -> None:
    network = skipped(skip)
    moment = full_moment(network)
    objective = Contrastive(contrast, context, kernel)
    Local(objective).wire(network)
    plain = Autograd(network)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in network.order:
        for prediction in objective.pathway_names(name, network.top):
            pathway = network.pathways[prediction]
            assert isinstance(pathway, FeedbackPathway)
            pools = pathway.source_pool, pathway.target_pool
            weight = plain.weights[prediction][0]
            loss = loss + contrastive_loss(z[name], z[pathway.pre].detach(), weight, moment, contrast, pools)
    agrees(Local(objective), network, moment, plain.gradients(loss))


@BOTH
@pytest.mark.parametrize("paired", [False, True])
def test_forward_forward_with_skips(skip: str, paired: bool) -> None:
    network = skipped(skip, normalisation="length")
    moment = full_moment(network)
    sign = moment.require(Phase, "test").sign
    plain = Autograd(network)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in network.order:
        goodness, units = z[name].flatten(1).square().sum(1), z[name][0].numel()
        if paired:
            loss = loss + softplus((goodness[sign < 0] - goodness[sign > 0]) / units).mean()
        else:
            loss = loss + F.binary_cross_entropy_with_logits(goodness - units, (sign > 0).double())
    agrees(Local(Goodness(paired=paired)), network, moment, plain.gradients(loss))


@BOTH
def test_scff_with_skips(skip: str) -> None:
    network = skipped(skip, transfer="triangle", normalisation="standard")
    moment = full_moment(network)
    sign = moment.require(Phase, "test").sign
    plain = Autograd(network)
    _, drives = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for drive in drives.values():
        goodness = torch.relu(drive).square().mean(1)
        loss = loss + softplus(0.2 - goodness[sign > 0]).mean() + softplus(goodness[sign < 0] - 0.5).mean()
        loss = loss + 0.01 * goodness[sign > 0].flatten(1).norm(dim=1).mean()
    agrees(Local(LocationGoodness((0.2, 0.5), penalty=0.01)), network, moment, plain.gradients(loss))


@BOTH
def test_backprop_with_skips(skip: str) -> None:
    network = skipped(skip, 4)
    moment = full_moment(network)
    plain = Autograd(network)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    loss = F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels)
    agrees(Backprop(CrossEntropy()), network, moment, plain.gradients(loss))

    network = skipped(skip)
    rule = Backprop(Contrastive("softplus", "lateral", "global"))
    top = rule.wire(network).top
    plain = Autograd(network)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    weight = plain.weights[f"{top}=>{top}"][0]
    loss = contrastive_loss(z[top], z[top].detach(), weight, moment, "softplus", ("global", "global"))
    agrees(rule, network, moment, plain.gradients(loss))


@BOTH
def test_feedback_alignment_with_skips(skip: str) -> None:
    """Judged by a network whose drives are W x to its weights, but M^T x to the activity below."""
    network = skipped(skip, 4, "tanh")
    moment = full_moment(network)
    rule = FeedbackAlignment(CrossEntropy())
    rule.wire(network)
    plain = Autograd(network)
    z = {"retina": stimulus_of(moment)}
    for name in network.order:
        drive = torch.zeros(())
        for pathway in network.incoming(name):
            x = z[pathway.pre]
            drive = drive + _driven(pathway, x.detach(), *plain.weights[pathway.name])
            if pathway.pre != "retina":
                through = _driven(pathway, x, network.pathways[f"{name}=>{pathway.pre}"].weight.transpose(0, 1))
                drive = drive + through - through.detach()
        z[name] = TRANSFER[network.populations[name].transfer.name](drive)
    loss = F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels)
    agrees(rule, network, moment, plain.gradients(loss))
    for pathway in network.feedforward.values():
        if pathway.pre != "retina":
            network.pathways[f"{pathway.post}=>{pathway.pre}"].set_weights(pathway.weight.transpose(0, 1))
    backprop = proposals(Backprop(CrossEntropy()), network, moment)
    assert_close(proposals(rule, network, moment), backprop, list(backprop), 1e-12)


def _driven(pathway: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    wiring = pathway.connectivity
    if isinstance(wiring, Convolution):
        return F.conv2d(x, weight, bias, wiring.stride, wiring.padding)
    return F.linear(x.flatten(1), weight, bias)


def test_the_mirror_of_a_fixed_one_to_one_pathway_is_one() -> None:
    """The error then goes down the skip as the activity came up, as in published residual networks with random feedback."""
    network = skipped("identity", 4)
    FeedbackAlignment(CrossEntropy()).wire(network)
    mirror = network.pathways["V3=>V1"]
    assert isinstance(mirror, MirrorPathway)
    assert torch.equal(mirror.weight, network.pathways["V1->V3"].weight.transpose(0, 1))
    learned = skipped("identity", 4)
    PredictiveCoding(CrossEntropy(), feedback="learned").wire(learned)
    assert not learned.pathways["V3=>V1"].plastic
    assert learned.pathways["V2=>V1"].plastic
    random = skipped("plastic", 4)
    PredictiveCoding(CrossEntropy(), feedback="learned").wire(random)
    assert random.pathways["V3=>V1"].plastic


@BOTH
def test_direct_feedback_alignment_with_skips(skip: str) -> None:
    network = skipped(skip, 4)
    moment = full_moment(network)
    rule = DirectFeedbackAlignment(CrossEntropy())
    rule.wire(network)
    plain = Autograd(network)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    labels = moment.require(Teaching, "test").labels
    error = (z["readout"].softmax(1) - F.one_hot(labels, 4)).detach()
    loss = F.cross_entropy(z["readout"], labels)
    for name in network.order[:-1]:
        arrived = error @ network.pathways[f"readout=>{name}"].weight.T
        loss = loss + (arrived * z[name].flatten(1)).sum() / len(labels)
    agrees(rule, network, moment, plain.gradients(loss))


class Energy:
    """Predictive coding from its energy and autograd: ``1/2 sum ||v - mu||^2`` per row, and the loss at the top."""

    def __init__(self, network: Network, moment: Moment, squared: bool) -> None:
        self.network, self.moment, self.squared = network, moment, squared
        self.plain = Autograd(network)
        start = network.sweep(stimulus_of(moment))
        self.values = {n: start[n].clone() for n in network.order[:-1]}

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
    network = skipped(skip, 4, "softplus")
    moment = full_moment(network)
    rule = PredictiveCoding(SquaredError() if squared else CrossEntropy(), steps=6, rate=0.1)
    energy = Energy(network, moment, squared)
    for _ in range(6):
        energy.relax(0.1)
    settled = rule.settle(network.sweep(stimulus_of(moment)), moment)
    for name, value in energy.values.items():
        assert torch.allclose(settled.source[name], value, rtol=1e-11, atol=1e-13)
    agrees(rule, network, moment, energy.plain.gradients(energy().mean()))


@BOTH
def test_incremental_predictive_coding_with_skips(skip: str) -> None:
    network = skipped(skip, 4, "tanh")
    moment = full_moment(network)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.1, schedule="incremental")
    energy = Energy(network, moment, squared=True)
    synapses = Synapses("sgd", lr=0.05)
    for settled in rule.settling(network.sweep(stimulus_of(moment)), moment):
        network.apply(rule.propose(settled, moment), synapses)
    for _ in range(5):
        gradients = learning(network, energy.plain.gradients(energy().mean()))
        energy.relax(0.1)
        with torch.no_grad():
            for name, steps in gradients.items():
                for parameter, step in zip(energy.plain.weights[name], steps, strict=True):
                    parameter.add_(step, alpha=0.05)
    for name, parameters in energy.plain.weights.items():
        for ours, judge in zip(network.pathways[name].parameters, parameters, strict=True):
            assert torch.allclose(ours, judge.detach(), rtol=1e-10, atol=1e-12), name


@BOTH
@pytest.mark.parametrize("objective", [CrossEntropy(), Contrastive("hinge", "lateral", "spatial"), InfoNCE()])
def test_fixed_predictions_equal_backprop_with_skips_and_z_il_refuses(skip: str, objective: Any) -> None:
    network = skipped(skip, 4 if isinstance(objective, CrossEntropy) else None)
    moment = full_moment(network)
    want = proposals(Backprop(objective), network, moment)
    steps = len(network.order)
    rule = PredictiveCoding(objective, steps=steps, rate=1.0, schedule="fixed-prediction")
    assert_close(proposals(rule, network, moment), want, list(want), 1e-10)
    with pytest.raises(NetworkError, match="chains only"):
        PredictiveCoding(objective, schedule="z-il").wire(network)
    PredictiveCoding(objective, schedule="z-il").wire(residual((2, 9, 9), [4], 4, skip="none"))


@BOTH
@pytest.mark.parametrize("name", [name for name in every_rule() if name != "z-il"])
def test_every_rule_learns_with_skips(name: str, skip: str) -> None:
    """Fixed skips stay; a silent observer changes nothing; changes applied one at a time are those proposed first."""
    rule = make_rule(name)
    classes = 4 if "target" in rule.needs else None
    network, other = (skipped(skip, classes, normalisation=rule.normalisation) for _ in range(2))
    moment = full_moment(network)
    for net in (network, other):
        rule.wire(net)
    before = clones(network)
    quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
    assert all(float(t.abs().max()) == 0 for ts in proposals(rule, network, quiet).values() for t in ts)
    one, two = Synapses("sgd", lr=0.1), Synapses("sgd", lr=0.1)
    for settled in rule.settling(network.sweep(stimulus_of(moment)), moment):
        network.apply(rule.propose(settled, moment), one)
    for settled in rule.settling(other.sweep(stimulus_of(moment)), moment):
        proposed = list(rule.propose(settled, moment))
        for _, update in proposed:
            assert update.weight.isfinite().all()
        other.apply(proposed, two)
    assert same(clones(network), clones(other))
    for pathway in network.feedforward.values():
        unchanged = torch.equal(pathway.weight, before[pathway.name][0])
        assert unchanged == (not pathway.plastic), pathway.name
