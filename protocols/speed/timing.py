"""What a step costs: seconds, bytes, and what recording adds, each measured in a process of its own.

The functions are called through `protocols.harness.isolation` and return plain numbers.
"""

import ctypes
import gc
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.recorders import Recorder, UpdateRecorder, WeightRecorder
from protocols.speed.operation_counts import ProductRate, multiply_adds, synchronise
from protocols.speed.side_by_side import Case, Step, agreed, both_sides, ours, plain

MOST_STEPS = 1000
"""Per repeat."""


def time_cases(cases: Sequence[Case], device: torch.device, repeats: int, seconds: float, rate_side: int) -> dict[str, Any]:
    """Time cases in alternation, each with its plain counterpart, after checking that both propose the same updates.

    Parameters
    ----------
    cases : sequence of Case
        Measured in one alternation, so that they can be compared with each other as well. Where two differ in the number
        type of our products alone, the plain side is timed once.
    device : torch.device
    repeats : int
        Of the alternation.
    seconds : float
        Steps are repeated within a repeat until they take so long.
    rate_side : int
        Side of the matrices whose product sets the rate, timed once per repeat; 0 for none.

    Returns
    -------
    dict
        "cases": per name "error", "tolerance", "active", "synapses", "multiply_adds" (of a step, by kind), "ours" and
        "plain" (seconds per step, one value per repeat); "rates": multiply-adds per second, one value per repeat, by number
        type.

    Raises
    ------
    Disagreement
    """
    found: dict[str, dict[str, Any]] = {}
    steps: dict[Any, Step] = {}
    shared: dict[Any, Any] = {}
    for case in cases:
        sides = both_sides(case, device)
        agreement = agreed(sides, f"{case.products} products")
        network = sides.circuits[0].network
        counts = {kind: n * case.rows for kind, n in multiply_adds(network, sides.rules[0]).items()}
        synapses = sum(p.synapses for p in network.pathways.values())
        found[case.name] = {**agreement, "synapses": synapses, "multiply_adds": counts}
        twin = (case.rule, case.network, case.image, case.observers, case.replicas)
        shared[case.name] = twin
        steps[case.name] = ours(sides)
        if twin not in steps:
            steps[twin] = plain(sides)
        del sides
    gc.collect()
    rates = {n: ProductRate(getattr(torch, n), device, rate_side) for n in {c.products for c in cases} if rate_side}
    taken, rated = alternate(steps, device, repeats, seconds, rates)
    for name, result in found.items():
        result["ours"], result["plain"] = taken[name], taken[shared[name]]
    return {"cases": found, "rates": rated}


def alternate(
    steps: Mapping[Any, Step],
    device: torch.device,
    repeats: int,
    seconds: float,
    rates: Mapping[str, ProductRate] | None = None,
) -> tuple[dict[Any, list[float]], dict[str, list[float]]]:
    """Return seconds per step and product rates, taken in turn, one value per repeat each, after a step to warm up."""
    counts = {}
    for key, step in steps.items():
        first = _timed(step, 1, device)
        # A first step that is long enough need not be repeated to know how many there will be.
        counts[key] = 1 if first >= 4 * seconds else math.ceil(seconds / _timed(step, 1, device))
    taken: dict[Any, list[float]] = {key: [] for key in steps}
    rated: dict[str, list[float]] = {name: [] for name in rates or {}}
    for _ in range(repeats):
        for name, rate in (rates or {}).items():
            rated[name].append(rate())
        for key, step in steps.items():
            taken[key].append(_timed(step, min(MOST_STEPS, counts[key]), device))
    return taken, rated


def _timed(step: Step, count: int, device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(count):
        step()
    synchronise(device)
    return (time.perf_counter() - begun) / count


def machine_rates(device: torch.device, side: int, repeats: int) -> dict[str, list[float]]:
    """Return multiply-adds per second of large square products in float32 and bfloat16, one value per repeat."""
    rates = {name: ProductRate(getattr(torch, name), device, side) for name in ("float32", "bfloat16")}
    return {name: [rate() for _ in range(repeats)] for name, rate in rates.items()}


def peak_memory(case: Case, side: str, device: torch.device) -> dict[str, int]:
    """Return the memory of two steps, which is that of any later one, in a process that does nothing else.

    Parameters
    ----------
    case : Case
    side : {"ours", "plain"}
    device : torch.device

    Returns
    -------
    dict of str to int
        Bytes: "before" the first step (weights and stimulus are there), "peak", "optimiser state" (AdamW keeps two numbers
        per plastic weight). On a CPU of the resident set, on a GPU of what torch has allocated. Empty where the system
        does not tell.
    """
    _return_freed_memory()
    small = replace(case.small(), products=case.products)
    _one_side(small, side, device)[0]()  # what the libraries load on their first use is not the step's
    step, plastic = _one_side(case, side, device)
    before = _start_peak(device)
    for _ in range(2):
        step()
    synchronise(device)
    peak = _read_peak(device)
    if before is None or peak is None:
        return {}
    return {"before": before, "peak": peak, "optimiser state": 2 * plastic * torch.finfo(torch.float32).bits // 8}


def _return_freed_memory() -> None:
    """Have the C library give every large block back when it is freed.

    By default it keeps blocks up to a size that grows with those freed before, so that the peak of a step would depend on
    what the process has loaded.
    """
    largest_kept = -3  # M_MMAP_THRESHOLD of glibc's mallopt
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(largest_kept, 128 * 1024)


def _one_side(case: Case, side: str, device: torch.device) -> tuple[Step, int]:
    """Return the step of one side, with nothing of the other side left, and the number of plastic synapses."""
    sides = both_sides(case, device)
    plastic = sum(p.synapses for circuit in sides.circuits for p in circuit.network.pathways.values() if p.plastic)
    step = ours(sides) if side == "ours" else plain(sides)
    for part in (sides.circuits, sides.rules, sides.models):
        part.clear()
    return step, plastic


def _start_peak(device: torch.device) -> int | None:
    """Begin to watch the peak of memory and return what is in use, in bytes; None where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # gives freed memory back, which the step would otherwise use unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident set starts again from here
    except OSError:
        return None
    return _resident("VmRSS")


def _read_peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")


def _resident(entry: str) -> int | None:
    """Return an entry of Linux's account of this process, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{entry}:"):
                return int(line.split()[1]) * 1024
    return None


def recording_overhead(case: Case, device: torch.device, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Time steps without recording, and steps that all record, into trajectories on the disk.

    Returns
    -------
    dict of str to list of float
        Seconds per step, one value per repeat: "none", "alignment" (`UpdateRecorder`), "weights" (`WeightRecorder` of 1,000
        synapses per pathway).
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def step(kind: str, *recorders: Recorder) -> Step:
            store = stack.enter_context(analysis.TrajectoryWriter(Path(folder) / kind))
            return ours(both_sides(case, device), store, recorders)

        steps = {
            "none": ours(both_sides(case, device)),
            "alignment": step("alignment", UpdateRecorder(every=1)),
            "weights": step("weights", WeightRecorder(every=1, index=1000)),
        }
        return alternate(steps, device, repeats, seconds)[0]
