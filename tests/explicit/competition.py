"""SoftHebb: a soft competition inside every population and location, Hebbian for the winner, anti-Hebbian for the others."""

from __future__ import annotations

import numpy as np

from .base import Params, hebbian
from .cases import Moment, Rule
from .neurons import Array


class SoftHebb(Rule):
    """Journe et al. 2023 (arXiv 2209.11883).

    y = softmax_j(temperature u_j) at each location, y~ = +y for the largest u and -y for the others;
    dW_j = mean over rows and locations of y~_j (patch - u_j W_j), dbias_j = mean y~_j;
    adaptive: both times sqrt(| ||W_j|| - 1 |).
    """

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Every population competes on its own drive; the sweep goes on through transfer and pooling."""
        sweep = self.sweep(params, moment["stimulus"])
        update: Params = {}
        for pop in self.net.driven:
            u = sweep.drive[pop.name]
            y = self.compete(u)
            events = len(u) * (1 if u.ndim == 2 else u.shape[2] * u.shape[3])
            shrink = (y * u).sum(axis=(0, *range(2, u.ndim))) / events
            for path in self.net.onto(pop.name):
                weight = params[f"weight/{path.name}"]
                per_unit = (-1,) + (1,) * (weight.ndim - 1)
                norm = np.sqrt((weight**2).reshape(len(weight), -1).sum(axis=1))
                rate = np.sqrt(np.abs(norm - 1)) if self.options.get("adaptive", True) else np.ones(len(norm))
                grown = hebbian(path, y / events, sweep.seen[path.name])
                grown[f"weight/{path.name}"] -= shrink.reshape(per_unit) * weight
                for key, value in grown.items():
                    update[key] = value * rate.reshape((-1,) + (1,) * (value.ndim - 1))
        return update, {}

    def compete(self, u: Array) -> Array:
        """y~, over the units or channels (axis 1)."""
        two = np.sort(u, axis=1)[:, -2:]
        self.closest = min(self.closest, (two[:, 1] - two[:, 0]).min() / 10)  # winners may not be as close as drives to 0
        e = np.exp(self.options.get("temperature", 1.0) * (u - u.max(axis=1, keepdims=True)))
        y = e / e.sum(axis=1, keepdims=True)
        return np.where(u == u.max(axis=1, keepdims=True), y, -y)


RULES = {"softhebb": SoftHebb}
