"""The clock of a simulation and what is to happen when: exact, counted in fractions of a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from neurossl.errors import EventError, OptionError
from neurossl.units import exact

Function = Callable[[Any], Any]


@dataclass(eq=False)
class Intervention:
    """A function of the simulation, and when it is called.

    Attributes
    ----------
    kind : {"at", "every", "when"}
    function : callable
    due : Fraction
        Of at and every: the biological time (s) at or after which the next moment is preceded by it.
    period : Fraction
        Of every.
    condition : callable, optional
        Of when.
    """

    kind: str
    function: Function
    due: Fraction = Fraction(0)
    period: Fraction = Fraction(0)
    condition: Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        self.asked = self.due

    @property
    def label(self) -> str:
        """What tells it from others when a run goes on in another process."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        when = self.period if self.kind == "every" else self.asked if self.kind == "at" else ""
        return f"{self.kind} {when} {name}"

    @property
    def description(self) -> dict[str, Any]:
        """What a stored run says about it."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return {"scheduled": self.kind, "function": name}


class Schedule:
    """Biological time, and the interventions that wait for it."""

    def __init__(self) -> None:
        self.time = Fraction(0)
        self._waiting: list[Intervention] = []
        self._planned: list[Intervention] = []
        self._past: dict[str, list[Fraction | None]] = {}
        self._history: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, intervention: Intervention) -> None:
        """Let an intervention wait; one that a restored state has seen already does not happen again."""
        self._planned.append(intervention)
        self._wait(intervention)

    def _wait(self, intervention: Intervention) -> None:
        past = self._past.get(intervention.label)
        if past:
            due = past.pop(0)
            if due is None:
                return
            intervention.due = due
        self._waiting.append(intervention)

    def at(self, time: Any, function: Function) -> None:
        """Let a function wait for a time."""
        self.add(Intervention("at", function, exact(time, "at")))

    def every(self, interval: Any, function: Function) -> None:
        """Let a function wait for every end of an interval."""
        period = exact(interval, "every")
        if period <= 0:
            raise OptionError(f"every: expected a time > 0 s, got {interval!r}")
        self.add(Intervention("every", function, self.time + period, period))

    def when(self, condition: Callable[[Any], bool], function: Function) -> None:
        """Let a function wait for a condition."""
        self.add(Intervention("when", function, condition=condition))

    def lost(self) -> list[str]:
        """Return what was planned when a state was taken, and has not been asked for again."""
        return [label for label, dues in self._past.items() for due in dues if due is not None]

    def unreached(self) -> list[str]:
        """Return what waits for a time that has not come."""
        return [i.label for i in self._waiting if i.kind == "at" and i.due > self.time]

    def due(self, simulation: Any, duration: Fraction) -> list[Intervention]:
        """Return what is to happen before a moment of this duration (s), in the order of its times.

        Raises
        ------
        EventError
            If an interval is shorter than the moment: there is no time between moments at which it could happen.
        """
        found = []
        for intervention in list(self._waiting):
            if intervention.kind == "every" and intervention.period < duration:
                raise EventError(
                    f"every({float(intervention.period):g}): moments last {float(duration):g} s and nothing happens between "
                    "them: give an interval of at least that"
                )
            if intervention.kind == "when":
                assert intervention.condition is not None, "when has a condition"
                happens = bool(intervention.condition(simulation))
            else:
                happens = intervention.due <= self.time
            if happens:
                found.append((intervention.due, intervention))
                if intervention.kind == "every":
                    while intervention.due <= self.time:
                        intervention.due += intervention.period
                else:
                    self._waiting.remove(intervention)
                    self._history.append(intervention.label)
        return [intervention for _, intervention in sorted(found, key=lambda pair: pair[0])]

    def state(self) -> dict[str, Any]:
        """Return the time and what has happened, as plain values."""
        waiting = [(i.label, str(i.due)) for i in self._waiting]
        waiting += [(label, str(due)) for label, dues in self._past.items() for due in dues if due is not None]
        return {"time": str(self.time), "waiting": waiting, "past": list(self._history)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken: what has happened by then does not happen again, what has not, will."""
        self._waiting, self._history = [], []
        self.time = Fraction(state["time"])
        self._past = {}
        for label in state["past"]:
            self._past.setdefault(label, []).append(None)
            self._history.append(label)
        for label, due in state["waiting"]:
            self._past.setdefault(label, []).append(Fraction(due))
        for intervention in self._planned:
            intervention.due = intervention.asked
            if intervention.kind == "every" and intervention.label not in self._past:
                intervention.due = self.time + intervention.period  # planned after the state was taken: from there on
            self._wait(intervention)
