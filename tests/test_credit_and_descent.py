"""Credit, descent and perturbations beside a cosine with backprop, against explicit computations."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MemoryStore, dense_circuit, full_moment, map_circuit, simulated, stimulus_of, wired
from measuring import beginning, labels_of, negatives_of, partner_of, recorded, supervised_gradients
from oracle import Autograd, circuit_for, contrastive_loss
from torch import Tensor

from neurossl import Circuit, Simulation, mlp
from neurossl.generators import Generators
from neurossl.measures import cosine
from neurossl.plasticity import Credit, Synapses, make_rule
from neurossl.recorders import AlignmentMeasures
from neurossl.recorders.credit import active_row_cosine, gamma_agreements, mean_row_cosine
from neurossl.recorders.hearing import hear, random_credit
from neurossl.recorders.perturbation import Perturbed
from neurossl.recorders.rows import halves
from neurossl.stimuli import ImageSet, ViewPairs

# Credit


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_the_credit_cosine_is_that_of_two_gradients_row_by_row(make: Callable[..., Circuit]) -> None:
    circuit = make(None)
    moment = full_moment(circuit, rows=12)
    rule = make_rule("clapp++gap", contrast="softplus")
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
    store, _ = recorded(circuit, "clapp++gap", moments, measures="credit", lr=0.3)
    before: dict[str, Tensor] = {}
    moment = moments[0]
    last = simulated(circuit, "clapp++gap", Synapses("sgd", lr=0.3))
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
    for name in ("bp", "bp-clapp++", "bp-infonce", "bp-ff"):
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
