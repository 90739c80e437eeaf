"""Predictive coding (Whittington and Bogacz 2017): values v, predictions mu, errors e = v - mu; the top's is its credit.

Convention A: mu = rho(W v + b), pooled; v += rate (-e + W^T (e' rho'(a'))), update = mean e rho'(a) outer v below.
Convention B (values "drive"): mu = W rho(v) + b; v += rate (-e + rho'(v) W^T e'), update = mean e outer rho(v below).
"""

from __future__ import annotations

import numpy as np

from .alignment import TopDown, mirror_name, of
from .base import Network, Params, Sweep, carry, drive_of, learn, respond, to_drive
from .cases import Moment, Outcome, Rule
from .neurons import Array


class State:
    """One look at the relaxing network: drives, predictions and errors from the present values."""

    def __init__(self, rule: PredictiveCoding, params: Params, moment: Moment, values: Params):
        net, self.by_drive = rule.net, rule.by_drive
        top = net.top.name
        respond_to = {p.name: respond(p, values[p.name]) for p in net.driven[:-1]} if self.by_drive else values
        self.sweep = Sweep({net.input.name: moment["stimulus"]} | {p.name: respond_to[p.name] for p in net.driven[:-1]})
        drives = {p.name: drive_of(net, params, p, self.sweep.activity, self.sweep.seen) for p in net.driven}
        self.predicted = drives if self.by_drive else {p.name: respond(p, drives[p.name]) for p in net.driven}
        self.sweep.drive = drives | (values if self.by_drive else {})
        self.sweep.activity[top] = respond(net.top, drives[top])
        rule.note(self.sweep)
        self.outcome = rule.objective.evaluate(params, moment, self.sweep.activity)
        self.errors = {name: value - self.predicted[name] for name, value in values.items()}
        error = len(moment["stimulus"]) * self.outcome.credit
        self.errors[top] = to_drive(net.top, drives[top], error) if self.by_drive else error

    def delta(self, net: Network, name: str, error: Array) -> Array:
        """An error as credit on the drive of its prediction."""
        return error if self.by_drive else to_drive(net[name], self.sweep.drive[name], error)


class PredictiveCoding(TopDown):
    """Options steps, rate, schedule, feedback "transposed" | "learned" | "fixed", values "activity" | "drive"."""

    incremental, fixed_prediction, zero_divergence = False, False, False

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.steps, self.rate = options.get("steps", 0), options.get("rate", 1.0)
        self.feedback, self.by_drive = options.get("feedback", "transposed"), options.get("values") == "drive"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the objective, and mirrors where errors come down through them."""
        return super().shapes() | ({} if self.feedback == "transposed" else self.mirror_shapes())

    def note(self, sweep: Sweep) -> None:
        """How close the ReLUs of the relaxing network come to their kinks."""
        for pop in self.net.driven:
            if pop.transfer == "relu":
                self.closest = min(self.closest, np.abs(sweep.drive[pop.name]).min())

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """From the feedforward pass: relax, then learn (or learn while relaxing)."""
        sweep, hidden = self.sweep(params, moment["stimulus"]), self.net.driven[:-1]
        moment = moment | {"held": sweep.activity}  # contexts are the responses before anything settles
        values = {pop.name: (sweep.drive if self.by_drive else sweep.activity)[pop.name] for pop in hidden}
        state = State(self, params, moment, values)
        loss = {self.net.top.name: state.outcome.loss}
        if state.outcome.distances:
            self.watch(np.concatenate(state.outcome.distances))
        if self.incremental:
            return self.learn_while_relaxing(params, moment, values), loss
        if self.fixed_prediction:
            return self.update(params, state, self.relax_errors(params, state), state.outcome), loss
        if self.zero_divergence:
            return self.learn_in_turn(params, moment, values), loss
        for _ in range(self.steps):
            values = self.move(params, values, state)
            state = State(self, params, moment, values)
        return self.update(params, state, state.errors, state.outcome), loss

    def arriving(self, params: Params, state: State, name: str, errors: Params) -> Array:
        """sum over the pathways that leave a population of W^T (error, gated), as credit on its activity."""
        weights = None if self.feedback == "transposed" else self.mirrors(params)
        total = np.zeros_like(state.sweep.activity[name])
        for path in self.net.out_of(name):
            weight = params[f"weight/{path.name}"] if weights is None else weights[path.name]
            total += carry(self.net, weight, path, state.sweep, state.delta(self.net, path.post, errors[path.post]))
        return total

    def move(self, params: Params, values: Params, state: State) -> Params:
        """One step of all values, from the same errors."""
        moved = {}
        for name, value in values.items():
            push = self.arriving(params, state, name, state.errors)
            if self.by_drive:
                push = to_drive(self.net[name], value, push)
            moved[name] = value + self.rate * (push - state.errors[name])
        return moved

    def update(self, params: Params, state: State, errors: Params, outcome: Outcome) -> Params:
        """Mean error (gated) outer presynaptic value; learned mirrors get the same, transposed."""
        update, rows = dict(outcome.update), len(errors[self.net.top.name])
        for pop in self.net.driven:
            update |= learn(self.net, state.sweep, pop.name, state.delta(self.net, pop.name, errors[pop.name]) / rows)
        if self.feedback == "learned":
            for path in self.hidden:
                update[f"weight/{mirror_name(path)}"] = np.swapaxes(update[f"weight/{path.name}"], 0, 1)
        return update

    def learn_while_relaxing(self, params: Params, moment: Moment, values: Params) -> Params:
        """ipc: in every step, values and weights move from the same errors; the next step has the new weights."""
        start = params
        for _ in range(self.steps):
            state = State(self, params, moment, values)
            update = self.update(params, state, state.errors, state.outcome)
            values = self.move(params, values, state)
            params = params | {key: params[key] + self.lr * value for key, value in update.items()}
        return {key: (params[key] - start[key]) / self.lr for key in update}

    def relax_errors(self, params: Params, state: State) -> Params:
        """pc-fixed: predictions, gates and presynaptic values stay; errors start at 0 and relax to W^T (e' rho')."""
        errors = {name: np.zeros_like(e) for name, e in state.errors.items()} | {
            self.net.top.name: state.errors[self.net.top.name]
        }
        for _ in range(self.steps):
            push = {pop.name: self.arriving(params, state, pop.name, errors) for pop in self.net.driven[:-1]}
            errors = errors | {name: errors[name] + self.rate * (push[name] - errors[name]) for name in push}
        return errors

    def learn_in_turn(self, params: Params, moment: Moment, values: Params) -> Params:
        """z-il: rate 1, layer l learns from its error at relaxation time L - l; changes are applied at the end."""
        update: Params = {}
        for time, pop in enumerate(reversed(self.net.driven)):
            state = State(self, params, moment, values)
            whole = self.update(params, state, state.errors, state.outcome)
            update |= {key: whole[key] for path in self.net.onto(pop.name) for key in keys(whole, path.name)}
            if time == 0:
                update |= state.outcome.update
            values = self.move(params, values, state)
        return update


def keys(update: Params, pathway: str) -> list[str]:
    """Names of a pathway's weight and bias."""
    return [key for key in update if key.split("/", 1)[1] == pathway]


class Incremental(PredictiveCoding):
    """ipc."""

    incremental = True


class FixedPrediction(PredictiveCoding):
    """pc-fixed."""

    fixed_prediction = True


class ZeroDivergence(PredictiveCoding):
    """z-il."""

    zero_divergence = True


RULES: dict[str, type[Rule]] = {
    "pc": PredictiveCoding,
    "ipc": Incremental,
    "pc-fixed": FixedPrediction,
    "z-il": ZeroDivergence,
    "pc-clapp": of(PredictiveCoding, "clapp"),
    "pc-infonce": of(PredictiveCoding, "infonce"),
}
