"""Geometry of views: which part of an image a view shows, and how it is sampled.

A crop that is mirrored and resized is separable: with one matrix per row and axis,

    view = D image A^T,    D (size, height),  A (size, width),

whose entries are the weights of bilinear interpolation with antialiasing (a triangle as wide as the step between samples,
cut off at the border of the crop and normalised), as in PIL and `torchvision`. An enlarged view needs two lines of the image
for each of its own, which are cheaper to fetch than to multiply. Rotations need a sampling in two dimensions.
"""

from math import log, pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10


class Crops(NamedTuple):
    """Boxes of whole pixels, and whether they are mirrored (1) or not (0): each a tensor of float32, (rows,)."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


def draw_crops(
    rows: int, shape: tuple[int, int], scale: tuple[float, float], flip: float, generator: torch.Generator
) -> Crops:
    """Draw boxes as `torchvision.transforms.RandomResizedCrop` does, and whether they are mirrored.

    Area and aspect ratio are drawn ten times; the first box that fits into the image counts, and if none does, the largest
    in the middle with an aspect ratio from 3/4 to 4/3.

    Parameters
    ----------
    rows : int
    shape : (int, int)
        Height and width of the images.
    scale : (float, float)
        Range of the area, as a fraction of the image; (1, 1) shows the whole image, whatever its aspect ratio.
    flip : float
        Probability of a mirrored row.
    generator : torch.Generator
    """
    high, wide = shape
    whole = torch.tensor([0.0, 0.0, high, wide, 0.0]).expand(rows, 5)
    top, left, height, width, mirrored = whole.unbind(1)
    if scale != (1.0, 1.0):
        draws = torch.rand(rows, 2 * ATTEMPTS + 2, generator=generator)
        area = draws[:, :ATTEMPTS] * ((scale[1] - scale[0]) * high * wide) + scale[0] * high * wide
        aspect = draws[:, ATTEMPTS:-2].mul(log(ASPECT[1]) - log(ASPECT[0])).add_(log(ASPECT[0])).exp_()
        widths, heights = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
        fits = (widths > 0) & (widths <= wide) & (heights > 0) & (heights <= high)
        first, found = fits.float().argmax(1, keepdim=True), fits.any(1)
        highest, widest = min(high, round(wide / ASPECT[0])), min(wide, round(high * ASPECT[1]))
        height = torch.where(found, heights.gather(1, first)[:, 0], highest)
        width = torch.where(found, widths.gather(1, first)[:, 0], widest)
        top = torch.where(found, ((high - height + 1) * draws[:, -2]).floor_(), (high - highest) // 2)
        left = torch.where(found, ((wide - width + 1) * draws[:, -1]).floor_(), (wide - widest) // 2)
    if flip:
        mirrored = (torch.rand(rows, generator=generator) < flip).float()
    return Crops(top, left, height, width, mirrored)


def cut(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Return crops of images, mirrored where asked, resized to a square.

    Parameters
    ----------
    pixels : Tensor of uint8 or float32, (rows, channels, height, width)
    crops : Crops
        On the device of the pixels.
    size : int

    Returns
    -------
    Tensor of float32, (rows, channels, size, size)
        Those of uint8 divided by 255.
    """
    rows, channels, high, wide = pixels.shape
    lines = _lines(pixels, crops, size) if high <= size else _weighted_lines(pixels, crops, size)
    across = _weights(crops.left, crops.width, wide, size, crops.mirrored)
    if pixels.dtype == torch.uint8:
        across.div_(255)
    return torch.bmm(lines.view(rows, channels * size, wide), across.transpose(1, 2)).view(rows, channels, size, size)


def _lines(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Return crops with as many lines as the view has, each between two lines of the image."""
    rows, channels, high, wide = pixels.shape
    device = pixels.device
    place = crops.height[:, None] * ((torch.arange(size, device=device) + 0.5) / size) - 0.5
    place = torch.minimum(place.clamp_(min=0), crops.height[:, None] - 1)
    above = place.floor()
    below = torch.minimum(above + 1, crops.height[:, None] - 1)
    plane = torch.arange(rows * channels, device=device).view(rows, channels, 1) * high
    every_line = pixels.reshape(-1, wide)

    def fetched(line: Tensor) -> Tensor:
        index = plane + (line + crops.top[:, None]).long()[:, None]
        return every_line.index_select(0, index.view(-1)).float().view(rows, channels, size, wide)

    return fetched(above).lerp_(fetched(below), (place - above)[:, None, :, None])


def _weighted_lines(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    return torch.matmul(_weights(crops.top, crops.height, pixels.shape[2], size)[:, None], pixels.float())


def _weights(start: Tensor, length: Tensor, source: int, size: int, mirrored: Tensor | None = None) -> Tensor:
    """Return the weights of source pixels in samples, (rows, size, source); each sample's sum is 1."""
    place = ((torch.arange(size, device=start.device) + 0.5) / size).expand(len(start), size)
    if mirrored is not None:
        place = place + mirrored[:, None] * (1 - 2 * place)
    centre = length[:, None] * place
    pixel = torch.arange(source, device=start.device) + 0.5
    if source <= size:
        centre = torch.minimum(centre.clamp_(min=0.5), length[:, None] - 0.5).add_(start[:, None])
        return (pixel - centre[:, :, None]).abs_().neg_().add_(1).clamp_(min=0)
    step = (length / size).clamp_(min=1).view(-1, 1, 1)
    inside = (pixel > start[:, None]) & (pixel < (start + length)[:, None])
    centre.add_(start[:, None])
    weights = (pixel - centre[:, :, None]).abs_().div_(-step).add_(1).clamp_(min=0).mul_(inside.float()[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


def draw_maps(
    crops: Crops,
    shape: tuple[int, int],
    rotation: float,
    shift: float,
    zoom: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw rotations, shifts and zooms of boxes: affine maps from places in the view to places in the image, -1 to 1.

    Parameters
    ----------
    crops : Crops
    shape : (int, int)
        Height and width of the images.
    rotation : float
        Largest angle, degrees.
    shift : float
        Largest shift, as a fraction of the image.
    zoom : float
        Largest relative change of size.
    generator : torch.Generator

    Returns
    -------
    Tensor, (rows, 2, 3)
    """
    rows = len(crops.top)
    half_height, half_width = crops.height / shape[0], crops.width / shape[1]
    centre_y, centre_x = 2 * crops.top / shape[0] + half_height - 1, 2 * crops.left / shape[1] + half_width - 1

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(rows, generator=generator) * (high - low) + low

    if zoom:
        factor = 1 / uniform(1 - zoom, 1 + zoom)
        half_width, half_height = half_width * factor, half_height * factor
    if shift:
        centre_x, centre_y = centre_x + uniform(-2, 2) * shift, centre_y + uniform(-2, 2) * shift
    angle = uniform(-rotation, rotation) * (pi / 180) if rotation else torch.zeros(rows)
    cos, sin = angle.cos(), angle.sin()
    mirror = 1 - 2 * crops.mirrored
    return torch.stack(
        [
            torch.stack([cos * half_width * mirror, -sin * half_height, centre_x], 1),
            torch.stack([sin * half_width * mirror, cos * half_height, centre_y], 1),
        ],
        1,
    )


def move(pixels: Tensor, maps: Tensor, size: int) -> Tensor:
    """Return images seen through affine maps, bilinear, zero outside: (rows, channels, size, size)."""
    grid = F.affine_grid(maps, [len(pixels), 1, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
