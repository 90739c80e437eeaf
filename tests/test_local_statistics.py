"""Local rules that read statistics over observers, and the prediction of the next response: equal to autograd of their loss.

The losses are written here from their equations, with loops where the rules have matrices.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import dense_circuit, drawn, full_moment, map_circuit, simulated, stimulus_of, wired
from oracle import CIRCUITS, Autograd, assert_close, proposals
from torch import Tensor

from neurossl import Convolution, FeedforwardPathway, InputPopulation, Moment, Network, Pooling, Population, Synapses
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation, Neuromodulation
from neurossl.plasticity import losses, make_rule

Loss = Callable[..., Tensor]


def covariance(z: Tensor) -> Tensor:
    """Return the covariance over rows, one pair of units after the other."""
    mean = z.sum(0) / len(z)
    rows = [
        torch.stack([((z[:, i] - mean[i]) * (z[:, k] - mean[k])).sum() / (len(z) - 1) for k in range(z.shape[1])])
        for i in range(z.shape[1])
    ]
    return torch.stack(rows)


def off_diagonal(matrix: Tensor) -> Tensor:
    """Return the sum of squares beside the diagonal."""
    size = len(matrix)
    squares = [matrix[i, k] ** 2 for i in range(size) for k in range(size) if i != k]
    return torch.stack(squares).sum() if squares else torch.zeros((), dtype=matrix.dtype)


def barlow(one: Tensor, two: Tensor, redundancy: float = 0.005) -> Tensor:
    def standardised(z: Tensor) -> Tensor:
        centred = z - z.mean(0)
        return centred / ((centred**2).mean(0) + 1e-5).sqrt()

    correlation = torch.einsum("ni,nj->ij", standardised(one), standardised(two)) / len(one)
    return ((1 - torch.diagonal(correlation)) ** 2).sum() + redundancy * off_diagonal(correlation)


def vicreg(one: Tensor, two: Tensor, invariance: float = 25, variance: float = 25, covariances: float = 1) -> Tensor:
    loss = invariance * ((one - two) ** 2).mean()
    for z in (one, two):
        c = covariance(z)
        lacking = torch.stack([torch.relu(1 - (c[i, i] + 1e-4).sqrt()) for i in range(len(c))])
        loss = loss + variance * lacking.mean() / 2 + covariances * off_diagonal(c) / len(c)
    return loss


def lpl(one: Tensor, two: Tensor, pull: float = 1, push: float = 1, decorrelation: float = 10) -> Tensor:
    loss = pull * ((one - two) ** 2).mean()
    for z in (one, two):
        c = covariance(z)
        units = len(c)
        loss = loss - push / 2 * torch.stack([(c[i, i] + 1e-4).log() for i in range(units)]).mean()
        loss = loss + decorrelation / 2 * off_diagonal(c) / max(1, units**2 - units)
    return loss


RULES: dict[str, tuple[Loss, dict[str, float], dict[str, float]]] = {
    "barlow-local": (barlow, {}, {}),
    "barlow-local, redundancy": (barlow, {"redundancy": 0.7}, {"redundancy": 0.7}),
    "vicreg-local": (vicreg, {}, {}),
    "vicreg-local, weights": (
        vicreg,
        {"invariance": 2, "variance": 3, "covariance": 7},
        {"invariance": 2, "variance": 3, "covariances": 7},
    ),
    "lpl": (lpl, {}, {}),
    "lpl, weights": (lpl, *[{"pull": 0.3, "push": 2.0, "decorrelation": 1.5}] * 2),
}
STATISTICAL = ["barlow-local", "vicreg-local", "lpl"]


def averaged(z: Tensor) -> Tensor:
    """Return the mean over space."""
    return z.flatten(2).mean(2) if z.ndim == 4 else z


def views_of(z: Tensor, moment: Moment) -> tuple[Tensor, Tensor]:
    """Return the averaged responses to the first and to the second view of every object."""
    partner = moment.require(Fixation, "test").partner
    assert partner is not None
    first = [row for row in range(len(z)) if row < partner[row]]
    return averaged(z)[first], averaged(z)[[int(partner[row]) for row in first]]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("case", RULES)
def test_a_rule_over_observers_equals_autograd(case: str, kind: str, shuffled: bool) -> None:
    loss_of, options, own = RULES[case]
    rule = make_rule(case.partition(",")[0], **options)
    circuit = CIRCUITS[kind]()
    moment = full_moment(circuit)
    if shuffled:  # pairs in any order
        moment = moment.with_events(Fixation(stimulus_of(moment), torch.tensor([3, 9, 5, 0, 7, 2, 8, 4, 6, 1])))
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=True)
    each = {name: loss_of(*views_of(z[name], moment), **own) for name in circuit.network.order}
    want = plain.gradients(torch.stack(list(each.values())).sum())
    assert set(got) == set(want) == set(circuit.network.feedforward)
    assert_close(got, want, list(want))
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    for name, loss in each.items():
        assert float(said[name]) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize(("name", "loss_of"), [("barlow", barlow), ("vicreg", vicreg), ("lpl", lpl)])
def test_the_same_at_the_top_of_backprop_equals_autograd(name: str, loss_of: Loss, kind: str) -> None:
    rule = make_rule("bp-barlow") if name == "barlow" else make_rule("bp", objective=name)
    circuit = CIRCUITS[kind]()
    moment = full_moment(circuit)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=False)
    want = plain.gradients(loss_of(*views_of(z[circuit.network.top], moment)))
    assert_close(proposals(rule, circuit, moment), want, list(want))


def response_prediction(z: Tensor, weight: Tensor, moment: Moment, gain: Tensor | None = None) -> Tensor:
    """Return the mean over rows of |z_t - B c|^2, the target held."""
    partner = moment.require(Fixation, "test").partner
    assert partner is not None
    response = averaged(z)
    rows = [((response[int(partner[r])].detach() - weight @ response[r]) ** 2).sum() for r in range(len(z))]
    return torch.stack([row if gain is None else gain[r] * row for r, row in enumerate(rows)]).mean()


@pytest.mark.parametrize("with_gain", [False, True])
@pytest.mark.parametrize("kind", CIRCUITS)
@pytest.mark.parametrize("name", ["rpl", "bp"])
def test_the_prediction_of_the_next_response_equals_autograd(name: str, kind: str, with_gain: bool) -> None:
    rule = make_rule(name, **({"objective": "rpl"} if name == "bp" else {}))
    circuit = wired(rule, CIRCUITS[kind]())
    moment = full_moment(circuit)
    gain = torch.linspace(-0.5, 2, 10, dtype=torch.float64) if with_gain else None
    moment = moment if gain is None else moment.with_events(Neuromodulation(gain))
    got = proposals(rule, circuit, moment)
    plain = Autograd(circuit)
    z, _ = plain.sweep(stimulus_of(moment), detach=name == "rpl")
    at = circuit.network.order if name == "rpl" else [circuit.network.top]
    each = {p: response_prediction(z[p], plain.weights[f"{p}=>{p}"][0], moment, gain) for p in at}
    want = plain.gradients(torch.stack(list(each.values())).sum())
    assert set(got) == set(want)
    assert_close(got, want, list(want))
    said = losses(rule, circuit.sweep(stimulus_of(moment)), moment)
    for population, loss in each.items():
        assert float(said[population]) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("transport", ["dfa", "fa", "pc", "pc-fixed"])
@pytest.mark.parametrize("objective", ["barlow", "vicreg", "lpl", "rpl"])
@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_other_transports_carry_them(transport: str, objective: str, kind: str) -> None:
    rule = make_rule(transport, objective=objective)
    circuit = CIRCUITS[kind]() if kind == "convolution" else dense_circuit(None)
    moment = full_moment(circuit)
    got = proposals(rule, circuit, moment)
    assert all(bool(part.isfinite().all()) for parts in got.values() for part in parts)
    assert all(float(got[name][0].abs().max()) > 0 for name in circuit.network.feedforward)
    if transport == "pc-fixed":
        want = proposals(make_rule("bp", objective=objective), circuit, moment)
        assert_close(got, want, list(want), 1e-9)


@pytest.mark.parametrize("name", [*STATISTICAL, "bp-barlow"])
def test_the_gain_multiplies_the_credit_of_a_row(name: str) -> None:
    """The loss of statistics over observers belongs to no row: it stays as it is."""
    rule, circuit = make_rule(name), dense_circuit(None)
    moment = full_moment(circuit)
    activity = circuit.sweep(stimulus_of(moment))
    gain = torch.linspace(-0.5, 2, 10, dtype=torch.float64)
    gained = moment.with_events(Neuromodulation(gain))
    plain, scaled = (
        {p: c.activity for p, c in make_rule(name).evaluate(activity_scope(rule, activity), m).items()}
        for m in (moment, gained)
    )
    for population, credit in plain.items():
        assert torch.allclose(scaled[population], credit * gain[:, None], rtol=1e-14, atol=0)
    assert losses(rule, activity, gained) == losses(rule, activity, moment)


def activity_scope(rule: Any, activity: Any) -> Any:
    from neurossl.plasticity import Scope

    return Scope(activity, rule)


@pytest.mark.parametrize("name", [*STATISTICAL, "infonce-local", "bp-barlow"])
def test_one_observer_alone_is_refused(name: str) -> None:
    circuit = dense_circuit(None)
    with pytest.raises(EventError, match="with others, but the moment has 1: raise observers to 2 or more"):
        proposals(make_rule(name), circuit, full_moment(circuit, rows=2, negatives=1))
    assert proposals(make_rule(name), circuit, full_moment(circuit, rows=4, negatives=1))


@pytest.mark.parametrize("name", [*STATISTICAL, "infonce-local", "bp-barlow", "rpl"])
def test_without_pairs_of_views_they_are_refused(name: str) -> None:
    circuit = dense_circuit(None)
    moment = full_moment(circuit)
    with pytest.raises(EventError, match=r"needs Fixation.partner \(a batched moment\)"):
        proposals(make_rule(name), circuit, moment.with_events(Fixation(stimulus_of(moment))))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*STATISTICAL, "rpl", "bp-barlow"])
def test_units_that_are_constant_or_silent_receive_numbers(name: str, dtype: str) -> None:
    """Variance 0: of one unit, and of all of them."""
    rule = make_rule(name)
    for silent in ("one", "all"):
        circuit = wired(rule, dense_circuit(None, "relu"))
        for pathway in circuit.network.feedforward.values():
            weight, bias = circuit.weights[pathway.name]
            assert bias is not None
            rows = slice(0, 1) if silent == "one" else slice(None)
            weight[rows], bias[rows] = 0, -1
        bias[1], weight[1] = 3.0, 0  # constant, but not silent
        moment = full_moment(circuit)
        simulation = simulated(circuit, rule, Synapses("adamw", lr=1e-2), dtype=dtype)
        simulation.run([moment, moment, moment])
        for held in simulation.weights.values():
            assert all(bool(part.isfinite().all()) for part in held.present)
        got = proposals(rule, circuit, moment)
        assert all(bool(part.isfinite().all()) for parts in got.values() for part in parts)
        assert float(got["retina->V1"][0][0].abs().max()) == 0, "what never responds is not told to"


def test_a_population_of_one_unit_has_nothing_to_decorrelate() -> None:
    network = Network(InputPopulation("retina", 4), Population("V1", 1, "tanh"), FeedforwardPathway("retina", "V1"))
    for case, (loss_of, options, own) in RULES.items():
        circuit = drawn(network.copy())
        moment = full_moment(circuit)
        plain = Autograd(circuit)
        z, _ = plain.sweep(stimulus_of(moment), detach=True)
        want = plain.gradients(loss_of(*views_of(z["V1"], moment), **own))
        assert_close(proposals(make_rule(case.partition(",")[0], **options), circuit, moment), want, list(want))


def test_weights_of_terms_are_finite_and_not_negative() -> None:
    for name, option in (
        ("barlow-local", "redundancy"),
        ("vicreg-local", "variance"),
        ("vicreg-local", "invariance"),
        ("vicreg-local", "covariance"),
        ("lpl", "pull"),
        ("lpl", "push"),
        ("lpl", "decorrelation"),
    ):
        for wrong in (-1, float("nan"), float("inf"), "much", True):
            with pytest.raises(OptionError, match=f"{option}: expected a finite number >= 0"):
                make_rule(name, **{option: wrong})
        assert make_rule(name, **{option: 0}).options == {option: 0}


def test_they_declare_what_they_read() -> None:
    for name in STATISTICAL:
        assert {"other observers", "lateral context", "activity held"} == make_rule(name).needs
    assert make_rule("rpl").needs == {"lateral context", "weight transport", "activity held"}
    assert make_rule("bp-barlow").needs >= {"other observers", "weight transport"}


def test_maps_that_end_in_average_pooling_and_strides_equal_autograd() -> None:
    network = Network(InputPopulation("retina", (2, 11, 11)), name="odd")
    network.add(Population("V1", (3, 6, 6), "softplus", Pooling("average", 3, 2, 1)))
    network.add(FeedforwardPathway("retina", "V1", Convolution(5, 2, 2, "reflect")))
    network.add(Population("V2", (4, 3, 3), "tanh", Pooling("max", 2, 1)))
    network.add(FeedforwardPathway("V1", "V2", Convolution(1, 1, 0)))
    for case, (loss_of, options, own) in RULES.items():
        circuit = drawn(network.copy())
        moment = full_moment(circuit)
        plain = Autograd(circuit)
        z, _ = plain.sweep(stimulus_of(moment), detach=True)
        loss = sum(loss_of(*views_of(z[name], moment), **own) for name in ("V1", "V2"))
        assert isinstance(loss, Tensor)
        want = plain.gradients(loss)
        assert_close(proposals(make_rule(case.partition(",")[0], **options), circuit, moment), want, list(want))


def test_they_learn_what_they_are_for() -> None:
    """After some moments on the same views the loss of every population is lower."""
    for name in (*STATISTICAL, "rpl"):
        circuit = map_circuit()
        moment = full_moment(circuit, rows=16)
        simulation = simulated(circuit, name, Synapses("adamw", lr=3e-3))
        before = losses(simulation.rule, simulation.circuit.sweep(stimulus_of(moment)), moment)
        simulation.run([moment] * 30)
        after = losses(simulation.rule, simulation.circuit.sweep(stimulus_of(moment)), moment)
        assert float(after["V1"]) < float(before["V1"]), name
