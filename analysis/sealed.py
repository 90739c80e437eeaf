"""JSON that carries its checksum: damage, and edits, are found before anything uses it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import read_whole


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``record`` as JSON would give it back: tuples and sets as lists, numpy numbers and paths as what they say.

    Raises
    ------
    TypeError
        If a value is nothing of the kind.
    """
    return json.loads(json.dumps(dict(record), default=_as_json))


def seal(record: dict[str, Any], indent: int | None = None) -> bytes:
    """Return ``record`` as JSON with a member ``check``, the SHA-256 of the rest."""
    return _sealed(plain(record), indent)


def _sealed(record: dict[str, Any], indent: int | None) -> bytes:
    """Seal what is as JSON gives it."""
    check = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    sealed = {**record, "check": check}
    try:
        return json.dumps(sealed, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a path whose name is no text
        return json.dumps(sealed, indent=indent).encode()


def unseal(raw: bytes, indent: int | None = None) -> tuple[dict[str, Any], bool]:
    """Return the sealed record in ``raw``, and whether every byte of it is as it was written.

    Raises
    ------
    ValueError
        If it is no JSON object at all.
    """
    try:
        record = json.loads(raw.decode())
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        record.pop("check", None)
        return record, _sealed(record, indent) == raw
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_sealed(path: Path, expected: Any, what: str) -> dict[str, Any]:
    """Return a JSON file that is held against its type and, where it has one, its checksum.

    Raises
    ------
    TrajectoryError
        If it is missing, damaged, or something else; names the file.
    """
    try:
        raw = read_whole(path)
        content, intact = unseal(raw.removesuffix(b"\n"), indent=1)
        conform(content, expected, "")
    except FileNotFoundError:
        raise TrajectoryError(f"{path}: there is no such file, expected {what}") from None
    except OSError as error:
        raise TrajectoryError(f"{path}: not {what} ({error.strerror})") from None
    except ValueError as fault:
        raise TrajectoryError(f"{path}: not {what} ({fault})") from None
    if not intact and b'"check": "' in raw:
        raise TrajectoryError(f"{path} does not match its checksum: it was damaged or edited")
    return content


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored as JSON: expected numbers, strings, lists or dictionaries")
