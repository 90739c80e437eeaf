"""The rules against reference values: ``neurossl selftest``.

A reference file is an ``.npz`` with one small network in float64: weights, inputs, and what every gradient must be; ``meta``
(a JSON string) says which rule. The files shipped with the package were computed with the published implementation of
arXiv 2601.21683 and with independent straightforward code.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy import Convolution, FeedforwardPathway, InputPopulation, Network, Pooling, Population
from neurossl.device import choose_device, choose_dtype
from neurossl.dynamics import Circuit
from neurossl.engine import Parameters, Update, Weights
from neurossl.errors import NeurosslError, OptionError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.plasticity import (
    Backprop,
    Contrastive,
    CrossEntropy,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    Goodness,
    Local,
    Objective,
    PredictiveCoding,
    Rule,
    Scope,
    Site,
    SquaredError,
    losses,
    propose,
    settle,
)
from neurossl.stimuli.datasets.access import open_regular

_LARGEST = 2**30
"""Bytes that reference values may take."""
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    TypeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_MISFITS = (NeurosslError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
Arrays = dict[str, Tensor]
Updates = dict[str, Update]


class UnreadableReference(NeurosslError):
    """A reference file that cannot be read."""


class UnsuitableArray(NeurosslError):
    """A reference file that lacks an array which its rule needs, or has it in a wrong shape: a failure, not a pass."""


@dataclass(frozen=True)
class Outcome:
    """What became of one reference file.

    Attributes
    ----------
    name : str
    deviation : float
        Largest ``max|got - want| / max|want|`` over all arrays, absolute where ``max|want| < 1e-12``.
    array : str
        The array where it is largest.
    compared : int
        Number of arrays compared.
    problem : str
        Why the file fails irrespective of the deviation; empty otherwise.
    """

    name: str
    deviation: float
    array: str
    compared: int
    problem: str = ""

    def passed(self, tolerance: float) -> bool:
        """Return whether the file passes."""
        return not self.problem and self.deviation <= tolerance

    def line(self, tolerance: float) -> str:
        """Return the line that the self-test prints."""
        verdict = "ok  " if self.passed(tolerance) else "FAIL"
        what = self.problem or f"largest relative deviation {self.deviation:.1e} ({self.array}; {self.compared} arrays)"
        return f"{verdict} {self.name:<36} {what}"


def shipped_files() -> list[Path]:
    """Return the reference files that come with the package."""
    return sorted((Path(__file__).parent / "reference").glob("*.npz"))


def check_file(path: Path, device: torch.device, dtype: torch.dtype) -> Outcome:
    """Compare every array of a reference file with what the rules give.

    Raises
    ------
    UnreadableReference
        If the file cannot be read or is for no known rule.
    """
    meta, arrays = _read(path, device, dtype)
    try:
        got = _REFERENCES[meta["rule"]](meta, _Inputs(arrays, path.name))
    except UnsuitableArray as problem:
        return Outcome(path.name, float("nan"), "", 0, str(problem))
    except _MISFITS as problem:
        reason = f"{type(problem).__name__}: {problem}".split("\n")[0]
        return Outcome(path.name, float("nan"), "", 0, f"does not fit together: {reason}")
    return _compare(path.name, got, arrays)


def _compare(name: str, got: Arrays, arrays: Mapping[str, Tensor]) -> Outcome:
    optional = any(key.endswith("_backprop_grad") for key in arrays)
    worst, where, compared = 0.0, "", 0
    for key, value in got.items():
        if key.endswith("_backprop_grad") and not optional:
            continue
        if key not in arrays:
            return Outcome(name, float("nan"), key, compared, f"array {key!r} is missing")
        want = arrays[key].double()
        if want.shape != value.shape:
            shapes = f"{tuple(want.shape)}, not {tuple(value.shape)}"
            return Outcome(name, float("nan"), key, compared, f"array {key!r} has shape {shapes}")
        scale = float(want.abs().max()) if want.numel() else 0.0
        deviation = float((value.double() - want).abs().max()) / (scale if scale >= 1e-12 else 1.0) if want.numel() else 0.0
        if not deviation < float("inf"):
            return Outcome(name, float("nan"), key, compared, f"array {key!r} is not finite")
        if deviation >= worst:
            worst, where = deviation, key
        compared += 1
    return Outcome(name, worst, where, compared)


def run_selftest(
    files: Iterable[str | Path] = (), device: str = "cpu", dtype: str = "float64", report: Callable[[str], None] = print
) -> bool:
    """Check reference files and report one line each.

    Parameters
    ----------
    files : iterable of path
        Those shipped with the package when empty.
    device : str
    dtype : {"float64", "float32"}
    report : callable
        Is given every line.

    Returns
    -------
    bool
        Whether all are below the tolerance (1e-10 in float64, 1e-4 in float32).

    Raises
    ------
    NeurosslError
        For a file that cannot be read, or an unknown device or dtype.
    """
    number_type = choose_dtype(dtype)
    if number_type not in TOLERANCE:
        raise OptionError(f"dtype {dtype!r}: the self-test knows float64 and float32")
    tolerance = TOLERANCE[number_type]
    place = choose_device(device)
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        outcomes = []
        for path in [Path(f) for f in files] or shipped_files():
            outcomes.append(check_file(path, place, number_type))
            report(outcomes[-1].line(tolerance))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    passed = sum(o.passed(tolerance) for o in outcomes)
    report(f"{passed} of {len(outcomes)} files within {tolerance:g} ({dtype}, {place.type})")
    return passed == len(outcomes)


class _Inputs:
    """The arrays of a file, by name, with a clear failure for a missing one."""

    def __init__(self, arrays: Arrays, file: str) -> None:
        self.arrays = arrays
        self.file = file

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.arrays:
            raise UnsuitableArray(f"array {name!r} is missing")
        return self.arrays[name]

    def shaped(self, name: str, *shape: int | None) -> Tensor:
        """Return an array of this shape; None stands for any size."""
        array = self[name]
        if array.ndim != len(shape) or any(n not in (None, size) for n, size in zip(shape, array.shape, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            raise UnsuitableArray(f"array {name!r} has shape {tuple(array.shape)}, not ({expected})")
        return array


def _read(path: Path, device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Any], Arrays]:
    """Return meta and arrays; nothing is unpickled."""
    try:
        with open_regular(path) as file:
            with zipfile.ZipFile(file) as parts:
                claimed = sum(part.file_size for part in parts.infolist())
            if claimed > _LARGEST:
                raise ValueError(f"it unpacks to {claimed / 1e9:.1f} GB, expected at most {_LARGEST / 1e9:.1f} GB")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                loaded = {name: archive[name] for name in archive.files}
        meta = json.loads(str(loaded.pop("meta")))
    except FileNotFoundError:
        raise UnreadableReference(f"{path}: there is no such file, expected an .npz with reference values") from None
    except KeyError:
        raise UnreadableReference(f"{path}: there is no 'meta', expected an .npz with reference values") from None
    except _DAMAGE as reason:
        message = str(reason).split("\n")[0]
        raise UnreadableReference(f"{path}: cannot be read as an .npz with reference values ({message})") from None
    rule = meta.get("rule") if isinstance(meta, dict) else meta
    if not isinstance(rule, str) or rule not in _REFERENCES or not isinstance(meta, dict):
        raise UnreadableReference(f"{path}: no reference for rule {rule!r}, expected one of {', '.join(_REFERENCES)}")
    tensors = {}
    for name, array in loaded.items():
        if array.dtype.kind not in "iuf":
            raise UnreadableReference(f"{path}: array {name!r} holds {array.dtype}, expected numbers")
        tensor = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
        tensors[name] = tensor.to(device, dtype if tensor.is_floating_point() else torch.int64)
    return meta, tensors


def _dense_network(meta: dict[str, Any], inputs: _Inputs, normalisation: str | None = None) -> Network:
    dims, transfers = meta["dims"], meta["transfer"]
    network = Network(InputPopulation("V0", dims[0]), name=inputs.file)
    for layer, (units, transfer) in enumerate(zip(dims[1:], transfers, strict=True)):
        network.add(Population(f"V{layer + 1}", units, transfer))
        network.add(FeedforwardPathway(f"V{layer}", f"V{layer + 1}", normalisation=normalisation))
    return network


def _circuit(network: Network, inputs: _Inputs, given: Mapping[str, str], prefix: str = "layer") -> Circuit:
    """Return the network with the weights of a file: those of its layers, and further arrays by name of the pathway."""
    weights = {}
    for layer in range(len(network.order)):
        names = (f"{prefix}{layer}_weight", f"{prefix}{layer}_bias")
        weights[f"V{layer}->V{layer + 1}"] = Parameters(*(inputs[name] for name in names))
    weights |= {pathway: Parameters(inputs[array]) for pathway, array in given.items()}
    sample = next(iter(weights.values())).weight
    return Circuit(network, Weights.draw(network, 0, sample.device, sample.dtype, weights))


def _gradients(
    rule: Rule, settled: Any, circuit: Circuit, moment: Moment, prefix: str, ending: str
) -> tuple[Arrays, Updates]:
    """Return the gradients of the feedforward weights by array name, and all updates by pathway name."""
    updates = dict(propose(rule, settled, moment))
    arrays = {}
    for layer in range(len(circuit.network.order)):
        update = updates[f"V{layer}->V{layer + 1}"]
        assert update.bias is not None, "reference networks have biases"
        arrays[f"{prefix}{layer}_weight{ending}"] = -update.weight
        arrays[f"{prefix}{layer}_bias{ending}"] = -update.bias
    return arrays, updates


def _contrastive_moment(stimulus: Tensor, inputs: _Inputs, negatives: int | None) -> Moment:
    """Return both views as one moment; a negative index counts target rows ``[view 2; view 1]``."""
    rows = len(stimulus)
    partner = (torch.arange(rows, device=stimulus.device) + rows // 2) % rows
    index = inputs.shaped("negative_index", None if negatives is None else negatives * rows)
    return Moment(Fixation(stimulus, partner), Saccade(partner[index.reshape(-1, rows)]), observers=rows // 2)


def _contrastive_arrays(
    objective: Contrastive, network: Network, moment: Moment, inputs: _Inputs, prefix: str, families: bool
) -> Arrays:
    """Return what the local rule and backprop give for the weights of a file."""
    rule, reference = Local(objective), Backprop(objective)
    rule.wire(network)
    named: dict[str, str] = {}
    pathways = [objective.pathway_names(name, network.top) for name in network.order]
    for layer, names in enumerate(pathways):
        for family, name in enumerate(names):
            named[name] = f"prediction{family}_{layer}" if families else f"prediction{layer}"
    circuit = _circuit(network, inputs, {name: f"{array}_weight" for name, array in named.items()}, prefix)
    activity = circuit.sweep(moment.require(Fixation, by="self-test").stimulus)
    got, updates = _gradients(rule, activity, circuit, moment, prefix, "_grad")
    got |= {f"{array}_weight_grad": -updates[name].weight for name, array in named.items()}
    scope = Scope(activity, rule)
    parts = [objective.credit(Site(scope, name), moment).losses for name in network.order]
    found = [torch.stack([of[name] for name in names]) for of, names in zip(parts, pathways, strict=True)]
    got["losses"] = torch.stack(found, 1) if families else torch.stack(found, 1)[0]
    got |= _gradients(reference, activity, circuit, moment, prefix, "_backprop_grad")[0]
    if families:
        got |= {f"activity{layer}": activity[name] for layer, name in enumerate(network.order)}
    return got


def _clapp(meta: dict[str, Any], inputs: _Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    objective = Contrastive(meta["contrast"], meta["context"], steepness=meta.get("phyll_theta", 1.0))
    moment = _contrastive_moment(inputs.shaped("inputs", None, meta["dims"][0]), inputs, meta.get("negatives"))
    return _contrastive_arrays(objective, network, moment, inputs, "layer", families=False)


def _clapp_plus_plus(meta: dict[str, Any], inputs: _Inputs) -> Arrays:
    images = inputs["images"]
    network = Network(InputPopulation("V0", images.shape[1:]), name=inputs.file)
    for layer, (channels, is_pooled) in enumerate(meta["blocks"]):
        below = network.populations[f"V{layer}"].shape
        pooling = Pooling("max", 2) if is_pooled else None
        network.add(Population(f"V{layer + 1}", (channels, *below[1:]), "relu", pooling))
        network.add(FeedforwardPathway(f"V{layer}", f"V{layer + 1}", Convolution(3, 1, 1)))
    layers = range(1, len(network.order) + 1)
    pools = [kernel or "global" for kernel in meta["loss_pool"] or [None for _ in layers]]
    pool = dict(zip(network.order, pools, strict=True))
    context: str | dict[str, str] = "lateral"
    if meta["context_layer"] is not None:
        sources = zip(layers, meta["context_layer"], strict=True)
        context = {f"V{layer}": f"V{source or layer}" for layer, source in sources}
    objective = Contrastive(meta["contrast"], context, pool, meta.get("both", False), meta.get("phyll_theta", 1.0))
    moment = _contrastive_moment(images, inputs, meta["negatives"])
    return _contrastive_arrays(objective, network, moment, inputs, "conv", families=True)


def _supervised(meta: dict[str, Any]) -> Objective:
    return {"cross_entropy": CrossEntropy, "squared_error": SquaredError}[meta["objective"]]()


def _alignment(meta: dict[str, Any], inputs: _Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    direct = meta["rule"] == "dfa"
    objective = _supervised(meta)
    rule: Rule = DirectFeedbackAlignment(objective) if direct else FeedbackAlignment(objective)
    rule.wire(network)
    sources = [network.top if direct else above for above in network.order[1:]]
    names = [f"{source}=>{name}" for source, name in zip(sources, network.order[:-1], strict=True)]
    circuit = _circuit(network, inputs, {name: f"feedback{layer}_weight" for layer, name in enumerate(names)})
    stimulus = inputs.shaped("inputs", None, meta["dims"][0])
    moment = Moment(Fixation(stimulus), Teaching(inputs.shaped("labels", len(stimulus))))
    activity = circuit.sweep(stimulus)
    got = _gradients(rule, activity, circuit, moment, "layer", "_grad")[0]
    got |= _gradients(Backprop(objective), activity, circuit, moment, "layer", "_backprop_grad")[0]
    return got | {"loss": losses(rule, activity, moment)[network.top]}


def _predictive_coding(meta: dict[str, Any], inputs: _Inputs) -> Arrays:
    network = _dense_network(meta, inputs)
    circuit = _circuit(network, inputs, {})
    objective = SquaredError()
    rule = PredictiveCoding(objective, steps=meta["steps"], rate=meta["rate"])
    stimulus = inputs.shaped("inputs", None, meta["dims"][0])
    moment = Moment(Fixation(stimulus), Teaching(inputs.shaped("labels", len(stimulus))))
    activity = circuit.sweep(stimulus)
    (settled,) = settle(rule, activity, moment, is_watched=True)
    got = _gradients(rule, settled, circuit, moment, "layer", "_grad")[0]
    got |= _gradients(Backprop(objective), activity, circuit, moment, "layer", "_backprop_grad")[0]
    found = settled._activity
    values = {name: found.output[name] + found.errors[name] for name in network.order}
    return got | {f"value{i}": values[n] for i, n in enumerate(network.order, 1)} | {"energy": found.notes["energy"]}


def _forward_forward(meta: dict[str, Any], inputs: _Inputs) -> Arrays:
    network = _dense_network(meta, inputs, normalisation="length")
    circuit = _circuit(network, inputs, {})
    positive = inputs.shaped("positive", None, meta["dims"][0])
    negative = inputs.shaped("negative", *positive.shape)
    stimulus = torch.cat([positive, negative])
    sign = torch.cat([torch.ones(len(positive)), -torch.ones(len(negative))]).to(stimulus)
    threshold = meta.get("threshold")
    rule = Local(Goodness(threshold if isinstance(threshold, int | float) else None))
    moment = Moment(Fixation(stimulus), Phase(sign))
    activity = circuit.sweep(stimulus)
    got = _gradients(rule, activity, circuit, moment, "layer", "_grad")[0]
    return got | {"losses": torch.stack(list(losses(rule, activity, moment).values()))}


_REFERENCES: dict[str, Callable[[dict[str, Any], _Inputs], Arrays]] = {
    "clapp": _clapp,
    "clapp++": _clapp_plus_plus,
    "dfa": _alignment,
    "fa": _alignment,
    "pc": _predictive_coding,
    "ff": _forward_forward,
}
