"""Views: random crops, movements and colours of images, drawn per observer and computed for all at once on the device.

Geometry is one affine map per row and one bilinear sampling; colour and blur follow SimCLR (Chen et al. 2020), with the
parameters of arXiv 2601.21683 for natural images.
"""

from dataclasses import dataclass, fields
from math import pi
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import OptionError, StimulusError

if TYPE_CHECKING:
    from neurossl.stimuli.images import ImageSet

LUMINANCE = (0.2989, 0.587, 0.114)


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
        pixels = _unit_range(images)
        pixels = self._moved(pixels, generator)
        if pixels.shape[1] == 3 or self.brightness or self.contrast:
            pixels = self._coloured(pixels, generator)
        if self.blur:
            pixels = self._blurred(pixels, generator)
        return self._normalised(pixels)

    def still(self, images: Tensor) -> Tensor:
        """Return the images themselves, resized and normalised: (rows, channels, size, size)."""
        return self._normalised(self._resized(_unit_range(images)))

    def _normalised(self, pixels: Tensor) -> Tensor:
        channels = pixels.shape[1]
        if len(self.mean) not in (1, channels):
            raise StimulusError(f"views: {len(self.mean)} means for images of {channels} channels")
        mean, std = (torch.tensor(v, device=pixels.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (pixels - mean) / std

    def _moved(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Crop, flip, rotate, zoom and shift with one sampling."""
        rows, _, height, width = pixels.shape
        crop = self.crop_scale != (1.0, 1.0)
        if not (crop or self.rotation or self.shift or self.zoom or self.flip):
            return self._resized(pixels)

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(rows, generator=generator) * (high - low) + low

        half_width, half_height = torch.ones(rows), torch.ones(rows)
        centre_x, centre_y = torch.zeros(rows), torch.zeros(rows)
        if crop:
            area = uniform(*self.crop_scale)
            aspect = uniform(-1, 1).mul(float(torch.tensor(4 / 3).log())).exp()
            half_width = (area * aspect * height / width).sqrt().clamp(max=1)
            half_height = (area / aspect * width / height).sqrt().clamp(max=1)
            centre_x, centre_y = uniform(-1, 1) * (1 - half_width), uniform(-1, 1) * (1 - half_height)
        if self.zoom:
            factor = 1 / uniform(1 - self.zoom, 1 + self.zoom)
            half_width, half_height = half_width * factor, half_height * factor
        if self.shift:
            centre_x, centre_y = centre_x + uniform(-2, 2) * self.shift, centre_y + uniform(-2, 2) * self.shift
        mirrored = (
            torch.where(torch.rand(rows, generator=generator) < self.flip, -1.0, 1.0) if self.flip else torch.ones(rows)
        )
        angle = uniform(-self.rotation, self.rotation) * (pi / 180) if self.rotation else torch.zeros(rows)
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack(
            [
                torch.stack([cos * half_width * mirrored, -sin * half_height, centre_x], 1),
                torch.stack([sin * half_width * mirrored, cos * half_height, centre_y], 1),
            ],
            1,
        ).to(pixels.device)
        grid = F.affine_grid(theta, [rows, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _resized(self, pixels: Tensor) -> Tensor:
        if pixels.shape[-2:] == (self.size, self.size):
            return pixels
        return F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)

    def _coloured(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Jitter colours in a random order, the same for all rows, with factors of their own; then lose colour."""
        rows, device, coloured = len(pixels), pixels.device, pixels.shape[1] == 3
        possible = ("brightness", "contrast", "saturation", "hue") if coloured else ("brightness", "contrast")
        steps = [name for name in possible if getattr(self, name)]
        chosen = (torch.rand(rows, generator=generator) < self.jitter).to(device).view(-1, 1, 1, 1)
        jittered = pixels
        for index in torch.randperm(len(steps), generator=generator).tolist():
            strength = getattr(self, steps[index])
            if steps[index] == "hue":
                turn = (torch.rand(rows, generator=generator) * 2 - 1) * strength
                jittered = _hue_turned(jittered, turn.to(device))
            else:
                low = max(0.0, 1 - strength)
                factor = (torch.rand(rows, generator=generator) * (1 + strength - low) + low).to(device).view(-1, 1, 1, 1)
                jittered = _adjusted(jittered, steps[index], factor)
        pixels = torch.where(chosen, jittered, pixels)
        if self.grayscale and coloured:
            grey = (torch.rand(rows, generator=generator) < self.grayscale).to(device).view(-1, 1, 1, 1)
            pixels = torch.where(grey, _luminance(pixels), pixels)
        return pixels

    def _blurred(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Blur some rows with a Gaussian of their own width: a separable convolution, rows as groups."""
        rows, _, height, width = pixels.shape
        radius = self.blur_kernel // 2
        sigma = 0.1 + 1.9 * torch.rand(rows, generator=generator)
        chosen = torch.rand(rows, generator=generator) < self.blur
        if radius == 0 or not bool(chosen.any()):
            return pixels
        place = torch.arange(-radius, radius + 1.0)
        kernel = torch.exp(-0.5 * (place / sigma[chosen][:, None]) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True)).to(pixels.device, pixels.dtype)[:, :, None, None, None]
        # Indices found on the CPU: a mask on the device would make the CPU wait for it.
        rows_chosen = chosen.nonzero()[:, 0].to(pixels.device)
        padded = F.pad(pixels[rows_chosen], [radius] * 4, mode="reflect")
        # A weighted sum of shifted copies is faster here than a grouped convolution with one kernel per row.
        across = torch.zeros_like(padded[..., :width])
        for i in range(2 * radius + 1):
            across.addcmul_(kernel[:, i], padded[..., i : i + width])
        down = torch.zeros_like(across[..., :height, :])
        for i in range(2 * radius + 1):
            down.addcmul_(kernel[:, i], across[..., i : i + height, :])
        blurred = pixels.clone()
        blurred[rows_chosen] = down
        return blurred

    def __repr__(self) -> str:
        changed = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Views({', '.join(changed)})"


def _unit_range(images: Tensor) -> Tensor:
    """Return pixels as float32 in [0, 1]."""
    if images.ndim != 4:
        raise StimulusError(f"views: expected images (rows, channels, height, width), got shape {tuple(images.shape)}")
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _luminance(pixels: Tensor) -> Tensor:
    weights = torch.tensor(LUMINANCE, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)


def _adjusted(pixels: Tensor, what: str, factor: Tensor) -> Tensor:
    """Blend with black (brightness), the mean luminance (contrast) or the luminance of each pixel (saturation)."""
    if what == "brightness":
        return (pixels * factor).clamp(0, 1)
    grey = _luminance(pixels) if pixels.shape[1] == 3 else pixels
    base = grey.mean((1, 2, 3), keepdim=True) if what == "contrast" else grey
    return (pixels * factor + base * (1 - factor)).clamp(0, 1)


def _hue_turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by a fraction of the colour circle, (rows,)."""
    value, _ = pixels.max(1)
    lowest, _ = pixels.min(1)
    chroma = value - lowest
    safe = chroma.clamp(min=1e-12)
    red, green, blue = pixels.unbind(1)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = torch.where(chroma > 0, sector / 6 + turn.view(-1, 1, 1), 0)
    turned = []
    for offset in (5, 3, 1):
        k = (offset + hue * 6) % 6
        turned.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(turned, 1)


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
