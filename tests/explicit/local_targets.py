"""Mono-Forward: every population learns to tell the classes through a read-out of its own."""

from __future__ import annotations

import numpy as np

from .base import Params, learn, to_drive
from .cases import Moment, Rule
from .shared import cross_entropy, flat, outer


class MonoForward(Rule):
    """Below the top G = M z, at the top G = z; loss = mean -log softmax(G)[label], per population (arXiv 2501.09238)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """M: one row per class, one column per value of the population (channel-major)."""
        return {f"{p.name}=>{p.name}:classes": (self.net.top.size, p.size) for p in self.net.driven[:-1]}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """With e = onehot - softmax: dM = mean e outer z, credit on z: M^T e / R (e / R at the top)."""
        sweep = self.sweep(params, moment["stimulus"])
        update: Params = {}
        loss: dict[str, float] = {}
        for pop in self.net.driven:
            readout = f"weight/{pop.name}=>{pop.name}:classes"
            activity = sweep.activity[pop.name]
            z = flat(activity)
            scores = z @ params[readout].T if readout in params else z
            losses, error = cross_entropy(scores, moment["labels"])
            gain = moment.get("gain", np.ones(len(z)))
            loss[pop.name], error = (gain * losses).mean(), gain[:, None] * error
            credit = error / len(z)
            if readout in params:
                update[readout] = outer(error, z)
                credit = np.einsum("rj,ji->ri", credit, params[readout])
            delta = to_drive(pop, sweep.drive[pop.name], credit.reshape(activity.shape))
            update |= learn(self.net, sweep, pop.name, delta)
        return update, loss


RULES = {"mono-forward": MonoForward}
