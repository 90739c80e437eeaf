"""Views: random crops, movements and colours of images, drawn per observer and computed for all at once on the device.

Crops, flips, colours and blur follow SimCLR (Chen et al. 2020), with the parameters of arXiv 2601.21683 for natural images,
and are distributed as torchvision's transforms of single pictures; handwriting is moved by an affine map.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError, StimulusError
from neurossl.generators import uniform
from neurossl.stimuli.datasets.arrays import tensor_of
from neurossl.stimuli.views.colour import blurred, draw_jitter, gaussian_kernels, jitter_, luminance_weights
from neurossl.stimuli.views.draws import Draws
from neurossl.stimuli.views.geometry import cut, draw_crops, draw_maps, move

SIGMA = (0.1, 2.0)
"""Range of the standard deviation of a blur, pixels."""
_POINTS = 400_000
"""Numbers that a CPU works on at a time: few enough for its caches, enough to be worth the trouble of starting."""


@dataclass(frozen=True)
class Views:
    """Random views of images.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the views, pixels; one number for both.
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

    size: int | tuple[int, int]
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
        object.__setattr__(self, "size", _size(self.size))
        object.__setattr__(self, "blur_kernel", whole(self.blur_kernel, "Views.blur_kernel"))
        for field in fields(self):
            if field.name not in ("size", "blur_kernel"):
                object.__setattr__(self, field.name, _plain(getattr(self, field.name), f"Views.{field.name}"))
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
        if self.blur_kernel % 2 == 0:
            raise OptionError(f"Views.blur_kernel: expected an odd number of pixels, got {self.blur_kernel}")
        # The blur reflects pixels at the border, at most once.
        if self.blur and self.blur_kernel // 2 >= min(self.shape):
            most = 2 * min(self.shape) - 1
            raise OptionError(f"Views.blur_kernel: expected at most {most} pixels, got {self.blur_kernel}")
        if (
            len(self.mean) != len(self.std)
            or min(self.std, default=0) <= 0
            or not np.isfinite([*self.mean, *self.std]).all()
        ):
            raise OptionError(f"Views: expected as many means as standard deviations > 0, got {self.mean} and {self.std}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the views, pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def __call__(self, images: Tensor, generator: torch.Generator, times: int = 1) -> Tensor:
        """Return random views of images.

        Parameters
        ----------
        images : Tensor or array of uint8, (rows, channels, height, width), or floating in [0, 1]
        generator : torch.Generator
            On the CPU, whatever the device of the images, so that a device never changes the draw.
        times : int
            Views of every image; as many calls give the same views, but take more time.

        Returns
        -------
        Tensor of float32, (times rows, channels, *shape)
            All images once, then all once again, ...

        Raises
        ------
        StimulusError
            If the images have another shape or type, floats beyond 1, or not the channels of mean and std.
        """
        images = self._checked(images)
        rows, channels, height, width = images.shape
        device = images.device
        draws = Draws.joined([self.draw(rows, channels, (height, width), generator) for _ in range(times)])
        shown = torch.empty(times * rows, channels, *self.shape, dtype=torch.float32, device=device)
        parts = max(1, -(-shown.numel() // _POINTS)) if device.type == "cpu" else 1
        most = max(1, -(-len(shown) // parts))
        # Nothing here is differentiated: without the books of autograd, small batches take a seventh less time.
        with torch.inference_mode(), _exact(device):
            for first in range(0, len(shown), most):
                order = np.arange(first, min(len(shown), first + most))
                if draws.jitter is not None:
                    # Rows of which the same is to be done become neighbours.
                    order = order[draws.jitter.before[order].argsort(kind="stable")]
                chosen = images.index_select(0, torch.from_numpy(order % rows).to(device))
                self._show(chosen, draws.rows(order), order.argsort(), shown[first : first + most])
        return shown

    def still(self, images: Tensor) -> Tensor:
        """Return the images themselves, resized and normalised: (rows, channels, *shape)."""
        return self._normalise_(self._resized(self._checked(images)))

    def describe(self) -> dict[str, Any]:
        """Return all parameters, as JSON can hold them."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"views": type(self).__name__} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def draw(self, rows: int, channels: int, shape: tuple[int, int], generator: torch.Generator) -> Draws:
        """Draw what happens to images of so many rows, channels, and of this height and width."""
        maps = jitter = grey = sigma = None
        crops = draw_crops(rows, shape, self.crop_scale, self.flip, generator)
        if self.rotation or self.shift or self.zoom:
            maps = draw_maps(crops, shape, self.rotation, self.shift, self.zoom, generator).numpy()
        names = ("brightness", "contrast", "saturation") if channels == 3 else ("brightness", "contrast")
        strengths = {name: getattr(self, name) for name in names if getattr(self, name)}
        hue = self.hue if channels == 3 else 0.0
        if strengths or hue:
            jitter = draw_jitter(rows, (channels, self.shape[0] * self.shape[1]), strengths, hue, self.jitter, generator)
        if self.grayscale and channels == 3:
            grey = uniform(rows, generator=generator).numpy() < self.grayscale
        if self.blur and self.blur_kernel > 1:
            width, chance = uniform(2, rows, generator=generator).numpy()
            sigma = np.where(chance < self.blur, width * np.float32(SIGMA[1] - SIGMA[0]) + np.float32(SIGMA[0]), 0)
        return Draws(crops, maps, jitter, grey, sigma)

    def _show(self, images: Tensor, draws: Draws, place: np.ndarray, shown: Tensor) -> None:
        """Write the views of images; the view in row i is that of image ``place[i]``."""
        device = images.device
        pixels = self._sampled(images, draws)
        if draws.jitter is not None:
            jitter_(pixels.flatten(2), draws.jitter)
        taken = np.arange(len(images))
        if draws.sigma is not None:
            # Before colours are lost, as both are linear and commute: a matrix then does that and normalises as well.
            blurry = draws.sigma.nonzero()[0]
            kernels = torch.from_numpy(gaussian_kernels(draws.sigma[blurry], self.blur_kernel)).to(device)
            clear = pixels.index_select(0, torch.from_numpy(blurry).to(device))
            pixels = torch.cat([pixels, blurred(clear, kernels)])
            taken[blurry] = len(images) + np.arange(len(blurry))
        pixels = pixels.index_select(0, torch.from_numpy(taken[place]).to(device))
        if draws.grey is None:
            shown.copy_(self._normalise_(pixels))
            return
        coloured, grey, shift = _finish(self.mean, self.std, pixels.shape[1], device)
        matrices = torch.where(torch.from_numpy(draws.grey[place]).to(device)[:, None, None], grey, coloured)
        torch.baddbmm(shift, matrices, pixels.flatten(2), out=shown.flatten(2))

    def _sampled(self, images: Tensor, draws: Draws) -> Tensor:
        """Return what views see, with values in [0, 1]."""
        if draws.maps is not None:
            return move(_unit_range(images), torch.from_numpy(draws.maps).to(images.device), self.shape)
        if self.crop_scale == (1.0, 1.0) and not self.flip:
            return self._resized(images)
        return cut(images, draws.crops, self.shape)

    def _resized(self, images: Tensor) -> Tensor:
        pixels = _unit_range(images)
        if pixels.shape[-2:] == self.shape:
            return pixels
        return F.interpolate(pixels, self.shape, mode="bilinear", antialias=True, align_corners=False)

    def _normalise_(self, pixels: Tensor) -> Tensor:
        if any(self.mean) or set(self.std) != {1.0}:
            mean, std = (
                torch.tensor(v, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1) for v in (self.mean, self.std)
            )
            pixels.sub_(mean).div_(std)
        return pixels

    def _checked(self, images: Any) -> Tensor:
        images = tensor_of(images, "views")
        if images.ndim != 4:
            found = tuple(images.shape)
            raise StimulusError(f"views: expected images (rows, channels, height, width), got shape {found}")
        if len(self.mean) not in (1, images.shape[1]):
            raise StimulusError(f"views: {len(self.mean)} means for images of {images.shape[1]} channels")
        if images.dtype != torch.uint8:
            _check_range(images)
        return images

    def __repr__(self) -> str:
        changed = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Views({', '.join(changed)})"


@lru_cache
def _finish(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that normalise colours or luminance, (channels, channels), and their shift, (channels, 1)."""
    wide, middle = (torch.tensor(v, dtype=torch.float32, device="cpu").expand(channels)[:, None] for v in (std, mean))
    scale = wide.reciprocal()
    shift = -middle * scale
    coloured = torch.eye(channels, dtype=torch.float32, device="cpu") * scale
    grey = torch.from_numpy(luminance_weights(channels)) * scale
    return coloured.to(device), grey.to(device), shift.to(device)


def _size(size: Any) -> int | tuple[int, int]:
    """Return a height and width, one number if they are equal."""
    if not isinstance(size, Sequence):
        return whole(size, "Views.size")
    if len(size) != 2:
        raise OptionError(f"Views.size: expected one number of pixels, or height and width, got {size!r}")
    height, width = (whole(length, "Views.size") for length in size)
    return height if height == width else (height, width)


def _plain(value: Any, what: str) -> Any:
    """Return a number, or several in a tuple, of Python, whatever they were."""
    try:
        if isinstance(value, str):
            raise TypeError
        if not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0:
            return value if isinstance(value, int | float) else float(value)
        return tuple(map(float, value))
    except (TypeError, ValueError):
        raise OptionError(f"{what}: expected a number, or several, got {value!r}") from None


def _check_range(images: Tensor) -> None:
    """Refuse what is neither of 8 bits nor between 0 and 1."""
    if not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise StimulusError(f"views: expected images of uint8, or floats in [0, 1], got {kind}: convert them to torch.uint8")
    if images.numel() and images.device.type != "meta" and not float(images.max()) <= 1 + 1e-6:
        most = float(images.max())
        what = "are not finite numbers" if most != most else f"are as large as {most:g}"
        raise StimulusError(f"views: expected images of uint8, or floats in [0, 1], but some {what}: divide 0..255 by 255")


def _exact(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which autocast, if the caller learns under it, does not round the views."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _unit_range(images: Tensor) -> Tensor:
    """Return pixels as float32 in [0, 1], never the images themselves."""
    return images.float().div_(255.0) if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)
