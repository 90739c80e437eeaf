"""The check for NaN and infinity: where they are, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.dynamics.activity import Activity
from neurossl.engine.weights import Weights
from neurossl.errors import DivergenceError
from neurossl.plasticity.rule import Rule


def check_finite(network: Network, weights: Weights | None, activity: Activity | None, where: str, rule: Rule) -> None:
    """Raise DivergenceError if an activity, a weight or a bias is not finite.

    Parameters
    ----------
    network : Network
    weights : Weights, optional
    activity : Activity, optional
    where : str
        Moment and rule, for the message.
    rule : Rule
    """
    broken_weights = [] if weights is None else not_finite(weights.state_dict())
    broken = not_finite(activity.output) if activity is not None else []
    if not broken and not broken_weights:
        return
    if broken and network.populations[broken[0]].is_input:
        raise DivergenceError(f"{where}: the stimulus on population {broken[0]!r} is not finite: check the images")
    if broken_weights:
        pathway, _, part = broken_weights[0].rpartition(".")
        population, place = network.pathways[pathway].post, f"pathway {pathway!r} ({part})"
    else:
        population = broken[0]
        place = f"pathway {network.incoming(population)[0].name!r}"
    remedy = "lower the learning rate (lr)" + (" or the settling rate" if "settling" in rule.needs else "")
    raise DivergenceError(f"{where}: NaN or infinity in population {population!r}, {place}: {remedy}")


def check_stimulus(network: Network, stimulus: Tensor, where: str) -> None:
    """Raise DivergenceError if a stimulus is not finite; one on another device is not read.

    Parameters
    ----------
    network : Network
    stimulus : Tensor, (rows, *input shape)
    where : str
        Moment and rule, for the message.
    """
    if stimulus.device.type != "cpu" or not not_finite({"stimulus": stimulus}):
        return
    names = ", ".join(repr(population.name) for population in network.inputs)
    row = int((~stimulus.flatten(1).isfinite().all(1)).nonzero()[0])
    raise DivergenceError(f"{where}: the stimulus on population {names} is not finite (row {row}): check the images")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors with NaN or infinity; one transfer from the device."""
    if not tensors:
        return []
    # A sum is finite only if all terms are; it can overflow where they are not, so a suspect is looked at again.
    sums = torch.stack([t.sum() for t in tensors.values()])
    suspects = [name for name, ok in zip(tensors, sums.isfinite().tolist(), strict=True) if not ok]
    return [name for name in suspects if not bool(tensors[name].isfinite().all())]
