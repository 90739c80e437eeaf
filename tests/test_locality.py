"""What a rule can see without having declared it: nothing. Every door is tried, as a user would by accident."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from neurossl import (
    Credit,
    FeedbackPathway,
    Fixation,
    Moment,
    Neuromodulation,
    Phase,
    Recorder,
    Rule,
    Saccade,
    Simulation,
    Synapses,
    Teaching,
    Update,
    mlp,
    propose,
)
from neurossl.errors import LocalityError, NetworkError, OptionError
from neurossl.plasticity import Scope, Site

ROWS = 8


def moment(rows: int = ROWS, seed: int = 0, inputs: int = 6, **events: Any) -> Moment:
    generator = torch.Generator().manual_seed(seed)
    stimulus = torch.randn(rows, inputs, generator=generator)
    partner = (torch.arange(rows) + rows // 2) % rows
    labels = torch.randint(3, (rows,), generator=generator)
    sign = torch.cat([torch.ones(rows // 2), -torch.ones(rows - rows // 2)])
    return Moment(Fixation(stimulus, partner), Saccade((torch.arange(rows) + 1) % rows), Teaching(labels), Phase(sign))


def simulated(rule: Rule, moments: int = 2, **options: Any) -> Simulation:
    synapses = Synapses(optimizer="sgd", lr=0.1)
    simulation = Simulation(mlp(6, [5, 4, 3], transfer="tanh"), rule, synapses, device="cpu", **options)
    return simulation.run([moment(seed=n) for n in range(moments)])


def refused(rule: Rule, words: str, error: type[Exception] = LocalityError, moments: int = 2) -> None:
    """See that a rule is refused in one line that says what is wrong."""
    with pytest.raises(error, match=words) as refusal:
        simulated(rule, moments)
    assert "\n" not in str(refusal.value)
    assert repr(rule.name) in str(refusal.value)


def at(look: Callable[[Site, Moment], Any], where: str = "V2", **attributes: Any) -> Rule:
    """Return a Hebbian rule that looks at something at one population."""

    def credit_at(self: Rule, site: Site, moment: Moment) -> Tensor:
        if site.population == where:
            look(site, moment)
        return site.activity

    return type("Own", (Rule,), {"name": "own", "credit_at": credit_at, **attributes})()


def over(look: Callable[[Scope, Moment], Any], door: str = "credit", **attributes: Any) -> Rule:
    """Return a Hebbian rule that looks at something in credit(), settling() or evaluate()."""

    def credit(self: Rule, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        if door == "credit":
            look(scope, moment)
        for site in scope.sites():
            yield site.population, Credit(site.activity)

    def settling(self: Rule, scope: Scope, moment: Moment) -> Iterator[Scope]:
        if door == "settling":
            look(scope, moment)
        yield scope

    return type("Own", (Rule,), {"name": "own", "credit": credit, "settling": settling, **attributes})()


# What has not been declared is refused, whatever the door.

UNDECLARED: dict[str, tuple[Callable[[Scope, Moment], Any], str]] = {
    "another population": (lambda scope, _: scope.site("V2").activity, "other populations"),
    "weights of another pathway": (lambda scope, _: scope.site("V2").weights, "other populations"),
    "the top": (lambda scope, _: scope.site(scope.top).activity, "other populations"),
    "the next population from this one's site": (
        lambda scope, _: [next(scope.sites()).activity, *(s for s in [scope.site("V2")])],
        "other populations",
    ),
    "transposed weights": (lambda scope, _: scope.transport(scope.below("V2")[0], torch.zeros(ROWS, 4)), "weight transport"),
    "transposed weights, added": (
        lambda scope, _: scope.transport_onto(torch.zeros(ROWS, 5), scope.below("V2")[0], torch.zeros(ROWS, 4), 1.0),
        "weight transport",
    ),
    "a mirror": (lambda scope, _: scope.transport(scope.below("V2")[0], torch.zeros(ROWS, 4), True), "layerwise error"),
    "a mirror's update": (lambda scope, _: scope.mirror_update(scope.below("V2")[0], torch.zeros(4)), "layerwise error"),
    "a broadcast error": (lambda scope, _: scope.broadcast(torch.zeros(ROWS, 3), "V1"), "broadcast error"),
    "relaxation": (lambda scope, _: scope.predict({}), "settling"),
    "error neurons": (lambda scope, _: scope.settled({}), "settling"),
    "labels": (lambda _, moment: moment.get(Teaching), "target"),
    "required labels": (lambda _, moment: moment.require(Teaching, by="me"), "target"),
    "phases": (lambda _, moment: moment.get(Phase), "phases"),
    "the stimulus": (lambda _, moment: moment.require(Fixation, by="me").stimulus, "stimulus"),
    "the stimulus, by iteration": (lambda _, moment: next(iter(moment)).stimulus, "stimulus"),
    "the stimulus, by its events": (lambda _, moment: moment.events[0].stimulus, "stimulus"),
    "the stimulus, moved": (lambda _, moment: moment.to(torch.device("cpu"), torch.float64), "stimulus"),
    "the stimulus, after an event was added": (
        lambda _, moment: moment.with_events(Saccade()).require(Fixation, by="me").stimulus,
        "stimulus",
    ),
}


@pytest.mark.parametrize("door", ["credit", "settling"])
@pytest.mark.parametrize("what", UNDECLARED)
def test_a_rule_over_all_populations_is_refused_what_it_has_not_declared(what: str, door: str) -> None:
    look, need = UNDECLARED[what]
    refused(over(look, door), need)


def test_labels_and_phases_are_among_the_events_only_if_declared() -> None:
    seen: list[set[type]] = []
    simulated(over(lambda _, moment: seen.append({type(e) for e in moment.events} | {type(e) for e in moment})))
    assert not any({Teaching, Phase} & found for found in seen)
    simulated(over(lambda _, moment: seen.append({type(e) for e in moment.events}), needs={"target", "phases"}))
    assert {Teaching, Phase} <= seen[-1]
    simulated(over(lambda _, moment: seen.append({type(e) for e in moment.with_events(Saccade()).events})))
    assert not {Teaching, Phase} & seen[-1]


AT_SITE: dict[str, tuple[Callable[[Site, Moment], Any], str]] = {
    "retina pixels": (lambda _, moment: moment.require(Fixation, by="me").stimulus, "stimulus"),
    "labels": (lambda _, moment: moment.get(Teaching), "target"),
    "error neurons": (lambda site, _: site.error, "settling"),
    "its own previous response": (lambda site, _: site.context(site.feedback("V2=>V2"), False), "lateral context"),
    "the top's response": (lambda site, _: site.context(site.feedback("V3=>V2"), False), "top-down activity"),
    "feedback of another population": (lambda site, _: site.feedback("V3=>V3"), "ends elsewhere"),
    "feedback that is not there": (lambda site, _: site.feedback("V1=>V2"), "wire"),
    "a feedforward pathway as feedback": (lambda site, _: site.feedback("V1->V2"), "wire"),
}


def with_feedback(self: Rule, network: Any) -> Any:
    names = [("V2", "V2"), ("V3", "V2"), ("V3", "V3"), ("V1", "V1")]
    return network.add(*(FeedbackPathway(*ends) for ends in names))


@pytest.mark.parametrize("what", AT_SITE)
def test_a_rule_at_one_population_is_refused_what_it_has_not_declared(what: str) -> None:
    look, words = AT_SITE[what]
    refused(at(look, wire=with_feedback), words)


def test_v1_sees_the_stimulus_that_its_synapses_see() -> None:
    seen: list[Tensor] = []
    simulated(at(lambda _, moment: seen.append(moment.require(Fixation, by="me").stimulus), where="V1"))
    assert torch.equal(seen[-1], moment(seed=1).require(Fixation, "test").stimulus)


def test_a_fixation_out_of_sight_can_still_be_printed() -> None:
    printed: list[str] = []
    simulated(at(lambda _, moment: printed.append(repr(moment.get(Fixation)) + repr(moment))))
    assert "out of sight" in printed[-1]


def test_the_context_of_a_foreign_pathway_is_refused_although_a_context_is_declared() -> None:
    kept: list[Any] = []

    def look(site: Site, moment: Moment) -> None:
        if site.population == "V1":
            kept.append(site.feedback("V1=>V1"))
        if site.population == "V2":
            site.context(kept[-1], online=False)

    rule = over(lambda *_: None, wire=with_feedback, needs={"lateral context"})

    def credit_at(self: Rule, site: Site, moment: Moment) -> Tensor:
        look(site, moment)
        return site.activity

    refused(type("Own", (Rule,), {**vars(type(rule)), "credit": Rule.credit, "credit_at": credit_at})(), "ends elsewhere")


# Sites: what is gone is gone.


def test_a_site_that_was_left_shows_nothing_any_more() -> None:
    kept: list[Site] = []

    def credit_at(self: Rule, site: Site, moment: Moment) -> Tensor:
        kept.append(site)
        return kept[0].activity.mean(1, keepdim=True) + site.activity

    refused(type("Own", (Rule,), {"name": "own", "credit_at": credit_at})(), "other populations")


@pytest.mark.parametrize("what", ["activity", "drive", "value", "presynaptic", "weights", "state", "rows", "phase"])
def test_nothing_of_a_site_that_was_left_can_be_read(what: str) -> None:
    def look(scope: Scope, moment: Moment) -> None:
        sites = iter(scope.sites())
        first = next(sites)
        next(sites)
        getattr(first, what)

    refused(over(look), "other populations")


def test_weights_of_another_population_need_weight_transport_even_where_its_activity_is_declared() -> None:
    refused(over(lambda scope, _: scope.site("V2").weights, needs={"other populations"}), "weight transport")
    simulated(over(lambda scope, _: scope.site("V2").weights, needs={"other populations", "weight transport"}))
    refused(over(lambda scope, _: scope.site("V2").activity, needs={"broadcast error"}), "other populations")
    refused(over(lambda scope, _: scope.site("V2").activity, needs={"top-down activity"}), "other populations")


@pytest.mark.parametrize("needs", [set(), {"settling", "other populations"}])
def test_a_site_or_scope_of_an_earlier_moment_shows_nothing(needs: set[str]) -> None:
    kept: list[Any] = []

    def look(scope: Scope, moment: Moment) -> None:
        kept.append(scope if "settling" in needs else next(scope.sites()))
        if len(kept) > 20:  # not among the questions of the first moment
            first = kept[0]
            _ = (next(first.sites()) if isinstance(first, Scope) else first).activity

    refused(over(look, needs=needs), "over", moments=30)


def test_a_tensor_carried_from_one_population_to_the_next_is_noticed() -> None:
    class Carried(Rule):
        name = "own"

        def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
            before = torch.ones(ROWS, 1)
            for site in scope.sites():
                yield site.population, Credit(site.activity * before)
                before = site.activity.mean(1, keepdim=True)

    refused(Carried(), "other populations")

    class CarriedWeights(Rule):
        name = "own"

        def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
            found: dict[str, Tensor] = {}
            for site in scope.sites():
                found |= site.weights
                yield site.population, Credit(site.activity * found["retina->V1"].mean())

    refused(CarriedWeights(), "other populations")

    class Kept(Rule):
        name = "own"
        place: ClassVar[list[Tensor]] = []

        def credit_at(self, site: Site, moment: Moment) -> Tensor:
            self.place[:] = [*self.place, site.activity][-3:]
            return site.activity * self.place[0].mean()

    refused(Kept(), "own")


# Other observers.


def statistic(of: Callable[[Site, Moment], Tensor], **attributes: Any) -> Rule:
    return type("Own", (Rule,), {"name": "own", "credit_at": lambda self, site, moment: of(site, moment), **attributes})()


def partner_of(site: Site, moment: Moment) -> Tensor:
    partner = moment.require(Fixation, by="me").partner
    assert partner is not None
    return site.activity[partner]


OTHERS: dict[str, Callable[[Site, Moment], Tensor]] = {
    "mean": lambda site, _: site.activity - site.activity.mean(0),
    "a little of the mean": lambda site, _: site.activity + 1e-3 * site.activity.mean(0),
    "variance": lambda site, _: site.activity / (site.activity.var(0) + 1e-2),
    "maximum": lambda site, _: site.activity / site.activity.max(),
    "the row before": lambda site, _: site.activity.roll(1, 0),
    "rank": lambda site, _: site.activity * site.activity.argsort(0).argsort(0),
    "the last row of all": lambda site, _: torch.cat([site.activity[:-1], site.activity[:1]]),
    "the drive of others": lambda site, _: site.drive - site.drive.mean(0),
    "presynaptic activity of others": lambda site, _: site.activity * next(iter(site.presynaptic.values())).mean(),
    "the partner": partner_of,
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_observers_have_to_be_declared(what: str) -> None:
    refused(statistic(OTHERS[what]), "other observers")
    simulated(statistic(OTHERS[what], needs={"other observers"}))


def test_the_partner_is_the_own_previous_response_and_needs_lateral_context() -> None:
    simulated(statistic(partner_of, needs={"lateral context"}))
    refused(statistic(lambda s, m: partner_of(s, m).mean(0) + s.activity, needs={"lateral context"}), "other observers")


def test_other_observers_are_noticed_in_credit_settling_traces_decay_and_state() -> None:
    class InCredit(Rule):
        name = "own"

        def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
            for site in scope.sites():
                yield site.population, Credit(site.activity - site.activity.mean(0))

    refused(InCredit(), "other observers")
    parts: list[Callable[[Site], dict[str, Any]]] = [
        lambda site: {"decay": site.activity.square().mean(0).expand_as(site.activity)},
        lambda site: {"synaptic": {n: w.expand(ROWS, *w.shape) * site.activity.mean() for n, w in site.weights.items()}},
        lambda site: {"state": {"trace": site.activity - site.activity.mean(0)}},
        lambda site: {"somatic": site.activity - site.activity.mean(0)},
    ]
    for part in parts:
        refused(statistic(lambda site, _, part=part: Credit(**part(site)), state={"trace": "rows"}), "other observers")


def test_labels_of_other_observers_are_noticed() -> None:
    def frequency(site: Site, moment: Moment) -> Tensor:
        return site.activity * moment.require(Teaching, by="me").labels.float().mean()

    refused(statistic(frequency, needs={"target"}), "other observers")


HONEST: dict[str, tuple[Callable[[Site, Moment], Any], dict[str, Any]]] = {
    "Hebb": (lambda site, _: site.activity, {}),
    "noise": (
        lambda site, _: site.activity + torch.randn(site.activity.shape, generator=site.generator("noise")),
        {},
    ),
    "labels": (lambda site, m: site.activity * m.require(Teaching, by="me").labels[:, None], {"needs": {"target"}}),
    "phases": (lambda site, m: site.activity * m.require(Phase, by="me").sign[:, None], {"needs": {"phases"}}),
    "softmax over the population": (lambda site, _: (50 * site.drive).softmax(1), {}),
    "winner": (lambda site, _: (site.drive == site.drive.max(1, keepdim=True).values).float(), {}),
    "own weights": (lambda site, _: site.activity - next(iter(site.weights.values())).norm(dim=1), {}),
    "a large offset": (lambda site, _: 1e6 + site.activity, {}),
    "silence": (lambda site, _: 0 * site.activity, {}),
    "a threshold": (lambda site, _: (site.drive > 0.1).float(), {}),
    "a running average": (
        lambda site, _: Credit(
            site.activity - site.state["mean"], state={"mean": 0.9 * site.state["mean"] + 0.1 * site.activity.mean(0)}
        ),
        {"state": {"mean": "population"}},
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("what", HONEST)
def test_an_honest_rule_passes(what: str, dtype: str) -> None:
    of, attributes = HONEST[what]
    simulation = simulated(statistic(of, **attributes), dtype=dtype, moments=3)
    online = [
        Moment(Fixation(m.require(Fixation, "test").stimulus), *(e for e in m if type(e) in (Teaching, Phase)))
        for m in (moment(rows=rows, seed=rows) for rows in (1, 1, 2, 2))
    ]
    simulation.run(online)


def test_the_audit_changes_nothing() -> None:
    of, _ = HONEST["noise"]
    state = {"mean": "population", "own": "rows"}

    def remembered(site: Site, moment: Moment) -> Credit:
        return Credit(of(site, moment), state={"mean": site.state["mean"] + 1, "own": site.state["own"] + site.activity})

    audited, unaudited = statistic(remembered, state=state), statistic(remembered, state=state)
    type(unaudited).__module__ = "neurossl.of_its_own"
    one, other = (simulated(rule, moments=3).state().tensors for rule in (audited, unaudited))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# Chance and memory that no checkpoint would hold.


def test_random_numbers_from_elsewhere_are_refused() -> None:
    refused(statistic(lambda site, _: torch.randn(site.activity.shape)), "site.generator")


def test_generators_are_of_one_population_and_rule_alone() -> None:
    drawn: dict[str, Tensor] = {}

    def look(site: Site, moment: Moment) -> Tensor:
        drawn[site.population] = torch.rand(3, generator=site.generator("weights/retina->V1"))
        return site.activity

    simulation = simulated(statistic(look), moments=1)
    assert len({tuple(d.tolist()) for d in drawn.values()}) == 3
    assert all(name.startswith("rule/") for name in simulation.generators.state() if "retina->V1" in name)


def test_memory_in_attributes_of_the_rule_is_refused() -> None:
    class Averaged(Rule):
        name = "own"
        mean: Tensor | float = 0.0

        def credit_at(self, site: Site, moment: Moment) -> Tensor:
            if site.population == "V1":
                self.mean = 0.9 * self.mean + 0.1 * site.activity.mean(0)
            return site.activity

    refused(Averaged(), "state")

    class Counted(Rule):
        name = "own"

        def __init__(self) -> None:
            self.calls = torch.zeros(())

        def credit_at(self, site: Site, moment: Moment) -> Tensor:
            self.calls += 1
            return site.activity

    refused(Counted(), "'calls'")


# A rule changes nothing by itself.

IN_PLACE: dict[str, Callable[[Site, Moment], Any]] = {
    "weights": lambda site, _: site.weights["V1->V2"].mul_(2),
    "weights through their data": lambda site, _: site.weights["V1->V2"].data.mul_(2),
    "weights through numpy": lambda site, _: np.multiply(w := site.weights["V1->V2"].numpy(), 2, out=w),
    "activity": lambda site, _: site.activity.clamp_(min=0.1),
    "activity through numpy": lambda site, _: np.multiply(z := site.activity.numpy(), 2, out=z),
    "presynaptic activity": lambda site, _: site.presynaptic["V1->V2"].zero_(),
    "feedback weights": lambda site, _: site.feedback("V2=>V2").weight.zero_(),
    "labels": lambda _, moment: moment.require(Teaching, by="me").labels.zero_(),
    "partner": lambda _, moment: moment.require(Fixation, by="me").partner.zero_(),
    "the neuromodulator's negatives": lambda _, moment: moment.require(Saccade, by="me").negatives.zero_(),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_a_change_in_place_is_refused_in_credit(what: str) -> None:
    refused(at(IN_PLACE[what], wire=with_feedback, needs={"target"}), "changes the")


@pytest.mark.parametrize("what", IN_PLACE)
def test_a_change_in_place_is_refused_in_settling(what: str) -> None:
    def look(scope: Scope, moment: Moment) -> None:
        for site in scope.sites():
            if site.population == "V2":
                IN_PLACE[what](site, moment)

    refused(over(look, "settling", wire=with_feedback, needs={"target"}), "changes the")


def test_a_change_in_place_is_refused_in_a_later_moment_too() -> None:
    seen: list[int] = []

    def look(site: Site, moment: Moment) -> None:
        seen.append(1)
        if len(seen) > 15:
            site.weights["V1->V2"].mul_(2)

    refused(at(look), "changes the weights of 'V1->V2'", moments=30)


def test_state_changed_in_place_is_refused() -> None:
    def look(site: Site, moment: Moment) -> Credit:
        site.state["mean"].add_(1)
        return Credit(site.activity)

    refused(statistic(look, state={"mean": "population"}), "changes the state")


def test_a_change_in_place_is_refused_in_evaluate() -> None:
    class Evaluating(Rule):
        name = "own"

        def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
            next(scope.sites()).weights["retina->V1"].zero_()
            return {}

        def credit_at(self, site: Site, moment: Moment) -> Tensor:
            return site.activity

    from neurossl.plasticity import evaluate

    simulation = simulated(Evaluating(), moments=1)
    with pytest.raises(LocalityError, match="evaluate"):
        evaluate(simulation.rule, simulation.circuit.sweep(moment().require(Fixation, "test").stimulus), moment())


def test_lists_of_the_anatomy_are_copies() -> None:
    def look(scope: Scope, moment: Moment) -> None:
        scope.populations.reverse()
        scope.below("V2").clear()

    simulation = simulated(over(look), moments=2)
    assert simulation.network.order == ["V1", "V2", "V3"]
    assert [p.name for p in simulation.network.incoming("V2")] == ["V1->V2"]


def test_wiring_sees_no_weights_and_must_return_the_network() -> None:
    seen: list[Any] = []

    def wire(self: Rule, network: Any) -> Any:
        seen.append(network)

    mine = mlp(6, [5, 4, 3])
    with pytest.raises(NetworkError, match=r"wire\(\) must return the network, got NoneType"):
        Simulation(mine, at(lambda *_: None, wire=wire), device="cpu")
    held = [value for p in seen[0].pathways.values() for value in vars(p).values()]
    assert not any(isinstance(value, Tensor) for value in held)
    assert seen[0] is not mine


# Updates arrive where they belong.


def test_a_rule_cannot_change_pathways_that_end_elsewhere() -> None:
    def feedback(name: str, shape: tuple[int, ...]) -> Callable[[Site, Moment], Credit]:
        return lambda site, _: Credit(site.activity, feedback=[(name, Update(torch.ones(shape)))] if site.is_top else [])

    refused(statistic(feedback("V1->V2", (4, 5))), "no feedback pathway of 'V3'")
    refused(statistic(feedback("V2->V3", (3, 4))), "no feedback pathway of 'V3'")
    refused(statistic(feedback("V2=>V2", (4, 4)), wire=with_feedback), "no feedback pathway of 'V3'")
    simulated(statistic(feedback("V3=>V3", (3, 3)), wire=with_feedback))


WRONG: dict[str, tuple[Callable[[Site], Any], str]] = {
    "credit of another shape": (lambda site: site.activity.mean(0), "shape"),
    "credit of one value per row": (lambda site: site.activity.mean(1, keepdim=True), "shape"),
    "nothing": (lambda site: None, "credit_at"),
    "decay of another shape": (lambda site: Credit(site.activity, decay=torch.ones(7)), "decay must have the shape"),
    "a mistyped pathway": (lambda site: Credit(synaptic={"V1->V9": torch.ones(ROWS, 4, 5)}), "incoming pathways"),
    "synaptic without rows": (lambda site: Credit(synaptic=site.weights), "synaptic change"),
    "state that was not declared": (lambda site: Credit(site.activity, state={"mode": site.activity}), "not declared"),
    "state of another shape": (lambda site: Credit(site.activity, state={"mean": site.activity}), "keep its shape"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_by_name(what: str) -> None:
    of, words = WRONG[what]
    refused(statistic(lambda site, _: of(site), state={"mean": "population"}), words, NetworkError)


def test_doors_that_yield_something_else_are_refused_by_name() -> None:
    def rule(**doors: Any) -> Rule:
        return type("Own", (Rule,), {"name": "own", "credit_at": lambda self, site, moment: site.activity, **doors})()

    refused(rule(credit=lambda self, scope, moment: None), r"credit\(\) must yield", NetworkError)
    refused(rule(credit=lambda self, scope, moment: iter([torch.ones(3)])), r"credit\(\) must yield", NetworkError)
    refused(rule(settling=lambda self, scope, moment: iter([moment])), r"settling\(\) must yield scopes", NetworkError)
    twice = rule(credit=lambda self, scope, moment: iter([("V1", Credit()), ("V1", Credit())]))
    refused(twice, "twice", NetworkError)
    with pytest.raises(NetworkError, match="V9"):
        simulated(rule(credit=lambda self, scope, moment: iter([("V9", Credit())])))


# Declarations.


@pytest.mark.parametrize(
    ("needs", "words"), [({"targets"}, "targets"), ("target", "must be a set of words"), (["label", "target"], "label")]
)
def test_needs_that_do_not_exist_are_refused_registered_or_not(needs: Any, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        simulated(statistic(lambda site, _: site.activity, needs=needs))
    activity = simulated(statistic(lambda site, _: site.activity)).activity
    assert activity is not None
    with pytest.raises(OptionError, match=words):
        list(propose(statistic(lambda site, _: site.activity, needs=needs), activity, moment()))


def test_needs_may_be_a_list() -> None:
    simulated(at(lambda _, moment: moment.require(Teaching, by="me"), needs=["target"]))


def test_what_was_declared_is_in_the_ledger() -> None:
    rule = at(lambda *_: None, needs=["target", "phases"])
    assert rule.describe()["needs"] == ["phases", "target"]


# The neuromodulator is there for everybody; a gain of 0 changes nothing.


def test_the_gain_of_every_observer_multiplies_all_that_it_contributes() -> None:
    gain = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0, 1.0, 0.0, 3.0])

    def parts(site: Site) -> Credit:
        trace = {n: torch.einsum("ro,ri->roi", site.activity, x) for n, x in site.presynaptic.items()}
        return Credit(site.activity, decay=site.activity.square(), synaptic=trace)

    rule = statistic(lambda site, _: parts(site))
    simulation = simulated(rule, moments=1)
    happened = moment(seed=5)
    activity = simulation.circuit.sweep(happened.require(Fixation, "test").stimulus)
    got = dict(propose(rule, activity, happened.with_events(Neuromodulation(gain))))
    for name, update in got.items():
        z, x = activity.output[update_post(name)], activity.presynaptic[name]
        hebb = torch.einsum("r,ro,ri->oi", gain, z * (1 - z**2) + z, x) / ROWS
        decay = (gain[:, None] * z**2).mean(0)[:, None] * simulation.weights[name].weight
        assert torch.allclose(update.weight, hebb - decay, atol=1e-6)


def update_post(name: str) -> str:
    return name.partition("->")[2]


# Recorders look.


class Meddler(Recorder):
    """A recorder that changes what it sees."""

    def __init__(self, step: str, change: Callable[[Any], Any]) -> None:
        super().__init__(kind="meddling")
        self.step, self.change = step, change

    def begin(self, now: Any) -> None:
        self._if("begin", now)

    def before(self, now: Any) -> None:
        self._if("before", now)

    def after(self, now: Any) -> None:
        self._if("after", now)

    def end(self, now: Any) -> None:
        self._if("end", now)

    def _if(self, step: str, now: Any) -> None:
        if step == self.step:
            self.change(now)


class Nowhere:
    """A store that keeps nothing."""

    path = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: {}


@pytest.mark.parametrize("step", ["begin", "before", "after", "end"])
def test_a_recorder_that_changes_the_weights_is_refused(step: str) -> None:
    meddler = Meddler(step, lambda now: now.weights["V1->V2"].weight.mul_(2))
    with pytest.raises(OptionError, match="a recorder only looks"):
        simulated(statistic(lambda site, _: site.activity), store=Nowhere(), recorders=[meddler], checkpoints=None)


def test_a_recorder_that_changes_the_activity_is_refused() -> None:
    meddler = Meddler("before", lambda now: now.seen["V1"].zero_())
    with pytest.raises(OptionError, match="the activity of 'V1'"):
        simulated(statistic(lambda site, _: site.activity), store=Nowhere(), recorders=[meddler])
