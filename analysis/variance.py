"""Variance between and within groups of stimuli, per neuron: what separability, invariance and tuning are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.representation_arrays import Undefined, scaled
from analysis.stimuli import codes, view_means


@dataclass(frozen=True)
class Variance:
    """One-way analysis of variance of every neuron, in units of the largest response; groups are classes or images.

    Attributes
    ----------
    between, within : array, (neurons,)
        Sums of squares; together the total.
    error : array, (neurons,)
        Mean square that a group's mean varies with: of the stimuli of a group about its mean, or, where several views show
        one image, of the images' means (views of one image are no independent samples of a class). Unbiased for equally many
        views.
    groups, count : int
    size : float
        Stimuli per group; where sizes differ, ``(n - sum n_g^2 / n) / (groups - 1)``.
    """

    between: np.ndarray
    within: np.ndarray
    error: np.ndarray
    groups: int
    count: int
    size: float

    @property
    def component(self) -> np.ndarray:
        """Variance of the groups' true means, (neurons,): an unbiased estimate, which can be negative."""
        return (self.between / (self.groups - 1) - self.error) / self.size


def variance_of(values: np.ndarray, groups: np.ndarray, images: np.ndarray | None = None, what: str = "class") -> Variance:
    """Return between- and within-group variance of responses (stimuli, neurons).

    Parameters
    ----------
    values : array, (stimuli, neurons)
    groups : array, (stimuli,)
    images : array, (stimuli,), optional
        Which stimuli are views of one image; each its own by default.
    what : str
        What a group is called in reasons.

    Raises
    ------
    Undefined
        If there is one group, or nothing within groups to compare with, or no variance.
    """
    x = scaled(values)
    place = codes(groups)
    sizes = np.bincount(place)
    if len(sizes) < 2:
        raise Undefined(f"one {what}: nothing to compare it with")
    means = _means(x, place, len(sizes))
    between = (sizes[:, None] * means**2).sum(0)
    residual = x - means[place]
    within = np.square(residual).sum(0)
    within[(within < 1e-24 * (between + within)) | (between + within == 0)] = 0
    if images is None or len(np.unique(images)) == len(images):
        left, error = len(x) - len(sizes), within
    else:
        # Each pair of a group and an image is one sample, weighted by its views.
        samples = codes(place.astype(np.int64) * (int(codes(images).max()) + 1) + codes(images))
        views = np.bincount(samples)
        error = (views[:, None] * view_means(residual, samples) ** 2).sum(0)
        left = len(views) - len(sizes)
    if left < 1:
        raise Undefined(f"one sample of each {what}: nothing within a {what} to compare with")
    n = len(x)
    size = (n - float(sizes @ sizes) / n) / (len(sizes) - 1)
    return Variance(between, within, error / left, len(sizes), n, size)


def _means(x: np.ndarray, place: np.ndarray, groups: int) -> np.ndarray:
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(groups))
    return np.add.reduceat(x[order], starts, axis=0) / np.bincount(place)[:, None]
