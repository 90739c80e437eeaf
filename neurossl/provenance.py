"""What made the numbers of a run: written by the simulation, once, and by nobody else."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from neurossl.engine.digest import weights_digest
from neurossl.errors import OptionError
from neurossl.plasticity.construction import by_construction
from neurossl.plasticity.needs import NEEDS
from neurossl.plasticity.rule import Rule, make_rule
from neurossl.streaming import in_words

if TYPE_CHECKING:
    from neurossl.simulation import Simulation

_OWN = frozenset(
    (
        *("rule", "needs", "seed", "network", "fixed_weights", "synapses"),
        *("dtype", "precision", "device", "engine", "interventions", "by_construction"),
    )
)


def provenance(simulation: Simulation, stream: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stored run says about itself.

    Parameters
    ----------
    simulation : Simulation
        Wired: its network has the feedback pathways of rule and recorders.
    stream : object
        What it learns from; its `describe`, if it has one, says more than its repr.
    about : mapping
        What the simulation cannot know: protocol, label, data set.
    """
    rule = simulation.rule
    compared = [getattr(recorder, "reference", None) for recorder in simulation.recorders]
    reference = next((one for one in compared if isinstance(one, Rule)), None)
    own = rule.reference()
    own = make_rule(own) if isinstance(own, str) else own
    describe, pathways = getattr(stream, "describe", None), simulation.network.pathways
    found: dict[str, Any] = {
        "protocol": "script",
        **rule.describe(),
        "objective": rule.objective_in(simulation.network),
        "label": rule.name,
        "rule_class": f"{type(rule).__module__}.{type(rule).__qualname__}",
        "reference": None if reference is None else reference.name,
        "reference_objective": None if reference is None else reference.objective_in(simulation.network),
        "reference_at": None if reference is None else reference.stands_at(simulation.network),
        "reference_fixed": [name for recorder in simulation.recorders for name in getattr(recorder, "added", ())],
        "own_reference": None if own is None else own.name,
        "own_reference_objective": None if own is None else own.objective_in(simulation.network),
        "by_construction": None if reference is None else _equal(simulation, reference),
        "seed": simulation.seed,
        "stream": in_words(stream),
        "stream_options": describe() if callable(describe) else {},
        "synapses": simulation.synapses.describe(),
        "network": simulation.network.describe(),
        "fixed_weights": {n: weights_digest(simulation.weights[n]) for n, p in pathways.items() if not p.plastic},
        "device": simulation.device.type,
        "dtype": str(simulation.dtype).removeprefix("torch."),
        "products": None if simulation.products is None else str(simulation.products).removeprefix("torch."),
        "precision": precision(simulation),
        "engine": simulation.circuit.execution.describe(),
        **simulation.dynamics.describe(),
        "threads": torch.get_num_threads(),
        "recorders": [repr(recorder) for recorder in simulation.recorders],
        "interventions": [],
        "command": list(sys.argv),
        "folder": os.getcwd(),
    }
    return {**found, **about}


def precision(simulation: Simulation) -> dict[str, str]:
    """Return in which number types the updates of a run are computed, and compared.

    Returns
    -------
    dict of str to str
        weights: of weights and optimisers; products: in which matrix products and convolutions multiply, of the rule and of
        its reference alike; comparison: of norms and cosines (`neurossl.measures`).
    """
    weights = str(simulation.dtype).removeprefix("torch.")
    products = weights if simulation.products is None else str(simulation.products).removeprefix("torch.")
    if simulation.device.type == "cuda" and products == "float32":
        rounded = {
            "matrix products": torch.backends.cuda.matmul.allow_tf32,
            "convolutions": torch.backends.cudnn.allow_tf32,
        }
        products += "".join(f", {what} tf32" for what, is_rounded in rounded.items() if is_rounded)
    return {"weights": weights, "products": products, "comparison": "float64"}


def _equal(simulation: Simulation, reference: Rule) -> list[str]:
    """Return the pathways whose update is that of the reference whatever is learned."""
    network = simulation.network
    plastic = [name for name, pathway in network.feedforward.items() if pathway.plastic]
    return [name for name in plastic if by_construction(simulation.rule, network, name, reference)]


def gated_ledger(rule: Rule) -> list[str]:
    """Return what a rule needs, and the neuromodulator that scales what it learns, whether it looks at it or not."""
    return [need for need in NEEDS if need in {*rule.needs, "neuromodulator"}]


def checked_about(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a user says about a run.

    Raises
    ------
    OptionError
        If it is about what the simulation says itself.
    """
    if about is not None and not isinstance(about, Mapping):
        raise OptionError(f"about: expected what the stored run is to say, by name, got {about!r}")
    given = dict(about or {})
    claimed = sorted(_OWN & set(given))
    if claimed:
        raise OptionError(f"about: {claimed[0]!r} is said by the simulation itself; choose another name")
    return given
