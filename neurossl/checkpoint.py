"""Checkpoints: the state of a simulation on the disk, from which it goes on bit for bit.

Each is written whole or not at all; the last few are kept. Nothing is unpickled. A damaged checkpoint is named, and the one
before is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurossl.checkpoint_files import FOLDER, data_of, forget_later, numbers, remove, tensors_of, values_of
from neurossl.checks import whole
from neurossl.errors import OptionError, StorageError
from neurossl.files import absolute, remove_abandoned, write_atomically
from neurossl.state import State, is_channels_last, storable


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
        self._folder: tuple[Path, Any] | None = None

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
            self._own(state, folder)
            forget_later(folder, state.values["moment"])
            written = write_checkpoint(state, folder)
            for old in list(numbers(folder))[self.keep :]:
                remove(folder, old)
            remove_abandoned(folder)
        except OSError as reason:
            raise StorageError(f"checkpoint in {folder}: cannot be written ({reason.strerror or reason})") from None
        self._last = time.monotonic()
        self._cost = self._last - begun
        return written

    def _own(self, state: State, folder: Path) -> None:
        """Refuse a folder that holds checkpoints of another simulation.

        Raises
        ------
        OptionError
            Naming the folder.
        """
        mine = state.values.get("lineage")
        if self._folder == (folder, mine):
            return
        for number in numbers(folder):
            try:
                theirs = values_of(folder, number).get("lineage")
            except (OSError, ValueError):
                continue
            if theirs != mine:
                raise OptionError(
                    f"checkpoints: {folder} holds those of another simulation (moment {number}): choose another path, or go "
                    "on from them with Simulation.from_checkpoint"
                )
        self._folder = folder, mine

    def __repr__(self) -> str:
        when = "every 30 s" if self.every is None else f"every {self.every} moments"
        return f"Checkpointer({when}, keep {self.keep})"


def write_checkpoint(state: State, folder: Path) -> Path:
    """Write a state as the checkpoint of its moment, and return the path of its values.

    One of the same moment with other tensors is replaced; one with the same tensors gets its new values alone, so that at
    every moment there is a whole one.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{state.values['moment']:010d}"
    data = save({name: storable(tensor) for name, tensor in state.tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    # Named by their contents: values and tensors never belong to different states.
    tensors = tensors_of(folder, state.values["moment"], digest)
    write_atomically(tensors, data)
    values = {
        **state.values,
        "channels_last": [name for name, tensor in state.tensors.items() if is_channels_last(tensor)],
        "tensors": digest,
    }
    text = json.dumps(values, sort_keys=True)
    sealed = {"check": hashlib.sha256(text.encode()).hexdigest(), "values": values}
    write_atomically(base.with_suffix(".json"), (json.dumps(sealed) + "\n").encode())
    for old in folder.glob(f"{base.name}-*.safetensors"):
        if old != tensors:
            with suppress(OSError):
                old.unlink(missing_ok=True)
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
    there = [n for n in numbers(folder) if moment is None or n == moment]
    if not there:
        which = "no checkpoint" if moment is None else f"no checkpoint of moment {moment}"
        raise OptionError(f"{given}: there is {which} to go on from")
    problems = []
    for number in there:
        try:
            state = _read(folder, number)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as reason:
            problems.append(f"{number:010d} ({(str(reason).splitlines() or [type(reason).__name__])[0]})")
            continue
        for problem in problems:
            warnings.warn(f"{folder}: checkpoint {problem} is damaged; the one of moment {number} is used", stacklevel=2)
        return state
    raise StorageError(f"{folder}: no checkpoint is whole: {'; '.join(problems)}")


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has stored a state, whole or not."""
    return any(numbers(run / FOLDER))


def _read(folder: Path, number: int) -> State:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    values = values_of(folder, number)
    data = data_of(folder, number, str(values.pop("tensors", "")))
    try:
        tensors = load(data)
    except SafetensorError as reason:
        raise ValueError(str(reason)) from None
    for name in values.pop("channels_last", ()):
        tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
    _require_shape(values)
    return State(tensors, values)


def _require_shape(values: dict[str, Any]) -> None:
    """Raise ValueError unless values are those of a state."""
    expected: dict[str, type | tuple[type, ...]] = {
        **{"moment": int, "observers_seen": int, "clock": dict, "done": int, "stream": dict, "running": bool},
        **{"frozen": list, "manipulations": dict, "interventions": list, "synapses": dict, "seed": int},
        **{"recorders": list, "simulation": dict},
    }
    for name, kind in expected.items():
        if not isinstance(values.get(name), kind):
            raise ValueError(f"it does not say {name!r}")
    if not {"time", "waiting", "past"} <= values["clock"].keys():
        raise ValueError("it does not say the time")
    if not {"network", "rule", "rule_class", "dtype", "products", "engine"} <= values["simulation"].keys():
        raise ValueError("it does not say of which simulation it is")
