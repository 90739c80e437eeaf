"""Prediction pathways with fewer weights than one between every pair of values.

A score ``u = z . B c`` between two maps of cells needs one weight of B per pair of values: 201 million in the six-layer
network of CLAPP++ (Wu et al. 2026, arXiv 2601.21683) at full size. Two cheaper forms, chosen by a word (`PredictionForm`):

    low-rank:64    B = U V through 64 interneurons:  dU = mean of  d outer V c,  dV = mean of  U^T d outer c  over rows
    banded:1       a cell is predicted from the cells within one cell of its own place alone

where d is the credit at the dendrite; dU and dV are what ``dB = mean of d outer c`` becomes by the chain rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from neurossl.anatomy.feedback import FeedbackPathway
from neurossl.anatomy.shapes import Pool, Shape, pooled_shape
from neurossl.checks import whole
from neurossl.errors import NetworkError, OptionError

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network


class InterneuronPathway(FeedbackPathway):
    """Synapses onto a few interneurons beside the target: ``source=>target:label``, dense.

    Parameters
    ----------
    source, target : str
    interneurons : int
    **options
        As for `FeedbackPathway`.

    Attributes
    ----------
    weight_shape : (interneurons, source values)
    """

    def __init__(self, source: str, target: str, interneurons: int, **options: Any) -> None:
        super().__init__(source, target, **options)
        self.interneurons = whole(interneurons, f"pathway {self.name!r}: interneurons", error=NetworkError)

    def shape_in(self, network: "Network") -> Shape:
        """Return (interneurons, source values)."""
        return self.interneurons, super().shape_in(network)[1]

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "form": f"interneurons:{self.interneurons}"}


class LowRankPathway(FeedbackPathway):
    """Prediction through interneurons, ``B = U V``: this pathway is U, from the interneurons to the dendrites.

    Both factors learn by the gradient of what B is to learn; V then needs the credit at the interneurons, ``U^T d``, which
    is transport of the weights of U within the pathway. With V fixed (a random projection) nothing is transported.

    Parameters
    ----------
    through : InterneuronPathway
        V, from the source to the interneurons; the network needs it first.
    target_pool : int, "global" or None
    plastic : bool
    init : str
    label : str

    Attributes
    ----------
    weight_shape : (target values, interneurons)
    """

    def __init__(
        self,
        through: InterneuronPathway,
        *,
        target_pool: Pool = None,
        plastic: bool = True,
        init: str = "uniform",
        label: str = "",
    ) -> None:
        source_pool = through.source_pool
        ends = through.pre, through.post
        super().__init__(*ends, source_pool=source_pool, target_pool=target_pool, plastic=plastic, init=init, label=label)
        self.through = through.name
        self.interneurons = through.interneurons
        self.needs = frozenset({"weight transport"}) if through.plastic else frozenset()

    def shape_in(self, network: "Network") -> Shape:
        """Return (target values, interneurons)."""
        if self.through not in network.pathways:
            raise NetworkError(f"pathway {self.name!r} goes through {self.through!r}: add that to the network first")
        return super().shape_in(network)[0], self.interneurons

    def signs(self, network: "Network") -> None:
        """Return None: interneurons follow no law of the source."""
        return None

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "form": f"low-rank:{self.interneurons}", "through": self.through}


class BandedPathway(FeedbackPathway):
    """Prediction from nearby cells: every cell of the target sees those of the source within a distance of its own place.

    The distance is counted, in rows and in columns, in cells of the coarser of the two pooled maps, to which those of the
    finer one belong by relative position; 0 is the same place alone. An end without space is one cell.

    Parameters
    ----------
    source, target : str
    distance : int
    **options
        As for `FeedbackPathway`.

    Attributes
    ----------
    weight_shape : (target values, source channels, window rows, window columns)
        Of every target value, channel-major, the weights to a window of source cells; windows have one size and lie inside
        the source map. Where a window holds cells that are too far away, the weight is 0 and never changes.
    window : array of int, (target cells, window cells)
        The source cells that every target cell sees; ``cells`` where one is too far away.
    cells : int
        Number of source cells.
    """

    def __init__(self, source: str, target: str, distance: int, **options: Any) -> None:
        super().__init__(source, target, **options)
        self.distance = whole(distance, f"pathway {self.name!r}: distance in cells", 0, error=NetworkError)
        self.cells = 0
        self.window = np.empty((0, 0), dtype=np.int64)

    def shape_in(self, network: "Network") -> Shape:
        """Return the shape of the weights, and find which cells every target cell sees."""
        super().shape_in(network)
        channels, *target_map = _with_space(pooled_shape(self.target_shape, self.target_pool))
        source_channels, *source_map = _with_space(pooled_shape(self.source_shape, self.source_pool))
        rows, columns = (_reach(t, s, self.distance) for t, s in zip(target_map, source_map, strict=True))
        self.cells = prod(source_map)
        cells = rows[:, None, :, None] * source_map[1] + columns[None, :, None, :]
        too_far = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
        self.window = np.where(too_far, self.cells, cells).reshape(prod(target_map), -1)
        return channels * prod(target_map), source_channels, rows.shape[1], columns.shape[1]

    @property
    def near(self) -> np.ndarray:
        """Which weights lie within the distance, (target values, 1, window rows, window columns)."""
        near = self.window < self.cells
        repeated = np.tile(near, (self.weight_shape[0] // len(near), 1))
        return repeated.reshape(-1, 1, *self.weight_shape[2:])

    def signs(self, network: "Network") -> np.ndarray | None:
        """Return the sign of every synapse by that of its source channel."""
        signs = network.populations[self.pre].signs
        return None if signs is None else signs.reshape(1, -1, 1, 1)

    @property
    def synapses(self) -> int:
        """Number of adjustable weights."""
        seen = int((self.window < self.cells).sum())
        return self.weight_shape[0] // max(1, len(self.window)) * self.weight_shape[1] * seen

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "form": f"banded:{self.distance}"}


def _with_space(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (*shape, 1, 1)


def _reach(target: int, source: int, distance: int) -> np.ndarray:
    """Return for every target cell along one axis its window of source cells, -1 where one is too far away."""
    coarse = min(target, source)
    place, other = ((np.arange(n) * 2 + 1) * coarse // (2 * n) for n in (target, source))
    near = np.abs(place[:, None] - other[None]) <= distance
    size = int(near.sum(1).max())
    first = np.minimum(near.argmax(1), source - size)
    cells = first[:, None] + np.arange(size)
    return np.where(np.take_along_axis(near, cells, 1), cells, -1)


@dataclass(frozen=True)
class PredictionForm:
    """Which weights predict a target from a context.

    Parameters
    ----------
    kind : {"full", "low-rank", "banded"}
    size : int
        Interneurons of low-rank, distance of banded.
    """

    kind: str = "full"
    size: int = 0

    @classmethod
    def parse(cls, text: str) -> "PredictionForm":
        """Return the form that a word describes: ``full``, ``low-rank:64`` or ``banded:1``.

        Raises
        ------
        OptionError
            If it is none of these.
        """
        kind, _, size = str(text).partition(":")
        least = {"low-rank": 1, "banded": 0}.get(kind)
        if text == "full":
            return cls()
        if least is None or not (size.isascii() and size.isdigit()) or int(size) < least:
            raise OptionError(
                f"prediction {text!r}: expected full, low-rank:RANK (as low-rank:64) or banded:DISTANCE (as banded:1)"
            )
        return cls(kind, int(size))

    @property
    def needs(self) -> frozenset[str]:
        """What learning the weights needs, in words of `neurossl.plasticity.NEEDS`."""
        return frozenset({"weight transport"} if self.kind == "low-rank" else ())

    def pathways(self, source: str, target: str, label: str, options: Mapping[str, Any]) -> tuple[FeedbackPathway, ...]:
        """Return the pathways of one prediction, the one onto the target last.

        Parameters
        ----------
        source, target, label : str
        options : mapping
            Of `FeedbackPathway`: source_pool, target_pool, plastic, init.
        """
        if self.kind == "full":
            return (FeedbackPathway(source, target, label=label, **options),)
        if self.kind == "banded":
            return (BandedPathway(source, target, self.size, label=label, **options),)
        first_label = f"{label}-interneurons" if label else "interneurons"
        first = InterneuronPathway(source, target, self.size, label=first_label, **options)
        rest = {name: value for name, value in options.items() if name != "source_pool"}
        return first, LowRankPathway(first, label=label, **rest)

    def __str__(self) -> str:
        return self.kind if self.kind == "full" else f"{self.kind}:{self.size}"
