"""Every rule equals autograd of its loss, written here independently, and keeps the contract of a rule."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, drawn, full_moment, map_circuit, stimulus_of, wired
from oracle import (
    CIRCUITS,
    TRANSFER,
    Autograd,
    assert_close,
    contrastive_loss,
    pool,
    proposals,
    skip_circuit,
    softplus,
)
from torch import Tensor

from neurossl import Circuit, Network
from neurossl.anatomy import Convolution, FeedbackPathway, FeedforwardPathway, InputPopulation, Pooling, Population
from neurossl.engine.optimisers import Optimisers
from neurossl.engine.responses import at_soma
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Moment, Phase, Teaching
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
    losses,
    make_rule,
    propose,
    settle,
)
from neurossl.plasticity.construction import by_construction
from neurossl.plasticity.objectives.contrastive import spatial_pool


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear", "phyll"])
@pytest.mark.parametrize(
    ("context", "kernel"),
    [("lateral", "global"), ("top", 2), ("both", 2), ("lateral", 4), ("top", "global"), ("both", None)],
)
def test_clapp_equals_autograd(kind: str, contrast: str, context: str, kernel: Any) -> None:
    objective = Contrastive(contrast, context, kernel, steepness=1.7)
    rule = Local(objective)
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in circuit.network.order:
        for feedback in objective.pathway_names(name, circuit.network.top):
            pathway = circuit.network.pathways[feedback]
            assert isinstance(pathway, FeedbackPathway)
            pools = pathway.source_pool, pathway.target_pool
            loss = loss + contrastive_loss(
                z[name], z[pathway.pre].detach(), plain.weights[feedback][0], moment, contrast, pools, 1.7
            )
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    assert float(sum(said.values())) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("kind", CIRCUITS)
def test_backprop_of_the_contrastive_top_equals_autograd(kind: str) -> None:
    rule = Backprop(Contrastive("softplus", "both", 2))
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    top = circuit.network.top
    loss = torch.zeros(())
    for name in (f"{top}=>{top}", f"{top}=>{top}:lateral"):  # both losses of the top
        pathway = circuit.network.pathways[name]
        assert isinstance(pathway, FeedbackPathway)
        pools = pathway.source_pool, pathway.target_pool
        loss = loss + contrastive_loss(z[top], z[top].detach(), plain.weights[name][0], moment, "softplus", pools)
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("normalisation", [None, "length", "standard"])
def test_backprop_of_infonce_equals_autograd(kind: str, normalisation: str | None) -> None:
    rule = Backprop(InfoNCE(0.3))
    circuit = wired(rule, CIRCUITS[kind](normalisation=normalisation))
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    projection = plain.weights[f"{circuit.network.top}=>{circuit.network.top}:projection"][0]
    half = len(z[circuit.network.top]) // 2
    one, two = (F.normalize(pool(part, "global") @ projection.T) for part in z[circuit.network.top].split(half))
    loss = F.cross_entropy(one @ two.T / 0.3, torch.arange(half))
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want), 1e-9)


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("transport", [Backprop, Local])
def test_infonce_with_its_context_held_equals_autograd_of_a_detached_first_view(kind: str, transport: type[Rule]) -> None:
    rule = transport(InfoNCE(0.3, held=True))  # type: ignore[call-arg]
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=transport is Local)
    loss = torch.zeros(())
    for name in circuit.network.order if transport is Local else [circuit.network.top]:
        projection = plain.weights[f"{name}=>{name}:projection"][0]
        context, target = (pool(part, "global") for part in z[name].split(len(z[name]) // 2))
        one, two = F.normalize(context.detach() @ projection.T), F.normalize(target @ projection.T)
        loss = loss + F.cross_entropy(one @ two.T / 0.3, torch.arange(len(one)))
    want = plain.gradients(loss)
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    free = proposals(transport(InfoNCE(0.3)), circuit, moment)  # type: ignore[call-arg]
    bottom = f"retina->{circuit.network.order[0]}"
    assert not torch.allclose(free[bottom][0], got[bottom][0], rtol=0.01)
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    assert float(sum(said.values())) == pytest.approx(float(loss.detach()), rel=1e-12)


def test_a_held_context_is_a_trace_and_says_so() -> None:
    assert make_rule("infonce-local").needs - make_rule("infonce-local", held=True).needs == {"activity held"}
    free, held = make_rule("bp-infonce"), make_rule("bp-infonce-held")
    assert Backprop(held.objective).name == "BP-InfoNCE, context held"
    network = wired(held, map_circuit()).network
    assert free.objective_in(network) != held.objective_in(network)
    assert not by_construction(free, network, "V2->V3", held)
    assert by_construction(held, network, "V2->V3", make_rule("bp-infonce", held=True))


def test_backprop_of_a_spatial_score_differs_in_the_score_of_the_top_alone() -> None:
    whole, cells = make_rule("bp-clapp++"), make_rule("bp-clapp++spatial")
    one, other = (vars(rule.objective) for rule in (whole, cells))
    assert {name for name in one if one[name] != other[name]} <= {"pools", "given"}
    circuit = wired(cells, map_circuit())
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    kernel = spatial_pool(z["V3"].shape[1:], circuit.network.input.shape)
    assert kernel not in (None, "global", z["V3"].shape[2])
    weight = plain.weights["V3=>V3"][0]
    want = plain.gradients(contrastive_loss(z["V3"], z["V3"].detach(), weight, moment, "hinge", (kernel, kernel)))
    got = proposals(cells, circuit, moment)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("negatives", [1, 2])
def test_infonce_of_some_negatives_compares_with_the_next_ones(negatives: int) -> None:
    rule = Backprop(InfoNCE(0.3, negatives=negatives))
    circuit = wired(rule, dense_circuit(None))
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    projection = plain.weights[f"{circuit.network.top}=>{circuit.network.top}:projection"][0]
    half = len(z[circuit.network.top]) // 2
    assert half > negatives + 1, "some are left out"
    one, two = (F.normalize(part @ projection.T) for part in z[circuit.network.top].split(half))
    similarity = one @ two.T / 0.3
    loss = torch.stack(
        [-similarity[i, [(i + k) % half for k in range(negatives + 1)]].log_softmax(0)[0] for i in range(half)]
    ).mean()
    want = plain.gradients(loss)
    assert_close(got, want, list(want), 1e-9)
    for wrong in (0, 1.5, "3", True):
        with pytest.raises(OptionError, match=r"other observers\): expected a whole number >= 1"):
            InfoNCE(negatives=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("transfer", list(TRANSFER))
@pytest.mark.parametrize(("objective", "name"), [(CrossEntropy, "cross_entropy"), (SquaredError, "squared_error")])
def test_supervised_backprop_equals_autograd(transfer: str, objective: Any, name: str) -> None:
    for circuit in (dense_circuit(4, transfer), map_circuit(4, transfer), skip_circuit()):
        moment = full_moment(circuit)
        labels = moment.require(Teaching, "test").labels
        got = proposals(Backprop(objective()), circuit, moment)
        plain = Autograd(circuit)
        z, _ = plain.sweep(stimulus_of(moment), detach=False)
        output = z["readout"]
        onehot = F.one_hot(labels, 4).double()
        squared = (output - onehot).square().sum(1).mean() / 2
        loss = F.cross_entropy(output, labels) if name == "cross_entropy" else squared
        want = plain.gradients(loss)
        assert set(got) == set(want)
        assert_close(got, want, list(want))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("kind", CIRCUITS)
def test_forward_forward_equals_autograd(kind: str, paired: bool) -> None:
    circuit = CIRCUITS[kind](normalisation="length")
    moment = full_moment(circuit)
    sign = moment.require(Phase, "test").sign
    rule = Local(Goodness(paired=paired, steepness=2.0))
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    for name in circuit.network.order:
        goodness, units = z[name].flatten(1).square().sum(1), z[name][0].numel()
        if paired:
            loss = loss + softplus(2.0 * (goodness[sign < 0] - goodness[sign > 0]) / units).mean()
        else:
            loss = loss + F.binary_cross_entropy_with_logits(goodness - units, (sign > 0).double())
    want = plain.gradients(loss)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
@pytest.mark.parametrize("transfer", ["relu", "triangle"])
def test_scff_equals_autograd(transfer: str, make: Callable[..., Circuit]) -> None:
    circuit = make(None, transfer, normalisation="doubled")
    moment = full_moment(circuit)
    sign = moment.require(Phase, "test").sign
    got = proposals(Local(LocationGoodness((0.2, 0.5), penalty=0.01)), circuit, moment)
    plain = Autograd(circuit)
    _, drives = plain.sweep(stimulus_of(moment), detach=True)
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
    circuit = drawn(network)
    moment = full_moment(circuit)
    got = proposals(Backprop(CrossEntropy()), circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    want = plain.gradients(F.cross_entropy(z["readout"], moment.require(Teaching, "test").labels))
    assert set(got) == set(want)
    assert_close(got, want, list(want))


def test_feedback_alignment_with_transposed_weights_is_backprop() -> None:
    for bare in (dense_circuit(), map_circuit(4), skip_circuit()):
        rule = FeedbackAlignment(CrossEntropy())
        circuit = wired(rule, bare)
        moment = full_moment(circuit)
        random = proposals(rule, circuit, moment)
        for pathway in circuit.network.feedforward.values():
            if pathway.pre != "retina":
                transposed = circuit.weights[pathway.name].weight.transpose(0, 1)
                circuit.weights.set(f"{pathway.post}=>{pathway.pre}", transposed)
        want = proposals(Backprop(CrossEntropy()), circuit, moment)
        assert_close(proposals(rule, circuit, moment), want, list(want), 1e-12)
        first = next(iter(circuit.network.feedforward))
        assert not torch.allclose(random[first][0], want[first][0])


def test_direct_feedback_alignment_in_a_linear_network_can_be_backprop() -> None:
    rule = DirectFeedbackAlignment(SquaredError())
    circuit = wired(rule, dense_circuit(4, "linear"))
    moment = full_moment(circuit)
    chain = circuit.weights["V2->readout"].weight
    circuit.weights.set("readout=>V2", chain.T)
    circuit.weights.set("readout=>V1", (chain @ circuit.weights["V1->V2"].weight).T)
    want = proposals(Backprop(SquaredError()), circuit, moment)
    assert_close(proposals(rule, circuit, moment), want, list(want), 1e-12)


def test_direct_feedback_alignment_equals_the_textbook_loop() -> None:
    rule = DirectFeedbackAlignment(CrossEntropy())
    circuit = wired(rule, dense_circuit(4, "tanh"))
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    activity = circuit.sweep(stimulus_of(moment))
    labels = moment.require(Teaching, "test").labels
    error = activity["readout"].softmax(1) - F.one_hot(labels, 4)
    for name, below in (("V1", "retina"), ("V2", "V1")):
        delta = (error @ circuit.weights[f"readout=>{name}"].weight.T) * (1 - activity[name] ** 2)
        assert torch.allclose(got[f"{below}->{name}"][0], -delta.T @ activity[below] / len(delta), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pool", [None, 1, 2, "global"])
def test_feedback_to_every_place_is_delivered_as_by_one_product(pool: object) -> None:
    """Place by place or at once: the same credit, in memory as the map that it meets."""
    network = Network(
        InputPopulation("retina", (3, 4, 6)),
        Population("V1", (5, 4, 6)),
        Population("top", 7),
        FeedforwardPathway("retina", "V1", Convolution()),
        FeedforwardPathway("V1", "top"),
        FeedbackPathway("top", "V1", target_pool=pool),  # type: ignore[arg-type]
    )
    apical: Any = drawn(network, 2)["top=>V1"]
    signal = torch.rand(3, 7, dtype=torch.float64)
    delivered = apical.delivered(signal)
    assert torch.allclose(delivered, apical.to_soma(apical.apical(signal)), rtol=1e-12, atol=1e-14)
    assert delivered.stride(1) == 1, "channels last"


def test_dfa_of_a_contrastive_top_carries_the_pooled_credit() -> None:
    rule = DirectFeedbackAlignment(Contrastive("softplus", "lateral", 2))
    circuit = wired(rule, map_circuit())
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    activity = circuit.sweep(stimulus_of(moment))
    plain = Autograd(circuit)
    top = activity["V3"].clone().requires_grad_()
    loss = contrastive_loss(top, activity["V3"], circuit.weights["V3=>V3"].weight, moment, "softplus", (2, 2))
    credit = -len(top) * torch.autograd.grad(loss, top)[0]
    pooled = 4 * F.avg_pool2d(credit, 2).flatten(1)
    arrived = (pooled @ circuit.weights["V3=>V1"].weight.T).view_as(activity["V1"])
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    want = plain.gradients(-(arrived * z["V1"]).sum() * -1 / len(top))
    assert torch.allclose(got["retina->V1"][0], -want["retina->V1"][0], rtol=1e-10, atol=1e-14)


def settled_by_autograd(
    circuit: Circuit, moment: Moment, steps: int, rate: float
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]], list[float]]:
    """Return values, updates and energies of predictive coding from autograd of its energy."""
    plain = Autograd(circuit)
    stimulus, labels = stimulus_of(moment), moment.require(Teaching, "test").labels
    target = F.one_hot(labels, 4).double()
    start = circuit.sweep(stimulus)
    values = {n: start[n].clone() for n in circuit.network.order[:-1]}

    def energy(values: dict[str, Tensor]) -> Tensor:
        z = {"retina": stimulus, **values, circuit.network.top: target}
        total = torch.zeros(len(stimulus), dtype=torch.float64)
        for name in circuit.network.order:
            drive = torch.zeros(())
            for p in circuit.network.incoming(name):
                drive = drive + F.linear(z[p.pre], *plain.weights[p.name])
            mu = TRANSFER[circuit.network.populations[name].transfer.name](drive)
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
    for circuit in (dense_circuit(4, "softplus"), skip_circuit()):
        moment = full_moment(circuit)
        rule = PredictiveCoding(SquaredError(), steps, rate)
        *_, scope = settle(rule, circuit.sweep(stimulus_of(moment)), moment, is_watched=True)
        settled = scope._activity
        values, want, energies = settled_by_autograd(circuit, moment, steps, rate)
        assert settled.notes["energy"].tolist() == pytest.approx(energies, rel=1e-12)
        for name, value in values.items():
            assert torch.allclose(settled.source[name], value, rtol=1e-12, atol=1e-14)
        assert_close(proposals(rule, circuit, moment), want, list(want))


@pytest.mark.parametrize("objective", [CrossEntropy(), SquaredError(), Contrastive("softplus", "lateral", 2), InfoNCE()])
def test_fixed_predictions_and_z_il_equal_backprop(objective: Any) -> None:
    for circuit in (dense_circuit(4), map_circuit(4)):
        moment = full_moment(circuit)
        want = proposals(Backprop(objective), circuit, moment)
        populations = len(circuit.network.order)
        fixed = PredictiveCoding(objective, steps=populations, rate=1.0, schedule="fixed-prediction")
        assert_close(proposals(fixed, circuit, moment), want, list(want), 1e-11)
        z_il = PredictiveCoding(objective, rate=1.0, schedule="z-il")
        assert_close(proposals(z_il, circuit, moment), want, list(want), 1e-11)


def test_fixed_predictions_equal_backprop_with_skips_and_z_il_refuses_them() -> None:
    circuit = skip_circuit()
    moment = full_moment(circuit)
    want = proposals(Backprop(SquaredError()), circuit, moment)
    rule = PredictiveCoding(SquaredError(), steps=len(circuit.network.order), rate=1.0, schedule="fixed-prediction")
    assert_close(proposals(rule, circuit, moment), want, list(want), 1e-11)
    with pytest.raises(NetworkError, match="chains only"):
        PredictiveCoding(SquaredError(), schedule="z-il").wire(circuit.network)


def test_learned_mirrors_see_the_transposed_update() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit)
    got = proposals(PredictiveCoding(SquaredError(), 3, feedback="learned"), circuit, moment)
    assert torch.equal(got["V2=>V1"][0], got["V1->V2"][0].T)
    fixed = proposals(PredictiveCoding(SquaredError(), 3, feedback="fixed"), dense_circuit(), moment)
    assert "V2=>V1" not in fixed


def test_incremental_predictive_coding_learns_at_every_step() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit)
    rule = PredictiveCoding(SquaredError(), steps=5, rate=0.2, schedule="incremental")
    activity = circuit.sweep(stimulus_of(moment))
    by_hand = dense_circuit()
    values = {n: activity[n].clone() for n in circuit.network.order[:-1]}
    target = F.one_hot(moment.require(Teaching, "test").labels, 4).double()
    optimisers = Optimisers(circuit.network, circuit.weights, Synapses("sgd", lr=0.1))
    seen = 0
    for scope in settle(rule, activity, moment):
        seen += 1
        for name, update in propose(rule, scope, moment):
            optimisers.change(name, update)
    for _ in range(5):
        state = by_hand.sweep(activity["retina"], values)
        errors = {n: values[n] - state[n] for n in values} | {"readout": target - state["readout"]}
        somatic = {n: at_soma(by_hand.network.populations[n], e, state.responses[n]) for n, e in errors.items()}
        force = {"V1": -errors["V1"] + somatic["V2"] @ by_hand.weights["V1->V2"].weight}
        force["V2"] = -errors["V2"] + somatic["readout"] @ by_hand.weights["V2->readout"].weight
        source = {"retina": activity["retina"], **values}
        for name, pathway in by_hand.network.feedforward.items():
            weight, bias = by_hand.weights[name]
            weight.add_(somatic[pathway.post].T @ source[pathway.pre] / len(target), alpha=0.1)
            assert bias is not None
            bias.add_(somatic[pathway.post].mean(0), alpha=0.1)
        values = {n: v + 0.2 * force[n] for n, v in values.items()}
    assert seen == 5
    for name in circuit.network.feedforward:
        assert torch.allclose(circuit.weights[name].weight, by_hand.weights[name].weight, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("contrast", ["linear", "softplus", "phyll", "hinge"])
def test_theorem_local_equals_backprop_in_a_linear_network_with_matched_predictions(direct: bool, contrast: str) -> None:
    """Theorem 3.1 of arXiv 2601.21683, step A: B_l = Q_l^T B_L Q_l (lateral) or Q_l^T B_L (direct feedback)."""
    network = Network(InputPopulation("retina", 12), name="linear")
    for depth, units in enumerate((10, 8, 5), 1):
        below = "retina" if depth == 1 else f"V{depth - 1}"
        network.add(Population(f"V{depth}", units, "linear"), FeedforwardPathway(below, f"V{depth}", bias=False))
    rule = Local(Contrastive(contrast, "top" if direct else "lateral"))
    circuit = wired(rule, drawn(network, 3), 3)
    moment = full_moment(circuit, negatives=1)
    top = circuit.weights["V3=>V3"].weight
    upward = torch.eye(5, dtype=torch.float64)
    for depth in (2, 1):
        upward = upward @ circuit.weights[f"V{depth}->V{depth + 1}"].weight
        name = f"V3=>V{depth}" if direct else f"V{depth}=>V{depth}"
        circuit.weights.set(name, upward.T @ top @ (torch.eye(5, dtype=torch.float64) if direct else upward))
    want = proposals(Backprop(Contrastive(contrast)), circuit, moment)
    assert_close(proposals(rule, circuit, moment), want, list(circuit.network.feedforward), 1e-11)
