"""Between direct feedback alignment and predictive coding: the top's error sets the values, which then settle."""

from __future__ import annotations

import numpy as np

from .base import Params, Sweep, carry, drive_of, learn, respond, to_drive
from .cases import Moment, Rule
from .neurons import Array
from .shared import cross_entropy, flat, note_kinks, outer


class DirectPredictive(Rule):
    """Values of convention A, mu_l = rho(W v_{l-1} + b); e_L = onehot - softmax of the present mu_L; row by row.

    v_l = mu_l + B_l e_L after the free sweep, then `steps` times, for all l below the top at once,
    v_l += rate (-e_l + sum W^T (e rho'(a)) + kappa B_l e_L); dW_l = mean e_l rho'(a_l) outer v_{l-1}.
    steps = 0: e_l = B_l e_L with the free sweep's a and x (direct feedback alignment).
    Schedule "fixed-prediction": a, x and e_L are those of the free sweep; e_l = B_l e_L, then `steps` times, for all l at
    once, e_l += rate (-e_l + sum W^T (e rho'(a)) + kappa B_l e_L).
    Learned feedback: dB_l = mean (e_l - B_l e_L) outer e_L with the final errors.
    """

    def feedback(self, name: str) -> str:
        """Name of the pathway B_l."""
        return f"{self.net.top.name}=>{name}"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """B_l: one row per value of the population (channel-major), one column per unit of the top."""
        return {self.feedback(p.name): (p.size, self.net.top.size) for p in self.net.driven[:-1]}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """The loss is the free sweep's."""
        net, top = self.net, self.net.top.name
        steps, rate = self.options.get("steps", 6), self.options.get("rate", 0.1)
        kappa = self.options.get("kappa", 0.0)
        sweep = self.sweep(params, moment["stimulus"])
        losses, e_top = cross_entropy(sweep.activity[top], moment["labels"])
        error = self.deliver(params, e_top) | {top: e_top}
        value = {p.name: sweep.activity[p.name] + error[p.name] for p in net.driven[:-1]}
        held = self.options.get("schedule", "standard") == "fixed-prediction"
        for _ in range(steps if held else 0):
            direct, pull = self.deliver(params, e_top), self.from_above(params, sweep, error)
            below = {n: error[n] + rate * (pull[n] - error[n] + kappa * direct[n]) for n in value}
            error = below | {top: e_top}
        for _ in range(0 if held else steps):
            sweep, error = self.errors(params, value, moment)
            direct = self.deliver(params, error[top])
            pull = self.from_above(params, sweep, error)
            value = {name: v + rate * (pull[name] - error[name] + kappa * direct[name]) for name, v in value.items()}
        if steps > 0 and not held:
            sweep, error = self.errors(params, value, moment)
        update: Params = {}
        for pop in net.driven:
            update |= learn(net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], error[pop.name]) / len(losses))
        if self.options.get("feedback", "fixed") == "learned":
            for name, direct in self.deliver(params, error[top]).items():
                update[f"weight/{self.feedback(name)}"] = outer(flat(error[name] - direct), error[top])
        return update, {top: losses.mean()}

    def deliver(self, params: Params, e_top: Array) -> Params:
        """B_l e_L at every population below the top."""
        return {
            p.name: (e_top @ params[f"weight/{self.feedback(p.name)}"].T).reshape(-1, *p.shape) for p in self.net.driven[:-1]
        }

    def errors(self, params: Params, value: Params, moment: Moment) -> tuple[Sweep, Params]:
        """Predictions from the present values and e_l = v_l - mu_l; the sweep's activities are the values."""
        sweep = Sweep({self.net.input.name: moment["stimulus"]} | value)
        error: Params = {}
        for pop in self.net.driven:
            a = sweep.drive[pop.name] = drive_of(self.net, params, pop, sweep.activity, sweep.seen)
            mu = respond(pop, a)
            error[pop.name] = value[pop.name] - mu if pop.name in value else cross_entropy(mu, moment["labels"])[1]
        note_kinks(self, sweep)
        return sweep, error

    def from_above(self, params: Params, sweep: Sweep, error: Params) -> Params:
        """Sum over the pathways out of each population of W^T (e rho'(a))."""
        pull = {name: np.zeros_like(e) for name, e in error.items()}
        for path in self.net.pathways:
            if path.pre in pull:
                post = self.net[path.post]
                delta = to_drive(post, sweep.drive[path.post], error[path.post])
                pull[path.pre] += carry(self.net, params[f"weight/{path.name}"], path, sweep, delta)
        return pull


RULES = {"dfa-pc": DirectPredictive}
