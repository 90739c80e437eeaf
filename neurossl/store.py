"""Where a simulation puts what it records: a contract that simulation and storage share without knowing each other.

Records lie along one axis of moments, event 0 being the state before the first update. `analysis.TrajectoryWriter` is a
`Store` on the disk; a test may use one in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Variable(NamedTuple):
    """What one recorded variable is.

    Attributes
    ----------
    dims : tuple of str
        Its axes behind that of the moments; ``()`` for a number.
    units : str
        ``"1"`` where it has none.
    description : str
        What it means, in a few words.
    dtype : str
        Number type with which it is stored: ``"float64"``, ``"float32"``, a whole number type or ``"bool"``. Of weights and
        updates that of the first record counts.
    """

    dims: tuple[str, ...]
    units: str = "1"
    description: str = ""
    dtype: str = "float64"


Coords = Mapping[str, tuple[str | tuple[str, ...], np.ndarray]]
"""What lies along the axes and never changes, as xarray writes it: name to (dimension or dimensions, values)."""


class Store(Protocol):
    """Where the records of one run go.

    Attributes
    ----------
    path : Path or None
        The folder of the run; None where there is none, as in memory.
    """

    @property
    def path(self) -> Path | None:
        """The folder of the run; None where there is none."""

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Say what the run is, once, before the first record."""

    def amend(self, members: Mapping[str, Any]) -> None:
        """Add to what was described, such as an intervention."""

    def announce(self, expected_bytes: int) -> str:
        """Say how much the run will store, in words, and refuse it where there is not so much room."""

    def declare(
        self,
        kind: str,
        name: str,
        variables: Mapping[str, Variable],
        coords: Coords = ...,
        attrs: Mapping[str, Any] = ...,
    ) -> None:
        """Say once what will be recorded under a kind and name: ``("weights", "V1->V2")``, ``("scores", "V1")``."""

    def record(self, kind: str, name: str, event: int, time: float, observers_seen: int, values: Mapping[str, Any]) -> None:
        """Keep a copy of values after ``event`` learning moments, at ``time`` (s, biological)."""

    def commit(self) -> dict[str, Any]:
        """Make everything recorded so far durable, and return a position (JSON) to which `rewind` can come back."""

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Forget, durably, everything recorded after a position."""

    def close(self, state: str = "finished", reason: str | None = None, **members: Any) -> None:
        """End the run as finished, failed or interrupted."""
