"""The shape of the path that weights take: how long, how straight, how fast, and in how many dimensions.

A path is the sequence of recorded snapshots W(0), W(1), ..., W(T) of a pathway, its steps are ``s_t = W(t) - W(t-1)``:

    path_length           sum_t |s_t|
    straightness          |W(T) - W(0)| / path_length: 1 on a line, 1/sqrt(T) for T equal steps at right angles
    speed                 |s_t| / observers seen during the step
    curvature             angle between s_t and s_(t+1), degrees: 0 on a line, 90 for unrelated steps
    effective_dimension   (sum_k l_k)^2 / sum_k l_k^2, with l_k the variances along the principal axes: 1 on a line, 5/2
                          for a long random walk

Length, straightness and curvature are those of the recorded snapshots: the finer a path is recorded, the longer it is, so
that only paths recorded at the same moments are compared. What a random walk would give stands beside: the principal
components of a random walk in many dimensions are cosines with the variances ``1 / (2 - 2 cos(pi k / n))`` for n points,
of which the first has 6/pi^2 = 61 % (Antognini & Sohl-Dickstein 2018, arXiv 1806.08805): most of a path in two dimensions
is no sign of structure. The participation ratio is that of Gao et al. 2017, bioRxiv 214262.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.pathway_weights import (
    MEMORY,
    Measures,
    PathwayWeights,
    RunWeights,
    beside,
    gram,
    over_pathways,
    parts,
    pathway_weights,
)
from neurossl.errors import OptionError, TrajectoryError


def path_geometry(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return length, straightness, speed and curvature of the path of every pathway.

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        All recorded ones by default.

    Returns
    -------
    Dataset
        ``path_length``, ``end_to_end``, ``straightness`` and ``straightness_if_random`` (..., pathway), the last for
        steps of the same lengths at right angles; ``step`` ``|s_t|`` and ``speed`` (..., snapshot, pathway) at the end of
        the step, ``curvature`` (degrees) at its beginning and end in between. NaN where a path has not moved, or has too
        few snapshots.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """
    found = over_pathways(pathway_weights(tree, pathways), _geometry)
    for name, (units, long_name) in _MEANINGS.items():
        found[name].attrs |= {"units": units, "long_name": long_name}
    return found


_MEANINGS = {
    "path_length": ("1", "length of the path through the recorded snapshots"),
    "end_to_end": ("1", "distance of the last snapshot from the first"),
    "straightness": ("1", "end-to-end distance over length"),
    "straightness_if_random": ("1", "the same of steps of these lengths at right angles to each other"),
    "step": ("1", "distance from the snapshot before"),
    "speed": ("1", "distance from the snapshot before, per observer seen"),
    "curvature": ("degree", "angle between the step to a snapshot and the step from it"),
}


def _geometry(run: RunWeights) -> Measures:
    count = len(run.rows)
    squares, turns, end = np.zeros(count), np.zeros(count), 0.0
    for part in parts([run], 4):
        first = before = run.read(np.array([0]), part)[0]
        last_step = np.zeros_like(first)
        block = max(1, MEMORY // max(1, 8 * first.size))
        for start in range(1, count, block):
            at = slice(start, min(start + block, count))
            values = run.read(at, part)
            steps = np.diff(values, axis=0, prepend=before[None])
            squares[at] += np.square(steps).sum(1)
            turns[at] += (steps * np.concatenate([last_step[None], steps[:-1]])).sum(1)
            before, last_step = values[-1], steps[-1]
        end += float(np.square(before - first).sum())
    step = np.sqrt(squares)
    step[0] = np.nan
    length = float(np.nansum(step))
    observers = np.diff(run.seen, prepend=np.nan)
    # The turn at a snapshot is known once the step from it is.
    norms = step[1:-1] * step[2:]
    cosine = np.divide(turns[2:], norms, out=np.full(norms.shape, np.nan), where=norms > 0)
    curvature = np.full(count, np.nan)
    curvature[1:-1] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    moved = length > 0
    random = float(np.sqrt(np.nansum(squares[1:])))
    return {
        "path_length": ((), np.asarray(length)),
        "end_to_end": ((), np.asarray(np.sqrt(end))),
        "straightness": ((), np.asarray(np.sqrt(end) / length if moved else np.nan)),
        "straightness_if_random": ((), np.asarray(random / length if moved else np.nan)),
        "step": (("snapshot",), step),
        "speed": (("snapshot",), np.divide(step, observers, out=np.full(count, np.nan), where=observers > 0)),
        "curvature": (("snapshot",), curvature),
    }


def effective_dimension(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return in how many dimensions the path of every pathway lies, (..., pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional

    Returns
    -------
    Dataset
        ``effective_dimension``, the participation ratio of the variances along the principal axes; ``if_random``, that of a
        random walk with the same step lengths in many dimensions; ``snapshots``, one more than either can be.

    Raises
    ------
    TrajectoryError
        If no weights, or not those of a pathway that is asked for, were recorded.
    """

    def measure(run: RunWeights) -> Measures:
        products = gram([run])
        steps = np.diff(np.diff(products, axis=0), axis=1).diagonal()
        return {
            "effective_dimension": ((), np.asarray(_participation(_variances(products)))),
            "if_random": ((), np.asarray(_participation(random_walk_variances(np.sqrt(np.maximum(steps, 0)))))),
            "snapshots": ((), np.asarray(float(len(run.rows)))),
        }

    return over_pathways(pathway_weights(tree, pathways), measure)


def random_walk_variances(steps: int | np.ndarray) -> np.ndarray:
    """Return the variances along the principal axes of a random walk in many dimensions, descending, (steps,).

    Parameters
    ----------
    steps : int or array, (steps,)
        How many of length 1, or their lengths: those of the centred products of cumulative sums of steps at right angles.
        For n - 1 equal steps they are ``1 / (2 - 2 cos(pi k / n))``, k = 1, ..., n - 1 (Antognini & Sohl-Dickstein 2018).
    """
    lengths = np.ones(steps) if isinstance(steps, int) else np.asarray(steps, float)
    points = np.vstack([np.zeros(lengths.size), np.tril(np.ones((lengths.size, lengths.size))) * lengths])
    return _variances(points @ points.T)[: lengths.size]


def principal_axes(
    tree: xr.DataTree,
    pathways: str | Sequence[str] | None = None,
    axes: int = 3,
    shared: str | Sequence[str] | None = None,
    scaled: bool = False,
) -> xr.Dataset:
    """Return the paths on their principal axes.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    pathways : str or sequence of str, optional
    axes : int
        How many.
    shared : str or sequence of str, optional
        Dims of the tree along which paths share their axes; ``rule`` by default, where there is one: of each seed the
        paths of all rules in one plane. ``()`` for axes of its own for every run.
    scaled : bool
        Divide every path by its largest distance from the start first, so that directions count rather than lengths.

    Returns
    -------
    Dataset
        ``score`` (..., snapshot, pathway, axis), of the change since the start, so that every path begins at 0;
        ``explained_variance`` (..., pathway, axis), the fraction of the variance of all points that share the axes;
        ``explained_of_path`` (..., pathway, axis), of each path's own variance; ``explained_if_random`` (axis), for one
        random walk of as many snapshots. Axis k points to where most of the final changes lie; the sign says nothing
        else.

    Raises
    ------
    TrajectoryError
        If no weights were recorded, or ``shared`` names no dim of the runs.
    OptionError
        If ``axes`` is not positive.
    """
    if axes < 1:
        raise OptionError(f"axes: expected a positive number, got {axes}")
    weights = pathway_weights(tree, pathways)
    asked = None if shared is None else [shared] if isinstance(shared, str) else list(shared)
    found = []
    for one in weights:
        common = [dim for dim in ("rule",) if dim in one.carried] if asked is None else asked
        found.append(_axes_of(one, axes, scaled, common))
    random = random_walk_variances(max(1, max(one.weight.sizes["snapshot"] for one in weights) - 1))
    share = np.full(axes, np.nan)
    share[: min(axes, random.size)] = (random / random.sum())[:axes]
    return beside(weights, found).assign(explained_if_random=("axis", share))


def _axes_of(one: PathwayWeights, axes: int, scaled: bool, shared: Sequence[str]) -> xr.Dataset:
    for dim in shared:
        if dim not in one.carried:
            raise TrajectoryError(
                f"{one.name}: no several runs along {dim!r}; they lie along {', '.join(one.carried) or 'nothing'}"
            )
    apart = [one.carried.index(dim) for dim in one.carried if dim not in shared]
    groups: dict[tuple[int, ...], list[RunWeights]] = {}
    for place, run in one.runs:
        if run is not None:
            groups.setdefault(tuple(place[axis] for axis in apart), []).append(run)
    values: dict[int, Measures] = {}
    for runs in groups.values():
        _require_one_shape(runs)
        values |= dict(zip(map(id, runs), _scores(runs, axes, scaled), strict=True))
    return one.dataset(lambda run: values[id(run)])


def _require_one_shape(runs: Sequence[RunWeights]) -> None:
    for run in runs[1:]:
        if run.shape != runs[0].shape or run.chosen != runs[0].chosen:
            raise TrajectoryError(f"{run.name} holds other synapses than {runs[0].name}: they have no axes in common")


def _scores(runs: Sequence[RunWeights], axes: int, scaled: bool) -> list[Measures]:
    products = gram(runs)
    if scaled:
        far = np.sqrt(products.diagonal())
        ends = np.cumsum([len(run.rows) for run in runs])[:-1]
        scale = np.concatenate([np.full(len(path), 1 / path.max() if path.any() else 1.0) for path in np.split(far, ends)])
        products *= scale[:, None] * scale
    centred = _centred(products)
    variances, vectors = np.linalg.eigh(centred)
    # Rounding leaves variances of 0 a little above or below it.
    kept = [k for k in np.argsort(variances)[::-1][:axes] if variances[k] > 1e-13 * max(variances[-1], 0)]
    along = vectors[:, kept] - vectors[:, kept].mean(0)
    scores = np.full((len(products), axes), np.nan)
    scores[:, : len(kept)] = products @ along / np.sqrt(variances[kept])
    stops = np.cumsum([len(run.rows) for run in runs])
    finals = scores[stops - 1]
    scores *= np.where(np.nansum(finals, 0) < 0, -1, 1)
    share = np.full(axes, np.nan)
    share[: len(kept)] = variances[kept] / np.trace(centred)
    found: list[Measures] = []
    for run, stop in zip(runs, stops, strict=True):
        own = slice(stop - len(run.rows), stop)
        total = np.trace(_centred(products[own, own]))
        spread = np.square(scores[own] - scores[own].mean(0)).sum(0)
        of_path = spread / total if total > 0 else np.full(axes, np.nan)
        found.append(
            {
                "score": (("snapshot", "axis"), scores[own]),
                "explained_variance": (("axis",), share),
                "explained_of_path": (("axis",), of_path),
            }
        )
    return found


def _centred(products: np.ndarray) -> np.ndarray:
    """Return the inner products of points about their mean."""
    return products - products.mean(0) - products.mean(1, keepdims=True) + products.mean()


def _variances(products: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.eigvalsh(_centred(products))[::-1], 0)


def _participation(variances: np.ndarray) -> float:
    total = float(np.square(variances).sum())
    return float(variances.sum()) ** 2 / total if total > 0 else float("nan")
