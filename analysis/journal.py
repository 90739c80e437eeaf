"""What a run writes on the disk: its folder, lock, manifest, index and segments, from a background thread.

Records are gathered in memory and cut into segments when there are enough of them, or enough bytes, or the oldest has
waited long enough; the first, the state before learning, is not kept waiting. The thread turns each batch into the bytes
of a NetCDF file and puts it in place: temporary, fsync, rename, fsync of the folder, line in ``segments.jsonl``. Few batches
may wait, so that a slow disk slows the run instead of eating the memory. Killed at any moment, a run keeps every segment in
its index.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from analysis.index import SEGMENT, Layouts, index_line, index_lines, prefixes, segment_file, written
from analysis.netcdf import netcdf_lock
from analysis.records import Segment
from analysis.schema import root_attributes
from analysis.sealed import plain
from analysis.segment import Record, encode
from analysis.storage import FOLDER, INDEX, now, write_manifest
from neurossl.errors import StorageError
from neurossl.files import FolderLock, append_line, remove_abandoned, synchronise_folder, write_atomically

_WAITING = 2
"""Batches that may wait for the disk."""
_FIRST_SECONDS = 1.0
"""How long the first batch waits for more."""
_SIGN_SECONDS = 30.0
"""Between signs of life in the manifest."""


class Limits(NamedTuple):
    """When a segment is cut: at so many records, bytes, or wall-clock seconds after its first record."""

    records: int
    bytes: int
    seconds: float


@dataclass
class _Batch:
    """The records that will become one segment."""

    number: int
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    begun: float = field(default_factory=time.monotonic)


class Journal:
    """The files of one run that this process writes.

    Parameters
    ----------
    path : Path
        The run folder, which exists.
    lock : FolderLock
        Of that folder; released at the end.
    manifest : dict
        As it is on the disk.
    segments : sequence of Segment
        Those already stored.
    limits : Limits
    """

    def __init__(
        self, path: Path, lock: FolderLock, manifest: dict[str, Any], segments: list[Segment], limits: Limits
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.segments = segments
        self.error: StorageError | None = None
        self.ended = False
        self.pid = os.getpid()
        self._lock = lock
        self._limits = limits
        self._lines = index_lines(path)[0]
        self._layouts = Layouts(segments)
        self._root = root_attributes(manifest)
        self._open = _Batch(len(segments))
        self._waiting: deque[_Batch] = deque()
        self._busy = self._ending = False
        self._changed = threading.Condition()
        self._manifest_lock = threading.Lock()
        self._sign = time.monotonic()
        netcdf_lock()  # imports xarray here rather than in the thread
        self._thread = threading.Thread(target=self._work, name=f"trajectory {path}", daemon=True)
        self._thread.start()

    @property
    def stored_bytes(self) -> int:
        """Size of all segments."""
        return sum(segment.bytes for segment in self.segments)

    def put(self, record: Record, new_event: bool) -> None:
        """Take a record; wait if the disk is behind.

        Parameters
        ----------
        record : Record
        new_event : bool
            Whether it is the first of its event: a segment is preferably cut there.
        """
        with self._changed:
            if new_event and self._is_full():
                self._cut()
            self._open.records.append(record)
            self._open.bytes += record.nbytes
            if len(self._open.records) == 1:
                self._open.begun = time.monotonic()
                self._changed.notify_all()

    def flush(self) -> None:
        """Return once everything taken is on the disk, or could not be written (see `error`)."""
        with self._changed:
            self._cut()
            while self._waiting or self._busy:
                self._changed.wait()

    def amend(self, members: Mapping[str, Any]) -> None:
        """Merge members into the manifest, whole or not at all.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        with self._manifest_lock:
            amended = self.manifest | plain(members)
            try:
                write_manifest(self.path, amended)
            except OSError as error:
                raise self._storage_error(self.path / "manifest.json", error) from None
            self.manifest = amended
            self._root = root_attributes(amended)

    def prefix(self, count: int) -> str:
        """Return a digest of the first lines of the index."""
        return prefixes(self._lines, self.segments, count)

    def truncate(self, count: int) -> None:
        """Forget, durably, what is not in the first ``count`` segments, and what waits to be stored.

        Killed on the way, the run has either all or the first segments; files that are no longer listed go when it is
        opened the next time.
        """
        with self._changed:
            self._open = _Batch(self._open.number)
            self._waiting.clear()
            while self._busy:
                self._changed.wait()
            try:
                if count < len(self.segments):
                    del self.segments[count:], self._lines[count:]
                    self._layouts = Layouts(self.segments)
                    write_atomically(self.path / INDEX, b"".join(line + b"\n" for line in self._lines))
                    remove_unlisted(self.path, self.segments)
            except OSError as error:
                self.error = self._storage_error(self.path / INDEX, error)
                raise self.error from None
            self._open = _Batch(count)

    def end(self, members: Mapping[str, Any]) -> None:
        """Store what is left, write the final manifest and release the lock.

        Raises
        ------
        StorageError
            If anything could not be written; the manifest then says failed, where it can still be written itself.
        """
        with self._changed:
            self._cut()
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self.ended = True
        final = {**members, "ended": now(), "segments": written(self.segments), "stored_bytes": self.stored_bytes}
        if self.error:
            final |= {"state": "failed", "reason": str(self.error)}
        try:
            self.amend(final)
        except StorageError as error:
            self.error = self.error or error
        finally:
            self._lock.release()
        if self.error:
            raise self.error

    def abandon(self) -> None:
        """End a run that nobody has closed, because the program ends or has dropped its writer."""
        if not self.ended and self.pid == os.getpid():
            with suppress(StorageError):
                self.end({"state": "interrupted", "reason": "the program ended without closing the run"})

    def _is_full(self) -> bool:
        batch = self._open
        if not batch.records:
            return False
        limits = self._limits
        return len(batch.records) >= limits.records or batch.bytes >= limits.bytes or batch.number == 0 or self._left() <= 0

    def _left(self) -> float:
        """Return how long the open batch may still wait (s)."""
        first = self._open.number == 0
        seconds = min(self._limits.seconds, _FIRST_SECONDS) if first else self._limits.seconds
        return self._open.begun + seconds - time.monotonic()

    def _cut(self) -> None:
        """Let the open batch wait for the thread. Ctrl-C in here may hand it over twice, but never loses it."""
        while len(self._waiting) >= _WAITING and not self._ending:
            self._changed.wait()
        if self._open.records:
            self._waiting.append(self._open)
            self._open = _Batch(self._open.number + 1)
            self._changed.notify_all()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if self.error is None and batch.number == len(self.segments):
                file = self.path / segment_file(batch.number)
                try:
                    self._store(file, batch)
                except Exception as error:
                    self.error = self._storage_error(file, error)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> _Batch | None:
        """Wait for a batch; cut the open one when its time has come, and give a sign of life now and then."""
        while True:
            with self._changed:
                if self._open.records and self._left() <= 0 and not self._waiting:
                    self._cut()
                if self._waiting:
                    self._busy = True
                    return self._waiting.popleft()
                if self._ending:
                    return None
                left = self._sign + _SIGN_SECONDS - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, self._left()) if self._open.records else left)
                    continue
            self._sign = time.monotonic()
            with suppress(Exception):  # what matters is found when a segment is stored
                if self._lock.held:
                    self.amend({"last_sign_of_life": now()})

    def _store(self, file: Path, batch: _Batch) -> None:
        if not self._lock.held:
            raise OSError(0, "the folder is no longer that of this run: it was removed or made again")
        free = shutil.disk_usage(self.path).free
        if batch.bytes > free:
            raise OSError(28, f"No space left on device: {batch.bytes:,} bytes are to be stored, {free:,} are free")
        image, outline = encode(batch.records, self._root)
        write_atomically(file, image)
        last = self.segments[-1].last_event if self.segments else -1
        segment = Segment(
            file=str(file.relative_to(self.path)),
            kinds=sorted({record.series.kind for record in batch.records}),
            first_event=batch.records[0].event,
            last_event=batch.records[-1].event,
            shapes=outline.shapes,
            sha256=hashlib.sha256(image).hexdigest(),
            bytes=len(image),
            run=self.manifest["run_id"],
            continues=batch.records[0].event == last,
            layout=outline.layout.record(),
            axes=outline.axes(),
        )
        line = index_line(self._layouts.told_in(len(self._lines), segment))
        append_line(self.path / INDEX, line)
        self._lines.append(line.encode())
        self.segments.append(segment)

    def _storage_error(self, file: Path, error: Exception) -> StorageError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        return StorageError(f"cannot write {file}: {reason}; the {len(self.segments)} segments before it are whole")


def remove_unlisted(run: Path, segments: Sequence[Segment]) -> None:
    """Remove segments that are not in the index, which lists these, and the temporaries of dead writers; nothing else."""
    for folder in (run, run / FOLDER):
        remove_abandoned(folder)
    listed = {segment.file.removeprefix(f"{FOLDER}/") for segment in segments}
    unlisted = [name for name in os.listdir(run / FOLDER) if SEGMENT.fullmatch(name) and name not in listed]
    for name in sorted(unlisted, reverse=True):
        os.unlink(run / FOLDER / name)
    if unlisted:
        synchronise_folder(run / FOLDER)
