"""Proposed updates over learning, beside those of the backprop reference."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.events import Moment
from neurossl.measures import compare_updates, cosine, is_trustworthy
from neurossl.network import Network
from neurossl.plasticity import Rule
from neurossl.recorders.base import Recorder, Sink
from neurossl.recorders.weights import ChosenSynapses
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


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
        self._chosen: dict[str, ChosenSynapses] = {}
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
                self._chosen[name] = ChosenSynapses(pathway, self.index, generator)
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
