"""Data from files held against their type: one check for everything that is JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from neurossl.text import one_line

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "nothing", dict: "members"}


def conform(value: Any, expected: Any, name: str) -> None:
    """Hold a value against a type.

    Parameters
    ----------
    value : object
        As JSON gives it.
    expected : type
        str, int (64 bits), float (finite, whole numbers included), bool, None, list[...], dict[str, ...], unions, Literal,
        a TypedDict, or a dataclass (of which the value is the mapping of fields). Members not named there are allowed.
    name : str
        What the value is, for the message.

    Raises
    ------
    ValueError
        ``network.populations[0].name is 3, expected text``.
    """
    if (fault := _fault(value, expected, name)) is not None:
        raise ValueError(fault)


def _fault(value: Any, expected: Any, name: str) -> str | None:
    origin = get_origin(expected)
    if expected is Any:
        return None
    if origin in (Required, NotRequired):
        return _fault(value, get_args(expected)[0], name)
    if origin in (Union, UnionType):
        faults = [_fault(value, one, name) for one in get_args(expected)]
        if None in faults:
            return None
        deeper = [fault for fault in faults if fault and not fault.startswith(f"{name} is ")]
        return deeper[0] if deeper else _wrong(value, expected, name)
    if origin is Literal:
        return None if value in get_args(expected) and isinstance(value, str) else _wrong(value, expected, name)
    if is_typeddict(expected) or is_dataclass(expected):
        return _fault_of_members(value, expected, name)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return _wrong(value, expected, name)
        kind = get_args(expected)[0]
        return next((f for i, item in enumerate(value) if (f := _fault(item, kind, f"{name}[{i}]"))), None)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            return _wrong(value, expected, name)
        kind = get_args(expected)[1]
        return next((f for key, item in value.items() if (f := _fault(item, kind, _member(name, key)))), None)
    return None if _is(value, expected) else _wrong(value, expected, name)


def _fault_of_members(value: Any, expected: Any, name: str) -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, dict, name)
    hints, needed = _members(expected)
    for key, kind in hints.items():
        if key in value:
            if fault := _fault(value[key], kind, _member(name, key)):
                return fault
        elif key in needed:
            return f"{_member(name, key)} is missing"
    return None


@lru_cache(maxsize=128)
def _members(expected: Any) -> tuple[dict[str, Any], set[str]]:
    """Return the members of a type with theirs, and those that must be there."""
    hints = get_type_hints(expected, include_extras=True)
    if is_dataclass(expected):
        needed = {f.name for f in fields(expected) if f.default is MISSING and f.default_factory is MISSING}
    else:
        needed = {key for key, kind in hints.items() if get_origin(kind) is not NotRequired} if expected.__total__ else set()
    return hints, needed


def _is(value: Any, kind: Any) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if kind is float:
        return _is(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, NoneType if kind is None else kind)


def _member(name: str, key: str) -> str:
    return f"{name}.{key}" if name else str(key)


def _wrong(value: Any, expected: Any, name: str) -> str:
    shown = one_line(repr(value) if not isinstance(value, dict | list) or len(repr(value)) < 60 else type(value).__name__)
    return f"{one_line(name)} is {shown[:60]}, expected {_words(expected)}"


def _words(expected: Any) -> str:
    origin = get_origin(expected)
    if origin in (Union, UnionType):
        return " or ".join(_words(one) for one in get_args(expected) if one is not NoneType)
    if origin is Literal:
        return " or ".join(get_args(expected))
    if origin in (list, tuple):
        return f"a list of {_words(get_args(expected)[0]).removeprefix('a ')}"
    if origin in (dict, Mapping) or is_typeddict(expected) or is_dataclass(expected):
        return "named members"
    return _WORDS.get(expected, "something else")
