"""CLAPP as published: sequences of patches, both branches, either kind of event; against autograd of the loss."""

from typing import Any

import pytest
import torch
from conftest import MemoryStore, drawn, simulated, wired
from oracle import assert_close, proposals
from torch import Tensor

from neurossl import Circuit, Fixation, Moment, Network, convolutional, make_rule, mlp
from neurossl.errors import EventError, StimulusError
from neurossl.events import Neuromodulation, Saccade, Succession
from neurossl.recorders import AlignmentMeasures, UpdateRecorder
from neurossl.recorders.rows import halves, moment_of, observers_of
from neurossl.stimuli import FixationSequence, ImageSet, PatchSequence, ViewPairs, Views

Sequence = Any


def patches(digits: ImageSet, **options: Any) -> PatchSequence:
    common = {"patch": 4, "stride": 2, "steps": 2, "observers": 6, "moments": 3, **options}
    return PatchSequence(digits.train, digits.train_labels, Views(16), **common)


def clapp_loss(z: Tensor, weights: dict[str, Tensor], moment: Moment, steps: int) -> Tensor:
    """Return the loss at a population, event by event; what is held is detached."""
    happens = moment.require(Succession, "test")
    total = z.new_zeros(())
    for direction, label in enumerate(("k", "back-k")):
        for k in range(steps):
            matrix = weights[f"{label}{k + 1}"]
            fixations, saccades = [], []
            for row in range(len(z)):
                if int(happens.later[k, row]) < 0:
                    continue
                stays = happens.stays is None or bool(happens.stays[direction, row])
                jumps = happens.stays is None or not stays
                for is_there, found, sign in (
                    (stays, fixations, 1),
                    (jumps, saccades, -1),
                ):
                    if not is_there:
                        continue
                    other = int(happens.later[k, row] if sign > 0 else happens.elsewhere[direction, k, row])
                    u = z[other] @ matrix @ z[row].detach() if direction == 0 else z[row] @ matrix @ z[other].detach()
                    found.append(torch.relu(1 - sign * u))
            for group in (fixations, saccades):
                if group:
                    total = total + torch.stack(group).mean() / steps
    return total


@pytest.mark.parametrize("transitions", ["either", "both"])
@pytest.mark.parametrize("kind", ["dense", "maps"])
def test_clapp_equals_autograd_along_columns_of_patches(digits: ImageSet, transitions: str, kind: str) -> None:
    stream = patches(digits, transitions=transitions)
    moment = stream[0].to(torch.device("cpu"), torch.float64)
    dense = mlp(stream.shape, [7, 5], transfer="tanh")
    network = dense if kind == "dense" else convolutional(stream.shape, [(4, True), (3, False)])
    rule = make_rule("clapp", steps=2)
    circuit = wired(rule, drawn(network))
    for name in circuit.network.feedback:
        circuit.weights.set(name, circuit.weights[name].weight * 4)
    got = proposals(rule, circuit, moment)
    assert_close(got, gradients(circuit, moment), list(got))


def gradients(circuit: Circuit, moment: Moment) -> dict[str, list[Tensor]]:
    """Return minus the gradient of the sum of the losses of both populations, each on what is below it held."""
    network = circuit.network
    held = {n: [p.clone().requires_grad_() for p in w.present] for n, w in circuit.weights.items()}
    x, total = moment.require(Fixation, "test").stimulus, torch.zeros(())
    for below, name in zip(("retina", "V1"), network.order, strict=True):
        weight, bias = held[f"{below}->{name}"]
        if weight.ndim == 2:
            z = torch.tanh(x.detach().flatten(1) @ weight.T + bias)
        else:
            z = torch.relu(torch.nn.functional.conv2d(x.detach(), weight, bias, padding=1))
            z = torch.nn.functional.max_pool2d(z, 2) if name == "V1" else z
        matrices = {n.partition(":")[2]: w[0] for n, w in held.items() if n.startswith(f"{name}=>")}
        total = total + clapp_loss(z if z.ndim == 2 else z.mean((2, 3)), matrices, moment, 2)
        x = z
    flat = [p for parts in held.values() for p in parts]
    found = iter(torch.autograd.grad(total, flat))
    return {name: [-next(found) for _ in parts] for name, parts in held.items()}


def test_patches_follow_each_other_down_the_columns(digits: ImageSet) -> None:
    stream = patches(digits, steps=3)
    moment = stream[1]
    stimulus, happens = moment.require(Fixation, "t").stimulus, moment.require(Succession, "t")
    high, wide = stream.grid
    assert (high, wide) == (7, 7)
    assert stimulus.shape == (49 * 6, 1, 4, 4)
    assert happens.stays is not None
    for row in range(0, len(stimulus), 37):
        place, observer = divmod(row, 6)
        y, x = divmod(place, wide)
        for k in range(3):
            below = y + stream.skip + k + 1
            later = int(happens.later[k, row])
            assert later == ((below * wide + x) * 6 + observer if below < high else -1)
            if later >= 0:
                there = happens.elsewhere[:, k, row]
                assert bool((there // 6 == later // 6).all()), "the same place"
                assert bool((there % 6 != observer).all()), "of another image"
        assert torch.equal(happens.stays[:, row], happens.stays[:, observer]), "the same choice at all places"
    # The overlap of two patches of one column shows the same pixels.
    upper, lower = stimulus[(0 * wide + 3) * 6 + 2], stimulus[(1 * wide + 3) * 6 + 2]
    assert torch.equal(upper[:, 2:], lower[:, :2])
    assert torch.equal(observers_of(moment), torch.arange(49 * 6) % 6)
    assert patches(digits, transitions="both")[0].require(Succession, "t").stays is None
    own = patches(digits, sampling="all", observers=2, moments=20, steps=1)
    found = torch.stack([m.require(Succession, "t").elsewhere[0, 0, :2] for m in own])
    assert bool((found % 2 == torch.arange(2)).any()), "as published, the own image may be drawn"


def test_what_does_not_fit_is_refused(digits: ImageSet) -> None:
    with pytest.raises(StimulusError, match="5 steps after 1 skipped need images of 64 pixels in height, got 16x16"):
        patches(digits, patch=16, stride=8, steps=5)
    with pytest.raises(StimulusError, match="1 observer leaves no other object"):
        patches(digits, observers=1)
    stream = patches(digits)
    network = mlp(stream.shape, [6, 5])
    with pytest.raises(EventError, match="CLAPP of 1 steps, but the moment shows 2: give the rule steps=2"):
        simulated(drawn(network), "clapp").run(stream)
    with pytest.raises(EventError, match="whole sequences: use ViewPairs or FixationSequence"):
        simulated(drawn(network), "clapp++").run(stream)
    images = mlp(digits.shape, [6, 5])
    with pytest.raises(EventError, match="follow each other within one moment: show it ViewPairs or PatchSequence"):
        simulated(drawn(images), "clapp").run(FixationSequence(digits.train, None, Views(16), observers=4, moments=3))
    with pytest.raises(EventError, match=r"Succession.elsewhere: expected \(2, steps, rows\)"):
        Succession(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(EventError, match="expected rows from 0 to 3, got 4"):
        Succession([[4, 0, 0, 0]], torch.zeros(2, 1, 4, dtype=torch.int64))


def test_events_of_either_kind_are_averaged_by_themselves() -> None:
    """One fixation among eight rows counts as much as seven saccades; an empty group is left out."""
    network: Network = mlp(5, [4], transfer="linear")
    rule = make_rule("clapp", retrodiction="none", contrast="linear")
    circuit = wired(rule, drawn(network))
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    partner = (torch.arange(8) + 4) % 8
    gain = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    moment = Moment(Fixation(x, partner), Saccade((torch.arange(8) + 1)[None] % 8), Neuromodulation(gain, 1 - gain))
    got = proposals(rule, circuit, moment.to(torch.device("cpu"), torch.float64))["V1=>V1:k1"][0]
    z = circuit.sweep(x)["V1"]
    want = torch.outer(z[4], z[0]) - torch.stack([torch.outer(z[(r + 1) % 8], z[r]) for r in range(1, 8)]).mean(0)
    assert torch.allclose(got, want, rtol=1e-12)
    none = moment.with_events(Neuromodulation(torch.zeros(8), torch.ones(8))).to(torch.device("cpu"), torch.float64)
    only = proposals(rule, circuit, none)["V1=>V1:k1"][0]
    jumps = torch.stack([torch.outer(z[(r + 1) % 8], z[r]) for r in range(8)])
    assert torch.allclose(only, -jumps.mean(0), rtol=1e-12)


def test_what_is_recorded_of_patches(digits: ImageSet, store: MemoryStore) -> None:
    stream = patches(digits, moments=2)
    half, _ = halves(stream[0], torch.Generator().manual_seed(1))
    part = moment_of(stream[0], half)
    happens = part.require(Succession, "t")
    assert len(half) == 49 * 3
    assert bool((happens.later < len(half)).all())
    there = happens.later >= 0
    assert bool((happens.later[there] % 3 == torch.arange(len(half)).expand(2, -1)[there] % 3).all()), "the same observer"
    circuit, rule = drawn(mlp(stream.shape, [6, 5])), make_rule("clapp", steps=2)
    simulated(circuit, rule, store=store, recorders=[UpdateRecorder(1)]).run(stream)
    found = store.of("alignment", "V1->V2")[1]
    assert abs(found["cosine"] - 1) < 1e-12, "at the top its reference is its own objective"
    other, measures = MemoryStore(), AlignmentMeasures(1, measures=("ceiling", "baselines", "credit"))
    simulated(circuit, make_rule("clapp", steps=2), store=other, recorders=[measures]).run(stream)
    assert -1 <= other.of("alignment", "V1->V2")[1]["ceiling"] <= 1
    assert found["loss_decrease"] > 0, "a step along the gradient, with held only what is held"


def test_pairs_of_views_are_one_step(digits: ImageSet) -> None:
    stream = ViewPairs(digits.train, digits.train_labels, Views(16), observers=8, moments=4, transitions="either")
    simulation = simulated(drawn(mlp(digits.shape, [6, 5])), "clapp")
    before = {name: simulation.weights[name].weight.clone() for name in simulation.network.pathways}
    simulation.run(stream)
    assert set(simulation.network.feedback) == {f"{p}=>{p}:{d}k1" for p in ("V1", "V2") for d in ("", "back-")}
    assert all(not torch.equal(before[name], simulation.weights[name].weight) for name in before)
