"""Whole numbers and choices as users give them: numpy's are as good as Python's, booleans are none."""

from collections.abc import Iterable
from operator import index
from typing import Any

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
