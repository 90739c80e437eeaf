"""Means and intervals over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurossl.surroundings import imported

NO_INTERVAL = "n = 1: no interval"
"""Said in place of a claim where there is one seed."""


class Estimate(NamedTuple):
    """A mean and the half-width of its 95 % interval; NaN for a single seed, of which nothing is claimed."""

    mean: float
    half_width: float

    def text(self, digits: int = 3, factor: float = 1.0, sign: bool = False) -> str:
        """Return mean±half-width times a factor, with so many decimals; the mean alone where there is no interval."""
        half = "" if np.isnan(self.half_width) else f"±{factor * self.half_width:.{digits}f}"
        return f"{factor * self.mean:{'+' if sign else ''}.{digits}f}{half}"

    def __str__(self) -> str:
        return self.text()

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval: whether there were several seeds."""
        return not np.isnan(self.half_width)

    def is_above(self, level: float) -> bool:
        """Return whether the interval lies above a level; never without an interval."""
        return bool(self.mean - self.half_width > level)

    def is_below(self, level: float) -> bool:
        """Return whether the interval lies below a level; never without an interval."""
        return bool(self.mean + self.half_width < level)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return bool(abs(self.mean) > self.half_width)


def student_half_width(deviation: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the half-width of the 95 % interval of a mean of normal variables, ``t s / sqrt(n)``; NaN for n < 2.

    Parameters
    ----------
    deviation : array
        Sample standard deviation (n - 1 in the denominator).
    count : array
        n.
    """
    t = imported("scipy.stats").t
    count = np.asarray(count, dtype=float)
    several = count > 1
    quantile = t.ppf(0.975, np.where(several, count - 1, 1))
    return np.where(several, quantile * deviation / np.sqrt(np.where(several, count, 1)), np.nan)


def estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return mean and 95 % interval of values, one per seed; NaN values are left out."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Estimate(float("nan"), float("nan"))
    deviation = finite.std(ddof=1) if finite.size > 1 else np.nan
    return Estimate(float(finite.mean()), float(student_half_width(np.asarray(deviation), np.asarray(finite.size))))


def over_seeds(values: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """Return the mean over a dimension and the half-width of its 95 % interval, other labels kept.

    Parameters
    ----------
    values : DataArray
        NaN counts as missing.
    dim : str

    Returns
    -------
    Dataset
        ``mean``, ``half_width`` of the 95 % interval (Student's t), ``standard_error`` (both NaN where there are fewer than
        two values) and ``count``.
    """
    count = values.notnull().sum(dim)
    with np.errstate(invalid="ignore"):
        several = values.where(count > 1)
        deviation = several.std(dim, ddof=1)
    half = xr.apply_ufunc(student_half_width, deviation, count)
    return xr.Dataset(
        {"mean": values.mean(dim), "half_width": half, "standard_error": deviation / np.sqrt(count), "count": count}
    )
