"""The tree of many runs, put together from the trees of each: labels are united, variables stay lazy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from analysis.runs_found import StoredRun
from analysis.runs_grouping import Grouping, constant_along
from analysis.runs_lazy import Part, Place, lazily
from analysis.schema import LABELS, group_of
from analysis.side_by_side import MOMENTS
from neurossl.errors import TrajectoryError
from neurossl.text import one_line

Groups = dict[str, dict[Place, xr.Dataset]]


class Misfit(TrajectoryError):
    """Groups of several runs do not fit beside one another."""


def groups_of(grouping: Grouping) -> Groups:
    """Return the groups of all runs: path in the tree of many runs -> what every run has there."""
    found: Groups = {}
    for place, run in grouping.runs.items():
        for path, group in _groups_of_run(run):
            found.setdefault(path, {})[place] = group
    return found


def _groups_of_run(run: StoredRun) -> Iterator[tuple[str, xr.Dataset]]:
    for kind, node in run.tree.children.items():
        if kind in LABELS:
            yield kind, _with_trust(node.to_dataset(inherit=True))
            continue
        for key, child in node.children.items():
            group = child.to_dataset(inherit=False)
            name = one_line(group.attrs.get("pathway", group.attrs.get("name", key)))
            yield f"{kind}/{name if '/' not in name and name not in ('.', '..') else group_of(name)}", group


def _with_trust(alignment: xr.Dataset) -> xr.Dataset:
    """Return a table in which ``trustworthy`` is 1, 0, or NaN where nothing was recorded; older runs say False there."""
    trusted = alignment.get("trustworthy")
    if trusted is None or trusted.dtype.kind != "b":
        return alignment
    recorded = alignment["cosine"].notnull() if "cosine" in alignment else trusted
    return alignment.assign(trustworthy=trusted.astype(float).where(recorded).assign_attrs(trusted.attrs))


def beside(path: str, groups: Mapping[Place, xr.Dataset], grouping: Grouping, order: Sequence[str] = ()) -> xr.Dataset:
    """Return one group of all runs.

    Parameters
    ----------
    path : str
        Of the group, for errors.
    groups : mapping of tuple of int to Dataset
        By where the run stands.
    grouping : Grouping
    order : sequence of str
        Names of populations or pathways, as they are to come.

    Raises
    ------
    Misfit
        If what the runs hold has different shapes, or is of different stimuli.
    """
    _require_one(path, groups, grouping)
    axes = {
        str(dim): _axis(path, str(dim), groups, grouping, order)
        for dim in dict.fromkeys(dim for group in groups.values() for dim in group.dims)
    }
    variables: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(str(name) for group in groups.values() for name in group.data_vars):
        having = {place: group[name].variable for place, group in groups.items() if name in group.data_vars}
        first = next(iter(having))
        dims = tuple(map(str, having[first].dims))
        for place, variable in having.items():
            if variable.dims != dims:
                raise Misfit(
                    f"{path}: {name} lies along {dims} in {_path_of(first, grouping)}, "
                    f"along {variable.dims} in {_path_of(place, grouping)}: {_REMEDY}"
                )
        parts = {p: Part(v, tuple(axes[dim].sources[p] for dim in dims)) for p, v in having.items()}
        attributes = next(iter(having.values())).attrs
        shape = [axes[dim].size for dim in dims]
        variables[name] = lazily((*grouping.dims, *dims), shape, parts, grouping.shape, attributes)
    return xr.Dataset(variables, _coordinates(groups, axes, grouping) | grouping.coordinates(), _common(groups))


_REMEDY = "select runs of one architecture, or open them apart"


def _require_one(path: str, groups: Mapping[Place, xr.Dataset], grouping: Grouping) -> None:
    shown = {place: group.attrs["stimuli"] for place, group in groups.items() if "stimuli" in group.attrs}
    first = next(iter(shown), ())
    for place, digest in shown.items():
        if digest != shown[first]:
            raise Misfit(
                f"{path}: {_path_of(first, grouping)} and {_path_of(place, grouping)} were shown different stimuli, which "
                "cannot stand side by side: select runs that were shown the same, or open them apart"
            )


class _Axis:
    """The labels of all runs along one axis, and where every run has them."""

    def __init__(self, labels: np.ndarray | None, size: int, sources: Mapping[Place, np.ndarray | None]) -> None:
        self.labels, self.size, self.sources = labels, size, sources


def _axis(path: str, dim: str, groups: Mapping[Place, xr.Dataset], grouping: Grouping, order: Sequence[str]) -> _Axis:
    having = {place: group for place, group in groups.items() if dim in group.dims}
    labelled = {place: group[dim].values for place, group in having.items() if dim in group.coords}
    first = next(iter(having))
    size = having[first].sizes[dim]
    if not labelled:
        for place, group in having.items():
            if group.sizes[dim] != size:
                raise Misfit(
                    f"{path} has {size} along {dim} in {_path_of(first, grouping)}, {group.sizes[dim]} in "
                    f"{_path_of(place, grouping)}: {_REMEDY}"
                )
        return _Axis(None, size, dict.fromkeys(groups))
    if len(labelled) < len(having):
        place = next(place for place in having if place not in labelled)
        raise Misfit(
            f"{path}: {dim} has labels in {_path_of(next(iter(labelled)), grouping)} and none in "
            f"{_path_of(place, grouping)}: {_REMEDY}"
        )
    values = list(labelled.values())
    if all(value is values[0] or np.array_equal(value, values[0]) for value in values) and not _follows(dim, order):
        return _Axis(values[0], size, dict.fromkeys(groups))
    united = _united(values, order if _follows(dim, order) else None)
    sources: dict[Place, np.ndarray | None] = dict.fromkeys(groups)
    for place, value in labelled.items():
        position = {label: number for number, label in enumerate(value.tolist())}
        if len(position) < value.size:
            raise Misfit(f"{path}: {dim} of {_path_of(place, grouping)} has a label twice: {_REMEDY}")
        source = np.array([position.get(label, -1) for label in united.tolist()], int)
        sources[place] = None if np.array_equal(source, np.arange(value.size)) else source
    return _Axis(united, united.size, sources)


def _follows(dim: str, order: Sequence[str]) -> bool:
    return bool(order) and dim in LABELS.values()


def _united(values: Sequence[np.ndarray], order: Sequence[str] | None) -> np.ndarray:
    """Return the labels of all: numbers ascending, names in the given order, those that it lacks after them."""
    together = np.concatenate(values)
    if together.dtype.kind in "iuf" and order is None:
        return np.unique(together)
    labels = list(dict.fromkeys(together.tolist()))
    if order is not None:
        known = {name: number for number, name in enumerate(order)}
        labels.sort(key=lambda label: known.get(label, len(known)))
    return np.array(labels, together.dtype)


def _coordinates(
    groups: Mapping[Place, xr.Dataset], axes: Mapping[str, _Axis], grouping: Grouping
) -> dict[str, xr.Variable]:
    """Return the coordinates of all runs: without the dimensions along which runs lie where they agree, else with them."""
    found: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(str(name) for group in groups.values() for name in group.coords):
        having = {place: group[name].variable for place, group in groups.items() if name in group.coords}
        attributes = next(iter(having.values())).attrs
        if name in axes:
            labels = axes[name].labels
            assert labels is not None, "an axis that is a coordinate has labels"
            found[name] = xr.Variable(name, labels, attributes)
            continue
        dims = tuple(map(str, next(iter(having.values())).dims))
        if name in grouping.dims or any(variable.dims != dims for variable in having.values()):
            continue
        found[name] = _coordinate(name, dims, having, axes, grouping).assign_attrs(attributes).variable
    return found


def _coordinate(
    name: str, dims: tuple[str, ...], having: Mapping[Place, xr.Variable], axes: Mapping[str, _Axis], grouping: Grouping
) -> xr.DataArray:
    first = next(iter(having.values())).values
    sources = {place: tuple(axes[dim].sources[place] for dim in dims) for place in having}
    is_plain = all(source is None for of in sources.values() for source in of)
    if is_plain and all(np.array_equal(v.values, first, equal_nan=first.dtype.kind == "f") for v in having.values()):
        return xr.DataArray(first, dims=dims)
    inner = tuple(axes[dim].size for dim in dims)
    number = first.dtype.kind in "biuf"
    whole = np.full((*grouping.shape, *inner), np.nan if number else "", float if number else object)
    there = np.zeros(whole.shape, bool)
    for place, variable in having.items():
        present = [np.arange(n) if s is None else np.flatnonzero(s >= 0) for n, s in zip(inner, sources[place], strict=True)]
        rows = [p if s is None else s[p] for p, s in zip(present, sources[place], strict=True)]
        where = np.ix_(*present)
        whole[place][where] = variable.values[np.ix_(*rows)]
        there[place][where] = True
    kept = list(grouping.dims)
    events = np.asarray(axes[dims[0]].labels, float) if name in MOMENTS and len(dims) == 1 else None
    for dim in sorted(grouping.dims, key=lambda dim: dim != "seed"):
        if events is not None and dim != "seed":  # two rules may share no event, and yet not see the same observers
            whole, there = _between_moments(events, whole, there)
        at = kept.index(dim)
        if (same := constant_along(whole, there, at, 0 if events is None else 1e-9)) is not None:
            whole, there = same, np.asarray(there.any(at))
            del kept[at]
    if events is not None:
        whole, there = _between_moments(events, whole, there)
    if number and bool(there.all()):
        whole = (np.rint(whole) if first.dtype.kind in "iu" else whole).astype(first.dtype)
    return xr.DataArray(whole if number else whole.astype(str), dims=(*kept, *dims))


def _between_moments(events: np.ndarray, whole: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return when events would have been in runs that recorded nothing then, so that a curve has an x everywhere.

    Between two recorded events on the straight line, beyond them with the slope of the last two; in a run with a single one
    in proportion, and where there is no run at all as in the first that has the event.
    """
    rows, known = whole.reshape(-1, events.size).copy(), there.reshape(-1, events.size)
    for row, has in zip(rows, known, strict=True):
        x, y = events[has], row[has]
        if x.size > 1:
            row[~has] = np.interp(events[~has], x, y)
            for beyond, (a, b) in ((events < x[0], (0, 1)), (events > x[-1], (-2, -1))):
                row[beyond] = y[a] + (events[beyond] - x[a]) * (y[b] - y[a]) / (x[b] - x[a])
        elif x.size and x[0] > 0:
            row[~has] = events[~has] * y[0] / x[0]
    fallback = np.array([next((r[n] for r in rows if np.isfinite(r[n])), np.nan) for n in range(events.size)])
    filled = np.where(np.isfinite(rows), rows, fallback).reshape(whole.shape)
    return filled, np.isfinite(filled)


def _common(groups: Mapping[Place, xr.Dataset]) -> dict[str, Any]:
    """Return the attributes that all runs share."""
    every = [group.attrs for group in groups.values()]
    return {key: value for key, value in every[0].items() if all(_same(other.get(key), value) for other in every)}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.all(np.asarray(one == other)))


def _path_of(place: Place, grouping: Grouping) -> str:
    return str(grouping.runs[place].path)
