"""Proposals: from what a rule says to updates of the weights. Nothing is changed here.

This is the door through which every rule is called: it hands it a guarded scope and a guarded moment, and notices when a
rule changes by itself what it was only to read.
"""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.engine.projections import SomaticProjection
from neurossl.engine.updates import Update
from neurossl.errors import LocalityError, NetworkError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.rule import Rule

Proposal = tuple[str, Update]
"""Name of a pathway, and its update."""
Signals = dict[str, dict[str, Tensor]]
"""Inner signals by population and name."""


def settle(
    rule: Rule, activity: Activity, moment: Moment, memory: Memory | None = None, is_watched: bool = False
) -> Iterator[Scope]:
    """Yield every scope that a rule learns from: the response as it is, or what has settled.

    Parameters
    ----------
    rule : Rule
    activity : Activity
    moment : Moment
    memory : Memory, optional
        What the rule remembers.
    is_watched : bool
        Whether inner signals of the settling are noted.
    """
    scope = Scope(activity, rule, memory, is_watched=is_watched)
    yield from _untouched(rule.settling(scope, scope.guard(moment)), scope, "settling")


def propose(
    rule: Rule,
    settled: Scope | Activity,
    moment: Moment,
    *,
    memory: Memory | None = None,
    population: str | None = None,
    signals: Signals | None = None,
) -> Iterator[Proposal]:
    """Yield (name of a pathway, update) for every plastic pathway.

    Parameters
    ----------
    rule : Rule
    settled : Scope or Activity
        What the rule learns from; see `settle`.
    moment : Moment
    memory : Memory, optional
        What the rule remembers, where an activity is given. New values are noted there, and hold once it is asked to keep
        them.
    population : str, optional
        Only for the pathways onto this one: for rules that learn along the sweep.
    signals : dict, optional
        Is filled with the rule's inner signals.

    Yields
    ------
    pathway : str
    update : Update
        Ascent direction, mean over rows.

    Raises
    ------
    EventError
        If the moment lacks an event that the rule waits for.
    LocalityError
        If the rule reaches for what it has not declared, or changes what it may only read.
    """
    for event_type in rule.awaits:
        moment.require(event_type, by=f"rule {rule.name!r}")
    scope = settled if isinstance(settled, Scope) else Scope(settled, rule, memory, population)
    for name, credit in _untouched(rule.credit(scope, scope.guard(moment)), scope, "credit"):
        site = Site(scope, name)
        if signals is not None:
            signals[name] = credit.signals
        if credit.state:
            scope._memory.remember(name, credit.state, rule)
        plastic = [p for p in scope._circuit.incoming(name) if p.plastic]
        updates = _hebbian(scope, site, credit, plastic)
        for projection in plastic:
            update = updates.pop(projection.name, None)
            yield projection.name, _completed(update, credit, projection, rule)
        for pathway, update in credit.feedback:
            if scope._circuit[pathway].plastic:
                yield pathway, update


def _hebbian(scope: Scope, site: Site, credit: Credit, plastic: list[SomaticProjection]) -> dict[str, Update]:
    """Return the mean over rows of somatic credit times presynaptic activity, per pathway; some rows at a time."""
    updates: dict[str, Update] = {}
    activity = scope._activity
    for some in site.selections(credit) if plastic else ():
        somatic = site.soma_of(credit, some)
        for projection in plastic:
            update = projection.hebbian(activity.presynaptic[projection.name][some], somatic)
            update = update.scaled(len(somatic) / activity.rows)
            known = updates.get(projection.name)
            updates[projection.name] = update if known is None else known.plus(update)
    return updates


def _completed(update: Update | None, credit: Credit, projection: SomaticProjection, rule: Rule) -> Update:
    """Return the update with what is no product of two activities: heterosynaptic decay, eligibilities."""
    update = projection.no_update() if update is None else update
    if credit.decay is not None:
        weight = projection.weight
        fraction = torch.as_tensor(credit.decay, dtype=weight.dtype, device=weight.device)
        if fraction.ndim and fraction.shape != (len(weight),):
            raise NetworkError(
                f"rule {rule.name!r} at {projection.pathway.post!r}: decay must have one value per postsynaptic neuron "
                f"({len(weight)}), got {tuple(fraction.shape)}"
            )
        fraction = fraction.reshape(-1, *[1] * (weight.ndim - 1)) if fraction.ndim else fraction
        update = Update(update.weight - fraction * weight, update.bias)
    added = credit.synaptic.get(projection.name)
    if added is not None:
        if added.shape != projection.weight.shape:
            raise NetworkError(
                f"rule {rule.name!r}: the update of {projection.name!r} must be shaped like its weights "
                f"{tuple(projection.weight.shape)}, got {tuple(added.shape)}"
            )
        update = Update(update.weight + added, update.bias)
    return update


def evaluate(rule: Rule, activity: Activity, moment: Moment, memory: Memory | None = None) -> dict[str, Credit]:
    """Return what the rule's objective says of an activity, per population at which it stands."""
    scope = Scope(activity, rule, memory)
    return rule.evaluate(scope, scope.guard(moment))


def losses(rule: Rule, activity: Activity, moment: Moment) -> dict[str, Tensor]:
    """Return the mean loss per population that has one."""
    return {population: credit.loss for population, credit in evaluate(rule, activity, moment).items()}


Item = TypeVar("Item")


def _untouched(items: Iterator[Item], scope: Scope, door: str) -> Iterator[Item]:
    """Yield what a rule yields, and refuse a rule that has changed weights or activity on the way.

    Raises
    ------
    LocalityError
        Naming what was changed.
    """
    if scope._circuit.execution.mapped:
        yield from items
        return
    watched = _watched(scope)
    before = [tensor._version for tensor in watched]
    iterator = iter(items)
    while True:
        item = next(iterator, None)
        after = [tensor._version for tensor in watched]
        if before != after:
            changed = next(name for name, one, other in zip(_names(scope), before, after, strict=True) if one != other)
            raise LocalityError(
                f"rule {scope._rule.name!r} changes {changed} in its {door}: a rule only proposes; copy what is to be "
                "changed, and return credit"
            )
        if item is None:
            return
        yield item
        before = [tensor._version for tensor in watched]


def _watched(scope: Scope) -> list[Tensor]:
    """Return weights and activity, whose versions grow with every change in place."""
    held = [tensor for parameters in scope._circuit.weights.values() for tensor in parameters if tensor is not None]
    return [*held, *scope._activity.output.values()]


def _names(scope: Scope) -> Iterator[str]:
    """Yield what `_watched` returns is, in words."""
    for name, held in scope._circuit.weights.items():
        yield from (f"the {part} of {name!r}" for part, t in zip(("weights", "bias"), held, strict=True) if t is not None)
    yield from (f"the activity of {name!r}" for name in scope._activity.output)
