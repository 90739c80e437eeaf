"""Recorders: observers of a simulation that hand what they see to a sink that they do not know.

A recorder never changes a result: it draws from generators of its own and leaves the weights as they were. Event n is the
state after the n-th learning moment; event 0 the state before the first.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from neurossl.activity import Activity
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.network import Network
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


class Sink(Protocol):
    """Where recorders put what they see; `analysis.TrajectoryWriter` is one."""

    def declare(
        self,
        kind: str,
        name: str,
        dims: Mapping[str, tuple[str, ...]],
        coords: Mapping[str, tuple[str, np.ndarray]] = ...,
        attrs: Mapping[str, Any] = ...,
    ) -> None:
        """Say once what the records of a kind and name will look like."""

    def record(self, kind: str, name: str, event: int, time: float, observers_seen: int, values: Mapping[str, Any]) -> None:
        """Take one record."""


class Recorder:
    """Base of all recorders.

    Parameters
    ----------
    sink : Sink
    every : int
        Learning moments between records.
    """

    wants_updates = False

    def __init__(self, sink: Sink, every: int) -> None:
        if not isinstance(every, int) or every < 1:
            raise OptionError(f"{type(self).__name__}: every must be a whole number of moments >= 1, got {every!r}")
        self.sink = sink
        self.every = every

    def wire(self, network: Network) -> None:
        """Add the pathways that the recorder's reference needs."""

    def due(self, event: int) -> bool:
        """Return whether this moment is to be recorded."""
        return event % self.every == 0

    def start(self, simulation: "Simulation") -> None:
        """Declare, and record the state before the first update."""

    def before(self, simulation: "Simulation", activity: Activity, moment: Moment) -> None:
        """See a moment after its sweep and before its update."""

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """See a moment after its update."""

    def end(self, simulation: "Simulation") -> None:
        """See the end of a run."""

    def _record(self, simulation: "Simulation", kind: str, name: str, values: Mapping[str, Any]) -> None:
        self.sink.record(kind, name, simulation.event, simulation.time, simulation.observers_seen, values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(every {self.every} moments)"
