"""Lists of picture files, in the layouts in which data sets are kept.

* Classes in folders, as for torchvision's `ImageFolder`: ``train/CLASS/...`` and ``test/CLASS/...`` (or ``val``), at any
  depth, perhaps with ``unlabeled/...`` beside them.
* Tiny ImageNet as published: ``train/WNID/images/*.JPEG``, ``val/images/*.JPEG``, ``val/val_annotations.txt``; or as above.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from neurossl.errors import StimulusError

_UNLABELLED = ("unlabeled", "unlabelled")


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
    parts : tuple of str
        Names of the subfolders.
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
    parts: tuple[str, ...]
    notes: tuple[str, ...]


def list_folder(path: Path) -> Files:
    """Return the pictures of a folder with a subfolder per part and class.

    Raises
    ------
    StimulusError
        If a folder or class is missing or empty; names the path.
    """
    train, test = _part(path, "train"), _part(path, "test", "val")
    (of_train, other_train), (of_test, other_test) = _by_class(train), _by_class(test)
    for has, lacks, where in ((of_train, of_test, test), (of_test, of_train, train)):
        missing = [name for name in has if name not in lacks]
        if missing:
            named = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise StimulusError(
                f"image folder {where}: there is no class {named}; expected the same classes in {train.name} and {test.name}"
            )
    without = next((path / name for name in _UNLABELLED if (path / name).is_dir()), None)
    unlabelled, other = _pictures(without.rglob("*")) if without is not None else ([], 0)
    left_out = other_train + other_test + other
    return _listed(
        path,
        of_train,
        [(file, number) for number, name in enumerate(of_train) for file in of_test[name]],
        unlabelled,
        (train.name, test.name, *([without.name] if unlabelled and without is not None else [])),
        (f"{left_out} files that are no images by their names left out",) if left_out else (),
    )


def list_tiny_imagenet(path: Path) -> Files:
    """Return the pictures of Tiny ImageNet, as published or with class folders in ``val``.

    Raises
    ------
    StimulusError
        If something is missing; names the path.
    """
    train, val = _part(path, "train"), _part(path, "val")
    annotations = val / "val_annotations.txt"
    of_train, _ = _by_class(train)
    if annotations.is_file():
        number = {name: place for place, name in enumerate(of_train)}
        tested = []
        for line_number, line in enumerate(annotations.read_text().splitlines(), 1):
            file, _, rest = line.partition("\t")
            name = rest.partition("\t")[0].strip()
            if name not in number:
                raise StimulusError(
                    f"{annotations}, line {line_number}: expected a file and one of the {len(number)} classes of {train}, "
                    f"separated by a tab, got {line[:60]!r}"
                )
            tested.append((val / "images" / file, number[name]))
        absent = next((file for file, _ in tested if not file.is_file()), None)
        if absent is not None or not tested:
            raise StimulusError(f"image folder {val}: there is no {absent or 'image'} that {annotations.name} names")
    else:
        listed = list_folder(path)
        tested = list(zip(listed.test, listed.test_labels, strict=True))
    return _listed(path, of_train, tested, [], ("train", "val"), ())


def _listed(
    path: Path,
    of_train: dict[str, list[Path]],
    tested: list[tuple[Path, int]],
    unlabelled: list[Path],
    parts: tuple[str, ...],
    notes: tuple[str, ...],
) -> Files:
    return Files(
        path=path,
        classes=tuple(of_train),
        train=tuple(file for files in of_train.values() for file in files),
        train_labels=tuple(number for number, files in enumerate(of_train.values()) for _ in files),
        test=tuple(file for file, _ in tested),
        test_labels=tuple(label for _, label in tested),
        unlabelled=tuple(unlabelled),
        parts=parts,
        notes=notes,
    )


def _part(path: Path, *names: str) -> Path:
    """Return the first of these subfolders that is there."""
    if not path.is_dir():
        raise StimulusError(f"image folder {path}: there is no such folder")
    found = next((path / name for name in names if (path / name).is_dir()), None)
    if found is None and len(names) > 1:
        raise StimulusError(f"image folder {path}: there is neither {' nor '.join(map(repr, names))} in it")
    if found is None:
        raise StimulusError(f"image folder {path}: there is no folder {names[0]!r} in it; expected train/ and test/ or val/")
    return found


def _by_class(folder: Path) -> tuple[dict[str, list[Path]], int]:
    """Return the pictures of every class, sorted, and how many other files there are."""
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not classes:
        raise StimulusError(f"image folder {folder}: there are no class folders in it")
    found: dict[str, list[Path]] = {}
    others = 0
    for of_class in classes:
        found[of_class.name], other = _pictures(of_class.rglob("*"))
        others += other
        if not found[of_class.name]:
            raise StimulusError(f"image folder {of_class}: there are no images in it; expected files such as PNG or JPEG")
    return found, others


def _pictures(paths: Iterable[Path]) -> tuple[list[Path], int]:
    """Return the picture files, sorted, and how many other files there are."""
    # PIL tries formats in the order in which they were registered: the common ones first, which reads a quarter faster.
    Image.preinit()
    readable = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = sorted(f for f in paths if not f.name.startswith(".") and f.is_file())
    pictures = [f for f in files if f.suffix.lower() in readable]
    return pictures, len(files) - len(pictures)
