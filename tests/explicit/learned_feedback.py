"""Feedback alignment whose feedback comes to resemble the transposed feedforward weights: by sign, or by learning."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .base import Params, Pathway, backward
from .cases import Moment, Rule
from .neurons import Array
from .shared import cross_entropy


def mirror(path: Pathway) -> str:
    """V1->V2 to V2=>V1; its weight has the first two axes of the feedforward weight swapped."""
    return f"weight/{path.post}=>{path.pre}"


class Feedback(Rule):
    """The top's error onehot - softmax is carried down through `matrix` in the place of the feedforward weights."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """A mirror for every pathway that does not come from the input: (pre, post) or (pre, post, ky, kx)."""
        shapes = {}
        for path in self.net.pathways:
            if path.pre != self.net.input.name:
                post, pre, *kernel = self.net.weight_shape(path)
                shapes[f"{path.post}=>{path.pre}"] = (pre, post, *kernel)
        return shapes

    @abstractmethod
    def matrix(self, params: Params, path: Pathway) -> Array:
        """What carries the credit, shaped like the feedforward weight."""

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """As backprop, through other weights."""
        sweep = self.sweep(params, moment["stimulus"])
        top = self.net.top.name
        losses, error = cross_entropy(sweep.activity[top], moment["labels"])
        down = {p.name: self.matrix(params, p) for p in self.net.pathways if p.pre != self.net.input.name}
        update, _ = backward(self.net, params, sweep, {top: error / len(error)}, down)
        return update, {top: losses.mean()}


class SignFeedback(Feedback):
    """|B| sign(W)^T, B fixed (Liao et al. 2016, arXiv 1510.05067; Xiao et al. 2018)."""

    def matrix(self, params: Params, path: Pathway) -> Array:
        """The mirror's magnitude, the present weight's sign; sign(0) = 0."""
        return np.abs(params[mirror(path)].swapaxes(0, 1)) * np.sign(params[f"weight/{path.name}"])


class KolenPollack(Feedback):
    """The mirror gets the transposed update of its feedforward pathway (Akrout et al. 2019, arXiv 1904.05391)."""

    def matrix(self, params: Params, path: Pathway) -> Array:
        """The mirror itself."""
        return params[mirror(path)].swapaxes(0, 1)

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """The feedforward updates, and the same ones transposed."""
        update, loss = super().step(params, moment)
        for path in self.net.pathways:
            if path.pre != self.net.input.name:
                update[mirror(path)] = update[f"weight/{path.name}"].swapaxes(0, 1)
        return update, loss


RULES = {"fa-sign": SignFeedback, "fa-kp": KolenPollack}
