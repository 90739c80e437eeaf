"""A contrastive objective at every size-th population, backprop inside the block below it."""

from __future__ import annotations

import numpy as np

from .base import Params, carry, learn, to_drive
from .cases import Moment, Rule
from .neurons import Array
from .shared import outer, pool, unpool_globally


class Blocks(Rule):
    """Blocks counted from the top downwards; size 1 is local learning, size L is backprop.

    At the end of a block, with u = z . B c, c = the population's own pooled response to the other view, held:
    loss = mean_r [max(0, 1 - u(z_t)) + mean_k max(0, 1 + u(z_n))], t = partner[r], n = negatives[k, r].
    """

    def ends(self) -> list[str]:
        """Populations where an objective stands, the top first."""
        return [p.name for p in self.net.driven][::-1][:: self.options.get("size", 2)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """A lateral B at the end of every block."""
        return {f"{name}=>{name}": (self.net[name].shape[0],) * 2 for name in self.ends()}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """From the top down; credit that arrives at the end of the block below is dropped for that block's own."""
        sweep = self.sweep(params, moment["stimulus"])
        update: Params = {}
        loss: dict[str, float] = {}
        credit: Array = np.zeros(0)
        for pop in reversed(self.net.driven):
            z = sweep.activity[pop.name]
            if pop.name in self.ends():
                lateral = f"weight/{pop.name}=>{pop.name}"
                loss[pop.name], update[lateral], on_pooled = self.contrast(pool(z), params[lateral], moment)
                credit = unpool_globally(on_pooled, z)
            delta = to_drive(pop, sweep.drive[pop.name], credit)
            update |= learn(self.net, sweep, pop.name, delta)
            (path,) = self.net.onto(pop.name)
            credit = carry(self.net, params[f"weight/{path.name}"], path, sweep, delta)
        return update, loss

    def contrast(self, z: Array, b: Array, moment: Moment) -> tuple[float, Array, Array]:
        """Loss, update of B and credit on the pooled responses; gamma is +1/R or -1/(K R) where the hinge's gate is open."""
        rows, negatives = len(z), moment["negatives"]
        prediction = z @ b.T
        events = [(moment["partner"], 1.0, 1.0)] + [(n, -1.0, 1 / len(negatives)) for n in negatives]
        loss, of_b, credit = 0.0, np.zeros_like(b), np.zeros_like(z)
        for target, sign, share in events:
            u = (z[target] * prediction).sum(axis=1)
            self.watch(1 - sign * u)
            loss += share * np.maximum(0, 1 - sign * u).mean()
            gamma = sign * share * (sign * u < 1)
            of_b += outer(gamma[:, None] * z[target], z)
            np.add.at(credit, target, gamma[:, None] * prediction / rows)
        return loss, of_b, credit


RULES = {"blocks-clapp": Blocks}
