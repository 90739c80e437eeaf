"""Cases in which a rule is tried: small networks, a few moments with every kind of event, and what the rule says of them.

    dense          6 -> 5 -> 4
    convolutional  a map that is not square, max-pooling that ignores a remainder, convolutions
    skip           V1 also drives V3

each in float64 and float32, with a linear readout of one unit per class for a rule that is told labels.
"""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy import Convolution, FeedforwardPathway, InputPopulation, Network, Pooling, Population, mlp
from neurossl.dynamics import Circuit
from neurossl.dynamics.activity import Activity
from neurossl.engine import Weights
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Phase, Saccade, Succession, Teaching
from neurossl.moment import proposals
from neurossl.plasticity import Rule
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import wired

OBSERVERS, CLASSES = 5, 3
KINDS = ("dense", "convolutional", "skip")
DTYPES = (torch.float64, torch.float32)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3}
Updates = dict[str, tuple[Tensor, ...]]
"""Updates of weight and, where there is one, bias by pathway."""


@dataclass(frozen=True, eq=False)
class Case:
    """A rule in one small network.

    Attributes
    ----------
    kind : str
    rule : Rule
        As it was given: every question is put to a copy.
    circuit : Circuit
        Wired, with weights.
    moments : tuple of Moment
    remembered : mapping of str to Tensor
        What the rule remembers when it is asked: that of two moments before, for one with a state.
    """

    kind: str
    rule: Rule
    circuit: Circuit
    moments: tuple[Moment, ...]
    remembered: Mapping[str, Tensor]

    @classmethod
    def of(cls, rule: Rule, kind: str, dtype: torch.dtype) -> "Case":
        """Return the case of a rule in one kind of network; raises what the rule raises when it is wired."""
        network = wired(copy.deepcopy(rule), network_of(kind, rule))
        circuit = Circuit(network, Weights.draw(network, 1, dtype=dtype))
        succeeds = Succession in rule.awaits
        moments = tuple(moment_for(network, seed, succeeds).to(torch.device("cpu"), dtype) for seed in range(3))
        return cls(kind, rule, circuit, moments, {})

    def warmed(self) -> "Case":
        """Return the case with what the rule remembers after two moments."""
        memory = Memory()
        for moment in self.moments[1:]:
            self.updates(moment, memory=memory)
            memory.keep()
        return replace(self, remembered=memory.tensors)

    @property
    def dtype(self) -> torch.dtype:
        """Number type."""
        return self.circuit.weights.dtype

    @property
    def where(self) -> str:
        """Which case this is, in words."""
        return f"in the {self.kind} network, {str(self.dtype).removeprefix('torch.')}"

    @property
    def moment(self) -> Moment:
        """The moment of which the rule is asked."""
        return self.moments[0]

    def memory(self, rows: Tensor | None = None) -> Memory:
        """Return what the rule remembers, of these rows where it is one value per row."""
        memory, kinds = Memory(), self.rule.state
        per_row = {key for key in self.remembered if kinds[key.split("/")[1]] in ("rows", "synapses")}
        chosen = slice(None) if rows is None else rows
        memory.tensors = {key: (t[chosen] if key in per_row else t).clone() for key, t in self.remembered.items()}
        return memory

    def activity(self, moment: Moment | None = None) -> Activity:
        """Return the response to a moment."""
        return self.circuit.sweep(self.circuit.stimulus_of((moment or self.moment).require(Fixation, by="the self-test")))

    def updates(
        self, moment: Moment | None = None, rule: Rule | None = None, memory: Memory | None = None, chance: int = 0
    ) -> Updates:
        """Return what the rule proposes, all phases summed.

        Parameters
        ----------
        moment : Moment, optional
        rule : Rule, optional
            Asked itself; a copy of the rule of the case by default.
        memory : Memory, optional
            What it remembers; that of the case by default.
        chance : int
            Seed of the global random generators meanwhile.
        """
        asked = copy.deepcopy(self.rule) if rule is None else rule
        memory = self.memory() if memory is None else memory
        with torch.no_grad(), global_chance(chance):
            return summed_updates(asked, moment or self.moment, memory, self.activity(moment))

    def draws(self) -> bool:
        """Return whether the rule draws random numbers from the generators of its sites."""
        memory = self.memory()
        self.updates(memory=memory)
        return bool(memory._generators.state())


def summed_updates(rule: Rule, moment: Moment, memory: Memory, activity: Activity) -> Updates:
    """Return the updates that a rule proposes of an activity, all phases summed."""
    total: Updates = {}
    for name, update, _ in proposals(rule, moment, memory, activity):
        known = total.get(name)
        parts = update.parts
        total[name] = parts if known is None else tuple(a + b for a, b in zip(known, parts, strict=True))
    return total


def deviation(got: Updates, want: Updates) -> float:
    """Return the largest difference of two sets of updates, relative to the largest entry of each array (and of all)."""
    if got.keys() != want.keys():
        return float("inf")
    overall = max((float(t.abs().max()) for parts in want.values() for t in parts), default=0.0)
    worst = 0.0
    for name, parts in want.items():
        for mine, theirs in zip(got[name], parts, strict=True):
            scale = max(float(theirs.abs().max()), 1e-3 * overall, 1e-30)
            found = float((mine.double() - theirs.double()).abs().max()) / scale
            worst = max(worst, found) if found == found else float("inf")
    return worst


@contextmanager
def global_chance(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, and put them back afterwards."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 (which a rule may use by mistake)
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])


def network_of(kind: str, rule: Rule) -> Network:
    """Return a small network of a kind, with the normalisation and the readout that a rule counts on."""
    classes, first = (CLASSES if "target" in rule.needs else None), rule.normalisation
    if kind == "dense":
        return mlp(6, [5, 4], classes, "tanh", first)
    above = "standard" if first == "doubled" else first
    if kind == "convolutional":
        network = Network(InputPopulation("retina", (2, 6, 5)), name="maps")
        network.add(Population("V1", (4, 6, 5), "relu", Pooling("max", 2)), Population("V2", (3, 3, 2), "tanh"))
        network.add(FeedforwardPathway("retina", "V1", Convolution(3, 1, 1), normalisation=first))
        ends = [("V1", "V2", Convolution(3, 1, 1)), *([("V2", "readout", None)] if classes else [])]
    else:
        network = Network(InputPopulation("retina", 6), *(Population(f"V{n}", 5, "tanh") for n in (1, 2, 3)), name="skips")
        network.add(FeedforwardPathway("retina", "V1", normalisation=first))
        tops = [("V3", "readout", None), ("V2", "readout", None)] if classes else []
        ends = [("V1", "V2", None), ("V2", "V3", None), ("V1", "V3", None), *tops]
    if classes:
        network.add(Population("readout", classes, "linear"))
    return network.add(*(FeedforwardPathway(pre, post, how, normalisation=above) for pre, post, how in ends))


def moment_for(network: Network, seed: int, succeeds: bool = False) -> Moment:
    """Return a moment with every kind of event: both views of `OBSERVERS` objects, saccades, labels, phases, a gain of 1."""
    rows, generator = 2 * OBSERVERS, torch.Generator().manual_seed(seed)
    row = torch.arange(rows)
    stimulus = torch.randn(rows, *network.input.shape, generator=generator, dtype=torch.float64)
    sign = torch.ones(rows).double()
    sign[OBSERVERS:] = -1
    events: list[Event] = [
        Fixation(stimulus, (row + OBSERVERS) % rows),
        Saccade(torch.stack([(row + 1) % rows, (row + OBSERVERS - 1) % rows])),
        Teaching(torch.randint(CLASSES, (OBSERVERS,), generator=generator).repeat(2)),
        Phase(sign),
        Neuromodulation(torch.ones(rows).double()),
    ]
    if succeeds:
        later = torch.where(row < OBSERVERS, row + OBSERVERS, -1)[None]
        events.append(Succession(later, ((row + 1) % rows).expand(2, 1, rows)))
    return Moment(*events, observers=OBSERVERS)


ROWS_OF = frozenset({"partner", "negatives", "later", "elsewhere"})
"""Parts of events that name rows."""


def regrouped(moment: Moment, order: Sequence[int]) -> tuple[Moment, Tensor]:
    """Return the moment of these observers, in this order and as often as they are named, and the rows that they had."""
    places = torch.tensor(order)
    rows, new = torch.cat([places, places + OBSERVERS]), len(order)
    copies = [list(order[:place]).count(observer) for place, observer in enumerate(order)] * 2
    where = {(int(old), nth): place for place, (old, nth) in enumerate(zip(rows, copies, strict=True))}

    def renamed(index: Tensor) -> Tensor:
        moved = [
            [where[old, nth] if old >= 0 else -1 for old, nth in zip(one, copies, strict=True)] for one in index.tolist()
        ]
        return torch.tensor(moved)

    events = []
    for event in moment:
        parts: dict[str, Any] = {}
        for field in fields(event):
            value = getattr(event, field.name)
            if isinstance(value, Tensor):
                value = value[rows] if field.name in ("stimulus",) else value[..., rows]
                if field.name in ROWS_OF:
                    value = renamed(value.reshape(-1, 2 * new)).reshape(value.shape)
            parts[field.name] = value
        events.append(type(event)(**parts))
    return Moment(*events, observers=new), rows
