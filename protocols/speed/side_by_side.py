"""One rule side by side with its plain autograd counterpart: the same weights, the same moment, the same updates.

A `Case` says which rule learns in which network from how many observers; `ours` and `plain` are its two steps, and
`disagreement` is the proof that both do the same.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from neurossl.anatomy.architectures import from_description
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.weights import Weights
from neurossl.errors import NeurosslError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.recorders import Recorder
from neurossl.replicas import Replicas
from neurossl.simulation import Simulation
from neurossl.store import Store
from protocols.speed.plain_autograd import PlainModel, plain_model

RATE = 1e-9
"""Learning rate while the clock runs: so small that the last step finds the observers as active as the first."""
PREDICTIONS = 0.1
"""Factor on the initial feedback weights: it keeps every score within the margin, so that all observers are active."""
PROBE_RATE = 2.0**20
"""Learning rate at which the change of a weight shows its update to the last digits: the weight itself drowns in it."""
TOLERANCES = {torch.float64: 1e-10, torch.float32: 5e-2}
"""Relative error of any update up to which both sides do the same. In float32 that is far more than the rounding error of a
sum: among a million windows some have two winners within rounding, and since in a fresh network a saccade takes away most of
what a fixation adds, three that fall the other way move an update by 3e-3. Of a few rows that settle, one with a neuron
within rounding of its kink moves an update by 1e-2 (the other side is then 4e-7 from the update in float64)."""
ROUNDING = 2.0
"""In float32 the difference may also be so many times the error of plain autograd itself: far from the top, errors that
settle are so small that half of their update is rounding."""
AUTOCAST = 1.25
"""With bfloat16 products the error may be so many times that of plain autograd under `torch.autocast`."""

Step = Callable[[], None]


class Disagreement(NeurosslError):
    """Updates that are not those of the plain implementation: there is nothing to compare the speed of."""

    exit_status = 1


@dataclass(frozen=True)
class Case:
    """A rule in a network.

    Parameters
    ----------
    name : str
    rule : str
        One of `neurossl.RULES`.
    network : str
        As for `neurossl.architectures.from_description`.
    image : (channels, height, width)
    observers : int
        Per step.
    views : int
        Rows per observer.
    classes : int, optional
        Units of the readout.
    options : mapping
        Of the rule.
    products : {"float32", "bfloat16"}
        Number type of the large products of our side; the plain side has float32.
    replicas : int
        Seeds that learn side by side; the plain side takes them one after another.
    """

    name: str
    rule: str
    network: str
    image: tuple[int, int, int]
    observers: int
    views: int = 2
    classes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    products: str = "float32"
    replicas: int = 1

    @property
    def rows(self) -> int:
        """Rows per step, over all replicas."""
        return self.observers * self.views * self.replicas

    @property
    def kind(self) -> tuple[str, str]:
        """The rule, and whether its populations are "maps" or "dense"."""
        return self.rule, "dense" if self.network.startswith("mlp") else "maps"

    def small(self) -> "Case":
        """Return the same rule, in float32 or float64, in a network so small that it takes no time."""
        if self.kind[1] == "dense":
            options = self.options if self.rule != "ff" else {"threshold": 2.0}  # as many units, as much goodness
            return replace(self, network="mlp:13-11-9", image=(1, 4, 4), observers=5, products="float32", options=options)
        return replace(self, network="conv:4-6M-5-7M", image=(3, 16, 16), observers=4, products="float32")


@dataclass
class Sides:
    """Both sides of a case: our circuits and plain models with the same weights, one per replica, and what they see."""

    case: Case
    circuits: list[Circuit]
    rules: list[Rule]
    models: list[PlainModel]
    moment: Moment


def both_sides(case: Case, device: torch.device, dtype: torch.dtype = torch.float32) -> Sides:
    """Return both sides of a case.

    Raises
    ------
    OptionError
        If the rule has no plain counterpart.
    """
    sides = Sides(case, [], [], [], moment_for(case, device, dtype))
    for seed in range(case.replicas):
        rule = make_rule(case.rule, **case.options)
        network = from_description(case.network, case.image, case.classes, normalisation=rule.normalisation)
        weights = Weights.draw(rule.wire(network), seed, device, dtype)
        for name in network.feedback:
            weights[name].weight.mul_(PREDICTIONS)
            weights.changed(name)
        circuit = Circuit(network, weights)
        sides.circuits.append(circuit)
        sides.rules.append(rule)
        sides.models.append(plain_model(circuit, rule))
    return sides


def moment_for(case: Case, device: torch.device, dtype: torch.dtype) -> Moment:
    """Return a moment that every rule can learn from: partners, negatives on the next row, labels, wake and sleep."""
    generator = torch.Generator().manual_seed(1)
    rows = case.observers * case.views
    size = (math.prod(case.image),) if case.kind[1] == "dense" else case.image
    row = torch.arange(rows)
    partner = (row + rows // 2) % rows
    events = (
        Fixation(torch.randn(rows, *size, generator=generator), partner),
        Saccade(partner[(row + 1) % rows][None]),
        Teaching(torch.randint(case.classes or 2, (rows,), generator=generator)),
        Phase(torch.where(row < rows // 2, 1.0, -1.0)),
    )
    return Moment(*events, observers=case.observers).to(device, dtype)


def simulations_of(
    sides: Sides,
    synapses: Callable[[], Synapses] | None = None,
    store: Store | None = None,
    recorders: Sequence[Recorder] = (),
) -> list[Simulation]:
    """Return our simulations: AdamW with a learning rate that changes nothing, unless synapses are given."""
    make = synapses or (lambda: Synapses("adamw", lr=RATE))
    products = None if sides.case.products == "float32" else sides.case.products
    return [
        Simulation(
            circuit.network,
            rule,
            make(),
            weights=circuit.weights,
            seed=seed,
            device=circuit.weights.device,
            dtype=circuit.weights.dtype,
            products=products,
            store=store,
            recorders=recorders,
        )
        for seed, (circuit, rule) in enumerate(zip(sides.circuits, sides.rules, strict=True))
    ]


def ours(sides: Sides, store: Store | None = None, recorders: Sequence[Recorder] = ()) -> Step:
    """Return our step."""
    simulations, moment = simulations_of(sides, None, store, recorders), sides.moment
    if len(simulations) == 1:
        return lambda: simulations[0].step(moment)
    joined, several = Replicas(simulations), [moment] * len(simulations)
    return lambda: joined.step(several)


def plain(sides: Sides) -> Step:
    """Return the plain step: AdamW with its defaults, except that no weights decay."""
    models, moment = list(sides.models), sides.moment
    optimisers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0) for model in models
    ]

    def step() -> None:
        for model, optimiser in zip(models, optimisers, strict=True):
            optimiser.zero_grad()
            model.loss(moment).backward()
            optimiser.step()

    return step


def disagreement(sides: Sides) -> dict[str, float]:
    """Return how far our updates are from the plain ones; the weights stay as they are.

    Returns
    -------
    dict of str to float
        "error": the largest relative error ``|ours - plain| / |plain|`` of the update of any pathway; "tolerance": what that
        may be; "active": the fraction of rows that receive credit, over all populations and replicas.
    """
    simulations = simulations_of(sides, lambda: Synapses("sgd", lr=PROBE_RATE))
    before = [
        {
            name: [p.clone() for p in one.weights[name].present]
            for name, pathway in one.network.pathways.items()
            if pathway.plastic
        }
        for one in simulations
    ]
    if len(simulations) == 1:
        simulations[0].step(sides.moment)
    else:
        Replicas(simulations).step([sides.moment] * len(simulations))
    dtype = simulations[0].dtype
    usual = TOLERANCES[dtype]
    disagreements: list[tuple[float, float]] = []
    rounded: list[float] = []
    credited: list[Tensor] = []
    for simulation, model, old in zip(simulations, sides.models, before, strict=True):
        expected, active = _watched_updates(model, sides.moment)
        credited += active
        for name, were in old.items():
            now = simulation.weights[name].present
            found = [(parameter - was) / PROBE_RATE for parameter, was in zip(now, were, strict=True)]
            error, allowed = _relative(found, expected[name]), usual
            if error > usual and dtype == torch.float32 and sides.case.products == "float32":
                exact = _plain_updates(copy.deepcopy(model).double(), sides.moment.to(simulation.device, torch.float64))
                allowed = max(usual, ROUNDING * _relative(expected[name], exact[name]))
            disagreements.append((error, allowed))
        if sides.case.products != "float32":
            with torch.autocast(simulation.device.type, getattr(torch, sides.case.products)):
                autocast = _plain_updates(model, sides.moment)
            rounded += [_relative(autocast[name], expected[name]) for name in expected]
    error, tolerance = max(disagreements, key=lambda pair: pair[0] / pair[1])
    if rounded:
        error, tolerance = max(disagreements)[0], AUTOCAST * max(rounded)
    return {"error": error, "tolerance": tolerance, "active": float(torch.cat(credited).double().mean())}


def _plain_updates(model: PlainModel, moment: Moment) -> dict[str, list[Tensor]]:
    model.loss(moment).backward()
    updates = model.updates()
    model.zero_grad()
    return updates


def _watched_updates(model: PlainModel, moment: Moment) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """Return the plain updates, and for the last response of every block which rows receive credit, (rows,)."""
    responses: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], response: Tensor) -> None:
        if response.requires_grad:
            response.retain_grad()
            responses.append(response)

    hooks = [block.register_forward_hook(keep) for block in model.blocks]
    updates = _plain_updates(model, moment)
    for hook in hooks:
        hook.remove()
    last = responses[-len(model.blocks) :]
    return updates, [z.grad.flatten(1).abs().amax(1) > 0 for z in last if z.grad is not None]


def _relative(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the norm of the difference relative to that of what is expected, over the weights and the bias of a pathway.

    Together, since the bias alone can have an update that is 0 but for rounding: where all rows are active, what a fixation
    adds to it a saccade takes away.
    """
    norm = math.sqrt(sum(float(part.norm()) ** 2 for part in expected))
    distance = math.sqrt(sum(float((a - b).norm()) ** 2 for a, b in zip(found, expected, strict=True)))
    if not math.isfinite(distance):
        return math.inf
    return distance / norm if norm else (math.inf if distance else 0.0)


def agreed(sides: Sides, where: str) -> dict[str, float]:
    """Return `disagreement`, and refuse to go on if it is larger than its tolerance.

    Raises
    ------
    Disagreement
        Names the case and where it was: "float32" or the like.
    """
    found = disagreement(sides)
    if not found["error"] <= found["tolerance"]:
        raise Disagreement(
            f"{sides.case.name} ({where}): our updates differ from those of plain autograd by {found['error']:.1e}, "
            f"expected at most {found['tolerance']:.1e}; what is not the same computation is not timed"
        )
    return found


def small_disagreement(case: Case, device: torch.device) -> float:
    """Return the error of our updates in float64 in a small network.

    Raises
    ------
    Disagreement
        If it is larger than the tolerance.
    """
    return agreed(both_sides(case.small(), device, torch.float64), "float64, small network")["error"]
