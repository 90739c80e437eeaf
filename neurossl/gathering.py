"""Events that come one after another, joined to moments from which a rule can learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from neurossl.errors import EventError
from neurossl.events import Event, Fixation, Moment
from neurossl.plasticity.rule import Rule
from neurossl.state import packed, unpacked


class Gathering:
    """What waits to be learned from: events for the next fixation, or a fixation for the events that a rule waits for.

    Parameters
    ----------
    rule : Rule
        Says what it waits for (`Rule.awaits`).
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.clear()

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting: list[Event] = []
        self._fixated: Moment | None = None

    def join(self, moment: Moment) -> Moment | None:
        """Return a moment with what has waited for it; None if it has no fixation, for which it waits now.

        Raises
        ------
        EventError
            If a fixation comes while another one waits, or the joined events do not fit.
        """
        if Fixation not in moment:
            if self._fixated is None:
                self._refuse_twice(moment)
                self._waiting += list(moment)
                return None
            joined = self._fixated.with_events(*moment)
        else:
            if self._fixated is not None:
                missing, self._fixated = self._missing(self._fixated), None
                raise EventError(f"{missing}, but got the next Fixation")
            if not self._waiting:
                return moment
            self._refuse_twice(moment)
            joined = moment.with_events(*self._waiting)
            self._waiting = []
        joined.check()
        return joined

    def _refuse_twice(self, moment: Moment) -> None:
        """Refuse an event of a type that waits already: one of them would be lost."""
        twice = [type(event).__name__ for event in self._waiting if type(event) in moment]
        if twice:
            raise EventError(f"a {twice[0]} event waits for a Fixation already: the next moment brings another one")

    def complete(self, moment: Moment) -> Moment | None:
        """Return a moment if it has all that the rule waits for; otherwise it waits, and None is returned."""
        self._fixated = moment if self._missing(moment) else None
        return None if self._fixated is not None else moment

    def end(self) -> None:
        """Refuse to end while something waits.

        Raises
        ------
        EventError
            Naming what is missing; it waits no longer.
        """
        waiting, fixated = self._waiting, self._fixated
        self.clear()
        if fixated is not None:
            raise EventError(f"{self._missing(fixated)}, but the stream ended")
        if waiting:
            raise EventError(
                f"the stream ended with a {type(waiting[0]).__name__} without a Fixation, from which nobody learned: add a "
                "Fixation to its moment, a blank one for instance"
            )

    @property
    def fixates(self) -> bool:
        """Whether a fixation waits for further events."""
        return self._fixated is not None

    def state(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return what waits, as named tensors below "waiting" and "held", and as plain values."""
        held = self._fixated
        tensors = {"waiting": packed(self._waiting), "held": packed(() if held is None else held.events)}
        values = {"duration": held and held.duration, "observers": held and held.observers}
        return tensors, values

    def restore(self, waiting: Mapping[str, Tensor], held: Mapping[str, Tensor], values: Mapping[str, Any]) -> Moment | None:
        """Let again wait what `state` returned; return the fixation that waited, to which somebody has to respond."""
        self.clear()
        self._waiting = unpacked(waiting)
        events = unpacked(held)
        return Moment(*events, duration=values["duration"], observers=values["observers"]) if events else None

    def _missing(self, moment: Moment) -> str:
        """Say for what the rule waits that a moment has not; nothing if it has all."""
        missing = [t.__name__ for t in self._rule.awaits if t not in moment]
        return f"rule {self._rule.name!r} waits for a {missing[0]} event after the Fixation" if missing else ""
