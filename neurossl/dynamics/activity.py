"""What a circuit did during one moment: activities, what is needed for the slopes, traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurossl.engine.responses import Response

if TYPE_CHECKING:
    from neurossl.dynamics.circuit import Circuit


@dataclass(frozen=True, eq=False)
class Activity:
    """The response of a circuit to a stimulus.

    Attributes
    ----------
    circuit : Circuit
        What was active.
    output : dict of Tensor, (rows, *population shape)
        Activity z of every population, the input included.
    responses : dict of Response
        The same activity of every population above the input, with the winners of max-pooling.
    presynaptic : dict of Tensor, (rows, *pre shape)
        What the synapses of every feedforward pathway saw.
    source : dict of Tensor, (rows, *population shape)
        What every population sent upwards: its activity, or its value neurons where a rule lets them settle.
    context : mapping of Tensor, optional
        Activity that serves as context where it is not the present one: the trace of the previous fixation online; the
        response before settling, or before a trial step.
    traced : Tensor of bool, (rows,), optional
        Online: which observers have a previous fixation.
    errors : mapping of Tensor
        Error neurons, where a rule has them (predictive coding).
    notes : mapping of Tensor
        What the settling wants to be recorded, for example its energy.
    phase : str
        Which phase of the settling this is, where a rule has several.
    """

    circuit: Circuit
    output: dict[str, Tensor]
    responses: dict[str, Response]
    presynaptic: dict[str, Tensor]
    source: dict[str, Tensor]
    context: Mapping[str, Tensor] | None = None
    traced: Tensor | None = None
    errors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    phase: str = ""

    def __getitem__(self, population: str) -> Tensor:
        if population not in self.output:
            self.circuit.network.population(population)
        return self.output[population]

    def drive(self, population: str) -> Tensor:
        """Return the somatic drive of a population, (rows, *neurons): what its synapses saw times their present weights."""
        incoming = self.circuit.incoming(population)
        drive: Tensor = sum(p.drive(self.presynaptic[p.name]) for p in incoming)  # type: ignore[assignment]
        manipulation = self.circuit.manipulations.get(population)
        return drive if manipulation is None else manipulation.of_drive(drive)

    @property
    def stimulus(self) -> Tensor:
        """What fell on the input populations, as a sweep takes it."""
        inputs = [self.output[p.name] for p in self.circuit.network.inputs]
        shown = inputs[0] if len(inputs) == 1 else torch.cat([z.flatten(1) for z in inputs], 1)
        return shown.to(self.circuit.weights.dtype)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.output.values())))

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The activity that serves as context."""
        return self.output if self.context is None else self.context

    def with_changes(self, **changes: object) -> Activity:
        """Return a copy with some attributes replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(z.shape[1:])}" for name, z in self.output.items())
        return f"Activity({self.rows} rows: {shapes})"
