"""What a rule may see: locality is enforced, not promised.

A rule never gets hold of the network. It is handed a `View` of an activity and, per population, a `Site` with what is
physically there: presynaptic activity, own drive and activity, own feedback synapses. Everything else has to be declared
in the rule's ``needs`` with a word of `NEEDS`, and a rule that reaches for more is refused. The declarations of all rules
are the ledger that comparisons print.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import LocalityError
from neurossl.events import Event, Moment, Phase, SomeEvent, Teaching
from neurossl.feedback import FeedbackPathway, MirrorPathway
from neurossl.network import Network
from neurossl.pathways import FeedforwardPathway, Pathway
from neurossl.populations import Rows
from neurossl.updates import Update

NEEDS: dict[str, str] = {
    "neuromodulator": "one scalar per observer, broadcast to the whole population",
    "lateral context": "the population's own response to the previous fixation, through its lateral pathway",
    "top-down activity": "the activity of a higher population, through a direct feedback pathway",
    "other observers": "responses of other observers at the same moment",
    "phases": "a clock that says which of two phases it is",
    "label in the stimulus": "an image with its name written into it",
    "target": "the name of the object",
    "broadcast error": "the error vector of the top population, through a direct feedback pathway",
    "layerwise error": "the error of the next population, through a feedback pathway of its own",
    "weight transport": "the weights of another pathway, transposed",
    "settling": "a period of relaxation before learning, with error neurons",
    "activity held": "the forward activity, held until feedback arrives",
}
"""What a rule can need beyond presynaptic activity, postsynaptic gate and own feedback synapses."""


FEW = 0.75
"""Fraction of learning rows up to which gathering them pays: what is gathered is read and written once more."""


class View:
    """An activity as a rule with these needs may see it.

    Parameters
    ----------
    activity : Activity
    needs : frozenset of str
        Words of `NEEDS`.
    rule : str
        Name of the rule, for error messages.
    population : str, optional
        The only population that is there to learn; all by default.
    """

    def __init__(self, activity: Activity, needs: frozenset[str], rule: str, population: str | None = None) -> None:
        self._population = population
        self._activity = activity
        self._network: Network = activity.network
        self._needs = needs
        self._rule = rule

    def _demand(self, need: str, where: str, alternatives: tuple[str, ...] = ()) -> None:
        if not self._needs & {need, *alternatives}:
            declared = ", ".join(sorted(self._needs)) or "nothing"
            raise LocalityError(
                f"rule {self._rule!r} at {where} reaches for {need!r} ({NEEDS[need]}), but declares {declared}: "
                f"add {need!r} to its needs"
            )

    @property
    def top(self) -> str:
        """Name of the last population."""
        return self._network.top

    @property
    def populations(self) -> list[str]:
        """Names of the populations above the input, in the order of the sweep."""
        return self._network.order

    def sites(self) -> Iterator["Site"]:
        """Yield the site of every population that has plastic synapses, in the order of the sweep."""
        for name in self._network.order if self._population is None else [self._population]:
            if any(p.plastic for p in self._network.incoming(name)):
                yield self.site(name)

    def site(self, population: str) -> "Site":
        """Return what is physically at a population."""
        return Site(self, population)

    def below(self, population: str) -> list[FeedforwardPathway]:
        """Return the feedforward pathways onto a population."""
        return self._network.incoming(population)

    def carried_down(self, pathway: FeedforwardPathway, somatic: Tensor, mirrored: bool = False) -> Tensor:
        """Return somatic credit of a pathway's target as credit on the activity of its source, (rows, *pre shape).

        Needs "weight transport", or "layerwise error" for the mirror pathway with weights of its own.
        """
        activity = self._activity.source[pathway.pre]
        if not mirrored:
            self._demand("weight transport", pathway.name)
            return pathway.transpose(somatic, activity)
        self._demand("layerwise error", pathway.name)
        return self.mirror(pathway).apical(somatic, activity)

    def carried_onto(
        self,
        base: Tensor,
        pathway: FeedforwardPathway,
        somatic: Tensor,
        factor: float,
        mirrored: bool = False,
        overwrite: bool = False,
    ) -> Tensor:
        """Return ``base``, which may be overwritten, plus a factor times what `carried_down` returns, (rows, *pre shape)."""
        if mirrored:
            return base + factor * self.carried_down(pathway, somatic, mirrored)
        self._demand("weight transport", pathway.name)
        mine = overwrite and not self._network.is_mapped
        return pathway.transposed_onto(base, somatic, self._activity.source[pathway.pre], factor, mine)

    def mirror(self, pathway: FeedforwardPathway) -> MirrorPathway:
        """Return the pathway ``post=>pre`` that mirrors a feedforward pathway."""
        mirror = self._network.pathways.get(f"{pathway.post}=>{pathway.pre}")
        if not isinstance(mirror, MirrorPathway):
            raise LocalityError(
                f"rule {self._rule!r}: {pathway.name!r} has no mirror pathway: call rule.wire(network) first"
            )
        return mirror

    def broadcast(self, credit: Tensor, population: str) -> Tensor:
        """Return credit of the top as it arrives at a population through ``top=>population``. Needs "broadcast error"."""
        self._demand("broadcast error", population)
        pathway = self.site(population).feedback(f"{self.top}=>{population}")
        return pathway.delivered(pathway.error_signal(credit))

    def predict(self, values: Mapping[str, Tensor], first: bool = True) -> "View":
        """Return the view of a sweep in which the populations send these values upwards. Needs "settling"."""
        self._demand("settling", "all populations")
        stimulus = self._activity.output[self._network.input.name]
        swept = self._network.sweep(stimulus, values, first=self._activity if first else None)
        held = self._activity.output if self._activity.context is None else self._activity.context
        return View(swept.with_changes(context=held, traced=self._activity.traced), self._needs, self._rule)

    def settled(self, errors: Mapping[str, Tensor], notes: Mapping[str, Tensor] | None = None) -> Activity:
        """Return the activity with these error neurons. Needs "settling"."""
        self._demand("settling", "all populations")
        return self._activity.with_changes(errors=dict(errors), notes=dict(notes or {}))


class Site:
    """What is physically at one population.

    Attributes
    ----------
    population : str
    activity : Tensor, (rows, *shape)
    """

    def __init__(self, view: View, population: str) -> None:
        self._view = view
        self._record = view._activity
        self._population = view._network.populations[population]
        self.population = population
        self.activity = self._record.output[population]

    @property
    def top(self) -> str:
        """Name of the last population (anatomy, not activity)."""
        return self._view.top

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.activity)

    @property
    def presynaptic(self) -> dict[str, Tensor]:
        """What the synapses of every incoming pathway saw."""
        return {p.name: self._record.presynaptic[p.name] for p in self._view.below(self.population)}

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
        self._view._demand("settling", self.population)
        return self._record.errors[self.population]

    def somatic(self, credit: Tensor, some: Rows = slice(None)) -> Tensor:
        """Return credit on the activity of some rows as credit at the soma: un-pooled and gated."""
        response = self._record.responses[self.population]
        return self._population.somatic(credit.to(self.activity.dtype), response.rows(some))

    def chunks(self) -> list[Rows]:
        """Return the rows for which credit at the soma is computed at a time."""
        return list(self._population.chunks(self.rows))

    @property
    def rows_at_a_time(self) -> int:
        """How many rows that is."""
        return self._population.rows_at_a_time(self.rows)

    def worth_selecting(self, learning: Tensor) -> Tensor | None:
        """Return the indices of the rows that learn, where they are few enough to be worth gathering; otherwise None."""
        if self._view._network.is_mapped or learning.device.type != "cpu":
            return None
        index = learning.nonzero()[:, 0]
        return index if len(index) <= FEW * self.rows else None

    def feedback(self, name: str) -> FeedbackPathway:
        """Return one of the population's own feedback pathways. Needs what the pathway needs to learn.

        Raises
        ------
        LocalityError
            If it ends elsewhere or does not exist.
        """
        pathway = self._view._network.pathways.get(name)
        if not isinstance(pathway, FeedbackPathway):
            raise LocalityError(
                f"rule {self._view._rule!r} at {self.population!r}: there is no pathway {name!r}: "
                "call rule.wire(network) first"
            )
        if pathway.post != self.population:
            raise LocalityError(f"rule {self._view._rule!r} at {self.population!r}: pathway {name!r} ends elsewhere")
        for need in pathway.needs:
            self._view._demand(need, name)
        return pathway

    def context(self, pathway: FeedbackPathway, online: bool) -> tuple[Tensor, Tensor | None]:
        """Return the context that a feedback pathway carries, (rows, source values), and which rows have one.

        Online it is the trace of the previous fixation; batched, the present response. Needs "lateral context" or
        "top-down activity".
        """
        need = "lateral context" if pathway.is_lateral else "top-down activity"
        # At the top the direct feedback of the top is lateral.
        self._view._demand(need, pathway.name, ("top-down activity",) if pathway.pre == self.top else ())
        record = self._record
        if not online:
            responses = record.output if record.context is None else record.context
            return pathway.signal(responses[pathway.pre]), None
        if record.context is None or record.traced is None:
            return pathway.signal(record.output[pathway.pre]), self.activity.new_zeros(self.rows).bool()
        return pathway.signal(record.context[pathway.pre]), record.traced


_HIDDEN: dict[type[Event], str] = {Teaching: "target", Phase: "phases"}
"""Events that a rule sees only if it has declared the need."""


def visible(event_type: type[Event], needs: frozenset[str]) -> bool:
    """Return whether a rule with these needs sees events of a type."""
    return _HIDDEN.get(event_type) in {None, *needs}


class GuardedMoment(Moment):
    """A moment as a rule with these needs may see it: labels and phases only when declared."""

    def __init__(self, moment: Moment, view: View) -> None:
        self._view = view
        super().__init__(*moment, duration=moment.duration, observers=moment.observers or None)

    def get(self, event_type: type[SomeEvent]) -> SomeEvent | None:
        """Return the event of this type, or None; refuse it if the rule has not declared the need."""
        if event_type in _HIDDEN:
            self._view._demand(_HIDDEN[event_type], f"a {event_type.__name__} event")
        return super().get(event_type)

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events that the rule may see."""
        return (e for e in super().__iter__() if visible(type(e), self._view._needs))

    def with_events(self, *events: Event) -> "GuardedMoment":
        """Return a copy with these events added or replaced, as guarded as this one."""
        return GuardedMoment(super().with_events(*events), self._view)


Proposal = Iterator[tuple[Pathway, Update]]
