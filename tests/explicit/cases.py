"""From a rule and a small random network to a reference file: drawing, the moments one after the other, writing.

Random values are multiples of a power of 2 so that the files compress.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .base import Network, Params, Pathway, Population, Sweep, forward
from .neurons import Array, transfer, windows

Moment = dict[str, Array]
LEAST = 1e-3


@dataclass
class Outcome:
    """What an objective at a population gives: mean loss, credit on the activity, updates of its own pathways."""

    loss: float
    credit: Array
    update: Params
    distances: list[Array] = field(default_factory=list)


class Rule(ABC):
    """One plasticity rule on one network; an instance may hold what lasts from moment to moment.

    A subclass gives `shapes` (its own pathways, beside the feedforward ones) and `step`.
    """

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        self.net, self.options, self.lr = net, options, lr
        self.distances: list[Array] = []
        self.closest = np.inf

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights of the rule's own pathways, by pathway name."""
        return {}

    def prepare(self, params: Params) -> Params:
        """Initial values as the rule needs them."""
        return params

    @abstractmethod
    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Updates (of every plastic weight and bias, also those that are 0) and losses by population."""

    def sweep(self, params: Params, stimulus: Array) -> Sweep:
        """A forward sweep that notes how close ReLUs and winners come to their kinks."""
        sweep = forward(self.net, params, stimulus)
        for pop in self.net.driven:
            drive = sweep.drive[pop.name]
            if pop.transfer == "relu":
                self.closest = min(self.closest, np.abs(drive).min())
            if pop.pooling is not None and pop.pooling["kind"] == "max":
                two = np.sort(windows(transfer(pop.transfer, drive), pop.pooling["kernel"]), axis=-1)[..., -2:]
                gap = two[..., 1] - two[..., 0]
                self.closest = min(self.closest, gap[two[..., 1] != 0].min(initial=np.inf))
        return sweep

    def watch(self, distance: Array) -> None:
        """Notes signed distances of scores from the kink of a gate."""
        self.distances.append(np.ravel(distance))

    def fits(self) -> bool:
        """Whether no kink is near, and gates, where there are some, are both open and shut."""
        if self.closest < LEAST / 10:
            return False
        if not self.distances:
            return True
        away = np.concatenate(self.distances)
        return bool(np.abs(away).min() > LEAST and (away > 0).mean() > 0.1 and (away < 0).mean() > 0.1)


@dataclass
class Case:
    """All that goes into a file."""

    name: str
    rule: str
    options: dict
    net: Network
    params: Params
    moments: list[Moment]
    lr: float = 0.5
    source: str = "explicit updates in float64, checked by central differences"
    change: Params = field(default_factory=dict)
    loss: dict[str, list[float]] = field(default_factory=dict)


def grid(rng: np.random.Generator, shape: tuple[int, ...], scale: float, unit: float = 1 / 64) -> Array:
    """Normal numbers, rounded to multiples of `unit`."""
    return np.round(rng.normal(size=shape) * scale / unit) * unit


def draw_params(
    net: Network, rng: np.random.Generator, gain: float = 1.2, own: dict | None = None, own_gain: float = 1.0
) -> Params:
    """Weights of size gain / sqrt(fan in), biases around 0; `own`: shapes of the rule's pathways."""
    params: Params = {}
    for path in net.pathways:
        shape = net.weight_shape(path)
        params[f"weight/{path.name}"] = grid(rng, shape, gain / np.sqrt(np.prod(shape[1:])))
        if path.bias:
            params[f"bias/{path.name}"] = grid(rng, net.bias_shape(path), 0.2)
    for name, shape in (own or {}).items():
        params[f"weight/{name}"] = grid(rng, shape, own_gain / np.sqrt(np.prod(shape[1:])))
    return params


def draw_stimuli(net: Network, rng: np.random.Generator, rows: int) -> Array:
    """Independent normal stimuli."""
    return grid(rng, (rows, *net.input.shape), 1.0, 1 / 16)


def draw_pairs(net: Network, rng: np.random.Generator, rows: int = 8, negatives: int = 1) -> Moment:
    """Rows of two views: r and its partner resemble each other; negatives are rows of the other view's kind, any object."""
    half = rows // 2
    objects = draw_stimuli(net, rng, half)
    jitter = [grid(rng, objects.shape, 0.5, 1 / 16) for _ in range(2)]
    partner = np.concatenate([np.arange(half) + half, np.arange(half)])
    shift = rng.integers(1, half, size=(negatives, rows))
    row = np.arange(rows)
    other = np.where(row < half, half + (row + shift) % half, (row - half + shift) % half)
    stimulus = np.concatenate([objects + jitter[0], objects + jitter[1]])
    return {"stimulus": stimulus, "partner": partner, "negatives": other}


def draw_labels(net: Network, rng: np.random.Generator, rows: int = 7) -> Moment:
    """Stimuli with labels, one per unit of the top."""
    return {"stimulus": draw_stimuli(net, rng, rows), "labels": rng.integers(0, net.top.size, size=rows)}


def draw_phases(net: Network, rng: np.random.Generator, awake: int = 4, asleep: int = 4) -> Moment:
    """Stimuli awake (+1) and asleep (-1), mixed."""
    sign = rng.permutation(np.concatenate([np.ones(awake, int), -np.ones(asleep, int)]))
    return {"stimulus": draw_stimuli(net, rng, awake + asleep), "sign": sign}


def draw_gain(rng: np.random.Generator, rows: int) -> Array:
    """Neuromodulator per row: some 0, the others around 1."""
    return rng.choice([0.0, 0.5, 1.0, 1.25, 2.0], size=rows)


def dense_net(
    sizes: tuple[int, ...], transfers: tuple[str, ...] | str = "tanh", normalisation: str | None = None
) -> Network:
    """A chain of dense populations V0, V1, ..."""
    kinds = (transfers,) * (len(sizes) - 1) if isinstance(transfers, str) else transfers
    pops = [Population(f"V{i}", (n,), "linear" if i == 0 else kinds[i - 1]) for i, n in enumerate(sizes)]
    paths = [Pathway(a.name, b.name, normalisation=normalisation) for a, b in itertools.pairwise(pops)]
    return Network(pops, paths)


def describe(net: Network) -> dict:
    """The network as it stands in `meta`."""
    pops = [{"name": p.name, "neurons": list(p.neurons), "transfer": p.transfer, "pooling": p.pooling} for p in net.driven]
    keys = ("pre", "post", "kernel", "stride", "padding", "bias", "normalisation")
    paths = [{key: getattr(p, key) for key in keys} for p in net.pathways]
    return {"input": {"name": net.input.name, "neurons": list(net.input.neurons)}, "populations": pops, "pathways": paths}


def run_moments(case: Case, rule: Rule) -> Case:
    """Moment after moment: all updates from the weights before it, then weight += lr * update. Fills change and loss."""
    params = dict(case.params)
    start = params
    plastic: list[str] = []
    case.loss = {}
    for moment in case.moments:
        update, loss = rule.step(params, moment)
        plastic = list(update)
        for key, value in update.items():
            if value.shape != start[key].shape:
                raise ValueError(f"{key}: {value.shape} for {start[key].shape}")
        params = params | {key: params[key] + case.lr * value for key, value in update.items()}
        for name, value in loss.items():
            case.loss.setdefault(name, []).append(float(value))
    case.change = {key: params[key] - start[key] for key in plastic}
    return case


def write(directory: Path, case: Case) -> Path:
    """Writes <directory>/<name>.npz."""
    meta = {"rule": case.rule, "options": case.options, "lr": case.lr, "network": describe(case.net), "source": case.source}
    arrays: Params = {"meta": np.array(json.dumps(meta))}
    arrays |= case.params
    for key in case.moments[0]:
        arrays[key] = np.stack([moment[key] for moment in case.moments])
    for key, value in case.change.items():
        kind, pathway = key.split("/", 1)
        arrays[f"change/{pathway}/{kind}"] = value
    for name, values in case.loss.items():
        arrays[f"loss/{name}"] = np.array(values)
    for key, value in arrays.items():
        if key != "meta":
            arrays[key] = value.astype(np.int64) if value.dtype.kind in "iu" else value.astype(np.float64)
    path = directory / f"{case.name}.npz"
    with zipfile.ZipFile(path, "w") as archive:
        # Not np.savez: its 64-bit headers are as large as many of the arrays here.
        for key, value in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(value), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return path


class Plan(NamedTuple):
    """One reference file; `gain` scales the feedforward weights, `own` those of the rule; `unit`: grid of the stimuli."""

    name: str
    rule: str
    options: dict
    net: Callable[[], Network]
    moment: Callable[[Network, np.random.Generator], Moment]
    seed: int
    lr: float = 0.5
    gain: float = 1.2
    own: float = 1.0
    moments: int = 2
    unit: float = 1 / 16


def build(plan: Plan, rules: dict[str, type[Rule]]) -> Case:
    """Draws until no kink is near and gates are open and shut, then runs the moments."""
    for trial in range(3000):
        rng = np.random.default_rng([plan.seed, trial])
        net = plan.net()
        rule = rules[plan.rule](net, plan.options, plan.lr)
        params = rule.prepare(draw_params(net, rng, plan.gain, rule.shapes(), plan.own))
        drawn = [plan.moment(net, rng) for _ in range(plan.moments)]
        for moment in drawn:
            moment["stimulus"] = np.round(moment["stimulus"] / plan.unit) * plan.unit
        case = Case(plan.name, plan.rule, plan.options, net, params, drawn, plan.lr)
        run_moments(case, rule)
        if rule.fits():
            return case
    raise RuntimeError(f"{plan.name}: no draw keeps away from the kinks")
