"""Rules that look where they may not: what the tests of locality share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from neurossl import (
    Credit,
    FeedbackPathway,
    Fixation,
    Moment,
    Phase,
    Rule,
    Saccade,
    Simulation,
    Synapses,
    Teaching,
    mlp,
)
from neurossl.errors import LocalityError
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


def with_feedback(self: Rule, network: Any) -> Any:
    names = [("V2", "V2"), ("V3", "V2"), ("V3", "V3"), ("V1", "V1")]
    return network.add(*(FeedbackPathway(*ends) for ends in names))


def statistic(of: Callable[[Site, Moment], Tensor], **attributes: Any) -> Rule:
    return type("Own", (Rule,), {"name": "own", "credit_at": lambda self, site, moment: of(site, moment), **attributes})()
