"""How much a small step along an update lowers the reference objective, beside one along backprop's (M9).

    relative decrease = (L(W) - L(W + s |W|/|d| d)) / |L(W)|

per pathway, the others held, and jointly, where W and d are the weights of all of them as one vector. Biases stay; contexts
are held; tried on a copy of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.weights import Weights
from neurossl.events import Moment
from neurossl.plasticity.proposal import losses
from neurossl.plasticity.rule import Rule

Directions = Mapping[str, Tensor]
"""Updates by pathway."""


class Slope:
    """The reference objective of one moment, as a function of the weights.

    Parameters
    ----------
    reference : Rule
    circuit : Circuit
        With weights of its own, which are changed and put back.
    activity : Activity
        The response to the moment before any step: it says the stimulus, and its contexts are held.
    moment : Moment
    steps : sequence of float
        Sizes relative to the norm of the weights; the largest decrease counts.
    """

    def __init__(
        self, reference: Rule, circuit: Circuit, activity: Activity, moment: Moment, steps: Sequence[float]
    ) -> None:
        self._reference, self._circuit, self._moment = reference, circuit, moment
        self._stimulus, self._held, self._traced = activity.stimulus, activity.held, activity.traced
        self._steps = steps
        self._weights: Weights = circuit.weights
        self.initial = self.loss()

    def loss(self) -> float:
        """Return the objective with the weights as they are."""
        swept = self._circuit.sweep(self._stimulus).with_changes(context=self._held, traced=self._traced)
        return sum(float(part) for part in losses(self._reference, swept, self._moment).values())

    def along(self, directions: Directions) -> dict[str, float]:
        """Return the relative decrease after a step along the update of each pathway alone; NaN where it is 0."""
        return {name: self._best({name: direction}) for name, direction in directions.items()}

    def jointly(self, directions: Directions) -> float:
        """Return the relative decrease after a step along the updates of all pathways together."""
        return self._best(directions)

    def _best(self, directions: Directions) -> float:
        length = _norm(directions.values())
        size = _norm(self._weights[name].weight for name in directions)
        if not 0 < length < math.inf or self.initial == 0:
            return math.nan
        decreases = []
        for step in self._steps:
            with self._stepped(directions, step * size / length):
                decreases.append((self.initial - self.loss()) / abs(self.initial))
        return max(decreases)

    @contextmanager
    def _stepped(self, directions: Directions, factor: float) -> Iterator[None]:
        """Take a step, and go back to where the weights were, bit for bit."""
        before = {name: self._weights[name].weight.clone() for name in directions}
        for name, direction in directions.items():
            self._weights[name].weight.add_(direction, alpha=factor)
            self._weights.changed(name)
        try:
            yield
        finally:
            for name, weight in before.items():
                self._weights[name].weight.copy_(weight)
                self._weights.changed(name)


def _norm(tensors: Iterable[Tensor]) -> float:
    """Return the norm of several tensors as one vector."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def decreases(
    slope: Callable[[], Slope], rule: Directions, reference: Directions, prefix: str = ""
) -> dict[str, dict[str, float]]:
    """Return what steps along both updates bring, per pathway: of it alone, and of all together (equal for all pathways).

    Returns
    -------
    dict of str to dict of str to float
        By variable and pathway: PREFIX + ``decrease``, ``reference_decrease``, ``joint_decrease`` and
        ``joint_reference_decrease``.
    """
    here = slope()
    found = {}
    for words, directions in (("", rule), ("reference_", reference)):
        together = here.jointly(directions)
        found[f"{prefix}{words}decrease"] = here.along(directions)
        found[f"{prefix}joint_{words}decrease"] = dict.fromkeys(directions, together)
    return found
