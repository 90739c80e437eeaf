"""Ratios of means with an interval of the ratio: what share of one thing another is.

A ratio of two means, paired by seed, has no standard error of its own where the lower mean may be 0. Fieller's theorem
(1954) inverts the paired t test instead: r belongs to the interval if the mean of ``a - r b`` is not told from 0.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from analysis.inference import LEVEL, Values, matched
from neurossl.surroundings import imported


def ratio_of_means(a: Values, b: Values, dim: str = "seed") -> xr.Dataset:
    """Return ``mean(a) / mean(b)`` over pairs of the same seed, with its 95 % interval (Fieller).

    Parameters
    ----------
    a, b : DataArray with the dimension ``dim``, or values in the same order
        Aligned by their labels along ``dim``; other dimensions are kept.
    dim : str

    Returns
    -------
    Dataset
        ``ratio``; ``low`` and ``high``, the values of r at which a t test of ``a - r b`` has p = 0.05, around the ratio: in
        general not at the same distance. NaN where there are fewer than two pairs, and where the mean of b is not told from
        0: then no ratio is excluded, however large. ``n`` pairs, and ``left_out`` of which one value is not finite.

    Raises
    ------
    OptionError
        If seeds do not match; names those that are on one side alone.
    """
    first, second = matched(a, b, dim)
    one, other = xr.broadcast(first.reset_coords(drop=True).astype(float), second.reset_coords(drop=True).astype(float))
    whole = np.isfinite(one) & np.isfinite(other)
    one, other = one.where(whole), other.where(whole)
    n = whole.sum(dim)
    above, below = one.mean(dim), other.mean(dim)
    freedom = n.where(n > 1) - 1
    scale = imported("scipy.stats").t.ppf(1 - LEVEL / 2, freedom) ** 2 / (n * freedom)
    spread, slack = one - above, other - below
    # r lies within where (above - r below)^2 <= t^2 var(a - r b) / n: a quadratic in r
    leading = below**2 - scale * (slack**2).sum(dim)
    middle = above * below - scale * (spread * slack).sum(dim)
    last = above**2 - scale * (spread**2).sum(dim)
    root = np.sqrt((middle**2 - leading * last).clip(min=0))
    bounded = leading > 0
    found = {
        "ratio": above / below.where(below != 0),
        "low": ((middle - root) / leading).where(bounded),
        "high": ((middle + root) / leading).where(bounded),
        "n": n,
        "left_out": one.sizes[dim] - n,
    }
    return xr.Dataset(found, attrs={"paired_by": dim, "interval": "95 %, Fieller's theorem"})
