"""Connectivity: which neurons a feedforward pathway joins, and the three products that follow from it.

Maps and kernels lie in memory channels last, which the convolutions of CPU and GPU are fastest with; indices stay
(rows, channels, height, width).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import NetworkError
from neurossl.populations import Shape
from neurossl.updates import OuterProduct, Update

SMALL_MAP = 16
"""Places of a map up to which the weight change is one matrix product: measured twice as fast at 4 x 4 on a CPU."""


class Connectivity(ABC):
    """Which neurons a feedforward pathway joins: forward, Hebbian product and transposed product."""

    @abstractmethod
    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return the shape of the weights; raise ValueError with the reason if the populations do not fit."""

    @abstractmethod
    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the somatic drive (rows, *post neurons) of presynaptic activity (rows, *pre shape)."""

    @abstractmethod
    def hebbian(self, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool) -> Update:
        """Return the mean over rows of somatic credit times presynaptic activity."""

    @abstractmethod
    def transpose(self, somatic: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return somatic credit carried through the transposed weights, (rows, *pre shape)."""

    def transposed_onto(
        self, base: Tensor, somatic: Tensor, x: Tensor, weight: Tensor, factor: float, overwrite: bool = False
    ) -> Tensor:
        """Return ``base``, which may be overwritten, plus a factor times what `transpose` returns, (rows, *pre shape)."""
        return torch.add(base, self.transpose(somatic, x, weight), alpha=factor)


@dataclass(frozen=True)
class Dense(Connectivity):
    """Every neuron to every neuron; maps are flattened channel-major."""

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post neurons, pre values)."""
        return prod(post), prod(pre)

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W x + b``, flat over neurons."""
        return F.linear(x.flatten(1), weight, bias)

    def hebbian(self, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool) -> Update:
        """Return the outer products."""
        flat = somatic.flatten(1) / len(somatic)
        return OuterProduct(flat, x.flatten(1), flat.sum(0) if bias else None)

    def transpose(self, somatic: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return ``W^T somatic`` in the shape of the presynaptic activity."""
        return (somatic.flatten(1) @ weight).view(x.shape)

    def transposed_onto(
        self, base: Tensor, somatic: Tensor, x: Tensor, weight: Tensor, factor: float, overwrite: bool = False
    ) -> Tensor:
        """Return ``base + factor W^T somatic``, added within the product."""
        flat = base.flatten(1)
        onto = flat.addmm_ if overwrite else flat.addmm
        return onto(somatic.flatten(1), weight, alpha=factor).view(x.shape)


@dataclass(frozen=True)
class Convolution(Connectivity):
    """Shared kernels, as in torch's conv2d (cross-correlation).

    Parameters
    ----------
    kernel, stride, padding : int
    padding_mode : {"zeros", "reflect"}
    """

    kernel: int = 3
    stride: int = 1
    padding: int = 1
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        if self.padding_mode not in ("zeros", "reflect"):
            raise NetworkError(f"Convolution.padding_mode: expected 'zeros' or 'reflect', got {self.padding_mode!r}")
        if self.kernel < 1 or self.stride < 1 or self.padding < 0:
            raise NetworkError(f"{self}: expected kernel >= 1, stride >= 1, padding >= 0")

    def output_shape(self, pre: Shape, channels: int) -> Shape:
        """Return (channels, height, width) of what the convolution of this shape drives."""
        return channels, *((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in pre[1:])

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post channels, pre channels, kernel, kernel)."""
        if len(pre) != 3 or len(post) != 3:
            raise ValueError(f"a convolution joins maps (channels, height, width), not {pre} and {post}")
        expected = self.output_shape(pre, post[0])
        if min(expected) < 1 or (self.padding_mode == "reflect" and self.padding >= min(pre[1:])):
            raise ValueError(f"a {self.kernel}x{self.kernel} convolution (padding {self.padding}) does not fit into {pre}")
        if post != expected:
            raise ValueError(
                f"a {self.kernel}x{self.kernel} convolution (stride {self.stride}, padding {self.padding}) of {pre} drives "
                f"{expected} neurons, not {post}"
            )
        return post[0], pre[0], self.kernel, self.kernel

    def _padded(self, x: Tensor) -> tuple[Tensor, int]:
        if self.padding_mode == "reflect" and self.padding:
            return F.pad(x, [self.padding] * 4, mode="reflect"), 0
        return x, self.padding

    def _backward(self, somatic: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        padded, padding = self._padded(x)
        geometry = ([self.stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        sizes = [weight.shape[0]]
        return torch.ops.aten.convolution_backward(somatic, padded, weight, sizes, *geometry, wanted)

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the cross-correlation."""
        padded, padding = self._padded(x)
        return F.conv2d(padded, weight, bias, self.stride, padding)

    def hebbian(self, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool) -> Update:
        """Return the weight-gradient kernel alone: no input gradient is computed."""
        rows = len(somatic)
        if somatic.numel() <= weight.numel():
            return self._summed(x, somatic / rows, weight, bias)
        summed = self._summed(x, somatic, weight, bias)
        return Update(summed.weight.div_(rows), None if summed.bias is None else summed.bias.div_(rows))

    def _summed(self, x: Tensor, somatic: Tensor, weight: Tensor, bias: bool) -> Update:
        if somatic.shape[2] * somatic.shape[3] <= SMALL_MAP and somatic.device.type == "cpu":
            return self._unfolded(x, somatic, bias)
        _, change, bias_change = self._backward(somatic, x, weight, [False, True, bias])
        return Update(change, bias_change if bias else None)

    def _unfolded(self, x: Tensor, somatic: Tensor, bias: bool) -> Update:
        """Return the same as one matrix product over all places: on small maps faster than the kernel of convolutions."""
        padded, padding = self._padded(x)
        padded = F.pad(padded, [padding] * 4) if padding else padded
        height, width = somatic.shape[2:]
        span_y, span_x = (height - 1) * self.stride + 1, (width - 1) * self.stride + 1
        offsets = [(dy, dx) for dy in range(self.kernel) for dx in range(self.kernel)]
        patches = [padded[:, :, dy : dy + span_y : self.stride, dx : dx + span_x : self.stride] for dy, dx in offsets]
        # Channels last, as the weights are: (rows, y, x, kernel place, channel).
        columns = torch.stack([patch.permute(0, 2, 3, 1) for patch in patches], 3).flatten(3).flatten(0, 2)
        flat = somatic.permute(0, 2, 3, 1).flatten(0, 2)
        change = (flat.T @ columns).view(somatic.shape[1], self.kernel, self.kernel, x.shape[1])
        return Update(change.permute(0, 3, 1, 2), flat.sum(0) if bias else None)

    def transpose(self, somatic: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return the transposed convolution, in the shape of the presynaptic activity."""
        credit, _, _ = self._backward(somatic, x, weight, [True, False, False])
        if self.padding_mode == "reflect" and self.padding:
            return torch.ops.aten.reflection_pad2d_backward(credit, x, [self.padding] * 4)
        return credit
