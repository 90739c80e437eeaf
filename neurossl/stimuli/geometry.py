"""Geometry of views: which part of an image a view shows, and how it is sampled.

A crop that is mirrored and resized is separable: with one matrix per row and axis,

    view = D image A^T,    D (size, height),  A (size, width),

whose entries are the weights of bilinear interpolation with antialiasing (a triangle as wide as the step between samples,
cut off at the border of the crop and normalised), as in PIL and `torchvision`. An enlarged view needs two lines of the image
for each of its own, which are cheaper to fetch than to multiply. Rotations need a sampling in two dimensions.
"""

from math import log, pi

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
    crops = torch.tensor([0.0, 0.0, high, wide, 0.0]).repeat(rows, 1)
    if scale != (1.0, 1.0):
        draws = torch.rand(rows, 2 * ATTEMPTS + 2, generator=generator)
        area = draws[:, :ATTEMPTS] * ((scale[1] - scale[0]) * high * wide) + scale[0] * high * wide
        aspect = draws[:, ATTEMPTS:-2].mul(log(ASPECT[1]) - log(ASPECT[0])).add_(log(ASPECT[0])).exp_()
        boxes = torch.stack([area / aspect, area * aspect], 2).sqrt_().round_()
        fits = ((boxes > 0) & (boxes <= crops[:, None, 2:4])).all(2)
        first = fits.byte().argmax(1)
        highest, widest = min(high, round(wide / ASPECT[0])), min(wide, round(high * ASPECT[1]))
        room = crops[:, 2:4] - boxes[torch.arange(rows), first] + 1
        crops[:, 2:4] -= room - 1
        crops[:, :2] = (room * draws[:, -2:]).floor_()
        middle = [(high - highest) // 2, (wide - widest) // 2, highest, widest, 0]
        crops = crops.where(fits.any(1, keepdim=True), torch.tensor(middle, dtype=torch.float32))
    if flip:
        crops[:, 4] = torch.rand(rows, generator=generator) < flip
    return crops


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
    place = torch.arange(0.5, size, device=pixels.device).div_(size)
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
    size, last = len(place), height - 1.0
    line = torch.minimum((height * place).sub_(0.5).clamp_(min=0.0), last)
    above = line.floor()
    below = torch.minimum(above + 1.0, last)
    plane = torch.arange(0, rows * channels * high, high, device=pixels.device).view(rows, channels, 1)
    every_line = pixels.reshape(-1, wide)

    def fetched(number: Tensor) -> Tensor:
        index = plane + (number + top).long()[:, None]
        return every_line.index_select(0, index.view(-1)).float().view(rows, channels, size, wide)

    return fetched(above).lerp_(fetched(below), (line - above)[:, None, :, None])


def _weights(start: Tensor, length: Tensor, source: int, place: Tensor) -> Tensor:
    """Return the weights of source pixels in samples at places from 0 to 1 of a box, (rows, size, source); sums are 1."""
    size = place.shape[1]
    pixel = torch.arange(0.5, source, device=place.device)
    centre = length * place
    if source <= size:
        centre = torch.minimum(centre.clamp_(min=0.5), length - 0.5).add_(start)
        return (pixel - centre[:, :, None]).abs_().neg_().add_(1.0).clamp_(min=0.0)
    step = (length / size).clamp_(min=1.0)[:, :, None]
    inside = (pixel > start) & (pixel < start + length)
    weights = (pixel - centre.add_(start)[:, :, None]).abs_().div_(-step).add_(1.0).clamp_(min=0.0)
    weights.mul_(inside.float()[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


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
