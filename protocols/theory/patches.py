"""What the observers of `theory_equivalence` look at: patches of handwriting, and crops of it with a piece missing.

Rows are ``[half 1; half 2]``; the partner of a row is the same place in the other half, and a saccade lands on the row after
the partner (Wu et al. 2026, arXiv 2601.21683, as in its published code).
"""

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment, Saccade
from neurossl.stimuli import Stream, Views


class PatchPairs(Stream):
    """Every observer looks at the four quarters of an image, the upper before the lower, in the order of the images.

    Rows are ordered (quarter row, quarter column, image), so that the partner of an upper quarter is the lower one of the
    same image and side, and the next row always another image.

    Parameters
    ----------
    images : Tensor of uint8, (images, channels, height, width)
        Of an even number of pixels per side; as many as ``observers * moments``.
    labels, views, **common
        As for `Stream`; of the views, size and normalisation alone are used.
    """

    def chosen(self, number: int) -> Tensor:
        """Return the next images, (observers,)."""
        return torch.arange(number * self.observers, (number + 1) * self.observers)

    def moment(self, number: int) -> Moment:
        """Return the quarters of the next images, with partners and negatives."""
        patches = quarters(self.views.still(self.images[self.chosen(number)]))
        row = torch.arange(len(patches))
        partner = (row + len(row) // 2) % len(row)
        events = Fixation(patches, partner), Saccade((partner + 1)[None] % len(row))
        return Moment(*events, duration=4 * self.fixation_duration, observers=self.observers)


def quarters(images: Tensor) -> Tensor:
    """Return quarters ordered (quarter row, quarter column, image), (4 images, channels, height/2, width/2)."""
    halves = images.unflatten(3, (2, -1)).unflatten(2, (2, -1))
    return halves.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)


@dataclass(frozen=True)
class ErasedViews(Views):
    """Views in which a rectangle is sometimes replaced by the mean grey (Zhong et al. 2020, arXiv 1708.04896).

    Parameters
    ----------
    erased : float
        Probability, per view.
    erased_scale : (float, float)
        Range of the area of the rectangle, relative to the view; its aspect ratio is 0.3 to 3.3.
    """

    erased: float = 0.5
    erased_scale: tuple[float, float] = (0.04, 0.16)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.erased_scale
        if not 0 <= self.erased <= 1 or not 0 < low <= high <= 0.3:
            raise OptionError(
                f"ErasedViews: expected a probability and 0 < low <= high <= 0.3, got {self.erased} and {self.erased_scale}"
            )

    def __call__(self, images: Tensor, generator: torch.Generator, times: int = 1) -> Tensor:
        """Return views of images, (times rows, channels, size, size)."""
        if times > 1:
            return torch.cat([self(images, generator) for _ in range(times)])
        view = super().__call__(images, generator)
        rows, size = len(view), min(self.shape)
        low, high = self.erased_scale
        chosen, area, aspect, y, x = torch.rand(5, rows, generator=generator)
        side = (area * (high - low) + low).sqrt() * size
        stretch = (aspect * 2 - 1).mul(log(sqrt(3.3 / 0.3)) / 2).exp()
        height, width = ((side * s).round().clamp(1, size) for s in (stretch, 1 / stretch))
        top, left = ((place * (size - extent + 1)).floor() for place, extent in ((y, height), (x, width)))
        pixel = torch.arange(size)
        inside_y = (pixel >= top[:, None]) & (pixel < (top + height)[:, None])
        inside_x = (pixel >= left[:, None]) & (pixel < (left + width)[:, None])
        hidden = (chosen < self.erased).view(-1, 1, 1) & inside_y[:, :, None] & inside_x[:, None, :]
        return view.masked_fill(hidden[:, None].to(view.device), 0.0)
