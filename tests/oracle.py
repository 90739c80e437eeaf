"""The oracle of rules: autograd of their losses, written independently of the project."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from conftest import dense_circuit, drawn, map_circuit, stimulus_of, wired
from torch import Tensor

from neurossl import Circuit, Convolution, FeedforwardPathway, InputPopulation, Mixing, Moment, Network, Population
from neurossl.events import Fixation, Saccade
from neurossl.plasticity import RULES, Rule, propose, settle

TRANSFER = {
    "relu": torch.relu,
    "linear": lambda a: a,
    "tanh": torch.tanh,
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "triangle": lambda a: torch.relu(a - a.mean(1, keepdim=True)),
}


def softplus(u: Tensor) -> Tensor:
    """torch's own softplus cuts off beyond 20."""
    return torch.logaddexp(u, torch.zeros_like(u))


def skip_circuit(seed: int = 0, classes: int = 4, **options: Any) -> Circuit:
    """Return a network with skip pathways: V1 also drives V3, V2 also drives the readout."""
    network = Network(InputPopulation("retina", 12), name="skips")
    for name, units in (("V1", 8), ("V2", 8), ("V3", 6)):
        network.add(Population(name, units, "tanh"))
    network.add(Population("readout", classes, "linear"))
    for pre, post in (("retina", "V1"), ("V1", "V2"), ("V2", "V3"), ("V1", "V3"), ("V3", "readout"), ("V2", "readout")):
        network.add(FeedforwardPathway(pre, post, **options))
    return drawn(network, seed)


class Autograd:
    """The same circuit in plain torch with autograd: weights that require gradients, layer by layer."""

    def __init__(self, circuit: Circuit) -> None:
        self.network = circuit.network
        self.weights = {name: [p.clone().requires_grad_() for p in held.present] for name, held in circuit.weights.items()}

    def sweep(self, stimulus: Tensor, detach: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return activities and drives; ``detach`` cuts the graph between populations."""
        z = {self.network.input.name: stimulus}
        drives = {}
        for name in self.network.order:
            total = torch.zeros(())
            for pathway in self.network.feedforward.values():
                if pathway.post != name:
                    continue
                x = z[pathway.pre].detach() if detach else z[pathway.pre]
                if pathway.normalisation == "length":
                    x = x / (x.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (x.ndim - 1)) + 1e-8)
                elif pathway.normalisation == "standard":
                    axes = tuple(range(1, x.ndim))
                    x = x - x.mean(axes, keepdim=True)
                    x = x / (x.square().mean(axes, keepdim=True).sqrt() + 1e-8)
                elif pathway.normalisation == "doubled":
                    halves = x.chunk(2, 1)
                    axes = tuple(range(1, x.ndim))
                    halves = [half - half.mean(axes, keepdim=True) for half in halves]
                    x = sum(half / (half.square().mean(axes, keepdim=True).sqrt() + 1e-8) for half in halves)
                weight, bias = (*self.weights[pathway.name], None)[:2]
                assert weight is not None
                if isinstance(pathway.connectivity, Convolution):
                    c = pathway.connectivity
                    padding = c.padding
                    if c.padding_mode == "reflect":
                        assert isinstance(padding, int)
                        x, padding = F.pad(x, [padding] * 4, mode="reflect"), 0
                    part = F.conv2d(x, weight, bias, c.stride, padding)
                elif isinstance(pathway.connectivity, Mixing):
                    part = torch.einsum("pq,rcq->rcp", weight, x.flatten(2)).view(-1, *pathway.post_neurons)
                    part = part if bias is None else part + bias.view(pathway.post_neurons[1:])
                else:
                    part = F.linear(x.flatten(1), weight, bias)
                total = total + part
            drives[name] = total
            population = self.network.populations[name]
            response = TRANSFER[population.transfer.name](total)
            if population.pooling is not None:
                pool = F.max_pool2d if population.pooling.kind == "max" else F.avg_pool2d
                response = pool(response, population.pooling.kernel, population.pooling.stride, population.pooling.padding)
            z[name] = response
        return z, drives

    def gradients(self, loss: Tensor) -> dict[str, list[Tensor]]:
        """Return minus the gradient of a loss with respect to all weights that it depends on."""
        names = [(name, i) for name, ws in self.weights.items() for i in range(len(ws))]
        flat = [self.weights[name][i] for name, i in names]
        found = torch.autograd.grad(loss, flat, allow_unused=True)
        result: dict[str, list[Tensor]] = {}
        for (name, _), gradient in zip(names, found, strict=True):
            if gradient is not None:
                result.setdefault(name, []).append(-gradient)
        return result


def pool(activity: Tensor, kernel: Any) -> Tensor:
    if activity.ndim == 2 or kernel is None:
        return activity.flatten(1)
    return activity.mean((2, 3)) if kernel == "global" else F.avg_pool2d(activity, kernel).flatten(1)


def contrastive_loss(
    z: Tensor, context: Tensor, weight: Tensor, moment: Moment, contrast: str, pools: tuple[Any, Any], theta: float = 1.0
) -> Tensor:
    """Return CLAPP's loss from its definition, one row and one negative at a time."""
    partner, jumps = moment.require(Fixation, "test").partner, moment.require(Saccade, "test").negatives
    response, source = pool(z, pools[1]), pool(context, pools[0]).detach()
    f = {
        "hinge": lambda u: torch.relu(1 - u),
        "softplus": lambda u: torch.logaddexp(1 - u, torch.zeros_like(u)),
        "linear": lambda u: -u,
    }
    losses = []
    for row in range(len(z)):
        prediction = weight @ source[row]
        positive = response[partner[row]] @ prediction
        negatives = torch.stack([response[jumps[k, row]] @ prediction for k in range(len(jumps))])
        if contrast == "phyll":
            excess = theta * (negatives.mean() - positive)
            losses.append(torch.logaddexp(excess, torch.zeros_like(excess)))
        else:
            losses.append(f[contrast](positive) + torch.stack([f[contrast](-u) for u in negatives]).mean())
    return torch.stack(losses).mean()


def proposals(rule: Rule, circuit: Circuit, moment: Moment) -> dict[str, list[Tensor]]:
    """Return what a rule proposes, biases included."""
    activity = wired(rule, circuit).sweep(stimulus_of(moment))
    found: dict[str, list[Tensor]] = {}
    for scope in settle(rule, activity, moment):
        found = {name: list(update.parts) for name, update in propose(rule, scope, moment)}
    return found


def assert_close(
    got: dict[str, list[Tensor]], want: dict[str, list[Tensor]], names: list[str], bound: float = 1e-10
) -> None:
    """Assert equality relative to the largest entry of each array."""
    assert names
    for name in names:
        assert len(got[name]) == len(want[name]), name
        for a, b in zip(got[name], want[name], strict=True):
            scale = max(float(b.abs().max()), 1e-12)
            assert float((a - b).abs().max()) <= bound * max(scale, 1e-3), (name, float((a - b).abs().max()), scale)


CIRCUITS: dict[str, Callable[..., Circuit]] = {
    "dense": lambda **options: dense_circuit(None, **options),
    "convolution": map_circuit,
    "skips": skip_circuit,
}


def every_rule() -> list[str]:
    return [name for name, factory in RULES.items() if factory.__module__.startswith("neurossl.")]


def circuit_for(rule: Rule) -> Circuit:
    return map_circuit(4 if "target" in rule.needs else None, normalisation=rule.normalisation)
