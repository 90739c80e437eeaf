"""Stored runs side by side: rules, seeds, one table."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analysis.alignment import alignment_over_training, weight_drift
from analysis.differences import require_replicates
from analysis.statistics import Estimate, estimate, over_seeds
from analysis.storage import COMPARISON, runs_of
from analysis.trajectory import manifest, open_trajectory
from neurossl.errors import TrajectoryError
from neurossl.files import absolute
from neurossl.text import one_line

Record = dict[str, Any]


@dataclass(frozen=True)
class StoredRun:
    """One run on disk.

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

    @cached_property
    def _scalars(self) -> dict[str, xr.Dataset]:
        """Alignment (trusted only), activity and performance over events, as far as they were recorded."""
        seen = {"observers_seen": ("event", self.tree["observers_seen"].values)} if "event" in self.tree.coords else {}
        groups = {k: self.tree.children[k] for k in ("alignment", "activity", "performance") if k in self.tree.children}
        found = {kind: group.to_dataset(inherit=True) for kind, group in groups.items()}
        if "alignment" in found:
            found["alignment"] = alignment_over_training(self.tree)
        return {kind: dataset.load().assign_coords(seen) for kind, dataset in found.items()}

    @property
    def untrusted(self) -> int:
        """Number of comparisons of updates that are left out because they are not trustworthy."""
        return int(self._scalars["alignment"].attrs["masked"]) if "alignment" in self._scalars else 0

    @cached_property
    def drift(self) -> xr.DataArray | None:
        """How far the weights are from the start, (snapshot, pathway), or None if no weights were recorded."""
        return weight_drift(self.tree, self.pathways or None) if "weights" in self.tree.children else None

    def scalars(self, kind: str, name: str) -> xr.DataArray | None:
        """Return a variable of alignment, activity or performance over events, or None if it was not recorded."""
        found = self._scalars.get(kind)
        return None if found is None or name not in found.data_vars else found[name]

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

    @property
    def populations(self) -> list[str]:
        """Populations above the input, in the order of the network."""
        listed = (self.about.get("network") or {}).get("populations", [])
        return [p["name"] for p in listed if not p.get("input")]

    @property
    def input(self) -> str:
        """The input population."""
        listed = (self.about.get("network") or {}).get("populations", [])
        return next((p["name"] for p in listed if p.get("input")), "retina")

    @property
    def pathways(self) -> list[str]:
        """Feedforward pathways in the order of the network."""
        listed = (self.about.get("network") or {}).get("pathways", [])
        return [p["name"] for p in listed if p.get("kind") == "feedforward"]


class Comparison:
    """Runs of several rules with several seeds.

    Parameters
    ----------
    runs : sequence of StoredRun
    absent : sequence of Path
        Runs that were planned and have not begun.
    left_out : sequence of StoredRun
        Runs that are there and do not count, since they have not finished.

    Attributes
    ----------
    rules : dict of str to list of StoredRun
        By label, in the order in which they were given.
    """

    def __init__(self, runs: Sequence[StoredRun], absent: Sequence[Path] = (), left_out: Sequence[StoredRun] = ()) -> None:
        self.runs = list(runs)
        self.absent = list(absent)
        self.left_out = list(left_out)
        self.rules: dict[str, list[StoredRun]] = {}
        for run in self.runs:
            self.rules.setdefault(run.label, []).append(run)

    def finished(self) -> "Comparison":
        """Return the comparison of the runs that have finished: what others had when they ended is no result."""
        ended = [run for run in self.runs if run.about.get("state") == "finished"]
        return Comparison(ended, self.absent, [*self.left_out, *(run for run in self.runs if run not in ended)])

    @property
    def pathways(self) -> list[str]:
        """Feedforward pathways of all runs, in the order of the networks."""
        return list(dict.fromkeys(name for run in self.runs for name in run.pathways))

    @property
    def populations(self) -> list[str]:
        """Populations of all runs above the input, in the order of the networks."""
        return list(dict.fromkeys(name for run in self.runs for name in run.populations))

    @property
    def interventions(self) -> np.ndarray:
        """Observers seen when something was done to any of the simulations."""
        return np.unique(np.concatenate([np.empty(0), *(run.interventions for run in self.runs)]))

    def over_training(self, label: str, kind: str, name: str) -> xr.Dataset | None:
        """Return mean and 95 % interval over seeds of a scalar over events; None if no run recorded it."""
        found = [run.scalars(kind, name) for run in self.rules[label]]
        arrays = [a for a in found if a is not None]
        if not arrays:
            return None
        return over_seeds(_beside(arrays))

    def drift(self, label: str) -> xr.Dataset | None:
        """Return mean and 95 % interval over seeds of the relative distance of the weights from the start."""
        drifts = [run.drift for run in self.rules[label] if run.drift is not None]
        if not drifts:
            return None
        return over_seeds(_beside(drifts))

    def mean_alignment(self, label: str) -> dict[str, Estimate]:
        """Return, per feedforward pathway, the cosine with the reference averaged over training, then over seeds."""
        per_pathway: dict[str, list[float]] = {}
        for run in self.rules[label]:
            cosine = run.scalars("alignment", "cosine")
            if cosine is not None:
                for name in cosine["pathway"].values:
                    values = cosine.sel(pathway=name).where(cosine["event"] > 0).values
                    per_pathway.setdefault(str(name), []).append(_mean(values))
        return {name: estimate(per_pathway[name]) for name in self.pathways if name in per_pathway}

    def accuracies(self, label: str, measure: str = "probe_accuracy") -> dict[str, dict[str, np.ndarray]]:
        """Return, per population, the accuracy of a probe per seed at the start ("initial") and at the end ("final")."""
        found: dict[str, dict[str, list[float]]] = {}
        for run in self.rules[label]:
            values = run.scalars("performance", measure)
            if values is None:
                continue
            for name in [run.input, *run.populations]:
                if name in values["population"].values:
                    seen = values.sel(population=name).dropna("event")
                    if seen.size:
                        entry = found.setdefault(name, {"initial": [], "final": []})
                        at_start = int(seen["event"][0]) == 0
                        entry["initial"].append(float(seen[0]) if at_start else np.nan)
                        entry["final"].append(float(seen[-1]))
        return {name: {when: np.array(v) for when, v in entry.items()} for name, entry in found.items()}

    def unfinished(self) -> str:
        """Say which runs have not finished or not begun; nothing if all have finished."""
        states: dict[str, list[str]] = {}
        for run in (*self.runs, *self.left_out):
            if run.about.get("state") != "finished":
                states.setdefault(str(run.about.get("state")), []).append(f"{run.label} seed {run.about.get('seed', '-')}")
        if self.absent:
            states["not begun"] = [f"{path.parent.name}/{path.name}" for path in self.absent]
        count = sum(map(len, states.values()))
        parts = [f"{state}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" for state, names in states.items()]
        planned = len(self.runs) + len(self.left_out) + len(self.absent)
        return f"{count} of {planned} runs have not finished ({'; '.join(parts)})." if count else ""

    def table(self) -> list[Record]:
        """Return one record per rule with self-explaining column names; numbers as numbers, None where there is none."""
        return [self._record(label) for label in self.rules]

    def _record(self, label: str) -> Record:
        runs = self.rules[label]
        about = runs[0].about
        record: Record = {
            "rule": label,
            "objective": about.get("objective"),
            "transport": about.get("transport"),
            "information needed": ", ".join(about.get("needs") or []) or "nothing beyond the synapse",
            "reference": about.get("reference"),
            "seeds": len(runs),
            "states": ", ".join(sorted({str(run.about.get("state")) for run in runs})),
        }
        for name, value in self.mean_alignment(label).items():
            _put(record, f"cosine with reference, {name}", value)
        accuracies = self.accuracies(label)
        for name, entry in accuracies.items():
            if name == runs[0].input:
                _put(record, "linear probe accuracy, raw pixels", estimate(entry["final"]))
            else:
                _put(record, f"linear probe accuracy, {name}", estimate(entry["final"]))
                _put(record, f"linear probe accuracy before learning, {name}", estimate(entry["initial"]))
        for name, entry in self.accuracies(label, "knn_accuracy").items():
            where = "raw pixels" if name == runs[0].input else name
            _put(record, f"nearest-neighbour accuracy, {where}", estimate(entry["final"]))
        _put(record, "seconds of learning", estimate([run.about.get("seconds") or np.nan for run in runs]))
        return record

    def __repr__(self) -> str:
        return f"Comparison({len(self.runs)} runs: {', '.join(f'{k} x {len(v)}' for k, v in self.rules.items())})"


def _beside(arrays: Sequence[xr.DataArray]) -> xr.DataArray:
    """Return the runs of several seeds along a new axis; moments are those of the longest run."""
    axis = str(arrays[0].dims[0])
    longest = max(arrays, key=lambda a: a.sizes[axis])
    moments = {name: longest.coords[name] for name in ("observers_seen", "time") if name in longest.coords}
    plain = [a.drop_vars([n for n in ("observers_seen", "time") if n in a.coords]) for a in arrays]
    return xr.concat(plain, "seed", join="outer").assign_coords(moments)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _put(record: Record, column: str, value: Estimate) -> None:
    """Add a mean and its half-width as two columns; JSON has no NaN, so None stands for it."""
    record[f"{column} (mean)"] = None if np.isnan(value.mean) else value.mean
    record[f"{column} (95 % half-width)"] = None if np.isnan(value.half_width) else value.half_width


def open_comparison(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Comparison:
    """Return the comparison of stored runs.

    Parameters
    ----------
    paths : path or iterable of path
        Run folders, and folders with a ``comparison.json``, in any mixture.

    Raises
    ------
    TrajectoryError
        If a path is neither, or a comparison holds no run; if runs of one rule differ in anything but the seed, or are the
        same run twice.
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
    several = {run.path.resolve() for run in runs}
    if len(several) < len(runs):
        raise TrajectoryError("a run is given twice: name each run folder or comparison once")
    comparison = Comparison(runs, absent)
    for same in comparison.rules.values():
        require_replicates([(run.path, run.about) for run in same])
    return comparison
