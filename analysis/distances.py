"""How far weights are from where they began, from where another run ends, and from those of other rules.

With the change ``D(t) = W(t) - W(0)`` since the first recorded snapshot, per pathway and with Frobenius norms; biases are
left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from analysis.pairing import Pairs, common_moments, incomparable, on_own_snapshots, ratio, with_partners
from analysis.pathway_weights import (
    Measures,
    PathwayWeights,
    RunWeights,
    beside,
    changes,
    over_pathways,
    parts,
    pathway_weights,
)
from neurossl.errors import TrajectoryError


def weight_drift(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.DataArray:
    """Return how far the weights are from the first snapshot, ``|W(t) - W(0)| / |W(0)|``, (..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        Names; all recorded ones by default. Some `pathway_weights.MEMORY` bytes are held at a time.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """
    return _relative(distance_to_start(tree, pathways)).rename("drift")


def distance_to_start(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return ``distance`` ``|W(t) - W(0)|``, (..., snapshot, pathway), and ``initial_norm`` ``|W(0)|``, (..., pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """

    def measure(run: RunWeights) -> Measures:
        squares = np.zeros(len(run.rows))
        for which, (change,) in changes([run], [np.arange(len(run.rows))]):
            squares[which] += np.square(change).sum(1)
        return {"distance": (("snapshot",), np.sqrt(squares)), "initial_norm": ((), np.asarray(_norm(run, 0)))}

    return over_pathways(pathway_weights(tree, pathways), measure)


def distance_to_end(
    tree: xr.DataTree, reference: xr.DataTree | str | Mapping[str, str], pathways: str | Sequence[str] | None = None
) -> xr.Dataset:
    """Return how far the weights are from where the reference run ends, (..., snapshot, pathway).

    Parameters
    ----------
    tree, reference, pathways
        As for `accumulated_alignment`.

    Returns
    -------
    Dataset
        ``distance`` ``|W(t) - W_ref(end)|``, and ``relative_distance``, by the distance from the start to that end:
        1 at the start, 0 there, more than 1 for a path that leads away from it.

    Raises
    ------
    TrajectoryError
        If nothing can be compared.
    """
    weights = pathway_weights(tree, pathways)
    pairs = Pairs.of(tree, reference)

    return with_partners(weights, pairs, _from_end).assign_attrs(reference=pairs.text)


def distance_between(tree: xr.DataTree, pathways: str | Sequence[str] | None = None, dim: str = "rule") -> xr.Dataset:
    """Return how far any two rules are from each other at equal observers, (rule, other, ..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of many runs.
    pathways : str or sequence of str, optional
    dim : str
        Along which the runs lie that are compared; all other labels (the seed) are equal.

    Returns
    -------
    Dataset
        ``distance`` ``|W_a(t) - W_b(t)|``; ``relative_distance``, of the changes, ``|D_a - D_b| / sqrt(|D_a|^2 + |D_b|^2)``
        (0: the same, 1: at right angles, sqrt(2): opposite); ``cosine`` of the changes. The coordinate ``other`` holds the
        second rule. Pairs from other initial weights or with other synapses are NaN.

    Raises
    ------
    TrajectoryError
        If the tree has no such dim, or no pair of runs can be compared.
    """
    weights = pathway_weights(tree, pathways)
    found = []
    for one in weights:
        if dim not in one.carried:
            raise TrajectoryError(f"{one.name}: there are no several runs along {dim!r}; expected the tree of many runs")
        place = one.carried.index(dim)
        others = []
        for other in range(one.weight.sizes[dim]):

            def measure(run: RunWeights, other: int = other, one: PathwayWeights = one, place: int = place) -> Measures:
                partner = one.at((*run.place[:place], other, *run.place[place + 1 :]))
                return {} if partner is None or incomparable(run, partner) else _apart(run, partner)

            others.append(one.dataset(measure))
        labels = one.weight[dim].values if dim in one.weight.coords else np.arange(one.weight.sizes[dim])
        known = [o for o in others if o.data_vars]
        if not known:
            continue
        empty = xr.full_like(known[0], np.nan)
        found.append(xr.concat([o if o.data_vars else empty for o in others], "other", coords="minimal", compat="override"))
        found[-1] = found[-1].assign_coords(other=labels)
    if len(found) < len(weights):
        raise TrajectoryError("no two runs can be compared: they differ in their initial weights or in what was recorded")
    return beside(weights, found).transpose(dim, "other", ...)


def _from_end(run: RunWeights, partner: RunWeights) -> Measures:
    """Return the measures of `distance_to_end`."""
    if reason := incomparable(run, partner):
        return {"reason": ((), np.asarray(reason))}
    count = len(run.rows)
    apart, whole = np.zeros(count), np.zeros(count)
    for which, (change, goal) in changes([run, partner], [np.arange(count), np.full(count, len(partner.rows) - 1)]):
        apart[which] += np.square(change - goal).sum(1)
        whole[which] += np.square(goal).sum(1)
    distance, relative = np.sqrt(apart), ratio(np.sqrt(apart), np.sqrt(whole))
    return {
        "reason": ((), np.asarray("")),
        "distance": (("snapshot",), distance),
        "relative_distance": (("snapshot",), relative),
    }


def _apart(run: RunWeights, partner: RunWeights) -> Measures:
    """Return distance and cosine of two runs at their common moments, on the snapshots of the first."""
    rows, theirs = common_moments(run, partner)
    sums = {name: np.zeros(len(rows)) for name in ("product", "own", "others", "apart")}
    for which, (a, b) in changes([run, partner], [rows, theirs]):
        sums["product"][which] += (a * b).sum(1)
        sums["own"][which] += np.square(a).sum(1)
        sums["others"][which] += np.square(b).sum(1)
        sums["apart"][which] += np.square(a - b).sum(1)
    apart = np.sqrt(sums["apart"])
    values = {
        "distance": apart,
        "relative_distance": ratio(apart, np.sqrt(sums["own"] + sums["others"])),
        "cosine": ratio(sums["product"], np.sqrt(sums["own"]) * np.sqrt(sums["others"])),
    }
    return on_own_snapshots(run, rows, values)


def _norm(run: RunWeights, which: int) -> float:
    return float(np.sqrt(sum(np.square(run.read(np.array([which]), part)).sum() for part in parts([run], 1))))


def _relative(found: xr.Dataset) -> xr.DataArray:
    return found["distance"] / found["initial_norm"].where(found["initial_norm"] > 0)
