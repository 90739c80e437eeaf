"""One rule side by side with its plain autograd counterpart: the same updates first, then seconds, bytes, overhead.

A `Case` says which rule learns in which network from how many observers. The functions below are called in processes of
their own (`protocols.forked`) and return plain numbers.
"""

import ctypes
import gc
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import analysis
from neurossl.architectures import from_description
from neurossl.errors import NeurosslError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.network import Network
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.recorders import Recorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from protocols.arithmetic import ProductRate, multiply_adds, synchronise
from protocols.plain_autograd import PlainModel, plain_model

RATE = 1e-9
"""Learning rate while the clock runs: so small that the last step finds the observers as active as the first."""
PREDICTIONS = 0.1
"""Factor on the initial feedback weights: it keeps every score within the margin, so that all observers are active."""
PROBE_RATE = 2.0**20
"""Learning rate at which the change of a weight shows its update to the last digits: the weight itself drowns in it."""
TOLERANCES = {"float64": 1e-10, "float32": 1e-3}
"""Relative error of any update up to which both sides do the same. Rounding opens some gates and moves some winners of
max-pooling in one implementation and not in the other, so that float32 has more than rounding errors."""

Step = Callable[[], None]


class Disagreement(NeurosslError):
    """Updates that are not those of the plain implementation: there is nothing to compare the speed of."""

    exit_status = 1


@dataclass(frozen=True)
class Case:
    """A rule in a network.

    Parameters
    ----------
    name : str
    rule : str
        One of `neurossl.RULES`.
    network : str
        As for `neurossl.architectures.from_description`.
    image : (channels, height, width)
    observers : int
        Per step.
    views : int
        Rows per observer.
    classes : int, optional
        Units of the readout.
    options : mapping
        Of the rule.
    products : {"float32"}
        Number type of the large products, whose rate sets the floor.
    """

    name: str
    rule: str
    network: str
    image: tuple[int, int, int]
    observers: int
    views: int = 2
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    products: str = "float32"

    @property
    def rows(self) -> int:
        """Rows per step."""
        return self.observers * self.views

    def small(self) -> "Case":
        """Return the same rule in a network so small that float64 takes no time."""
        if self.network.startswith("mlp"):
            return replace(self, network="mlp:13-11-9", image=(1, 4, 4), observers=5)
        return replace(self, network="conv:4-6M-5-7M", image=(3, 16, 16), observers=4)


def build(case: Case, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Network, Rule]:
    """Return the network of a case, with its weights, and the rule."""
    rule = make_rule(case.rule, **case.options)
    network = from_description(case.network, case.image, case.classes, normalisation=rule.normalisation)
    rule.wire(network).initialise(0, device, dtype)
    for pathway in network.feedback.values():
        pathway.weight.mul_(PREDICTIONS)
    return network, rule


def moment_for(case: Case, device: torch.device, dtype: torch.dtype = torch.float32) -> Moment:
    """Return a moment that every rule can learn from: partners, landings on the next row, labels, wake and sleep."""
    generator = torch.Generator().manual_seed(1)
    size = case.image if not case.network.startswith("mlp") else (math.prod(case.image),)
    stimulus = torch.randn(case.rows, *size, generator=generator)
    row = torch.arange(case.rows)
    partner = (row + case.rows // 2) % case.rows
    events = (
        Fixation(stimulus, partner),
        Saccade(partner[(row + 1) % case.rows][None]),
        Teaching(torch.randint(case.classes or 2, (case.rows,), generator=generator)),
        Phase(torch.where(row < case.rows // 2, 1.0, -1.0)),
    )
    return Moment(*events, observers=case.observers).to(device, dtype)


def disagreement(case: Case, network: Network, rule: Rule, model: PlainModel, moment: Moment) -> dict[str, float]:
    """Return how far our updates are from those of a plain model with the same weights, which both keep.

    Returns
    -------
    dict of str to float
        "error": the largest relative error ``|ours - plain| / |plain|`` of the weights or biases of any pathway; "active":
        the fraction of rows that receive credit, over all populations that do.
    """
    before = {n: [p.clone() for p in network.pathways[n].parameters] for n in model.synapses if network.pathways[n].plastic}
    probe = Synapses("sgd", lr=PROBE_RATE)
    Simulation(network, rule, probe, device=network.device, dtype=network.dtype).step(moment)
    responses: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, z: _watch(z, responses)) for block in model.blocks]
    model.loss(moment).backward()
    for hook in hooks:
        hook.remove()
    credited = [z.grad.flatten(1).abs().amax(1) > 0 for z in responses if z.grad is not None]
    expected = model.updates()
    model.zero_grad()
    errors = []
    for name, old in before.items():
        for weight, was, update in zip(network.pathways[name].parameters, old, expected[name], strict=True):
            errors.append(_relative(weight.sub_(was).div_(PROBE_RATE), update))
            weight.copy_(was)
    return {"error": max(errors), "active": float(torch.cat(credited).double().mean())}


def _watch(response: Tensor, kept: list[Tensor]) -> None:
    if response.requires_grad:
        response.retain_grad()
        kept.append(response)


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference relative to that of what is expected."""
    norm, distance = float(expected.norm()), float((found - expected).norm())
    if not math.isfinite(distance):
        return math.inf
    return distance / norm if norm else (math.inf if distance else 0.0)


def small_disagreement(case: Case, device: torch.device) -> float:
    """Return the error of our updates in float64 in a small network.

    Raises
    ------
    Disagreement
        If it is larger than the tolerance.
    """
    small = case.small()
    network, rule = build(small, device, torch.float64)
    moment = moment_for(small, device, torch.float64)
    error = disagreement(small, network, rule, plain_model(network, rule), moment)["error"]
    _refuse(case, "float64, small network", error, TOLERANCES["float64"])
    return error


def _refuse(case: Case, where: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:
        raise Disagreement(
            f"{case.name} ({where}): our updates differ from those of plain autograd by {error:.1e}, expected at most "
            f"{tolerance:g}: nothing was timed"
        )


def ours(network: Network, rule: Rule, moment: Moment, recorders: Sequence[Recorder] = ()) -> Step:
    """Return our step."""
    synapses = Synapses("adamw", lr=RATE)
    simulation = Simulation(network, rule, synapses, device=network.device, dtype=network.dtype, recorders=recorders)
    return lambda: simulation.step(moment)


def plain(model: PlainModel, moment: Moment) -> Step:
    """Return the plain step."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)

    def step() -> None:
        optimiser.zero_grad()
        model.loss(moment).backward()
        optimiser.step()

    return step


def time_cases(cases: Sequence[Case], device: torch.device, repeats: int, seconds: float, rate_side: int) -> dict[str, Any]:
    """Time cases in alternation, each with its plain counterpart, after checking that both propose the same updates.

    Parameters
    ----------
    cases : sequence of Case
        Measured in one alternation, so that they can be compared with each other as well.
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
        "cases": per name "error", "active", "synapses", "multiply_adds" (per row, by kind), "ours" and "plain" (seconds
        per step, one value per repeat); "rates": multiply-adds per second, one value per repeat, per number type.

    Raises
    ------
    Disagreement
    """
    found: dict[str, dict[str, Any]] = {}
    steps: dict[tuple[str, str], Step] = {}
    for case in cases:
        network, rule = build(case, device)
        moment, model = moment_for(case, device), plain_model(network, rule)
        found[case.name] = disagreement(case, network, rule, model, moment)
        _refuse(case, case.products, found[case.name]["error"], TOLERANCES[case.products])
        found[case.name]["synapses"] = sum(p.synapses for p in network.pathways.values())
        found[case.name]["multiply_adds"] = multiply_adds(network, rule)
        steps[case.name, "ours"], steps[case.name, "plain"] = ours(network, rule, moment), plain(model, moment)
    gc.collect()
    taken = alternate(steps, device, repeats, seconds, rates := product_rates(cases, device, rate_side))
    for (name, side), values in taken["steps"].items():
        found[name][side] = values
    return {"cases": found, "rates": {name: taken["rates"][name] for name in rates}}


def product_rates(cases: Sequence[Case], device: torch.device, side: int) -> dict[str, ProductRate]:
    """Return what measures the rate of the number types of some cases."""
    return {name: ProductRate(getattr(torch, name), device, side) for name in {c.products for c in cases} if side}


def alternate(
    steps: Mapping[Any, Step],
    device: torch.device,
    repeats: int,
    seconds: float,
    rates: Mapping[str, ProductRate] | None = None,
) -> dict[str, dict[Any, list[float]]]:
    """Return seconds per step ("steps") and product rates ("rates"), taken in turn, one value per repeat each."""
    counts = {}
    for key, step in steps.items():
        _timed(step, 1, device)
        counts[key] = min(1000, max(1, math.ceil(seconds / _timed(step, 1, device))))
    taken: dict[str, dict[Any, list[float]]] = {"steps": {k: [] for k in steps}, "rates": {n: [] for n in rates or {}}}
    for _ in range(repeats):
        for name, rate in (rates or {}).items():
            taken["rates"][name].append(rate())
        for key, step in steps.items():
            taken["steps"][key].append(_timed(step, counts[key], device))
    return taken


def _timed(step: Step, count: int, device: torch.device) -> float:
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(count):
        step()
    synchronise(device)
    return (time.perf_counter() - begun) / count


def machine_rates(device: torch.device, side: int, repeats: int = 5) -> dict[str, list[float]]:
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
    _one_side(case.small(), side, device)[0]()  # what the libraries load on their first use is not the step's
    step, plastic = _one_side(case, side, device)
    before = _start_peak(device)
    for _ in range(2):
        step()
    synchronise(device)
    peak = _read_peak(device)
    if before is None or peak is None:
        return {}
    return {"before": before, "peak": peak, "optimiser state": 2 * plastic * torch.finfo(torch.float32).bits // 8}


def _one_side(case: Case, side: str, device: torch.device) -> tuple[Step, int]:
    """Return the step of one side, with nothing of the other side left, and the number of plastic synapses."""
    network, rule = build(case, device)
    plastic = sum(p.synapses for p in network.pathways.values() if p.plastic)
    moment = moment_for(case, device)
    return (ours(network, rule, moment) if side == "ours" else plain(plain_model(network, rule), moment)), plastic


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
    """Time steps without recording, and steps that all record.

    Returns
    -------
    dict of str to list of float
        Seconds per step, one value per repeat: "none", "alignment" (`UpdateRecorder`), "weights" (`WeightRecorder` of 1,000
        synapses per pathway), both into a trajectory on the disk.
    """
    moment = moment_for(case, device)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def step(kind: str, *recorders: Callable[[analysis.TrajectoryWriter], Recorder]) -> Step:
            writer = stack.enter_context(analysis.TrajectoryWriter(Path(folder) / kind, {}))
            return ours(*build(case, device), moment, [make(writer) for make in recorders])

        steps = {
            "none": step("none"),
            "alignment": step("alignment", lambda writer: UpdateRecorder(writer, every=1)),
            "weights": step("weights", lambda writer: WeightRecorder(writer, every=1, index=1000)),
        }
        return alternate(steps, device, repeats, seconds)["steps"]
