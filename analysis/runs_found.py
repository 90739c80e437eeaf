"""Stored runs, found by the paths of run folders, exported files and comparisons, and which of them count."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis.schema import LABELS, TENSOR_KINDS
from analysis.storage import COMPARISON, runs_of
from analysis.trajectory import manifest, open_trajectory
from neurossl.errors import TrajectoryError
from neurossl.files import absolute
from neurossl.text import one_line

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True)
class StoredRun:
    """One run on disk: a folder, or an exported file.

    Attributes
    ----------
    path : Path
    about : dict
        Its manifest.
    """

    path: Path
    about: Mapping[str, Any]

    @cached_property
    def tree(self) -> xr.DataTree:
        """The lazy tree of the trajectory."""
        return open_trajectory(self.path)

    @property
    def label(self) -> str:
        """Name of the rule for people."""
        return one_line(self.about.get("label") or self.about.get("rule") or self.path.name)

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return one_line(self.about.get("rule") or self.about.get("label") or self.path.name)

    @property
    def twin_of(self) -> str | None:
        """Label of the rule whose run this repeats, from the same weights on other stimuli; None of every other run."""
        return self.about.get("twin_of")

    @property
    def state(self) -> str:
        """Whether it has finished, or how it stands; an exported file says only what was so when it was made."""
        state = str(self.about.get("state"))
        return "running when it was exported" if state == "running" and self.path.is_file() else state

    @property
    def name(self) -> str:
        """The run for people: rule and seed."""
        return f"{self.label} seed {self.about.get('seed', '-')}"

    @cached_property
    def incomplete(self) -> str:
        """Why what the run has at its end is not what it has after learning; "" if it is.

        A run is complete if it has finished and has come to its budget, as far as its recorders tell: what is left may be
        less than the longest time between two of its records.
        """
        if self.state != "finished":
            return self.state + (f": {one_line(self.about['reason'])}" if self.about.get("reason") else "")
        budget = self.about.get("budget")
        events = np.asarray(self.tree.coords["event"].values if "event" in self.tree.coords else [])
        if not budget or not events.size:
            return ""
        pause = int(np.diff(events).max()) if events.size > 1 else 0
        return "" if events[-1] + pause >= budget else f"stopped at event {events[-1]} of {budget}"

    @cached_property
    def interventions(self) -> np.ndarray:
        """Observers seen when something was done to the simulation, as far as it lies within what was recorded."""
        parts = [(self.tree.to_dataset(), "event")] + [(leaf.to_dataset(), "snapshot") for leaf in self.tree.leaves]
        known = {
            int(event): int(seen)
            for part, axis in parts
            if part.sizes.get(axis) and "observers_seen" in part.coords
            for event, seen in zip(part[axis].values, part["observers_seen"].values, strict=True)
        }
        moments = [entry["moment"] for entry in self.about.get("interventions") or () if "moment" in entry]
        events = sorted(known)
        inside = [moment for moment in moments if events and events[0] <= moment <= events[-1]]
        return np.unique(np.interp(inside, events, [known[event] for event in events])) if inside else np.empty(0)

    @cached_property
    def populations(self) -> list[str]:
        """Populations above the input, in the order of the network; of a run that stored no network, those recorded."""
        listed = [p["name"] for p in self._listed("populations") if not p.get("input")]
        return listed or [name for name in self._recorded("population") if name != self.input]

    @cached_property
    def input(self) -> str:
        """The input population."""
        inputs = [p["name"] for p in self._listed("populations") if p.get("input")]
        ends = [name.partition("->") for name in self.pathways]
        posts = {post for _, _, post in ends}
        return next(iter([*inputs, *(pre for pre, _, _ in ends if pre not in posts)]), "retina")

    @cached_property
    def pathways(self) -> list[str]:
        """Feedforward pathways in the order of the network, or those recorded."""
        listed = self._listed("pathways")
        if not listed:
            return [name for name in self._recorded("pathway") if "=>" not in name]
        return [p["name"] for p in listed if p.get("kind", "feedforward") == "feedforward"]

    @cached_property
    def feedback(self) -> list[str]:
        """Feedback pathways in the order of the network, or those recorded."""
        listed = self._listed("pathways")
        if not listed:
            return [name for name in self._recorded("pathway") if "=>" in name]
        return [p["name"] for p in listed if p.get("kind", "feedforward") != "feedforward"]

    def _recorded(self, what: str) -> list[str]:
        """Return the names of pathways or populations of which anything was recorded, as they come."""
        tables = [self.tree.children[kind] for kind, dim in LABELS.items() if dim == what and kind in self.tree.children]
        names = [str(name) for table in tables for name in table.coords[what].values]
        if what == "pathway":
            groups = [self.tree.children[kind] for kind in TENSOR_KINDS if kind in self.tree.children]
            names += [str(node.attrs.get("pathway", key)) for group in groups for key, node in group.children.items()]
        return list(dict.fromkeys(names))

    def _listed(self, what: str) -> list[dict[str, Any]]:
        network = self.about.get("network")
        return list(network.get(what) or []) if isinstance(network, Mapping) else []


def find_runs(paths: Paths) -> tuple[list[StoredRun], list[Path]]:
    """Return the runs that paths name, and those that were planned and have not begun.

    Parameters
    ----------
    paths : path or iterable of path
        Run folders, exported files, and folders with a ``comparison.json``, in any mixture.

    Raises
    ------
    TrajectoryError
        If a path is none of them, there is no run, or a run is named twice or is a copy of another.
    """
    runs: list[StoredRun] = []
    absent: list[Path] = []
    for given in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = absolute(given)
        index = path / COMPARISON
        folders, missing = runs_of(index) if index.is_file() else ([path], [])
        runs += [StoredRun(folder, manifest(folder)) for folder in folders]
        absent += missing
    if not runs:
        raise TrajectoryError("there is no run to compare yet: give run folders or the folder of a comparison")
    _require_originals(runs)
    return runs, absent


def split_twins(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[StoredRun]]:
    """Return the runs that are compared, and those that repeat one of them on other stimuli: no result, but its ceiling.

    Where there are twins alone, they are what is compared.
    """
    others = [run for run in runs if run.twin_of is None]
    return (others, [run for run in runs if run.twin_of is not None]) if others else (list(runs), [])


def _require_originals(runs: Sequence[StoredRun]) -> None:
    places: set[Path] = set()
    known: dict[str, Path] = {}
    for run in runs:
        place = run.path.resolve()
        if place in places:
            raise TrajectoryError("a run is given twice: name each run folder or comparison once")
        places.add(place)
        number = run.about.get("run_id")
        if number is not None and number in known:
            raise TrajectoryError(f"{run.path} is a copy of {known[number]}: the same run cannot count twice")
        if number is not None:
            known[number] = run.path


def split_complete(runs: Sequence[StoredRun], unfinished: str) -> tuple[list[StoredRun], list[tuple[StoredRun, str]]]:
    """Return the runs that count and those that are left out, with why.

    Parameters
    ----------
    runs : sequence of StoredRun
    unfinished : {"leave out", "keep", "refuse"}
        What to do with runs that have not finished or have stopped before their budget.

    Raises
    ------
    TrajectoryError
        If they are to be refused, or there are no others; names them.
    ValueError
        If ``unfinished`` is something else.
    """
    if unfinished not in ("leave out", "keep", "refuse"):
        raise ValueError(f"unfinished is {unfinished!r}: expected 'leave out', 'keep' or 'refuse'")
    if unfinished == "keep":
        return list(runs), []
    out = {number: run.incomplete for number, run in enumerate(runs) if run.incomplete}
    kept = [run for number, run in enumerate(runs) if number not in out]
    if out and (unfinished == "refuse" or not kept):
        first = next(iter(out))
        more = f", and {len(out) - 1} more" if len(out) > 1 else ""
        raise TrajectoryError(
            f"{len(out)} of {len(runs)} runs have not finished ({runs[first].path}: {out[first]}{more}): what they have so "
            "far is not what they have after learning; unfinished='keep' opens them"
            + ("" if unfinished != "refuse" or not kept else ", unfinished='leave out' the others")
        )
    return kept, [(runs[number], why) for number, why in out.items()]
