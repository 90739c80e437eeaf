"""Published data sets, read from the files that they are distributed as: MNIST, Fashion-MNIST, CIFAR-10, STL-10.

Torchvision fetches them but does not read them: its readers un-pickle the files of CIFAR-10, and load old copies of MNIST
(``processed/training.pt``), which are not looked at here. The checksums of CIFAR-10 are those that torchvision knows.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.errors import StimulusError
from neurossl.stimuli.datasets.access import check_memory, mapped, open_regular, shown
from neurossl.stimuli.datasets.images import ImageSet
from neurossl.stimuli.datasets.pickled import read_batch
from neurossl.stimuli.datasets.pixels import statistics

_HANDWRITING = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR10_SHAPE = 3, 32, 32
_STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_STL10_SIDE = 96


def missing(name: str, root: Path, reason: str, download: bool | None) -> StimulusError:
    """Return the error for a data set that is not where it was looked for; ``download`` is None if nothing is to fetch."""
    remedy = "give its folder with --data-dir" + (", or --download" if download is False else "")
    return StimulusError(f"data set {name!r}: not found or damaged in {shown(root)} ({shown(reason)}): {remedy}")


def load_handwriting(name: str, root: Path, download: bool) -> ImageSet:
    """Return MNIST or Fashion-MNIST.

    Raises
    ------
    StimulusError
        If it is not there or damaged.
    """
    from torchvision import datasets

    kind = getattr(datasets, _HANDWRITING[name])
    raw = root / _HANDWRITING[name] / "raw"

    def read(part: str) -> tuple[Tensor, Tensor]:
        pixels, labels = _idx(raw / f"{part}-images-idx3-ubyte", 3), _idx(raw / f"{part}-labels-idx1-ubyte", 1)
        return pixels[:, None], _labels(labels, len(pixels), len(kind.classes), f"{part}-labels-idx1-ubyte")

    train, test = _parts(name, root, kind, download, lambda: (read("train"), read("t10k")))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise missing(name, root, "training and test images differ in size", download)
    classes = tuple(map(str, kind.classes))
    return _image_set(name, classes, train, test, f"torchvision {_HANDWRITING[name]}, its training and test sets", False)


def load_cifar10(root: Path, download: bool) -> ImageSet:
    """Return CIFAR-10, from its Python version (``cifar-10-batches-py``) or its binary one (``cifar-10-batches-bin``).

    Raises
    ------
    StimulusError
        If it is not there or damaged.
    """
    from torchvision import datasets

    kind = datasets.CIFAR10

    def read(files: list[list[str]]) -> tuple[Tensor, Tensor]:
        batches = [_cifar10_batch(root, name, checksum) for name, checksum in files]
        pixels, labels = (torch.from_numpy(np.concatenate(part)) for part in zip(*batches, strict=True))
        return pixels, _labels(labels, len(pixels), len(_CIFAR10_CLASSES), "labels")

    train, test = _parts("cifar10", root, kind, download, lambda: (read(kind.train_list), read(kind.test_list)))
    return _image_set("cifar10", _CIFAR10_CLASSES, train, test, "torchvision CIFAR10, its training and test sets", True)


def _parts(
    name: str, root: Path, kind: Any, download: bool, read: Callable[[], tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the images and labels of both parts, fetched if they are not there and may be."""
    try:
        try:
            return read()
        except FileNotFoundError:
            if not download:
                raise
        fetch(kind, root)
        return read()
    except (OSError, ValueError, RuntimeError) as reason:
        message = getattr(reason, "strerror", None) or str(reason).split("\n")[0] or type(reason).__name__
        raise missing(name, root, message, download) from None


def fetch(kind: Any, root: Path) -> None:
    """Have torchvision fetch a data set, without having it read, which a new object of it would do."""
    bare = kind.__new__(kind)
    bare.root = str(root)
    bare.download()


def _idx(file: Path, dims: int) -> Tensor:
    """Return an array of bytes in the format of MNIST: its head says nothing that the length of the file does not."""
    with open_regular(file) as content:
        head = content.read(4 + 4 * dims)
        if len(head) < 4 + 4 * dims or head[:4] != bytes((0, 0, 8, dims)):
            raise ValueError(f"{file.name} is not in the format of this data set")
        shape = struct.unpack(f">{dims}I", head[4:])
        count, found = int(np.prod(shape, dtype=object)), os.fstat(content.fileno()).st_size - len(head)
        if not count or count != found:
            raise ValueError(f"{file.name} has {found} bytes of {' x '.join(map(str, shape))} values")
        check_memory(count, f"{shown(file)}: {shape[0]} entries need", "remove it")
        return torch.from_numpy(np.fromfile(content, np.uint8, count).reshape(shape))


def _labels(labels: Tensor, count: int, classes: int, what: str) -> Tensor:
    if len(labels) != count or int(labels.max()) >= classes:
        raise ValueError(f"{what} is not one label below {classes} per image")
    return labels.to(torch.int64)


def _cifar10_batch(root: Path, name: str, checksum: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a batch."""
    binary = root / "cifar-10-batches-bin" / f"{name}.bin"
    each = int(np.prod(_CIFAR10_SHAPE))
    if binary.is_file():
        with open_regular(binary) as content:
            found = os.fstat(content.fileno()).st_size
            if not found or found % (1 + each):
                raise ValueError(f"{binary.name} has {found} bytes, expected a multiple of {1 + each}")
            check_memory(found, f"{shown(binary)}: its images need", "remove it")
            rows = np.fromfile(content, np.uint8, found).reshape(-1, 1 + each)
        return rows[:, 1:].reshape(-1, *_CIFAR10_SHAPE), rows[:, 0]
    file = root / "cifar-10-batches-py" / name
    with open_regular(file) as content:
        check_memory(os.fstat(content.fileno()).st_size, f"{shown(file)}: its images need", "remove it")
        packed = content.read()
    if hashlib.md5(packed, usedforsecurity=False).hexdigest() != checksum:
        raise ValueError(f"{name}: the bytes differ from their checksum")
    pixels, labels = read_batch(packed)
    return pixels.reshape(-1, *_CIFAR10_SHAPE), labels


def _image_set(
    name: str,
    classes: tuple[str, ...],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    source: str,
    normalised: bool,
    **further: Any,
) -> ImageSet:
    # No normalisation of handwriting: its background stays silent.
    mean, std = statistics(train[0]) if normalised else ((0.0,), (1.0,))
    return ImageSet(name, classes, *train, *test, mean, std, source, **further)


def load_stl10(root: Path, download: bool) -> ImageSet:
    """Return STL-10 from its binary files; the unlabelled images, where they are there, stay in theirs, memory-mapped.

    Raises
    ------
    StimulusError
        If a file is missing or damaged; names it.
    """
    try:
        return _read_stl10(root, download)
    except OSError as reason:
        raise missing("stl10", root, reason.strerror or str(reason), download) from None


def _read_stl10(root: Path, download: bool) -> ImageSet:
    folder = root / "stl10_binary"
    if download and not (folder / "train_X.bin").is_file():
        from torchvision import datasets

        try:
            fetch(datasets.STL10, root)
        except (RuntimeError, OSError, ValueError) as reason:
            raise missing("stl10", root, str(reason).split("\n")[0], download) from None
    parts = {}
    for part in ("train", "test"):
        pixels = torch.from_numpy(_stl10_images(folder / f"{part}_X.bin", root, download)).transpose(2, 3)
        told = _there(folder / f"{part}_y.bin", root, download)
        check_memory(pixels.numel(), f"{shown(folder / f'{part}_X.bin')}: {len(pixels)} images need", "remove it")
        fits = told.stat().st_size == len(pixels)
        labels = torch.from_numpy(np.fromfile(told, np.uint8, len(pixels)).astype(np.int64) - 1)
        if not fits or not 0 <= int(labels.min()) <= int(labels.max()) < len(_STL10_CLASSES):
            raise missing("stl10", root, f"{part}_y.bin is not one label from 1 to 10 per image", download)
        parts[part] = pixels.contiguous(), labels
    without = folder / "unlabeled_X.bin"
    unlabelled = torch.from_numpy(_stl10_images(without, root, download)).transpose(2, 3) if without.is_file() else None
    notes = () if unlabelled is None else ("unlabelled images memory-mapped",)
    source = "STL-10, binary files, its training and test sets"
    return _image_set(
        "stl10", _STL10_CLASSES, parts["train"], parts["test"], source, True, notes=notes, unlabelled=unlabelled
    )


def _there(file: Path, root: Path, download: bool) -> Path:
    if not file.is_file():
        raise missing("stl10", root, f"there is no {file.name} in {file.parent.name}", download)
    return file


def _stl10_images(file: Path, root: Path, download: bool) -> np.ndarray:
    """Return the images of a file, memory-mapped; column after column, so (images, 3, width, height)."""
    bytes_each, found = 3 * _STL10_SIDE**2, _there(file, root, download).stat().st_size
    if not found or found % bytes_each:
        raise missing("stl10", root, f"{file.name} has {found} bytes, expected a multiple of {bytes_each}", download)
    with open_regular(file) as content:
        return mapped(content, 0, (found // bytes_each, 3, _STL10_SIDE, _STL10_SIDE))
