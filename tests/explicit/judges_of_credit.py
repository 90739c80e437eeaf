"""Judges of rules that carry credit down: every gate, winner and transport by numerical gradients."""

from __future__ import annotations

import numpy as np

from .numeric import Array, File, Values, climb, climb_rows, cross_entropy, rows_dot


def held_credit(file: File, params: Values, sent: Values, credit: Values) -> Values:
    """Updates that climb mean <credit, activity> at every population, presynaptic values held."""
    update = {}
    for name, c in credit.items():

        def function(p: Values, name: str = name, c: Array = c) -> float:
            z = file.pooled(name, file.neurons(name, file.drive(p, name, sent)))
            return -rows_dot(c, z).mean()

        update |= climb(function, params, file.onto(name))
    return update


def top_loss(file: File, moment: Values, z: Array) -> tuple[Array, Array]:
    """Per row, cross-entropy and the credit on the top by differences."""
    return cross_entropy(z, moment["labels"]), climb_rows(lambda x: cross_entropy(x, moment["labels"]), z)


def at_drive(file: File, name: str, a: Array, credit: Array) -> Array:
    """Credit on an activity to credit on its drive."""
    return climb_rows(lambda x: -rows_dot(credit, file.pooled(name, file.neurons(name, x))), a)


def carried(file: File, params: Values, name: str, sent: Values, delta: Array) -> Values:
    """Credit on a drive to credits on the activities of all populations that drive it."""
    out = {}
    for path in file.paths:
        if path["post"] == name:
            below = path["pre"]

            def drive(x: Array, below: str = below) -> Array:
                return -rows_dot(delta, file.drive(params, name, sent | {below: x}))

            out[below] = climb_rows(drive, sent[below])
    return out


def feedback(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """fa-sign, fa-kp: credit through a network whose weights are the mirrors, at the gates of the true drives."""
    z = {file.bottom: moment["stimulus"]} | file.sweep(params, moment["stimulus"])
    losses, error = top_loss(file, moment, z[file.top])
    hidden = [(p["pre"], p["post"]) for p in file.paths if p["pre"] != file.bottom]
    down = dict(params)
    for pre, post in hidden:
        w, b = params[f"weight/{pre}->{post}"], np.swapaxes(params[f"weight/{post}=>{pre}"], 0, 1)
        down[f"weight/{pre}->{post}"] = np.abs(b) * np.sign(w) if file.rule == "fa-sign" else b
    credit = {name: np.zeros_like(z[name]) for name in z} | {file.top: error}
    for name in reversed(file.names):
        delta = at_drive(file, name, file.drive(params, name, z), credit[name])
        for below, part in carried(file, down, name, z, delta).items():
            credit[below] = credit[below] + part
    update = held_credit(file, params, z, {name: credit[name] for name in file.names})
    if file.rule == "fa-kp":
        for pre, post in hidden:
            update[f"weight/{post}=>{pre}"] = np.swapaxes(update[f"weight/{pre}->{post}"], 0, 1)
    return update, {file.top: losses.mean()}


def dual(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """Nudged compartments. Where a whole window is silent the pooling has a kink; the files keep it silent when nudged."""
    beta = file.options.get("beta", 1.0)
    z = {file.bottom: moment["stimulus"]} | file.sweep(params, moment["stimulus"])
    losses, error = top_loss(file, moment, z[file.top])
    credit = {name: np.zeros_like(z[name]) for name in z} | {file.top: error}
    update: Values = {}
    for name in reversed(file.names):
        a, d = file.drive(params, name, z), credit[name]
        nudge = beta / 2 * climb_rows(lambda x, name=name, d=d: -rows_dot(d, file.pooled(name, x)), file.neurons(name, a))
        s = (file.neurons(name, a + nudge) - file.neurons(name, a - nudge)) / beta
        update |= climb(lambda p, name=name, s=s: -rows_dot(s, file.drive(p, name, z)).mean(), params, file.onto(name))
        for below, part in carried(file, params, name, z, s).items():
            credit[below] = credit[below] + part
    return update, {file.top: losses.mean()}


JUDGES = {"fa-sign": feedback, "fa-kp": feedback, "dual-prop": dual}
