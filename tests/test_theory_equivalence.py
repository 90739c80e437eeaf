"""Theorem 3.1 of arXiv 2601.21683: when a local update is the backprop-derived one, and that each condition matters."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Refusal, drawn, stimulus_of
from torch import Tensor

import analysis
from neurossl.anatomy.architectures import convolutional, from_description, linear_stack
from neurossl.anatomy.network import Network
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Saccade
from neurossl.plasticity import Backprop, Local, Site
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.proposal import losses, propose
from neurossl.stimuli import Views, load_images
from protocols import theory_equivalence
from protocols.cli import protocol_names
from protocols.theory.comparing import aligned
from protocols.theory.conditions import CONDITIONS
from protocols.theory.optimal_predictions import BothWays, fit, transport
from protocols.theory.patches import ErasedViews, PatchPairs, quarters

DECAY = 0.01
F64 = torch.float64


def chain(inputs: int = 30, units: Sequence[int] = (20, 20, 20), **options: Any) -> Network:
    return linear_stack(inputs, units, **options)


def moment_for(circuit: Circuit, rows: int = 16, seed: int = 0) -> Moment:
    """Return correlated halves with partners, and negatives on the row after the partner."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows // 2, *circuit.network.input.shape)
    common, *own = (torch.randn(shape, generator=generator, dtype=F64) for _ in range(3))
    row = torch.arange(rows)
    partner = (row + rows // 2) % rows
    return Moment(Fixation(torch.cat([common + o / 2 for o in own]), partner), Saccade((partner + 1)[None] % rows))


def site_of(activity: Activity, objective: BothWays, population: str) -> Site:
    """Return what there is at a population for somebody who may look at all of them."""
    return Scope(activity, Local(objective, {"other populations"})).site(population)


def at_optimum(circuit: Circuit, objective: BothWays, moment: Moment, populations: Sequence[str] | None = None) -> Activity:
    activity = circuit.sweep(stimulus_of(moment))
    for name in populations or circuit.network.order:
        for way in objective.ways:
            assert fit(way, site_of(activity, objective, name), moment, DECAY).residual < 1e-9
    return activity


def errors(objective: BothWays, activity: Activity, moment: Moment) -> list[float]:
    """Return the relative error of the local update of every layer."""
    found = aligned(Local(objective), Backprop(objective), activity, moment)
    return [found[name]["relative_error"] for name in activity.circuit.network.feedforward]


def wired(network: Network, seed: int = 0, **options: Any) -> tuple[Circuit, BothWays]:
    objective = BothWays(**options)
    return drawn(Backprop(objective).wire(Local(objective).wire(network)), seed), objective


@pytest.mark.parametrize("context", ["lateral", "top"])
def test_with_all_conditions_met_the_local_update_is_the_backprop_derived_one(context: str) -> None:
    for contrast, bound in (("linear", 1e-10), ("softplus", 1e-6)):
        network = chain()
        circuit, objective = wired(network, contrast=contrast, context=context)
        moment = moment_for(circuit)
        activity = at_optimum(circuit, objective, moment)
        assert max(errors(objective, activity, moment)) < bound


@pytest.mark.parametrize(
    "broken",
    [{"init": "uniform"}, {"transfer": "relu"}, {"bias": True}, {"units": (20, 10, 5)}],
    ids=["not orthogonal", "not linear", "biases", "decreasing widths"],
)
def test_each_broken_condition_breaks_the_equality(broken: dict[str, Any]) -> None:
    network = chain(**broken)
    circuit, objective = wired(network, contrast="softplus")
    moment = moment_for(circuit)
    found = errors(objective, at_optimum(circuit, objective, moment), moment)
    assert min(found[:-1]) > 1e-3
    assert found[-1] == 0, "the top has the same objective on both sides"


def test_predictions_at_the_optimum_for_another_batch_break_the_equality() -> None:
    network = chain()
    circuit, objective = wired(network, contrast="softplus")
    at_optimum(circuit, objective, moment_for(circuit, seed=1), network.order)
    moment = moment_for(circuit)
    found = errors(objective, at_optimum(circuit, objective, moment, [network.top]), moment)
    assert min(found[:-1]) > 0.1


def louder(circuit: Circuit) -> None:
    """Make scores large enough to shut some gates of a hinge."""
    for name in circuit.network.feedback:
        circuit.weights.set(name, circuit.weights[name].weight * 3)


@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear"])
@pytest.mark.parametrize("context", ["lateral", "top"])
def test_transported_predictions_give_backprop_for_any_widths_and_weights(contrast: str, context: str) -> None:
    network = chain(units=(24, 9, 13, 5), init="uniform")
    circuit, objective = wired(network, contrast=contrast, context=context)
    louder(circuit)
    moment = moment_for(circuit)
    activity = circuit.sweep(stimulus_of(moment) * 20)
    assert max(errors(objective, activity, moment)) > 0.1
    for name in network.order[:-1]:
        transport(objective, circuit, name)
    assert max(errors(objective, activity, moment)) < 1e-12
    if contrast == "hinge":
        site = site_of(activity, objective, "V1")
        silent = objective.credit(site, moment).silent
        assert silent is not None
        assert 0 < silent.sum() < len(silent), "some gates are open and some are shut"


@pytest.mark.parametrize("contrast", ["hinge", "softplus"])
@pytest.mark.parametrize("context", ["lateral", "top"])
@pytest.mark.parametrize("top", [1, "global"])
def test_predictions_from_place_to_place_give_backprop_in_convolutions(contrast: str, context: str, top: Any) -> None:
    """Proposition 3.5: without score pooling below the top there is a B for every place."""
    blocks = [(4, False), (3, False), (4, False)]
    network = convolutional((2, 5, 5), blocks, transfer="linear", bias=False)
    circuit, objective = wired(network, contrast=contrast, context=context, pool=(1, 1, top))
    louder(circuit)
    moment = moment_for(circuit, rows=8)
    activity = circuit.sweep(stimulus_of(moment))
    assert max(errors(objective, activity, moment)) > 0.1
    for name in network.order[:-1]:
        transport(objective, circuit, name)
    assert max(errors(objective, activity, moment)) < 1e-12


def test_direct_feedback_is_nearer_to_backprop_where_widths_decrease() -> None:
    """Section 3 of the paper for linear f; not true of every finite batch, hence of most."""
    nearer = 0
    for seed in range(20):
        found = []
        for context in ("lateral", "top"):
            network = chain(units=(20, 10, 5))
            circuit, objective = wired(network, seed, contrast="linear", context=context)
            moment = moment_for(circuit, rows=64, seed=seed)
            found.append(errors(objective, at_optimum(circuit, objective, moment), moment))
        nearer += all(top < lateral for lateral, top in zip(found[0][:-1], found[1][:-1], strict=True))
    assert nearer >= 18


def published_loss(z: Tensor, c: Tensor, into_first: Tensor, into_second: Tensor) -> Tensor:
    """Return the loss of the published theory code: both halves projected, the negative is the next row's projection."""
    half = len(z) // 2
    projected = torch.cat([z[:half] @ into_first, z[half:] @ into_second])
    reference = torch.cat([c[half:], c[:half]])
    u_fixation, u_saccade = (projected * reference).sum(1), (projected.roll(-1, 0) * reference).sum(1)
    softplus = torch.nn.functional.softplus
    return (softplus(1 - u_fixation) + softplus(1 + u_saccade)).mean()


def test_both_ways_is_the_published_loss() -> None:
    network = chain(units=(7,), transfer="relu", init="uniform")
    circuit, objective = wired(network, contrast="softplus")
    moment = moment_for(circuit)
    stimulus = stimulus_of(moment)
    activity = circuit.sweep(stimulus)
    names = ("retina->V1", "V1=>V1:first", "V1=>V1:second")
    weight, first, second = (circuit.weights[n].weight.clone().requires_grad_() for n in names)
    z = (stimulus @ weight.T).relu()
    loss = published_loss(z, z.detach(), first, second)
    assert float(losses(Local(objective), activity, moment)["V1"]) == pytest.approx(loss.item(), rel=1e-12)
    loss.backward()
    proposed = {pathway: update.weight for pathway, update in propose(Local(objective), activity, moment)}
    for name, parameter in zip(names, (weight, first, second), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(proposed[name], -parameter.grad, rtol=1e-11, atol=1e-15), name


@pytest.mark.parametrize("start", [0.0, 3.0])
def test_the_optimum_is_where_lbfgs_on_the_updates_of_the_rule_ends(start: float) -> None:
    network = chain(units=(12, 12))
    circuit, objective = wired(network, contrast="softplus")
    moment = moment_for(circuit)
    activity = at_optimum(circuit, objective, moment, ["V1"])
    site = site_of(activity, objective, "V1")
    held = {name: circuit.weights[name].weight for name in ("V1=>V1:first", "V1=>V1:second")}
    optimum = {name: weight.clone() for name, weight in held.items()}
    for name, weight in held.items():
        circuit.weights.set(name, torch.full_like(weight, start))

    @torch.no_grad()
    def descend() -> float:
        credit = objective.credit(site, moment)
        for name, update in credit.feedback:
            held[name].grad = DECAY * held[name] - update.weight
        return float(credit.loss) + DECAY / 2 * sum(float(weight.square().sum()) for weight in held.values())

    options: dict[str, Any] = {"max_iter": 2000, "tolerance_grad": 1e-10, "tolerance_change": 0.0}
    torch.optim.LBFGS(list(held.values()), line_search_fn="strong_wolfe", **options).step(descend)
    for name, expected in optimum.items():
        assert torch.allclose(held[name], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_optimal_predictions_ask_for_a_smooth_loss_and_for_pairs() -> None:
    network = chain(units=(4, 4))
    circuit, objective = wired(network, contrast="hinge")
    moment = moment_for(circuit)
    stimulus = stimulus_of(moment)
    site = site_of(circuit.sweep(stimulus), objective, "V1")
    with pytest.raises(OptionError, match="expected a smooth contrast, softplus or linear, got 'hinge'"):
        fit(objective.ways[0], site, moment, DECAY)
    with pytest.raises(EventError, match="one negative per context row"):
        objective.credit(site, Moment(Fixation(stimulus), Saccade()))


def test_quarters_follow_the_published_order() -> None:
    images = torch.arange(3 * 4 * 4, dtype=torch.uint8).view(3, 1, 4, 4)
    stream = PatchPairs(images, torch.zeros(3), Views(4), observers=3, moments=1)
    moment = stream[0]
    patches, partner = stimulus_of(moment) * 255, moment.require(Fixation, by="test").partner
    negatives = moment.require(Saccade, by="test").negatives
    assert partner is not None
    assert negatives is not None
    assert torch.equal(patches.round().to(torch.uint8), quarters(images))
    image, side = 1, 1
    row = side * 3 + image
    assert torch.equal(patches[row].round().to(torch.uint8), images[image, :, :2, 2:]), "the upper right quarter"
    assert torch.equal(patches[partner[row]].round().to(torch.uint8), images[image, :, 2:, 2:]), "the one below it"
    assert negatives[0].tolist() == [7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6], "the row after the partner"


def test_views_are_erased_where_and_as_often_as_asked() -> None:
    images = torch.full((400, 1, 20, 20), 255, dtype=torch.uint8)
    views = ErasedViews(20, erased=0.5, erased_scale=(0.04, 0.16))
    seen = views(images, torch.Generator().manual_seed(0))
    assert torch.equal(seen, views(images, torch.Generator().manual_seed(0)))
    area = (seen == 0).float().mean((1, 2, 3))
    hidden = area[area > 0]
    assert 0.42 < len(hidden) / len(area) < 0.58
    assert float(hidden.min()) > 0.03
    assert float(hidden.max()) < 0.18
    with pytest.raises(OptionError, match="ErasedViews: expected a probability"):
        ErasedViews(20, erased_scale=(0.5, 0.9))


def test_linear_stacks_are_orthonormal_and_without_biases() -> None:
    circuit = drawn(linear_stack((1, 14, 14), (128, 128, 64)))
    for name in circuit.network.feedforward:
        weight, bias = circuit.weights[name]
        assert torch.allclose(weight @ weight.T, torch.eye(len(weight), dtype=F64), atol=1e-13)
        assert bias is None
    maps = linear_stack((1, 16, 16), (32,) * 4, kernel=2)
    assert [maps.populations[n].shape for n in maps.order] == [(32, 8, 8), (32, 4, 4), (32, 2, 2), (32, 1, 1)]
    first, second = (drawn(maps).weights[n].weight.flatten(1) for n in ("retina->V1", "V1->V2"))
    assert torch.allclose(first.T @ first, torch.eye(4, dtype=F64), atol=1e-13), "more channels than pixels of a patch"
    assert torch.allclose(second @ second.T, torch.eye(32, dtype=F64), atol=1e-13)
    assert linear_stack(8, [4], transfer="relu", init="uniform").populations["V1"].transfer.name == "relu"
    assert from_description("linear:12-6", (1, 4, 4), 3).order == ["V1", "V2", "readout"]
    assert from_description("linear:5-5:2", (1, 8, 8)).populations["V2"].shape == (5, 2, 2)
    for text in ("linear:", "linear:8:", "linear:8-x", "linear:8:0"):
        with pytest.raises(OptionError, match="expected mlp:256"):
            from_description(text, (1, 8, 8))
    with pytest.raises(NetworkError, match="convolutions need images"):
        linear_stack(64, [4], kernel=2)
    with pytest.raises(NetworkError, match="'V3'"):
        linear_stack((1, 4, 4), [4, 4, 4], kernel=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("theory") / "run"
    theory_equivalence.run(str(out), tiny=True, workers=1)
    return out


def test_the_protocol_finds_the_bounds_and_what_is_lost(tiny: Path) -> None:
    table = {(r["figure"], r["condition"]): r for r in json.loads((tiny / "results.json").read_text())["table"]}
    assert len(table) == len(CONDITIONS)
    bounded = [r for r in table.values() if r["bound of the relative error"] is not None]
    assert len(bounded) == 8
    assert all(r["bound holds"] and r["largest relative error"] < r["bound of the relative error"] for r in bounded)
    assert max(r["largest distance of B from its optimum"] for r in table.values()) < 1e-9
    met = table["2", "all conditions met"]
    for condition in ("W not orthogonal", "ReLU", "ReLU, W not orthogonal", "random fixed B"):
        broken = table["2", condition]
        assert broken["cosine, layer 1 (mean)"] < 0.7 < met["cosine, layer 1 (mean)"]
        assert broken["cosine, layer 6 (mean)"] == pytest.approx(1, abs=1e-12)


def test_the_protocol_says_so_in_words_and_charts(tiny: Path) -> None:
    results = analysis.read_results(tiny)
    assert sum("it holds." in sentence for sentence in results.sentences) == 8
    assert not any("does NOT hold" in sentence for sentence in results.sentences)
    assert any(sentence.startswith("W not orthogonal: at layers 1 to 5 the cosine is") for sentence in results.sentences)
    drawn = {path.name for path in (tiny / "figures").glob("*.png")}
    assert drawn == {f"chart-{n}.png" for n in range(1, 7)}
    assert "theory_equivalence" in protocol_names()


def test_the_protocol_stores_every_batch_as_an_event(tiny: Path) -> None:
    comparison = analysis.open_comparison([tiny])
    assert len(comparison.runs) == len(CONDITIONS)
    tree = analysis.open_trajectory(tiny / "fig2" / "relu" / "seed-0")
    assert tree["alignment"]["event"].values.tolist() == [1, 2]
    assert tree["observers_seen"].values.tolist() == [8, 16]
    assert tree["alignment"]["trustworthy"].values.all()
    assert np.isfinite(tree["performance"]["loss"].sel(population="V1").values).all()
    losses = analysis.open_trajectory(tiny / "fig2" / "all-conditions" / "seed-0")["performance"]["loss"]
    per_layer = losses.sel(population=[f"V{n}" for n in range(1, 7)]).values
    assert np.allclose(per_layer, per_layer[:, :1], rtol=1e-9), "the optima of all layers have the same loss"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "both"], "part: expected train or test, got 'both'"),
        (["--batches", "0"], "batches: expected a whole number from 1 to 1,000,000,000, got 0"),
        (["--seed", "1", "--seeds", "2"], "give one of them"),
        (["--observers", "1"], "expected at least 2 observers"),
        (["--batches", "900"], "expected at least 2 observers and"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("theory_equivalence", options)


def test_images_of_odd_sides_have_no_quarters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = load_images("digits", size=15)
    monkeypatch.setattr("protocols.harness.settings.load_images", lambda *args, **options: odd)
    with pytest.raises(OptionError, match=r"even sides of at least 12 pixels, got \(1, 15, 15\)"):
        theory_equivalence.run(str(tmp_path / "run"), tiny=True)
