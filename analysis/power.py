"""How many seeds a difference needs to be shown, and how small a difference so many seeds can show.

For a paired t test, two-sided: the difference in units of the standard deviation of the paired differences is shown with
the probability that a noncentral t exceeds the critical value (Cohen 1988, ch. 2). Among several claims the level is that
of the first and hardest step of Holm's correction.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from analysis.inference import LEVEL
from neurossl.errors import OptionError
from neurossl.surroundings import imported

POWER = 0.8
MOST_SEEDS = 10_000


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
