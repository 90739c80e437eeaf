"""Whoever may only look is watched: rules and recorders change neither weights nor activity by themselves.

A change in place is noticed by the version of a tensor, which costs nothing. One that goes past it (an array of numpy that
shares the memory, ``tensor.data``) is noticed by the contents, which are read only where that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from zlib import crc32

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.events import Moment


class Watch:
    """The tensors that somebody is handed to read.

    Parameters
    ----------
    circuit : Circuit
        Its weights.
    activity : Activity, optional
    moment : Moment, optional
        Stimulus, labels and all else that its events carry.
    memory : mapping of str to Tensor, optional
        What the rule remembers.
    contents : bool
        Whether what the tensors hold is read as well.
    """

    def __init__(
        self,
        circuit: Circuit,
        activity: Activity | None = None,
        moment: Moment | None = None,
        memory: Mapping[str, Tensor] | None = None,
        contents: bool = False,
    ) -> None:
        # Tensors of torch.inference_mode() cannot be changed outside of it, and have no version.
        named = _named(circuit, activity, moment, memory or {})
        self._tensors = [(what, name, tensor) for what, name, tensor in named if not tensor.is_inference()]
        self._contents = contents
        self.look()

    def look(self) -> None:
        """Remember how everything is."""
        self._versions = [tensor._version for _, _, tensor in self._tensors]
        self._read = [_digest(tensor) for _, _, tensor in self._tensors] if self._contents else []

    @property
    def changed(self) -> str:
        """What has changed since, in words; empty if nothing has."""
        versions = [tensor._version for _, _, tensor in self._tensors]
        same = versions == self._versions
        if same and not self._contents:
            return ""
        for number, (what, name, tensor) in enumerate(self._tensors):
            if versions[number] != self._versions[number] or (self._contents and self._read[number] != _digest(tensor)):
                return f"{what} {name!r}"
        return ""


def _named(
    circuit: Circuit, activity: Activity | None, moment: Moment | None, memory: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (what it is, whose it is, tensor)."""
    for name, (weight, bias) in circuit.weights.items():
        yield "the weights of", name, weight
        if bias is not None:
            yield "the bias of", name, bias
    if activity is not None:
        for what, tensors in (
            ("the activity of", activity.output),
            ("the values of", activity.source),
            ("the presynaptic activity of", activity.presynaptic),
            ("the trace of", activity.context or {}),
            ("the error neurons of", activity.errors),
        ):
            for name, tensor in tensors.items():
                yield what, name, tensor
    for event in () if moment is None else moment._events.values():
        # Past the guard of a moment: nothing is read here.
        event = vars(event).get("_hidden", event)
        for part in fields(event):
            tensor = getattr(event, part.name)
            if isinstance(tensor, Tensor):
                yield f"the {part.name} of a", type(event).__name__, tensor
    for name, tensor in memory.items():
        yield "the state", name, tensor


def _digest(tensor: Tensor) -> int | float:
    """Return a number that changes with what a tensor holds."""
    if tensor.device.type != "cpu":
        return float(tensor.nan_to_num().sum(dtype=torch.float64))
    return crc32(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
