"""The weights of pathways along the learning of one run or of many, read a block at a time in float64.

A pathway's weights lie in ``/weights/<pathway>`` as ``weight(..., snapshot, post, pre[, ky, kx])`` or ``(..., snapshot,
synapse)``; what is in front of ``snapshot`` (rule, seed) tells runs apart, and is carried through. `RunWeights` are those
of one run, without the snapshots that it has not recorded. Nothing is read before it is asked for, and never more than
`MEMORY`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError

MEMORY = 2**27
"""Bytes of weights, in float64, that are held at a time."""

Measures = Mapping[str, tuple[tuple[str, ...], np.ndarray]]
"""Of one run: name -> (dims, values); along ``snapshot`` those that the run has recorded."""


class Held:
    """The paths that were read last, as far as they are small; runs are compared with the same reference many times."""

    def __init__(self) -> None:
        self._paths: dict[Any, np.ndarray] = {}

    def get(self, key: Any, read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is held under a key, read if it is not; what was used longest ago goes when `MEMORY` is full."""
        values = self._paths.pop(key) if key in self._paths else read()
        values.flags.writeable = False
        self._paths[key] = values
        while sum(path.nbytes for path in self._paths.values()) > MEMORY:
            del self._paths[next(iter(self._paths))]
        return values


@dataclass(frozen=True)
class RunWeights:
    """The weights of one pathway in one run.

    Attributes
    ----------
    weight : DataArray, (snapshot, post, pre, ...) or (snapshot, synapse)
        Lazy; all snapshots of the tree.
    rows : array of int, (recorded,)
        Which of them the run has recorded.
    seen : array of float, (recorded,)
        Observers seen at each.
    where : dict
        Labels of the run, such as ``{"rule": "dfa", "seed": 0}``; empty in the tree of a single run.
    pathway : str
    place : tuple of int
        Where it lies along the dims in front of ``snapshot``.
    """

    weight: xr.DataArray
    rows: np.ndarray
    seen: np.ndarray
    where: Mapping[str, Any]
    pathway: str
    place: tuple[int, ...] = ()
    held: Held | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The run and the pathway, for messages."""
        return " ".join([*(f"{key} {value}" for key, value in self.where.items()), self.pathway])

    @property
    def axis(self) -> str:
        """The axis along which weights are cut in parts."""
        return str(self.weight.dims[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one snapshot."""
        return self.weight.shape[1:]

    @cached_property
    def kept(self) -> np.ndarray | None:
        """Which synapses the run has recorded, where only some were chosen and the tree has those of other runs, too."""
        if self.axis != "synapse":
            return None
        there = np.isfinite(self.weight[int(self.rows[0])].values.astype(np.float64))
        return np.flatnonzero(there)

    @property
    def synapses(self) -> int:
        """Number of weights of a snapshot."""
        return math.prod(self.shape) if self.kept is None else self.kept.size

    @cached_property
    def chosen(self) -> tuple[int, ...] | None:
        """Flat indices of the synapses where only some were recorded, or None."""
        if self.kept is None:
            return None
        labels = self.weight["synapse"].values if "synapse" in self.weight.coords else np.arange(self.shape[0])
        return tuple(int(i) for i in labels[self.kept])

    def read(self, which: slice | np.ndarray, part: slice = slice(None)) -> np.ndarray:
        """Return recorded snapshots in float64, (snapshots, synapses), of the weights in ``part`` of the first axis."""
        if self.held is not None and 8 * self.weight.size <= MEMORY // 8:
            values = self.held.get((self.pathway, self.place), lambda: self._stored(slice(None), slice(None)))[which, part]
        else:
            values = self._stored(which, part)
        if self.kept is not None:
            values = values[:, np.isin(np.arange(self.shape[0])[part], self.kept)]
        return values.reshape(len(values), -1)

    def _stored(self, which: slice | np.ndarray, part: slice) -> np.ndarray:
        return self.weight.isel({"snapshot": self.rows[which], self.axis: part}).values.astype(np.float64)

    def matrix(self, which: int, relative_to: int | None = None) -> np.ndarray:
        """Return a snapshot as a matrix (post, all presynaptic) in float64, or its difference from another snapshot.

        Raises
        ------
        TrajectoryError
            If only some synapses were recorded.
        """
        if self.kept is not None:
            raise TrajectoryError(
                f"{self.name}: only {self.synapses} chosen synapses were recorded; a matrix needs all of them"
            )
        values = self.read(np.array([which]))[0].reshape(self.shape[0], -1)
        if relative_to is not None:
            values -= self.read(np.array([relative_to]))[0].reshape(self.shape[0], -1)
        if "presynaptic" not in self.weight.coords:
            return values
        partners = self.weight["presynaptic"].values.reshape(values.shape).astype(int)
        full = np.zeros((len(values), int(partners.max()) + 1))
        full[np.arange(len(values))[:, None], partners] = values
        return full


def parts(runs: Sequence[RunWeights], snapshots: int) -> Iterator[slice]:
    """Yield slices of the first axis of the weights such that so many snapshots of each run fit into `MEMORY`."""
    length = runs[0].shape[0]
    per_row = math.prod(runs[0].shape[1:]) * 8 * max(1, snapshots) * len(runs)
    step = max(1, MEMORY // max(1, per_row))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def changes(runs: Sequence[RunWeights], rows: Sequence[np.ndarray]) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yield the changes since the start of runs side by side: the snapshots at hand, and of each run (snapshots, synapses).

    Parameters
    ----------
    runs : sequence of RunWeights of one shape
    rows : sequence of array of int
        Of each run as many of its recorded snapshots; the n-th of each are yielded together.
    """
    count = len(rows[0])
    for part in parts(runs, 3):
        starts = [run.read(np.array([0]), part) for run in runs]
        block = max(1, MEMORY // max(1, 8 * starts[0].size * len(runs)))
        for at in range(0, count, block):
            which = slice(at, min(at + block, count))
            yield which, [run.read(row[which], part) - start for run, row, start in zip(runs, rows, starts, strict=True)]


def gram(runs: Sequence[RunWeights]) -> np.ndarray:
    """Return the inner products of all changes since the start, (snapshots of all runs, the same), one run after another."""
    total = sum(len(run.rows) for run in runs)
    products = np.zeros((total, total))
    for part in parts(runs, -(-total // len(runs))):
        blocks = []
        for run in runs:
            values = run.read(slice(None), part)
            blocks.append(values - values[0])
        together = np.concatenate(blocks)
        products += together @ together.T
    return products


@dataclass(frozen=True)
class PathwayWeights:
    """The weights of one pathway in all runs of a tree.

    Attributes
    ----------
    name : str
        Of the pathway.
    weight : DataArray, (..., snapshot, post, pre, ...)
    """

    name: str
    weight: xr.DataArray
    held: Held = field(default_factory=Held, repr=False)
    _found: dict[tuple[int, ...], RunWeights | None] = field(default_factory=dict, repr=False)

    @property
    def carried(self) -> tuple[str, ...]:
        """The dims in front of ``snapshot``, along which runs lie."""
        dims = [str(dim) for dim in self.weight.dims]
        return tuple(dims[: dims.index("snapshot")])

    @property
    def runs(self) -> Iterator[tuple[tuple[int, ...], RunWeights | None]]:
        """Yield (place along the carried dims, run), with None where that run has not recorded the pathway."""
        for place in np.ndindex(*(self.weight.sizes[dim] for dim in self.carried)):
            yield place, self.at(place)

    def at(self, place: tuple[int, ...]) -> RunWeights | None:
        """Return the run at a place along the carried dims, or None if it has not recorded the pathway."""
        if place not in self._found:
            self._found[place] = self._run(place)
        return self._found[place]

    def _run(self, place: tuple[int, ...]) -> RunWeights | None:
        chosen = dict(zip(self.carried, place, strict=True))
        weight = self.weight.isel(chosen) if chosen else self.weight
        where = {dim: self._label(dim, at) for dim, at in chosen.items()}
        rows = np.arange(weight.sizes["snapshot"])
        if chosen:  # the snapshots of many runs are the union of theirs
            small = 8 * weight.size <= MEMORY // 8
            values = weight.values.astype(np.float64) if small else None
            rows = rows[_recorded(weight) if values is None else np.isfinite(values).any(tuple(range(1, values.ndim)))]
            if values is not None and rows.size:
                self.held.get((self.name, place), lambda: values[rows])
        if not rows.size:
            return None
        seen = weight["observers_seen"] if "observers_seen" in weight.coords else weight["snapshot"]
        return RunWeights(weight, rows, seen.values[rows].astype(float), where, self.name, place, self.held)

    def _label(self, dim: str, at: int) -> Any:
        return self.weight[dim].values[at].item() if dim in self.weight.coords else at

    def dataset(self, measure: Callable[[RunWeights], Measures]) -> xr.Dataset:
        """Return what a measure gives of each run, with the carried dims in front; NaN where there is nothing.

        Along dims of its own, what a measure gives is numbered from 1.
        """
        sizes = tuple(self.weight.sizes[dim] for dim in self.carried)
        values: dict[str, np.ndarray] = {}
        dims: dict[str, tuple[str, ...]] = {}
        for place, run in self.runs:
            for name, (axes, found) in ({} if run is None else measure(run)).items():
                found = np.asarray(found)
                moments = (self.weight.sizes["snapshot"],) if axes[:1] == ("snapshot",) else ()
                shape = (*moments, *found.shape[len(moments) :])
                if name not in values:
                    empty: Any = "" if found.dtype.kind == "U" else np.nan
                    kind: Any = object if found.dtype.kind == "U" else float
                    values[name], dims[name] = np.full((*sizes, *shape), empty, kind), axes
                target = values[name][place]
                if moments and run is not None:
                    target[run.rows] = found
                else:
                    values[name][place] = found
        variables = {name: ((*self.carried, *dims[name]), array) for name, array in values.items()}
        dataset = xr.Dataset(variables, self._coords())
        own = [str(dim) for dim in dataset.sizes if dim not in (*self.carried, "snapshot")]
        return dataset.assign_coords({dim: np.arange(1, dataset.sizes[dim] + 1) for dim in own})

    def _coords(self) -> dict[str, xr.DataArray]:
        kept = {*self.carried, "snapshot"}
        return {str(n): c for n, c in self.weight.coords.items() if set(map(str, c.dims)) <= kept}


def _recorded(weight: xr.DataArray) -> np.ndarray:
    """Return which snapshots hold anything, (snapshots,); one synapse is looked at, the others only where that is NaN."""
    if not weight.size:
        return np.zeros(weight.sizes["snapshot"], bool)
    there = np.isfinite(weight.isel(dict.fromkeys(weight.dims[1:], 0)).values)
    for row in np.flatnonzero(~there):
        there[row] = np.isfinite(weight[int(row)].values).any()
    return there


def recorded_pathways(tree: xr.DataTree) -> list[str]:
    """Return the pathways whose weights a tree holds, in its order, by the names that the network gave them."""
    groups = tree.children["weights"].children if "weights" in tree.children else {}
    return [str(node.attrs.get("pathway", key)) for key, node in groups.items() if "weight" in node.data_vars]


def pathway_weights(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> list[PathwayWeights]:
    """Return the weights of pathways, lazily.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional
        All that were recorded by default.

    Raises
    ------
    TrajectoryError
        If no weights were recorded, or not those of a pathway that is asked for; names those there are.
    """
    if not isinstance(tree, xr.DataTree):
        raise TrajectoryError(f"expected the tree of a run (open_trajectory) or of many, got {type(tree).__name__}")
    groups = tree.children["weights"].children if "weights" in tree.children else {}
    found = {str(node.attrs.get("pathway", key)): node for key, node in groups.items() if "weight" in node.data_vars}
    if not found:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: no weights were recorded")
    asked = list(found) if pathways is None else [pathways] if isinstance(pathways, str) else list(pathways)
    if not asked:
        raise TrajectoryError(f"no pathway was asked for; weights were recorded of {', '.join(found)}")
    for name in asked:
        if name not in found:
            raise TrajectoryError(f"no weights of {name!r} were recorded; there are those of {', '.join(found)}")
    held = Held()
    return [PathwayWeights(name, found[name].to_dataset()["weight"], held) for name in dict.fromkeys(asked)]


def over_pathways(
    weights: Sequence[PathwayWeights], measure: Callable[[RunWeights], Measures], attrs: Mapping[str, str] | None = None
) -> xr.Dataset:
    """Return what a measure gives of every run and pathway, (..., snapshot, pathway, ...), on the union of the snapshots."""
    return beside(weights, [one.dataset(measure) for one in weights], attrs)


def beside(
    weights: Sequence[PathwayWeights], found: Sequence[xr.Dataset], attrs: Mapping[str, str] | None = None
) -> xr.Dataset:
    """Return the measures of pathways beside one another, along ``pathway``."""
    moments: dict[str, xr.DataArray] = {}
    plain = []
    for one in found:
        for name in ("observers_seen", "time"):
            if name in one.coords:
                known = one[name].reset_coords(drop=True)
                moments[name] = known if name not in moments else moments[name].combine_first(known)
        extra = [n for n, c in one.coords.items() if "snapshot" in c.dims and n != "snapshot"]
        plain.append(one.drop_vars(extra))
    joined = xr.concat(plain, "pathway", join="outer", data_vars="all", coords="minimal", compat="override")
    joined = joined.assign_coords(pathway=[one.name for one in weights])
    for name, values in moments.items():
        whole = name == "observers_seen" and bool(values.notnull().all())
        joined = joined.assign_coords({name: values.astype(np.int64) if whole else values})
    order = [*dict.fromkeys(dim for one in weights for dim in one.carried), "snapshot", "pathway"]
    return joined.transpose(*(d for d in order if d in joined.dims), ...).assign_attrs(dict(attrs or {}))
