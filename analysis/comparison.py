"""Stored runs side by side for people: what rules have learned and how close to backprop they were, over their seeds."""

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.alignment import alignment_over_training, why_untrusted
from analysis.closeness import relation
from analysis.comparison_tables import dataframe_of, dataset_of, html_of, record_of
from analysis.differences import require_replicates
from analysis.distances import weight_drift
from analysis.page_claims import Claim, claims, tree_of
from analysis.path_results import accumulated_records, accumulated_with_own_references
from analysis.pathway_weights import recorded_pathways
from analysis.runs import BY, merged, tree_of_runs
from analysis.runs_found import StoredRun, find_runs, split_twins
from analysis.runs_grouping import Grouping, group_runs, seed_of
from analysis.schema import LABELS
from analysis.side_by_side import side_by_side
from analysis.statistics import Estimate, estimate, over_seeds
from analysis.tables import Record

if TYPE_CHECKING:
    import pandas as pd


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
    runs : list of StoredRun
        Those that are compared.
    rules : dict of str to list of StoredRun
        By label, in the order in which they were given.
    """

    def __init__(self, runs: Sequence[StoredRun], absent: Sequence[Path] = (), left_out: Sequence[StoredRun] = ()) -> None:
        self.runs, self._twins = split_twins(runs)
        self.absent = list(absent)
        self.left_out = list(left_out)
        self.rules: dict[str, list[StoredRun]] = {}
        for run in self.runs:
            self.rules.setdefault(run.label, []).append(run)

    def finished(self) -> "Comparison":
        """Return the comparison of the runs that have come to their end: what others had when they stopped is no result."""
        return self._finished or self

    @cached_property
    def _finished(self) -> "Comparison | None":
        """That comparison; None where it is this one."""
        runs = [*self.runs, *self._twins]
        ended = [run for run in runs if not run.incomplete]
        if len(ended) == len(runs):
            return None
        return Comparison(ended, self.absent, [*self.left_out, *(run for run in runs if run.incomplete)])

    @cached_property
    def tree(self) -> xr.DataTree:
        """All runs as one lazy tree, by rule and seed; see `analysis.open_runs`.

        Tensors of one name that have different shapes cannot stand side by side: they are left out, and listed in
        ``tree.attrs["misfits"]``.
        """
        if not self.runs:
            return xr.DataTree()
        out = [(run, run.incomplete) for run in self.left_out]
        return tree_of_runs(self._grouping, BY, out, self.absent, misfits="leave out")

    @cached_property
    def twins(self) -> dict[str, xr.DataTree]:
        """Runs that repeat a rule's on other stimuli from the same weights, by its name in the tree: its own ceiling."""
        known = {label: [run for run in self._twins if run.twin_of == label] for label in self.rules}
        several = {self.names[label]: runs for label, runs in known.items() if runs}
        return {name: tree_of_runs(group_runs(runs, BY), BY, misfits="leave out") for name, runs in several.items()}

    @cached_property
    def accumulated(self) -> xr.Dataset | None:
        """How close the change of the weights is to that of each rule's own reference, with its ceiling, over training."""
        return accumulated_with_own_references(self)

    @cached_property
    def accumulated_table(self) -> list[Record]:
        """The same after learning, per rule and pathway, with tests; see `analysis.path_results.accumulated_records`."""
        return accumulated_records(self)

    @cached_property
    def claims(self) -> list[Claim]:
        """What may be claimed of readouts, corrected together; see `analysis.claims`."""
        return claims(self)

    @cached_property
    def relation(self) -> xr.Dataset:
        """Whether rules that are closer to backprop read out better; see `analysis.relation`, and what it raises."""
        return relation(tree_of(self))

    @cached_property
    def names(self) -> dict[str, str]:
        """What the rules are called along ``rule`` in the tree, by label."""
        grouping = self._grouping
        return {run.label: str(grouping.labels[0][rule]) for (rule, _), run in grouping.runs.items()}

    @cached_property
    def _grouping(self) -> Grouping:
        return group_runs(self.runs, BY)

    @property
    def pathways(self) -> list[str]:
        """Feedforward pathways of all runs, in the order of the networks."""
        return merged(run.pathways for run in self.runs)

    @property
    def feedback(self) -> list[str]:
        """Feedback pathways of all runs, in the order of the networks."""
        return merged(run.feedback for run in self.runs)

    @property
    def populations(self) -> list[str]:
        """Populations of all runs above the input, in the order of the networks."""
        return merged(run.populations for run in self.runs)

    @property
    def interventions(self) -> np.ndarray:
        """Observers seen when something was done to any of the simulations."""
        return np.unique(np.concatenate([np.empty(0), *(run.interventions for run in self.runs)]))

    def scalars(self, label: str, kind: str, name: str) -> xr.DataArray | None:
        """Return what the runs of a rule recorded of a scalar, (seed, event, pathway or population).

        Parameters
        ----------
        label : str
            Of the rule.
        kind : str
            alignment (of which only what is trustworthy is kept), activity or performance.
        name : str

        Returns
        -------
        DataArray or None
            Seeds in the order of ``rules[label]``, events and names those of these runs alone; None if none recorded it.
        """
        table = self._tables.get(kind)
        recorded = [one for one in self._recorded.get((label, kind), []) if name in one.data_vars]
        if table is None or name not in table or not recorded:
            return None
        dim = LABELS[kind]
        events = np.unique(np.concatenate([one["event"].values for one in recorded]))
        named = {str(value) for one in recorded for value in one[dim].values}
        kept = [value for value in table[dim].values if value in named]
        seeds = [seed_of(run) for run in self.rules[label]]
        chosen = {"rule": self.names[label], "seed": seeds, "event": events, dim: kept}
        values: xr.DataArray = table[name].sel(chosen)
        return values.transpose("seed", "event", dim).drop_vars([n for n in values.coords if not values[n].dims])

    @cached_property
    def _recorded(self) -> dict[tuple[str, str], list[xr.Dataset]]:
        """What each run of a rule recorded of a kind, by label and kind; what is not read yet stays so."""
        return {
            (label, kind): [run.tree[kind].to_dataset() for run in runs if kind in run.tree.children]
            for label, runs in self.rules.items()
            for kind in LABELS
        }

    @cached_property
    def _tables(self) -> dict[str, xr.Dataset]:
        """Alignment (trusted only), activity and performance of all runs, read once."""
        found = {kind: self.tree[kind].to_dataset() for kind in LABELS if kind in self.tree.children}
        if "alignment" in found:
            found["alignment"] = alignment_over_training(self.tree)
        return {kind: dataset.load() for kind, dataset in found.items()}

    def over_training(self, label: str, kind: str, name: str) -> xr.Dataset | None:
        """Return mean, 95 % interval and count of seeds of a scalar over events; None if no run recorded it.

        The events are those of all seeds; at each, the mean is over the seeds that have it, which ``count`` tells.
        """
        if (label, kind, name) not in self._curves:
            values = self.scalars(label, kind, name)
            self._curves[label, kind, name] = None if values is None else _over_seeds(values)
        return self._curves[label, kind, name]

    @cached_property
    def _curves(self) -> dict[tuple[str, ...], xr.Dataset | None]:
        return {}

    def drift(self, label: str) -> xr.Dataset | None:
        """Return mean and 95 % interval over seeds of the relative distance of the weights from the start."""
        if (label, "drift") not in self._curves:
            values = self.drifts(label)
            self._curves[label, "drift"] = None if values is None else _over_seeds(values)
        return self._curves[label, "drift"]

    def drifts(self, label: str) -> xr.DataArray | None:
        """Return the relative distance of the weights from the start, (seed, snapshot, pathway); None if none are stored."""
        if label not in self._drifts:
            having = [run for run in self.rules[label] if recorded_pathways(run.tree)]
            seeds = xr.Variable("seed", np.array([seed_of(run) for run in having], int))
            found = side_by_side([weight_drift(run.tree) for run in having], seeds) if having else None
            if found is not None:
                order = [name for name in (*self.pathways, *self.feedback) if name in found["pathway"].values]
                others = [name for name in found["pathway"].values if name not in order]
                found = found.sel(pathway=[*order, *others])
            self._drifts[label] = found
        return self._drifts[label]

    @cached_property
    def _drifts(self) -> dict[str, xr.DataArray | None]:
        return {}

    def alignments(self, label: str, name: str = "cosine") -> xr.Dataset | None:
        """Return a measure of alignment averaged over training, per seed and pathway; None if none was recorded.

        Returns
        -------
        Dataset
            ``mean`` (seed, pathway) over the moments of learning at which it is trustworthy and finite; ``moments``, how
            many those are, of ``recorded``: after a lesion, or where the reference vanishes, there are fewer.
        """
        values = self.scalars(label, "alignment", name)
        if values is None:
            return None
        finite = values.where(np.isfinite(values) & (values["event"] > 0))
        chosen = {dim: values[dim] for dim in ("seed", "event", "pathway")}
        recorded = self._compared.sel(rule=self.names[label]).sel(chosen).reset_coords(drop=True)
        return xr.Dataset(
            {
                "mean": finite.mean("event"),
                "moments": finite.notnull().sum("event"),
                "recorded": (recorded & (recorded["event"] > 0)).sum("event"),
            }
        )

    @cached_property
    def _compared(self) -> xr.DataArray:
        """Where updates were compared, whether that was possible or not: where anything of a comparison is stored."""
        group = self.tree["alignment"].to_dataset()
        there = [array.notnull() for name, array in group.data_vars.items() if array.dtype.kind == "f"]
        compared: xr.DataArray = xr.concat([one.reset_coords(drop=True) for one in there], "measure").any("measure")
        return compared.load()

    def mean_alignment(self, label: str) -> dict[str, Estimate]:
        """Return, per pathway, the cosine with the reference averaged over training, then over seeds."""
        found = self.alignments(label)
        if found is None:
            return {}
        order = [name for name in (*self.pathways, *self.feedback) if name in found["pathway"].values]
        return {name: estimate(found["mean"].sel(pathway=name).values) for name in order}

    def by_construction(self, label: str) -> list[str]:
        """Return the pathways at which the reference is the same computation as the rule, so that their cosine is 1."""
        if "alignment" not in self.tree.children:
            return []
        mine = self.tree["alignment"].to_dataset()["by_construction"].sel(rule=self.names[label])
        return [str(name) for name in mine["pathway"].values[mine.values]]

    def untrusted(self, label: str) -> dict[str, int]:
        """Return how many comparisons of updates are left out since they are not trustworthy, by the reason stored."""
        if "alignment" not in self.tree.children:
            return {}
        return why_untrusted(self.tree["alignment"].to_dataset().sel(rule=self.names[label]))

    def accuracies(self, label: str, measure: str = "probe_accuracy") -> dict[str, dict[str, np.ndarray]]:
        """Return, per population, the accuracy of a probe at the start ("initial") and after learning ("final").

        Parameters
        ----------
        label : str
            Of the rule.
        measure : str
            Of the performance.

        Returns
        -------
        dict
            The input first, then in the order of the network, then other names; one value per run of ``rules[label]``, NaN
            where there is none. A run that has not finished, or has stopped before its budget, has no final accuracy, nor
            has a population that was not read out at the last event at which others were.
        """
        values = self.scalars(label, "performance", measure)
        if values is None:
            return {}
        runs = self.rules[label]
        inputs = {run.input for run in runs}
        found: dict[str, dict[str, np.ndarray]] = {}
        there = values.notnull()
        above = there.sel(population=[name for name in values["population"].values if name not in inputs])
        last = [_last_event(above.isel(seed=n).any("population")) for n in range(len(runs))]
        for name in map(str, values["population"].values):
            mine, seen = values.sel(population=name), there.sel(population=name)
            if not bool(seen.any()):
                continue
            initial, final = np.full(len(runs), np.nan), np.full(len(runs), np.nan)
            for number, run in enumerate(runs):
                event = _last_event(seen.isel(seed=number)) if name in inputs else last[number]
                if event is not None and not run.incomplete:
                    final[number] = float(mine.isel(seed=number).sel(event=event))
                if 0 in mine["event"].values:
                    initial[number] = float(mine.isel(seed=number).sel(event=0))
            found[name] = {"initial": initial, "final": final}
        return found

    def unfinished(self) -> str:
        """Say which runs have not finished or not begun; nothing if all have finished."""
        states: dict[str, list[str]] = {}
        for run in (*self.runs, *self._twins, *self.left_out):
            if run.incomplete:
                states.setdefault(run.incomplete if run.state == "finished" else run.state, []).append(run.name)
        if self.absent:
            states["not begun"] = [f"{path.parent.name}/{path.name}" for path in self.absent]
        count = sum(map(len, states.values()))
        parts = [f"{state}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" for state, names in states.items()]
        planned = len(self.runs) + len(self._twins) + len(self.left_out) + len(self.absent)
        return f"{count} of {planned} runs have not finished ({'; '.join(parts)})." if count else ""

    def table(self) -> list[Record]:
        """Return one record per rule with self-explaining column names; numbers as numbers, None where there is none."""
        return [record_of(self, label) for label in self.rules]

    def to_dataset(self) -> xr.Dataset:
        """Return one value per rule, seed, and pathway or population: what the runs come down to; see `dataset_of`."""
        return dataset_of(self)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return the same as a tidy table, one row per rule, seed, and pathway or population; see `dataframe_of`."""
        return dataframe_of(self)

    def __repr__(self) -> str:
        return f"Comparison({len(self.runs)} runs: {', '.join(f'{k} x {len(v)}' for k, v in self.rules.items())})"

    def _repr_html_(self) -> str:
        return html_of(self)


def _over_seeds(values: xr.DataArray) -> xr.Dataset:
    """Return mean and interval over seeds, at the moments of all of them; an x that differs between seeds is averaged."""
    moments = {n: values[n] for n in ("observers_seen", "time") if n in values.coords}
    found = over_seeds(values.drop_vars(list(moments)))
    means = {n: v.mean("seed") if "seed" in v.dims else v for n, v in moments.items()}
    return found.assign_coords({n: v.reset_coords(drop=True) for n, v in means.items()})


def _last_event(there: xr.DataArray) -> int | None:
    events = there["event"].values[there.values]
    return int(events[-1]) if events.size else None


def open_comparison(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Comparison:
    """Return the comparison of stored runs, finished or not; `Comparison.finished` leaves out those that are not.

    Parameters
    ----------
    paths : path or iterable of path
        Run folders, exported files, and folders with a ``comparison.json``, in any mixture.

    Raises
    ------
    TrajectoryError
        If a path is none of these, or a comparison holds no run; if runs of one label differ in anything but the seed, or
        are the same run twice. `analysis.open_runs` tells such runs apart.
    """
    runs, absent = find_runs(paths)
    comparison = Comparison(runs, absent)
    for same in comparison.rules.values():
        require_replicates([(run.path, run.about) for run in same])
    return comparison
