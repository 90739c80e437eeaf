"""Canonical correlations of two representations: CCA, SVCCA and PWCCA.

With orthonormal bases Q_x, Q_y of the column spaces of the centred responses X (stimuli, p) and Y (stimuli, q), the
canonical correlations rho are the singular values of Q_x' Q_y (Björck & Golub 1973). With n stimuli, rank(X) + rank(Y) - (n
- 1) of them are 1 whatever the responses are, and of independent data the mean square is max(rank)/(n - 1): this is a
measure for many more stimuli than neurons, and refused otherwise.

* CCA: the mean of rho.
* SVCCA (Raghu et al. 2017, arXiv 1706.05806): the same after each representation is reduced to the leading singular
  directions that hold 99 % of its variance; the way where there are more neurons than stimuli.
* PWCCA (Morcos et al. 2018, arXiv 1806.05759): the mean of rho weighted by ``alpha_i = sum_j |<h_i, x_j>|``, how much of x
  (the first argument) the canonical variate h_i accounts for; not symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from analysis.crossing import Measure, paired
from analysis.representation_arrays import Undefined, as_responses, leading, matrix, scaled
from analysis.stimuli import check_same_stimuli
from neurossl.errors import OptionError, TrajectoryError


def cca(x: Any, y: Any) -> xr.DataArray:
    """Return the mean canonical correlation, 0 to 1, of two representations; equation and source above.

    Parameters
    ----------
    x, y : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
        Responses to the same stimuli, which are more than the neurons of both together. Leading dims that both have are
        matched by label, others crossed.

    Raises
    ------
    TrajectoryError
        If there are too few stimuli (every value would be 1 by geometry), or stimuli differ.
    """
    return paired(x, y, cca_measure())


def svcca(x: Any, y: Any, *, variance: float = 0.99, components: int | None = None) -> xr.DataArray:
    """Return the mean canonical correlation of the leading singular directions; equation and source above.

    Parameters
    ----------
    x, y : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    variance : float
        Share of the variance that is kept of each.
    components : int, optional
        Directions that are kept, instead.

    Raises
    ------
    TrajectoryError
        If still too many directions are kept for the stimuli there are, or stimuli differ.
    OptionError
        If ``variance`` is no share or ``components`` no number of directions.
    """
    return paired(x, y, svcca_measure(variance, components))


def pwcca(x: Any, y: Any) -> xr.DataArray:
    """Return the projection-weighted canonical correlation of x with y; equation and source above.

    Parameters and errors as of `cca`.
    """
    return paired(x, y, pwcca_measure())


def canonical_correlations(x: Any, y: Any) -> xr.DataArray:
    """Return all canonical correlations, (component,), the largest first.

    Parameters
    ----------
    x, y : DataArray (stimulus, neuron) or array (stimuli, neurons)
        As of `cca`, one representation each.

    Returns
    -------
    DataArray
        ``attrs["chance"]`` is the mean square that independent data with normal noise have.

    Raises
    ------
    TrajectoryError
        If there are further dims, too few stimuli, or nothing that varies.
    """
    one, other = as_responses(x, "x"), as_responses(y, "y")
    check_same_stimuli({"x": one, "y": other})
    if leading(one) or leading(other):
        raise TrajectoryError(f"canonical_correlations: select one of {', '.join({*leading(one), *leading(other)})} first")
    try:
        a, b = (_Basis.of(matrix(side, {})[0]) for side in (one, other))
    except Undefined as reason:
        raise TrajectoryError(f"canonical_correlations: {reason}") from None
    found = _correlations(a, b)
    chance = max(a.rank, b.rank) / (len(a.directions) - 1)
    return xr.DataArray(found, dims="component", name="correlation", attrs={"units": "1", "chance": chance})


def cca_measure() -> Measure:
    """Return CCA as a `Measure`."""
    return Measure("mean canonical correlation", _Basis.of, lambda a, b: float(_correlations(a, b).mean()))


def svcca_measure(variance: float = 0.99, components: int | None = None) -> Measure:
    """Return SVCCA as a `Measure`."""
    if isinstance(variance, bool) or not isinstance(variance, int | float) or not 0 < variance <= 1:
        raise OptionError(f"variance: expected a share above 0 and at most 1, got {variance!r}")
    if components is not None and (isinstance(components, bool) or not isinstance(components, int) or components < 1):
        raise OptionError(f"components: expected a whole number from 1, got {components!r}")

    def keep(singular: np.ndarray) -> int:
        if components is not None:
            return min(components, len(singular))
        power = np.cumsum(singular**2)
        return int(np.searchsorted(power, variance * power[-1] * (1 - 1e-12)) + 1)

    kept = f"{components} directions" if components is not None else f"{100 * variance:g} % of the variance"
    return Measure(
        f"SVCCA ({kept})",
        lambda values: _Basis.of(values, keep),
        lambda a, b: float(_correlations(a, b, truncated=True).mean()),
    )


def pwcca_measure() -> Measure:
    """Return PWCCA as a `Measure`."""
    return Measure("projection-weighted CCA", _Basis.of, _weighted, symmetric=False)


class _Basis(NamedTuple):
    """Orthonormal basis of what is kept of centred responses, and the responses in it."""

    directions: np.ndarray
    coefficients: np.ndarray

    @property
    def rank(self) -> int:
        return self.directions.shape[1]

    @classmethod
    def of(cls, values: np.ndarray, keep: Callable[[np.ndarray], int] | None = None) -> _Basis:
        left, singular, right = np.linalg.svd(scaled(values), full_matrices=False)
        rank = int((singular > singular[0] * max(values.shape) * np.finfo(float).eps).sum())
        kept = keep(singular[:rank]) if keep else rank
        return cls(left[:, :kept], singular[:kept, None] * right[:kept])


def _check(a: _Basis, b: _Basis, truncated: bool) -> None:
    count = len(a.directions)
    by_geometry = a.rank + b.rank - (count - 1)
    if by_geometry > 0:
        remedy = "keep fewer with components= or variance=" if truncated else "use svcca, or cka, or show more stimuli"
        raise TrajectoryError(
            f"canonical correlation: {count} stimuli for {a.rank} and {b.rank} directions: "
            f"{min(by_geometry, a.rank, b.rank)} of the "
            f"correlations are 1 whatever the responses are: {remedy}"
        )


def _correlations(a: _Basis, b: _Basis, truncated: bool = False) -> np.ndarray:
    _check(a, b, truncated)
    return np.clip(np.linalg.svd(a.directions.T @ b.directions, compute_uv=False), 0, 1)


def _weighted(a: _Basis, b: _Basis) -> float:
    _check(a, b, False)
    turned, rho, _ = np.linalg.svd(a.directions.T @ b.directions, full_matrices=False)
    weights = np.abs(turned.T @ a.coefficients).sum(1)
    return float(weights @ np.clip(rho, 0, 1) / weights.sum())
