"""The moments of the reference files: what the observers see, and what it is to them."""

from __future__ import annotations

import numpy as np

from .base import Network
from .cases import Moment, draw_gain, draw_labels, draw_pairs, draw_phases, draw_stimuli


def pairs(net: Network, rng: np.random.Generator) -> Moment:
    """Four objects in two views, two negatives."""
    return draw_pairs(net, rng, 8, 2)


def single(net: Network, rng: np.random.Generator) -> Moment:
    """One negative, three objects."""
    return draw_pairs(net, rng, 6, 1)


def modulated(net: Network, rng: np.random.Generator) -> Moment:
    """A neuromodulator for fixations and another for saccades."""
    return draw_pairs(net, rng, 8, 2) | {"gain": draw_gain(rng, 8), "saccade_gain": draw_gain(rng, 8)}


def gained(net: Network, rng: np.random.Generator) -> Moment:
    """One neuromodulator for both."""
    return draw_pairs(net, rng, 8, 2) | {"gain": draw_gain(rng, 8)}


def views(net: Network, rng: np.random.Generator) -> Moment:
    """Five objects in two views, without negatives."""
    moment = draw_pairs(net, rng, 10)
    return {key: moment[key] for key in ("stimulus", "partner")}


def gained_views(net: Network, rng: np.random.Generator) -> Moment:
    """As `views`, with a neuromodulator."""
    return views(net, rng) | {"gain": draw_gain(rng, 10)}


def stream(net: Network, rng: np.random.Generator) -> Moment:
    """Six observers, some of which look elsewhere."""
    return {"stimulus": draw_stimuli(net, rng, 6), "moved": rng.permutation([0, 0, 0, 1, 1, rng.integers(2)])}


def either(net: Network, rng: np.random.Generator) -> Moment:
    """One negative; in every row a fixation or a saccade."""
    stays = rng.permutation([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    return draw_pairs(net, rng, 8, 1) | {"gain": stays, "saccade_gain": 1 - stays}


def glances(net: Network, rng: np.random.Generator, steps: int = 3) -> Moment:
    """Three walks of four fixations; row r + k + 1 comes later unless the walk has ended."""
    row, k = np.arange(12)[None, :], np.arange(steps)[:, None]
    later = np.where(row % 4 + k + 1 < 4, row + k + 1, -1)
    elsewhere = (row // 4 * 4 + rng.integers(4, 12, size=(2, steps, 12))) % 12
    return {"stimulus": draw_stimuli(net, rng, 12), "later": later, "elsewhere": np.where(later >= 0, elsewhere, -1)}


def short_glances(net: Network, rng: np.random.Generator) -> Moment:
    """As `glances`, two steps ahead."""
    return glances(net, rng, 2)


def walks(net: Network, rng: np.random.Generator) -> Moment:
    """As `glances`, with a fixation or a saccade in every row and branch."""
    return glances(net, rng) | {"stays": np.stack([rng.permutation([0, 1] * 6) for _ in range(2)])}


def only_fixations(net: Network, rng: np.random.Generator) -> Moment:
    """No saccade in the first branch: one group is empty."""
    return glances(net, rng, 2) | {"stays": np.stack([np.ones(12, int), rng.permutation([0, 1] * 6)])}


def labels(net: Network, rng: np.random.Generator) -> Moment:
    """Seven labelled stimuli."""
    return draw_labels(net, rng, 7)


def gained_labels(net: Network, rng: np.random.Generator) -> Moment:
    """As `labels`, with a neuromodulator."""
    return draw_labels(net, rng, 7) | {"gain": draw_gain(rng, 7)}


def phases(net: Network, rng: np.random.Generator) -> Moment:
    """Five awake, three asleep."""
    return draw_phases(net, rng, 5, 3)


def even_phases(net: Network, rng: np.random.Generator) -> Moment:
    """Four awake, four asleep."""
    return draw_phases(net, rng, 4, 4)


def gained_phases(net: Network, rng: np.random.Generator) -> Moment:
    """As `phases`, with a neuromodulator."""
    return phases(net, rng) | {"gain": draw_gain(rng, 8)}


def halves(net: Network, rng: np.random.Generator) -> Moment:
    """Awake, both halves hold the same; asleep, the second half is another's."""
    moment = phases(net, rng)
    half = net.input.shape[0] // 2
    first, awake = moment["stimulus"][:, :half], moment["sign"] > 0
    other = np.roll(first, 1, axis=0)
    other[awake] = first[awake]
    return moment | {"stimulus": np.concatenate([first, other], axis=1)}
