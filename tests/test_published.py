"""CLAPP++, its variants and its references against the published training loop, in plain torch with autograd."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import drawn, simulated, stimulus_of, wired
from torch import Tensor

from neurossl import Circuit, Weights, from_description, vgg6
from neurossl.events import Moment, Neuromodulation, Saccade
from neurossl.plasticity import PUBLISHED_SYNAPSES, RULES, InfoNCE, Synapses, make_rule
from neurossl.stimuli import ViewPairs, Views

POOLS = [4, 4, 4, 2, 2, 1]
"""Published for 32 pixels."""


class PublishedLoop:
    """Six blocks, one B per block, one AdamW over everything; views stacked as the released code stacks them."""

    def __init__(self, circuit: Circuit, pools: list[int], contexts: list[tuple[str, int | None]], end_to_end: bool) -> None:
        network, weights = circuit.network, circuit.weights
        first = [network.incoming(name)[0].name for name in network.order]
        self.blocks = [[p.clone().requires_grad_() for p in weights[name].present] for name in first]
        self.pooled = [network.populations[name].pooling is not None for name in network.order]
        self.pools, self.contexts, self.end_to_end = pools, contexts, end_to_end
        self.predictions = {
            name: held.weight.clone().requires_grad_() for name, held in weights.items() if name in dict(contexts)
        }
        parameters = [p for block in self.blocks for p in block] + list(self.predictions.values())
        self.optimiser = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the map of every block; gradients stay inside a block unless it is trained end to end."""
        maps = []
        for (weight, bias), is_pooled in zip(self.blocks, self.pooled, strict=True):
            x = F.relu(F.conv2d(x if self.end_to_end else x.detach(), weight, bias, padding=1))
            x = F.max_pool2d(x, 2) if is_pooled else x
            maps.append(x)
        return maps

    def loss(self, view1: Tensor, view2: Tensor, index: Tensor, coin: Tensor | None) -> Tensor:
        """Return the sum of the losses of all blocks."""
        maps = [m.chunk(2) for m in self.encode(torch.cat([view1, view2]))]
        total = torch.zeros(())
        for name, source in self.contexts:
            layer = int(name.partition("=>")[2][1:2]) - 1

            def code(maps: tuple[Tensor, ...], block: int, order: tuple[int, int]) -> Tensor:
                return torch.cat([F.avg_pool2d(maps[i], self.pools[block]).flatten(1) for i in order])

            z = code(maps[layer], layer, (1, 0))
            above = layer if source is None else source
            prediction = F.linear(code(maps[above], above, (0, 1)).detach(), self.predictions[name])
            positive = F.relu(1 - (z * prediction).sum(1))
            negative = F.relu(1 + (z[index] * prediction).sum(1))
            total = total + ((positive + negative) if coin is None else torch.where(coin, positive, negative)).mean()
        return total

    def step(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def lateral() -> list[tuple[str, int | None]]:
    return [(f"V{k}=>V{k}", None) for k in range(1, 7)]


def direct() -> list[tuple[str, int | None]]:
    return [(f"V6=>V{k}", 5) for k in range(1, 7)]


WHOLE = [32, 16, 16, 8, 4, 2]
VARIANTS: dict[str, tuple[list[int], Callable[[], list[tuple[str, int | None]]], bool]] = {
    "clapp++": (POOLS, lateral, False),
    "clapp++dfb": (POOLS, direct, False),
    "clapp++both": (POOLS, lambda: direct() + lateral()[:5] + [("V6=>V6:lateral", None)], False),
    "clapp++gap": (WHOLE, lateral, False),
    "bp-clapp++": (WHOLE, lambda: lateral()[5:], True),
    "bp-clapp++spatial": (POOLS, lambda: lateral()[5:], True),
}


def small(seed: int = 2) -> Circuit:
    """Return the six-layer network with 4 to 32 channels, in float64."""
    return drawn(vgg6((3, 32, 32), width=1 / 32), seed)


def stream(**options: Any) -> ViewPairs:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 32, 32), generator=generator, dtype=torch.uint8)
    views = Views(32, crop_scale=(0.25, 1.0), flip=0.5, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ViewPairs(images, torch.zeros(12, dtype=torch.int64), views, observers=4, moments=4, seed=1, **options)


def views_of(moments: ViewPairs) -> Iterator[tuple[Moment, Tensor, Tensor]]:
    for moment in moments:
        yield moment, *stimulus_of(moment).double().chunk(2)


def assert_learned(weights: Weights, loop: PublishedLoop, before: Weights) -> None:
    """Assert that all weights have become those of the loop, and none is what it was."""
    for name, block in zip(weights.network.order, loop.blocks, strict=True):
        (pathway,) = weights.network.incoming(name)
        for ours, theirs in zip(weights[pathway.name].present, block, strict=True):
            assert torch.allclose(ours, theirs.detach(), rtol=0, atol=1e-10), name
        assert float((weights[pathway.name].weight - before[pathway.name].weight).abs().max()) > 1e-4
    for name, weight in loop.predictions.items():
        assert torch.allclose(weights[name].weight, weight.detach(), rtol=0, atol=1e-10), name


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("negatives", ["next", "random"])
@pytest.mark.parametrize("transitions", ["both", "either"])
def test_clapp_plus_plus_is_the_published_loop(name: str, negatives: str, transitions: str) -> None:
    pools, contexts, end_to_end = VARIANTS[name]
    moments = stream(sampling=negatives, transitions=transitions)
    rule = make_rule(name)
    circuit = wired(rule, small(), 2)
    loop = PublishedLoop(circuit, pools, contexts(), end_to_end)
    assert set(circuit.network.feedback) == set(loop.predictions)
    simulation = simulated(circuit, rule, Synapses(**PUBLISHED_SYNAPSES), seed=1).run(moments)
    target_rows = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3])  # the list [view 2; view 1]
    for moment, view1, view2 in views_of(moments):
        index = (torch.arange(8) + 1) % 8
        if negatives == "random":
            index = target_rows[moment.require(Saccade, "test").negatives[0]]
        coin = moment.require(Neuromodulation, "test").gain.bool() if transitions == "either" else None
        loop.step(loop.loss(view1, view2, index, coin))
    assert_learned(simulation.weights, loop, small().weights)


@pytest.mark.parametrize("projection", [None, 24])
def test_bp_infonce_is_the_published_loop(projection: int | None) -> None:
    """One linear projection for both views, cosine over 0.1, one direction, both sides with gradient."""
    moments = stream()
    rule = make_rule("bp-infonce", projection=projection)
    circuit = wired(rule, small(), 2)
    name = "V6=>V6:projection"
    assert circuit.network.pathways[name].weight_shape == (projection or 32, 32)
    loop = PublishedLoop(circuit, WHOLE, [(name, None)], end_to_end=True)
    simulation = simulated(circuit, rule, Synapses(**PUBLISHED_SYNAPSES), seed=1).run(moments)
    for _, view1, view2 in views_of(moments):
        top = loop.encode(torch.cat([view1, view2]))[-1].mean((2, 3))
        one, two = F.normalize(F.linear(top, loop.predictions[name])).chunk(2)
        loop.step(F.cross_entropy(one @ two.T / 0.1, torch.arange(4)))
    assert_learned(simulation.weights, loop, small().weights)
    assert InfoNCE().temperature == 0.1


def test_what_the_variants_of_clapp_plus_plus_need() -> None:
    """Nothing crosses layers but the activity of the top, where it is the context."""
    needs = {name: set(make_rule(name).needs) for name in ("clapp++", "clapp++dfb", "clapp++both", "clapp++gap")}
    assert needs["clapp++"] == needs["clapp++gap"] == {"neuromodulator", "lateral context"}
    assert needs["clapp++dfb"] == {"neuromodulator", "top-down activity", "activity held"}
    assert needs["clapp++both"] == needs["clapp++"] | needs["clapp++dfb"]
    assert "weight transport" in make_rule("bp-clapp++").needs
    assert {"clapp++gap", "clapp-fixed", "clapp++fixed", "clapp-optimal", "clapp++optimal"} <= set(RULES)


def test_random_fixed_feedback_learns_at_the_top_alone() -> None:
    """The control of figure 3b: B below the top stay as they were drawn, B of the top and all feedforward synapses learn."""
    rule = make_rule("clapp-fixed", contrast="softplus")
    circuit = wired(rule, drawn(from_description("mlp:8-8-8", (1, 4, 4))))
    images = torch.randint(256, (12, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    moments = ViewPairs(images, torch.zeros(12, dtype=torch.int64), Views(4, flip=0.5), observers=4, moments=3)
    weights = simulated(circuit, rule).run(moments).weights
    fixed = {name for name, held in circuit.weights.items() if torch.equal(held.weight, weights[name].weight)}
    assert fixed == {"V3=>V1", "V3=>V2"}
    assert "fixed below the top" in rule.objective_name
