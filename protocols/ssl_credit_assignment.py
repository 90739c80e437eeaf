"""Can predictive coding and feedback alignment carry the credit of a self-supervised objective, and if not, why?

Two self-supervised objectives (CLAPP++'s contrastive score and InfoNCE) and a supervised one stand at the top of the same
network, and their credit reaches the populations below by backprop (BP), feedback alignment (FA), direct feedback alignment
(DFA) or predictive coding (PC); beside them the local rules (CLAPP), which need no transport, and the control in which only
the top learns. Same views, budget and seeds for all; learning rates are chosen on images held out of the training set.
Then the stored weights are loaded again, and the error units are watched while they settle (`protocols.credit.settling`).
Source of the question: Wu, Delrocq, Gerstner, Bellec 2026, arXiv 2601.21683.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import analysis
from analysis.probes import linear_probe
from neurossl.device import choose_device
from neurossl.errors import NeurosslError, OptionError
from neurossl.generators import Generators
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    InfoNCE,
    Local,
    Objective,
    PredictiveCoding,
    Rule,
)
from neurossl.simulation import Simulation
from neurossl.stimuli import ImageSet, ViewPairs, default_views, load_images
from protocols.credit.results import results_of
from protocols.credit.sentences import REST
from protocols.credit.settling import GradedPredictiveCoding, restore, trace
from protocols.harness.folder import finish, unfinished
from protocols.harness.learning import (
    Run,
    Setting,
    check_memory,
    choose_workers,
    default_network,
    enough_images,
    freeze_below_top,
    indexed,
    learn_all,
    network_for,
    positive,
    start,
    stream_of,
    synapses_for,
)
from protocols.harness.parallel import Progress, side_by_side
from protocols.harness.probes import population_features
from protocols.images.readouts import set_aside

OBJECTIVES: dict[str, tuple[str, Callable[[], Objective]]] = {
    "contrastive": ("CLAPP++ (hinge)", Contrastive),
    "infonce": ("InfoNCE", InfoNCE),
    "cross-entropy": ("supervised", CrossEntropy),
}
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates of the feedforward weights to choose from."""
FEEDBACK_RATE = 3e-3
"""Of the prediction weights and projections, in all conditions."""
WEAK, STRONG = 0.01, 30.0
"""Norm of the top error relative to the top activity, where it is set: far below 1, and about that of InfoNCE."""
STRENGTHS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
LONG = (20, 0.1)
"""Steps and rate of the usual settling, which is longer and rougher than what suits these networks."""
SETTLING_RATES = (0.02, 0.05, 0.1, 0.3)
CHOICE_SEED = 1000
"""Of the runs on which learning rates are chosen; none of those that are reported."""
HELD_OUT = 0.2
"""Fraction of the training images on which learning rates are chosen."""


@dataclass(frozen=True)
class Condition:
    """An objective and a transport."""

    name: str
    objective: str
    transport: str
    make: Callable[[], Rule]
    top_only: bool = False

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{OBJECTIVES[self.objective][0]}, {self.transport}"

    def reference(self) -> Rule:
        """Return backprop of the objective."""
        return Backprop(OBJECTIVES[self.objective][1]())


class Choice(NamedTuple):
    """A learning rate to be tried."""

    condition: Condition
    rate: float


class Watch(NamedTuple):
    """Stored weights whose error units are to be watched."""

    objective: str
    seed: int


def conditions_for(objective: str, steps: int, rate: float, long: tuple[int, float] = LONG) -> list[Condition]:
    """Return the conditions of one objective.

    Parameters
    ----------
    objective : str
        One of `OBJECTIVES`.
    steps, rate : int, float
        Of the settling of predictive coding.
    long : (int, float)
        The same, of the condition that settles for longer.
    """
    good = OBJECTIVES[objective][1]
    settling: dict[str, Any] = {"steps": steps, "rate": rate}

    def graded(strength: float) -> Callable[[], Rule]:
        return lambda: GradedPredictiveCoding(good(), strength, **settling)

    transports: list[tuple[str, str, Callable[[], Rule]]] = [
        ("bp", "BP", lambda: Backprop(good())),
        ("fa", "FA", lambda: FeedbackAlignment(good())),
        ("dfa", "DFA", lambda: DirectFeedbackAlignment(good())),
        ("pc", "PC", lambda: PredictiveCoding(good(), **settling)),
        ("pc-long", f"PC, {long[0]} steps of {long[1]:g}", lambda: PredictiveCoding(good(), steps=long[0], rate=long[1])),
        ("pc-weak", f"PC, top error {WEAK:.0%} of activity", graded(WEAK)),
    ]
    found = [Condition(f"{objective}-{name}", objective, label, make) for name, label, make in transports]
    if objective == "cross-entropy":
        label = f"PC, top error {STRONG:g} times activity"
        found.append(Condition(f"{objective}-pc-strong", objective, label, graded(STRONG)))
    else:
        found.append(Condition(f"{objective}-top", objective, "none, top alone learns", lambda: Backprop(good()), True))
    if objective == "contrastive":
        for context, label in (("lateral", "local, lateral"), ("top", "local, direct feedback")):
            make = partial(lambda c: Local(Contrastive(context=c)), context)
            found.append(Condition(f"clapp-{context}", objective, label, make))
    return found


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    objectives: Sequence[str] = tuple(OBJECTIVES),
    seeds: int | None = None,
    budget: int | None = None,
    observers: int = 64,
    network: str | None = None,
    steps: int = 10,
    rate: float = 0.05,
    device: str = "auto",
    workers: int | None = None,
    tiny: bool = False,
) -> analysis.Results:
    """Compare BP, FA, DFA and PC as transports of self-supervised and supervised credit, and watch error units settle.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    dataset : str
        digits (embedded), photographs (embedded), mnist, fashion_mnist, cifar10, stl10, tiny_imagenet or folder:PATH.
    data_dir : str, optional
        Where the data set of torchvision is.
    download : bool
        Fetch it if it is not there.
    objectives : sequence of str
        contrastive, infonce, cross-entropy.
    seeds : int, optional
        Number of seeds, 0, 1, ...; 3 by default.
    budget : int, optional
        Moments of learning per run; each shows so many observers an object twice.
    observers : int
        Objects per moment.
    network : str, optional
        mlp:128-128-128-128, conv:32-64M-64-128M, vgg6 or vgg6:0.25.
    steps : int
        Settling steps of predictive coding.
    rate : float
        Size of a settling step.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Runs side by side; by default one per core on a CPU.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    unknown = [name for name in objectives if name not in OBJECTIVES]
    if unknown or not objectives or len(set(objectives)) < len(objectives):
        got = ", ".join(objectives) or "none"
        raise OptionError(f"objectives: expected different names out of {', '.join(OBJECTIVES)}, got {got}")
    if tiny:
        steps = min(steps, 4)
    long = (6, LONG[1]) if tiny else LONG
    conditions = [c for name in objectives for c in conditions_for(name, steps, rate, long)]
    for condition in conditions:
        condition.make()
    count = positive("seeds", seeds if seeds is not None else 1 if tiny else 3, 1000)
    moments = positive("budget", budget if budget is not None else (4 if tiny else 240))
    per_moment = positive("observers", min(observers, 16) if tiny else observers)
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    enough_images(images, per_moment)
    setting = Setting(
        dataset=dataset,
        network=network or ("mlp:16-16-16-16" if tiny else default_network(images, 128)),
        budget=moments,
        observers=per_moment,
        device=chosen_device,
        records=4 if tiny else 20,
        probe_images=(100, 50) if tiny else (5000, 2000),
    )
    for condition in conditions:
        check_memory(network_for(condition.make(), images, setting.network))
    folder = Path(out)
    options = {**asdict(setting), "objectives": list(objectives), "seeds": count, "steps": steps, "rate": rate}
    planned = [_run_of(condition, seed) for condition in conditions for seed in range(count)]
    start(folder, "ssl_credit_assignment", options, planned)
    shared: dict[str, Any] = {"workers": processes, "interrupted": f"interrupted; what was recorded is kept in {folder}"}
    choices = [Choice(c, r) for c in conditions for r in (RATES[1:3] if tiny else RATES)]
    chosen = side_by_side(
        choices,
        partial(_try_rate, setting=setting, images=_without_test(images, setting)),
        moments=setting.budget,
        what="learning rates tried",
        label=lambda choice: f"{choice.condition.name}, {choice.rate:g}",
        **shared,
    )
    tried = [{"condition": o.job.condition, "rate": o.job.rate, "accuracy": o.result} for o in chosen]
    best = {c.name: _best_rate([t for t in tried if t["condition"] is c]) for c in conditions}
    runs = [replace(run, rates=(best[run.name], FEEDBACK_RATE)) for run in planned]
    with indexed(folder, "ssl_credit_assignment", options, runs) as states:
        outcomes = learn_all(runs, folder=folder, setting=setting, images=images, **shared)
    problems = {o.job.path: o.problem for o in outcomes if o.problem}
    finished = {path for path, state in states.items() if state == "finished"}
    watches = [
        Watch(name, s)
        for name in objectives
        for s in range(count)
        if {f"{name}-pc/seed-{s}", f"{name}-bp/seed-{s}"} <= finished
    ]
    watched = side_by_side(
        watches,
        partial(_watch, folder=folder, setting=setting, images=images, steps=steps, rate=rate, tiny=tiny),
        moments=1,
        what="networks watched while they settle",
        label=lambda watch: f"{watch.objective} seed {watch.seed}",
        **shared,
    )
    problems |= {f"watching {o.job.objective} seed {o.job.seed}": o.problem for o in watched if o.problem}
    if not finished:
        raise unfinished(problems, len(runs), "runs", folder)
    comparison = analysis.open_comparison([folder])
    labels = {name: OBJECTIVES[name][0] for name in objectives}
    traces = [record for o in watched if not o.problem for record in o.result]
    results = finish(folder, results_of(comparison, conditions, labels, tried, best, traces, options))
    if problems:
        raise unfinished(problems, len(runs), "runs", folder)
    return results


def _run_of(condition: Condition, seed: int) -> Run:
    """Return the run of a condition with one seed, at the lowest rate until one is chosen."""
    return Run(
        protocol="ssl_credit_assignment",
        name=condition.name,
        label=condition.label,
        rule=condition.make(),
        seed=seed,
        rates=(RATES[0], FEEDBACK_RATE),
        path=f"{condition.name}/seed-{seed}",
        reference=condition.reference(),
        top_only=condition.top_only,
    )


def _without_test(images: ImageSet, setting: Setting) -> ImageSet:
    """Return the training images alone, some of every class held out in place of the test images."""
    held_out = set_aside(images.train_labels, HELD_OUT, CHOICE_SEED)
    if int((~held_out).sum()) < setting.observers:
        raise OptionError(
            f"observers: {setting.observers} do not fit the {int((~held_out).sum())} images to choose rates on"
        )
    return replace(
        images,
        train=images.train[~held_out],
        train_labels=images.train_labels[~held_out],
        test=images.train[held_out],
        test_labels=images.train_labels[held_out],
    )


def _try_rate(choice: Choice, progress: Progress, *, setting: Setting, images: ImageSet) -> float:
    """Return the validation accuracy of linear probes after learning, mean over populations; NaN if it diverges."""
    condition, rate = choice
    rule = condition.make()
    network = network_for(rule, images, setting.network)
    if condition.top_only:
        freeze_below_top(network)
    stream = stream_of(setting, images, rule, CHOICE_SEED)
    simulation = Simulation(network, rule, synapses_for((rate, FEEDBACK_RATE)), seed=CHOICE_SEED, device=setting.device)
    try:
        simulation.run(stream, report=lambda done, total: progress(done))
    except NeurosslError:
        return float("nan")
    generator = Generators(CHOICE_SEED)["probe"]
    most = [min(n, len(part)) for n, part in zip(setting.probe_images, (images.train, images.test), strict=True)]
    few, views = images.limited(most[0], most[1], generator), default_views(images)
    hidden = [name for name in network.order if name != "readout"]
    train = population_features(network, views(few.train, generator), hidden)
    test = population_features(network, torch.cat([views(few.test, generator) for _ in range(2)]), hidden)
    labels = few.train_labels.numpy(), few.test_labels.repeat(2).numpy()
    found = [linear_probe(train[n].numpy(), labels[0], test[n].numpy(), labels[1]) for n in hidden]
    return float(np.mean(found))


def _best_rate(tried: Sequence[dict[str, Any]]) -> float:
    """Return the rate with the highest validation accuracy; the lowest one if all diverged."""
    finite = [t for t in tried if t["accuracy"] is not None and np.isfinite(t["accuracy"])]
    return float(max(finite, key=lambda t: t["accuracy"])["rate"] if finite else min(t["rate"] for t in tried))


def _watch(
    watch: Watch,
    progress: Progress,
    *,
    folder: Path,
    setting: Setting,
    images: ImageSet,
    steps: int,
    rate: float,
    tiny: bool,
) -> list[dict[str, Any]]:
    """Let the networks that BP and PC have made settle on held-out images, in float64, and return what was seen."""
    objective = OBJECTIVES[watch.objective][1]()
    reference = Backprop(objective)
    observers = min(setting.observers, len(images.test))
    views = default_views(images)
    moment = ViewPairs(images.test, images.test_labels, views, observers=observers, moments=1, seed=watch.seed)[0]
    every, long = sorted({*range(steps + 1), *_spread(4 * steps)}), _spread(10 * steps)
    found: list[dict[str, Any]] = []
    for learner in ("PC", "BP"):
        tree = analysis.open_trajectory(folder / f"{watch.objective}-{learner.lower()}" / f"seed-{watch.seed}")
        network = network_for(reference, images, setting.network)
        network.complete(watch.seed, torch.device(setting.device), torch.float64)
        reference.wire(network)
        moments = next(iter(tree["weights"].children.values())).to_dataset()["snapshot"].values
        looks: list[tuple[str, int, Sequence[int], dict[str, Any]]] = [
            ("training", stage, every, {"rate": rate}) for stage in range(len(moments))
        ]
        if learner == "BP":
            last = len(moments) - 1
            looks += [("rate", last, long, {"rate": r}) for r in (SETTLING_RATES[1:3] if tiny else SETTLING_RATES)]
            longest = _spread(REST * steps)
            looks += [("held", last, longest, {"rate": rate, "held": True}), ("recomputed", last, longest, {"rate": rate})]
            strengths = STRENGTHS[::3] if tiny else STRENGTHS
            looks += [("strength", last, [steps], {"rate": rate, "strength": s}) for s in strengths]
        restored = -1
        for series, stage, wanted, how in looks:
            at = {"objective": watch.objective, "seed": watch.seed, "learned by": learner, "series": series}
            at |= {"share of training": float(moments[stage] / max(1, moments[-1]))}
            at |= {"rate": how["rate"], "strength set": how.get("strength")}
            if stage != restored:
                restored = stage
                restore(network, tree, stage)
            found += [{**at, **seen} for seen in trace(objective, reference, network, moment, wanted=wanted, **how)]
    progress(1)
    return found


def _spread(last: int) -> list[int]:
    """Return about 30 steps from 0 to the last, denser at the beginning, half of the last among them."""
    return sorted({0, last // 2, *(round(x) for x in np.geomspace(1, last, 30))})
