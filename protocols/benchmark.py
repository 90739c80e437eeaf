"""How fast is a step, beside plain autograd that computes the same? Seconds, memory, and how cost grows.

Every rule is first shown to propose the same updates as an idiomatic autograd implementation of the same mathematics, in
float64 and at the size that is timed. Then both take their steps in turn, so that whatever else the machine does meets both;
the same alternation times a large matrix product, whose rate gives the arithmetic floor of a step. Every observer is active.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Unpack

import torch

import analysis
from neurossl.errors import OptionError
from neurossl.progress import Progress
from protocols.harness.checks import positive
from protocols.harness.experiment import Experiment
from protocols.harness.isolation import Laboratory, Unmeasured
from protocols.harness.settings import settle
from protocols.harness.shared import Measured, reject_unknown
from protocols.speed import report
from protocols.speed.cases import REFERENCES, Task, full_plan, tasks_of, tiny_plan
from protocols.speed.side_by_side import Disagreement, small_disagreement

STEPS = ("steps", "memory", "growth", "recording")
PARTS = (*STEPS, "store")


def run(
    out: str, *, parts: Sequence[str] = STEPS, repeats: int = 5, full: bool = False, **common: Unpack[Measured]
) -> analysis.Results:
    """Time every rule beside plain autograd that proposes the same updates.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    parts : sequence of str
        What to measure, out of steps, memory, growth, recording, and store: opening, reading and writing runs.
    repeats : int
        Of every alternation; medians and quartiles are over these.
    full : bool
        Larger networks, images, batches and depths as well, for a patient hour.
    **common
        See `protocols.harness.shared.Measured`; no bound is stated for the small networks of tests.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, if our updates are not those of plain autograd or
        something could not be measured.
    """
    reject_unknown(common, Measured)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise OptionError(f"parts: expected some of {', '.join(PARTS)}, got {', '.join(parts) or 'none'}")
    positive("repeats", repeats)
    if full and common.get("tiny"):
        raise OptionError("--full and --tiny: give one of them")
    setting = settle(out, "benchmark", common, {})
    device = torch.device(setting.device)
    plan = tiny_plan() if setting.tiny else full_plan(full)
    laboratory = Laboratory(torch.get_num_threads())
    options = {"parts": list(parts), "repeats": repeats, "full": full, "tiny": setting.tiny, "device": device.type}
    with Experiment(setting, options, [], "measurements") as experiment:
        found = measure(experiment, laboratory, tasks_of(plan, parts, repeats, device))
        cases = [case for group in plan.cases for case in group]
        growth = [scaled for group in plan.growth for scaled in group]
        return experiment.finish(report.results(found, cases, growth, plan.bounds, REFERENCES, options))


def measure(experiment: Experiment, laboratory: Laboratory, tasks: Sequence[Task]) -> dict[tuple[str, ...], Any]:
    """Return what was found, by the keys of the tasks; what could not be measured is a problem of the experiment."""
    found: dict[tuple[str, ...], Any] = {}
    with Progress("text", "benchmark", len(tasks), unit="measurement") as bar:
        for number, task in enumerate(tasks):
            try:
                call = partial(laboratory.call, task.function, *task.arguments)
                found[task.key] = experiment.kept(f"measured/{number:03d}.json", call)
            except (Unmeasured, Disagreement) as reason:
                if task.function is small_disagreement:
                    raise
                experiment.problems[", ".join(task.key)] = str(reason)
            bar(number + 1)
    return found
