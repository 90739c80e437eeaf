"""Checks of what users hand to stimuli."""

from operator import index
from typing import Any

from neurossl.errors import OptionError


def whole(value: Any, where: str, of: str = "", least: int | None = 1) -> int:
    """Return a whole number of Python, numpy or torch as an int.

    Parameters
    ----------
    value : object
    where : str
        Name of the value, for the error message.
    of : str
        What it counts, for the error message.
    least : int, optional
        None for no bound.

    Raises
    ------
    OptionError
        If it is no whole number (True is none), or smaller.
    """
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        expected = "a whole number" + (f" of {of}" if of else "") + ("" if least is None else f" >= {least}")
        raise OptionError(f"{where}: expected {expected}, got {value!r}")
    return number
