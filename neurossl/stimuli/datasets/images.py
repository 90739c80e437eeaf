"""Images with labels, as they are shown: resident in memory or on a device, memory-mapped, or streamed from their files."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from neurossl.errors import OptionError, StimulusError
from neurossl.generators import concern_seed
from neurossl.stimuli.datasets import pixels as operations
from neurossl.stimuli.datasets.arrays import check_pixels, class_numbers, pixels_of
from neurossl.stimuli.datasets.streamed import StreamedImages

SHARE_TESTED = 0.2
"""Of every class of a set without a split of its own."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images with labels.

    Attributes
    ----------
    name : str
    classes : tuple of str
    train, test : Tensor of uint8, or float32 in [0, 1], (images, channels, height, width)
        Resident, memory-mapped, or `StreamedImages` in the place of a tensor. Of a set without labels, none.
    train_labels, test_labels : Tensor of int64, (images,)
    mean, std : tuple of float
        Per channel, for normalisation of pixels in [0, 1].
    source : str
        Where the images come from, and how they were split.
    notes : tuple of str
        What was changed while loading.
    unlabelled : Tensor of uint8 or float32, optional
        Further training images without labels.
    listing : str
        Digest of the names and sizes of the files that the images were read from, if they were.
    """

    name: str
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    notes: tuple[str, ...] = field(default=())
    unlabelled: Tensor | None = None
    listing: str = ""

    @classmethod
    def from_arrays(
        cls,
        train: Any = None,
        train_labels: Any = None,
        test: Any = None,
        test_labels: Any = None,
        unlabelled: Any = None,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> "ImageSet":
        """Return a set of images in arrays of numpy or torch; they are not copied where their form fits.

        Parameters
        ----------
        train, test, unlabelled : array or Tensor of uint8, or floating in [0, 1], optional
            (images, height, width), (images, channels, height, width), or (images, height, width, channels) where the last
            axis is 1 or 3 and the second is neither. Without ``test``, a fifth of every class is set apart for it, drawn at
            random with seed 0. Images without labels are ``unlabelled``, with or without others.
        train_labels, test_labels : array, Tensor or sequence, (images,)
            Integers of any type, from 0, or names of classes.
        classes : sequence of str, optional
            Names, in the order of their numbers; by default those of the training labels.
        name : str
        mean, std : sequence of float, optional
            Per channel, for normalisation; by default those of the training images. Zeros and ones leave pixels as they are,
            which keeps the background of handwriting silent.

        Raises
        ------
        StimulusError
            If shapes, types, values or numbers do not fit; names what and which image.

        Examples
        --------
        >>> import numpy as np
        >>> ImageSet.from_arrays(np.zeros((10, 8, 12), np.uint8), ["cat"] * 5 + ["dog"] * 5, name="pets")
        ImageSet('pets': 8 + 2 images 1x8x12, 2 classes)
        """
        without = None if unlabelled is None else pixels_of(unlabelled, f"{name}: unlabelled")
        origin = "arrays"
        if train is None:
            if without is None or not len(without):
                raise StimulusError(f"{name}: there are no images: give train and train_labels, or unlabelled")
            if not all(given is None for given in (train_labels, test, test_labels)):
                raise StimulusError(f"{name}: there are labels or test images, but no training images: give train")
            shown = tried = without[:0]
            numbers = answers = torch.empty(0, dtype=torch.int64, device="cpu")
            found = tuple(map(str, classes or ()))
        else:
            shown = pixels_of(train, f"{name}: train")
            if train_labels is None:
                raise StimulusError(f"{name}: train has no labels: give train_labels, or give the images as unlabelled")
            if not len(shown):
                raise StimulusError(f"{name}: train: there are no images")
            numbers, found = class_numbers(train_labels, len(shown), f"{name}: train_labels", classes)
            if (test is None) != (test_labels is None):
                raise StimulusError(f"{name}: give test and test_labels together, or neither")
            if test is None:
                apart = set_apart(numbers, SHARE_TESTED, name)
                shown, tried, numbers, answers = shown[~apart], shown[apart], numbers[~apart], numbers[apart]
                origin += f", tested with {SHARE_TESTED:.0%} of every class, drawn at random with seed 0"
            else:
                tried = pixels_of(test, f"{name}: test")
                answers, _ = class_numbers(test_labels, len(tried), f"{name}: test_labels", found)
        for what, images in (("test", tried), ("unlabelled", without)):
            if images is not None and images.shape[1:] != shown.shape[1:]:
                sizes = " and ".join("x".join(map(str, i.shape[1:])) for i in (shown, images))
                raise StimulusError(f"{name}: {what}: expected images like those of train, got {sizes}")
        own_mean, own_std = operations.statistics(shown if len(shown) or without is None else without)
        own_mean, own_std = _per_channel(mean, own_mean, name), _per_channel(std, own_std, name)
        _check_normalisation(name, own_mean, own_std)
        return cls(name, found, shown, numbers, tried, answers, own_mean, own_std, origin, unlabelled=without)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.shape[1], self.train.shape[2], self.train.shape[3]

    @cached_property
    def digest(self) -> str:
        """What tells two sets apart: 32 hexadecimal digits.

        Of classes, labels, numbers of images and their size; and of the names, relative to their folder, and sizes of the
        files that they were read from, or of their pixels, as `content_digest` says.
        """
        digest = hashlib.sha256("\0".join(self.classes).encode(errors="surrogateescape"))
        for labels in (self.train_labels, self.test_labels):
            digest.update(labels.cpu().to(torch.int64).numpy().tobytes())
        for images in (self.train, self.test, self.unlabelled):
            if self.listing or images is None:
                digest.update(f"{None if images is None else tuple(images.shape)}".encode())
            else:
                digest.update(operations.content_digest(images).encode())
        digest.update(self.listing.encode())
        return digest.hexdigest()[:32]

    def limited(self, train: int, test: int, generator: torch.Generator) -> "ImageSet":
        """Return a random subset of at most so many training and test images, balanced over classes, in memory.

        Parameters
        ----------
        train, test : int
        generator : torch.Generator
            The same generator state gives the same subset.

        Raises
        ------
        OptionError
            If a number is not at least 1.
        StimulusError
            If there are no images with labels.
        """
        if train < 1 or test < 1:
            raise OptionError(f"ImageSet.limited: expected at least 1 training and 1 test image, got {train} and {test}")
        self.with_labels("a subset of the training and test images")
        chosen_train = balanced(self.train_labels, train, generator)
        chosen_test = balanced(self.test_labels, test, generator)
        return replace(
            self,
            train=self.train[chosen_train],
            train_labels=self.train_labels[chosen_train],
            test=self.test[chosen_test],
            test_labels=self.test_labels[chosen_test],
        )

    def with_labels(self, needed_by: str) -> "ImageSet":
        """Return the set itself, which has images with labels.

        Raises
        ------
        StimulusError
            If all images are unlabelled; names what needs labels.
        """
        if not len(self.train):
            raise StimulusError(f"data set {self.name!r}: there are no images with labels, which {needed_by} needs")
        return self

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set with its images resident on a device; streamed ones stay in their files.

        A stream shows them from there and computes its views there; labels stay on the CPU.
        """

        def moved(pixels: Tensor) -> Tensor:
            return pixels if isinstance(pixels, StreamedImages) else pixels.to(device)

        unlabelled = None if self.unlabelled is None else moved(self.unlabelled)
        return replace(self, train=moved(self.train), test=moved(self.test), unlabelled=unlabelled)

    def still(self) -> Tensor:
        """Return the test images as default views show them, without random changes: resized and normalised, in memory.

        Raises
        ------
        StimulusError
            If there are no test images.
        """
        from neurossl.stimuli.views import default_views

        if not len(self.test):
            raise StimulusError(f"data set {self.name!r}: there are no test images")
        return default_views(self).still(self.test[:])

    def greyed(self) -> "ImageSet":
        """Return images with their colours reduced to luminance."""
        return self._changed(operations.greyed, "colours reduced to luminance")

    def resized(self, height: int, width: int) -> "ImageSet":
        """Return images of this height and width.

        Raises
        ------
        StimulusError
            If they are larger than the free memory.
        """
        return self._changed(lambda part: operations.resized(part, (height, width)), f"resized to {height} x {width}")

    def _changed(self, change: Callable[[Tensor], Tensor], note: str) -> "ImageSet":
        """Return images changed part by part; handwriting, whose mean is 0, stays without normalisation."""

        def all_changed(pixels: Tensor) -> Tensor:
            return operations.changed(pixels, change, f"data set {self.name!r}, {note}")

        train = all_changed(self.train)
        unlabelled = None if self.unlabelled is None else all_changed(self.unlabelled)
        mean, std = self.mean[: train.shape[1]], self.std[: train.shape[1]]
        if any(self.mean):
            mean, std = operations.statistics(train if len(train) or unlabelled is None else unlabelled)
        return replace(
            self,
            train=train,
            test=all_changed(self.test),
            unlabelled=unlabelled,
            mean=mean,
            std=std,
            notes=(*self.notes, note),
        )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        further = "" if self.unlabelled is None else f", {len(self.unlabelled)} unlabelled"
        counts = f"{len(self.train)} + {len(self.test)} images {shape}{further}"
        return f"ImageSet({self.name!r}: {counts}, {len(self.classes)} classes)"


def _per_channel(given: Sequence[float] | None, own: tuple[float, ...], name: str) -> tuple[float, ...]:
    if given is None:
        return own
    values = tuple(float(value) for value in given)
    if len(values) != len(own):
        raise StimulusError(f"{name}: mean and std: expected one number per channel ({len(own)}), got {len(values)}")
    return values


def set_apart(labels: Tensor, share: float, name: str = "images", seed: int = 0) -> Tensor:
    """Return which images are tested with: this share of every class, at least one, drawn at random; (images,) of bool.

    Raises
    ------
    StimulusError
        If a class has one image alone.
    """
    generator = torch.Generator().manual_seed(concern_seed(seed, "stimuli/tested"))
    order = torch.randperm(len(labels), generator=generator, device="cpu")
    apart = torch.zeros(len(labels), dtype=torch.bool, device="cpu")
    for label in labels.unique():
        mine = order[labels[order] == label]
        if len(mine) < 2:
            raise StimulusError(f"{name}: class {int(label)} has one image, expected at least 2: one is tested with")
        apart[mine[: max(1, round(share * len(mine)))]] = True
    return apart


def balanced(labels: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return sorted indices of at most ``most`` images, as evenly over the classes as there are images."""
    order = torch.randperm(len(labels), generator=generator, device="cpu")
    if most >= len(labels):
        return torch.arange(len(labels), device="cpu")
    shuffled = labels[order]
    rank = torch.zeros_like(shuffled)
    for label in shuffled.unique():
        mine = shuffled == label
        rank[mine] = torch.arange(int(mine.sum()), device="cpu")
    return order[rank.argsort(stable=True)[:most]].sort().values


def _check_normalisation(name: str, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise StimulusError unless pixels can be normalised so."""
    if not all(map(isfinite, (*mean, *std))) or min(std) <= 0:
        raise StimulusError(f"{name}: expected a finite mean and std > 0, got {tuple(mean)} and {tuple(std)}")


def check_image_set(images: "ImageSet") -> None:
    """Refuse an image set of one's own whose parts do not fit each other.

    Raises
    ------
    StimulusError
        Naming the part.
    """
    for part, labels in (("train", "train_labels"), ("test", "test_labels")):
        shown, numbers = getattr(images, part), getattr(images, labels)
        if not isinstance(numbers, Tensor) or numbers.ndim != 1 or len(numbers) != len(shown):
            raise StimulusError(f"{images.name}: {labels}: expected one number per image ({len(shown)})")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(images.classes):
            raise StimulusError(f"{images.name}: {labels}: expected 0 to {len(images.classes) - 1}, one per class")
        if isinstance(shown, Tensor):
            check_pixels(shown, f"{images.name}: {part}")
    _check_normalisation(images.name, images.mean, images.std)
