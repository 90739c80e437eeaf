"""Dual propagation: somata with two compartments, nudged up and down; their difference is the credit."""

from __future__ import annotations

import numpy as np

from .base import Params, Population, carry, learn, unpool
from .cases import Moment, Rule
from .neurons import Array, transfer, windows
from .shared import add, cross_entropy


class DualPropagation(Rule):
    """Hoier, Staudt & Zach 2023 (arXiv 2302.01228), one pass downwards from the free sweep.

    s_l = (rho(a_l + beta/2 D_l) - rho(a_l - beta/2 D_l)) / beta, D_l = d_l un-pooled; d_{l-1} = sum W^T s_l;
    dW_l = mean s_l outer x_{l-1}; at the top d_L = onehot - softmax.
    """

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """a and x are those of the free sweep."""
        beta = self.options.get("beta", 1.0)
        sweep = self.sweep(params, moment["stimulus"])
        top = self.net.top.name
        losses, error = cross_entropy(sweep.activity[top], moment["labels"])
        credit: Params = {top: error}
        update: Params = {}
        for pop in reversed(self.net.driven):
            a = sweep.drive[pop.name]
            half = beta / 2 * unpool(pop, a, credit[pop.name])
            self.note_nudges(pop, a, half)
            s = (transfer(pop.transfer, a + half) - transfer(pop.transfer, a - half)) / beta
            update |= learn(self.net, sweep, pop.name, s / len(s))
            for path in self.net.onto(pop.name):
                add(credit, {path.pre: carry(self.net, params[f"weight/{path.name}"], path, sweep, s)})
        return update, {top: losses.mean()}

    def note_nudges(self, pop: Population, a: Array, half: Array) -> None:
        """Kinks of the nudged ReLUs; and no nudge may wake a window that was silent: its winner is a matter of taste."""
        if pop.transfer != "relu":
            return
        self.closest = min(self.closest, np.abs(a + half).min(), np.abs(a - half).min())
        if pop.pooling is not None and pop.pooling["kind"] == "max":
            k = pop.pooling["kernel"]
            best, nudge = windows(a, k).max(axis=-1), np.abs(windows(half, k)).max(axis=-1)
            if ((best <= 0) & (best + nudge > 0)).any():
                self.closest = 0.0


RULES = {"dual-prop": DualPropagation}
