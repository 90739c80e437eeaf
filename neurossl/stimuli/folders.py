"""Folders of images, in the layout of torchvision's `ImageFolder`: ``train/CLASS/...`` and ``test/CLASS/...`` (or ``val``).

Every image becomes RGB, square and of one size: the shorter side is resized, the centre cropped.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from neurossl.errors import StimulusError

_MANY = 5000


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """What was found in a folder.

    Attributes
    ----------
    classes : tuple of str
    train, test : Tensor of uint8, (images, 3, side, side)
    train_labels, test_labels : Tensor of int64, (images,)
    parts : (str, str)
        Names of the subfolders.
    notes : tuple of str
        What was resized or left out.
    """

    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    parts: tuple[str, str]
    notes: tuple[str, ...]


def read_folder(path: Path, size: int | None = None) -> ImageFolder:
    """Return the images of a folder.

    Parameters
    ----------
    path : Path
    size : int, optional
        Side of the images in pixels; by default the shorter side of the most common size.

    Raises
    ------
    StimulusError
        If a folder, class or image is missing or cannot be read; names the path.

    Warns
    -----
    UserWarning
        If images had to be resized or files were left out; the same is in ``notes``.
    """
    train, test = _subfolders(path)
    (of_train, other_train), (of_test, other_test) = _files(train), _files(test)
    for has, lacks, where in ((of_train, of_test, test), (of_test, of_train, train)):
        missing = [name for name in has if name not in lacks]
        if missing:
            named = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise StimulusError(
                f"image folder {where}: there is no class {named}; expected the same classes in {train.name} and {test.name}"
            )
    sizes: Counter[tuple[int, int]] = Counter()
    quiet = sum(map(len, (*of_train.values(), *of_test.values()))) <= _MANY and not sys.stderr.isatty()
    images = [_read_all(of_class, size, sizes, quiet) for of_class in (of_train, of_test)]
    side = size if size is not None else min(sizes.most_common(1)[0][0])
    notes = []
    if sizes.total() > sizes[(side, side)]:
        several = f"{len(sizes)} sizes" if len(sizes) > 1 else "x".join(map(str, next(iter(sizes))))
        changed = f"{sizes.total() - sizes[(side, side)]} of {sizes.total()} images ({several})"
        notes.append(f"{changed} resized and cropped to {side} x {side} pixels")
    if other_train + other_test:
        notes.append(f"{other_train + other_test} files that are no images by their names left out")
    if notes:
        warnings.warn(f"image folder {path}: {'; '.join(notes)}", stacklevel=4)
    pixels = [_stacked(of_part, side) for of_part in images]
    labels = [
        torch.tensor([number for number, name in enumerate(of_train) for _ in of_class[name]])
        for of_class in (of_train, of_test)
    ]
    return ImageFolder(tuple(of_train), pixels[0], labels[0], pixels[1], labels[1], (train.name, test.name), tuple(notes))


def _subfolders(path: Path) -> tuple[Path, Path]:
    """Return the folders of training and test images."""
    if not path.is_dir():
        raise StimulusError(f"image folder {path}: there is no such folder")
    if not (path / "train").is_dir():
        raise StimulusError(f"image folder {path}: there is no folder 'train' in it; expected train/ and test/ or val/")
    tested = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if tested is None:
        raise StimulusError(f"image folder {path}: there is neither 'test' nor 'val' in it")
    return path / "train", tested


def _files(folder: Path) -> tuple[dict[str, list[Path]], int]:
    """Return the image files of every class, at any depth, sorted; and how many other files there are."""
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not classes:
        raise StimulusError(f"image folder {folder}: there are no class folders in it")
    # PIL tries formats in the order in which they were registered: the common ones first, which reads a quarter faster.
    Image.preinit()
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: dict[str, list[Path]] = {}
    others = 0
    for of_class in classes:
        files = sorted(f for f in of_class.rglob("*") if not f.name.startswith(".") and f.is_file())
        found[of_class.name] = [f for f in files if f.suffix.lower() in readable]
        others += len(files) - len(found[of_class.name])
        if not found[of_class.name]:
            raise StimulusError(f"image folder {of_class}: there are no images in it; expected files such as PNG or JPEG")
    return found, others


def _read_all(
    of_class: Mapping[str, Sequence[Path]], size: int | None, sizes: Counter[tuple[int, int]], quiet: bool
) -> list[np.ndarray]:
    """Return images in the order of their classes, and count their sizes."""
    files = [file for files in of_class.values() for file in files]
    images = []
    # Closed before an error is told, which then has a line of its own.
    with tqdm(files, "reading images", unit="image", disable=quiet, leave=False, mininterval=0.5) as bar:
        for file in bar:
            image = _read(file)
            sizes[image.shape[0], image.shape[1]] += 1
            # Large pictures are reduced one by one where the size is known beforehand.
            images.append(image if size is None else _square(image, size))
    return images


def _read(file: Path) -> np.ndarray:
    """Return an image as uint8, (height, width, 3)."""
    try:
        with Image.open(file) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                return _eight_bits(np.asarray(image))
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as reason:
        message = str(reason).split("\n")[0]
        raise StimulusError(f"image {file}: cannot be read ({message}); expected an image such as PNG or JPEG") from None


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Return 16-bit grey values as 8-bit RGB; PIL's own conversion would turn everything above 255 white."""
    if not np.issubdtype(grey.dtype, np.integer) or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("neither 8 nor 16 bits per channel")
    eight = (grey.astype(np.float32) / 257).round().astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image with its shorter side resized and its centre cropped, (side, side, 3)."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    scale = side / min(height, width)
    wide, high = max(side, round(width * scale)), max(side, round(height * scale))
    resized = np.asarray(Image.fromarray(image).resize((wide, high), Image.Resampling.BILINEAR))
    top, left = (high - side) // 2, (wide - side) // 2
    return resized[top : top + side, left : left + side]


def _stacked(images: Sequence[np.ndarray], side: int) -> Tensor:
    """Return images as (images, 3, side, side)."""
    stack = np.empty((len(images), 3, side, side), np.uint8)
    for place, image in enumerate(images):
        stack[place] = _square(image, side).transpose(2, 0, 1)
    return torch.from_numpy(stack)
