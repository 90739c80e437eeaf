"""What several tests share: small circuits, moments, a store in memory, images."""

import json
import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="neurossl-tests-")  # what is measured here is nobody else's
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of this process and those that tests start; read when torch is loaded

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from neurossl import Circuit, Network, Parameters, Rule, Simulation, Synapses, Weights, convolutional, mlp
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.stimuli import ImageSet, load_images
from neurossl.store import Variable
from protocols.cli import main


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from several threads, which on busy cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class MemoryStore:
    """A store that keeps what it is given."""

    path = None

    def __init__(self) -> None:
        self.manifest: dict[str, Any] = {}
        self.declared: dict[tuple[str, str], tuple[dict[str, Variable], dict[str, Any]]] = {}
        self.records: list[tuple[str, str, int, float, int, dict[str, Any]]] = []
        self.state = "running"

    def describe(self, manifest: Mapping[str, Any]) -> None:
        assert not self.manifest, "described once"
        assert not self.records, "before the first record"
        self.manifest = json.loads(json.dumps(manifest))

    def announce(self, expected_bytes: int) -> str:
        return f"{expected_bytes} bytes"

    def amend(self, members: Mapping[str, Any]) -> None:
        assert self.manifest, "described first"
        self.manifest |= json.loads(json.dumps(members))

    def declare(
        self, kind: str, name: str, variables: Mapping[str, Variable], coords: Any = None, attrs: Any = None
    ) -> None:
        again = dict(variables), dict(coords or {})
        assert self.declared.setdefault((kind, name), again)[0] == again[0]

    def record(self, kind: str, name: str, event: int, time: float, observers_seen: int, values: Mapping[str, Any]) -> None:
        assert self.manifest, "described first"
        assert (kind, name) in self.declared
        assert set(values) <= set(self.declared[kind, name][0])
        self.records.append((kind, name, event, time, observers_seen, deepcopy(dict(values))))

    def commit(self) -> dict[str, Any]:
        return {"records": len(self.records)}

    def rewind(self, position: Mapping[str, Any]) -> None:
        del self.records[position["records"] :]

    def close(self, state: str = "finished", reason: str | None = None, **members: Any) -> None:
        self.state = state

    def dims(self, kind: str, name: str) -> dict[str, tuple[str, ...]]:
        return {key: variable.dims for key, variable in self.declared[kind, name][0].items()}

    def of(self, kind: str, name: str) -> dict[int, dict[str, Any]]:
        return {event: values for k, n, event, _, _, values in self.records if (k, n) == (kind, name)}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


Refusal = Callable[[str, Sequence[str]], str]


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Return what a protocol says that refuses its options, in one line and before anything is written."""

    def refused(protocol: str, options: Sequence[str]) -> str:
        assert main(["run", protocol, "--out", str(tmp_path / "run"), *options]) == 2
        assert not list(tmp_path.iterdir())
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    return refused


def drawn(network: Network, seed: int = 0, dtype: str = "float64") -> Circuit:
    """Return a network with weights."""
    return Circuit(network, Weights.draw(network, seed, dtype=dtype))


def dense_circuit(classes: int | None = 4, transfer: str = "tanh", seed: int = 0, **options: Any) -> Circuit:
    """Return 12 -> 9 -> 7 (-> classes) in float64."""
    return drawn(mlp(12, [9, 7], classes, transfer, **options), seed)


def map_circuit(classes: int | None = None, transfer: str = "relu", seed: int = 0, **options: Any) -> Circuit:
    """Return a convolutional network on 2 x 9 x 9 with a max-pooling that ignores a remainder, in float64."""
    blocks = [(4, False), (5, True), (3, False)]
    return drawn(convolutional((2, 9, 9), blocks, classes, transfer, **options), seed)


def wired(rule: Rule, circuit: Circuit, seed: int = 0) -> Circuit:
    """Return a circuit with the pathways that a rule needs; this one, if it has them, or a copy with others drawn."""
    network = rule.wire(circuit.network.copy())
    if list(network.pathways) == list(circuit.network.pathways):
        return circuit
    weights = Weights.draw(network, seed, dtype=circuit.weights.dtype, given=circuit.weights)
    return Circuit(network, weights, circuit.execution)


def simulated(circuit: Circuit, rule: Rule | str, synapses: Synapses | None = None, **options: Any) -> Simulation:
    """Return a simulation in float64 on the CPU that begins with the weights of a circuit."""
    common = {"dtype": "float64", "device": "cpu", **options}
    return Simulation(circuit.network, rule, synapses, weights=circuit.weights, **common)


def full_moment(circuit: Circuit | Network, rows: int = 10, negatives: int = 2, seed: int = 0, classes: int = 4) -> Moment:
    """Return a moment that every rule can learn from: pairs, negatives (the partner among them), labels, phases."""
    network = circuit if isinstance(circuit, Network) else circuit.network
    generator = torch.Generator().manual_seed(seed)
    stimulus = torch.randn(rows, *network.input.shape, generator=generator, dtype=torch.float64)
    partner = (torch.arange(rows) + rows // 2) % rows
    jumps = torch.randint(rows, (negatives, rows), generator=generator)
    jumps[0, 0] = partner[0]
    labels = torch.randint(classes, (rows,), generator=generator)
    sign = torch.cat([torch.ones(rows // 2), -torch.ones(rows // 2)]).double()
    return Moment(Fixation(stimulus, partner), Saccade(jumps), Teaching(labels), Phase(sign), observers=rows // 2)


def stimulus_of(moment: Moment) -> Tensor:
    """Return what falls on the retina."""
    return moment.require(Fixation, by="test").stimulus


def clones(weights: Mapping[str, Parameters]) -> dict[str, list[Tensor]]:
    """Return copies of all weights and biases."""
    return {name: [p.clone() for p in held.present] for name, held in weights.items()}


def same(one: Any, other: Any) -> bool:
    """Return whether nested dicts and lists of tensors or arrays are equal bit for bit."""
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(np.array_equal(one, other, equal_nan=True)) if isinstance(one, np.ndarray | float) else bool(one == other)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return load_images("digits")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image_set(pixels: Tensor, mean: float, std: float) -> ImageSet:
    """Return images of one class."""
    channels = pixels.shape[1]
    labels = torch.zeros(len(pixels)).long()
    return ImageSet("own", ("any",), pixels, labels, pixels, labels, (mean,) * channels, (std,) * channels, "made here")


def make_folder(path: Path, sizes: dict[str, tuple[int, int]], per_class: int = 3, test: str = "test") -> Path:
    """Make class folders of random pictures: PNG, JPEG, BMP, ..."""
    rng = np.random.default_rng(0)
    for part in ("train", test):
        for name, size in sizes.items():
            (path / part / name).mkdir(parents=True)
            for number in range(per_class):
                kind = ("png", "jpg", "bmp")[number % 3]
                Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path / part / name / f"{number}.{kind}")
    return path
