"""Files that are whole or not there, and folders with one writer.

Temporaries have names of their own in the folder of the file that they will become, are made anew (never opened, never
through a link), and name their process, so that those of the dead can be told from those in use.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurossl.errors import OptionError, StorageError
from neurossl.process import ProcessId
from neurossl.text import one_line

try:
    import fcntl
except ImportError:  # where there is none, the process named in the lock counts alone
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_TEMPORARY = re.compile(r"\.neurossl-([0-9a-f]{8})-(\d+)-([0-9a-f-]*)-[0-9a-f]{12}\.tmp")


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path that stays what it is after ``os.chdir``, with ``~`` for the user's own folder.

    Raises
    ------
    OptionError
        If no file can have that name.
    """
    given = os.fspath(path)
    if not given or "\0" in given:
        raise OptionError(f"{one_line(repr(given))} is no path of a file or folder")
    return Path(os.path.expanduser(given)).absolute()


def read_whole(path: Path, most: int = 2**28) -> bytes:
    """Return the content of an ordinary file.

    Parameters
    ----------
    path : Path
    most : int
        Bytes that such a file can have.

    Raises
    ------
    OSError
        If it is no ordinary file (a link, a pipe, a device), is larger, or cannot be read.
    """
    with open(opened(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(0, f"it has {size:,} bytes, expected at most {most:,}", str(path))
        return file.read(size)


def opened(path: Path) -> int:
    """Return a descriptor of an ordinary file, opened for reading.

    Raises
    ------
    OSError
        If it is a link, a pipe or a device, or cannot be opened.
    """
    if path.is_symlink():
        raise OSError(0, "it is a link, expected the file itself", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NOT_FOLLOWED)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no ordinary file", str(path))
    return descriptor


def digest(path: Path, most: int | None = None) -> str:
    """Return the SHA-256 of an ordinary file, or of its first ``most`` bytes."""
    found = hashlib.sha256()
    with open(opened(path), "rb") as file:
        left = os.fstat(file.fileno()).st_size if most is None else most
        while left > 0 and (block := file.read(min(left, 2**22))):
            found.update(block)
            left -= len(block)
    return found.hexdigest()


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` so that, whenever the machine stops, either all of it is there or the file of before.

    A link of that name is replaced, not followed.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    with temporary_for(path) as temporary:
        with open(temporary, "r+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    synchronise_folder(path.parent)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """Make an empty file of a new name beside ``path``, to be renamed to it; remove it if it is still there at the end."""
    owner = ProcessId.current()
    temporary = path.with_name(f".neurossl-{_of_host(owner)}-{owner.pid}-{owner.started}-{secrets.token_hex(6)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOT_FOLLOWED, 0o666))
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> list[str]:
    """Remove the temporaries in ``folder`` whose process has ended on this machine, and return their names."""
    removed = []
    with suppress(OSError):
        for name in os.listdir(folder):
            if (found := _TEMPORARY.fullmatch(name)) is None:
                continue
            owner = ProcessId.current()
            if found[1] == _of_host(owner) and ProcessId(owner.host, int(found[2]), found[3]).alive is False:
                with suppress(OSError):
                    os.unlink(folder / name)
                    removed.append(name)
    return removed


def append_line(path: Path, line: str) -> None:
    """Append one line that is on the disk when this returns; one that is cut short has no newline and does not count."""
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NOT_FOLLOWED, 0o666)
    with open(descriptor, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        synchronise_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each as lasting as what will be in it."""
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        synchronise_folder(made.parent)


def synchronise_folder(folder: Path) -> None:
    """Make the names in ``folder`` as lasting as the contents of its files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """The right to write into a folder, of one process at a time.

    A process that has ended holds nothing, however it ended. A child forked from the holder does not hold it.

    Parameters
    ----------
    folder : Path
        Which exists.
    what : str
        What the folder is to those who are refused, such as ``"the run"``.

    Raises
    ------
    StorageError
        If another writer has it; names the process.
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, what: str = "the folder") -> None:
        self.path = folder / LOCK
        self._descriptor = self._acquire(what)
        self._pid = os.getpid()
        _HELD.add(self)

    def _acquire(self, what: str) -> int:
        mine = ProcessId.current()
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _NOT_FOLLOWED, 0o666)
            try:
                self._claim(descriptor, mine, what)
                if _same_file(descriptor, self.path):  # else the one before has just removed it
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(mine.describe()).encode(), 0)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _claim(self, descriptor: int, mine: ProcessId, what: str) -> None:
        """Take the lock of the system; where there is none, see whether the process named in the file has ended."""
        holder = _holder(descriptor)
        refusal = StorageError(
            f"{self.path.parent}: {what} is being written by {holder or 'another process'}: "
            "wait until it has ended, or end it"
        )
        refusal.exit_status = 2
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                raise refusal from None
            except OSError:
                pass  # a file system without locks
        if holder is not None and holder.alive is not False:
            raise refusal

    @property
    def held(self) -> bool:
        """Whether the folder is still the one that was locked, and this the process that locked it."""
        return self._descriptor >= 0 and self._pid == os.getpid() and _same_file(self._descriptor, self.path)

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        if self._descriptor < 0:
            return
        if self.held:
            with suppress(OSError):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the lock without giving it up for the process that holds it: what a forked child does."""
        _HELD.discard(self)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _holder(descriptor: int) -> ProcessId | None:
    try:
        return ProcessId.of(json.loads(os.pread(descriptor, 4096, 0).decode()))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _of_host(process: ProcessId) -> str:
    return hashlib.sha256(process.host.encode(errors="replace")).hexdigest()[:8]
