"""What a rule can see without having declared it: nothing. Every door is tried, as a user would by accident."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from nosy import ROWS, at, moment, over, refused, simulated, statistic, with_feedback
from torch import Tensor

from neurossl import (
    Credit,
    Fixation,
    Moment,
    Neuromodulation,
    Phase,
    Rule,
    Saccade,
    Teaching,
)
from neurossl.plasticity import Scope, Site

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
    "the phase of the settling": (lambda scope, _: scope.phase, "phases"),
    "saccades": (lambda _, moment: moment.get(Saccade), "neuromodulator"),
    "gains": (lambda _, moment: moment.get(Neuromodulation), "neuromodulator"),
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

    refused(over(look, needs={"phases"}), "other populations")


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
