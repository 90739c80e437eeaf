"""Loading of image sets by name."""

import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from neurossl.errors import StimulusError
from neurossl.stimuli import named
from neurossl.stimuli.decoding import Decoding, picture_size, picture_sizes, read_pictures, results_ahead
from neurossl.stimuli.files import list_folder, list_tiny_imagenet
from neurossl.stimuli.images import ImageSet, greyed, resized, statistics
from neurossl.stimuli.mapped import map_files
from neurossl.stimuli.streamed import StreamedImages

NAMES = ("digits", *named.TORCHVISION, "stl10", "tiny_imagenet", "folder:PATH", "stream:PATH")
_MANY = 5000
_SHARE_OF_MEMORY = 0.6


def load_images(
    name: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    grayscale: bool = False,
    cache: str | Path | None = None,
) -> ImageSet:
    """Return an image set.

    Parameters
    ----------
    name : str
        ``digits`` (scikit-learn's handwritten digits, embedded, enlarged to 16 x 16), ``mnist``, ``fashion_mnist``,
        ``cifar10``; ``stl10`` (binary or in folders, with its unlabelled images if they are there), ``tiny_imagenet`` (as
        published, or with class folders in ``val``); or ``folder:PATH`` with subfolders ``train`` and ``test`` or ``val``,
        each with a folder per class (torchvision's `ImageFolder` layout), perhaps with a subfolder ``unlabeled``. Images of
        a folder become RGB, square and of one size: by default the shorter side of the most common size. What had to be
        changed is told by a warning and kept in ``notes``. ``stream:PATH`` leaves the images of such a folder in their
        files and decodes them, ahead of their use, whenever they are shown; it needs ``size``.
    data_dir : path, optional
        Where the data sets with a name are, or are to be; by default ``~/.cache/neurossl``.
    download : bool
        Let torchvision fetch what is missing.
    size : int, optional
        Resize to so many pixels.
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
    if size is not None and size < 1:
        raise StimulusError(f"size: expected at least 1 pixel, got {size}")
    kind, _, given = name.partition(":")
    if kind in ("folder", "stream") and given:
        path = Path(given).expanduser()
        return _from_files(f"{kind}:{path.resolve().name}", path, size, grayscale, None if kind == "stream" else cache, kind)
    root = Path(data_dir).expanduser() if data_dir is not None else Path.home() / ".cache" / "neurossl"
    if name == "tiny_imagenet" or (name == "stl10" and not (root / "stl10_binary").is_dir() and _found(root, name)):
        found = _found(root, name)
        if found is None:
            raise named.missing(name, root, "there is no folder 'train'", None)
        return _from_files(name, found, size, grayscale, cache, "folder")
    if name == "digits":
        images = named.load_digits()
    elif name == "stl10":
        images = named.load_stl10(root, download)
    elif name in named.TORCHVISION:
        images = named.load_torchvision(name, root, download)
    else:
        close = [f"folder:{name}"] if Path(name).is_dir() else get_close_matches(name.lower(), NAMES, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise StimulusError(f"data set {name!r} does not exist; {hint}there are: {', '.join(NAMES)}")
    if grayscale and images.shape[0] == 3:
        images = greyed(images)
    if size is not None and images.shape[1:] != (size, size):
        images = resized(images, size)
    return images


def _found(root: Path, name: str) -> Path | None:
    """Return the folder of a data set that is kept as picture files."""
    places = {"tiny_imagenet": ("tiny-imagenet-200", "tiny_imagenet"), "stl10": ("stl10",)}[name]
    return next((path for path in (root, *(root / place for place in places)) if (path / "train").is_dir()), None)


def _from_files(name: str, path: Path, size: int | None, grey: bool, cache: str | Path | None, kind: str) -> ImageSet:
    """Return the images of files: streamed, memory-mapped from a copy in ``cache``, or in memory."""
    files = list_tiny_imagenet(path) if name == "tiny_imagenet" else list_folder(path)
    parts = {"train": files.train, "test": files.test, "unlabelled": files.unlabelled}
    notes = list(files.notes)
    if kind == "stream" and size is None:
        height, width = picture_size(files.train[0])
        raise StimulusError(f"{name}: streamed images need a size, such as size={min(height, width)}, the first one's")
    if size is None and name == "tiny_imagenet":
        size = min(picture_size(files.train[0]))
    elif size is None:
        size, changed = _common_size([file for part in parts.values() for file in part])
        if changed:
            notes.append(changed)
    if notes:
        warnings.warn(f"image folder {path}: {'; '.join(notes)}", stacklevel=3)
    if grey:
        notes.append("colours reduced to luminance")
    decoding = Decoding(size, grey)
    if kind == "stream":
        pixels = {part: cast(Tensor, StreamedImages(of_part, decoding)) for part, of_part in parts.items()}
        notes.append("streamed from their files; mean and std are those of at most 2,000 training images")
    elif cache is not None:
        pixels = map_files(parts, decoding, path, Path(cache).expanduser(), path.resolve().name)
        notes.append(f"memory-mapped from a copy in {cache}")
    else:
        pixels = _in_memory(parts, decoding, path)
    mean, std = statistics(pixels["train"])
    return ImageSet(
        name=name,
        classes=files.classes,
        train=pixels["train"],
        train_labels=torch.tensor(files.train_labels),
        test=pixels["test"],
        test_labels=torch.tensor(files.test_labels),
        mean=mean,
        std=std,
        source=f"image folder {path.resolve().name}: {' and '.join(files.parts)}",
        notes=tuple(notes),
        unlabelled=pixels["unlabelled"] if files.unlabelled else None,
    )


def _common_size(files: Sequence[Path]) -> tuple[int, str]:
    """Return the shorter side of the most common size, and what has to be said if there are others."""
    with _progress(len(files), "measuring images") as bar:
        sizes: Counter[tuple[int, int]] = Counter()
        for size in results_ahead(picture_sizes, files):
            sizes[size] += 1
            bar.update()
    side = min(sizes.most_common(1)[0][0])
    others = sizes.total() - sizes[(side, side)]
    several = f"{len(sizes)} sizes" if len(sizes) > 1 else "x".join(map(str, next(iter(sizes))))
    changed = f"{others} of {sizes.total()} images ({several}) resized and cropped to {side} x {side} pixels"
    return side, changed if others else ""


def _in_memory(parts: Mapping[str, Sequence[Path]], decoding: Decoding, path: Path) -> dict[str, Tensor]:
    """Return decoded images."""
    count = sum(map(len, parts.values()))
    needed, free = count * int(np.prod(decoding.shape)), _free_memory()
    if free is not None and needed > _SHARE_OF_MEMORY * free:
        raise StimulusError(
            f"image folder {path}: {count} images of {decoding.side} x {decoding.side} pixels need {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB of memory are free: give a smaller size, a folder for a memory-mapped copy with cache, or "
            f"stream:{path}"
        )
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


def _free_memory() -> int | None:
    """Return the bytes of memory that are free or can be freed, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
