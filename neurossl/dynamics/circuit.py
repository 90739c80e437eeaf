"""A circuit: a network together with weights, which responds to stimuli."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.anatomy.populations import Population
from neurossl.anatomy.prediction import BandedPathway, LowRankPathway
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.manipulations import Manipulation
from neurossl.dynamics.sweep import sweep, sweep_along
from neurossl.engine.execution import Execution
from neurossl.engine.predictions import BandedProjection, LowRankProjection
from neurossl.engine.projections import ApicalProjection, MirrorProjection, Projection, SomaticProjection
from neurossl.engine.weights import Weights
from neurossl.errors import NetworkError
from neurossl.events import Fixation

_PROJECTIONS: dict[type[Pathway], type[Projection[Any]]] = {
    BandedPathway: BandedProjection,
    LowRankPathway: LowRankProjection,
    FeedbackPathway: ApicalProjection,
    MirrorPathway: MirrorProjection,
    FeedforwardPathway: SomaticProjection,
}


class Circuit:
    """A network with weights.

    Parameters
    ----------
    network : Network
    weights : Weights
        Those of this network; held, not copied.
    execution : Execution, optional
        How it is computed.
    frozen : collection of str
        Pathways that do not learn, whatever their anatomy says.
    manipulations : mapping of str to Manipulation
        What an experimenter does to the activity of populations.

    Examples
    --------
    >>> circuit = Circuit(network, Weights.draw(network, seed=1))
    >>> circuit.sweep(images)["V1"].shape
    torch.Size([8, 32])
    """

    def __init__(
        self,
        network: Network,
        weights: Weights,
        execution: Execution | None = None,
        frozen: Collection[str] = (),
        manipulations: Mapping[str, Manipulation] | None = None,
    ) -> None:
        self.network = network
        self.weights = weights
        self.execution = execution or Execution()
        self.frozen = frozen
        self.manipulations: Mapping[str, Manipulation] = {} if manipulations is None else manipulations
        self._projections: dict[str, Projection[Any]] = {}

    def __getitem__(self, pathway: str) -> Projection[Any]:
        """Return a pathway with its weights."""
        found = self._projections.get(pathway)
        if found is None:
            anatomy = self.network.pathway(pathway)
            kind = next((p for known, p in _PROJECTIONS.items() if isinstance(anatomy, known)), None)
            if kind is None:
                raise NetworkError(f"pathway {pathway!r}: the engine does not know how a {type(anatomy).__name__} conducts")
            found = self._projections[pathway] = kind(anatomy, self)
        return found

    def incoming(self, population: str) -> list[SomaticProjection]:
        """Return the feedforward pathways onto a population."""
        return [self[p.name] for p in self.network.incoming(population)]  # type: ignore[misc]

    def with_weights(self, weights: Weights) -> Circuit:
        """Return a circuit of the same network with other weights."""
        return Circuit(self.network, weights, self.execution, self.frozen, self.manipulations)

    def sweep(
        self,
        stimulus: Tensor,
        values: Mapping[str, Tensor] | None = None,
        first: Activity | None = None,
        errors: Mapping[str, Tensor] | None = None,
    ) -> Activity:
        """Return the activity of one feedforward sweep; see `neurossl.dynamics.sweep`."""
        return sweep(self, stimulus, values, first, errors)

    def sweep_along(self, stimulus: Tensor) -> Iterator[tuple[str, Activity]]:
        """Yield every population as soon as it has responded; see `neurossl.dynamics.sweep`."""
        return sweep_along(self, stimulus)

    def stimulus_of(self, fixation: Fixation) -> Tensor:
        """Return the stimulus of a fixation, its parts in the order of the input populations.

        Raises
        ------
        NetworkError
            If it names others.
        """
        if not fixation.inputs:
            return fixation.stimulus
        inputs = {p.name: p for p in self.network.inputs}
        if sorted(fixation.inputs) != sorted(inputs):
            raise NetworkError(f"stimulus: expected one for {', '.join(inputs)} each, got {', '.join(fixation.inputs)}")
        for name, size in zip(fixation.inputs, fixation.sizes, strict=True):
            if size != inputs[name].size:
                raise NetworkError(f"stimulus of {name!r}: expected {inputs[name].size} values per row, got {size}")
        if len(inputs) == 1:
            return fixation.stimulus.reshape(-1, *self.network.input.shape)
        parts = dict(zip(fixation.inputs, fixation.stimulus.split(list(fixation.sizes), 1), strict=True))
        return torch.cat([parts[name] for name in inputs], 1)

    def on_inputs(self, stimulus: Tensor) -> dict[str, Tensor]:
        """Return a stimulus as the activity of every input population.

        Raises
        ------
        NetworkError
            If it does not have the shape of the input population, or the number type of the weights.
        """
        inputs = self.network.inputs
        if len(inputs) == 1:
            return {inputs[0].name: self._on_input(inputs[0], stimulus)}
        sizes = [p.size for p in inputs]
        if stimulus.ndim != 2 or stimulus.shape[1] != sum(sizes):
            names = ", ".join(f"{p.name!r} ({p.size})" for p in inputs)
            raise NetworkError(
                f"stimulus: expected rows of the {sum(sizes)} values of {names}, got {tuple(stimulus.shape[1:])}: "
                "give a mapping of input populations, Fixation({name: values, ...})"
            )
        parts = zip(inputs, stimulus.split(sizes, 1), strict=True)
        return {p.name: self._on_input(p, part.reshape(-1, *p.shape)) for p, part in parts}

    def _on_input(self, retina: Population, stimulus: Tensor) -> Tensor:
        """Return a stimulus in the shape, number type and memory layout of an input population."""
        if tuple(stimulus.shape[1:]) != retina.shape:
            if not len(stimulus) or retina.shape != (stimulus[0].numel(),):
                halves = any(p.normalisation == "doubled" for p in self.network.outgoing(retina.name))
                single = halves and len(stimulus) > 0 and 2 * stimulus[0].numel() == retina.size
                raise NetworkError(
                    f"stimulus: expected rows of {retina.shape} as in {retina.name!r}, got {tuple(stimulus.shape[1:])}: "
                    + (
                        "it holds two images side by side: show it DoubledInput, or single images as doubled(images)"
                        if single
                        else "resize the images or change the input population"
                    )
                )
            stimulus = stimulus.flatten(1)
        if stimulus.dtype != self.weights.dtype:
            raise NetworkError(
                f"stimulus: expected {str(self.weights.dtype).removeprefix('torch.')} as the weights are, got "
                f"{str(stimulus.dtype).removeprefix('torch.')}: convert it, for example with images.to(torch.float32) / 255"
            )
        products = self.execution.products
        stimulus = stimulus if products is None else stimulus.to(products)
        if stimulus.ndim != 4:
            return stimulus
        # Channels last in memory; said so that it can be mapped over replicas.
        return stimulus.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.weights.device

    def __repr__(self) -> str:
        return f"Circuit({self.network!r}, {self.weights!r})"
