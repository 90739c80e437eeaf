"""Populations of rate neurons: somatic drive ``a``, transfer function ``z = rho(a)``, optional pooling.

Credit for a population has the shape of its activity; `Population.somatic` carries it to the soma: it goes back through
the pooling (to the winner, or spread evenly) and through the slope of the transfer function,
``somatic_j = credit_j rho'(a_j)``. The slope is found from the activity: the drive is not kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.errors import NetworkError

Shape = tuple[int, ...]
Rows = slice | Tensor
"""Some rows: a slice, or their indices."""
LARGE_MAP = 2**23
"""Values of a map before its pooling that are in memory at a time."""


class Transfer(ABC):
    """A transfer function rho and its slope.

    Every transfer function here has a slope that follows from the activity alone, so that the drive need not be kept until
    credit arrives.

    Attributes
    ----------
    increasing : bool
        Whether each neuron's activity increases with its own drive alone: the winner of a max-pooling is then the same
        before and after rho.
    """

    name: str
    increasing = True

    @abstractmethod
    def rho(self, drive: Tensor) -> Tensor:
        """Return the activity of a drive, both (rows, *neurons); the drive may be overwritten."""

    @abstractmethod
    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on the activity times the slope at the drive that led to this activity, both of one shape."""

    def lateral(self, somatic: Tensor) -> Tensor:
        """Return what the neurons of a population hand on to each other of the gated credit, (rows, *neurons)."""
        return somatic

    def __repr__(self) -> str:
        return self.name


class Relu(Transfer):
    """``rho(a) = max(0, a)``; slope 0 at a = 0."""

    name = "relu"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``max(0, drive)``."""
        return drive.relu_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Let the credit of active neurons through."""
        return torch.ops.aten.threshold_backward(credit, activity, 0)


class Linear(Transfer):
    """``rho(a) = a``."""

    name = "linear"

    def rho(self, drive: Tensor) -> Tensor:
        """Return the drive."""
        return drive

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return the credit."""
        return credit


class Tanh(Transfer):
    """``rho(a) = tanh(a)``."""

    name = "tanh"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``tanh(drive)``."""
        return drive.tanh_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Multiply with ``1 - activity**2``."""
        return torch.ops.aten.tanh_backward(credit, activity)


class Softplus(Transfer):
    """``rho(a) = log(1 + exp(a))``, exact at every drive (no linear cut-off)."""

    name = "softplus"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``log(1 + exp(drive))``."""
        return torch.logaddexp(drive, torch.zeros_like(drive))

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Multiply with the logistic function of the drive, ``1 - exp(-activity)``."""
        return credit * (-activity).expm1_().neg_()


class Triangle(Transfer):
    """``rho(a)_j = max(0, a_j - mean_i a_i)``: subtractive inhibition across channels (Coates et al. 2011)."""

    name = "triangle"
    increasing = False

    def rho(self, drive: Tensor) -> Tensor:
        """Return the rectified deviation from the mean over channels."""
        return (drive - drive.mean(1, keepdim=True)).relu_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Let the credit of active neurons through."""
        return torch.ops.aten.threshold_backward(credit, activity, 0)

    def lateral(self, somatic: Tensor) -> Tensor:
        """Subtract the mean over channels."""
        return somatic - somatic.mean(1, keepdim=True)


TRANSFERS: dict[str, Transfer] = {t.name: t for t in (Relu(), Linear(), Tanh(), Softplus(), Triangle())}


@dataclass(frozen=True)
class Pooling:
    """Max or average pooling over space.

    Parameters
    ----------
    kind : {"max", "average"}
    kernel : int
    stride : int, optional
        The kernel by default; a remainder at the border is ignored.
    padding : int
    """

    kind: str = "max"
    kernel: int = 2
    stride: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("max", "average"):
            raise NetworkError(f"Pooling.kind: expected 'max' or 'average', got {self.kind!r}")
        if self.kernel < 1 or (self.stride is not None and self.stride < 1) or not 0 <= self.padding <= self.kernel // 2:
            raise NetworkError(f"{self}: expected kernel >= 1, stride >= 1 and 0 <= padding <= kernel / 2")

    @property
    def step(self) -> int:
        """Stride in neurons."""
        return self.stride or self.kernel

    def shape(self, neurons: Shape) -> Shape:
        """Return the shape after pooling of (channels, height, width)."""
        channels, *space = neurons
        return channels, *((n + 2 * self.padding - self.kernel) // self.step + 1 for n in space)

    def forward(self, activity: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the pooled activity and, for max-pooling, the index of every winner."""
        geometry = ([self.kernel] * 2, [self.step] * 2, [self.padding] * 2)
        if self.kind == "max":
            pooled, winners = torch.ops.aten.max_pool2d_with_indices(activity, *geometry)
            return pooled, winners.int()
        return torch.ops.aten.avg_pool2d(activity, *geometry), None

    def spread(self, credit: Tensor, neurons: Shape, winners: Tensor | None) -> Tensor:
        """Return credit on the pooled activity as credit on the neurons: to the winners, or spread evenly.

        Parameters
        ----------
        credit : Tensor, (rows, *pooled shape)
        neurons : tuple of int
        winners : Tensor of int, (rows, *pooled shape), or None
            Of max-pooling.
        """
        geometry = ([self.kernel] * 2, [self.step] * 2, [self.padding] * 2)
        # Only shape and memory layout of what was pooled are read.
        layout = torch.channels_last if credit.stride(1) == 1 else torch.contiguous_format
        pooled = torch.empty((len(credit), *neurons), dtype=credit.dtype, device=credit.device, memory_format=layout)
        if winners is not None:
            return torch.ops.aten.max_pool2d_with_indices_backward(credit, pooled, *geometry, [1, 1], False, winners.long())
        return torch.ops.aten.avg_pool2d_backward(credit, pooled, *geometry, False, True, None)


class Response(NamedTuple):
    """The response of a population, and what is needed of it until credit arrives.

    Attributes
    ----------
    activity : Tensor, (rows, *population shape)
    winners : Tensor of int32, (rows, *population shape), or None
        Index of the winner of every max-pooling window.
    neurons : Tensor, (rows, *neurons), or None
        Activity before an average pooling, whose slopes do not follow from its result.
    """

    activity: Tensor
    winners: Tensor | None = None
    neurons: Tensor | None = None

    def rows(self, some: Rows) -> "Response":
        """Return the response of some rows."""
        if isinstance(some, slice) and some == slice(None):
            return self
        return Response(*(None if part is None else part[some] for part in self))  # type: ignore[arg-type]

    @staticmethod
    def joined(parts: "Sequence[Response]") -> "Response":
        """Return the responses of all rows from those of some."""
        return Response(*(None if p[0] is None else torch.cat(p) for p in zip(*parts, strict=True)))  # type: ignore[arg-type]


class Population:
    """A population of neurons with a somatic and an apical compartment.

    Parameters
    ----------
    name : str
    neurons : int or sequence of int
        Number of neurons, or (channels, height, width).
    transfer : str or Transfer
        relu, linear, tanh, softplus or triangle.
    pooling : Pooling, optional
        What other populations and the apical compartment read of it.

    Attributes
    ----------
    neurons : tuple of int
        Shape of the somatic drive.
    shape : tuple of int
        Shape of the activity that the population sends, after pooling; credit has this shape.
    """

    is_input = False

    def __init__(
        self, name: str, neurons: int | Sequence[int], transfer: str | Transfer = "relu", pooling: Pooling | None = None
    ) -> None:
        if not name or any(mark in name for mark in ("->", "=>", "/", ":")):
            raise NetworkError(f"population name {name!r}: expected a name without '->', '=>', ':' and '/'")
        self.name = name
        self.neurons: Shape = (neurons,) if isinstance(neurons, int) else tuple(int(n) for n in neurons)
        if len(self.neurons) not in (1, 3) or min(self.neurons) < 1:
            raise NetworkError(
                f"population {name!r}: neurons must be a number or (channels, height, width), all >= 1, got {neurons}"
            )
        if isinstance(transfer, str) and transfer not in TRANSFERS:
            raise NetworkError(f"population {name!r}: transfer {transfer!r} does not exist, expected {', '.join(TRANSFERS)}")
        self.transfer = TRANSFERS[transfer] if isinstance(transfer, str) else transfer
        self.pooling = pooling
        if pooling is not None and len(self.neurons) != 3:
            raise NetworkError(f"population {name!r}: pooling needs (channels, height, width), got {self.neurons}")
        self.shape: Shape = self.neurons if pooling is None else pooling.shape(self.neurons)
        if min(self.shape) < 1:
            raise NetworkError(f"population {name!r}: {pooling} does not fit {self.neurons}")

    @property
    def size(self) -> int:
        """Number of values in the activity of one row."""
        return prod(self.shape)

    def rows_at_a_time(self, rows: int) -> int:
        """Return how many rows are computed at a time: all of them, unless a pooled map is large before its pooling."""
        return max(1, rows if self.pooling is None else LARGE_MAP // prod(self.neurons))

    def chunks(self, rows: int) -> list[slice]:
        """Return the rows that are computed at a time."""
        each = self.rows_at_a_time(rows)
        return [slice(first, first + each) for first in range(0, rows, each)] or [slice(0, 0)]

    def respond(self, drive: Tensor) -> "Response":
        """Return the response to a drive (rows, *neurons), which may be overwritten."""
        if self.pooling is None:
            return Response(self.transfer.rho(drive))
        if self.pooling.kind == "max" and self.transfer.increasing:
            pooled, winners = self.pooling.forward(drive)
            return Response(self.transfer.rho(pooled), winners)
        neurons = self.transfer.rho(drive)
        pooled, winners = self.pooling.forward(neurons)
        return Response(pooled, winners, None if winners is not None else neurons)

    def somatic(self, credit: Tensor, response: "Response") -> Tensor:
        """Return credit at the soma (rows, *neurons): credit on the activity, un-pooled, times the slope at the drive."""
        if response.neurons is not None and self.pooling is not None:
            return self.transfer.lateral(
                self.transfer.gated(self.pooling.spread(credit, self.neurons, None), response.neurons)
            )
        somatic = self.transfer.gated(credit, response.activity)
        if self.pooling is not None:
            somatic = self.pooling.spread(somatic, self.neurons, response.winners)
        return self.transfer.lateral(somatic)

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the population."""
        pooling = None if self.pooling is None else f"{self.pooling.kind} {self.pooling.kernel}/{self.pooling.step}"
        return {
            "name": self.name,
            "neurons": list(self.neurons),
            "shape": list(self.shape),
            "transfer": self.transfer.name,
            "pooling": pooling,
            "input": self.is_input,
        }

    def __repr__(self) -> str:
        pooling = "" if self.pooling is None else f", {self.pooling.kind}-pooling {self.pooling.kernel}"
        return f"{type(self).__name__}({self.name!r}, {self.neurons}, {self.transfer.name}{pooling})"


class InputPopulation(Population):
    """The population on which the stimulus falls; its activity is the stimulus.

    Parameters
    ----------
    name : str
    neurons : int or sequence of int
        Number of inputs, or (channels, height, width).
    """

    is_input = True

    def __init__(self, name: str, neurons: int | Sequence[int]) -> None:
        super().__init__(name, neurons, transfer="linear")
