"""Activity and performance over learning: statistics of every population, its loss, and what probes read out of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.events import Moment
from neurossl.recorders.base import Recorder, Sink
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


class ActivityRecorder(Recorder):
    """Mean, sparseness, norm and effective rank of every population's activity, and which part of the rows learns.

    Sparseness is Treves and Rolls' ``1 - <z>^2 / <z^2>`` over neurons, averaged over rows: 0 for equal, towards 1 for
    few active neurons. The effective rank is the exponential of the entropy of the normalised singular values of the
    centred activity (Roy & Vetterli 2007), maps averaged over space. The active fraction is that of the rows whose
    neuromodulator is open, where the objective has one that can shut (with the hinge: scores within the margin).

    Parameters
    ----------
    sink : Sink
    every : int
    """

    def __init__(self, sink: Sink, every: int) -> None:
        super().__init__(sink, every)
        self._active: dict[str, float] = {}

    def start(self, simulation: "Simulation") -> None:
        """Declare every population above the input."""
        names = ("mean", "sparseness", "norm", "effective_rank", "active_fraction")
        for name in simulation.network.order:
            self.sink.declare("activity", name, dict.fromkeys(names, ()))

    def before(self, simulation: "Simulation", activity: Activity, moment: Moment) -> None:
        """See which rows are about to learn."""
        judged = simulation.rule.judged(activity, moment)
        self._active = {n: 1 - float(c.silent.float().mean()) for n, c in judged.items() if c.silent is not None}

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """Record the numbers of every population."""
        for name in simulation.network.order:
            z = activity.output[name].detach()
            flat = z.flatten(1)
            power = flat.square().mean(1)
            sparseness = torch.where(power > 0, 1 - flat.mean(1).square() / power.clamp(min=1e-30), torch.nan)
            code = z.mean((2, 3)) if z.ndim == 4 else flat
            values = {
                "mean": float(flat.mean()),
                "sparseness": float(sparseness.nanmean()),
                "norm": float(flat.norm(dim=1).mean()),
                "effective_rank": _effective_rank(code),
            }
            if name in self._active:
                values["active_fraction"] = self._active[name]
            self._record(simulation, "activity", name, values)


def _effective_rank(code: Tensor) -> float:
    """Return the effective rank of (rows, channels); 0 for constant activity."""
    centred = (code - code.mean(0)).double()
    # The eigenvalues of the smaller Gram matrix are the squares of the singular values, several times faster.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = singular / singular.sum().clamp(min=1e-300)
    share = share[share > 0]
    return float((-(share * share.log()).sum()).exp()) if len(share) else 0.0


Probe = Callable[["Simulation"], Mapping[str, Mapping[str, float]]]


class PerformanceRecorder(Recorder):
    """Loss per population and, less often, what probes read out of every population.

    Parameters
    ----------
    sink : Sink
    every : int
        Moments between records of the loss.
    probe : callable, optional
        Is given the simulation and returns ``{population: {measure: accuracy}}``; called before the first moment and at the
        end. It may leave out populations and measures.
    probe_every : int, optional
        Moments between further probes.
    measures : sequence of str
        What the probe may return, of "probe_accuracy", "knn_accuracy" and "validation_accuracy".
    together : sequence of str
        What the probe may return besides populations: names for several of them read out together.
    """

    def __init__(
        self,
        sink: Sink,
        every: int,
        probe: Probe | None = None,
        probe_every: int | None = None,
        measures: Sequence[str] = ("probe_accuracy", "knn_accuracy"),
        together: Sequence[str] = (),
    ) -> None:
        super().__init__(sink, every)
        self.probe = probe
        self.probe_every = probe_every
        self.measures = tuple(measures)
        self.together = tuple(together)
        self._probed = -1

    def due(self, event: int) -> bool:
        """Return whether loss or probe is due."""
        return super().due(event) or self._probe_due(event)

    def _probe_due(self, event: int) -> bool:
        return self.probe is not None and self.probe_every is not None and event % self.probe_every == 0

    def start(self, simulation: "Simulation") -> None:
        """Declare every population, and probe the initial network."""
        for name in (*simulation.network.populations, *self.together):
            self.sink.declare("performance", name, dict.fromkeys(("loss", *self.measures), ()))
        self._run_probe(simulation)

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """Record the loss of this moment (with the weights after its update) and probe if it is time."""
        if super().due(simulation.event):
            context = activity.output if activity.context is None else activity.context
            swept = simulation.network.sweep(activity.output[simulation.network.input.name])
            swept = swept.with_changes(context=context, traced=activity.traced)
            for population, loss in simulation.rule.losses(swept, moment).items():
                self._record(simulation, "performance", population, {"loss": float(loss)})
        if self._probe_due(simulation.event):
            self._run_probe(simulation)

    def end(self, simulation: "Simulation") -> None:
        """Probe the final network."""
        self._run_probe(simulation)

    def _run_probe(self, simulation: "Simulation") -> None:
        if self.probe is not None and self._probed != simulation.event:
            self._probed = simulation.event
            for population, accuracies in self.probe(simulation).items():
                self._record(simulation, "performance", population, dict(accuracies))
