"""Responses to the same stimuli over learning: what a representation is, moment by moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.errors import OptionError
from neurossl.recorders.observation import Observation
from neurossl.recorders.snapshots import SnapshotRecorder
from neurossl.recorders.stimuli import Stimuli, chosen_neurons, neuron_count
from neurossl.store import Coords, Variable

ROWS = 256
"""Stimuli that are shown at a time."""

Neurons = int | Sequence[int] | slice | None


class ResponseRecorder(SnapshotRecorder):
    """Response of populations to a fixed set of stimuli, without learning: at the beginning, now and then, and at the end.

    Stored as ``/responses/<population>``: ``response`` (snapshot, stimulus, neuron), with the identifier of every stimulus,
    the image that it is a view of and its label along ``stimulus``, and the attribute ``stimuli``, a digest of what was
    shown. Two runs whose digests are equal were shown the same, whatever their rules and seeds; a run that goes on with
    other stimuli is refused.

    Parameters
    ----------
    stimuli : Tensor, array, mapping of input populations to such, ImageSet, or Stimuli
        (stimuli, *input shape), as the stream shows them, see `Simulation.respond`; of an `ImageSet` the test images.
    every : int
        Moments between records.
    populations : sequence of str, optional
        All above the input by default.
    neurons : int, or mapping of population to int or indices, optional
        How many neurons of every population, drawn at random and the same whatever the rule; or per population a number or
        flat indices. All by default.
    labels : sequence of int, (stimuli,), optional
        Class of every stimulus.
    ids : sequence of int, (stimuli,), optional
        Identifier of every stimulus, all different; 0, 1, ... by default.
    images : sequence of int, (stimuli,), optional
        Index of the image that each is a view of; the identifiers by default.
    encode : callable, optional
        Is given stimuli, and returns what the network is shown of them: for rules that read a label in the image, the same
        with a neutral label. The digest is that of the stimuli; the attribute ``shown_as`` names the function.

    Examples
    --------
    >>> ResponseRecorder(images, every=100, neurons=200)  # doctest: +SKIP
    """

    def __init__(
        self,
        stimuli: Any,
        every: int,
        populations: Sequence[str] | str | None = None,
        neurons: int | Mapping[str, Neurons] | None = None,
        labels: Any = None,
        ids: Any = None,
        images: Any = None,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(kind="responses", every=every)
        if isinstance(stimuli, Stimuli) and any(given is not None for given in (labels, ids, images)):
            raise OptionError("ResponseRecorder: stimuli have identifiers and labels of their own: leave out ids and labels")
        self.stimuli = stimuli if isinstance(stimuli, Stimuli) else Stimuli(stimuli, ids, labels, images)
        self.populations = [populations] if isinstance(populations, str) else populations
        if self.populations is not None and not self.populations:
            raise OptionError("ResponseRecorder: would record nothing: name a population, or leave populations out")
        if neurons is not None and not isinstance(neurons, Mapping | Integral):
            raise OptionError(
                f"ResponseRecorder: neurons: expected a number, or numbers or indices by population, got {neurons!r}"
            )
        if encode is not None and not callable(encode):
            raise OptionError(f"ResponseRecorder: encode is a function of stimuli, got {encode!r}")
        self.neurons = neurons
        self.encode = encode
        self._chosen: dict[str, np.ndarray] = {}

    def declare(self, now: Observation) -> None:
        """Choose the neurons and declare the populations.

        Raises
        ------
        OptionError
            If neurons are asked of a population that is not recorded.
        """
        names = self._named(now)
        unknown = [name for name in self.neurons if name not in names] if isinstance(self.neurons, Mapping) else []
        if unknown:
            raise OptionError(
                f"ResponseRecorder: neurons of {unknown[0]!r}, which is not recorded (there are: {', '.join(names)})"
            )
        attributes = {"stimuli": self.stimuli.digest}
        if self.encode is not None:
            attributes["shown_as"] = str(getattr(self.encode, "__name__", type(self.encode).__name__))
        for name in names:
            shape = now.network.population(name).shape
            if name not in self._chosen:
                generator = now.generators[f"recorders/responses/{name}"]
                self._chosen[name] = chosen_neurons(self._asked(name), int(np.prod(shape)), generator, self._of(name))
            variable = Variable(("stimulus", "neuron"), "1", "response to the stimulus", self._dtype(now))
            coords = {**self.stimuli.coords, **_neurons(self._chosen[name], shape)}
            self.declares(self.kind, name, {"response": variable}, coords, attributes)

    def expected_bytes(self, now: Observation, moments: int) -> int:
        """Return how much the responses of so many moments take, the first and the last included."""
        last = now.moment + moments
        snapshots = last // self.every - now.moment // self.every + (last % self.every != 0) + (self._last < 0)
        sizes = {name: now.network.population(name).size for name in self._named(now)}
        counted = sum(neuron_count(self._asked(name), size, self._of(name)) for name, size in sizes.items())
        return snapshots * len(self.stimuli) * counted * np.dtype(self._dtype(now)).itemsize

    def detach(self) -> None:
        """Give the store back, and forget what was seen of its simulation."""
        super().detach()
        self._chosen = {}

    def state(self) -> dict[str, Tensor]:
        """Return the moment of the last record, which neurons are recorded, and what tells the stimuli from others."""
        chosen = {f"chosen/{name}": torch.from_numpy(neurons) for name, neurons in self._chosen.items()}
        stimuli = {f"stimuli/{name}": tensor for name, tensor in self.stimuli.state().items()}
        return {**super().state(), **chosen, **stimuli}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned.

        Raises
        ------
        OptionError
            If the run began with other stimuli; names what differs.
        """
        self.stimuli.require({name.removeprefix("stimuli/"): tensor for name, tensor in state.items()}, repr(self))
        super().restore(state)
        chosen = {name.removeprefix("chosen/"): t for name, t in state.items() if name.startswith("chosen/")}
        self._chosen = {name: tensor.cpu().numpy() for name, tensor in chosen.items()}

    def save(self, now: Observation) -> None:
        """Record the responses."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self._chosen}
        for first in range(0, len(self.stimuli), ROWS):
            activity = now.respond(self._encoded(first))
            for name, chosen in self._chosen.items():
                response = activity[name].flatten(1)
                parts[name].append(response[:, torch.from_numpy(chosen).to(response.device)].cpu())
        for name, responses in parts.items():
            self.record(now, self.kind, name, {"response": torch.cat(responses)})

    def _encoded(self, first: int) -> Any:
        shown = self.stimuli.some(first, first + ROWS)
        if self.encode is None:
            return shown
        return {n: self.encode(part) for n, part in shown.items()} if isinstance(shown, dict) else self.encode(shown)

    def _named(self, now: Observation) -> list[str]:
        names = list(now.network.order) if self.populations is None else list(self.populations)
        for name in names:
            now.network.population(name)
        return names

    def _asked(self, name: str) -> Neurons:
        return self.neurons.get(name) if isinstance(self.neurons, Mapping) else self.neurons

    @staticmethod
    def _of(name: str) -> str:
        return f"ResponseRecorder: neurons of {name!r}"

    @staticmethod
    def _dtype(now: Observation) -> str:
        return "float64" if now.weights.dtype == torch.float64 else "float32"

    def __repr__(self) -> str:
        return f"ResponseRecorder({len(self.stimuli)} stimuli, every {self.every} moments)"


def _neurons(chosen: np.ndarray, shape: Sequence[int]) -> Coords:
    """Return the flat indices of neurons and, of a map, their channels and places."""
    along = {"neuron": chosen}
    if len(shape) == 3:
        along |= dict(zip(("channel", "y", "x"), np.unravel_index(chosen, tuple(shape)), strict=True))
    return {name: ("neuron", values.astype(np.int64)) for name, values in along.items()}
