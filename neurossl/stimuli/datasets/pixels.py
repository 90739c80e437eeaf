"""What is computed of images: their mean and spread, a digest, smaller and grey ones."""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.stimuli.datasets.access import check_memory
from neurossl.stimuli.datasets.streamed import StreamedImages

_PART = 4096
_SAMPLED = 2000
_MOST_DIGESTED = 2**28


def statistics(pixels: Tensor | StreamedImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1]; of streamed images, those of 2,000."""
    channels = pixels.shape[1]
    if not len(pixels):
        return (0.0,) * channels, (1.0,) * channels
    if isinstance(pixels, StreamedImages):
        count = min(_SAMPLED, len(pixels))
        pixels = pixels[torch.from_numpy(np.linspace(0, len(pixels) - 1, count).astype(np.int64))]
    if pixels.dtype != torch.uint8:
        parts = [part.transpose(0, 1).flatten(1).double() for part in pixels.split(_PART)]
        number = sum(part.shape[1] for part in parts)
        mean = torch.stack([part.sum(1) for part in parts]).sum(0) / number
        variance = torch.stack([(part - mean[:, None]).square().sum(1) for part in parts]).sum(0) / number
        return _rounded(mean, variance)
    counts = torch.zeros(channels, 256, dtype=torch.float64, device="cpu")
    for part in pixels.split(_PART):
        for channel in range(channels):
            counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256).cpu()
    values = torch.arange(256, dtype=torch.float64, device="cpu") / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return _rounded(mean, variance)


def _rounded(mean: Tensor, variance: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(round(m, 6) for m in mean.tolist()), tuple(max(round(s, 6), 1e-6) for s in variance.sqrt().tolist())


def content_digest(pixels: Tensor | StreamedImages) -> str:
    """Return a digest of images, 32 hexadecimal digits.

    Of images in memory, of their type, shape and pixels: all of them up to 256 MB, of more as many as fill that, evenly
    spaced. Of streamed ones, of the names and sizes of their files.
    """
    if isinstance(pixels, StreamedImages):
        return pixels.digest()
    digest = hashlib.sha256(f"{pixels.dtype} {tuple(pixels.shape)}".encode())
    if pixels.device.type != "meta" and pixels.numel():
        every = max(1, -(-pixels.numel() * pixels.element_size() // _MOST_DIGESTED))
        for part in pixels[::every].split(_PART):
            digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def greyed(part: Tensor) -> Tensor:
    """Return images with their colours reduced to luminance."""
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float32, device=part.device).view(1, 3, 1, 1)
    return _as_before((part * weights).sum(1, keepdim=True), part)


def resized(part: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return images of this height and width."""
    smooth = F.interpolate(part.to(torch.float32), shape, mode="bilinear", antialias=True, align_corners=False)
    return _as_before(smooth, part)


def changed(pixels: Tensor, change: Callable[[Tensor], Tensor], what: str) -> Tensor:
    """Return images changed part by part.

    Raises
    ------
    StimulusError
        If the result is larger than the free memory.
    """
    if not len(pixels):
        return change(pixels.new_zeros(1, *pixels.shape[1:]))[:0]
    one = change(pixels[:1])
    check_memory(len(pixels) * one.numel() * one.element_size(), f"{what}: {len(pixels)} images need", "give a smaller size")
    return torch.cat([change(part) for part in pixels.split(_PART)])


def _as_before(values: Tensor, part: Tensor) -> Tensor:
    """Return values in the type of the images that they were computed of."""
    return values.round().clamp(0, 255).to(torch.uint8) if part.dtype == torch.uint8 else values
