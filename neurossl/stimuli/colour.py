"""Colours of views: SimCLR's jitter, loss of colour and blur, with draws of its own for every row.

Brightness, contrast and saturation blend a picture x with black, with the mean of its luminance Y, or with Y. Written as

    x <- clamp(a x + b Y + c mean(Y), 0, 1)

one row may do any of them while its neighbour does another, so every row has an order of its own. Turning the hue (of HSV)
needs no cases either: with the lowest channel m, the chroma C = max - m, and hues in sixths of the colour circle from red,

    h = sign(G - B) (1 + (G + B - R - m) / C),
    R, G, B <- m + C clamp(|3 - |h + turn - k|| - 1, 0, 1)    for k = 0, 2, -2.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, as in PIL (ITU-R 601)."""
PEAKS = (0.0, 2.0, -2.0)
"""Hues of red, green and blue, in sixths of the colour circle."""


class Jitter(NamedTuple):
    """Changes of colour, one per row.

    Attributes
    ----------
    blends : Tensor, (rows, 2 steps, 3)
        Factors a, b and c of the blends, lined up so that the turn of the hue comes after the first half for every row.
    turn : Tensor, (rows,)
        Turn of the hue, in sixths of the circle.
    before : Tensor of int64, (rows,)
        How many blends come before the turn; -1 for a row that keeps its colours. On the CPU.
    """

    blends: Tensor
    turn: Tensor
    before: Tensor


def draw_jitter(
    rows: int, strengths: Mapping[str, float], hue: float, probability: float, generator: torch.Generator
) -> Jitter:
    """Draw changes as `torchvision.transforms.ColorJitter` does: factors and, for every row, an order.

    Parameters
    ----------
    rows : int
    strengths : mapping of str to float
        Largest relative change of "brightness", "contrast" and "saturation", those that take part.
    hue : float
        Largest turn, as a fraction of the colour circle.
    probability : float
        Of a change at all.
    generator : torch.Generator
    """
    steps = len(strengths)
    draws = torch.rand(rows, 2 * steps + 3, generator=generator)
    blends = torch.zeros(rows, steps, 3)
    for place, (name, strength) in enumerate(strengths.items()):
        low = max(0.0, 1 - strength)
        factor = draws[:, place] * (1 + strength - low) + low
        blends[:, place, 0] = factor
        if name != "brightness":
            blends[:, place, 1 if name == "saturation" else 2] = 1 - factor
    time, time_of_turn = draws[:, steps : 2 * steps], draws[:, 2 * steps, None]
    before = (time < time_of_turn).sum(1) if hue else torch.full((rows,), steps)
    rank = (time[:, :, None] > time[:, None]).sum(2)
    slot = rank + (steps - before)[:, None]
    lined_up = torch.zeros(rows, 2 * steps, 3).scatter_(1, slot[:, :, None].expand(-1, -1, 3), blends)
    turn = (draws[:, -2] * 12 - 6) * hue
    return Jitter(lined_up, turn, before.where(draws[:, -1] < probability, -1))


def jitter_(pixels: Tensor, jitter: Jitter) -> None:
    """Change colours in place.

    Parameters
    ----------
    pixels : Tensor of float32 in [0, 1], (rows, channels, points)
    jitter : Jitter
        Sorted by ``before``, so that the rows of every step are neighbours; tensors on the device of the pixels.
    """
    rows, slots = len(pixels), jitter.blends.shape[1]
    steps = slots // 2
    # first[n]: the first row with at least n blends before its turn.
    first = torch.searchsorted(jitter.before, torch.arange(steps + 2)).tolist()
    for slot in range(slots + 1):
        if slot == steps and pixels.shape[1] == 3:
            turn_hue_(pixels[first[0] :], jitter.turn[first[0] :])
        if slot < slots:
            low, high = (first[steps - slot], rows) if slot < steps else (first[0], first[slots - slot])
            blend_(pixels[low:high], jitter.blends[low:high, slot])


def blend_(pixels: Tensor, factors: Tensor) -> None:
    """Blend pixels, (rows, channels, points), in place with luminance and mean luminance; factors (rows, 3)."""
    if not len(pixels):
        return
    of_pixel, of_luminance, of_mean = factors[:, :, None, None].unbind(1)
    base = luminance(pixels)
    mean = base.mean(2, keepdim=True).mul_(of_mean)
    base.mul_(of_luminance).add_(mean)
    torch.addcmul(base, pixels, of_pixel, out=pixels).clamp_(0.0, 1.0)


def turn_hue_(pixels: Tensor, turn: Tensor) -> None:
    """Turn the hue of pixels, (rows, 3, points), in place by so many sixths of the circle, (rows,), -3 to 3."""
    if not len(pixels):
        return
    red, green, blue = pixels.unbind(1)
    low = pixels.amin(1)
    chroma = pixels.amax(1).sub_(low)
    from_red = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=1e-12)).add_(1.0)
    hue = torch.copysign(from_red, green - blue).add_(turn[:, None])
    hue.sub_((hue / 6.0).round_().mul_(6.0))
    peaks = _constant(PEAKS, pixels.device)[:, None]
    share = (hue[:, None] - peaks).abs_().sub_(3.0).abs_().clamp_(1.0, 2.0)
    torch.addcmul(low.sub_(chroma)[:, None], share, chroma[:, None], out=pixels)


def luminance(pixels: Tensor) -> Tensor:
    """Return the luminance of pixels, (rows, channels, points), as (rows, 1, points); that of grey is a copy."""
    if pixels.shape[1] == 1:
        return pixels.clone()
    return torch.matmul(_constant(LUMINANCE, pixels.device)[None], pixels)


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def blurred(pixels: Tensor, sigma: Tensor, taps: int) -> Tensor:
    """Return pictures convolved with a Gaussian of their own width, mirrored at the border.

    Parameters
    ----------
    pixels : Tensor, (rows, channels, height, width)
    sigma : Tensor, (rows,)
        Standard deviation, pixels.
    taps : int
        Length of the kernel, odd.

    Notes
    -----
    A weighted sum of shifted copies, along lines and then along columns. A shift by a pixel or by a line is a shift in
    memory, so the copies are taken of the padded pictures as they lie; what a line borrows from its neighbour falls into
    the padding.
    """
    rows, channels, height, width = pixels.shape
    radius = taps // 2
    distance = torch.arange(-radius, radius + 1.0, device=pixels.device)
    kernel = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    line, lines = width + 2 * radius, height + 2 * radius
    lying = F.pad(pixels, [radius] * 4, mode="reflect").flatten(1)
    for step in (1, line):
        length = lying.shape[1] - 2 * radius * step
        total = lying[:, :length] * kernel[:, :1]
        for tap in range(1, taps):
            total.addcmul_(lying[:, tap * step : tap * step + length], kernel[:, tap : tap + 1])
        lying = total
    return lying.as_strided((rows, channels, height, width), (lying.shape[1], line * lines, line, 1))
