"""What a cosine with backprop is to be measured against: noise ceiling, baselines, credit, descent, perturbations.

An `UpdateRecorder` says how close an update is to that of the reference. This recorder says, for the same moments, how close
it could be, how close it is by chance, and what the closeness is worth. Everything is stored per feedforward pathway, in the
table of alignment; what belongs to a population stands at the pathways that end there, what belongs to the whole network at
all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.checks import is_finite, whole
from neurossl.dynamics.activity import Activity
from neurossl.engine.updates import Update
from neurossl.engine.weights import Weights
from neurossl.errors import NeurosslError, OptionError
from neurossl.events import Event, Fixation, Moment
from neurossl.measures import cosine
from neurossl.plasticity import make_rule
from neurossl.recorders.base import Recorder, wire_reference
from neurossl.recorders.credit import active_row_cosine, by_pathway, credit_cosines, gamma_agreements
from neurossl.recorders.descent import Slope, decreases
from neurossl.recorders.hearing import Heard, hear, random_credit
from neurossl.recorders.observation import Observation
from neurossl.recorders.perturbation import Perturbed
from neurossl.recorders.rows import activity_of, halves, memory_of, moment_of, some_observers
from neurossl.recorders.shuffling import shuffled
from neurossl.store import Store, Variable

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network
    from neurossl.plasticity.rule import Rule

MEASURES: dict[str, tuple[str, ...]] = {
    "ceiling": ("ceiling", "self_ceiling", "cross_cosine"),
    "baselines": ("shuffled_cosine", "random_cosine"),
    "credit": ("credit_cosine", "gamma_agreement", "active_row_cosine"),
    "descent": (
        *("reference_decrease", "joint_decrease", "joint_reference_decrease", "heldout_decrease"),
        *("heldout_reference_decrease", "heldout_joint_decrease", "heldout_joint_reference_decrease"),
    ),
    "perturbation": ("perturbation_correlation", "reference_perturbation_correlation"),
}
"""What can be measured, and the variables that it fills."""

PERTURBED_OBSERVERS = 16
"""Observers of the moment in which single ones are pushed: the objective is computed once per push."""
Values = dict[str, dict[str, float]]
"""By variable and pathway."""
HeldOut = Moment | Event | Sequence[Moment]


class AlignmentMeasures(Recorder):
    """What the closeness of an update to that of the reference is to be measured against.

    Parameters
    ----------
    every : int
        Moments between records. On four populations of 256 neurons a record of everything takes as long as 20 moments of
        learning (7 of predictive coding), half of it for the steps of ``descent`` and a third for ``perturbation``.
    reference : Rule or str, optional
        The rule's own backprop reference by default.
    measures : sequence of str
        Of `MEASURES`; all by default.
    heldout : Moment, or sequence of moments such as a stream, optional
        On which a step is judged that was found on the present moment; record k looks at moment k, beginning anew at the
        end. By default a step that is found on one half of the observers is judged on the other half.
    step : float or sequence of float
        Size of the trial steps relative to the norm of the weights; of several, the one that brings most counts, for the
        rule and for the reference alike.
    directions, rows : int
        Of `perturbation`: how many directions at how many rows.

    Notes
    -----
    ceiling
        Cosine of the reference's update on one half of the observers with that on the other; ``self_ceiling`` the same of
        the rule, ``cross_cosine`` the mean of rule on one half with reference on the other, in which no noise is shared.
    shuffled_cosine, random_cosine
        Cosine of the reference's update with that of the rule when other observers are taught, and with the Hebbian update
        of random credit whose norm is that of the rule's in every row.
    credit_cosine, gamma_agreement, active_row_cosine
        See `neurossl.recorders.credit`.
    reference_decrease, ...
        See `neurossl.recorders.descent`: ``[heldout_][joint_][reference_]decrease``. The decrease after a step of the rule
        alone on the moment itself is the ``loss_decrease`` of `UpdateRecorder`.
    perturbation_correlation
        See `neurossl.recorders.perturbation`, in a moment of `PERTURBED_OBSERVERS` of the observers; that of the reference's
        own credit calibrates it.

    What cannot be measured is NaN, and said once in a warning. A rule that learns while it settles is heard with the weights
    held. In a half, InfoNCE compares every observer with half as many others: its ceiling is that of smaller moments.

    Rule and reference see the same observers and share their noise, so that their cosine may lie above the ceiling; see
    `analysis.corrected_cosine`.
    """

    wants_updates = True

    def __init__(
        self,
        every: int,
        reference: Rule | str | None = None,
        measures: Iterable[str] | str = tuple(MEASURES),
        heldout: HeldOut | None = None,
        step: float | Sequence[float] = 1e-3,
        directions: int = 32,
        rows: int = 4,
    ) -> None:
        super().__init__(kind="alignment", every=every)
        self.reference = None if reference is None else make_rule(reference)
        self.added: list[str] = []
        self.measures = (measures,) if isinstance(measures, str) else tuple(measures)
        unknown = [name for name in self.measures if name not in MEASURES]
        if unknown or not self.measures:
            raise OptionError(
                f"AlignmentMeasures: measures: expected some of {', '.join(MEASURES)}, got {', '.join(unknown) or 'none'}"
            )
        steps = list(step) if isinstance(step, Sequence) else [step]
        if not steps or not all(is_finite(size) and size > 0 for size in steps):
            raise OptionError(f"AlignmentMeasures: step must be a number > 0, or several, got {step!r}")
        if isinstance(heldout, Event):
            heldout = Moment(heldout)
        if (
            heldout is not None
            and not isinstance(heldout, Moment)
            and not (hasattr(heldout, "__getitem__") and hasattr(heldout, "__len__") and len(heldout))
        ):
            raise OptionError(
                f"AlignmentMeasures: heldout: expected a moment, a list of moments or a stream that knows its moments by "
                f"number such as ViewPairs, got {heldout!r}"
            )
        self.heldout, self.steps = heldout, [float(size) for size in steps]
        self.directions = whole(directions, "AlignmentMeasures: directions", 3)
        self.rows = whole(rows, "AlignmentMeasures: rows")
        self._names: list[str] = []
        self._warned: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        """Forget what was heard of a moment."""
        self._values: Values = {}
        self._mine: Heard | None = None
        self._expected: Heard | None = None
        self._parts: list[tuple[Heard, Heard]] | None = None
        self._rows: tuple[Tensor, ...] = ()
        self._slopes: list[tuple[str, Callable[[], Slope], dict[str, Tensor], dict[str, Tensor]]] = []

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Take the store of a simulation, and the reference of its rule where none was given.

        Raises
        ------
        OptionError
            If there is no reference.
        """
        super().attach(store, rule)
        if self.reference is None:
            self.reference = rule.reference()
        if self.reference is None:
            raise OptionError(
                f"AlignmentMeasures: rule {rule.name!r} has no backprop reference: give it one (reference='bp-clapp++')"
            )

    def detach(self) -> None:
        """Give the store back, and forget what was seen of its simulation."""
        super().detach()
        self._names = []
        self._forget()

    def wire(self, network: Network) -> None:
        """Add the pathways that the reference needs."""
        assert self.reference is not None, "attached before it is wired"
        self.added = wire_reference(self.reference, network)

    def declare(self, now: Observation) -> None:
        """Declare the plastic feedforward pathways."""
        self._names = [name for name, pathway in now.network.feedforward.items() if pathway.plastic]
        variables = {name: Variable((), "1", name.replace("_", " ")) for kind in self.measures for name in MEASURES[kind]}
        for name in self._names:
            self.declares("alignment", name, variables)

    def before(self, now: Observation) -> None:
        """Hear what rule and reference say of this activity, of parts of it, and with other teaching."""
        assert self.reference is not None, "attached"
        watched = "credit" in self.measures
        seen, moment = now.seen, now.happened
        self._mine = hear(now.rule, seen, moment, memory_of(now.memory, now.rule), watched=watched)
        self._expected = hear(self.reference, seen, moment, watched=watched)
        for kind in self.measures:
            getattr(self, f"_before_{kind}")(now)

    def after(self, now: Observation) -> None:
        """Compare with what was proposed, take the trial steps, and record."""
        mine, reference = self._heard
        proposed = {name: now.updates[name].weight for name in self._names if name in now.updates}
        expected = {name: reference.updates[name].weight for name in proposed if name in reference.updates}
        self._check_memory(now, mine, proposed)
        if "credit" in self.measures:
            self._keep("active_row_cosine", {n: active_row_cosine(proposed[n], g) for n, g in expected.items()})
        for prefix, slope, own, other in self._slopes:
            along, against = own or proposed, other or expected
            both = [name for name in along if name in against]
            found = decreases(slope, {n: along[n] for n in both}, {n: against[n] for n in both}, prefix)
            self._values |= {variable: values for variable, values in found.items() if variable != "decrease"}
        variables = [variable for kind in self.measures for variable in MEASURES[kind]]
        for name in expected:
            self.record(now, "alignment", name, {key: self._values.get(key, {}).get(name, math.nan) for key in variables})
        self._forget()

    def _keep(self, variable: str, values: dict[str, float]) -> None:
        self._values[variable] = values

    def _cosines(self, one: dict[str, Update], other: dict[str, Update]) -> dict[str, float]:
        return {n: cosine(one[n].weight, other[n].weight) for n in self._names if n in one and n in other}

    def _before_ceiling(self, now: Observation) -> None:
        parts = self._halves(now)
        if parts is None:
            return
        (mine, other), (mine_too, other_too) = parts
        self._keep("ceiling", self._cosines(other.updates, other_too.updates))
        self._keep("self_ceiling", self._cosines(mine.updates, mine_too.updates))
        crossed = self._cosines(mine.updates, other_too.updates), self._cosines(mine_too.updates, other.updates)
        self._keep("cross_cosine", {name: (crossed[0][name] + crossed[1][name]) / 2 for name in crossed[0]})

    def _before_baselines(self, now: Observation) -> None:
        mine, expected = self._heard
        generator = now.generators["recorders/alignment/random"]
        memory = memory_of(now.memory, now.rule)
        random = hear(now.rule, now.seen, now.happened, memory, change=random_credit(generator))
        self._keep("random_cosine", self._cosines(random.updates, expected.updates))
        try:
            moment, activity = shuffled(now.happened, now.seen, now.generators["recorders/alignment/shuffled"])
            wrong = hear(now.rule, activity, moment, memory_of(now.memory, now.rule)).updates
        except NeurosslError as reason:
            self._warn("shuffled_cosine", reason)
            return
        # What no shuffling changes was not taught: there is no baseline.
        moved = {n: u for n, u in wrong.items() if n in self._names and not torch.equal(u.weight, mine.updates[n].weight)}
        self._keep("shuffled_cosine", self._cosines(moved, expected.updates))

    def _before_credit(self, now: Observation) -> None:
        mine, expected = self._heard
        assert self.reference is not None, "attached"
        aligned = credit_cosines(mine.credits, expected.credits, now.seen)
        agreeing = gamma_agreements(mine.credits, expected.credits.get(self.reference.stands_at(now.network)))
        for variable, found in (("credit_cosine", aligned), ("gamma_agreement", agreeing)):
            self._keep(variable, {name: by_pathway(found, now.network, name) for name in self._names})

    def _before_descent(self, now: Observation) -> None:
        assert self.reference is not None, "attached"
        trial = now.weights.clone()
        self._slopes = [("", self._slope(now, trial, now.seen, now.happened), {}, {})]
        if self.heldout is not None:
            moment = self._shown(now)
            fixation = moment.require(Fixation, by="AlignmentMeasures: heldout")
            activity = now.circuit.sweep(now.circuit.stimulus_of(fixation))
            self._slopes.append(("heldout_", self._slope(now, trial, activity, moment), {}, {}))
            return
        parts = self._halves(now)
        if parts is None:
            return
        found = [{n: heard.updates[n].weight for n in self._names if n in heard.updates} for heard in parts[0]]
        rows = self._rows[1]
        other = self._slope(now, trial, activity_of(now.seen, rows), moment_of(now.happened, rows))
        self._slopes.append(("heldout_", other, found[0], found[1]))

    def _before_perturbation(self, now: Observation) -> None:
        assert self.reference is not None, "attached"
        generator = now.generators["recorders/alignment/perturbation"]
        rows = some_observers(now.happened, PERTURBED_OBSERVERS, generator)
        found: dict[str, dict[str, float]] = {"rule": {}, "reference": {}}
        try:
            moment, activity = moment_of(now.happened, rows), activity_of(now.seen, rows)
            mine = hear(now.rule, activity, moment, memory_of(now.memory, now.rule, rows))
            expected = hear(self.reference, activity, moment)
            pushed = Perturbed(self.reference, activity, moment, generator, self.directions, self.rows)
        except NeurosslError as reason:
            self._warn("perturbation_correlation", reason)
            return
        for population in dict.fromkeys(now.network.pathways[name].post for name in self._names):
            if population in mine.credits and population in expected.credits:
                credits = {"rule": mine.credits[population], "reference": expected.credits[population]}
                for who, correlation in pushed.correlations(population, credits).items():
                    found[who][population] = correlation
        for who, variable in zip(found, MEASURES["perturbation"], strict=True):
            self._keep(variable, {name: by_pathway(found[who], now.network, name) for name in self._names})

    @property
    def _heard(self) -> tuple[Heard, Heard]:
        assert self._mine is not None, "heard before the update"
        assert self._expected is not None, "heard before the update"
        return self._mine, self._expected

    def _halves(self, now: Observation) -> list[tuple[Heard, Heard]] | None:
        """Return what rule and reference say of two halves of the observers; None, and a warning, where there are none."""
        if self._parts is not None:
            return self._parts
        assert self.reference is not None, "attached"
        moment, parts = now.happened, []
        try:
            self._rows = halves(moment, now.generators["recorders/alignment/halves"])
            for rows in self._rows:
                activity, some = activity_of(now.seen, rows), moment_of(moment, rows)
                memory = memory_of(now.memory, now.rule, rows)
                parts.append((hear(now.rule, activity, some, memory), hear(self.reference, activity, some)))
        except NeurosslError as reason:
            self._warn("ceiling", reason)
            return None
        self._parts = parts
        return parts

    def _slope(self, now: Observation, trial: Weights, activity: Activity, moment: Moment) -> Callable[[], Slope]:
        """Return what makes the reference objective of a moment as a function of the weights before the update."""
        assert self.reference is not None, "attached"
        reference, circuit, steps = self.reference, now.circuit.with_weights(trial), self.steps
        return lambda: Slope(reference, circuit, activity, moment, steps)

    def _shown(self, now: Observation) -> Moment:
        """Return the held-out moment of this record."""
        held = self.heldout
        assert held is not None, "given"
        moment: Any = held if isinstance(held, Moment) else held[(now.moment // self.every) % len(held)]
        moment = moment if isinstance(moment, Moment) else Moment(moment)
        moment.check()
        return moment.to(now.weights.device, now.weights.dtype)

    def _check_memory(self, now: Observation, mine: Heard, proposed: dict[str, Tensor]) -> None:
        """See that a rule that remembers was heard with what it remembered."""
        if not now.rule.state or now.rule.changes_while_settling:
            return
        for name, update in proposed.items():
            heard = mine.updates[name].weight
            if not torch.allclose(heard, update, rtol=1e-3, atol=1e-3 * float(update.abs().max())):
                raise OptionError(
                    f"AlignmentMeasures: rule {now.rule.name!r} remembers what cannot be seen here (in replicas): its "
                    f"update of {name!r} is another than it says: run the simulations one by one"
                )

    def _warn(self, variable: str, reason: Exception) -> None:
        """Say once why there is no value."""
        if variable not in self._warned:
            self._warned.add(variable)
            warnings.warn(f"AlignmentMeasures: no {variable}: {reason}", stacklevel=2)

    def __repr__(self) -> str:
        return f"AlignmentMeasures({', '.join(self.measures)}; every {self.every} moments)"
