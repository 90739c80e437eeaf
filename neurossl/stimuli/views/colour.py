"""Colours of views: SimCLR's jitter, loss of colour and blur, with draws of its own for every row.

Brightness, contrast and saturation blend a picture x with black, with its mean luminance, or with the luminance w x of each
pixel. Written as

    x <- clamp(a x + b w x + c w sum(x), 0, 1)

one row may do any of them while its neighbour does another, so every row has an order of its own. Turning the hue (of HSV)
needs no cases either: with the lowest channel m, the chroma C = max - m, and hues in sixths of the colour circle from red,

    h = sign(G - B) (1 + (G + B - R - m) / C),
    R, G, B <- m + C clamp(|3 - |h + turn - k|| - 1, 0, 1)    for k = 0, 2, -2.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.generators import uniform

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as in PIL (ITU-R 601)."""
PEAKS = (0.0, 2.0, -2.0)
"""Hues of red, green and blue, in sixths of the colour circle."""


class Jitter(NamedTuple):
    """Changes of colour, one per row.

    Attributes
    ----------
    blends : array of float32, (rows, 2 steps, 1 + 2 channels)
        Factors a, b w and c w, lined up so that the turn of the hue comes after the first half for every row.
    turn : array of float32, (rows,)
        Turn of the hue, in sixths of the circle.
    before : array of int, (rows,)
        How many blends come before the turn; -1 for a row that keeps its colours.
    """

    blends: np.ndarray
    turn: np.ndarray
    before: np.ndarray


def draw_jitter(
    rows: int,
    shape: tuple[int, int],
    strengths: Mapping[str, float],
    hue: float,
    probability: float,
    generator: torch.Generator,
) -> Jitter:
    """Draw changes as `torchvision.transforms.ColorJitter` does: factors and, for every row, an order.

    Parameters
    ----------
    rows : int
    shape : (int, int)
        Channels and points of a picture.
    strengths : mapping of str to float
        Largest relative change of "brightness", "contrast" and "saturation", those that take part.
    hue : float
        Largest turn, as a fraction of the colour circle.
    probability : float
        Of a change at all.
    generator : torch.Generator
    """
    steps, (channels, points) = len(strengths), shape
    # Numpy takes a third of the time for so few numbers.
    draws = uniform(rows, 2 * steps + 3, generator=generator).numpy()
    factors = np.zeros((rows, steps, 1 + 2 * channels), np.float32)
    w = luminance_weights(channels)
    for place, (name, strength) in enumerate(strengths.items()):
        low = max(0.0, 1 - strength)
        factor = draws[:, place, None] * (1 + strength - low) + low
        factors[:, place, :1] = factor
        if name == "contrast":
            factors[:, place, 1 + channels :] = (1 - factor) * (w / points)
        elif name == "saturation":
            factors[:, place, 1 : 1 + channels] = (1 - factor) * w
    time, time_of_turn = draws[:, steps : 2 * steps], draws[:, 2 * steps, None]
    before = (time < time_of_turn).sum(1) if hue else np.full(rows, steps)
    rank = (time[:, :, None] > time[:, None]).sum(2)
    blends = np.zeros((rows, 2 * steps, 1 + 2 * channels), np.float32)
    blends[np.arange(rows)[:, None], rank + (steps - before)[:, None]] = factors
    turn = (draws[:, -2] * 12 - 6) * hue
    before[draws[:, -1] >= probability] = -1
    return Jitter(blends, turn, before)


def luminance_weights(channels: int) -> np.ndarray:
    """Return the weights w of the channels, (channels,); those of grey are 1."""
    return np.array(LUMINANCE if channels == 3 else [1.0], np.float32)


def jitter_(pixels: Tensor, jitter: Jitter) -> None:
    """Change colours in place.

    Parameters
    ----------
    pixels : Tensor of float32 in [0, 1], (rows, channels, points)
    jitter : Jitter
        Sorted by ``before``, so that the rows of every step are neighbours.
    """
    rows, device = len(pixels), pixels.device
    slots = jitter.blends.shape[1]
    steps = slots // 2
    # first[n]: the first row with at least n blends before its turn.
    first = np.searchsorted(jitter.before, np.arange(steps + 2)).tolist()
    factors = torch.from_numpy(jitter.blends).to(device)[:, :, None]

    def blend(slot: int, low: int, high: int) -> None:
        if low < high:
            blend_(pixels[low:high], factors[low:high, slot])

    for slot in range(steps):
        blend(slot, first[steps - slot], rows)
    if pixels.shape[1] == 3 and first[0] < rows:
        turn = jitter.turn[first[0] :]
        far = bool(np.abs(turn).max() > 2)
        turn_hue_(pixels[first[0] :], torch.from_numpy(turn).to(device)[:, None], far)
    for slot in range(steps, slots):
        blend(slot, first[0], first[slots - slot])


def blend_(pixels: Tensor, factors: Tensor) -> None:
    """Blend pixels in place with weighted sums of their channels, and of these over points.

    Parameters
    ----------
    pixels : Tensor of float32 in [0, 1], (rows, channels, points)
    factors : Tensor, (rows, 1, 1 + 2 channels)
        Of the pixels, of the channels of each point, and of the sums of channels over points.
    """
    of_pixel, of_channels, of_sums = factors.split_with_sizes([1, pixels.shape[1], pixels.shape[1]], 2)
    total = torch.bmm(of_sums, pixels.sum(2, keepdim=True))
    base = torch.baddbmm(total, of_channels, pixels)
    torch.addcmul(base, pixels, of_pixel, out=pixels).clamp_(0.0, 1.0)


def turn_hue_(pixels: Tensor, turn: Tensor, far: bool) -> None:
    """Turn the hue of pixels in place.

    Parameters
    ----------
    pixels : Tensor, (rows, 3, points)
    turn : Tensor, (rows, 1)
        In sixths of the circle, from -3 to 3.
    far : bool
        Whether there are turns of more than 2.
    """
    red, green, blue = pixels.unbind(1)
    low = pixels.amin(1)
    chroma = pixels.amax(1).sub_(low)
    from_red = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1.0)
    hue = from_red.copysign_(green - blue).add_(turn)
    if far:
        hue.sub_((hue / 6.0).round_(), alpha=6.0)
    # Right up to |h + turn - k| = 7.
    share = (hue[:, None] - _constant(PEAKS, pixels.device)[:, None]).abs_().sub_(3.0).abs_().clamp_(1.0, 2.0)
    torch.addcmul(low.sub_(chroma)[:, None], share, chroma[:, None], out=pixels)


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def blurred(pixels: Tensor, kernels: Tensor) -> Tensor:
    """Return pictures convolved with a symmetric kernel of their own, along lines and columns, mirrored at the border.

    Parameters
    ----------
    pixels : Tensor, (rows, channels, height, width)
    kernels : Tensor, (rows, taps)

    Notes
    -----
    A weighted sum of shifted copies. A shift by a pixel or by a line is a shift in memory, so the copies are taken of the
    padded pictures as they lie; what a line borrows from its neighbour falls into the padding.
    """
    rows, channels, height, width = pixels.shape
    taps = kernels.shape[1]
    radius = taps // 2
    line, lines = width + 2 * radius, height + 2 * radius
    lying = F.pad(pixels, [radius] * 4, mode="reflect").flatten(1)
    weights = kernels[:, :, None].unbind(1)
    for step in (1, line):
        length = lying.shape[1] - 2 * radius * step
        total = lying[:, :length] * weights[0]
        for tap in range(1, taps):
            total.addcmul_(lying[:, tap * step : tap * step + length], weights[tap])
        lying = total
    return lying.as_strided((rows, channels, height, width), (lying.shape[1], line * lines, line, 1))


def gaussian_kernels(sigma: np.ndarray, taps: int) -> np.ndarray:
    """Return Gaussians of these widths, (rows,), in pixels, as kernels of so many taps, (rows, taps)."""
    distance = np.arange(-(taps // 2), taps // 2 + 1, dtype=np.float32)
    kernels = np.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    return kernels / kernels.sum(1, keepdims=True)
