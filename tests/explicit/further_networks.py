"""Small networks and moments for the reference files in `further_plans`."""

from __future__ import annotations

import itertools

import numpy as np

from .base import Network, Pathway, Population
from .cases import Moment, dense_net, draw_gain, draw_labels, draw_pairs, draw_stimuli


def pairs(net: Network, rng: np.random.Generator) -> Moment:
    """Both views of five objects, without negatives."""
    moment = draw_pairs(net, rng, rows=10)
    return {key: moment[key] for key in ("stimulus", "partner")}


def gained_pairs(net: Network, rng: np.random.Generator) -> Moment:
    """As `pairs`, with a neuromodulator."""
    return pairs(net, rng) | {"gain": draw_gain(rng, 10)}


def gained_labels(net: Network, rng: np.random.Generator) -> Moment:
    """Labelled stimuli with a neuromodulator."""
    return draw_labels(net, rng) | {"gain": draw_gain(rng, 7)}


def saccades(net: Network, rng: np.random.Generator) -> Moment:
    """Both views of four objects, with two negatives per row."""
    return draw_pairs(net, rng, rows=8, negatives=2)


def stimuli(net: Network, rng: np.random.Generator) -> Moment:
    """Stimuli alone."""
    return {"stimulus": draw_stimuli(net, rng, 6)}


def chain(top: str | None, top_units: int = 4, middle: str = "relu") -> Network:
    """Map 7 x 7 -> convolution, max-pooling to 3 x 3 -> convolution (-> dense population with transfer `top`)."""
    pops = [
        Population("V0", (2, 7, 7)),
        Population("V1", (3, 7, 7), "relu", {"kind": "max", "kernel": 2}),
        Population("V2", (4, 3, 3), middle),
    ]
    paths = [Pathway(a.name, b.name, kernel=3, padding=1) for a, b in itertools.pairwise(pops)]
    if top is not None:
        pops.append(Population("V3", (top_units,), top))
        paths.append(Pathway("V2", "V3"))
    return Network(pops, paths)


def averaging() -> Network:
    """As `chain` with a linear top, but 8 x 8, and the second map averaged from 4 x 4 (stride 1) to 2 x 2."""
    pops = [
        Population("V0", (2, 8, 8)),
        Population("V1", (3, 8, 8), "relu", {"kind": "max", "kernel": 2}),
        Population("V2", (4, 4, 4), "tanh", {"kind": "average", "kernel": 2}),
        Population("V3", (4,), "linear"),
    ]
    paths = [Pathway(a.name, b.name, kernel=3, padding=1) for a, b in itertools.pairwise(pops[:3])]
    return Network(pops, [*paths, Pathway("V2", "V3")])


def dense() -> Network:
    """Three populations for the rules without labels."""
    return dense_net((9, 7, 6, 5), ("tanh", "relu", "tanh"))


def classes() -> Network:
    """Three populations, the top linear, one unit per class."""
    return dense_net((9, 8, 6, 4), ("tanh", "relu", "linear"))


def skipping() -> Network:
    """As `classes`, with a second pathway onto the top, past a population."""
    net = classes()
    return Network(net.populations, [*net.pathways, Pathway("V1", "V3", bias=False)])


def four() -> Network:
    """A chain of four populations."""
    return dense_net((9, 7, 6, 5, 4), ("tanh", "relu", "tanh", "tanh"))
