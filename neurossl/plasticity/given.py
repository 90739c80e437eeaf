"""With what an object was made: noted when it is made, so that a stored run can say it of rules of one's own as well."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from inspect import signature
from typing import Any

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

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor note its arguments."""
        super().__init_subclass__(**options)
        own = vars(cls).get("__init__")
        if own is not None:
            cls.__init__ = _noting(own)  # type: ignore[method-assign]


def _noting(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that notes its arguments, unless that of a subclass has done so."""
    taken = signature(constructor)

    @wraps(constructor)
    def noted(self: Given, *args: Any, **options: Any) -> None:
        if "given" not in vars(self):
            with suppress(TypeError):  # which the constructor says better
                arguments = dict(taken.bind(self, *args, **options).arguments)
                self.given = dict(list(arguments.items())[1:])
        constructor(self, *args, **options)

    return noted


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
