"""Small segments of a run made into larger ones: ``neurossl compact``.

A run that is cut every half minute lies in many small files. Those that follow one another become one, and nothing of what
can be read changes. The new segments are written beside the old, under names of their own; then the index is replaced as a
whole, and only then the old ones go. Killed at any moment, the run is the one or the other. The state before learning stays
a segment of its own, and none are joined across a moment at which a checkpoint was written, so that a run can be gone on
with from there: its position is known by the same digest as before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import netCDF4

from analysis.contents import Contents
from analysis.exporter import copy_variable
from analysis.handles import let_go
from analysis.index import SEGMENT, Layouts, index_line, index_lines, prefixes, read_index, require_whole, segment_file
from analysis.journal import remove_unlisted
from analysis.netcdf import netcdf_lock, new_dataset
from analysis.nodes import moments_along, stack_of, table_of
from analysis.outline import SCALARS, read_outline
from analysis.records import Segment
from analysis.schema import LABELS, root_attributes
from analysis.storage import CHECKPOINTS, FOLDER, INDEX, read_manifest, stored_manifest, write_manifest
from neurossl.checkpoint_files import numbers, values_of
from neurossl.errors import OptionError, StorageError, TrajectoryError
from neurossl.files import FolderLock, absolute, digest, synchronise_folder, temporary_for, write_atomically
from neurossl.text import one_line, printable

SIZE = 128 * 2**20
"""Bytes that a segment may have: hashed in a tenth of a second before it is first read."""


class Compacted(NamedTuple):
    """What was done to a run."""

    run: Path
    before: int
    after: int
    bytes: int

    def __str__(self) -> str:
        if self.before == self.after:
            return printable(f"{self.run}: {self.before} segments, none of them to be joined")
        return printable(f"{self.run}: {self.before} segments became {self.after}, {self.bytes:,} bytes")


def compact(run: str | os.PathLike[str], size: int = SIZE) -> Compacted:
    """Join the segments of a run that has ended, as far as they fit together in one of some size.

    Parameters
    ----------
    run : str or path
        A run folder.
    size : int
        Bytes that a joined segment may have.

    Raises
    ------
    OptionError
        If the run goes on, or the size is none.
    StorageError
        If another process has the run, or the disk is too small; the run is as it was.
    TrajectoryError
        If it is no run, or damaged; it is as it was.
    """
    path = absolute(run)
    if size < 1:
        raise OptionError(f"compact: segments of {size} bytes: expected at least 1")
    _require_ended(path)
    try:
        lock = FolderLock(path, "the run")
        try:
            _require_ended(path)
            return _compact(path, size)
        finally:
            lock.release()
    except (OSError, RuntimeError) as error:
        if isinstance(error, StorageError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise StorageError(f"cannot compact {path}: {reason}; it is as it was") from error


def _require_ended(path: Path) -> None:
    about = read_manifest(path)
    if about["state"] == "running":
        raise OptionError(f"{path} is running: wait until it has ended, or end it")


def _compact(path: Path, size: int) -> Compacted:
    manifest = stored_manifest(path)
    segments = read_index(path, manifest)
    lines, _ = index_lines(path)
    remove_unlisted(path, segments)
    plan = list(_plan(segments, _kept_positions(path), size))
    contents = Contents.of(path, segments)
    if len(plan) == len(segments) and all(segment.layout is not None for segment in segments):
        return Compacted(path, len(segments), len(segments), sum(segment.bytes for segment in segments))
    needed = sum(segments[number].bytes for group in plan if len(group) > 1 for number in group)
    if needed > (free := shutil.disk_usage(path).free):
        raise StorageError(f"cannot compact {path}: {needed:,} bytes are to be written beside the old, {free:,} are free")
    known = _positions(lines, segments)
    generation = 1 + max((int(SEGMENT.fullmatch(Path(s.file).name)[2] or 0) for s in segments), default=0)  # type: ignore[index]
    made: list[Segment] = []
    for number, group in enumerate(plan):
        parts = [contents.segments[place] for place in group]
        for part in parts if len(parts) > 1 else ():
            require_whole(path / part.file, part)
        if len(parts) > 1:
            joined = _joined(path, parts, [contents.layouts[place] for place in group], number, generation, manifest)
        else:
            joined = _renamed(path, parts[0], number, generation)
        made.append(replace(joined, merges=sum(part.merges for part in parts), was=known[group[-1]]))
    synchronise_folder(path / FOLDER)
    layouts = Layouts()
    told = [index_line(layouts.told_in(number, segment)).encode() for number, segment in enumerate(made)]
    write_atomically(path / INDEX, b"".join(line + b"\n" for line in told))
    let_go(path)
    remove_unlisted(path, made)
    count = sum(segment.bytes for segment in made)
    if "stored_bytes" in manifest:
        with suppress(OSError):
            write_manifest(path, {**manifest, "stored_bytes": count})
    return Compacted(path, len(segments), len(made), count)


def _plan(segments: Sequence[Segment], kept: set[int], size: int) -> Iterator[list[int]]:
    """Yield the numbers of the segments that become one each."""
    reached = list(accumulate(segment.merges for segment in segments))
    group: list[int] = []
    for number, segment in enumerate(segments):
        together = sum(segments[place].bytes for place in group) + segment.bytes
        if group and (together > size or group[-1] == 0 or reached[group[-1]] in kept):
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _kept_positions(path: Path) -> set[int]:
    """Return after how many segments the checkpoints of a run were written, as far as they can be read."""
    found = set()
    for number in numbers(path / CHECKPOINTS):
        with suppress(OSError, ValueError, AttributeError):
            position = values_of(path / CHECKPOINTS, number).get("position")
            if isinstance(position, dict) and isinstance(position.get("segments"), int):
                found.add(position["segments"])
    return found


def _positions(lines: Sequence[bytes], segments: Sequence[Segment]) -> list[str]:
    """Return the digest of the index up to each of its lines, as `analysis.index.prefixes` does."""
    found = []
    so_far = hashlib.sha256()
    for number, line in enumerate(lines):
        so_far.update(b"\n" + line if number else line)
        found.append(segments[number].was or so_far.hexdigest())
    if found and found[-1] != prefixes(lines, segments, len(lines)):
        raise TrajectoryError("the index cannot be told apart from another: this is a mistake in neurossl")
    return found


def _joined(
    path: Path, parts: Sequence[Segment], layouts: Sequence[object], number: int, generation: int, manifest: dict
) -> Segment:
    """Write the segments that follow one another as one, and return it."""
    contents = Contents(path, parts, list(layouts))  # type: ignore[arg-type]
    target = path / segment_file(number, generation)
    with temporary_for(target) as temporary:
        with new_dataset(temporary) as dataset:
            _write(dataset, contents, manifest)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        outline = read_outline(temporary)
        found = digest(temporary)
        count = temporary.stat().st_size
        os.replace(temporary, target)
    return replace(
        parts[0],
        file=str(target.relative_to(path)),
        kinds=sorted({kind for part in parts for kind in part.kinds}),
        last_event=parts[-1].last_event,
        shapes=outline.shapes,
        sha256=found,
        bytes=count,
        run=manifest.get("run_id"),
        layout=outline.layout.record(),
        axes=outline.axes(),
    )


def _write(dataset: netCDF4.Dataset, contents: Contents, manifest: dict) -> None:
    events = contents.moments(SCALARS).without_seams()
    with netcdf_lock():
        dataset.setncatts(root_attributes(manifest))
        dataset.setncattr("coordinates", "time observers_seen")
        dataset.createDimension("event", events.events.size)
    for axis, along in moments_along("event", events).items():
        copy_variable(dataset, axis, along)
    nodes = {kind: table_of(contents, kind, events) for kind in LABELS if kind in contents.kinds}
    nodes |= {group: stack_of(contents, group) for group in contents.groups}
    for path, node in nodes.items():
        of_root = {"event", "time", "observers_seen"} if path in LABELS else set()
        with netcdf_lock():
            group = dataset.createGroup(path)
            group.setncatts(node.attrs)
            for dim, size in node.sizes.items():
                if dim not in of_root:
                    group.createDimension(str(dim), size)
            if path not in LABELS:
                beside = [str(name) for name in node.coords if name not in node.dims]
                group.setncattr("coordinates", " ".join(beside))
        for name, variable in node.variables.items():
            if name not in of_root:
                copy_variable(group, str(name), variable)


def _renamed(path: Path, segment: Segment, number: int, generation: int) -> Segment:
    """Return a segment that stays as it is, under the name of its place in the list."""
    if int(SEGMENT.fullmatch(Path(segment.file).name)[1]) == number:  # type: ignore[index]
        return segment
    target = path / segment_file(number, generation)
    try:
        os.link(path / segment.file, target)
    except OSError:  # a file system without hard links
        with temporary_for(target) as temporary:
            shutil.copyfile(path / segment.file, temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    return replace(segment, file=str(target.relative_to(path)))
