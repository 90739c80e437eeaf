"""Correlations over rules and within them, with their intervals and tests; see `analysis.closeness`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neurossl.surroundings import imported

FEWEST_RULES = 3
PERMUTATIONS = 50_000
"""Orders of the rules that are tried: all of them up to 8 rules, a sample beyond."""


def of_one_population(data: xr.Dataset, generator: int) -> xr.Dataset:
    """Return all statistics of one population: between rules, within rules, and of both with each rule left out in turn."""
    rules = data["rule"].values
    x, y = data["x_mean"].values, data["y_mean"].values
    there = np.isfinite(x) & np.isfinite(y)
    found: dict[str, Any] = {"rules": int(there.sum())}
    for name in ("pearson", "spearman"):
        r, low, high, p = between(name, x[there], y[there], generator)
        found |= {name: r, f"{name}_low": low, f"{name}_high": high, f"{name}_p": p}
        without = np.full(len(rules), np.nan)
        for place in np.flatnonzero(there):
            rest = there.copy()
            rest[place] = False
            without[place] = _correlation(name, x[rest], y[rest])
        found[f"{name}_without"] = ("rule", without)
    x, y = data["x"].values, data["y"].values
    within, without = _within(x, y), np.full(len(rules), np.nan)
    for place in np.flatnonzero((np.isfinite(x) & np.isfinite(y)).sum(1) > 1):
        without[place] = _within(np.delete(x, place, 0), np.delete(y, place, 0))["within"]
    return xr.Dataset({**found, **within, "within_without": ("rule", without)}, {"rule": rules})


def _correlation(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's or Spearman's correlation; NaN for fewer than three values or where one does not vary."""
    if len(x) < FEWEST_RULES:
        return float("nan")
    stats = imported("scipy.stats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not vary is NaN
        return float(getattr(stats, f"{name}r")(x, y).statistic)


def between(name: str, x: np.ndarray, y: np.ndarray, generator: int = 0) -> tuple[float, float, float, float]:
    """Return a correlation over rules, its interval and the p-value of a permutation of the rules.

    Parameters
    ----------
    name : {"pearson", "spearman"}
    x, y : array, (rules,)
    generator : int
        Of the permutations, where there are too many for all.

    Returns
    -------
    r, low, high, p : float
        NaN for fewer than three rules or where one does not vary; no interval for three.
    """
    r = _correlation(name, x, y)
    if np.isnan(r):
        return r, np.nan, np.nan, np.nan
    stats = imported("scipy.stats")
    if name == "spearman":
        x, y = stats.rankdata(x), stats.rankdata(y)
    fixed = (y - y.mean()) / np.linalg.norm(y - y.mean())

    def correlation(order: np.ndarray, axis: int = -1) -> np.ndarray:
        spread = np.moveaxis(order, axis, -1)
        spread = spread - spread.mean(-1, keepdims=True)
        return (spread @ fixed) / np.linalg.norm(spread, axis=-1)

    test = stats.permutation_test(
        (x,),
        correlation,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(generator),
    )
    variance = (1 + r * r / 2 if name == "spearman" else 1.0) / (len(x) - 3) if len(x) > 3 else np.nan
    return r, *_fisher(r, variance), float(test.pvalue)


def _fisher(r: float, variance: float) -> tuple[float, float]:
    """Return the 95 % interval of a correlation from the variance of ``artanh r``."""
    if not np.isfinite(variance) or abs(r) > 1 - 1e-12:
        return float("nan"), float("nan")
    half = imported("scipy.stats").norm.ppf(0.975) * np.sqrt(variance)
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _within(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the correlation within rules, (rule, seed): of deviations from the mean of each rule."""
    both = np.isfinite(x) & np.isfinite(y)
    several = both.sum(1) > 1
    dx, dy = [], []
    for mine, theirs, there in zip(x[several], y[several], both[several], strict=True):
        dx.append(mine[there] - mine[there].mean())
        dy.append(theirs[there] - theirs[there].mean())
    n, rules = sum(map(len, dx)), len(dx)
    found = dict.fromkeys(("within", "within_low", "within_high", "within_p"), float("nan"))
    freedom = n - rules - 1
    if freedom > 0:
        a, b = np.concatenate(dx), np.concatenate(dy)
        scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
        if scale > 0:
            r = float(np.clip((a * b).sum() / scale, -1, 1))
            t = r * np.sqrt(freedom / (1 - r * r)) if abs(r) < 1 else np.inf
            found["within"], found["within_p"] = r, float(2 * imported("scipy.stats").t.sf(abs(t), freedom))
            found["within_low"], found["within_high"] = _fisher(r, 1 / (freedom - 1) if freedom > 1 else np.nan)
    return {**found, "within_n": n, "within_rules": rules}
