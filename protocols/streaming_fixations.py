"""One observer, one fixation at a time: does CLAPP learn online, from saccades and a neuromodulator, as in the biology?

An animal looks at an object for some fixations of 250 ms, then makes a saccade to another. The context of a fixation is the
trace of the one before; the neuromodulator has one sign per moment, + within the object and - after a saccade (Illing et al.
2021, arXiv 2010.08262). Compared: lateral and direct-feedback context, a lesion of the direct feedback half way, and two
controls that should not learn to tell fixations from saccades: a shuffled saccade signal, and none.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.architectures import from_description
from neurossl.device import choose_device
from neurossl.errors import OptionError
from neurossl.generators import Generators
from neurossl.network import Network
from neurossl.plasticity import Contrastive, Local, Synapses
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from neurossl.stimuli import FixationSequence, ImageSet, default_views, load_images
from protocols.harness.folder import finish, unfinished
from protocols.harness.learning import (
    check_memory,
    choose_workers,
    default_network,
    indexed,
    positive,
    start,
)
from protocols.harness.parallel import Progress, side_by_side
from protocols.harness.probes import Probes
from protocols.streaming.recorders import ScoreRecorder, SignalledSequence, SynapseRecorder, tell_apart
from protocols.streaming.results import results_of

RATES = (1e-4, 2e-3)
"""Learning rates of AdamW, of the feedforward and of the prediction weights: the best of a few for single fixations."""
TESTS = 12
"""Times at which it is tested how well scores tell fixations from saccades."""
EXCERPT = 3
"""Objects during which one synapse is watched, at the end of learning."""
SYNAPSES = 2000
"""Recorded per pathway."""


@dataclass(frozen=True)
class Condition:
    """What the animal has: its context, its saccade signal, and whether the feedback is lesioned half way."""

    name: str
    label: str
    context: str
    signal: str = "true"
    lesion: bool = False


CONDITIONS = (
    Condition("lateral", "lateral context", "lateral"),
    Condition("feedback", "direct feedback", "top"),
    Condition("feedback-lesion", "direct feedback, lesioned half way", "top", lesion=True),
    Condition("shuffled", "lateral, shuffled saccade signal", "lateral", signal="shuffled"),
    Condition("no-signal", "lateral, no saccade signal", "lateral", signal="none"),
)


@dataclass(frozen=True)
class Setting:
    """What all animals share."""

    dataset: str
    network: str
    budget: int
    fixations: int
    fixation: float
    device: str
    records: int
    probe_images: tuple[int, int]


@dataclass(frozen=True)
class Animal:
    """One condition with one seed."""

    condition: Condition
    seed: int

    @property
    def name(self) -> str:
        """Of the condition."""
        return self.condition.name

    @property
    def label(self) -> str:
        """The same for people."""
        return self.condition.label

    @property
    def path(self) -> str:
        """Of the stored run, below the folder of the protocol."""
        return f"{self.condition.name}/seed-{self.seed}"


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    seeds: int | None = None,
    budget: int | None = None,
    fixations: int = 4,
    fixation: float = 0.25,
    network: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    tiny: bool = False,
) -> analysis.Results:
    """Let one observer at a time learn online from fixations, saccades and a neuromodulator.

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
    seeds : int, optional
        Number of animals per condition, with seeds 0, 1, ...; 3 by default.
    budget : int, optional
        Fixations per animal.
    fixations : int
        Fixations on an object before the saccade to the next.
    fixation : float
        Duration of a fixation, seconds.
    network : str, optional
        mlp:128-128-128-128, conv:32-64M-64-128M, vgg6 or vgg6:0.25.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Animals side by side; by default one per core on a CPU.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when an animal could not finish.
    """
    if fixations < 2:
        raise OptionError(f"fixations: expected at least 2 per object, one of them within it, got {fixations}")
    if not 0 < fixation < float("inf"):
        raise OptionError(f"fixation: expected a duration > 0 s such as 0.25, got {fixation}")
    count = positive("seeds", seeds if seeds is not None else 1 if tiny else 3, 1000)
    moments = positive("budget", budget if budget is not None else (96 if tiny else 6000))
    least = 2 * EXCERPT * fixations
    if moments < least:
        raise OptionError(f"budget: expected at least {least} fixations, enough for {2 * EXCERPT} objects, got {moments}")
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    setting = Setting(
        dataset=dataset,
        network=network or ("mlp:16-16-16-16" if tiny else default_network(images, 128)),
        budget=moments,
        fixations=fixations,
        fixation=fixation,
        device=chosen_device,
        records=4 if tiny else 40,
        probe_images=(100, 50) if tiny else (5000, 2000),
    )
    check_memory(from_description(setting.network, images.shape))
    folder = Path(out)
    options = {**asdict(setting), "seeds": count}
    animals = [Animal(c, s) for c in CONDITIONS for s in range(count)]
    start(folder, "streaming_fixations", options, animals)
    with indexed(folder, "streaming_fixations", options, animals):
        outcomes = side_by_side(
            animals,
            partial(_live, folder=folder, setting=setting, images=images),
            workers=processes,
            moments=setting.budget,
            what="animals",
            label=lambda animal: f"{animal.name} seed {animal.seed}",
            interrupted=f"interrupted; what was recorded is kept in {folder}",
        )
    lives = [o.result for o in outcomes if not o.problem]
    problems = {o.job.path: o.problem for o in outcomes if o.problem}
    if lives:
        labels = {c.name: c.label for c in CONDITIONS}
        comparison = analysis.open_comparison([folder])
        results = finish(folder, results_of(comparison, labels, lives, options), comparison)
    if problems:
        raise unfinished(problems, len(animals), "animals", folder)
    return results


def _live(animal: Animal, progress: Progress, *, folder: Path, setting: Setting, images: ImageSet) -> dict[str, Any]:
    """Let one animal look around, store its trajectory, and return its scores and what one of its synapses saw."""
    condition = animal.condition
    objective = Contrastive(context=condition.context)
    rule = Local(objective)
    rule.name = "clapp" if condition.context == "lateral" else "clapp-dfb"
    views = default_views(images)
    fixated = FixationSequence(
        images.train,
        images.train_labels,
        views,
        fixations_per_object=setting.fixations,
        moments=setting.budget,
        seed=animal.seed,
        fixation_duration=setting.fixation,
    )
    stream = SignalledSequence(fixated, condition.signal)
    synapses = Synapses("adamw", lr=RATES[0], pathways={"*=>*": {"lr": RATES[1]}})
    reference = rule.reference()
    network = from_description(setting.network, images.shape)
    network.complete(animal.seed, torch.device(setting.device), torch.float32)
    rule.wire(network)
    generators = Generators(animal.seed)
    probe = Probes(images, views, generators["probe"], most=setting.probe_images)
    tested = [views(images.test, generators["recorders/test-fixations"]) for _ in range(2)]
    configuration = {
        "protocol": "streaming_fixations",
        **rule.describe(),
        "label": condition.label,
        "reference": "BP-CLAPP",
        "seed": animal.seed,
        "dataset": setting.dataset,
        "images": repr(images),
        "views": repr(views),
        "stream": repr(stream),
        "synapses": synapses.describe(),
        "budget": setting.budget,
        "device": setting.device,
        "dtype": "float32",
        "network": network.describe(),
    }
    watched = list(network.feedforward)[1]
    last = setting.budget - setting.budget % setting.fixations
    scores = ScoreRecorder(stream, objective)
    synapse = SynapseRecorder(stream, watched, objective, last - EXCERPT * setting.fixations + 1, last)
    every = max(1, setting.budget // setting.records)
    tests: list[dict[str, Any]] = []

    def test(simulation: Simulation) -> None:
        found = tell_apart(simulation.network, objective, *tested)
        tests.extend({"time": simulation.time, "population": n, "told apart": v} for n, v in found.items())

    with analysis.TrajectoryWriter(folder / animal.path, configuration) as writer:
        recorders = [
            WeightRecorder(writer, every=every, index=SYNAPSES),
            UpdateRecorder(writer, max(1, every // 5), reference),
            ActivityRecorder(writer, every),
            PerformanceRecorder(writer, every, probe),
            scores,
            synapse,
        ]
        simulation = Simulation(
            network, rule, synapses, seed=animal.seed, device=setting.device, recorders=recorders, check_every=100
        )
        life = setting.budget * setting.fixation
        if condition.lesion:
            simulation.at(life / 2)(_lesion_feedback)
        test(simulation)
        simulation.every(life / TESTS)(test)
        simulation.run(stream, report=lambda done, total: progress(done))
        test(simulation)
    return {
        "condition": condition.name,
        "seed": animal.seed,
        "scores": scores.scores,
        "tests": tests,
        "pathway": watched,
        "synapse": synapse.seen,
        "places": synapse.synapse,
    }


def _lesion_feedback(simulation: Simulation) -> None:
    """Cut the direct feedback from the top to the populations below it."""
    network: Network = simulation.network
    for pathway in network.feedback.values():
        if pathway.pre == network.top and pathway.post != network.top:
            pathway.lesion()
