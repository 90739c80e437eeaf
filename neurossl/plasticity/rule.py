"""The contract of a plasticity rule: a recipe for credit.

    dW_ji = mean over rows of  gamma * dendrite_j * rho'(a_j) * x_i

The Hebbian part (``x_i``, ``rho'``) is the same for every rule and connectivity; a rule says which credit
``gamma * dendrite`` each population receives, with the shape of the population's activity. A minimal rule::

    @register("hebb")
    class Hebb(Rule):
        '''dW_ji = mean(z_j rho'(a_j) x_i).'''

        def credit_at(self, site, moment):
            return site.activity
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Event, Fixation, Moment, Neuromodulation
from neurossl.network import Network
from neurossl.pathways import Pathway
from neurossl.plasticity.locality import NEEDS, GuardedMoment, Proposal, Site, View
from neurossl.populations import Rows
from neurossl.updates import Update


@dataclass
class Credit:
    """What an objective or a transport says to one population.

    Attributes
    ----------
    activity : Tensor, (rows, *population shape), optional
        Credit on the activity: minus the derivative of the summed loss, so that the Hebbian mean over rows gives the ascent
        direction of the mean loss.
    somatic : Tensor, (rows, *neurons), optional
        The same at the soma, when it has already gone through pooling and slope.
    feedback : list of (pathway, update)
        Changes of the feedback pathways that took part.
    losses : dict of str to Tensor
        Mean loss, per part (one per feedback pathway, or "loss").
    silent : Tensor of bool, (rows,), optional
        Rows whose credit is known to be 0: their neuromodulator is shut.
    """

    activity: Tensor | None = None
    somatic: Tensor | None = None
    feedback: list[tuple[Pathway, Update]] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)
    silent: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """Sum of the parts."""
        return sum(self.losses.values())  # type: ignore[return-value]

    def selections(self, site: Site) -> list[Rows]:
        """Return the rows for which credit at the soma is computed at a time; those that are silent are left out."""
        if self.somatic is not None:
            return [slice(None)]
        learning = None if self.silent is None else site.worth_selecting(~self.silent)
        return site.chunks() if learning is None else list(learning.split(site.rows_at_a_time)) if len(learning) else []

    def at_soma(self, site: Site, some: Rows = slice(None)) -> Tensor:
        """Return the credit at the soma of some rows, (rows, *neurons)."""
        if self.somatic is not None:
            return self.somatic[some]
        if self.activity is None:
            raise NetworkError(f"population {site.population!r} was given no credit")
        return site.somatic(self.activity[some], some)


def learning_gain(moment: Moment) -> Tensor | None:
    """Return the neuromodulatory gain per row, or None for 1 everywhere."""
    event = moment.get(Neuromodulation)
    return None if event is None else event.gain


class Rule:
    """Base of all plasticity rules.

    Attributes
    ----------
    name : str
    needs : frozenset of str
        What the rule needs beyond presynaptic activity, gate and own feedback synapses: words of `NEEDS`.
    awaits : tuple of event types
        Events that a moment must have for the rule to learn from it.
    objective_name, transport : str
        What is good, and who tells the synapse: for the ledger.
    normalisation : str or None
        Presynaptic normalisation that the rule counts on ("length" for forward-forward).
    learns_along : bool
        Whether the credit of a population needs nothing from above it, so that it may learn as soon as it has responded.
    """

    name = "rule"
    needs: frozenset[str] = frozenset()
    awaits: tuple[type[Event], ...] = (Fixation,)
    objective_name = "none"
    transport = "none"
    normalisation: str | None = None
    learns_along = False

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways that the rule needs and the network lacks; return the network."""
        return network

    def settling(self, activity: Activity, moment: Moment) -> Iterator[Activity]:
        """Yield the activity whenever the rule wants to learn from it: once, after `settle`, unless overridden."""
        yield self.settle(activity, moment)

    def settle(self, activity: Activity, moment: Moment) -> Activity:
        """Return the relaxed activity; the sweep as it is, unless overridden."""
        return activity

    def credit_at(self, site: Site, moment: Moment) -> Tensor:
        """Return the credit of one population from what is physically there, (rows, *shape)."""
        raise OptionError(f"rule {self.name!r} defines neither credit_at() nor credit()")

    def credit(self, view: View, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield (population, credit).

        A credit must not depend on weights of a pathway whose update an earlier credit has led to, so that updates can be
        applied one at a time.
        """
        gain = learning_gain(moment)
        for site in view.sites():
            credit = self.credit_at(site, moment)
            if tuple(credit.shape) != tuple(site.activity.shape):
                raise NetworkError(
                    f"rule {self.name!r} at {site.population!r}: credit must be shaped like the activity "
                    f"{tuple(site.activity.shape)}, got {tuple(credit.shape)}"
                )
            if gain is not None:
                credit = credit * gain.view(-1, *[1] * (credit.ndim - 1))
            yield site.population, Credit(activity=credit)

    def propose(self, activity: Activity, moment: Moment, population: str | None = None) -> Proposal:
        """Yield (pathway, update) for every plastic pathway; changes nothing.

        Parameters
        ----------
        activity : Activity
            After settling.
        moment : Moment
        population : str, optional
            Only for the pathways onto this one: for rules that learn along the sweep.

        Yields
        ------
        pathway : Pathway
        update : Update
            Ascent direction, mean over rows.

        Raises
        ------
        EventError
            If the moment lacks an event that the rule waits for.
        LocalityError
            If the rule reaches for what it has not declared.
        """
        for event_type in self.awaits:
            moment.require(event_type, by=f"rule {self.name!r}")
        view = View(activity, self.needs, self.name, population)
        for name, credit in self.credit(view, GuardedMoment(moment, view)):
            plastic = [p for p in view.below(name) if p.plastic]
            updates: dict[str, Update] = {}
            for some in credit.selections(view.site(name)) if plastic else ():
                somatic = credit.at_soma(view.site(name), some)
                for pathway in plastic:
                    update = pathway.hebbian(activity.presynaptic[pathway.name][some], somatic)
                    update = update.scaled(len(somatic) / activity.rows)
                    known = updates.get(pathway.name)
                    updates[pathway.name] = update if known is None else known.plus(update)
            for pathway in plastic:
                yield pathway, updates.pop(pathway.name) if pathway.name in updates else pathway.no_update()
            for feedback, update in credit.feedback:
                if feedback.plastic:
                    yield feedback, update

    def judged(self, activity: Activity, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says of the activity, per population at which it stands."""
        return {}

    def losses(self, activity: Activity, moment: Moment) -> dict[str, Tensor]:
        """Return the mean loss per population that has one."""
        return {population: credit.loss for population, credit in self.judged(activity, moment).items()}

    def reference(self) -> "Rule | None":
        """Return the backprop reference on the same objective, or None when the rule has no objective."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return the rule's line of the ledger."""
        return {
            "rule": self.name,
            "objective": self.objective_name,
            "transport": self.transport,
            "needs": [need for need in NEEDS if need in self.needs],
        }

    def __repr__(self) -> str:
        needs = ", ".join(self.describe()["needs"]) or "nothing beyond the synapse"
        what = f"objective: {self.objective_name}; transport: {self.transport}; needs {needs}"
        return f"{type(self).__name__}({self.name!r}; {what})"


RULES: dict[str, Callable[..., Rule]] = {}
SomeRule = TypeVar("SomeRule", bound=Callable[..., Rule])


def register(name: str) -> Callable[[SomeRule], SomeRule]:
    """Make a rule class, or a function that returns a rule, available by name.

    Raises
    ------
    OptionError
        If the class declares needs that do not exist.
    """

    def keep(factory: SomeRule) -> SomeRule:
        unknown = sorted(set(getattr(factory, "needs", ())) - set(NEEDS))
        if unknown:
            raise OptionError(f"rule {name!r} needs {unknown[0]!r}, which is not one of: {', '.join(NEEDS)}")
        RULES[name] = factory
        if isinstance(factory, type):
            factory.name = name  # type: ignore[attr-defined]
        return factory

    return keep


def make_rule(name: str, **options: Any) -> Rule:
    """Return the rule of this name.

    Parameters
    ----------
    name : str
        One of `RULES`.
    **options
        Passed to the rule, for example ``contrast="softplus"``.

    Raises
    ------
    OptionError
        If there is no such rule or it does not take an option.
    """
    if name not in RULES:
        close = get_close_matches(name, RULES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise OptionError(f"rule {name!r} does not exist; {hint}there are: {', '.join(RULES)}")
    try:
        rule = RULES[name](**options)
    except TypeError as reason:
        raise OptionError(f"rule {name!r}: {reason}") from None
    rule.name = name
    return rule
