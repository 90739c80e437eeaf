"""Pathways: bundles of synapses from one population to another.

A `FeedforwardPathway` ``pre->post`` drives the soma of its target; `FeedbackPathway` and `MirrorPathway`
(`anatomy.feedback`) ``source=>target`` end in the apical compartment. A pathway is a description: the weights are state
(`neurossl.Weights`), what they do is in `neurossl.engine`.
"""

from abc import ABC, abstractmethod
from copy import copy
from math import prod
from typing import TYPE_CHECKING, Self

import numpy as np

from neurossl.anatomy.connectivity import Connectivity, Dense
from neurossl.anatomy.shapes import Shape
from neurossl.checks import is_finite, one_of
from neurossl.errors import NetworkError

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network

INITS = ("uniform", "orthogonal", "xavier", "normal", "normal-post", "identity")
"""How weights may be drawn; see `neurossl.engine.draw`."""


class Pathway(ABC):
    """Synapses with weights ``(post, pre, ...)``; base of feedforward and feedback pathways.

    Attributes
    ----------
    name : str
    pre, post : str
        Names of populations.
    plastic : bool
        Whether rules may change it.
    has_bias : bool
    init : str
    gain : float
        Size of its weights and of their changes; see `FeedforwardPathway`.
    weight_shape : tuple of int
        () until the pathway is part of a network.
    dims : tuple of str
        Names of the axes of the weights.
    in_blocks : bool
        Whether its updates may be computed for some postsynaptic neurons at a time.
    """

    kind: str
    arrow: str
    in_blocks = False
    gain: float = 1.0

    def __init__(self, pre: str, post: str, *, plastic: bool, bias: bool, init: str, label: str = "") -> None:
        self.pre = pre
        self.post = post
        self.label = label
        self.name = f"{pre}{self.arrow}{post}" + (f":{label}" if label else "")
        self.plastic = plastic
        self.has_bias = bias
        self.init = one_of(init, INITS, f"pathway {self.name!r}: init", NetworkError)
        self.weight_shape: Shape = ()

    def joined(self, network: "Network") -> Self:
        """Return a copy of the pathway as part of a network, with the shape of its weights.

        Raises
        ------
        NetworkError
            If the populations do not fit.
        """
        mine = copy(self)
        mine.weight_shape = mine.shape_in(network)
        return mine

    @abstractmethod
    def shape_in(self, network: "Network") -> Shape:
        """Return the shape of the weights in a network that has both populations; raise NetworkError if they do not fit."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of the weights."""
        return ("post", "pre") if len(self.weight_shape) == 2 else ("post", "pre", "ky", "kx")

    def signs(self, network: "Network") -> np.ndarray | None:
        """Return the sign that every synapse keeps, to be broadcast against the weights; None without Dale's law."""
        return None

    def signs_of(self, connectivity: Connectivity, channels: np.ndarray, shape: Shape) -> np.ndarray:
        """Return the sign of every synapse by those of the channels of what it comes from, which has this shape.

        Raises
        ------
        NetworkError
            If the channels share weights and differ in sign.
        """
        try:
            return connectivity.signs(channels, shape, self.weight_shape)
        except ValueError as reason:
            raise NetworkError(f"pathway {self.name!r}: {reason}") from None

    def coords(self, network: "Network") -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return what is stored along the axes of the weights, by name, as (axes, values); {} where the axes say all."""
        return {}

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
            "init": self.init,
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
        `Dense()` by default, or `Convolution(kernel, stride, padding)`, `Sparse(partners)`, `LocalFields(kernel)`,
        `Mixing()`.
    normalisation : {None, "length", "standard", "doubled"}
        Divisive normalisation at the presynaptic side, per row: "length" divides by the root of the mean square
        (forward-forward), "standard" subtracts the mean and divides by the standard deviation. "doubled" (SCFF): ``pre``
        holds two halves, the first and the second half of its channels or units; each is standardised, and the synapses,
        which are the same for both, see the sum.
    bias : bool
    plastic : bool
    init : str
        "uniform" (PyTorch's default), "orthogonal", "xavier", "normal" (variance 1, for use with a gain),
        "normal-post" (variance 1/post) or "identity" (one-to-one).
    gain : float
        The weights are this gain times variables of order one, and so is the bias: what is drawn is multiplied by it, and
        optimisers change the weights as if they changed those variables (`engine.torch_optimisers.scaled`). It is how
        parameterisations for width and depth are said; see `deep`.
    label : str
        Distinguishes several pathways between the same populations: ``pre->post:label``.
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
        gain: float = 1.0,
        label: str = "",
    ) -> None:
        super().__init__(pre, post, plastic=plastic, bias=bias, init=init, label=label)
        if not is_finite(gain) or gain <= 0:
            raise NetworkError(f"pathway {self.name!r}: gain must be a finite number > 0, got {gain!r}")
        self.gain = float(gain)
        self.connectivity = Dense() if connectivity is None else connectivity
        if not isinstance(self.connectivity, Connectivity):
            raise NetworkError(f"pathway {self.name!r}: expected a Connectivity as Convolution(3), got {connectivity!r}")
        if normalisation not in (None, "length", "standard", "doubled"):
            raise NetworkError(
                f"pathway {self.name!r}: normalisation must be 'length', 'standard' or 'doubled', got {normalisation!r}"
            )
        self.normalisation = normalisation
        self.post_neurons: Shape = ()

    def shape_in(self, network: "Network") -> Shape:
        """Return the shape of the weights."""
        self.post_neurons = network.populations[self.post].neurons
        seen = self.seen_shape(network)
        try:
            return self.connectivity.weight_shape(seen, self.post_neurons)
        except ValueError as reason:
            raise NetworkError(f"pathway {self.name!r}: {reason}") from None

    def seen_shape(self, network: "Network") -> Shape:
        """Return the shape of what the synapses see of a row: that of ``pre``, or of one of its halves.

        Raises
        ------
        NetworkError
            If there are no two halves.
        """
        shape = network.populations[self.pre].shape
        if self.normalisation != "doubled":
            return shape
        if shape[0] % 2:
            raise NetworkError(f"pathway {self.name!r}: {self.pre!r} has no two halves: {shape[0]} channels or units")
        return shape[0] // 2, *shape[1:]

    @property
    def in_blocks(self) -> bool:  # type: ignore[override]
        """Whether its updates may be computed for some postsynaptic neurons at a time."""
        return isinstance(self.connectivity, Dense)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes of the weights."""
        return self.connectivity.dims

    def signs(self, network: "Network") -> np.ndarray | None:
        """Return the sign of every synapse by that of its presynaptic neuron."""
        signs = network.populations[self.pre].signs
        return None if signs is None else self.signs_of(self.connectivity, signs, self.seen_shape(network))

    def coords(self, network: "Network") -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return what the connectivity says of the axes, such as the presynaptic partners of every neuron."""
        return self.connectivity.coords(self.seen_shape(network), self.weight_shape)

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        normalised = {} if self.normalisation is None else {"normalisation": self.normalisation}
        scaled = {} if self.gain == 1 else {"gain": self.gain}
        return {**super().describe(), **self.connectivity.describe(), **normalised, **scaled}
