"""The files of a checkpoint, and whether they are whole; read without torch.

RUN/checkpoints/0000001200-DIGEST.safetensors   the tensors
RUN/checkpoints/0000001200.json                 the plain values, a checksum of the tensors and of itself; written last
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurossl.files import read_whole

FOLDER = "checkpoints"
_LARGEST = 2**40


def numbers(folder: Path) -> Iterator[int]:
    """Yield the moments of the checkpoints of a folder, the newest first."""
    if folder.is_symlink() or not folder.is_dir():
        return
    names = (name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json"))
    yield from sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def tensors_of(folder: Path, number: int, digest: str) -> Path:
    """Return the file of the tensors of a checkpoint, named by its contents: it fits its values, or is not there."""
    return folder / f"{number:010d}-{digest[:16]}.safetensors"


def values_of(folder: Path, number: int) -> dict[str, Any]:
    """Return the plain values of a checkpoint.

    Raises
    ------
    OSError, ValueError
        If they are damaged; says how.
    """
    try:
        sealed: Any = json.loads(read_whole(folder / f"{number:010d}.json"))
        values = dict(sealed["values"])
        text = json.dumps(values, sort_keys=True)
        whole = hashlib.sha256(text.encode()).hexdigest() == sealed["check"]
    except (KeyError, TypeError, AttributeError, RecursionError) as reason:
        raise ValueError(f"it is no checkpoint ({type(reason).__name__})") from None
    if not whole:
        raise ValueError("its checksum is not right")
    return values


def data_of(folder: Path, number: int, digest: str) -> bytes:
    """Return the bytes of the tensors of a checkpoint.

    Raises
    ------
    OSError, ValueError
        If they are not those that its values name.
    """
    data = read_whole(tensors_of(folder, number, digest), _LARGEST)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("the checksum of its tensors is not right")
    return data


def faults(folder: Path) -> list[str]:
    """Say which checkpoints of a folder are damaged, and how."""
    found = []
    for number in numbers(folder):
        try:
            data_of(folder, number, str(values_of(folder, number).get("tensors")))
        except (OSError, ValueError) as reason:
            found.append(f"checkpoint {number:010d} ({(str(reason).splitlines() or ['unreadable'])[0]})")
    return found


def remove(folder: Path, number: int) -> None:
    """Remove a checkpoint, its values first: without them there is none."""
    for path in [folder / f"{number:010d}.json", *folder.glob(f"{number:010d}-*.safetensors")]:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def forget_later(folder: Path, moment: int) -> None:
    """Remove the checkpoints after a moment: those of what was to come when an earlier one is gone on with."""
    for number in numbers(folder):
        if number > moment:
            remove(folder, number)
