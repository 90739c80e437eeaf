"""Proposed updates over learning, beside those of the backprop reference, and the changes that were made of them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.engine import limits
from neurossl.engine.updates import Update
from neurossl.engine.weights import Weights
from neurossl.errors import OptionError
from neurossl.measures import TRUSTED, compare_change, compare_updates, cosine, untrusted_because
from neurossl.plasticity import losses, make_rule, propose
from neurossl.recorders.base import Recorder, wire_reference
from neurossl.recorders.observation import Observation
from neurossl.recorders.weights import ChosenSynapses, chosen_bytes
from neurossl.store import Store, Variable

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network
    from neurossl.plasticity.rule import Rule

ALIGNMENT = (
    *("cosine", "angle", "norm_ratio", "sign_agreement", "relative_error", "update_norm", "reference_norm"),
    *("stability", "reference_stability", "loss_decrease", "trustworthy", "untrusted_because", "activity_growth"),
    *("change_norm", "change_cosine", "change_agreement"),
)
_UNITS = {"angle": "degrees"}


class UpdateRecorder(Recorder):
    """How close the proposed updates are to those of a reference, on the same activity, events and weights.

    Parameters
    ----------
    every : int
        Moments between comparisons.
    reference : Rule or str, optional
        The rule's own backprop reference by default (`Rule.reference`).
    keep : bool
        Store the updates themselves too, besides the comparison, and the changes that were made of them.
    index : int, optional
        Of the stored updates: only so many random synapses per pathway. The comparison always uses all.
    step : float
        Size of the trial step of `loss_decrease`, relative to the norm of the weights; 0 for none.

    Notes
    -----
    Stored per pathway: the measures of `neurossl.measures.compare_updates`, ``stability`` (cosine with the last recorded
    update, on at most 65,536 synapses), that of the reference, ``loss_decrease`` (relative decrease of the reference
    objective after a small step along the update of this pathway alone, contexts held), ``trustworthy``,
    ``untrusted_because`` (why not: a code, see `neurossl.measures.untrusted_because`) and ``activity_growth`` (the largest
    ratio of the norms of successive populations, on which that depends).

    The change that was applied in this moment, the weights after it minus those before, is what optimiser, bounds and
    homeostasis made of the update: ``change_norm``, ``change_cosine`` (with the reference update) and ``change_agreement``
    (with the proposed update). Where nobody learns from the moment, it is 0 and its cosines are NaN.
    """

    wants_updates = True

    def __init__(
        self,
        every: int,
        reference: Rule | str | None = None,
        keep: bool = False,
        index: int | None = None,
        step: float = 1e-3,
    ) -> None:
        super().__init__(kind="alignment", every=every)
        self.reference = None if reference is None else make_rule(reference)
        self.added: list[str] = []
        self.keep = keep
        self.index = index
        if not isinstance(step, Real) or isinstance(step, bool) or not 0 <= step < float("inf"):
            raise OptionError(f"UpdateRecorder: step must be a number >= 0, got {step!r}")
        self.step: float = float(step)
        self._names: list[str] = []
        self._chosen: dict[str, ChosenSynapses] = {}
        self._sample: dict[str, Tensor] = {}
        self._previous: dict[str, tuple[Tensor, Tensor]] = {}
        self._expected: dict[str, Update] = {}
        self._weights: Weights | None = None
        self._before: dict[str, Tensor] = {}
        self._restored: dict[str, list[int]] = {}

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Take the store of a simulation, and the reference of its rule where none was given.

        Raises
        ------
        OptionError
            If there is nothing to record.
        """
        super().attach(store, rule)
        if self.reference is None:
            found = rule.reference()
            self.reference = make_rule(found) if isinstance(found, str) else found
        if self.reference is None and not self.keep:
            raise OptionError(
                f"UpdateRecorder would store nothing: rule {rule.name!r} has no backprop reference; give it one "
                "(reference='bp-clapp++'), or keep=True to store the updates themselves"
            )

    def detach(self) -> None:
        """Give the store back, and forget what was seen of its simulation."""
        super().detach()
        self._names, self._chosen, self._sample, self._previous = [], {}, {}, {}
        self._expected, self._weights, self._before, self._restored = {}, None, {}, {}

    def wire(self, network: Network) -> None:
        """Add the pathways that the reference needs."""
        if self.reference is not None:
            self.added = wire_reference(self.reference, network)

    def declare(self, now: Observation) -> None:
        """Declare the plastic feedforward pathways."""
        network = now.network
        self._names = [n for n, p in network.feedforward.items() if p.plastic]
        measures = {name: Variable((), _UNITS.get(name, "1"), name.replace("_", " ")) for name in ALIGNMENT}
        for name in self._names:
            pathway = network.pathways[name]
            generator = now.generators[f"recorders/updates/{name}"]
            size = now.weights[name].weight.numel()
            if name not in self._sample:
                self._sample[name] = torch.randperm(size, generator=generator)[: limits.SAMPLED_SYNAPSES]
            if self.reference is not None:
                self.declares("alignment", name, measures)
            if self.keep:
                if name not in self._chosen:
                    self._chosen[name] = ChosenSynapses(network, pathway, self.index, generator)
                chosen = self._chosen[name]
                dtype = str(now.weights.dtype).removeprefix("torch.")
                variables = {"update": Variable(chosen.dims, "1", "proposed update", dtype)}
                if self.reference is not None:
                    variables["reference_update"] = Variable(chosen.dims, "1", "update of the reference", dtype)
                variables["change"] = Variable(chosen.dims, "1", "change that was applied", dtype)
                self.declares("updates", name, variables, chosen.coords())

    def expected_bytes(self, now: Observation, moments: int) -> int:
        """Return how much the stored updates of so many moments take."""
        if not self.keep:
            return 0
        each = sum(chosen_bytes(now, name, self.index) for name, p in now.network.feedforward.items() if p.plastic)
        return (moments // self.every) * each * (2 if self.reference is None else 3)

    def before(self, now: Observation) -> None:
        """Let the reference propose on this activity, and remember the weights."""
        if self.reference is not None:
            proposed = propose(self.reference, now.seen, now.happened)
            self._expected = {name: update for name, update in proposed if name in self._names}
            self._weights = now.weights.clone() if self.step else None
        held = self._weights  # which trial steps leave as they were
        self._before = {n: now.weights[n].weight.clone() if held is None else held[n].weight for n in self._names}

    def after(self, now: Observation) -> None:
        """Compare and record."""
        decreases = self._decreases(now) if self._expected and self._weights is not None else {}
        growth = _activity_growth(now.seen, now.network)
        for name in self._names:
            if name not in now.updates:
                continue
            update, expected = now.updates[name], self._expected.get(name)
            change = now.weights[name].weight - self._before[name]
            if self.keep:
                values = {"update": self._chosen[name].of(update.weight)}
                if expected is not None:
                    values["reference_update"] = self._chosen[name].of(expected.weight)
                values["change"] = self._chosen[name].of(change)
                self.record(now, "updates", name, values)
            if expected is not None:
                measures = compare_updates(update.weight, expected.weight)
                measures |= self._stability(name, update, expected)
                measures["loss_decrease"] = decreases.get(name, float("nan"))
                measures |= compare_change(change, update.weight, expected.weight)
                measures["activity_growth"] = growth
                measures["untrusted_because"] = untrusted_because(
                    reference_norm=measures["reference_norm"],
                    activity_growth=growth,
                    stability=measures["stability"],
                    reference_stability=measures["reference_stability"],
                    cosine=measures["cosine"],
                )
                measures["trustworthy"] = measures["untrusted_because"] == TRUSTED
                self.record(now, "alignment", name, measures)
        self._expected, self._weights, self._before = {}, None, {}

    def state(self) -> dict[str, Tensor]:
        """Return the last recorded updates, on the synapses that are sampled, and which those are."""
        found = {f"sample/{name}": sample for name, sample in self._sample.items()}
        for name, (mine, other) in self._previous.items():
            found |= {f"previous/{name}": mine, f"expected/{name}": other}
        return found | {f"chosen/{name}": c.flat for name, c in self._chosen.items() if c.flat is not None}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned."""
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("sample", "previous", "expected", "chosen")}
        for key, tensor in state.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = tensor
        self._sample = parts["sample"]
        self._previous = {name: (mine, parts["expected"][name]) for name, mine in parts["previous"].items()}
        self._restored = {name: flat.tolist() for name, flat in parts["chosen"].items()}

    def resume(self, now: Observation) -> None:
        """Go on with the same synapses."""
        for name, flat in self._restored.items():
            generator = now.generators[f"recorders/updates/{name}"]
            self._chosen[name] = ChosenSynapses(now.network, now.network.pathways[name], flat, generator)
        super().resume(now)

    def _stability(self, name: str, update: Update, expected: Update) -> dict[str, Any]:
        """Return the cosines with the last recorded update and reference update."""
        sample = self._sample[name].to(update.weight.device)
        now = update.weight.flatten()[sample], expected.weight.flatten()[sample]
        before = self._previous.get(name)
        self._previous[name] = now
        if before is None:
            return {"stability": float("nan"), "reference_stability": float("nan")}
        past = before[0].to(now[0]), before[1].to(now[1])
        return {"stability": cosine(now[0], past[0]), "reference_stability": cosine(now[1], past[1])}

    def _decreases(self, now: Observation) -> dict[str, float]:
        """Return the relative decrease of the reference objective after a trial step along each update.

        Tried on a copy of the weights as they were before the update.
        """
        assert self._weights is not None, "kept before the update"
        trial = self._weights
        circuit = now.circuit.with_weights(trial)
        seen = now.seen
        stimulus = seen.stimulus

        def loss() -> float:
            swept = circuit.sweep(stimulus).with_changes(context=seen.held, traced=seen.traced)
            assert self.reference is not None, "called with a reference only"
            return sum(float(part) for part in losses(self.reference, swept, now.happened).values())

        decreases: dict[str, float] = {}
        initial = loss()
        for name in self._names:
            if name not in now.updates:
                continue
            weight, direction = trial[name].weight, now.updates[name].weight
            norm = direction.norm()
            if float(norm) > 0 and initial != 0:
                before = weight.clone()
                weight.add_(direction, alpha=float(self.step * weight.norm() / norm))
                trial.changed(name)
                decreases[name] = (initial - loss()) / abs(initial)
                weight.copy_(before)
                trial.changed(name)
        return decreases


def _activity_growth(activity: Activity, network: Network) -> float:
    """Return the largest ratio of the norms of successive populations above the input."""
    norms = {n: float(activity.output[n].double().norm()) for n in network.order}
    ratios = [
        norms[p.post] / norms[p.pre] for p in network.feedforward.values() if norms.get(p.pre, 0.0) > 0 and p.post in norms
    ]
    return max(ratios, default=1.0)
