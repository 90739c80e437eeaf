"""When is a local update equal to the backprop-derived one, and what is lost with each condition that does not hold?

Theorem 3.1 and figures 2, 3a and 4b of Wu et al. 2026 (arXiv 2601.21683). In a chain of linear populations without biases,
with orthonormal weights between populations of one size, the CLAPP++ update of every layer is the one that backprop derives
from the CLAPP++ loss of the top, provided that the predictions B of every layer are at the optimum of its own loss for the
batch. Each condition here keeps or breaks one of these; the feedforward weights never change, a batch is an event, and both
updates are proposed on the same activity, events and weights.

Differences from the published simulations: B is sought for every batch anew, by Newton's method instead of L-BFGS from where
the batch before has left it (the optimum is unique; after 1,000 evaluations L-BFGS is still up to 1e-4 away from it on the
digits); where B is random it is the same in all batches; crops are sampled bilinearly; intervals are Student's.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.activity import Activity
from neurossl.device import choose_device
from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment
from neurossl.measures import compare_updates, is_trustworthy
from neurossl.network import Network
from neurossl.plasticity import Backprop, Local, View
from neurossl.stimuli import ImageSet, load_images
from protocols.harness.folder import finish, unfinished
from protocols.harness.learning import choose_seeds, choose_workers, indexed, positive, start
from protocols.harness.parallel import Progress, side_by_side
from protocols.theory.conditions import CONDITIONS, Condition, Setting, network_for, stream_for
from protocols.theory.optimal_predictions import BothWays, fit, transport
from protocols.theory.report import report

FINER = torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
"""Rounding is so much finer in float64 than where the smallest norm that can be trusted comes from."""
MEASURES = ("cosine", "angle", "norm_ratio", "sign_agreement", "relative_error", "update_norm", "reference_norm")


@dataclass(frozen=True)
class Job:
    """One condition with one seed."""

    condition: Condition
    seed: int

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.condition.key

    label = name

    @property
    def path(self) -> str:
        """Of the run folder, below that of the protocol."""
        return f"{self.condition.key}/seed-{self.seed}"


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    part: str = "train",
    batches: int | None = None,
    observers: int = 32,
    seeds: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    tiny: bool = False,
) -> analysis.Results:
    """When is a local update equal to the backprop-derived one, and what does each broken condition cost?

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    dataset : str
        mnist, as published, or any other that compare_rules takes; quarters of the images and crops of 16 x 16 are shown.
    data_dir : str, optional
        Where the data set of torchvision is.
    download : bool
        Fetch it if it is not there.
    part : str
        train or test: which images are shown, the first of them in their order.
    batches : int, optional
        Number of batches; 32 by default, as published.
    observers : int
        Images per batch.
    seeds : int, optional
        Number of seeds, 0, 1, ...; 1 by default. With several, intervals are over seeds instead of batches.
    seed : int, optional
        Run this one seed alone.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Conditions side by side; by default one per core on a CPU.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a condition could not finish.
    """
    if part not in ("train", "test"):
        raise OptionError(f"part: expected train or test, got {part!r}")
    chosen_seeds = choose_seeds(seed, seeds, default=1)
    count = positive("batches", batches if batches is not None else 2 if tiny else 32)
    shown = min(8, observers) if tiny else observers
    chosen_device = choose_device(device).type
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    pixels = images.shape[0] * (images.shape[1] // 2) * (images.shape[2] // 2)
    if images.shape[1] % 2 or images.shape[2] % 2 or pixels < 32:
        raise OptionError(f"dataset {dataset!r}: expected images with even sides of at least 12 pixels, got {images.shape}")
    available = len(images.train if part == "train" else images.test)
    if positive("observers", shown) * count > available or shown < 2:
        raise OptionError(
            f"observers and batches: expected at least 2 observers and {available} images at most, got {shown} x {count}"
        )
    grey = images.train.float() / 255
    setting = Setting(
        dataset=dataset,
        part=part,
        batches=count,
        observers=shown,
        mean=float(grey.mean()),
        std=float(grey.std()),
        width=32 if tiny else min(128, 2 ** int(math.log2(pixels))),
        channels=4 if tiny else 32,
        device=chosen_device,
    )
    folder = Path(out)
    options = {**asdict(setting), "seeds": chosen_seeds}
    jobs = [Job(condition, s) for condition in CONDITIONS for s in chosen_seeds]
    start(folder, "theory_equivalence", options, jobs)
    with indexed(folder, "theory_equivalence", options, jobs):
        outcomes = side_by_side(
            jobs,
            partial(_compare, folder=folder, setting=setting, images=images),
            workers=processes,
            moments=setting.batches,
            what="conditions",
            label=lambda job: job.path,
            interrupted=f"interrupted; what was recorded is kept in {folder}",
        )
    problems = {o.job.path: o.problem for o in outcomes if o.problem}
    if problems:
        raise unfinished(problems, len(jobs), "conditions", folder)
    return finish(folder, report(analysis.open_comparison([folder]), options))


def _compare(job: Job, progress: Progress, *, folder: Path, setting: Setting, images: ImageSet) -> float:
    """Compare local and backprop-derived updates under one condition, store it, and return the seconds that it took."""
    condition, device = job.condition, torch.device(setting.device)
    stream = stream_for(condition, setting, images, job.seed)
    network = network_for(condition, setting, stream[0].require(Fixation, by="theory").stimulus.shape[1:])
    network.initialise(job.seed, device, torch.float64)
    objective = BothWays(contrast=condition.contrast, context=condition.context, pool=condition.pools or "global")
    rule, reference = Local(objective), Backprop(objective)
    reference.wire(rule.wire(network))
    configuration = {
        "protocol": "theory_equivalence",
        **rule.describe(),
        "label": condition.key,
        "reference": "BP-CLAPP++",
        "seed": job.seed,
        "condition": asdict(condition),
        "bound": condition.bound,
        "decay": condition.decay,
        "dataset": setting.dataset,
        "images": repr(images),
        "stream": repr(stream),
        "views": repr(stream.views),
        "network": network.describe(),
        "device": setting.device,
        "dtype": "float64",
    }
    begun, worst = time.perf_counter(), 0.0
    with analysis.TrajectoryWriter(folder / job.path, configuration) as writer:
        for name in network.feedforward:
            writer.declare("alignment", name, dict.fromkeys((*MEASURES, "trustworthy"), ()))
        for name in network.order:
            writer.declare("performance", name, {"loss": ()})
        before = _shown(network, stream[setting.batches - 1])
        now = 0.0
        for number, moment in enumerate(stream, 1):
            activity, shown = _shown(network, moment)
            worst = max(worst, predict(condition, objective, activity, shown, before))
            before, now = (activity, shown), now + moment.duration
            here = number, now, number * setting.observers
            for name, measures in aligned(rule, reference, activity, shown).items():
                writer.record("alignment", name, *here, measures)
            for name, loss in rule.losses(activity, shown).items():
                writer.record("performance", name, *here, {"loss": float(loss)})
            progress(number)
        seconds = time.perf_counter() - begun
        writer.close("finished", seconds=seconds, fit_residual=worst)
    return seconds


def _shown(network: Network, moment: Moment) -> tuple[Activity, Moment]:
    """Return what a network does at a moment, and the moment where the network is."""
    there = moment.to(network.device, network.dtype)
    return network.sweep(there.require(Fixation, by="theory").stimulus), there


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
    network, residuals = activity.network, []
    for name in network.order:
        is_top = name == network.top
        if is_top or condition.predictions in ("optimal", "stale"):
            seen, then = before if condition.predictions == "stale" and not is_top else (activity, moment)
            site = View(seen, objective.needs, "theory").site(name)
            decay = condition.decay * (1 if is_top else condition.softer)
            residuals += [fit(way, site, then, decay).residual for way in objective.ways]
    if condition.predictions == "carried":
        for name in network.order[:-1]:
            transport(objective, network, name)
    return max(residuals)


def aligned(rule: Local, reference: Backprop, activity: Activity, moment: Moment) -> dict[str, dict[str, Any]]:
    """Return how close the updates of all feedforward pathways are, by pathway."""
    network = activity.network
    local, derived = (dict(_feedforward(r.propose(activity, moment))) for r in (rule, reference))
    norms = [float(activity[name].norm()) for name in network.order]
    growth = max((high / low for low, high in pairwise(norms) if low > 0), default=1.0)
    found = {}
    for name in network.feedforward:
        measures = compare_updates(local[name], derived[name])
        unknown = {"stability": math.nan, "reference_stability": math.nan, "activity_growth": growth}
        norm = FINER * measures["reference_norm"]
        trusted = is_trustworthy(reference_norm=norm, cosine=measures["cosine"], **unknown)
        found[name] = {**measures, "trustworthy": trusted}
    return found


def _feedforward(proposals: Any) -> Any:
    return ((pathway.name, update.weight) for pathway, update in proposals if pathway.kind == "feedforward")
