"""What an experimenter does to a running simulation, now or when its time has come; each act an entry of the stored run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.populations import Population
from neurossl.clock import Function, Schedule
from neurossl.dynamics.manipulations import Manipulation
from neurossl.engine.weights import Weights
from neurossl.errors import NetworkError, OptionError, TrajectoryError
from neurossl.store import Store
from neurossl.units import exact, without_unit


class Experimenter:
    """Lesions, frozen pathways, silenced, clamped and stimulated populations; a base of `Simulation`.

    Attributes
    ----------
    weights : Weights
    frozen : set of str
        Pathways that do not learn.
    manipulations : dict of Manipulation
        What is done to populations.
    moment : int
    time : float
    """

    weights: Weights
    store: Store | None
    moment: int

    def __init__(self) -> None:
        self.frozen: set[str] = set()
        self.manipulations: dict[str, Manipulation] = {}
        self._schedule = Schedule()
        self._log: list[dict[str, Any]] = []
        self._described = False
        self._is_running = False

    @property
    def time(self) -> float:
        """Biological time in seconds."""
        return float(self._schedule.time)

    def at(self, time: Any) -> Callable[[Function], Function]:
        """Call a function of the simulation once, before the first moment that begins at or after this biological time.

        Parameters
        ----------
        time : float (seconds) or Brian2 quantity
        """
        exact(time, "at")
        return lambda function: self._schedule_call(function, lambda f: self._schedule.at(time, f))

    def every(self, interval: Any) -> Callable[[Function], Function]:
        """Call a function of the simulation once per interval of biological time, the first time after one interval.

        Parameters
        ----------
        interval : float (seconds) or Brian2 quantity
            At least as long as a moment.
        """
        exact(interval, "every")
        return lambda function: self._schedule_call(function, lambda f: self._schedule.every(interval, f))

    def when(self, condition: Callable[[Any], bool]) -> Callable[[Function], Function]:
        """Call a function of the simulation once, before the first moment at which a condition holds.

        Parameters
        ----------
        condition : callable
            Of the simulation; asked before every moment.
        """
        if not callable(condition) or not _takes_one(condition):
            raise OptionError(f"when: expected a condition, a function of the simulation, got {condition!r}")
        return lambda function: self._schedule_call(function, lambda f: self._schedule.when(condition, f))

    @staticmethod
    def _schedule_call(function: Function, schedule: Callable[[Function], None]) -> Function:
        if not callable(function) or not _takes_one(function):
            raise OptionError(f"at, every, when: expected a function of the simulation, got {function!r}")
        schedule(function)
        return function

    @property
    def has_plans(self) -> bool:
        """Whether something is to be done to the simulation at some time."""
        return bool(self._schedule)

    def note(self, what: str, **about: Any) -> None:
        """Store that something was done to the simulation now."""
        self._log.append({"moment": self.moment, "time": self.time, "what": what, **about})
        self._store_log()

    def _store_log(self) -> None:
        """Store what has been done; what is done after a run has been closed is no part of it."""
        if self.store is None or not self._described:
            return
        try:
            self.store.amend({"interventions": self._log})
        except TrajectoryError:
            if self._is_running:
                raise

    @property
    def interventions(self) -> list[dict[str, Any]]:
        """What has been done to the simulation, as stored with the run."""
        return [dict(entry) for entry in self._log]

    def lesion(self, pathway: str) -> None:
        """Cut a pathway: its weights and biases become 0 and stay so.

        Raises
        ------
        NetworkError
            If there is no such pathway.
        """
        held = self.weights[pathway]
        with torch.no_grad():
            for parameter in held.present:
                parameter.zero_()
        self.weights.changed(pathway)
        self.frozen.add(pathway)
        self.note("lesion", pathway=pathway)

    def freeze(self, pathway: str) -> None:
        """Let a pathway keep its weights from now on."""
        self.weights.network.pathway(pathway)
        self.frozen.add(pathway)
        self.note("freeze", pathway=pathway)

    def thaw(self, pathway: str) -> None:
        """Let a frozen pathway learn again."""
        self.weights.network.pathway(pathway)
        self.frozen.discard(pathway)
        self.note("thaw", pathway=pathway)

    def silence(self, population: str) -> None:
        """Keep a population from sending anything, until `release`."""
        self._manipulate(population, "silence")

    def clamp(self, population: str, activity: Any) -> None:
        """Hold the activity of a population at a value, until `release`.

        Parameters
        ----------
        population : str
        activity : float, Tensor or array, broadcast to (*population shape), without a unit
        """
        shape = self._above(population).shape
        self._manipulate(population, "clamp", self._value(activity, shape, f"clamp({population!r})"))

    def stimulate(self, population: str, drive: Any) -> None:
        """Add a drive to that of the synapses of a population, until `release`.

        Parameters
        ----------
        population : str
        drive : float, Tensor or array, broadcast to (*neurons), without a unit
        """
        shape = self._above(population).neurons
        self._manipulate(population, "stimulate", self._value(drive, shape, f"stimulate({population!r})"))

    def release(self, population: str) -> None:
        """End what was done to a population."""
        self.weights.network.population(population)
        self.manipulations.pop(population, None)
        self.note("release", population=population)

    def _above(self, population: str) -> Population:
        found = self.weights.network.population(population)
        if found.is_input:
            raise NetworkError(
                f"{population!r} is the input population: change the stimulus instead, or lesion its pathways"
            )
        return found

    def _manipulate(self, population: str, kind: str, value: Tensor | None = None) -> None:
        self._above(population)
        self.manipulations[population] = Manipulation(kind, value)
        self.note(kind, population=population, **({} if value is None else {"value": _stored(value)}))

    def _value(self, given: Any, shape: tuple[int, ...], where: str) -> Tensor:
        weights = self.weights
        expected = f"{where}: expected a number or values of shape {shape}, got"
        without_unit(given, where, NetworkError)
        try:
            value = torch.as_tensor(given).to(weights.device, weights.dtype)
        except (TypeError, ValueError, RuntimeError):
            raise NetworkError(f"{expected} {given!r}") from None
        if not bool(value.isfinite().all()):
            raise NetworkError(f"{where}: expected finite values, got {'NaN' if bool(value.isnan().any()) else 'infinity'}")
        try:
            return value.expand(shape).clone()
        except RuntimeError:
            raise NetworkError(f"{expected} {tuple(value.shape)}") from None


def _takes_one(function: Callable[..., Any]) -> bool:
    """Return whether a function can be called with one argument, as far as that can be known."""
    with suppress(ValueError):  # of which nothing can be known
        try:
            signature(function).bind(None)
        except TypeError:
            return False
    return True


def _stored(value: Tensor) -> Any:
    """Return a value as the log keeps it: the number that it is everywhere, or the list of its numbers if it is short."""
    flat = value.flatten()
    if bool((flat == flat[0]).all()):
        return float(flat[0])
    few = flat[:LISTED].tolist()
    return few if len(flat) <= LISTED else {"shape": list(value.shape), "first": few, "mean": float(flat.mean())}


LISTED = 64
"""Numbers of a clamped activity or an injected drive that the log lists."""
