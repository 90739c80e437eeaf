"""InfoNCE at a population: cosines of projected responses between the two views of n observers.

p = P z, z pooled globally; s_ij = cos(p_i, p'_j) / temperature between first view i and second view j;
loss = mean over i of -log softmax_j(s_ij) at j = i. With D_ij = gain_i (onehot - softmax)_ij / n (credit on s) and
unit vectors v = p / |p|: credit on v_i = sum_j D_ij v'_j / temperature, on p_i the part of it across v_i, over |p_i|;
dP = sum credit outer z, credit on z = P^T credit; none on the z of first views where these are held.
"""

from __future__ import annotations

import numpy as np

from .base import Network, Params, Population, learn, to_drive
from .cases import Moment, Outcome, Rule
from .neurons import TINY, Array, softmax
from .prediction import kernel_of, unview, view


def unit(p: Array) -> tuple[Array, Array]:
    """Vectors of length 1, and the lengths (not below 1e-8)."""
    length = np.maximum(np.sqrt((p**2).sum(axis=1, keepdims=True)), TINY)
    return p / length, length


class InfoNCE:
    """The objective at one population; options projection, negatives, temperature, held."""

    held = False

    def __init__(self, net: Network, options: dict, pop: Population):
        self.pop, self.kernel = pop, kernel_of(net, pop, "global")
        self.name = f"{pop.name}=>{pop.name}:projection"
        self.size = options.get("projection") or pop.shape[0]
        self.negatives, self.temperature = options.get("negatives"), options.get("temperature", 0.1)
        self.held = options.get("held", self.held)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """P, (size, channels or units)."""
        return {self.name: (self.size, self.pop.shape[0])}

    def evaluate(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """Loss, credit on the activity of both views, update of P."""
        partner, weight = moment["partner"], params[f"weight/{self.name}"]
        first = np.flatnonzero(np.arange(len(partner)) < partner)
        second, n = partner[first], len(first)
        gain = moment.get("gain", np.ones(len(partner)))[first]
        z = view(activity[self.pop.name], self.kernel)
        v, length = unit(z @ weight.T)
        scores = v[first] @ v[second].T / self.temperature
        if self.negatives is not None:
            ahead = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
            scores = np.where(ahead <= self.negatives, scores, -np.inf)
        share = softmax(scores)
        loss = -(gain * np.log(np.diag(share))).sum() / n
        on_scores = gain[:, None] * (np.eye(n) - share) / (n * self.temperature)
        on_unit = np.zeros_like(v)
        on_unit[first], on_unit[second] = on_scores @ v[second], on_scores.T @ v[first]
        on_p = (on_unit - v * (on_unit * v).sum(axis=1, keepdims=True)) / length
        on_z = on_p @ weight
        if self.held:
            on_z[first] = 0.0
        credit = unview(self.pop, on_z, self.kernel)
        return Outcome(loss, credit, {f"weight/{self.name}": on_p.T @ z})


class HeldInfoNCE(InfoNCE):
    """The first view is a context, which receives no credit."""

    held = True


class LocalInfoNCE(Rule):
    """The objective at every population, its credit used there alone."""

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.at = {pop.name: InfoNCE(net, options, pop) for pop in net.driven}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All projections."""
        return {name: shape for objective in self.at.values() for name, shape in objective.shapes().items()}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Local updates."""
        sweep = self.sweep(params, moment["stimulus"])
        update, loss = {}, {}
        for pop in self.net.driven:
            outcome = self.at[pop.name].evaluate(params, moment, sweep.activity)
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], outcome.credit))
            update |= outcome.update
            loss[pop.name] = outcome.loss
        return update, loss


RULES = {"infonce-local": LocalInfoNCE}
