"""One trial: a rule that learns in a network from a stream, recorded and stored in a folder of its own.

A protocol is a list of trials. A trial knows how to learn, and describes itself in the manifest of its run.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import analysis
from neurossl.anatomy.architectures import from_description
from neurossl.anatomy.network import Network
from neurossl.plasticity import Rule, Synapses
from neurossl.recorders import Recorder
from neurossl.recorders.base import Sink
from neurossl.simulation import Simulation
from neurossl.stimuli import DoubledInput, ImageSet, Stream, StreamedImages, ViewPairs, WakeSleep, default_views
from protocols.harness.parallel import Progress
from protocols.harness.probes import Probe

Records = Callable[[Sink], Recorder]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One network that learns.

    Parameters
    ----------
    name, label : str
        Of the rule or the condition, and the same for people.
    seed : int
    path : str
        Of the run, below the folder of the protocol.
    rule : Rule
    network : Network
        What exists before the rule adds its own pathways; never changed.
    stream : iterable of Moment
    synapses : Synapses
    moments : int
        Of the stream; 0 for a control that does not learn.
    recorders : sequence
        What is recorded.
    probe : Probe, optional
        What recorders read out; the time that it takes is not counted as learning.
    reference : Rule, optional
        With whose updates those of the rule are compared.
    device : str
    products : str, optional
        Number type of matrix products, as for `Simulation`.
    prepare : callable, optional
        Is given the simulation before it runs: interventions.
    about : mapping
        What else its manifest says.
    """

    name: str
    label: str
    seed: int
    path: str
    rule: Rule
    network: Network
    stream: Any
    synapses: Synapses
    moments: int
    recorders: Sequence[Records] = ()
    probe: Probe | None = None
    reference: Rule | None = None
    device: str = "cpu"
    products: str | None = None
    prepare: Callable[[Simulation], Any] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def learn(self, folder: Path, progress: Progress) -> float:
        """Learn, record and store; return the seconds that learning took."""
        network = copy.deepcopy(self.network)
        rounded = torch.bfloat16 if self.products else None
        network.complete(self.seed, torch.device(self.device), torch.float32, rounded)
        self.rule.wire(network)
        with analysis.TrajectoryWriter(folder / self.path, {**self._about(), "network": network.describe()}) as writer:
            simulation = Simulation(
                network,
                self.rule,
                self.synapses,
                seed=self.seed,
                device=self.device,
                products=self.products,
                recorders=[make(writer) for make in self.recorders],
            )
            begun = time.perf_counter()
            if self.prepare is not None:
                self.prepare(simulation)
            if self.moments:
                simulation.run(self.stream, report=lambda done, total: progress(done))
            else:
                simulation.start()
                simulation.finish()
            seconds = time.perf_counter() - begun - (self.probe.seconds if self.probe else 0.0)
            writer.close("finished", seconds=seconds)
        return seconds

    def _about(self) -> dict[str, Any]:
        return {
            **self.rule.describe(),
            "label": self.label,
            "reference": None if self.reference is None else reference_name(self.rule),
            "seed": self.seed,
            "stream": repr(self.stream),
            "synapses": self.synapses.describe(),
            "budget": self.moments,
            "device": self.device,
            "dtype": self.products or "float32",
            **self.about,
        }


def network_for(rule: Rule, images: ImageSet, network: str) -> Network:
    """Return the network for a rule: the same for all, with a readout where the rule is taught."""
    classes = len(images.classes) if "target" in rule.needs else None
    return from_description(network, images.shape, classes, normalisation=rule.normalisation)


def freeze_below_top(network: Network) -> None:
    """Make every feedforward pathway but those onto the top keep its weights."""
    for pathway in network.feedforward.values():
        pathway.plastic = pathway.post == network.top


def stream_for(
    rule: Rule, images: ImageSet, pixels: Tensor | StreamedImages, labels: Tensor | None, landings: int = 1, **common: Any
) -> Stream:
    """Return the stream of moments that a rule waits for, on the same views for all rules.

    Parameters
    ----------
    rule : Rule
    images : ImageSet
        Says which views suit, and how many classes there are.
    pixels, labels
        What is shown, as for `Stream`; ``images.train`` as a rule.
    landings : int
        As for `ViewPairs`; other streams have none.
    **common
        As for `Stream`.
    """
    views = default_views(images)
    if rule.normalisation == "standard":
        return DoubledInput(pixels, labels, views, **common)
    if "phases" in rule.needs and "settling" not in rule.needs:
        negatives = "labels" if "label in the stimulus" in rule.needs else "hybrids"
        return WakeSleep(pixels, labels, views, len(images.classes), negatives=negatives, **common)
    return ViewPairs(pixels, labels, views, landings=landings, **common)


def synapses_for(rates: tuple[float, float]) -> Synapses:
    """Return AdamW with these learning rates of the feedforward and of the feedback weights."""
    return Synapses("adamw", lr=rates[0], pathways={"*=>*": {"lr": rates[1]}})


def reference_name(rule: Rule) -> str:
    """Return the short name of backprop on the rule's objective."""
    names = {"contrastive": "BP-CLAPP", "goodness": "BP-goodness", "InfoNCE": "BP-InfoNCE"}
    return next((name for start, name in names.items() if rule.objective_name.startswith(start)), "BP, supervised")
