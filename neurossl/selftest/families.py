"""Reference files with a layout of their own, as other projects write them: gradients of one moment, by layer.

clapp, clapp++, dfa, fa, pc and ff; what each array is, and the conventions, say the functions below.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy import Convolution, FeedforwardPathway, InputPopulation, Network, Pooling, Population
from neurossl.dynamics import Circuit
from neurossl.engine import Parameters, Update, Weights
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    Goodness,
    Local,
    Objective,
    PredictiveCoding,
    Rule,
    Scope,
    Site,
    SquaredError,
    losses,
    propose,
    settle,
)
from neurossl.selftest.files import Arrays, Inputs

Updates = dict[str, Update]


def _dense_network(meta: dict[str, Any], inputs: Inputs, normalisation: str | None = None) -> Network:
    dims, transfers = meta["dims"], meta["transfer"]
    network = Network(InputPopulation("V0", dims[0]), name=inputs.file)
    for layer, (units, transfer) in enumerate(zip(dims[1:], transfers, strict=True)):
        network.add(Population(f"V{layer + 1}", units, transfer))
        network.add(FeedforwardPathway(f"V{layer}", f"V{layer + 1}", normalisation=normalisation))
    return network


def _circuit(network: Network, inputs: Inputs, given: Mapping[str, str], prefix: str = "layer") -> Circuit:
    """Return the network with the weights of a file: those of its layers, and further arrays by name of the pathway."""
    weights = {}
    for layer in range(len(network.order)):
        names = (f"{prefix}{layer}_weight", f"{prefix}{layer}_bias")
        weights[f"V{layer}->V{layer + 1}"] = Parameters(*(inputs[name] for name in names))
    weights |= {pathway: Parameters(inputs[array]) for pathway, array in given.items()}
    sample = next(iter(weights.values())).weight
    return Circuit(network, Weights.draw(network, 0, sample.device, sample.dtype, weights))


def _gradients(
    rule: Rule, settled: Any, circuit: Circuit, moment: Moment, prefix: str, ending: str
) -> tuple[Arrays, Updates]:
    """Return the gradients of the feedforward weights by array name, and all updates by pathway name."""
    updates = dict(propose(rule, settled, moment))
    arrays = {}
    for layer in range(len(circuit.network.order)):
        update = updates[f"V{layer}->V{layer + 1}"]
        assert update.bias is not None, "reference networks have biases"
        arrays[f"{prefix}{layer}_weight{ending}"] = -update.weight
        arrays[f"{prefix}{layer}_bias{ending}"] = -update.bias
    return arrays, updates


def _contrastive_moment(stimulus: Tensor, inputs: Inputs, negatives: int | None) -> Moment:
    """Return both views as one moment; a negative index counts target rows ``[view 2; view 1]``."""
    rows = len(stimulus)
    partner = (torch.arange(rows, device=stimulus.device) + rows // 2) % rows
    index = inputs.shaped("negative_index", None if negatives is None else negatives * rows)
    return Moment(Fixation(stimulus, partner), Saccade(partner[index.reshape(-1, rows)]), observers=rows // 2)


def _contrastive_arrays(
    objective: Contrastive, network: Network, moment: Moment, inputs: Inputs, prefix: str, families: bool
) -> Arrays:
    """Return what the local rule and backprop give for the weights of a file."""
    # What the files call backprop is that of the first score of the top alone.
    first = Contrastive(objective.contrast, objective.context, objective.pools, False, objective.steepness)
    rule, reference = Local(objective), Backprop(first)
    rule.wire(network)
    named: dict[str, str] = {}
    pathways = [objective.pathway_names(name, network.top) for name in network.order]
    for layer, names in enumerate(pathways):
        for family, name in enumerate(names):
            named[name] = f"prediction{family}_{layer}" if families else f"prediction{layer}"
    circuit = _circuit(network, inputs, {name: f"{array}_weight" for name, array in named.items()}, prefix)
    activity = circuit.sweep(moment.require(Fixation, by="self-test").stimulus)
    got, updates = _gradients(rule, activity, circuit, moment, prefix, "_grad")
    got |= {f"{array}_weight_grad": -updates[name].weight for name, array in named.items()}
    scope = Scope(activity, rule)
    parts = [objective.credit(Site(scope, name), moment).losses for name in network.order]
    found = [torch.stack([of[name] for name in names]) for of, names in zip(parts, pathways, strict=True)]
    got["losses"] = torch.stack(found, 1) if families else torch.stack(found, 1)[0]
    got |= _gradients(reference, activity, circuit, moment, prefix, "_backprop_grad")[0]
    if families:
        got |= {f"activity{layer}": activity[name] for layer, name in enumerate(network.order)}
    return got


def _clapp(meta: dict[str, Any], inputs: Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    objective = Contrastive(meta["contrast"], meta["context"], steepness=meta.get("phyll_theta", 1.0))
    moment = _contrastive_moment(inputs.shaped("inputs", None, meta["dims"][0]), inputs, meta.get("negatives"))
    return _contrastive_arrays(objective, network, moment, inputs, "layer", families=False)


def _clapp_plus_plus(meta: dict[str, Any], inputs: Inputs) -> Arrays:
    images = inputs["images"]
    network = Network(InputPopulation("V0", images.shape[1:]), name=inputs.file)
    for layer, (channels, is_pooled) in enumerate(meta["blocks"]):
        below = network.populations[f"V{layer}"].shape
        pooling = Pooling("max", 2) if is_pooled else None
        network.add(Population(f"V{layer + 1}", (channels, *below[1:]), "relu", pooling))
        network.add(FeedforwardPathway(f"V{layer}", f"V{layer + 1}", Convolution(3, 1, 1)))
    layers = range(1, len(network.order) + 1)
    pools = [kernel or "global" for kernel in meta["loss_pool"] or [None for _ in layers]]
    pool = dict(zip(network.order, pools, strict=True))
    context: str | dict[str, str] = "lateral"
    if meta["context_layer"] is not None:
        sources = zip(layers, meta["context_layer"], strict=True)
        context = {f"V{layer}": f"V{source or layer}" for layer, source in sources}
    objective = Contrastive(meta["contrast"], context, pool, meta.get("both", False), meta.get("phyll_theta", 1.0))
    moment = _contrastive_moment(images, inputs, meta["negatives"])
    return _contrastive_arrays(objective, network, moment, inputs, "conv", families=True)


def _supervised(meta: dict[str, Any]) -> Objective:
    return {"cross_entropy": CrossEntropy, "squared_error": SquaredError}[meta["objective"]]()


def _alignment(meta: dict[str, Any], inputs: Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    direct = meta["rule"] == "dfa"
    objective = _supervised(meta)
    rule: Rule = DirectFeedbackAlignment(objective) if direct else FeedbackAlignment(objective)
    rule.wire(network)
    sources = [network.top if direct else above for above in network.order[1:]]
    names = [f"{source}=>{name}" for source, name in zip(sources, network.order[:-1], strict=True)]
    circuit = _circuit(network, inputs, {name: f"feedback{layer}_weight" for layer, name in enumerate(names)})
    stimulus = inputs.shaped("inputs", None, meta["dims"][0])
    moment = Moment(Fixation(stimulus), Teaching(inputs.shaped("labels", len(stimulus))))
    activity = circuit.sweep(stimulus)
    got = _gradients(rule, activity, circuit, moment, "layer", "_grad")[0]
    got |= _gradients(Backprop(objective), activity, circuit, moment, "layer", "_backprop_grad")[0]
    return got | {"loss": losses(rule, activity, moment)[network.top]}


def _predictive_coding(meta: dict[str, Any], inputs: Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    circuit = _circuit(network, inputs, {})
    objective = SquaredError()
    rule = PredictiveCoding(objective, steps=meta["steps"], rate=meta["rate"])
    stimulus = inputs.shaped("inputs", None, meta["dims"][0])
    moment = Moment(Fixation(stimulus), Teaching(inputs.shaped("labels", len(stimulus))))
    activity = circuit.sweep(stimulus)
    (settled,) = settle(rule, activity, moment, is_watched=True)
    got = _gradients(rule, settled, circuit, moment, "layer", "_grad")[0]
    got |= _gradients(Backprop(objective), activity, circuit, moment, "layer", "_backprop_grad")[0]
    found = settled._activity
    values = {name: found.output[name] + found.errors[name] for name in network.order}
    return got | {f"value{i}": values[n] for i, n in enumerate(network.order, 1)} | {"energy": found.notes["energy"]}


def _forward_forward(meta: dict[str, Any], inputs: Inputs) -> Arrays:
    network = _dense_network(meta, inputs, normalisation="length")
    circuit = _circuit(network, inputs, {})
    positive = inputs.shaped("positive", None, meta["dims"][0])
    negative = inputs.shaped("negative", *positive.shape)
    stimulus = torch.cat([positive, negative])
    sign = torch.cat([torch.ones(len(positive)), -torch.ones(len(negative))]).to(stimulus)
    threshold = meta.get("threshold")
    rule = Local(Goodness(threshold if isinstance(threshold, int | float) else None))
    moment = Moment(Fixation(stimulus), Phase(sign))
    activity = circuit.sweep(stimulus)
    got = _gradients(rule, activity, circuit, moment, "layer", "_grad")[0]
    return got | {"losses": torch.stack(list(losses(rule, activity, moment).values()))}


FAMILIES: dict[str, Callable[[dict[str, Any], Inputs], Arrays]] = {
    "clapp": _clapp,
    "clapp++": _clapp_plus_plus,
    "dfa": _alignment,
    "fa": _alignment,
    "pc": _predictive_coding,
    "ff": _forward_forward,
}
