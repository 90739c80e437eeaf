"""Biological time: seconds as floats; Brian2 quantities are accepted wherever a duration is."""

from typing import Any

from neurossl.errors import OptionError


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
    dimension = getattr(duration, "dim", None)
    if dimension is not None and str(dimension) != "s":
        raise OptionError(f"{what}: expected a time such as 250*ms or 0.25 (seconds), got {duration!r}")
    try:
        value = float(duration)
    except (TypeError, ValueError):
        raise OptionError(f"{what}: expected a time such as 250*ms or 0.25 (seconds), got {duration!r}") from None
    if not 0 <= value < float("inf"):
        raise OptionError(f"{what}: expected a finite time >= 0 s, got {duration!r}")
    return value
