"""Prediction pathways with fewer weights than one between every pair of values.

A score ``u = z . B c`` between two maps of cells needs one weight of B per pair of values: 201 million in the six-layer
network of CLAPP++ (Wu et al. 2026, arXiv 2601.21683) at full size. Two cheaper forms, chosen by a word (`PredictionForm`):

    low-rank:64    B = U V through 64 interneurons:  dU = mean of  d outer V c,  dV = mean of  U^T d outer c  over rows
    banded:1       a cell is predicted from the cells within one cell of its own place alone

where d is the credit at the dendrite; dU and dV are what ``dB = mean of d outer c`` becomes by the chain rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import NetworkError, OptionError
from neurossl.feedback import FeedbackPathway, Pool, pooled_shape
from neurossl.pathways import Pathway
from neurossl.populations import Population, Shape
from neurossl.updates import Update, room_for


class ProjectionPathway(FeedbackPathway):
    """Synapses onto a few interneurons beside the target: ``source=>target:label``, dense.

    Parameters
    ----------
    source, target : str
    interneurons : int
    **options
        As for `FeedbackPathway`.

    Attributes
    ----------
    weight : Tensor, (interneurons, source values)
    """

    def __init__(self, source: str, target: str, interneurons: int, **options: Any) -> None:
        super().__init__(source, target, **options)
        if interneurons < 1:
            raise NetworkError(f"pathway {self.name!r}: expected at least 1 interneuron, got {interneurons}")
        self.interneurons = interneurons

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights."""
        super().join(pre, post)
        self.weight_shape = (self.interneurons, self.weight_shape[1])


class LowRankPathway(FeedbackPathway):
    """Prediction through interneurons, ``B = U V``: this pathway is U, from the interneurons to the dendrites.

    Both factors learn by the gradient of what B is to learn; V then needs the credit at the interneurons, ``U^T d``, which
    is transport of the weights of U within the pathway. With V fixed (a random projection) nothing is transported.

    Parameters
    ----------
    through : ProjectionPathway
        V, from the source to the interneurons; the network needs it first.
    target_pool : int, "global" or None
    plastic : bool
    init : str
    label : str

    Attributes
    ----------
    weight : Tensor, (target values, interneurons)
        U.
    """

    is_dense = False

    def __init__(
        self,
        through: ProjectionPathway,
        *,
        target_pool: Pool = None,
        plastic: bool = True,
        init: str = "uniform",
        label: str = "",
    ) -> None:
        source_pool = through.source_pool
        ends = through.pre, through.post
        super().__init__(*ends, source_pool=source_pool, target_pool=target_pool, plastic=plastic, init=init, label=label)
        self.through = through

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Weight transport, if the first factor learns."""
        return frozenset({"weight transport"}) if self.through.plastic else frozenset()

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights."""
        super().join(pre, post)
        if not self.through.weight_shape:
            raise NetworkError(f"pathway {self.name!r} goes through {self.through.name!r}: add that to the network first")
        self.weight_shape = (self.weight_shape[0], self.through.interneurons)

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input ``U (V s)``: (rows, target values)."""
        return super().apical(self.through.apical(signal))

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j (V s)_i``."""
        return super().hebbian(self.through.apical(signal), apical_credit)

    def changes(self, signal: Tensor, apical_credit: Tensor) -> list[tuple[Pathway, Update]]:
        """Return the updates of U and V, both with the weights as they are."""
        own = super().changes(signal, apical_credit)
        return own + self.through.changes(signal, self.factor(apical_credit) @ self.operand)

    def dense(self) -> Tensor:
        """Return B, (target values, source values)."""
        return self.weight @ self.through.weight

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "form": f"low-rank:{self.through.interneurons}", "through": self.through.name}


class BandedPathway(FeedbackPathway):
    """Prediction from nearby cells: every cell of the target sees those of the source within a distance of its own place.

    The distance is counted, in rows and in columns, in cells of the coarser of the two pooled maps, to which those of the
    finer one belong by relative position; 0 is the same place alone. An end without space is one cell.

    Parameters
    ----------
    source, target : str
    distance : int
    **options
        As for `FeedbackPathway`.

    Attributes
    ----------
    weight : Tensor, (target values, source channels, window rows, window columns)
        Of every target value, channel-major, the weights to a window of source cells; windows have one size and lie inside
        the source map. Where a window holds cells that are too far away, the weight is 0 and never changes.
    """

    in_blocks = True
    is_dense = False

    def __init__(self, source: str, target: str, distance: int, **options: Any) -> None:
        super().__init__(source, target, **options)
        if distance < 0:
            raise NetworkError(f"pathway {self.name!r}: expected a distance of at least 0 cells, got {distance}")
        self.distance = distance
        self._cells = 0
        self._window = torch.empty(0, 0, dtype=torch.int64)

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights, and which cells every target cell sees."""
        super().join(pre, post)
        channels, *target_map = _with_space(pooled_shape(post.shape, self.target_pool))
        source_channels, *source_map = _with_space(pooled_shape(pre.shape, self.source_pool))
        rows, columns = (_reach(t, s, self.distance) for t, s in zip(target_map, source_map, strict=True))
        self._cells = prod(source_map)
        cells = rows[:, None, :, None] * source_map[1] + columns[None, :, None, :]
        too_far = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
        self._window = cells.masked_fill(too_far, self._cells).reshape(prod(target_map), -1)
        self.weight_shape = (channels * prod(target_map), source_channels, rows.shape[1], columns.shape[1])

    def set_weights(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Replace the weights by a copy of the given ones, 0 where a cell is too far away."""
        super().set_weights(weight, bias, device, dtype)
        self._window = self._window.to(self.weight.device)
        near = (self._window < self._cells).repeat(len(self.weight) // len(self._window), 1)
        self.weight.mul_(near.view(-1, 1, *self.weight_shape[2:]))

    def _by_cell(self, weight: Tensor) -> Tensor:
        """Return weights by channel, cell and what it sees, (channels, cells, window times source channels)."""
        # Without a copy where kernels lie channels last in memory.
        return weight.permute(0, 2, 3, 1).reshape(-1, len(self._window), self._window.shape[1] * self.weight_shape[1])

    def _seen(self, signal: Tensor) -> Tensor:
        """Return what every target cell sees, silence where a cell is too far away: (cells, rows, presynaptic values)."""
        cells = signal.unflatten(1, (self.weight_shape[1], self._cells)).permute(2, 0, 1)
        window = F.pad(cells, (0, 0, 0, 0, 0, 1)).index_select(0, self._window.flatten())
        return window.unflatten(0, self._window.shape).transpose(1, 2).flatten(2)

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input of every cell: (rows, target values)."""
        seen, weight = self._seen(self.factor(signal)), self._by_cell(self.operand)
        return torch.bmm(seen, weight.permute(1, 2, 0)).permute(1, 2, 0).flatten(1).to(self.weight.dtype)

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j s_i`` for the cells within the distance."""
        credit = self.factor(apical_credit / len(signal)).unflatten(1, (-1, len(self._window)))
        return _WindowProduct(credit.permute(2, 1, 0).contiguous(), self._seen(self.factor(signal)), self.weight_shape)

    def dense(self, weight: Tensor | None = None) -> Tensor:
        """Return the weights, or an update, as a matrix between all values: (target values, source values)."""
        by_cell = self._by_cell(self.weight if weight is None else weight)
        by_cell = by_cell.unflatten(2, (self._window.shape[1], self.weight_shape[1]))
        matrix = by_cell.new_zeros(*by_cell.shape[:2], self._cells + 1, self.weight_shape[1])
        matrix.scatter_(2, self._window[None, :, :, None].expand_as(by_cell), by_cell)
        return matrix[:, :, :-1].transpose(2, 3).reshape(self.weight_shape[0], -1)

    @property
    def synapses(self) -> int:
        """Number of adjustable weights."""
        seen = int((self._window < self._cells).sum())
        return self.weight_shape[0] // max(1, len(self._window)) * self.weight_shape[1] * seen

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "form": f"banded:{self.distance}"}


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


def _with_space(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (*shape, 1, 1)


def _reach(target: int, source: int, distance: int) -> Tensor:
    """Return for every target cell along one axis its window of source cells, -1 where one is too far away."""
    coarse = min(target, source)
    place, other = ((torch.arange(n) * 2 + 1) * coarse // (2 * n) for n in (target, source))
    near = (place[:, None] - other[None]).abs() <= distance
    size = int(near.sum(1).max())
    first = near.int().argmax(1).clamp(max=source - size)
    cells = first[:, None] + torch.arange(size)
    return cells.masked_fill(~near.gather(1, cells), -1)


@dataclass(frozen=True)
class PredictionForm:
    """Which weights predict a target from a context.

    Parameters
    ----------
    kind : {"full", "low-rank", "banded"}
    size : int
        Interneurons of low-rank, distance of banded.
    """

    kind: str = "full"
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> "PredictionForm":
        """Return the form that a word describes: ``full``, ``low-rank:64`` or ``banded:1``.

        Raises
        ------
        OptionError
            If it is none of these.
        """
        kind, _, size = text.partition(":")
        least = {"low-rank": 1, "banded": 0}.get(kind)
        if text == "full":
            return cls()
        if least is None or not (size.isascii() and size.isdigit()) or int(size) < least:
            raise OptionError(
                f"prediction {text!r}: expected full, low-rank:RANK (as low-rank:64) or banded:DISTANCE (as banded:1)"
            )
        return cls(kind, int(size))

    @property
    def needs(self) -> frozenset[str]:
        """What learning the weights needs, in words of `neurossl.plasticity.locality.NEEDS`."""
        return frozenset({"weight transport"} if self.kind == "low-rank" else ())

    def pathways(self, source: str, target: str, label: str, options: Mapping[str, Any]) -> tuple[FeedbackPathway, ...]:
        """Return the pathways of one prediction, the one onto the target last.

        Parameters
        ----------
        source, target, label : str
        options : mapping
            Of `FeedbackPathway`: source_pool, target_pool, plastic, init.
        """
        if self.kind == "full":
            return (FeedbackPathway(source, target, label=label, **options),)
        if self.kind == "banded":
            return (BandedPathway(source, target, self.size, label=label, **options),)
        first_label = f"{label}-interneurons" if label else "interneurons"
        first = ProjectionPathway(source, target, self.size, label=first_label, **options)
        rest = {name: value for name, value in options.items() if name != "source_pool"}
        return first, LowRankPathway(first, label=label, **rest)

    def __str__(self) -> str:
        return self.kind if self.kind == "full" else f"{self.kind}:{self.size}"
