"""Populations of neurons: somatic drive ``a``, transfer function ``z = rho(a)``, optional pooling, signs of synapses."""

from collections.abc import Sequence
from math import prod
from numbers import Real
from typing import Any

import numpy as np

from neurossl.anatomy.pooling import Pooling
from neurossl.anatomy.shapes import Shape
from neurossl.anatomy.transfer import Transfer, transfer_named
from neurossl.checks import whole
from neurossl.errors import NetworkError


class Population:
    """A population of neurons with a somatic and an apical compartment.

    Parameters
    ----------
    name : str
    neurons : int or sequence of int
        Number of neurons, or (channels, height, width).
    transfer : str or Transfer
        relu, linear, tanh, softplus, triangle, or one of your own (`Transfer`).
    pooling : Pooling, optional
        What other populations and the apical compartment read of it.
    inhibitory : float, optional
        Dale's law: this fraction of the neurons (of the channels of a map), the last ones, inhibit whatever they project to,
        the others excite it. Weights are drawn so and stay so. By default a neuron may do both. What inhibits must not be
        negative: use a transfer function such as relu. Loops within or between populations are not simulated by a sweep.

    Attributes
    ----------
    neurons : tuple of int
        Shape of the somatic drive.
    shape : tuple of int
        Shape of the activity that the population sends, after pooling; credit has this shape.
    """

    is_input = False

    def __init__(
        self,
        name: str,
        neurons: int | Sequence[int],
        transfer: str | Transfer = "relu",
        pooling: Pooling | None = None,
        inhibitory: float | None = None,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or any(mark in name for mark in ("->", "=>", "/", ":")):
            raise NetworkError(f"population name {name!r}: expected a name without '->', '=>', ':' and '/'")
        if any(not letter.isprintable() for letter in name):
            raise NetworkError(f"population name {name!r}: expected a name without control characters")
        self.name = name
        self.neurons: Shape = _shape(name, neurons)
        self.transfer = transfer_named(transfer, name)
        if not type(self.transfer).__module__.startswith("neurossl."):
            self.transfer.check(name)
        self.pooling = pooling
        if pooling is not None and not isinstance(pooling, Pooling):
            raise NetworkError(f"population {name!r}: pooling must be a Pooling such as Pooling('max', 2), got {pooling!r}")
        if pooling is not None and len(self.neurons) != 3:
            raise NetworkError(f"population {name!r}: pooling needs (channels, height, width), got {self.neurons}")
        self.shape: Shape = self.neurons if pooling is None else pooling.shape(self.neurons)
        if min(self.shape) < 1:
            raise NetworkError(f"population {name!r}: {pooling} does not fit {self.neurons}")
        if inhibitory is not None and not (isinstance(inhibitory, Real) and 0 <= inhibitory <= 1):
            raise NetworkError(f"population {name!r}: inhibitory must be a fraction from 0 to 1, got {inhibitory!r}")
        if inhibitory is not None and self.transfer.can_be_negative:
            raise NetworkError(
                f"population {name!r}: with an activity below 0, which {self.transfer.name!r} has, inhibitory neurons would "
                "excite: use a transfer function such as relu"
            )
        self.inhibitory = None if inhibitory is None else float(inhibitory)

    @property
    def size(self) -> int:
        """Number of values in the activity of one row."""
        return prod(self.shape)

    @property
    def signs(self) -> np.ndarray | None:
        """Sign of the synapses that every neuron, or every channel, makes, (channels,) of 1 and -1, or None."""
        if self.inhibitory is None:
            return None
        signs = np.ones(self.shape[0])
        signs[self.shape[0] - round(self.inhibitory * self.shape[0]) :] = -1
        return signs

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the population."""
        described: dict[str, object] = {
            "name": self.name,
            "neurons": list(self.neurons),
            "shape": list(self.shape),
            "transfer": self.transfer.name,
            "pooling": None if self.pooling is None else self.pooling.describe(),
            "input": self.is_input,
        }
        if self.pooling is not None and any(self.pooling.margin):
            described["pooling_padding"] = list(self.pooling.margin)
        if self.inhibitory is not None:
            described["inhibitory"] = self.inhibitory
        return described

    def __repr__(self) -> str:
        pooling = "" if self.pooling is None else f", {self.pooling.describe()} pooling"
        dale = "" if self.inhibitory is None else f", {self.inhibitory:.0%} inhibitory"
        return f"{type(self).__name__}({self.name!r}, {self.neurons}, {self.transfer.name}{pooling}{dale})"


class InputPopulation(Population):
    """The population on which the stimulus falls; its activity is the stimulus.

    Parameters
    ----------
    name : str
    neurons : int or sequence of int
        Number of inputs, or (channels, height, width).
    """

    is_input = True

    def __init__(self, name: str, neurons: int | Sequence[int]) -> None:
        super().__init__(name, neurons, transfer="linear")


def _shape(name: str, neurons: Any) -> Shape:
    """Return the shape that a number or a sequence of numbers, of Python or numpy, describes."""
    sizes = list(neurons) if np.iterable(neurons) else [neurons]
    what = f"population {name!r}: neurons"
    if len(sizes) not in (1, 3):
        raise NetworkError(f"{what} must be a number or (channels, height, width), got {neurons!r}")
    return tuple(whole(n, what, error=NetworkError) for n in sizes)
