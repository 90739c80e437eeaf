"""Recorders of what there is at a moment: before the first update, every so often, and at the end, each moment once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation


class SnapshotRecorder(Recorder):
    """Base of recorders whose first record is the state before the first update, and whose last is the final one.

    Parameters
    ----------
    kind : str
    every : int
        Moments between snapshots.
    """

    def __init__(self, kind: str, every: int) -> None:
        super().__init__(kind=kind, every=every)
        self._last = -1

    @abstractmethod
    def save(self, now: Observation) -> None:
        """Record what there is now."""

    def begin(self, now: Observation) -> None:
        """Declare, and record what there is before the first update."""
        super().begin(now)
        self._save_once(now)

    def after(self, now: Observation) -> None:
        """Record what there is after an update."""
        self._save_once(now)

    def end(self, now: Observation) -> None:
        """Record what there is at the end."""
        self._save_once(now)

    def detach(self) -> None:
        """Give the store back, and forget what was seen of its simulation."""
        super().detach()
        self._last = -1

    def state(self) -> dict[str, Tensor]:
        """Return the moment of the last snapshot."""
        return {"last": torch.tensor(self._last)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember the moment of the last snapshot."""
        self._last = int(state["last"])

    def _save_once(self, now: Observation) -> None:
        if self._last != now.moment:
            self._last = now.moment
            self.save(now)
