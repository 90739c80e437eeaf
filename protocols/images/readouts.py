"""Linear readouts of every population, and of all of them together, as representations are compared in the literature.

Maps are averaged over the cells of the published score (`spatial_pool`), the same for all rules. Penalties of the
readouts are chosen on images set aside for choices. The test images are read once, by readouts that learn from all other
images and, where views are mirrored, from mirror images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.probes import linear_probe, linear_probe_correctness
from neurossl.dynamics.circuit import Circuit
from neurossl.errors import StimulusError
from neurossl.generators import Generators
from neurossl.plasticity import Rule
from neurossl.plasticity.objectives.contrastive import spatial_pool
from neurossl.recorders import Stimuli
from neurossl.stimuli import ImageSet, StreamedImages, default_views
from neurossl.stimuli.datasets import balanced
from protocols.harness.probes import population_features, set_aside
from protocols.images.published_readout import accuracy_by_epoch, crops

TOGETHER = "all populations"
FOLLOWED = "followed_accuracy"
"""The validation accuracy of all populations together at every time with one and the same penalty, so that times compare."""
PUBLISHED_READOUT = ("best_epoch_accuracy", "last_epoch_accuracy")
"""Test accuracy of the published readout in its best epoch, which the test images choose, and in its last."""
PENALTIES = (100.0, 1e3, 1e4)
"""Of the squared norm of the readout's weights; features have unit variance."""
FOLLOWED_PENALTY = 1e3
"""The penalty where none is chosen: one of those above."""
CHOICE_ITERATIONS = 30
"""Of the optimiser while penalties are chosen."""


@dataclass(frozen=True, eq=False)
class Split:
    """What is learned from, and what readouts learn from, are chosen with and are tested with.

    Attributes
    ----------
    images : ImageSet
        ``train``: what readouts learn from, and ``test``, both in memory.
    learned : Tensor of uint8, or StreamedImages
        What networks learn from: the training images that are not set aside, or the unlabelled ones where there are some.
    labels : Tensor of int64, optional
        Of what networks learn from.
    taught : (Tensor of uint8 or StreamedImages, Tensor of int64)
        The training images that are not set aside, and their labels.
    validation, validation_labels : Tensor
        Set aside for choices, in memory.
    """

    images: ImageSet
    learned: Tensor | StreamedImages
    labels: Tensor | None
    taught: tuple[Tensor | StreamedImages, Tensor]
    validation: Tensor
    validation_labels: Tensor

    @cached_property
    def tested(self) -> Stimuli:
        """The test images, by their place among those that are used, as correctness is stored of each."""
        return Stimuli(self.images.test, labels=self.images.test_labels)

    def shown_to(self, rule: Rule) -> tuple[Tensor | StreamedImages, Tensor | None]:
        """Return what a rule learns from, and its labels: the labelled images if it needs them."""
        return self.taught if rule.needs & {"target", "label in the stimulus"} else (self.learned, self.labels)


def split_images(
    images: ImageSet,
    share: float,
    seed: int,
    most: int | None = None,
    most_read: int | None = None,
    most_tested: int | None = None,
) -> Split:
    """Return the split of an image set, the same for all rules and seeds.

    Parameters
    ----------
    images : ImageSet
    share : float
        Of the training images that is set aside for choices.
    seed : int
        Of the split.
    most : int, optional
        Training images to use, those set aside included, and unlabelled images to use; all by default.
    most_read : int, optional
        Labelled images that readouts learn from and choose with, in all; all that are used by default.
    most_tested : int, optional
        Test images to use; all by default.

    Raises
    ------
    StimulusError
        If a class is left without a training image.
    """
    generator = Generators(seed)["stimuli/subset"]
    used = balanced(images.train_labels, most or len(images.train), generator)
    tested = balanced(images.test_labels, most_tested or len(images.test), generator)
    aside = set_aside(images.train_labels[used], share, seed)
    kept, choices = used[~aside], used[aside]
    labels = images.train_labels[kept]
    if len(labels.unique()) < len(images.classes):
        raise StimulusError(
            f"data set {images.name!r}: {len(used)} training images leave a class without any once {len(choices)} are set "
            f"aside for choices: use more"
        )
    taught = _some(images.train, kept)
    learned: tuple[Tensor | StreamedImages, Tensor | None] = taught, labels
    if images.unlabelled is not None:
        chosen = torch.randperm(len(images.unlabelled), generator=generator)[: most or len(images.unlabelled)]
        learned = _some(images.unlabelled, chosen.sort().values), None
    if most_read is not None:
        fraction = most_read / len(used)
        kept = kept[balanced(labels, max(1, round(fraction * len(kept))), generator)]
        few = balanced(images.train_labels[choices], max(1, round(fraction * len(choices))), generator)
        choices = choices[few]
    read = replace(
        images,
        train=images.train[kept],
        train_labels=images.train_labels[kept],
        test=images.test[tested],
        test_labels=images.test_labels[tested],
        unlabelled=None,
    )
    return Split(read, *learned, (taught, labels), images.train[choices], images.train_labels[choices])


def _some(pixels: Tensor | StreamedImages, index: Tensor) -> Tensor | StreamedImages:
    """Return some of the images: streamed ones in their files, all of them without a copy, which keeps a memory map."""
    if isinstance(pixels, StreamedImages):
        return pixels.subset(index)
    return pixels if len(index) == len(pixels) else pixels[index]


class Readouts:
    """Readouts of one network.

    Parameters
    ----------
    split : Split
    circuit : Circuit
        May learn between readouts.
    encode : callable, optional
        Turns images into what the network is shown of them.
    """

    def __init__(self, split: Split, circuit: Circuit, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        self.split = split
        self.encode = encode
        self.circuit, network = circuit, circuit.network
        self.read = [name for name in network.order if name != "readout"]
        self.kernels = {n: spatial_pool(network.populations[n].shape, network.input.shape) for n in self.read}
        self._views = default_views(split.images)
        self._labels = split.images.train_labels.numpy()
        self._validation_labels = split.validation_labels.numpy()

    def followed(self) -> float:
        """Return the validation accuracy of all populations together, with a penalty that is not chosen."""
        learned, checked = self._seen(self.split.images.train), self._seen(self.split.validation)
        return self._validated(learned[TOGETHER], checked[TOGETHER], FOLLOWED_PENALTY)

    def as_published(self, epochs: int, seed: int, weight_decay: float = 0.0) -> dict[str, float]:
        """Return what the published readout of all populations together finds on the test images.

        Parameters
        ----------
        epochs : int
            Published: 300.
        seed : int
            Of the crops, and of the readout.
        weight_decay : float
        """
        images, generators = self.split.images, Generators(seed)
        views, drawn = crops(self._views), generators["readout/crops"]

        def features() -> Tensor:
            parts = [self._activity(views(part, drawn)) for part in images.train.split(1024)]
            return torch.cat([torch.cat(list(part.values()), 1) for part in parts])

        tested = torch.from_numpy(self._seen(images.test)[TOGETHER])
        data = images.train_labels, tested, images.test_labels
        found = accuracy_by_epoch(features, *data, epochs, generators["readout/published"], weight_decay)
        return dict(zip(PUBLISHED_READOUT, (max(found), found[-1]), strict=True))

    def final(self, tested: bool) -> dict[str, dict[str, Any]]:
        """Return the accuracies of every population and of all together, and which test images were named correctly.

        Parameters
        ----------
        tested : bool
            Whether to read the test images, or only those for choices.

        Returns
        -------
        dict
            Name -> "validation_accuracy" with the best penalty and, if tested, "probe_accuracy" and "probe", (images,) of
            bool; of all populations together also `FOLLOWED`.
        """
        images = self.split.images
        learned, checked = self._seen(images.train), self._seen(self.split.validation)
        best: dict[str, float] = {}
        found: dict[str, dict[str, Any]] = {}
        for name in checked:
            scores = {p: self._validated(learned[name], checked[name], p) for p in PENALTIES}
            best[name] = max(scores, key=lambda p: scores[p])
            found[name] = {"validation_accuracy": scores[best[name]]}
            if name == TOGETHER:
                found[name][FOLLOWED] = scores[FOLLOWED_PENALTY]
        if tested:
            mirrored = self._seen(images.train.flip(3)) if self._views.flip else {}
            labels = [self._labels, self._validation_labels, *([self._labels] if mirrored else [])]
            test, test_labels = self._seen(images.test), images.test_labels.numpy()
            for name, accuracies in found.items():
                features = [learned.pop(name), checked[name], *([mirrored[name]] if mirrored else [])]
                data = np.concatenate(features), np.concatenate(labels), test[name], test_labels
                correct = linear_probe_correctness(*data, best[name])
                accuracies |= {"probe_accuracy": float(correct.mean()), "probe": correct}
        return found

    def _validated(self, learned: np.ndarray, checked: np.ndarray, penalty: float) -> float:
        return linear_probe(learned, self._labels, checked, self._validation_labels, penalty, CHOICE_ITERATIONS)

    def _seen(self, pixels: Tensor) -> dict[str, np.ndarray]:
        """Return the pooled activity for the images themselves, per population and together: (images, values)."""
        parts = [self._activity(self._views.still(part)) for part in pixels.split(1024)]
        features = {name: torch.cat([part[name] for part in parts]).numpy() for name in self.read}
        return {**features, TOGETHER: np.concatenate(list(features.values()), axis=1)}

    def _activity(self, views: Tensor) -> dict[str, Tensor]:
        """Return the pooled activity for views of images, per population: (images, values)."""
        shown = views if self.encode is None else self.encode(views)
        return population_features(self.circuit, shown, self.read, kernels=self.kernels)
