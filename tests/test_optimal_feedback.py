"""Predictions that backprop teaches: the update is the gradient of the distance of the credits, and does what it is for."""

from typing import Any

import pytest
import torch
from conftest import clones, dense_circuit, drawn, full_moment, map_circuit, same, stimulus_of, wired
from oracle import Autograd, assert_close, contrastive_loss, proposals
from torch import Tensor

from neurossl import Circuit, Network, mlp, residual
from neurossl.anatomy import FeedforwardPathway, InputPopulation, LowRankPathway, Population
from neurossl.engine.optimisers import Optimisers
from neurossl.errors import LocalityError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade
from neurossl.measures import cosine
from neurossl.plasticity import Backprop, Contrastive, InfoNCE, Local, OptimalFeedback, Synapses, make_rule, propose

CIRCUITS: dict[str, Any] = {
    "dense": lambda: dense_circuit(None),
    "maps": map_circuit,
    "residual": lambda: drawn(residual((2, 9, 9), [4, 6], skip="plastic")),
}


def distances_by_autograd(
    circuit: Circuit, moment: Moment, objective: Contrastive, gains: tuple[Tensor, Tensor] | None = None
) -> tuple[Autograd, dict[str, Tensor]]:
    """Return ``||dL/dz - dL_l/dz||^2`` of every population below the top, with a graph back to the predictions."""
    plain = Autograd(circuit)
    stimulus = stimulus_of(moment)
    z, _ = plain.sweep(stimulus, detach=False)
    top = circuit.network.top

    def score(name: str, activity: Tensor, prediction: str) -> Tensor:
        pathway = circuit.network.pathways[prediction]
        matrix = plain.weights[prediction][0]
        if isinstance(pathway, LowRankPathway):
            matrix = matrix @ plain.weights[pathway.through][0]
        pools = pathway.source_pool, pathway.target_pool  # type: ignore[attr-defined]
        context = z[pathway.pre].detach()
        if gains is None:
            return contrastive_loss(activity, context, matrix, moment, objective.contrast, pools, objective.steepness)
        rows = []  # a loss per row, so that each can be weighed
        partner, jumps = moment.require(Fixation, "test").partner, moment.require(Saccade, "test").negatives
        for row in range(len(activity)):
            at = activity.flatten(1)
            predicted = matrix @ context.flatten(1)[row]
            stay, jump = at[partner[row]] @ predicted, torch.stack([at[n] @ predicted for n in jumps[:, row]])
            f = torch.nn.functional.softplus
            rows.append(gains[0][row] * f(1 - stay) + gains[1][row] * f(1 + jump).mean())
        return torch.stack(rows).mean()

    loss = sum(score(top, z[top], prediction) for prediction in objective.pathway_names(top, top))
    found = {}
    for name in circuit.network.order[:-1]:
        (wanted,) = torch.autograd.grad(loss, z[name], retain_graph=True)
        activity = z[name].detach().requires_grad_()
        own = sum(score(name, activity, prediction) for prediction in objective.pathway_names(name, top))
        (given,) = torch.autograd.grad(own, activity, create_graph=True)  # type: ignore[arg-type]
        found[name] = (given - wanted.detach()).square().sum()
    return plain, found


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear", "phyll"])
@pytest.mark.parametrize(
    ("context", "kernel", "form"),
    [("lateral", "global", "full"), ("top", 2, "full"), ("both", 3, "full"), ("top", None, "low-rank:3")],
)
def test_the_lesson_is_the_gradient_of_the_distance(kind: str, contrast: str, context: str, kernel: Any, form: str) -> None:
    """Through the dendrite and through the neuromodulator; the encoder and the top learn as without a teacher."""
    objective = Contrastive(contrast, context, kernel, steepness=1.7, prediction=form)
    rule = OptimalFeedback(objective)
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    plain, distances = distances_by_autograd(circuit, moment, objective)
    want = plain.gradients(torch.stack(list(distances.values())).sum())
    below = [name for name, p in circuit.network.feedback.items() if p.post != circuit.network.top]
    assert_close(got, want, below)
    untaught = proposals(Local(objective), circuit, moment)
    assert set(got) == set(untaught)
    others = [name for name in got if name not in below]
    assert any("->" in name for name in others)
    assert any("=>" in name for name in others)
    assert_close(got, untaught, others, 1e-12)
    assert all(float((got[n][0] - untaught[n][0]).abs().max()) > 0 for n in below)


def test_gains_of_fixations_and_saccades_count_in_the_lesson() -> None:
    objective = Contrastive("softplus", "top")
    circuit = wired(OptimalFeedback(objective), dense_circuit(None))
    generator = torch.Generator().manual_seed(5)
    gains = torch.rand(10, generator=generator).double(), torch.rand(10, generator=generator).double()
    moment = full_moment(circuit).with_events(Neuromodulation(*gains))
    got = proposals(OptimalFeedback(objective), circuit, moment)
    plain, distances = distances_by_autograd(circuit, moment, objective, gains)
    want = plain.gradients(torch.stack(list(distances.values())).sum())
    assert_close(got, want, ["V2=>V1"])


@pytest.mark.parametrize("form", ["full", "banded:9", "low-rank:200"])
def test_taught_predictions_make_local_credit_backprop_where_they_can(form: str) -> None:
    """Linear populations with direct feedback: some B carries the very credit of backprop (theorem 3.1), and is found."""
    network = Network(InputPopulation("retina", 12), name="linear")
    for depth, units in enumerate((8, 8, 8), 1):
        below = "retina" if depth == 1 else f"V{depth - 1}"
        pathway = FeedforwardPathway(below, f"V{depth}", bias=False, init="orthogonal")
        network.add(Population(f"V{depth}", units, "linear"), pathway)
    rule = make_rule("clapp-optimal", contrast="linear", prediction=form)
    circuit = wired(rule, drawn(network, 3), 3)
    moment = full_moment(circuit, rows=40, negatives=1)
    activity = circuit.sweep(stimulus_of(moment))
    reference = proposals(Backprop(Contrastive("linear")), circuit, moment)

    def similarity() -> list[float]:
        now = proposals(rule, circuit, moment)
        return [cosine(now[name][0], reference[name][0]) for name in ("retina->V1", "V1->V2")]

    before = similarity()
    optimisers = Optimisers(circuit.network, circuit.weights, Synapses("adam", lr=0.01))
    taught = [name for name, pathway in circuit.network.feedback.items() if pathway.post != "V3"]
    for _ in range(200):
        for name, update in list(propose(rule, activity, moment)):
            if name in taught:
                optimisers.change(name, update)
    assert max(before) < 0.9
    assert min(similarity()) > 0.9999


def test_taught_predictions_align_a_nonlinear_encoder_better_than_local_learning() -> None:
    """The order of figure 3b, on one batch: taught > learned by the own loss > random, at every population below the top."""
    aligned = {}
    for name in ("clapp-optimal", "clapp-dfb", "clapp-fixed"):
        rule = make_rule(name, contrast="softplus")
        circuit = wired(rule, drawn(mlp(20, [24, 24, 24])))
        moment = full_moment(circuit, rows=64, negatives=1)
        activity = circuit.sweep(stimulus_of(moment))
        optimisers = Optimisers(circuit.network, circuit.weights, Synapses("adam", lr=0.01))
        for _ in range(50):
            for prediction, update in list(propose(rule, activity, moment)):
                if prediction in circuit.network.feedback:
                    optimisers.change(prediction, update)
        got, want = proposals(rule, circuit, moment), proposals(Backprop(Contrastive("softplus")), circuit, moment)
        aligned[name] = [cosine(got[path][0], want[path][0]) for path in ("retina->V1", "V1->V2")]
    for taught, learned, random in zip(*aligned.values(), strict=True):
        assert taught > learned > random
        assert taught > 0.7


def test_the_teacher_has_to_be_declared_and_taught_predictions_learn() -> None:
    for name in ("clapp-optimal", "clapp++optimal"):
        rule = make_rule(name)
        assert {"weight transport", "activity held", "top-down activity", "neuromodulator"} <= rule.needs
        assert "taught by backprop" in rule.describe()["transport"]
        assert isinstance(rule.reference(), Backprop)
        rule.needs = rule.needs - {"weight transport"}
        circuit = map_circuit()
        with pytest.raises(LocalityError, match="reaches for 'other populations'"):
            proposals(rule, circuit, full_moment(circuit))
    with pytest.raises(OptionError, match="teaches the predictions of a contrastive objective"):
        OptimalFeedback(InfoNCE())  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="fixed below the top"):
        make_rule("clapp-optimal", plastic=False)


def test_an_encoder_that_is_at_rest_is_left_alone() -> None:
    """A population without plastic synapses gets no lesson; those above and below do."""
    network = mlp(12, [9, 8, 7])
    network.pathways["V1->V2"].plastic = False
    circuit = drawn(network)
    rule = make_rule("clapp-optimal")
    before = clones(circuit.weights)
    got = proposals(rule, circuit, full_moment(circuit))
    assert set(got) == {"retina->V1", "V2->V3", "V3=>V1", "V3=>V3"}
    assert same(before, {name: weights for name, weights in clones(circuit.weights).items() if name in before})
