"""How well feedback weights are aligned with the transposed weights of the path forward.

A feedback pathway ``source=>target`` carries a signal down with weights B (target, source). Backprop would carry it
through the transposed product of the forward weights from the target up to the source,

    F = W_n ... W_2 W_1   (source, target),   angle = arccos( <B, F^T> / (|B| |F|) ),

which is ``W^T`` for neighbours: the weight alignment of feedback alignment (Lillicrap et al. 2016, Nat. Commun. 7, 13276;
Akrout et al. 2019, NeurIPS) and of direct feedback alignment (Noekland 2016; Refinetti et al. 2021, ICML). Rectifiers
between the populations are left out: F is the path with all of them open. Where the source has lateral weights of its own
at the top, as in CLAPP with direct feedback, the product that makes the local update that of backprop is ``F^T B_top``
(Wu, Delrocq, Gerstner & Bellec 2026, Theorem 3.1), and that is compared as well. Unrelated weights are at 90 degrees,
with a standard deviation of ``57.3 / sqrt(synapses)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr

from analysis.pathway_weights import Measures, PathwayWeights, RunWeights, beside, pathway_weights, recorded_pathways
from neurossl.errors import TrajectoryError


def feedback_angle(tree: xr.DataTree, pathways: str | Sequence[str] | None = None) -> xr.Dataset:
    """Return the angle of feedback weights with the transposed weights forward, (..., snapshot, pathway).

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        Feedback pathways ``source=>target``; all recorded ones by default.

    Returns
    -------
    Dataset
        ``cosine`` and ``angle`` (degrees) with ``F^T``; ``cosine_with_top`` with ``F^T B_top``, where the source has
        recorded lateral weights; ``deviation_by_chance`` (degrees) of the angle of unrelated weights; ``reason`` (...,
        pathway), why there is no angle, or "". Along the snapshots of the forward weights; feedback that was stored once,
        since it is fixed, is compared with all of them.

    Raises
    ------
    TrajectoryError
        If no feedback weights were recorded at all (a run that says only their digest cannot tell), or a pathway is none.
    """
    recorded = recorded_pathways(tree)
    known = [name for name in recorded if "=>" in name]
    if not known:
        raise TrajectoryError("no feedback weights were recorded: no angle with the weights forward can be given")
    asked = known if pathways is None else [pathways] if isinstance(pathways, str) else list(pathways)
    for name in asked:
        if name not in known:
            raise TrajectoryError(f"no feedback weights of {name!r} were recorded; there are those of {', '.join(known)}")
    stored = {one.name: one for one in pathway_weights(tree)}
    forward = next((one for one in stored.values() if "->" in one.name), None)
    if forward is None:
        raise TrajectoryError("no forward weights were recorded: feedback weights have nothing to be compared with")
    # On the snapshots of a forward pathway, since fixed feedback weights were stored once.
    found = [forward.dataset(partial(_angle, stored[name], stored)) for name in asked]
    if all("cosine" not in one for one in found):
        reasons = dict.fromkeys(
            str(r) for one in found if "reason" in one for r in np.unique(one["reason"].values.astype(str)) if r
        )
        raise TrajectoryError(f"no angle of {', '.join(asked)} can be given: {'; '.join(reasons) or 'nothing was recorded'}")
    together = beside([stored[name] for name in asked], found)
    return together.assign(reason=together["reason"].fillna("").astype(str))


def _angle(feedback: PathwayWeights, stored: Mapping[str, PathwayWeights], run: RunWeights) -> Measures:
    """Return the measures of a feedback pathway in the run of which the forward weights are given."""
    own = feedback.at(run.place)
    if own is None:
        return _nothing("its weights were not stored")
    if own.kept is not None:
        return _nothing("only some of its synapses were stored")
    source, _, target = feedback.name.partition("=>")
    target = target.partition(":")[0]
    if source == target:
        return _nothing("a lateral pathway has no path forward")
    count = len(run.rows)
    cosines, with_top = np.full(count, np.nan), np.full(count, np.nan)
    top = stored.get(f"{source}=>{source}")
    lateral = None if top is None else top.at(run.place)
    for which, seen in enumerate(run.seen):
        at = np.array([0]) if len(own.rows) == 1 else np.flatnonzero(own.seen == seen)
        if not at.size:
            continue
        weights = own.read(at[:1])[0].reshape(own.shape)
        product = _product(target, source, float(seen), run.place, stored)
        if isinstance(product, str):
            return _nothing(product)
        transposed = np.swapaxes(product, 0, 1)
        if transposed.shape != weights.shape:
            return _nothing(f"of shape {weights.shape}, the path forward transposed of shape {transposed.shape}")
        cosines[which] = _cosine(weights, transposed)
        if lateral is not None and lateral.kept is None and (same := np.flatnonzero(lateral.seen == seen)).size:
            matrix = lateral.read(same[:1])[0].reshape(lateral.shape)
            if matrix.ndim == 2 and matrix.shape[0] == transposed.shape[1] and matrix.shape[1] == weights.shape[1]:
                with_top[which] = _cosine(weights, transposed @ matrix)
    moments = ("snapshot",)
    return {
        "cosine": (moments, cosines),
        "angle": (moments, np.degrees(np.arccos(np.clip(cosines, -1, 1)))),
        "cosine_with_top": (moments, with_top),
        "deviation_by_chance": ((), np.asarray(np.degrees(1 / np.sqrt(own.synapses)))),
        "reason": ((), np.asarray("")),
    }


def _product(
    below: str, above: str, seen: float, place: tuple[int, ...], stored: Mapping[str, PathwayWeights]
) -> np.ndarray | str:
    """Return the forward weights from one population up to another, (above, below[, ky, kx]), over all routes, or why."""
    total: np.ndarray | None = None
    for name, one in stored.items():
        pre, arrow, post = name.partition("->")
        post = post.partition(":")[0]
        if not arrow or pre != below or not _leads(post, above, stored):
            continue
        run = one.at(place)
        at = np.flatnonzero(run.seen == seen) if run is not None else np.empty(0, int)
        if run is None or not at.size:
            return f"{name} was not stored at the same moments"
        if run.kept is not None or "presynaptic" in run.weight.coords:
            return f"{name} was not stored as a whole matrix"
        step = run.read(at[:1])[0].reshape(run.shape)
        if post != above:
            rest = _product(post, above, seen, place, stored)
            if isinstance(rest, str):
                return rest
            if step.ndim != 2 or rest.ndim != 2 or rest.shape[1] != step.shape[0]:
                return f"between {below} and {above} are convolutions or pooling, which a product of weights leaves out"
            step = rest @ step
        if total is not None and total.shape != step.shape:
            return f"the routes from {below} to {above} have different shapes"
        total = step if total is None else total + step
    return f"no path forward from {below} to {above} was recorded" if total is None else total


def _leads(below: str, above: str, stored: Mapping[str, PathwayWeights], beyond: frozenset[str] = frozenset()) -> bool:
    """Return whether recorded forward pathways lead from one population to another."""
    if below == above:
        return True
    ahead = {
        name.partition("->")[2].partition(":")[0] for name in stored if name.partition("->")[0] == below and "->" in name
    }
    return any(_leads(post, above, stored, beyond | {below}) for post in ahead - beyond)


def _nothing(reason: str) -> Measures:
    return {"reason": ((), np.asarray(reason))}


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norms if norms > 0 else float("nan")
