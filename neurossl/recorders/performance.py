"""Performance over learning: the loss of every population, and what probes read out of it, stimulus by stimulus too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError
from neurossl.plasticity.rule import Rule
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.recorders.stimuli import Stimuli
from neurossl.store import Store, Variable

_NONE = Rule.evaluate
Probe = Callable[[Observation], Mapping[str, Mapping[str, Any]]]

CORRECTNESS = {
    "probe": "whether a linear probe of the population names the stimulus correctly (1) or not (0)",
    "nearest_neighbour": "whether the nearest neighbours in the population name the stimulus correctly (1) or not (0)",
}
"""What a probe may say of every single stimulus."""


class PerformanceRecorder(Recorder):
    """Loss per population and, less often, what probes read out of every population.

    Parameters
    ----------
    every : int
        Moments between records of the loss.
    probe : callable, optional
        Is given an `Observation` and returns ``{population: {measure: accuracy}}``; called before the first moment and at
        the end. It may leave out populations and measures. Where it has an attribute ``stimuli`` (`Stimuli`), it may also
        say of every stimulus whether a readout named it correctly, as an array (stimuli,) of truth values under "probe" or
        "nearest_neighbour": that is stored as ``/correctness/<population>`` (snapshot, stimulus), with identifier, image
        and label of the stimuli and their digest. A run that goes on with other stimuli is refused.
    probe_every : int, optional
        Moments between further probes.
    measures : sequence of str
        What the probe may return, of "probe_accuracy", "knn_accuracy", "validation_accuracy" and what else
        `analysis.schema` has of performance.
    together : sequence of str
        What the probe may return besides populations: names for several of them read out together.
    """

    def __init__(
        self,
        every: int,
        probe: Probe | None = None,
        probe_every: int | None = None,
        measures: Sequence[str] = ("probe_accuracy", "knn_accuracy"),
        together: Sequence[str] = (),
    ) -> None:
        super().__init__(kind="performance", every=every)
        if probe is not None and not callable(probe):
            raise OptionError(f"PerformanceRecorder: probe is a function of the observation, got {probe!r}")
        if probe is None and probe_every is not None:
            raise OptionError("PerformanceRecorder: probe_every without a probe would record nothing: give probe=")
        if isinstance(measures, str) or isinstance(together, str):
            raise OptionError("PerformanceRecorder: measures and together are lists of names")
        self.probe = probe
        self.probe_every = None if probe_every is None else whole(probe_every, "PerformanceRecorder: probe_every (moments)")
        self.measures = tuple(measures)
        self.together = tuple(together)
        self._probed = -1
        self._stimuli: Stimuli | None = None

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Take the store of a simulation.

        Raises
        ------
        OptionError
            If there is nothing to record: the rule has no objective, and there is no probe.
        """
        if self.probe is None and type(rule).evaluate is _NONE:
            raise OptionError(f"{self!r} would store nothing: rule {rule.name!r} has no objective; give a probe")
        super().attach(store, rule)

    def detach(self) -> None:
        """Give the store back, and forget when it was probed."""
        super().detach()
        self._probed, self._stimuli = -1, None

    def due(self, moment: int) -> bool:
        """Return whether loss or probe is due."""
        return super().due(moment) or self._probe_due(moment)

    def _probe_due(self, moment: int) -> bool:
        return self.probe is not None and self.probe_every is not None and moment % self.probe_every == 0

    def declare(self, now: Observation) -> None:
        """Declare every population."""
        variables = {"loss": Variable((), "1", "mean loss after the update")}
        variables |= {measure: Variable((), "1", measure.replace("_", " ")) for measure in self.measures}
        for name in (*now.network.populations, *self.together):
            self.declares("performance", name, variables)

    def begin(self, now: Observation) -> None:
        """Declare, and probe the initial network."""
        super().begin(now)
        self._run_probe(now)

    def after(self, now: Observation) -> None:
        """Record the loss of this moment (with the weights after its update) and probe if it is time."""
        if super().due(now.moment):
            for population, loss in now.losses_now().items():
                self.record(now, "performance", population, {"loss": float(loss)})
        if self._probe_due(now.moment):
            self._run_probe(now)

    def end(self, now: Observation) -> None:
        """Probe the final network."""
        self._run_probe(now)

    def state(self) -> dict[str, Tensor]:
        """Return when the last probe was, and what tells its stimuli from others once it has said something of them."""
        stimuli = self._stimuli.state() if self._stimuli is not None else {}
        return {"probed": torch.tensor(self._probed), **{f"stimuli/{name}": tensor for name, tensor in stimuli.items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember when the last probe was.

        Raises
        ------
        OptionError
            If the probe has other stimuli; names what differs.
        """
        shown = {name.removeprefix("stimuli/"): tensor for name, tensor in state.items() if name.startswith("stimuli/")}
        stimuli = getattr(self.probe, "stimuli", None) if shown else None
        if isinstance(stimuli, Stimuli):
            stimuli.require(shown, repr(self))
            self._stimuli = stimuli
        self._probed = int(state["probed"])

    def _run_probe(self, now: Observation) -> None:
        if self.probe is not None and self._probed != now.moment:
            self._probed = now.moment
            found = self.probe(now)
            if not isinstance(found, Mapping) or not all(isinstance(one, Mapping) for one in found.values()):
                raise OptionError(f"{self!r}: its probe must return {{population: {{measure: accuracy}}}}, got {found!r}")
            for population, said in found.items():
                correct = {name: value for name, value in said.items() if name in CORRECTNESS}
                if correct:
                    self._record_correctness(now, population, correct)
                if len(correct) < len(said):
                    accuracies = {name: value for name, value in said.items() if name not in CORRECTNESS}
                    self.record(now, "performance", population, accuracies)

    def _record_correctness(self, now: Observation, population: str, correct: Mapping[str, Any]) -> None:
        """Record which stimuli a probe named correctly.

        Raises
        ------
        OptionError
            If the probe does not say what the stimuli are, or says something else of them than true or false.
        """
        stimuli = getattr(self.probe, "stimuli", None)
        if not isinstance(stimuli, Stimuli):
            raise OptionError(
                f"{self!r}: its probe says of single stimuli whether they were named correctly, but not which they are: "
                "give it an attribute stimuli, Stimuli(shown, ids, labels, images)"
            )
        self._stimuli = stimuli
        values: dict[str, np.ndarray] = {}
        for name, value in correct.items():
            said = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
            if said.shape != (len(stimuli),) or not np.isin(said, (0, 1)).all():
                raise OptionError(
                    f"{self!r}: {name!r} of {population!r}: expected a truth value for each of {len(stimuli)} stimuli, got "
                    f"{said.dtype} of shape {said.shape}"
                )
            values[name] = said.astype(np.int8)
        variables = {name: Variable(("stimulus",), "1", CORRECTNESS[name], "int8") for name in values}
        self.declares("correctness", population, variables, stimuli.coords, {"stimuli": stimuli.digest})
        self.record(now, "correctness", population, values)
