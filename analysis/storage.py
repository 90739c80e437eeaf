"""The lists of a run: its manifest, the index of its segments, and the index of a protocol's runs, each with a checksum.

    RUN/manifest.json          what was run, with what, by which process, and its state: running, finished, ...
    RUN/segments.jsonl         one line per segment, appended once the segment is in place: the only list that counts
    RUN/trajectory/000000.nc   immutable segments
    RUN/checkpoints/           states of the simulation to go on from; not of this package
    OUT/comparison.json        the runs of a protocol

What is read is held against the schema of `analysis.records` before anything uses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from analysis.records import Configuration, Index, Manifest
from analysis.schema import SCHEMA_VERSION
from analysis.sealed import plain, read_sealed, seal, unseal
from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import read_whole, write_atomically
from neurossl.process import ProcessId

MANIFEST = "manifest.json"
INDEX = "segments.jsonl"
FOLDER = "trajectory"
CHECKPOINTS = "checkpoints"
COMPARISON = "comparison.json"

SILENCE = timedelta(minutes=5)
"""How long a writer on another host may give no sign of life before it is taken for dead."""


def now() -> str:
    """Return the time of day as it is stored."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def configuration_fault(about: Mapping[str, Any]) -> str | None:
    """Say which member of a run's configuration is not of the kind that its readers count on, or return None."""
    try:
        conform(dict(about), Configuration, "")
    except ValueError as fault:
        return str(fault)
    return None


def write_manifest(run: Path, manifest: dict[str, Any]) -> None:
    """Write ``RUN/manifest.json``, readable by people and sealed."""
    write_atomically(run / MANIFEST, seal(manifest, indent=2))


def read_manifest(run: Path) -> dict[str, Any]:
    """Return ``RUN/manifest.json``; the state of a run whose process is gone is "died".

    Raises
    ------
    TrajectoryError
        If ``run`` is no run, or its manifest is damaged, edited, or of a later schema.
    """
    manifest = stored_manifest(run)
    if manifest["state"] == "running" and (reason := why_dead(manifest)):
        manifest |= {"state": "died", "reason": reason}
    return manifest


def stored_manifest(run: Path) -> dict[str, Any]:
    """Return ``RUN/manifest.json`` as it is stored."""
    path = run / MANIFEST
    try:
        manifest, intact = unseal(read_whole(path, 2**26), indent=2)
    except OSError as error:
        if (run / COMPARISON).is_file():
            raise TrajectoryError(f"{run} is a comparison of several runs: name one of the run folders inside it") from None
        raise TrajectoryError(f"{run} is not a run: cannot read {MANIFEST} ({error.strerror})") from None
    except ValueError as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from None
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise TrajectoryError(
            f"{path} has schema version {version!r}: expected {SCHEMA_VERSION}, a newer neurossl may read it"
        )
    if not isinstance(manifest.get("state"), str):
        raise TrajectoryError(f"{path} is damaged: it does not say in which state the run is")
    try:
        conform(manifest, Manifest, "")
    except ValueError as fault:
        raise TrajectoryError(f"{path} is damaged: {fault}") from None
    if not intact:
        raise TrajectoryError(f"{path} does not match its checksum: it was damaged or edited")
    return manifest


def why_dead(manifest: Mapping[str, Any]) -> str | None:
    """Say why the process of a run that calls itself running is taken for gone; None if it may be there."""
    if "process" not in manifest:
        return "it does not say which process writes it"
    process, seen = ProcessId.of(manifest["process"]), str(manifest.get("last_sign_of_life", "unknown"))
    alive = process.alive
    if alive is None and _is_long_ago(seen):
        return f"no sign of life of {process} since {seen}"
    return f"{process} has gone without ending the run, last sign of life {seen}" if alive is False else None


def _is_long_ago(seen: str) -> bool:
    """Return whether a time lies back further than a writer may be silent; what is no time does."""
    try:
        when = datetime.fromisoformat(seen)
    except ValueError:
        return True
    return datetime.now(UTC) - (when if when.tzinfo else when.replace(tzinfo=UTC)) > SILENCE


def write_comparison(folder: str | os.PathLike[str], index: Mapping[str, Any]) -> Path:
    """Write ``comparison.json``, the index of the runs below a folder, whole and sealed.

    Raises
    ------
    TrajectoryError
        If it is not what its readers count on.
    """
    path, content = Path(folder) / COMPARISON, plain(index)
    try:
        conform(content, Index, "")
    except ValueError as fault:
        raise TrajectoryError(f"{path} cannot be written: {fault}") from None
    write_atomically(path, seal(content, indent=1) + b"\n")
    return path


def read_comparison(path: Path) -> dict[str, Any]:
    """Return the index of a comparison.

    Raises
    ------
    TrajectoryError
        If it is damaged; one without a checksum, as written by hand, is taken as it is.
    """
    return read_sealed(path, Index, "the index of a comparison")


def runs_of(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the run folders that the index of a comparison names, which lie below it, and those that are not there.

    A run that was only planned when the comparison was interrupted or killed need not be there.

    Raises
    ------
    TrajectoryError
        If the index is damaged, or names a run outside its folder.
    """
    root = path.parent.resolve()
    there: list[Path] = []
    absent: list[Path] = []
    for entry in read_comparison(path)["runs"]:
        try:
            folder = (root / entry["path"]).resolve()
            inside = folder.is_relative_to(root)
            found = there if not inside or (folder / MANIFEST).exists() or entry.get("state") != "planned" else absent
        except (ValueError, OSError, RuntimeError) as fault:
            raise TrajectoryError(f"{path}: names a run that cannot be ({fault})") from None
        if not inside:
            raise TrajectoryError(f"{path}: names a run outside its folder ({folder})")
        found.append(path.parent / folder.relative_to(root))
    return there, absent
