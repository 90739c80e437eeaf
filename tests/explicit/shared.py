"""Shared by several rules: global pooling, the two views of each object, cross-entropy at the top, sums of updates."""

from __future__ import annotations

import numpy as np

from .base import Params, Sweep
from .cases import Rule
from .neurons import Array, softmax, transfer, windows


def pool(z: Array) -> Array:
    """A map's activity averaged over its locations, (R, channels); units as they are."""
    return z if z.ndim == 2 else z.mean(axis=(2, 3))


def unpool_globally(credit: Array, z: Array) -> Array:
    """Credit on `pool(z)` to credit on z: divided by the number of locations, the same at each of them."""
    if z.ndim == 2:
        return credit
    return np.broadcast_to(credit[:, :, None, None] / (z.shape[2] * z.shape[3]), z.shape).copy()


def two_views(partner: Array) -> tuple[Array, Array]:
    """Rows of the first views and, in the same order of the objects, of the second ones."""
    first = np.flatnonzero(np.arange(len(partner)) < partner)
    return first, partner[first]


def join(first: Array, second: Array, credit_first: Array, credit_second: Array) -> Array:
    """Credits on the rows of the two views put back into the order of the rows."""
    credit = np.zeros((len(first) + len(second), credit_first.shape[1]))
    credit[first], credit[second] = credit_first, credit_second
    return credit


def cross_entropy(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Per row, -log softmax(scores)[label] and the credit onehot - softmax on the scores."""
    p = softmax(scores)
    return -np.log(p[np.arange(len(labels)), labels]), np.eye(scores.shape[1])[labels] - p


def outer(left: Array, right: Array) -> Array:
    """Mean over rows of left outer right."""
    return np.einsum("rj,ri->ji", left, right) / len(left)


def flat(x: Array) -> Array:
    """(R, values)."""
    return x.reshape(len(x), -1)


def add(total: Params, part: Params) -> None:
    """Adds updates to `total`, in place."""
    for key, value in part.items():
        total[key] = total[key] + value if key in total else value


def note_kinks(rule: Rule, sweep: Sweep) -> None:
    """As `Rule.sweep` does for the free sweep: how close a relaxing network's drives come to kinks and to equal winners."""
    for pop in rule.net.driven:
        drive = sweep.drive[pop.name]
        if pop.transfer == "relu":
            rule.closest = min(rule.closest, np.abs(drive).min())
        if pop.pooling is not None and pop.pooling["kind"] == "max":
            two = np.sort(windows(transfer(pop.transfer, drive), pop.pooling["kernel"]), axis=-1)[..., -2:]
            gap = two[..., 1] - two[..., 0]
            rule.closest = min(rule.closest, gap[two[..., 1] != 0].min(initial=np.inf))
