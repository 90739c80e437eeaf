"""Feedback between fixed and transposed: signs alone (sign-symmetric), and the transposed update (Kolen-Pollack)."""

from typing import Any

import pytest
import torch
from conftest import dense_circuit, drawn, full_moment, map_circuit, simulated, stimulus_of, wired
from oracle import Autograd, assert_close, proposals, skip_circuit
from torch import Tensor

from neurossl import FeedbackAlignment, Moment, Synapses, Teaching, make_rule, residual
from neurossl.errors import OptionError
from neurossl.events import Neuromodulation
from neurossl.plasticity import Backprop, CrossEntropy


def error_of(z: Tensor, moment: Moment) -> Tensor:
    labels = moment.require(Teaching, "test").labels
    return torch.eye(z.shape[1]).double()[labels] - z.softmax(1)


@pytest.mark.parametrize("signed", [False, True])
def test_each_equals_the_textbook_loop(signed: bool) -> None:
    """delta_l = (B delta_{l+1}) rho', through |B| sign(W)^T where signs are known; dB = (dW)^T where B learns."""
    rule = make_rule("fa-sign" if signed else "fa-kp")
    circuit = wired(rule, dense_circuit(4, "tanh"))
    circuit.weights["V1->V2"].weight[0, 0] = 0.0
    moment, weights = full_moment(circuit), circuit.weights
    z = circuit.sweep(stimulus_of(moment))
    got = proposals(rule, circuit, moment)
    delta, rows = error_of(z["readout"], moment), 10
    for pre, post in (("V2", "readout"), ("V1", "V2"), ("retina", "V1")):
        want = torch.zeros_like(weights[f"{pre}->{post}"].weight)
        for r in range(rows):
            want += torch.outer(delta[r], z[pre][r]) / rows
        assert_close(got, {f"{pre}->{post}": [want, delta.mean(0)]}, [f"{pre}->{post}"], 1e-12)
        if pre == "retina":
            break
        w, b = weights[f"{pre}->{post}"].weight, weights[f"{post}=>{pre}"].weight
        if signed:
            assert f"{post}=>{pre}" not in got
            through = torch.zeros_like(b)
            for i in range(b.shape[0]):
                for j in range(b.shape[1]):
                    sign = 0.0 if w[j, i] == 0 else 1.0 if w[j, i] > 0 else -1.0
                    through[i, j] = abs(b[i, j]) * sign
        else:
            assert_close(got, {f"{post}=>{pre}": [want.T]}, [f"{post}=>{pre}"], 1e-12)
            through = b
        delta = (delta @ through.T) * (1 - z[pre] ** 2)


@pytest.mark.parametrize("make", [dense_circuit, lambda: map_circuit(4), skip_circuit])
@pytest.mark.parametrize("name", ["fa-sign", "fa-kp"])
def test_with_transposed_weights_in_the_mirrors_they_are_backprop(name: str, make: Any) -> None:
    """Where the signs are known, only the sizes of the mirror count."""
    rule = make_rule(name)
    circuit = wired(rule, make())
    moment = full_moment(circuit)
    for pathway in circuit.network.feedforward.values():
        if pathway.pre != "retina":
            transposed = circuit.weights[pathway.name].weight.transpose(0, 1)
            circuit.weights.set(f"{pathway.post}=>{pathway.pre}", transposed if name == "fa-kp" else -transposed)
    want = proposals(Backprop(CrossEntropy()), circuit, moment)
    assert_close(proposals(rule, circuit, moment), want, list(want), 1e-12)


def test_a_convolution_learns_its_mirror_transposed() -> None:
    rule = make_rule("fa-kp", objective="contrastive")
    circuit = wired(rule, map_circuit())
    got = proposals(rule, circuit, full_moment(circuit))
    assert torch.equal(got["V2=>V1"][0], got["V1->V2"][0].transpose(0, 1))
    assert got["V3=>V3"], "the objective's own prediction learns as well"


@pytest.mark.parametrize("make", [dense_circuit, map_circuit])
def test_with_a_weight_decay_both_weights_become_equal_at_its_pace(make: Any) -> None:
    """Kolen & Pollack: what both learn is the same, so W - B^T shrinks by 1 - lr * decay in every moment, exactly."""
    rate, decay = 0.1, 0.3
    simulation = simulated(make(4), "fa-kp", Synapses("sgd", lr=rate, weight_decay=decay))
    weights, pathways = simulation.weights, [("V1", "V2"), ("V2", "V3" if make is map_circuit else "readout")]

    def apart() -> dict[tuple[str, str], Tensor]:
        return {(a, b): weights[f"{a}->{b}"].weight - weights[f"{b}=>{a}"].weight.transpose(0, 1) for a, b in pathways}

    before, bare = apart(), {name: weights[name].weight.clone() for name in simulation.network.feedforward}
    for n in range(5):
        simulation.run([full_moment(simulation.network, seed=n)])
        now = apart()
        for ends, difference in now.items():
            assert torch.allclose(difference, before[ends] * (1 - rate * decay), rtol=0, atol=1e-15)
        before = now
    assert all(not torch.allclose(weights[n].weight, bare[n] * (1 - rate * decay) ** 5) for n in bare), (
        "something is learned"
    )


def test_a_silent_neuromodulator_teaches_no_mirror() -> None:
    rule = make_rule("fa-kp")
    circuit = wired(rule, dense_circuit())
    gain = torch.tensor([0.0, 2.0] * 5).double()
    moment = full_moment(circuit).with_events(Neuromodulation(gain))
    got = proposals(rule, circuit, moment)
    assert_close(got, {"V2=>V1": [got["V1->V2"][0].T]}, ["V2=>V1"], 1e-14)
    labelled = Autograd(circuit)
    z, _ = labelled.sweep(stimulus_of(moment), detach=False)
    losses = -z["readout"].log_softmax(1)[torch.arange(10), moment.require(Teaching, "test").labels]
    want = labelled.gradients((losses * gain).mean())
    assert_close(got, {"V2->readout": want["V2->readout"]}, ["V2->readout"])


def test_the_ledger_says_what_they_need() -> None:
    assert "weight transport" in make_rule("fa-sign").needs
    assert "weight transport" not in make_rule("fa-kp").needs
    assert make_rule("fa").needs == make_rule("fa-kp").needs == {"layerwise error", "activity held", "target"}
    assert make_rule("fa").describe()["transport"] == "feedback alignment"
    assert make_rule("fa-kp").describe()["transport"] == "Kolen-Pollack feedback alignment"
    with pytest.raises(OptionError, match="feedback 'signs' does not exist, expected fixed, sign, learned"):
        FeedbackAlignment(CrossEntropy(), feedback="signs")


def test_fixed_one_to_one_pathways_have_fixed_mirrors() -> None:
    network = residual((2, 8, 8), [4, 4], 4)
    for name in ("fa-sign", "fa-kp"):
        wired_network = make_rule(name).wire(network.copy())
        fixed = [p for p in wired_network.pathways.values() if p.kind == "mirror" and p.init == "identity"]
        assert not any(p.plastic for p in fixed)
        simulated(drawn(network), name).run([full_moment(network)])
