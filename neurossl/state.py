"""The state of a simulation: everything that changes while it runs, as named tensors and plain values.

weights/<pathway>.weight, .bias         synapses
optimiser/<pathway>/...                 what the optimisers remember
rule/<population>/<name>                what the rule remembers: traces, averages, eligibilities
trace/<population>                      activity during the previous fixation, where the next one needs it
generators/<concern>                    where every random generator stands
manipulations/<population>              clamped activity, injected drive
waiting/<number>/<event>.<part>         events that wait for a fixation, or a fixation that waits for an event
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from neurossl import events
from neurossl.errors import StorageError
from neurossl.events import Event


@dataclass
class State:
    """Named tensors and plain values (JSON).

    Attributes
    ----------
    tensors : dict of str to Tensor
    values : dict
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def clone(self) -> State:
        """Return a copy that nobody else changes."""
        return State({name: tensor.detach().clone() for name, tensor in self.tensors.items()}, dict(self.values))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below a prefix, by the rest of their name."""
        start = f"{prefix}/"
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}

    def put(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Add tensors below a prefix."""
        self.tensors |= {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}

    def __repr__(self) -> str:
        size = sum(t.numel() * t.element_size() for t in self.tensors.values())
        return f"State({len(self.tensors)} tensors, {size / 2**20:.1f} MiB; moment {self.values.get('moment')})"


def packed(happened: Iterable[Event]) -> dict[str, Tensor]:
    """Return events as named tensors."""
    found = {}
    for number, event in enumerate(happened):
        kind = type(event).__name__
        if getattr(events, kind, None) is not type(event):
            raise StorageError(f"a {kind} event waits, which is not one of neurossl's and cannot be stored")
        for part in fields(event):
            value = getattr(event, part.name)
            if isinstance(value, Tensor):
                found[f"{number}/{kind}.{part.name}"] = value
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> list[Event]:
    """Return the events that named tensors are of."""
    parts: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition("/")
        kind, _, part = rest.partition(".")
        parts.setdefault((int(number), kind), {})[part] = tensor
    return [getattr(events, kind)(**given) for (_, kind), given in sorted(parts.items())]


def storable(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU, in one piece of memory of its own."""
    held = tensor.detach().cpu().contiguous()
    own = held.untyped_storage().nbytes() == held.numel() * held.element_size()
    return held if own else held.clone()


def is_channels_last(tensor: Tensor) -> bool:
    """Return whether a map lies channels last in memory."""
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
