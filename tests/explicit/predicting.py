"""RPL: every population predicts its own response to the other view (recurrent prediction of the next response)."""

from __future__ import annotations

import numpy as np

from .base import Params, learn, to_drive
from .cases import Moment, Rule
from .shared import outer, pool, unpool_globally


class Rpl(Rule):
    """loss = mean over context rows r of |z_t - B c_r|^2, t = partner[r], the target z_t held (eLife 110895; 2503.21796)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """B maps a population's pooled response onto itself."""
        return {f"{p.name}=>{p.name}": (p.shape[0], p.shape[0]) for p in self.net.driven}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """With the error d = z_t - B c: dB = 2 mean d outer c, credit on c_r: 2 B^T d / R."""
        sweep = self.sweep(params, moment["stimulus"])
        update: Params = {}
        loss: dict[str, float] = {}
        for pop in self.net.driven:
            lateral = f"weight/{pop.name}=>{pop.name}"
            z = sweep.activity[pop.name]
            c = pool(z)
            error = c[moment["partner"]] - c @ params[lateral].T
            gain = moment.get("gain", np.ones(len(c)))[:, None]
            loss[pop.name] = (gain * error**2).sum() / len(c)
            error = gain * error
            update[lateral] = 2 * outer(error, c)
            credit = unpool_globally(2 * np.einsum("rj,ji->ri", error, params[lateral]) / len(c), z)
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], credit))
        return update, loss


RULES = {"rpl": Rpl}
