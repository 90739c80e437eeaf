"""Representation quality: what simple readouts find in every population."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.probes import linear_probe_correctness, nearest_neighbour_correctness
from neurossl.anatomy.shapes import Pool
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.pooling import pooled
from neurossl.generators import Generators
from neurossl.recorders import Observation, Stimuli
from neurossl.stimuli import ImageSet, default_views
from neurossl.stimuli.datasets import balanced

Said = Mapping[str, Mapping[str, Any]]
"""Of every population: accuracies by measure, and of single stimuli whether they were named correctly."""


class Probe(ABC):
    """What a `PerformanceRecorder` reads out, and the seconds that this takes.

    Attributes
    ----------
    seconds : float
    stimuli : Stimuli or None
        What it is tested with, where it says of single stimuli whether they were named correctly.
    """

    seconds = 0.0
    stimuli: Stimuli | None = None

    def __call__(self, now: Observation) -> Said:
        """Return what `read` does."""
        begun = time.perf_counter()
        try:
            return self.read(now)
        finally:
            self.seconds += time.perf_counter() - begun

    @abstractmethod
    def read(self, now: Observation) -> Said:
        """Return measures by population, and correctness by stimulus; see `PerformanceRecorder`."""


class Probes(Probe):
    """A linear and a nearest-neighbour readout per population, on fixed views of training and test images.

    The readouts learn from views of training images and are scored on views of test images; the raw pixels (the input
    population) are read out as well, before learning.

    Parameters
    ----------
    images : ImageSet
    seed : int
        Of the training images and their views, which are drawn once, when they are first needed. What is tested with is the
        same for all seeds, so that what is named correctly can be compared stimulus by stimulus.
    repeats : (int, int)
        Views per training and test image.
    most : (int, int)
        Most training and test images, balanced over classes.
    encode : callable, optional
        Turns views into what the network is shown of them, such as images with a neutral label.
    """

    def __init__(
        self,
        images: ImageSet,
        seed: int,
        most: tuple[int, int] = (5000, 2000),
        encode: Callable[[Tensor], Tensor] | None = None,
        repeats: tuple[int, int] = (2, 4),
    ) -> None:
        self.images, self.seed, self.most, self.encode, self.repeats = images, seed, most, encode, repeats

    @property
    def shown(self) -> tuple[Tensor, Tensor]:
        """Views of training and of test images, (images, *shape)."""
        learned, _, tested = self._drawn
        assert isinstance(tested.shown, Tensor), "images fall on one population"
        return learned, tested.shown

    @property
    def stimuli(self) -> Stimuli:  # type: ignore[override]
        """The views of test images: which image of the test set each shows, and its label."""
        return self._drawn[2]

    @cached_property
    def _drawn(self) -> tuple[Tensor, np.ndarray, Stimuli]:
        """Views of training images and their labels, and views of test images."""
        generator, fixed = Generators(self.seed)["probe"], Generators(0)["probe/tested"]
        views, images = default_views(self.images), self.images
        images.with_labels("a readout")
        learned = balanced(images.train_labels, min(self.most[0], len(images.train)), generator)
        tested = balanced(images.test_labels, min(self.most[1], len(images.test)), fixed)
        train = torch.cat([views(images.train[learned], generator) for _ in range(self.repeats[0])])
        test = torch.cat([views(images.test[tested], fixed) for _ in range(self.repeats[1])])
        index = tested.repeat(self.repeats[1])
        ids = torch.cat([view * len(images.test) + tested for view in range(self.repeats[1])])
        labels = images.train_labels[learned].repeat(self.repeats[0]).numpy()
        return train, labels, Stimuli(test, ids, images.test_labels[index], index)

    def read(self, now: Observation) -> Said:
        """Return accuracies of all populations below the readout, and which test stimuli were named correctly."""
        network = now.network
        names = [name for name in network.order if name != "readout"]
        stimuli = self.shown if self.encode is None else tuple(self.encode(part) for part in self.shown)
        train, test = (population_features(now.circuit, stimulus, names) for stimulus in stimuli)
        found: dict[str, Mapping[str, Any]] = {name: self._read_out(train[name], test[name]) for name in names}
        if now.moment == 0:
            found[network.input.name] = self._read_out(self.shown[0].flatten(1), self.shown[1].flatten(1))
        return found

    def _read_out(self, train: Tensor, test: Tensor) -> dict[str, Any]:
        _, learned, tested = self._drawn
        assert tested.labels is not None, "drawn with labels"
        data = train.numpy(), learned, test.numpy(), tested.labels
        linear = linear_probe_correctness(*data)
        nearest = nearest_neighbour_correctness(*data, min(5, len(train)))
        accuracies = {"probe_accuracy": float(linear.mean()), "knn_accuracy": float(nearest.mean())}
        return {**accuracies, "probe": linear, "nearest_neighbour": nearest}


@lru_cache(maxsize=2)
def fixed_stimuli(images: ImageSet, most: int) -> Stimuli:
    """Return test images, balanced over classes, to which responses are recorded: the same for all rules and all seeds.

    Parameters
    ----------
    images : ImageSet
    most : int
        Most images.

    Returns
    -------
    Stimuli
        The images themselves, without random changes; identified by their place in the test set.
    """
    chosen = balanced(images.test_labels, min(most, len(images.test)), Generators(0)["recorders/fixed-stimuli"])
    return Stimuli(default_views(images).still(images.test[chosen]), chosen, images.test_labels[chosen])


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
