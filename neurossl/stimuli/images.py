"""Images with labels, as they are shown: resident in memory or on a device, memory-mapped, or streamed from their files."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import OptionError
from neurossl.stimuli.streamed import StreamedImages

_PART = 4096
_SAMPLED = 2000


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images with labels.

    Attributes
    ----------
    name : str
    classes : tuple of str
    train, test : Tensor of uint8, (images, channels, height, width)
        Resident, memory-mapped, or `StreamedImages` in the place of a tensor.
    train_labels, test_labels : Tensor of int64, (images,)
    mean, std : tuple of float
        Per channel, for normalisation of pixels in [0, 1].
    source : str
        Where the images come from, and how they were split.
    notes : tuple of str
        What was changed while loading.
    unlabelled : Tensor of uint8, optional
        Further training images without labels.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.train.shape[1], self.train.shape[2], self.train.shape[3]

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
        """
        if train < 1 or test < 1:
            raise OptionError(f"ImageSet.limited: expected at least 1 training and 1 test image, got {train} and {test}")
        chosen_train = balanced(self.train_labels, train, generator)
        chosen_test = balanced(self.test_labels, test, generator)
        return replace(
            self,
            train=self.train[chosen_train],
            train_labels=self.train_labels[chosen_train],
            test=self.test[chosen_test],
            test_labels=self.test_labels[chosen_test],
        )

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set with its images resident on a device; streamed ones stay in their files.

        A stream shows them from there and computes its views there; labels stay on the CPU.
        """

        def moved(pixels: Tensor) -> Tensor:
            return pixels if isinstance(pixels, StreamedImages) else pixels.to(device)

        unlabelled = None if self.unlabelled is None else moved(self.unlabelled)
        return replace(self, train=moved(self.train), test=moved(self.test), unlabelled=unlabelled)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        further = "" if self.unlabelled is None else f", {len(self.unlabelled)} unlabelled"
        counts = f"{len(self.train)} + {len(self.test)} images {shape}{further}"
        return f"ImageSet({self.name!r}: {counts}, {len(self.classes)} classes)"


def balanced(labels: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return sorted indices of at most ``most`` images, as evenly over the classes as there are images."""
    order = torch.randperm(len(labels), generator=generator)
    if most >= len(labels):
        return torch.arange(len(labels))
    shuffled = labels[order]
    rank = torch.zeros_like(shuffled)
    for label in shuffled.unique():
        mine = shuffled == label
        rank[mine] = torch.arange(int(mine.sum()))
    return order[rank.argsort(stable=True)[:most]].sort().values


def statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1]; of streamed images, those of 2,000."""
    if isinstance(pixels, StreamedImages):
        count = min(_SAMPLED, len(pixels))
        pixels = pixels[torch.linspace(0, len(pixels) - 1, count).long()]
    channels = pixels.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.float64)
    for part in pixels.split(_PART):
        for channel in range(channels):
            counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return tuple(round(m, 6) for m in mean.tolist()), tuple(max(round(s, 6), 1e-6) for s in variance.sqrt().tolist())


def greyed(images: ImageSet) -> ImageSet:
    """Return images with their colours reduced to luminance."""
    weights = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)

    def change(part: Tensor) -> Tensor:
        return (part * weights).sum(1, keepdim=True).round().to(torch.uint8)

    return _changed(images, change, "colours reduced to luminance")


def resized(images: ImageSet, size: int) -> ImageSet:
    """Return images of ``size`` x ``size`` pixels."""

    def change(part: Tensor) -> Tensor:
        smooth = F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        return smooth.round().clamp(0, 255).to(torch.uint8)

    return _changed(images, change, f"resized to {size} x {size}")


def _changed(images: ImageSet, change: Callable[[Tensor], Tensor], note: str) -> ImageSet:
    """Return images changed part by part; handwriting, whose mean is 0, stays without normalisation."""

    def all_changed(pixels: Tensor) -> Tensor:
        return torch.cat([change(part) for part in pixels.split(_PART)])

    train = all_changed(images.train)
    mean, std = statistics(train) if any(images.mean) else (images.mean, images.std)
    unlabelled = None if images.unlabelled is None else all_changed(images.unlabelled)
    return replace(
        images,
        train=train,
        test=all_changed(images.test),
        unlabelled=unlabelled,
        mean=mean,
        std=std,
        notes=(*images.notes, note),
    )
