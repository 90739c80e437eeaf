"""Weights: drawn, saved and loaded, exchanged with modules of torch, and described together with their network."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import clones, dense_circuit, drawn, full_moment, same, simulated
from safetensors.torch import save_file

from neurossl import Circuit, Network, Parameters, Weights, from_description, mlp, vgg6
from neurossl.anatomy import Convolution, FeedbackPathway, FeedforwardPathway, InputPopulation, Pooling, Population
from neurossl.errors import NetworkError, OptionError, StorageError
from neurossl.plasticity import make_rule


def test_weights_are_a_mapping_of_pathways() -> None:
    weights = dense_circuit().weights
    assert list(weights) == ["retina->V1", "V1->V2", "V2->readout"]
    assert len(weights) == 3
    assert "V1->V2" in weights
    assert "V9->V10" not in weights
    assert weights.get("V9->V10") is None
    weight, bias = weights["V1->V2"]
    assert bias is not None
    assert (weight.shape, bias.shape) == ((7, 9), (7,))
    with pytest.raises(NetworkError, match=r"no pathway 'V9->V10' .*there are: retina->V1"):
        weights["V9->V10"]
    assert "3 pathways, 219 values; cpu, float64" in repr(weights)


def test_device_and_number_type_do_not_change_the_draw() -> None:
    network = from_description("conv:4M-6", (3, 8, 8), 5)
    single, double = Weights.draw(network, 3), Weights.draw(network, 3, dtype="float64")
    for name in single:
        for one, other in zip(single[name].present, double[name].present, strict=True):
            assert torch.equal(one.double(), other)
    with pytest.raises(OptionError, match="expected float32 or float64"):
        Weights.draw(network, dtype="float16")


def test_given_weights_are_copied_and_the_others_drawn() -> None:
    network = mlp(6, [5, 4])
    ones = Parameters(torch.ones(4, 5), torch.ones(4))
    weights = Weights.draw(network, 1, given={"V1->V2": ones})
    weights["V1->V2"].weight.mul_(3)
    assert torch.equal(ones.weight, torch.ones(4, 5))
    assert torch.equal(weights["retina->V1"].weight, Weights.draw(network, 1)["retina->V1"].weight)
    for given, message in (
        ({"V1->V9": ones}, "no pathway 'V1->V9'"),
        ({"retina->V1": ones}, r"weights must be \(5, 6\), got \(4, 5\)"),
        ({"V1->V2": Parameters(torch.ones(4, 5))}, r"expected a bias of \(4,\), got None"),
        ({"V1->V2": Parameters(torch.ones(4, 5), torch.ones(5))}, r"expected a bias of \(4,\), got \(5,\)"),
    ):
        with pytest.raises(NetworkError, match=message):
            Weights.draw(network, given=given)


def test_weights_of_one_simulation_begin_another() -> None:
    """Also where the rule of the second adds pathways that the first does not have."""
    circuit = dense_circuit(None)
    first = simulated(circuit, "clapp++gap").run([full_moment(circuit)])
    for rule in ("clapp++gap", "bp-infonce", "clapp-dfb"):
        second = simulated(Circuit(circuit.network, first.weights), rule) if rule == "clapp++gap" else None
        network = make_rule(rule).wire(circuit.network.copy())
        begun = Weights.draw(network, given={n: held for n, held in first.weights.items() if n in network.pathways})
        assert torch.equal(begun["V1->V2"].weight, first.weights["V1->V2"].weight.float())
        if second is not None:
            assert same(clones(second.weights), clones(first.weights))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ["mlp:7-6", "conv:4-6M", "residual:4-6", "linear:4-4:2"])
def test_saved_weights_come_back_bit_for_bit(text: str, dtype: str, tmp_path: Path) -> None:
    weights = Weights.draw(from_description(text, (2, 8, 8), 3), 5, dtype=dtype)
    weights.save(tmp_path / "w.safetensors")
    for network in (None, weights.network):
        again = Weights.load(tmp_path / "w.safetensors", network)
        assert again.dtype == weights.dtype
        assert again.network.describe() == weights.network.describe()
        assert same(clones(again), clones(weights))
    images = torch.rand(2, 2, 8, 8).to(weights.dtype)
    one, other = Circuit(weights.network, weights).sweep(images), Circuit(again.network, again).sweep(images)
    assert torch.equal(one["readout"], other["readout"])


def test_wired_weights_are_saved_with_their_predictions(tmp_path: Path) -> None:
    circuit = dense_circuit(None)
    simulation = simulated(circuit, "clapp++both").run([full_moment(circuit)])
    simulation.weights.save(tmp_path / "w.safetensors")
    again = Weights.load(tmp_path / "w.safetensors")
    assert same(clones(again), clones(simulation.weights))
    assert set(again.network.feedback) == {"V2=>V1", "V1=>V1", "V2=>V2", "V2=>V2:lateral"}


def test_what_cannot_be_loaded_is_refused_in_a_line(tmp_path: Path) -> None:
    weights = Weights.draw(mlp(6, [5]))
    place = tmp_path / "w.safetensors"
    weights.save(place)
    with pytest.raises(NetworkError, match=r"'retina->V1': weights must be \(4, 6\), got \(5, 6\)"):
        Weights.load(place, mlp(6, [4]))
    with pytest.raises(NetworkError, match=r"there is no 'V1->V2.weight'"):
        Weights.load(place, mlp(6, [5, 4]))
    with pytest.raises(NetworkError, match=r"'retina->V1.bias' belongs to no pathway"):
        Weights.load(place, mlp(6, [5], bias=False))
    with pytest.raises(StorageError, match="there is no such file"):
        Weights.load(tmp_path / "other.safetensors")
    (tmp_path / "damaged").write_bytes(place.read_bytes()[:-9])
    (tmp_path / "text").write_text("weights")
    for name in ("damaged", "text"):
        with pytest.raises(StorageError, match="cannot be read as safetensors"):
            Weights.load(tmp_path / name)
    save_file({"retina->V1.weight": torch.zeros(5, 6)}, tmp_path / "foreign")
    with pytest.raises(StorageError, match="does not say of which network; pass network="):
        Weights.load(tmp_path / "foreign")
    huge = json.dumps(mlp(10**7, [10**7]).describe())
    for number, (network, error) in enumerate((("[1, 2", StorageError), ("[1, 2]", NetworkError), (huge, NetworkError))):
        save_file({"retina->V1.weight": torch.zeros(5, 6)}, tmp_path / f"{number}", metadata={"network": network})
        with pytest.raises(error):
            Weights.load(tmp_path / f"{number}")


def test_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = Weights.draw(mlp(6, [5]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    weights.save("here.safetensors")
    weights.save("~/home.safetensors")
    os.chdir("/")
    for name in ("here", "home"):
        assert same(clones(Weights.load(str(tmp_path / f"{name}.safetensors"))), clones(weights))


def test_state_dict_goes_in_and_out() -> None:
    one, other = (dense_circuit(seed=seed).weights for seed in (0, 1))
    assert list(one.state_dict())[:2] == ["retina->V1.weight", "retina->V1.bias"]
    other.load_state_dict(one.state_dict())
    assert same(clones(one), clones(other))
    other.load_state_dict({"V1->V2.weight": np.zeros((7, 9))}, strict=False)
    assert float(other["V1->V2"].weight.abs().max()) == 0
    before = clones(other)
    short = {name: tensor for name, tensor in one.state_dict().items() if name != "V2->readout.bias"}
    for tensors, names, message in (
        (short, None, "there is no 'V2->readout.bias'"),
        ({**one.state_dict(), "V3.weight": torch.zeros(1)}, None, "'V3.weight' belongs to no pathway"),
        ({**one.state_dict(), "V2->readout.bias": torch.zeros(9)}, None, r"has shape \(9,\), 'V2->readout.bias' needs"),
        (one.state_dict(), {"fc": "V9->V1"}, "no pathway 'V9->V1'"),
        ({"fc.weight": torch.zeros(7, 9)}, {"fc": "V1->V2"}, "there is no 'retina->V1.weight'"),
    ):
        with pytest.raises(NetworkError, match=message):
            other.load_state_dict(tensors, names)
        assert same(before, clones(other)), "nothing is changed by what is refused"


def vgg11(size: int = 32) -> tuple[Network, dict[str, str]]:
    """Return the convolutions of torchvision's VGG11 as populations, and which module each pathway is."""
    network, names, below, side = Network(InputPopulation("retina", (3, size, size)), name="vgg11"), {}, "retina", size
    plan = ((0, 64, 1), (3, 128, 1), (6, 256, 0), (8, 256, 1), (11, 512, 0), (13, 512, 1), (16, 512, 0), (18, 512, 1))
    for depth, (module, channels, is_pooled) in enumerate(plan, 1):
        above = Population(f"V{depth}", (channels, side, side), "relu", Pooling("max", 2) if is_pooled else None)
        network.add(above, FeedforwardPathway(below, above.name, Convolution(3, 1, 1)))
        names[f"features.{module}"] = f"{below}->{above.name}"
        below, side = above.name, side // 2 if is_pooled else side
    return network, names


def test_convolutions_of_torchvision_come_in_and_go_out() -> None:
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.vgg11(weights=None).eval()
    network, names = vgg11()
    weights = Weights.draw(network)
    weights.load_state_dict(model.state_dict(), names)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        want = model.features(images)
    assert torch.allclose(Circuit(network, weights).sweep(images)["V8"], want, rtol=1e-4, atol=1e-6)
    learned = {name: tensor + 1 for name, tensor in weights.state_dict().items()}
    module_of = {pathway: module for module, pathway in names.items()}
    outward = {}
    for name, tensor in learned.items():
        pathway, _, part = name.rpartition(".")
        outward[f"{module_of[pathway]}.{part}"] = tensor
    missing = model.load_state_dict(outward, strict=False)
    assert not missing.unexpected_keys
    assert torch.equal(model.features[0].weight, learned["retina->V1.weight"])


def test_a_linear_module_and_arrays_come_in() -> None:
    linear = torch.nn.Linear(6, 5)
    weights = Weights.draw(mlp(6, [5]))
    weights.load_state_dict({f"fc.{k}": v.detach().numpy() for k, v in linear.state_dict().items()}, {"fc": "retina->V1"})
    x = torch.randn(3, 6)
    drive = Circuit(weights.network, weights)["retina->V1"].drive(x)  # type: ignore[attr-defined]
    assert torch.allclose(drive, linear(x).detach(), atol=1e-6)
    weights.set("retina->V1", np.eye(5, 6), np.zeros(5, dtype=np.float32))
    assert torch.equal(weights["retina->V1"].weight, torch.eye(5, 6))
    with pytest.raises(NetworkError, match=r"weights must be \(5, 6\)"):
        weights.set("retina->V1", np.eye(6))


def test_weights_set_by_hand_count_at_once() -> None:
    """Also those that are rounded for faster products."""
    circuit = drawn(mlp(6, [5]), dtype="float32")
    simulation = simulated(circuit, "clapp++gap", dtype="float32", products="bfloat16")
    images = torch.rand(2, 6)
    simulation.respond(images)
    simulation.weights.set("retina->V1", torch.zeros(5, 6), torch.zeros(5))
    assert float(simulation.respond(images)["V1"].abs().max()) == 0


def test_weights_of_another_network_do_not_fit() -> None:
    weights: Any = Weights.draw(mlp(6, [5]))
    with pytest.raises(NetworkError, match=r"weights must be"):
        simulated(Circuit(mlp(6, [4]), weights), "clapp++gap")
    network = mlp(6, [5, 4]).add(FeedbackPathway("V2", "V1"))
    begun = Weights.draw(network, given=Weights.draw(mlp(6, [5, 4])))
    assert begun["V2=>V1"].weight.shape == (5, 4)


def test_the_six_layer_network_is_saved_whole(tmp_path: Path) -> None:
    weights = Weights.draw(vgg6((3, 32, 32), width=1 / 16), 2)
    weights.save(tmp_path / "w.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"], "no temporary file is left"
    kernel = Weights.load(tmp_path / "w.safetensors")["V5->V6"].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last), "laid out as it was"
