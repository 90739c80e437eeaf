"""Files of reference values: what is in them, and how it is held against what the rules give."""

import json
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.errors import NeurosslError
from neurossl.stimuli.datasets.access import open_regular

_LARGEST = 2**30
"""Bytes that reference values may take."""
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
Arrays = dict[str, Tensor]


class UnreadableReference(NeurosslError):
    """A reference file that cannot be read."""


class UnsuitableArray(NeurosslError):
    """A reference file that lacks an array which its rule needs, or has it in a wrong shape: a failure, not a pass."""


@dataclass(frozen=True)
class Outcome:
    """What became of one reference file.

    Attributes
    ----------
    name : str
    deviation : float
        Largest ``max|got - want| / max|want|`` over all arrays, absolute where ``max|want| < 1e-12``.
    array : str
        The array where it is largest.
    compared : int
        Number of arrays compared.
    problem : str
        Why the file fails irrespective of the deviation; empty otherwise.
    """

    name: str
    deviation: float
    array: str
    compared: int
    problem: str = ""

    def passed(self, tolerance: float) -> bool:
        """Return whether the file passes."""
        return not self.problem and self.deviation <= tolerance

    def line(self, tolerance: float) -> str:
        """Return the line that the self-test prints."""
        verdict = "ok  " if self.passed(tolerance) else "FAIL"
        what = self.problem or f"largest relative deviation {self.deviation:.1e} ({self.array}; {self.compared} arrays)"
        return f"{verdict} {self.name:<36} {what}"


class Inputs:
    """The arrays of a file, by name, with a clear failure for a missing one."""

    def __init__(self, arrays: Arrays, file: str) -> None:
        self.arrays = arrays
        self.file = file

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.arrays:
            raise UnsuitableArray(f"array {name!r} is missing")
        return self.arrays[name]

    def shaped(self, name: str, *shape: int | None) -> Tensor:
        """Return an array of this shape; None stands for any size."""
        array = self[name]
        if array.ndim != len(shape) or any(n not in (None, size) for n, size in zip(shape, array.shape, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            raise UnsuitableArray(f"array {name!r} has shape {tuple(array.shape)}, not ({expected})")
        return array


def compare(name: str, got: Arrays, arrays: Mapping[str, Tensor]) -> Outcome:
    """Return how what the rules give deviates from the arrays of a file; what they do not give is a failure."""
    for key in arrays:
        if key.startswith(("change/", "loss/")) and key not in got:
            return Outcome(name, float("nan"), key, 0, f"array {key!r} is of nothing that changes, or has a loss, here")
    optional = any(key.endswith("_backprop_grad") for key in arrays)
    worst, where, compared = 0.0, "", 0
    for key, value in got.items():
        if key.endswith("_backprop_grad") and not optional:
            continue
        if key not in arrays:
            return Outcome(name, float("nan"), key, compared, f"array {key!r} is missing")
        want = arrays[key].double()
        if want.shape != value.shape:
            shapes = f"{tuple(want.shape)}, not {tuple(value.shape)}"
            return Outcome(name, float("nan"), key, compared, f"array {key!r} has shape {shapes}")
        scale = float(want.abs().max()) if want.numel() else 0.0
        deviation = float((value.double() - want).abs().max()) / (scale if scale >= 1e-12 else 1.0) if want.numel() else 0.0
        if not deviation < float("inf"):
            return Outcome(name, float("nan"), key, compared, f"array {key!r} is not finite")
        if deviation >= worst:
            worst, where = deviation, key
        compared += 1
    return Outcome(name, worst, where, compared)


def read(path: Path, device: torch.device, dtype: torch.dtype, known: Collection[str]) -> tuple[dict[str, Any], Arrays]:
    """Return meta and arrays; nothing is unpickled."""
    try:
        with open_regular(path) as file:
            with zipfile.ZipFile(file) as parts:
                claimed = sum(part.file_size for part in parts.infolist())
            if claimed > _LARGEST:
                raise ValueError(f"it unpacks to {claimed / 1e9:.1f} GB, expected at most {_LARGEST / 1e9:.1f} GB")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                loaded = {name: archive[name] for name in archive.files}
        meta = json.loads(str(loaded.pop("meta")))
    except FileNotFoundError:
        raise UnreadableReference(f"{path}: there is no such file, expected an .npz with reference values") from None
    except KeyError:
        raise UnreadableReference(f"{path}: there is no 'meta', expected an .npz with reference values") from None
    except _DAMAGE as reason:
        message = str(reason).split("\n")[0]
        raise UnreadableReference(f"{path}: cannot be read as an .npz with reference values ({message})") from None
    rule = meta.get("rule") if isinstance(meta, dict) else meta
    if not isinstance(rule, str) or rule not in known or not isinstance(meta, dict):
        raise UnreadableReference(f"{path}: no reference for rule {rule!r}, expected one of {', '.join(known)}")
    tensors = {}
    for name, array in loaded.items():
        if array.dtype.kind not in "iuf":
            raise UnreadableReference(f"{path}: array {name!r} holds {array.dtype}, expected numbers")
        tensor = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
        tensors[name] = tensor.to(device, dtype if tensor.is_floating_point() else torch.int64)
    return meta, tensors
