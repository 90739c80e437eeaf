"""The index of a run, ``segments.jsonl``: which segments there are, what each must hold, and whether it is whole."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from analysis.records import Segment
from analysis.sealed import seal, unseal
from analysis.storage import FOLDER, INDEX, MANIFEST
from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import digest, read_whole


def segment_file(number: int) -> str:
    """Return where the segment with this number lies, relative to the run."""
    return f"{FOLDER}/{number:06d}.nc"


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
