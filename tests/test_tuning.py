"""The engine chooses how it computes by a short measurement: the choice changes rounding alone, is kept, and goes on."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neurossl import Simulation, Synapses, mlp
from neurossl.anatomy.architectures import convolutional
from neurossl.anatomy.connectivity import Convolution
from neurossl.anatomy.network import Network
from neurossl.engine import kernels, limits, products, tuning
from neurossl.engine.execution import FORMS, Execution, Means
from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment, Saccade
from neurossl.plasticity import make_rule, propose

CPU = torch.device("cpu")
BLOCKS = [(8, False), (12, True), (16, True)]


def network() -> Network:
    """Return maps of 8 x 8, 4 x 4 and 2 x 2 places."""
    return convolutional((3, 8, 8), BLOCKS)


def moment(seed: int = 0, rows: int = 4) -> Moment:
    generator = torch.Generator().manual_seed(seed)
    partner = torch.arange(2 * rows).roll(rows)
    stimulus = torch.rand(2 * rows, 3, 8, 8, generator=generator)
    return Moment(Fixation(stimulus, partner=partner), Saccade(negatives=partner.roll(1)[None]))


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, for networks however small."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for limit in ("SMALL_PRODUCT", "TUNED_WEIGHTS", "TUNED_CONVOLUTION"):
        monkeypatch.setattr(limits, limit, 1)
    return tmp_path / "cache" / "neurossl" / "tuning"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is measured; the last candidate is always the fastest."""
    asked: list[str] = []

    def last(candidates: tuning.Candidates) -> tuple[str, dict[str, float]]:
        for candidate in candidates.values():
            candidate()
        asked.append(" ".join(candidates))
        return list(candidates)[-1], dict.fromkeys(candidates, 1.0)

    monkeypatch.setattr(tuning, "fastest", last)
    return asked


def updates(execution: Execution, rule: str) -> dict[str, torch.Tensor]:
    simulation = Simulation(network(), rule, seed=3, device="cpu", execution=execution)
    with torch.no_grad():
        activity = simulation.circuit.sweep(moment().require(Fixation, "test").stimulus)
        return {name: update.weight for name, update in propose(simulation.rule, activity, moment())}


@pytest.mark.parametrize("rule", ["clapp++", "clapp++dfb", "bp-clapp++", "dfa-clapp"])
@pytest.mark.parametrize("matrices", products.LIBRARIES)
@pytest.mark.parametrize("form", FORMS)
def test_every_choice_gives_the_same_updates_to_rounding(form: str, matrices: str, rule: str) -> None:
    plain = updates(Execution(), rule)
    chosen = updates(Execution(matrices=matrices, drive=form, change=form), rule)
    assert set(plain) == set(chosen)
    for name, update in plain.items():
        assert torch.allclose(chosen[name], update, rtol=1e-4, atol=1e-5 * float(update.abs().max())), name


@pytest.mark.parametrize("stride", [1, 2, (2, 1)])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_convolution_equals_the_definition(form: str, mode: str, stride: Any) -> None:
    wiring = Convolution((3, 2), stride, (1, 1), mode)
    x, weight, bias = torch.rand(3, 4, 7, 6).double(), torch.rand(5, 4, 3, 2).double(), torch.rand(5).double()
    weight.requires_grad_()
    expected = wiring.drive(x, weight, bias)
    credit = torch.rand_like(expected)
    (gradient,) = torch.autograd.grad((expected * credit).sum() / len(x), weight)
    means = Means("onednn", form, form)
    with torch.no_grad():
        assert torch.allclose(kernels.drive(wiring, x, weight, bias, means), expected, rtol=1e-12)
        found = kernels.hebbian(wiring, x, credit, weight, True, means)
    assert torch.allclose(found.weight, gradient, rtol=1e-12)
    assert torch.allclose(found.bias, credit.sum((0, 2, 3)) / len(x), rtol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", products.LIBRARIES)
def test_products_of_parts_and_transposes_are_those_of_copies(library: str) -> None:
    post, pre, weight = torch.rand(6, 40)[:, 3:20], torch.rand(30, 6).T[:, ::2], torch.rand(9, 17).T
    expected = post.double().T @ pre.double()
    assert torch.allclose(products.outer(post, pre, library).double(), expected, rtol=1e-5)
    part = products.outer(post[:, 4:9], pre, library, torch.empty(5, 15))
    assert torch.allclose(part.double(), expected[4:9], rtol=1e-5)
    bias = torch.rand(9)
    found = products.linear(post, weight.T, bias, library)
    assert torch.allclose(found.double(), post.double() @ weight.double() + bias.double(), rtol=1e-5)


def test_what_is_to_be_differentiated_keeps_its_gradient() -> None:
    x, weight = torch.rand(5, 7), torch.rand(3, 7, requires_grad=True)
    products.linear(x, weight, None, "onednn").sum().backward()
    assert torch.allclose(weight.grad, x.sum(0).expand(3, -1))  # type: ignore[arg-type]


def test_what_was_measured_is_kept_and_not_measured_again(room: Path, measured: list[str]) -> None:
    first = tuning.tuned(network(), CPU, torch.float32)
    assert "blas onednn" in measured
    assert "last product" in measured
    assert set(first.drive) == set(network().feedforward)
    asked = len(measured)
    assert len(list(room.glob("*.json"))) == asked
    assert tuning.tuned(network(), CPU, torch.float32) == first
    assert len(measured) == asked


def test_processes_that_measure_at_the_same_time_all_take_the_first_answer(room: Path) -> None:
    kept = tuning.Answers.here()
    assert kept is not None

    def answered_meanwhile() -> tuning.Candidates:
        other = tuning.Answers(room)
        assert other.ask({"what": "x"}, ("a", "b"), lambda: {"a": _nothing, "b": _nothing}) == "a"
        return {"b": _nothing}

    assert kept.ask({"what": "x"}, ("a", "b"), answered_meanwhile) == "a"


def _nothing() -> None:
    pass


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: json.dumps({**json.loads(text), "fastest": "__import__('os')"}),
        lambda text: json.dumps({**json.loads(text), "fastest": ["last"]}),
        lambda text: json.dumps({**json.loads(text), "key": {**json.loads(text)["key"], "processor": "another"}}),
        lambda text: text + " " * 2**17,
    ],
)
def test_a_damaged_or_foreign_answer_is_ignored_and_replaced(
    room: Path, measured: list[str], damage: Callable[[str], str]
) -> None:
    first = tuning.tuned(network(), CPU, torch.float32)
    whole = {path: path.read_text() for path in room.glob("*.json")}
    for path, text in whole.items():
        path.write_text(damage(text))
    assert tuning.tuned(network(), CPU, torch.float32) == first
    assert {path: path.read_text() for path in room.glob("*.json")} == whole


def test_an_answer_is_never_written_through_a_link(room: Path, measured: list[str], tmp_path: Path) -> None:
    tuning.tuned(network(), CPU, torch.float32)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for path in room.glob("*.json"):
        path.unlink()
        path.symlink_to(precious)
    tuning.tuned(network(), CPU, torch.float32)
    assert precious.read_text() == "mine"


def test_where_nothing_can_be_kept_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert tuning.tuned(network(), CPU, torch.float32) == Execution()
    assert not measured


def test_small_networks_and_float64_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, room: Path, measured: list[str]
) -> None:
    assert tuning.tuned(network(), CPU, torch.float64) == Execution()
    monkeypatch.undo()
    assert tuning.tuned(mlp(64, [128, 128]), CPU, torch.float32) == Execution()
    assert not measured


def test_measuring_takes_nothing_from_the_generators(room: Path) -> None:
    before = torch.get_rng_state()
    tuning.tuned(network(), CPU, torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_way_is_taken_only_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 0.5, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0])  # one lucky round
    monkeypatch.setattr(tuning, "_seconds", lambda candidate: next(times))
    assert tuning.fastest({"first": _nothing, "other": _nothing})[0] == "first"
    times = iter([1.0, 0.5, 1.0, 0.5, 1.0, 2.0, 1.0, 0.6])
    assert tuning.fastest({"first": _nothing, "other": _nothing})[0] == "other"


def test_the_choice_is_part_of_the_run_and_of_its_state(measured: list[str]) -> None:
    from neurossl.provenance import provenance

    simulation = Simulation(network(), "clapp++gap", seed=3, device="cpu")
    told = provenance(simulation, None, {})["engine"]
    assert told["matrices"] == "onednn"
    assert set(told["drive"].values()) | set(told["change"].values()) <= set(FORMS)
    assert json.loads(json.dumps(told)) == told
    assert simulation.state().values["simulation"]["engine"] == told


def test_a_run_that_goes_on_computes_as_it_began_bit_for_bit(tmp_path: Path, room: Path) -> None:
    from neurossl import Checkpointer

    begun = Execution(matrices="onednn", drive="product", change="product")
    options = {"seed": 3, "device": "cpu", "checkpoints": Checkpointer(every=3, path=tmp_path / "kept")}
    moments = [moment(seed) for seed in range(6)]
    whole = Simulation(network(), "clapp++", Synapses(lr=1e-2), execution=begun, **options)  # type: ignore[arg-type]
    whole.run(moments)
    again = Simulation.from_checkpoint(tmp_path / "kept", moment=3)
    assert again.circuit.execution == begun
    other = Simulation(network(), "clapp++", Synapses(lr=1e-2), seed=3, device="cpu", execution=Execution())
    other.restore(again.state())
    assert other.circuit.execution == begun
    for simulation in (again, other):
        simulation.run(moments)
        for name, held in whole.weights.items():
            assert torch.equal(simulation.weights[name].weight, held.weight), name


@pytest.mark.slow
def test_equal_runs_of_different_processes_are_equal_bit_for_bit(tmp_path: Path, room: Path) -> None:
    script = (
        "import hashlib, torch; torch.set_num_threads(1); from test_tuning import *;"
        "[setattr(limits, n, 1) for n in ('SMALL_PRODUCT', 'TUNED_WEIGHTS', 'TUNED_CONVOLUTION')];"
        "s = Simulation(network(), 'clapp++', seed=3, device='cpu').run([moment(i) for i in range(3)]);"
        "print(hashlib.sha256(b''.join(p.weight.numpy().tobytes() for p in s.weights.values())).hexdigest())"
    )
    here = str(Path(__file__).parent)
    started = [
        subprocess.Popen([sys.executable, "-c", script], cwd=here, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = [process.communicate(timeout=60)[0] for process in started]
    assert ends[0]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("wrong", [{"matrices": "mine"}, {"drive": "sideways"}, {"change": {"V1->V2": "sideways"}}])
def test_a_way_that_does_not_exist_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="expected"):
        Execution(**wrong)


def test_a_choice_made_by_hand_is_not_measured(measured: list[str]) -> None:
    simulation = Simulation(network(), make_rule("clapp++gap"), device="cpu", execution=Execution(drive={"V1->V2": "first"}))
    assert not measured
    assert simulation.circuit["V1->V2"].means.drive == "first"
