"""One trial: a rule that learns in a network from a stream, recorded and stored in a folder of its own.

A protocol is a list of trials. A trial knows how to learn, and describes itself in the manifest of its run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import analysis
from neurossl.anatomy.architectures import from_description
from neurossl.anatomy.network import Network
from neurossl.checkpoint import read_checkpoint
from neurossl.errors import Interrupted, OptionError, StorageError
from neurossl.plasticity import Clapp, Rule, Synapses
from neurossl.provenance import provenance
from neurossl.recorders import Recorder
from neurossl.simulation import Simulation
from neurossl.state import State
from neurossl.stimuli import (
    DoubledInput,
    ImageSet,
    Stream,
    StreamedImages,
    ViewPairs,
    WakeSleep,
    default_views,
    doubled,
    write_label,
)
from protocols.harness.parallel import Progress
from protocols.harness.probes import Probe
from protocols.harness.signals import interrupted, number_of


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
    recorders: Sequence[Recorder] = ()
    probe: Probe | None = None
    device: str = "cpu"
    products: str | None = None
    prepare: Callable[[Simulation], Any] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def can_go_on(self, folder: Path) -> bool:
        """Return whether there is a checkpoint of this trial to go on from."""
        return self._checkpoint(folder / self.path) is not None

    def learn(self, folder: Path, progress: Progress) -> float:
        """Learn, record and store, from the last checkpoint on if there is one; return the seconds that learning took."""
        run = folder / self.path
        state = self._checkpoint(run)
        time = LearningTime(self.probe)
        with analysis.TrajectoryWriter(run) if state is None else analysis.TrajectoryWriter.reopen(run) as store:
            simulation = Simulation(
                self.network,
                self.rule,
                self.synapses,
                seed=self.seed,
                device=self.device,
                products=self.products,
                store=store,
                recorders=[*self.recorders, time],
                about={**self.about, "label": self.label, "budget": self.moments},
            )
            if self.prepare is not None:
                self.prepare(simulation)
            if state is not None:
                simulation.resume(state)
                now = provenance(simulation, self.stream, {"budget": self.moments})
                store.amend({key: now[key] for key in now if key in ("budget", "recorders") or key.startswith("stream")})
            try:
                self._run(simulation, progress)
            except Interrupted as reason:
                store.amend({"seconds": time.seconds})
                raise interrupted(number_of(reason), str(reason)) from None
            seconds = time.seconds
            store.close("finished", seconds=seconds)
        return seconds

    def _run(self, simulation: Simulation, progress: Progress) -> None:
        if not self.moments:
            simulation.start(self.stream)
            simulation.finish()
            return

        def report(done: int, total: int | None) -> None:
            progress(done)
            if done == self.moments:
                simulation.checkpoint()  # from which a larger budget goes on

        simulation.run(self.stream, report=report)

    def _checkpoint(self, run: Path) -> State | None:
        """Return the state to go on from; None where a run has to begin anew."""
        if not self.moments or not (run / "checkpoints").is_dir():
            return None
        try:
            return read_checkpoint(run)
        except (OptionError, StorageError):
            return None


class LearningTime(Recorder):
    """How long a run has been learning; records nothing, but goes on from a checkpoint however the run ended.

    Parameters
    ----------
    probe : Probe, optional
        The seconds that it takes are no learning.
    """

    def __init__(self, probe: Probe | None) -> None:
        super().__init__(kind="learning")
        self._probe = probe
        self._before, self._begun = 0.0, perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of learning so far."""
        probing = 0.0 if self._probe is None else self._probe.seconds
        return self._before + perf_counter() - self._begun - probing

    def due(self, moment: int) -> bool:
        """Return that no moment is recorded."""
        return False

    def state(self) -> dict[str, Tensor]:
        """Return the seconds of learning so far."""
        return {"seconds": torch.tensor(self.seconds, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Add to the seconds before the checkpoint."""
        self._before = float(state["seconds"])


def network_for(rule: Rule, images: ImageSet, network: str) -> Network:
    """Return the network for a rule: the same for all, with a readout where the rule is taught."""
    classes = len(images.classes) if "target" in rule.needs else None
    return from_description(network, images.shape, classes, normalisation=rule.normalisation)


def freeze_below_top(network: Network) -> None:
    """Make every feedforward pathway but those onto the top keep its weights."""
    for pathway in network.feedforward.values():
        pathway.plastic = pathway.post == network.top


def stream_for(
    rule: Rule, images: ImageSet, pixels: Tensor | StreamedImages, labels: Tensor | None, negatives: int = 1, **common: Any
) -> Stream:
    """Return the stream of moments that a rule waits for, on the same views for all rules.

    Parameters
    ----------
    rule : Rule
    images : ImageSet
        Says which views suit, and how many classes there are.
    pixels, labels
        What is shown, as for `Stream`; ``images.train`` as a rule.
    negatives : int
        As for `ViewPairs`; other streams have none.
    **common
        As for `Stream`.
    """
    views = default_views(images)
    if rule.normalisation == "doubled":
        return DoubledInput(pixels, labels, views, **common)
    if "phases" in rule.needs and "settling" not in rule.needs:
        shown = "labels" if "label in the stimulus" in rule.needs else "hybrids"
        return WakeSleep(pixels, labels, views, len(images.classes), negatives=shown, **common)
    objective = getattr(rule, "objective", None)
    either = isinstance(objective, Clapp) and objective.retrodiction == "own"  # published so; CLAPP-s is taught both
    options = {"transitions": "either"} if either else {"negatives": negatives}
    return ViewPairs(pixels, labels, views, **options, **common)


def shown_alone(rule: Rule, images: ImageSet) -> Callable[[Tensor], Tensor] | None:
    """Return what turns single images into what the network of a rule is shown of them; None for the images as they are.

    A rule that reads the label in the image is shown a neutral one there, one that is shown two images the same twice.
    """
    if rule.normalisation == "doubled":
        return doubled

    def with_neutral_label(pixels: Tensor) -> Tensor:
        return write_label(pixels, None, len(images.classes))

    return with_neutral_label if "label in the stimulus" in rule.needs else None


def synapses_for(rates: tuple[float, float], rule: Rule, network: Network) -> Synapses:
    """Return AdamW with these learning rates of the feedforward and of the feedback weights, where the rule has some."""
    has_feedback = bool(rule.wire(network.copy()).feedback)
    return Synapses("adamw", lr=rates[0], pathways={"*=>*": {"lr": rates[1]}} if has_feedback else None)
