"""One reference for all rules of a comparison: backprop of one objective, at a population that all their networks have.

By default every rule is compared with backprop of its own objective, so that a cosine says how well the objective of a rule
reaches its synapses. Such cosines of two rules have no common scale. With a common reference they have one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neurossl.anatomy.feedback import FeedbackPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.weights import Weights
from neurossl.errors import EventError, NeurosslError, OptionError
from neurossl.events import Fixation, Succession
from neurossl.plasticity import RULES, Backprop, Rule, make_rule
from neurossl.plasticity.proposal import propose, wired
from neurossl.stimuli import ImageSet
from protocols.harness.printing import say
from protocols.harness.rules import choose_rules
from protocols.harness.trial import network_for, stream_for

FEW = 4
"""Observers of the moment on which a reference is tried."""
APART = "reference"
"""Label of prediction pathways of the reference's own, where a rule has others of the same name."""


@dataclass(frozen=True)
class Compared:
    """With what a rule is compared.

    Attributes
    ----------
    reference : Rule, optional
        The common one, in the form that it has in the network of the rule; None where there can be none.
    reason : str
        Why there is none.
    """

    reference: Rule | None = None
    reason: str = ""


def common_reference(
    name: str,
    rules: Mapping[str, Rule],
    images: ImageSet,
    network: str,
    usual_options: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Compared]:
    """Return with what each rule is compared, where all are to be compared with backprop of one objective.

    The objective stands at the highest population that all networks have: at the top of networks without a readout, below
    the readout of the others. Rules whose stream lacks what the objective needs have no cosines, which is printed.

    Parameters
    ----------
    name : str
        Of a rule of backprop, with options as ``NAME:OPTION=VALUE``; its option ``at`` says another population.
    rules : mapping of str to Rule
        By label.
    images : ImageSet
    network : str
        Description.
    usual_options : mapping of str to mapping
        Options of rules that differ from their defaults.

    Raises
    ------
    OptionError
        If it is no backprop, there is no such population, or no rule can be compared with it.
    """
    chosen = choose_rules([name], usual_options)[0]
    asked = chosen.rule
    if not isinstance(asked, Backprop):
        listed = ", ".join(known for known in RULES if isinstance(make_rule(known), Backprop))
        raise OptionError(f"reference: expected a rule of backprop ({listed}), got {name!r}")
    networks = {label: network_for(rule, images, network) for label, rule in rules.items()}
    place = asked.at or highest_shared(networks)
    for label, one in networks.items():
        if place not in one.order:
            raise OptionError(f"reference: the network of {label} has no {place!r}: expected one of {', '.join(one.order)}")
    found = {}
    for label, rule in rules.items():
        reference = Backprop(asked.objective, at=place)
        reference.name = f"{chosen.base} at {place}"
        try:
            fitting = _fitting(reference, rule, networks[label])
            _try_it(fitting, rule, networks[label], images)
        except NeurosslError as reason:
            found[label] = Compared(reason=f"{reference.name} cannot be their reference ({reason})")
        else:
            found[label] = Compared(fitting)
    without = {label: one.reason for label, one in found.items() if one.reference is None}
    if len(without) == len(found):
        raise OptionError(f"reference: no rule can be compared with {name!r}: {next(iter(without.values()))}")
    for label, why in without.items():
        say(f"no cosines of {label}: {why}")
    return found


def highest_shared(networks: Mapping[str, Network]) -> str:
    """Return the highest population that all networks have, with the same shape.

    Raises
    ------
    OptionError
        If there is none.
    """
    first, *others = networks.values()
    for name in reversed(first.order):
        shape = first.populations[name].shape
        if all(name in one.order and one.populations[name].shape == shape for one in others):
            return name
    raise OptionError("reference: the networks of these rules have no population in common at which it could stand")


def _fitting(reference: Backprop, rule: Rule, network: Network) -> Backprop:
    """Return the reference on the prediction pathways of the rule where they are its own as well, else on others."""
    joined, alone = wired(rule, network), wired(reference, network)
    added = [name for name in alone.pathways if name not in network.pathways]
    if all(name not in joined.pathways or _same(joined, alone, name) for name in added):
        return reference
    apart = Backprop(reference.objective.apart(APART), at=reference.at)
    apart.name = reference.name
    clashing = [name for name in wired(apart, network).pathways if name in joined.pathways and name not in network.pathways]
    if clashing:
        raise OptionError(f"the rule has a {clashing[0]!r} of another form")
    return apart


def _same(one: Network, other: Network, name: str) -> bool:
    """Return whether a pathway of two networks joins the same cells in the same form."""
    mine, theirs = one.pathways[name], other.pathways[name]
    if type(mine) is not type(theirs) or mine.weight_shape != theirs.weight_shape:
        return False
    if isinstance(mine, FeedbackPathway) and isinstance(theirs, FeedbackPathway):
        shape = one.populations[mine.post].shape
        pools = (mine.source_pool, theirs.source_pool), (mine.target_pool, theirs.target_pool)
        return all(_kernel(shape, a) == _kernel(shape, b) for a, b in pools)
    return True


def _kernel(shape: tuple[int, ...], pool: Pool) -> Pool:
    """Return a pooling kernel as a number wherever it is one."""
    if len(shape) == 1 or pool is None:
        return 1
    return shape[1] if pool == "global" and shape[1] == shape[2] else pool


def _try_it(reference: Backprop, rule: Rule, network: Network, images: ImageSet) -> None:
    """Let a reference propose once, on a moment of few observers such as the rule is shown.

    Raises
    ------
    NeurosslError
        If it lacks something.
    """
    joined = wired(reference, wired(rule, network))
    stream = stream_for(rule, images, images.train, images.train_labels, observers=FEW, moments=1, seed=0)
    moment = next(iter(stream))
    fixation = moment.require(Fixation, by=f"reference {reference.name!r}")
    circuit = Circuit(joined, Weights.draw(joined, 0, torch.device("cpu"), torch.float32))
    compares = {"lateral context", "top-down activity"} & set(reference.needs)
    if compares and fixation.partner is None and Succession not in moment:
        raise EventError("it compares two views of an object, which its stream does not show within one moment")
    moment = moment.to(circuit.device, torch.float32)
    list(propose(reference, circuit.sweep(circuit.stimulus_of(moment.require(Fixation, by="reference"))), moment))
