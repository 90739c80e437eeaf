"""Noise of updates: how close two of them could be, and how far a rule is from its reference apart from sampling.

The updates of two independent halves of a batch are ``g + e1`` and ``g + e2`` with independent noise. In many dimensions
their cosine is ``c = |g|^2 / (|g|^2 + E|e|^2)``: the noise ceiling. A batch of k times as many observers has a k-th of the
noise, hence the formula of Spearman and Brown (1910),

    c_k = k c / (1 + (k - 1) c)                      two full batches (k = 2):  2 c / (1 + c)

An update without any noise has at most ``sqrt(c_k)`` with such a batch. Where rule and reference see the same batch they
share its noise, and their cosine may lie above the ceiling; the cosine across halves shares none, and corrected for
attenuation (Spearman 1904) it estimates the cosine of what both have in expectation:

    cos(E d, E g) = cross / sqrt(c_rule c_reference)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neurossl.errors import TrajectoryError

SYNAPTIC = ("post", "pre", "ky", "kx", "synapse", "presynaptic")
"""Axes of stored updates that are synapses."""


def expected_ceiling(half: Any, factor: float = 2.0) -> Any:
    """Return the expected cosine of two batches that are ``factor`` times as large, ``k c / (1 + (k - 1) c)``.

    Parameters
    ----------
    half : float, array or DataArray
        Cosine of two independent halves, such as ``ceiling`` and ``self_ceiling`` of the table of alignment.
    factor : float
        k; 2 for two full batches.

    Returns
    -------
    As given
        NaN where the cosine is so negative that there is no such batch (-1 for k = 2).

    Raises
    ------
    TrajectoryError
        If the factor is not positive, or a cosine is none.
    """
    if not factor > 0:
        raise TrajectoryError(f"expected_ceiling: factor must be > 0, got {factor!r}")
    values = np.asarray(half, float)
    if bool((np.abs(values) > 1 + 1e-9).any()):
        raise TrajectoryError(f"expected_ceiling: expected cosines, got {float(np.nanmax(np.abs(values))):g}")
    below = 1 + (factor - 1) * values
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(below > 0, factor * values / below, np.nan)
    if isinstance(half, xr.DataArray):
        words = f"expected cosine of two batches {factor:g} times as large"
        return half.copy(data=found).assign_attrs(units="1", long_name=words)
    return float(found) if np.ndim(half) == 0 else found


def corrected_cosine(measures: xr.Dataset, dim: str | Sequence[str] = "event") -> xr.DataArray:
    """Return the cosine of rule and reference freed from the noise of batches, ``cross / sqrt(c_rule c_reference)``.

    Parameters
    ----------
    measures : Dataset
        With cross_cosine, self_ceiling and ceiling, as from `alignment_over_training`.
    dim : str or sequence of str
        Over which the three are averaged first: their ratio at a single moment is very noisy.

    Returns
    -------
    DataArray
        May exceed 1 by sampling. NaN where a ceiling is not positive: there is nothing but noise.
        On the digits, over 60 moments of a network held as it was, it lay within 0.09 of the cosine of updates that were
        averaged over 300 moments, where that of single moments was up to 0.13 off.

    Raises
    ------
    TrajectoryError
        If one of them was not recorded.
    """
    missing = [name for name in ("cross_cosine", "self_ceiling", "ceiling") if name not in measures]
    if missing:
        raise TrajectoryError(f"corrected_cosine: {missing[0]!r} was not recorded: add AlignmentMeasures to the recorders")
    over = [dim] if isinstance(dim, str) else list(dim)
    cross, mine, other = (measures[name].mean(over) for name in ("cross_cosine", "self_ceiling", "ceiling"))
    product = (mine * other).where((mine > 0) & (other > 0))
    found = cross / np.sqrt(product)
    found.attrs = {"units": "1", "long_name": "cosine of expected update and expected reference update"}
    return found.rename("corrected_cosine")


def bias_variance(updates: Any, reference: Any, dim: str = "repeat", synapses: Sequence[str] | None = None) -> xr.Dataset:
    """Return how far a stochastic update is from its reference in expectation, and how much it scatters (M5).

    Parameters
    ----------
    updates : DataArray or array, (repeat, post, pre, ...)
        Such as `neurossl.repeats.repeat_updates` returns. Of an array the first axis is the repeats.
    reference : DataArray or array, (post, pre, ...)
        Of which the mean is taken where it has repeats as well.
    dim : str
        The repeats.
    synapses : sequence of str, optional
        Axes that together are one vector; by default those of `SYNAPTIC` that are there. All others are kept.

    Returns
    -------
    Dataset
        With d of n repeats, g the reference, ``s^2 = sum |d - mean d|^2 / (n - 1)``:

        bias            1 - cos(mean d, g)
        bias_corrected  the same with ``|E d|^2`` estimated by ``|mean d|^2 - s^2 / n``: the noise that is left in a mean of
                        n repeats makes it longer, and the bias larger than it is
        variance        ``s^2 / |E d|^2``, with the same estimate
        projection      mean of <d, g> / |g|
        snr             projection over the root mean square of what is orthogonal to g; ``cos / sqrt(1 - cos^2)`` of a
                        single update
        count           repeats

        NaN where a norm that is divided by is 0, or there is no more than noise.

    Raises
    ------
    TrajectoryError
        If there are fewer than two repeats, or the axes of both differ.
    """
    d = _labelled(updates, dim, "updates", True).astype(float)
    g = _labelled(reference, dim, "reference", np.ndim(reference) == np.ndim(updates)).astype(float)
    if dim not in d.dims or d.sizes[dim] < 2:
        raise TrajectoryError(f"bias_variance: expected at least two repeats along {dim!r}, got axes {d.dims} of {d.shape}")
    g = g.mean(dim) if dim in g.dims else g
    along = (
        list(synapses) if synapses is not None else [str(n) for n in d.dims if n in SYNAPTIC or str(n).startswith("axis_")]
    )
    lacking = [name for name in along if name not in d.dims or name not in g.dims]
    if not along or lacking:
        raise TrajectoryError(
            f"bias_variance: expected the same axes of synapses in both, got {d.dims} and {g.dims}: name them in synapses="
        )
    try:
        d, g = xr.align(d, g, join="exact", exclude=[dim])
    except (xr.AlignmentError, ValueError):
        raise TrajectoryError(f"bias_variance: updates and reference are not of the same synapses ({along})") from None
    count = d.sizes[dim]
    mean = d.mean(dim)
    scatter = ((d - mean) ** 2).sum(along).sum(dim) / (count - 1)
    length = (mean**2).sum(along)
    left = length - scatter / count
    expected = left.where(left > 0)
    power = (g**2).sum(along)
    norm = power.where(power > 0) ** 0.5
    projections = (d * g).sum(along) / norm
    orthogonal = (((d**2).sum(along)) - projections**2).clip(min=0).mean(dim)
    projection = projections.mean(dim)
    values = {
        "bias": 1 - projection / np.sqrt(length.where(length > 0)),
        "bias_corrected": 1 - projection / np.sqrt(expected),
        "variance": scatter / expected,
        "projection": projection,
        "snr": projection / np.sqrt(orthogonal.where(orthogonal > 0)),
        "count": xr.DataArray(count),
    }
    return xr.Dataset({name: value.assign_attrs(units="1", long_name=_MEANINGS[name]) for name, value in values.items()})


_MEANINGS = {
    "bias": "1 minus the cosine of the mean update with the reference",
    "bias_corrected": "1 minus the cosine of the expected update with the reference",
    "variance": "variance of the update over the squared norm of the expected update",
    "projection": "mean component of the update along the reference",
    "snr": "component along the reference over the root mean square of the rest",
    "count": "repeats",
}


def _labelled(given: Any, dim: str, what: str, has_repeats: bool) -> xr.DataArray:
    """Return what is given with labels; the axes of an array are called by their place."""
    if isinstance(given, xr.DataArray):
        return given
    array = np.asarray(given)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise TrajectoryError(f"bias_variance: {what}: expected an array of numbers, got {type(given).__name__}")
    names = [f"axis_{axis}" for axis in range(array.ndim - has_repeats)]
    return xr.DataArray(array, dims=[dim, *names] if has_repeats else names)
