"""The notebook of a protocol: the folder of its results, made, resumed and closed in one way."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import analysis
from analysis.storage import write_atomically
from neurossl.errors import NeurosslError, OptionError, StorageError


def new_folder(folder: Path, resumable: bool = False) -> None:
    """Make the folder of a protocol; refuse one that holds anything, and say how to go on if that can be.

    Raises
    ------
    OptionError
        If there is something already, or it cannot be made.
    """
    with refusing_to_write(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            way = "choose a new folder" + (" or add --resume" if resumable else "")
            raise OptionError(f"--out {folder}: there is something already; {way}")
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def refusing_to_write(folder: Path) -> Iterator[None]:
    """Turn the reasons of the file system into one clear line."""
    try:
        yield
    except OSError as reason:
        raise OptionError(f"--out {folder}: cannot be written ({reason.strerror or reason})") from None


@contextmanager
def telling_what_is_stored(folder: Path) -> Iterator[None]:
    """Say what is whole when the disk is full after the runs, and how to go on."""
    try:
        yield
    except OSError as reason:
        raise StorageError(
            f"{reason.filename or folder}: cannot be written ({reason.strerror or reason}); the runs that have finished "
            f"are whole: make room, then add --resume or, where there is no such option, report what there is"
        ) from None


def differing_options(index: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which a stored protocol was run, where they differ from those given now.

    Parameters
    ----------
    index : path
        JSON with a member "options".
    options : mapping

    Raises
    ------
    OptionError
        If there is nothing to resume.
    """
    if not index.is_file():
        raise OptionError(f"--resume: there is nothing to resume in {index.parent} (no {index.name})")
    try:
        before = dict(json.loads(index.read_text())["options"])
    except (OSError, ValueError, KeyError, TypeError):
        raise OptionError(f"{index}: not the index of a protocol's runs") from None
    return {key: before.get(key) for key in sorted(options) if before.get(key) != plain(options[key])}


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
    """Write a JSON file whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def unfinished(problems: Mapping[str, str], count: int, what: str, folder: Path, hint: str = "") -> NeurosslError:
    """Return the error with which a protocol ends that has stored what it could.

    Parameters
    ----------
    problems : mapping of str to str
        Why runs could not finish, by run; not empty.
    count : int
        Of all runs.
    what : str
        What the runs are.
    folder : path
    hint : str
        What to do about it.
    """
    path, reason = next(iter(problems.items()))
    error = NeurosslError(
        f"{len(problems)} of {count} {what} could not finish; {path}: {reason}; what was recorded is kept in {folder}{hint}"
    )
    error.exit_status = 1
    return error


def finish(folder: Path, results: analysis.Results, comparison: analysis.Comparison | None = None) -> analysis.Results:
    """Store the results, print table and sentences, write the report and print its path last."""
    results.save(folder)
    print(analysis.text_table(results.table, results.columns))
    print("\n".join(results.sentences))
    print(analysis.write_report(comparison, folder / "report.html", folder / "figures", results))
    return results
