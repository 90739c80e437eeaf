"""Trees of one run and of many, built by hand, whose weights are lazy and say how much of them is read at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from analysis.schema import group_of

LATERAL_DIMS = {2: ("post", "pre"), 4: ("post", "pre", "ky", "kx"), 1: ("synapse",)}


class Watched(BackendArray):
    """An array that remembers the largest number of values that was read at once."""

    largest = 0

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        found = self.values[np.ix_(*(np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)))]
        Watched.largest = max(Watched.largest, found.size)
        return found.reshape(
            [np.arange(n)[k].size for n, k in zip(self.shape, key, strict=True) if np.ndim(np.arange(n)[k])]
        )


def group(
    pathway: str,
    values: np.ndarray,
    front: tuple[str, ...] = (),
    seen: Sequence[float] | np.ndarray | None = None,
    coords: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return a group of weights (..., snapshot, post, pre); observers seen are 100 per moment unless said."""
    dims = LATERAL_DIMS[values.ndim - 1 - len(front)]
    moments = np.arange(values.shape[len(front)])
    known = np.asarray(100 * moments if seen is None else seen)
    along = {"snapshot": moments, "observers_seen": ((*front, "snapshot")[-known.ndim :], known)}
    lazy = indexing.LazilyIndexedArray(Watched(values))
    weight = xr.Variable((*front, "snapshot", *dims), lazy)
    return xr.Dataset({"weight": weight}, {**along, **(coords or {})}, {"pathway": pathway})


def one_run(weights: Mapping[str, np.ndarray], seen: Sequence[float] | None = None, **attrs: Any) -> xr.DataTree:
    """Return the tree of one run: pathway -> weights (snapshot, post, pre, ...)."""
    nodes = {f"/weights/{group_of(name)}": group(name, values, seen=seen) for name, values in weights.items()}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"rule": "bp", "seed": 0, **attrs}), **nodes})


def many_runs(
    runs: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
    seen: Sequence[float] | np.ndarray | None = None,
    references: Sequence[str] | None = None,
    **attrs: Any,
) -> xr.DataTree:
    """Return the tree of many runs: rule -> for every seed pathway -> weights; NaN where a run has none."""
    rules = list(runs)
    seeds = range(max(len(of) for of in runs.values()))
    names = dict.fromkeys(name for of in runs.values() for one in of for name in one)
    coords: dict[str, Any] = {"rule": rules, "seed": list(seeds), "label": ("rule", [rule.upper() for rule in rules])}
    if references is not None:
        coords["reference"] = ("rule", list(references))
    nodes = {}
    for name in names:
        having = {(r, s): of[s][name] for r, of in enumerate(runs.values()) for s in seeds if s < len(of) and name in of[s]}
        shape = next(iter(having.values())).shape[1:]
        longest = max(len(values) for values in having.values())
        whole = np.full((len(rules), len(seeds), longest, *shape), np.nan)
        for place, values in having.items():
            whole[place][: len(values)] = values
        nodes[f"/weights/{name}"] = group(name, whole, ("rule", "seed"), seen, coords)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})
