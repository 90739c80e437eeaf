"""Rules that a user writes, each about fifteen lines: they compute what their papers say, and learn what they are to learn.

Two phases. Contrastive Hebbian learning and equilibrium propagation change a synapse by the *difference* of what it sees in
a nudged and in a free phase. `Rule.settling` yields both, and the simulation sums their updates before anything is applied.
Applied one by one they fail, with AdamW above all: it divides every step by its own size, so that the nudged phase moves a
weight by about +lr and the free phase by about -lr, whatever their difference; what is left is the noise of both, and the
second phase is computed with weights that the first has changed. (Tried before they were summed: 45 -> 27 % for contrastive
Hebbian learning, where equilibrium propagation in one proposal learned 45 -> 67 %.)
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from readme_phases import EquilibriumPropagation
from torch import Tensor

from neurossl import (
    Credit,
    Factors,
    FeedforwardPathway,
    Fixation,
    InputPopulation,
    MirrorPathway,
    Moment,
    Network,
    Neuromodulation,
    Population,
    Rule,
    Saccade,
    Simulation,
    Synapses,
    Teaching,
    make_rule,
    mlp,
    propose,
)
from neurossl.plasticity import Scope, Site, settle

SGD = {"optimizer": "sgd", "lr": 0.05}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simulated(rule: Rule, network: Network, seed: int = 0, **options: Any) -> Simulation:
    return Simulation(network, rule, Synapses(**{**SGD, **options}), seed=seed, device="cpu", dtype="float64")


def one_update(rule: Rule, simulation: Simulation, moment: Moment) -> dict[str, Tensor]:
    """Return the weights' part of what a rule proposes in one moment, all phases summed."""
    activity = simulation.circuit.sweep(moment.require(Fixation, "test").stimulus)
    total: dict[str, Tensor] = {}
    for scope in settle(rule, activity, moment, simulation.memory):
        for name, update in propose(rule, scope, moment):
            total[name] = total.get(name, torch.zeros(())) + update.weight
    return total


def goes_on_bit_for_bit(rule: type[Rule], network: Network, stream: list[Moment]) -> None:
    """See that a run that was interrupted in the middle ends where the undisturbed one does."""
    whole, begun, going_on = (simulated(rule(), network) for _ in range(3))
    whole.run(stream)
    begun.run(stream[:3])
    state = begun.state()
    assert any(name.startswith("rule/") for name in state.tensors)
    going_on.restore(state)
    going_on.run(stream[3:])
    one, other = whole.state().tensors, going_on.state().tensors
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# One population at a time.


class Hebb(Rule):
    """dW = z rho' x."""

    name = "Hebb"

    def credit_at(self, site: Site, moment: Moment) -> Tensor:
        return site.activity


class Oja(Rule):
    """dW = z x - z^2 W."""

    name = "Oja"

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        return Credit(somatic=site.activity, decay=site.activity.square())


class Decaying(Rule):
    """dW = z x - 0.1 W."""

    name = "decaying Hebb"

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        return Credit(somatic=site.activity, decay=torch.tensor(0.1))


class SoftHebb(Rule):
    """dW = y (x - u W), y the softmax of the drive (Moraitis et al. 2022; Journe et al. 2023)."""

    name = "SoftHebb"

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        y = (4 * site.drive).softmax(1)
        return Credit(somatic=y, decay=y * site.drive)


def linear(inputs: int, units: int) -> Network:
    return mlp(inputs, [units], transfer="linear", bias=False)


def test_hebb_is_the_product_of_both_activities() -> None:
    rule, x = Hebb(), noise(7, 5)
    simulation = simulated(rule, mlp(5, [4, 3], transfer="tanh"))
    got = one_update(rule, simulation, Moment(Fixation(x)))
    seen = {"retina->V1": x, "V1->V2": simulation.respond(x)["V1"]}
    for name, below in seen.items():
        weight, bias = simulation.weights[name]
        z = (below @ weight.T + bias).tanh()
        assert torch.allclose(got[name], torch.einsum("ro,ri->oi", z * (1 - z**2), below) / 7, atol=1e-14)


def test_oja_is_hebb_with_a_decay_of_the_square_of_the_activity() -> None:
    rule, x = Oja(), noise(7, 5)
    simulation = simulated(rule, linear(5, 3))
    w = simulation.weights["retina->V1"].weight
    z = x @ w.T
    want = torch.stack([torch.outer(z[r], x[r]) - (z[r] ** 2)[:, None] * w for r in range(7)]).mean(0)
    assert torch.allclose(one_update(rule, simulation, Moment(Fixation(x)))["retina->V1"], want, atol=1e-14)


def test_oja_finds_the_first_principal_component() -> None:
    scale = torch.tensor([3.0, 1.0, 0.5, 0.3, 0.2]).double()
    turn = torch.linalg.qr(noise(5, 5, seed=1))[0]
    simulation = simulated(Oja(), linear(5, 1))
    simulation.run([Moment(Fixation((noise(32, 5, seed=n) * scale) @ turn.T)) for n in range(300)])
    weight = simulation.weights["retina->V1"].weight[0]
    assert abs(float(weight @ turn[:, 0])) > 0.99
    assert float(weight.norm()) == pytest.approx(1, abs=0.05)


def test_a_decay_alone_shrinks_the_weights_by_its_fraction() -> None:
    simulation = simulated(Decaying(), linear(5, 3), lr=0.5)
    before = simulation.weights["retina->V1"].weight.clone()
    simulation.run([Moment(Fixation(torch.zeros(4, 5).double())) for _ in range(3)])
    assert torch.allclose(simulation.weights["retina->V1"].weight, before * 0.95**3)


def test_soft_winner_take_all_is_its_published_form_and_finds_clusters() -> None:
    rule, x = SoftHebb(), noise(7, 5)
    simulation = simulated(rule, linear(5, 3))
    w = simulation.weights["retina->V1"].weight
    want = torch.zeros_like(w)
    for r in range(7):
        u = w @ x[r]
        y = (4 * u).exp() / (4 * u).exp().sum()
        for j in range(3):
            want[j] += y[j] * (x[r] - u[j] * w[j]) / 7
    assert torch.allclose(one_update(rule, simulation, Moment(Fixation(x)))["retina->V1"], want, atol=1e-14)
    centres = torch.linalg.qr(noise(5, 5, seed=3))[0][:3]
    which = torch.arange(48) % 3
    simulation = simulated(SoftHebb(), linear(5, 6), lr=0.1)
    simulation.run([Moment(Fixation(2 * centres[which] + 0.1 * noise(48, 5, seed=n))) for n in range(200)])
    winners = simulation.respond(centres)["V1"].argmax(1)
    assert len(set(winners.tolist())) == 3


# State of one's own: running averages, eligibilities.


class LPL(Rule):
    """Predict the previous response, keep the variance up, decorrelate (Halvagal & Zenke 2023); averages in its state."""

    name = "LPL"
    needs = frozenset({"lateral context"})
    state: ClassVar = {"mean": "population", "variance": "population"}

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        z, mean, variance = site.activity, site.state["mean"], site.state["variance"]
        before = z[moment.require(Fixation, by=self.name).partner]
        credit = before - z + (z - mean) / (variance + 1e-2)
        mean = 0.9 * mean + 0.1 * z.mean(0)
        return Credit(credit, state={"mean": mean, "variance": 0.9 * variance + 0.1 * (z - mean).square().mean(0)})


def pairs(rows: int = 8, inputs: int = 5, seed: int = 0) -> Moment:
    return Moment(Fixation(noise(rows, inputs, seed=seed), (torch.arange(rows) + rows // 2) % rows))


def test_lpl_keeps_running_averages_in_its_state() -> None:
    stream = [pairs(seed=n) for n in range(6)]
    simulation = simulated(LPL(), mlp(5, [4], transfer="tanh"))
    weight, bias = (p.clone() for p in simulation.weights["retina->V1"].present)
    mean, variance = torch.zeros(4).double(), torch.zeros(4).double()
    for moment in stream:
        x, partner = moment.require(Fixation, "t").stimulus, moment.require(Fixation, "t").partner
        assert partner is not None
        z = (x @ weight.T + bias).tanh()
        credit = (z[partner] - z + (z - mean) / (variance + 1e-2)) * (1 - z**2)
        mean = 0.9 * mean + 0.1 * z.mean(0)
        variance = 0.9 * variance + 0.1 * (z - mean).square().mean(0)
        weight, bias = weight + 0.05 * credit.T @ x / 8, bias + 0.05 * credit.mean(0)
    simulation.run(stream)
    assert torch.allclose(simulation.weights["retina->V1"].weight, weight, atol=1e-13)
    assert torch.allclose(simulation.state().tensors["rule/V1/mean"], mean, atol=1e-13)
    goes_on_bit_for_bit(LPL, mlp(5, [4, 3], transfer="tanh"), stream)


class Rewarded(Rule):
    """Hebbian eligibilities that fade; a reward that arrives later, as a neuromodulator, turns them into changes."""

    name = "reward-modulated Hebb"
    needs = frozenset({"neuromodulator"})
    state: ClassVar = {"eligibility": "synapses"}

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        traces = {
            name: 0.8 * site.state["eligibility"][name] + torch.einsum("ro,ri->roi", site.activity, x)
            for name, x in site.presynaptic.items()
        }
        return Credit(synaptic=traces, state={"eligibility": traces})


def test_a_delayed_reward_finds_the_eligibilities_of_what_was_done_before() -> None:
    rewards = [0.0, 0.0, 1.0, 0.0, -0.5, 0.0]
    gains = [r * torch.tensor([1.0, 2.0, 0.0]).double() for r in rewards]
    stream = [Moment(Fixation(noise(3, 4, seed=n)), Neuromodulation(gain)) for n, gain in enumerate(gains)]
    simulation = simulated(Rewarded(), linear(4, 2))
    weight, trace = simulation.weights["retina->V1"].weight.clone(), torch.zeros(3, 2, 4).double()
    for moment, gain in zip(stream, gains, strict=True):
        x = moment.require(Fixation, "test").stimulus
        trace = 0.8 * trace + torch.stack([torch.outer(weight @ x[r], x[r]) for r in range(3)])
        weight = weight + 0.05 * (gain[:, None, None] * trace).mean(0)
    simulation.run(stream)
    assert torch.allclose(simulation.weights["retina->V1"].weight, weight, atol=1e-14)
    goes_on_bit_for_bit(Rewarded, linear(4, 2), stream)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_a_reward_the_traces_move_and_the_weights_do_not(optimizer: str) -> None:
    stream = [Moment(Fixation(noise(3, 4, seed=n)), Neuromodulation(torch.ones(3))) for n in range(2)]
    simulation = simulated(Rewarded(), linear(4, 2), optimizer=optimizer).run(stream)
    before, silent = simulation.state().tensors, Moment(Fixation(noise(3, 4, seed=9)), Neuromodulation(torch.zeros(3)))
    after = simulation.run([silent]).state().tensors
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert "rule/V1/eligibility/retina->V1" in moved
    assert not {name for name in moved if name.startswith(("weights/", "optimiser/"))}


# Other observers.


class BarlowTwins(Rule):
    """Correlate every neuron with itself between two views, and with no other (Zbontar et al. 2021), per population."""

    name = "Barlow Twins"
    needs = frozenset({"lateral context", "other observers"})

    def credit_at(self, site: Site, moment: Moment) -> Tensor:
        partner = moment.require(Fixation, by=self.name).partner
        z, rows = site.activity.flatten(1), site.rows
        spread = z.std(0, unbiased=False) + 1e-6
        s = (z - z.mean(0)) / spread
        error = s.T @ s[partner] / rows - torch.eye(z.shape[1]).to(z)
        error = error * (0.05 + 0.95 * torch.eye(z.shape[1]).to(z))
        down = -(2 / rows) * (s[partner] @ error.T + s[partner.argsort()] @ error)
        through = down - down.mean(0) - s * (s * down).mean(0) * (spread / (spread - 1e-6))
        return (rows * through / spread).view_as(site.activity)


def test_barlow_twins_is_the_slope_of_its_loss() -> None:
    rule, moment = BarlowTwins(), pairs(rows=10, inputs=6, seed=4)
    simulation = simulated(rule, mlp(6, [5, 4], transfer="tanh"))
    got, partner = one_update(rule, simulation, moment), moment.require(Fixation, "test").partner
    below = moment.require(Fixation, "test").stimulus
    for name in ("retina->V1", "V1->V2"):
        weight, bias = simulation.weights[name]
        weight = weight.clone().requires_grad_()
        z = (below @ weight.T + bias).tanh()
        s = (z - z.mean(0)) / (z.std(0, unbiased=False) + 1e-6)
        c = s.T @ s[partner] / len(s)
        one = torch.eye(len(c)).double()
        loss = ((c.diagonal() - 1) ** 2).sum() + 0.05 * ((c * (1 - one)) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        assert torch.allclose(got[name], -gradient, atol=1e-11, rtol=1e-9)
        below = z.detach()


# Two phases. Symmetric recurrent dynamics, s <- s + rate (-s + rho(drive from below + W^T from above + nudge)).


class ContrastiveHebbian(EquilibriumPropagation):
    """dW = s s_pre with the top at the target - s s_pre free (Movellan 1991)."""

    name = "contrastive Hebbian learning"

    def __init__(self) -> None:
        super().__init__(beta=1.0)

    def relaxed(self, scope: Scope, s: dict[str, Tensor], pull: float, target: Tensor) -> dict[str, Tensor]:
        if not pull:
            return super().relaxed(scope, s, pull, target)  # type: ignore[no-any-return]
        held = {**s, scope.top: target}
        for _ in range(self.steps):
            seen = scope.predict(held)
            total = {name: seen.site(name).drive for name in held}
            for name in held:
                for pathway in seen.below(name):
                    if pathway.pre in held:
                        total[pathway.pre] = total[pathway.pre] + seen.transport(pathway, held[name])
            held |= {n: s + self.rate * (total[n].tanh() - s) for n, s in held.items() if n != scope.top}
        return held


def small(rule: Rule, feedback: float = 1.0) -> Simulation:
    """Return 6 -> 5 -> 4 -> 3 without biases, all weights above V1 times a factor."""
    simulation = simulated(rule, mlp(6, [5, 4], 3, "tanh", bias=False), lr=1.0)
    simulation.weights["V2->readout"].bias.zero_()
    for name in ("V1->V2", "V2->readout"):
        simulation.weights[name].weight.mul_(feedback)
    return simulation


def taught(seed: int = 0, rows: int = 16) -> Moment:
    return Moment(Fixation(noise(rows, 6, seed=seed)), Teaching(torch.arange(rows) % 3))


def test_two_phases_are_summed_before_anything_is_applied() -> None:
    rule = EquilibriumPropagation()
    simulation = small(rule)
    before = {name: weight.clone() for name, (weight, _) in simulation.weights.items()}
    activity = simulation.circuit.sweep(taught().require(Fixation, "test").stimulus)
    free, nudged = (
        {name: scope.site(name).value.clone() for name in scope.populations} for scope in settle(rule, activity, taught())
    )
    x = taught().require(Fixation, "test").stimulus
    simulation.run([taught()])
    for pathway in simulation.network.feedforward.values():
        pre = [x, x] if pathway.pre == "retina" else [nudged[pathway.pre], free[pathway.pre]]
        want = (nudged[pathway.post].T @ pre[0] - free[pathway.post].T @ pre[1]) / 16 / rule.beta
        change = simulation.weights[pathway.name].weight - before[pathway.name]
        assert torch.allclose(change, want, atol=1e-12)


def test_equilibrium_propagation_tends_to_the_slope_of_the_loss_at_the_free_equilibrium() -> None:
    cosines = {}
    moment = taught()
    for beta in (1.0, 0.3, 0.01):
        rule = EquilibriumPropagation(beta)
        rule.steps = 300
        simulation = small(rule)
        got = one_update(rule, simulation, moment)
        weights = [w.clone().requires_grad_() for w, _ in simulation.weights.values()]
        x, target = moment.require(Fixation, "t").stimulus, torch.eye(3).double()[moment.require(Teaching, "t").labels]
        s = [torch.zeros(16, n).double() for n in (5, 4, 3)]
        for _ in range(300):  # the free equilibrium, through which autograd differentiates
            below = [x, *s[:2]]
            total = [below[k] @ weights[k].T + (s[k + 1] @ weights[k + 1] if k < 2 else 0) for k in range(3)]
            s = [s[k] + 0.5 * ((total[k].tanh() if k < 2 else total[k]) - s[k]) for k in range(3)]
        loss = 0.5 * (target - s[2]).square().sum(1).mean()
        gradients = torch.autograd.grad(loss, weights)
        mine = torch.cat([got[name].flatten() for name in simulation.weights])
        theirs = -torch.cat([g.flatten() for g in gradients])
        cosines[beta] = float(torch.cosine_similarity(mine, theirs, 0))
    assert cosines[0.01] > 0.9999
    assert cosines[0.01] > cosines[0.3] > cosines[1.0]


def test_equilibrium_propagation_with_weak_feedback_tends_to_backprop() -> None:
    rule, moment = EquilibriumPropagation(0.01), taught()
    rule.steps = 100
    simulation = small(rule, feedback=0.1)
    got = one_update(rule, simulation, moment)
    want = one_update(make_rule("bp", objective="squared-error"), simulation, moment)
    for name in got:
        assert float(torch.cosine_similarity(got[name].flatten(), want[name].flatten(), 0)) > 0.99, name


def blobs(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points of ten overlapping clouds on a nonlinear map, and which cloud each is of."""
    labels = torch.randint(10, (rows,), generator=torch.Generator().manual_seed(seed))
    centres = 1.2 * noise(10, 8, seed=99)
    return (centres[labels] + noise(rows, 8, seed=seed)).sin() * 1.5, labels


def accuracy(simulation: Simulation) -> float:
    x, labels = blobs(1000, seed=10_001)
    return float((simulation.respond(x)[simulation.network.top].argmax(1) == labels).double().mean())


@pytest.mark.parametrize(
    ("rule", "optimizer", "lr"),
    [
        (EquilibriumPropagation, "sgd", 0.2),
        (EquilibriumPropagation, "adamw", 3e-3),
        (ContrastiveHebbian, "sgd", 0.1),
        (ContrastiveHebbian, "adamw", 3e-3),
    ],
)
def test_two_phases_learn_a_supervised_task(rule: type[Rule], optimizer: str, lr: float) -> None:
    simulation = simulated(rule(), mlp(8, [24], 10, "tanh"), optimizer=optimizer, lr=lr)
    before = accuracy(simulation)
    simulation.run([Moment(Fixation(x), Teaching(y)) for x, y in (blobs(32, seed=n) for n in range(150))])
    assert before < 0.25
    assert accuracy(simulation) > 0.55


class OneByOne(EquilibriumPropagation):
    """The same, misused: each phase is applied by itself."""

    name = "one phase after the other"
    changes_while_settling = True


def test_phases_applied_one_by_one_under_adam_learn_less() -> None:
    stream = [Moment(Fixation(x), Teaching(y)) for x, y in (blobs(32, seed=n) for n in range(150))]
    reached = [
        accuracy(simulated(rule(), mlp(8, [24], 10, "tanh"), optimizer="adamw", lr=3e-3).run(stream))
        for rule in (EquilibriumPropagation, OneByOne)
    ]
    assert reached[0] > reached[1] + 0.2


# Several populations: dendritic bursts.


class Bursts(Rule):
    """Events say what was seen, bursts what was wrong: dW = (p - 1/2) z rho' x (after Payeur et al. 2021).

    A neuron bursts with probability p = sigmoid(4 u), u its dendritic potential: what the bursts above, minus those expected
    at rest, send down through a mirror pathway of its own.
    """

    name = "dendritic bursts"
    needs = frozenset({"layerwise error", "target"})
    awaits = (Fixation, Teaching)

    def wire(self, network: Network) -> Network:
        upper = [p for p in network.feedforward.values() if p.pre != network.input.name]
        return network.add(*(MirrorPathway(pathway) for pathway in upper))

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        labels = moment.require(Teaching, by=self.name).labels
        z = scope.site(scope.top).activity
        excess = torch.eye(z.shape[1]).to(z)[labels] - z.softmax(1)
        for name in reversed(scope.populations):
            site, somatic = scope.site(name), scope.site(name).somatic(excess)
            yield name, Credit(somatic=somatic, signals={"bursts": excess + 0.5})
            for pathway in scope.below(name):
                if pathway.pre in scope.populations:
                    u = scope.transport(pathway, somatic, mirrored=True)
                    excess = (4 * u).sigmoid() - 0.5
            assert site.population == name


def test_dendritic_bursts_are_their_closed_form_and_learn() -> None:
    rule, (x, labels) = Bursts(), blobs(16, seed=0)
    simulation = simulated(rule, mlp(8, [24, 20], 10, "tanh"))
    got = one_update(rule, simulation, Moment(Fixation(x), Teaching(labels)))
    z = simulation.respond(x)
    delta = torch.eye(10).double()[labels] - z["readout"].softmax(1)
    for pre, post, above in (("V2", "readout", None), ("V1", "V2", "readout"), ("retina", "V1", "V2")):
        if above is not None:
            u = delta @ simulation.weights[f"{above}=>{post}"].weight.T
            delta = (1 / (1 + (-4 * u).exp()) - 0.5) * (1 - z[post] ** 2)
        assert torch.allclose(got[f"{pre}->{post}"], delta.T @ z[pre] / 16, atol=1e-14)
    simulation = simulated(rule, mlp(8, [24, 20], 10, "tanh"), optimizer="adamw", lr=3e-3)
    stream = [Moment(Fixation(x), Teaching(y)) for x, y in (blobs(32, seed=n) for n in range(150))]
    assert accuracy(simulation.run(stream)) > 0.5


# What a rule of one's own may also be.


class WithFactors(Rule):
    """Two events at once: towards the previous response, away from that of another object."""

    name = "two factors"
    needs = frozenset({"lateral context", "neuromodulator"})
    awaits = (Fixation, Saccade)

    def credit_at(self, site: Site, moment: Moment) -> list[Factors]:
        z, gamma = site.activity, torch.ones(site.rows).to(site.activity)
        partner = moment.require(Fixation, by=self.name).partner
        away = moment.require(Saccade, by=self.name).negatives[0]
        return [Factors(gamma, z[partner]), Factors(-0.5 * gamma, z[away])]


def test_factors_add_up() -> None:
    rule = WithFactors()
    moment = pairs().with_events(Saccade((torch.arange(8)[None] + 1) % 8))
    simulation = simulated(rule, linear(5, 3))
    x, partner = moment.require(Fixation, "t").stimulus, moment.require(Fixation, "t").partner
    z = x @ simulation.weights["retina->V1"].weight.T
    want = (z[partner] - 0.5 * z.roll(-1, 0)).T @ x / 8
    assert torch.allclose(one_update(rule, simulation, moment)["retina->V1"], want, atol=1e-14)
    simulation.run([moment])


def test_a_rule_of_ones_own_works_on_skips_and_joins_replicas() -> None:
    from neurossl.replicas import Replicas

    parts = [InputPopulation("retina", 5), *(Population(n, 4, "tanh") for n in ("V1", "V2", "V3"))]
    ends = [("retina", "V1"), ("V1", "V2"), ("V2", "V3"), ("V1", "V3")]
    network = Network(*parts, *(FeedforwardPathway(*e) for e in ends))
    streams = [[pairs(seed=10 * s + n) for n in range(4)] for s in range(2)]
    singly = [simulated(LPL(), network, seed=s).run(streams[s]) for s in range(2)]
    together = [simulated(LPL(), network, seed=s) for s in range(2)]
    Replicas(together).run(streams)
    for one, other in zip(singly, together, strict=True):
        for name, (weight, _) in one.weights.items():
            assert torch.allclose(other.weights[name].weight, weight, atol=1e-13)
