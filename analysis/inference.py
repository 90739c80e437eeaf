"""Differences between conditions, paired by seed: how large, how sure, and after how many tests.

With the same seed two rules begin from the same weights and see the same images, so that the difference ``d`` per seed is
the unit: ``t = mean(d) / (s / sqrt(n))`` with ``n - 1`` degrees of freedom (Student 1908). What a page claims together is
one family, corrected by Holm (1979); "as good as" is a claim of its own, by two one-sided tests (Schuirmann 1987), and an
interval that includes 0 is no evidence for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from analysis.statistics import student_half_width
from neurossl.errors import OptionError
from neurossl.surroundings import imported

Values = xr.DataArray | np.ndarray | Sequence[float]
P = TypeVar("P", xr.DataArray, np.ndarray)
LEVEL = 0.05
POWER = 0.8
NO_SPREAD = 1e-12
"""Share of the mean below which the spread of differences is rounding: there is no test of what does not vary."""
MOST_SEEDS = 10_000


def paired_difference(a: Values, b: Values, dim: str = "seed", test: str = "t") -> xr.Dataset:
    """Return the mean of ``a - b`` over pairs of the same seed, with its interval, test and size.

    Parameters
    ----------
    a, b : DataArray with the dimension ``dim``, or values in the same order
        Aligned by their labels along ``dim``; other dimensions are kept.
    dim : str
    test : str
        What ``p`` is from: "t" (`scipy.stats.ttest_rel`) or "wilcoxon" (exact signed ranks, which needs six pairs before
        p can fall below 0.05).

    Returns
    -------
    Dataset
        ``difference``; ``half_width`` of its 95 % interval (Student's t) and ``standard_error``; ``t``; ``p``, two-sided;
        ``n`` pairs, and ``left_out`` of which one value is not finite; ``sign`` of the difference and ``positive``, the
        number of pairs in which a is larger; ``hedges_g_av``, the difference in units of the average standard deviation of
        a and b, corrected for few pairs (Lakens 2013, eq. 10 and 4, as pingouin does), and ``d_z``, in units of that of the
        differences.
        With fewer than two pairs, and where all differences are the same, there is no test: p is NaN (1 if all are 0).

    Raises
    ------
    OptionError
        If seeds do not match; names those that are on one side alone.
    """
    if test not in ("t", "wilcoxon"):
        raise OptionError(f"test must be 't' or 'wilcoxon', got {test!r}")
    first, second = matched(a, b, dim)
    return _paired(first, second, dim, test)


def matched(a: Values, b: Values, dim: str = "seed") -> tuple[xr.DataArray, xr.DataArray]:
    """Return two arrays with the same labels in the same order along all dimensions that they share.

    Raises
    ------
    OptionError
        If labels are on one side alone, double, or absent on one side.
    """
    first, second = _labelled(a, dim), _labelled(b, dim)
    for shared in [dim, *(d for d in first.dims if d in second.dims and d != dim)]:
        second = _as_in(first, second, str(shared))
    return first, second


def _labelled(values: Values, dim: str) -> xr.DataArray:
    if not isinstance(values, xr.DataArray):
        plain = np.asarray(values, dtype=float)
        if plain.ndim != 1:
            raise OptionError(f"values without labels must be a list of one per {dim}, got the shape {plain.shape}")
        return xr.DataArray(plain, dims=[dim])
    if dim not in values.dims:
        raise OptionError(
            f"there is no dimension {dim!r} to pair by; there are {', '.join(map(str, values.dims)) or 'none'}"
        )
    return values


def _as_in(first: xr.DataArray, second: xr.DataArray, dim: str) -> xr.DataArray:
    """Return ``second`` in the order of ``first``."""
    if (dim in first.coords) != (dim in second.coords):
        raise OptionError(f"one side has labels along {dim!r} and the other has none: label both, or neither")
    if dim not in first.coords:
        if first.sizes[dim] != second.sizes[dim]:
            raise OptionError(f"{first.sizes[dim]} and {second.sizes[dim]} values along {dim!r} cannot be paired")
        return second
    ours, theirs = first.indexes[dim], second.indexes[dim]
    for labels in (ours, theirs):
        if labels.has_duplicates:
            double = labels[labels.duplicated()].unique().tolist()
            raise OptionError(f"{dim} {_listed(double)} is there more than once: it cannot be paired")
    alone = [f"{_listed(extra)} {where}" for extra, where in _alone(ours, theirs)]
    if alone:
        raise OptionError(f"values cannot be paired by {dim}: {', '.join(alone)}; select what both have")
    return second.sel({dim: ours})


def _alone(ours: Any, theirs: Any) -> list[tuple[list[Any], str]]:
    found = [
        ([x for x in ours if x not in theirs], "in the first alone"),
        ([x for x in theirs if x not in ours], "in the second alone"),
    ]
    return [(extra, where) for extra, where in found if extra]


def _listed(labels: Sequence[Any], most: int = 8) -> str:
    return ", ".join(map(str, labels[:most])) + (", ..." if len(labels) > most else "")


def _paired(a: xr.DataArray, b: xr.DataArray, dim: str, test: str) -> xr.Dataset:
    # Coordinates along other dimensions (label, objective, ...) would only clash.
    one, other = xr.broadcast(a.reset_coords(drop=True).astype(float), b.reset_coords(drop=True).astype(float))
    whole = np.isfinite(one) & np.isfinite(other)
    one, other = one.where(whole), other.where(whole)
    difference = one - other
    n = whole.sum(dim)
    mean = difference.mean(dim)
    spread = _deviation(difference, n, dim)
    varies = spread > NO_SPREAD * np.maximum(abs(one).max(dim), abs(other).max(dim))
    error = spread / np.sqrt(n.where(n > 1))
    t = mean / error.where(varies)
    p = _p_of(difference, dim, test).where(varies)
    p = p.where(varies | (n < 2) | (mean != 0), 1.0)
    average = ((_deviation(one, n, dim) ** 2 + _deviation(other, n, dim) ** 2) / 2) ** 0.5
    small = 1 - 3 / (8 * n.where(n > 1) - 9)
    half = xr.apply_ufunc(student_half_width, spread, n)
    found = {
        "difference": mean,
        "half_width": half,
        "standard_error": error,
        "t": t,
        "p": p,
        "n": n,
        "left_out": one.sizes[dim] - n,
        "sign": np.sign(mean),
        "positive": (difference > 0).sum(dim),
        "hedges_g_av": small * mean / average.where(average > 0),
        "d_z": mean / spread.where(varies),
    }
    about = {"paired_by": dim, "test": {"t": "paired t, two-sided", "wilcoxon": "Wilcoxon signed ranks, two-sided"}[test]}
    return xr.Dataset(found, attrs=about)


def _deviation(values: xr.DataArray, n: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the sample standard deviation; NaN for fewer than two values."""
    return values.where(n > 1).std(dim, ddof=1, skipna=True)


def _p_of(difference: xr.DataArray, dim: str, test: str) -> xr.DataArray:
    stats = imported("scipy.stats")

    def p(values: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # too few values, or no spread: NaN says so
            if test == "wilcoxon":
                return stats.wilcoxon(values, axis=-1, nan_policy="omit").pvalue
            return stats.ttest_1samp(values, 0.0, axis=-1, nan_policy="omit").pvalue

    return xr.apply_ufunc(p, difference.compute(), input_core_dims=[[dim]])


def compare_pairs(values: xr.DataArray, dim: str = "rule", over: str = "seed", test: str = "t") -> xr.Dataset:
    """Return every paired difference between the entries of a dimension, row minus column, corrected by Holm.

    Parameters
    ----------
    values : DataArray, (rule, seed, ...)
        One number per rule and seed, such as the accuracy after learning.
    dim : str
        What is compared.
    over : str
        What pairs the values; pairs of which one is NaN are left out.
    test : str
        See `paired_difference`.

    Returns
    -------
    Dataset, (rule, other_rule, ...)
        As `paired_difference`, with ``p_holm`` over all pairs and all further dimensions, each pair counted once
        (``attrs["tests"]``); NaN on the diagonal.

    Raises
    ------
    OptionError
        If a dimension is missing, or there is one entry alone.
    """
    if not isinstance(values, xr.DataArray):
        raise OptionError(f"one variable is compared, got {type(values).__name__}: choose it, as in data['probe_accuracy']")
    for needed in (dim, over):
        if needed not in values.dims:
            raise OptionError(f"there is no dimension {needed!r}; there are {', '.join(map(str, values.dims)) or 'none'}")
    count = values.sizes[dim]
    if count < 2:
        raise OptionError(f"a comparison needs two entries of {dim!r} at least, got {count}")
    other = f"other_{dim}"
    rows = values.reset_coords(drop=True)
    if dim not in rows.coords:
        rows = rows.assign_coords({dim: range(count)})
    columns = rows.rename({dim: other})
    found = _paired(rows, columns, over, test)
    place = np.arange(count)
    below = xr.DataArray(place[:, None] > place[None, :], dims=[dim, other])
    once = holm(found["p"].where(below))
    mirrored = once.rename({dim: other, other: dim}).transpose(*once.dims)
    off = xr.DataArray(place[:, None] != place[None, :], dims=[dim, other])
    found = found.assign(p=found["p"].where(off), p_holm=once.fillna(mirrored).where(off))
    return found.assign_attrs(tests=once.attrs["tests"], correction=f"Holm over {once.attrs['tests']} tests")


def holm(p: P) -> P:
    """Return p-values corrected for the number of tests by Holm's step-down method; NaN is no test and stays.

    The i-th smallest of m is multiplied by ``m - i + 1``, kept in order and below 1 (Holm 1979). The chance of one wrong
    claim in the whole family stays below the level, whatever the dependence between the tests.

    Parameters
    ----------
    p : DataArray or array
        All values are one family.

    Returns
    -------
    Like ``p``
        A DataArray has the number of tests as ``attrs["tests"]``.

    Raises
    ------
    OptionError
        If a value is not between 0 and 1.
    """
    given = np.asarray(p, dtype=float)
    tested = ~np.isnan(given)
    flat = given[tested]
    if flat.size and (flat.min() < 0 or flat.max() > 1):
        raise OptionError(f"p-values lie between 0 and 1, got {flat.min():g} to {flat.max():g}")
    order = np.argsort(flat, kind="stable")
    steps = np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1))
    corrected = np.full(given.shape, np.nan)
    in_order = np.empty_like(flat)
    in_order[order] = np.minimum(steps, 1.0)
    corrected[tested] = in_order
    if isinstance(p, xr.DataArray):
        return p.copy(data=corrected).rename("p_holm").assign_attrs(tests=int(flat.size))
    return corrected


def equivalence_test(a: Values, b: Values, margin: float, dim: str = "seed") -> xr.Dataset:
    """Return whether a and b, paired by seed, differ by less than a margin: two one-sided t tests.

    The larger of the p-values of "the difference is not above -margin" and "not below margin" (Schuirmann 1987).

    Parameters
    ----------
    a, b, dim
        See `paired_difference`.
    margin : float
        In units of the values: the largest difference that does not matter, chosen before looking.

    Returns
    -------
    Dataset
        ``difference``, ``half_width`` (95 %), ``half_width_90`` of the 90 % interval, which lies within the margin where
        p < 0.05, ``p``, ``p_lower``, ``p_upper``, ``equivalent``, ``n``, ``left_out``; ``attrs["margin"]``.
        Where differences do not vary there is no test (p NaN, not equivalent).

    Raises
    ------
    OptionError
        If the margin is not above 0 or seeds do not match.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise OptionError(f"the margin of equivalence must be above 0, got {margin!r}")
    found = paired_difference(a, b, dim)
    t = imported("scipy.stats").t
    error, freedom = found["standard_error"], found["n"] - 1
    tested = np.isfinite(found["t"])
    error, freedom = error.where(tested), freedom.where(tested)

    def beyond(distance: xr.DataArray) -> xr.DataArray:
        return xr.apply_ufunc(t.sf, distance / error, freedom)

    lower, upper = beyond(found["difference"] + margin), beyond(margin - found["difference"])
    p = xr.where(lower > upper, lower, upper)
    ninety = xr.apply_ufunc(t.ppf, 0.95, freedom) * error
    kept = found[["difference", "half_width", "standard_error", "n", "left_out"]]
    tests = {"half_width_90": ninety, "p": p, "p_lower": lower, "p_upper": upper, "equivalent": p < LEVEL}
    return kept.assign(tests).assign_attrs(margin=float(margin), test="two one-sided paired t tests")


@cache
def detectable_effect(n: int, alpha: float = LEVEL, power: float = POWER, tests: int = 1) -> float:
    """Return the smallest standardised difference ``d_z`` that n pairs show with a given power; infinite for n < 2.

    The d for which a noncentral t with ``n - 1`` degrees of freedom and noncentrality ``d sqrt(n)`` exceeds the two-sided
    critical value with probability ``power`` (Cohen 1988, ch. 2).

    Parameters
    ----------
    n : int
        Pairs.
    alpha, power : float
    tests : int
        Size of the family: alpha is divided by it, which is the first and hardest step of Holm's correction.

    Raises
    ------
    OptionError
        If a number makes no sense.
    """
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise OptionError(f"{name} lies between 0 and 1, got {value!r}")
    if tests < 1:
        raise OptionError(f"a family has one test at least, got {tests!r}")
    if power <= alpha:
        raise OptionError(f"a power of {power:g} below the level {alpha:g} asks for no difference at all")
    if n < 2:
        return float("inf")
    optimize = imported("scipy.optimize")
    high = 1.0
    while _power(high, n, alpha / tests) < power:
        high *= 2
    return float(optimize.brentq(lambda d: _power(d, n, alpha / tests) - power, 0.0, high, xtol=1e-10))


def _power(effect: float, n: int, alpha: float) -> float:
    """Return the probability that a two-sided paired t test shows a standardised difference.

    The mean of the normal tails over the distribution of the sample deviation: `scipy.stats.nct` is NaN far out.
    """
    stats, integrate, special = imported("scipy.stats"), imported("scipy.integrate"), imported("scipy.special")
    freedom, shift = n - 1, effect * np.sqrt(n)
    critical = stats.t.ppf(1 - alpha / 2, freedom)

    def shown(z: float) -> float:
        limit = critical * np.sqrt(2 * special.gammaincinv(freedom / 2, special.ndtr(z)) / freedom)
        return np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * (special.ndtr(shift - limit) + special.ndtr(-limit - shift))

    edge = stats.norm.ppf(stats.chi2.cdf(freedom * (shift / critical) ** 2, freedom))  # where a difference begins to show
    cuts = [edge + step for step in (-0.1, 0.0, 0.1) if abs(edge + step) < 8]
    return float(integrate.quad(shown, -8.0, 8.0, points=cuts or None, limit=200, epsabs=1e-10, epsrel=1e-8)[0])


def detectable_difference(
    spread: float | xr.DataArray, n: int, alpha: float = LEVEL, power: float = POWER, tests: int = 1
) -> Any:
    """Return the smallest difference that n seeds show with a given power: `detectable_effect` times the spread.

    Parameters
    ----------
    spread : float or DataArray
        Standard deviation of the paired differences, such as ``standard_error * sqrt(n)`` of `paired_difference`; known
        from few seeds it is itself uncertain.
    n, alpha, power, tests
        See `detectable_effect`.
    """
    return spread * detectable_effect(n, alpha, power, tests)


def seeds_needed(difference: float, spread: float, alpha: float = LEVEL, power: float = POWER, tests: int = 1) -> int:
    """Return how many seeds show a difference with a given power.

    Parameters
    ----------
    difference : float
        That is to be shown, in the unit of ``spread``.
    spread, alpha, power, tests
        See `detectable_difference`.

    Raises
    ------
    OptionError
        If the difference or the spread is not above 0, or more than `MOST_SEEDS` would be needed.
    """
    if not (difference != 0 and np.isfinite(difference) and spread > 0 and np.isfinite(spread)):
        raise OptionError(f"a difference other than 0 and a spread above 0 are needed, got {difference!r} and {spread!r}")
    effect = abs(difference) / spread
    low, high = 1, 2
    while detectable_effect(high, alpha, power, tests) > effect:
        low, high = high, 2 * high
        if low > MOST_SEEDS:
            raise OptionError(
                f"more than {MOST_SEEDS:,} seeds would be needed to show {difference:g} at a spread of {spread:g}"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if detectable_effect(middle, alpha, power, tests) > effect else (low, middle)
    return high
