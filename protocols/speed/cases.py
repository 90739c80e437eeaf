"""What `protocols.benchmark` measures: the cases, what each has to reach, and how they grow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from protocols.speed import report, store_cases, store_report
from protocols.speed.operation_counts import SIDE
from protocols.speed.report import Bound, Scaling
from protocols.speed.side_by_side import Case, small_disagreement
from protocols.speed.timing import machine_rates, peak_memory, recording_overhead, time_cases

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
        vgg("CLAPP++ (global)", "clapp++gap"),
        vgg("CLAPP++ (global), bfloat16", "clapp++gap", products="bfloat16"),
        vgg("BP-CLAPP++", "bp-clapp++"),
        vgg("DFA of CLAPP++", "dfa-clapp"),
    ),
    (
        mlp("PC", "pc", 512, views=1, classes=10, options=SETTLING),
        mlp("BP", "bp", 512, views=1, classes=10),
        forward_forward("FF", 500, 100),
    ),
    (
        mlp("one seed", "clapp++gap", 128, side=16, observers=32),
        mlp("eight seeds as replicas", "clapp++gap", 128, side=16, observers=32, replicas=8),
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
    **{case: tuple(Bound(*bound) for bound in bounds) for case, bounds in store_report.BOUNDS.items()},
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
    store: store_cases.Sizes


@dataclass(frozen=True)
class Task:
    """A measurement: the key under which it is kept, and what is called for it in a process of its own."""

    key: tuple[str, ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def full_plan(full: bool) -> Plan:
    """Return what is measured; with ``full`` for a patient hour."""
    width = "vgg6:0.5" if full else "vgg6:0.25"
    observers = (4, 8, 16, 32, 64) if full else (4, 8, 16, 32)
    layers = (2, 4, 8, 16) if full else (2, 4, 8)
    growth = _growth(width, observers, (32, 64, 96), layers)
    recorded = vgg("recording", "clapp++", "vgg6" if full else "vgg6:0.25")
    return Plan(CASES + FULL_CASES if full else CASES, growth, recorded, BOUNDS, 0.3, SIDE, store_cases.Sizes())


def tiny_plan() -> Plan:
    """Return what is measured in tests: small networks, for which no bound is stated."""

    def shrunk(case: Case) -> Case:
        if case.rule == "ff":
            return forward_forward(case.name, 24, 4, layers=2)
        return replace(case, network="mlp:24-20" if case.kind[1] == "dense" else "vgg6:0.03", observers=4)

    cases = tuple(tuple(shrunk(case) for case in group) for group in CASES)
    growth = _growth("vgg6:0.03", (2, 4), (16, 32), (2, 3), channels=4)
    return Plan(cases, growth[::8], vgg("recording", "clapp++", "vgg6:0.03", observers=4), {}, 0.002, 128, store_cases.TINY)


def _growth(
    network: str, observers: Sequence[int], sides: Sequence[int], layers: Sequence[int], channels: int = 64
) -> tuple[tuple[Scaling, ...], ...]:
    """Return the cases that grow in one respect, one tuple per respect and rule."""
    groups = []
    for name, rule in (
        ("CLAPP++ (global)", "clapp++gap"),
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


def tasks_of(plan: Plan, parts: Sequence[str], repeats: int, device: torch.device) -> list[Task]:
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
    if "store" in parts:
        tasks += [Task(("store", name), case, (plan.store, repeats)) for name, case in store_cases.CASES.items()]
    return tasks
