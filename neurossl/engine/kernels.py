"""The Hebbian and the transposed product of a connectivity: what follows from its drive, computed fast.

With ``drive_r = C(x_r, W)``, linear in both, the Hebbian product is the mean over rows of ``s_r dC/dW`` and the transposed
product ``s_r dC/dx``. For a connectivity that is not known here both are taken from the drive itself. Maps and kernels lie
in memory channels last, which the convolutions of CPU and GPU are fastest with; indices stay (rows, channels, y, x).
"""

from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.anatomy.connectivity import Connectivity, Convolution, Dense, Mixing, by_place
from neurossl.engine import limits
from neurossl.engine.execution import Means
from neurossl.engine.products import LIBRARIES, linear, outer
from neurossl.engine.updates import OuterProduct, Update

_TORCHS = Means()


@singledispatch
def drive(connectivity: Connectivity, x: Tensor, weight: Tensor, bias: Tensor | None, means: Means = _TORCHS) -> Tensor:
    """Return the somatic drive, (rows, *post neurons) or flat; see `Connectivity.drive`.

    Parameters
    ----------
    connectivity : Connectivity
    x : Tensor, (rows, *pre shape)
        Presynaptic activity.
    weight, bias : Tensor
    means : Means
        How it is computed.
    """
    return connectivity.drive(x, weight, bias)


@singledispatch
def hebbian(
    connectivity: Connectivity, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool, means: Means = _TORCHS
) -> Update:
    """Return the mean over rows of somatic credit times presynaptic activity.

    Parameters
    ----------
    connectivity : Connectivity
    x : Tensor, (rows, *pre shape)
        Presynaptic activity.
    somatic : Tensor, (rows, *post neurons)
        Credit at the soma.
    weight : Tensor
        For its shape.
    bias : bool
        Whether the pathway has a bias.
    means : Means
        How it is computed.
    """

    def drive(w: Tensor) -> Tensor:
        return connectivity.drive(x, w, None)

    given, pullback, *_ = torch.func.vjp(drive, torch.zeros_like(weight))
    share = somatic / max(1, len(somatic))
    (change,) = pullback(share.reshape(given.shape))
    if not bias:
        return Update(change)
    channels = share.flatten(1) if len(weight) == share[0].numel() else share.flatten(2).sum(2)
    return Update(change, channels.sum(0))


@singledispatch
def transpose(connectivity: Connectivity, somatic: Tensor, x: Tensor, weight: Tensor, means: Means = _TORCHS) -> Tensor:
    """Return somatic credit transported through the transposed weights, (rows, *pre shape).

    Parameters
    ----------
    connectivity : Connectivity
    somatic : Tensor, (rows, *post neurons)
    x : Tensor, (rows, *pre shape)
        For its shape.
    weight : Tensor
    means : Means
        How it is computed.
    """

    def drive(z: Tensor) -> Tensor:
        return connectivity.drive(z, weight, None)

    given, pullback, *_ = torch.func.vjp(drive, torch.zeros_like(x))
    return pullback(somatic.reshape(given.shape))[0]


@singledispatch
def transposed_onto(
    connectivity: Connectivity,
    base: Tensor,
    somatic: Tensor,
    x: Tensor,
    weight: Tensor,
    factor: float,
    overwrite: bool,
    means: Means = _TORCHS,
) -> Tensor:
    """Return ``base``, which may be overwritten, plus a factor times what `transpose` returns, (rows, *pre shape)."""
    return torch.add(base, transpose(connectivity, somatic, x, weight, means), alpha=factor)


@drive.register
def _(connectivity: Dense, x: Tensor, weight: Tensor, bias: Tensor | None, means: Means = _TORCHS) -> Tensor:
    return linear(x.flatten(1), weight, bias, means.matrices)


@hebbian.register
def _(connectivity: Dense, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool, means: Means = _TORCHS) -> Update:
    flat = somatic.flatten(1) / max(1, len(somatic))
    return OuterProduct(flat, x.flatten(1), flat.sum(0) if bias else None, means.matrices)


@transpose.register
def _(connectivity: Dense, somatic: Tensor, x: Tensor, weight: Tensor, means: Means = _TORCHS) -> Tensor:
    return linear(somatic.flatten(1), weight.T, None, means.matrices).view(x.shape)


@transposed_onto.register
def _(
    connectivity: Dense,
    base: Tensor,
    somatic: Tensor,
    x: Tensor,
    weight: Tensor,
    factor: float,
    overwrite: bool,
    means: Means = _TORCHS,
) -> Tensor:
    flat = base.flatten(1)
    if means.matrices == LIBRARIES[0]:
        onto = flat.addmm_ if overwrite else flat.addmm
        return onto(somatic.flatten(1), weight, alpha=factor).view(x.shape)
    add = flat.add_ if overwrite else flat.add
    return add(linear(somatic.flatten(1), weight.T, None, means.matrices), alpha=factor).view(x.shape)


@drive.register
def _(connectivity: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, means: Means = _TORCHS) -> Tensor:
    if means.drive == "first":
        given = connectivity.drive(x.contiguous(), weight.contiguous(), bias)
        return given.contiguous(memory_format=torch.channels_last)
    if means.drive == "product":
        seen, (height, width) = _patches(connectivity, x)
        given = linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias, means.matrices)
        return given.view(len(x), height, width, len(weight)).permute(0, 3, 1, 2)
    return connectivity.drive(x, weight, bias)


@hebbian.register
def _(connectivity: Convolution, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool, means: Means = _TORCHS) -> Update:
    rows = max(1, len(somatic))
    if somatic.numel() <= weight.numel():
        return _summed(connectivity, x, somatic / rows, weight, bias, means)
    summed = _summed(connectivity, x, somatic, weight, bias, means)
    return Update(summed.weight.div_(rows), None if summed.bias is None else summed.bias.div_(rows))


@transpose.register
def _(connectivity: Convolution, somatic: Tensor, x: Tensor, weight: Tensor, means: Means = _TORCHS) -> Tensor:
    credit, _, _ = _backward(connectivity, somatic, x, weight, [True, False, False])
    if connectivity.padding_mode == "reflect" and any(connectivity.margin):
        rows, columns = connectivity.margin
        return torch.ops.aten.reflection_pad2d_backward(credit, x, [columns, columns, rows, rows])
    return credit


def _backward(
    connectivity: Convolution, somatic: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    padded, padding = connectivity.padded(x)
    geometry = (list(connectivity.step), padding, [1, 1], False, [0, 0], 1)
    sizes = [weight.shape[0]]
    return torch.ops.aten.convolution_backward(somatic, padded, weight, sizes, *geometry, wanted)


def _summed(connectivity: Convolution, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool, means: Means) -> Update:
    """Return the sum over rows: the weight-gradient kernel alone, no input gradient is computed."""
    is_small = somatic.shape[2] * somatic.shape[3] <= limits.SMALL_MAP and somatic.device.type == "cpu"
    form = means.change or ("product" if is_small else "last")
    if form == "product":
        return _unfolded(connectivity, x, somatic, bias, means.matrices)
    if form == "first":
        x, somatic, weight = x.contiguous(), somatic.contiguous(), weight.contiguous()
    _, change, bias_change = _backward(connectivity, somatic, x, weight, [False, True, bias])
    return Update(change, bias_change if bias else None)


def _unfolded(connectivity: Convolution, x: Tensor, somatic: Tensor, bias: bool, library: str) -> Update:
    """Return the same as one matrix product over all places: on small maps faster than the kernel of convolutions."""
    seen, _ = _patches(connectivity, x)
    flat = somatic.permute(0, 2, 3, 1).flatten(0, 2)
    change = outer(flat, seen, library).view(somatic.shape[1], *connectivity.window, x.shape[1])
    return Update(change.permute(0, 3, 1, 2), flat.sum(0) if bias else None)


def _patches(connectivity: Convolution, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return what the kernels see at every place, (rows times places, kernel places times channels), and the map's size.

    Channels last, as the weights are: the channels of a place of the kernel are neighbours.
    """
    padded, (rows, columns) = connectivity.padded(x)
    padded = F.pad(padded, [columns, columns, rows, rows]) if rows or columns else padded
    (kernel_y, kernel_x), (step_y, step_x) = connectivity.window, connectivity.step
    patches = padded.unfold(2, kernel_y, step_y).unfold(3, kernel_x, step_x)
    height, width = patches.shape[2:4]
    return patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(0, 2), (height, width)


@hebbian.register
def _(connectivity: Mixing, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool, means: Means = _TORCHS) -> Update:
    share = by_place(somatic / max(1, len(somatic)))
    change = torch.einsum("rpc,rqc->pq", share, by_place(x))
    return Update(change, share.sum((0, 2)) if bias else None)


@transpose.register
def _(connectivity: Mixing, somatic: Tensor, x: Tensor, weight: Tensor, means: Means = _TORCHS) -> Tensor:
    return torch.matmul(weight.T, by_place(somatic)).transpose(1, 2).view(x.shape)
