"""The three factors of a synapse, and the update that they make.

    dW_ji = mean over observers of  gamma * dendrite_j * rho'(a_j) * x_i

``x_i`` is presynaptic activity and ``rho'(a_j)`` the postsynaptic gate: Hebbian, the same for every rule. ``dendrite_j`` is
what arrives at the apical compartment, ``gamma`` a scalar that is broadcast per observer, a neuromodulator. A rule says
which; this page is the definition of what follows. The engine computes the same faster, and a test compares them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.anatomy.populations import Population
from neurossl.engine.projections import SomaticProjection
from neurossl.engine.responses import Response, at_soma
from neurossl.engine.updates import Update


class Factors(NamedTuple):
    """What arrives at a population besides the activity of its synapses.

    Where several events arrive at once, as a fixation and several saccades, they are a list.

    Attributes
    ----------
    gamma : Tensor, (rows,)
        Neuromodulator per observer.
    dendrite : Tensor, (rows, *population shape)
        Apical input: a prediction, a broadcast or relaxed error, the cell's own activity.
    is_somatic : bool
        Whether the input reaches the soma itself, (rows, *neurons), past pooling and gate.
    """

    gamma: Tensor
    dendrite: Tensor
    is_somatic: bool = False


def credit(factors: Iterable[Factors]) -> Tensor:
    """Return the credit of a population, ``sum of gamma * dendrite``: (rows, *shape)."""
    parts = [f.gamma.to(f.dendrite).reshape(-1, *[1] * (f.dendrite.ndim - 1)) * f.dendrite for f in factors]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def update(
    factors: Iterable[Factors], population: Population, response: Response, projection: SomaticProjection, x: Tensor
) -> Update:
    """Return the update of a feedforward pathway by its definition.

    Parameters
    ----------
    factors : iterable of Factors
        All of them somatic, or none.
    population : Population
        The postsynaptic one.
    response : Response
        Its response, for the gate.
    projection : SomaticProjection
    x : Tensor, (rows, *pre shape)
        Presynaptic activity.
    """
    factors = list(factors)
    arrived = credit(factors)
    somatic = arrived if factors[0].is_somatic else at_soma(population, arrived, response)
    return projection.hebbian(x, somatic)
