"""The index of a protocol, ``OUT/comparison.json``: its options, the command that made it, its runs and their states."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import analysis
from neurossl.errors import OptionError, TrajectoryError
from neurossl.files import remove_abandoned
from protocols.harness.command import joined
from protocols.harness.folder import plain, read_json, telling_what_is_stored, write_json
from protocols.harness.signals import stopping

INDEX = "comparison.json"
GROWING = (
    *("rules", "methods", "objectives", "transports", "networks", "feedback"),
    *("datasets", "seeds", "budget", "epochs", "batches"),
)
"""Options of which more may be asked for when a protocol is resumed; all others change the meaning of what is there."""


class Listed(Protocol):
    """A run as the index names it."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def label(self) -> str: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def path(self) -> str: ...  # noqa: D102


def stored_options(folder: Path) -> dict[str, Any]:
    """Return the options of what a protocol has stored in its folder; nothing where there is nothing yet.

    Raises
    ------
    OptionError
        If the folder holds something else.
    """
    index = folder / INDEX
    remove_abandoned(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    if not index.is_file():
        raise OptionError(f"--resume: there is nothing to resume in {folder} (no {INDEX})")
    content = read_json(index)
    options = content.get("options") if isinstance(content, dict) else None
    if not isinstance(options, dict):
        raise OptionError(f"{index}: not the index of a protocol's runs")
    for name in GROWING:
        kind = int if name in ("budget", "epochs", "batches") else list
        of = int if name == "seeds" else str
        fits = isinstance(options.get(name, [] if kind is list else 0), kind)
        if fits and kind is list:
            fits = all(isinstance(part, of) and not isinstance(part, bool) for part in options.get(name, []))
        if not fits:
            raise OptionError(f"{index}: {name} is {options[name]!r}, expected {'a number' if kind is int else 'a list'}")
    return options


def check_options(folder: Path, protocol: str, options: Mapping[str, Any]) -> None:
    """Refuse options that change the meaning of what is there.

    Raises
    ------
    OptionError
        Naming the first that differs.
    """
    content = read_json(folder / INDEX)
    if content is None:
        return
    if content.get("protocol") != protocol:
        raise OptionError(f"--resume: {folder} was made by {content.get('protocol')}, not by {protocol}")
    before = stored_options(folder)
    missing = {name: False for name in ("tiny",) if before.get(name) and name not in options}
    for name, value in {**plain(dict(options)), **missing}.items():
        was = before.get(name)
        if isinstance(value, dict) and isinstance(was, dict):  # of what there is in both
            value, was = ({key: part[key] for key in value.keys() & was.keys()} for part in (value, was))
        if name not in GROWING:
            if was != value and name == "rule_files":
                raise OptionError(
                    f"--resume: {', '.join(value)} has changed since the runs in {folder} were made, which are of another "
                    "rule: choose a new folder"
                )
            if was != value:
                raise OptionError(f"--resume: {folder} was made with {name} = {was}, not {value}")
        elif isinstance(value, int) and isinstance(was, int) and value < was:
            raise OptionError(f"--resume: {folder} was made with {name} = {was}, which can only grow, not {value}")


@contextmanager
def indexed(
    folder: Path, protocol: str, options: Mapping[str, Any], runs: Sequence[Listed], command: Sequence[str]
) -> Iterator[dict[str, str]]:
    """Write into the index how far every run has come, also when interrupted, and into what is yielded: state by path."""
    states: dict[str, str] = {}
    with stopping():
        try:
            yield states
        finally:
            with telling_what_is_stored(folder):
                entries = write_index(folder, protocol, options, runs, command)
            states |= {entry["path"]: entry["state"] for entry in entries}


def write_index(
    folder: Path, protocol: str, options: Mapping[str, Any], runs: Sequence[Listed], command: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Write ``comparison.json``, which lists the runs that there are or will be, and return its entries."""
    entries = []
    for run in runs:
        about = manifest_of(folder / run.path) or {"state": "planned"}
        entry = {"rule": run.name, "label": run.label, "seed": run.seed, "path": run.path}
        entries.append({**entry, "state": about.get("state"), "seconds": about.get("seconds")})
    before = read_json(folder / INDEX)
    known = before.get("command") if isinstance(before, dict) else None
    command = joined(known, command, GROWING) if isinstance(known, list) and known != list(command) else list(command)
    content = {"schema_version": 1, "protocol": protocol, "options": plain(dict(options))}
    write_json(folder / INDEX, {**content, "command": list(command), "runs": entries})
    return entries


def manifest_of(run: Path) -> dict[str, Any] | None:
    """Return the manifest of a run; None where there is none that can be read."""
    try:
        return analysis.manifest(run) if (run / "manifest.json").is_file() else None
    except TrajectoryError:
        return None
