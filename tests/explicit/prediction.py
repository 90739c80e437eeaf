"""The vector of a population that enters a contrastive score, and the pathways that predict it from another one, B c."""

from __future__ import annotations

import numpy as np

from .base import Network, Params, Population
from .neurons import Array, average, spread


def kernel_of(net: Network, pop: Population, pool: str) -> tuple[int, int] | None:
    """Cells of the score: None for units, the whole map, or size // (8, 4, 2 or 1) cells by the map's share of the image."""
    if len(pop.shape) == 1:
        return None
    _, height, width = pop.shape
    if pool == "global":
        return height, width
    share = height / net.input.shape[1]
    cells = 8 if share >= 0.75 else 4 if share >= 0.2 else 2 if share >= 0.05 else 1
    return max(1, height // cells), max(1, width // cells)


def view(activity: Array, kernel: tuple[int, int] | None) -> Array:
    """The vector that enters the score: averaged over cells, channel-major."""
    return activity if kernel is None else average(activity, kernel).reshape(len(activity), -1)


def unview(pop: Population, credit: Array, kernel: tuple[int, int] | None) -> Array:
    """Credit on the score's vector to credit on the activity."""
    if kernel is None:
        return credit
    channels, height, width = pop.shape
    return spread(credit.reshape(len(credit), channels, height // kernel[0], width // kernel[1]), kernel, height, width)


def cells_of(pop: Population, kernel: tuple[int, int] | None) -> tuple[int, int, int]:
    """Channels, rows and columns of the score's vector."""
    return (pop.size, 1, 1) if kernel is None else (pop.shape[0], pop.shape[1] // kernel[0], pop.shape[2] // kernel[1])


class Prediction:
    """B c and the update of B: a matrix, two of low rank ("low-rank:2"), or a band of near cells ("banded:1")."""

    def __init__(self, kind: str, name: str, target: tuple[int, int, int], source: tuple[int, int, int]):
        self.kind, _, number = kind.partition(":")
        self.name, self.target, self.source, self.number = name, target, source, int(number or 0)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weights by pathway name."""
        post, pre = int(np.prod(self.target)), int(np.prod(self.source))
        if self.kind == "low-rank":
            return {self.name: (post, self.number), f"{self.name}:interneurons": (self.number, pre)}
        if self.kind == "banded":
            sides = [max(len(near) for near in self.reach(axis)) for axis in (1, 2)]
            return {self.name: (post, self.source[0], *sides)}
        return {self.name: (post, pre)}

    def predict(self, params: Params, c: Array) -> Array:
        """B c."""
        weight = params[f"weight/{self.name}"]
        if self.kind == "low-rank":
            return c @ params[f"weight/{self.name}:interneurons"].T @ weight.T
        if self.kind == "banded":
            weight = self.full(weight)
        return c @ weight.T

    def update(self, params: Params, d: Array, c: Array) -> Params:
        """dB = sum over rows d outer c; d = gamma z summed over the events of a row."""
        if self.kind == "low-rank":
            # B = U V: dU = d outer V c, dV = U^T d outer c.
            u, v = params[f"weight/{self.name}"], params[f"weight/{self.name}:interneurons"]
            return {f"weight/{self.name}": d.T @ (c @ v.T), f"weight/{self.name}:interneurons": (d @ u).T @ c}
        full = d.T @ c
        if self.kind != "banded":
            return {f"weight/{self.name}": full}
        weight = np.zeros(self.shapes()[self.name])
        full = full.reshape(*self.target, *self.source)
        for place, slot in self.band():
            weight.reshape(*self.target, *weight.shape[1:])[:, *place[:2], :, *slot] = full[:, *place[:2], :, *place[2:]]
        return {f"weight/{self.name}": weight}

    def reach(self, axis: int) -> list[list[int]]:
        """By target row (or column), the source rows within the distance, in cells of the coarser map."""
        target, source = self.target[axis], self.source[axis]
        coarse = min(target, source)
        at = [[int((i + 0.5) * coarse / n) for i in range(n)] for n in (target, source)]
        return [[j for j in range(source) if abs(at[1][j] - place) <= self.number] for place in at[0]]

    def band(self) -> list[tuple[tuple[int, int, int, int], tuple[int, int]]]:
        """(target row, column, source row, column) of near cells, and the slot in a window that stays inside the map."""
        (rows, columns), (high, wide) = self.source[1:], self.shapes()[self.name][2:]
        near = []
        for y, ys in enumerate(self.reach(1)):
            for x, xs in enumerate(self.reach(2)):
                top, left = min(ys[0], rows - high), min(xs[0], columns - wide)
                near += [((y, x, b, a), (b - top, a - left)) for b in ys for a in xs]
        return near

    def masks(self) -> Params:
        """1 where a band has a synapse, for the initial values."""
        if self.kind != "banded":
            return {}
        ones = np.ones((1, int(np.prod(self.target)))), np.ones((1, int(np.prod(self.source))))
        return self.update({}, *ones)

    def full(self, weight: Array) -> Array:
        """The band as a matrix."""
        full = np.zeros((*self.target, *self.source))
        weight = weight.reshape(*self.target, *weight.shape[1:])
        for place, slot in self.band():
            full[:, *place[:2], :, *place[2:]] = weight[:, *place[:2], :, *slot]
        return full.reshape(int(np.prod(self.target)), -1)
