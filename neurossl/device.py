"""The one decision about device and number type."""

import os

import torch

from neurossl.errors import OptionError

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def choose_device(name: str | torch.device) -> torch.device:
    """Return the device of this name.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda", "cuda:N"} or torch.device
        auto: a CUDA device where there is one.

    Raises
    ------
    OptionError
        If the name is no device or the device is not there.
    """
    if isinstance(name, torch.device):
        name = str(name)
    if not isinstance(name, str):
        raise OptionError(f"device {name!r} does not exist: expected auto, cpu or cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise OptionError(f"device {name!r} does not exist: expected auto, cpu or cuda")
    if kind == "cuda" and not (torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()):
        raise OptionError(f"device {name!r} is not available on this machine: use auto or cpu")
    return torch.device(name)


def choose_dtype(name: str | torch.dtype) -> torch.dtype:
    """Return the floating-point type of this name.

    Raises
    ------
    OptionError
        If it is neither float32 nor float64.
    """
    known = name if isinstance(name, torch.dtype) else DTYPES.get(str(name))
    if known is None or known not in DTYPES.values():
        raise OptionError(f"dtype {str(name).removeprefix('torch.')!r} is none of weights: expected float32 or float64")
    return known


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
