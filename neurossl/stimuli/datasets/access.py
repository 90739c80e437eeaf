"""Access to files that somebody else has made: regular ones alone, and nothing that is larger than memory."""

import hashlib
import mmap
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neurossl.errors import StimulusError

SHARE_OF_MEMORY = 0.6
# Python 3.11 has no name for it on Linux.
_NO_RESERVE = 0x4000 if sys.platform == "linux" else None


def open_regular(file: Path) -> BinaryIO:
    """Open a file for reading, without waiting for what is none: a pipe, a device, a socket.

    Raises
    ------
    OSError
        If it is no regular file.
    """
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def mapped(content: BinaryIO, start: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return bytes of a file as an array that stays in the file; what is written to it is seen by nobody else.

    No memory is set aside for what might be written: the file may be larger than all there is.

    Parameters
    ----------
    content : file
    start : int
        Where the array begins, bytes.
    shape : tuple of int

    Raises
    ------
    OSError, ValueError
        If the file cannot be mapped, or is shorter.
    """
    options: dict[str, Any] = {"access": mmap.ACCESS_COPY}
    if _NO_RESERVE is not None:
        options = {"flags": mmap.MAP_PRIVATE | _NO_RESERVE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
    whole = mmap.mmap(content.fileno(), 0, **options)
    return np.frombuffer(whole, np.uint8, int(np.prod(shape)), start).reshape(shape)


def read_small(file: Path, most: int) -> str:
    """Return the text of a file of at most so many bytes.

    Raises
    ------
    OSError, ValueError
        If it is no regular file, too large, or no UTF-8.
    """
    with open_regular(file) as content:
        found = content.read(most + 1)
    if len(found) > most:
        raise ValueError(f"more than {most} bytes")
    return found.decode()


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as one line of text, whatever bytes its names are made of."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listing_digest(files: Sequence[Path], root: Path) -> str:
    """Return a digest of the names of files, relative to a folder, and of their sizes: 32 hexadecimal digits.

    Raises
    ------
    StimulusError
        If a file is not there; names it.
    """
    digest = hashlib.sha256()
    before = os.path.join(root, "")
    for file in files:
        try:
            size = os.stat(file).st_size
        except OSError as reason:
            raise StimulusError(f"image {shown(file)}: cannot be read ({reason.strerror})") from None
        digest.update(b"%b\0%d\0" % (os.fsencode(os.fspath(file).removeprefix(before)), size))
    return digest.hexdigest()[:32]


def check_name(path: str | os.PathLike[str], what: str) -> None:
    """Refuse a name that results could not be stored under.

    Raises
    ------
    StimulusError
        If it is no UTF-8 or has control characters.
    """
    if shown(path) != os.fspath(path):
        raise StimulusError(
            f"{what} '{shown(path)}': the name is no printable UTF-8 text, and could not be stored: rename it"
        )


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what is larger than the free memory, where the system tells.

    Parameters
    ----------
    needed : int
        Bytes.
    what, remedy : str
        For the error message: ``what`` names the images and ends in a verb such as "need".

    Raises
    ------
    StimulusError
        If more is needed than a good part of what is free.
    """
    free = free_memory()
    if free is not None and needed > SHARE_OF_MEMORY * free:
        raise StimulusError(f"{what} {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free: {remedy}")


def free_memory() -> int | None:
    """Return the bytes of memory that are free or can be freed, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
