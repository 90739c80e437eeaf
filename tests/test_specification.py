"""The engine computes what the definition says: every rule, dense and convolutional, in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from specification import Definition, deviation
from torch import Tensor

from neurossl import (
    RULES,
    Circuit,
    Clapp,
    Contrastive,
    Convolution,
    Credit,
    FeedforwardPathway,
    Fixation,
    InputPopulation,
    Moment,
    Network,
    Phase,
    Pooling,
    Population,
    Rule,
    Saccade,
    Simulation,
    Synapses,
    Teaching,
    Weights,
    convolutional,
    make_rule,
    mlp,
    propose,
)
from neurossl.moment import STEPS, proposals, reduced
from neurossl.plasticity import Backprop, Goodness, Local, Scope, settle
from neurossl.plasticity.audit import audit
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import wired
from neurossl.recorders import SignalRecorder
from neurossl.replicas import Replicas

EXACT = 1e-12
ROWS = 8


def dense(classes: int | None, normalisation: str | None) -> Network:
    return mlp(12, [9, 7], classes, "tanh", normalisation)


def maps(classes: int | None, normalisation: str | None) -> Network:
    """Max-pooling that ignores a remainder."""
    return convolutional((2, 9, 9), [(4, False), (5, True), (3, False)], classes, "relu", normalisation=normalisation)


def strides(classes: int | None, normalisation: str | None) -> Network:
    """A stride, reflected borders, average pooling that ignores a remainder, maps that are not square."""
    network = Network(InputPopulation("retina", (2, 9, 7)), name="strides")
    network.add(Population("V1", (3, 5, 4), "softplus", Pooling("average", 2)))
    network.add(Population("V2", (4, 2, 2), "tanh", Pooling("max", 2)))
    first, second = Convolution(3, 2, 1), Convolution(3, 1, 1, padding_mode="reflect")
    network.add(FeedforwardPathway("retina", "V1", first, normalisation=normalisation))
    above = "standard" if normalisation == "doubled" else normalisation
    network.add(FeedforwardPathway("V1", "V2", second, normalisation=above))
    if classes:
        network.add(Population("readout", classes, "linear"))
        network.add(FeedforwardPathway("V2", "readout", normalisation=above))
    return network


def skips(classes: int | None, normalisation: str | None) -> Network:
    """V1 also drives V3."""
    network = Network(InputPopulation("retina", 12), name="skips")
    sizes = {"V1": 8, "V2": 8, "V3": 6} | ({"readout": classes} if classes else {})
    for name, units in sizes.items():
        network.add(Population(name, units, "linear" if name == "readout" else "tanh"))
    joined = [("retina", "V1"), ("V1", "V2"), ("V2", "V3"), ("V1", "V3")]
    joined += [("V3", "readout"), ("V2", "readout")] if classes else []
    above = "standard" if normalisation == "doubled" else normalisation
    of = {"retina": normalisation}
    return network.add(*(FeedforwardPathway(*ends, normalisation=of.get(ends[0], above)) for ends in joined))


NETWORKS: dict[str, Callable[[int | None, str | None], Network]] = {
    "dense": dense,
    "maps": maps,
    "strides": strides,
    "skips": skips,
}


NEWER = ["barlow-local", "vicreg-local", "lpl", "rpl", "mono-forward", "softhebb"]


def all_rules() -> list[str]:
    return [name for name, factory in RULES.items() if factory.__module__.startswith("neurossl.")]


def network_for(rule: Rule, kind: str) -> Network:
    if rule.name in ("z-il", "blocks-clapp") and kind == "skips":
        pytest.skip("of chains only")
    return NETWORKS[kind](4 if "target" in rule.needs else None, rule.normalisation)


def full_moment(network: Network, rows: int = ROWS, seed: int = 0) -> Moment:
    """Return a moment that every rule can learn from."""
    generator = torch.Generator().manual_seed(seed)
    stimulus = torch.randn(rows, *network.input.shape, generator=generator, dtype=torch.float64)
    partner = (torch.arange(rows) + rows // 2) % rows
    negatives = torch.stack([(torch.arange(rows) + shift) % rows for shift in (1, rows // 2 - 1)])
    negatives[0, 0] = negatives[1, 0]  # a row on which several saccades land
    labels = torch.randint(4, (rows,), generator=generator)
    sign = torch.cat([torch.ones(rows // 2), -torch.ones(rows // 2)])
    return Moment(Fixation(stimulus, partner), Saccade(negatives), Teaching(labels), Phase(sign), observers=rows // 2)


def drawn(network: Network, seed: int = 1) -> Circuit:
    return Circuit(network, Weights.draw(network, seed, dtype="float64"))


def prepared(rule: Rule, kind: str) -> tuple[Circuit, Moment]:
    network = wired(rule, network_for(rule, kind))
    moment = full_moment(network).to(torch.device("cpu"), torch.float64)
    return drawn(network), moment


def stimulus_of(moment: Moment) -> Tensor:
    return moment.require(Fixation, "test").stimulus


def assert_same(got: dict[str, Any], want: dict[str, tuple[Tensor, ...]], bound: float = EXACT) -> None:
    assert want
    for name, parts in want.items():
        for one, other in zip(got[name].parts, parts, strict=True):
            assert deviation(one, other) <= bound, (name, deviation(one, other))


def beyond_the_factors(change: tuple[Tensor, ...], credit: Credit, weight: Tensor, pathway: str) -> tuple[Tensor, ...]:
    """Return the change of a rule that also lets weights decay, and whose neurons learn at rates of their own."""
    assert credit.decay is not None
    decayed = change[0] - torch.einsum("rj,j...->j...", credit.decay / ROWS, weight)
    return tuple(torch.einsum("j,j...->j...", credit.rates[pathway], part) for part in (decayed, *change[1:]))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", all_rules())
def test_an_update_is_what_its_three_factors_make_of_it(name: str, kind: str) -> None:
    rule = make_rule(name)
    circuit, moment = prepared(rule, kind)
    activity = circuit.sweep(stimulus_of(moment))
    scopes = 0
    for scope in settle(rule, activity, moment):
        scopes += 1
        definition = Definition(circuit, stimulus_of(moment))
        if "settling" in rule.needs:
            definition = definition.sending({n: scope.site(n).value for n in scope.populations})
        factors = dict(rule.factors(scope, scope.guard(moment)))
        got = dict(propose(rule, scope, moment))
        want = {p: change for population, f in factors.items() for p, change in definition.update(population, f).items()}
        for credit in dict(rule.credit(scope, scope.guard(moment))).values():
            want |= {p: beyond_the_factors(want[p], credit, circuit.weights[p].weight, p) for p in credit.rates}
        assert set(want) == {n for n, p in circuit.network.feedforward.items() if p.plastic}
        assert_same(got, want)
    assert scopes


def credits_of(rule: Rule, definition: Definition, moment: Moment) -> dict[str, tuple[Tensor, bool]]:
    """Return the credit of every population by the rule's equations, and whether it is at the soma; {} where not written."""
    network, objective = definition.network, getattr(rule, "objective", None)
    if isinstance(rule, Local) and isinstance(objective, Contrastive):
        names = {p: objective.pathway_names(p, network.top) for p in network.order}
        return {p: (definition.clapp(p, n, moment, objective.contrast)["credit"], False) for p, n in names.items()}
    if isinstance(objective, Clapp):
        if isinstance(rule, Local):
            return {p: (definition.clapp_as_published(p, moment, objective.retrodiction), False) for p in network.order}
        top = definition.clapp_as_published(network.top, moment, objective.retrodiction)
        return {p: (c, False) for p, c in definition.backprop(top).items()}
    if rule.name == "blocks-clapp":
        found, order = {}, network.order
        for end in range(len(order), 0, -2):
            names = objective.pathway_names(order[end - 1], network.top)
            said = definition.clapp(order[end - 1], names, moment, objective.contrast)["credit"]
            found |= definition.backprop(said, block=order[max(0, end - 2) : end])
        return {p: (c, False) for p, c in found.items()}
    if isinstance(rule, Local) and isinstance(objective, Goodness):
        found = {p: definition.goodness(p, moment, objective.paired) for p in network.order}
        return {p: (torch.einsum("r,r...->r...", *factors), False) for p, factors in found.items()}
    if rule.name == "scff":
        return {p: (definition.location_goodness(p, moment, (1.0, 2.0)), True) for p in network.order}
    if not isinstance(objective, Contrastive) and "target" not in rule.needs:
        return {}
    if isinstance(objective, Contrastive):
        names = objective.pathway_names(network.top, network.top)
        top = definition.clapp(network.top, names, moment, objective.contrast)["credit"]
    else:
        labels = moment.require(Teaching, "test").labels
        top = torch.eye(4, dtype=torch.float64)[labels] - definition.z[network.top].softmax(1)
    if isinstance(rule, Backprop) or rule.name in ("pc-fixed", "z-il"):
        return {p: (c, False) for p, c in definition.backprop(top).items()}
    weights = definition.circuit.weights
    if rule.name == "dual-prop":
        return {p: (c, True) for p, c in definition.dual_propagation(top, beta=1.0).items()}
    if rule.name.startswith("fa"):
        mirrors = {n: weights[m.name].weight.transpose(0, 1) for n in network.feedforward if (m := network.mirror_of(n))}
        if rule.name == "fa-sign":
            mirrors = {n: b.abs() * weights[n].weight.sign() for n, b in mirrors.items()}
        return {p: (c, False) for p, c in definition.backprop(top, mirrors).items()}
    if rule.name.startswith("dfa"):
        found = {network.top: (top, False)}
        for p in network.order[:-1]:
            pathway = network.feedback[f"{network.top}=>{p}"]
            signal = definition.summed(top, pathway.source_pool)  # type: ignore[union-attr]
            found[p] = (signal @ weights[pathway.name].weight.T).reshape(ROWS, *network.populations[p].shape), False
        return found
    return {}


WITHOUT_EQUATIONS = {"bp-infonce", "infonce-local", "dfa-infonce", "pc-infonce", "pc", "ipc", "pc-clapp", "bp-ff"}
WITHOUT_EQUATIONS |= {"bp-infonce-held", "epc", "dfa-pc"}
WITHOUT_EQUATIONS |= {"barlow-local", "vicreg-local", "lpl", "rpl", "bp-barlow", "mono-forward", "softhebb"}
"""Rules whose credit is held against autograd alone (test_rules, test_local_statistics, test_mono_forward), or whose update
has an equation of its own (test_softhebb); their factors are held against the definition above."""


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("name", [name for name in all_rules() if name not in WITHOUT_EQUATIONS])
def test_an_update_is_what_the_equations_of_its_rule_say(name: str, kind: str) -> None:
    rule = make_rule(name, **({"steps": 4} if name == "pc-fixed" else {}))
    circuit, moment = prepared(rule, kind)
    definition = Definition(circuit, stimulus_of(moment))
    (scope,) = settle(rule, circuit.sweep(stimulus_of(moment)), moment)
    got = dict(propose(rule, scope, moment))
    credits = credits_of(rule, definition, moment)
    assert set(credits) == set(circuit.network.order)
    ones = torch.ones(ROWS, dtype=torch.float64)
    for population, (credit, is_somatic) in credits.items():
        assert_same(got, definition.update(population, [(ones, credit, is_somatic)]))


CONTRASTS = [
    ("clapp++gap", {}),
    ("clapp++gap", {"contrast": "softplus"}),
    ("clapp-phyll", {}),
    ("clapp++", {}),
    ("clapp++dfb", {}),
    ("clapp++both", {"contrast": "softplus"}),
]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("name", "options"), CONTRASTS, ids=lambda v: v if isinstance(v, str) else "-".join(v.values()))
def test_the_predictions_change_by_gamma_times_both_their_activities(name: str, options: dict[str, str], kind: str) -> None:
    rule = make_rule(name, **options)
    circuit, moment = prepared(rule, kind)
    definition = Definition(circuit, stimulus_of(moment))
    signals: dict[str, dict[str, Tensor]] = {}
    got = dict(propose(rule, circuit.sweep(stimulus_of(moment)), moment, signals=signals))
    objective = rule.objective  # type: ignore[attr-defined]
    for population in circuit.network.order:
        names = objective.pathway_names(population, circuit.network.top)
        found = definition.clapp(population, names, moment, objective.contrast)
        assert_same(got, {n: (found[n],) for n in names})
        for signal in ("score", "gamma", "saccade_gamma", "dendrite"):
            assert deviation(signals[population][signal], found["signals"][signal]) <= EXACT


def test_inner_signals_of_goodness_and_errors_are_those_of_the_definition() -> None:
    rule = make_rule("ff")
    circuit, moment = prepared(rule, "maps")
    definition, signals = Definition(circuit, stimulus_of(moment)), {}
    list(propose(rule, circuit.sweep(stimulus_of(moment)), moment, signals=signals))
    for population in circuit.network.order:
        gamma, dendrite = definition.goodness(population, moment, paired=False)
        assert deviation(signals[population]["gamma"], gamma) <= EXACT
        assert deviation(signals[population]["dendrite"], dendrite) <= EXACT
    for name in ("bp", "fa", "dfa", "pc-fixed"):
        rule = make_rule(name)
        circuit, moment = prepared(rule, "dense")
        definition, signals = Definition(circuit, stimulus_of(moment)), {}
        (scope,) = settle(rule, circuit.sweep(stimulus_of(moment)), moment)
        list(propose(rule, scope, moment, signals=signals))
        for population, (credit, _) in credits_of(rule, definition, moment).items():
            assert deviation(signals[population]["error"], credit) <= EXACT, (name, population)


# One order of steps: whole, layerwise and replicated learning give the same change.


class Along(Local):
    """The same rule, which may be asked to hold all activity until it learns."""

    def __init__(self, objective: Any, along: bool) -> None:
        super().__init__(objective, {"label in the stimulus"} if isinstance(objective, Goodness) else set())
        self.learns_along = along


def learned(rule: Rule, kind: str, seed: int, moments: int = 3) -> Simulation:
    network = NETWORKS[kind](4 if "target" in rule.needs else None, rule.normalisation)
    simulation = Simulation(network, rule, Synapses(optimizer="sgd", lr=0.1), seed=seed, device="cpu", dtype="float64")
    return simulation.run([full_moment(network, seed=7 * seed + n) for n in range(moments)])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("objective", [Contrastive, Goodness, lambda: Contrastive(pool="spatial")])
def test_layerwise_learning_gives_the_same_change(objective: Callable[[], Any], kind: str) -> None:
    whole, along = (learned(Along(objective(), a), kind, 0) for a in (False, True))
    assert whole.activity is not None
    assert along.activity is None
    for name, (weight, _) in whole.weights.items():
        assert deviation(along.weights[name].weight, weight) <= EXACT


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    "name", ["clapp++gap", "clapp++dfb", "bp-clapp++", "dfa", "fa", "pc", "ff", "infonce-local", "bp-barlow", *NEWER]
)
def test_replicated_learning_gives_the_same_change(name: str, kind: str) -> None:
    seeds = range(3)
    singly = [learned(make_rule(name), kind, seed) for seed in seeds]
    together = [learned(make_rule(name), kind, seed, moments=0) for seed in seeds]
    streams = [[full_moment(together[0].network, seed=7 * seed + n) for n in range(3)] for seed in seeds]
    Replicas(together).run(streams)
    for one, other in zip(singly, together, strict=True):
        for pathway, (weight, _) in one.weights.items():
            assert deviation(other.weights[pathway].weight, weight) <= EXACT


def test_the_steps_of_a_moment_are_named_in_their_order() -> None:
    assert list(Simulation.steps) == ["intervene", "present", "settle", "modulate", "reduce", "update", "record"]
    assert Simulation.steps is STEPS
    assert all(description for description in Simulation.steps.values())


def test_reduce_stands_between_propose_and_apply_and_does_nothing_by_itself() -> None:
    rule = make_rule("clapp++gap")
    circuit, moment = prepared(rule, "dense")

    def proposed() -> Any:
        return proposals(rule, moment, Memory(), circuit.sweep(stimulus_of(moment)))

    plain = {name: update.weight for name, update, _ in reduced(proposed())}
    halved = reduced(proposed(), lambda items: ((n, u.scaled(0.5), z) for n, u, z in items))
    assert all(torch.equal(update.weight, plain[name] / 2) for name, update, _ in halved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["dense", "maps"])
@pytest.mark.parametrize("name", all_rules())
def test_the_audit_finds_nothing_in_the_rules_that_come_with_it(name: str, kind: str, dtype: torch.dtype) -> None:
    rule = make_rule(name)
    network = wired(rule, network_for(rule, kind))
    circuit = Circuit(network, Weights.draw(network, 0, dtype=dtype))
    moment = full_moment(network).to(torch.device("cpu"), dtype)
    audit(rule, circuit.sweep(stimulus_of(moment)), moment, Memory())
    assert Scope(circuit.sweep(stimulus_of(moment)), rule).needs == rule.needs


class Kept:
    """A store that keeps what it is given."""

    path = None

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], dict[str, Any]] = {}

    def record(self, kind: str, name: str, event: int, time: float, observers: int, values: dict[str, Any]) -> None:
        self.records[kind, name] = values

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        return lambda *_, **__: {}


def test_inner_signals_are_recorded_by_name_as_the_definition_says() -> None:
    store, network, moment = Kept(), NETWORKS["maps"](None, None), full_moment(NETWORKS["maps"](None, None))
    recorder = SignalRecorder(["score", "gamma", "dendrite"], every=1)
    simulation = Simulation(network, "clapp++gap", device="cpu", dtype="float64", store=store, recorders=[recorder])
    definition = Definition(simulation.circuit, stimulus_of(moment))
    want = {p: definition.clapp(p, [f"{p}=>{p}"], moment, "hinge")["signals"] for p in network.order}
    simulation.run([moment])
    for population, signals in want.items():
        recorded = store.records["signals", population]
        assert set(recorded) == {"score", "gamma", "dendrite"}
        for name, values in recorded.items():
            assert deviation(torch.from_numpy(values).double(), signals[name]) < 1e-6, name  # stored in float32
