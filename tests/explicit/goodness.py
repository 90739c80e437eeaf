"""Forward-Forward and relatives (Hinton 2022): activity should be large awake and small asleep.

ff: g = sum of squares, loss = mean of softplus(sign (threshold - g)); gamma = sign sigmoid(sign (threshold - g)),
credit on z = 2 gamma z. phyll (Momeni 2023): loss = mean over pairs of softplus(s (g_asleep - g_awake)). scff (Chen 2025):
per location, on relu(a), with two thresholds.
"""

from __future__ import annotations

import numpy as np

from .base import Network, Params, Population, learn, to_drive, unpool
from .cases import Moment, Outcome, Rule
from .neurons import Array, sigmoid


class Goodness:
    """Hinton's objective at one population; options goodness "sum" | "mean", threshold."""

    def __init__(self, net: Network, options: dict, pop: Population):
        self.pop, mean = pop, options.get("goodness", "sum") == "mean"
        self.share = 1 / pop.size if mean else 1.0
        self.threshold = options.get("threshold", 1.0 if mean else float(pop.size))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """No pathways of its own."""
        return {}

    def evaluate(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """Binary cross-entropy of awake against asleep."""
        z, sign = activity[self.pop.name], moment["sign"]
        weight = moment.get("gain", np.ones(len(sign))) / len(sign)
        short = sign * (self.threshold - self.share * (z**2).reshape(len(z), -1).sum(axis=1))
        gamma = weight * sign * sigmoid(short)
        credit = 2 * self.share * gamma.reshape(-1, *[1] * (z.ndim - 1)) * z
        return Outcome(float((weight * np.logaddexp(0.0, short)).sum()), credit, {})


class ForwardForward(Rule):
    """The objective at every population; option peers: peer normalisation with running means of the awake activity."""

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.at = {pop.name: Goodness(net, options, pop) for pop in net.driven}
        self.peers = options.get("peers", 0.0)
        self.usual = {pop.name: np.full(pop.size, 0.5) for pop in net.driven}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Local updates."""
        sweep = self.sweep(params, moment["stimulus"])
        update, loss = {}, {}
        for pop in self.net.driven:
            outcome = self.at[pop.name].evaluate(params, moment, sweep.activity)
            if self.peers:
                extra, credit = self.compare(pop, sweep.activity[pop.name], moment["sign"] > 0)
                # With peers the gate is open for all units, so that silent ones can come back.
                loss[pop.name], delta = outcome.loss + extra, unpool(pop, sweep.drive[pop.name], outcome.credit + credit)
            else:
                loss[pop.name], delta = outcome.loss, to_drive(pop, sweep.drive[pop.name], outcome.credit)
            update |= learn(self.net, sweep, pop.name, delta)
        return update, loss

    def compare(self, pop: Population, z: Array, awake: Array) -> tuple[float, Array]:
        """peers * mean_j (mean_k m_k - m_j)^2 with m = 0.9 m_old (held) + 0.1 mean awake z."""
        m = 0.9 * self.usual[pop.name] + 0.1 * z[awake].mean(axis=0)
        self.usual[pop.name] = m
        on_m = self.peers * 2 / len(m) * (m.mean() - m)
        return self.peers * ((m.mean() - m) ** 2).mean(), np.where(awake[:, None], 0.1 / awake.sum() * on_m, 0.0)


class PhyLL(Rule):
    """Rows awake against rows asleep, paired in their order; g is the mean of squares, option steepness."""

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Local updates."""
        sweep, s = self.sweep(params, moment["stimulus"]), self.options.get("steepness", 1.0)
        awake, asleep = np.flatnonzero(moment["sign"] > 0), np.flatnonzero(moment["sign"] < 0)
        update, loss = {}, {}
        for pop in self.net.driven:
            z = sweep.activity[pop.name]
            g = (z**2).reshape(len(z), -1).mean(axis=1)
            gap = s * (g[asleep] - g[awake])
            loss[pop.name] = np.logaddexp(0.0, gap).mean()
            gamma = np.zeros(len(z))
            gamma[awake] = s * sigmoid(gap) / len(awake)
            gamma[asleep] = -gamma[awake]
            credit = 2 / pop.size * gamma.reshape(-1, *[1] * (z.ndim - 1)) * z
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], credit))
        return update, loss


class SelfContrastive(Rule):
    """SCFF: goodness of relu(a) at every location, before transfer and pooling; options thresholds, penalty."""

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """mean softplus(low - g) awake + mean softplus(g - high) asleep + penalty mean |g| awake; credit on the drive."""
        sweep = self.sweep(params, moment["stimulus"])
        low, high = self.options.get("thresholds", [1.0, 2.0])
        penalty = self.options.get("penalty", 0.0)
        awake, asleep = moment["sign"] > 0, moment["sign"] < 0
        update, loss = {}, {}
        for pop in self.net.driven:
            drive = sweep.drive[pop.name]
            r = np.where(drive > 0, drive, 0.0).reshape(len(drive), pop.neurons[0], -1)
            self.closest = min(self.closest, np.abs(drive).min())
            g = (r**2).mean(axis=1)
            places = g.shape[1]
            length = np.sqrt((g[awake] ** 2).sum(axis=1, keepdims=True))
            loss[pop.name] = np.logaddexp(0.0, low - g[awake]).mean() + np.logaddexp(0.0, g[asleep] - high).mean()
            loss[pop.name] += penalty * length.mean()
            on_g = np.zeros_like(g)
            on_g[awake] = (sigmoid(low - g[awake]) / places - penalty * g[awake] / length) / awake.sum()
            on_g[asleep] = -sigmoid(g[asleep] - high) / places / asleep.sum()
            delta = 2 / r.shape[1] * on_g[:, None, :] * r
            update |= learn(self.net, sweep, pop.name, delta.reshape(drive.shape))
        return update, loss


RULES = {"ff": ForwardForward, "ff-hybrid": ForwardForward, "phyll": PhyLL, "scff": SelfContrastive}
