"""Every rule equals autograd of its loss, written here independently, and keeps the contract of a rule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import clones, dense_network, full_moment, map_network, same
from judge import (
    NETWORKS,
    TRANSFER,
    Autograd,
    assert_close,
    contrastive_loss,
    every_rule,
    network_for,
    pool,
    proposals,
    skip_network,
    softplus,
)
from neurossl.connectivity import Convolution
from neurossl.feedback import FeedbackPathway
from neurossl.network import Network
from neurossl.pathways import FeedforwardPathway
from neurossl.populations import InputPopulation, Pooling, Population
from torch import Tensor

from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
from neurossl.plasticity import (
    RULES,
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
    register,
)


@pytest.mark.parametrize("network_name", NETWORKS)
@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear", "phyll"])
@pytest.mark.parametrize(
    ("context", "kernel"),
    [("lateral", "global"), ("top", 2), ("both", 2), ("lateral", 4), ("top", "global"), ("both", None)],
)
def test_clapp_equals_autograd(network_name: str, contrast: str, context: str, kernel: Any) -> None:
    network = NETWORKS[network_name]()
    moment = full_moment(network)
    objective = Contrastive(contrast, context, kernel, steepness=1.7)
    rule = Local(objective)
    got = proposals(rule, network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=True)
    loss = torch.zeros(())
    for name in network.order:
        for feedback in objective.pathway_names(name, network.top):
            pathway = network.pathways[feedback]
            assert isinstance(pathway, FeedbackPathway)
            pools = pathway.source_pool, pathway.target_pool
            loss = loss + contrastive_loss(
                z[name], z[pathway.pre].detach(), plain.weights[feedback][0], moment, contrast, pools, 1.7
            )
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    losses = rule.losses(network.sweep(moment.require(Fixation, "test").stimulus), moment)
    assert float(sum(losses.values())) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("network_name", NETWORKS)
def test_backprop_of_the_contrastive_top_equals_autograd(network_name: str) -> None:
    network = NETWORKS[network_name]()
    moment = full_moment(network)
    got = proposals(Backprop(Contrastive("softplus", "both", 2)), network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=False)
    top = network.top
    pathway = network.pathways[f"{top}=>{top}"]
    assert isinstance(pathway, FeedbackPathway)
    pools = pathway.source_pool, pathway.target_pool
    loss = contrastive_loss(z[top], z[top].detach(), plain.weights[pathway.name][0], moment, "softplus", pools)
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("network_name", NETWORKS)
@pytest.mark.parametrize("normalisation", [None, "length", "standard"])
def test_backprop_of_infonce_equals_autograd(network_name: str, normalisation: str | None) -> None:
    network = NETWORKS[network_name]()
    for pathway in network.feedforward.values():
        pathway.normalisation = normalisation
    moment = full_moment(network)
    got = proposals(Backprop(InfoNCE(0.3)), network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=False)
    projection = plain.weights[f"{network.top}=>{network.top}:projection"][0]
    half = len(z[network.top]) // 2
    one, two = (F.normalize(pool(part, "global") @ projection.T) for part in z[network.top].split(half))
    loss = F.cross_entropy(one @ two.T / 0.3, torch.arange(half))
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want), 1e-9)


@pytest.mark.parametrize("negatives", [1, 2])
def test_infonce_of_some_negatives_compares_with_the_next_ones(negatives: int) -> None:
    network = dense_network(None)
    moment = full_moment(network)
    got = proposals(Backprop(InfoNCE(0.3, negatives=negatives)), network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=False)
    projection = plain.weights[f"{network.top}=>{network.top}:projection"][0]
    half = len(z[network.top]) // 2
    assert half > negatives + 1, "some are left out"
    one, two = (F.normalize(part @ projection.T) for part in z[network.top].split(half))
    similarity = one @ two.T / 0.3
    loss = torch.stack(
        [-similarity[i, [(i + k) % half for k in range(negatives + 1)]].log_softmax(0)[0] for i in range(half)]
    ).mean()
    want = plain.gradients(loss)
    assert_close(got, want, list(want), 1e-9)
    for wrong in (0, 1.5, "3", True):
        with pytest.raises(OptionError, match="whole number of other observers"):
            InfoNCE(negatives=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("transfer", list(TRANSFER))
@pytest.mark.parametrize(("objective", "name"), [(CrossEntropy, "cross_entropy"), (SquaredError, "squared_error")])
def test_supervised_backprop_equals_autograd(transfer: str, objective: Any, name: str) -> None:
    for network in (dense_network(4, transfer), map_network(4, transfer), skip_network()):
        moment = full_moment(network)
        labels = moment.require(Teaching, "test").labels
        got = proposals(Backprop(objective()), network, moment)
        plain = Autograd(network)
        z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=False)
        output = z["readout"]
        onehot = F.one_hot(labels, 4).double()
        squared = (output - onehot).square().sum(1).mean() / 2
        loss = F.cross_entropy(output, labels) if name == "cross_entropy" else squared
        want = plain.gradients(loss)
        assert set(got) == set(want)
        assert_close(got, want, list(want))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("network_name", NETWORKS)
def test_forward_forward_equals_autograd(network_name: str, paired: bool) -> None:
    network = NETWORKS[network_name]()
    for pathway in network.feedforward.values():
        pathway.normalisation = "length"
    moment = full_moment(network)
    sign = moment.require(Phase, "test").sign
    rule = Local(Goodness(paired=paired, steepness=2.0))
    got = proposals(rule, network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=True)
    loss = torch.zeros(())
    for name in network.order:
        goodness, units = z[name].flatten(1).square().sum(1), z[name][0].numel()
        if paired:
            loss = loss + softplus(2.0 * (goodness[sign < 0] - goodness[sign > 0]) / units).mean()
        else:
            loss = loss + F.binary_cross_entropy_with_logits(goodness - units, (sign > 0).double())
    want = plain.gradients(loss)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("make", [dense_network, map_network])
@pytest.mark.parametrize("transfer", ["relu", "triangle"])
def test_scff_equals_autograd(transfer: str, make: Callable[..., Network]) -> None:
    network = make(None, transfer, normalisation="standard")
    moment = full_moment(network)
    sign = moment.require(Phase, "test").sign
    got = proposals(Local(LocationGoodness((0.2, 0.5), penalty=0.01)), network, moment)
    plain = Autograd(network)
    _, drives = plain.sweep(moment.require(Fixation, "test").stimulus, detach=True)
    loss = torch.zeros(())
    for drive in drives.values():
        goodness = torch.relu(drive).square().mean(1)
        awake, asleep = goodness[sign > 0], goodness[sign < 0]
        loss = loss + softplus(0.2 - awake).mean() + softplus(asleep - 0.5).mean()
        loss = loss + 0.01 * awake.reshape(len(awake), -1).norm(dim=1).mean()
    want = plain.gradients(loss)
    assert_close(got, want, list(want))


def test_average_pooling_and_strides_equal_autograd() -> None:
    network = Network(InputPopulation("retina", (2, 11, 11)), name="odd")
    network.add(Population("V1", (3, 6, 6), "softplus", Pooling("average", 3, 2, 1)))
    network.add(FeedforwardPathway("retina", "V1", Convolution(5, 2, 2, "reflect")))
    network.add(Population("V2", (4, 3, 3), "tanh", Pooling("max", 2, 1)))
    network.add(FeedforwardPathway("V1", "V2", Convolution(1, 1, 0)))
    network.add(Population("readout", 4, "linear"), FeedforwardPathway("V2", "readout", bias=False))
    network.initialise(0, dtype=torch.float64)
    moment = full_moment(network)
    got = proposals(Backprop(CrossEntropy()), network, moment)
    plain = Autograd(network)
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=False)
    want = plain.gradients(F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels))
    assert set(got) == set(want)
    assert_close(got, want, list(want))


def test_feedback_alignment_with_transposed_weights_is_backprop() -> None:
    for network in (dense_network(), map_network(4), skip_network()):
        moment = full_moment(network)
        rule = FeedbackAlignment(CrossEntropy())
        rule.wire(network)
        random = proposals(rule, network, moment)
        for pathway in network.feedforward.values():
            if pathway.pre != "retina":
                network.pathways[f"{pathway.post}=>{pathway.pre}"].set_weights(pathway.weight.transpose(0, 1))
        want = proposals(Backprop(CrossEntropy()), network, moment)
        assert_close(proposals(rule, network, moment), want, list(want), 1e-12)
        first = next(iter(network.feedforward))
        assert not torch.allclose(random[first][0], want[first][0])


def test_direct_feedback_alignment_in_a_linear_network_can_be_backprop() -> None:
    network = dense_network(4, "linear")
    moment = full_moment(network)
    rule = DirectFeedbackAlignment(SquaredError())
    rule.wire(network)
    chain = network.pathways["V2->readout"].weight
    network.pathways["readout=>V2"].set_weights(chain.T)
    network.pathways["readout=>V1"].set_weights((chain @ network.pathways["V1->V2"].weight).T)
    want = proposals(Backprop(SquaredError()), network, moment)
    assert_close(proposals(rule, network, moment), want, list(want), 1e-12)


def test_direct_feedback_alignment_equals_the_textbook_loop() -> None:
    network = dense_network(4, "tanh")
    moment = full_moment(network)
    got = proposals(DirectFeedbackAlignment(CrossEntropy()), network, moment)
    activity = network.sweep(moment.require(Fixation, "test").stimulus)
    labels = moment.require(Teaching, "test").labels
    error = activity["readout"].softmax(1) - F.one_hot(labels, 4)
    for name, below in (("V1", "retina"), ("V2", "V1")):
        delta = (error @ network.pathways[f"readout=>{name}"].weight.T) * (1 - activity[name] ** 2)
        assert torch.allclose(got[f"{below}->{name}"][0], -delta.T @ activity[below] / len(delta), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pool", [None, 1, 2, "global"])
def test_feedback_to_every_place_is_delivered_as_by_one_product(pool: object) -> None:
    """Place by place or at once: the same credit, in memory as the map that it meets."""
    pathway = FeedbackPathway("top", "V1", target_pool=pool)  # type: ignore[arg-type]
    Network(
        InputPopulation("retina", (3, 4, 6)),
        Population("V1", (5, 4, 6)),
        Population("top", 7),
        FeedforwardPathway("retina", "V1", Convolution()),
        FeedforwardPathway("V1", "top"),
        pathway,
    ).initialise(2, dtype=torch.float64)
    signal = torch.rand(3, 7, dtype=torch.float64)
    delivered = pathway.delivered(signal)
    assert torch.allclose(delivered, pathway.to_soma(pathway.apical(signal)), rtol=1e-12, atol=1e-14)
    assert delivered.stride(1) == 1, "channels last"


def test_dfa_of_a_contrastive_top_carries_the_pooled_credit() -> None:
    network = map_network()
    moment = full_moment(network)
    rule = DirectFeedbackAlignment(Contrastive("softplus", "lateral", 2))
    got = proposals(rule, network, moment)
    activity = network.sweep(moment.require(Fixation, "test").stimulus)
    plain = Autograd(network)
    top = activity["V3"].clone().requires_grad_()
    pathway = network.pathways["V3=>V3"]
    loss = contrastive_loss(top, activity["V3"], pathway.weight, moment, "softplus", (2, 2))
    credit = -len(top) * torch.autograd.grad(loss, top)[0]
    pooled = 4 * F.avg_pool2d(credit, 2).flatten(1)
    arrived = (pooled @ network.pathways["V3=>V1"].weight.T).view_as(activity["V1"])
    z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=True)
    want = plain.gradients(-(arrived * z["V1"]).sum() * -1 / len(top))
    assert torch.allclose(got["retina->V1"][0], -want["retina->V1"][0], rtol=1e-10, atol=1e-14)


def settled_by_autograd(
    network: Network, moment: Moment, steps: int, rate: float
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]], list[float]]:
    """Return values, updates and energies of predictive coding from autograd of its energy."""
    plain = Autograd(network)
    stimulus, labels = moment.require(Fixation, "test").stimulus, moment.require(Teaching, "test").labels
    target = F.one_hot(labels, 4).double()
    start = network.sweep(stimulus)
    values = {n: start[n].clone() for n in network.order[:-1]}

    def energy(values: dict[str, Tensor]) -> Tensor:
        z = {"retina": stimulus, **values, network.top: target}
        total = torch.zeros(len(stimulus), dtype=torch.float64)
        for name in network.order:
            drive = torch.zeros(())
            for p in network.incoming(name):
                drive = drive + F.linear(z[p.pre], *plain.weights[p.name])
            mu = TRANSFER[network.populations[name].transfer.name](drive)
            total = total + (z[name] - mu).square().sum(1) / 2
        return total

    energies = [float(energy(values).detach().mean())]
    for _ in range(steps):
        values = {n: v.detach().requires_grad_() for n, v in values.items()}
        slopes = torch.autograd.grad(energy(values).sum(), list(values.values()))
        values = {n: (v - rate * g).detach() for (n, v), g in zip(values.items(), slopes, strict=True)}
        energies.append(float(energy(values).detach().mean()))
    return values, plain.gradients(energy(values).mean()), energies


@pytest.mark.parametrize(("steps", "rate"), [(1, 0.1), (7, 0.3), (20, 0.1)])
def test_predictive_coding_descends_its_energy(steps: int, rate: float) -> None:
    for network in (dense_network(4, "softplus"), skip_network()):
        moment = full_moment(network)
        rule = PredictiveCoding(SquaredError(), steps, rate)
        rule.wire(network)
        settled = rule.settle(network.sweep(moment.require(Fixation, "test").stimulus), moment, watched=True)
        values, want, energies = settled_by_autograd(network, moment, steps, rate)
        assert settled.notes["energy"].tolist() == pytest.approx(energies, rel=1e-12)
        for name, value in values.items():
            assert torch.allclose(settled.source[name], value, rtol=1e-12, atol=1e-14)
        assert_close(proposals(rule, network, moment), want, list(want))


@pytest.mark.parametrize("objective", [CrossEntropy(), SquaredError(), Contrastive("softplus", "lateral", 2), InfoNCE()])
def test_fixed_predictions_and_z_il_equal_backprop(objective: Any) -> None:
    for network in (dense_network(4), map_network(4)):
        moment = full_moment(network)
        want = proposals(Backprop(objective), network, moment)
        populations = len(network.order)
        fixed = PredictiveCoding(objective, steps=populations, rate=1.0, schedule="fixed-prediction")
        assert_close(proposals(fixed, network, moment), want, list(want), 1e-11)
        z_il = PredictiveCoding(objective, rate=1.0, schedule="z-il")
        assert_close(proposals(z_il, network, moment), want, list(want), 1e-11)


def test_fixed_predictions_equal_backprop_with_skips_and_z_il_refuses_them() -> None:
    network = skip_network()
    moment = full_moment(network)
    want = proposals(Backprop(SquaredError()), network, moment)
    rule = PredictiveCoding(SquaredError(), steps=len(network.order), rate=1.0, schedule="fixed-prediction")
    assert_close(proposals(rule, network, moment), want, list(want), 1e-11)
    with pytest.raises(NetworkError, match="chains only"):
        PredictiveCoding(SquaredError(), schedule="z-il").wire(network)


def test_learned_mirrors_see_the_transposed_update() -> None:
    network = dense_network()
    moment = full_moment(network)
    got = proposals(PredictiveCoding(SquaredError(), 3, feedback="learned"), network, moment)
    assert torch.equal(got["V2=>V1"][0], got["V1->V2"][0].T)
    fixed = proposals(PredictiveCoding(SquaredError(), 3, feedback="fixed"), dense_network(), moment)
    assert "V2=>V1" not in fixed


def test_incremental_predictive_coding_learns_at_every_step() -> None:
    network = dense_network()
    moment = full_moment(network)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.2, schedule="incremental")
    activity = rule.wire(network).sweep(moment.require(Fixation, "test").stimulus)
    by_hand = dense_network()
    values = {n: activity[n].clone() for n in network.order[:-1]}
    target = F.one_hot(moment.require(Teaching, "test").labels, 4).double()
    synapses = Synapses("sgd", lr=0.1)
    seen = 0
    for settled in rule.settling(activity, moment):
        seen += 1
        network.apply(rule.propose(settled, moment), synapses)
    for _ in range(5):
        state = by_hand.sweep(activity["retina"], values)
        errors = {n: values[n] - state[n] for n in values} | {"readout": target - state["readout"]}
        somatic = {n: by_hand.populations[n].somatic(e, state.responses[n]) for n, e in errors.items()}
        force = {"V1": -errors["V1"] + somatic["V2"] @ by_hand.pathways["V1->V2"].weight}
        force["V2"] = -errors["V2"] + somatic["readout"] @ by_hand.pathways["V2->readout"].weight
        source = {"retina": activity["retina"], **values}
        for pathway in by_hand.feedforward.values():
            pathway.weight.add_(somatic[pathway.post].T @ source[pathway.pre] / len(target), alpha=0.1)
            assert pathway.bias is not None
            pathway.bias.add_(somatic[pathway.post].mean(0), alpha=0.1)
        values = {n: v + 0.2 * force[n] for n, v in values.items()}
    assert seen == 5
    for name, pathway in network.feedforward.items():
        assert torch.allclose(pathway.weight, by_hand.pathways[name].weight, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("contrast", ["linear", "softplus", "phyll", "hinge"])
def test_theorem_local_equals_backprop_in_a_linear_network_with_matched_predictions(direct: bool, contrast: str) -> None:
    """Theorem 3.1 of arXiv 2601.21683, step A: B_l = Q_l^T B_L Q_l (lateral) or Q_l^T B_L (direct feedback)."""
    network = Network(InputPopulation("retina", 12), name="linear")
    for depth, units in enumerate((10, 8, 5), 1):
        below = "retina" if depth == 1 else f"V{depth - 1}"
        network.add(Population(f"V{depth}", units, "linear"), FeedforwardPathway(below, f"V{depth}", bias=False))
    network.initialise(3, dtype=torch.float64)
    moment = full_moment(network, landings=1)
    rule = Local(Contrastive(contrast, "top" if direct else "lateral"))
    rule.wire(network)
    top = network.pathways["V3=>V3"].weight
    upward = torch.eye(5, dtype=torch.float64)
    for depth in (2, 1):
        upward = upward @ network.pathways[f"V{depth}->V{depth + 1}"].weight
        name = f"V3=>V{depth}" if direct else f"V{depth}=>V{depth}"
        network.pathways[name].set_weights(upward.T @ top @ (torch.eye(5, dtype=torch.float64) if direct else upward))
    want = proposals(Backprop(Contrastive(contrast)), network, moment)
    assert_close(proposals(rule, network, moment), want, list(network.feedforward), 1e-11)


@pytest.mark.parametrize("name", every_rule())
def test_a_silent_neuromodulator_changes_nothing(name: str) -> None:
    rule = make_rule(name)
    network = network_for(rule)
    moment = full_moment(network)
    quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
    assert all(float(t.abs().max()) == 0 for ts in proposals(rule, network, quiet).values() for t in ts)
    loud = proposals(rule, network, moment.with_events(Neuromodulation(torch.ones(10, dtype=torch.float64))))
    assert_close(loud, proposals(rule, network, moment), list(loud), 1e-12)
    assert any(float(t.abs().max()) > 0 for ts in loud.values() for t in ts)


@pytest.mark.parametrize("name", every_rule())
def test_proposing_changes_nothing_and_the_order_of_application_does_not_matter(name: str) -> None:
    """The engine applies each change as soon as it is proposed: as if all were proposed first."""
    rule = make_rule(name)
    network, other = network_for(rule), network_for(rule)
    moment = full_moment(network)
    for net in (network, other):
        rule.wire(net)
    before = clones(network)
    activity = network.sweep(moment.require(Fixation, "test").stimulus)
    list(rule.propose(rule.settle(activity, moment), moment))
    assert same(before, clones(network))
    one, two = Synapses("sgd", lr=0.1), Synapses("sgd", lr=0.1)
    for settled in rule.settling(activity, moment):
        network.apply(rule.propose(settled, moment), one)
    for settled in rule.settling(other.sweep(moment.require(Fixation, "test").stimulus), moment):
        other.apply(list(rule.propose(settled, moment)), two)
    assert same(clones(network), clones(other))
    assert not same(before, clones(network))


@pytest.mark.parametrize("name", every_rule())
def test_no_rule_needs_autograd(name: str) -> None:
    rule = make_rule(name)
    network = network_for(rule)
    moment = full_moment(network)
    with torch.inference_mode():
        rule.wire(network)
        assert proposals(rule, network, moment)


@pytest.mark.parametrize("name", ["clapp", "clapp-dfb", "ff", "dfa", "fa", "pc", "bp", "bp-infonce"])
def test_dense_is_a_convolution_of_the_same_connectivity(name: str) -> None:
    """On 1 x 1 maps, a convolution of kernel 1 is dense."""
    rule = make_rule(name)
    classes = 4 if "target" in rule.needs else None
    dense = dense_network(classes, "tanh", normalisation=rule.normalisation)
    maps = Network(InputPopulation("retina", (12, 1, 1)), name="maps")
    below = "retina"
    for population in dense.order:
        units, transfer = dense.populations[population].neurons[0], dense.populations[population].transfer.name
        maps.add(Population(population, (units, 1, 1) if population != "readout" else units, transfer))
        wiring = Convolution(1, 1, 0) if population != "readout" else None
        maps.add(FeedforwardPathway(below, population, wiring, normalisation=rule.normalisation))
        below = population
    maps.initialise(0, dtype=torch.float64)
    rule.wire(dense)
    rule.wire(maps)
    for pathway_name, pathway in dense.pathways.items():
        mate = maps.pathways[pathway_name]
        mate.set_weights(pathway.weight.view(mate.weight_shape), pathway.bias)
    moment = full_moment(dense)
    stimulus = moment.require(Fixation, "test")
    map_moment = moment.with_events(Fixation(stimulus.stimulus.view(-1, 12, 1, 1), stimulus.partner))
    flat, mapped = proposals(rule, dense, moment), proposals(rule, maps, map_moment)
    for pathway_name, tensors in flat.items():
        for a, b in zip(tensors, mapped[pathway_name], strict=True):
            assert torch.allclose(a, b.view_as(a), rtol=1e-11, atol=1e-14), pathway_name


def test_the_neuromodulator_of_clapp_follows_its_truth_table() -> None:
    network = Network(
        InputPopulation("retina", 1), Population("V1", 1, "linear"), FeedforwardPathway("retina", "V1", bias=False)
    )
    network.add(FeedbackPathway("V1", "V1"))
    network.initialise(0, dtype=torch.float64)
    for name in network.pathways:
        network.pathways[name].set_weights(torch.ones(1, 1, dtype=torch.float64))
    rule = Local(Contrastive())
    for target, fixation_gain, gamma in ((0.5, 1, 1), (1.0, 1, 0), (2.0, 1, 0), (-0.5, 0, -1), (-1.0, 0, 0), (-2.0, 0, 0)):
        stimulus = torch.tensor([[1.0], [target]], dtype=torch.float64)
        gain = torch.tensor([float(fixation_gain), 0.0], dtype=torch.float64)
        jump = torch.tensor([1.0 - fixation_gain, 0.0], dtype=torch.float64)
        moment = Moment(
            Fixation(stimulus, torch.tensor([1, 0])), Saccade(torch.tensor([[1, 0]])), Neuromodulation(gain, jump)
        )
        update = proposals(rule, network, moment)["retina->V1"][0]
        assert float(update) == pytest.approx(gamma * target / 2), (target, gamma)


def test_what_an_objective_waits_for_is_asked_for_by_name() -> None:
    network = dense_network()
    moment = full_moment(network)
    bare = Moment(Fixation(moment.require(Fixation, "test").stimulus))
    for name, event in (("bp", "Teaching"), ("dfa", "Teaching"), ("ff", "Phase")):
        with pytest.raises(EventError, match=event):
            proposals(make_rule(name), dense_network(), bare)
    with pytest.raises(EventError, match="partner"):
        proposals(make_rule("bp-infonce"), dense_network(), bare)
    pair = Moment(Fixation(bare.require(Fixation, "test").stimulus, torch.arange(10)))
    with pytest.raises(EventError, match="landing"):
        proposals(make_rule("clapp"), dense_network(), pair)
    with pytest.raises(EventError, match="one unit per class"):
        proposals(make_rule("bp"), dense_network(2), moment)


def test_a_transport_keeps_its_schedule_whatever_the_objective() -> None:
    for name, schedule in (("z-il", "z-il"), ("pc-fixed", "fixed-prediction"), ("ipc", "incremental"), ("pc", "standard")):
        rule = make_rule(name, objective="squared-error")
        assert isinstance(rule, PredictiveCoding)
        assert rule.schedule == schedule
        assert rule.objective.name == "squared-error"
    assert make_rule("clapp", objective="infonce").objective_name.startswith("InfoNCE")


def test_rules_by_name() -> None:
    with pytest.raises(OptionError, match="did you mean 'clapp"):
        make_rule("clap")
    with pytest.raises(OptionError, match="contrst"):
        make_rule("clapp", contrst="hinge")
    with pytest.raises(OptionError, match="expected hinge"):
        make_rule("clapp", contrast="hing")
    with pytest.raises(OptionError, match="expected standard"):
        make_rule("pc", schedule="slow")
    rule = make_rule("pc", objective="contrastive", contrast="softplus", steps=3)
    assert isinstance(rule, PredictiveCoding)
    assert (rule.steps, rule.objective.name) == (3, "contrastive softplus, lateral context")
    assert "needs" in repr(rule)


def test_a_rule_of_ones_own_is_credit_and_nothing_else() -> None:
    @register("test-hebb")
    class Hebb(Rule):
        """dW_ji = mean(z_j rho'(a_j) x_i)."""

        def credit_at(self, site: Any, moment: Moment) -> Tensor:
            return site.activity

    try:
        for network in (dense_network(), map_network(), skip_network()):
            moment = full_moment(network)
            got = proposals(make_rule("test-hebb"), network, moment)
            plain = Autograd(network)
            z, _ = plain.sweep(moment.require(Fixation, "test").stimulus, detach=True)
            loss = sum(-(z[n].square().sum() / 2) / 10 for n in network.order)
            assert isinstance(loss, Tensor)
            assert_close(got, plain.gradients(loss), list(got))
            quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
            silent = proposals(make_rule("test-hebb"), network, quiet)
            assert all(float(t.abs().max()) == 0 for ts in silent.values() for t in ts)

        class Wrong(Hebb):
            """Credit of the wrong shape."""

            def credit_at(self, site: Any, moment: Moment) -> Tensor:
                return site.activity[:3]

        with pytest.raises(NetworkError, match="shaped like the activity"):
            proposals(Wrong(), dense_network(), moment)
    finally:
        del RULES["test-hebb"]
