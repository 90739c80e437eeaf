"""Data sets with a name of their own: the embedded digits, those of torchvision, and the binary files of STL-10.

Torchvision's own readers load its data sets: the one of CIFAR-10 un-pickles files, after their MD5 sums have been checked.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import StimulusError
from neurossl.stimuli.images import ImageSet, statistics

TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
_FRACTION_TESTED = 0.2
_STL10_SIDE = 96
_STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def load_digits() -> ImageSet:
    """Return scikit-learn's digits, every class split 80 : 20 in the order of the file."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = F.interpolate(small, (16, 16), mode="bilinear", align_corners=False).round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(bunch.target).long()
    tested = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        mine = (labels == label).nonzero()[:, 0]
        tested[mine[len(mine) - round(_FRACTION_TESTED * len(mine)) :]] = True
    return ImageSet(
        name="digits",
        classes=tuple(str(d) for d in range(10)),
        train=large[~tested],
        train_labels=labels[~tested],
        test=large[tested],
        test_labels=labels[tested],
        # No normalisation: the background of handwriting stays silent.
        mean=(0.0,),
        std=(1.0,),
        source="scikit-learn load_digits, 8 x 8 enlarged to 16 x 16 (bilinear); tested with the last 20 % of every class",
    )


def load_torchvision(name: str, root: Path, download: bool) -> ImageSet:
    """Return a data set of torchvision.

    Raises
    ------
    StimulusError
        If it is not there or damaged.
    """
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION[name])
    try:
        train, test = (kind(str(root), train=part, download=download) for part in (True, False))
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as reason:
        message = str(reason).split("\n")[0] or "not in the format of this data set"
        raise missing(name, root, message, download) from None
    pixels = _channels_first(train.data)
    mean, std = ((0.0,), (1.0,)) if pixels.shape[1] == 1 else statistics(pixels)
    return ImageSet(
        name=name,
        classes=tuple(map(str, train.classes)),
        train=pixels,
        train_labels=torch.as_tensor(np.asarray(train.targets)).long(),
        test=_channels_first(test.data),
        test_labels=torch.as_tensor(np.asarray(test.targets)).long(),
        mean=mean,
        std=std,
        source=f"torchvision {TORCHVISION[name]}, its training and test sets",
    )


def missing(name: str, root: Path, reason: str, download: bool | None) -> StimulusError:
    """Return the error for a data set that is not where it was looked for; ``download`` is None if nothing is to fetch."""
    remedy = "give its folder with --data-dir" + (", or --download" if download is False else "")
    return StimulusError(f"data set {name!r}: not found or damaged in {root} ({reason}): {remedy}")


def _channels_first(data: Any) -> Tensor:
    """Return torchvision's array of images as (images, channels, height, width)."""
    pixels = torch.as_tensor(np.ascontiguousarray(data))
    return pixels[:, None].contiguous() if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def load_stl10(root: Path, download: bool) -> ImageSet:
    """Return STL-10 from its binary files; the unlabelled images, where they are there, stay in theirs, memory-mapped.

    Raises
    ------
    StimulusError
        If a file is missing or damaged; names it.
    """
    folder = root / "stl10_binary"
    if download and not (folder / "train_X.bin").is_file():
        from torchvision import datasets

        try:
            datasets.STL10(str(root), download=True)
        except (RuntimeError, OSError, ValueError) as reason:
            raise missing("stl10", root, str(reason).split("\n")[0], download) from None
    parts = {}
    for part in ("train", "test"):
        pixels = torch.from_numpy(np.array(_stl10_images(folder / f"{part}_X.bin", root, download))).transpose(2, 3)
        labels = torch.from_numpy(np.fromfile(_there(folder / f"{part}_y.bin", root, download), np.uint8)).long() - 1
        if len(labels) != len(pixels) or not 0 <= int(labels.min()) <= int(labels.max()) < len(_STL10_CLASSES):
            raise missing("stl10", root, f"{part}_y.bin is not one label from 1 to 10 per image", download)
        parts[part] = pixels.contiguous(), labels
    without = folder / "unlabeled_X.bin"
    unlabelled = torch.from_numpy(_stl10_images(without, root, download)).transpose(2, 3) if without.is_file() else None
    mean, std = statistics(parts["train"][0])
    return ImageSet(
        name="stl10",
        classes=_STL10_CLASSES,
        train=parts["train"][0],
        train_labels=parts["train"][1],
        test=parts["test"][0],
        test_labels=parts["test"][1],
        mean=mean,
        std=std,
        source="STL-10, binary files, its training and test sets",
        notes=() if unlabelled is None else ("unlabelled images memory-mapped",),
        unlabelled=unlabelled,
    )


def _there(file: Path, root: Path, download: bool) -> Path:
    if not file.is_file():
        raise missing("stl10", root, f"there is no {file.name} in {file.parent.name}", download)
    return file


def _stl10_images(file: Path, root: Path, download: bool) -> np.memmap:
    """Return the images of a file, memory-mapped; column after column, so (images, 3, width, height)."""
    shape = (-1, 3, _STL10_SIDE, _STL10_SIDE)
    bytes_each, found = 3 * _STL10_SIDE**2, _there(file, root, download).stat().st_size
    if not found or found % bytes_each:
        raise missing("stl10", root, f"{file.name} has {found} bytes, expected a multiple of {bytes_each}", download)
    return np.memmap(file, np.uint8, mode="c").reshape(shape)  # type: ignore[return-value]
