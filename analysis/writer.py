"""The writer of trajectories: what a simulation tells it is on the disk, whole and checksummed, while the run goes on.

It is the `neurossl.store.Store` of a run folder: it checks what is recorded against what was declared, in the thread that
records, and hands it to the `analysis.journal.Journal` that writes.
"""

from __future__ import annotations

import math
import multiprocessing.util
import operator
import os
import shutil
import weakref
from collections.abc import Mapping
from contextlib import suppress
from itertools import accumulate
from types import TracebackType
from typing import Any

from analysis.index import written
from analysis.journal import Journal, Limits
from analysis.opening import create, reopen
from analysis.schema import LABELS
from analysis.sealed import plain
from analysis.segment import Record
from analysis.series import Series, declared_series
from analysis.storage import configuration_fault
from analysis.stored import StoredLayout, recorded_at
from neurossl.errors import OptionError, StorageError, TrajectoryError
from neurossl.files import absolute
from neurossl.store import Coords, Variable
from neurossl.text import one_line

_OWN = {
    *("schema_version", "run_id", "state", "reason", "process", "last_sign_of_life", "started", "ended"),
    *("segments", "stored_bytes", "expected_bytes", "resumed"),
}
"""Members of the manifest that the writer alone writes."""
_MAY_CHANGE = ("versions", "hardware", "command", "seconds")
"""Members that may be others when a run is gone on with."""


class TrajectoryWriter:
    """Store a run in a new folder.

    Use it as a context manager: leaving normally closes the run as finished, an exception as failed, Ctrl-C and other
    signals as interrupted, with what the exception says as the reason; in each case everything recorded so far is stored. So
    it is when the program ends without closing it.

    Parameters
    ----------
    path : str or path
        The run folder; made here, and refused if there is anything in it.
    segment_records, segment_bytes, segment_seconds : int, int, float
        A segment is cut once it has so many bytes, or has waited so long (wall-clock seconds): what a kill can cost. The
        number of records is a high bound, for the memory that many small ones take.

    Attributes
    ----------
    path : Path
        Absolute.

    Raises
    ------
    OptionError
        If the folder has something in it or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        segment_records: int = 2**15,
        segment_bytes: int = 24 * 2**20,
        segment_seconds: float = 30.0,
    ) -> None:
        self.path = absolute(path)
        self._begin(create(self.path, _limits(segment_records, segment_bytes, segment_seconds)))

    @classmethod
    def reopen(
        cls,
        path: str | os.PathLike[str],
        *,
        segment_records: int = 2**15,
        segment_bytes: int = 24 * 2**20,
        segment_seconds: float = 30.0,
    ) -> TrajectoryWriter:
        """Go on with a run that is there, finished or not, after its last record; see `rewind`.

        What is described and declared must equal what is stored. Segments that a killed writer had not listed yet, and its
        temporary files, are removed.

        Raises
        ------
        TrajectoryError
            If it is no run, or anything of it is damaged.
        StorageError
            If another process writes it.
        OptionError
            If it cannot be written.
        """
        writer = cls.__new__(cls)
        writer.path = absolute(path)
        journal, layout = reopen(writer.path, _limits(segment_records, segment_bytes, segment_seconds))
        writer._begin(journal)
        writer._layout = layout
        writer._described = any(key in journal.manifest for key in ("protocol", "rule", "network"))
        writer._set_place()
        return writer

    def _begin(self, journal: Journal) -> None:
        self._journal = journal
        self._series: dict[tuple[str, str], Series] = {}
        self._layout: StoredLayout | None = None
        self._described = False
        self._event = -1
        self._now: set[tuple[str, str, str]] = set()
        weakref.finalize(self, journal.abandon)
        if multiprocessing.parent_process() is not None:  # which ends without what Python does at its exit
            multiprocessing.util.Finalize(self, journal.abandon, exitpriority=10)

    def __repr__(self) -> str:
        state = "closed" if self._journal.ended else f"at event {self._event}"
        stored = f"{len(self._journal.segments)} segments, {self._journal.stored_bytes} bytes"
        return f"TrajectoryWriter({str(self.path)!r}, {stored}, {state})"

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Say what the run is: protocol, rule, seed, dataset, network and whatever else is JSON; it is stored at once.

        Parameters
        ----------
        manifest : mapping
            Of a run that goes on: what is stored already, or more.

        Raises
        ------
        OptionError
            If it is no JSON, or not what readers count on.
        TrajectoryError
            If it was described before and otherwise, or something is recorded already.
        """
        self._require_open()
        about = self._configuration(manifest)
        stored = self._journal.manifest
        if not self._described and self._event >= 0 and not stored.get("resumed"):
            raise TrajectoryError(f"{self.path}: a run is described before its first record")
        for key, value in about.items():
            if key in stored and key not in _MAY_CHANGE and stored[key] != value:
                was, given = one_line(repr(stored[key]))[:200], one_line(repr(value))[:200]
                raise TrajectoryError(f"{self.path} was made with {key} = {was}, not {given}")
        self._described = True
        for key in ("versions", "hardware"):
            about[key] = stored.get(key, {}) | (about.get(key) or {})
        self._journal.amend(about)

    def amend(self, members: Mapping[str, Any]) -> None:
        """Merge members into the manifest, such as ``interventions``; whole or not at all, and at once.

        Raises
        ------
        OptionError
            If they are no JSON, or not what readers count on.
        StorageError
            If they cannot be written.
        """
        self._require_open()
        self._journal.amend(self._configuration(members))

    def declare(
        self,
        kind: str,
        name: str,
        variables: Mapping[str, Variable],
        coords: Coords | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what will be recorded under ``name``, once, before its first record.

        Several recorders may share the name of a kind of scalars, each with its own variables.

        Parameters
        ----------
        kind : str
            Of the schema, "weights", "updates", "alignment", "activity" or "performance", of which it knows the variables,
            units and meanings; or any other word, of which the variables say so themselves.
        name : str
            The pathway, population, or whatever it is recorded of.
        variables : mapping of str to Variable
            Such as ``{"weight": Variable(("post", "pre"))}``; of scalars without dims.
        coords : mapping of name to (dimension or dimensions, array), optional
            What lies along those axes, such as which synapses were chosen, or who their presynaptic partners are.
        attrs : mapping, optional
            Further attributes of the group: numbers or text.

        Raises
        ------
        OptionError
            If it cannot be stored so.
        TrajectoryError
            If the name is taken, or the run that is gone on with holds it otherwise.
        """
        self._require_open()
        series = declared_series(kind, name, variables, coords or {}, attrs or {})
        before = self._series.get((kind, name))
        if kind in LABELS:
            series = before.with_variables(series) if before else series
        else:
            taken = [other.name for other in self._series.values() if other.kind == kind and other.group == series.group]
            if taken:
                remedy = "it is recorded twice" if taken[0] == name else f"{taken[0]!r} is stored there"
                raise TrajectoryError(
                    f"{kind} of {name!r} would be stored as {series.group}, but {remedy}: give one of the recorders another "
                    "kind= or other names, or the run a folder of its own"
                )
            if self._layout is not None:
                self._layout.require(series, self.path)
        self._series[kind, name] = series

    def record(self, kind: str, name: str, event: int, time: float, observers_seen: int, values: Mapping[str, Any]) -> None:
        """Store a copy of values of ``name`` after ``event``; returns at once unless the disk is behind.

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
            Scalars: any of those declared. Everything else: every declared variable, as an array on the host.

        Raises
        ------
        StorageError
            If an earlier segment could not be written (disk full, folder gone).
        TrajectoryError
            If the values are not as declared, not shaped as before, or the event is in the past; nothing of them is stored.
        """
        self._require_open()
        if self._journal.error:
            raise self._journal.error
        where = f"{one_line(kind)} of {one_line(name)!r} at event {event}"
        if (kind, name) not in self._series:
            raise TrajectoryError(f"{where} was never declared")
        event, time, observers_seen = _moment(event, time, observers_seen, where)
        if event < self._event:
            raise TrajectoryError(f"{where} comes too late: event {self._event} is already recorded")
        for key in values if event == self._event else ():
            if (kind, name, key) in self._now:
                raise TrajectoryError(f"{where}: {key} is already recorded")
        series = self._series[kind, name]
        ready = series.checked(values, where)
        self._journal.put(Record(series, event, time, observers_seen, ready), event > self._event)
        if event > self._event:
            self._event = event
            self._now = set()
        self._now |= {(kind, name, key) for key in ready}

    def announce(self, expected_bytes: int) -> str:
        """Say how much the run will store, note it in the manifest, and check it against the free disk.

        Raises
        ------
        OptionError
            If there is not enough room.
        """
        self._require_open()
        free = shutil.disk_usage(self.path).free
        if expected_bytes > free:
            raise OptionError(
                f"the recording would take {expected_bytes / 1e9:.2f} GB in {self.path}, only {free / 1e9:.2f} GB are free: "
                "record less often, fewer synapses, or elsewhere"
            )
        self._journal.amend({"expected_bytes": int(expected_bytes)})
        return f"will store about {expected_bytes / 1e6:.1f} MB in {self.path} ({free / 1e9:.1f} GB free)"

    def commit(self) -> dict[str, Any]:
        """Return once everything recorded is on the disk, with a position (JSON) to which `rewind` can come back.

        Raises
        ------
        StorageError
            If it could not be written.
        """
        self._require_open()
        journal = self._journal
        journal.flush()
        if journal.error:
            raise journal.error
        return {
            "run_id": journal.manifest["run_id"],
            "segments": written(journal.segments),
            "event": self._event,
            "digest": journal.prefix(len(journal.segments)),
        }

    def rewind(self, position: Mapping[str, Any]) -> None:
        """Forget, durably, everything recorded after a position that `commit` returned, of this process or an earlier one.

        Raises
        ------
        TrajectoryError
            If it is no position of this run as it is stored; nothing is forgotten then.
        StorageError
            If it cannot be written.
        """
        self._require_open()
        journal = self._journal
        journal.flush()
        if journal.error:
            raise journal.error
        stored = position.get("segments")
        reached = list(accumulate((segment.merges for segment in journal.segments), initial=0))
        if position.get("run_id") != journal.manifest["run_id"]:
            raise TrajectoryError(f"{self.path}: the position to go back to is of another run")
        if not isinstance(stored, int) or not 0 <= stored <= reached[-1]:
            raise TrajectoryError(f"{self.path}: the position to go back to has {stored} segments, {reached[-1]} are stored")
        if stored not in reached:
            raise TrajectoryError(f"{self.path}: the position to go back to lies within segments that compact has made one")
        count = reached.index(stored)
        if position.get("digest") != journal.prefix(count):
            raise TrajectoryError(f"{self.path}: the position to go back to is before other segments than those stored")
        journal.truncate(count)
        self._layout = StoredLayout.read(self.path, journal.segments)
        for series in self._series.values():
            self._layout.forget(series)
        self._set_place()

    def close(self, state: str = "finished", reason: str | None = None, **members: Any) -> None:
        """Store what is left and write the final manifest; a second call does nothing.

        Parameters
        ----------
        state : {"finished", "failed", "interrupted"}
            How the run ended.
        reason : str, optional
            Why, in one line.
        **members
            Further members of the manifest, such as the wall-clock ``seconds`` of learning.

        Raises
        ------
        StorageError
            If anything could not be written; the manifest then says failed, where it can still be written itself.
        """
        if state not in ("finished", "failed", "interrupted"):
            raise OptionError(f"a run cannot end as {state!r}: expected finished, failed or interrupted")
        if self._journal.ended:
            return
        self._require_own_process()
        about = self._configuration(members)
        self._journal.end({**about, "state": state, "reason": reason})

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._journal.pid != os.getpid():
            return  # a child that was forked within leaves: the run goes on in its parent
        if error is None:
            self.close()
            return
        with suppress(StorageError):  # what is already on its way says more
            if isinstance(error, KeyboardInterrupt):
                self.close("interrupted", one_line(error) or "interrupted from the keyboard")
            else:
                self.close("failed", " ".join(f"{type(error).__name__}: {error}".split()))

    def _configuration(self, members: Mapping[str, Any]) -> dict[str, Any]:
        try:
            about = plain(members)
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionError(f"the configuration of {self.path} cannot be stored: {one_line(error)}") from None
        if own := sorted(_OWN & about.keys()):
            raise OptionError(f"the configuration of {self.path} cannot be stored: {own[0]} is written by the writer itself")
        if fault := configuration_fault(about):
            raise OptionError(f"the configuration of {self.path} cannot be stored: {fault}")
        return about

    def _require_own_process(self) -> None:
        if self._journal.pid != os.getpid():
            raise TrajectoryError(
                f"{self.path} is written by process {self._journal.pid}, of which this one is a forked child: "
                "make a writer of its own, for a folder of its own, in the child"
            )

    def _require_open(self) -> None:
        self._require_own_process()
        if self._journal.ended:
            raise TrajectoryError(f"{self.path} is closed: nothing more can be recorded")

    def _set_place(self) -> None:
        """Go on after the last stored record."""
        segments = self._journal.segments
        self._event = segments[-1].last_event if segments else -1
        self._now = recorded_at(self.path, segments, self._event)


def _limits(records: int, size: int, seconds: float) -> Limits:
    if records < 1 or size < 1 or not seconds >= 0:
        raise OptionError(f"segments of {records} records, {size} bytes, {seconds} s: expected at least 1, 1 and 0")
    return Limits(records, size, seconds)


def _moment(event: Any, time: Any, observers_seen: Any, where: str) -> tuple[int, float, int]:
    try:
        moment = operator.index(event), float(time), operator.index(observers_seen)
    except (TypeError, ValueError):
        raise TrajectoryError(f"{where}: time {time!r} s, {observers_seen!r} observers: expected numbers") from None
    if not (0 <= moment[0] < 2**63 and math.isfinite(moment[1]) and 0 <= moment[2] < 2**63):
        raise TrajectoryError(f"{where}: time {time!r} s, {observers_seen!r} observers: expected finite numbers from 0")
    return moment
