"""What surrounds a run changes nothing: default number type, autocast, inference mode, threads, other simulations."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
import torch
from conftest import MemoryStore, clones, full_moment, same
from torch import Tensor

from neurossl import Simulation, Synapses, Weights, convolutional, mlp
from neurossl.events import Moment
from neurossl.plasticity import make_rule
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder

RULES = ("clapp++", "clapp-dfb", "bp-infonce", "bp", "pc", "dfa", "ff")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def learned(
    rule: str, dtype: str = "float32", stream: list[Moment] | None = None
) -> tuple[dict[str, list[Tensor]], list[Any]]:
    """Return the weights after learning, and all that was recorded."""
    made, store = make_rule(rule), MemoryStore()
    network = convolutional(
        (2, 9, 9), [(4, True), (3, False)], 4 if "target" in made.needs else None, "relu", 3, made.normalisation
    )
    recorders = [WeightRecorder(2, index=5), UpdateRecorder(1, keep=True), ActivityRecorder(2), PerformanceRecorder(2)]
    options: dict[str, Any] = {"dtype": dtype, "device": "cpu", "seed": 3, "store": store, "recorders": recorders}
    simulation = Simulation(network, made, Synapses(lr=1e-2, weight_decay=0.1), **options)
    simulation.run(stream or [full_moment(network, seed=seed) for seed in range(3)])
    return clones(simulation.weights), [record[-1] for record in store.records]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_the_default_number_type_of_torch_changes_nothing(rule: str, dtype: str) -> None:
    want = learned(rule, dtype)
    with default_dtype(torch.float64):
        assert same(learned(rule, dtype), want)


@pytest.mark.parametrize("rule", RULES)
def test_autocast_around_a_run_changes_nothing(rule: str) -> None:
    want = learned(rule)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(learned(rule), want)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_and_inference_mode_around_a_run_change_nothing(rule: str) -> None:
    want = learned(rule)
    with torch.enable_grad():
        assert same(learned(rule), want)
    with torch.inference_mode():
        assert same(learned(rule), want)


def test_drawn_weights_and_responses_depend_on_nothing_outside() -> None:
    network = mlp(6, [5, 4])
    want = clones(Weights.draw(network, 2))
    images = torch.rand(3, 6, dtype=torch.float32)
    simulation = Simulation(network, "clapp++gap", seed=2, device="cpu")
    response = simulation.respond(images)["V2"]
    torch.manual_seed(99)
    with default_dtype(torch.float64), torch.autocast("cpu", torch.bfloat16):
        assert same(clones(Weights.draw(network, 2)), want)
        assert torch.equal(simulation.respond(images)["V2"], response)
        assert simulation.respond(images.numpy())["V2"].dtype == torch.float32


def test_a_run_draws_nothing_from_the_generator_of_torch() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    learned("clapp++")
    assert torch.equal(before, torch.get_rng_state())


def test_simulations_in_threads_learn_what_they_learn_alone() -> None:
    want = learned("clapp++")
    found: list[Any] = []
    threads = [Thread(target=lambda: found.append(learned("clapp++"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(same(one, want) for one in found)


def test_a_stream_of_arrays_is_one_of_tensors() -> None:
    """Stimuli, partners, negatives and labels as numpy makes them, in any whole number type."""
    network = convolutional((2, 9, 9), [(4, True), (3, False)], 4)
    tensors = [full_moment(network, seed=seed) for seed in range(3)]
    arrays = []
    for moment in tensors:
        events = []
        for event in moment:
            values = {name: value for name, value in vars(event).items() if isinstance(value, Tensor)}
            short = {n: v.numpy().astype("int16") if v.dtype == torch.int64 else v.numpy() for n, v in values.items()}
            events.append(type(event)(**short))
        arrays.append(Moment(*events, observers=moment.observers))
    for rule in ("clapp++", "bp", "pc"):
        assert same(learned(rule, stream=tensors), learned(rule, stream=arrays))
