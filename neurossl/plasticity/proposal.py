"""Proposals: from what a rule says to updates of the weights. Nothing is changed here.

This is the door through which every rule is called: it hands it a guarded scope and a guarded moment, and notices when a
rule changes by itself what it was only to read.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from neurossl.anatomy.feedback import MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.dynamics.activity import Activity
from neurossl.engine.projections import SomaticProjection
from neurossl.engine.updates import Update
from neurossl.errors import LocalityError, NetworkError, OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.rule import Rule
from neurossl.plasticity.watch import Watch

Proposal = tuple[str, Update]
"""Name of a pathway, and its update."""
Signals = dict[str, dict[str, Tensor]]
"""Inner signals by population and name."""


def wired(rule: Rule, network: Network) -> Network:
    """Return a copy of a network with the feedback pathways that a rule needs.

    Raises
    ------
    NetworkError
        If the rule's wire() returns no network.
    OptionError
        If the network lacks the presynaptic normalisation that the rule counts on.
    """
    found = rule.wire(network.copy())
    if not isinstance(found, Network):
        raise NetworkError(f"rule {rule.name!r}: wire() must return the network, got {type(found).__name__}")
    doubled = rule.normalisation == "doubled"
    without = [
        name
        for name, p in found.feedforward.items()
        if p.plastic
        and (p.normalisation != "doubled" if doubled and found.populations[p.pre].is_input else p.normalisation is None)
    ]
    if rule.normalisation is not None and without:
        raise OptionError(
            f"rule {rule.name!r} counts on presynaptic normalisation ({rule.normalisation!r}), which {without[0]!r} lacks: "
            f"what it scores would simply be passed on; make the network with normalisation={rule.normalisation!r}"
        )
    return found


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
    yield from said(rule.settling, scope, moment, "settling")


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
    is_watched = signals is not None
    scope = settled if isinstance(settled, Scope) else Scope(settled, rule, memory, population, is_watched)
    seen: set[str] = set()
    for name, credit in said(rule.credit, scope, moment, "credit"):
        site = checked(scope, name, credit, seen)
        if signals is not None:
            signals[name] = credit.signals
        if credit.state:
            scope._memory.remember(name, credit.state, rule, site.state)
        plastic = [p for p in scope._circuit.incoming(name) if p.plastic]
        updates = _hebbian(scope, site, credit, plastic)
        for projection in plastic:
            update = updates.pop(projection.name, None)
            yield projection.name, _completed(update, credit, projection)
        for pathway, update in credit.feedback:
            if scope._circuit[pathway].plastic:
                yield pathway, update
    if scope is not settled:
        scope.end()


def checked(scope: Scope, name: str, credit: Credit, seen: set[str]) -> Site:
    """Return the site at which a credit arrives; refuse credit that does not belong there.

    Raises
    ------
    NetworkError
        If there is no such population, it has been given credit already, or shapes do not fit.
    LocalityError
        If the update of a pathway comes along that does not end there.
    """
    rule, network = scope._rule, scope._network
    network.population(name)
    if name in seen:
        raise NetworkError(f"rule {rule.name!r} gives {name!r} credit twice: add it up, or yield two scopes in settling()")
    seen.add(name)
    site = Site(scope, name)
    site.check(credit)
    for pathway, _ in credit.feedback:
        anatomy = network.pathway(pathway)
        ends = anatomy.pre if isinstance(anatomy, MirrorPathway) else anatomy.post
        if isinstance(anatomy, FeedforwardPathway) or ends != name:
            raise LocalityError(
                f"rule {rule.name!r} at {name!r} changes {pathway!r}, which is no feedback pathway of {name!r}: incoming "
                "pathways change by credit alone, those of others where they end"
            )
        if isinstance(anatomy, MirrorPathway):
            scope.demand("layerwise error", pathway)
    return site


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


def _completed(update: Update | None, credit: Credit, projection: SomaticProjection) -> Update:
    """Return the update with what is no product of two activities: heterosynaptic decay, eligibilities, rates of neurons."""
    update = projection.no_update() if update is None else update
    if credit.decay is not None:
        weight = projection.weight
        fraction = torch.as_tensor(credit.decay, dtype=weight.dtype, device=weight.device)
        fraction = fraction.mean(0) if fraction.ndim == 2 else fraction
        fraction = fraction.reshape(-1, *[1] * (weight.ndim - 1)) if fraction.ndim else fraction
        update = Update(update.weight - fraction * weight, update.bias)
    added = credit.synaptic.get(projection.name)
    update = update if added is None else Update(update.weight + added.mean(0), update.bias)
    rate = credit.rates.get(projection.name)
    if rate is None:
        return update
    by_neuron = rate.reshape(-1, *[1] * (projection.weight.ndim - 1))
    return Update(update.weight * by_neuron, None if update.bias is None else update.bias * rate)


def evaluate(rule: Rule, activity: Activity, moment: Moment, memory: Memory | None = None) -> dict[str, Credit]:
    """Return what the rule's objective says of an activity, per population at which it stands."""
    scope = Scope(activity, rule, memory)
    (credits,) = said(lambda scope, moment: iter([rule.evaluate(scope, moment)]), scope, moment, "evaluate")
    scope.end()
    return credits


def losses(rule: Rule, activity: Activity, moment: Moment, memory: Memory | None = None) -> dict[str, Tensor]:
    """Return the mean loss per population that has one."""
    return {population: credit.loss for population, credit in evaluate(rule, activity, moment, memory).items()}


Item = TypeVar("Item")


def said(
    door: Callable[[Scope, Moment], Iterator[Item]], scope: Scope, moment: Moment, name: str, contents: bool = False
) -> Iterator[Item]:
    """Yield what a rule yields at one of its doors, and refuse it if it has changed by itself what it was to read.

    Raises
    ------
    LocalityError
        Naming what was changed.
    NetworkError
        If it yields something else.
    """
    rule = scope._rule.name
    watch = None
    if not scope._circuit.execution.mapped:
        watch = Watch(scope._circuit, scope._activity, moment, scope._memory.tensors, contents)
    items = door(scope, scope.guard(moment))
    if not isinstance(items, Iterable):
        raise NetworkError(f"rule {rule!r}: {name}() must yield what it says, got {type(items).__name__}")
    iterator = iter(items)
    while True:
        item = next(iterator, None)
        if watch is not None:
            changed = watch.changed
            if changed:
                raise LocalityError(
                    f"rule {rule!r} changes {changed} in its {name}(): a rule only proposes; copy what is to be changed, "
                    "and return credit"
                )
        if item is None:
            return
        if not _EXPECTED[name](item):
            raise NetworkError(f"rule {rule!r}: {name}() must yield {_WORDS[name]}, got {item!r}")
        yield item
        if watch is not None:
            watch.look()


_EXPECTED: dict[str, Callable[[Any], bool]] = {
    "settling": lambda item: isinstance(item, Scope),
    "credit": lambda item: isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Credit),
    "evaluate": lambda item: isinstance(item, dict),
}
_WORDS = {"settling": "scopes", "credit": "pairs of a population and its Credit", "evaluate": "credits by population"}
