"""The contract of a plasticity rule: which factors meet at a synapse.

    dW_ji = mean over rows of  gamma * dendrite_j * rho'(a_j) * x_i

The Hebbian part (``x_i``, ``rho'``) is the same for every rule and connectivity; a rule says which factors each population
receives (`neurossl.plasticity.factors`). A minimal rule::

    class Hebb(Rule):
        '''dW_ji = mean(z_j rho'(a_j) x_i).'''

        def credit_at(self, site, moment):
            return site.activity

What it needs beyond its own population it declares in ``needs``, what it remembers from one moment to the next in
``state``; what is not declared is refused. A rule changes nothing by itself: not the weights, not the activity. Whatever it
says of a row is averaged over rows and multiplied by the row's neuromodulator here, and nowhere else::

    class Rewarded(Rule):
        '''Eligibilities that a later reward (`Neuromodulation`) turns into changes.'''

        needs = frozenset({"neuromodulator"})
        state = {"eligibility": "synapses"}

        def credit_at(self, site, moment):
            old, z = site.state["eligibility"], site.activity
            new = {name: 0.8 * old[name] + torch.einsum("ro,ri->roi", z, x) for name, x in site.presynaptic.items()}
            return Credit(synaptic=new, state={"eligibility": new})
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Event, Fixation, Moment
from neurossl.plasticity.credit import Credit, learning_gain
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.factors import credit as credit_of
from neurossl.plasticity.given import Given, described
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.needs import NEEDS, known_needs


class Rule(Given):
    """Base of all plasticity rules.

    Attributes
    ----------
    name : str
    needs : frozenset of str
        What the rule needs beyond presynaptic activity, gate, own weights and own feedback synapses: words of `NEEDS`.
    awaits : tuple of event types
        Events that a moment must have for the rule to learn from it.
    state : mapping of str to str
        What the rule remembers at every population, by name: "population" (one value per neuron, shaped like the activity
        without rows), "rows" (one per neuron and observer), "scalar", or "synapses" (per observer and incoming weight: an
        eligibility). It begins at 0 and is part of every checkpoint.
    objective_name, transport : str
        What is good, and who tells the synapse: for the ledger.
    normalisation : str or None
        Presynaptic normalisation that the rule counts on ("length" for forward-forward).
    learns_along : bool
        Whether the credit of a population needs nothing from above it, so that it may learn as soon as it has responded.
    changes_while_settling : bool
        Whether every activity that `settling` yields leads to a change at once. Otherwise the updates of all of them are
        summed and applied together (contrastive Hebbian learning, equilibrium propagation).
    options : mapping
        With which it was made by name.
    """

    name = "rule"
    needs: frozenset[str] = frozenset()
    awaits: tuple[type[Event], ...] = (Fixation,)
    state: Mapping[str, str] = {}
    objective_name = "none"
    transport = "none"
    normalisation: str | None = None
    learns_along = False
    changes_while_settling = False
    options: Mapping[str, Any] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a rule of one's own the name of its class, where it has none."""
        super().__init_subclass__(**options)
        if cls.name == Rule.name and "name" not in vars(cls):
            cls.name = cls.__name__

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways that the rule needs and the network lacks; return the network."""
        return network

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what the rule wants to learn from: by default the response as it is.

        A rule that settles yields what it has settled to (`Scope.predict`, `Scope.settled`), once for every phase; the
        updates of all phases are summed and applied together, unless ``changes_while_settling``.
        """
        yield scope

    def credit_at(self, site: Site, moment: Moment) -> Tensor | Factors | Sequence[Factors] | Credit:
        """Return what one population receives, from what is physically there.

        A tensor is credit on the activity, (rows, *shape), with a neuromodulator of 1.
        """
        raise OptionError(f"rule {self.name!r} defines neither credit_at() nor credit()")

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield (population, credit) for every population that is to learn.

        By default asks `credit_at` at every population, from the bottom up; override this one where what a population
        receives is found from others. The weights onto a population may change as soon as its credit has been yielded: do
        not compute a later credit from them.
        """
        for site in scope.sites():
            yield site.population, self.received(site, moment)

    def received(self, site: Site, moment: Moment) -> Credit:
        """Return what `credit_at` says as `Credit`, times the gain of the moment's neuromodulator.

        Raises
        ------
        NetworkError
            If it is no such thing.
        """
        said = self.credit_at(site, site.guard(moment))
        factors = [said] if isinstance(said, Factors) else said
        if isinstance(factors, list | tuple) and factors and all(isinstance(f, Factors) for f in factors):
            for gamma, dendrite, *_ in factors:
                if not isinstance(gamma, Tensor) or not isinstance(dendrite, Tensor) or gamma.shape != (site.rows,):
                    shape = tuple(gamma.shape) if isinstance(gamma, Tensor) else type(gamma).__name__
                    raise NetworkError(
                        f"rule {self.name!r} at {site.population!r}: Factors(gamma, dendrite) are tensors, gamma of "
                        f"({site.rows},), got {shape}"
                    )
            credit = _credit_of(factors)
        elif isinstance(said, Tensor):
            credit = Credit(said)
        elif isinstance(said, Credit):
            credit = said
        else:
            raise NetworkError(
                f"rule {self.name!r} at {site.population!r}: credit_at() must return a tensor, Factors or Credit, "
                f"got {type(said).__name__}"
            )
        site.refuse_not_finite(credit)
        return credit.gained(learning_gain(moment))

    def factors(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, list[Factors]]]:
        """Yield (population, factors): the definition of which the engine computes the update.

        By default credit arrives at the dendrite as it is, with a neuromodulator of 1.
        """
        for population, credit in self.credit(scope, moment):
            arrived = credit.activity if credit.activity is not None else credit.somatic
            if arrived is not None:
                ones = torch.ones(len(arrived), dtype=arrived.dtype, device=arrived.device)
                yield population, [Factors(ones, arrived, credit.activity is None)]

    def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
        """Return loss and credit of the rule's objective by population; {} for a rule without one."""
        return {}

    def reference(self) -> "Rule | None":
        """Return the backprop reference on the same objective, or None when the rule has no objective."""
        return None

    def objective_in(self, network: Network) -> str:
        """Return what is good in a network: equal for two rules of one objective at the top, however they transport it."""
        return self.objective_name

    def stands_at(self, network: Network) -> str:
        """Return the uppermost population of a network at which the objective stands."""
        return network.top

    def describe(self) -> dict[str, Any]:
        """Return the rule's line of the ledger, and its options."""
        return {
            "rule": self.name,
            "objective": self.objective_name,
            "transport": self.transport,
            "needs": [need for need in NEEDS if need in self.needs],
            "rule_options": dict(self.options) if "options" in vars(self) else described(self.given),
        }

    def __repr__(self) -> str:
        needs = ", ".join(self.describe()["needs"]) or "nothing beyond the synapse"
        what = f"objective: {self.objective_name}; transport: {self.transport}; needs {needs}"
        return f"{type(self).__name__}({self.name!r}; {what})"


def _credit_of(factors: Sequence[Factors]) -> Credit:
    """Return the credit that factors add up to; a single one can be recorded by its parts."""
    summed = credit_of(factors)
    signals = {"gamma": factors[0].gamma, "dendrite": factors[0].dendrite} if len(factors) == 1 else {}
    return Credit(somatic=summed, signals=signals) if factors[0].is_somatic else Credit(summed, signals=signals)


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
        known_needs(getattr(factory, "needs", ()), name)
        RULES[name] = factory
        if isinstance(factory, type):
            factory.name = name  # type: ignore[attr-defined]
        return factory

    return keep


def make_rule(rule: "str | Rule | type[Rule]", **options: Any) -> Rule:
    """Return the rule of this name.

    Parameters
    ----------
    rule : str, Rule or subclass of Rule
        One of `RULES`; a rule is returned as it is, a class is called with the options.
    **options
        Passed to the rule, for example ``contrast="softplus"``. `rule_options` lists them.

    Raises
    ------
    OptionError
        If there is no such rule or it does not take an option.
    """
    if isinstance(rule, Rule):
        if options:
            raise OptionError(f"rule {rule.name!r} is made already: it takes no further options ({', '.join(options)})")
        return rule
    if isinstance(rule, type) and issubclass(rule, Rule):
        return rule(**options)
    if rule not in RULES:
        close = get_close_matches(str(rule), RULES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise OptionError(f"rule {rule!r} does not exist; {hint}there are: {', '.join(RULES)}")
    factory = RULES[rule]
    # Options are stored with a run and read again: numbers of numpy become numbers of Python.
    options = {name: value.item() if isinstance(value, np.generic) else value for name, value in options.items()}
    accepted = rule_options(rule, objective=options.get("objective"))
    unknown = [name for name in options if name not in accepted]
    if unknown and not any(p.kind is Parameter.VAR_KEYWORD for p in accepted.values()):
        close = get_close_matches(unknown[0], accepted, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        there = f"its options are: {', '.join(accepted)}" if accepted else "it has no options"
        raise OptionError(f"rule {rule!r}: there is no option {unknown[0]!r}; {hint}{there}")
    made = factory(**options)
    made.name = rule
    plain = bool, int, float, str, list, tuple, type(None)
    told = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in options.items()}
    made.options = {name: value if isinstance(value, plain) else repr(value) for name, value in told.items()}
    return made


def rule_options(rule: str, **chosen: Any) -> dict[str, Parameter]:
    """Return the options of a registered rule, with their defaults.

    Parameters
    ----------
    rule : str
    **chosen
        Options that decide which others there are, such as ``objective="infonce"``.
    """
    factory = RULES[rule]
    listed = getattr(factory, "options_of", None)
    if listed is not None:
        return listed(**chosen)
    return {name: p for name, p in signature(factory).parameters.items() if name != "self"}
