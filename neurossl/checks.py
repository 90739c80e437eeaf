"""Whole numbers and choices as users give them: numpy's are as good as Python's, booleans are none."""

from collections.abc import Iterable
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from neurossl.errors import NeurosslError, OptionError


def whole(value: Any, what: str, least: int = 1, most: int | None = None, error: type[NeurosslError] = OptionError) -> int:
    """Return a whole number of Python or numpy as an int.

    Parameters
    ----------
    value : int or numpy integer
    what : str
        Name of the value, for the error message.
    least, most : int
        Limits, both included.
    error : type
        What is raised.

    Raises
    ------
    OptionError
        If the value is no whole number, a boolean, or outside the limits.
    """
    limits = f">= {least}" if most is None else f"from {least} to {most:,}"
    try:
        number = index(value)
    except TypeError:
        raise error(f"{what}: expected a whole number {limits}, got {value!r}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise error(f"{what}: expected a whole number {limits}, got {value!r}")
    return number


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number, and no boolean."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def indices(value: Any, size: int, what: str, error: type[NeurosslError] = OptionError) -> np.ndarray:
    """Return which of so many things are meant: whole numbers, a slice, or a truth value for each.

    Parameters
    ----------
    value : sequence or array of int, slice, or sequence or array of bool
    size : int
    what : str
        Name of the value, for the error message.
    error : type
        What is raised.

    Raises
    ------
    OptionError
        If it is nothing of these, means nothing, or something that is not there.
    """
    expected = f"{what}: expected whole numbers from 0 to {size - 1}, a slice, or {size} truth values"
    if isinstance(value, slice):
        chosen = np.arange(size)[value]
    else:
        try:
            chosen = np.asarray(value if not hasattr(value, "detach") else value.detach().cpu())
        except (TypeError, ValueError):
            raise error(f"{expected}, got {value!r}") from None
        if chosen.dtype.kind == "b" and chosen.ndim and chosen.size == size:
            chosen = np.flatnonzero(chosen)
        if chosen.dtype.kind not in "iu" or not chosen.ndim:
            raise error(f"{expected}, got {chosen.dtype} of shape {chosen.shape}")
    chosen = chosen.astype(np.int64).flatten()
    if not chosen.size or chosen.min() < 0 or chosen.max() >= size:
        raise error(f"{expected}, got {'none' if not chosen.size else f'{chosen.min()} to {chosen.max()}'}")
    return chosen


def one_of(value: Any, choices: Iterable[str], what: str, error: type[NeurosslError] = OptionError) -> str:
    """Return a word that is one of some.

    Raises
    ------
    OptionError
        If it is not; lists the words.
    """
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        raise error(f"{what} {value!r} does not exist, expected {', '.join(words)}")
    return value
