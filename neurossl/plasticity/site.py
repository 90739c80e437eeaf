"""What is physically at one population: what a rule is handed there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.engine import limits
from neurossl.engine.projections import ApicalProjection
from neurossl.engine.responses import Rows, at_neurons, at_soma, chunks, respond, rows_at_a_time
from neurossl.errors import DivergenceError, LocalityError, NetworkError, OptionError
from neurossl.events import Moment
from neurossl.plasticity.guard import GuardedMoment
from neurossl.plasticity.needs import SEVERAL

if TYPE_CHECKING:
    from neurossl.plasticity.credit import Credit
    from neurossl.plasticity.locality import Scope


class Site:
    """What is physically at one population.

    Attributes
    ----------
    population : str
    """

    def __init__(self, scope: Scope, population: str) -> None:
        self._scope = scope
        self._is_left = False
        self._anatomy = scope._network.populations[population]
        self.population = population

    def leave(self) -> None:
        """Say that the rule stands at another population, and looks from there."""
        self._is_left = True

    @property
    def _here(self) -> Scope:
        if self._is_left:
            seen = {"broadcast error"} if self.is_top else set()
            self._scope.demand("other populations", self.population, SEVERAL | seen)
        return self._scope

    @property
    def _record(self) -> Activity:
        return self._here._activity

    @property
    def activity(self) -> Tensor:
        """Own activity, (rows, *shape)."""
        return self._record.output[self.population]

    @property
    def top(self) -> str:
        """Name of the last population (anatomy, not activity)."""
        return self._scope.top

    @property
    def is_watched(self) -> bool:
        """Whether somebody wants to record what is computed here on the way (`Credit.signals`)."""
        return self._scope.is_watched

    @property
    def is_top(self) -> bool:
        """Whether this is the last population."""
        return self.population == self.top

    @property
    def is_held(self) -> bool:
        """Whether an experimenter holds the activity here, which then does not depend on the drive."""
        held = self._scope._circuit.manipulations.get(self.population)
        return held is not None and held.holds

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.activity)

    @property
    def phase(self) -> str:
        """Which phase of the settling this is. Needs "phases"."""
        self._scope.demand("phases", self.population)
        return self._record.phase

    @property
    def presynaptic(self) -> dict[str, Tensor]:
        """What the synapses of every incoming pathway saw."""
        return {p.name: self._record.presynaptic[p.name] for p in self._scope.below(self.population)}

    @property
    def weights(self) -> dict[str, Tensor]:
        """Weights of the own incoming pathways, (post, pre, ...); to read, not to change.

        From elsewhere they need "weight transport".
        """
        if self._is_left:
            self._here.demand("weight transport", self.population)
        return {p.name: p.weight for p in self._here._circuit.incoming(self.population)}

    @property
    def drive(self) -> Tensor:
        """Somatic drive, before the transfer function, (rows, *neurons); computed when it is asked for."""
        return self._record.drive(self.population)

    @property
    def value(self) -> Tensor:
        """What the population sends upwards, (rows, *shape).

        Its activity; while a rule settles, what `Scope.predict` was given for it (the value neurons of predictive coding).
        """
        return self._record.source[self.population]

    @property
    def error(self) -> Tensor:
        """What `Scope.settled` was given for this population: error neurons, (rows, *shape). Needs "settling"."""
        self._here.demand("settling", self.population)
        return self._record.errors[self.population]

    @property
    def state(self) -> Mapping[str, Any]:
        """What the rule remembers here, as declared in `Rule.state`; changed by returning ``Credit(state={...})``."""
        scope = self._here
        projections = scope._circuit.incoming(self.population)
        return scope._memory.at(self.population, self._anatomy, scope._rule, self.activity, projections)

    def generator(self, name: str) -> torch.Generator:
        """Return a random generator of this population's own, seeded by the simulation's seed and its names.

        Parameters
        ----------
        name : str
            What it is for.
        """
        scope = self._here
        if scope._circuit.execution.mapped:
            raise OptionError(f"rule {scope._rule.name!r} draws random numbers: replicas cannot, run them one by one")
        return scope._memory.generator(f"rule/{self.population}/{name}")

    def guard(self, moment: Moment) -> GuardedMoment:
        """Return a moment as the rule may see it here: the stimulus only where the input population projects to."""
        network = self._scope._network
        near = any(network.populations[p.pre].is_input for p in self._scope.below(self.population))
        return GuardedMoment(moment, self._scope, self.population, shows_stimulus=near)

    def somatic(self, credit: Tensor, some: Rows = slice(None)) -> Tensor:
        """Return credit on the activity of some rows as credit at the soma: un-pooled and gated."""
        response = self._record.responses[self.population]
        return at_soma(self._anatomy, credit.to(response.activity.dtype), response.rows(some))

    def response_to(self, drive: Tensor) -> Tensor:
        """Return how the population would respond to a drive (rows, *neurons): its activity, (rows, *shape)."""
        return respond(self._anatomy, drive.clone()).activity

    def somatic_at(self, credit: Tensor, drive: Tensor) -> Tensor:
        """Return credit on the activity as credit at the soma, un-pooled and gated as at a drive (rows, *neurons)."""
        return at_soma(self._anatomy, credit.to(drive.dtype), respond(self._anatomy, drive.clone()))

    def at_neurons(self, credit: Tensor) -> Tensor:
        """Return credit on the activity at the neurons, (rows, *neurons): un-pooled, and not gated."""
        response = self._record.responses[self.population]
        return at_neurons(self._anatomy, credit.to(response.activity.dtype), response)

    def neurons_at(self, drive: Tensor) -> Tensor:
        """Return the activity that the neurons would have at a drive, before pooling, (rows, *neurons)."""
        return self._anatomy.transfer.rho(drive.clone())

    def check(self, credit: Credit) -> None:
        """Refuse credit that is not shaped like what is here.

        Raises
        ------
        NetworkError
            Naming the rule, the population and both shapes.
        """
        if not all(isinstance(part, Mapping) for part in (credit.synaptic, credit.rates, credit.state)):
            raise self._unfit("synaptic, rates and state are mappings of names to tensors")
        rows, post = self._scope._activity.rows, self._anatomy.neurons[0]
        incoming = {p.name: p.weight_shape for p in self._scope.below(self.population)}
        parts: list[tuple[str, Tensor | None, list[tuple[int, ...]]]] = [
            ("credit", credit.activity, [(rows, *self._anatomy.shape)]),
            ("credit at the soma", credit.somatic, [(rows, *self._anatomy.neurons)]),
            ("decay", credit.decay, [(rows, post), (post,), ()]),
        ]
        for what, given in (("synaptic", credit.synaptic), ("rates", credit.rates)):
            for name in given:
                if name not in incoming:
                    raise self._unfit(f"{what} must name incoming pathways ({', '.join(incoming)}), got {name!r}")
        parts += [(f"the synaptic change of {name!r}", t, [(rows, *incoming[name])]) for name, t in credit.synaptic.items()]
        parts += [(f"the rates of {name!r}", t, [incoming[name][:1]]) for name, t in credit.rates.items()]
        for what, tensor, shapes in parts:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise self._unfit(f"{what} must be a tensor of the shape {shapes[0]}, got {type(tensor).__name__}")
            if tensor is not None and tuple(tensor.shape) not in shapes:
                raise self._unfit(f"{what} must have the shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}")

    def _unfit(self, problem: str) -> NetworkError:
        return NetworkError(f"rule {self._scope._rule.name!r} at {self.population!r}: {problem}")

    def refuse_not_finite(self, credit: Credit) -> None:
        """Refuse credit of a rule of one's own with NaN or infinity: no learning rate could mend it.

        Raises
        ------
        DivergenceError
            Naming the rule and the population.
        """
        if self._scope._circuit.execution.mapped:
            return
        synaptic, rates = (m.values() if isinstance(m, Mapping) else () for m in (credit.synaptic, credit.rates))
        for given in (credit.activity, credit.somatic, credit.decay, *synaptic, *rates):
            if isinstance(given, Tensor) and given.device.type == "cpu" and not bool(given.sum().isfinite()):
                if bool(given.isfinite().all()) or not bool(self.activity.isfinite().all()):
                    continue
                where = f"rule {self._scope._rule.name!r} at {self.population!r}"
                if not bool(self.value.square().sum().isfinite()):
                    raise DivergenceError(
                        f"{where}: what it has settled to is NaN, infinite or too large: settle in smaller steps, or learn "
                        "at a lower rate"
                    )
                raise DivergenceError(
                    f"{where}: its credit is NaN or infinite although the "
                    "activity is not: look for a division by zero or the logarithm of 0 in credit_at()"
                )

    def soma_of(self, credit: Credit, some: Rows = slice(None)) -> Tensor:
        """Return the credit at the soma of some rows, (rows, *neurons)."""
        if credit.somatic is not None:
            return credit.somatic[some]
        if credit.activity is None:
            raise NetworkError(f"population {self.population!r} was given no credit")
        return self.somatic(credit.activity[some], some)

    def selections(self, credit: Credit) -> list[Rows]:
        """Return the rows for which credit at the soma is computed at a time; those that are silent are left out."""
        if credit.somatic is not None:
            return [slice(None)]
        if credit.activity is None:
            return []
        learning = None if credit.silent is None else self.worth_selecting(~credit.silent)
        if learning is None:
            return list(chunks(self._anatomy, self.rows))
        return list(learning.split(rows_at_a_time(self._anatomy, self.rows))) if len(learning) else []

    def worth_selecting(self, learning: Tensor) -> Tensor | None:
        """Return the indices of the rows that learn, where they are few enough to be worth gathering; otherwise None."""
        if self._scope._circuit.execution.mapped or learning.device.type != "cpu":
            return None
        index = learning.nonzero()[:, 0]
        return index if len(index) <= limits.FEW_ROWS * self.rows else None

    def feedback(self, name: str) -> ApicalProjection:
        """Return one of the population's own feedback pathways. Needs what the pathway needs to learn.

        Raises
        ------
        LocalityError
            If it ends elsewhere or does not exist.
        """
        scope = self._here
        pathway = scope._network.pathways.get(name)
        projection = None if pathway is None else scope._circuit[name]
        if not isinstance(projection, ApicalProjection):
            raise LocalityError(
                f"rule {scope._rule.name!r} at {self.population!r}: there is no pathway {name!r}: "
                "add it in the rule's wire(network)"
            )
        if projection.pathway.post != self.population:
            raise LocalityError(f"rule {scope._rule.name!r} at {self.population!r}: pathway {name!r} ends elsewhere")
        for need in projection.pathway.needs:
            scope.demand(need, name)
        return projection

    def context(self, projection: ApicalProjection, online: bool) -> tuple[Tensor, Tensor | None]:
        """Return the context that a feedback pathway carries, (rows, source values), and which rows have one.

        Online it is the trace of the previous fixation; batched, the present response. Needs "lateral context" or
        "top-down activity".
        """
        scope, record = self._here, self._record
        if projection.pathway.post != self.population:
            raise LocalityError(
                f"rule {scope._rule.name!r} at {self.population!r}: pathway {projection.name!r} ends elsewhere"
            )
        need = "lateral context" if projection.is_lateral else "top-down activity"
        # At the top the direct feedback of the top is lateral.
        source = projection.pathway.pre
        scope.demand(need, projection.name, {"top-down activity"} if source == self.top else frozenset())
        if not online:
            return projection.signal(record.held[source]), None
        if record.context is None or record.traced is None:
            return projection.signal(record.output[source]), self.activity.new_zeros(self.rows).bool()
        return projection.signal(record.context[source]), record.traced

    def __repr__(self) -> str:
        return f"Site({self.population!r} for {self._scope._rule.name!r})"
