"""The index of a run, ``segments.jsonl``: which segments there are, what each must hold, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from analysis.handles import Identity
from analysis.moments import fault as fault_of_moments
from analysis.records import LayoutRecord, Segment
from analysis.sealed import seal, unseal
from analysis.storage import FOLDER, INDEX, MANIFEST
from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import digest, read_whole

SEGMENT = re.compile(r"(\d{6,})(?:-(\d{1,9}))?\.nc")
"""Name of a segment: its number in the list and, where `neurossl compact` has made it, which time that was."""
_HOLDERS = {f.name: f.default for f in fields(Segment)}


def segment_file(number: int, generation: int = 0) -> str:
    """Return where the segment with this number lies, relative to the run."""
    return f"{FOLDER}/{number:06d}-{generation}.nc" if generation else f"{FOLDER}/{number:06d}.nc"


def index_line(segment: Segment) -> str:
    """Return the line of ``RUN/segments.jsonl`` for a segment."""
    given = {name: getattr(segment, name) for name in _HOLDERS}
    return seal({name: value for name, value in given.items() if name in _ALWAYS or value != _HOLDERS[name]}).decode()


_ALWAYS = ("file", "kinds", "first_event", "last_event", "shapes", "sha256", "bytes", "run", "continues")


class Layouts:
    """Which line of an index tells which layout: a segment that is laid out like an earlier one names its line."""

    def __init__(self, segments: Sequence[Segment] = ()) -> None:
        self._lines: dict[str, int] = {}
        for number, segment in enumerate(segments):
            if isinstance(segment.layout, dict):
                self._lines.setdefault(json.dumps(segment.layout, sort_keys=True), number)

    def told_in(self, number: int, segment: Segment) -> Segment:
        """Return a segment as its line, which has this number, is to tell it."""
        line = self._lines.setdefault(json.dumps(segment.layout, sort_keys=True), number)
        return replace(segment, layout=line) if line != number else segment


def prefixes(lines: Sequence[bytes], segments: Sequence[Segment], count: int) -> str:
    """Return a digest of the first lines of an index, which compacting does not change."""
    if count and segments[count - 1].was is not None:
        return str(segments[count - 1].was)
    return hashlib.sha256(b"\n".join(lines[:count])).hexdigest()


def written(segments: Iterable[Segment]) -> int:
    """Return for how many segments, as they were written, these stand."""
    return sum(segment.merges for segment in segments)


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
    layouts: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(index_lines(run)[0]):
        segment = _read_line(path, number, line)
        match = SEGMENT.fullmatch(segment.file.removeprefix(f"{FOLDER}/"))
        if match is None or int(match[1]) != number:
            fault = "is listed again" if any(segment.file == earlier.file for earlier in segments) else "comes too early"
            raise TrajectoryError(f"{path}, line {number + 1}: {segment.file} {fault}, expected {segment_file(number)}")
        if segment.run is not None and segment.run != manifest.get("run_id", segment.run):
            raise TrajectoryError(f"{path}, line {number + 1}: {segment.file} is of another run than {MANIFEST}")
        if segments and segment.first_event < segments[-1].last_event + (not segment.continues):
            raise TrajectoryError(
                f"{run / segment.file} starts at event {segment.first_event}, "
                f"but {segments[-1].file} already reaches event {segments[-1].last_event}"
            )
        segments.append(_described(path, number, segment, layouts))
    count, expected = written(segments), manifest.get("segments", written(segments))
    if count != expected:
        missing = segment_file(min(len(segments), expected))
        raise TrajectoryError(f"{path} lists {count} segments, expected {expected}: first difference at {missing}")
    return segments


def _described(path: Path, number: int, segment: Segment, layouts: dict[int, dict[str, Any]]) -> Segment:
    """Return a segment with its layout, which an earlier line may tell, after holding its moments against its size."""
    if segment.layout is None or segment.axes is None:
        return replace(segment, layout=None, axes=None)
    where = f"{path}, line {number + 1} (for {segment.file}), is damaged"
    if isinstance(segment.layout, int):
        if segment.layout not in layouts:
            raise TrajectoryError(f"{where}: its layout is said to be in line {segment.layout + 1}, which has none")
        segment = replace(segment, layout=layouts[segment.layout])
    else:
        try:
            conform(segment.layout, LayoutRecord, "layout")
        except ValueError as fault:
            raise TrajectoryError(f"{where}: {fault}") from None
        layouts[number] = segment.layout
    found = next((f for axis in segment.axes or () if (f := fault_of_moments(axis, segment.bytes // 24))), None)
    if found is not None:
        raise TrajectoryError(f"{where}: {found}")
    return segment


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
    folder, _, name = segment.file.partition("/")
    in_order = 0 <= segment.first_event <= segment.last_event and segment.merges >= 1
    if folder != FOLDER or not SEGMENT.fullmatch(name) or not in_order:
        raise TrajectoryError(f"{where}, is damaged: it names no segment of this run")
    return segment


_verified: dict[tuple[str, int, int, int], str] = {}
_SETTLED = 0.1
"""Seconds after which a file that changes gets another time of change, on any file system."""


def require_whole(path: Path, segment: Segment) -> Identity:
    """Make sure that a segment is what its line in the index says before it is used, and return which file it is.

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
        which = found.st_size, found.st_mtime_ns, found.st_ino
        key = str(path), *which
        if _verified.get(key) == segment.sha256:
            return which
        if digest(path) != segment.sha256:
            raise TrajectoryError(f"{path} does not match its checksum: it was damaged or replaced")
    except FileNotFoundError:
        raise TrajectoryError(f"{path} is missing") from None
    except OSError as error:
        raise TrajectoryError(f"{path} cannot be read ({error.strerror})") from None
    if time.time() - found.st_mtime > _SETTLED:
        _verified[key] = segment.sha256
    return which


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
