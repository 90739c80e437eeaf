"""What a cosine is measured against: ceiling, baselines, credit, descent and perturbations against explicit computations."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MemoryStore, clones, dense_circuit, drawn, full_moment, map_circuit, same, simulated, stimulus_of, wired
from oracle import Autograd, circuit_for, contrastive_loss
from torch import Tensor

from analysis import (
    TrajectoryWriter,
    alignment_over_training,
    corrected_cosine,
    efficiency,
    expected_ceiling,
    open_trajectory,
)
from neurossl import Circuit, Replicas, Simulation, Weights, mlp
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
from neurossl.generators import Generators
from neurossl.measures import cosine
from neurossl.plasticity import Credit, Rule, Synapses, make_rule
from neurossl.recorders import MEASURES, AlignmentMeasures, Recorder, UpdateRecorder
from neurossl.recorders.credit import active_row_cosine, gamma_agreements, mean_row_cosine
from neurossl.recorders.hearing import hear, random_credit
from neurossl.recorders.perturbation import Perturbed
from neurossl.recorders.rows import activity_of, halves, moment_of, observers_of, some_observers
from neurossl.recorders.shuffling import shuffled
from neurossl.repeats import repeat_updates
from neurossl.stimuli import ImageSet, ViewPairs
from neurossl.stimuli.pairs import negative_rows, partner_rows

RULES = ["clapp", "clapp-dfb", "clapp++both", "infonce-local", "dfa", "fa-clapp", "pc", "ipc", "ff", "phyll", "scff", "bp"]


def partner_of(moment: Moment) -> Tensor:
    return moment.require(Fixation, "test").partner


def negatives_of(moment: Moment) -> Tensor:
    return moment.require(Saccade, "test").negatives


def labels_of(moment: Moment) -> Tensor:
    return moment.require(Teaching, "test").labels


def recorded(
    circuit: Circuit, rule: Rule | str, moments: Sequence[Moment], seed: int = 0, lr: float = 1e-3, **options: Any
) -> tuple[MemoryStore, Simulation]:
    """Return what was recorded, and the simulation."""
    store = MemoryStore()
    recorder = AlignmentMeasures(1, **options)
    simulation = simulated(circuit, rule, Synapses("sgd", lr=lr), seed=seed, store=store, recorders=[recorder])
    simulation.run(moments)
    return store, simulation


# Nothing is changed


@pytest.mark.parametrize("rule", RULES)
def test_it_changes_nothing(rule: str) -> None:
    def final(recorders: Sequence[Recorder] = (), store: MemoryStore | None = None) -> dict[str, list[Tensor]]:
        made = make_rule(rule)
        circuit = map_circuit(4 if "target" in made.needs else None, normalisation=made.normalisation)
        simulation = simulated(circuit, made, seed=3, dtype="float32", store=store, recorders=recorders)
        return clones(simulation.run([full_moment(circuit, seed=number) for number in range(3)]).weights)

    store = MemoryStore()
    reference = rule if rule.startswith("bp") else None
    with_recorder, without = final([AlignmentMeasures(1, reference, directions=4, rows=2)], store), final()
    variables = {variable for kind in MEASURES.values() for variable in kind}
    assert all(set(values) == variables for *_, values in store.records)
    assert len(store.records) >= 9
    assert all(same(with_recorder[name], weights) for name, weights in without.items())


def test_the_same_seed_records_the_same_and_another_does_not() -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(3)]

    def values(seed: int) -> Any:
        return [record[-1] for record in recorded(circuit, "clapp", moments, seed, rows=2, directions=4)[0].records]

    assert same(values(1), values(1))
    assert not same(values(1), values(2))


def test_a_run_that_is_resumed_records_what_it_would_have_recorded() -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(4)]

    def made(store: MemoryStore) -> Simulation:
        return simulated(circuit, "clapp", store=store, recorders=[AlignmentMeasures(1, rows=2, directions=4)])

    whole, first, second = MemoryStore(), MemoryStore(), MemoryStore()
    made(whole).run(moments)
    begun = made(first)
    for moment in moments[:2]:
        begun.step(moment)
    goes_on = made(second)
    goes_on.start()
    goes_on.restore(begun.state())
    for moment in moments[2:]:
        goes_on.step(moment)
    assert same([r[-1] for r in whole.records if r[2] > 2], [r[-1] for r in second.records])


# Some observers of a moment


def test_halves_keep_pairs_and_events_together() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit, rows=14, negatives=3)
    moment = moment.with_events(Neuromodulation(torch.rand(14), torch.rand(14)))
    parts = halves(moment, torch.Generator().manual_seed(1))
    assert [len(part) for part in parts] == [6, 6], "of seven observers one is left out"
    assert not set(parts[0].tolist()) & set(parts[1].tolist())
    for rows in parts:
        some = moment_of(moment, rows)
        some.check()
        assert some.observers == 3
        assert torch.equal(stimulus_of(some), stimulus_of(moment)[rows])
        assert torch.equal(rows[partner_of(some)], partner_of(moment)[rows])
        assert torch.equal(labels_of(some), labels_of(moment)[rows])
        assert torch.equal(some.require(Phase, "test").sign, moment.require(Phase, "test").sign[rows])
        gains, kept = some.require(Neuromodulation, "test"), moment.require(Neuromodulation, "test")
        assert torch.equal(gains.gain, kept.gain[rows])
        assert torch.equal(gains.saccade_gain, kept.saccade_gain[rows])
        stays = torch.isin(negatives_of(moment)[:, rows], rows)
        assert torch.equal(rows[negatives_of(some)][stays], negatives_of(moment)[:, rows][stays]), "within: as they were"
        owners = observers_of(moment)[rows]
        assert (owners[negatives_of(some)] != owners)[~stays].all(), "never the own object"


@pytest.mark.parametrize("observers", [4, 9, 32])
def test_where_every_row_is_landed_on_once_it_is_in_every_half(observers: int) -> None:
    rows = 2 * observers
    moment = Moment(Fixation(torch.randn(rows, 3), partner_rows(rows)), Saccade(negative_rows(rows, 1, None)))
    for half in halves(moment, torch.Generator().manual_seed(observers)):
        landed = negatives_of(moment_of(moment, half))[0]
        owners = observers_of(moment)[half]
        assert (owners[landed] != owners).all()
        counts = torch.bincount(landed, minlength=len(half))
        assert counts.max() <= 2
        assert (counts == 1).double().mean() > 0.7


def test_rows_without_partners_are_joined_by_what_the_moment_says() -> None:
    stimulus = torch.randn(6, 3)
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1])
    assert observers_of(Moment(Fixation(stimulus), observers=3)).tolist() == [0, 1, 2, 0, 1, 2]
    assert observers_of(Moment(Fixation(stimulus), Phase(signs))).tolist() == [0, 0, 1, 1, 2, 2]
    assert observers_of(Moment(Fixation(stimulus))).tolist() == list(range(6))
    ring = torch.tensor([1, 2, 0, 4, 3, 5])
    assert observers_of(Moment(Fixation(stimulus, ring))).tolist() == [0, 0, 0, 1, 1, 2]
    chosen = some_observers(Moment(Fixation(stimulus, ring)), 2, torch.Generator())
    assert len(observers_of(Moment(Fixation(stimulus, ring)))[chosen].unique()) == 2
    assert len(some_observers(Moment(Fixation(stimulus, ring)), 99, torch.Generator())) == 6


def test_what_cannot_be_halved_is_refused_by_name() -> None:
    moment = full_moment(dense_circuit(), rows=6)
    with pytest.raises(EventError, match="expected at least 4 observers, got 3"):
        halves(moment, torch.Generator())
    with pytest.raises(EventError, match="the partner of one of them is left out"):
        moment_of(moment, torch.tensor([0, 1]))
    with pytest.raises(EventError, match="no other observer is left"):
        moment_of(moment.with_events(Saccade(torch.tensor([[1, 0, 0, 4, 3, 3]]))), torch.tensor([0, 3]))


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_the_activity_of_some_rows_is_what_they_evoke_alone(make: Callable[..., Circuit]) -> None:
    circuit = make(4)
    moment = full_moment(circuit)
    rows = torch.tensor([1, 4, 6, 9])
    some, alone = activity_of(circuit.sweep(stimulus_of(moment)), rows), circuit.sweep(stimulus_of(moment)[rows])
    for name in circuit.network.order:
        assert torch.allclose(some[name], alone[name], atol=1e-14)
    part = moment_of(moment, rows)
    one, other = (hear(make_rule("pc"), activity, part).updates for activity in (some, alone))
    assert all(torch.allclose(one[name].weight, other[name].weight, atol=1e-14) for name in circuit.network.feedforward)


# Ceiling


def gradients_of(circuit: Circuit, loss_of: Callable[[dict[str, Tensor]], Tensor], stimulus: Tensor) -> dict[str, Tensor]:
    """Return minus the gradient of a loss at the top, by autograd."""
    oracle = Autograd(circuit)
    z, _ = oracle.sweep(stimulus, detach=False)
    found = oracle.gradients(loss_of(z))
    return {name: found[name][0] for name in circuit.network.feedforward}


def supervised_gradients(circuit: Circuit, stimulus: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return gradients_of(circuit, lambda z: F.cross_entropy(z["readout"], labels), stimulus)


def beginning(circuit: Circuit, simulation: Simulation) -> Circuit:
    """Return the circuit with which a simulation began: given weights, and the feedback that its seed draws."""
    network = simulation.network
    return Circuit(network, Weights.draw(network, simulation.seed, dtype="float64", given=circuit.weights))


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
    store, simulation = recorded(circuit, "clapp", [moment], measures="ceiling", seed=2, lr=0.0)
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
        store, _ = recorded(circuit, "clapp", [full_moment(circuit, rows=6, seed=number) for number in range(3)])
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
    simulation = simulated(circuit, "clapp", store=store, recorders=[AlignmentMeasures(1, rows=2, directions=4)])
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
    simulated(circuit, Hebb(), store=store, recorders=[AlignmentMeasures(1, "bp-clapp")]).run([full_moment(circuit)])
    values = store.of("alignment", "V1->V2")[1]
    assert math.isnan(values["shuffled_cosine"])
    assert math.isfinite(values["random_cosine"])
    assert math.isnan(values["gamma_agreement"])
    assert math.isfinite(values["credit_cosine"])


# Credit


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_the_credit_cosine_is_that_of_two_gradients_row_by_row(make: Callable[..., Circuit]) -> None:
    circuit = make(None)
    moment = full_moment(circuit, rows=12)
    rule = make_rule("clapp", contrast="softplus")
    store, simulation = recorded(circuit, rule, [moment], measures="credit", lr=0.0)
    top = circuit.network.top
    oracle = Autograd(simulation.circuit)
    z, _ = oracle.sweep(stimulus_of(moment), detach=False)
    for name in circuit.network.order:
        z[name].retain_grad()
    pools = ("global", "global") if z[top].ndim == 4 else (None, None)

    def loss(population: str, response: Tensor) -> Tensor:
        weight = simulation.weights[f"{population}=>{population}"].weight
        return contrastive_loss(response, response.detach(), weight, moment, "softplus", pools)

    loss(top, z[top]).backward()
    for pathway in circuit.network.feedforward.values():
        here = z[pathway.post].detach().requires_grad_()
        (local,) = torch.autograd.grad(loss(pathway.post, here), here)
        above = z[pathway.post].grad
        assert above is not None
        rows = [cosine(a, b) for a, b in zip(local, above, strict=True)]
        found = store.of("alignment", pathway.name)[1]["credit_cosine"]
        assert found == pytest.approx(np.nanmean(rows), abs=1e-10)


def test_rows_without_credit_are_left_out() -> None:
    one, other = torch.tensor([[1.0, 0], [0, 0], [1, 1]]), torch.tensor([[1.0, 1], [1, 0], [1, 1]])
    assert mean_row_cosine(one, other) == pytest.approx((math.sqrt(0.5) + 1) / 2)
    assert math.isnan(mean_row_cosine(one[1:2], other[1:2]))


def test_gates_agree_where_both_are_open_or_both_shut() -> None:
    circuit = dense_circuit(None, "relu")
    moments = [full_moment(circuit, rows=12)] * 40
    store, _ = recorded(circuit, "clapp", moments, measures="credit", lr=0.3)
    before: dict[str, Tensor] = {}
    moment = moments[0]
    last = simulated(circuit, "clapp", Synapses("sgd", lr=0.3))
    for _ in range(39):
        last.step(moment)
    activity = last.circuit.sweep(stimulus_of(moment))
    for population in ("V1", "V2"):
        predicted = activity[population] @ last.weights[f"{population}=>{population}"].weight.T
        stays = (activity[population][partner_of(moment)] * predicted).sum(1) < 1
        leaves = torch.stack([(activity[population][jump] * predicted).sum(1) > -1 for jump in negatives_of(moment)]).any(0)
        before[population] = torch.stack([stays, leaves])
    expected = float((before["V1"] == before["V2"]).double().mean())
    assert store.of("alignment", "retina->V1")[40]["gamma_agreement"] == pytest.approx(expected)
    assert 0 < expected < 1
    assert store.of("alignment", "V1->V2")[40]["gamma_agreement"] == 1, "the top with itself"
    places = {"V1": Credit(signals={"gamma": torch.ones(3, 5)})}
    assert math.isnan(gamma_agreements(places, Credit(signals={"gamma": torch.ones(3)}))["V1"])


def test_neurons_that_no_rule_changes_do_not_count_as_agreement() -> None:
    update, reference = torch.randn(6, 5), torch.randn(6, 5)
    update[:2] = 0
    reference[1:3] = 0
    assert active_row_cosine(update, reference) == pytest.approx(cosine(update[3:], reference[3:]))
    kernels = torch.randn(4, 3, 2, 2)
    assert active_row_cosine(kernels, kernels) == pytest.approx(1)
    assert math.isnan(active_row_cosine(update[:2], reference[:2]))


# Descent


def plain_loss(circuit: Circuit, stimulus: Tensor, labels: Tensor, changes: dict[str, Tensor]) -> float:
    """Return the cross-entropy of 12 -> 9 -> 7 -> 4 with changed weights, written out."""
    z = stimulus
    for name in circuit.network.feedforward:
        weight, bias = circuit.weights[name].weight + changes.get(name, torch.zeros(1)), circuit.weights[name].bias
        z = F.linear(z, weight, bias)
        z = z if name.endswith("readout") else torch.tanh(z)
    return float(F.cross_entropy(z, labels))


def test_decreases_are_those_of_explicit_steps() -> None:
    circuit = dense_circuit(4)
    moment, other = full_moment(circuit, rows=12), full_moment(circuit, rows=8, seed=9)
    options = {"measures": "descent", "heldout": other, "step": 1e-2}
    store, simulation = recorded(circuit, "dfa", [moment], **options)
    start = beginning(circuit, simulation)
    activity = start.sweep(stimulus_of(moment))
    along = {
        "": {n: u.weight for n, u in hear(make_rule("dfa"), activity, moment).updates.items()},
        "reference_": {n: u.weight for n, u in hear(make_rule("bp"), activity, moment).updates.items()},
    }
    for prefix, shown in (("", moment), ("heldout_", other)):
        data = stimulus_of(shown), labels_of(shown)
        initial = plain_loss(circuit, *data, {})
        for words, updates in along.items():
            sizes = {n: circuit.weights[n].weight.norm() for n in updates}
            for name, update in updates.items():
                step = {name: 1e-2 * sizes[name] / update.norm() * update}
                expected = (initial - plain_loss(circuit, *data, step)) / initial
                if prefix or words:
                    found = store.of("alignment", name)[1][f"{prefix}{words}decrease"]
                    assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)
            total = math.sqrt(sum(float(update.square().sum()) for update in updates.values()))
            weights = math.sqrt(sum(float(size.square()) for size in sizes.values()))
            step = {n: 1e-2 * weights / total * u for n, u in updates.items()}
            expected = (initial - plain_loss(circuit, *data, step)) / initial
            for name in updates:
                found = store.of("alignment", name)[1][f"{prefix}joint_{words}decrease"]
                assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_without_other_data_a_step_of_one_half_is_judged_on_the_other() -> None:
    circuit = dense_circuit(4)
    moment = full_moment(circuit, rows=12)
    store, _ = recorded(circuit, "bp", [moment], reference="bp", measures="descent", seed=7)
    first, second = halves(moment, Generators(7)["recorders/alignment/halves"])
    updates = supervised_gradients(circuit, stimulus_of(moment)[first], labels_of(moment)[first])
    data = stimulus_of(moment)[second], labels_of(moment)[second]
    initial = plain_loss(circuit, *data, {})
    for name, update in updates.items():
        step = {name: 1e-3 * circuit.weights[name].weight.norm() / update.norm() * update}
        values = store.of("alignment", name)[1]
        assert values["heldout_decrease"] == pytest.approx((initial - plain_loss(circuit, *data, step)) / initial, rel=1e-6)
        assert values["heldout_decrease"] == values["heldout_reference_decrease"]
        assert values["reference_decrease"] > 0


def test_of_several_steps_the_best_counts_and_held_out_moments_follow_each_other(digits: ImageSet) -> None:
    circuit = dense_circuit(4)
    moment = full_moment(circuit, rows=12)
    heldout = [full_moment(circuit, rows=8, seed=number) for number in (20, 21)]
    values = {}
    for steps in (1e-3, 1e-1, (1e-3, 1e-1)):
        store, _ = recorded(circuit, "dfa", [moment] * 4, measures="descent", step=steps, heldout=heldout, lr=0.0)
        values[steps] = [v for name in circuit.network.feedforward for v in store.of("alignment", name)[1].values()]
        by_event = [v["heldout_decrease"] for v in store.of("alignment", "V1->V2").values()]
        assert by_event[0] == by_event[2]
        assert by_event[0] != by_event[1]
    both = np.fmax(values[1e-3], values[1e-1])
    assert np.allclose(values[1e-3, 1e-1], both, rtol=0, atol=1e-15)
    stream = ViewPairs(digits, observers=8, moments=3, seed=5)
    store = MemoryStore()
    recorder = AlignmentMeasures(1, measures="descent", heldout=stream)
    Simulation(mlp(256, [8, 8], 10), "dfa", device="cpu", store=store, recorders=[recorder]).run(
        ViewPairs(digits, observers=8, moments=4, seed=1)
    )
    assert all(math.isfinite(v["heldout_joint_decrease"]) for v in store.of("alignment", "V1->V2").values())


# Perturbations


def test_backprop_foresees_what_a_push_does_and_random_credit_does_not() -> None:
    for name in ("bp", "bp-clapp", "bp-infonce", "bp-ff"):
        rule = make_rule(name)
        circuit = wired(rule, circuit_for(rule))
        moment = full_moment(circuit, rows=16)
        activity = circuit.sweep(stimulus_of(moment))
        said = hear(rule, activity, moment).credits
        random = hear(rule, activity, moment, change=random_credit(torch.Generator().manual_seed(0))).credits
        pushed = Perturbed(rule, activity, moment, torch.Generator().manual_seed(1), rows=8)
        found = {n: pushed.correlations(n, {"bp": said[n], "random": random[n]}) for n in circuit.network.order}
        assert all(values["bp"] > 0.99 for values in found.values()), (name, found)
        assert all(abs(values["random"]) < 0.3 for values in found.values() if values["random"] is not None)
        assert abs(np.mean([values["random"] for values in found.values()])) < 0.2


def test_a_push_at_one_row_does_what_the_written_out_network_says() -> None:
    circuit = dense_circuit(4)
    moment = full_moment(circuit)
    activity = circuit.sweep(stimulus_of(moment))
    pushed = Perturbed(make_rule("bp"), activity, moment, torch.Generator().manual_seed(2), directions=3, rows=2, size=0.1)
    pushes = pushed._unit((9,))
    found = pushed._on_the_activity("V1", pushes)
    weights = circuit.weights
    for direction in range(3):
        for number, row in enumerate(pushed._rows.tolist()):
            z = activity["V1"].clone()
            z[row] += 0.1 * pushes[direction, number]
            z = torch.tanh(F.linear(z, *weights["V1->V2"]))
            loss = F.cross_entropy(F.linear(z, *weights["V2->readout"]), labels_of(moment))
            before = F.cross_entropy(activity["readout"], labels_of(moment))
            assert float(found[direction, number]) == pytest.approx(float(loss - before), abs=1e-12)


def test_credit_at_the_soma_is_pushed_there_and_a_held_population_has_no_value() -> None:
    rule = make_rule("scff")
    circuit = wired(rule, circuit_for(rule))
    moment = full_moment(circuit, rows=12)
    activity = circuit.sweep(stimulus_of(moment))
    reference = rule.reference()
    assert reference is not None
    credits = hear(reference, activity, moment).credits
    pushed = Perturbed(reference, activity, moment, torch.Generator().manual_seed(0), directions=8, rows=2)
    local = hear(rule, activity, moment).credits
    for population in circuit.network.order:
        both = pushed.correlations(population, {"reference": credits[population], "rule": local[population]})
        assert both["reference"] > 0.99
        assert (both["rule"] > 0.99) == (population == circuit.network.top)
    silenced = MemoryStore()
    recorder = AlignmentMeasures(1, measures="perturbation")
    simulation = simulated(dense_circuit(4), "dfa", store=silenced, recorders=[recorder])
    simulation.silence("V1")
    simulation.run([full_moment(dense_circuit(4))])
    assert math.isnan(silenced.of("alignment", "retina->V1")[1]["perturbation_correlation"])
    assert silenced.of("alignment", "V1->V2")[1]["reference_perturbation_correlation"] > 0.99


# In use


def test_from_a_run_to_its_analysis(tmp_path: Path) -> None:
    circuit = dense_circuit(None)
    with TrajectoryWriter(tmp_path / "run") as store:
        recorders = [UpdateRecorder(1), AlignmentMeasures(2, rows=2, directions=4)]
        simulated(circuit, "clapp", store=store, recorders=recorders).run([full_moment(circuit, seed=k) for k in range(6)])
    measures = alignment_over_training(open_trajectory(tmp_path / "run"))
    for kind in MEASURES.values():
        for name in kind:
            assert measures[name].notnull().any("pathway").values.tolist()[1::2] == [True] * 3, name
            assert "long_name" in measures[name].attrs
    assert measures["by_construction"].values.tolist() == [False, True]
    found = efficiency(measures)
    assert set(found) == {"efficiency", "joint_efficiency", "heldout_efficiency", "heldout_joint_efficiency"}
    top = found["efficiency"].sel(pathway="V1->V2").dropna("event")
    assert np.allclose(top, 1, atol=1e-3), "the top steps as its reference does"
    assert corrected_cosine(measures).dims == ("pathway",)


def test_replicas_record_what_each_does_alone(digits: ImageSet) -> None:
    def made(seed: int, store: MemoryStore) -> Simulation:
        options: dict[str, Any] = {"seed": seed, "dtype": "float64", "device": "cpu", "store": store}
        recorders = [AlignmentMeasures(1, rows=2, directions=4)]
        return Simulation(mlp(256, [10, 8]), "clapp", recorders=recorders, **options)

    def stream(seed: int) -> ViewPairs:
        return ViewPairs(digits, observers=8, moments=3, seed=seed)

    together, alone = [MemoryStore(), MemoryStore()], [MemoryStore(), MemoryStore()]
    Replicas([made(seed, together[seed]) for seed in (0, 1)]).run([stream(0), stream(1)])
    for seed in (0, 1):
        made(seed, alone[seed]).run(stream(seed))
        for one, other in zip(together[seed].records, alone[seed].records, strict=True):
            assert one[:3] == other[:3]
            for key, value in one[-1].items():
                assert value == pytest.approx(other[-1][key], abs=1e-6, nan_ok=True), key


class Averaging(Rule):
    """Remembers the mean activity of every neuron, and of every observer."""

    state = {"mean": "population", "last": "rows"}

    def credit_at(self, site: Any, moment: Moment) -> Credit:
        old, last = site.state["mean"], site.state["last"]
        return Credit(site.activity - old - last, state={"mean": 0.5 * old + site.activity.mean(0), "last": site.activity})


def test_a_rule_that_remembers_is_heard_with_its_memory_and_refused_where_it_is_elsewhere(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=number) for number in range(3)]
    recorder = AlignmentMeasures(1, "bp-clapp", measures=["ceiling", "credit"])
    simulation = simulated(circuit, Averaging(), store=store, recorders=[recorder])
    simulation.run(moments)
    assert all(math.isfinite(v["self_ceiling"]) for v in store.of("alignment", "V1->V2").values())
    several = [
        simulated(circuit, Averaging(), store=MemoryStore(), recorders=[AlignmentMeasures(1, "bp-clapp", measures="credit")])
        for _ in range(2)
    ]
    with pytest.raises(OptionError, match="remembers what cannot be seen here"):
        Replicas(several).run([moments, moments])


def test_products_in_bfloat16_are_measured_too(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    recorders = [AlignmentMeasures(1, rows=2, directions=8)]
    simulation = Simulation(circuit.network, "clapp", device="cpu", products="bfloat16", store=store, recorders=recorders)
    simulation.run([full_moment(circuit)])
    values = store.of("alignment", "V1->V2")[1]
    assert values["reference_perturbation_correlation"] > 0.98
    assert values["credit_cosine"] == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_measured_is_refused_by_name(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    for wrong, message in (
        (
            {"measures": ["ceilings"]},
            "expected some of ceiling, baselines, credit, descent, perturbation, got ceilings",
        ),
        ({"measures": []}, "got none"),
        ({"step": 0}, "step must be a number > 0, or several, got 0"),
        ({"step": [1e-3, math.nan]}, "step must be a number > 0"),
        ({"heldout": iter([])}, "expected a moment, a list of moments or a stream"),
        ({"heldout": []}, "expected a moment"),
        ({"directions": 2}, "directions: expected a whole number >= 3"),
        ({"rows": 0}, "rows: expected a whole number >= 1"),
        ({"reference": "bb"}, "rule 'bb' does not exist"),
    ):
        with pytest.raises(OptionError, match=message):
            AlignmentMeasures(1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="rule 'bp' has no backprop reference: give it one"):
        simulated(circuit, "bp", store=store, recorders=[AlignmentMeasures(1)])
    with pytest.raises(EventError, match="waits for a Teaching event"):
        recorded(dense_circuit(4), "dfa", [full_moment(circuit)], heldout=Moment(Fixation(torch.randn(4, 12))))
    recorder = AlignmentMeasures(1)
    one = simulated(circuit, "clapp", store=store, recorders=[recorder])
    with pytest.raises(OptionError, match="records another simulation already"):
        simulated(circuit, "clapp", store=MemoryStore(), recorders=[recorder])
    one.remove_recorder(recorder)
    again = MemoryStore()
    simulated(circuit, "clapp", store=again, recorders=[recorder]).run([full_moment(circuit)])
    assert again.records


def test_nothing_is_said_where_all_can_be_measured() -> None:
    circuit = drawn(mlp(12, [9, 7], None, "relu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded(circuit, "clapp", [full_moment(circuit, rows=16)], rows=2, directions=4)


# Repeats


def test_repeats_ask_again_without_learning() -> None:
    circuit = dense_circuit(4)
    simulation = simulated(circuit, "dfa")
    moments = [full_moment(circuit, seed=number) for number in range(3)]
    before, where = clones(simulation.weights), simulation.generators.state()
    found = repeat_updates(simulation, moments, 5)
    assert same(before, clones(simulation.weights))
    assert same(where, simulation.generators.state())
    assert simulation.moment == 0
    updates = found["V1->V2"]
    assert updates["update"].dims == ("repeat", "post", "pre")
    assert updates["update"].shape == (5, 7, 9)
    assert np.array_equal(updates["update"][0], updates["update"][3]), "from the beginning once more"
    expected = hear(make_rule("bp"), simulation.circuit.sweep(stimulus_of(moments[1])), moments[1]).updates["V1->V2"].weight
    assert np.allclose(updates["reference_update"][1], expected, atol=1e-15)
    assert len(repeat_updates(simulation, iter(moments))["V1->V2"]["repeat"]) == 3
    assert set(repeat_updates(simulated(circuit, "bp"), moments[0])["V1->V2"].data_vars) == {"update"}
    with pytest.raises(OptionError, match="the stream yields nothing"):
        repeat_updates(simulation, [])
    with pytest.raises(OptionError, match="needs 'readout=>readout', which the simulation lacks"):
        repeat_updates(simulation, moments, reference="bp-clapp")


def test_a_single_moment_again_and_again_shows_what_the_rule_draws() -> None:
    class Noisy(Rule):
        """Perturbs its nodes."""

        def credit_at(self, site: Any, moment: Moment) -> Tensor:
            return torch.randn(site.activity.shape, generator=site.generator("noise"), dtype=site.activity.dtype)

    circuit = dense_circuit(None)
    simulation = simulated(circuit, Noisy())
    updates = repeat_updates(simulation, full_moment(circuit), 4)["V1->V2"]["update"]
    assert len({values.tobytes() for values in updates.values}) == 4
    assert same(repeat_updates(simulation, full_moment(circuit), 4)["V1->V2"]["update"].values, updates.values)
