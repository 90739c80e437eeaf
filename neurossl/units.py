"""Biological time: seconds as floats; Brian2 quantities are accepted wherever a duration is."""

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from neurossl.errors import NeurosslError, OptionError

_FINEST = 10**9


def seconds(duration: Any, what: str = "duration") -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    duration : float or brian2.Quantity
        A number is taken as seconds; a Brian2 quantity must have the dimension of time. Brian2 is not imported here.
    what : str
        Name of the value, for the error message.

    Raises
    ------
    OptionError
        If the value is no finite number >= 0 or its dimension is not time.
    """
    if isinstance(duration, str | bool) or _dimension(duration) not in ("", "s"):
        raise OptionError(f"{what}: expected a time such as 250*ms or 0.25 (seconds), got {duration!r}")
    try:
        # The number that a float32 shows is the one that was meant: 0.1, not 0.10000000149.
        value = float(str(duration) if isinstance(duration, np.floating) else duration)
    except (TypeError, ValueError):
        raise OptionError(f"{what}: expected a time such as 250*ms or 0.25 (seconds), got {duration!r}") from None
    if not 0 <= value < float("inf"):
        raise OptionError(f"{what}: expected a finite time >= 0 s, got {duration!r}")
    return value


def without_unit(value: Any, what: str, error: type[NeurosslError] = OptionError) -> Any:
    """Return a value that has no unit; what would be read as a thousandth of itself is refused.

    Raises
    ------
    OptionError
        If it is a Brian2 quantity with a dimension: activities, drives, gains and pixels are plain numbers.
    """
    dimension = _dimension(value)
    if dimension not in ("", "1"):
        raise error(f"{what}: expected plain numbers without a unit, got a quantity in {dimension}: divide it by its unit")
    return value


def exact(duration: Any, what: str = "duration") -> Fraction:
    """Return a duration in seconds as the fraction that was meant: 0.1 is one tenth, and so is what 3 * 0.1 was to be.

    Of all fractions with a denominator up to a thousand million it is the nearest one, so that durations add up without
    any rounding.

    Raises
    ------
    OptionError
        As for `seconds`.
    """
    return _nearest(seconds(duration, what))


@lru_cache(maxsize=256)
def _nearest(duration: float) -> Fraction:
    return Fraction(duration).limit_denominator(_FINEST)


def _dimension(value: Any) -> str:
    """Return the dimension of a Brian2 quantity in base units; "" of plain numbers (a tensor's `dim` is a method)."""
    dimension = getattr(value, "dim", None)
    return "" if dimension is None or callable(dimension) else str(dimension)
