"""A rule changes nothing by itself, says only what fits, and neither does a recorder: each as a refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nosy import ROWS, at, moment, over, refused, simulated, statistic, with_feedback
from torch import Tensor

from analysis import TrajectoryWriter, open_trajectory
from neurossl import (
    Credit,
    Fixation,
    Moment,
    Neuromodulation,
    Recorder,
    Rule,
    Saccade,
    Simulation,
    Teaching,
    Update,
    mlp,
    propose,
)
from neurossl.errors import LocalityError, NetworkError, OptionError
from neurossl.plasticity import Scope, Site

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
    refused(at(IN_PLACE[what], wire=with_feedback, needs={"target", "neuromodulator"}), "changes the")


@pytest.mark.parametrize("what", IN_PLACE)
def test_a_change_in_place_is_refused_in_settling(what: str) -> None:
    def look(scope: Scope, moment: Moment) -> None:
        for site in scope.sites():
            if site.population == "V2":
                IN_PLACE[what](site, moment)

    refused(over(look, "settling", wire=with_feedback, needs={"target", "neuromodulator"}), "changes the")


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


def test_a_gain_that_a_rule_does_not_look_at_is_in_the_ledger_of_the_run_that_had_one(tmp_path: Path) -> None:
    plain, gated = moment(), moment().with_events(Neuromodulation(torch.full((ROWS,), 0.5)))
    for name, happened, needs in (("without", [plain], []), ("with", [plain, gated, gated], ["neuromodulator"])):
        with TrajectoryWriter(tmp_path / name) as store:
            simulation = simulated(at(lambda *_: None), moments=0, store=store)
            simulation.run(happened)
        assert json.loads(open_trajectory(tmp_path / name).attrs["needs"]) == needs


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
