"""What every rule keeps to, whatever its mathematics: silence, purity, no autograd, dense as convolutional, refusals."""

from typing import Any

import pytest
import torch
from conftest import clones, dense_circuit, drawn, full_moment, map_circuit, same, simulated, stimulus_of, wired
from oracle import (
    Autograd,
    assert_close,
    circuit_for,
    every_rule,
    proposals,
    skip_circuit,
)
from torch import Tensor

from neurossl import Network
from neurossl.anatomy import Convolution, FeedbackPathway, FeedforwardPathway, InputPopulation, Population
from neurossl.engine.optimisers import Optimisers
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade
from neurossl.plasticity import (
    RULES,
    Contrastive,
    Local,
    PredictiveCoding,
    Rule,
    Synapses,
    make_rule,
    propose,
    register,
    settle,
)


@pytest.mark.parametrize("name", every_rule())
def test_a_silent_neuromodulator_changes_nothing(name: str) -> None:
    rule = make_rule(name)
    circuit = circuit_for(rule)
    moment = full_moment(circuit)
    quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
    assert all(float(t.abs().max()) == 0 for ts in proposals(rule, circuit, quiet).values() for t in ts)
    loud = proposals(rule, circuit, moment.with_events(Neuromodulation(torch.ones(10, dtype=torch.float64))))
    assert_close(loud, proposals(rule, circuit, moment), list(loud), 1e-12)
    assert any(float(t.abs().max()) > 0 for ts in loud.values() for t in ts)


@pytest.mark.parametrize("name", every_rule())
def test_proposing_changes_nothing_and_the_order_of_application_does_not_matter(name: str) -> None:
    """The engine applies each change as soon as it is proposed: as if all were proposed first."""
    rule = make_rule(name)
    circuit, other = (wired(rule, circuit_for(rule)) for _ in range(2))
    moment = full_moment(circuit)
    before = clones(circuit.weights)
    activity = circuit.sweep(stimulus_of(moment))
    *_, scope = settle(rule, activity, moment)
    list(propose(rule, scope, moment))
    assert same(before, clones(circuit.weights))
    one, two = (Optimisers(c.network, c.weights, Synapses("sgd", lr=0.1)) for c in (circuit, other))
    for scope in settle(rule, circuit.sweep(stimulus_of(moment)), moment):
        for name_of_pathway, update in propose(rule, scope, moment):
            one.change(name_of_pathway, update)
    for scope in settle(rule, other.sweep(stimulus_of(moment)), moment):
        for name_of_pathway, update in list(propose(rule, scope, moment)):
            two.change(name_of_pathway, update)
    assert same(clones(circuit.weights), clones(other.weights))
    assert not same(before, clones(circuit.weights))


@pytest.mark.parametrize("name", every_rule())
def test_no_rule_needs_autograd(name: str) -> None:
    rule = make_rule(name)
    circuit = circuit_for(rule)
    moment = full_moment(circuit)
    with torch.inference_mode():
        assert proposals(rule, circuit, moment)


NEWER = ["barlow-local", "vicreg-local", "lpl", "rpl", "mono-forward", "softhebb"]


@pytest.mark.parametrize(
    "name", ["clapp++gap", "clapp-dfb", "ff", "dfa", "fa", "pc", "bp", "bp-infonce", "bp-barlow", *NEWER]
)
def test_dense_is_a_convolution_of_the_same_connectivity(name: str) -> None:
    """On 1 x 1 maps, a convolution of kernel 1 is dense."""
    rule = make_rule(name)
    classes = 4 if "target" in rule.needs else None
    dense = wired(rule, dense_circuit(classes, "tanh", normalisation=rule.normalisation))
    network = Network(InputPopulation("retina", (12, 1, 1)), name="maps")
    below = "retina"
    for name_above in dense.network.order:
        population = dense.network.populations[name_above]
        units, transfer = population.neurons[0], population.transfer.name
        network.add(Population(name_above, (units, 1, 1) if name_above != "readout" else units, transfer))
        wiring = Convolution(1, 1, 0) if name_above != "readout" else None
        network.add(FeedforwardPathway(below, name_above, wiring, normalisation=rule.normalisation))
        below = name_above
    maps = wired(rule, drawn(network))
    for pathway_name, held in dense.weights.items():
        maps.weights.set(pathway_name, held.weight.view(maps.weights[pathway_name].weight.shape), held.bias)
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
    circuit = drawn(network.add(FeedbackPathway("V1", "V1")))
    for name in circuit.weights:
        circuit.weights.set(name, torch.ones(1, 1, dtype=torch.float64))
    rule = Local(Contrastive())
    for target, fixation_gain, gamma in ((0.5, 1, 1), (1.0, 1, 0), (2.0, 1, 0), (-0.5, 0, -1), (-1.0, 0, 0), (-2.0, 0, 0)):
        stimulus = torch.tensor([[1.0], [target]], dtype=torch.float64)
        gain = torch.tensor([float(fixation_gain), 0.0], dtype=torch.float64)
        jump = torch.tensor([1.0 - fixation_gain, 0.0], dtype=torch.float64)
        moment = Moment(
            Fixation(stimulus, torch.tensor([1, 0])), Saccade(torch.tensor([[1, 0]])), Neuromodulation(gain, jump)
        )
        update = proposals(rule, circuit, moment)["retina->V1"][0]
        assert float(update) == pytest.approx(gamma * target / 2), (target, gamma)


def test_what_an_objective_waits_for_is_asked_for_by_name() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit)
    bare = Moment(Fixation(stimulus_of(moment)))
    for name, event in (("bp", "Teaching"), ("dfa", "Teaching"), ("ff", "Phase")):
        with pytest.raises(EventError, match=event):
            proposals(make_rule(name), dense_circuit(), bare)
    with pytest.raises(EventError, match="partner"):
        proposals(make_rule("bp-infonce"), dense_circuit(), bare)
    pair = Moment(Fixation(bare.require(Fixation, "test").stimulus, torch.arange(10)))
    with pytest.raises(EventError, match="negatives"):
        proposals(make_rule("clapp++gap"), dense_circuit(), pair)
    with pytest.raises(EventError, match="one unit per class"):
        proposals(make_rule("bp"), dense_circuit(2), moment)


@pytest.mark.parametrize("name", ["bp-infonce", "infonce-local", "dfa-infonce"])
def test_infonce_of_one_observer_is_refused(name: str) -> None:
    """There is nobody to compare with: it would learn nothing, without a word."""
    circuit = dense_circuit(None)
    with pytest.raises(EventError, match="compares every observer with others, but the moment has 1"):
        proposals(make_rule(name), circuit, full_moment(circuit, rows=2, negatives=1))


@pytest.mark.parametrize("name", ["bp", "dfa", "pc", "fa"])
def test_rectified_units_are_no_class_scores(name: str) -> None:
    with pytest.raises(NetworkError, match="rectified units are no class scores: give the network a linear readout"):
        proposals(make_rule(name), dense_circuit(None, "relu"), full_moment(dense_circuit()))


def test_a_network_without_the_normalisation_that_a_rule_counts_on_is_refused() -> None:
    for name, normalisation in (("ff", "length"), ("phyll", "length"), ("scff", "doubled")):
        assert make_rule(name).normalisation == normalisation
        with pytest.raises(OptionError, match=f"counts on presynaptic normalisation .'{normalisation}'.*'retina->V1' lacks"):
            simulated(dense_circuit(None), name)


def test_a_transport_keeps_its_schedule_whatever_the_objective() -> None:
    for name, schedule in (("z-il", "z-il"), ("pc-fixed", "fixed-prediction"), ("ipc", "incremental"), ("pc", "standard")):
        rule = make_rule(name, objective="squared-error")
        assert isinstance(rule, PredictiveCoding)
        assert rule.schedule == schedule
        assert rule.objective.name == "squared-error"
    assert make_rule("clapp++gap", objective="infonce").objective_name.startswith("InfoNCE")


def test_rules_by_name() -> None:
    with pytest.raises(OptionError, match="did you mean 'clapp"):
        make_rule("clap")
    with pytest.raises(OptionError, match="contrst"):
        make_rule("clapp++gap", contrst="hinge")
    with pytest.raises(OptionError, match="expected hinge"):
        make_rule("clapp++gap", contrast="hing")
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
        for circuit in (dense_circuit(), map_circuit(), skip_circuit()):
            moment = full_moment(circuit)
            got = proposals(make_rule("test-hebb"), circuit, moment)
            plain = Autograd(circuit)
            z, _ = plain.sweep(stimulus_of(moment), detach=True)
            loss = sum(-(z[n].square().sum() / 2) / 10 for n in circuit.network.order)
            assert isinstance(loss, Tensor)
            assert_close(got, plain.gradients(loss), list(got))
            quiet = moment.with_events(Neuromodulation(torch.zeros(10, dtype=torch.float64)))
            silent = proposals(make_rule("test-hebb"), circuit, quiet)
            assert all(float(t.abs().max()) == 0 for ts in silent.values() for t in ts)

        class Wrong(Hebb):
            """Credit of the wrong shape."""

            def credit_at(self, site: Any, moment: Moment) -> Tensor:
                return site.activity[:3]

        with pytest.raises(NetworkError, match="credit must have the shape"):
            proposals(Wrong(), dense_circuit(), moment)
    finally:
        del RULES["test-hebb"]
