"""How weights are drawn: on the CPU and in one precision, so that device and number type never change the draw."""

from collections.abc import Callable
from math import prod, sqrt

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import Pathway
from neurossl.anatomy.prediction import BandedPathway
from neurossl.generators import concern_seed


def _uniform(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """PyTorch's default for linear and convolution layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1 / sqrt(fan_in)
    return weight.uniform_(-bound, bound, generator=generator)


def _orthogonal(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """Semi-orthogonal over the flattened presynaptic side; drawn in float64, in which ``W W^T = 1`` holds to rounding."""
    flat = torch.empty(weight.shape[0], fan_in, dtype=torch.float64)
    return torch.nn.init.orthogonal_(flat, generator=generator).view(weight.shape)


def _xavier(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """Glorot's uniform initialisation."""
    return torch.nn.init.xavier_uniform_(weight, generator=generator)


def _normal(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """N(0, 1): variables of order one, for a pathway whose gain makes weights of them."""
    return weight.normal_(generator=generator)


def _normal_post(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """N(0, 1/post), as in the published code of the forward-forward algorithm."""
    return weight.normal_(0, 1 / sqrt(weight.shape[0]), generator=generator)


def _identity(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """One-to-one, at the centre of a kernel, as far as both sides have channels."""
    return torch.nn.init.eye_(weight) if weight.ndim == 2 else torch.nn.init.dirac_(weight)


INITIALISERS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "uniform": _uniform,
    "orthogonal": _orthogonal,
    "xavier": _xavier,
    "normal": _normal,
    "normal-post": _normal_post,
    "identity": _identity,
}


def draw(pathway: Pathway, network: Network, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return weights and bias of a pathway, from a generator of its own, seeded by the root seed and its name.

    Parameters
    ----------
    pathway : Pathway
        Part of the network.
    network : Network
        Knows the sign of every neuron, where its population has one (Dale's law).
    seed : int

    Returns
    -------
    weight : Tensor, (post, pre, ...)
        float32, or float64 where orthogonal.
    bias : Tensor, (post,), or None
    """
    generator = torch.Generator().manual_seed(concern_seed(seed, f"weights/{pathway.name}"))
    fan_in = prod(pathway.weight_shape[1:])
    weight = INITIALISERS[pathway.init](torch.empty(pathway.weight_shape, dtype=torch.float32), fan_in, generator)
    bias = None
    if pathway.has_bias:
        bias = _uniform(torch.empty(pathway.weight_shape[0], dtype=torch.float32), fan_in, generator)
    if pathway.gain != 1:
        weight, bias = weight * pathway.gain, None if bias is None else bias * pathway.gain
    signs = pathway.signs(network)
    if signs is not None:
        weight = weight.abs() * torch.from_numpy(signs).to(weight.dtype)
    if isinstance(pathway, BandedPathway):
        weight = weight * torch.from_numpy(pathway.near)
    return weight, bias
