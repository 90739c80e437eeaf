"""The run folder of a protocol: found, made, locked, and left as it was where nothing could be done."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from analysis.sealed import seal, unseal
from neurossl.errors import NeurosslError, OptionError, StorageError
from neurossl.files import read_whole, remove_abandoned, write_atomically


@contextmanager
def opened(folder: Path, resume: bool | None = None) -> Iterator[None]:
    """Make the folder of a protocol, and keep every other protocol out of it while this one is at work.

    What was made is removed again if nothing was written into it, or if the options are refused.

    Parameters
    ----------
    folder : Path
        Absolute.
    resume : bool, optional
        Whether it may hold something already; None where a protocol cannot go on.

    Raises
    ------
    OptionError
        If there is something already, it cannot be made, or another process is at work in it.
    """
    with refusing_to_write(folder):
        remove_abandoned(folder)
        if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            way = "choose a new folder" + (" or add --resume" if resume is not None else "")
            raise OptionError(f"--out {folder}: there is something already; {way}")
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    before = set(os.listdir(descriptor))
    try:
        try:
            # Workers inherit the lock: it is held until the last process that writes here has ended.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(f"--out {folder}: another process is at work in it; wait until it has ended") from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        except NeurosslError as error:
            if error.exit_status == 2:
                _remove_index(folder, before)
            raise
    finally:
        os.close(descriptor)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def _remove_index(folder: Path, before: set[str]) -> None:
    """Remove the index of a protocol that has refused its options before any run began."""
    new = set(os.listdir(folder)) - before
    if new == {"comparison.json"}:
        (folder / "comparison.json").unlink()


@contextmanager
def refusing_to_write(folder: Path) -> Iterator[None]:
    """Turn the reasons of the file system into one clear line."""
    try:
        yield
    except NeurosslError:
        raise
    except OSError as reason:
        raise OptionError(f"--out {folder}: cannot be written ({reason.strerror or reason})") from None
    except ValueError as reason:
        raise OptionError(f"--out {str(folder)!r}: no name of a folder ({reason})") from None


@contextmanager
def telling_what_is_stored(folder: Path) -> Iterator[None]:
    """Say what is whole when the disk is full after the runs, and how to go on."""
    try:
        yield
    except OSError as reason:
        raise StorageError(
            f"{reason.filename or folder}: cannot be written ({reason.strerror or reason}); the runs that have finished "
            f"are whole: make room, then add --resume"
        ) from None


def move_aside(run_folder: Path) -> None:
    """Keep what an interrupted run has recorded, under another name."""
    number = 1
    while (target := run_folder.with_name(f"{run_folder.name}.interrupted-{number}")).exists():
        number += 1
    run_folder.rename(target)


def plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return json.loads(json.dumps(value))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with its checksum, whole or not at all."""
    record = content if isinstance(content, dict) else {"content": content}
    write_atomically(path, seal(record, indent=1) + b"\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that `write_json` wrote, or None if it is not there.

    Raises
    ------
    OptionError
        If it is damaged, edited, or something else.
    """
    if not os.path.lexists(path):
        return None
    try:
        record, intact = unseal(read_whole(path).removesuffix(b"\n"), indent=1)
    except OSError as reason:
        raise OptionError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    except ValueError as reason:
        raise OptionError(f"{path}: cannot be read as JSON ({reason})") from None
    if not intact:
        raise OptionError(f"{path} does not match its checksum: it was damaged or edited; remove it to have it made again")
    return record["content"] if set(record) == {"content"} else record
