"""How similar the representations of different seeds of one rule are: the ceiling for the similarity of different rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.crossing import Measure
from analysis.rdm_comparison import SECOND
from analysis.similarity_matrices import similarity
from analysis.statistics import student_half_width
from neurossl.errors import OptionError


def noise_ceiling(source: Any, measure: str | Measure = "cka", **options: Any) -> xr.Dataset:
    """Return how similar the representations of different seeds of one rule are: the ceiling for other rules.

    Of a distance (procrustes) it is the floor.

    Parameters
    ----------
    source : DataTree
        Of many runs, with a dim ``seed``; or a mapping of populations to DataArrays that have it.
    measure, **options
        As of `similarity`.

    Returns
    -------
    Dataset
        (population, rule, ...): ``ceiling``, the mean over pairs of seeds; ``half_width`` of its 95 % interval, Student's t
        with the jackknife over seeds (Arvesen 1969; pairs that share a seed are not independent; NaN for two seeds);
        ``seeds``, their number.

    Raises
    ------
    OptionError
        If there is no dim ``seed``, or for what `similarity` refuses.
    """
    pairs = similarity(source, "seed", measure, **options)
    if pairs.sizes["seed"] < 2:
        raise OptionError("noise_ceiling: one seed: there is nothing to compare it with; open runs with several seeds")
    own = pairs.transpose(..., "seed", "seed" + SECOND)
    mean, half, count = xr.apply_ufunc(
        _jackknife, own, input_core_dims=[["seed", "seed" + SECOND]], output_core_dims=[[], [], []], vectorize=True
    )
    return xr.Dataset({"ceiling": mean.assign_attrs(pairs.attrs), "half_width": half, "seeds": count.astype(int)})


def similarity_of_rules(source: Any, measure: str | Measure = "cka", **options: Any) -> xr.Dataset:
    """Return how similar rules are, beside how similar the seeds of one rule are.

    Parameters
    ----------
    source, measure, **options
        As of `similarity`, of many runs.

    Returns
    -------
    Dataset
        (population, rule, rule_2): ``same_seed``, mean over seeds of both rules from the same start (NaN of a rule with
        itself); ``other_seed``, mean over pairs of different seeds, on whose diagonal is the noise ceiling; both with
        ``..._half_width``, the 95 % interval over seeds (Student's t; jackknife for pairs); ``seeds``, that both have.

    Raises
    ------
    OptionError
        If there is no dim ``rule`` or ``seed``, or for what `similarity` refuses.
    """
    every = similarity(source, ("rule", "seed"), measure, **options)
    core = ["seed", "seed" + SECOND]
    names = ("same_seed", "same_seed_half_width", "other_seed", "other_seed_half_width", "seeds")
    found = xr.apply_ufunc(_over_pairs, every, input_core_dims=[core], output_core_dims=[[]] * len(names), vectorize=True)
    result = xr.Dataset(dict(zip(names, found, strict=True)), attrs=every.attrs)
    # A run with itself is 1 by construction, and says nothing.
    others = result["rule"] != result["rule" + SECOND]
    own = {name: result[name].where(others) for name in ("same_seed", "same_seed_half_width")}
    return result.assign(own | {"seeds": result["seeds"].astype(int)})


def _jackknife(square: np.ndarray) -> tuple[float, float, int]:
    """Return mean over pairs of seeds, half-width of its 95 % interval, and the number of seeds."""
    off = square.copy()
    np.fill_diagonal(off, np.nan)
    present = np.isfinite(off).any(1)
    off = off[np.ix_(present, present)]
    n = len(off)
    if n < 2:
        return np.nan, np.nan, max(n, int(np.isfinite(np.diag(square)).sum() > 0))
    return (*_mean_of_pairs(off), n)


def _mean_of_pairs(off: np.ndarray) -> tuple[float, float]:
    """Return mean and half-width of (seed, seed), NaN on the diagonal; the jackknife leaves one seed out on both sides."""
    n = len(off)
    mean = float(np.nanmean(off))
    if n < 3:
        return mean, np.nan
    total, number = np.nansum(off), np.isfinite(off).sum()
    left = total - np.nansum(off, 0) - np.nansum(off, 1)
    without = left / (number - np.isfinite(off).sum(0) - np.isfinite(off).sum(1))
    pseudo = n * mean - (n - 1) * without
    return mean, float(student_half_width(np.asarray(pseudo.std(ddof=1)), np.asarray(n)))


def _over_pairs(square: np.ndarray) -> tuple[float, float, float, float, int]:
    """Return what `similarity_of_rules` says of two rules, from (seed of one, seed of the other)."""
    present = np.isfinite(np.diag(square))
    n = int(present.sum())
    both = square[np.ix_(present, present)]
    same = np.diag(both)
    nan = float("nan")
    if not n:
        return nan, nan, nan, nan, 0
    spread = float(same.std(ddof=1)) if n > 1 else nan
    half = float(student_half_width(np.asarray(spread), np.asarray(n)))
    off = both.copy()
    np.fill_diagonal(off, np.nan)
    other = _mean_of_pairs(off) if n > 1 else (nan, nan)
    return float(same.mean()), half, *other, n
