"""CLAPP as published (Illing et al. 2021): predictions of responses several steps later, and a retrodiction branch.

Per population (pooled globally) and step k, with t = later[k, r]: prediction u = z_t . B_k c, c held; retrodiction
u' = c . R_k z_t, z held. A branch's loss is the mean of f(u) over its fixations plus the mean of f(-u) over its saccades
(separate means; an empty group is left out); loss = (1/S) sum over k of both branches. dB = sum gamma z outer c,
dR = sum gamma' c outer z, credit on z = sum gamma B c, credit on c = sum gamma' R z.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import Network, Params, Population, learn, to_drive
from .cases import Moment, Outcome, Rule
from .contrastive import contrast, gains
from .neurons import Array
from .prediction import kernel_of, unview, view


class Group(NamedTuple):
    """Events of one kind: context rows, target rows, +1 fixation or -1 saccade, weights in the mean loss."""

    context: Array
    target: Array
    sign: float
    weight: Array


def step_groups(moment: Moment, branch: int) -> list[list[Group]]:
    """For every step, the fixations and the saccades of a branch."""
    if "later" not in moment:
        rows, (fixation, saccade) = np.arange(len(moment["partner"])), gains(moment)
        groups = []
        targets = [(moment["partner"], 1.0, fixation)]
        targets += [(n, -1.0, saccade / len(moment["negatives"])) for n in moment["negatives"]]
        for target, sign, gain in targets:
            on = np.flatnonzero(gain)
            groups.append(Group(rows[on], target[on], sign, gain[on] / max(1, len(on))))
        return [groups]
    steps = []
    for later, elsewhere in zip(moment["later"], moment["elsewhere"][branch], strict=True):
        groups = []
        for target, sign, stays in ((later, 1.0, 1), (elsewhere, -1.0, 0)):
            happens = moment["stays"][branch] == stays if "stays" in moment else np.ones(len(later), bool)
            on = np.flatnonzero((later >= 0) & happens)
            groups.append(Group(on, target[on], sign, np.full(len(on), 1 / max(1, len(on)))))
        steps.append(groups)
    return steps


class Published(Rule):
    """Options steps, retrodiction "own" | "transposed" | "none", contrast."""

    usual = "own"

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.steps, self.retrodiction = options.get("steps", 1), options.get("retrodiction", self.usual)
        self.kind = options.get("contrast", "hinge")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """B_k and R_k at every population."""
        names = ["k", "back-k"] if self.retrodiction == "own" else ["k"]
        shapes = {}
        for pop in self.net.driven:
            for name in (f"{kind}{k}" for kind in names for k in range(1, self.steps + 1)):
                shapes[f"{pop.name}=>{pop.name}:{name}"] = (pop.shape[0], pop.shape[0])
        return shapes

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """All populations, each with its own score."""
        sweep = self.sweep(params, moment["stimulus"])
        update, loss = {}, {}
        for pop in self.net.driven:
            outcome = self.evaluate(params, moment, pop, sweep.activity[pop.name])
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], outcome.credit))
            update |= outcome.update
            loss[pop.name] = outcome.loss
            if outcome.distances:
                self.watch(np.concatenate(outcome.distances))
        return update, loss

    def evaluate(self, params: Params, moment: Moment, pop: Population, activity: Array) -> Outcome:
        """Both branches of every step at one population."""
        kernel = kernel_of(self.net, pop, "global")
        z = view(activity, kernel)
        outcome, q = Outcome(0.0, activity, {}), np.zeros_like(z)
        for branch, kind in enumerate(("k", "back-k") if self.retrodiction == "own" else ("k",)):
            for k, groups in enumerate(step_groups(moment, branch)):
                name = f"{pop.name}=>{pop.name}:{kind}{k + 1}"
                matrix = params[f"weight/{name}"]
                change = np.zeros_like(matrix)
                for group in groups:
                    c, target = z[group.context], z[group.target]
                    left, right = (target, c) if branch == 0 else (c, target)
                    dendrite = right @ matrix.T
                    u = group.sign * (left * dendrite).sum(axis=1)
                    f, gamma, _ = contrast(self.kind, u)
                    outcome.loss += (group.weight * f).sum() / self.steps
                    gamma = (group.sign * group.weight * gamma / self.steps)[:, None]
                    change += (gamma * left).T @ right
                    np.add.at(q, group.target if branch == 0 else group.context, gamma * dendrite)
                    if self.retrodiction == "transposed":
                        np.add.at(q, group.context, gamma * (left @ matrix))
                    if self.kind == "hinge":
                        outcome.distances.append(1 - u)
                outcome.update[f"weight/{name}"] = change
        outcome.credit = unview(pop, q, kernel)
        return outcome


class Symmetric(Published):
    """clapp-s: the present response learns through the transposed weights of the prediction."""

    usual = "transposed"


RULES = {"clapp": Published, "clapp-s": Symmetric}
