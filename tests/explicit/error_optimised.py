"""Error-optimised predictive coding: the errors are the variables, the values follow from a sweep."""

from __future__ import annotations

import numpy as np

from .base import Params, Sweep, backward, drive_of, learn, respond, to_drive
from .cases import Moment, Rule
from .shared import cross_entropy, note_kinks


class ErrorOptimised(Rule):
    """Goemaere et al. 2025 (arXiv 2505.20137), every row for itself.

    Sweep: z_l = mu_l + e_l, mu_l = rho(W z_{l-1} + b) pooled. Relaxation: e_l += rate (g_l - e_l), g_l = -dLoss/dz_l
    through that sweep, so e descends sum |e|^2 / 2 + Loss. dW_l = mean e_l rho'(a_l) outer z_{l-1}; the top learns
    from e_L = onehot - softmax.
    """

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Errors start at 0; the loss is the one of the sweep without errors."""
        net, top = self.net, self.net.top.name
        steps, rate = self.options["steps"], self.options["rate"]
        free = self.sweep(params, moment["stimulus"])
        losses, _ = cross_entropy(free.activity[top], moment["labels"])
        error = {p.name: np.zeros_like(free.activity[p.name]) for p in net.driven[:-1]}
        for _ in range(steps):
            sweep = self.sweep_with(params, moment["stimulus"], error)
            _, at_top = cross_entropy(sweep.activity[top], moment["labels"])
            _, g = backward(net, params, sweep, {top: at_top})
            error = {name: e + rate * (g[name] - e) for name, e in error.items()}
        sweep = self.sweep_with(params, moment["stimulus"], error)
        _, error[top] = cross_entropy(sweep.activity[top], moment["labels"])
        update: Params = {}
        for pop in net.driven:
            delta = to_drive(pop, sweep.drive[pop.name], error[pop.name]) / len(losses)
            update |= learn(net, sweep, pop.name, delta)
        return update, {top: losses.mean()}

    def sweep_with(self, params: Params, stimulus: np.ndarray, error: Params) -> Sweep:
        """The forward sweep with each population's error added to its activity."""
        sweep = Sweep({self.net.input.name: stimulus})
        for pop in self.net.driven:
            sweep.drive[pop.name] = drive_of(self.net, params, pop, sweep.activity, sweep.seen)
            sweep.activity[pop.name] = respond(pop, sweep.drive[pop.name]) + error.get(pop.name, 0.0)
        note_kinks(self, sweep)
        return sweep


RULES = {"epc": ErrorOptimised}
