"""Averages of activity over cells, as scores and dendrites see it, and credit on them back on the activity."""

import torch.nn.functional as F
from torch import Tensor

from neurossl.anatomy.shapes import Pool, Shape


def pooled(activity: Tensor, pool: Pool) -> Tensor:
    """Return the average over cells of kernel = stride = pool, flattened (channels, cells): (rows, values)."""
    if pool is None or activity.ndim == 2 or pool == 1:
        return activity.flatten(1)
    if pool == "global":
        return activity.mean((2, 3))
    return F.avg_pool2d(activity, int(pool)).flatten(1)


def unpooled(credit: Tensor, shape: Shape, pool: Pool) -> Tensor:
    """Return credit on the pooled values as credit on the activity, (rows, *shape).

    Neurons in the remainder at the border get none.

    Parameters
    ----------
    credit : Tensor, (rows, values)
    shape : tuple of int
    pool : int, "global" or None
    """
    rows = len(credit)
    if pool is None or len(shape) == 1 or pool == 1:
        return credit.view(rows, *shape)
    channels, height, width = shape
    kernel_y, kernel_x = (height, width) if pool == "global" else (int(pool), int(pool))
    cells = credit / (kernel_y * kernel_x)
    high, wide = height // kernel_y, width // kernel_x
    # Built channels last in memory, as the activity is that it meets.
    cells = cells.view(rows, channels, high, wide).permute(0, 2, 3, 1)
    spread = cells[:, :, None, :, None].expand(rows, high, kernel_y, wide, kernel_x, channels)
    spread = spread.reshape(rows, high * kernel_y, wide * kernel_x, channels).permute(0, 3, 1, 2)
    if spread.shape[2:] == shape[1:]:
        return spread
    return F.pad(spread, (0, width - spread.shape[3], 0, height - spread.shape[2]))
