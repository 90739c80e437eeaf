"""Checkpoints: the state of a simulation on the disk, from which it goes on bit for bit.

    RUN/checkpoints/0000001200.safetensors   the tensors
    RUN/checkpoints/0000001200.json          the plain values, a checksum of the tensors, a checksum of itself; written last

Each is written whole or not at all; the last few are kept. Nothing is unpickled. A damaged checkpoint is named, and the one
before is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurossl.checks import whole
from neurossl.errors import OptionError, StorageError
from neurossl.files import absolute, read_whole, remove_abandoned, write_atomically
from neurossl.state import State, is_channels_last, storable

FOLDER = "checkpoints"
_LARGEST = 2**40


class Checkpointer:
    """When checkpoints are written, where, and how many are kept.

    Parameters
    ----------
    every : int, optional
        Moments between checkpoints. By default by time: at most every 30 s of wall clock, and seldom enough that writing
        takes less than 2 % of it.
    keep : int
        Number of the last ones that are kept.
    path : path, optional
        Their folder; ``checkpoints`` in that of the run by default.
    """

    def __init__(self, every: int | None = None, keep: int = 2, path: str | os.PathLike[str] | None = None) -> None:
        self.every = None if every is None else whole(every, "Checkpointer: every (moments)")
        self.keep = whole(keep, "Checkpointer: keep")
        self.path = None if path is None else absolute(path)
        self._last = time.monotonic()
        self._cost = 0.0

    def due(self, moment: int) -> bool:
        """Return whether a checkpoint is due after this many moments."""
        if self.every is not None:
            return moment % self.every == 0
        return time.monotonic() - self._last >= max(30.0, 50 * self._cost)

    def write(self, state: State, folder: Path) -> Path:
        """Write a checkpoint, remove those that are too old, and return its path.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        begun = time.monotonic()
        folder = self.path or folder
        try:
            written = write_checkpoint(state, folder)
            for old in list(_numbers(folder))[self.keep :]:
                for ending in (".json", ".safetensors"):
                    with suppress(OSError):
                        (folder / f"{old:010d}{ending}").unlink(missing_ok=True)
            remove_abandoned(folder)
        except OSError as reason:
            raise StorageError(f"checkpoint in {folder}: cannot be written ({reason.strerror or reason})") from None
        self._last = time.monotonic()
        self._cost = self._last - begun
        return written

    def __repr__(self) -> str:
        when = "every 30 s" if self.every is None else f"every {self.every} moments"
        return f"Checkpointer({when}, keep {self.keep})"


def write_checkpoint(state: State, folder: Path) -> Path:
    """Write a state as the checkpoint of its moment, and return the path of its values.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{state.values['moment']:010d}"
    data = save({name: storable(tensor) for name, tensor in state.tensors.items()})
    write_atomically(base.with_suffix(".safetensors"), data)
    values = {
        **state.values,
        "channels_last": [name for name, tensor in state.tensors.items() if is_channels_last(tensor)],
        "tensors": hashlib.sha256(data).hexdigest(),
    }
    text = json.dumps(values, sort_keys=True)
    sealed = {"check": hashlib.sha256(text.encode()).hexdigest(), "values": values}
    write_atomically(base.with_suffix(".json"), (json.dumps(sealed) + "\n").encode())
    return base.with_suffix(".json")


def read_checkpoint(path: str | os.PathLike[str], moment: int | None = None) -> State:
    """Return the newest state that a run has stored and that is whole.

    Parameters
    ----------
    path : path
        Of the run, or of its folder of checkpoints.
    moment : int, optional
        Of the checkpoint; the newest by default.

    Raises
    ------
    OptionError
        If there is none.
    StorageError
        If none is whole.
    """
    given = absolute(path)
    folder = given / FOLDER if (given / FOLDER).is_dir() else given
    numbers = [n for n in _numbers(folder) if moment is None or n == moment]
    if not numbers:
        which = "no checkpoint" if moment is None else f"no checkpoint of moment {moment}"
        raise OptionError(f"{given}: there is {which} to go on from")
    problems = []
    for number in numbers:
        try:
            state = _read(folder / f"{number:010d}")
        except (OSError, ValueError, KeyError, TypeError) as reason:
            problems.append(f"{number:010d} ({str(reason).splitlines()[0]})")
            continue
        for problem in problems:
            warnings.warn(f"{folder}: checkpoint {problem} is damaged; the one of moment {number} is used", stacklevel=2)
        return state
    raise StorageError(f"{folder}: no checkpoint is whole: {'; '.join(problems)}")


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has stored a state, whole or not."""
    return any(_numbers(run / FOLDER))


def _numbers(folder: Path) -> Iterator[int]:
    """Yield the moments of the checkpoints of a folder, the newest first."""
    if folder.is_symlink() or not folder.is_dir():
        return
    names = (name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json"))
    yield from sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def _read(base: Path) -> State:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    sealed: Any = json.loads(read_whole(base.with_suffix(".json")))
    values = dict(sealed["values"])
    text = json.dumps(values, sort_keys=True)
    if hashlib.sha256(text.encode()).hexdigest() != sealed["check"]:
        raise ValueError("its checksum is not right")
    data = read_whole(base.with_suffix(".safetensors"), _LARGEST)
    if hashlib.sha256(data).hexdigest() != values.pop("tensors"):
        raise ValueError("the checksum of its tensors is not right")
    try:
        tensors = load(data)
    except SafetensorError as reason:
        raise ValueError(str(reason)) from None
    for name in values.pop("channels_last"):
        tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
    return State(tensors, values)
