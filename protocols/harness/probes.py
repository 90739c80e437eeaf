"""Representation quality: what simple readouts find in every population."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from analysis.probes import linear_probe, nearest_neighbour_probe
from neurossl.anatomy.shapes import Pool
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.pooling import pooled
from neurossl.generators import Generators
from neurossl.recorders.observation import Observation
from neurossl.stimuli import ImageSet, default_views, write_label


class Probe(ABC):
    """What a `PerformanceRecorder` reads out, and the seconds that this takes.

    Attributes
    ----------
    seconds : float
    """

    seconds = 0.0

    def __call__(self, now: Observation) -> Mapping[str, Mapping[str, float]]:
        """Return what `read` does."""
        begun = time.perf_counter()
        try:
            return self.read(now)
        finally:
            self.seconds += time.perf_counter() - begun

    @abstractmethod
    def read(self, now: Observation) -> Mapping[str, Mapping[str, float]]:
        """Return measures by population."""


class Probes(Probe):
    """A linear and a nearest-neighbour readout per population, on fixed views of training and test images.

    The readouts learn from views of training images and are scored on views of test images; the raw pixels (the input
    population) are read out as well, before learning.

    Parameters
    ----------
    images : ImageSet
    seed : int
        Of the views, which are drawn once, when they are first needed.
    repeats : (int, int)
        Views per training and test image.
    most : (int, int)
        Most training and test images, balanced over classes.
    neutral : bool
        Write the neutral label into every image (forward-forward with labels).
    """

    def __init__(
        self,
        images: ImageSet,
        seed: int,
        most: tuple[int, int] = (5000, 2000),
        neutral: bool = False,
        repeats: tuple[int, int] = (2, 4),
    ) -> None:
        self.images, self.seed, self.most, self.neutral, self.repeats = images, seed, most, neutral, repeats

    @cached_property
    def shown(self) -> tuple[Tensor, Tensor]:
        """Views of training and of test images, (images, *shape)."""
        generator, views = Generators(self.seed)["probe"], default_views(self.images)
        chosen = self._limited(generator)
        train = torch.cat([views(chosen.train, generator) for _ in range(self.repeats[0])])
        test = torch.cat([views(chosen.test, generator) for _ in range(self.repeats[1])])
        self._labels = (
            chosen.train_labels.repeat(self.repeats[0]).numpy(),
            chosen.test_labels.repeat(self.repeats[1]).numpy(),
        )
        return train, test

    def read(self, now: Observation) -> Mapping[str, Mapping[str, float]]:
        """Return the accuracies of all populations below the readout."""
        network = now.network
        names = [name for name in network.order if name != "readout"]
        stimuli = self.shown
        if self.neutral:
            stimuli = tuple(write_label(part, None, len(self.images.classes)) for part in stimuli)  # type: ignore[assignment]
        train, test = (population_features(now.circuit, stimulus, names) for stimulus in stimuli)
        found: dict[str, Mapping[str, float]] = {name: self._read_out(train[name], test[name]) for name in names}
        if now.moment == 0:
            found[network.input.name] = self._read_out(self.shown[0].flatten(1), self.shown[1].flatten(1))
        return found

    def _limited(self, generator: torch.Generator) -> ImageSet:
        images = self.images
        return images.limited(min(self.most[0], len(images.train)), min(self.most[1], len(images.test)), generator)

    def _read_out(self, train: Tensor, test: Tensor) -> dict[str, float]:
        data = train.numpy(), self._labels[0], test.numpy(), self._labels[1]
        neighbours = min(5, len(train))
        return {"probe_accuracy": linear_probe(*data), "knn_accuracy": nearest_neighbour_probe(*data, neighbours)}


@torch.no_grad()
def population_features(
    circuit: Circuit,
    stimulus: Tensor,
    populations: list[str],
    rows: int = 512,
    kernels: Mapping[str, Pool] | None = None,
) -> dict[str, Tensor]:
    """Return the activity of populations on the host, flat; maps are averaged to at most 2x2 cells.

    Parameters
    ----------
    circuit : Circuit
    stimulus : Tensor, (images, *input shape)
    populations : list of str
    rows : int
        Images per sweep.
    kernels : mapping of str to int, "global" or None, optional
        Of the average pooling of every population, instead.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in populations}
    for batch in stimulus.split(rows):
        activity = circuit.sweep(batch.to(circuit.device, circuit.weights.dtype))
        for name in populations:
            z = activity.output[name]
            if kernels is not None:
                z = pooled(z, kernels[name])
            elif z.ndim == 4:
                z = torch.nn.functional.adaptive_avg_pool2d(z, min(2, z.shape[2]))
            parts[name].append(z.flatten(1).float().cpu())
    return {name: torch.cat(batches) for name, batches in parts.items()}


def set_aside(labels: Tensor, share: float, seed: int) -> Tensor:
    """Return which images are set aside for choices: this share of every class, at least one; (images,) of bool."""
    order = torch.randperm(len(labels), generator=Generators(seed)["stimuli/held-out"])
    chosen = torch.zeros(len(order), dtype=torch.bool)
    for label in labels.unique():
        mine = order[labels[order] == label]
        chosen[mine[: max(1, round(share * len(mine)))]] = True
    return chosen
