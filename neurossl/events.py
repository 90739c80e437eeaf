"""Events: what happens to the observers, and when.

A simulation is a stream of *moments*; a moment groups the events that happen together and ends in one update. Rows come
first in every tensor. A row is one fixation of one observer, so an observer that sees two views of an object within one
moment contributes two rows.

* Online (the biology): one row per observer, one fixation at a time. The context of a fixation is the *trace* of the
  previous one; a `Saccade` says that the eyes have left the object, which flips the sign of the neuromodulator.
* Batched (the GPU): both views of every object are rows of one `Fixation`; ``partner`` names the row that shows the same
  object, ``Saccade.landing`` the rows of other objects on which a saccade from there would have landed.

Both describe the same transitions (context row, target row, sign); see `neurossl.plasticity.objectives`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from neurossl.errors import EventError
from neurossl.units import seconds


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens. Base class of all events."""


@dataclass(frozen=True, eq=False)
class Fixation(Event):
    """The eyes rest on an object.

    Parameters
    ----------
    stimulus : Tensor, (rows, *input population shape), dimensionless
    partner : Tensor of int64, (rows,), optional
        Row that shows the same object in the other view. Absent online, where the trace takes its place.
    """

    stimulus: Tensor
    partner: Tensor | None = None

    def __post_init__(self) -> None:
        if self.partner is not None and len(self.partner) != len(self.stimulus):
            raise EventError(
                f"Fixation.partner: expected one row index per stimulus row ({len(self.stimulus)}), got {len(self.partner)}"
            )


@dataclass(frozen=True, eq=False)
class Saccade(Event):
    """The eyes leave the object.

    Parameters
    ----------
    landing : Tensor of int64, (landings, rows), optional
        Batched: for every context row, the stimulus rows on which the saccades land. Gradients of the published rule flow
        into the response to the landing row, never into the context.
    observers : Tensor of bool, (rows,), optional
        Online: which observers made the saccade; all when absent.
    """

    landing: Tensor | None = None
    observers: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Teaching(Event):
    """The name of the object is told.

    Parameters
    ----------
    labels : Tensor of int64, (rows,)
    """

    labels: Tensor

    def one_hot(self, units: int, population: str) -> Tensor:
        """Return the labels as rows of 0 and 1, (rows, units); found once, since settling asks again at every step.

        Raises
        ------
        EventError
            If a label is none of the units; names the population that was to be taught.
        """
        found = vars(self).get("_one_hot")
        if found is None or found.shape[1] != units:
            labels = self.labels
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < units:
                raise EventError(
                    f"Teaching.labels: {int(labels.min())} to {int(labels.max())} do not fit the {units} units of "
                    f"{population!r}: give the top population one unit per class"
                )
            found = torch.nn.functional.one_hot(labels, units)
            vars(self)["_one_hot"] = found
        return found


@dataclass(frozen=True, eq=False)
class Phase(Event):
    """Wake or sleep, as in the forward-forward algorithm.

    Parameters
    ----------
    sign : Tensor, (rows,)
        +1 awake (real input), -1 asleep (fantasy).
    """

    sign: Tensor


@dataclass(frozen=True, eq=False)
class Neuromodulation(Event):
    """How much each observer learns from this moment.

    Parameters
    ----------
    gain : Tensor, (rows,)
        Multiplies the neuromodulator gamma; 0 makes an observer silent. For contrastive rules: of the fixation events.
    saccade_gain : Tensor, (rows,), optional
        Gain of the saccade events of contrastive rules; ``gain`` when absent.
    """

    gain: Tensor
    saccade_gain: Tensor | None = None


SomeEvent = TypeVar("SomeEvent", bound=Event)


class Moment:
    """Events that happen together, ending in one update.

    Parameters
    ----------
    *events : Event
        At most one of each type.
    duration : float (seconds) or Brian2 quantity
        Biological time that the moment lasts.
    observers : int, optional
        Number of observers; by default the number of rows.
    """

    def __init__(self, *events: Event, duration: Any = 0.25, observers: int | None = None) -> None:
        self._events = {type(event): event for event in events}
        if len(self._events) != len(events):
            raise EventError(f"Moment: each type of event at most once, got {[type(e).__name__ for e in events]}")
        self.duration = seconds(duration, "Moment.duration")
        fixation = self.get(Fixation)
        rows = 0 if fixation is None else len(fixation.stimulus)
        self.observers = rows if observers is None else int(observers)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events.values())

    def __contains__(self, event_type: type[Event]) -> bool:
        return event_type in self._events

    def get(self, event_type: type[SomeEvent]) -> SomeEvent | None:
        """Return the event of this type, or None."""
        return self._events.get(event_type)  # type: ignore[return-value]

    def require(self, event_type: type[SomeEvent], by: str) -> SomeEvent:
        """Return the event of this type.

        Raises
        ------
        EventError
            If the moment has none; the message names who asked.
        """
        event = self.get(event_type)
        if event is None:
            has = ", ".join(t.__name__ for t in self._events) or "nothing"
            raise EventError(f"{by} waits for a {event_type.__name__} event, but the moment has {has}")
        return event

    def with_events(self, *events: Event) -> "Moment":
        """Return a copy with these events added or replaced."""
        merged = {**self._events, **{type(event): event for event in events}}
        return Moment(*merged.values(), duration=self.duration, observers=self.observers or None)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Moment":
        """Return the moment with its tensors on a device, floating ones in this dtype."""
        return Moment(*(_moved(e, device, dtype) for e in self), duration=self.duration, observers=self.observers or None)

    def __repr__(self) -> str:
        return f"Moment({', '.join(t.__name__ for t in self._events)}; {self.observers} observers, {self.duration:g} s)"


def _moved(event: SomeEvent, device: torch.device, dtype: torch.dtype) -> SomeEvent:
    """Return the event with its tensors moved."""
    moved = {
        name: value.to(device, dtype if value.is_floating_point() else None) if isinstance(value, Tensor) else value
        for name, value in ((f.name, getattr(event, f.name)) for f in fields(event))
    }
    return type(event)(**moved)
