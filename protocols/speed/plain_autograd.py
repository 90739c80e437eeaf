"""What the engine is compared with: the same mathematics in plain, idiomatic PyTorch with autograd.

``nn.Module`` blocks, one loss per layer with ``detach()`` between layers where the rule is local, one ``loss.backward()``,
``torch.optim.AdamW`` with its defaults. Nothing of neurossl's arithmetic is used; a plain model takes over the weights of a
network, so that both sides can be asked for their updates on the same weights and the same moment.

CLAPP++ and BP-CLAPP++ after github.com/zihan-wu/local-SSL (arXiv 2601.21683), predictive coding as energy descent after
Torch2PC (Rosenbaum 2022) and jpc, forward-forward after github.com/loeweX/Forward-Forward.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurossl.anatomy.connectivity import Convolution
from neurossl.anatomy.feedback import FeedbackPathway, Pool
from neurossl.anatomy.pathways import Pathway
from neurossl.dynamics.circuit import Circuit
from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    Goodness,
    Local,
    PredictiveCoding,
    Rule,
    SquaredError,
)


class PlainModel(nn.Module, ABC):
    """The blocks of a chain of populations, with its weights: convolution or linear, ReLU, max-pooling.

    Parameters
    ----------
    circuit : Circuit
        A chain, initialised.

    Attributes
    ----------
    blocks : nn.ModuleList
        One per population above the input, in the order of the sweep.
    synapses : dict of str to nn.Module
        The module that holds the weights of each pathway.
    """

    def __init__(self, circuit: Circuit) -> None:
        super().__init__()
        self.synapses: dict[str, nn.Conv2d | nn.Linear] = {}
        self.blocks = nn.ModuleList(self._block(circuit, name) for name in circuit.network.order)

    def _block(self, circuit: Circuit, name: str) -> nn.Sequential:
        population = circuit.network.populations[name]
        (pathway,) = circuit.network.incoming(name)
        layers: list[nn.Module] = []
        if isinstance(pathway.connectivity, Convolution):
            post, pre, kernel, _ = pathway.weight_shape
            wiring = pathway.connectivity
            layer: nn.Conv2d | nn.Linear = nn.Conv2d(pre, post, kernel, wiring.stride, wiring.padding)
        else:
            layers.append(nn.Flatten())
            layer = nn.Linear(pathway.weight_shape[1], pathway.weight_shape[0])
        self.synapses[pathway.name] = _with_weights(layer, circuit, pathway)
        layers.append(layer)
        if population.transfer.name == "relu":
            layers.append(nn.ReLU(inplace=True))
        if population.pooling is not None:
            layers.append(nn.MaxPool2d(population.pooling.kernel, population.pooling.step))
        return nn.Sequential(*layers)

    @abstractmethod
    def loss(self, moment: Moment) -> Tensor:
        """Return the loss of a moment, to be differentiated with respect to all parameters at once."""

    def updates(self) -> dict[str, list[Tensor]]:
        """Return minus the gradients after ``loss(...).backward()``, by pathway: weight and, where there is one, bias."""
        found = {name: [-p.grad for p in m.parameters() if p.grad is not None] for name, m in self.synapses.items()}
        return {name: update for name, update in found.items() if update}


def _with_weights(layer: nn.Conv2d | nn.Linear, circuit: Circuit, pathway: Pathway) -> nn.Conv2d | nn.Linear:
    """Return the layer with a copy of the weights of a pathway, on its device and in its number type."""
    weight, bias = circuit.weights[pathway.name]
    layer.to(weight.device, weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(pathway.plastic)


def _pooling(pool: Pool) -> nn.Sequential:
    """Return the pooling of a score, flattened."""
    if pool is None or pool == 1:
        return nn.Sequential(nn.Flatten())
    return nn.Sequential(nn.AdaptiveAvgPool2d(1) if pool == "global" else nn.AvgPool2d(int(pool)), nn.Flatten())


def contrast(z: Tensor, prediction: Tensor, moment: Moment) -> Tensor:
    """Return CLAPP's hinge loss of pooled responses and the predictions of them, both (rows, values)."""
    partner = moment.require(Fixation, by="contrast").partner
    negatives = moment.require(Saccade, by="contrast").negatives
    assert partner is not None, "a batched moment"
    assert negatives is not None, "a batched moment"
    u_fixation = (z[partner] * prediction).sum(1)
    u_saccade = (z[negatives.flatten()] * prediction).sum(1)
    return F.relu(1 - u_fixation).mean() + F.relu(1 + u_saccade).mean()


class PlainContrast(PlainModel):
    """Base of the models with CLAPP's score: pooling and a prediction matrix B at some populations.

    Parameters
    ----------
    circuit : Circuit
    scores : iterable of str
        The prediction pathways ``source=>target``, one per scored population.
    """

    def __init__(self, circuit: Circuit, scores: Iterable[str]) -> None:
        super().__init__(circuit)
        pathways = [p for name in scores if isinstance(p := circuit.network.pathways[name], FeedbackPathway)]
        self.pools = nn.ModuleList(_pooling(p.target_pool) for p in pathways)
        self.predictions = nn.ModuleList(self._linear(circuit, p) for p in pathways)

    def _linear(self, circuit: Circuit, pathway: Pathway) -> nn.Module:
        post, pre = pathway.weight_shape
        self.synapses[pathway.name] = _with_weights(nn.Linear(pre, post, bias=False), circuit, pathway)
        return self.synapses[pathway.name]


class PlainClapp(PlainContrast):
    """CLAPP++: a loss at every layer; the context is the layer's own response, or that of the top (DFB).

    Parameters
    ----------
    circuit : Circuit
    context : {"lateral", "top"}
    """

    def __init__(self, circuit: Circuit, context: str) -> None:
        network = circuit.network
        sources = {name: name if context == "lateral" else network.top for name in network.order}
        super().__init__(circuit, [f"{source}=>{name}" for name, source in sources.items()])
        self.context = context

    def loss(self, moment: Moment) -> Tensor:
        """Return the sum of the losses of all layers; nothing flows between layers, nor into a context."""
        h = moment.require(Fixation, by="PlainClapp").stimulus
        responses = []
        for block, pool in zip(self.blocks, self.pools, strict=True):
            h = block(h.detach())
            responses.append(pool(h))
        contexts = responses if self.context == "lateral" else [responses[-1]] * len(responses)
        losses = [
            contrast(z, predict(c.detach()), moment)
            for z, c, predict in zip(responses, contexts, self.predictions, strict=True)
        ]
        return torch.stack(losses).sum()


class PlainBackpropClapp(PlainContrast):
    """BP-CLAPP++: the loss at the top alone, gradients through all layers, context detached."""

    def __init__(self, circuit: Circuit) -> None:
        network = circuit.network
        super().__init__(circuit, [f"{network.top}=>{network.top}"])

    def loss(self, moment: Moment) -> Tensor:
        """Return the loss at the top."""
        h = moment.require(Fixation, by="PlainBackpropClapp").stimulus
        for block in self.blocks:
            h = block(h)
        z = self.pools[0](h)
        return contrast(z, self.predictions[0](z.detach()), moment)


class PlainDirectFeedback(PlainContrast):
    """DFA of the contrastive loss at the top: its gradient there, through fixed random matrices to every layer below."""

    def __init__(self, circuit: Circuit) -> None:
        network = circuit.network
        super().__init__(circuit, [f"{network.top}=>{network.top}"])
        self.feedback = nn.ModuleList(
            self._linear(circuit, network.pathways[f"{network.top}=>{name}"])
            for name in network.order
            if name != network.top
        )

    def loss(self, moment: Moment) -> Tensor:
        """Return the loss at the top plus, per layer below, a surrogate whose gradient there is the error fed back."""
        h = moment.require(Fixation, by="PlainDirectFeedback").stimulus
        responses = []
        for block in self.blocks:
            h = block(h.detach())
            responses.append(h)
        z = self.pools[0](h)
        loss = contrast(z, self.predictions[0](z.detach()), moment)
        (error,) = torch.autograd.grad(loss, z, retain_graph=True)
        surrogates = [
            (response.flatten(1) * feedback(error)).sum()
            for response, feedback in zip(responses[:-1], self.feedback, strict=True)
        ]
        return loss + torch.stack(surrogates).sum()


class PlainSupervised(PlainModel):
    """Supervised backprop with cross-entropy or squared error at the readout."""

    def __init__(self, circuit: Circuit, squared_error: bool) -> None:
        super().__init__(circuit)
        self.squared_error = squared_error

    def loss(self, moment: Moment) -> Tensor:
        """Return the mean loss over rows."""
        h = moment.require(Fixation, by="PlainSupervised").stimulus
        labels = moment.require(Teaching, by="PlainSupervised").labels
        for block in self.blocks:
            h = block(h)
        if self.squared_error:
            return half_squared_error(h, F.one_hot(labels, h.shape[1]).to(h.dtype)).mean()
        return F.cross_entropy(h, labels)


def half_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return half the squared distance of every row, (rows,)."""
    return (output - target).square().sum(1) / 2


class PlainPredictiveCoding(PlainModel):
    """Predictive coding: the values of the hidden layers descend the energy, then the weights do, both by autograd.

    Parameters
    ----------
    circuit : Circuit
    steps : int
        Settling steps.
    rate : float
        Of settling.
    """

    def __init__(self, circuit: Circuit, steps: int, rate: float) -> None:
        super().__init__(circuit)
        self.steps = steps
        self.rate = rate

    def energy(self, stimulus: Tensor, values: list[Tensor], target: Tensor) -> Tensor:
        """Return half the squared prediction errors of every row, summed over layers, (rows,)."""
        below = [stimulus, *values]
        above = [*values, target]
        errors = [half_squared_error(block(x), v) for block, x, v in zip(self.blocks, below, above, strict=True)]
        return torch.stack(errors).sum(0)

    def loss(self, moment: Moment) -> Tensor:
        """Let the values settle and return the mean energy, to be differentiated with respect to the weights."""
        stimulus = moment.require(Fixation, by="PlainPredictiveCoding").stimulus.flatten(1)
        labels = moment.require(Teaching, by="PlainPredictiveCoding").labels
        values = []
        with torch.no_grad():
            h = stimulus
            for block in self.blocks:
                h = block(h)
                values.append(h)
        target = F.one_hot(labels, values.pop().shape[1]).to(stimulus.dtype)
        for value in values:
            value.requires_grad_()
        optimiser = torch.optim.SGD(values, lr=self.rate)
        for _ in range(self.steps):
            slopes = torch.autograd.grad(self.energy(stimulus, values, target).sum(), values)
            for value, slope in zip(values, slopes, strict=True):
                value.grad = slope
            optimiser.step()
        return self.energy(stimulus, [v.detach() for v in values], target).mean()


class PlainForwardForward(PlainModel):
    """Forward-forward: high goodness awake, low asleep, per layer; each layer sees the length-normalised one below.

    Parameters
    ----------
    circuit : Circuit
    threshold : float or None
        Of the goodness; the number of units by default.
    """

    def __init__(self, circuit: Circuit, threshold: float | None) -> None:
        super().__init__(circuit)
        self.threshold = threshold

    def loss(self, moment: Moment) -> Tensor:
        """Return the sum of the losses of all layers."""
        h = moment.require(Fixation, by="PlainForwardForward").stimulus.flatten(1)
        awake = (moment.require(Phase, by="PlainForwardForward").sign > 0).to(h.dtype)
        losses = []
        for block in self.blocks:
            x = h.detach()
            h = block(x / (x.square().mean(1, keepdim=True).sqrt() + 1e-8))
            threshold = h.shape[1] if self.threshold is None else self.threshold
            losses.append(F.binary_cross_entropy_with_logits(h.square().sum(1) - threshold, awake))
        return torch.stack(losses).sum()


def plain_model(circuit: Circuit, rule: Rule) -> PlainModel:
    """Return the plain model that does what a rule does in a network, with the network's weights.

    Parameters
    ----------
    circuit : Circuit
        A chain of relu populations, wired for the rule and initialised.
    rule : Rule

    Raises
    ------
    OptionError
        If there is no plain model of the rule.
    """
    objective = getattr(rule, "objective", None)
    if isinstance(objective, Contrastive) and objective.contrast == "hinge" and not objective.lateral_too:
        if isinstance(rule, Local) and isinstance(objective.context, str):
            return PlainClapp(circuit, objective.context)
        if isinstance(rule, Backprop):
            return PlainBackpropClapp(circuit)
        if isinstance(rule, DirectFeedbackAlignment) and rule.target_pool is None:
            return PlainDirectFeedback(circuit)
    if isinstance(rule, Backprop) and isinstance(objective, CrossEntropy | SquaredError):
        return PlainSupervised(circuit, isinstance(objective, SquaredError))
    if isinstance(rule, PredictiveCoding) and isinstance(objective, SquaredError) and rule.schedule == "standard":
        return PlainPredictiveCoding(circuit, rule.steps, rule.rate)
    if isinstance(rule, Local) and isinstance(objective, Goodness) and not objective.paired:
        return PlainForwardForward(circuit, objective.threshold)
    raise OptionError(f"rule {rule.name!r} has no plain autograd counterpart to be compared with")
