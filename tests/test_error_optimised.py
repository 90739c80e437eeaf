"""Error-optimised predictive coding: what settles are errors that every sweep carries up through all populations."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import dense_circuit, full_moment, map_circuit, stimulus_of, wired
from oracle import TRANSFER, Autograd, assert_close, contrastive_loss, proposals, skip_circuit
from torch import Tensor

from neurossl import Circuit, Convolution, Moment, Teaching, make_rule
from neurossl.errors import OptionError
from neurossl.events import Fixation, Neuromodulation
from neurossl.plasticity import Backprop, CrossEntropy, ErrorOptimised, PredictiveCoding, SquaredError, settle

MAKE = {"dense": dense_circuit, "maps": lambda: map_circuit(4), "skips": skip_circuit}


def swept(plain: Autograd, stimulus: Tensor, errors: dict[str, Tensor], values: dict[str, Tensor] | None = None) -> Any:
    """Return (mu, z) of a sweep in which z_l = mu_l + e_l, or in which z is held at values."""
    mu: dict[str, Tensor] = {}
    z = {"retina": stimulus}
    for name in plain.network.order:
        population = plain.network.populations[name]
        drive: Any = 0
        for p in plain.network.incoming(name):
            weight, bias = plain.weights[p.name]
            c = p.connectivity
            dense = not isinstance(c, Convolution)
            x = z[p.pre]
            drive = drive + (F.linear(x.flatten(1), weight, bias) if dense else F.conv2d(x, weight, bias, 1, c.padding))
        mu[name] = TRANSFER[population.transfer.name](drive)
        if population.pooling is not None:
            mu[name] = F.max_pool2d(mu[name], population.pooling.kernel)
        z[name] = values[name] if values is not None and name in values else mu[name] + errors.get(name, 0)
    return mu, z


def cross_entropy(mu: Tensor, moment: Moment) -> Tensor:
    return F.cross_entropy(mu, moment.require(Teaching, "test").labels, reduction="none")


def by_autograd(circuit: Circuit, moment: Moment, steps: int, rate: float, loss: Any = cross_entropy) -> Any:
    """Return updates, energies and errors; slopes of the energy by autograd of the whole sweep."""
    plain, x = Autograd(circuit), stimulus_of(moment)
    mu, _ = swept(plain, x, {})
    top = circuit.network.top
    errors = {n: torch.zeros_like(mu[n]) for n in circuit.network.order[:-1]}
    energies = []

    def energy(errors: dict[str, Tensor]) -> Tensor:
        mu, _ = swept(plain, x, errors)
        return loss(mu[top], moment) + sum(e.square().flatten(1).sum(1) / 2 for e in errors.values())  # type: ignore[no-any-return]

    for _ in range(steps):
        errors = {n: e.detach().requires_grad_() for n, e in errors.items()}
        found = energy(errors)
        energies.append(float(found.detach().mean()))
        slopes = torch.autograd.grad(found.sum(), list(errors.values()))
        errors = {n: (e - rate * slope).detach() for (n, e), slope in zip(errors.items(), slopes, strict=True)}
    energies.append(float(energy(errors).detach().mean()))
    _, z = swept(plain, x, errors)
    values = {n: z[n].detach() for n in errors}
    mu, _ = swept(plain, x, {}, values)
    squared = sum((values[n] - mu[n]).square().flatten(1).sum(1) / 2 for n in errors)
    return plain.gradients((squared + loss(mu[top], moment)).mean()), energies, errors


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(("steps", "rate"), [(1, 1.0), (4, 0.3), (10, 0.1)])
def test_errors_descend_the_energy_and_populations_learn_from_them(kind: str, steps: int, rate: float) -> None:
    circuit = MAKE[kind]()
    moment = full_moment(circuit)
    rule = make_rule("epc", steps=steps, rate=rate)
    want, energies, errors = by_autograd(circuit, moment, steps, rate)
    (scope,) = settle(rule, circuit.sweep(stimulus_of(moment)), moment, is_watched=True)
    settled = scope._activity
    assert settled.notes["energy"].tolist() == pytest.approx(energies, rel=1e-12)
    for name, error in errors.items():
        assert torch.allclose(settled.errors[name], error, rtol=1e-11, atol=1e-14)
        assert torch.allclose(settled.source[name] - settled.output[name], error, rtol=1e-9, atol=1e-13)
    got = proposals(rule, circuit, moment)
    assert set(got) == set(want)
    assert_close(got, want, list(want))


def test_a_contrastive_top_learns_its_predictions_from_what_has_settled() -> None:
    rule = make_rule("epc", objective="contrastive", contrast="softplus", steps=3, rate=0.2)
    circuit = wired(rule, map_circuit())
    moment = full_moment(circuit)
    top = circuit.network.top
    b = circuit.weights[f"{top}=>{top}"].weight
    rows = len(stimulus_of(moment))

    context = circuit.sweep(stimulus_of(moment))[top]  # the response before anything settles

    def loss(mu: Tensor, moment: Moment) -> Tensor:
        return contrastive_loss(mu, context, b, moment, "softplus", ("global", "global")).expand(rows)

    want, _, _ = by_autograd(circuit, moment, 3, 0.2, loss)
    got = proposals(rule, circuit, moment)
    assert_close(got, want, [n for n in want if n in circuit.network.feedforward])
    assert f"{top}=>{top}" in got


@pytest.mark.parametrize("make", MAKE.values())
def test_after_a_small_step_every_error_is_the_credit_of_backprop_times_the_rate(make: Any) -> None:
    circuit = make()
    moment = full_moment(circuit)
    want, rate = proposals(Backprop(CrossEntropy()), circuit, moment), 1e-6
    got = proposals(ErrorOptimised(CrossEntropy(), steps=1, rate=rate), circuit, moment)
    for name in want:
        scale = 1.0 if circuit.network.feedforward[name].post == circuit.network.top else rate
        for one, other in zip(got[name], want[name], strict=True):
            assert torch.allclose(one / scale, other, rtol=1e-3, atol=1e-5)


def test_it_settles_where_settling_values_end() -> None:
    """Both descend one energy: in the end the errors, and what is learned, are the same."""
    circuit = dense_circuit(4, "tanh")
    moment = full_moment(circuit)
    errors = proposals(ErrorOptimised(SquaredError(), steps=400, rate=0.3), circuit, moment)
    values = proposals(PredictiveCoding(SquaredError(), steps=4000, rate=0.1), circuit, moment)
    assert_close(errors, values, list(values), 1e-9)


def test_a_row_of_which_nothing_is_wanted_settles_nowhere() -> None:
    circuit = dense_circuit()
    moment = full_moment(circuit)
    gain = torch.tensor([1.0] * 5 + [0.0] * 5).double()
    got = proposals(make_rule("epc", steps=3, rate=0.3), circuit, moment.with_events(Neuromodulation(gain)))
    half = Moment(Fixation(stimulus_of(moment)[:5]), Teaching(moment.require(Teaching, "test").labels[:5]))
    alone = proposals(make_rule("epc", steps=3, rate=0.3), circuit, half)
    assert_close({n: [2 * part for part in parts] for n, parts in got.items()}, alone, list(alone), 1e-12)


def test_what_makes_no_sense_is_refused_in_a_line() -> None:
    with pytest.raises(OptionError, match="steps: expected a whole number >= 1, got 0"):
        make_rule("epc", steps=0)
    with pytest.raises(OptionError, match="expected a rate > 0, got 0"):
        make_rule("epc", rate=0)
    with pytest.raises(OptionError, match="there is no option 'schedule'"):
        make_rule("epc", schedule="z-il")
