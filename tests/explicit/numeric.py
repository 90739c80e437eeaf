"""Numerical judges of reference files: a forward sweep of its own, read off `meta`, and central differences.

Deliberately shares no code with the modules that compute the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray
Values = dict[str, Array]
STEP = 1e-5


class File:
    """A reference file."""

    def __init__(self, path: Path):
        with np.load(path) as stored:
            self.arrays = {key: stored[key] for key in stored.files}
        self.name = path.stem
        self.meta = json.loads(str(self.arrays.pop("meta")))
        self.rule, self.options, self.lr = self.meta["rule"], self.meta["options"], self.meta["lr"]
        network = self.meta["network"]
        self.pops = network["populations"]
        self.names = [p["name"] for p in self.pops]
        self.top = self.names[-1]
        self.bottom = network["input"]["name"]
        self.paths = network["pathways"]
        self.params = {k: v for k, v in self.arrays.items() if k.startswith(("weight/", "bias/"))}
        self.moments = len(self.arrays["stimulus"])

    def change(self) -> Values:
        """Wanted changes under the names of the parameters."""
        wanted = {}
        for key, value in self.arrays.items():
            if key.startswith("change/"):
                _, *pathway, kind = key.split("/")
                wanted[f"{kind}/{'/'.join(pathway)}"] = value
        return wanted

    def moment(self, m: int) -> Values:
        """The arrays of one moment."""
        names = ("stimulus", "partner", "negatives", "labels", "gain")
        return {key: self.arrays[key][m] for key in names if key in self.arrays}

    def onto(self, name: str) -> list[str]:
        """Parameters of the feedforward pathways onto a population."""
        paths = [f"{p['pre']}->{p['post']}" for p in self.paths if p["post"] == name]
        return [f"{kind}/{path}" for path in paths for kind in ("weight", "bias") if f"{kind}/{path}" in self.params]

    def drive(self, params: Values, name: str, values: Values) -> Array:
        """W x + b of one population, by sliding windows."""
        pop = self.pops[self.names.index(name)]
        total: Array | float = 0.0
        for path in self.paths:
            if path["post"] == name:
                x, key = values[path["pre"]], f"{path['pre']}->{name}"
                w = params[f"weight/{key}"]
                b = params.get(f"bias/{key}", np.zeros(len(w)))
                if path["kernel"] is None:
                    total = total + (x.reshape(len(x), -1) @ w.T + b).reshape(-1, *pop["neurons"])
                else:
                    q, k = path["padding"], path["kernel"]
                    seen = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (q, q), (q, q))), (k, k), axis=(2, 3))
                    seen = seen[:, :, :: path["stride"], :: path["stride"]]
                    total = total + np.einsum("rchwyx,ocyx->rohw", seen, w) + b[:, None, None]
        return total

    def neurons(self, name: str, a: Array) -> Array:
        """rho(a) before pooling."""
        kind = self.pops[self.names.index(name)]["transfer"]
        return {"relu": lambda: np.maximum(a, 0), "tanh": lambda: np.tanh(a), "linear": lambda: a}[kind]()

    def pooled(self, name: str, z: Array) -> Array:
        """Max or average over cells, written as loops over the cells."""
        pooling = self.pops[self.names.index(name)]["pooling"]
        if pooling is None:
            return z
        k, reduce = pooling["kernel"], np.max if pooling["kind"] == "max" else np.mean
        rows = [
            np.stack([reduce(z[:, :, y : y + k, x : x + k], axis=(2, 3)) for x in range(0, z.shape[3] - k + 1, k)], axis=-1)
            for y in range(0, z.shape[2] - k + 1, k)
        ]
        return np.stack(rows, axis=2)

    def sweep(self, params: Values, stimulus: Array, add: Values | None = None, held: Values | None = None) -> Values:
        """Activities; `add` is added to a population's activity, `held` replaces what is sent on (not what is returned)."""
        sent: Values = {self.bottom: stimulus}
        out: Values = {}
        for name in self.names:
            z = self.pooled(name, self.neurons(name, self.drive(params, name, sent)))
            out[name] = z + add[name] if add and name in add else z
            sent[name] = held[name] if held and name in held else out[name]
        return out


def cross_entropy(scores: Array, labels: Array) -> Array:
    """Per row."""
    return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]


def climb(function: Callable[[Values], float], params: Values, keys: list[str]) -> Values:
    """Minus the gradient of a scalar with respect to some parameters."""
    out = {}
    for key in keys:
        gradient = np.zeros_like(params[key])
        for index in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = params[key].copy()
                moved[index] += sign * STEP
                ends.append(function(params | {key: moved}))
            gradient[index] = (ends[0] - ends[1]) / (2 * STEP)
        out[key] = -gradient
    return out


def climb_rows(function: Callable[[Array], Array], x: Array) -> Array:
    """Minus the gradient of one number per row with respect to that row of x; the rows do not mix."""
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape[1:]):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[(slice(None), *index)] += sign * STEP
            ends.append(function(moved))
        out[(slice(None), *index)] = -(ends[0] - ends[1]) / (2 * STEP)
    return out


def rows_dot(a: Array, b: Array) -> Array:
    """Inner product per row."""
    return (a * b).reshape(len(a), -1).sum(axis=1)
