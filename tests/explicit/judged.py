"""A reference file with everything that the judges need: normalisations, all arrays, losses at the top.

Shares no code with the modules that compute the files.
"""

from __future__ import annotations

import numpy as np

from .numeric import Array, File, Values, climb

SIZES = (8, 4, 2, 1)


def seen(kind: str | None, x: Array) -> Array:
    """What a pathway's synapses see, row by row."""
    if kind == "doubled":
        first, second = np.split(x, 2, axis=1)
        return seen("standard", first) + seen("standard", second)
    rows = []
    for row in x:
        moved = row - np.mean(row) if kind == "standard" else row
        rows.append(moved / (np.sqrt(np.mean(moved**2)) + 1e-8) if kind else row)
    return np.stack(rows)


class Judged(File):
    """A file with a memory of the moment before, for the rules that have one."""

    def __init__(self, path) -> None:
        super().__init__(path)
        self.memory: dict = {}
        self.image = self.meta["network"]["input"]["neurons"]

    def moment(self, m: int) -> Values:
        """All arrays without a slash are by moment."""
        return {key: value[m] for key, value in self.arrays.items() if "/" not in key}

    def drive(self, params: Values, name: str, values: Values) -> Array:
        """As before, pathway by pathway, each with its own normalisation."""
        everything, total = self.paths, 0.0
        try:
            for path in everything:
                if path["post"] == name:
                    self.paths = [path]
                    total = total + super().drive(
                        params, name, values | {path["pre"]: seen(path["normalisation"], values[path["pre"]])}
                    )
        finally:
            self.paths = everything
        return total

    def neurons(self, name: str, a: Array) -> Array:
        """Also softplus."""
        if self.pops[self.names.index(name)]["transfer"] == "softplus":
            return np.log1p(np.exp(-np.abs(a))) + np.maximum(a, 0)
        return super().neurons(name, a)

    def first_sweep(self, params: Values, moment: Values) -> Values:
        """All activities, the input included."""
        return {self.bottom: moment["stimulus"]} | self.sweep(params, moment["stimulus"])

    def vector(self, name: str, z: Array, pool: str = "global") -> Array:
        """Averages over the cells of a score, channel by channel."""
        if z.ndim == 2:
            return z
        if pool == "global":
            return np.mean(z, axis=(2, 3))
        size = z.shape[2]
        count = next((n for n, least in zip(SIZES, (0.75, 0.2, 0.05), strict=False) if size >= least * self.image[1]), 1)
        k = max(1, size // count)
        rows = []
        for image in z:
            row = [
                np.mean(channel[y * k : (y + 1) * k, x * k : (x + 1) * k])
                for channel in image
                for y in range(size // k)
                for x in range(size // k)
            ]
            rows.append(row)
        return np.array(rows)


def f(kind: str, u: float) -> float:
    """The contrast of one score."""
    return {"hinge": lambda: max(0.0, 1 - u), "softplus": lambda: np.log1p(np.exp(1 - u)), "linear": lambda: -u}[kind]()


def matrix(file: Judged, p: Values, name: str, target: Array, source: Array) -> Array:
    """B of a prediction as one matrix; a band is unrolled window by window."""
    weight = p[f"weight/{name}"]
    kind = str(file.options.get("prediction", ""))
    if kind.startswith("low-rank"):
        return weight @ p[f"weight/{name}:interneurons"]
    if not kind.startswith("banded"):
        return weight
    channels, high, wide = weight.shape[1:]
    side = round(np.sqrt(source.shape[1] / channels))
    shape = next(pop for pop in file.pops if pop["name"] == name.partition("=>")[2].partition(":")[0])
    cells = target.shape[1] // shape["neurons"][0]
    ends = round(np.sqrt(cells))
    finer = max(1, side // ends), max(1, ends // side)  # source cells per target cell, or the other way round
    full = np.zeros((len(weight), channels, side, side))
    for value in range(len(weight)):
        y, x = (i // finer[1] for i in divmod(value % cells, ends))
        firsts = [max(0, i - 1) * finer[0] for i in (y, x)]
        top, left = (min(first, side - n) for first, n in zip(firsts, (high, wide), strict=True))
        full[value, :, top : top + high, left : left + wide] = weight[value]
        for a in range(side):
            for b in range(side):
                if max(abs(a // finer[0] - y), abs(b // finer[0] - x)) > 1:
                    full[value, :, a, b] = 0
    return full.reshape(len(weight), -1)


def pair_loss(file: Judged, moment: Values, kind: str, z: Array, predicted: Array) -> float:
    """Fixations on the partner, saccades to the negatives, row by row; z the vectors, predicted B c of every row."""
    rows, total = len(z), 0.0
    gain = moment.get("gain", np.ones(rows))
    saccade = moment.get("saccade_gain", gain)
    for r in range(rows):
        fixation = float(z[moment["partner"][r]] @ predicted[r])
        away = [float(z[n[r]] @ predicted[r]) for n in moment["negatives"]]
        if kind == "phyll":
            total += gain[r] * np.log1p(np.exp(file.options.get("steepness", 1.0) * (np.mean(away) - fixation)))
        else:
            total += gain[r] * f(kind, fixation) + saccade[r] * np.mean([f(kind, -u) for u in away])
    return total / rows


def contrastive_loss(
    file: Judged, p: Values, moment: Values, z: Values, before: Values, name: str, contexts: str, pool: str
) -> float:
    """Sum over the families of contexts, which are those of the sweep before."""
    kind = file.options.get("contrast", "phyll" if file.rule == "clapp-phyll" else "hinge")
    here, top = f"{name}=>{name}", f"{file.top}=>{name}"
    if contexts == "both":
        families = [(top, file.top), (f"{here}:lateral" if name == file.top else here, name)]
    else:
        families = [(top, file.top)] if contexts == "top" else [(here, name)]
    target, total = file.vector(name, z[name], pool), 0.0
    for prediction, source in families:
        c = file.vector(source, before[source], pool)
        total += pair_loss(file, moment, kind, target, c @ matrix(file, p, prediction, target, c).T)
    return total


def length(p: Array) -> float:
    """Norm of a projection; that of a silent population is 0, and counts as 1e-8."""
    return max(float(np.linalg.norm(p)), 1e-8)


def infonce_loss(file: Judged, p: Values, moment: Values, z: Array, name: str, before: Array | None = None) -> float:
    """Observer by observer; first views from the sweep before where they are held."""
    projection = p[f"weight/{name}=>{name}:projection"]
    response = file.vector(name, z) @ projection.T
    context = response if before is None else file.vector(name, before) @ projection.T
    views = [(r, t) for r, t in enumerate(moment["partner"]) if r < t]
    n, total = len(views), 0.0
    others = file.options.get("negatives", n - 1)
    for i, (r, _) in enumerate(views):
        score = []
        for j in range(others + 1):
            other = response[views[(i + j) % n][1]]
            score.append(context[r] @ other / length(context[r]) / length(other) / 0.1)
        total += moment.get("gain", np.ones(2 * n))[r] * (np.log(np.sum(np.exp(score))) - score[0])
    return total / n


def goodness_loss(file: Judged, moment: Values, z: Array) -> float:
    """Binary cross-entropy, row by row."""
    units, rows = z[0].size, len(z)
    mean = file.options.get("goodness") == "mean"
    threshold, total = file.options.get("threshold", 1.0 if mean else units), 0.0
    for r in range(rows):
        g = np.sum(z[r] ** 2) / (units if mean else 1)
        away = threshold - g if moment["sign"][r] > 0 else g - threshold
        total += moment.get("gain", np.ones(rows))[r] * np.log1p(np.exp(away))
    return total / rows


def top_loss(file: Judged, p: Values, moment: Values, z: Values, before: Values) -> float:
    """The objective of a top-down rule."""
    kind, top = file.rule.partition("-")[2].rstrip("+"), file.top
    if kind == "clapp++both":
        return contrastive_loss(file, p, moment, z, before, top, "both", "spatial")
    if kind == "clapp++spatial":
        return contrastive_loss(file, p, moment, z, before, top, "lateral", "spatial")
    if kind == "clapp":
        return contrastive_loss(file, p, moment, z, before, top, "lateral", file.options.get("pool", "global"))
    if kind == "infonce":
        return infonce_loss(file, p, moment, z[top], top)
    if kind == "infonce-held":
        return infonce_loss(file, p, moment, z[top], top, before[top])
    if kind == "ff":
        return goodness_loss(file, moment, z[top])
    total, rows = 0.0, len(z[top])
    for r in range(rows):
        x, label = z[top][r], moment["labels"][r]
        if file.options.get("objective") == "squared-error":
            loss = 0.5 * sum((float(k == label) - value) ** 2 for k, value in enumerate(x))
        else:
            loss = np.log(np.sum(np.exp(x))) - x[label]
        total += moment.get("gain", np.ones(rows))[r] * loss
    return total / rows


def climb_value(function, x: Array) -> Array:
    """Minus the gradient of a scalar with respect to an array, its rows not being independent."""
    return climb(lambda p: function(p["x"]), {"x": x}, ["x"])["x"]
