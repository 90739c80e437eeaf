"""Geometry of views: which part of an image a view shows, and how it is sampled.

A crop that is mirrored and resized is separable: with one matrix per row and axis,

    view = D image A^T,    D (view height, height),  A (view width, width),

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

from neurossl.generators import uniform

ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10


def draw_crops(
    rows: int, shape: tuple[int, int], scale: tuple[float, float], flip: float, generator: torch.Generator
) -> np.ndarray:
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
    array of float32, (rows, 5)
        Top, left, height and width of the boxes in whole pixels; 1 where mirrored, else 0.
    """
    high, wide = shape
    crops = np.empty((rows, 5), np.float32)
    crops[:] = 0, 0, high, wide, 0
    if scale != (1.0, 1.0):
        draws = uniform(rows, 2 * ATTEMPTS + 2, generator=generator).numpy()
        root = np.sqrt(draws[:, :ATTEMPTS] * ((scale[1] - scale[0]) * high * wide) + scale[0] * high * wide)
        aspect = np.exp(draws[:, ATTEMPTS:-2] * (log(ASPECT[1] / ASPECT[0]) / 2) + log(ASPECT[0]) / 2)
        boxes = np.rint(np.array([root / aspect, root * aspect]).transpose(1, 2, 0))
        fits: np.ndarray = np.all(boxes <= shape, axis=2)
        if scale[0] * high * wide < 1:
            fits &= np.all(boxes > 0, axis=2)
        found: np.ndarray = np.any(fits, axis=1)
        boxes = boxes[np.arange(rows), fits.argmax(1)]
        crops[:, :2] = np.floor((crops[:, 2:4] + 1 - boxes) * draws[:, -2:])
        crops[:, 2:4] = boxes
        if not found.all():
            highest, widest = min(high, round(wide / ASPECT[0])), min(wide, round(high * ASPECT[1]))
            crops[~found, :4] = (high - highest) // 2, (wide - widest) // 2, highest, widest
    if flip:
        crops[:, 4] = uniform(rows, generator=generator).numpy() < flip
    return crops


def cut(pixels: Tensor, crops: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """Return crops of images, mirrored where asked, resized.

    Parameters
    ----------
    pixels : Tensor of uint8 or float32, (rows, channels, height, width)
    crops : array, (rows, 5)
        As from `draw_crops`.
    shape : (int, int)
        Height and width of the result.

    Returns
    -------
    Tensor of float32, (rows, channels, *shape)
        Those of uint8 divided by 255.
    """
    rows, channels, high, wide = pixels.shape
    start, length, mirrored = crops[:, :2, None], crops[:, 2:4, None], crops[:, 4:]
    (top, left), (height, width) = start.swapaxes(0, 1), length.swapaxes(0, 1)
    down, across = (((np.arange(n) + 0.5) / n).astype(np.float32) for n in shape)
    y, x = height * down, width * (across + mirrored * (1 - 2 * across))
    if high <= shape[0] and wide <= shape[1]:
        # Beyond the middle of the outermost pixel, that pixel alone is seen.
        y = np.minimum(np.maximum(y, 0.5), height - 0.5) + top
        x = np.minimum(np.maximum(x, 0.5), width - 0.5) + left
        lines = _lines(pixels, y - 0.5)
        columns = torch.rsub(_distance(wide, x, pixels.device), 1.0).clamp_(min=0.0)
    else:
        lines = torch.matmul(_weights(top, height, y, high, pixels.device)[:, None], pixels.float())
        columns = _weights(left, width, x, wide, pixels.device)
    if pixels.dtype == torch.uint8:
        columns.div_(255.0)
    return torch.bmm(lines.view(rows, channels * shape[0], wide), columns.transpose(1, 2)).view(rows, channels, *shape)


def _lines(pixels: Tensor, place: np.ndarray) -> Tensor:
    """Return what lies at these places, (rows, size), between the lines of images: (rows, channels, size, width)."""
    rows, channels, high, wide = pixels.shape
    above = np.floor(place)
    two = np.array([above, np.ceil(place)], np.int64)
    plane = np.arange(0, rows * channels * high, high).reshape(rows, channels, 1)
    index = torch.from_numpy(two[:, :, None] + plane).to(pixels.device)
    fetched = pixels.reshape(-1, wide).index_select(0, index.view(-1)).float()
    first, second = fetched.view(2, rows, channels, -1, wide).unbind()
    return first.lerp_(second, torch.from_numpy(place - above).to(pixels.device)[:, None, :, None])


def _weights(start: np.ndarray, length: np.ndarray, centre: np.ndarray, source: int, device: torch.device) -> Tensor:
    """Return the weights of source pixels in samples of a box, (rows, size, source), with antialiasing; sums are 1."""
    reach = torch.from_numpy(np.maximum(length / centre.shape[1], 1)).to(device)
    pixel = np.arange(source) + 0.5
    inside = torch.from_numpy(((pixel > start) & (pixel < start + length)).astype(np.float32)).to(device)
    weights = torch.rsub(_distance(source, centre + start, device).div_(reach[:, :, None]), 1.0).clamp_(min=0.0)
    weights.mul_(inside[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


def _distance(source: int, centre: np.ndarray, device: torch.device) -> Tensor:
    """Return the distances of source pixels from samples, (rows, size, source)."""
    return (_middles(source, device) - torch.from_numpy(centre).to(device)[:, :, None]).abs_()


@lru_cache
def _middles(count: int, device: torch.device) -> Tensor:
    """Return the middles of so many pixels."""
    return torch.arange(0.5, count, dtype=torch.float32, device=device)


def draw_maps(
    crops: np.ndarray, shape: tuple[int, int], rotation: float, shift: float, zoom: float, generator: torch.Generator
) -> Tensor:
    """Draw rotations, shifts and zooms of boxes: affine maps from places in the view to places in the image, -1 to 1.

    Parameters
    ----------
    crops : array, (rows, 5)
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
    top, left, height, width, mirrored = torch.from_numpy(crops).unbind(1)
    half_height, half_width = height / shape[0], width / shape[1]
    centre_y, centre_x = 2 * top / shape[0] + half_height - 1, 2 * left / shape[1] + half_width - 1

    def between(low: float, high: float) -> Tensor:
        return uniform(rows, generator=generator) * (high - low) + low

    if zoom:
        factor = 1 / between(1 - zoom, 1 + zoom)
        half_width, half_height = half_width * factor, half_height * factor
    if shift:
        centre_x, centre_y = centre_x + between(-2, 2) * shift, centre_y + between(-2, 2) * shift
    angle = between(-rotation, rotation) * (pi / 180) if rotation else torch.zeros_like(mirrored)
    cos, sin = angle.cos(), angle.sin()
    mirror = 1 - 2 * mirrored
    return torch.stack(
        [
            torch.stack([cos * half_width * mirror, -sin * half_height, centre_x], 1),
            torch.stack([sin * half_width * mirror, cos * half_height, centre_y], 1),
        ],
        1,
    )


def move(pixels: Tensor, maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return images seen through affine maps, bilinear, zero outside: (rows, channels, *shape)."""
    grid = F.affine_grid(maps, [len(pixels), 1, *shape], align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
