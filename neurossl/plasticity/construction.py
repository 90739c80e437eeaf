"""Comparisons that are 1 by construction: a rule and its reference that compute the very same update.

Where a rule's own objective stands at the population at which the reference's stands, or where the transport is backprop
under another name, the cosine of both updates is 1 whatever is learned. It says nothing of how close local learning is to
backprop, and enters no mean.

* backprop against itself: everywhere
* a local objective against backprop of the same: at the top, or where else that stands (`Backprop` with ``at``)
* FA and DFA, whose error starts from the same objective: at the top
* an objective at the top of every block against backprop of the same: in the uppermost block
* dual propagation: where a population and all above it are linear
* predictive coding with fixed predictions (rate 1, as many steps as it takes) and Z-IL: everywhere (Millidge et al. 2022;
  Song et al. 2020); with predictions that move: nowhere, since what the top synapses see has moved with them
* predictive coding from direct feedback with fixed predictions: at the top; everywhere, as above, if nothing drives it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neurossl.anatomy.network import Network
from neurossl.errors import NetworkError
from neurossl.plasticity.given import described
from neurossl.plasticity.objectives import Contrastive, Objective
from neurossl.plasticity.rule import Rule
from neurossl.plasticity.transports import (
    Backprop,
    Blocks,
    DirectFeedbackAlignment,
    DirectPredictiveCoding,
    DualPropagation,
    FeedbackAlignment,
    Local,
    OptimalFeedback,
    PredictiveCoding,
)


def by_construction(rule: Rule, network: Network, pathway: str, reference: Rule | None = None) -> bool:
    """Return whether the update of a pathway is that of the reference whatever the weights, so that their cosine is 1.

    Parameters
    ----------
    rule : Rule
    network : Network
        Says which population is the top.
    pathway : str
        A feedforward pathway.
    reference : Rule, optional
        The rule's own by default; backprop, which has none, is compared with itself.

    Raises
    ------
    NetworkError
        If there is no such feedforward pathway.

    Notes
    -----
    Known of the transports of neurossl; a rule of one's own that says its credit itself is never marked. What an
    experimenter holds or freezes is not looked at.
    """
    if pathway not in network.feedforward:
        raise NetworkError(
            f"by_construction: expected a feedforward pathway ({', '.join(network.feedforward)}), got {pathway!r}"
        )
    known = reference if reference is not None else rule.reference()
    against = rule if known is None else known
    if against is rule and type(rule).credit is Backprop.credit:
        return True
    where = _WHERE.get(type(rule).credit)
    if where is None or type(against).credit is not Backprop.credit:
        return False
    post, place = network.feedforward[pathway].post, against.stands_at(network)
    if type(rule).credit is Local.credit:
        same = post == place
    else:
        same = place == rule.stands_at(network) and where(rule, network, post)
    mine, other = getattr(rule, "objective", None), getattr(against, "objective", None)
    return same and _says(mine, place, network.top) == _says(other, place, network.top)


def _everywhere(rule: Any, network: Network, population: str) -> bool:
    return True


def _at_top(rule: Any, network: Network, population: str) -> bool:
    return population == network.top


def _if_exact(rule: Any, network: Network, population: str) -> bool:
    """Return whether predictive coding is backprop under another name."""
    if rule.mirrored or rule.schedule not in ("fixed-prediction", "z-il"):
        return False
    return rule.schedule == "z-il" or (rule.rate == 1 and rule.steps >= len(network.order) - 1)


def _if_in_uppermost_block(rule: Any, network: Network, population: str) -> bool:
    return population in rule.blocks(network.order)[0]


def _if_linear_upwards(rule: Any, network: Network, population: str) -> bool:
    above = network.order[network.order.index(population) :]
    return all(network.populations[name].transfer.name == "linear" for name in above)


def _of_direct_predictive(rule: Any, network: Network, population: str) -> bool:
    """Return whether what the top synapses see has not moved; or, once nothing is left of what was sent, all errors."""
    if rule.steps and rule.schedule != "fixed-prediction":
        return False
    return population == network.top or (not rule.kappa and rule.rate == 1 and rule.steps >= len(network.order) - 1)


_WHERE: dict[Callable[..., Any], Callable[[Any, Network, str], bool]] = {
    Backprop.credit: _everywhere,
    Local.credit: _at_top,
    OptimalFeedback.credit: _at_top,
    FeedbackAlignment.credit: _at_top,
    DirectFeedbackAlignment.credit: _at_top,
    Blocks.credit: _if_in_uppermost_block,
    DualPropagation.credit: _if_linear_upwards,
    PredictiveCoding.credit: _if_exact,
    DirectPredictiveCoding.credit: _of_direct_predictive,
}
"""By the function that says the credit, so that a rule that inherits all but this is not taken for another."""


def _says(objective: Objective | None, population: str, top: str) -> Any:
    """Return what decides the credit of an objective at a population: equal where two say the same."""
    if objective is None:
        return object()
    objective = objective.at_top()
    if isinstance(objective, Contrastive):
        return type(objective), objective.contrast, objective.steepness, tuple(objective.pathway_names(population, top))
    return type(objective), described({name: value for name, value in vars(objective).items() if name != "given"})
