"""The runs of `protocols.image_benchmark` and `protocols.spatial_dependence`: a rule learns from views of images for so many
epochs, and is read out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
from neurossl.recorders import (
    ActivityRecorder,
    PerformanceRecorder,
    Recorder,
    Stimuli,
    UpdateRecorder,
    WeightRecorder,
)
from neurossl.recorders.observation import Observation
from neurossl.stimuli import StreamedImages, default_views
from protocols.harness import command
from protocols.harness.learning import responses
from protocols.harness.probes import Probe
from protocols.harness.references import Compared
from protocols.harness.trial import Trial, network_for, shown_alone, stream_for
from protocols.images import published
from protocols.images.readouts import FOLLOWED, PUBLISHED_READOUT, TOGETHER, Readouts, Split

RANDOM = "random"
"""The control: a network that does not learn."""
STAGES = 5
"""Parts of a run after which weights are stored and all populations are read out together."""
SYNAPSES_RECORDED = 1000
SPLIT_SEED = 1000
"""Of the split of the images, and the first of the trials on which learning rates are chosen; none of those that are
reported."""


class NoLearning(Rule):
    """The rule of the control: it proposes nothing, and is shown nothing."""

    name = RANDOM


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
    negatives : int, optional
        Negatives per positive pair; 1 for CLAPP++ and all for BP-InfoNCE by default.
    records : int
        Comparisons with backprop per run.
    published_readout : int, optional
        Epochs of the published readout, beside ours; none by default.
    compared : mapping of (str, str) to Compared
        By data set and rule, with what it is compared; backprop of its own objective where it is left out.
    splits : mapping of str to Split
        By name of the data set.
    threads : int
        Of every run.
    protocol : str
        Whose runs they are.
    stages : int
        Parts of a run after which weights are stored and all populations are read out together.
    on_device : dict
        Images that have been moved to the device.
    """

    network: str
    observers: int
    device: str
    products: str | None
    prediction: str
    negatives: int | None
    records: int
    splits: Mapping[str, Split]
    threads: int = 1
    protocol: str = "image_benchmark"
    stages: int = STAGES
    published_readout: int | None = None
    compared: Mapping[tuple[str, str], Compared] = field(default_factory=dict)
    on_device: dict[int, Tensor | StreamedImages] = field(default_factory=dict)

    def resident(self, pixels: Tensor | StreamedImages) -> Tensor | StreamedImages:
        """Return images where networks learn, moved there once for all runs; streamed ones stay in their files."""
        if isinstance(pixels, StreamedImages):
            return pixels
        return self.on_device.setdefault(id(pixels), pixels.to(self.device))

    def moments(self, task: "Task") -> int:
        """Return the moments of learning of a run."""
        if not task.epochs:
            return 0
        learned, _ = self.splits[task.dataset].shown_to(self.rule(task.name))
        return task.epochs * (len(learned) // self.observers)

    def rule(self, name: str) -> Rule:
        """Return a rule with the form of the prediction weights, where it has some, and the negatives of InfoNCE."""
        return NoLearning() if name == RANDOM else make_rule(name, **self.rule_options(name))

    def rule_options(self, name: str) -> dict[str, Any]:
        """Return the options of a rule that differ from its defaults."""
        options: dict[str, Any] = {}
        if "clapp" in name and self.prediction != "full":
            options["prediction"] = self.prediction
        if "infonce" in name and self.negatives is not None:
            options["negatives"] = self.negatives
        return options


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
    network : str
        Instead of that of all runs, where there are several.
    """

    dataset: str
    name: str
    label: str
    seed: int
    rate: float
    epochs: int
    path: str
    trial: bool = False
    network: str = ""


def trial_of(task: Task, bench: Bench) -> Trial:
    """Return the trial of a task; what trials of rates read out are the images for choices, never those for tests."""
    split, moments = bench.splits[task.dataset], bench.moments(task)
    rule = bench.rule(task.name)
    learned, labels = split.shown_to(rule)
    network = network_for(rule, split.images, task.network or bench.network)
    every, stages = max(1, moments // bench.records), max(1, -(-moments // bench.stages))
    common: dict[str, Any] = {"observers": bench.observers, "moments": max(1, moments), "seed": task.seed}
    common["device"] = torch.device(bench.device)
    shown = bench.resident(learned)
    reading = Reading(split, task, moments, shown_alone(rule, split.images), bench.published_readout)
    twice = bench.published_readout and not task.trial
    measures = ("probe_accuracy", "validation_accuracy", FOLLOWED, *(PUBLISHED_READOUT if twice else ()))
    read: dict[str, Any] = {"probe": reading, "probe_every": stages, "measures": measures, "together": (TOGETHER,)}
    compared = bench.compared.get((task.dataset, task.name), Compared(rule.reference()))
    reference = None if task.name == RANDOM or task.trial else compared.reference
    recorders: list[Recorder] = [
        WeightRecorder(every=stages, index=_recorded(rule.wire(network.copy()))),
        ActivityRecorder(every=every),
        PerformanceRecorder(every=every, **read),
    ]
    if not task.trial:
        recorders.append(responses(split.images, rule, stages))
    if reference is not None:
        recorders.append(UpdateRecorder(every=every, reference=reference))
    return Trial(
        name=task.name,
        label=task.label,
        seed=task.seed,
        path=task.path,
        rule=rule,
        network=network,
        stream=stream_for(rule, split.images, shown, labels, bench.negatives or 1, **common),
        synapses=Synapses("adamw", lr=task.rate, weight_decay=published.weight_decay(split.images.name)),
        moments=moments,
        recorders=recorders,
        probe=reading,
        device=bench.device,
        products=bench.products,
        about=_about(task, bench, split) | ({"reference_left_out": compared.reason} if compared.reason else {}),
    )


def _about(task: Task, bench: Bench, split: Split) -> dict[str, Any]:
    """Return what the manifest of a run says besides."""
    return {
        "protocol": bench.protocol,
        "dataset": task.dataset,
        "images": repr(split.images),
        "views": repr(default_views(split.images)),
        "epochs": task.epochs,
        "observers": bench.observers,
        "threads": bench.threads,
        "command": command.given(),
    }


def _recorded(network: Network) -> dict[str, int]:
    """Return how many synapses of the prediction pathways are recorded; feedforward ones are recorded whole."""
    return {name: SYNAPSES_RECORDED for name in network.pathways if name not in network.feedforward}


class Reading(Probe):
    """Reads out a network now and then, and for good at the end.

    Parameters
    ----------
    split : Split
    task : Task
    moments : int
        Of learning.
    encode : callable, optional
        Turns images into what the network is shown of them.
    published : int, optional
        Epochs of the published readout, at the end of what is no trial.
    """

    def __init__(
        self,
        split: Split,
        task: Task,
        moments: int,
        encode: Callable[[Tensor], Tensor] | None = None,
        published: int | None = None,
    ) -> None:
        self.split = split
        self.task = task
        self.moments = moments
        self.encode = encode
        self.published = None if task.trial else published

    @property
    def stimuli(self) -> Stimuli:  # type: ignore[override]
        """What it is tested with."""
        return self.split.tested

    def read(self, now: Observation) -> dict[str, dict[str, Any]]:
        """Return the accuracies that are due at this moment, at the end also which test images were named correctly."""
        if now.moment < self.moments and (now.moment == 0 or self.task.trial):
            return {}
        readouts = Readouts(self.split, now.circuit, encode=self.encode)
        if now.moment < self.moments:
            return {TOGETHER: {FOLLOWED: readouts.followed()}}
        found = readouts.final(tested=not self.task.trial)
        if self.published:
            decay = published.weight_decay(self.split.images.name)
            found[TOGETHER] |= readouts.as_published(self.published, self.task.seed, decay)
        return found


def known_rule(name: str) -> bool:
    """Return whether runs of this name can be made."""
    return name == RANDOM or name in RULES
