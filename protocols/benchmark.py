"""How fast is a step, beside plain autograd that computes the same? Seconds, memory, and how cost grows.

Every rule is first shown to propose the same updates as an idiomatic autograd implementation of the same mathematics, in
float64 and at the size that is timed. Then both take their steps in turn, so that whatever else the machine does meets both;
the same alternation times a large matrix product, whose rate gives the arithmetic floor of a step. Every observer is active.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import analysis
from neurossl.device import choose_device
from neurossl.errors import NeurosslError, OptionError
from protocols.harness.folder import finish, new_folder
from protocols.harness.isolation import Laboratory, Unmeasured
from protocols.speed import report as report
from protocols.speed.operation_counts import SIDE
from protocols.speed.report import Bound, Scaling
from protocols.speed.side_by_side import Case, Disagreement, small_disagreement
from protocols.speed.timing import machine_rates, peak_memory, recording_overhead, time_cases

PARTS = ("steps", "memory", "growth", "recording")
SETTLING = {"objective": "squared-error", "steps": 20}


def vgg(name: str, rule: str, network: str = "vgg6", side: int = 32, observers: int = 32, **more: Any) -> Case:
    """Return a case of the six-layer network, two views per observer."""
    return Case(name, rule, network, (3, side, side), observers, **more)


def mlp(name: str, rule: str, units: int, layers: int = 4, side: int = 28, observers: int = 128, **more: Any) -> Case:
    """Return a case of a network of dense layers."""
    return Case(name, rule, "mlp:" + "-".join([str(units)] * layers), (1, side, side), observers, **more)


def forward_forward(name: str, units: int, observers: int, **more: Any) -> Case:
    """Return a case of forward-forward; its threshold is near the goodness of random weights, so that all rows learn."""
    return mlp(name, "ff", units, observers=observers, options={"threshold": units / 5}, **more)


CASES: tuple[tuple[Case, ...], ...] = (
    (
        vgg("CLAPP++ (spatial)", "clapp++"),
        vgg("CLAPP++ (spatial), bfloat16", "clapp++", products="bfloat16"),
    ),
    (vgg("CLAPP++DFB (spatial)", "clapp++dfb"),),
    (
        vgg("CLAPP++ (global)", "clapp"),
        vgg("CLAPP++ (global), bfloat16", "clapp", products="bfloat16"),
        vgg("BP-CLAPP++", "bp-clapp++"),
        vgg("DFA of CLAPP++", "dfa-clapp"),
    ),
    (
        mlp("PC", "pc", 512, views=1, classes=10, options=SETTLING),
        mlp("BP", "bp", 512, views=1, classes=10),
        forward_forward("FF", 500, 100),
    ),
    (
        mlp("one seed", "clapp", 128, side=16, observers=32),
        mlp("eight seeds as replicas", "clapp", 128, side=16, observers=32, replicas=8),
    ),
)
"""What is timed; each inner tuple in one alternation."""
FULL_CASES: tuple[tuple[Case, ...], ...] = (
    (
        vgg("CLAPP++ (spatial), 96 pixels", "clapp++", side=96, observers=16),
        vgg("BP-CLAPP++, 96 pixels", "bp-clapp++", side=96, observers=16),
    ),
)
"""What is timed besides with ``--full``."""
REFERENCES = {
    "CLAPP++ (global)": "BP-CLAPP++",
    "DFA of CLAPP++": "BP-CLAPP++",
    "eight seeds as replicas": "one seed",
    "CLAPP++ (spatial), 96 pixels": "BP-CLAPP++, 96 pixels",
}
"""The case of the same alternation to which a case is compared, ours to ours."""
BOUNDS: dict[str, tuple[Bound, ...]] = {
    "CLAPP++ (spatial)": (Bound(report.RATIO, 1 / 1.3), Bound(report.FLOOR, 1.5), Bound(report.MEMORY, 0.75)),
    "CLAPP++ (spatial), bfloat16": (Bound(report.RATIO, 1 / 2), Bound(report.FLOOR, 1.5)),
    "CLAPP++ (global)": (Bound(report.RATIO, 1.0), Bound(report.FLOOR, 1.5), Bound(report.OWN, 0.8)),
    "CLAPP++ (global), bfloat16": (Bound(report.RATIO, 1 / 1.6), Bound(report.FLOOR, 1.5)),
    "DFA of CLAPP++": (Bound(report.OWN, 0.85),),
    "PC": (Bound(report.FLOOR, 1.25),),
    "eight seeds as replicas": (Bound(report.OWN, 3.0),),
    "CLAPP++ (spatial), 96 pixels": (Bound(report.WORKING_OWN, 0.5),),
    report.RECORDED["alignment"]: (Bound(report.OVERHEAD, 10.0),),
    report.RECORDED["weights"]: (Bound(report.OVERHEAD, 3.0),),
}
"""What this engine has to reach on two cores, by case."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and how thoroughly."""

    cases: tuple[tuple[Case, ...], ...]
    growth: tuple[tuple[Scaling, ...], ...]
    recording: Case
    bounds: Mapping[str, tuple[Bound, ...]]
    seconds: float
    rate_side: int


@dataclass(frozen=True)
class Task:
    """A measurement: the key under which it is kept, and what is called for it in a process of its own."""

    key: tuple[str, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def run(
    out: str,
    *,
    parts: Sequence[str] = PARTS,
    repeats: int = 5,
    full: bool = False,
    tiny: bool = False,
    device: str = "auto",
) -> analysis.Results:
    """Time every rule beside plain autograd that proposes the same updates.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    parts : sequence of str
        What to measure, out of steps, memory, growth, recording.
    repeats : int
        Of every alternation; medians and quartiles are over these.
    full : bool
        Larger networks, images, batches and depths as well, for a patient hour.
    tiny : bool
        A few seconds, for tests: small networks, for which no bound is stated.
    device : str
        auto, cpu or cuda.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, if our updates are not those of plain autograd or
        something could not be measured.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise OptionError(f"parts: expected some of {', '.join(PARTS)}, got {', '.join(parts) or 'none'}")
    if repeats < 1:
        raise OptionError(f"repeats: expected a whole number >= 1, got {repeats}")
    if full and tiny:
        raise OptionError("--full and --tiny: give one of them")
    chosen = choose_device(device)
    plan = _tiny_plan() if tiny else _plan(full)
    laboratory = Laboratory(torch.get_num_threads())
    folder = Path(out)
    new_folder(folder)
    options = {"parts": list(parts), "repeats": repeats, "full": full, "tiny": tiny, "device": chosen.type}
    try:
        found, problems = _measure(laboratory, _tasks(plan, parts, repeats, chosen))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; results are stored at the end alone: {folder} is empty") from None
    cases = [case for group in plan.cases for case in group]
    growth = [scaled for group in plan.growth for scaled in group]
    results = finish(folder, report.results(found, cases, growth, plan.bounds, REFERENCES, options))
    if problems:
        error = NeurosslError(f"{len(problems)} measurements failed: {'; '.join(problems)}; the others are in {folder}")
        error.exit_status = 1
        raise error
    return results


def _plan(full: bool) -> Plan:
    width = "vgg6:0.5" if full else "vgg6:0.25"
    observers = (4, 8, 16, 32, 64) if full else (4, 8, 16, 32)
    layers = (2, 4, 8, 16) if full else (2, 4, 8)
    growth = _growth(width, observers, (32, 64, 96), layers)
    recorded = vgg("recording", "clapp++", "vgg6" if full else "vgg6:0.25")
    return Plan(CASES + FULL_CASES if full else CASES, growth, recorded, BOUNDS, 0.3, SIDE)


def _tiny_plan() -> Plan:
    def shrunk(case: Case) -> Case:
        if case.rule == "ff":
            return forward_forward(case.name, 24, 4, layers=2)
        return replace(case, network="mlp:24-20" if case.kind[1] == "dense" else "vgg6:0.03", observers=4)

    cases = tuple(tuple(shrunk(case) for case in group) for group in CASES)
    growth = _growth("vgg6:0.03", (2, 4), (16, 32), (2, 3), channels=4)
    return Plan(cases, growth[::8], vgg("recording", "clapp++", "vgg6:0.03", observers=4), {}, 0.002, 128)


def _growth(
    network: str, observers: Sequence[int], sides: Sequence[int], layers: Sequence[int], channels: int = 64
) -> tuple[tuple[Scaling, ...], ...]:
    """Return the cases that grow in one respect, one tuple per respect and rule."""
    groups = []
    for name, rule in (
        ("CLAPP++ (global)", "clapp"),
        ("CLAPP++ (spatial)", "clapp++"),
        ("CLAPP++DFB (spatial)", "clapp++dfb"),
        ("BP-CLAPP++", "bp-clapp++"),
        ("DFA of CLAPP++", "dfa-clapp"),
    ):
        deep = {n: f"conv:{channels}M" + f"-{channels}" * (n - 1) for n in layers}
        groups += [
            tuple(Scaling(name, "observers", n, vgg(f"{n}", rule, network, observers=n)) for n in observers),
            tuple(Scaling(name, "pixels", n, vgg(f"{n}", rule, network, n, observers[0])) for n in sides),
            tuple(Scaling(name, "layers", n, vgg(f"{n}", rule, deep[n], observers=min(observers[-1], 16))) for n in layers),
        ]
    dense: dict[str, Callable[..., Case]] = {
        "PC": partial(mlp, rule="pc", views=1, classes=10, options=SETTLING),
        "BP": partial(mlp, rule="bp", views=1, classes=10),
        "FF": forward_forward,
    }
    for name, make in dense.items():
        common = {"units": 256, "observers": observers[-1]}
        groups += [
            tuple(Scaling(name, "observers", n, make(f"{n}", **{**common, "observers": n})) for n in observers),
            tuple(Scaling(name, "pixels", n, make(f"{n}", side=n, **common)) for n in sides),
            tuple(Scaling(name, "layers", n, make(f"{n}", layers=n, **common)) for n in layers),
        ]
    return tuple(groups)


def _tasks(plan: Plan, parts: Sequence[str], repeats: int, device: torch.device) -> list[Task]:
    """Return all measurements, the proofs that both sides do the same first."""
    stated = plan.cases if {"steps", "memory"} & set(parts) else ()
    grown = plan.growth if "growth" in parts else ()
    cases = [case for group in stated for case in group]
    proofs = {case.kind: case for case in [*cases, *(group[0].case for group in grown)]}
    tasks = [Task(("small", *kind), small_disagreement, (case, device)) for kind, case in proofs.items()]
    tasks.append(Task(("rates",), machine_rates, (device, plan.rate_side, repeats)))
    if "steps" in parts:
        tasks += [
            Task(("steps", group[0].name), time_cases, (group, device, repeats, plan.seconds, plan.rate_side))
            for group in stated
        ]
    if "memory" in parts:
        tasks += [
            Task(("memory", case.name, side), peak_memory, (case, side, device))
            for case in cases
            for side in ("ours", "plain")
            if case.kind[1] == "maps" and (side == "ours" or case.products == "float32")
        ]
    tasks += [
        Task(
            ("growth", group[0].rule, group[0].axis),
            time_cases,
            ([scaled.case for scaled in group], device, repeats, plan.seconds / 3, 0),
        )
        for group in grown
    ]
    if "recording" in parts:
        tasks.append(Task(("recording",), recording_overhead, (plan.recording, device, repeats, plan.seconds)))
    return tasks


def _measure(laboratory: Laboratory, tasks: Sequence[Task]) -> tuple[dict[tuple[str, ...], Any], list[str]]:
    """Return what was found, by the keys of the tasks, and what could not be measured."""
    found: dict[tuple[str, ...], Any] = {}
    problems: list[str] = []
    with tqdm(tasks, desc="benchmark", unit="measurement") as bar:
        for task in bar:
            bar.set_postfix_str(", ".join(task.key))
            try:
                found[task.key] = laboratory.call(task.function, *task.arguments)
            except (Unmeasured, Disagreement) as reason:
                if task.function is small_disagreement:
                    raise
                problems.append(f"{', '.join(task.key)}: {reason}")
    return found, problems
