"""What a population does with its values: transfer functions, pooling, and normalisation of what its targets see."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
TINY = 1e-8


def transfer(kind: str, a: Array) -> Array:
    """rho(a)."""
    if kind == "relu":
        return np.where(a > 0, a, 0.0)
    if kind == "tanh":
        return np.tanh(a)
    if kind == "softplus":
        return np.logaddexp(0.0, a)
    return a.copy()


def slope(kind: str, a: Array) -> Array:
    """rho'(a); 0 at a = 0 for the ReLU."""
    if kind == "relu":
        return np.where(a > 0, 1.0, 0.0)
    if kind == "tanh":
        return 1 - np.tanh(a) ** 2
    if kind == "softplus":
        return sigmoid(a)
    return np.ones_like(a)


def sigmoid(a: Array) -> Array:
    """1 / (1 + e^-a)."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(a)))


def softmax(a: Array) -> Array:
    """Over the last axis."""
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sides(k: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a pooling kernel."""
    return (k, k) if isinstance(k, int) else k


def windows(x: Array, k: int | tuple[int, int]) -> Array:
    """(R, C, H, W) to (R, C, H//k, W//k, k*k), row by row within a window; the remainder is left out."""
    (r, c, h, w), (ky, kx) = x.shape, sides(k)
    cut = x[:, :, : h // ky * ky, : w // kx * kx].reshape(r, c, h // ky, ky, w // kx, kx)
    return cut.transpose(0, 1, 2, 4, 3, 5).reshape(r, c, h // ky, w // kx, ky * kx)


def from_windows(x: Array, k: int | tuple[int, int], height: int, width: int) -> Array:
    """The inverse of `windows`; 0 in the remainder."""
    (r, c, h, w, _), (ky, kx) = x.shape, sides(k)
    out = np.zeros((r, c, height, width))
    whole = x.reshape(r, c, h, w, ky, kx).transpose(0, 1, 2, 4, 3, 5)
    out[:, :, : h * ky, : w * kx] = whole.reshape(r, c, h * ky, w * kx)
    return out


def average(x: Array, k: int | tuple[int, int]) -> Array:
    """Average pooling, kernel = stride = k."""
    return windows(x, k).mean(axis=-1)


def spread(credit: Array, k: int | tuple[int, int], height: int, width: int) -> Array:
    """Un-pooling of credit over an average: every location of a cell gets its share, the remainder 0."""
    ky, kx = sides(k)
    return from_windows(np.repeat(credit[..., None], ky * kx, axis=-1) / (ky * kx), k, height, width)


def normalise(kind: str | None, x: Array) -> Array:
    """What the synapses of a pathway see of the presynaptic activity."""
    axes = tuple(range(1, x.ndim))
    if kind is None:
        return x
    if kind == "length":
        return x / (np.sqrt((x**2).mean(axis=axes, keepdims=True)) + TINY)
    if kind == "standard":
        y = x - x.mean(axis=axes, keepdims=True)
        return y / (np.sqrt((y**2).mean(axis=axes, keepdims=True)) + TINY)
    half = x.shape[1] // 2
    return normalise("standard", x[:, :half]) + normalise("standard", x[:, half:])


def normalise_back(kind: str | None, x: Array, credit: Array) -> Array:
    """Credit on what the synapses see to credit on the activity x.

    y = x / s, s = sqrt(mean x^2) + tiny: dx = g / s - x (g . x) / (s^2 n rms), and the mean taken off for "standard".
    """
    axes = tuple(range(1, x.ndim))
    if kind is None:
        return credit
    if kind == "doubled":
        half = x.shape[1] // 2
        return np.concatenate([normalise_back("standard", part, credit) for part in (x[:, :half], x[:, half:])], axis=1)
    y = x - x.mean(axis=axes, keepdims=True) if kind == "standard" else x
    n = np.prod(x.shape[1:])
    rms = np.sqrt((y**2).mean(axis=axes, keepdims=True))
    s = rms + TINY
    through_s = (credit * y).sum(axis=axes, keepdims=True) / (s**2 * n * np.where(rms > 0, rms, 1.0))
    back = credit / s - y * through_s
    return back - back.mean(axis=axes, keepdims=True) if kind == "standard" else back
