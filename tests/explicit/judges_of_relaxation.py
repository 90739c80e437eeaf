"""Judges of rules that relax or compete: each step by numerical gradients, the competition unit by unit."""

from __future__ import annotations

import numpy as np

from .judges_of_credit import held_credit, top_loss
from .numeric import Array, File, Values, climb, climb_rows, cross_entropy, rows_dot


def error_optimised(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """e descends F(e) = sum |e|^2 / 2 + loss."""
    stimulus, labels = moment["stimulus"], moment["labels"]
    z = file.sweep(params, stimulus)
    loss = cross_entropy(z[file.top], labels).mean()
    error = {name: np.zeros_like(z[name]) for name in file.names[:-1]}

    def energy(e: Values) -> Array:
        cost = cross_entropy(file.sweep(params, stimulus, e)[file.top], labels)
        return cost + sum(rows_dot(x, x) / 2 for x in e.values())

    for _ in range(file.options["steps"]):
        move = {
            name: climb_rows(lambda x, name=name, error=error: energy(error | {name: x}), e) for name, e in error.items()
        }
        error = {name: e + file.options["rate"] * move[name] for name, e in error.items()}
    z = file.sweep(params, stimulus, error)
    error = error | {file.top: top_loss(file, moment, z[file.top])[1]}
    return held_credit(file, params, {file.bottom: stimulus} | z, error), {file.top: loss}


def held_errors(file: File, params: Values, stimulus: Array, free: Values, sent: Values, e_top: Array) -> Values:
    """What comes down is the slope of sum e . mu where every population by itself moves what it sends."""
    steps, rate, kappa = (file.options.get(k, d) for k, d in (("steps", 6), ("rate", 0.1), ("kappa", 0.0)))
    error, below = dict(sent), {name: free[name] for name in sent}
    for _ in range(steps):

        def unsaid(v: Values, e: Values = error) -> Array:
            mu = file.sweep(params, stimulus, held=v)
            return -sum(rows_dot(mu[name], x) for name, x in (e | {file.top: e_top}).items())

        pull = {n: climb_rows(lambda x, n=n, unsaid=unsaid: unsaid(below | {n: x}), v) for n, v in below.items()}
        error = {n: e + rate * (pull[n] - e + kappa * sent[n]) for n, e in error.items()}
    return error | {file.top: e_top}


def direct_predictive(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """v descends sum |v - mu|^2 / 2 + loss, pushed by kappa B e; weights climb down the same energy."""
    stimulus, labels, below = moment["stimulus"], moment["labels"], file.names[:-1]
    steps, rate, kappa = (file.options.get(k, d) for k, d in (("steps", 6), ("rate", 0.1), ("kappa", 0.0)))
    free = file.sweep(params, stimulus)
    losses, e_top = top_loss(file, moment, free[file.top])
    matrix = {name: params[f"weight/{file.top}=>{name}"] for name in below}

    def direct(e: Array) -> Values:
        return {name: np.stack([(matrix[name] @ row).reshape(free[name].shape[1:]) for row in e]) for name in below}

    def energy(p: Values, v: Values) -> Array:
        mu = file.sweep(p, stimulus, held=v)
        return cross_entropy(mu[file.top], labels) + sum(rows_dot(v[n] - mu[n], v[n] - mu[n]) / 2 for n in below)

    value = {name: free[name] + push for name, push in direct(e_top).items()}
    for _ in range(steps):
        push = direct(top_loss(file, moment, file.sweep(params, stimulus, held=value)[file.top])[1])
        move = {n: climb_rows(lambda x, n=n, value=value: energy(params, value | {n: x}), v) for n, v in value.items()}
        value = {n: v + rate * (move[n] + kappa * push[n]) for n, v in value.items()}
    feedforward = [key for name in file.names for key in file.onto(name)]
    if file.options.get("schedule") == "fixed-prediction":
        error = held_errors(file, params, stimulus, free, direct(e_top), e_top)
        update = held_credit(file, params, {file.bottom: stimulus} | free, error)
        if file.options.get("feedback") == "learned":
            for name, push in direct(e_top).items():
                rest = (error[name] - push).reshape(len(e_top), -1)
                update[f"weight/{file.top}=>{name}"] = rest.T @ e_top / len(e_top)
        return update, {file.top: losses.mean()}
    if steps == 0:
        error = direct(e_top) | {file.top: e_top}
        update = held_credit(file, params, {file.bottom: stimulus} | free, error)
    else:
        update = climb(lambda p: energy(p, value).mean(), params, feedforward)
    if file.options.get("feedback") == "learned":
        mu = file.sweep(params, stimulus, held=value)
        e_top = top_loss(file, moment, mu[file.top])[1]
        for name, push in direct(e_top).items():
            rest = (value[name] - mu[name] - push).reshape(len(e_top), -1)
            update[f"weight/{file.top}=>{name}"] = np.mean(
                [np.outer(a, b) for a, b in zip(rest, e_top, strict=True)], axis=0
            )
    return update, {file.top: losses.mean()}


def softhebb(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """Row by row, location by location, unit by unit."""
    z = {file.bottom: moment["stimulus"]} | file.sweep(params, moment["stimulus"])
    update: Values = {}
    for path in file.paths:
        x, key = z[path["pre"]], f"{path['pre']}->{path['post']}"
        w, b, k = params[f"weight/{key}"], params[f"bias/{key}"], path["kernel"]
        x = (
            x.reshape(len(x), -1, 1, 1)
            if k is None
            else np.pad(x, ((0, 0), (0, 0), (path["padding"],) * 2, (path["padding"],) * 2))
        )
        k = k or 1
        columns = w.reshape(len(w), -1)
        dw, db = np.zeros_like(columns), np.zeros_like(b)
        places = [(i, j) for i in range(x.shape[2] - k + 1) for j in range(x.shape[3] - k + 1)]
        for row in x:
            for i, j in places:
                patch = row[:, i : i + k, j : j + k].ravel()
                u = columns @ patch + b
                y = 1 / np.array([np.exp(file.options.get("temperature", 1.0) * (u - v)).sum() for v in u])
                for unit in range(len(u)):
                    signed = y[unit] if unit == np.argmax(u) else -y[unit]
                    dw[unit] += signed * (patch - u[unit] * columns[unit]) / len(x) / len(places)
                    db[unit] += signed / len(x) / len(places)
        rate = (
            np.sqrt(np.abs(np.linalg.norm(columns, axis=1) - 1)) if file.options.get("adaptive", True) else np.ones(len(b))
        )
        update |= {f"weight/{key}": (dw * rate[:, None]).reshape(w.shape), f"bias/{key}": db * rate}
    return update, {}


JUDGES = {"epc": error_optimised, "dfa-pc": direct_predictive, "softhebb": softhebb}
