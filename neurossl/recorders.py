"""Recorders: observers of a simulation that hand what they see to a sink that they do not know.

A recorder never changes a result: it draws from generators of its own and leaves the weights as they were. Event n is the
state after the n-th learning moment; event 0 the state before the first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.measures import compare_updates, cosine, is_trustworthy
from neurossl.network import Network
from neurossl.pathways import Pathway
from neurossl.plasticity import Rule
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


class Sink(Protocol):
    """Where recorders put what they see; `analysis.TrajectoryWriter` is one."""

    def declare(
        self,
        kind: str,
        name: str,
        dims: Mapping[str, tuple[str, ...]],
        coords: Mapping[str, tuple[str, np.ndarray]] = ...,
        attrs: Mapping[str, Any] = ...,
    ) -> None:
        """Say once what the records of a kind and name will look like."""

    def record(self, kind: str, name: str, event: int, time: float, observers_seen: int, values: Mapping[str, Any]) -> None:
        """Take one record."""


class Recorder:
    """Base of all recorders.

    Parameters
    ----------
    sink : Sink
    every : int
        Learning moments between records.
    """

    wants_updates = False

    def __init__(self, sink: Sink, every: int) -> None:
        if not isinstance(every, int) or every < 1:
            raise OptionError(f"{type(self).__name__}: every must be a whole number of moments >= 1, got {every!r}")
        self.sink = sink
        self.every = every

    def wire(self, network: Network) -> None:
        """Add the pathways that the recorder's reference needs."""

    def due(self, event: int) -> bool:
        """Return whether this moment is to be recorded."""
        return event % self.every == 0

    def start(self, simulation: "Simulation") -> None:
        """Declare, and record the state before the first update."""

    def before(self, simulation: "Simulation", activity: Activity, moment: Moment) -> None:
        """See a moment after its sweep and before its update."""

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """See a moment after its update."""

    def end(self, simulation: "Simulation") -> None:
        """See the end of a run."""

    def _record(self, simulation: "Simulation", kind: str, name: str, values: Mapping[str, Any]) -> None:
        self.sink.record(kind, name, simulation.event, simulation.time, simulation.observers_seen, values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(every {self.every} moments)"


def _host(tensor: Tensor) -> np.ndarray:
    """Return a copy on the host that nobody else will change."""
    return tensor.detach().to("cpu", copy=True).numpy()


_KERNEL_DIMS = {2: ("post", "pre"), 4: ("post", "pre", "ky", "kx")}


class _Synapses:
    """Which synapses of a pathway are recorded: all, or a list of flat indices."""

    def __init__(self, pathway: Pathway, index: int | Sequence[int] | None, generator: torch.Generator) -> None:
        shape = pathway.weight_shape
        total = pathway.weight.numel()
        self.flat: Tensor | None = None
        if index is None or (isinstance(index, int) and index >= total):
            self.dims = _KERNEL_DIMS[len(shape)]
            return
        if isinstance(index, int):
            chosen = torch.randperm(total, generator=generator)[:index].sort().values
        else:
            chosen = torch.as_tensor(list(index), dtype=torch.int64)
        if not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= total:
            raise OptionError(f"index of pathway {pathway.name!r}: expected flat indices from 0 to {total - 1}")
        self.flat = chosen.to(pathway.weight.device)
        self.dims = ("synapse",)
        self.places = np.unravel_index(chosen.numpy(), shape)

    def coords(self) -> dict[str, tuple[str, np.ndarray]]:
        """Return the coordinates of a chosen subset."""
        if self.flat is None:
            return {}
        names = ("post", "pre", "ky", "kx")
        flat = {"synapse": ("synapse", self.flat.cpu().numpy())}
        return flat | {n: ("synapse", np.asarray(p, np.int64)) for n, p in zip(names, self.places, strict=False)}

    def of(self, tensor: Tensor) -> np.ndarray:
        """Return the chosen entries on the host."""
        return _host(tensor if self.flat is None else tensor.flatten()[self.flat])


class WeightRecorder(Recorder):
    """Weights (and biases) after every n-th update, the initial and the final ones included.

    Parameters
    ----------
    sink : Sink
    every : int
    pathways : sequence of str, optional
        All plastic pathways by default.
    index : int, sequence of int, or mapping of pathway name to either, optional
        Record only so many random synapses, or these (flat indices), and no biases.
    """

    def __init__(
        self,
        sink: Sink,
        every: int,
        pathways: Sequence[str] | None = None,
        index: int | Sequence[int] | Mapping[str, int | Sequence[int]] | None = None,
    ) -> None:
        super().__init__(sink, every)
        self.pathways = pathways
        self.index = index
        self._chosen: dict[str, _Synapses] = {}
        self._last = -1

    def start(self, simulation: "Simulation") -> None:
        """Declare the pathways and record the initial weights."""
        network = simulation.network
        names = [n for n, p in network.pathways.items() if p.plastic] if self.pathways is None else list(self.pathways)
        for name in names:
            if name not in network.pathways:
                raise OptionError(f"WeightRecorder: there is no pathway {name!r} (there are: {', '.join(network.pathways)})")
            pathway = network.pathways[name]
            index = self.index.get(name) if isinstance(self.index, Mapping) else self.index
            chosen = _Synapses(pathway, index, simulation.generators[f"recorders/weights/{name}"])
            self._chosen[name] = chosen
            dims: dict[str, tuple[str, ...]] = {"weight": chosen.dims}
            if pathway.bias is not None and chosen.flat is None:
                dims["bias"] = ("post",)
            self.sink.declare("weights", name, dims, chosen.coords())
        self._save(simulation)

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """Record the weights."""
        self._save(simulation)

    def end(self, simulation: "Simulation") -> None:
        """Record the final weights."""
        self._save(simulation)

    def _save(self, simulation: "Simulation") -> None:
        if self._last == simulation.event:
            return
        self._last = simulation.event
        for name, chosen in self._chosen.items():
            pathway = simulation.network.pathways[name]
            values = {"weight": chosen.of(pathway.weight)}
            if pathway.bias is not None and chosen.flat is None:
                values["bias"] = _host(pathway.bias)
            self._record(simulation, "weights", name, values)


ALIGNMENT = (
    *("cosine", "angle", "norm_ratio", "sign_agreement", "relative_error", "update_norm", "reference_norm"),
    *("stability", "reference_stability", "loss_decrease", "trustworthy"),
)


class UpdateRecorder(Recorder):
    """How close the proposed updates are to those of a reference, on the same activity, events and weights.

    Parameters
    ----------
    sink : Sink
    every : int
    reference : Rule, optional
        The rule's own backprop reference by default (`Rule.reference`).
    keep : bool
        Store the updates themselves too, besides the comparison.
    index : int, optional
        Of the stored updates: only so many random synapses per pathway. The comparison always uses all.
    step : float
        Size of the trial step of `loss_decrease`, relative to the norm of the weights; 0 for none.

    Notes
    -----
    Stored per pathway: the measures of `neurossl.measures.compare_updates`, ``stability`` (cosine with the last recorded
    update, on at most 65,536 synapses), that of the reference, ``loss_decrease`` (relative decrease of the reference
    objective after a small step along the update of this pathway alone, contexts held) and ``trustworthy``.
    """

    wants_updates = True

    def __init__(
        self,
        sink: Sink,
        every: int,
        reference: Rule | None = None,
        keep: bool = False,
        index: int | None = None,
        step: float = 1e-3,
    ) -> None:
        super().__init__(sink, every)
        self.reference = reference
        self.keep = keep
        self.index = index
        self.step = step
        self._names: list[str] = []
        self._chosen: dict[str, _Synapses] = {}
        self._sample: dict[str, Tensor] = {}
        self._previous: dict[str, tuple[Tensor, Tensor]] = {}
        self._expected: dict[str, Update] = {}
        self._weights: dict[str, Tensor] = {}

    def wire(self, network: Network) -> None:
        """Add the pathways that the reference needs."""
        if self.reference is not None:
            self.reference.wire(network)

    def start(self, simulation: "Simulation") -> None:
        """Declare the plastic feedforward pathways."""
        if self.reference is None:
            self.reference = simulation.rule.reference()
            if self.reference is not None:
                self.reference.wire(simulation.network)
        network = simulation.network
        self._names = [n for n, p in network.feedforward.items() if p.plastic]
        for name in self._names:
            pathway = network.pathways[name]
            generator = simulation.generators[f"recorders/updates/{name}"]
            total = pathway.weight.numel()
            self._sample[name] = torch.randperm(total, generator=generator)[:65536].to(pathway.weight.device)
            if self.reference is not None:
                self.sink.declare("alignment", name, dict.fromkeys(ALIGNMENT, ()))
            if self.keep:
                self._chosen[name] = _Synapses(pathway, self.index, generator)
                dims = {"update": self._chosen[name].dims}
                if self.reference is not None:
                    dims["reference_update"] = dims["update"]
                self.sink.declare("updates", name, dims, self._chosen[name].coords())

    def before(self, simulation: "Simulation", activity: Activity, moment: Moment) -> None:
        """Let the reference propose on this activity."""
        if self.reference is None:
            return
        self._expected = {p.name: u for p, u in self.reference.propose(activity, moment) if p.name in self._names}
        if self.step:
            self._weights = {n: simulation.network.pathways[n].weight.clone() for n in simulation.network.pathways}

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """Compare and record."""
        decreases = self._decreases(simulation.network, activity, moment, changes) if self._expected and self.step else {}
        growth = _activity_growth(activity, simulation.network)
        for name in self._names:
            if name not in changes:
                continue
            update, expected = changes[name], self._expected.get(name)
            if self.keep:
                values = {"update": self._chosen[name].of(update.weight)}
                if expected is not None:
                    values["reference_update"] = self._chosen[name].of(expected.weight)
                self._record(simulation, "updates", name, values)
            if expected is not None:
                measures = compare_updates(update.weight, expected.weight)
                measures |= self._stability(name, update, expected)
                measures["loss_decrease"] = decreases.get(name, float("nan"))
                measures["trustworthy"] = is_trustworthy(
                    reference_norm=measures["reference_norm"],
                    activity_growth=growth,
                    stability=measures["stability"],
                    reference_stability=measures["reference_stability"],
                    cosine=measures["cosine"],
                )
                self._record(simulation, "alignment", name, measures)
        self._expected, self._weights = {}, {}

    def _stability(self, name: str, update: Update, expected: Update) -> dict[str, Any]:
        """Return the cosines with the last recorded update and reference update."""
        sample = self._sample[name]
        now = update.weight.flatten()[sample], expected.weight.flatten()[sample]
        before = self._previous.get(name)
        self._previous[name] = now
        if before is None:
            return {"stability": float("nan"), "reference_stability": float("nan")}
        return {"stability": cosine(now[0], before[0]), "reference_stability": cosine(now[1], before[1])}

    def _decreases(
        self, network: Network, activity: Activity, moment: Moment, changes: Mapping[str, Update]
    ) -> dict[str, float]:
        """Return the relative decrease of the reference objective after a trial step along each update.

        The weights are put back to what they were before the update, and afterwards to what they are now, bit for bit.
        """
        now = {n: network.pathways[n].weight.clone() for n in self._weights}
        held = {"context": activity.output} if activity.context is None else {"context": activity.context}
        stimulus = activity.output[network.input.name]

        def loss() -> float:
            swept = network.sweep(stimulus, first=None).with_changes(**held, traced=activity.traced)
            assert self.reference is not None, "called with a reference only"
            return sum(float(part) for part in self.reference.losses(swept, moment).values())

        decreases: dict[str, float] = {}
        try:
            for n, weight in self._weights.items():
                network.pathways[n].weight.copy_(weight)
            initial = loss()
            for name in self._names:
                if name not in changes:
                    continue
                weight, direction = network.pathways[name].weight, changes[name].weight
                norm = direction.norm()
                if float(norm) > 0 and initial != 0:
                    weight.add_(direction, alpha=float(self.step * weight.norm() / norm))
                    decreases[name] = (initial - loss()) / abs(initial)
                    weight.copy_(self._weights[name])
        finally:
            for n, weight in now.items():
                network.pathways[n].weight.copy_(weight)
        return decreases


def _activity_growth(activity: Activity, network: Network) -> float:
    """Return the largest ratio of the norms of successive populations above the input."""
    norms = {n: float(activity.output[n].double().norm()) for n in network.order}
    ratios = [
        norms[p.post] / norms[p.pre] for p in network.feedforward.values() if norms.get(p.pre, 0.0) > 0 and p.post in norms
    ]
    return max(ratios, default=1.0)


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
