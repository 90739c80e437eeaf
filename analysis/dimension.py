"""How many dimensions a population uses for the stimuli: participation ratio, effective rank, TwoNN.

With the eigenvalues lambda of the covariance C of the responses over stimuli (n stimuli, p neurons):

* *Participation ratio* ``(sum lambda)^2 / sum lambda^2 = tr(C)^2 / tr(C^2)`` (Gao et al. 2017, bioRxiv 214262). The plain
  estimate is too small where stimuli are few, ``1/PR_plain ~ 1/PR + 1/n``. The default replaces both traces by their
  unbiased estimates, averages over sets of *different* stimuli as in Song et al. (2012) and Chun et al. (2025, arXiv
  2509.26560, their correction for rows): with the squared norms k_i of the centred responses, T their sum and
  ``F = tr((X'X)^2)``,

      tr(C^2) ~ [F - n/(n-2) sum k_i^2 + T^2/((n-1)(n-2))] / (n (n-3))
      tr(C)^2 ~ [(n T)^2 - 4 sum d_i^2 + 2 S] / (n (n-1)(n-2)(n-3))

  with ``d_i = (n k_i + T)/2`` and ``S = (n sum k_i^2 + T^2)/2 + F`` (d_i is the sum of half the squared distances to
  stimulus i, S that of their squares over all pairs). Neurons are taken as all there are. A ratio of unbiased estimates is
  unbiased up to order 1/n, and can exceed p by chance.
* *Effective rank* ``exp(-sum s log s)``, s the singular values of the centred responses over their sum (Roy & Vetterli
  2007), as recorded during learning. At most n - 1: too small where stimuli are few.
* *TwoNN* (Facco et al. 2017, Sci Rep 7:12140), the intrinsic dimension of a curved set, from mu = r_2 / r_1, the distances
  to the second over that to the first neighbour: ``(m - 1) / sum log mu`` over m points, the unbiased form of the maximum
  likelihood (Denti et al. 2022), or the slope of ``-log(1 - F(mu))`` over ``log mu`` without the largest tenth, as in the
  paper. Too small where there are few points for a high dimension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import Undefined, measured, scaled
from analysis.similarities import ROUNDING
from neurossl.errors import OptionError
from neurossl.surroundings import imported

TWO_NN = ("likelihood", "fit")
DISCARDED = 0.1
"""Share of the largest ratios that the fit leaves out."""
CANDIDATES = 8
"""Neighbours found by the fast formula, among which distances are computed exactly."""


def participation_ratio(response: Any, *, corrected: bool = True) -> xr.DataArray:
    """Return the participation ratio of the eigenvalues of the covariance; equations and sources above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    corrected : bool
        Without the bias of few stimuli; needs at least 4.

    Returns
    -------
    DataArray
        With the leading dims, in dimensions; NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    TrajectoryError
        If these are no responses.
    """
    found = measured(
        response, lambda values: {"participation_ratio": _participation(values, corrected)}, {"participation_ratio": None}
    )
    name = "participation ratio" + (", corrected for few stimuli" if corrected else "")
    return found["participation_ratio"].assign_attrs(long_name=name, units="1")


def effective_rank(response: Any) -> xr.DataArray:
    """Return the effective rank of the centred responses; equation and source above.

    Parameters and result as of `participation_ratio`.
    """
    found = measured(response, lambda values: {"effective_rank": _rank(values)}, {"effective_rank": None})
    return found["effective_rank"].assign_attrs(long_name="effective rank", units="1")


def two_nn(response: Any, *, method: str = "likelihood") -> xr.DataArray:
    """Return the intrinsic dimension from the distances to two neighbours; equations and sources above.

    Stimuli that evoke the very same response count as one point.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    method : str
        likelihood or fit.

    Returns
    -------
    DataArray
        With the leading dims, in dimensions; NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        For an unknown method.
    TrajectoryError
        If these are no responses.
    """
    if method not in TWO_NN:
        raise OptionError(f"method: expected {' or '.join(TWO_NN)}, got {method!r}")
    found = measured(response, lambda values: {"two_nn": _two_nn(values, method)}, {"two_nn": None})
    return found["two_nn"].assign_attrs(long_name=f"intrinsic dimension (TwoNN, {method})", units="1")


def _gram(x: np.ndarray) -> np.ndarray:
    """Return the smaller Gram matrix."""
    return x @ x.T if x.shape[0] < x.shape[1] else x.T @ x


def _participation(values: np.ndarray, corrected: bool) -> float:
    n = len(values)
    if corrected and n < 4:
        raise Undefined(f"{n} stimuli: the corrected participation ratio needs at least 4")
    x = scaled(values)
    power = np.einsum("ij,ij->i", x, x)
    total, fourth = float(power.sum()), float(np.square(_gram(x)).sum())
    if not corrected:
        return total**2 / fourth
    squares = float(power @ power)
    below = (fourth - n / (n - 2) * squares + total**2 / ((n - 1) * (n - 2))) / (n * (n - 3))
    if not below * n * (n - 3) > ROUNDING * fourth:
        raise Undefined("all stimuli are equally far apart: they are too few to tell how many dimensions there are")
    rows, pairs = (n * power + total) / 2, (n * squares + total**2) / 2 + fourth
    above = ((n * total) ** 2 - 4 * float(rows @ rows) + 2 * pairs) / (n * (n - 1) * (n - 2) * (n - 3))
    return above / below


def _rank(values: np.ndarray) -> float:
    singular = np.linalg.svd(scaled(values), compute_uv=False)
    share = singular / singular.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _two_nn(values: np.ndarray, method: str) -> float:
    points = np.unique(scaled(values), axis=0)
    if len(points) < 4:
        raise Undefined(f"{len(points)} different responses: TwoNN needs at least 4")
    first, second = _neighbours(points)
    log_ratio = np.sort(np.log(second / first))
    if method == "fit":
        kept = int(len(points) * (1 - DISCARDED))
        x, y = log_ratio[:kept], -np.log1p(-np.arange(1, kept + 1) / len(points))
        above, below = float(x @ y), float(x @ x)
    else:
        above, below = len(points) - 1.0, float(log_ratio.sum())
    if not below > 0:
        raise Undefined("every response has two neighbours at the same distance: no dimension")
    return above / below


def _neighbours(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances to the first and second neighbour."""
    count = min(CANDIDATES + 1, len(points))
    if points.shape[1] <= CANDIDATES:
        distances, _ = imported("scipy.spatial").cKDTree(points).query(points, 3)
        return distances[:, 1], distances[:, 2]
    squares = np.einsum("ij,ij->i", points, points)
    near = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(near, -1)
    candidates = np.argpartition(near, count - 1, axis=1)[:, :count]
    # The fast formula loses digits where two responses are much closer to one another than to the mean.
    exact = np.sort([np.linalg.norm(points[c] - point, axis=1) for c, point in zip(candidates, points, strict=True)], axis=1)
    return exact[:, 1], exact[:, 2]
