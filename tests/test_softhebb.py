"""SoftHebb is what its equation says, place by place, and finds clusters."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, drawn, full_moment, map_circuit, simulated, stimulus_of
from oracle import Autograd, assert_close, proposals
from torch import Tensor

from neurossl import (
    Circuit,
    Convolution,
    Dense,
    FeedforwardPathway,
    Fixation,
    InputPopulation,
    Moment,
    Network,
    Pooling,
    Population,
    Rule,
    Synapses,
)
from neurossl.errors import DivergenceError, NetworkError, OptionError
from neurossl.events import Neuromodulation
from neurossl.plasticity import Credit, make_rule


def patches(x: Tensor, connectivity: Any) -> Tensor:
    """Return what every place sees, (rows, places, values); dense neurons stand at one place."""
    if not isinstance(connectivity, Convolution):
        return x.flatten(1)[:, None]
    c = connectivity
    padding = c.margin
    if c.padding_mode == "reflect":
        x, padding = F.pad(x, [padding[1], padding[1], padding[0], padding[0]], mode="reflect"), (0, 0)
    return F.unfold(x, c.window, padding=padding, stride=c.step).transpose(1, 2)


def by_the_equation(
    circuit: Circuit, moment: Moment, t: float = 1.0, adaptive: bool = True, gain: Tensor | None = None
) -> dict[str, list[Tensor]]:
    """Return the update of every pathway by loops over rows, places and neurons."""
    z, drives = Autograd(circuit).sweep(stimulus_of(moment), detach=True)
    found = {}
    for name, pathway in circuit.network.feedforward.items():
        weight, bias = circuit.weights[name]
        x, u = z[pathway.pre].detach(), drives[pathway.post].detach()
        if pathway.normalisation == "length":
            x = torch.stack([row / (row.square().mean().sqrt() + 1e-8) for row in x])
        seen = patches(x, pathway.connectivity)
        u = u.flatten(2).transpose(1, 2) if u.ndim == 4 else u[:, None]  # (rows, places, neurons)
        change, of_bias, flat = torch.zeros_like(weight).flatten(1), torch.zeros(len(weight)).double(), weight.flatten(1)
        rows, places, neurons = u.shape
        for r in range(rows):
            for p in range(places):
                y = (t * u[r, p]).exp() / (t * u[r, p]).exp().sum()
                for j in range(neurons):
                    signed = float(y[j] if j == int(u[r, p].argmax()) else -y[j]) / places / rows
                    signed *= 1.0 if gain is None else float(gain[r])
                    change[j] += signed * (seen[r, p] - u[r, p, j] * flat[j])
                    of_bias[j] += signed
        rate = (flat.norm(dim=1) - 1).abs().sqrt() if adaptive else torch.ones(len(flat)).double()
        found[name] = [(rate[:, None] * change).view_as(weight)] + ([] if bias is None else [rate * of_bias])
    return found


def two_pathways() -> Circuit:
    """Return dense and convolutional populations with two incoming pathways, strides, reflected borders, average pooling."""
    network = Network(InputPopulation("retina", (2, 8, 8)), name="two pathways")
    network.add(Population("V1", (3, 4, 4), "relu", Pooling("average", 2)))
    network.add(Population("V2", (4, 8, 8), "tanh", Pooling("max", 2)), Population("V3", 5, "linear"))
    network.add(FeedforwardPathway("retina", "V1", Convolution(3, 2, 1, "reflect")))
    network.add(FeedforwardPathway("retina", "V2", Convolution(3), bias=False), FeedforwardPathway("V1", "V3", Dense()))
    network.add(FeedforwardPathway("V2", "V3", Dense(), normalisation="length"))
    network.add(Population("V4", (4, 4, 4), "relu"), FeedforwardPathway("V2", "V4", Convolution(3)))
    network.add(FeedforwardPathway("retina", "V4", Convolution(2, 2, 0)))
    return drawn(network, 2)


@pytest.mark.parametrize("options", [{}, {"temperature": 3.0}, {"adaptive": False}])
@pytest.mark.parametrize("make", [lambda: dense_circuit(None), map_circuit, two_pathways])
def test_it_is_its_equation(make: Any, options: dict[str, Any]) -> None:
    circuit = make()
    moment = full_moment(circuit, rows=6)
    want = by_the_equation(circuit, moment, options.get("temperature", 1.0), options.get("adaptive", True))
    assert_close(proposals(make_rule("softhebb", **options), circuit, moment), want, list(want))


def test_a_gain_multiplies_what_a_row_says() -> None:
    circuit, gain = map_circuit(), torch.linspace(-0.5, 2, 6, dtype=torch.float64)
    moment = full_moment(circuit, rows=6).with_events(Neuromodulation(gain))
    want = by_the_equation(circuit, moment, gain=gain)
    assert_close(proposals(make_rule("softhebb"), circuit, moment), want, list(want))


def test_neurons_whose_weights_have_norm_1_have_learned() -> None:
    circuit = dense_circuit(None)
    for name in circuit.network.feedforward:
        weight = circuit.weights[name].weight
        weight.div_(weight.norm(dim=1, keepdim=True))
    for parts in proposals(make_rule("softhebb"), circuit, full_moment(circuit)).values():
        assert all(float(part.abs().max()) < 1e-7 for part in parts), "the root of a rounding error"


def test_silent_and_equal_units_receive_numbers() -> None:
    circuit = map_circuit()
    for held in circuit.weights.values():
        for part in held.present:
            part.zero_()
    simulation = simulated(circuit, "softhebb", Synapses("adamw", lr=1e-2))
    simulation.run([full_moment(circuit)] * 3)
    assert all(bool(part.isfinite().all()) for held in simulation.weights.values() for part in held.present)


def test_it_finds_clusters_and_its_weights_reach_norm_1() -> None:
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3)).double())[0][:3]
    which = torch.arange(48) % 3

    def seen(n: int) -> Moment:
        noise = torch.randn(48, 5, generator=torch.Generator().manual_seed(n)).double()
        return Moment(Fixation(2 * turn[which] + 0.1 * noise))

    network = Network(InputPopulation("retina", 5), Population("V1", 10), FeedforwardPathway("retina", "V1", bias=False))
    simulation = simulated(drawn(network), "softhebb", Synapses("sgd", lr=0.5))
    simulation.run([seen(n) for n in range(200)])
    winners = simulation.circuit.sweep(turn).drive("V1").argmax(1)
    assert len(set(winners.tolist())) == 3
    norms = simulation.weights["retina->V1"].weight.norm(dim=1)[winners]
    assert torch.allclose(norms, torch.ones(3).double(), atol=0.05)


def test_weights_that_differ_from_place_to_place_are_refused() -> None:
    network = Network(InputPopulation("retina", 6), Population("V1", (2, 3, 3)), FeedforwardPathway("retina", "V1"))
    with pytest.raises(NetworkError, match=r"the weights of 'retina->V1' differ from place to place of the map 'V1'"):
        make_rule("softhebb").wire(network)
    for wrong in (0, -1, float("nan"), float("inf"), "hot", True):
        with pytest.raises(OptionError, match="temperature must be a finite number > 0"):
            make_rule("softhebb", temperature=wrong)


class Rated(Rule):
    """Rates of neurons, said by a rule of one's own."""

    rates: Any = None

    def credit_at(self, site: Any, moment: Moment) -> Credit:
        return Credit(site.activity, decay=torch.tensor(0.1), rates=type(self).rates)


def test_rates_are_a_factor_of_all_that_changes_the_synapses_of_a_neuron() -> None:
    circuit = map_circuit()
    moment = full_moment(circuit)
    Rated.rates = {}
    plain = proposals(Rated(), circuit, moment)
    first = next(iter(circuit.network.feedforward))

    class One(Rated):
        """At V1 alone."""

        def credit_at(self, site: Any, moment: Moment) -> Credit:
            rates = {first: torch.arange(4.0).double()} if site.population == "V1" else {}
            return Credit(site.activity, decay=torch.tensor(0.1), rates=rates)

    got = proposals(One(), circuit, moment)
    factors = torch.arange(4.0).double()
    assert torch.allclose(got[first][0], plain[first][0] * factors[:, None, None, None])
    assert torch.allclose(got[first][1], plain[first][1] * factors)
    assert all(torch.equal(a, b) for name in plain if name != first for a, b in zip(plain[name], got[name], strict=True))


@pytest.mark.parametrize(
    ("rates", "error", "message"),
    [
        ({"V1->V9": torch.ones(9)}, NetworkError, "rates must name incoming pathways"),
        ({"retina->V1": torch.ones(3)}, NetworkError, r"rates of 'retina->V1' must have the shape \(9,\), got \(3,\)"),
        ({"retina->V1": 2.0}, NetworkError, "must be a tensor"),
        ([1.0], NetworkError, "rates and state are mappings"),
        ({"retina->V1": torch.full((9,), torch.nan)}, DivergenceError, "credit is NaN"),
    ],
)
def test_rates_that_fit_nothing_are_refused(rates: Any, error: type[Exception], message: str) -> None:
    circuit = dense_circuit()
    Rated.rates = rates
    with pytest.raises(error, match=message):
        proposals(Rated(), circuit, full_moment(circuit))
