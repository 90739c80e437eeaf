"""Predictions that learn to deliver backprop's credit (arXiv 2601.21683, "theoretical optimal update").

Context from the top. Feedforward weights and the B of the top learn as usual; every B below descends
D = sum over rows and units of |G - backprop's credit|^2 on the activity, G the local credit. An event with weighted gamma
puts q = gamma B c on its target's pooled vector. With E = G - backprop's credit, averaged over the cells of the score:
dD/dB = 2 sum over events of [gamma E outer c + (dgamma/du) (E . B c) z outer c].
"""

from __future__ import annotations

import numpy as np

from .base import Network, Params, Population, backward, learn, to_drive
from .cases import Moment, Rule
from .contrastive import Contrastive, Event, judge, pair_events
from .neurons import Array, sigmoid
from .prediction import kernel_of, view


class Optimal(Rule):
    """Pooled globally (clapp-optimal) or in cells (clapp++optimal)."""

    pool = "global"

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.at = {pop.name: Contrastive(net, options, pop, "top", self.pool) for pop in net.driven}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All predictions."""
        return {name: shape for objective in self.at.values() for name, shape in objective.shapes().items()}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Local updates, backprop's credit as the teacher of the predictions below the top."""
        net, sweep = self.net, self.sweep(params, moment["stimulus"])
        outcomes = {pop.name: self.at[pop.name].evaluate(params, moment, sweep.activity) for pop in net.driven}
        _, taught = backward(net, params, sweep, {net.top.name: outcomes[net.top.name].credit})
        update: Params = {}
        for pop in net.driven:
            outcome = outcomes[pop.name]
            if outcome.distances:
                self.watch(np.concatenate(outcome.distances))
            update |= learn(net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], outcome.credit))
            if pop is net.top:
                update |= outcome.update
            else:
                miss = view(outcome.credit - taught[pop.name], kernel_of(net, pop, self.at[pop.name].pool))
                update |= self.teach(params, moment, pop, sweep.activity, miss)
        return update, {name: outcome.loss for name, outcome in outcomes.items()}

    def teach(self, params: Params, moment: Moment, pop: Population, activity: Params, miss: Array) -> Params:
        """Minus dD/dB."""
        objective, events = self.at[pop.name], pair_events(moment)
        (prediction, source) = objective.predictions[0]
        z = view(activity[pop.name], objective.kernel)
        c = view(activity[source], kernel_of(self.net, self.net[source], objective.pool))
        dendrite = prediction.predict(params, c)
        scores = [(z[event.target] * dendrite).sum(axis=1) for event in events]
        _, gammas, slopes = judge(objective.kind, events, scores, objective.steepness)
        if objective.kind == "phyll":
            return prediction.update(params, self.one_scalar(z, miss, dendrite, events, scores, objective.steepness), c)
        d = np.zeros_like(z)
        for event, gamma, slope in zip(events, gammas, slopes, strict=True):
            there = miss[event.target]
            steer = (slope * (there * dendrite).sum(axis=1))[:, None]
            d -= 2 * (gamma[:, None] * there + steer * z[event.target])
        return prediction.update(params, d, c)

    def one_scalar(
        self, z: Array, miss: Array, dendrite: Array, events: list[Event], scores: list[Array], steepness: float
    ) -> Array:
        """phyll: gamma s(gap) for the fixation, -gamma / K for K saccades, gap = mean saccade score - fixation score."""

        def lead(x: Array) -> Array:
            return x[events[0].target] - sum(x[event.target] for event in events[1:]) / (len(events) - 1)

        s = sigmoid(steepness * (sum(scores[1:]) / (len(events) - 1) - scores[0]))
        gamma, bend = events[0].weight * steepness * s, events[0].weight * steepness**2 * s * (1 - s)
        steer = bend * (lead(miss) * dendrite).sum(axis=1)
        return -2 * (gamma[:, None] * lead(miss) - steer[:, None] * lead(z))


class OptimalInCells(Optimal):
    """As above, per cell."""

    pool = "spatial"


RULES = {"clapp-optimal": Optimal, "clapp++optimal": OptimalInCells}
