"""Shapes of activity, before and after the pooling that a score or a dendrite sees."""

from numbers import Integral
from typing import Any

from neurossl.checks import whole

Shape = tuple[int, ...]
Pair = tuple[int, int]
Pool = int | str | None
"""Average pooling over space: kernel = stride, "global", or None for every location."""


def pair(value: int | Pair, what: str, least: int) -> Pair:
    """Return (rows, columns) of a number for both, or of a pair.

    Raises
    ------
    ValueError
        If it is neither, or less than ``least``.
    """
    values = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{what}: expected a whole number or (rows, columns), got {value!r}")
    return whole(values[0], what, least), whole(values[1], what, least)


def plain_pool(pool: Any) -> Pool:
    """Return a pooling whose kernel, where it is a number of numpy, is one of Python."""
    return int(pool) if isinstance(pool, Integral) and not isinstance(pool, bool) else pool


def pooled_shape(shape: Shape, pool: Pool) -> Shape:
    """Return the shape of an activity of this shape after score pooling.

    Raises
    ------
    ValueError
        If the kernel leaves no cell.
    """
    if pool is None or len(shape) == 1:
        return shape
    if pool == "global":
        return shape[:1]
    if not isinstance(pool, int) or pool < 1:
        raise ValueError(f"pool must be a kernel size, 'global' or None, got {pool!r}")
    cells = shape[0], shape[1] // pool, shape[2] // pool
    if min(cells) < 1:
        raise ValueError(f"a pooling kernel of {pool} leaves no cell of a map {shape}")
    return cells
