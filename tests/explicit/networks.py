"""The small networks of the reference files."""

from __future__ import annotations

import itertools

from .base import Network, Pathway, Population
from .cases import dense_net

MAX, AVERAGE = {"kind": "max", "kernel": 2}, {"kind": "average", "kernel": 2}


def chain(*pops: Population, normalisation: str | None = None, first: str | None = None) -> Network:
    """Each population onto the next: 3 x 3 convolutions between maps (stride 2 where they halve), dense onto units."""
    paths = []
    for a, b in itertools.pairwise(pops):
        kind = first if a is pops[0] and first else normalisation
        if len(b.neurons) == 1:
            paths.append(Pathway(a.name, b.name, normalisation=kind))
        else:
            stride = 1 if a.shape[1] == b.neurons[1] else 2
            paths.append(Pathway(a.name, b.name, 3, stride, 1, normalisation=kind))
    return Network(list(pops), paths)


def dense() -> Network:
    """Three populations of units."""
    return dense_net((7, 6, 5, 4), ("tanh", "relu", "tanh"))


def two() -> Network:
    """Two populations of units."""
    return dense_net((7, 6, 5), ("tanh", "relu"))


def classes() -> Network:
    """Units, the top linear."""
    return dense_net((8, 7, 6, 4), ("tanh", "relu", "linear"))


def four() -> Network:
    """Four layers of units with smooth transfer functions."""
    return dense_net((7, 6, 5, 4, 4), ("tanh", "softplus", "tanh", "linear"))


def skipping() -> Network:
    """Two pathways onto the top, one past a population."""
    net = classes()
    return Network(net.populations, [*net.pathways, Pathway("V1", "V3", bias=False)])


def lengths() -> Network:
    """Rectified units that see the direction alone."""
    return dense_net((8, 7, 6, 5), "relu", "length")


def two_lengths() -> Network:
    """Two such populations."""
    return dense_net((8, 7, 6), "relu", "length")


def maps(top: str = "tanh", units: int = 5) -> Network:
    """6 x 6, max-pooled to 3 x 3, then 3 x 3, then units."""
    v1, v2 = Population("V1", (3, 6, 6), "relu", MAX), Population("V2", (4, 3, 3), "relu")
    return chain(Population("V0", (2, 6, 6)), v1, v2, Population("V3", (units,), top))


def map_top() -> Network:
    """A map on top; pooling in the middle and at the top, one with a remainder."""
    v1, v2 = Population("V1", (3, 7, 7), "relu", MAX), Population("V2", (4, 3, 3), "tanh")
    return chain(Population("V0", (2, 7, 7)), v1, v2, Population("V3", (4, 3, 3), "softplus", AVERAGE))


def map_lengths() -> Network:
    """Rectified maps that see the direction alone."""
    v1, v2 = Population("V1", (3, 6, 6), "relu", MAX), Population("V2", (4, 3, 3), "relu")
    return chain(Population("V0", (2, 6, 6)), v1, v2, Population("V3", (5,), "relu"), normalisation="length")


def averaging() -> Network:
    """Stride 2 and average pooling; a linear top."""
    v1, v2 = Population("V1", (2, 8, 8), "relu", MAX), Population("V2", (3, 4, 4), "tanh", AVERAGE)
    return chain(Population("V0", (1, 15, 15)), v1, v2, Population("V3", (4,), "linear"))


def oblong() -> Network:
    """Maps of 6 x 4, then 3 x 2, and a linear top."""
    v1, v2 = Population("V1", (3, 6, 4), "relu"), Population("V2", (3, 6, 4), "relu", MAX)
    return chain(Population("V0", (2, 6, 4)), v1, v2, Population("V3", (4,), "linear"))


def oblong_top() -> Network:
    """A map of 3 x 2 on top."""
    return chain(Population("V0", (2, 6, 4)), Population("V1", (3, 6, 4), "relu", MAX), Population("V2", (4, 3, 2), "tanh"))


def cells_top() -> Network:
    """The score of the top in 16 cells of 2 x 2, with a remainder."""
    pops = [Population("V0", (1, 13, 13)), Population("V1", (1, 10, 10), "relu", MAX), Population("V2", (2, 9, 9), "tanh")]
    return Network(pops, [Pathway("V0", "V1", 4), Pathway("V1", "V2", 3, 1, 3)])


def cells() -> Network:
    """Scores in cells: 9 of 13 (kernel 2, a remainder of 1), 2 of 13 after max-pooling, 2 of 13."""
    pops = [
        Population("V0", (1, 13, 13)),
        Population("V1", (1, 9, 9), "relu"),
        Population("V2", (3, 5, 5), "relu", MAX),
        Population("V3", (3, 2, 2), "tanh"),
    ]
    return Network(pops, [Pathway("V0", "V1", 5), Pathway("V1", "V2", 3, 2, 1), Pathway("V2", "V3", 3, 1, 1)])


def neighbours() -> Network:
    """Scores in 4 x 4 cells and in 2 x 2, of maps."""
    return chain(Population("V0", (1, 8, 8)), Population("V1", (2, 8, 8), "relu", MAX), Population("V2", (2, 2, 2), "tanh"))


def coarser() -> Network:
    """Scores in 8 x 8 cells and, of the top, in 4 x 4."""
    pops = [Population("V0", (1, 8, 8)), Population("V1", (1, 8, 8), "tanh"), Population("V2", (2, 4, 4), "tanh")]
    return chain(*pops)


def doubled_maps() -> Network:
    """The input holds two images; both kinds of pooling."""
    v1, v2 = Population("V1", (4, 6, 6), "relu", MAX), Population("V2", (5, 3, 3), "tanh")
    return chain(Population("V0", (4, 6, 6)), v1, v2, normalisation="standard", first="doubled")


def doubled() -> Network:
    """The input holds two patterns."""
    pops = [Population("V0", (12,)), Population("V1", (8,), "relu"), Population("V2", (6,), "tanh")]
    return chain(*pops, normalisation="standard", first="doubled")
