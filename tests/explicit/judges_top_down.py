"""Numerical judges of the rules whose credit comes from the top: gradients, transports and gates by central differences."""

from __future__ import annotations

import numpy as np

from . import judged
from .judged import Judged, climb_value
from .judges_local import published_loss
from .judges_of_credit import at_drive, carried, held_credit
from .judges_of_losses import barlow
from .numeric import Array, Values, climb


def top_loss(file: Judged, p: Values, moment: Values, z: Values, before: Values) -> float:
    """Also of the objectives that are judged elsewhere."""
    if file.rule == "bp-hinge-cpc":
        return published_loss(file, p, moment, z, before, file.top)
    if file.rule == "bp-barlow":
        return barlow(file, p, moment, z, file.top, before)
    return judged.top_loss(file, p, moment, z, before)


def feedforward(file: Judged) -> list[str]:
    """All feedforward parameters."""
    return [key for name in file.names for key in file.onto(name)]


def backprop(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """Minus the gradient of the top's loss, contexts held."""
    before = file.first_sweep(params, moment)

    def loss(p: Values) -> float:
        return top_loss(file, p, moment, file.sweep(p, moment["stimulus"]), before)

    return climb(loss, params, feedforward(file) + objective(file, params)), {file.top: loss(params)}


def objective(file: Judged, params: Values) -> list[str]:
    """Parameters of the objective itself."""
    return [key for key in params if key.startswith(f"weight/{file.top}=>{file.top}")]


def error_of(file: Judged, params: Values, moment: Values, z: Values) -> Array:
    """Credit on the top's activity, by row: R times that of the mean loss; contexts are held, those of the first sweep."""

    def loss(x: Array) -> float:
        return top_loss(file, params, moment, z | {file.top: x}, moment.get("held", z))

    return len(z[file.top]) * climb_value(loss, z[file.top])


def own_update(file: Judged, params: Values, moment: Values, z: Values) -> Values:
    """Update of the objective's own parameters at given activities."""
    return climb(lambda p: top_loss(file, p, moment, z, moment.get("held", z)), params, objective(file, params))


def carriers(file: Judged, params: Values) -> Values:
    """Parameters with which credit is carried down: the mirrors where there are some."""
    down = dict(params)
    for path in file.paths:
        mirror = f"weight/{path['post']}=>{path['pre']}"
        if path["pre"] != file.bottom and mirror in params:
            down[f"weight/{path['pre']}->{path['post']}"] = np.swapaxes(params[mirror], 0, 1)
    return down


def feedback(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """fa: credit through the mirrors."""
    z, down = file.first_sweep(params, moment), carriers(file, params)
    credit = {name: np.zeros_like(z[name]) for name in z} | {file.top: error_of(file, params, moment, z)}
    for name in reversed(file.names):
        delta = at_drive(file, name, file.drive(params, name, z), credit[name])
        for below, part in carried(file, down, name, z, delta).items():
            credit[below] = credit[below] + part
    update = held_credit(file, params, z, {name: credit[name] for name in file.names})
    return update | own_update(file, params, moment, z), {file.top: top_loss(file, params, moment, z, z)}


def direct(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """dfa: B times the error, to single values or divided over the locations of a cell."""
    z, pool = file.first_sweep(params, moment), file.options.get("target_pool")
    error = error_of(file, params, moment, z)
    credit = {file.top: error}
    e = error.reshape(*error.shape[:2], -1).sum(axis=2)
    if error.ndim == 4 and file.options.get("pool") == "spatial":
        like = file.vector(file.top, error, "spatial")  # means over cells
        e = like * (error.shape[2] // round(np.sqrt(like.shape[1] / error.shape[1]))) ** 2
    for name in file.names[:-1]:
        arriving, shape = np.array([params[f"weight/{file.top}=>{name}"] @ row for row in e]), z[name].shape
        if pool is None or len(shape) == 2:
            credit[name] = arriving.reshape(shape)
            continue
        high, wide = shape[2:] if pool == "global" else (pool, pool)
        parts = np.zeros(shape)
        cells = [(c, y, x) for c in range(shape[1]) for y in range(shape[2] // high) for x in range(shape[3] // wide)]
        for index, (c, y, x) in enumerate(cells):
            part = arriving[:, index, None, None] / (high * wide)
            parts[:, c, y * high : (y + 1) * high, x * wide : (x + 1) * wide] = part
        credit[name] = parts
    update = held_credit(file, params, z, credit) | own_update(file, params, moment, z)
    return update, {file.top: top_loss(file, params, moment, z, z)}


class Relaxing:
    """Values of the populations below the top, and what follows from them."""

    def __init__(self, file: Judged, params: Values, moment: Values, values: Values):
        self.file, self.params, self.by_drive = file, params, file.options.get("values") == "drive"
        self.z = {file.bottom: moment["stimulus"]}
        for name, v in values.items():
            self.z[name] = file.pooled(name, file.neurons(name, v)) if self.by_drive else v
        self.a = {name: file.drive(params, name, self.z) for name in file.names}
        mu = self.a if self.by_drive else {n: file.pooled(n, file.neurons(n, self.a[n])) for n in file.names}
        self.z[file.top] = file.pooled(file.top, file.neurons(file.top, self.a[file.top]))
        error = error_of(file, params, moment, self.z)
        self.e = {name: v - mu[name] for name, v in values.items()}
        self.e[file.top] = at_drive(file, file.top, self.a[file.top], error) if self.by_drive else error

    def arriving(self, errors: Values) -> Values:
        """Sum over the populations above of their errors, gated and transported, as credit on the activities."""
        down, total = carriers(self.file, self.params), {name: np.zeros_like(z) for name, z in self.z.items()}
        for name in self.file.names:
            delta = errors[name] if self.by_drive else at_drive(self.file, name, self.a[name], errors[name])
            for below, part in carried(self.file, down, name, self.z, delta).items():
                total[below] = total[below] + part
        return total

    def moved(self, values: Values, rate: float) -> Values:
        """All values after one step."""
        push = self.arriving(self.e)
        if self.by_drive:
            push = {name: at_drive(self.file, name, v, push[name]) for name, v in values.items()}
        return {name: v + rate * (push[name] - self.e[name]) for name, v in values.items()}

    def update(self, moment: Values, errors: Values) -> Values:
        """Feedforward parameters climb mean <error, mu>; learned mirrors likewise, transposed."""
        file, out = self.file, own_update(self.file, self.params, moment, self.z)
        if self.by_drive:
            for name in file.names:
                e = errors[name]
                out |= climb(
                    lambda p, name=name, e=e: -np.sum(e * file.drive(p, name, self.z)) / len(e), self.params, file.onto(name)
                )
        else:
            out |= held_credit(file, self.params, self.z, {name: errors[name] for name in file.names})
        if file.options.get("feedback") == "learned":
            for path in file.paths:
                if path["pre"] != file.bottom:
                    up = out[f"weight/{path['pre']}->{path['post']}"]
                    out[f"weight/{path['post']}=>{path['pre']}"] = np.swapaxes(up, 0, 1)
        return out


def predictive(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """pc, ipc and pc-fixed."""
    steps, rate = file.options["steps"], file.options["rate"]
    z = file.first_sweep(params, moment)
    moment = moment | {"held": z}
    by_drive = file.options.get("values") == "drive"
    values = {name: file.drive(params, name, z) if by_drive else z[name] for name in file.names[:-1]}
    loss = {file.top: top_loss(file, params, moment, z, z)}
    start = params
    state = Relaxing(file, params, moment, values)
    if file.rule == "pc-fixed":
        errors = {name: np.zeros_like(e) for name, e in state.e.items()} | {file.top: state.e[file.top]}
        for _ in range(steps):
            push = state.arriving(errors)
            errors = errors | {name: errors[name] + rate * (push[name] - errors[name]) for name in file.names[:-1]}
        return state.update(moment, errors), loss
    for _ in range(steps):
        new = state.moved(values, rate)
        if file.rule == "ipc":
            params = params | {k: params[k] + file.lr * v for k, v in state.update(moment, state.e).items()}
        values = new
        state = Relaxing(file, params, moment, values)
    if file.rule == "ipc":
        return {k: (params[k] - start[k]) / file.lr for k in feedforward(file)}, loss
    return state.update(moment, state.e), loss


JUDGES = dict.fromkeys(("bp", "bp-clapp", "bp-clapp++", "bp-clapp++both", "bp-hinge-cpc", "bp-barlow"), backprop)
JUDGES |= dict.fromkeys(("bp-ff", "bp-infonce", "bp-infonce-held", "bp-clapp++spatial", "z-il"), backprop)
JUDGES |= dict.fromkeys(("fa", "fa-clapp"), feedback)
JUDGES |= dict.fromkeys(("dfa", "dfa-clapp", "dfa-infonce"), direct)
JUDGES |= dict.fromkeys(("pc", "pc-clapp", "pc-infonce", "ipc", "pc-fixed"), predictive)
