"""Pathways: bundles of synapses from one population to another.

A `FeedforwardPathway` ``pre->post`` drives the soma of its target; its plasticity is Hebbian with a third factor,

    dW_ji = mean over rows of  somatic_credit_j x_i,

the same for every rule and every connectivity. Weights are ``(post, pre)`` or ``(post, pre, ky, kx)``. Feedback pathways
``source=>target`` are in `neurossl.feedback`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod, sqrt

import torch
from torch import Tensor

from neurossl.connectivity import Connectivity, Dense
from neurossl.errors import NetworkError
from neurossl.populations import Population, Shape
from neurossl.updates import Update


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


def _normal_post(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """N(0, 1/post), as in the published code of the forward-forward algorithm."""
    return weight.normal_(0, 1 / sqrt(weight.shape[0]), generator=generator)


def _identity(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """One-to-one, at the centre of a kernel, as far as both sides have channels."""
    return torch.nn.init.eye_(weight) if weight.ndim == 2 else torch.nn.init.dirac_(weight)


def _laid_out(weight: Tensor) -> Tensor:
    """Return kernels channels last in memory, everything else as it is."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


INITIALISERS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "uniform": _uniform,
    "orthogonal": _orthogonal,
    "xavier": _xavier,
    "normal-post": _normal_post,
    "identity": _identity,
}


class Pathway(ABC):
    """Synapses with weights ``(post, pre, ...)``; base of feedforward and feedback pathways.

    Attributes
    ----------
    weight : Tensor, (post, pre, ...)
    bias : Tensor, (post,), or None
    plastic : bool
        Whether rules may change it.
    products : torch.dtype or None
        Number type of the products with the weights (bfloat16); that of the weights where None.
    """

    kind: str
    arrow: str

    def __init__(self, pre: str, post: str, *, plastic: bool, bias: bool, init: str, label: str = "") -> None:
        self.pre = pre
        self.post = post
        self.name = f"{pre}{self.arrow}{post}" + (f":{label}" if label else "")
        self.plastic = plastic
        self.has_bias = bias
        if init not in INITIALISERS:
            raise NetworkError(f"pathway {self.name!r}: init {init!r} does not exist, expected {', '.join(INITIALISERS)}")
        self.init = init
        self.weight_shape: Shape = ()
        self._weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.products: torch.dtype | None = None
        self._changes = 0
        self._rounded: tuple[tuple[int, int], Tensor] | None = None

    @abstractmethod
    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights for these populations.

        Raises
        ------
        NetworkError
            If the populations do not fit.
        """

    def initialise(self, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> None:
        """Draw the weights on the CPU, in one precision, so that device and dtype never change the draw."""
        fan_in = prod(self.weight_shape[1:])
        weight = INITIALISERS[self.init](torch.empty(self.weight_shape), fan_in, generator)
        bias = _uniform(torch.empty(self.weight_shape[0]), fan_in, generator) if self.has_bias else None
        self.set_weights(weight, bias, device, dtype)

    def set_weights(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Replace the weights by a copy of the given ones.

        Raises
        ------
        NetworkError
            If the shapes are not those of the pathway.
        """
        if tuple(weight.shape) != self.weight_shape:
            raise NetworkError(f"pathway {self.name!r}: weights must be {self.weight_shape}, got {tuple(weight.shape)}")
        if (bias is not None) != self.has_bias or (bias is not None and tuple(bias.shape) != self.weight_shape[:1]):
            expected = f"a bias of {self.weight_shape[:1]}" if self.has_bias else "no bias"
            raise NetworkError(
                f"pathway {self.name!r}: expected {expected}, got {None if bias is None else tuple(bias.shape)}"
            )
        given = [weight] if bias is None else [weight, bias]
        wanted = [_laid_out(w.detach().to(device, dtype, copy=True)) for w in given]
        if self._weight is not None and all(
            (old.device, old.dtype) == (new.device, new.dtype) for old, new in zip(self.parameters, wanted, strict=True)
        ):
            # Optimisers hold on to the tensors.
            for old, new in zip(self.parameters, wanted, strict=True):
                old.copy_(new)
            return
        self._weight, self.bias = wanted[0], wanted[1] if bias is not None else None

    def hold(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Hold these very tensors, not copies; they may be parts of larger ones."""
        self._weight, self.bias = weight, bias

    @property
    def weight(self) -> Tensor:
        """Weights (post, pre, ...).

        Raises
        ------
        NetworkError
            Before the network is initialised.
        """
        if self._weight is None:
            raise NetworkError(f"pathway {self.name!r} has no weights yet: call network.initialise(seed=...) first")
        return self._weight

    @property
    def operand(self) -> Tensor:
        """Weights in the number type of the products; rounded anew when they have changed."""
        if self.products is None or self.products == self.weight.dtype:
            return self.weight
        # The fused optimisers change weights without a new version.
        version = self.weight._version, self._changes
        if self._rounded is None or self._rounded[0] != version:
            room = None if self._rounded is None else self._rounded[1]
            rounded = self.weight.to(self.products) if room is None else room.copy_(self.weight)
            self._rounded = version, rounded
        return self._rounded[1]

    def changed(self) -> None:
        """Say that the weights have been changed in place."""
        self._changes += 1

    def factor(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the number type of the products."""
        return tensor if self.products is None else tensor.to(self.products)

    @property
    def has_weights(self) -> bool:
        """Whether the weights have been drawn or set."""
        return self._weight is not None

    def lesion(self) -> None:
        """Cut the pathway: weights and bias become 0 and stay so."""
        for parameter in self.parameters:
            parameter.zero_()
        self.plastic = False

    @property
    def parameters(self) -> list[Tensor]:
        """Weights and, where present, bias."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def no_update(self) -> Update:
        """Return an update that is 0 everywhere."""
        return Update(*(torch.zeros_like(parameter) for parameter in self.parameters))

    @property
    def in_blocks(self) -> bool:
        """Whether its updates may be computed for some postsynaptic neurons at a time."""
        return len(self.weight_shape) == 2

    @property
    def stored(self) -> int:
        """Number of values in memory, biases included."""
        return prod(self.weight_shape) + (self.weight_shape[0] if self.has_bias else 0)

    @property
    def synapses(self) -> int:
        """Number of adjustable values, biases included."""
        return self.stored

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.weight_shape),
            "bias": self.has_bias,
            "plastic": self.plastic,
            "synapses": self.synapses,
        }

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.weight_shape)) or "not joined"
        return f"{type(self).__name__}({self.name!r}, {shape}, {'plastic' if self.plastic else 'fixed'})"


class FeedforwardPathway(Pathway):
    """Synapses onto the soma: ``pre->post``.

    Parameters
    ----------
    pre, post : str
        Names of populations.
    connectivity : Connectivity
        `Dense()` by default, or `Convolution(kernel, stride, padding)`.
    normalisation : {None, "length", "standard"}
        Divisive normalisation at the presynaptic side, per row: "length" divides by the root of the mean square
        (forward-forward), "standard" subtracts the mean and divides by the standard deviation (SCFF).
    bias : bool
    plastic : bool
    init : str
        "uniform" (PyTorch's default), "orthogonal", "xavier", "normal-post" or "identity" (one-to-one).
    """

    kind = "feedforward"
    arrow = "->"

    def __init__(
        self,
        pre: str,
        post: str,
        connectivity: Connectivity | None = None,
        *,
        normalisation: str | None = None,
        bias: bool = True,
        plastic: bool = True,
        init: str = "uniform",
    ) -> None:
        super().__init__(pre, post, plastic=plastic, bias=bias, init=init)
        self.connectivity = connectivity or Dense()
        if normalisation not in (None, "length", "standard"):
            raise NetworkError(f"pathway {self.name!r}: normalisation must be 'length' or 'standard', got {normalisation!r}")
        self.normalisation = normalisation
        self._post_neurons: Shape = ()

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights."""
        try:
            self.weight_shape = self.connectivity.weight_shape(pre.shape, post.neurons)
        except ValueError as reason:
            raise NetworkError(f"pathway {self.name!r}: {reason}") from None
        self._post_neurons = post.neurons

    def presynaptic(self, activity: Tensor) -> Tensor:
        """Return what the synapses see of the activity of ``pre``, (rows, *pre shape)."""
        if self.normalisation is None:
            return activity
        centred, scale = self._normal_terms(activity)
        return centred / scale

    def _normal_terms(self, activity: Tensor) -> tuple[Tensor, Tensor]:
        axes = tuple(range(1, activity.ndim))
        activity = activity.to(self.weight.dtype)
        if self.normalisation == "standard":
            activity = activity - activity.mean(axes, keepdim=True)
        return activity, activity.square().mean(axes, keepdim=True).sqrt() + 1e-8

    def drive(self, presynaptic: Tensor) -> Tensor:
        """Return the somatic drive that the pathway adds, (rows, *post neurons)."""
        bias = None if self.bias is None else self.factor(self.bias)
        drive = self.connectivity.drive(self.factor(presynaptic), self.operand, bias)
        return drive if drive.shape[1:] == self._post_neurons else drive.view(-1, *self._post_neurons)

    def hebbian(self, presynaptic: Tensor, somatic_credit: Tensor) -> Update:
        """Return the update ``mean over rows of somatic_credit_j x_i``.

        Parameters
        ----------
        presynaptic : Tensor, (rows, *pre shape)
        somatic_credit : Tensor, (rows, *post neurons)
        """
        return self.connectivity.hebbian(self.factor(presynaptic), self.factor(somatic_credit), self.operand, self.has_bias)

    def transpose(self, somatic_credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on the activity of ``pre`` through the transposed weights (weight transport).

        Parameters
        ----------
        somatic_credit : Tensor, (rows, *post neurons)
        activity : Tensor, (rows, *pre shape)
            Activity of ``pre``, for its shape and for the slope of the normalisation.
        """
        return self.unnormalised(self.connectivity.transpose(self.factor(somatic_credit), activity, self.operand), activity)

    def transposed_onto(
        self, base: Tensor, somatic_credit: Tensor, activity: Tensor, factor: float, overwrite: bool = False
    ) -> Tensor:
        """Return ``base``, which may be overwritten, plus a factor times what `transpose` returns, (rows, *pre shape)."""
        if self.normalisation is None:
            somatic = self.factor(somatic_credit)
            return self.connectivity.transposed_onto(base, somatic, activity, self.operand, factor, overwrite)
        return base + factor * self.transpose(somatic_credit, activity)

    def unnormalised(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on the normalised activity as credit on the activity."""
        if self.normalisation is None:
            return credit
        centred, scale = self._normal_terms(activity)
        axes = tuple(range(1, activity.ndim))
        root = scale - 1e-8
        along = (credit * centred).mean(axes, keepdim=True) / (root * scale).clamp(min=torch.finfo(root.dtype).tiny)
        credit = (credit - centred * along) / scale
        return credit - credit.mean(axes, keepdim=True) if self.normalisation == "standard" else credit
