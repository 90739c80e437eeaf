"""Means and intervals over seeds, which say how many values they rest on.

What is not finite (NaN: not recorded; infinity: diverged) never enters a mean: it is left out everywhere, and counted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurossl.errors import OptionError
from neurossl.surroundings import imported

NO_INTERVAL = "n = 1: no interval"
"""Said in place of a claim where there is one seed."""


class Estimate(NamedTuple):
    """A mean and the half-width of its 95 % interval; NaN for a single seed, of which nothing is claimed.

    Attributes
    ----------
    mean, half_width : float
    n : int
        Values behind the mean; 0 where that was not said.
    left_out : int
        Values that were not finite and do not count.
    """

    mean: float
    half_width: float
    n: int = 0
    left_out: int = 0

    def text(self, digits: int = 3, factor: float = 1.0, sign: bool = False, n: bool = False) -> str:
        """Return mean±half-width times a factor, with so many decimals; the mean alone where there is no interval.

        Parameters
        ----------
        digits : int
        factor : float
        sign : bool
            Whether a positive mean has its sign.
        n : bool
            Whether it is said on how many values the mean rests, and how many were left out: ``0.48±0.06 (n = 3)``.
        """
        half = "" if np.isnan(self.half_width) else f"±{factor * self.half_width:.{digits}f}"
        return f"{factor * self.mean:{'+' if sign else ''}.{digits}f}{half}{f' ({self.n_text})' if n else ''}"

    @property
    def n_text(self) -> str:
        """In words, how many values there are: ``n = 3``, ``n = 2, 1 not finite left out``."""
        return f"n = {self.n}" + (f", {self.left_out} not finite left out" if self.left_out else "")

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
    count = np.asarray(count, dtype=float)
    several = count > 1
    # The quantile of scipy.stats.t, without its checks: they take longer than all else here.
    quantile = imported("scipy.special").stdtrit(np.where(several, count - 1, 1), 0.975)
    return np.where(several, quantile * deviation / np.sqrt(np.where(several, count, 1)), np.nan)


def estimate(values: Sequence[float] | np.ndarray | xr.DataArray) -> Estimate:
    """Return mean and 95 % interval of values, one per seed; what is not finite is left out and counted."""
    given = np.asarray(values, dtype=float).ravel()
    finite = given[np.isfinite(given)]
    n, left_out = int(finite.size), int(given.size - finite.size)
    if not n:
        return Estimate(float("nan"), float("nan"), 0, left_out)
    deviation = finite.std(ddof=1) if n > 1 else np.nan
    return Estimate(float(finite.mean()), float(student_half_width(np.asarray(deviation), np.asarray(n))), n, left_out)


def over_seeds(values: xr.DataArray, dim: str = "seed") -> xr.Dataset:
    """Return the mean over a dimension and the half-width of its 95 % interval, other labels kept.

    Parameters
    ----------
    values : DataArray
        What is not finite is left out, as `estimate` does.
    dim : str

    Returns
    -------
    Dataset
        ``mean``, ``half_width`` of the 95 % interval (Student's t), ``standard_error`` (both NaN where there are fewer than
        two values), ``count`` of values behind each mean, and ``left_out``: how many were not finite.

    Raises
    ------
    OptionError
        If there is no such dimension.
    """
    if dim not in values.dims:
        raise OptionError(f"there is no dimension {dim!r} to average over; there are {', '.join(map(str, values.dims))}")
    found = xr.apply_ufunc(
        _along_last,
        values,
        input_core_dims=[[dim]],
        output_core_dims=[[]] * len(_STATISTICS),
        dask="parallelized",
        output_dtypes=list(_STATISTICS.values()),
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return xr.Dataset(dict(zip(_STATISTICS, found, strict=True)))


_STATISTICS = {"mean": float, "half_width": float, "standard_error": float, "count": int, "left_out": int}
"""What `over_seeds` returns, with the types."""


def _along_last(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the statistics over the last axis, in the order of their names."""
    there = np.isfinite(values)
    count = np.asarray(there.sum(-1))
    some, several = np.where(count, count, 1), np.where(count > 1, count - 1, 1)
    dtype = np.result_type(values.dtype, np.float32)
    total = np.where(there, values, 0).sum(-1, dtype=dtype)
    mean = np.where(count, total / some, np.nan).astype(dtype)
    away = np.where(there, values, mean[..., None]) - mean[..., None]
    variance = (np.square(away, where=there, out=np.zeros_like(away)).sum(-1) / several).astype(dtype)
    deviation = np.where(count > 1, np.sqrt(variance), np.nan)
    half = student_half_width(deviation, count)
    return mean, half, deviation / np.sqrt(some), count, values.shape[-1] - count


def estimate_of(row: xr.Dataset, mean: str = "mean") -> Estimate:
    """Return one cell of `over_seeds` or `analysis.inference.paired_difference` as an `Estimate`.

    Parameters
    ----------
    row : Dataset
        With the scalars ``mean`` (or what it is called), ``half_width``, ``count`` or ``n``, and ``left_out``.
    mean : str
    """
    n = row["n"] if "n" in row else row["count"]
    return Estimate(float(row[mean]), float(row["half_width"]), int(n), int(row["left_out"]))
