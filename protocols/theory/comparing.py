"""Local and backprop-derived updates under one condition, batch by batch, as `protocols.theory_equivalence` stores them."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.weights import Weights
from neurossl.events import Fixation, Moment
from neurossl.measures import TRUSTED, compare_updates, untrusted_because
from neurossl.plasticity import Backprop, Local
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.proposal import losses, propose
from neurossl.stimuli import ImageSet
from neurossl.store import Variable
from protocols.harness.parallel import Progress
from protocols.theory.conditions import Condition, Setting, network_for, stream_for
from protocols.theory.optimal_predictions import BothWays, fit, transport

FINER = torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
"""Rounding is so much finer in float64 than where the smallest norm that can be trusted comes from."""
MEASURES = ("cosine", "angle", "norm_ratio", "sign_agreement", "relative_error", "update_norm", "reference_norm")


@dataclass(frozen=True)
class Job:
    """One condition with one seed."""

    condition: Condition
    seed: int
    moments: int

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.condition.key

    label = name

    @property
    def path(self) -> str:
        """Of the run folder, below that of the protocol."""
        return f"{self.condition.key}/seed-{self.seed}"


def compare_updates_under(
    job: Job, progress: Progress, *, folder: Path, setting: Setting, images: ImageSet, about: Mapping[str, Any]
) -> float:
    """Compare local and backprop-derived updates under one condition, store it, and return the seconds that it took."""
    condition, device = job.condition, torch.device(setting.device)
    stream = stream_for(condition, setting, images, job.seed)
    network = network_for(condition, setting, stream[0].require(Fixation, by="theory").stimulus.shape[1:])
    objective = BothWays(contrast=condition.contrast, context=condition.context, pool=condition.pools or "global")
    rule, reference = Local(objective), Backprop(objective)
    reference.wire(rule.wire(network))
    circuit = Circuit(network, Weights.draw(network, job.seed, device, "float64"))
    configuration = {
        **about,
        **rule.describe(),
        "label": condition.key,
        "reference": "BP-CLAPP++",
        "reference_objective": reference.objective_in(network),
        "seed": job.seed,
        "condition": asdict(condition),
        "bound": condition.bound,
        "decay": condition.decay,
        "stream": repr(stream),
        "views": repr(stream.views),
        "network": network.describe(),
        "budget": setting.batches,
        "device": setting.device,
        "dtype": "float64",
    }
    begun, worst = time.perf_counter(), 0.0
    with analysis.TrajectoryWriter(folder / job.path) as writer:
        writer.describe(configuration)
        trusted = {"trustworthy": Variable(())}
        for name in network.feedforward:
            writer.declare("alignment", name, {measure: Variable(()) for measure in MEASURES} | trusted)
        for name in network.order:
            writer.declare("performance", name, {"loss": Variable(())})
        before = _shown(circuit, stream[setting.batches - 1])
        now = 0.0
        for number, moment in enumerate(stream, 1):
            activity, shown = _shown(circuit, moment)
            worst = max(worst, predict(condition, objective, activity, shown, before))
            before, now = (activity, shown), now + moment.duration
            here = number, now, number * setting.observers
            for name, measures in aligned(rule, reference, activity, shown).items():
                writer.record("alignment", name, *here, measures)
            for name, loss in losses(rule, activity, shown).items():
                writer.record("performance", name, *here, {"loss": float(loss)})
            progress(number)
        seconds = time.perf_counter() - begun
        writer.close("finished", seconds=seconds, measured={"largest distance of B from its optimum": worst})
    return seconds


def _shown(circuit: Circuit, moment: Moment) -> tuple[Activity, Moment]:
    """Return what a network does at a moment, and the moment where the network is."""
    there = moment.to(circuit.device, circuit.weights.dtype)
    return circuit.sweep(there.require(Fixation, by="theory").stimulus), there


def predict(
    condition: Condition, objective: BothWays, activity: Activity, moment: Moment, before: tuple[Activity, Moment]
) -> float:
    """Set the prediction weights as a condition says, and return the largest residual where they are to be optimal.

    Parameters
    ----------
    condition : Condition
    objective : BothWays
    activity, moment
        Of this batch.
    before : (Activity, Moment)
        Of the batch before.
    """
    network, residuals = activity.circuit.network, []
    everywhere = Local(objective, {"other populations"})  # the experimenter, who sets the predictions, sees everything
    for name in network.order:
        is_top = name == network.top
        if is_top or condition.predictions in ("optimal", "stale"):
            seen, then = before if condition.predictions == "stale" and not is_top else (activity, moment)
            site = Scope(seen, everywhere).site(name)
            decay = condition.decay * (1 if is_top else condition.softer)
            residuals += [fit(way, site, then, decay).residual for way in objective.ways]
    if condition.predictions == "transported":
        for name in network.order[:-1]:
            transport(objective, activity.circuit, name)
    return max(residuals)


def aligned(rule: Local, reference: Backprop, activity: Activity, moment: Moment) -> dict[str, dict[str, Any]]:
    """Return how close the updates of all feedforward pathways are, by pathway."""
    network = activity.circuit.network
    local, derived = (dict(propose(r, activity, moment)) for r in (rule, reference))
    norms = [float(activity[name].norm()) for name in network.order]
    growth = max((high / low for low, high in pairwise(norms) if low > 0), default=1.0)
    found = {}
    for name in network.feedforward:
        measures = compare_updates(local[name].weight, derived[name].weight)
        unknown = {"stability": math.nan, "reference_stability": math.nan, "activity_growth": growth}
        norm = FINER * measures["reference_norm"]
        trusted = untrusted_because(reference_norm=norm, cosine=measures["cosine"], **unknown) == TRUSTED
        found[name] = {**measures, "trustworthy": trusted}
    return found
