"""Lists of picture files, in the layouts in which data sets are kept.

* Classes in folders, as for torchvision's `ImageFolder`: ``train/CLASS/...`` and ``test/CLASS/...`` (or ``val``), at any
  depth, perhaps with ``unlabeled/...`` beside them.
* Class folders alone, ``CLASS/...``: a fifth of every class is tested with, drawn at random with a fixed seed.
* Pictures alone, or ``unlabeled/...`` alone: images without labels.
* Tiny ImageNet as published: ``train/WNID/images/*.JPEG``, ``val/images/*.JPEG``, ``val/val_annotations.txt``; or as above.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from neurossl.errors import NeurosslError, StimulusError
from neurossl.stimuli.datasets.access import check_name, listing_digest, read_small, shown
from neurossl.stimuli.datasets.images import SHARE_TESTED, set_apart
from neurossl.stimuli.datasets.walking import class_folders, is_picture, pictures_below, told

_UNLABELLED = ("unlabeled", "unlabelled")
_MOST_ANNOTATIONS = 2**26


@dataclass(frozen=True, eq=False)
class Files:
    """The pictures of a data set.

    Attributes
    ----------
    path : Path
        Their folder.
    classes : tuple of str
    train, test : tuple of Path
    train_labels, test_labels : tuple of int
    unlabelled : tuple of Path
    origin : str
        Which subfolders they come from, and how they were split.
    notes : tuple of str
        What was left out.
    """

    path: Path
    classes: tuple[str, ...]
    train: tuple[Path, ...]
    train_labels: tuple[int, ...]
    test: tuple[Path, ...]
    test_labels: tuple[int, ...]
    unlabelled: tuple[Path, ...]
    origin: str
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, tuple[Path, ...]]:
        """Files by part."""
        return {"train": self.train, "test": self.test, "unlabelled": self.unlabelled}

    def listing(self) -> str:
        """Return a digest of the names of all files within their folder and of their sizes."""
        return listing_digest([file for files in self.parts.values() for file in files], self.path)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(files)} {part}" for part, files in self.parts.items())
        return f"Files({shown(self.path)!r}: {counts}, {len(self.classes)} classes)"


def list_folder(path: Path) -> Files:
    """Return the pictures of a folder, in any of the layouts above but the last.

    Raises
    ------
    StimulusError
        If a folder or class is missing or empty, or has a name that cannot be stored; names the path.
    """
    with _naming(path):
        _check_folder(path)
        if (path / "train").is_dir() and not _is_class(path / "train"):
            return _list_parts(path)
        if any((path / name).is_dir() for name in ("test", "val")):
            _part(path, "train")
        _refuse_other_parts(path)
        without = _without_labels(path)
        left_out: Counter[str] = Counter()
        classes = class_folders(path, left_out, _UNLABELLED)
        if classes:
            return _list_classes(path, classes, without, left_out)
        alone = [] if without is not None else [file for file in path.iterdir() if is_picture(file.name)]
        if without is None and not alone:
            raise StimulusError(
                f"image folder {shown(path)}: there is no folder 'train' in it; expected train/ and test/ or val/, class "
                f"folders, or images"
            )
        left_out = Counter()
        pictures = tuple(pictures_below(without or path, left_out))
        if not pictures:
            raise StimulusError(f"image folder {shown(without or path)}: there are no images in it")
        origin = "images without labels"
        return Files(path, (), (), (), (), (), pictures, origin, told(left_out))


def list_tiny_imagenet(path: Path) -> Files:
    """Return the pictures of Tiny ImageNet, as published or with class folders in ``val``.

    Raises
    ------
    StimulusError
        If something is missing; names the path.
    """
    with _naming(path):
        _check_folder(path)
        train, val = _part(path, "train"), _part(path, "val")
        annotations = val / "val_annotations.txt"
        if not annotations.is_file():
            return _list_parts(path, "val")
        # Beside the images of every class there are descriptions of boxes.
        of_train = _by_class(train, Counter())
        tested = _annotated(annotations, {name: place for place, name in enumerate(of_train)})
        return _listed(path, of_train, tested, (), "train and val", ())


def _annotated(annotations: Path, number: Mapping[str, int]) -> list[tuple[Path, int]]:
    """Return the files that Tiny ImageNet's annotations name, and their classes."""
    folder = annotations.parent / "images"
    try:
        lines = read_small(annotations, _MOST_ANNOTATIONS).splitlines()
    except ValueError as reason:
        raise StimulusError(f"{shown(annotations)}: cannot be read ({reason})") from None
    tested = []
    for line_number, line in enumerate(lines, 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].strip()
        if name not in number or "/" in file or os.sep in file or "\0" in file:
            raise StimulusError(
                f"{shown(annotations)}, line {line_number}: expected a file and one of the {len(number)} classes of "
                f"{shown(annotations.parents[1] / 'train')}, separated by a tab, got {line[:60]!r}"
            )
        tested.append((folder / file, number[name]))
    twice = next((file for file, count in Counter(file for file, _ in tested).items() if count > 1), None)
    if twice is not None:
        raise StimulusError(f"{shown(annotations)}: {twice.name!r} is there twice; expected one class per image")
    named = {file for file, _ in tested}
    pictures = sorted(file for file in folder.iterdir() if is_picture(file.name)) if folder.is_dir() else []
    left = next((file for file in pictures if file not in named), None)
    if left is not None:
        raise StimulusError(f"{shown(annotations)}: nothing is said of {left.name!r}; is the file cut short?")
    absent = next((file for file, _ in tested if not file.is_file()), None)
    if absent is not None or not tested:
        what = "image" if absent is None else shown(absent)
        raise StimulusError(f"image folder {shown(annotations.parent)}: there is no {what} that {annotations.name} names")
    return tested


def _list_parts(path: Path, *tested: str) -> Files:
    """Return the pictures of a folder with a subfolder per part."""
    left_out: Counter[str] = Counter()
    train, test = _part(path, "train"), _part(path, *tested or ("test", "val"))
    of_train, of_test = _by_class(train, left_out), _by_class(test, left_out)
    for has, lacks, where in ((of_train, of_test, test), (of_test, of_train, train)):
        missing = [name for name in has if name not in lacks]
        if missing:
            named = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise StimulusError(
                f"image folder {shown(where)}: there is no class {named}; expected the same classes in {train.name} and "
                f"{test.name}"
            )
    without = _without_labels(path)
    unlabelled = pictures_below(without, left_out) if without is not None else []
    parts = [train.name, test.name, *([without.name] if unlabelled and without is not None else [])]
    shown_in_test = [(file, number) for number, name in enumerate(of_train) for file in of_test[name]]
    return _listed(path, of_train, shown_in_test, tuple(unlabelled), " and ".join(parts), told(left_out))


def _list_classes(path: Path, classes: list[Path], without: Path | None, left_out: Counter[str]) -> Files:
    """Return the pictures of class folders, some of each set apart to be tested with."""
    of_class = _of_classes(classes, left_out)
    unlabelled = tuple(pictures_below(without, left_out)) if without is not None else ()
    files = [(file, number) for number, of_one in enumerate(of_class.values()) for file in of_one]
    labels = torch.tensor([number for _, number in files])
    few = next((name for name, of_one in of_class.items() if len(of_one) < 2), None)
    if few is not None:
        raise StimulusError(f"image folder {shown(path / few)}: one image, expected at least 2: one is tested with")
    tested = set_apart(labels, SHARE_TESTED).tolist()
    learned = {
        name: [file for (file, own), apart in zip(files, tested, strict=True) if own == number and not apart]
        for number, name in enumerate(of_class)
    }
    chosen = [entry for entry, apart in zip(files, tested, strict=True) if apart]
    origin = f"tested with {SHARE_TESTED:.0%} of every class, drawn at random with seed 0"
    return _listed(path, learned, chosen, unlabelled, origin, told(left_out))


def _listed(
    path: Path,
    of_train: Mapping[str, list[Path]],
    tested: list[tuple[Path, int]],
    unlabelled: tuple[Path, ...],
    origin: str,
    notes: tuple[str, ...],
) -> Files:
    return Files(
        path=path,
        classes=tuple(of_train),
        train=tuple(file for files in of_train.values() for file in files),
        train_labels=tuple(number for number, files in enumerate(of_train.values()) for _ in files),
        test=tuple(file for file, _ in tested),
        test_labels=tuple(label for _, label in tested),
        unlabelled=unlabelled,
        origin=origin,
        notes=notes,
    )


class _naming:
    """Turn what the system says of a folder into one line with its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, reason: BaseException | None, trace: object) -> None:
        if isinstance(reason, OSError | ValueError) and not isinstance(reason, NeurosslError):
            where = getattr(reason, "filename", None) or self.path
            message = getattr(reason, "strerror", None) or reason
            raise StimulusError(f"image folder {shown(where)}: cannot be read ({message})") from None


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise StimulusError(f"image folder {shown(path)}: there is no such folder")
    check_name(path, "image folder")
    check_name(path.resolve().name, "image folder")


def _is_class(folder: Path) -> bool:
    """Return whether a folder named as a part is a class: of trains, beside other classes."""
    beside = [f for f in folder.parent.iterdir() if f.is_dir() and f.name not in (folder.name, *_UNLABELLED)]
    inside = list(folder.iterdir())
    parts = any(f.name in ("test", "val") for f in beside)
    return bool(beside) and not parts and any(is_picture(f.name) for f in inside) and not any(f.is_dir() for f in inside)


_ALMOST = {
    **dict.fromkeys(("train", "training", "trainset", "train_set"), "train"),
    **dict.fromkeys(("test", "testing", "testset", "test_set"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "val_set"), "val"),
}


def _refuse_other_parts(path: Path) -> None:
    """Refuse folders that are parts by another name: they would be learned as classes."""
    odd = sorted(f.name for f in path.iterdir() if f.is_dir() and f.name.lower() in _ALMOST)
    parts = [name for name in odd if any(f.is_dir() for f in (path / name).iterdir())]
    if len(odd) > 1 and parts:
        renamed = ", ".join(f"{name!r} to {_ALMOST[name.lower()]!r}" for name in odd)
        raise StimulusError(f"image folder {shown(path)}: these look like parts, not classes: rename {renamed}")


def _without_labels(path: Path) -> Path | None:
    return next((path / name for name in _UNLABELLED if (path / name).is_dir()), None)


def _part(path: Path, *names: str) -> Path:
    """Return the first of these subfolders that is there."""
    found = next((path / name for name in names if (path / name).is_dir()), None)
    if found is None and len(names) > 1:
        raise StimulusError(
            f"image folder {shown(path)}: there is neither {' nor '.join(map(repr, names))} in it; to have some of "
            f"its images tested with, give {shown(path / 'train')}"
        )
    if found is None:
        raise StimulusError(
            f"image folder {shown(path)}: there is no folder {names[0]!r} in it; expected train/ and test/ or val/"
        )
    return found


def _by_class(folder: Path, left_out: Counter[str]) -> dict[str, list[Path]]:
    """Return the pictures of every class, sorted."""
    classes = class_folders(folder, left_out)
    if not classes:
        raise StimulusError(f"image folder {shown(folder)}: there are no class folders in it")
    return _of_classes(classes, left_out)


def _of_classes(classes: list[Path], left_out: Counter[str]) -> dict[str, list[Path]]:
    names = {folder.name for folder in classes}
    found = {folder.name: pictures_below(folder, left_out, names - {folder.name}) for folder in classes}
    empty = next((folder for folder in classes if not found[folder.name]), None)
    if empty is not None:
        raise StimulusError(f"image folder {shown(empty)}: there are no images in it; expected files such as PNG or JPEG")
    return found
