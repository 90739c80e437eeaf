"""The picture files below a folder: no hidden ones, none behind links to folders, which may lead anywhere or in circles.

A link to a file is followed, and so is a link that stands for a whole class: subsets of large data sets are made of them.
"""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from neurossl.errors import StimulusError
from neurossl.stimuli.datasets.access import check_name, shown
from neurossl.stimuli.datasets.decoding import ENDINGS

OTHER, HIDDEN = "files that are no images by their names", "hidden files or folders"
LINKED, SPECIAL = "links to folders or to nothing", "pipes, devices or sockets"
OUTSIDE = "images outside of class folders"


def pictures_below(folder: Path, left_out: Counter[str], classes: Collection[str] = ()) -> list[Path]:
    """Return the picture files at any depth, sorted.

    Parameters
    ----------
    folder : Path
    left_out : Counter
        Counts what was found and left out, by the reason.
    classes : collection of str
        Names that no folder below this one may have.

    Raises
    ------
    StimulusError
        If a folder within a class has the name of another class.
    """
    found: list[str] = []
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    left_out[HIDDEN] += 1
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name in classes:
                        raise StimulusError(
                            f"image folder {shown(entry.path)}: a folder of class {entry.name!r} within class "
                            f"{folder.name!r}: move or rename it"
                        )
                    waiting.append(entry.path)
                elif not _is_file(entry):
                    left_out[LINKED if entry.is_symlink() else SPECIAL] += 1
                elif is_picture(entry.name):
                    found.append(entry.path)
                else:
                    left_out[OTHER] += 1
    return [Path(file) for file in sorted(found)]


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its name."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        # A link that leads to itself.
        return False


def class_folders(folder: Path, left_out: Counter[str], without: Collection[str] = ()) -> list[Path]:
    """Return the folders of the classes, sorted.

    Parameters
    ----------
    folder : Path
    left_out : Counter
        Counts what was found and left out, by the reason.
    without : collection of str
        Names of folders that are no classes.

    Raises
    ------
    StimulusError
        If a name cannot be stored, or a link makes images those of two classes.
    """
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            left_out[HIDDEN] += 1
        elif entry.is_dir():
            if entry.name not in without:
                check_name(entry.name, f"image folder {shown(folder)}: class")
                found.append(entry)
        elif is_picture(entry.name):
            left_out[OUTSIDE] += 1
        elif entry.is_symlink() and not entry.is_file():
            left_out[LINKED] += 1
        else:
            left_out[OTHER] += 1
    _check_apart(folder, found)
    return found


def _check_apart(folder: Path, classes: list[Path]) -> None:
    """Refuse classes that are links to one another, into one another, or to a folder that holds them all."""
    here = folder.resolve()
    found: dict[Path, str] = {}
    for of_class in classes:
        name, place = of_class.name, of_class.resolve()
        if place in (here, *here.parents):
            raise StimulusError(f"image folder {shown(folder)}: class {name!r} is a link to a folder that holds all classes")
        other = found.setdefault(place, name)
        if other != name:
            raise StimulusError(f"image folder {shown(folder)}: classes {other!r} and {name!r} are one folder, by a link")
    for place, name in found.items():
        other = next((found[above] for above in place.parents if above in found), name)
        if other != name:
            raise StimulusError(f"image folder {shown(folder)}: class {name!r} is a link into class {other!r}")


def told(left_out: Counter[str]) -> tuple[str, ...]:
    """Return a note of what was left out, if anything was."""
    if not left_out:
        return ()
    return ("left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())),)
