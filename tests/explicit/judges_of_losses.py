"""Numerical judges of rules with a loss of their own: minus its gradient, whatever is held from the unperturbed sweep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .numeric import Array, File, Values, climb, cross_entropy

Judge = Callable[[File, Values, Values], tuple[Values, Values]]


def gap(z: Array) -> Array:
    """Global average of a map."""
    return z.mean(axis=(2, 3)) if z.ndim == 4 else z


def per_population(loss: Callable[[File, Values, Values, Values, str, Values], float]) -> Judge:
    """Judge of a rule whose populations learn by a loss of their own: parameters onto a population, and its own, move."""

    def judge(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
        before = file.sweep(params, moment["stimulus"])
        update, losses = {}, {}
        for name in file.names:
            own = [k for k in params if k.startswith((f"weight/{name}=>{name}",))]

            def function(p: Values, name: str = name) -> float:
                return loss(file, p, moment, file.sweep(p, moment["stimulus"]), name, before)

            losses[name] = function(params)
            update |= climb(function, params, file.onto(name) + own)
        return update, losses

    return judge


def views(moment: Values, z: Array) -> tuple[Array, Array]:
    """Pairs, one after the other."""
    pairs = [(r, t) for r, t in enumerate(moment["partner"]) if r < t]
    return gap(z)[[r for r, _ in pairs]], gap(z)[[t for _, t in pairs]]


def barlow(file: File, params: Values, moment: Values, z: Values, name: str, before: Values) -> float:
    """Correlations unit by unit."""
    a, b = views(moment, z[name])
    weight, loss = file.options.get("redundancy", 0.005), 0.0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            x, y = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            c = np.mean(x / np.sqrt(np.mean(x**2) + 1e-5) * y / np.sqrt(np.mean(y**2) + 1e-5))
            loss += (1 - c) ** 2 if i == j else weight * c**2
    return loss


def vicreg(file: File, params: Values, moment: Values, z: Values, name: str, before: Values) -> float:
    """Terms with numpy's own covariance."""
    a, b = views(moment, z[name])
    wi, wv, wc = (file.options.get(k, d) for k, d in (("invariance", 25), ("variance", 25), ("covariance", 1)))
    loss = wi * np.mean((a - b) ** 2)
    for x in (a, b):
        c = np.cov(x.T)
        loss += wv / 2 * np.mean([max(0.0, 1 - np.sqrt(v + 1e-4)) for v in np.diag(c)])
        loss += wc * (np.sum(c**2) - np.sum(np.diag(c) ** 2)) / len(c)
    return loss


def lpl(file: File, params: Values, moment: Values, z: Values, name: str, before: Values) -> float:
    """Section 6(b) as written, means over units and pairs of units."""
    a, b = views(moment, z[name])
    wp, wh, wd = (file.options.get(k, d) for k, d in (("pull", 1), ("push", 1), ("decorrelation", 10)))
    c = [np.cov(x.T) for x in (a, b)]
    push = np.mean([-np.mean(np.log(np.diag(x) + 1e-4)) for x in c])
    off = np.mean([np.mean(x[~np.eye(len(x), dtype=bool)] ** 2) for x in c])
    return wp * np.mean((a - b) ** 2) + wh * push + wd * off


def rpl(file: File, params: Values, moment: Values, z: Values, name: str, before: Values) -> float:
    """The target from the unperturbed sweep."""
    target = gap(before[name])[moment["partner"]]
    b, gain = params[f"weight/{name}=>{name}"], moment.get("gain", np.ones(len(target)))
    return np.mean([g * np.sum((t - b @ c) ** 2) for g, t, c in zip(gain, target, gap(z[name]), strict=True)])


def mono(file: File, params: Values, moment: Values, z: Values, name: str, before: Values) -> float:
    """Cross-entropy of the read-out, or of the top itself."""
    flat = z[name].reshape(len(z[name]), -1)
    scores = flat if name == file.top else flat @ params[f"weight/{name}=>{name}:classes"].T
    return (moment.get("gain", 1.0) * cross_entropy(scores, moment["labels"])).mean()


def blocks(file: File, params: Values, moment: Values) -> tuple[Values, Values]:
    """The loss at the end of each block, by all parameters of the block; contexts from the unperturbed sweep."""
    size = file.options.get("size", 2)
    before = file.sweep(params, moment["stimulus"])
    update, losses = {}, {}
    for end in range(len(file.names), 0, -size):
        members, name = file.names[max(0, end - size) : end], file.names[end - 1]

        def function(p: Values, name: str = name) -> float:
            z = gap(file.sweep(p, moment["stimulus"])[name])
            total = 0.0
            for r, c in enumerate(gap(before[name])):
                predicted = p[f"weight/{name}=>{name}"] @ c
                total += max(0.0, 1 - z[moment["partner"][r]] @ predicted)
                total += np.mean([max(0.0, 1 + z[n] @ predicted) for n in moment["negatives"][:, r]])
            return total / len(z)

        losses[name] = function(params)
        update |= climb(function, params, [k for m in members for k in file.onto(m)] + [f"weight/{name}=>{name}"])
    return update, losses


JUDGES: dict[str, Judge] = {
    "barlow-local": per_population(barlow),
    "vicreg-local": per_population(vicreg),
    "lpl": per_population(lpl),
    "rpl": per_population(rpl),
    "mono-forward": per_population(mono),
    "blocks-clapp": blocks,
}
