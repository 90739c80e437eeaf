"""What a recorder may see of a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.updates import Update
from neurossl.engine.weights import Weights
from neurossl.errors import OptionError
from neurossl.events import Fixation, Moment
from neurossl.generators import Generators
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import evaluate, losses
from neurossl.plasticity.rule import Rule


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """A look at a simulation: to see, not to change.

    Attributes
    ----------
    circuit : Circuit
        Network and weights.
    rule : Rule
    moment : int
        Moments that have been learned from; 0 before the first.
    time : float
        Biological time, s.
    observers_seen : int
    generators : Generators
        Use names of your own, so that nothing else changes.
    activity : Activity or None
        Response to the present moment, ``activity["V1"]`` being (rows, *population shape). None in `Recorder.begin` and
        `Recorder.end`, where nothing is shown; `seen` is never None.
    events : Moment or None
        The present moment; `happened` is never None.
    updates : mapping of str to Update
        What was proposed in this moment, by pathway, for recorders that want it (`Recorder.wants_updates`).
    signals : mapping of str to mapping of str to Tensor
        Inner signals of the rule, by population and name (`Recorder.wants_signals`).
    memory : Memory
        What the rule remembers.
    """

    circuit: Circuit
    rule: Rule
    moment: int
    time: float
    observers_seen: int
    generators: Generators
    activity: Activity | None
    events: Moment | None
    updates: Mapping[str, Update]
    signals: Mapping[str, Mapping[str, Tensor]]
    memory: Memory

    @property
    def network(self) -> Network:
        """The network."""
        return self.circuit.network

    @property
    def weights(self) -> Weights:
        """The weights after the updates of this moment."""
        return self.circuit.weights

    @property
    def seen(self) -> Activity:
        """Response to the present moment, by population.

        Raises
        ------
        OptionError
            Where nothing is shown: in `Recorder.begin` and `Recorder.end`.
        """
        if self.activity is None:
            raise OptionError("Observation.seen: nothing is shown at the beginning and end of a run; look in after()")
        return self.activity

    @property
    def happened(self) -> Moment:
        """The present moment.

        Raises
        ------
        OptionError
            Where there is none: in `Recorder.begin` and `Recorder.end`.
        """
        if self.events is None:
            raise OptionError("Observation.happened: there is no moment at the beginning and end of a run; look in after()")
        return self.events

    def respond(self, images: Any) -> Activity:
        """Return the activity that images evoke now, without learning; see `Simulation.respond`."""
        weights = self.weights
        shown = Moment(Fixation(images)).to(weights.device, weights.dtype).require(Fixation, by="respond")
        with torch.no_grad():
            return self.circuit.sweep(self.circuit.stimulus_of(shown))

    def evaluate(self) -> dict[str, Credit]:
        """Return what the rule's objective says of the present activity, per population at which it stands."""
        return evaluate(self.rule, self.seen, self.happened, self.memory)

    def losses_now(self) -> dict[str, Tensor]:
        """Return the mean loss of the present moment with the weights as they are now, contexts held."""
        swept = self.circuit.sweep(self.seen.stimulus)
        swept = swept.with_changes(context=self.seen.held, traced=self.seen.traced)
        return losses(self.rule, swept, self.happened, self.memory)

    def __repr__(self) -> str:
        return f"Observation(moment {self.moment}, {self.time:g} s)"
