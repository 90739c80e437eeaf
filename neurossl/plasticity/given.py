"""With what an object was made: noted when it is made, so that a stored run can say it of rules of one's own as well."""

import re
from collections.abc import Mapping
from inspect import signature
from typing import Any, Self

import numpy as np
from torch import Tensor

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Given:
    """Base of what notes with what it was made.

    Attributes
    ----------
    given : mapping of str to object
        Arguments of the constructor by name; those left out are left out.
    """

    given: Mapping[str, Any] = {}

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Return a new object that knows its arguments; copies and unpickled ones get theirs with their attributes."""
        made = super().__new__(cls)
        try:
            bound = signature(cls).bind(*args, **options)
        except (TypeError, ValueError):  # which the constructor says better
            return made
        if bound.arguments:
            made.given = dict(bound.arguments)
        return made


def described(value: Any) -> Any:
    """Return a value as a stored run says it: JSON, without addresses of this process."""
    if isinstance(value, Given):
        return {"class": type(value).__qualname__, **{name: described(part) for name, part in value.given.items()}}
    if isinstance(value, np.generic | np.ndarray | Tensor):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [described(part) for part in (sorted(value, key=repr) if isinstance(value, set | frozenset) else value)]
    name = getattr(value, "__qualname__", None)
    return _ADDRESS.sub("", repr(value)) if name is None else name
