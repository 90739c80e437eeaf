"""How close is one update to another: measures in float64, for numpy arrays and torch tensors alike.

The comparison is made where the array lives; torch is not imported here, so that a stored update is compared without it.
"""

import math
from typing import Any

GROWTH_LIMIT = 50.0
"""Largest ratio of the norms of successive populations' activity at which a comparison is trusted."""
REFERENCE_FLOOR = 1e-7
"""Smallest norm of the reference update at which a comparison is trusted."""
DRIFT_LIMIT = 0.30
"""Largest cosine between updates of independent batches that does not suggest a drift that ignores the data."""


def _double(array: Any) -> Any:
    """Return the array flat and in float64."""
    if hasattr(array, "double"):
        return array.double().flatten()
    import numpy as np

    return np.asarray(array, dtype=np.float64).reshape(-1)


def cosine(update: Any, reference: Any) -> float:
    """Return the cosine of the angle between two updates, without any clamping of norms.

    Parameters
    ----------
    update, reference : array or Tensor of the same shape

    Returns
    -------
    float
        NaN if either norm is 0.
    """
    d, g = _double(update), _double(reference)
    norms = math.sqrt(float((d * d).sum())) * math.sqrt(float((g * g).sum()))
    return float((d * g).sum()) / norms if norms > 0 else math.nan


def compare_updates(update: Any, reference: Any) -> dict[str, Any]:
    """Return how close an update is to a reference, both flattened.

    Parameters
    ----------
    update, reference : array or Tensor of the same shape
        Ascent directions.

    Returns
    -------
    dict of str to float
        cosine ``<d, g> / (|d| |g|)``; angle (degrees); norm_ratio ``|d| / |g|``; sign_agreement, the fraction of equal
        signs over entries with ``g != 0`` (chance: 0.5); relative_error ``|d - g| / |g|``; update_norm; reference_norm.
        NaN where a norm that is divided by is 0.
    """
    d, g = _double(update), _double(reference)
    if d.shape != g.shape:
        raise ValueError(f"updates to compare: expected equal shapes, got {tuple(d.shape)} and {tuple(g.shape)}")
    d_norm, g_norm = math.sqrt(float((d * d).sum())), math.sqrt(float((g * g).sum()))
    similarity = float((d * g).sum()) / (d_norm * g_norm) if d_norm * g_norm > 0 else math.nan
    difference = d - g
    counted = float((g != 0).sum())
    agreeing = float((((d > 0) & (g > 0)) | ((d < 0) & (g < 0))).sum())
    return {
        "cosine": similarity,
        "angle": math.degrees(math.acos(max(-1.0, min(1.0, similarity)))) if not math.isnan(similarity) else math.nan,
        "norm_ratio": d_norm / g_norm if g_norm > 0 else math.nan,
        "sign_agreement": agreeing / counted if counted else math.nan,
        "relative_error": math.sqrt(float((difference * difference).sum())) / g_norm if g_norm > 0 else math.nan,
        "update_norm": d_norm,
        "reference_norm": g_norm,
    }


def compare_change(change: Any, update: Any, reference: Any = None) -> dict[str, float]:
    """Return how the change that was applied relates to what was proposed, all flattened.

    An optimiser, bounds and homeostasis turn an update into a change: the cosine of AdamW's steps is not that of gradients.

    Parameters
    ----------
    change : array or Tensor
        Weights after the moment minus those before.
    update, reference : array or Tensor of the same shape
        Ascent directions: what the rule proposed, and the reference, if there is one.

    Returns
    -------
    dict of str to float
        change_norm ``|c|``; change_agreement ``<c, d> / (|c| |d|)`` with the update d; change_cosine
        ``<c, g> / (|c| |g|)`` with the reference g, where one is given. NaN where a norm that is divided by is 0.
    """
    c = _double(change)
    found = {"change_norm": math.sqrt(float((c * c).sum())), "change_agreement": cosine(c, update)}
    return found if reference is None else {**found, "change_cosine": cosine(c, reference)}


TRUSTED, NOT_FINITE, TINY_REFERENCE, GROWTH, DRIFT = range(5)
"""Codes of `untrusted_because`."""
UNTRUSTED_BECAUSE = {
    TRUSTED: "trusted",
    NOT_FINITE: "update_zero_or_not_finite",
    TINY_REFERENCE: "reference_below_its_floor",
    GROWTH: "activity_grows",
    DRIFT: "drift_whatever_the_data",
}
"""What each code means, one word each as CF's ``flag_meanings`` wants it."""


def untrusted_because(
    *, reference_norm: float, activity_growth: float, stability: float, reference_stability: float, cosine: float
) -> int:
    """Return the code of why a comparison is not to be trusted, 0 if it is; see `UNTRUSTED_BECAUSE`.

    Parameters
    ----------
    reference_norm : float
        Norm of the reference update; near 0, rounding is compared.
    activity_growth : float
        Largest ratio of the norms of successive populations' activity.
    stability, reference_stability : float
        Cosine between updates of different batches, of the rule and of the reference; NaN where unknown. A rule whose
        updates agree across batches although those of the reference do not drifts whatever the data.
    cosine : float
        Cosine of update and reference.
    """
    if not math.isfinite(cosine):
        return NOT_FINITE
    if not reference_norm > REFERENCE_FLOOR:
        return TINY_REFERENCE
    if not activity_growth < GROWTH_LIMIT:
        return GROWTH
    if stability > DRIFT_LIMIT and reference_stability <= DRIFT_LIMIT:
        return DRIFT
    return TRUSTED
