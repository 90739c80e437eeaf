"""CLAPP++ and its relatives (arXiv 2601.21683): every population predicts its response to the other view, u = z . B c.

loss = mean over rows of f(u of the partner) + mean over negatives of f(-u); the context c is held. With gamma = -dloss/du:
dB = sum gamma z outer c, credit on z = sum gamma B c, un-pooled over the cells of the score and gated as in any layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Network, Params, Population, learn, to_drive
from .cases import Moment, Outcome, Rule
from .neurons import Array, sigmoid
from .prediction import Prediction, cells_of, kernel_of, unview, view


def contrast(kind: str, u: Array) -> tuple[Array, Array, Array]:
    """f(u) with margin 1, its gamma = -f'(u), and the slope of gamma."""
    if kind == "hinge":
        return np.maximum(0.0, 1 - u), np.where(u < 1, 1.0, 0.0), np.zeros_like(u)
    if kind == "softplus":
        s = sigmoid(1 - u)
        return np.logaddexp(0.0, 1 - u), s, -s * (1 - s)
    return -u, np.ones_like(u), np.zeros_like(u)


@dataclass
class Event:
    """One event per row: the row whose response arrives, +1 fixation or -1 saccade, weight in the mean loss."""

    target: Array
    sign: Array
    weight: Array


def gains(moment: Moment) -> tuple[Array, Array]:
    """Neuromodulator at the fixation and at the saccades of every row; 1 where there is none."""
    ones = np.ones(len(moment["stimulus"]))
    fixation = moment.get("gain", ones)
    return fixation, moment.get("saccade_gain", fixation)


def pair_events(moment: Moment) -> list[Event]:
    """A fixation on the partner, saccades to the negatives, in every row."""
    rows, count = len(moment["partner"]), len(moment["negatives"])
    fixation, saccade = gains(moment)
    events = [Event(moment["partner"], np.ones(rows), fixation / rows)]
    return events + [Event(n, -np.ones(rows), saccade / (rows * count)) for n in moment["negatives"]]


def judge(
    kind: str, events: list[Event], scores: list[Array], steepness: float = 1.0
) -> tuple[float, list[Array], list[Array]]:
    """Mean loss, and by event the weighted gammas and their slopes (not for phyll)."""
    if kind == "phyll":
        weight, count = events[0].weight, len(events) - 1
        gap = sum(scores[1:]) / count - scores[0]
        gamma = weight * steepness * sigmoid(steepness * gap)
        return float((weight * np.logaddexp(0.0, steepness * gap)).sum()), [gamma] + [-gamma / count] * count, []
    loss, gammas, slopes = 0.0, [], []
    for event, u in zip(events, scores, strict=True):
        f, gamma, slope = contrast(kind, event.sign * u)
        loss += float((event.weight * f).sum())
        gammas.append(event.weight * event.sign * gamma)
        slopes.append(event.weight * slope)
    return loss, gammas, slopes


class Contrastive:
    """The contrastive objective at one population, with one prediction per family of contexts."""

    def __init__(self, net: Network, options: dict, pop: Population, contexts: str = "lateral", pool: str = "global"):
        self.net, self.pop = net, pop
        self.kind, self.steepness = options.get("contrast", "hinge"), options.get("steepness", 1.0)
        self.pool = options.get("pool", pool)
        self.kernel = kernel_of(net, pop, self.pool)
        here, top = pop.name, net.top.name
        lateral = f"{here}=>{here}" + (":lateral" if here == top and contexts == "both" else "")
        families = {"lateral": [(lateral, here)], "top": [(f"{top}=>{here}", top)]}
        families["both"] = families["top"] + families["lateral"]
        self.predictions = [(self.prediction(options, name, source), source) for name, source in families[contexts]]

    def prediction(self, options: dict, name: str, source: str) -> Prediction:
        """B from the cells of a source population to those of this one."""
        target, origin = cells_of(self.pop, self.kernel), self.net[source]
        return Prediction(
            options.get("prediction", "full"), name, target, cells_of(origin, kernel_of(self.net, origin, self.pool))
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weights of the predictions."""
        return {name: shape for prediction, _ in self.predictions for name, shape in prediction.shapes().items()}

    def evaluate(
        self, params: Params, moment: Moment, activity: Params, events: list | None = None, before: Params | None = None
    ):
        """Loss, credit on the activity, updates of the predictions; contexts from `before`, by default the same moment."""
        events = pair_events(moment) if events is None else events
        z = view(activity[self.pop.name], self.kernel)
        outcome = Outcome(0.0, np.zeros_like(activity[self.pop.name]), {})
        for prediction, source in self.predictions:
            held = (moment.get("held", activity) if before is None else before)[source]
            c = view(held, kernel_of(self.net, self.net[source], self.pool))
            dendrite = prediction.predict(params, c)
            scores = [(z[event.target] * dendrite).sum(axis=1) for event in events]
            loss, gammas, _ = judge(self.kind, events, scores, self.steepness)
            q, d = np.zeros_like(z), np.zeros_like(z)
            for event, gamma in zip(events, gammas, strict=True):
                np.add.at(q, event.target, gamma[:, None] * dendrite)
                d += gamma[:, None] * z[event.target]
            if self.kind == "hinge":
                outcome.distances += [1 - event.sign * u for event, u in zip(events, scores, strict=True)]
            outcome.loss += loss
            outcome.credit = outcome.credit + unview(self.pop, q, self.kernel)
            outcome.update |= prediction.update(params, d, c)
        return outcome


class LocalContrastive(Rule):
    """The objective at every population, its credit used there alone."""

    contexts, pool, fixed = "lateral", "global", False
    defaults: ClassVar[dict] = {}

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        contexts = options.get("context", self.contexts)
        self.at = {pop.name: Contrastive(net, self.defaults | options, pop, contexts, self.pool) for pop in net.driven}
        self.before: Params | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """All predictions."""
        return {name: shape for objective in self.at.values() for name, shape in objective.shapes().items()}

    def prepare(self, params: Params) -> Params:
        """Without the synapses that a band leaves out."""
        held = [prediction for objective in self.at.values() for prediction, _ in objective.predictions]
        return params | {key: params[key] * mask for prediction in held for key, mask in prediction.masks().items()}

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Local updates; with `moved` in the moment, the context is the response in the moment before."""
        sweep, before, events = self.sweep(params, moment["stimulus"]), None, None
        if "moved" in moment:
            rows = np.arange(len(moment["moved"]))
            weight = np.full(len(rows), 0.0 if self.before is None else 1 / len(rows))
            before, self.before = self.before or sweep.activity, sweep.activity
            events = [Event(rows, 1.0 - 2.0 * moment["moved"], weight)]
        update, loss = {}, {}
        for pop in self.net.driven:
            outcome = self.at[pop.name].evaluate(params, moment, sweep.activity, events, before)
            loss[pop.name] = outcome.loss
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], outcome.credit))
            if not self.fixed or pop is self.net.top:
                update |= outcome.update
            if events is None or weight[0] > 0:
                self.watch(np.concatenate(outcome.distances or [np.array([-1.0, 1.0])]))
        return update, loss


def variant(contexts: str, pool: str, fixed: bool = False, **defaults: object) -> type[LocalContrastive]:
    """A rule that differs by its contexts and by the cells of its score."""
    members = {"contexts": contexts, "pool": pool, "fixed": fixed, "defaults": defaults}
    return type("Variant", (LocalContrastive,), members)


RULES = {
    "clapp++gap": variant("lateral", "global"),
    "clapp++": variant("lateral", "spatial"),
    "clapp-dfb": variant("top", "global"),
    "clapp++dfb": variant("top", "spatial"),
    "clapp++both": variant("both", "spatial"),
    "clapp-phyll": variant("lateral", "global", contrast="phyll"),
    "clapp-fixed": variant("top", "global", fixed=True),
    "clapp++fixed": variant("top", "spatial", fixed=True),
}
