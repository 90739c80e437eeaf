"""Cheaper forms of prediction weights: equal to autograd, to the full matrix that they stand for, and stored like it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MemoryStore, clones, dense_circuit, drawn, full_moment, map_circuit, simulated, stimulus_of, wired
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Autograd, assert_close, contrastive_loss, proposals
from torch import Tensor

from analysis import TrajectoryWriter, open_trajectory
from neurossl import Circuit, Network, Simulation, convolutional, residual, vgg6
from neurossl.anatomy import (
    BandedPathway,
    FeedbackPathway,
    FeedforwardPathway,
    InputPopulation,
    InterneuronPathway,
    LowRankPathway,
    Population,
    PredictionForm,
)
from neurossl.engine import limits
from neurossl.engine.execution import Execution
from neurossl.engine.predictions import BandedProjection, LowRankProjection
from neurossl.errors import LocalityError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation
from neurossl.plasticity import Backprop, Contrastive, Local, Synapses, make_rule
from neurossl.recorders import UpdateRecorder, WeightRecorder
from neurossl.replicas import Replicas


def within(target: tuple[int, int], source: tuple[int, int], distance: int) -> Tensor:
    """Return which source cells every target cell is predicted from, (target cells, source cells), cell by cell."""
    allowed = torch.zeros(*target, *source, dtype=torch.bool)
    for ty in range(target[0]):
        for tx in range(target[1]):
            for sy in range(source[0]):
                for sx in range(source[1]):
                    gaps = []
                    for t, s, axis in ((ty, sy, 0), (tx, sx, 1)):
                        coarse = min(target[axis], source[axis])
                        places = int((t + 0.5) / target[axis] * coarse), int((s + 0.5) / source[axis] * coarse)
                        gaps.append(abs(places[0] - places[1]))
                    allowed[ty, tx, sy, sx] = max(gaps) <= distance
    return allowed.flatten(2).flatten(0, 1)


def joined(pathway: FeedbackPathway, target: Any, source: Any, *before: FeedbackPathway) -> Any:
    """Return a pathway between two populations of these shapes, with weights in float64."""
    network = Network(InputPopulation("retina", 2), Population("low", target), Population("high", source))
    network.add(FeedforwardPathway("retina", "low"), FeedforwardPathway("retina", "high"), *before, pathway)
    return drawn(network, 1)[pathway.name]


@settings(max_examples=40, deadline=None)
@given(
    target=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    source=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    distance=st.integers(0, 3),
)
def test_a_band_is_the_full_matrix_without_what_is_too_far(
    target: tuple[int, int], source: tuple[int, int], distance: int
) -> None:
    band = joined(BandedPathway("high", "low", distance), (2, *target), (3, *source))
    assert isinstance(band, BandedProjection)
    mask = within(target, source, distance)[None, :, None, :].expand(2, -1, 3, -1).reshape(2 * mask_cells(target), -1)
    full = band.dense()
    assert torch.equal(full != 0, mask)
    assert band.pathway.synapses == int(mask.sum())
    signal, credit = torch.randn(6, full.shape[1]).double(), torch.randn(6, full.shape[0]).double()
    assert torch.allclose(band.apical(signal), signal @ full.T, rtol=1e-11, atol=1e-13)
    update = band.hebbian(signal, credit).weight
    assert update.shape == band.weight.shape
    assert torch.allclose(band.dense(update), mask * (credit.T @ signal / 6), rtol=1e-11, atol=1e-13)
    assert bool((update[band.weight == 0] == 0).all()), "what is too far away is no synapse and never changes"


def mask_cells(cells: tuple[int, int]) -> int:
    return cells[0] * cells[1]


def test_neighbours_are_counted_on_the_coarser_map() -> None:
    """A cell of a 4 x 4 map sees the one cell of a 2 x 2 map in which it lies; the other way round, four."""

    def shape(target: Any, source: Any, distance: int, **pools: Any) -> tuple[int, ...]:
        return joined(BandedPathway("high", "low", distance, **pools), target, source).pathway.weight_shape

    assert shape((1, 4, 4), (1, 2, 2), 0) == (16, 1, 1, 1)
    assert shape((1, 2, 2), (1, 4, 4), 0) == (4, 1, 2, 2)
    assert shape((1, 8, 8), (1, 8, 8), 1) == (64, 1, 3, 3)
    whole = joined(BandedPathway("high", "low", 1), (5, 2, 2), (3, 2, 2)).pathway
    assert whole.weight_shape == (20, 3, 2, 2)
    assert whole.synapses == 20 * 12, "two cells either way are all within one"
    assert shape(5, (3, 4, 4), 0) == (5, 3, 4, 4)
    assert shape((5, 4, 4), (3, 4, 4), 0, source_pool="global", target_pool=2) == (20, 3, 1, 1)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_low_rank_is_the_product_of_its_factors(size: int) -> None:
    first = InterneuronPathway("high", "low", size, source_pool=2, label="first")
    pathway = joined(LowRankPathway(first, target_pool=2), (2, 4, 4), (3, 4, 4), first)
    assert isinstance(pathway, LowRankProjection)
    assert pathway.dense().shape == (8, 12)
    assert pathway.pathway.source_pool == 2
    signal, credit = torch.randn(6, 12).double(), torch.randn(6, 8).double()
    assert torch.allclose(pathway.apical(signal), signal @ pathway.dense().T, rtol=1e-11, atol=1e-14)
    factors = [pathway.weight.clone().requires_grad_(), pathway.through.weight.clone().requires_grad_()]
    want = torch.autograd.grad((credit * (signal @ (factors[0] @ factors[1]).T)).sum(1).mean(), factors)
    for (changed, update), gradient, expected in zip(
        pathway.changes(signal, credit), want, (pathway, pathway.through), strict=True
    ):
        assert changed == expected.name
        assert torch.allclose(update.weight, gradient, rtol=1e-11, atol=1e-14)
    fixed = InterneuronPathway("high", "low", size, source_pool=2, label="first", plastic=False)
    pathway = joined(LowRankPathway(fixed, target_pool=2), (2, 4, 4), (3, 4, 4), fixed)
    assert [name for name, _ in pathway.changes(signal, credit)] == ["high=>low"]
    assert not pathway.pathway.needs


CIRCUITS: dict[str, Callable[[], Circuit]] = {
    "dense": lambda: dense_circuit(None),
    "maps": map_circuit,
    "residual": lambda: drawn(residual((2, 9, 9), [4, 6], skip="plastic")),
}


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("form", ["low-rank:3", "banded:0", "banded:1"])
@pytest.mark.parametrize(
    ("context", "kernel", "contrast"),
    [("lateral", "spatial", "softplus"), ("top", 3, "hinge"), ("both", 2, "phyll"), ("top", "global", "linear")],
)
def test_clapp_with_cheaper_predictions_equals_autograd(
    kind: str, form: str, context: str, kernel: Any, contrast: str
) -> None:
    rule = make_rule("clapp++", prediction=form, context=context, pool=kernel, contrast=contrast)
    assert isinstance(rule, Local)
    assert isinstance(rule.objective, Contrastive)
    circuit = wired(rule, CIRCUITS[kind]())
    network = circuit.network
    moment = full_moment(network)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    loss = torch.zeros(())
    dense: dict[str, Tensor] = {}
    for name in network.order:
        for prediction in rule.objective.pathway_names(name, network.top):
            pathway = network.pathways[prediction]
            assert isinstance(pathway, LowRankPathway | BandedPathway)
            if isinstance(pathway, LowRankPathway):
                matrix = plain.weights[prediction][0] @ plain.weights[pathway.through][0]
            else:
                matrix = dense[prediction] = circuit[prediction].dense().requires_grad_()  # type: ignore[attr-defined]
            pools = pathway.source_pool, pathway.target_pool
            loss = loss + contrastive_loss(z[name], z[pathway.pre].detach(), matrix, moment, contrast, pools)
    of_dense = torch.autograd.grad(loss, list(dense.values()), retain_graph=True) if dense else ()
    want = plain.gradients(loss)
    got = proposals(rule, circuit, moment)
    for (name, matrix), gradient in zip(dense.items(), of_dense, strict=True):
        band = circuit[name]
        assert isinstance(band, BandedProjection)
        got[name] = [band.dense(got[name][0])]
        want[name] = [-gradient * (matrix != 0)]
    assert set(got) == set(want)
    assert_close(got, want, list(want))


@pytest.mark.parametrize("form", ["low-rank:3", "banded:1"])
def test_backprop_and_predictive_coding_use_the_same_predictions(form: str) -> None:
    objective = Contrastive("softplus", "top", 2, prediction=form)
    circuit = wired(Backprop(objective), map_circuit())
    moment = full_moment(circuit)
    want = proposals(Backprop(objective), circuit, moment)
    top = circuit["V3=>V3"]
    assert isinstance(top, LowRankProjection | BandedProjection)
    plain = Backprop(Contrastive("softplus", "top", 2))
    plain_circuit = wired(plain, map_circuit())
    plain_circuit.weights.set("V3=>V3", top.dense())
    full = proposals(plain, plain_circuit, moment)
    assert_close(want, full, list(circuit.network.feedforward), 1e-11)
    fixed = make_rule(
        "pc-clapp", schedule="fixed-prediction", rate=1.0, steps=3, contrast="softplus", pool=2, prediction=form
    )
    assert_close(proposals(fixed, circuit, moment), want, list(want), 1e-11)


def test_a_band_as_wide_as_the_map_learns_as_the_full_matrix() -> None:
    """Only the shape of the weights differs: the same updates after several moments of AdamW."""
    rules = make_rule("clapp++", pool=3), make_rule("clapp++", pool=3, prediction="banded:9")
    full, band = (wired(rule, map_circuit()) for rule in rules)
    for name in band.network.feedback:
        full.weights.set(name, band[name].dense())  # type: ignore[attr-defined]
    moments = [full_moment(full, seed=seed) for seed in range(5)]
    learned, banded = (
        simulated(circuit, rule, Synapses(lr=1e-2)).run(moments).circuit
        for rule, circuit in zip(rules, (full, band), strict=True)
    )
    for name in banded.network.pathways:
        projection = banded[name]
        weight = projection.dense() if isinstance(projection, BandedProjection) else projection.weight
        assert torch.allclose(weight, learned.weights[name].weight, rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize("form", ["full", "low-rank:3", "banded:1"])
def test_silent_observers_teach_cheaper_predictions_nothing(form: str) -> None:
    """None learns, or few do: the same updates as of those few alone among silent ones."""
    rule = make_rule("clapp++", prediction=form, pool=2, contrast="softplus")
    circuit = wired(rule, map_circuit())
    moment = full_moment(circuit)
    silence = torch.zeros(10, dtype=torch.float64)
    quiet = proposals(rule, circuit, moment.with_events(Neuromodulation(silence)))
    assert all(float(t.abs().max()) == 0 for ts in quiet.values() for t in ts)
    silence[[1, 4]] = 1
    found = []
    for selects in (True, False):
        circuit.execution = Execution(mapped=not selects)
        found.append(proposals(rule, circuit, moment.with_events(Neuromodulation(silence))))
    assert_close(found[0], found[1], list(found[1]), 1e-12)
    assert any(float(t.abs().max()) > 0 for name in circuit.network.feedback for t in found[0][name])


@pytest.mark.parametrize("form", ["low-rank:30", "banded:1"])
def test_cheaper_predictions_changed_a_block_at_a_time_end_where_they_would(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that begin and end in the middle of the cells of a channel, too."""
    ends = []
    for block in (2**21, 7 * 36):
        monkeypatch.setattr(limits, "BLOCK", block)
        circuit = map_circuit()
        rule = make_rule("clapp++", prediction=form, pool=2)
        simulation = simulated(circuit, rule, Synapses(lr=1e-2, weight_decay=0.1))
        ends.append(clones(simulation.run([full_moment(circuit, seed=seed) for seed in range(3)]).weights))
    for name, parameters in ends[0].items():
        assert torch.allclose(parameters[0], ends[1][name][0], rtol=1e-12, atol=1e-14), name


def test_weights_too_far_away_stay_zero() -> None:
    circuit = map_circuit()
    rule = make_rule("clapp++", pool=2, prediction="banded:1")
    simulation = simulated(circuit, rule, Synapses(lr=0.1, weight_decay=0.1))
    band = simulation.run([full_moment(circuit, seed=seed) for seed in range(3)]).circuit["V1=>V1"]
    assert isinstance(band, BandedProjection)
    mask = within((4, 4), (4, 4), 1)[None, :, None, :].expand(4, -1, 4, -1).reshape(64, 64)
    assert torch.equal(band.dense() != 0, mask)


def test_a_low_rank_prediction_has_to_declare_weight_transport() -> None:
    assert "weight transport" in make_rule("clapp++gap", prediction="low-rank:2").needs
    assert "weight transport" not in make_rule("clapp++gap", prediction="banded:1").needs
    rule = Local(Contrastive(prediction="low-rank:2"))
    circuit = wired(rule, map_circuit())
    moment = full_moment(circuit)
    proposals(rule, circuit, moment)
    with pytest.raises(LocalityError, match=r"V1=>V1 reaches for 'weight transport'"):
        proposals(Local(Contrastive()), circuit, moment)
    network = map_circuit().network
    for name in network.order:
        first = InterneuronPathway(
            name, name, 2, source_pool="global", target_pool="global", label="interneurons", plastic=False
        )
        network.add(first, LowRankPathway(first, target_pool="global"))
    found = proposals(Local(Contrastive()), drawn(network), moment)
    assert "V1=>V1" in found, "a fixed random projection needs none"


@pytest.mark.parametrize("form", ["low-rank:3", "banded:1"])
def test_cheaper_predictions_are_recorded_stored_and_described(form: str, tmp_path: Path, store: MemoryStore) -> None:
    circuit = map_circuit()
    rule = make_rule("clapp++both", prediction=form)
    assert form in rule.objective_name
    moments = [full_moment(circuit, seed=seed) for seed in range(2)]
    with TrajectoryWriter(tmp_path / "run") as writer:
        recorders = [WeightRecorder(every=1), UpdateRecorder(every=1, keep=True)]
        simulation = simulated(circuit, rule, seed=1, store=writer, recorders=recorders).run(moments)
    simulated(circuit, rule, seed=1, store=store, recorders=[WeightRecorder(every=2, index=7)]).run(moments)
    network = simulation.network
    described = {p["name"]: p for p in network.describe()["pathways"]}
    assert described["V3=>V2"]["form"] == form
    tree = open_trajectory(tmp_path / "run", verify=True)
    groups = {str(group.attrs["pathway"]): group for group in tree["weights"].children.values()}
    for name, pathway in network.feedback.items():
        stored = groups[name]["weight"]
        assert stored.dims == ("snapshot", "post", "pre", "ky", "kx")[: 1 + len(pathway.weight_shape)]
        assert torch.equal(torch.from_numpy(stored.values[-1]), simulation.weights[name].weight)
        assert len(store.of("weights", name)[2]["weight"]) == 7
    if form == "low-rank:3":
        assert described["V3=>V2"]["through"] in network.feedback
        assert "V3=>V3:lateral-interneurons" in network.feedback
    summary = network.summary()
    for pathway in network.feedback.values():
        line = next(line for line in summary.splitlines() if line.split()[:1] == [pathway.name])
        assert "x".join(map(str, pathway.weight_shape)) in line
        assert f"{pathway.synapses:,}" in line


def test_the_full_size_network_has_far_fewer_weights() -> None:
    """Six-layer network, 32 pixels: 201 million weights of B, a few percent of them with cheaper forms."""
    synapses = {}
    for form in ("full", "low-rank:64", "low-rank:256", "banded:1", "banded:0"):
        network = make_rule("clapp++", prediction=form).wire(vgg6((3, 32, 32)))
        synapses[form] = sum(p.synapses for p in network.feedback.values())
    assert synapses == {
        "full": 201_326_592,
        "low-rank:64": 4_194_304,
        "low-rank:256": 16_777_216,
        "banded:1": 80_805_888,
        "banded:0": 15_728_640,
    }


@pytest.mark.parametrize(
    "text", ["dense", "full:1", "low-rank", "low-rank:0", "banded:", "banded:-1", "banded:1.5", "banded:²"]
)
def test_forms_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected full, low-rank:RANK"):
        make_rule("clapp++", prediction=text)


def test_forms_say_what_they_are() -> None:
    for text in ("full", "low-rank:64", "banded:0"):
        assert str(PredictionForm.parse(text)) == text
    with pytest.raises(NetworkError, match="interneurons: expected a whole number >= 1, got 0"):
        InterneuronPathway("V1", "V1", 0)
    with pytest.raises(NetworkError, match="distance in cells: expected a whole number >= 0, got -1"):
        BandedPathway("V1", "V1", -1)
    with pytest.raises(NetworkError, match="'V1=>V1:first': add that to the network first"):
        map_circuit().network.add(LowRankPathway(InterneuronPathway("V1", "V1", 2, label="first")))


@pytest.mark.parametrize(
    ("name", "options"),
    [("clapp++", {"prediction": "banded:1"}), ("clapp++both", {"prediction": "low-rank:2"}), ("clapp++optimal", {})],
)
def test_replicas_learn_through_cheaper_and_taught_predictions_as_alone(name: str, options: dict[str, Any]) -> None:
    def simulations() -> list[Simulation]:
        networks = [convolutional((2, 9, 9), [(4, False), (5, True)]) for _ in range(2)]
        synapses = [Synapses(lr=1e-2) for _ in networks]
        common = {"device": "cpu", "dtype": "float64"}
        return [
            Simulation(n, make_rule(name, contrast="softplus", **options), s, seed=seed, **common)  # type: ignore[arg-type]
            for seed, (n, s) in enumerate(zip(networks, synapses, strict=True))
        ]

    alone, joined = simulations(), simulations()
    moments = [[full_moment(s.network, seed=10 * s.seed + k) for k in range(3)] for s in alone]
    for simulation, stream in zip(alone, moments, strict=True):
        simulation.run(stream)
    Replicas(joined).run(moments)
    for one, other in zip(alone, joined, strict=True):
        for path, held in one.weights.items():
            assert torch.allclose(held.weight, other.weights[path].weight, rtol=1e-9, atol=1e-11), path


@pytest.mark.parametrize("form", ["low-rank:3", "banded:1"])
def test_products_in_bfloat16_are_those_in_float32_rounded(form: str) -> None:
    learned = []
    for products in (None, "bfloat16"):
        network = convolutional((2, 9, 9), [(4, False), (5, True)])
        rule = make_rule("clapp++", prediction=form, contrast="softplus")
        simulation = Simulation(network, rule, Synapses("sgd", lr=1.0), seed=1, device="cpu", products=products)
        before = clones(simulation.weights)
        simulation.run([full_moment(network)])
        learned.append({name: simulation.weights[name].weight - held[0] for name, held in before.items()})
    for name, change in learned[0].items():
        assert learned[1][name].dtype == torch.float32
        assert 0 < float((learned[1][name] - change).norm() / change.norm()) < 0.03, name


def test_an_online_observer_learns_through_cheaper_predictions() -> None:
    """The trace of the previous fixation is the context, as with full weights."""
    rule = make_rule("clapp++", prediction="banded:0", pool=3)
    circuit = wired(rule, map_circuit())
    generator = torch.Generator().manual_seed(0)
    moments = [Moment(Fixation(torch.randn(1, 2, 9, 9, generator=generator))) for _ in range(3)]
    weights = simulated(circuit, rule).run(moments).weights
    assert not torch.equal(circuit.weights["V2=>V2"].weight, weights["V2=>V2"].weight)
