"""Connectivity: which neurons a feedforward pathway joins, and what drive follows.

A connectivity is a description: it says which weights there are and how presynaptic activity becomes somatic drive, and
holds none itself. The Hebbian and the transposed product follow from the drive; `neurossl.engine.kernels` computes them,
faster where it knows how.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.anatomy.shapes import Pair, Shape, pair
from neurossl.checks import one_of, whole
from neurossl.errors import NetworkError, OptionError


class Connectivity(ABC):
    """Which neurons a feedforward pathway joins. One of your own needs these two methods and nothing else."""

    dims: tuple[str, ...] = ("post", "pre")
    """Names of the axes of the weights, as stored with a run."""

    @abstractmethod
    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return the shape of the weights, postsynaptic side first.

        Raises
        ------
        ValueError
            If the populations do not fit; with the reason.
        """

    @abstractmethod
    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the somatic drive, (rows, *post neurons) or flat, of presynaptic activity (rows, *pre shape).

        It must be linear in the activity and in the weights.
        """

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the connectivity; {} for dense."""
        if type(self).__repr__ is not object.__repr__:
            return {"connectivity": repr(self)}
        parts = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return {"connectivity": f"{type(self).__qualname__}({parts})"}

    def coords(self, pre: Shape, weight_shape: Shape) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return what is stored along the axes of the weights, by name, as (axes, values); {} where the axes say all.

        Parameters
        ----------
        pre : tuple of int
            Shape of the presynaptic activity.
        weight_shape : tuple of int
        """
        return {}

    def signs(self, pre: np.ndarray, shape: Shape, weight_shape: Shape) -> np.ndarray:
        """Return the sign of every synapse, to be broadcast against the weights, given that of every presynaptic channel.

        Parameters
        ----------
        pre : array of 1 and -1, (channels,)
        shape : tuple of int
            Of the presynaptic activity.
        weight_shape : tuple of int
        """
        if len(weight_shape) == 4:
            return pre.reshape(1, -1, 1, 1)
        return np.repeat(pre, prod(shape[1:])).reshape(1, -1)


@dataclass(frozen=True)
class Dense(Connectivity):
    """Every neuron to every neuron; maps are flattened channel-major. Weights (post, pre)."""

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post neurons, pre values)."""
        return prod(post), prod(pre)

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W x + b``, flat over neurons."""
        return F.linear(x.flatten(1), weight, bias)

    def describe(self) -> dict[str, object]:
        """Return {}."""
        return {}


@dataclass(frozen=True)
class Convolution(Connectivity):
    """Shared kernels, as in torch's conv2d (cross-correlation). Weights (post channels, pre channels, rows, columns).

    Parameters
    ----------
    kernel, stride, padding : int or (int, int)
    padding_mode : {"zeros", "reflect"}
    """

    kernel: int | Pair = 3
    stride: int | Pair = 1
    padding: int | Pair = 1
    padding_mode: str = "zeros"
    dims = ("post", "pre", "ky", "kx")

    def __post_init__(self) -> None:
        one_of(self.padding_mode, ("zeros", "reflect"), "Convolution.padding_mode", NetworkError)
        try:
            _ = self.window, self.step, self.margin
        except (ValueError, OptionError) as reason:
            raise NetworkError(f"Convolution: {reason}") from None

    @property
    def window(self) -> Pair:
        """Kernel, (rows, columns)."""
        return pair(self.kernel, "kernel", 1)

    @property
    def step(self) -> Pair:
        """Stride, (rows, columns)."""
        return pair(self.stride, "stride", 1)

    @property
    def margin(self) -> Pair:
        """Padding, (rows, columns)."""
        return pair(self.padding, "padding", 0)

    def output_shape(self, pre: Shape, channels: int) -> Shape:
        """Return (channels, height, width) of what the convolution of this shape drives."""
        geometry = zip(pre[1:], self.margin, self.window, self.step, strict=True)
        return channels, *((n + 2 * p - k) // s + 1 for n, p, k, s in geometry)

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post channels, pre channels, rows, columns)."""
        if len(pre) != 3 or len(post) != 3:
            raise ValueError(f"a convolution joins maps (channels, height, width), not {pre} and {post}")
        expected = self.output_shape(pre, post[0])
        rows, columns = self.window
        reflects = self.padding_mode == "reflect" and any(p >= n for p, n in zip(self.margin, pre[1:], strict=True))
        if min(expected) < 1 or reflects:
            raise ValueError(f"a {rows}x{columns} convolution (padding {self.padding}) does not fit into {pre}")
        if post != expected:
            raise ValueError(
                f"a {rows}x{columns} convolution (stride {self.stride}, padding {self.padding}) of {pre} drives "
                f"{expected} neurons, not {post}"
            )
        return post[0], pre[0], rows, columns

    def padded(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """Return activity with a reflected margin, and the padding with zeros that remains to be done."""
        if self.padding_mode == "reflect" and any(self.margin):
            rows, columns = self.margin
            return F.pad(x, [columns, columns, rows, rows], mode="reflect"), [0, 0]
        return x, list(self.margin)

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the cross-correlation."""
        padded, padding = self.padded(x)
        return F.conv2d(padded, weight, bias, self.step, padding)

    def describe(self) -> dict[str, object]:
        """Return kernel, stride and padding."""
        margin = {} if self.padding_mode == "zeros" else {"padding_mode": self.padding_mode}
        return {
            "kernel": list(self.window),
            "stride": list(self.step),
            "padding": list(self.margin),
            **margin,
        }


@dataclass(frozen=True)
class Sparse(Connectivity):
    """Every postsynaptic neuron has a few presynaptic partners, drawn at random. Weights (post, partners).

    Parameters
    ----------
    partners : int
        Presynaptic values that each neuron receives from.
    seed : int
        Of the draw: the same seed and sizes give the same partners.
    """

    partners: int
    seed: int = 0
    dims = ("post", "partner")

    def __post_init__(self) -> None:
        object.__setattr__(self, "partners", whole(self.partners, "Sparse.partners", error=NetworkError))
        object.__setattr__(self, "seed", whole(self.seed, "Sparse.seed", 0, error=NetworkError))

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post neurons, partners)."""
        if self.partners > prod(pre):
            raise ValueError(f"there are only {prod(pre)} presynaptic values for {self.partners} partners each")
        return prod(post), self.partners

    def index(self, pre: int, post: int) -> np.ndarray:
        """Return the partners of every neuron, sorted, (post, partners)."""
        return _partners(self.seed, pre, post, self.partners).copy()

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the sum over partners, flat over neurons."""
        flat = x.flatten(1)
        index = torch.from_numpy(_partners(self.seed, flat.shape[1], len(weight), self.partners)).to(flat.device)
        drive = (flat[:, index] * weight).sum(2)
        return drive if bias is None else drive + bias

    def describe(self) -> dict[str, object]:
        """Return number of partners and seed of their draw."""
        return {"partners": self.partners, "partners_seed": self.seed}

    def coords(self, pre: Shape, weight_shape: Shape) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return the flat index of the presynaptic neuron of every synapse, (post, partner)."""
        return {"presynaptic": (self.dims, self.index(prod(pre), weight_shape[0]))}

    def signs(self, pre: np.ndarray, shape: Shape, weight_shape: Shape) -> np.ndarray:
        """Return the sign of every partner, (post, partners)."""
        return np.repeat(pre, prod(shape[1:]))[self.index(prod(shape), weight_shape[0])]


@lru_cache(maxsize=64)
def _partners(seed: int, pre: int, post: int, partners: int) -> np.ndarray:
    rng = np.random.default_rng([seed, pre, post, partners])
    chosen = np.stack([rng.choice(pre, partners, replace=False) for _ in range(post)])
    chosen.sort(axis=1)
    return chosen


@dataclass(frozen=True)
class LocalFields(Connectivity):
    """Receptive fields as a convolution has, but with weights of its own at every place (untied).

    Weights (post channels x places, pre channels, rows, columns), neurons in the order of their flattened map.

    Parameters
    ----------
    kernel, stride, padding : int or (int, int)
        As for `Convolution`; padding with zeros.
    """

    kernel: int | Pair = 3
    stride: int | Pair = 1
    padding: int | Pair = 1
    dims = ("post", "pre", "ky", "kx")

    @property
    def geometry(self) -> Convolution:
        """The convolution that has the same receptive fields."""
        return Convolution(self.kernel, self.stride, self.padding)

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post neurons, pre channels, rows, columns)."""
        _, channels, rows, columns = self.geometry.weight_shape(pre, post)
        return prod(post), channels, rows, columns

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the drive of every neuron, flat."""
        geometry = self.geometry
        fields = F.unfold(x, geometry.window, padding=geometry.margin, stride=geometry.step)  # (rows, field, places)
        places = fields.shape[2]
        by_place = weight.reshape(-1, places, fields.shape[1])
        drive = torch.einsum("rfp,cpf->rcp", fields, by_place).flatten(1)
        return drive if bias is None else drive + bias

    def describe(self) -> dict[str, object]:
        """Return kernel, stride and padding of the fields."""
        geometry = self.geometry
        return {"fields": [list(geometry.window), list(geometry.step), list(geometry.margin)]}


@dataclass(frozen=True)
class Mixing(Connectivity):
    """Every place of a map to every place, each channel by itself, with the same weights for all channels.

    ``a_cp = sum over places q of W_pq x_cq + b_p``: the token mixing of MLP-Mixer (Tolstikhin et al. 2021, arXiv
    2105.01601). Weights (post places, pre places), places row by row; the maps may differ in size, not in channels.
    """

    def weight_shape(self, pre: Shape, post: Shape) -> Shape:
        """Return (post places, pre places)."""
        if len(pre) != 3 or len(post) != 3 or pre[0] != post[0]:
            raise ValueError(f"mixing joins maps (channels, height, width) of as many channels, not {pre} and {post}")
        return prod(post[1:]), prod(pre[1:])

    def drive(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``W x + b`` of every channel, (rows, channels, post places), channels last in memory."""
        drive = torch.matmul(weight, by_place(x)).transpose(1, 2)
        return drive if bias is None else drive + bias

    def describe(self) -> dict[str, object]:
        """Return what is mixed."""
        return {"mixing": "places"}

    def signs(self, pre: np.ndarray, shape: Shape, weight_shape: Shape) -> np.ndarray:
        """Return the sign that all channels have, (1, 1).

        Raises
        ------
        ValueError
            If there are channels of both signs: they share their weights.
        """
        if len(set(pre.tolist())) > 1:
            raise ValueError("excitatory and inhibitory channels cannot share the weights that mix places")
        return pre[:1].reshape(1, 1)


def by_place(x: Tensor) -> Tensor:
    """Return maps as (rows, places, channels)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
