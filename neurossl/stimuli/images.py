"""Images: the embedded digits, torchvision's data sets, and folders of images.

Images stay in memory as uint8. Torchvision's own readers load its data sets: the one of CIFAR-10 un-pickles files, after
their MD5 sums have been checked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import OptionError, StimulusError

TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "stl10": "STL10"}
NAMES = ("digits", *TORCHVISION, "folder:PATH")
_FRACTION_TESTED = 0.2


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Training and test images with labels.

    Attributes
    ----------
    name : str
    classes : tuple of str
    train, test : Tensor of uint8, (images, channels, height, width)
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
        """Return a random subset of at most so many training and test images, balanced over classes.

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
        chosen_train = _balanced(self.train_labels, train, generator)
        chosen_test = _balanced(self.test_labels, test, generator)
        return replace(
            self,
            train=self.train[chosen_train],
            train_labels=self.train_labels[chosen_train],
            test=self.test[chosen_test],
            test_labels=self.test_labels[chosen_test],
        )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"ImageSet({self.name!r}: {len(self.train)} + {len(self.test)} images {shape}, {len(self.classes)} classes)"


def _balanced(labels: Tensor, most: int, generator: torch.Generator) -> Tensor:
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


def load_images(
    name: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    grayscale: bool = False,
) -> ImageSet:
    """Return an image set.

    Parameters
    ----------
    name : str
        ``digits`` (scikit-learn's handwritten digits, embedded, enlarged to 16 x 16), ``mnist``, ``fashion_mnist``,
        ``cifar10``, ``stl10``, or ``folder:PATH`` with subfolders ``train`` and ``test`` or ``val``, each with a folder per
        class (torchvision's `ImageFolder` layout). Images of a folder become RGB, square and of one size: by default the
        shorter side of the most common size. What had to be changed is told by a warning and kept in ``notes``.
    data_dir : path, optional
        Where torchvision's data sets are, or are to be.
    download : bool
        Let torchvision fetch what is missing.
    size : int, optional
        Resize to so many pixels.
    grayscale : bool
        Reduce colours to luminance.

    Raises
    ------
    StimulusError
        If the name does not exist or the images are missing, empty or damaged; names the path.
    """
    if size is not None and size < 1:
        raise StimulusError(f"size: expected at least 1 pixel, got {size}")
    if name == "digits":
        images = _digits()
    elif name in TORCHVISION:
        images = _torchvision(name, Path(data_dir) if data_dir is not None else None, download)
    elif name.startswith("folder:"):
        images = _folder(Path(name.removeprefix("folder:")).expanduser(), size)
    else:
        close = [f"folder:{name}"] if Path(name).is_dir() else get_close_matches(name.lower(), NAMES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise StimulusError(f"data set {name!r} does not exist; {hint}there are: {', '.join(NAMES)}")
    if grayscale and images.shape[0] == 3:
        images = _changed(images, _grey, "colours reduced to luminance")
    if size is not None and images.shape[1:] != (size, size):
        images = _changed(images, lambda pixels: _resized(pixels, size), f"resized to {size} x {size}")
    return images


def _grey(pixels: Tensor) -> Tensor:
    weights = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    return torch.cat([(part * weights).sum(1, keepdim=True).round().to(torch.uint8) for part in pixels.split(4096)])


def _resized(pixels: Tensor, size: int) -> Tensor:
    def resize(part: Tensor) -> Tensor:
        return F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)

    return torch.cat([resize(part).round().clamp(0, 255).to(torch.uint8) for part in pixels.split(4096)])


def _changed(images: ImageSet, change: Callable[[Tensor], Tensor], note: str) -> ImageSet:
    train = change(images.train)
    mean, std = _statistics(train) if any(images.mean) else (images.mean, images.std)
    unlabelled = None if images.unlabelled is None else change(images.unlabelled)
    return replace(
        images, train=train, test=change(images.test), unlabelled=unlabelled, mean=mean, std=std, notes=(*images.notes, note)
    )


def _statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1]."""
    counts = torch.stack([torch.bincount(pixels[:, c].flatten(), minlength=256) for c in range(pixels.shape[1])]).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return tuple(round(m, 6) for m in mean.tolist()), tuple(max(round(s, 6), 1e-6) for s in variance.sqrt().tolist())


def _digits() -> ImageSet:
    """Return scikit-learn's digits, every class split 80 : 20 in the order of the file."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
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


def _torchvision(name: str, data_dir: Path | None, download: bool) -> ImageSet:
    from torchvision import datasets

    root = data_dir or Path.home() / ".cache" / "neurossl"
    kind = getattr(datasets, TORCHVISION[name])

    def load(split: str) -> Any:
        options = {"split": split} if name == "stl10" else {"train": split == "train"}
        return kind(str(root), download=download, **options)

    try:
        train, test = load("train"), load("test")
    except (RuntimeError, OSError, ValueError, EOFError, AssertionError) as reason:
        message = str(reason).split("\n")[0] or "not in the format of this data set"
        remedy = "give its folder with --data-dir" + ("" if download else ", or --download")
        raise StimulusError(f"data set {name!r}: not found or damaged in {root} ({message}): {remedy}") from None
    unlabelled = None
    if name == "stl10" and (root / "stl10_binary" / "unlabeled_X.bin").is_file():
        unlabelled = torch.from_numpy(np.ascontiguousarray(load("unlabeled").data))
    pixels = _channels_first(train.data)
    grey = pixels.shape[1] == 1
    mean, std = ((0.0,), (1.0,)) if grey else _statistics(pixels)
    return ImageSet(
        name=name,
        classes=tuple(map(str, train.classes)),
        train=pixels,
        train_labels=_labels(train),
        test=_channels_first(test.data),
        test_labels=_labels(test),
        mean=mean,
        std=std,
        source=f"torchvision {TORCHVISION[name]}, its training and test sets",
        unlabelled=unlabelled,
    )


def _labels(data: Any) -> Tensor:
    labels = data.targets if hasattr(data, "targets") else data.labels
    return torch.as_tensor(np.asarray(labels)).long()


def _channels_first(data: Any) -> Tensor:
    """Return torchvision's array of images as (images, channels, height, width)."""
    pixels = torch.as_tensor(np.ascontiguousarray(data))
    if pixels.ndim == 3:
        return pixels[:, None].contiguous()
    return pixels if pixels.shape[1] in (1, 3) else pixels.permute(0, 3, 1, 2).contiguous()


def _folder(path: Path, size: int | None) -> ImageSet:
    # PIL is imported with the folders only.
    from neurossl.stimuli.folders import read_folder

    folder = read_folder(path, size)
    mean, std = _statistics(folder.train)
    name = path.resolve().name
    return ImageSet(
        name=f"folder:{name}",
        classes=folder.classes,
        train=folder.train,
        train_labels=folder.train_labels,
        test=folder.test,
        test_labels=folder.test_labels,
        mean=mean,
        std=std,
        source=f"image folder {name}: {' and '.join(folder.parts)}",
        notes=folder.notes,
    )
