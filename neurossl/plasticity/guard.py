"""The moment as a rule may see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from neurossl.events import Event, Fixation, Moment, Neuromodulation, Phase, Saccade, SomeEvent, Succession, Teaching

if TYPE_CHECKING:
    from neurossl.plasticity.locality import Scope

_HIDDEN: dict[type[Event], str] = {
    Teaching: "target",
    Phase: "phases",
    Saccade: "neuromodulator",
    Succession: "neuromodulator",
    Neuromodulation: "neuromodulator",
}
"""Events that a rule sees only if it has declared the need."""


def visible(event_type: type[Event], needs: frozenset[str]) -> bool:
    """Return whether a rule with these needs sees events of a type."""
    return _HIDDEN.get(event_type) in {None, *needs}


class GuardedMoment(Moment):
    """A moment as a rule may see it: labels, phases, neuromodulators and the stimulus only when declared.

    Parameters
    ----------
    moment : Moment
    scope : Scope
        Knows what the rule has declared.
    where : str
        The population at which the rule looks.
    shows_stimulus : bool
        Whether the stimulus is what the synapses here see anyway.
    """

    def __init__(self, moment: Moment, scope: Scope, where: str = "all populations", shows_stimulus: bool = False) -> None:
        self._scope = scope
        self._where = where
        self._shows_stimulus = shows_stimulus
        super().__init__(*moment._events.values(), duration=moment.duration, observers=moment.observers or None)

    def get(self, event_type: type[SomeEvent]) -> SomeEvent | None:
        """Return the event of this type, or None; refuse it if the rule has not declared the need."""
        if event_type in _HIDDEN:
            self._scope.demand(_HIDDEN[event_type], f"a {event_type.__name__} event")
        event = super().get(event_type)
        if isinstance(event, Fixation) and not self._shows_stimulus:
            return _Fixated(event, self._scope, self._where)  # type: ignore[return-value]
        return event

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that the rule may see."""
        return tuple(self)

    def __iter__(self) -> Iterator[Event]:
        """Iterate over the events that the rule may see."""
        found = (self.get(type(event)) for event in super().__iter__() if visible(type(event), self._scope.needs))
        return (event for event in found if event is not None)

    def with_events(self, *events: Event) -> GuardedMoment:
        """Return a copy with these events added or replaced, as guarded as this one."""
        merged = {**self._events, **{type(event): event for event in events}}
        added = Moment(*merged.values(), duration=self.duration, observers=self.observers or None)
        return GuardedMoment(added, self._scope, self._where, self._shows_stimulus)


class _Fixated(Fixation):
    """A fixation whose stimulus is out of sight."""

    def __init__(self, fixation: Fixation, scope: Scope, where: str) -> None:
        object.__setattr__(self, "partner", fixation.partner)
        object.__setattr__(self, "_hidden", fixation)
        object.__setattr__(self, "_scope", scope)
        object.__setattr__(self, "_where", where)

    @property
    def stimulus(self) -> Tensor:
        """The stimulus. Needs "stimulus"."""
        self._scope.demand("stimulus", self._where)  # type: ignore[attr-defined]
        return self._hidden.stimulus  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return "Fixation(stimulus out of sight)" if self.partner is None else "Fixation(stimulus out of sight, partner)"
