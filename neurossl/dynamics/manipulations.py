"""What an experimenter does to the activity of a population: silence it, clamp it, stimulate it."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.engine.responses import Response


class Manipulation(NamedTuple):
    """One manipulation of a population.

    Attributes
    ----------
    kind : {"silence", "clamp", "stimulate"}
        Activity 0; activity held at a value; drive added to that of the synapses.
    value : Tensor, (*population shape) or (*neurons), or None
        Of clamp and stimulate.
    """

    kind: str
    value: Tensor | None = None

    @property
    def holds(self) -> bool:
        """Whether the population sends what the manipulation says, even where a rule lets its values settle."""
        return self.kind != "stimulate"

    def of_drive(self, drive: Tensor) -> Tensor:
        """Return the somatic drive, (rows, *neurons), as the manipulation makes it."""
        return drive + self.value.to(drive) if self.kind == "stimulate" and self.value is not None else drive

    def of_response(self, response: Response) -> Response:
        """Return the response as the manipulation makes it; the winners of a pooling stay."""
        if self.kind == "silence":
            return response._replace(activity=torch.zeros_like(response.activity))
        if self.kind == "clamp" and self.value is not None:
            return response._replace(activity=self.value.to(response.activity).expand_as(response.activity).contiguous())
        return response
