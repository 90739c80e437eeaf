"""Projections of predictions with fewer weights: through interneurons, and from nearby cells (`anatomy.prediction`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.anatomy.prediction import BandedPathway, LowRankPathway
from neurossl.anatomy.shapes import Shape
from neurossl.engine.projections import ApicalProjection, Held
from neurossl.engine.updates import Update, room_for


class LowRankProjection(ApicalProjection):
    """``B = U V`` through interneurons; this is U."""

    pathway: LowRankPathway
    is_dense = False

    @property
    def through(self) -> ApicalProjection:
        """V, from the source to the interneurons."""
        through = self._circuit[self.pathway.through]
        assert isinstance(through, ApicalProjection), "interneurons are reached by an apical pathway"
        return through

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input ``U (V s)``: (rows, target values)."""
        return super().apical(self.through.apical(signal))

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j (V s)_i``."""
        return super().hebbian(self.through.apical(signal), apical_credit)

    def changes(self, signal: Tensor, apical_credit: Tensor) -> list[tuple[str, Update]]:
        """Return the updates of U and V, both with the weights as they are."""
        own = super().changes(signal, apical_credit)
        return own + self.through.changes(signal, self.factor(apical_credit) @ self.operand)

    def dense(self) -> Tensor:
        """Return B, (target values, source values)."""
        return self.weight @ self.through.weight


class BandedProjection(ApicalProjection):
    """Prediction of every cell from those within a distance."""

    pathway: BandedPathway
    is_dense = False

    def __init__(self, pathway: BandedPathway, circuit: Held) -> None:
        super().__init__(pathway, circuit)
        self._window = torch.from_numpy(pathway.window)

    def _place(self, like: Tensor) -> Tensor:
        """Return which source cells every target cell sees, on the device of a tensor."""
        if self._window.device != like.device:
            self._window = self._window.to(like.device)
        return self._window

    def _by_cell(self, weight: Tensor) -> Tensor:
        """Return weights by channel, cell and what it sees, (channels, cells, window times source channels)."""
        # Without a copy where kernels lie channels last in memory.
        cells, seen = self.pathway.window.shape
        return weight.permute(0, 2, 3, 1).reshape(-1, cells, seen * self.pathway.weight_shape[1])

    def _seen(self, signal: Tensor) -> Tensor:
        """Return what every target cell sees, silence where a cell is too far away: (cells, rows, presynaptic values)."""
        window = self._place(signal)
        cells = signal.unflatten(1, (self.pathway.weight_shape[1], self.pathway.cells)).permute(2, 0, 1)
        seen = F.pad(cells, (0, 0, 0, 0, 0, 1)).index_select(0, window.flatten())
        return seen.unflatten(0, window.shape).transpose(1, 2).flatten(2)

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input of every cell: (rows, target values)."""
        seen, weight = self._seen(self.factor(signal)), self._by_cell(self.operand)
        return torch.bmm(seen, weight.permute(1, 2, 0)).permute(1, 2, 0).flatten(1).to(self.weight.dtype)

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j s_i`` for the cells within the distance."""
        credit = self.factor(apical_credit / len(signal)).unflatten(1, (-1, len(self.pathway.window)))
        return _WindowProduct(
            credit.permute(2, 1, 0).contiguous(), self._seen(self.factor(signal)), self.pathway.weight_shape
        )

    def dense(self, weight: Tensor | None = None) -> Tensor:
        """Return the weights, or an update, as a matrix between all values: (target values, source values)."""
        by_cell = self._by_cell(self.weight if weight is None else weight)
        window = self._place(by_cell)
        channels = self.pathway.weight_shape[1]
        by_cell = by_cell.unflatten(2, (window.shape[1], channels))
        matrix = by_cell.new_zeros(*by_cell.shape[:2], self.pathway.cells + 1, channels)
        matrix.scatter_(2, window[None, :, :, None].expand_as(by_cell), by_cell)
        return matrix[:, :, :-1].transpose(2, 3).reshape(self.pathway.weight_shape[0], -1)


class _WindowProduct(Update):
    """The Hebbian change of a banded pathway, computed when and as far as it is needed.

    Parameters
    ----------
    postsynaptic : Tensor, (target cells, target channels, rows)
    seen : Tensor, (target cells, rows, presynaptic values)
    shape : tuple of int
        Of the weights.
    """

    def __init__(self, postsynaptic: Tensor, seen: Tensor, shape: Shape) -> None:
        self._weight = None
        self._factors = postsynaptic, seen
        self._shape = shape
        self.bias = None

    @property
    def weight(self) -> Tensor:
        """Change of the weights, shaped like them."""
        if self._weight is None:
            self._weight = self._shaped(torch.bmm(*self._factors).transpose(0, 1))
        return self._weight

    def rows(self, first: int, last: int, rooms: dict[torch.dtype, Tensor]) -> Tensor:
        """Return the change of the synapses onto some postsynaptic neurons; valid until ``rooms`` are used again."""
        if self._weight is not None:
            return self._weight[first:last]
        postsynaptic, seen = self._factors
        cells = len(seen)
        low, high = first // cells, -(-last // cells)
        found = room_for((high - low) * cells, seen, rooms)
        by_cell = found.view(high - low, cells, -1)
        for cell in range(cells):
            # Into its place, which a batched product would have to be copied to.
            torch.mm(postsynaptic[cell, low:high], seen[cell], out=by_cell[:, cell])
        return self._shaped(found[first - low * cells : last - low * cells])

    def _shaped(self, found: Tensor) -> Tensor:
        """Return changes (neurons, presynaptic values) as the kernels of these neurons."""
        _, pre, *window = self._shape
        return found.reshape(-1, *window, pre).permute(0, 3, 1, 2)
