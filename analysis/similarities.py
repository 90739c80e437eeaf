"""Similarity of two representations that does not ask which neuron corresponds to which: CKA and Procrustes.

With centred responses X (stimuli, p) and Y (stimuli, q) to the same n stimuli and the Gram matrices K = X X', L = Y Y':

*Linear CKA* (Kornblith et al. 2019, arXiv 1905.00414) is ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``: 1 for
representations that differ by a rotation and a scale, 0 for unrelated ones. The plain estimate, ``HSIC = |X'Y|^2``, has a
large bias where neurons are many and stimuli few: independent data with 100 stimuli and 1,000 neurons read 0.91 (Murphy et
al. 2024, arXiv 2405.01012). The default is therefore the *debiased* one with the unbiased HSIC of Song et al. (2012, JMLR
13:1393, equation 5),

    HSIC_u = 1/(n (n-3)) [ tr(K~ L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1 ],    K~ = K with a zero diagonal,

which in centred responses, with k_i = |x_i|^2 and l_i = |y_i|^2, is ``|X'Y|^2 - n/(n-2) k'l + sum(k) sum(l) / ((n-1)(n-2))``
over n (n-3): no n by n matrix is needed where neurons are fewer than stimuli. It can be slightly negative.

*Procrustes angle* (Williams et al. 2021, arXiv 2110.14739): ``arccos( |X'Y|_* / (|X| |Y|) )`` with the nuclear norm, the
angle between the two after the best rotation; a metric. It has no correction for few stimuli: compare angles of equal n and
similar p only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.crossing import Measure, paired
from analysis.representation_arrays import Undefined, scaled

ROUNDING = 1e-12
"""Part of the uncorrected value below which what the correction leaves is rounding."""


def cka(x: Any, y: Any, *, debiased: bool = True) -> xr.DataArray:
    """Return the linear centred kernel alignment of two representations; equations and sources above.

    Parameters
    ----------
    x, y : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
        Responses to the same stimuli; neurons may differ. Leading dims that both have are matched by label, others crossed.
    debiased : bool
        Use the unbiased HSIC; needs at least 4 stimuli.

    Returns
    -------
    DataArray
        With the leading dims; -1 to 1. NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    TrajectoryError
        If stimuli differ, or these are no responses.
    """
    return paired(x, y, cka_measure(debiased=debiased))


def procrustes(x: Any, y: Any) -> xr.DataArray:
    """Return the angle between two representations after the best rotation, radians, 0 to pi/2; equation and source above.

    Representations of different width are compared as if the narrower one had silent neurons. Angles below 1e-7 are 0 up to
    rounding.

    Parameters
    ----------
    x, y : DataArray (..., stimulus, neuron) or array (stimuli, neurons)

    Raises
    ------
    TrajectoryError
        If stimuli differ, or these are no responses.
    """
    return paired(x, y, procrustes_measure())


def cka_measure(debiased: bool = True) -> Measure:
    """Return CKA as a `Measure`."""
    word = "debiased linear CKA" if debiased else "biased linear CKA"
    return Measure(word, lambda values: _Kernel(values, debiased), _Kernel.alignment)


def procrustes_measure() -> Measure:
    """Return the Procrustes angle as a `Measure`."""
    return Measure("Procrustes angle", _unit_factor, _angle, perfect=0.0, units="rad")


class _Kernel:
    """Centred responses, as they are or as their Gram matrix, whichever is smaller."""

    def __init__(self, values: np.ndarray, debiased: bool) -> None:
        count, neurons = values.shape
        if debiased and count < 4:
            raise Undefined(f"{count} stimuli: the debiased CKA needs at least 4")
        x = scaled(values)
        self.count, self.debiased = count, debiased
        self.power = np.einsum("ij,ij->i", x, x)
        self.is_gram = neurons > count
        self.array = x @ x.T if self.is_gram else x
        raw = self._raw(self)
        self.norm = self.inner(self)
        if not self.norm > ROUNDING * raw:
            raise Undefined("all stimuli are equally far apart: nothing is left of the similarities after the correction")

    def _raw(self, other: _Kernel) -> float:
        """Return ``|X'Y|^2``, equal to ``<K, L>``."""
        if self.is_gram and other.is_gram:
            return float(np.vdot(self.array, other.array))
        if self.is_gram:
            return other._raw(self)
        if other.is_gram:
            return float(np.vdot(self.array, other.array @ self.array))
        return float(np.square(self.array.T @ other.array).sum())

    def inner(self, other: _Kernel) -> float:
        """Return the HSIC times the constants that cancel in CKA."""
        raw, n = self._raw(other), self.count
        if not self.debiased:
            return raw
        together = float(self.power @ other.power)
        return raw - n / (n - 2) * together + float(self.power.sum() * other.power.sum()) / ((n - 1) * (n - 2))

    def alignment(self, other: _Kernel) -> float:
        """Return the CKA."""
        return float(np.clip(self.inner(other) / np.sqrt(self.norm * other.norm), -1, 1))


def _unit_factor(values: np.ndarray) -> np.ndarray:
    """Return centred responses of norm 1; where neurons are more than stimuli, a square factor of the same Gram matrix."""
    x = scaled(values)
    if x.shape[1] > x.shape[0]:
        x = np.asarray(np.linalg.qr(x.T, mode="r")).T
    return x / np.linalg.norm(x)


def _angle(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.arccos(np.clip(np.linalg.svd(x.T @ y, compute_uv=False).sum(), -1, 1)))
