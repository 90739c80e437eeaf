"""The arithmetic floor of a step: the matrix products that a rule cannot do without, and how fast the machine does them.

Counted in multiply-adds, per row of a moment: every feedforward product ``W x``; every weight gradient; every product
``B c`` of a feedback pathway and, where it learns, its gradient; for backprop the input gradients ``W^T delta``; for
predictive coding both products of every pathway between settling populations once per settling step, those of the first
steps included that this engine leaves out because no error has arrived there yet (a tenth, with four layers and twenty
steps). The floor of a step is the time that these take at the rate of a large square matrix product; optimiser, pooling,
gates and scores come on top.
"""

import time
from math import prod

import torch

from neurossl.anatomy.connectivity import Convolution, Mixing
from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.errors import OptionError
from neurossl.plasticity import Backprop, OptimalFeedback, PredictiveCoding, Rule

SIDE = 4096
"""Rows and columns of the square matrices whose product sets the rate; smaller ones do not reach it."""


def multiply_adds(network: Network, rule: Rule) -> dict[str, int]:
    """Return the multiply-adds that one row of a moment costs, by kind of product.

    Parameters
    ----------
    network : Network
        Wired for the rule.
    rule : Rule
        One that acts through feedforward and dense feedback pathways; backprop, DFA and predictive coding included.

    Returns
    -------
    dict of str to int
        "forward", "weight gradients", "feedback" (``B c``), "feedback gradients", "input gradients", "settling".

    Raises
    ------
    OptionError
        For rules with mirror pathways, and schedules of predictive coding other than the standard one.
    """
    if any(isinstance(p, MirrorPathway) for p in network.feedback.values()):
        raise OptionError(f"rule {rule.name!r}: the arithmetic of mirror pathways is not counted")
    pathways = {p.name: _product(network, p) for p in network.feedforward.values()}
    between = sum(n for name, n in pathways.items() if not network.populations[network.pathways[name].pre].is_input)
    predictions = [p for p in network.feedback.values() if isinstance(p, FeedbackPathway)]
    settling = 0
    if isinstance(rule, PredictiveCoding):
        if rule.schedule != "standard" or rule.mirrored:
            raise OptionError(f"rule {rule.name!r}: the arithmetic of schedule {rule.schedule!r} is not counted")
        settling = 2 * rule.steps * between
    carries_down = isinstance(rule, Backprop | OptimalFeedback)
    return {
        "forward": sum(pathways.values()),
        "weight gradients": sum(n for name, n in pathways.items() if network.pathways[name].plastic),
        "feedback": sum(prod(p.weight_shape) for p in predictions),
        "feedback gradients": sum(prod(p.weight_shape) for p in predictions if p.plastic),
        "input gradients": between if carries_down else 0,
        "settling": settling,
    }


def _product(network: Network, pathway: FeedforwardPathway) -> int:
    """Return the multiply-adds of one product with the weights of a pathway, for one row."""
    locations = 1
    if isinstance(pathway.connectivity, Convolution):
        locations = prod(network.populations[pathway.post].neurons[1:])
    elif isinstance(pathway.connectivity, Mixing):
        locations = network.populations[pathway.post].neurons[0]
    return prod(pathway.weight_shape) * locations


class ProductRate:
    """The machine's matrix-product rate, measured again whenever it is asked for.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device
    side : int
        Rows and columns of both matrices.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(0)
        self.side = side
        self._device = device
        self._left, self._right = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
        self._out = torch.empty_like(self._left)
        self()

    def __call__(self) -> float:
        """Return multiply-adds per second of one product, the time between two synchronisations of the device."""
        synchronise(self._device)
        begun = time.perf_counter()
        torch.mm(self._left, self._right, out=self._out)
        synchronise(self._device)
        return self.side**3 / (time.perf_counter() - begun)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
