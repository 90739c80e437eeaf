"""One run of `image_benchmark`: a rule learns from views of images for so many epochs, recorded, stored and read out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.network import Network
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from neurossl.stimuli import StreamedImages, default_views
from protocols.harness.learning import network_for, stream_for
from protocols.harness.parallel import Progress
from protocols.images import published
from protocols.images.readouts import TOGETHER, Readouts, Split

RANDOM = "random"
"""The control: a network that does not learn."""
STAGES = 5
"""Parts of a run after which weights are stored and all populations are read out together."""
SYNAPSES_RECORDED = 1000


@dataclass(frozen=True)
class Bench:
    """What all runs share.

    Attributes
    ----------
    network : str
    observers : int
    device : str
    products : str, optional
        Number type of matrix products, as for `Simulation`.
    prediction : str
        Form of the prediction weights, as for `Contrastive`.
    landings : int, optional
        Other images that a fixation is told from, per step; 1 for CLAPP++ and all for BP-InfoNCE by default.
    records : int
        Comparisons with backprop per run.
    splits : mapping of str to Split
        By name of the data set.
    """

    network: str
    observers: int
    device: str
    products: str | None
    prediction: str
    landings: int | None
    records: int
    splits: Mapping[str, Split]

    def moments(self, task: "Task") -> int:
        """Return the moments of learning of a run."""
        if not task.epochs:
            return 0
        learned, _ = self.splits[task.dataset].shown_to(self.rule(task.name))
        return task.epochs * (len(learned) // self.observers)

    def rule(self, name: str) -> Rule:
        """Return a rule with the form of the prediction weights, where it has some, and the negatives of InfoNCE."""
        if name == RANDOM:
            return make_rule("bp-infonce")
        options: dict[str, Any] = {}
        if "clapp" in name and self.prediction != "full":
            options["prediction"] = self.prediction
        if "infonce" in name and self.landings is not None:
            options["negatives"] = self.landings
        return make_rule(name, **options)


@dataclass(frozen=True)
class Task:
    """One rule with one seed and one learning rate on one data set; a trial serves to choose the rate.

    Attributes
    ----------
    dataset, name : str
        Of the data set and of the rule.
    label : str
        The same for people.
    seed : int
    rate : float
        Learning rate of AdamW, of all weights.
    epochs : int
        0 for the control that does not learn.
    path : str
        Of the run, below the folder of the protocol.
    trial : bool
    """

    dataset: str
    name: str
    label: str
    seed: int
    rate: float
    epochs: int
    path: str
    trial: bool = False


def learn_images(task: Task, progress: Progress, *, folder: Path, bench: Bench) -> None:
    """Run one task and store it; what trials read out are the images for choices, never those for tests."""
    split, moments = bench.splits[task.dataset], bench.moments(task)
    rule = bench.rule(task.name)
    reference = rule.reference()
    images = split.images
    learned, labels = split.shown_to(rule)
    network = network_for(rule, images, bench.network)
    decay = published.WEIGHT_DECAY.get(published.known_as(images.name), 0.0)
    synapses = Synapses("adamw", lr=task.rate, weight_decay=decay)
    every = max(1, moments // bench.records)
    device = torch.device(bench.device)
    resident = learned if isinstance(learned, StreamedImages) else learned.to(device)
    common = {"observers": bench.observers, "moments": max(1, moments), "seed": task.seed, "device": device}
    stream = stream_for(rule, images, resident, labels, bench.landings or 1, **common)
    configuration = {
        "protocol": "image_benchmark",
        **rule.describe(),
        **({"rule": RANDOM, "objective": None, "transport": None, "needs": []} if task.name == RANDOM else {}),
        "label": task.label,
        "seed": task.seed,
        "dataset": task.dataset,
        "images": repr(images),
        "views": repr(default_views(images)),
        "stream": repr(stream),
        "synapses": synapses.describe(),
        "epochs": task.epochs,
        "budget": moments,
        "observers": bench.observers,
        "device": bench.device,
        "dtype": bench.products or "float32",
    }
    network.complete(task.seed, device, torch.float32, torch.bfloat16 if bench.products else None)
    rule.wire(network)
    configuration["network"] = network.describe()
    stages = max(1, -(-moments // STAGES))
    reading = _Reading(split, task, moments)
    with analysis.TrajectoryWriter(folder / task.path, configuration) as writer:
        recorders = [
            WeightRecorder(writer, every=stages, index=_recorded(network)),
            ActivityRecorder(writer, every),
            PerformanceRecorder(
                writer,
                every,
                reading,
                probe_every=stages,
                measures=("probe_accuracy", "validation_accuracy"),
                together=(TOGETHER,),
            ),
        ]
        if reference is not None and task.name != RANDOM and not task.trial:
            recorders.append(UpdateRecorder(writer, every, reference))
        simulation = Simulation(
            network,
            rule,
            synapses,
            seed=task.seed,
            device=bench.device,
            products=bench.products,
            recorders=recorders,
        )
        begun = time.perf_counter()
        if moments:
            simulation.run(stream, report=lambda done, total: progress(done))
        else:
            simulation.start()
            simulation.finish()
        writer.close("finished", seconds=time.perf_counter() - begun - reading.seconds)


def _recorded(network: Network) -> dict[str, int]:
    """Return how many synapses of the prediction pathways are recorded; feedforward ones are recorded whole."""
    return {name: SYNAPSES_RECORDED for name in network.pathways if name not in network.feedforward}


class _Reading:
    """Reads out a network now and then, and for good at the end.

    Attributes
    ----------
    seconds : float
        That reading out has taken.
    """

    def __init__(self, split: Split, task: Task, moments: int) -> None:
        self.split = split
        self.task = task
        self.moments = moments
        self.seconds = 0.0

    def __call__(self, simulation: Simulation) -> dict[str, dict[str, float]]:
        """Return the accuracies that are due at this moment."""
        if simulation.event < self.moments and (simulation.event == 0 or self.task.trial):
            return {}
        begun = time.perf_counter()
        readouts = Readouts(self.split, simulation.network)
        if simulation.event < self.moments:
            found = {TOGETHER: {"validation_accuracy": readouts.quick()}}
        else:
            found = readouts.final(tested=not self.task.trial)
        self.seconds += time.perf_counter() - begun
        return found


def known_rule(name: str) -> bool:
    """Return whether runs of this name can be made."""
    return name == RANDOM or name in RULES
