"""The files of a run: each is written whole or not at all, and each carries a checksum.

    RUN/manifest.json          what was run, with what, and its state: running | finished | failed | interrupted
    RUN/segments.jsonl         one line per segment, appended once the segment is in place: the only list that counts
    RUN/trajectory/000000.nc   immutable segments

Measured before this was designed: an open NetCDF-4 file loses everything when its process is killed, small immutable files
nothing; and of 200 flipped bits NetCDF itself notices one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.schema import SCHEMA_VERSION
from neurossl.errors import TrajectoryError

MANIFEST = "manifest.json"
INDEX = "segments.jsonl"
FOLDER = "trajectory"


_MEMBERS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "network": (dict, "what network.describe() returns"),
    "needs": (list, "a list of words"),
    "seed": (int, "a whole number"),
    "rule": (str, "a name"),
    "label": (str, "a name"),
    "seconds": ((int, float), "a number"),
}


@dataclass(frozen=True)
class Segment:
    """One line of the index: a file of ``RUN/trajectory`` and what it must hold."""

    file: str
    kinds: list[str]
    first_event: int
    last_event: int
    shapes: dict[str, list[int]]
    sha256: str
    bytes: int


def segment_file(number: int) -> str:
    """Return where the segment with this number lies, relative to the run."""
    return f"{FOLDER}/{number:06d}.nc"


def netcdf_lock() -> AbstractContextManager[Any]:
    """Return the lock to hold in every call of NetCDF, which is not thread-safe: the one that xarray holds too."""
    from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

    return NETCDF4_PYTHON_LOCK


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``record`` as JSON would give it back: tuples and sets as lists, numpy numbers and paths as what they say.

    Raises
    ------
    TypeError
        If a value is nothing of the kind.
    """
    return json.loads(json.dumps(dict(record), default=_as_json))


def seal(record: dict[str, Any], indent: int | None = None) -> str:
    """Return ``record`` as JSON with a member ``check``, the SHA-256 of the rest."""
    record = plain(record)
    check = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return json.dumps({**record, "check": check}, indent=indent, ensure_ascii=False)


def unseal(raw: bytes, indent: int | None = None) -> tuple[dict[str, Any], bool]:
    """Return the sealed record in ``raw``, and whether every byte of it is as it was written.

    Raises
    ------
    ValueError
        If it is no JSON object at all.
    """
    try:
        record = json.loads(raw.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    record.pop("check", None)
    return record, seal(record, indent).encode() == raw


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` so that, whenever the machine stops, either all of it is there or the file of before."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    synchronise_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append one line that is on the disk when this returns; one that is cut short has no newline and does not count."""
    new = not path.exists()
    with open(path, "ab") as file:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        synchronise_folder(path.parent)


def synchronise_folder(folder: Path) -> None:
    """Make the names in ``folder`` as lasting as the contents of its files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(run: Path, manifest: dict[str, Any]) -> None:
    """Write ``RUN/manifest.json``, readable by people and sealed."""
    write_atomically(run / MANIFEST, seal(manifest, indent=2).encode())


def read_manifest(run: Path, *, strict: bool = False) -> dict[str, Any]:
    """Return ``RUN/manifest.json``; with ``strict`` refuse one that is not byte for byte as it was written.

    Raises
    ------
    TrajectoryError
        If ``run`` is no run, or its manifest is damaged or of a later schema.
    """
    path = run / MANIFEST
    try:
        manifest, intact = unseal(path.read_bytes(), indent=2)
    except OSError as error:
        if (run / "comparison.json").exists():
            raise TrajectoryError(f"{run} is a comparison of several runs: name one of the run folders inside it") from None
        raise TrajectoryError(f"{run} is not a run: cannot read {MANIFEST} ({error.strerror})") from None
    except ValueError as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from None
    if strict and not intact:
        raise TrajectoryError(f"{path} does not match its checksum: it was damaged or edited")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise TrajectoryError(
            f"{path} has schema version {version!r}: expected {SCHEMA_VERSION}, a newer neurossl may read it"
        )
    if not isinstance(manifest.get("state"), str):
        raise TrajectoryError(f"{path} is damaged: it does not say in which state the run is")
    if fault := unsuitable_member(manifest):
        raise TrajectoryError(f"{path} is damaged: {fault}")
    return manifest


def unsuitable_member(about: Mapping[str, Any]) -> str | None:
    """Say which member of a run's configuration is not of the kind that its readers count on, or return None."""
    for name, (kind, expected) in _MEMBERS.items():
        value = about.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return f"{name} is {value!r}, expected {expected}"
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            return f"{name} is {value!r}, expected {expected}"
    if isinstance(seed := about.get("seed"), int) and not -(2**63) <= seed < 2**63:
        return f"seed is {seed}, expected at most 64 bits"
    return None


def read_comparison(index: Path) -> tuple[list[Path], list[Path]]:
    """Return the run folders that the index of a comparison names, which lie below it, and those that are not there.

    A run that was only planned when the comparison was interrupted or killed need not be there.

    Raises
    ------
    TrajectoryError
        If the index is damaged, or names a run outside its folder.
    """
    try:
        entries = json.loads(index.read_text())["runs"]
        planned = [entry.get("state") == "planned" for entry in entries]
        folders = [(index.parent / str(entry["path"])).resolve() for entry in entries]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as reason:
        raise TrajectoryError(f"{index}: not the index of a comparison ({type(reason).__name__}: {reason})") from None
    root = index.parent.resolve()
    outside = next((f for f in folders if not f.is_relative_to(root)), None)
    if outside is not None:
        raise TrajectoryError(f"{index}: names a run outside its folder ({outside})")
    there: list[Path] = []
    absent: list[Path] = []
    for folder, only_planned in zip(folders, planned, strict=True):
        found = there if (folder / MANIFEST).exists() or not only_planned else absent
        found.append(index.parent / folder.relative_to(root))
    return there, absent


def index_line(segment: Segment) -> str:
    """Return the line of ``RUN/segments.jsonl`` for a segment."""
    return seal(asdict(segment))


def read_index(run: Path, manifest: dict[str, Any]) -> list[Segment]:
    """Return the segments of a run in order, from ``RUN/segments.jsonl`` alone.

    Raises
    ------
    TrajectoryError
        If a line is damaged, or a segment is missing from the list, listed twice, out of order or overlaps the one before.
    """
    path = run / INDEX
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # what follows the last newline was cut short
    segments: list[Segment] = []
    for number, line in enumerate(lines):
        try:
            fields, intact = unseal(line)
            segment = Segment(**fields)
        except (ValueError, TypeError):
            raise TrajectoryError(f"{path}, line {number + 1} (for {segment_file(number)}), is damaged") from None
        if not intact:
            raise TrajectoryError(f"{path}, line {number + 1} ({segment.file}), does not match its checksum")
        if segment.file != segment_file(number):
            fault = "is listed again" if any(segment.file == earlier.file for earlier in segments) else "comes too early"
            raise TrajectoryError(f"{path}, line {number + 1}: {segment.file} {fault}, expected {segment_file(number)}")
        if segments and segment.first_event <= segments[-1].last_event:
            raise TrajectoryError(
                f"{run / segment.file} starts at event {segment.first_event}, "
                f"but {segments[-1].file} already reaches event {segments[-1].last_event}"
            )
        segments.append(segment)
    expected = manifest.get("segments", len(segments))
    if len(segments) != expected:
        missing = segment_file(min(len(segments), expected))
        raise TrajectoryError(f"{path} lists {len(segments)} segments, expected {expected}: first difference at {missing}")
    return segments


def find_damage(run: Path, segments: list[Segment]) -> list[str]:
    """Re-read every segment; return one phrase for each that is missing or differs from its checksum."""
    damage = []
    for segment in segments:
        try:
            with open(run / segment.file, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            damage.append(f"{segment.file} cannot be read ({error.strerror})")
        else:
            if found != segment.sha256:
                damage.append(f"{segment.file} does not match its checksum")
    return damage


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored as JSON: expected numbers, strings, lists or dictionaries")
