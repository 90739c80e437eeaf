"""The writer of trajectories: what a simulation tells it is on the disk, whole and checksummed, while the run goes on.

Records are gathered in memory and cut into segments between two events, when there are enough of them, or enough bytes, or
the oldest has waited long enough. One background thread turns each segment into the bytes of a NetCDF file and puts it in
place: ``.tmp``, fsync, rename, fsync of the folder, line in ``segments.jsonl``. The queue to it is short, so that a slow
disk slows the run instead of eating the memory. Killed at any moment, a run keeps every segment in its index.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import queue
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from analysis.schema import LABELS, SCHEMA_VERSION, TENSOR_KINDS, VARIABLES, root_attributes
from analysis.segment import Record, Series, encode
from analysis.storage import (
    FOLDER,
    INDEX,
    Segment,
    append_line,
    index_line,
    netcdf_lock,
    plain,
    segment_file,
    unsuitable_member,
    write_atomically,
    write_manifest,
)
from neurossl.errors import OptionError, StorageError, TrajectoryError

LIBRARIES = ("neurossl", "torch", "torchvision", "brian2", "numpy", "scipy", "xarray", "netCDF4", "scikit-learn")


@dataclass
class _Batch:
    """The records that will become one segment."""

    number: int
    records: list[Record] = field(default_factory=list)
    bytes: int = 0
    begun: float = field(default_factory=time.monotonic)


class TrajectoryWriter:
    """Store a run in a new folder, as the sink of the recorders of a simulation.

    Use it as a context manager: leaving normally closes the run as finished, an exception as failed, Ctrl-C as interrupted;
    in each case everything recorded so far is stored.

    Parameters
    ----------
    path : str or path
        The run folder; made here, and refused if there is anything in it.
    configuration : mapping
        What the manifest says of the run: protocol, rule, seed, dataset, network and whatever else is JSON.
    segment_records, segment_bytes, segment_seconds : int, int, float
        A segment is cut at the next event once it has so many records, bytes, or has waited so long (wall-clock seconds):
        what a kill can cost.

    Raises
    ------
    OptionError
        If the folder has something in it or cannot be written, or the configuration is no JSON.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        configuration: Mapping[str, Any],
        *,
        segment_records: int = 1024,
        segment_bytes: int = 32 * 2**20,
        segment_seconds: float = float("inf"),
    ) -> None:
        self.path = Path(path)
        self._limits = (segment_records, segment_bytes, segment_seconds)
        try:
            about = plain(configuration)
        except TypeError as error:
            raise OptionError(f"the configuration of {self.path} cannot be stored: {error}") from None
        if fault := unsuitable_member(about):
            raise OptionError(f"the configuration of {self.path} cannot be stored: {fault}")
        self._root = root_attributes(about)
        self._manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "state": "running",
            "reason": None,
            **about,
            "versions": _versions() | about.get("versions", {}),
            "hardware": _hardware() | about.get("hardware", {}),
            "started": _now(),
        }
        self._series: dict[tuple[str, str], Series] = {}
        self._sizes: dict[tuple[str, str, str], int] = {}
        self._dtypes: dict[tuple[str, str, str], np.dtype] = {}
        self._last: dict[tuple[str, str, str], int] = {}
        self._event = -1
        self._batch = _Batch(0)
        self._stored = 0
        self._stored_bytes = 0
        self._error: StorageError | None = None
        self._closed = False
        self._create()
        netcdf_lock()  # imports xarray here rather than in the thread
        self._queue: queue.Queue[_Batch | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._work, name=f"trajectory {self.path}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at event {self._event}"
        return f"TrajectoryWriter({str(self.path)!r}, {self._stored} segments, {self._stored_bytes} bytes, {state})"

    def declare(
        self,
        kind: str,
        name: str,
        dims: Mapping[str, tuple[str, ...]],
        coords: Mapping[str, tuple[str, np.ndarray]] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what will be recorded under ``name``, once, before its first record.

        Several recorders may share the name of a kind of scalars, each with its own variables.

        Parameters
        ----------
        kind : {"weights", "updates", "alignment", "activity", "performance"}
            Tensors of a pathway, or scalars of a pathway or population.
        name : str
            The pathway or population.
        dims : mapping of variable to tuple of str
            The axes behind the leading snapshot axis, such as ``{"weight": ("post", "pre")}``; ``()`` for scalars.
        coords : mapping of name to (dimension, array), optional
            What lies along those axes, such as which synapses were chosen.
        attrs : mapping, optional
            Further attributes of a group of tensors: numbers or strings.

        Raises
        ------
        OptionError
            If the schema knows no such kind or variable.
        TrajectoryError
            If the name is taken.
        """
        if kind not in VARIABLES:
            raise OptionError(f"unknown kind {kind!r} for {name!r}: expected one of {', '.join(VARIABLES)}")
        unknown = [variable for variable in dims if variable not in VARIABLES[kind]]
        if unknown:
            known = ", ".join(VARIABLES[kind])
            raise OptionError(f"unknown variable {unknown[0]!r} of {kind} {name!r}: expected one of {known}")
        series = Series(kind, name, dict(dims), dict(coords or {}), dict(attrs or {}))
        if kind in TENSOR_KINDS:
            taken = [other.name for other in self._series.values() if other.group == series.group]
            if taken:
                raise TrajectoryError(f"{kind} of {name!r} would be stored as {series.group}, which {taken[0]!r} has taken")
            self._sizes |= {(kind, name, dim): len(values) for dim, values in series.coords.values()}
        elif (kind, name) in self._series:
            series = Series(kind, name, {**self._series[kind, name].dims, **series.dims}, {}, {})
        self._series[kind, name] = series

    def record(
        self,
        kind: str,
        name: str,
        event: int,
        time: float,
        observers_seen: int,
        values: Mapping[str, np.ndarray | float | bool],
    ) -> None:
        """Store values of ``name`` after ``event``; returns at once unless the disk is behind.

        Parameters
        ----------
        kind, name : str
            As declared.
        event : int
            Learning moments completed; 0 is the initial state. Never decreases.
        time : float
            Biological time in s.
        observers_seen : int
            Observers shown so far.
        values : mapping of variable to array or number
            Tensors: every declared variable, as a host array that nobody changes any more. Scalars: any of those declared.

        Raises
        ------
        StorageError
            If an earlier segment could not be written (disk full, folder gone).
        TrajectoryError
            If the values are not as declared, not shaped as before, or the event is in the past.
        """
        if self._error:
            raise self._error
        if self._closed:
            raise TrajectoryError(f"{self.path} is closed: nothing more can be recorded")
        where = f"{kind} of {name!r} at event {event}"
        if (kind, name) not in self._series:
            raise TrajectoryError(f"{where} was never declared")
        if event < self._event:
            raise TrajectoryError(f"{where} comes too late: event {self._event} is already recorded")
        series = self._series[kind, name]
        ready = {key: self._checked(series, key, value, where) for key, value in values.items()}
        if kind in TENSOR_KINDS and len(ready) != len(series.dims):
            raise TrajectoryError(f"{where}: expected {', '.join(series.dims)}, got {', '.join(ready)}")
        for key in ready:
            if self._last.get((kind, name, key), -1) >= event:
                raise TrajectoryError(f"{where}: {key} is already recorded")
        if event > self._event and self._is_full():
            self._cut()
        self._last.update({(kind, name, key): event for key in ready})
        self._batch.records.append(Record(series, int(event), float(time), int(observers_seen), ready))
        self._batch.bytes += sum(np.asarray(value).nbytes for value in ready.values())
        self._event = event

    def announce(self, expected_bytes: int) -> str:
        """Say how much the run will store, note it in the manifest, and check it against the free disk.

        Raises
        ------
        OptionError
            If there is not enough room.
        """
        free = shutil.disk_usage(self.path).free
        if expected_bytes > free:
            raise OptionError(
                f"the recording would take {expected_bytes / 1e9:.2f} GB in {self.path}, only {free / 1e9:.2f} GB are free: "
                "record less often, fewer synapses, or elsewhere"
            )
        self._manifest["expected_bytes"] = int(expected_bytes)
        write_manifest(self.path, self._manifest)
        return f"will store about {expected_bytes / 1e6:.1f} MB in {self.path} ({free / 1e9:.1f} GB free)"

    def flush(self) -> None:
        """Return once everything recorded is on the disk; call it between events, as when a checkpoint is written.

        Raises
        ------
        StorageError
            If it could not be written.
        """
        self._cut()
        self._queue.join()
        if self._error:
            raise self._error

    def close(self, state: str = "finished", reason: str | None = None, **manifest_updates: Any) -> None:
        """Store what is left and write the final manifest; a second call does nothing.

        Parameters
        ----------
        state : {"finished", "failed", "interrupted"}
            How the run ended.
        reason : str, optional
            Why, in one line.
        **manifest_updates
            Further members of the manifest, such as the wall-clock ``seconds`` of learning.

        Raises
        ------
        StorageError
            If anything could not be written; the manifest then says failed, where it can still be written itself.
        """
        if state not in ("finished", "failed", "interrupted"):
            raise OptionError(f"a run cannot end as {state!r}: expected finished, failed or interrupted")
        if self._closed:
            return
        updates = plain(manifest_updates)
        self._cut()
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        if self._error:
            state, reason = "failed", str(self._error)
        self._manifest |= {"ended": _now(), **updates, "state": state, "reason": reason}
        self._manifest |= {"segments": self._stored, "stored_bytes": self._stored_bytes}
        try:
            write_manifest(self.path, self._manifest)
        except OSError as error:
            self._error = self._error or self._storage_error(self.path / "manifest.json", error)
        if self._error:
            raise self._error

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(StorageError):  # what is already on its way says more
            if isinstance(error, KeyboardInterrupt):
                self.close("interrupted", "interrupted from the keyboard")
            else:
                self.close("failed", " ".join(f"{type(error).__name__}: {error}".split()))

    def _create(self) -> None:
        try:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise OptionError(f"{self.path} exists already: choose a new folder for the run or remove it first")
            (self.path / FOLDER).mkdir(parents=True)
            write_manifest(self.path, self._manifest)
        except OSError as error:
            raise OptionError(f"cannot write a run to {self.path}: {error.strerror}") from None

    def _checked(self, series: Series, variable: str, value: Any, where: str) -> Any:
        """Return a value as it will be stored, or refuse it here rather than in the thread."""
        if variable not in series.dims:
            raise TrajectoryError(f"{where}: {variable!r} was never declared, only {', '.join(series.dims)}")
        if series.kind in LABELS:
            return bool(value) if VARIABLES[series.kind][variable].boolean else float(value)
        array = np.asarray(value)
        if array.dtype == np.float16:
            array = array.astype(np.float32)  # NetCDF has no half precision
        dims = series.dims[variable]
        if array.ndim != len(dims):
            raise TrajectoryError(f"{where}: {variable} has shape {array.shape}, expected the axes ({', '.join(dims)})")
        for dim, size in zip(dims, array.shape, strict=True):
            known = self._sizes.setdefault((series.kind, series.name, dim), size)
            if size != known:
                raise TrajectoryError(f"{where}: {variable} has {size} along {dim!r}, expected {known}")
        known_dtype = self._dtypes.setdefault((series.kind, series.name, variable), array.dtype)
        if array.dtype != known_dtype:
            raise TrajectoryError(f"{where}: {variable} is {array.dtype}, expected {known_dtype} as before")
        return array

    def _is_full(self) -> bool:
        records, size, seconds = self._limits
        batch = self._batch
        if not batch.records:
            return False
        return len(batch.records) >= records or batch.bytes >= size or time.monotonic() - batch.begun >= seconds

    def _cut(self) -> None:
        """Hand the open batch to the thread. Ctrl-C in here may hand it over twice, but never loses it."""
        if self._batch.records and not self._closed:
            self._queue.put(self._batch)
            self._batch = _Batch(self._batch.number + 1)

    def _work(self) -> None:
        while (batch := self._queue.get()) is not None:
            if self._error is None and batch.number == self._stored:
                file = self.path / segment_file(batch.number)
                try:
                    self._store(file, batch.records)
                except Exception as error:
                    self._error = self._storage_error(file, error)
            self._queue.task_done()

    def _store(self, file: Path, records: list[Record]) -> None:
        image, shapes = encode(records, self._root)
        write_atomically(file, image)
        segment = Segment(
            file=str(file.relative_to(self.path)),
            kinds=sorted({record.series.kind for record in records}),
            first_event=records[0].event,
            last_event=records[-1].event,
            shapes=shapes,
            sha256=hashlib.sha256(image).hexdigest(),
            bytes=len(image),
        )
        append_line(self.path / INDEX, index_line(segment))
        self._stored += 1
        self._stored_bytes += len(image)

    def _storage_error(self, file: Path, error: Exception) -> StorageError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        return StorageError(f"cannot write {file}: {reason}; the {self._stored} segments before it are whole")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that matter, without importing them."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return versions


def _hardware() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "platform": platform.platform()}
