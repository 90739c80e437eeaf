"""Rules on the statistics of a population's responses to two views of each object: no negatives, nothing from above.

z and z' (n objects, d units) are the responses to the first and to the second views, pooled over a map's locations. Every
population has its own loss, and its credit stays in it.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from .base import Params, learn, to_drive
from .cases import Moment, Rule
from .neurons import Array
from .shared import join, pool, two_views, unpool_globally


class TwoViews(Rule):
    """A loss of z and z' at every population."""

    @abstractmethod
    def objective(self, a: Array, b: Array) -> tuple[float, Array, Array]:
        """Loss and the credits (minus its gradients) on z and z'."""

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Each population learns from the credit on its own pooled response."""
        sweep = self.sweep(params, moment["stimulus"])
        first, second = two_views(moment["partner"])
        update: Params = {}
        loss: dict[str, float] = {}
        for pop in self.net.driven:
            z = sweep.activity[pop.name]
            pooled = pool(z)
            loss[pop.name], credit_a, credit_b = self.objective(pooled[first], pooled[second])
            credit = unpool_globally(join(first, second, credit_a, credit_b), z)
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], credit))
        return update, loss


class BarlowLocal(TwoViews):
    """Barlow Twins per population (arXiv 2103.03230; in blocks: 2302.01647).

    y = (z - mean) / s, s = sqrt(var + 1e-5), var biased; C = y^T y' / n;
    loss = sum_i (1 - C_ii)^2 + redundancy sum_{i != j} C_ij^2.
    """

    def objective(self, a: Array, b: Array) -> tuple[float, Array, Array]:
        """dC_ii = 2 (1 - C_ii), dC_ij = -2 redundancy C_ij as credits; dy = y' dC^T / n, dy' = y dC / n."""
        redundancy = self.options.get("redundancy", 0.005)
        n, d = a.shape
        (y, s), (other, other_s) = standardise(a), standardise(b)
        c = y.T @ other / n
        itself = np.eye(d)
        loss = ((1 - c) ** 2 * itself).sum() + redundancy * (c**2 * (1 - itself)).sum()
        dc = 2 * (1 - c) * itself - 2 * redundancy * c * (1 - itself)
        return loss, standardise_back(y, s, other @ dc.T / n), standardise_back(other, other_s, y @ dc / n)


def standardise(z: Array) -> tuple[Array, Array]:
    """Every unit over the objects, with the biased variance; also the divisor."""
    s = np.sqrt(z.var(axis=0) + 1e-5)
    return (z - z.mean(axis=0)) / s, s


def standardise_back(y: Array, s: Array, credit: Array) -> Array:
    """Credit on y to credit on z: (g - mean g - y mean(g y)) / s; the 1e-5 is inside s only."""
    return (credit - credit.mean(axis=0) - y * (credit * y).mean(axis=0)) / s


class VicregLocal(TwoViews):
    """VICReg per population (arXiv 2105.04906).

    loss = invariance mean (z - z')^2 + variance 1/2 sum_views mean_i max(0, 1 - sqrt(var_i + 1e-4))
         + covariance sum_views sum_{i != j} C_ij^2 / d, var and C with n - 1.
    """

    def objective(self, a: Array, b: Array) -> tuple[float, Array, Array]:
        """With y = z - mean: dvar_i / dz = 2 y / (n - 1), dC_ij / dz_i = y_j / (n - 1)."""
        invariance, variance = self.options.get("invariance", 25.0), self.options.get("variance", 25.0)
        covariance = self.options.get("covariance", 1.0)
        n, d = a.shape
        loss = invariance * ((a - b) ** 2).mean()
        credits = [-2 * invariance * (a - b) / (n * d), 2 * invariance * (a - b) / (n * d)]
        for z, credit in zip((a, b), credits, strict=True):
            y = z - z.mean(axis=0)
            std = np.sqrt((y**2).sum(axis=0) / (n - 1) + 1e-4)
            self.watch(1 - std)
            loss += variance * 0.5 * np.maximum(0, 1 - std).mean()
            credit += variance * 0.5 / d * (std < 1) * y / (std * (n - 1))
            c = (y.T @ y / (n - 1)) * (1 - np.eye(d))
            loss += covariance * (c**2).sum() / d
            credit -= covariance * 4 / d * (y @ c) / (n - 1)
        return loss, *credits


class Lpl(TwoViews):
    """Latent predictive learning (Halvagal & Zenke 2023, with the erratum's squared covariances).

    loss = pull mean (z - z')^2 - push 1/2 sum_views mean_i log(var_i + 1e-4)
         + decorrelation 1/2 sum_views sum_{i != k} C_ik^2 / (d^2 - d), var and C with n - 1.
    """

    def objective(self, a: Array, b: Array) -> tuple[float, Array, Array]:
        """Credit on z: -2 (z - z') / (d n) + y / ((var + 1e-4)(n - 1) d) - 2 sum_k C_ik y_k / ((n - 1)(d^2 - d))."""
        pull, push = self.options.get("pull", 1.0), self.options.get("push", 1.0)
        decorrelation = self.options.get("decorrelation", 10.0)
        n, d = a.shape
        loss = pull * ((a - b) ** 2).mean()
        credits = [-2 * pull * (a - b) / (n * d), 2 * pull * (a - b) / (n * d)]
        for z, credit in zip((a, b), credits, strict=True):
            y = z - z.mean(axis=0)
            c = y.T @ y / (n - 1)
            var, off = np.diag(c) + 1e-4, c * (1 - np.eye(d))
            loss += -push * 0.5 * np.log(var).mean() + decorrelation * 0.5 * (off**2).sum() / (d**2 - d)
            credit += push * y / (var * (n - 1) * d)
            credit -= decorrelation * 2 * (y @ off) / ((n - 1) * (d**2 - d))
        return loss, *credits


RULES = {"barlow-local": BarlowLocal, "vicreg-local": VicregLocal, "lpl": Lpl}
