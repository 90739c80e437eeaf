"""Comparison of matrices of dissimilarities (see `analysis.rsa`), over the pairs of stimuli i < j.

``spearman``, ``pearson`` and ``cosine`` are the usual ones; ``kendall`` is tau-a (Nili et al. 2014).

``whitened_cosine`` (Diedrichsen et al. 2021) takes the covariance of the estimated
dissimilarities into account, which with equal and independent noise is V = 2 I + B B' up to a factor,
B the incidence of pairs and stimuli. Its inverse has a closed form: with s the sums of a matrix's rows and n stimuli,

    a' V^-1 b  ~  a'b - s_a's_b / n + sum(s_a) sum(s_b) / (2 n^2),

which of squared Euclidean distances is |X'Y|^2: the whitened cosine is the biased linear CKA, and of crossnobis distances
free of its bias. Values agree with rsatoolbox (van den Bosch et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from analysis.crossing import Measure, crossed
from analysis.representation_arrays import Undefined
from analysis.similarities import ROUNDING
from neurossl.errors import OptionError, TrajectoryError
from neurossl.surroundings import imported

COMPARISONS = ("spearman", "kendall", "pearson", "cosine", "whitened_cosine")
SECOND = "_2"
"""Ending of the second of two dims with the same labels."""


def compare_dissimilarities(a: xr.DataArray, b: xr.DataArray, method: str = "spearman") -> xr.DataArray:
    """Return how similar two matrices of dissimilarities are, over the pairs of stimuli; equations and sources above.

    Parameters
    ----------
    a, b : DataArray (..., stimulus, stimulus_2) or (..., image, image_2)
        From `dissimilarity`, of the same stimuli. Leading dims that both have are matched by label, others crossed.
    method : str
        spearman (ties get their mean rank), kendall (tau-a, which counts ties as no agreement), pearson, cosine or
        whitened_cosine.

    Returns
    -------
    DataArray
        -1 to 1, with the leading dims. NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        For an unknown method.
    TrajectoryError
        If the stimuli differ, or these are no matrices of dissimilarities.
    """
    measure = comparison_measure(method)
    dims = core_of(a)
    if core_of(b) != dims:
        raise TrajectoryError(f"dissimilarities: expected the same dims, got {', '.join(dims)} and {', '.join(core_of(b))}")
    if a.sizes[dims[0]] != b.sizes[dims[0]]:
        raise TrajectoryError(
            f"dissimilarities: of {a.sizes[dims[0]]} and {b.sizes[dims[0]]} stimuli: compare those of the same"
        )
    for name in (dims[0], "image", "label"):
        if name in a.coords and name in b.coords and not np.array_equal(a[name].values, b[name].values):
            raise TrajectoryError(
                f"dissimilarities: another {name} along {dims[0]}: compare those of the same stimuli in the same order"
            )
    shown = {str(one.attrs["stimuli"]) for one in (a, b) if "stimuli" in one.attrs}
    if len(shown) > 1:
        raise TrajectoryError("dissimilarities: what was shown differs: compare responses to the same probe set")
    read = lambda one, place: measure.prepare(pairs_of(one.transpose(..., *dims).isel(place).values))  # noqa: E731
    return crossed(a, b, dims, read, measure)


def comparison_measure(method: str) -> Measure:
    """Return a way to compare vectors of dissimilarities."""
    if method not in COMPARISONS:
        raise OptionError(f"comparison: expected one of {', '.join(COMPARISONS)}, got {method!r}")
    ways: Mapping[str, Any] = {
        "spearman": (lambda v: _unit(_less_mean(imported("scipy.stats").rankdata(_varying(v)))), _dot),
        "kendall": (_varying, _tau_a),
        "pearson": (lambda v: _unit(_less_mean(_finite(v))), _dot),
        "cosine": (lambda v: _unit(_finite(v)), _dot),
        "whitened_cosine": (_whitened, _whitened_dot),
    }
    return Measure(f"{method.replace('_', ' ')} of dissimilarities", *ways[method])


def core_of(rdm: xr.DataArray) -> tuple[str, str]:
    """Return the two dims of the stimuli."""
    found = [str(dim) for dim in getattr(rdm, "dims", ()) if f"{dim}{SECOND}" in rdm.dims]
    if len(found) != 1 or rdm.sizes[found[0]] != rdm.sizes[found[0] + SECOND]:
        what = ", ".join(map(str, rdm.dims)) if isinstance(rdm, xr.DataArray) else type(rdm).__name__
        raise TrajectoryError(
            f"dissimilarities: expected dims (..., stimulus, stimulus_2) as of analysis.dissimilarity, got {what}"
        )
    return found[0], found[0] + SECOND


def pairs_of(square: np.ndarray) -> np.ndarray:
    """Return the entries above the diagonal, row after row."""
    return square[np.triu_indices(len(square), 1)]


def _finite(vector: np.ndarray) -> np.ndarray:
    if not vector.size:
        raise Undefined("one stimulus: no pairs")
    if not np.isfinite(vector).all():
        raise Undefined(f"{int((~np.isfinite(vector)).sum())} of {vector.size} dissimilarities are undefined")
    return vector


def _varying(vector: np.ndarray) -> np.ndarray:
    # Ranks of rounding errors would be a number, and mean nothing.
    if np.ptp(_finite(vector)) <= ROUNDING * np.abs(vector).max():
        raise Undefined("all dissimilarities are equal")
    return vector


def _less_mean(vector: np.ndarray) -> np.ndarray:
    _varying(vector)
    return vector - vector.mean()


def _unit(vector: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vector)
    if not norm > 0:
        raise Undefined("all dissimilarities are 0")
    return vector / norm


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.clip(a @ b, -1, 1))


def _tau_a(a: np.ndarray, b: np.ndarray) -> float:
    """Return (concordant - discordant) / pairs from tau-b, whose denominator leaves the ties out."""
    tau_b = imported("scipy.stats").kendalltau(a, b, method="asymptotic").statistic
    pairs = a.size * (a.size - 1) / 2
    untied = [pairs - sum(c * (c - 1) / 2 for c in np.unique(v, return_counts=True)[1]) for v in (a, b)]
    return float(np.clip(tau_b * np.sqrt(untied[0] * untied[1]) / pairs, -1, 1))


def _whitened(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    _finite(vector)
    count = round((1 + np.sqrt(1 + 8 * vector.size)) / 2)
    first, second = np.triu_indices(count, 1)
    largest = np.abs(vector).max()
    if not largest > 0:
        raise Undefined("all dissimilarities are 0")
    vector = vector / largest
    sums = np.bincount(first, vector, count) + np.bincount(second, vector, count)
    norm = _whitened_inner((vector, sums, 1.0), (vector, sums, 1.0))
    return vector, sums, norm


def _whitened_inner(a: tuple[np.ndarray, np.ndarray, float], b: tuple[np.ndarray, np.ndarray, float]) -> float:
    count = len(a[1])
    return float(a[0] @ b[0] - a[1] @ b[1] / count + a[1].sum() * b[1].sum() / (2 * count**2))


def _whitened_dot(a: tuple[np.ndarray, np.ndarray, float], b: tuple[np.ndarray, np.ndarray, float]) -> float:
    return float(np.clip(_whitened_inner(a, b) / np.sqrt(a[2] * b[2]), -1, 1))
