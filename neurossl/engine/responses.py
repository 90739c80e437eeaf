"""The response of a population to its drive, and the way back of credit to its somata.

Credit for a population has the shape of its activity; it goes back through the pooling (to the winner, or spread evenly)
and through the slope of the transfer function, ``somatic_j = credit_j rho'(a_j)``. The slope is found from the activity:
the drive is not kept.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.anatomy.pooling import Pooling
from neurossl.anatomy.populations import Population
from neurossl.anatomy.shapes import Shape
from neurossl.engine import limits

Rows = slice | Tensor
"""Some rows: a slice, or their indices."""


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


def respond(population: Population, drive: Tensor) -> Response:
    """Return the response of a population to a drive (rows, *neurons), which may be overwritten."""
    rho, pooling = population.transfer.rho, population.pooling
    if pooling is None:
        return Response(rho(drive))
    if pooling.kind == "max" and population.transfer.increasing:
        pooled, winners = _pooled(pooling, drive)
        return Response(rho(pooled), winners)
    neurons = rho(drive)
    pooled, winners = _pooled(pooling, neurons)
    return Response(pooled, winners, None if winners is not None else neurons)


def at_soma(population: Population, credit: Tensor, response: Response) -> Tensor:
    """Return credit at the soma (rows, *neurons): credit on the activity, un-pooled, times the slope at the drive."""
    transfer, pooling = population.transfer, population.pooling
    if response.neurons is not None and pooling is not None:
        spread = _spread(pooling, credit, population.neurons, None)
        return transfer.lateral(transfer.gated(spread, response.neurons))
    somatic = transfer.gated(credit, response.activity)
    if pooling is not None:
        somatic = _spread(pooling, somatic, population.neurons, response.winners)
    return transfer.lateral(somatic)


def at_neurons(population: Population, credit: Tensor, response: Response) -> Tensor:
    """Return credit on the activity at the neurons (rows, *neurons): un-pooled, without the slope."""
    pooling = population.pooling
    return credit if pooling is None else _spread(pooling, credit, population.neurons, response.winners)


def rows_at_a_time(population: Population, rows: int) -> int:
    """Return how many rows are computed at a time: all of them, unless a pooled map is large before its pooling."""
    return max(1, rows if population.pooling is None else limits.LARGE_MAP // prod(population.neurons))


def chunks(population: Population, rows: int) -> list[slice]:
    """Return the rows that are computed at a time."""
    each = rows_at_a_time(population, rows)
    return [slice(first, first + each) for first in range(0, rows, each)] or [slice(0, 0)]


def _pooled(pooling: Pooling, activity: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the pooled activity and, for max-pooling, the index of every winner."""
    geometry = list(pooling.window), list(pooling.step), list(pooling.margin)
    if pooling.kind == "max":
        pooled, winners = torch.ops.aten.max_pool2d_with_indices(activity, *geometry)
        return pooled, winners.int()
    return torch.ops.aten.avg_pool2d(activity, *geometry), None


def _spread(pooling: Pooling, credit: Tensor, neurons: Shape, winners: Tensor | None) -> Tensor:
    """Return credit on the pooled activity as credit on the neurons: to the winners, or spread evenly.

    Parameters
    ----------
    pooling : Pooling
    credit : Tensor, (rows, *pooled shape)
    neurons : tuple of int
    winners : Tensor of int, (rows, *pooled shape), or None
        Of max-pooling.
    """
    geometry = list(pooling.window), list(pooling.step), list(pooling.margin)
    # Only shape and memory layout of what was pooled are read.
    layout = torch.channels_last if credit.stride(1) == 1 else torch.contiguous_format
    pooled = torch.empty((len(credit), *neurons), dtype=credit.dtype, device=credit.device, memory_format=layout)
    if winners is not None:
        return torch.ops.aten.max_pool2d_with_indices_backward(credit, pooled, *geometry, [1, 1], False, winners.long())
    return torch.ops.aten.avg_pool2d_backward(credit, pooled, *geometry, False, True, None)
