"""Geometry of views: which part of an image a view shows, and how it is sampled.

A crop that is mirrored and resized is separable: with one matrix per row and axis,

    view = D image A^T,    D (size, height),  A (size, width),

whose entries are the weights of bilinear interpolation with antialiasing (a triangle as wide as the step between samples,
cut off at the border of the crop and normalised), as in PIL and `torchvision`. An enlarged view needs two lines of the image
for each of its own, which are cheaper to fetch than to multiply. Rotations need a sampling in two dimensions.
"""

from functools import lru_cache
from math import log, pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10


def draw_crops(
    rows: int, shape: tuple[int, int], scale: tuple[float, float], flip: float, generator: torch.Generator
) -> Tensor:
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

    Returns
    -------
    Tensor of float32, (rows, 5)
        Top, left, height and width of the boxes in whole pixels; 1 where mirrored, else 0.
    """
    high, wide = shape
    crops = np.tile(np.array([0, 0, high, wide, 0], np.float32), (rows, 1))
    # Numpy takes a third of the time for so few numbers.
    if scale != (1.0, 1.0):
        draws = torch.rand(rows, 2 * ATTEMPTS + 2, generator=generator).numpy()
        area = draws[:, :ATTEMPTS] * ((scale[1] - scale[0]) * high * wide) + scale[0] * high * wide
        aspect = np.exp(draws[:, ATTEMPTS:-2] * log(ASPECT[1] / ASPECT[0]) + log(ASPECT[0]))
        boxes = np.sqrt(np.stack([area / aspect, area * aspect], 2)).round()
        fits = ((boxes > 0) & (boxes <= shape)).all(2)
        boxes = boxes[np.arange(rows), fits.argmax(1)]
        crops[:, :2] = np.floor((np.array(shape, np.float32) + 1 - boxes) * draws[:, -2:])
        crops[:, 2:4] = boxes
        highest, widest = min(high, round(wide / ASPECT[0])), min(wide, round(high * ASPECT[1]))
        crops[~fits.any(1), :4] = (high - highest) // 2, (wide - widest) // 2, highest, widest
    if flip:
        crops[:, 4] = torch.rand(rows, generator=generator).numpy() < flip
    return torch.from_numpy(crops)


def cut(pixels: Tensor, crops: Tensor, size: int) -> Tensor:
    """Return crops of images, mirrored where asked, resized to a square.

    Parameters
    ----------
    pixels : Tensor of uint8 or float32, (rows, channels, height, width)
    crops : Tensor, (rows, 5)
        As from `draw_crops`, on the device of the pixels.
    size : int

    Returns
    -------
    Tensor of float32, (rows, channels, size, size)
        Those of uint8 divided by 255.
    """
    rows, channels, high, wide = pixels.shape
    top, left, height, width, mirrored = crops.split(1, 1)
    place = _middles(size, pixels.device) / size
    if high <= size:
        lines = _lines(pixels, top, height, place)
    else:
        lines = torch.matmul(_weights(top, height, high, place.expand(rows, size))[:, None], pixels.float())
    across = _weights(left, width, wide, place + mirrored * (1.0 - 2.0 * place))
    if pixels.dtype == torch.uint8:
        across.div_(255.0)
    return torch.bmm(lines.view(rows, channels * size, wide), across.transpose(1, 2)).view(rows, channels, size, size)


def _lines(pixels: Tensor, top: Tensor, height: Tensor, place: Tensor) -> Tensor:
    """Return samples between the lines of enlarged boxes, (rows, channels, size, width); places from 0 to 1."""
    rows, channels, high, wide = pixels.shape
    line = torch.minimum((height * place).sub_(0.5).clamp_(min=0.0), height - 1.0)
    above = line.floor()
    two = torch.stack([above, line.ceil()]).add_(top).long()
    plane = torch.arange(0, rows * channels * high, high, device=pixels.device).view(rows, channels, 1)
    fetched = pixels.reshape(-1, wide).index_select(0, (two[:, :, None] + plane).view(-1))
    first, second = fetched.float().view(2, rows, channels, len(place), wide)
    return first.lerp_(second, line.sub_(above)[:, None, :, None])


def _weights(start: Tensor, length: Tensor, source: int, place: Tensor) -> Tensor:
    """Return the weights of source pixels in samples at places from 0 to 1 of a box, (rows, size, source); sums are 1."""
    size = place.shape[1]
    pixel = _middles(source, place.device)
    centre = length * place
    if source <= size:
        centre = torch.minimum(centre.clamp_(min=0.5), length - 0.5).add_(start)
        return torch.rsub((pixel - centre[:, :, None]).abs_(), 1.0).clamp_(min=0.0)
    step = (length / size).clamp_(min=1.0)[:, :, None]
    inside = (pixel > start) & (pixel < start + length)
    weights = torch.rsub((pixel - centre.add_(start)[:, :, None]).abs_().div_(step), 1.0).clamp_(min=0.0)
    weights.mul_(inside.float()[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


@lru_cache
def _middles(count: int, device: torch.device) -> Tensor:
    """Return the middles of so many pixels."""
    return torch.arange(0.5, count, device=device)


def draw_maps(
    crops: Tensor, shape: tuple[int, int], rotation: float, shift: float, zoom: float, generator: torch.Generator
) -> Tensor:
    """Draw rotations, shifts and zooms of boxes: affine maps from places in the view to places in the image, -1 to 1.

    Parameters
    ----------
    crops : Tensor, (rows, 5)
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
    rows = len(crops)
    top, left, height, width, mirrored = crops.unbind(1)
    half_height, half_width = height / shape[0], width / shape[1]
    centre_y, centre_x = 2 * top / shape[0] + half_height - 1, 2 * left / shape[1] + half_width - 1

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(rows, generator=generator) * (high - low) + low

    if zoom:
        factor = 1 / uniform(1 - zoom, 1 + zoom)
        half_width, half_height = half_width * factor, half_height * factor
    if shift:
        centre_x, centre_y = centre_x + uniform(-2, 2) * shift, centre_y + uniform(-2, 2) * shift
    angle = uniform(-rotation, rotation) * (pi / 180) if rotation else torch.zeros(rows)
    cos, sin = angle.cos(), angle.sin()
    mirror = 1 - 2 * mirrored
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
