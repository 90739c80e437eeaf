"""Loading of image sets by name."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from neurossl.checks import whole
from neurossl.errors import NeurosslError, StimulusError
from neurossl.stimuli.datasets.access import check_memory, shown
from neurossl.stimuli.datasets.cache import map_files
from neurossl.stimuli.datasets.catalogue import DatasetRequest, dataset_names, find_dataset
from neurossl.stimuli.datasets.decoding import Decoding, picture_size, picture_sizes, read_pictures
from neurossl.stimuli.datasets.folders import Files, list_folder, list_tiny_imagenet
from neurossl.stimuli.datasets.images import ImageSet, check_image_set
from neurossl.stimuli.datasets.pixels import statistics
from neurossl.stimuli.datasets.published import missing
from neurossl.stimuli.datasets.streamed import StreamedImages
from neurossl.stimuli.datasets.workers import results_ahead

MOST_PER_SIDE = 4096
"""Largest size that images are resized to."""
_MANY = 5000


def load_images(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    size: int | tuple[int, int] | None = None,
    grayscale: bool = False,
    cache: str | os.PathLike[str] | None = None,
) -> ImageSet:
    """Return an image set.

    Parameters
    ----------
    name : str or Path
        ``digits`` (scikit-learn's handwritten digits, embedded, enlarged to 16 x 16); ``photographs`` (patches of
        scikit-learn's two photographs, embedded); ``mnist``, ``fashion_mnist``, ``cifar10``; ``stl10`` (binary or in
        folders, with its unlabelled images if they are there); ``tiny_imagenet`` (as published, or with class folders in
        ``val``); or one that `register_dataset` has made known.

        ``folder:PATH``, or a Path: subfolders ``train`` and ``test`` or ``val``, each with a folder per class (torchvision's
        `ImageFolder` layout), perhaps with a subfolder ``unlabeled``. Class folders alone: a fifth of every class is tested
        with, drawn at random with seed 0. Images alone: they are ``unlabelled``. All become RGB and of one size, by default
        square and as large as the shorter side of the most common size: turned as EXIF says, laid on black where
        transparent, resized, the centre cropped. Hidden files, links to folders and what is no image are left out. What had
        to be changed is told by a warning and kept in ``notes``.

        ``stream:PATH`` leaves the images of such a folder in their files and decodes them, ahead of their use, whenever they
        are shown; it needs ``size``.
    data_dir : path, optional
        Where the data sets with a name are, or are to be; by default ``~/.cache/neurossl``.
    download : bool
        Let torchvision fetch what is missing.
    size : int or (int, int), optional
        Resize to so many pixels: height and width, one number for both.
    grayscale : bool
        Reduce colours to luminance.
    cache : path, optional
        Folder for a copy of the decoded images of ``folder:PATH``, ``tiny_imagenet`` or ``stl10`` in folders, from which
        they are memory-mapped, now and whenever they are loaded again. Without it nothing is written, and all images are in
        memory.

    Raises
    ------
    StimulusError
        If the name does not exist, the images are missing, empty or damaged (names the path), or too large for the memory.
    StorageError
        If the copy cannot be written.
    """
    shape = None if size is None else _shape(size)
    if not isinstance(name, str):
        name = f"folder:{os.fspath(name)}"
    kind, _, given = name.partition(":")
    if kind in ("folder", "stream") and given:
        # Streamed images stay where they are when the working folder changes.
        path = _path(given).absolute()
        own = f"{kind}:{path.resolve().name}"
        return _from_files(own, list_folder(path), shape, grayscale, None if kind == "stream" else cache, kind == "stream")
    root = _path("~/.cache/neurossl" if data_dir is None else data_dir)
    if name == "tiny_imagenet" or (name == "stl10" and not (root / "stl10_binary").is_dir() and _found(root, name)):
        found = _found(root, name)
        if found is None:
            raise missing(name, root, "there is no folder 'train'", None)
        files = list_tiny_imagenet(found) if name == "tiny_imagenet" else list_folder(found)
        return _from_files(name, files, shape, grayscale, cache, False)
    dataset = find_dataset(name)
    if dataset is None:
        close = [f"folder:{name}"] if Path(name).is_dir() else get_close_matches(name.lower(), dataset_names(), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise StimulusError(f"data set {name!r} does not exist; {hint}there are: {', '.join(dataset_names())}")
    try:
        images = dataset(DatasetRequest(root, shape, download))
    except (NeurosslError, OSError):
        raise
    except Exception as reason:
        raise StimulusError(f"data set {name!r}: its function ends in {type(reason).__name__}: {reason}") from None
    if not isinstance(images, ImageSet):
        raise StimulusError(f"data set {name!r}: expected its function to return an ImageSet, got {type(images).__name__}")
    if not getattr(dataset, "__module__", "").startswith("neurossl."):
        check_image_set(images)
    if grayscale and images.shape[0] == 3:
        images = images.greyed()
    if shape is not None and images.shape[1:] != shape:
        images = images.resized(*shape)
    return images


def _path(given: str | os.PathLike[str]) -> Path:
    """Return a path, in which ~ stands for a home."""
    try:
        return Path(given).expanduser()
    except RuntimeError as reason:
        raise StimulusError(f"{shown(given)}: {reason}: give the whole path") from None


def _shape(size: Any) -> tuple[int, int]:
    """Return height and width."""
    given = size if isinstance(size, Sequence | np.ndarray) else (size, size)
    sides = [whole(side, "size", 1, MOST_PER_SIDE, StimulusError) for side in given]
    if len(sides) != 2:
        raise StimulusError(f"size: expected one number of pixels, or height and width, got {size!r}")
    return sides[0], sides[1]


def _found(root: Path, name: str) -> Path | None:
    """Return the folder of a data set that is kept as picture files."""
    places = {"tiny_imagenet": ("tiny-imagenet-200", "tiny_imagenet"), "stl10": ("stl10",)}[name]
    return next((path for path in (root, *(root / place for place in places)) if (path / "train").is_dir()), None)


def _from_files(
    name: str,
    files: Files,
    shape: tuple[int, int] | None,
    grey: bool,
    cache: str | os.PathLike[str] | None,
    streamed: bool,
) -> ImageSet:
    """Return the images of files: streamed, memory-mapped from a copy in ``cache``, or in memory."""
    parts, notes = files.parts, list(files.notes)
    first = next(file for of_part in parts.values() for file in of_part)
    if streamed and shape is None:
        side = min(picture_size(first))
        raise StimulusError(f"{name}: streamed images need a size, such as size={side}, the first one's")
    if shape is None and name == "tiny_imagenet":
        side = min(picture_size(first))
        shape = side, side
    elif shape is None:
        side, changed = _common_size([file for part in parts.values() for file in part])
        shape = side, side
        if changed:
            notes.append(changed)
    if notes:
        warnings.warn(f"image folder {shown(files.path)}: {'; '.join(notes)}", stacklevel=3)
    if grey:
        notes.append("colours reduced to luminance")
    decoding = Decoding(*shape, grey)
    if streamed:
        pixels = {part: cast(Tensor, StreamedImages(of_part, decoding)) for part, of_part in parts.items()}
        notes.append("streamed from their files; mean and std are those of at most 2,000 training images")
    elif cache is not None:
        pixels = map_files(parts, decoding, files.path, _path(cache), files.path.resolve().name)
        notes.append(f"memory-mapped from a copy in {os.fspath(cache)}")
    else:
        pixels = _in_memory(parts, decoding, files.path)
    mean, std = statistics(pixels["train" if files.train else "unlabelled"])
    return ImageSet(
        name=name,
        classes=files.classes,
        train=pixels["train"],
        train_labels=torch.tensor(files.train_labels, dtype=torch.int64, device="cpu"),
        test=pixels["test"],
        test_labels=torch.tensor(files.test_labels, dtype=torch.int64, device="cpu"),
        mean=mean,
        std=std,
        source=f"image folder {files.path.resolve().name}: {files.origin}",
        notes=tuple(notes),
        unlabelled=pixels["unlabelled"] if files.unlabelled else None,
        listing=f"{files.listing()} {decoding.shape}",
    )


def _common_size(files: Sequence[Path]) -> tuple[int, str]:
    """Return the shorter side of the most common size, and what has to be said if there are others."""
    with _progress(len(files), "measuring images") as bar:
        sizes: Counter[tuple[int, int]] = Counter()
        for size in results_ahead(picture_sizes, files):
            sizes[size] += 1
            bar.update()
    side = min(sizes.most_common(1)[0][0])
    if side > MOST_PER_SIDE:
        raise StimulusError(f"images of {side} pixels: give a size of at most {MOST_PER_SIDE}")
    others = sizes.total() - sizes[(side, side)]
    several = f"{len(sizes)} sizes" if len(sizes) > 1 else "x".join(map(str, next(iter(sizes))))
    changed = f"{others} of {sizes.total()} images ({several}) resized and cropped to {side} x {side} pixels"
    return side, changed if others else ""


def _in_memory(parts: Mapping[str, Sequence[Path]], decoding: Decoding, path: Path) -> dict[str, Tensor]:
    """Return decoded images."""
    count = sum(map(len, parts.values()))
    what = f"image folder {shown(path)}: {count} images of {decoding.height} x {decoding.width} pixels need"
    remedy = f"give a smaller size, a folder for a memory-mapped copy with cache, or stream:{shown(path)}"
    check_memory(count * int(np.prod(decoding.shape)), what, remedy)
    arrays = {}
    with _progress(count, "reading images") as bar:
        for part, files in parts.items():
            pixels = np.empty((len(files), *decoding.shape), np.uint8)
            for place, picture in enumerate(results_ahead(read_pictures, files, decoding)):
                pixels[place] = picture
                bar.update()
            arrays[part] = torch.from_numpy(pixels)
    return arrays


def _progress(count: int, what: str) -> tqdm:
    """Return a progress bar for many images or a terminal; closed before an error is told, which then has its own line."""
    quiet = count <= _MANY and not sys.stderr.isatty()
    return tqdm(total=count, desc=what, unit="image", disable=quiet, leave=False, mininterval=0.5)
