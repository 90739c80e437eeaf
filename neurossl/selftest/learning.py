"""Reference files of any rule by its name: what a few moments make of the weights.

``meta`` holds ``rule`` and ``options`` as `make_rule` takes them, ``lr`` and ``network``; arrays, for M moments of R rows:

    weight/PATHWAY, bias/PATHWAY    before the first moment, of every pathway, those that the rule adds included
    stimulus (M, R, ...)            what is seen; beside it what else happens: partner (M, R), negatives (M, K, R), moved,
                                    labels, sign, gain, saccade_gain (M, R), later (M, S, R), elsewhere (M, 2, S, R),
                                    stays (M, 2, R)
    change/PATHWAY/weight, .../bias after the last moment minus before the first, with weight += lr * update in each
    loss/POPULATION (M,)            before the update of each moment
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy import Convolution, Dense, FeedforwardPathway, InputPopulation, Network, Pooling, Population
from neurossl.engine import Parameters, Weights
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Phase, Saccade, Succession, Teaching
from neurossl.plasticity import Rule, Synapses, losses, make_rule
from neurossl.recorders import Observation, Recorder
from neurossl.selftest.files import Arrays, Inputs, UnsuitableArray
from neurossl.simulation import Simulation
from neurossl.store import Store


def learned(meta: Mapping[str, Any], inputs: Inputs) -> Arrays:
    """Return the changes of all weights, and the losses, that a simulation gives for the weights and moments of a file."""
    rule = make_rule(meta["rule"], **{name: _plain(value) for name, value in meta.get("options", {}).items()})
    network = rule.wire(network_of(meta["network"]))
    before = {name: _given(inputs, name, p.has_bias) for name, p in network.pathways.items()}
    sample = next(iter(before.values())).weight
    weights = Weights.draw(network, 0, sample.device, sample.dtype, before)
    simulation = Simulation(
        network, rule, Synapses("sgd", lr=meta["lr"]), weights=weights, device=sample.device.type, dtype=sample.dtype
    )
    listener = _Losses()
    simulation.add_recorder(listener)
    simulation.run(moments_of(inputs))
    got: Arrays = {f"loss/{name}": torch.stack(parts) for name, parts in listener.found.items()}
    for name, pathway in network.pathways.items():
        if pathway.plastic:
            got[f"change/{name}/weight"] = simulation.weights[name].weight - before[name].weight
            bias, old = simulation.weights[name].bias, before[name].bias
            if bias is not None and old is not None:
                got[f"change/{name}/bias"] = bias - old
    return got


class _Losses(Recorder):
    """Keeps the loss of every population before each update."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[Tensor]] = {}

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Take no store: what is heard is kept here."""

    def detach(self) -> None:
        """Give nothing back."""

    def before(self, now: Observation) -> None:
        """Hear what the rule says of the moment."""
        for name, loss in losses(now.rule, now.seen, now.happened, now.memory).items():
            self.found.setdefault(name, []).append(loss)


def network_of(about: Mapping[str, Any]) -> Network:
    """Return the network that a file describes; the first half of a pooling or a kernel says it all."""
    network = Network(InputPopulation(about["input"]["name"], about["input"]["neurons"]))
    for one in about["populations"]:
        pooling = one.get("pooling")
        pooled = None if pooling is None else Pooling(pooling["kind"], pooling["kernel"])
        network.add(Population(one["name"], one["neurons"], one["transfer"], pooled))
    for one in about["pathways"]:
        wiring = Dense() if one["kernel"] is None else Convolution(one["kernel"], one["stride"], one["padding"])
        options = {"normalisation": one["normalisation"], "bias": one["bias"]}
        network.add(FeedforwardPathway(one["pre"], one["post"], wiring, **options))
    return network


def moments_of(inputs: Inputs) -> list[Moment]:
    """Return the moments of a file, with the events for which it has arrays."""
    stimulus = inputs["stimulus"]
    return [Moment(*_events(inputs, number, len(stimulus[0]))) for number in range(len(stimulus))]


def _events(inputs: Inputs, number: int, rows: int) -> list[Event]:
    def of(name: str) -> Tensor | None:
        given = inputs.arrays.get(name)
        if given is not None and (given.ndim < 2 or given.shape[-1] != rows or len(given) <= number):
            raise UnsuitableArray(f"array {name!r} has shape {tuple(given.shape)}, not (moments, ..., {rows})")
        return None if given is None else given[number]

    partner, negatives, moved, labels, sign = map(of, ("partner", "negatives", "moved", "labels", "sign"))
    gain, saccade_gain, later, elsewhere, stays = map(of, ("gain", "saccade_gain", "later", "elsewhere", "stays"))
    events: list[Event] = [Fixation(inputs["stimulus"][number], partner)]
    if negatives is not None:
        events.append(Saccade(negatives))
    if moved is not None and bool(moved.any()):
        events.append(Saccade(observers=moved.bool()))
    if labels is not None:
        events.append(Teaching(labels))
    if sign is not None:
        events.append(Phase(sign))
    if gain is not None:
        events.append(Neuromodulation(gain, saccade_gain))
    if later is not None:
        events.append(Succession(later, elsewhere, None if stays is None else stays.bool()))
    return events


def _given(inputs: Inputs, pathway: str, has_bias: bool) -> Parameters:
    """Return the weights of a pathway before the first moment."""
    bias = inputs[f"bias/{pathway}"].clone() if has_bias else None
    return Parameters(inputs[f"weight/{pathway}"].clone(), bias)


def _plain(value: Any) -> Any:
    """Return an option as rules take it: JSON knows no tuples."""
    return tuple(value) if isinstance(value, list) else value
