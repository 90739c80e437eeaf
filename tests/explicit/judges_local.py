"""Numerical judges of the local rules: minus the gradient of every population's loss, contexts held."""

from __future__ import annotations

import numpy as np

from .judged import Judged, climb_value, contrastive_loss, f, goodness_loss, infonce_loss, matrix
from .numeric import Array, Values, climb

CONTEXTS = {
    "clapp++gap": ("lateral", "global"),
    "clapp++": ("lateral", "spatial"),
    "clapp-dfb": ("top", "global"),
    "clapp++dfb": ("top", "spatial"),
    "clapp++both": ("both", "spatial"),
    "clapp-phyll": ("lateral", "global"),
    "clapp-fixed": ("top", "global"),
    "clapp++fixed": ("top", "spatial"),
    "clapp-optimal": ("top", "global"),
    "clapp++optimal": ("top", "spatial"),
}


def own(file: Judged, params: Values, name: str) -> list[str]:
    """Parameters of the pathways onto a population, but for the feedforward ones."""
    return [key for key in params if f"=>{name}" in key and key.partition("=>")[2].partition(":")[0] == name]


def local(file: Judged, params: Values, moment: Values, loss, surrogate=None) -> tuple[Values, Values]:
    """Climbs loss(p, z, before, name) at every population; the populations below are held."""
    before = file.first_sweep(params, moment)
    update, losses = {}, {}
    for name in file.names:

        def function(p: Values, name: str = name) -> float:
            a = file.drive(p, name, before)
            z = surrogate(name, a) if surrogate else file.pooled(name, file.neurons(name, a))
            return loss(p, before | {name: z}, before, name)

        losses[name] = function(params)
        update |= climb(function, params, file.onto(name) + own(file, params, name))
    return update, losses


def contrastive(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """All variants; online ones remember the moment before."""
    contexts, pool = CONTEXTS[file.rule]
    contexts, pool = file.options.get("context", contexts), file.options.get("pool", pool)
    if "moved" in moment:
        return online(file, params, moment)

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        return contrastive_loss(file, p, moment, z, before, name, contexts, pool)

    update, losses = local(file, params, moment, loss)
    if "fixed" in file.rule:
        update = {k: v for k, v in update.items() if "=>" not in k or k.endswith(f"=>{file.top}")}
    if "optimal" in file.rule:
        update |= optimal(file, params, moment, pool)
    return update, losses


def online(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """The context is the response in the moment before."""
    past = file.memory.get("past")
    file.memory["past"] = file.first_sweep(params, moment)

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        if past is None:
            return 0.0
        total = 0.0
        for r, moved in enumerate(moment["moved"]):
            u = z[name][r] @ p[f"weight/{name}=>{name}"] @ past[name][r]
            total += f("hinge", -u if moved else u)
        return total / len(moment["moved"])

    return local(file, params, moment, loss)


def optimal(file: Judged, params: Values, moment: Values, pool: str) -> Values:
    """Climbs minus |local credit - backprop's credit|^2, both on the activity, with respect to B below the top."""
    before, update = file.first_sweep(params, moment), {}
    kind, rows = file.options.get("contrast", "hinge"), len(moment["stimulus"])
    gain = moment.get("gain", np.ones(rows))
    saccade = moment.get("saccade_gain", gain)

    def slope(u: float) -> float:
        return float(u < 1) if kind == "hinge" else 1 / (1 + np.exp(u - 1))

    for name in file.names[:-1]:

        def teacher(moved: Array, name: str = name) -> float:
            z = file.sweep(params, moment["stimulus"], add={name: moved})
            return contrastive_loss(file, params, moment, z, before, file.top, "top", pool)

        backprop = climb_value(teacher, np.zeros_like(before[name]))
        z, c = file.vector(name, before[name], pool), file.vector(file.top, before[file.top], pool)

        # Un-pooling is linear: its matrix once, by differences, instead of within every evaluation.
        shape = before[name].shape
        basis = np.zeros((z.shape[1], int(np.prod(shape[1:]))))
        for j in range(z.shape[1]):
            basis[j] = climb_value(
                lambda x, j=j, name=name: -file.vector(name, x, pool)[0, j], np.zeros((1, *shape[1:]))
            ).ravel()

        def distance(
            p: Values, name: str = name, z: Array = z, c: Array = c, backprop: Array = backprop, basis: Array = basis
        ) -> float:
            predicted = c @ matrix(file, p, f"{file.top}=>{name}", z, c).T
            q = np.zeros_like(z)
            for r in range(rows):
                t = moment["partner"][r]
                if kind == "phyll":
                    others, k = moment["negatives"][:, r], file.options.get("steepness", 1.0)
                    gap = np.mean([z[n] @ predicted[r] for n in others]) - z[t] @ predicted[r]
                    gamma = gain[r] / rows * k / (1 + np.exp(-k * gap))
                    q[t] += gamma * predicted[r]
                    for n in others:
                        q[n] -= gamma / len(others) * predicted[r]
                    continue
                q[t] += gain[r] / rows * slope(z[t] @ predicted[r]) * predicted[r]
                for n in moment["negatives"][:, r]:
                    q[n] -= saccade[r] / rows / len(moment["negatives"]) * slope(-z[n] @ predicted[r]) * predicted[r]
            return np.sum((q @ basis - backprop.reshape(rows, -1)) ** 2)

        update |= climb(distance, params, [f"weight/{file.top}=>{name}"])
    return update


def events(moment: Values, branch: int, steps: int) -> list[list[tuple[int, int, bool, float]]]:
    """By step: context row, target row, whether it is a fixation, weight."""
    if "later" not in moment:
        rows = len(moment["partner"])
        gain = moment.get("gain", np.ones(rows))
        saccade = moment.get("saccade_gain", gain)
        listed = [(r, moment["partner"][r], True, gain[r]) for r in range(rows)]
        listed += [(r, n, False, saccade[r]) for r in range(rows) for n in moment["negatives"][:, r]]
        return [[(r, t, fix, w / max(1, sum(1 for e in listed if e[2] == fix and e[3] != 0))) for r, t, fix, w in listed]]
    out = []
    for k in range(steps):
        listed = []
        for r, t in enumerate(moment["later"][k]):
            if t >= 0:
                stays = moment["stays"][branch, r] if "stays" in moment else None
                listed += [(r, t, True)] if stays in (None, 1) else []
                listed += [(r, moment["elsewhere"][branch, k, r], False)] if stays in (None, 0) else []
        out.append([(r, t, fix, 1 / sum(1 for e in listed if e[2] == fix)) for r, t, fix in listed])
    return out


def published_loss(file: Judged, p: Values, moment: Values, z: Values, before: Values, name: str) -> float:
    """CLAPP with its two branches."""
    steps, way = file.options.get("steps", 1), file.options.get("retrodiction", "own")
    way, kind = "transposed" if file.rule == "clapp-s" else way, file.options.get("contrast", "hinge")
    now, held = file.vector(name, z[name]), file.vector(name, before[name])
    total = 0.0
    for k, listed in enumerate(events(moment, 0, steps)):
        b = p[f"weight/{name}=>{name}:k{k + 1}"]
        for r, t, fix, w in listed:
            u = now[t] @ b @ (now if way == "transposed" else held)[r]
            total += w * f(kind, u if fix else -u)
    if way == "own":
        for k, listed in enumerate(events(moment, 1, steps)):
            back = p[f"weight/{name}=>{name}:back-k{k + 1}"]
            for r, t, fix, w in listed:
                u = now[r] @ back @ held[t]
                total += w * f(kind, u if fix else -u)
    return total / steps


def published(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """The same at every population."""
    return local(file, params, moment, lambda p, z, before, name: published_loss(file, p, moment, z, before, name))


def infonce(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """Local InfoNCE."""

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        return infonce_loss(file, p, moment, z[name], name, before[name] if file.options.get("held") else None)

    return local(file, params, moment, loss)


def goodness(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """Forward-Forward; with peers, a ReLU whose slope is 1 everywhere."""
    peers, awake = file.options.get("peers", 0.0), moment["sign"] > 0
    before = file.first_sweep(params, moment)
    usual = file.memory.setdefault("usual", {name: 0.5 * np.ones(before[name].shape[1]) for name in file.names})

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        total = goodness_loss(file, moment, z[name])
        if peers:
            m = 0.9 * usual[name] + 0.1 * np.mean(z[name][awake], axis=0)
            total += peers * np.mean((np.mean(m) - m) ** 2)
        return total

    def surrogate(name: str, a: Array) -> Array:
        return before[name] + a - file.drive(params, name, before)

    result = local(file, params, moment, loss, surrogate if peers else None)
    for name in file.names if peers else []:
        usual[name] = 0.9 * usual[name] + 0.1 * np.mean(before[name][awake], axis=0)
    return result


def phyll(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """Pairs of rows awake and asleep."""

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        g = [np.mean(row**2) for row in z[name]]
        awake, asleep = ([g[r] for r in np.flatnonzero(moment["sign"] == s)] for s in (1, -1))
        return np.mean(
            [np.log1p(np.exp(file.options.get("steepness", 1.0) * (b - a))) for a, b in zip(awake, asleep, strict=True)]
        )

    return local(file, params, moment, loss)


def scff(file: Judged, params: Values, moment: Values) -> tuple[Values, Values]:
    """Per location, on the rectified drive."""
    low, high = file.options.get("thresholds", [1, 2])

    def loss(p: Values, z: Values, before: Values, name: str) -> float:
        g = [np.mean(np.maximum(a, 0) ** 2, axis=0).ravel() for a in z[name]]
        awake, asleep = ([g[r] for r in np.flatnonzero(moment["sign"] == s)] for s in (1, -1))
        total = np.mean([np.log1p(np.exp(low - x)) for x in awake]) + np.mean([np.log1p(np.exp(x - high)) for x in asleep])
        return total + file.options.get("penalty", 0) * np.mean([np.linalg.norm(x) for x in awake])

    return local(file, params, moment, loss, lambda name, a: a)


JUDGES = dict.fromkeys(CONTEXTS, contrastive)
JUDGES |= {"clapp-s": published}
JUDGES |= {"clapp": published, "infonce-local": infonce, "ff": goodness, "ff-hybrid": goodness, "phyll": phyll, "scff": scff}
