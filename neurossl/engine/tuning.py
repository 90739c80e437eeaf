"""How a network is computed fastest on the processor at hand: measured once, and remembered.

Which library multiplies matrices faster, and whether a convolution is better computed by its kernel (with maps that lie
channels last or channels first in memory) or as one product, differs between processors by factors of two. Large networks
ask; small ones, and other devices and number types than float32 and bfloat16 on a CPU, take the ways of torch.

Measured is the processor time of one thread, which does not depend on what else the machine does, nor on how many threads
a run has. Every answer is a file of its own in the user's cache, named by what was asked: processor, version of torch,
shapes. The first answer holds for all processes, so that equal runs stay equal bit for bit; a file that says anything but
one of the candidates is ignored. Where no answer can be kept, none is asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.connectivity import Convolution
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.engine import kernels, limits, products
from neurossl.engine.execution import Execution, Means
from neurossl.engine.products import LIBRARIES
from neurossl.files import make_folder, read_whole, temporary_for

Candidates = Mapping[str, Callable[[], object]]
"""What is compared, the way of torch first."""


def tuned(network: Network, device: torch.device, dtype: torch.dtype, number_type: torch.dtype | None = None) -> Execution:
    """Return how a network is computed fastest here.

    Parameters
    ----------
    network : Network
    device : torch.device
    dtype : torch.dtype
        Of the weights.
    number_type : torch.dtype, optional
        Of the products (bfloat16); that of the weights by default.
    """
    if device.type != "cpu" or dtype != torch.float32:
        return Execution(number_type)
    convolutions = {name: p for name, p in network.feedforward.items() if _is_large(network, p)}
    most = max((prod(pathway.weight_shape) for pathway in network.pathways.values()), default=0)
    if not convolutions and most < limits.TUNED_WEIGHTS:
        return Execution(number_type)
    kept = Answers.here()
    if kept is None:
        return Execution(number_type)
    library = LIBRARIES[0]
    if products.has_onednn() and number_type is None:
        library = kept.ask({"what": "product of matrices"}, LIBRARIES, _matrices)
    found = {
        name: _forms(kept, pathway, network.populations[pathway.pre].shape, library, number_type or dtype)
        for name, pathway in convolutions.items()
    }
    drive = {name: forms["drive"] for name, forms in found.items()}
    change = {name: forms["change"] for name, forms in found.items()}
    return Execution(number_type, matrices=library, drive=drive, change=change)


def _is_large(network: Network, pathway: FeedforwardPathway) -> bool:
    if not isinstance(pathway.connectivity, Convolution):
        return False
    return prod(pathway.weight_shape) * prod(pathway.post_neurons[1:]) >= limits.TUNED_CONVOLUTION


def _forms(
    kept: Answers, pathway: FeedforwardPathway, shape: tuple[int, ...], library: str, dtype: torch.dtype
) -> dict[str, str]:
    """Return the fastest form of drive and change of a convolution."""
    wiring, neurons = pathway.connectivity, pathway.post_neurons[1:]
    is_small = prod(neurons) <= limits.PRODUCT_MAP
    forms = ("last", "product") if is_small else ("last", "first")
    rows, channels = limits.PROBE_SMALL if is_small else limits.PROBE_LARGE
    weights = (min(channels, pathway.weight_shape[0]), *pathway.weight_shape[1:])
    if not is_small:
        rows = max(1, min(rows, limits.PROBE_MULTIPLICATIONS // (prod(weights) * prod(neurons))))
    key = {
        "connectivity": repr(wiring),
        "weights": list(weights),
        "map": list(shape),
        "rows": rows,
        "dtype": str(dtype),
        "matrices": library,
    }

    def ones(*size: int) -> Tensor:
        return torch.ones(size, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def candidates(of: str) -> Candidates:
        x, weight = ones(rows, *shape), ones(*weights)
        credit, bias = ones(rows, len(weight), *neurons), torch.ones(len(weight), dtype=dtype)
        if of == "drive":
            return {f: lambda f=f: kernels.drive(wiring, x, weight, bias, Means(library, drive=f)) for f in forms}  # type: ignore[misc]
        return {f: lambda f=f: kernels.hebbian(wiring, x, credit, weight, True, Means(library, change=f)) for f in forms}  # type: ignore[misc]

    return {of: kept.ask({"what": of, **key}, forms, lambda of=of: candidates(of)) for of in ("drive", "change")}  # type: ignore[misc]


def _matrices() -> Candidates:
    x, weight = torch.ones(64, 1024), torch.ones(1024, 1024)
    return {library: lambda by=library: products.linear(x, weight, None, by) for library in LIBRARIES}  # type: ignore[misc]


class Answers:
    """What was measured on this processor, in a folder.

    Parameters
    ----------
    folder : Path
        Which exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._about = {"processor": processor(), "torch": torch.__version__}

    @classmethod
    def here(cls) -> Answers | None:
        """Return those in the user's cache, or None where nothing can be kept."""
        try:
            root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            folder = Path(root).absolute() / "neurossl" / "tuning"
            make_folder(folder)
        except (OSError, RuntimeError):
            return None
        return cls(folder) if os.access(folder, os.W_OK | os.X_OK) else None

    def ask(self, question: Mapping[str, Any], known: tuple[str, ...], candidates: Callable[[], Candidates]) -> str:
        """Return the fastest candidate: as it was measured before, by whomever, or else now.

        Parameters
        ----------
        question : mapping
            What tells it from others on this processor.
        known : sequence of str
            Names of the candidates, the way of torch first.
        candidates : callable
            Returns the candidates by name.
        """
        key = {**self._about, **question}
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / f"{name}.json"
        answer = _read(path, key, known)
        if answer is not None:
            return answer
        best, seconds = fastest(candidates())
        with suppress(OSError):
            _keep(path, json.dumps({"key": key, "fastest": best, "seconds": seconds}).encode(), key, known)
        # Another process may have been faster.
        return _read(path, key, known) or known[0]


def fastest(candidates: Candidates) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest candidate, and the seconds of all; the first one unless another is clearly faster."""
    with _one_thread(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        for candidate in candidates.values():
            candidate()
        rounds = [{name: _seconds(c) for name, c in candidates.items()} for _ in range(limits.PROBE_ROUNDS)]
    seconds = {name: min(each[name] for each in rounds) for name in candidates}
    first, best = next(iter(candidates)), min(seconds, key=seconds.__getitem__)
    # Where something else keeps the processor busy, one lucky round is no proof.
    wins = sum(each[best] < each[first] for each in rounds)
    is_clear = seconds[best] < limits.GAIN * seconds[first] and wins > len(rounds) / 2
    return best if is_clear else first, seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in this thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(candidate: Callable[[], object]) -> float:
    begun = time.thread_time()
    candidate()
    return time.thread_time() - begun


def _read(path: Path, key: Mapping[str, Any], known: tuple[str, ...]) -> str | None:
    """Return an answer that was kept; None where there is none, or none that makes sense."""
    try:
        found = json.loads(read_whole(path, most=2**16))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("key") != key or found.get("fastest") not in known:
        return None
    return str(found["fastest"])


def _keep(path: Path, data: bytes, key: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Write an answer, whole or not at all, unless there is one."""
    with temporary_for(path) as temporary:
        temporary.write_bytes(data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            if _read(path, key, known) is None:
                os.replace(temporary, path)


@cache
def processor() -> str:
    """Return what tells this processor from others: its name and what it can do."""
    told = [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
        wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
        told += [line for line in first if line.startswith(wanted)]
    return f"{told[0]} {told[2]} {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"
