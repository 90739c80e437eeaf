"""Events: what happens to the observers, and when.

A simulation is a stream of *moments*; a moment groups the events that happen together and ends in one update. Rows come
first in every tensor. A row is one fixation of one observer, so an observer that sees two views of an object within one
moment contributes two rows.

* Online (the biology): one row per observer, one fixation at a time. The context of a fixation is the *trace* of the
  previous one; a `Saccade` says that the eyes have left the object, which flips the sign of the neuromodulator.
* Batched (the GPU): both views of every object are rows of one `Fixation`; ``partner`` names the row that shows the same
  object, ``Saccade.negatives`` the rows of other objects on which a saccade from there would have landed.

Both describe the same transitions (context row, target row, sign); see `neurossl.plasticity.objectives`.
"""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import EventError
from neurossl.units import seconds, without_unit

Numbers = Any
"""A tensor, or what `torch.as_tensor` makes one of: an array of numpy, a list."""


_PARTS: dict[type[Any], tuple[str, ...]] = {}


def parts_of(event_type: type[Any]) -> tuple[str, ...]:
    """Return the names of the parts of a type of event; found once per type, since every moment asks."""
    known = _PARTS.get(event_type)
    if known is None:
        known = _PARTS[event_type] = tuple(part.name for part in fields(event_type))
    return known


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens. Base class of all events."""

    def _tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor | None:
        """Turn what was given under a name into a tensor, and return it."""
        given = getattr(self, name)
        if given is None:
            return None
        where = f"{type(self).__name__}.{name}"
        without_unit(given, where, EventError)
        try:
            tensor = given if isinstance(given, Tensor) else torch.as_tensor(given, device="cpu")
        except (TypeError, ValueError, RuntimeError) as reason:
            expected = "numbers of classes, not their names" if name == "labels" else "a tensor or an array of numbers"
            raise EventError(f"{where}: expected {expected} ({str(reason).splitlines()[0]})") from None
        if dtype == torch.int64 and (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
            raise EventError(f"{where}: expected whole numbers, got {str(tensor.dtype).removeprefix('torch.')}")
        tensor = tensor if dtype is None else tensor.to(dtype)
        object.__setattr__(self, name, tensor)
        return tensor

    def _rows(self, name: str, tensor: Tensor | None, rows: int) -> None:
        """Refuse indices that are none of the rows; those on another device are not read."""
        if tensor is None or tensor.device.type != "cpu" or not tensor.numel():
            return
        least, most = int(tensor.min()), int(tensor.max())
        if least < 0 or most >= rows:
            outside = least if least < 0 else most
            raise EventError(f"{type(self).__name__}.{name}: expected rows from 0 to {rows - 1}, got {outside}")

    def __repr__(self) -> str:
        shown = []
        for name in parts_of(type(self)):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                kind = str(value.dtype).removeprefix("torch.")
                shown.append(f"{name}={kind}{tuple(value.shape)}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, repr=False)
class Fixation(Event):
    """The eyes rest on an object.

    Parameters
    ----------
    stimulus : Tensor or array, (rows, *input population shape), dimensionless
        Whole numbers of 8 bits are pixels and become values from 0 to 1. Where a network has several input populations, a
        mapping of their names to what falls on each; it is kept as one tensor, (rows, values of all of them).
    partner : Tensor or array of int, (rows,), optional
        Row that shows the same object in the other view. Absent online, where the trace takes its place.
    inputs : tuple of str
        Names of the input populations, in the order in which their values stand in the stimulus; of a mapping.
    sizes : tuple of int
        How many values each of them has there.
    """

    stimulus: Numbers
    partner: Numbers = None
    inputs: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stimulus, Mapping):
            self._join(self.stimulus)
        stimulus, partner = self._tensor("stimulus"), self._tensor("partner", torch.int64)
        if stimulus is None or stimulus.ndim < 2:
            raise EventError("Fixation.stimulus: expected one row per fixation, (rows, *input shape)")
        if not len(stimulus):
            raise EventError("Fixation.stimulus: expected at least one row, got none")
        if stimulus.dtype == torch.uint8:
            object.__setattr__(self, "stimulus", stimulus.to(torch.float32) / 255)
        elif not stimulus.is_floating_point():
            kind = str(stimulus.dtype).removeprefix("torch.")
            raise EventError(f"Fixation.stimulus: expected floating-point numbers or uint8 pixels, got {kind}")
        if partner is not None and partner.shape != (len(stimulus),):
            raise EventError(
                f"Fixation.partner: expected one row index per stimulus row ({len(stimulus)}), got {tuple(partner.shape)}"
            )
        self._rows("partner", partner, len(stimulus))

    def _join(self, parts: Mapping[str, Numbers]) -> None:
        """Keep the stimuli of several input populations side by side."""
        tensors = [Fixation(part).stimulus for part in parts.values()]
        rows = sorted({len(tensor) for tensor in tensors})
        if len(rows) != 1:
            raise EventError(f"Fixation.stimulus: expected the same number of rows for {', '.join(parts)}, got {rows}")
        flat = [tensor.flatten(1) for tensor in tensors]
        object.__setattr__(self, "stimulus", torch.cat(flat, 1))
        object.__setattr__(self, "inputs", tuple(parts))
        object.__setattr__(self, "sizes", tuple(part.shape[1] for part in flat))


@dataclass(frozen=True, eq=False, repr=False)
class Saccade(Event):
    """The eyes leave the object.

    Parameters
    ----------
    negatives : Tensor or array of int, (negatives, rows), optional
        Batched: for every context row, the stimulus rows on which the saccades land. Gradients of the published rule flow
        into the response to the negative row, never into the context.
    observers : Tensor or array of bool, (rows,), optional
        Online: which observers made the saccade; all when absent.
    """

    negatives: Numbers = None
    observers: Numbers = None

    def __post_init__(self) -> None:
        negatives = self._tensor("negatives", torch.int64)
        if negatives is not None and negatives.ndim not in (1, 2):
            raise EventError(f"Saccade.negatives: expected (negatives, rows), got {tuple(negatives.shape)}")
        observers = self._tensor("observers")
        if observers is not None and observers.dtype != torch.bool:
            raise EventError("Saccade.observers: expected one truth value per row")


@dataclass(frozen=True, eq=False, repr=False)
class Succession(Event):
    """Many fixations of a sequence at once: which comes how much later, and where a saccade would have gone.

    Parameters
    ----------
    later : Tensor or array of int, (steps, rows)
        For every row the row of the fixation on the same object that comes 1, 2, ... steps later; -1 where there is none.
    elsewhere : Tensor or array of int, (2, steps, rows)
        Rows of other objects on which saccades in place of these would have landed: seen from the present (predictions)
        and, drawn by themselves, from what comes later (retrodictions).
    stays : Tensor or array of bool, (2, rows), optional
        Whether each row made the fixation, or else the saccade, again for both directions; both are taught when absent.
    """

    later: Numbers
    elsewhere: Numbers
    stays: Numbers = None

    def __post_init__(self) -> None:
        later, elsewhere = self._tensor("later", torch.int64), self._tensor("elsewhere", torch.int64)
        if later is None or later.ndim != 2:
            raise EventError(
                f"Succession.later: expected (steps, rows), got {None if later is None else tuple(later.shape)}"
            )
        if elsewhere is None or elsewhere.shape != (2, *later.shape):
            found = None if elsewhere is None else tuple(elsewhere.shape)
            raise EventError(f"Succession.elsewhere: expected (2, steps, rows) = {(2, *later.shape)}, got {found}")
        if later.device.type == "cpu" and later.numel() and int(later.min()) < -1:
            raise EventError(f"Succession.later: expected rows, or -1 where there is none, got {int(later.min())}")
        self._rows("later", later.clamp(min=0), later.shape[1])
        self._rows("elsewhere", elsewhere.clamp(min=0), later.shape[1])
        stays = self._tensor("stays")
        if stays is not None and (stays.dtype != torch.bool or stays.shape != (2, later.shape[1])):
            raise EventError(f"Succession.stays: expected a truth value per direction and row {(2, later.shape[1])}")


@dataclass(frozen=True, eq=False, repr=False)
class Teaching(Event):
    """The name of the object is told.

    Parameters
    ----------
    labels : Tensor or array of int, (rows,)
        Numbers of classes.
    """

    labels: Numbers

    def __post_init__(self) -> None:
        self._tensor("labels", torch.int64)

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


@dataclass(frozen=True, eq=False, repr=False)
class Phase(Event):
    """Wake or sleep, as in the forward-forward algorithm.

    Parameters
    ----------
    sign : Tensor, (rows,)
        +1 awake (real input), -1 asleep (fantasy).
    """

    sign: Numbers

    def __post_init__(self) -> None:
        sign = self._tensor("sign")
        if sign is not None and sign.device.type == "cpu" and bool((sign.abs() != 1).any()):
            raise EventError("Phase.sign: expected 1 (awake) or -1 (asleep) per row")


@dataclass(frozen=True, eq=False, repr=False)
class Neuromodulation(Event):
    """How much each observer learns from this moment.

    Parameters
    ----------
    gain : Tensor, (rows,)
        Multiplies the neuromodulator gamma; 0 makes an observer silent. For contrastive rules: of the fixation events.
    saccade_gain : Tensor, (rows,), optional
        Gain of the saccade events of contrastive rules; ``gain`` when absent.
    """

    gain: Numbers
    saccade_gain: Numbers = None

    def __post_init__(self) -> None:
        if self.gain is None:
            raise EventError("Neuromodulation.gain: expected a gain per row, got None")
        for name in ("gain", "saccade_gain"):
            tensor = self._tensor(name)
            if tensor is not None:
                if tensor.ndim != 1:
                    raise EventError(f"Neuromodulation.{name}: expected one gain per row, got {tuple(tensor.shape)}")
                if tensor.device.type == "cpu" and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise EventError(f"Neuromodulation.{name}: expected finite numbers, got {tensor.tolist()}")
                object.__setattr__(self, name, tensor if tensor.is_floating_point() else tensor.float())

    def is_silent(self, after_saccades: bool) -> bool:
        """Return whether no observer is to learn anything: every gain is 0, those after saccades where these count."""
        gains = [self.gain, *([self.saccade_gain] if after_saccades and self.saccade_gain is not None else [])]
        return all(gain.numel() > 0 and not bool(gain.any()) for gain in gains)


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
        fixation = self._events.get(Fixation)
        rows = len(fixation.stimulus) if isinstance(fixation, Fixation) and observers is None else 0
        self.observers = rows if observers is None else whole(observers, "Moment.observers", 0, error=EventError)

    @property
    def events(self) -> tuple[Event, ...]:
        """All events."""
        return tuple(self._events.values())

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

    def check(self) -> None:
        """Refuse events whose rows are not those of the fixation.

        Raises
        ------
        EventError
            Naming the event, and both numbers of rows.
        """
        fixation = self._events.get(Fixation)
        if not isinstance(fixation, Fixation):
            return
        rows = len(fixation.stimulus)
        for event in self._events.values():
            name = type(event).__name__
            for part in parts_of(type(event)):
                value = getattr(event, part)
                if not isinstance(value, Tensor) or part == "stimulus" or not value.ndim:
                    continue
                if value.shape[-1] != rows:
                    raise EventError(f"{name}.{part}: expected one per row ({rows}), got {tuple(value.shape)}")
            if isinstance(event, Saccade):
                event._rows("negatives", event.negatives, rows)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Moment":
        """Return the moment with its tensors on a device, floating ones in this dtype."""
        return Moment(*(_moved(e, device, dtype) for e in self), duration=self.duration, observers=self.observers or None)

    def __repr__(self) -> str:
        return f"Moment({', '.join(t.__name__ for t in self._events)}; {self.observers} observers, {self.duration:g} s)"


def _moved(event: SomeEvent, device: torch.device, dtype: torch.dtype) -> SomeEvent:
    """Return the event with its tensors moved; they have been looked at already."""
    moved = copy(event)
    for part in parts_of(type(event)):
        value = getattr(event, part)
        if isinstance(value, Tensor):
            object.__setattr__(moved, part, value.to(device, dtype if value.is_floating_point() else None))
    return moved
