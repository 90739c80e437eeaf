"""The noise ceiling of a cosine with backprop and its baselines, against explicit computations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, dense_circuit, full_moment, map_circuit, simulated, stimulus_of
from measuring import beginning, gradients_of, labels_of, negatives_of, partner_of, recorded, supervised_gradients
from oracle import contrastive_loss
from torch import Tensor

from analysis import (
    expected_ceiling,
)
from neurossl import Circuit, Simulation, mlp
from neurossl.errors import EventError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade
from neurossl.generators import Generators
from neurossl.measures import cosine
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.recorders import AlignmentMeasures, Recorder, UpdateRecorder
from neurossl.recorders.hearing import hear, random_credit
from neurossl.recorders.rows import halves, moment_of, observers_of
from neurossl.recorders.shuffling import shuffled
from neurossl.stimuli import ImageSet, ViewPairs

# Ceiling


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_the_ceiling_is_the_cosine_of_two_halves(make: Callable[..., Circuit]) -> None:
    circuit = make(4)
    moment = full_moment(circuit, rows=12)
    store, simulation = recorded(circuit, "dfa", [moment], measures="ceiling", seed=5)
    parts = halves(moment, Generators(5)["recorders/alignment/halves"])
    start = beginning(circuit, simulation)
    expected, mine = [], []
    for rows in parts:
        shown, labels = stimulus_of(moment)[rows], labels_of(moment)[rows]
        expected.append(supervised_gradients(circuit, shown, labels))
        mine.append(hear(make_rule("dfa"), start.sweep(shown), moment_of(moment, rows)).updates)
    for name in circuit.network.feedforward:
        values = store.of("alignment", name)[1]
        assert values["ceiling"] == pytest.approx(cosine(expected[0][name], expected[1][name]), abs=1e-12)
        assert values["self_ceiling"] == pytest.approx(cosine(mine[0][name].weight, mine[1][name].weight), abs=1e-12)
        crossed = [cosine(mine[a][name].weight, expected[1 - a][name]) for a in (0, 1)]
        assert values["cross_cosine"] == pytest.approx(np.mean(crossed), abs=1e-12)


def test_the_ceiling_of_a_contrastive_reference_equals_autograd_on_the_events_within_each_half() -> None:
    circuit = dense_circuit(None)
    moment = full_moment(circuit, rows=12)
    store, simulation = recorded(circuit, "clapp++gap", [moment], measures="ceiling", seed=2, lr=0.0)
    weight = simulation.weights["V2=>V2"].weight
    expected = []
    for rows in halves(moment, Generators(2)["recorders/alignment/halves"]):
        part = moment_of(moment, rows)

        def loss(z: dict[str, Tensor], part: Moment = part) -> Tensor:
            return contrastive_loss(z["V2"], z["V2"], weight, part, "hinge", (None, None))

        expected.append(gradients_of(circuit, loss, stimulus_of(part)))
    for name in circuit.network.feedforward:
        ceiling = store.of("alignment", name)[1]["ceiling"]
        assert ceiling == pytest.approx(cosine(expected[0][name], expected[1][name]), abs=1e-12)


def test_full_batches_agree_as_the_halves_foretell(digits: ImageSet) -> None:
    """The formula of Spearman and Brown on real images: updates of different moments of a frozen network."""
    network = mlp(256, [32, 32], 10)
    stream = ViewPairs(digits, observers=64, moments=110, seed=1)
    recorders: dict[str, Recorder] = {
        "ceiling": AlignmentMeasures(1, reference="bp", measures="ceiling"),
        "reference_stability": UpdateRecorder(1, reference="bp"),
    }
    found: dict[str, dict[str, float]] = {}
    for variable, recorder in recorders.items():
        store = MemoryStore()
        options: dict[str, Any] = {"seed": 1, "dtype": "float64", "device": "cpu", "store": store}
        Simulation(network, "bp", Synapses("sgd", lr=0.0), recorders=[recorder], **options).run(stream)
        of = {name: [v[variable] for v in store.of("alignment", name).values()] for name in network.feedforward}
        found[variable] = {name: float(np.nanmean(values)) for name, values in of.items()}
    half, full = (np.array(list(found[variable].values())) for variable in recorders)
    foretold = expected_ceiling(half)
    assert np.abs(full - foretold).max() < 0.05
    assert abs((full - foretold).mean()) < 0.3 * (full - half).mean(), "which the cosine of the halves itself is not"


def test_too_few_observers_leave_no_value_and_say_why_once() -> None:
    circuit = dense_circuit(None)
    with pytest.warns(
        UserWarning, match="no ceiling: halves of the observers: expected at least 4 observers, got 3"
    ) as said:
        store, _ = recorded(circuit, "clapp++gap", [full_moment(circuit, rows=6, seed=number) for number in range(3)])
    assert len(said) == 1
    values = store.of("alignment", "V1->V2")[3]
    assert math.isnan(values["ceiling"])
    assert math.isnan(values["heldout_decrease"])
    assert math.isfinite(values["reference_decrease"])


# Baselines


def test_shuffled_teaching_is_that_of_other_observers() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit, rows=14, negatives=3).with_events(Neuromodulation(torch.rand(14)))
    activity = circuit.sweep(stimulus_of(moment))
    other, same_activity = shuffled(moment, activity, torch.Generator().manual_seed(1))
    other.check()
    assert same_activity is activity
    assert torch.equal(stimulus_of(other), stimulus_of(moment))
    observers, rows = observers_of(moment), torch.arange(14)
    assert (observers[partner_of(other)] != observers).all(), "nobody keeps the own pair"
    assert torch.equal(partner_of(other)[partner_of(other)], rows), "pairs are pairs"
    assert torch.equal(rows < partner_of(other), rows < partner_of(moment)), "of a first and a second view"
    assert torch.equal(labels_of(other).sort().values, labels_of(moment).sort().values)
    assert torch.equal(labels_of(other)[:7], labels_of(moment)[partner_of(other)[:7] - 7]), "the label goes with the pair"
    gains = [m.require(Neuromodulation, "test").gain for m in (moment, other)]
    assert not torch.equal(*gains)
    assert torch.equal(gains[0].sort().values, gains[1].sort().values)
    assert not torch.equal(negatives_of(other), negatives_of(moment))
    signs = other.require(Phase, "test").sign
    assert float(signs.sum()) == 0
    assert not torch.equal(signs, moment.require(Phase, "test").sign)
    with pytest.raises(EventError, match="expected at least 2 observers, got 1"):
        shuffled(Moment(Fixation(torch.randn(2, 12), torch.tensor([1, 0]))), activity, torch.Generator())


def test_online_the_trace_of_another_observer_is_the_context(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    draws = torch.Generator().manual_seed(0)
    seen: list[Moment] = []
    for _ in range(3):
        stimulus, leaves = torch.randn(6, 12, generator=draws).double(), torch.rand(6, generator=draws) < 0.5
        seen.append(Moment(Fixation(stimulus), Saccade(observers=leaves)))
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[AlignmentMeasures(1, rows=2, directions=4)])
    simulation.run(seen)
    assert simulation.activity is not None
    _, activity = shuffled(seen[2], simulation.activity, torch.Generator().manual_seed(3))
    assert activity.context is not None
    assert simulation.activity.context is not None
    assert not torch.equal(activity.context["V1"], simulation.activity.context["V1"])
    assert torch.equal(activity.context["V1"].sort(0).values, simulation.activity.context["V1"].sort(0).values)
    last = store.of("alignment", "V1->V2")[3]
    assert all(math.isfinite(last[name]) for name in ("ceiling", "shuffled_cosine", "random_cosine", "credit_cosine"))
    assert last["reference_perturbation_correlation"] > 0.99


def test_the_shuffled_baseline_equals_autograd_with_the_labels_of_others() -> None:
    circuit = dense_circuit(4)
    moment = full_moment(circuit, rows=12)
    store, _ = recorded(circuit, "bp", [moment], reference="bp", measures="baselines", seed=4)
    wrong, _ = shuffled(moment, circuit.sweep(stimulus_of(moment)), Generators(4)["recorders/alignment/shuffled"])
    right, other = (supervised_gradients(circuit, stimulus_of(moment), labels_of(m)) for m in (moment, wrong))
    for name in circuit.network.feedforward:
        found = store.of("alignment", name)[1]["shuffled_cosine"]
        assert found == pytest.approx(cosine(other[name], right[name]), abs=1e-12)


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_random_credit_keeps_norms_and_gates_and_nothing_else(make: Callable[..., Circuit]) -> None:
    circuit = make(None, "relu")
    moment = full_moment(circuit).with_events(Neuromodulation(torch.tensor([0.0] + [1.0] * 9, dtype=torch.float64)))
    rule = make_rule("ff")
    activity = circuit.sweep(stimulus_of(moment))
    true = hear(rule, activity, moment)
    drawn_at: dict[str, list[float]] = {}
    for seed in range(200):
        found = hear(rule, activity, moment, change=random_credit(torch.Generator().manual_seed(seed)))
        for population, credit in found.credits.items():
            assert credit.activity is not None
            norms = [c.activity.flatten(1).norm(dim=1) for c in (credit, true.credits[population]) if c.activity is not None]
            assert torch.allclose(*norms, rtol=1e-12)
            assert float(norms[0][0]) == 0, "who learns nothing still learns nothing"
        for name in circuit.network.feedforward:
            drawn_at.setdefault(name, []).append(cosine(found.updates[name].weight, true.updates[name].weight))
    assert all(abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200) for values in drawn_at.values())


def test_the_random_baseline_is_the_hebbian_product_of_random_credit() -> None:
    circuit = dense_circuit(4, "tanh")
    moment = full_moment(circuit)
    rule, activity = make_rule("bp"), circuit.sweep(stimulus_of(moment))
    found = hear(rule, activity, moment, change=random_credit(torch.Generator().manual_seed(1)))
    credit = found.credits["V2"].activity
    assert credit is not None
    expected = (credit * (1 - activity["V2"] ** 2)).T @ activity["V1"] / 10
    assert torch.allclose(found.updates["V1->V2"].weight, expected, atol=1e-14)


def test_a_rule_that_is_not_taught_has_no_shuffled_baseline(store: MemoryStore) -> None:
    class Hebb(Rule):
        """Needs nothing."""

        def credit_at(self, site: Any, moment: Moment) -> Tensor:
            return site.activity

    circuit = dense_circuit(None)
    simulated(circuit, Hebb(), store=store, recorders=[AlignmentMeasures(1, "bp-clapp++")]).run([full_moment(circuit)])
    values = store.of("alignment", "V1->V2")[1]
    assert math.isnan(values["shuffled_cosine"])
    assert math.isfinite(values["random_cosine"])
    assert math.isnan(values["gamma_agreement"])
    assert math.isfinite(values["credit_cosine"])
