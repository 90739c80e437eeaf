"""Credit beside that of a reference: dL/dz at every population, the gates, and the neurons that both rules change.

Cosines of weights flatten what happens at single observers: convolutions sum over space, and dead units, whose synapses do
not change under any rule, count as agreement where they are left out of neither. (Pitfalls P8 and P9, measure M7.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.dynamics.activity import Activity
from neurossl.engine.responses import at_soma
from neurossl.measures import cosine
from neurossl.plasticity.credit import Credit

GATES = ("gamma", "saccade_gamma")
"""Inner signals of a rule that are its neuromodulators, one value per row."""


def credit_cosines(mine: dict[str, Credit], reference: dict[str, Credit], activity: Activity) -> dict[str, float]:
    """Return the mean over rows of the cosine of the local credit with that of the reference, by population.

    ``mean over rows of <e, g> / (|e| |g|)``, e and g = -dL/dz of one row, maps flattened row by row and never summed over
    space. Credit that a rule gives at the soma is compared there. Rows without credit on one side are left out; NaN where
    all are.

    Parameters
    ----------
    mine, reference : dict of str to Credit
    activity : Activity
        On which both have said it.
    """
    found = {}
    for population, said in mine.items():
        if population in reference:
            pair = _comparable(said, reference[population], activity, population)
            found[population] = math.nan if pair is None else mean_row_cosine(*pair)
    return found


def _comparable(one: Credit, other: Credit, activity: Activity, population: str) -> tuple[Tensor, Tensor] | None:
    """Return two credits in one place: on the activity, or at the soma; None where one says nothing."""
    if one.activity is not None and other.activity is not None:
        return one.activity, other.activity
    anatomy, response = activity.circuit.network.populations[population], activity.responses[population]
    somatic = []
    for said in (one, other):
        if said.somatic is not None:
            somatic.append(said.somatic)
        elif said.activity is not None:
            somatic.append(at_soma(anatomy, said.activity.to(response.activity.dtype), response))
    return (somatic[0], somatic[1]) if len(somatic) == 2 else None


def mean_row_cosine(one: Tensor, other: Tensor) -> float:
    """Return the mean over rows of the cosine of the rows of two tensors, (rows, ...), in float64; NaN if all are 0."""
    a, b = one.double().flatten(1), other.double().flatten(1)
    norms = a.norm(dim=1) * b.norm(dim=1)
    there = norms > 0
    if not bool(there.any()):
        return math.nan
    return float(((a * b).sum(1)[there] / norms[there]).mean())


def gamma_agreements(mine: dict[str, Credit], top: Credit | None) -> dict[str, float]:
    """Return in which part of the rows the neuromodulator of a population has the sign of that of the reference's top.

    With the hinge: in which both gates are open, or both shut, counted over fixations and saccades. Graded neuromodulators
    never shut and agree wherever they push in the same direction. NaN where one side has none, or one per place.

    Parameters
    ----------
    mine : dict of str to Credit
        With signals.
    top : Credit or None
        Of the reference at the top, with signals.
    """
    found = {}
    for population, said in mine.items():
        agreeing = []
        for name in GATES:
            here, there = said.signals.get(name), None if top is None else top.signals.get(name)
            if here is not None and there is not None and here.ndim == 1 and here.shape == there.shape:
                agreeing.append((here.sign() == there.sign().to(here)).double().mean())
        found[population] = float(torch.stack(agreeing).mean()) if agreeing else math.nan
    return found


def active_row_cosine(update: Tensor, reference: Tensor) -> float:
    """Return the cosine of two updates over the synapses of the postsynaptic neurons that both of them change.

    Parameters
    ----------
    update, reference : Tensor, (post, ...)

    Returns
    -------
    float
        NaN if there is no such neuron.
    """
    both = update.flatten(1).any(1) & reference.flatten(1).any(1)
    return cosine(update[both], reference[both])


def by_pathway(values: dict[str, float], network: Network, pathway: str) -> float:
    """Return the value of the population in which a pathway ends; NaN where it has none."""
    return values.get(network.pathways[pathway].post, math.nan)
