"""What a rule may see: locality is enforced, not promised.

A rule never gets hold of the circuit. It is handed a `Scope` of the moment's activity and, per population, a `Site` with
what is physically there: presynaptic activity, own drive and activity, own weights, own feedback synapses, own state.
Everything else has to be declared in the rule's ``needs`` with a word of `NEEDS`, and a rule that reaches for more is
refused, at every door through which it is called. The declarations of all rules are the ledger that comparisons print.

What Python cannot prevent (attributes with an underscore, global variables) is not prevented; what happens by accident is,
as far as it shows in what the rule says (`neurossl.plasticity.audit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.dynamics.activity import Activity
from neurossl.engine.projections import MirrorProjection, SomaticProjection
from neurossl.engine.updates import Update
from neurossl.errors import LocalityError, NetworkError
from neurossl.events import Moment
from neurossl.plasticity.guard import GuardedMoment, visible
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.needs import NEEDS, SEVERAL, known_needs
from neurossl.plasticity.site import Site

if TYPE_CHECKING:
    from neurossl.plasticity.rule import Rule

__all__ = ["GuardedMoment", "Scope", "Site", "visible"]


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
        """Return a moment as the rule may see it: labels, phases, neuromodulators, the stimulus only when declared."""
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
        """Which phase of the settling this is. Needs "phases"."""
        self.demand("phases", "all populations")
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
        self.demand("other populations", population, SEVERAL | ({"broadcast error"} if population == self.top else set()))
        site = Site(self, population)
        site.leave()
        return site

    def below(self, population: str) -> list[FeedforwardPathway]:
        """Return the feedforward pathways onto a population: their anatomy, not their weights."""
        return list(self._network.incoming(population))

    def transport(
        self, pathway: FeedforwardPathway, somatic: Tensor, mirrored: bool = False, signed: bool = False
    ) -> Tensor:
        """Return somatic credit of a pathway's target as credit on the activity of its source, (rows, *pre shape).

        Needs "weight transport", or "layerwise error" for the mirror pathway with weights of its own; both where the
        synapses of the mirror take the signs of the feedforward ones.
        """
        activity = self._activity.source[pathway.pre]
        if not mirrored or signed:
            self.demand("weight transport", pathway.name)
        if not mirrored:
            return self._somatic(pathway).transpose(somatic, activity)
        self.demand("layerwise error", pathway.name)
        return self._mirror(pathway).apical(somatic, activity, signed)

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
            What they send, and what `Site.value` then is; the others send their activity.
        first : bool
            Whether the weights are those of the first sweep, so that what is sent the same as then responds as then.
        phase : str
            Name of the phase, for `Site.phase`.
        """
        self.demand("settling", "all populations")
        self._fits("values", values, self._network.order)
        return self._swept(values, {}, first, phase)

    def perturb(self, errors: Mapping[str, Tensor], phase: str = "") -> Scope:
        """Return the scope of a sweep in which the populations send their activity plus these errors. Needs "settling".

        Parameters
        ----------
        errors : mapping of str to Tensor, (rows, *population shape)
            What they add; `Site.value` then is the sum, and `Site.activity` what it has been added to.
        phase : str
            Name of the phase, for `Site.phase`.
        """
        self.demand("settling", "all populations")
        self._fits("errors", errors, self._network.order)
        return self._swept({}, errors, True, phase)

    def _swept(self, values: Mapping[str, Tensor], errors: Mapping[str, Tensor], first: bool, phase: str) -> Scope:
        swept = self._circuit.sweep(self._activity.stimulus, values, self._activity if first else None, errors)
        changes = {"context": self._activity.held, "traced": self._activity.traced, "phase": phase}
        return self._with(swept.with_changes(**changes))

    def _fits(self, what: str, given: Mapping[str, Tensor], populations: Sequence[str], at_soma: bool = False) -> None:
        """Refuse tensors of populations that have none, or of other shapes than their activity (or their neurons)."""
        for name, tensor in given.items():
            rule = f"rule {self._rule.name!r}: {what}"
            if name not in populations:
                raise NetworkError(f"{rule}: {name!r} has none here, only {', '.join(populations) or 'nobody'}")
            expected = tuple(self._activity.output[name].shape)
            if at_soma:
                expected = expected[0], *self._network.populations[name].neurons
            if tuple(tensor.shape) != expected:
                raise NetworkError(f"{rule} of {name!r} must have the shape {expected}, got {tuple(tensor.shape)}")

    def settled(
        self,
        errors: Mapping[str, Tensor] | None = None,
        notes: Mapping[str, Tensor] | None = None,
        phase: str = "",
        at_soma: bool = False,
    ) -> Scope:
        """Return the scope with these error neurons. Needs "settling".

        Parameters
        ----------
        errors : mapping of str to Tensor, (rows, *population shape), optional
        notes : mapping of str to Tensor, optional
            What is to be recorded.
        phase : str
            Name of the phase, for `Site.phase`.
        at_soma : bool
            Whether the errors are those of the neurons, (rows, *neurons), before their nonlinearity and pooling.
        """
        self.demand("settling", "all populations")
        self._fits("errors", errors or {}, self._network.order, at_soma)
        phase = phase or self._activity.phase
        return self._with(self._activity.with_changes(errors=dict(errors or {}), notes=dict(notes or {}), phase=phase))

    def __repr__(self) -> str:
        return f"Scope({self._activity!r} for {self._rule.name!r})"


def handles_several(rule: Rule) -> bool:
    """Return whether a rule has declared that it handles several populations at once."""
    return bool(known_needs(rule.needs, rule.name) & (SEVERAL | {"broadcast error"}))
