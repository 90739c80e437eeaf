"""Views: random crops, movements and colours of images, drawn per observer and computed for all at once on the device.

Crops, flips, colours and blur follow SimCLR (Chen et al. 2020), with the parameters of arXiv 2601.21683 for natural images,
and are distributed as torchvision's transforms of single pictures; handwriting is moved by an affine map.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import OptionError, StimulusError
from neurossl.stimuli.colour import Jitter, blurred, draw_jitter, jitter_, luminance
from neurossl.stimuli.geometry import cut, draw_crops, draw_maps, move

if TYPE_CHECKING:
    from neurossl.stimuli.images import ImageSet

SIGMA = (0.1, 2.0)
"""Range of the standard deviation of a blur, pixels."""
_POINTS = 2**18
"""Numbers that a CPU works on at a time: what its second cache holds."""


class Draws(NamedTuple):
    """What happens to every row, on the CPU; None for what happens to none.

    Attributes
    ----------
    crops : Tensor, (rows, 5)
        As from `draw_crops`.
    maps : Tensor, (rows, 2, 3), optional
        Affine maps, in place of crops, where views are turned, shifted or zoomed.
    jitter : Jitter, optional
    grey : Tensor of bool, (rows,), optional
    sigma : Tensor, (rows,), optional
        Width of the blur, pixels; 0 for none.
    """

    crops: Tensor
    maps: Tensor | None
    jitter: Jitter | None
    grey: Tensor | None
    sigma: Tensor | None

    def rows(self, index: Tensor | slice) -> "Draws":
        """Return the draws of some rows."""
        maps, grey, sigma = (None if t is None else t[index] for t in (self.maps, self.grey, self.sigma))
        jitter = None if self.jitter is None else Jitter(*(t[index] for t in self.jitter))
        return Draws(self.crops[index], maps, jitter, grey, sigma)


@dataclass(frozen=True)
class Views:
    """Random views of images.

    Parameters
    ----------
    size : int
        Height and width of the views, pixels.
    rotation : float
        Largest rotation to either side, degrees.
    shift : float
        Largest shift, as a fraction of the image.
    zoom : float
        Largest relative change of size.
    crop_scale : (float, float)
        Range of the area of a random crop with an aspect ratio of 3/4 to 4/3; (1, 1) for none.
    flip : float
        Probability of a horizontal flip.
    brightness, contrast, saturation, hue : float
        Largest relative changes (hue: fraction of the colour circle), applied in random order.
    jitter : float
        Probability of these changes.
    grayscale : float
        Probability of losing all colour.
    blur : float
        Probability of a Gaussian blur, sigma 0.1 to 2 pixels.
    blur_kernel : int
        Odd, pixels.
    mean, std : tuple of float
        Per channel, for normalisation at the end.
    """

    size: int
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_kernel: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise OptionError(f"Views.size: expected a whole number of at least 1 pixel, got {self.size}")
        for name in ("flip", "jitter", "grayscale", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"Views.{name}: expected a probability from 0 to 1, got {getattr(self, name)}")
        for name in ("rotation", "shift", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(f"Views.{name}: expected a number >= 0, got {getattr(self, name)}")
        if not 0 <= self.zoom < 1 or not 0 <= self.hue <= 0.5:
            raise OptionError(f"Views: expected 0 <= zoom < 1 and 0 <= hue <= 0.5, got {self.zoom} and {self.hue}")
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise OptionError(f"Views.crop_scale: expected 0 < low <= high <= 1, got {self.crop_scale}")
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise OptionError(f"Views.blur_kernel: expected an odd number of pixels, got {self.blur_kernel}")
        # The blur reflects pixels at the border, at most once.
        if self.blur and self.blur_kernel // 2 >= self.size:
            raise OptionError(f"Views.blur_kernel: expected at most {2 * self.size - 1} pixels, got {self.blur_kernel}")
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise OptionError(f"Views: expected as many means as standard deviations > 0, got {self.mean} and {self.std}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one view of every image.

        Parameters
        ----------
        images : Tensor of uint8, (rows, channels, height, width), or floating in [0, 1]
        generator : torch.Generator
            On the CPU, whatever the device of the images, so that a device never changes the draw.

        Returns
        -------
        Tensor of float32, (rows, channels, size, size)
        """
        rows, channels, height, width = _checked(images).shape
        draws = self.draw(rows, channels, (height, width), generator)
        shown = torch.empty(rows, channels, self.size, self.size, device=images.device)
        most = max(1, _POINTS // (channels * self.size**2)) if images.device.type == "cpu" else max(1, rows)
        for first in range(0, rows, most):
            part = slice(first, first + most)
            self._show(images[part], draws.rows(part), shown[part])
        return shown

    def still(self, images: Tensor) -> Tensor:
        """Return the images themselves, resized and normalised: (rows, channels, size, size)."""
        return self._normalise_(self._resized(_checked(images)))

    def draw(self, rows: int, channels: int, shape: tuple[int, int], generator: torch.Generator) -> Draws:
        """Draw what happens to images of so many rows, channels, and of this height and width."""
        maps = jitter = grey = sigma = None
        crops = draw_crops(rows, shape, self.crop_scale, self.flip, generator)
        if self.rotation or self.shift or self.zoom:
            maps = draw_maps(crops, shape, self.rotation, self.shift, self.zoom, generator)
        names = ("brightness", "contrast", "saturation") if channels == 3 else ("brightness", "contrast")
        strengths = {name: getattr(self, name) for name in names if getattr(self, name)}
        hue = self.hue if channels == 3 else 0.0
        if strengths or hue:
            jitter = draw_jitter(rows, strengths, hue, self.jitter, generator)
        if self.grayscale and channels == 3:
            grey = torch.rand(rows, generator=generator) < self.grayscale
        if self.blur and self.blur_kernel > 1:
            draws = torch.rand(2, rows, generator=generator)
            sigma = (draws[0] * (SIGMA[1] - SIGMA[0]) + SIGMA[0]).where(draws[1] < self.blur, 0.0)
        return Draws(crops, maps, jitter, grey, sigma)

    def _show(self, images: Tensor, draws: Draws, shown: Tensor) -> None:
        """Write the views of images into ``shown``. Indices of rows come from the CPU: masks would make it wait."""
        device = images.device
        order = None if draws.jitter is None else draws.jitter.before.argsort(stable=True)
        if order is not None:
            images, draws = images.index_select(0, order.to(device)), draws.rows(order)
        pixels = self._sampled(images, draws)
        if draws.jitter is not None:
            blends, turn, before = draws.jitter
            jitter_(pixels.flatten(2), Jitter(blends.to(device), turn.to(device), before))
        if draws.grey is not None:
            rows = draws.grey.nonzero()[:, 0].to(device)
            grey = luminance(pixels.index_select(0, rows).flatten(2))
            pixels.index_copy_(0, rows, grey.expand(-1, 3, -1).reshape(len(rows), *pixels.shape[1:]))
        if draws.sigma is not None:
            rows = draws.sigma.nonzero()[:, 0]
            sigma, rows = draws.sigma[rows].to(device), rows.to(device)
            pixels.index_copy_(0, rows, blurred(pixels.index_select(0, rows), sigma, self.blur_kernel))
        if order is None:
            shown.copy_(pixels)
        else:
            torch.index_select(pixels, 0, order.argsort().to(device), out=shown)
        self._normalise_(shown)

    def _sampled(self, images: Tensor, draws: Draws) -> Tensor:
        """Return what views see, with values in [0, 1]."""
        if draws.maps is not None:
            return move(_unit_range(images), draws.maps.to(images.device), self.size)
        if self.crop_scale == (1.0, 1.0) and not self.flip:
            return self._resized(images)
        return cut(images, draws.crops.to(images.device), self.size)

    def _resized(self, images: Tensor) -> Tensor:
        pixels = _unit_range(images)
        if pixels.shape[-2:] == (self.size, self.size):
            return pixels
        return F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)

    def _normalise_(self, pixels: Tensor) -> Tensor:
        channels = pixels.shape[1]
        if len(self.mean) not in (1, channels):
            raise StimulusError(f"views: {len(self.mean)} means for images of {channels} channels")
        if any(self.mean) or set(self.std) != {1.0}:
            mean, std = (torch.tensor(v, device=pixels.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
            pixels.sub_(mean).div_(std)
        return pixels

    def __repr__(self) -> str:
        changed = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Views({', '.join(changed)})"


def _checked(images: Tensor) -> Tensor:
    if images.ndim != 4:
        raise StimulusError(f"views: expected images (rows, channels, height, width), got shape {tuple(images.shape)}")
    return images


def _unit_range(images: Tensor) -> Tensor:
    """Return pixels as float32 in [0, 1], never the images themselves."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)


def default_views(images: "ImageSet") -> Views:
    """Return views that suit an image set.

    Handwriting (one channel, mean 0) moves (rotation up to 25 degrees, shift up to a tenth of the image, zoom up to 25 %)
    and keeps pixels in [0, 1], so that the background is silent. Natural images get SimCLR's crops, flips, colours and blur
    with the parameters of arXiv 2601.21683, normalised per channel; without colour, what changes colour falls away.
    """
    channels, height, width = images.shape
    coloured = channels == 3
    if channels == 1 and not any(images.mean):
        return Views(max(height, width), rotation=25, shift=0.1, zoom=0.25)
    size = max(height, width)
    kernel = max(3, int(0.1 * size))
    return Views(
        size,
        crop_scale=(0.25, 1.0) if size <= 32 else (0.08, 1.0),
        flip=0.5,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8 if coloured else 0.0,
        hue=0.2 if coloured else 0.0,
        jitter=0.8,
        grayscale=0.2 if coloured else 0.0,
        blur=0.5,
        blur_kernel=kernel + 1 - kernel % 2,
        mean=images.mean,
        std=images.std,
    )
