"""What a rule may see: locality is enforced, not promised.

A rule never gets hold of the circuit. It is handed a `Scope` of the moment's activity and, per population, a `Site` with
what is physically there: presynaptic activity, own drive and activity, own weights, own feedback synapses, own state.
Everything else has to be declared in the rule's ``needs`` with a word of `NEEDS`. A rule that reaches for more is refused,
at every door through which it is called. The declarations of all rules are the ledger that comparisons print.

What Python cannot prevent (attributes with an underscore, global variables) is not prevented; what happens by accident is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.dynamics.activity import Activity
from neurossl.engine import limits
from neurossl.engine.projections import ApicalProjection, MirrorProjection, SomaticProjection
from neurossl.engine.responses import Rows, at_soma, chunks, rows_at_a_time
from neurossl.engine.updates import Update
from neurossl.errors import DivergenceError, LocalityError, NetworkError, OptionError
from neurossl.events import Event, Moment
from neurossl.plasticity.guard import GuardedMoment, visible
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.needs import NEEDS, known_needs

if TYPE_CHECKING:
    from neurossl.plasticity.credit import Credit
    from neurossl.plasticity.rule import Rule

__all__ = ["GuardedMoment", "Scope", "Site", "visible"]

_BEYOND = frozenset({"other populations", "layerwise error", "weight transport", "settling"})
"""Needs with which a rule handles several populations at once."""


class _Life:
    """Whether the moment to which scopes and sites belong is over."""

    is_over = False


class Scope:
    """An activity as a rule may see it.

    Parameters
    ----------
    activity : Activity
    rule : Rule
        Whose needs count, and whose name stands in error messages.
    memory : Memory, optional
        What the rule remembers; nothing by default.
    population : str, optional
        The only population that is there to learn; all by default.
    is_watched : bool
        Whether somebody wants to know what happens while the rule settles.
    """

    def __init__(
        self,
        activity: Activity,
        rule: Rule,
        memory: Memory | None = None,
        population: str | None = None,
        is_watched: bool = False,
    ) -> None:
        self._seen = activity
        self._circuit = activity.circuit
        self._network = activity.circuit.network
        self._rule = rule
        self._life = _Life()
        self.needs = known_needs(rule.needs, rule.name)
        self._memory = Memory() if memory is None else memory
        self._population = population
        self.is_watched = is_watched

    @property
    def _activity(self) -> Activity:
        if self._life.is_over:
            raise LocalityError(
                f"rule {self._rule.name!r} looks at a moment that is over: what it is to remember, it declares in its state "
                "and returns as Credit(state={...})"
            )
        return self._seen

    def _with(self, activity: Activity) -> Scope:
        """Return the scope of another activity in the same moment."""
        scope = Scope(activity, self._rule, self._memory, is_watched=self.is_watched)
        scope._life = self._life
        return scope

    def end(self) -> None:
        """Say that the moment is over: neither this scope nor any site of it shows anything from now on."""
        self._life.is_over = True

    def demand(self, need: str, where: str, alternatives: frozenset[str] | set[str] = frozenset()) -> None:
        """Refuse what needs a word that the rule has not declared.

        Raises
        ------
        LocalityError
            Naming the rule, where it stands, and the remedy.
        """
        needs = self.needs
        if need not in needs and not needs & alternatives:
            declared = ", ".join(sorted(needs)) or "nothing"
            raise LocalityError(
                f"rule {self._rule.name!r} at {where} reaches for {need!r} ({NEEDS[need]}), but declares {declared}: "
                f"add {need!r} to its needs"
            )

    def guard(self, moment: Moment) -> GuardedMoment:
        """Return a moment as the rule may see it: labels, phases and the stimulus only when declared."""
        return moment if isinstance(moment, GuardedMoment) else GuardedMoment(moment, self)

    @property
    def top(self) -> str:
        """Name of the last population."""
        return self._network.top

    @property
    def populations(self) -> list[str]:
        """Names of the populations above the input, in the order of the sweep."""
        return list(self._network.order)

    @property
    def phase(self) -> str:
        """Which phase of the settling this is."""
        return self._activity.phase

    def sites(self) -> Iterator[Site]:
        """Yield the site of every population that has plastic synapses, in the order of the sweep.

        A site is there until the next one is asked for, unless the rule needs more than one population.
        """
        for name in self._network.order if self._population is None else [self._population]:
            if any(p.plastic for p in self._circuit.incoming(name)):
                site = Site(self, name)
                yield site
                site.leave()

    def site(self, population: str) -> Site:
        """Return what is physically at a population, seen from elsewhere.

        Needs "other populations", or what already implies it; for the top, "broadcast error" is enough.
        """
        self._network.population(population)
        self.demand("other populations", population, _BEYOND | ({"broadcast error"} if population == self.top else set()))
        site = Site(self, population)
        site.leave()
        return site

    def below(self, population: str) -> list[FeedforwardPathway]:
        """Return the feedforward pathways onto a population: their anatomy, not their weights."""
        return list(self._network.incoming(population))

    def transport(self, pathway: FeedforwardPathway, somatic: Tensor, mirrored: bool = False) -> Tensor:
        """Return somatic credit of a pathway's target as credit on the activity of its source, (rows, *pre shape).

        Needs "weight transport", or "layerwise error" for the mirror pathway with weights of its own.
        """
        activity = self._activity.source[pathway.pre]
        if not mirrored:
            self.demand("weight transport", pathway.name)
            return self._somatic(pathway).transpose(somatic, activity)
        self.demand("layerwise error", pathway.name)
        return self._mirror(pathway).apical(somatic, activity)

    def transport_onto(
        self,
        base: Tensor,
        pathway: FeedforwardPathway,
        somatic: Tensor,
        factor: float,
        mirrored: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """Return ``base``, which may be overwritten, plus a factor times what `transport` returns, (rows, *pre shape)."""
        if mirrored:
            return base + factor * self.transport(pathway, somatic, mirrored)
        self.demand("weight transport", pathway.name)
        source = self._activity.source[pathway.pre]
        return self._somatic(pathway).transposed_onto(base, somatic, source, factor, overwrite)

    def mirror_update(self, pathway: FeedforwardPathway, somatic: Tensor) -> list[tuple[str, Update]]:
        """Return the update of the pathway that mirrors a feedforward pathway, if it is plastic. Needs "layerwise error".

        Parameters
        ----------
        pathway : FeedforwardPathway
        somatic : Tensor, (rows, *post neurons)
            Credit at the soma of the feedforward target.
        """
        self.demand("layerwise error", pathway.name)
        mirror = self._mirror(pathway)
        if not mirror.plastic:
            return []
        return [(mirror.name, mirror.hebbian(self._activity.presynaptic[pathway.name], somatic))]

    def _somatic(self, pathway: FeedforwardPathway) -> SomaticProjection:
        projection = self._circuit[pathway.name]
        assert isinstance(projection, SomaticProjection), "a feedforward pathway drives the soma"
        return projection

    def _mirror(self, pathway: FeedforwardPathway) -> MirrorProjection:
        mirror = self._network.mirror_of(pathway.name)
        if mirror is None:
            raise LocalityError(
                f"rule {self._rule.name!r}: {pathway.name!r} has no mirror pathway: add it in the rule's wire(network)"
            )
        return self._circuit[mirror.name]  # type: ignore[return-value]

    def broadcast(self, credit: Tensor, population: str) -> Tensor:
        """Return credit of the top as it arrives at a population through ``top=>population``. Needs "broadcast error"."""
        self.demand("broadcast error", population)
        projection = Site(self, population).feedback(f"{self.top}=>{population}")
        return projection.delivered(projection.error_signal(credit))

    def predict(self, values: Mapping[str, Tensor], first: bool = True, phase: str = "") -> Scope:
        """Return the scope of a sweep in which the populations send these values upwards. Needs "settling".

        Parameters
        ----------
        values : mapping of str to Tensor, (rows, *population shape)
            Of populations below the top; the others send their activity.
        first : bool
            Whether the weights are those of the first sweep, so that what is sent the same as then responds as then.
        phase : str
            Name of the phase, for `Site.phase`.
        """
        self.demand("settling", "all populations")
        stimulus = self._activity.output[self._network.input.name]
        swept = self._circuit.sweep(stimulus, values, first=self._activity if first else None)
        changes = {"context": self._activity.held, "traced": self._activity.traced, "phase": phase}
        return self._with(swept.with_changes(**changes))

    def settled(
        self, errors: Mapping[str, Tensor] | None = None, notes: Mapping[str, Tensor] | None = None, phase: str = ""
    ) -> Scope:
        """Return the scope with these error neurons. Needs "settling".

        Parameters
        ----------
        errors : mapping of str to Tensor, (rows, *population shape), optional
        notes : mapping of str to Tensor, optional
            What is to be recorded.
        phase : str
            Name of the phase, for `Site.phase`.
        """
        self.demand("settling", "all populations")
        phase = phase or self.phase
        return self._with(self._activity.with_changes(errors=dict(errors or {}), notes=dict(notes or {}), phase=phase))

    def __repr__(self) -> str:
        return f"Scope({self._activity!r} for {self._rule.name!r})"


class Site:
    """What is physically at one population.

    Attributes
    ----------
    population : str
    """

    def __init__(self, scope: Scope, population: str) -> None:
        self._scope = scope
        self._is_left = False
        self._anatomy = scope._network.populations[population]
        self.population = population

    def leave(self) -> None:
        """Say that the rule stands at another population, and looks from there."""
        self._is_left = True

    @property
    def _here(self) -> Scope:
        if self._is_left:
            seen = {"broadcast error"} if self.is_top else set()
            self._scope.demand("other populations", self.population, _BEYOND | seen)
        return self._scope

    @property
    def _record(self) -> Activity:
        return self._here._activity

    @property
    def activity(self) -> Tensor:
        """Own activity, (rows, *shape)."""
        return self._record.output[self.population]

    @property
    def top(self) -> str:
        """Name of the last population (anatomy, not activity)."""
        return self._scope.top

    @property
    def is_top(self) -> bool:
        """Whether this is the last population."""
        return self.population == self.top

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.activity)

    @property
    def phase(self) -> str:
        """Which phase of the settling this is."""
        return self._record.phase

    @property
    def presynaptic(self) -> dict[str, Tensor]:
        """What the synapses of every incoming pathway saw."""
        return {p.name: self._record.presynaptic[p.name] for p in self._scope.below(self.population)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Weights of the own incoming pathways, (post, pre, ...); to read, not to change.

        From elsewhere they need "weight transport".
        """
        if self._is_left:
            self._here.demand("weight transport", self.population)
        return {p.name: p.weight for p in self._here._circuit.incoming(self.population)}

    @property
    def drive(self) -> Tensor:
        """Somatic drive, before the transfer function, (rows, *neurons); computed when it is asked for."""
        return self._record.drive(self.population)

    @property
    def value(self) -> Tensor:
        """Value neurons: what the population sends upwards."""
        return self._record.source[self.population]

    @property
    def error(self) -> Tensor:
        """Error neurons after settling, (rows, *shape). Needs "settling"."""
        self._here.demand("settling", self.population)
        return self._record.errors[self.population]

    @property
    def state(self) -> Mapping[str, Any]:
        """What the rule remembers here, as declared in `Rule.state`; changed by returning ``Credit(state={...})``."""
        scope = self._here
        projections = scope._circuit.incoming(self.population)
        return scope._memory.at(self.population, self._anatomy, scope._rule, self.activity, projections)

    def generator(self, name: str) -> torch.Generator:
        """Return a random generator of this population's own, seeded by the simulation's seed and its names.

        Parameters
        ----------
        name : str
            What it is for.
        """
        scope = self._here
        if scope._circuit.execution.mapped:
            raise OptionError(f"rule {scope._rule.name!r} draws random numbers: replicas cannot, run them one by one")
        return scope._memory.generator(f"rule/{self.population}/{name}")

    def guard(self, moment: Moment) -> GuardedMoment:
        """Return a moment as the rule may see it here: the stimulus only where the input population projects to."""
        near = any(p.pre == self._scope._network.input.name for p in self._scope.below(self.population))
        return GuardedMoment(moment, self._scope, self.population, shows_stimulus=near)

    def somatic(self, credit: Tensor, some: Rows = slice(None)) -> Tensor:
        """Return credit on the activity of some rows as credit at the soma: un-pooled and gated."""
        response = self._record.responses[self.population]
        return at_soma(self._anatomy, credit.to(response.activity.dtype), response.rows(some))

    def check(self, credit: Credit) -> None:
        """Refuse credit that is not shaped like what is here.

        Raises
        ------
        NetworkError
            Naming the rule, the population and both shapes.
        """
        rows, post = self._scope._activity.rows, self._anatomy.neurons[0]
        incoming = {p.name: p.weight_shape for p in self._scope.below(self.population)}
        parts: list[tuple[str, Tensor | None, list[tuple[int, ...]]]] = [
            ("credit", credit.activity, [(rows, *self._anatomy.shape)]),
            ("credit at the soma", credit.somatic, [(rows, *self._anatomy.neurons)]),
            ("decay", credit.decay, [(rows, post), (post,), ()]),
        ]
        for name, change in credit.synaptic.items():
            if name not in incoming:
                there = ", ".join(incoming)
                raise self._unfit(f"synaptic must name incoming pathways ({there}), got {name!r}")
            parts.append((f"the synaptic change of {name!r}", change, [(rows, *incoming[name])]))
        for what, given, shapes in parts:
            if given is not None and tuple(given.shape) not in shapes:
                raise self._unfit(f"{what} must have the shape {' or '.join(map(str, shapes))}, got {tuple(given.shape)}")

    def _unfit(self, problem: str) -> NetworkError:
        return NetworkError(f"rule {self._scope._rule.name!r} at {self.population!r}: {problem}")

    def refuse_not_finite(self, credit: Credit) -> None:
        """Refuse credit of a rule of one's own with NaN or infinity: no learning rate could mend it.

        Raises
        ------
        DivergenceError
            Naming the rule and the population.
        """
        if self._scope._circuit.execution.mapped:
            return
        for given in (credit.activity, credit.somatic):
            if given is not None and given.device.type == "cpu" and not bool(given.sum().isfinite()):
                if bool(given.isfinite().all()) or not bool(self.activity.isfinite().all()):
                    continue
                raise DivergenceError(
                    f"rule {self._scope._rule.name!r} at {self.population!r}: its credit is NaN or infinite although the "
                    "activity is not: look for a division by zero or the logarithm of 0 in credit_at()"
                )

    def soma_of(self, credit: Credit, some: Rows = slice(None)) -> Tensor:
        """Return the credit at the soma of some rows, (rows, *neurons)."""
        if credit.somatic is not None:
            return credit.somatic[some]
        if credit.activity is None:
            raise NetworkError(f"population {self.population!r} was given no credit")
        return self.somatic(credit.activity[some], some)

    def selections(self, credit: Credit) -> list[Rows]:
        """Return the rows for which credit at the soma is computed at a time; those that are silent are left out."""
        if credit.somatic is not None:
            return [slice(None)]
        if credit.activity is None:
            return []
        learning = None if credit.silent is None else self.worth_selecting(~credit.silent)
        if learning is None:
            return list(chunks(self._anatomy, self.rows))
        return list(learning.split(rows_at_a_time(self._anatomy, self.rows))) if len(learning) else []

    def worth_selecting(self, learning: Tensor) -> Tensor | None:
        """Return the indices of the rows that learn, where they are few enough to be worth gathering; otherwise None."""
        if self._scope._circuit.execution.mapped or learning.device.type != "cpu":
            return None
        index = learning.nonzero()[:, 0]
        return index if len(index) <= limits.FEW_ROWS * self.rows else None

    def feedback(self, name: str) -> ApicalProjection:
        """Return one of the population's own feedback pathways. Needs what the pathway needs to learn.

        Raises
        ------
        LocalityError
            If it ends elsewhere or does not exist.
        """
        scope = self._here
        pathway = scope._network.pathways.get(name)
        projection = None if pathway is None else scope._circuit[name]
        if not isinstance(projection, ApicalProjection):
            raise LocalityError(
                f"rule {scope._rule.name!r} at {self.population!r}: there is no pathway {name!r}: "
                "add it in the rule's wire(network)"
            )
        if projection.pathway.post != self.population:
            raise LocalityError(f"rule {scope._rule.name!r} at {self.population!r}: pathway {name!r} ends elsewhere")
        for need in projection.pathway.needs:
            scope.demand(need, name)
        return projection

    def context(self, projection: ApicalProjection, online: bool) -> tuple[Tensor, Tensor | None]:
        """Return the context that a feedback pathway carries, (rows, source values), and which rows have one.

        Online it is the trace of the previous fixation; batched, the present response. Needs "lateral context" or
        "top-down activity".
        """
        scope, record = self._here, self._record
        if projection.pathway.post != self.population:
            raise LocalityError(
                f"rule {scope._rule.name!r} at {self.population!r}: pathway {projection.name!r} ends elsewhere"
            )
        need = "lateral context" if projection.is_lateral else "top-down activity"
        # At the top the direct feedback of the top is lateral.
        source = projection.pathway.pre
        scope.demand(need, projection.name, {"top-down activity"} if source == self.top else frozenset())
        if not online:
            return projection.signal(record.held[source]), None
        if record.context is None or record.traced is None:
            return projection.signal(record.output[source]), self.activity.new_zeros(self.rows).bool()
        return projection.signal(record.context[source]), record.traced

    def __repr__(self) -> str:
        return f"Site({self.population!r} for {self._scope._rule.name!r})"


def events_seen(moment: Moment, needs: frozenset[str]) -> list[Event]:
    """Return the events of a moment that a rule with these needs may see."""
    return [event for event in moment if visible(type(event), needs)]


def handles_several(rule: Rule) -> bool:
    """Return whether a rule has declared that it handles several populations at once."""
    return bool(known_needs(rule.needs, rule.name) & (_BEYOND | {"broadcast error"}))
