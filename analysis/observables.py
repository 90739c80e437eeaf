"""What an experimenter could measure of a learning network: statistics of weights and activities over learning.

The observables of Nayebi, Srivastava, Ganguli & Yamins (2020), "Identifying learning rules from neural network
observables", arXiv 2010.11765, in a form that does not depend on the size of the network: of every part of the network (its
lowest pathway or population, the mean of those between, its highest) and every recorded moment a few numbers. Nothing of
what a rule is called, of its pathways besides the feedforward ones, or of its learning rate goes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError

WEIGHTS = (
    *("mean", "deviation", "skewness", "kurtosis", "nonzero_share", "row_norm_spread"),
    *("moved", "kept_direction", "change_mean", "change_kurtosis", "change_rank", "step_cosine", "sign_changes"),
)
"""Of weights: moments of their distribution; and of what they have changed by, sizes relative to the first snapshot."""
ACTIVITIES = (
    *("active_share", "sparseness", "lifetime_sparseness", "skewness", "mean_over_deviation"),
    *("dimension", "pair_correlation", "kept_pattern", "norm_ratio"),
)
"""Of responses to the same stimuli."""
PARTS = ("lowest", "between", "highest")


def observables(
    tree: xr.DataTree,
    pathways: Sequence[str],
    populations: Sequence[str],
    units: int | None = None,
    generator: np.random.Generator | None = None,
) -> xr.Dataset:
    """Return what weights and responses look like over learning, whatever the size of the network.

    Parameters
    ----------
    tree : DataTree
        Of a run with ``/weights`` and ``/responses``.
    pathways, populations : sequence of str
        From below to above; each population is that onto which the pathway of the same place leads.
    units : int, optional
        Neurons that are looked at per population, drawn at random, with the synapses onto them from as many presynaptic
        neurons; all by default.
    generator : numpy Generator, optional
        Draws them; needed with ``units``.

    Returns
    -------
    Dataset
        ``weights`` (part, snapshot, weight_observable) and ``activities`` (part, snapshot, activity_observable),
        dimensionless; parts are the lowest, the mean of those between, and the highest. NaN where a statistic is not
        defined, such as a step at the first snapshot.

    Raises
    ------
    TrajectoryError
        If weights or responses of one of them are not recorded, or not as many snapshots of each.
    """
    if units is not None and generator is None:
        raise TypeError("observables of some units need a generator that draws them")
    weights = [_of_weights(_drawn(_stored(tree, "weights", name, "weight"), units, generator)) for name in pathways]
    activities = [
        _of_responses(_drawn(_stored(tree, "responses", name, "response"), units, generator, axis=2)) for name in populations
    ]
    counts = {len(found) for found in (*weights, *activities)}
    if len(counts) != 1:
        raise TrajectoryError(
            f"observables: expected as many snapshots of all weights and responses, found {sorted(counts)}"
        )
    return xr.Dataset(
        {
            "weights": (("part", "snapshot", "weight_observable"), _parts(weights)),
            "activities": (("part", "snapshot", "activity_observable"), _parts(activities)),
        },
        {"part": list(PARTS), "weight_observable": list(WEIGHTS), "activity_observable": list(ACTIVITIES)},
    )


def _stored(tree: xr.DataTree, kind: str, name: str, variable: str) -> np.ndarray:
    """Return a recorded tensor (snapshot, ...) in float64, its trailing axes joined."""
    groups = tree.children[kind].children.values() if kind in tree.children else ()
    for group in groups:
        if name in (group.attrs.get("pathway"), group.attrs.get("name"), group.name):
            values = np.asarray(group[variable].values, dtype=np.float64)
            return values.reshape(*values.shape[:2], -1)
    raise TrajectoryError(f"observables: {kind} of {name!r} are not recorded in this run")


def _drawn(values: np.ndarray, units: int | None, generator: np.random.Generator | None, axis: int = 1) -> np.ndarray:
    """Return what concerns some neurons: rows and columns of weights (axis 1), columns of responses (axis 2)."""
    if units is None or generator is None:
        return values
    for along in (1, 2) if axis == 1 else (axis,):
        size = values.shape[along]
        values = np.take(values, np.sort(generator.permutation(size)[:units]), axis=along)
    return values


def _parts(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Return (part, snapshot, observable) of the layers, each (snapshot, observable)."""
    inner = layers[1:-1] or [layers[0], layers[-1]]
    return np.stack([layers[0], np.mean(inner, axis=0), layers[-1]])


def _of_weights(weights: np.ndarray) -> np.ndarray:
    """Return the observables of weights (snapshot, post, pre)."""
    first = weights[0]
    size = np.linalg.norm(first)
    rows = []
    for number, now in enumerate(weights):
        change, step = now - first, now - weights[max(0, number - 1)]
        earlier = weights[number - 1] - weights[number - 2] if number > 1 else np.zeros_like(now)
        flat = now.ravel()
        norms = np.linalg.norm(now, axis=1)
        rows.append(
            [
                *(_ratio(flat.mean(), flat.std()), _ratio(flat.std(), first.std())),
                *(_skewness(flat), _kurtosis(flat)),
                float(np.mean(np.abs(flat) > 0.1 * np.abs(flat).max())) if flat.any() else np.nan,
                _ratio(norms.std(), norms.mean()),
                _ratio(np.linalg.norm(change), size),
                _cosine(now, first),
                _ratio(change.mean(), change.std()),
                _kurtosis(change.ravel()),
                _rank(change),
                _cosine(step, earlier),
                float(np.mean(np.sign(now) != np.sign(first))),
            ]
        )
    return np.array(rows)


def _of_responses(responses: np.ndarray) -> np.ndarray:
    """Return the observables of responses (snapshot, stimulus, neuron)."""
    first = responses[0] - responses[0].mean(0)
    rows = []
    for now in responses:
        centred = now - now.mean(0)
        flat = now.ravel()
        rows.append(
            [
                float(np.mean(flat > 0)),
                float(np.nanmean(_treves_rolls(now, 1))) if flat.any() else np.nan,
                float(np.nanmean(_treves_rolls(now, 0))) if flat.any() else np.nan,
                _skewness(flat),
                _ratio(flat.mean(), flat.std()),
                _rank(centred),
                _pair_correlation(centred),
                _cosine(centred @ centred.T, first @ first.T),
                _ratio(np.linalg.norm(now), np.linalg.norm(responses[0])),
            ]
        )
    return np.array(rows)


def _ratio(above: float | np.floating[Any], below: float | np.floating[Any]) -> float:
    return float(above / below) if below > 0 else float("nan")


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return _ratio(float(np.vdot(one, other)), float(np.linalg.norm(one) * np.linalg.norm(other)))


def _moment(values: np.ndarray, order: int) -> float:
    deviation = values.std()
    return float(np.mean(((values - values.mean()) / deviation) ** order)) if deviation > 0 else float("nan")


def _skewness(values: np.ndarray) -> float:
    return _moment(values, 3)


def _kurtosis(values: np.ndarray) -> float:
    return _moment(values, 4) - 3.0


def _rank(matrix: np.ndarray) -> float:
    """Return the participation ratio of the squared singular values over their number: 1 where all are alike."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return _ratio(float(np.trace(gram)) ** 2, float(np.vdot(gram, gram)) * len(gram))


def _treves_rolls(responses: np.ndarray, axis: int) -> np.ndarray:
    """Return ``1 - <z>^2 / <z^2>`` along an axis; NaN where nothing responds."""
    power = np.square(responses).mean(axis)
    return np.where(power > 0, 1 - responses.mean(axis) ** 2 / np.where(power > 0, power, 1), np.nan)


def _pair_correlation(centred: np.ndarray) -> float:
    """Return the mean correlation between neurons that respond differently to different stimuli."""
    deviation = np.sqrt(np.square(centred).mean(0))
    alive = deviation > 0
    count = int(alive.sum())
    if count < 2:
        return float("nan")
    total = np.square((centred[:, alive] / deviation[alive]).sum(1)).mean()
    return float((total - count) / (count * (count - 1)))


def table_of(several: Iterable[xr.Dataset], kinds: Sequence[str], snapshots: Sequence[int]) -> np.ndarray:
    """Return one row of numbers per run: some kinds of observables at some snapshots, NaN as 0.

    Parameters
    ----------
    several : iterable of Dataset
        As `observables` returns them.
    kinds : sequence of str
        Out of weights and activities.
    snapshots : sequence of int
        Places along the snapshots.
    """
    rows = [np.concatenate([found[kind].values[:, list(snapshots)].ravel() for kind in kinds]) for found in several]
    return np.nan_to_num(np.array(rows), nan=0.0, posinf=0.0, neginf=0.0)
