"""The lists of a run: its manifest, the index of its segments, and the index of a protocol's runs, each with a checksum.

    RUN/manifest.json          what was run, with what, by which process, and its state: running, finished, ...
    RUN/segments.jsonl         one line per segment, appended once the segment is in place: the only list that counts
    RUN/trajectory/000000.nc   immutable segments
    RUN/checkpoints/           states of the simulation to go on from; not of this package
    OUT/comparison.json        the runs of a protocol

What is read is held against the schema of `analysis.records` before anything uses it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from analysis.records import Configuration, Index, Manifest, Segment
from analysis.schema import SCHEMA_VERSION
from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import digest, read_whole, write_atomically
from neurossl.process import ProcessId

MANIFEST = "manifest.json"
INDEX = "segments.jsonl"
FOLDER = "trajectory"
CHECKPOINTS = "checkpoints"
COMPARISON = "comparison.json"

SILENCE = timedelta(minutes=5)
"""How long a writer on another host may give no sign of life before it is taken for dead."""


def segment_file(number: int) -> str:
    """Return where the segment with this number lies, relative to the run."""
    return f"{FOLDER}/{number:06d}.nc"


def now() -> str:
    """Return the time of day as it is stored."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``record`` as JSON would give it back: tuples and sets as lists, numpy numbers and paths as what they say.

    Raises
    ------
    TypeError
        If a value is nothing of the kind.
    """
    return json.loads(json.dumps(dict(record), default=_as_json))


def seal(record: dict[str, Any], indent: int | None = None) -> bytes:
    """Return ``record`` as JSON with a member ``check``, the SHA-256 of the rest."""
    record = plain(record)
    check = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    sealed = {**record, "check": check}
    try:
        return json.dumps(sealed, indent=indent, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a path whose name is no text
        return json.dumps(sealed, indent=indent).encode()


def unseal(raw: bytes, indent: int | None = None) -> tuple[dict[str, Any], bool]:
    """Return the sealed record in ``raw``, and whether every byte of it is as it was written.

    Raises
    ------
    ValueError
        If it is no JSON object at all.
    """
    try:
        record = json.loads(raw.decode())
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        record.pop("check", None)
        return record, seal(record, indent) == raw
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
        return None
    process, seen = ProcessId.of(manifest["process"]), str(manifest.get("last_sign_of_life", "unknown"))
    alive = process.alive
    if alive is None:
        with suppress(ValueError, TypeError):
            if datetime.now(UTC) - datetime.fromisoformat(seen) > SILENCE:
                return f"no sign of life of {process} since {seen}"
    return f"{process} has gone without ending the run, last sign of life {seen}" if alive is False else None


def index_line(segment: Segment) -> str:
    """Return the line of ``RUN/segments.jsonl`` for a segment."""
    return seal(asdict(segment)).decode()


def index_lines(run: Path) -> tuple[list[bytes], bool]:
    """Return the lines of the index, and whether the last one was cut short and is left out."""
    try:
        whole = read_whole(run / INDEX)
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise TrajectoryError(f"{run / INDEX} cannot be read ({error.strerror})") from None
    *lines, rest = whole.split(b"\n")
    return lines, bool(rest)


def read_index(run: Path, manifest: Mapping[str, Any]) -> list[Segment]:
    """Return the segments of a run in order, from ``RUN/segments.jsonl`` alone.

    Raises
    ------
    TrajectoryError
        If a line is damaged or of another run, or a segment is missing from the list, listed twice, out of order or overlaps
        the one before.
    """
    path = run / INDEX
    segments: list[Segment] = []
    for number, line in enumerate(index_lines(run)[0]):
        segment = _read_line(path, number, line)
        if segment.file != segment_file(number):
            fault = "is listed again" if any(segment.file == earlier.file for earlier in segments) else "comes too early"
            raise TrajectoryError(f"{path}, line {number + 1}: {segment.file} {fault}, expected {segment_file(number)}")
        if segment.run is not None and segment.run != manifest.get("run_id", segment.run):
            raise TrajectoryError(f"{path}, line {number + 1}: {segment.file} is of another run than {MANIFEST}")
        if segments and segment.first_event < segments[-1].last_event + (not segment.continues):
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


def _read_line(path: Path, number: int, line: bytes) -> Segment:
    where = f"{path}, line {number + 1} (for {segment_file(number)})"
    try:
        record, intact = unseal(line)
        conform(record, Segment, "")
        segment = Segment(**{f.name: record[f.name] for f in fields(Segment) if f.name in record})
    except (ValueError, TypeError) as fault:
        raise TrajectoryError(f"{where}, is damaged: {fault}") from None
    if not intact:
        raise TrajectoryError(f"{where}, does not match its checksum")
    if not re.fullmatch(rf"{FOLDER}/\d{{6,}}\.nc", segment.file) or not 0 <= segment.first_event <= segment.last_event:
        raise TrajectoryError(f"{where}, is damaged: it names no segment of this run")
    return segment


_verified: dict[tuple[str, int, int, int], str] = {}
_SETTLED = 0.1
"""Seconds after which a file that changes gets another time of change, on any file system."""


def require_whole(path: Path, segment: Segment) -> None:
    """Make sure that a segment is what its line in the index says before anything of it is used.

    What was found is remembered for as long as the file stays as it is.

    Raises
    ------
    TrajectoryError
        If it is missing or differs.
    """
    try:
        found = os.lstat(path)
        if found.st_size != segment.bytes:
            raise TrajectoryError(
                f"{path} has {found.st_size} bytes, expected {segment.bytes}: it was cut short or replaced"
            )
        key = str(path), found.st_size, found.st_mtime_ns, found.st_ino
        if _verified.get(key) == segment.sha256:
            return
        if digest(path) != segment.sha256:
            raise TrajectoryError(f"{path} does not match its checksum: it was damaged or replaced")
    except FileNotFoundError:
        raise TrajectoryError(f"{path} is missing") from None
    except OSError as error:
        raise TrajectoryError(f"{path} cannot be read ({error.strerror})") from None
    if time.time() - found.st_mtime > _SETTLED:
        _verified[key] = segment.sha256


def find_damage(run: Path, segments: list[Segment]) -> list[str]:
    """Re-read every segment; return one phrase for each that is missing or differs from its checksum."""
    damage = []
    for segment in segments:
        try:
            if digest(run / segment.file) != segment.sha256:
                damage.append(f"{segment.file} does not match its checksum")
        except OSError as error:
            damage.append(f"{segment.file} cannot be read ({error.strerror})")
    return damage


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


def read_sealed(path: Path, expected: Any, what: str) -> dict[str, Any]:
    """Return a JSON file that is held against its type and, where it has one, its checksum.

    Raises
    ------
    TrajectoryError
        If it is missing, damaged, or something else; names the file.
    """
    try:
        raw = read_whole(path)
        content, intact = unseal(raw.removesuffix(b"\n"), indent=1)
        conform(content, expected, "")
    except FileNotFoundError:
        raise TrajectoryError(f"{path}: there is no such file, expected {what}") from None
    except OSError as error:
        raise TrajectoryError(f"{path}: not {what} ({error.strerror})") from None
    except ValueError as fault:
        raise TrajectoryError(f"{path}: not {what} ({fault})") from None
    if not intact and b'"check": "' in raw:
        raise TrajectoryError(f"{path} does not match its checksum: it was damaged or edited")
    return content


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


def _as_json(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be stored as JSON: expected numbers, strings, lists or dictionaries")
