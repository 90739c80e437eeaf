"""What single synapses do: how their weights are distributed, which are the strong ones, and when they have learned.

Distributions are over the synapses of a pathway, snapshot by snapshot. A synapse is *strong* if its absolute weight is
among the largest; turnover is how many of those are others later, as for dendritic spines (Holtmaat & Svoboda 2009, Nat.
Rev. Neurosci. 10, 647). Of strong synapses that are drawn anew, the fraction that are others is ``1 - fraction``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.pathway_weights import Measures, PathwayWeights, RunWeights, beside, changes, over_pathways, pathway_weights
from neurossl.errors import OptionError


def weight_distribution(
    tree: xr.DataTree, pathways: str | Sequence[str] | None = None, bins: int = 60, near: float = 0.1
) -> xr.Dataset:
    """Return the distribution of the weights of every snapshot.

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        All recorded ones by default.
    bins : int
        Of the histogram, of equal width from the smallest to the largest weight of all runs and snapshots of the pathway.
    near : float
        A weight is near 0 if it is smaller than this, in root mean squares of the initial weights of its run.

    Returns
    -------
    Dataset
        ``mean``, ``deviation`` (standard deviation over synapses), ``skewness``, ``kurtosis`` (excess: 0 for a normal
        distribution) and ``near_zero`` (fraction) (..., snapshot, pathway); ``density`` (..., snapshot, pathway, bin),
        whose integral is 1, with the coordinate ``weight`` (pathway, bin), the middle of the bin.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    OptionError
        If ``bins`` or ``near`` is not positive.
    """
    if bins < 1:
        raise OptionError(f"bins: expected a positive number, got {bins}")
    if not near > 0:
        raise OptionError(f"near: expected a positive number, got {near}")
    weights = pathway_weights(tree, pathways)
    found, middles = [], []
    for one in weights:
        edges = _edges(one, bins)

        def measure(run: RunWeights, edges: np.ndarray = edges) -> Measures:
            level = near * float(np.sqrt(np.square(run.read(np.array([0]))).mean()))
            rows = [_moments(run.read(np.array([which]))[0], level, edges) for which in range(len(run.rows))]
            columns = np.array([row for row, _ in rows]).T
            named = {name: (("snapshot",), column) for name, column in zip(_MOMENTS, columns, strict=True)}
            return {**named, "density": (("snapshot", "bin"), np.array([density for _, density in rows]))}

        found.append(one.dataset(measure))
        middles.append((edges[1:] + edges[:-1]) / 2)
    together = beside(weights, found, {"near": str(near)})
    return together.assign_coords(weight=(("pathway", "bin"), np.array(middles)))


_MOMENTS = ("mean", "deviation", "skewness", "kurtosis", "near_zero")


def _edges(one: PathwayWeights, bins: int) -> np.ndarray:
    low, high = np.inf, -np.inf
    for _, run in one.runs:
        for which in range(0 if run is None else len(run.rows)):
            values = run.read(np.array([which])) if run is not None else np.empty(0)
            values = values[np.isfinite(values)]
            low, high = min(low, values.min(initial=np.inf)), max(high, values.max(initial=-np.inf))
    if not low < high:
        middle = low if np.isfinite(low) else 0.0
        low, high = middle - 0.5, middle + 0.5
    return np.linspace(low, high, bins + 1)


def _moments(values: np.ndarray, level: float, edges: np.ndarray) -> tuple[list[float], np.ndarray]:
    if not np.isfinite(values).all():
        return [np.nan] * len(_MOMENTS), np.full(edges.size - 1, np.nan)
    mean = float(values.mean())
    centred = values - mean
    deviation = float(np.sqrt(np.square(centred).mean()))
    scaled = centred / deviation if deviation > 0 else np.full(values.shape, np.nan)
    density = np.histogram(values, edges)[0] / values.size / np.diff(edges)
    small = float((np.abs(values) < level).mean())
    return [mean, deviation, float((scaled**3).mean()), float((scaled**4).mean() - 3), small], density


def turnover(tree: xr.DataTree, pathways: str | Sequence[str] | None = None, fraction: float = 0.1) -> xr.Dataset:
    """Return how many of the strongest synapses are others than before, and how many have changed their sign.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional
    fraction : float
        Of the synapses, that are called the strongest; where weights are equal the first ones are taken.

    Returns
    -------
    Dataset
        ``since_start`` and ``since_previous``, fractions of the strongest at the first and at the previous snapshot that
        are not among the strongest now (chance: ``attrs["chance"]``); ``sign_changes``, the fraction of the synapses that
        were not 0 at the start and have another sign now. (..., snapshot, pathway)

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    OptionError
        If ``fraction`` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise OptionError(f"fraction: expected a number between 0 and 1, got {fraction}")

    def measure(run: RunWeights) -> Measures:
        count = max(1, round(fraction * run.synapses))
        first = run.read(np.array([0]))[0]
        initial = before = _strongest(first, count)
        rows = []
        for which in range(len(run.rows)):
            values = run.read(np.array([which]))[0]
            now = _strongest(values, count)
            had_sign = first != 0
            changed = (np.sign(values) != np.sign(first))[had_sign].mean() if had_sign.any() else np.nan
            rows.append([1 - (now & initial).sum() / count, 1 - (now & before).sum() / count, changed])
            before = now
        columns = np.array(rows, float)
        columns[0, 1] = np.nan
        names = ("since_start", "since_previous", "sign_changes")
        return {name: (("snapshot",), column) for name, column in zip(names, columns.T, strict=True)}

    return over_pathways(pathway_weights(tree, pathways), measure).assign_attrs(chance=1 - fraction, fraction=fraction)


def _strongest(values: np.ndarray, count: int) -> np.ndarray:
    """Return which synapses are among the strongest."""
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-np.abs(values), kind="stable")[:count]] = True
    return chosen


def time_to_learn(
    tree: xr.DataTree, pathways: str | Sequence[str] | None = None, fractions: Sequence[float] = (0.5, 0.9)
) -> xr.Dataset:
    """Return how many observers it takes until the weights are half as far from the start as they get, and 90 %.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional
    fractions : sequence of float
        Of the distance from the start at the last snapshot.

    Returns
    -------
    Dataset
        ``observers`` (..., pathway, fraction), seen at the first snapshot that is as far; ``not_before``, at the one
        before that: between them it happened, and nothing is interpolated. NaN where a path has not moved.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    OptionError
        If a fraction is not between 0 and 1.

    Notes
    -----
    The end is that of the recording: a path that is still under way is not at its goal.
    """
    asked = np.asarray(fractions, float)
    if asked.ndim != 1 or not asked.size or not ((asked > 0) & (asked <= 1)).all():
        raise OptionError(f"fractions: expected numbers between 0 and 1, got {fractions!r}")

    def measure(run: RunWeights) -> Measures:
        squares = np.zeros(len(run.rows))
        for which, (change,) in changes([run], [np.arange(len(run.rows))]):
            squares[which] += np.square(change).sum(1)
        distance = np.sqrt(squares)
        reached, before = np.full(asked.size, np.nan), np.full(asked.size, np.nan)
        for number, part in enumerate(asked):
            there = np.flatnonzero(distance >= part * distance[-1] * (1 - 1e-12))
            if distance[-1] > 0:
                reached[number] = run.seen[there[0]] - run.seen[0]
                before[number] = run.seen[there[0] - 1] - run.seen[0]
        return {"observers": (("fraction",), reached), "not_before": (("fraction",), before)}

    return over_pathways(pathway_weights(tree, pathways), measure).assign_coords(fraction=asked)
