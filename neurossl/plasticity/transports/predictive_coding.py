"""Predictive coding: error units settle before the synapses learn.

Value neurons v and predictions ``mu_l = rho(W_l v_{l-1} + b_l)`` give errors ``e_l = v_l - mu_l``; the top error is the
credit of the objective at ``mu_L`` (with squared error: output clamped to the target). Values descend the energy
``1/2 sum ||e_l||^2 + loss`` of their own row,

    v_l <- v_l + rate * ( -e_l + sum over pathways l->m of  W_m^T (e_m * rho'(a_m)) ),

and the credit of a population is its error. Two conventions are in use (``values``). In "activity", the one above, a value
neuron holds what the population sends, after the nonlinearity (Song et al. 2020; Salvatori et al. 2022; Rosenbaum 2022). In
"drive" it holds what comes before it, and sends ``rho(v)``,

    mu_l = W_l rho(v_{l-1}) + b_l        v_l <- v_l + rate * ( -e_l + rho'(v_l) sum over l->m of  W_m^T e_m )

so that the change of a synapse is error times presynaptic activity, without a gate (Whittington & Bogacz 2017; Bogacz 2017;
Millidge et al. 2022; most libraries of today). They agree where rho is linear, and as the errors become small.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.checks import one_of, whole
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.transports.backprop import TopDown
from neurossl.plasticity.transports.feedback_alignment import mirror_updates, wire_mirrors

SCHEDULES = ("standard", "incremental", "fixed-prediction", "z-il")
VALUES = ("activity", "drive")


class PredictiveCoding(TopDown):
    """Predictive coding with any objective at the top.

    Parameters
    ----------
    objective : Objective
    steps : int
        Relaxation steps.
    rate : float
        Size of a step.
    schedule : {"standard", "incremental", "fixed-prediction", "z-il"}
        standard: learn once, from the settled errors. incremental: learn at every step. fixed-prediction: predictions and
        gates keep their feedforward values; equals backprop once settled (rate 1: after as many steps as populations).
        z-il: rate 1, and population l learns from its error at step L - l; equals backprop; chains only.
    feedback : {"transposed", "learned", "fixed"}
        Whether errors come down through the transposed feedforward weights or through mirror pathways of their own, which
        learn with the same pair of activities or stay as they are.
    values : {"activity", "drive"}
        Whether value neurons hold what comes after the nonlinearity (and pooling) or before it. With fixed predictions and
        Z-IL both are backprop, and "activity" is all that there is.
    """

    def __init__(
        self,
        objective: Objective,
        steps: int = 20,
        rate: float = 0.1,
        schedule: str = "standard",
        feedback: str = "transposed",
        values: str = "activity",
    ) -> None:
        one_of(schedule, SCHEDULES, "schedule")
        one_of(values, VALUES, "values")
        if values == "drive" and schedule in ("fixed-prediction", "z-il"):
            raise OptionError(
                f"predictive coding: with schedule {schedule!r} errors are backprop's: leave out values='drive'"
            )
        one_of(feedback, ("transposed", "learned", "fixed"), "feedback")
        if not rate > 0:
            raise OptionError(f"predictive coding: expected a rate > 0, got {rate}")
        self.transport = {
            "standard": "predictive coding",
            "incremental": "incremental predictive coding",
            "fixed-prediction": "predictive coding, fixed predictions",
            "z-il": "predictive coding, Z-IL",
        }[schedule]
        self.mirrored = feedback != "transposed"
        self.feedback = feedback
        transport = "layerwise error" if self.mirrored else "weight transport"
        self.transport_needs = frozenset({"settling", transport} | (set() if schedule == "incremental" else {"phases"}))
        super().__init__(objective)
        self.steps = whole(steps, "predictive coding: steps")
        self.rate = rate
        self.schedule = schedule
        self.before = values == "drive"
        self.changes_while_settling = schedule == "incremental"

    def wire_transport(self, network: Network) -> None:
        """Add mirror pathways unless the feedback is transposed; refuse a Z-IL network that is no chain."""
        if self.schedule == "z-il" and any(len(network.incoming(n)) > 1 for n in network.order):
            raise NetworkError("schedule 'z-il' equals backprop in chains only: use 'fixed-prediction' with skip pathways")
        if self.mirrored:
            wire_mirrors(network, plastic=self.feedback == "learned")

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what has settled once; the incremental schedule yields it before every step.

        Where the scope is watched, the mean energy per row before every step and after the last is noted as "energy".
        """
        if self.schedule == "fixed-prediction":
            yield self._fixed_prediction(scope, moment)
            return
        state, values = self._begun(scope, moment)
        if self.schedule == "z-il":
            yield self._z_il(scope, moment, values)
        else:
            incremental = self.schedule == "incremental"
            energies: list[Tensor] = []
            for step in range(self.steps):
                errors = self._watched(state, moment, self._errors(state, moment, values), energies)
                values = self._relaxed(state, errors, values, self.rate)
                if incremental:
                    yield state.settled(errors, noted(energies), at_soma=self.before)
                if not incremental or step < self.steps - 1:
                    state = scope.predict(self._sent(scope, values), first=not incremental)
            if not incremental:
                errors = self._watched(state, moment, self._errors(state, moment, values), energies)
                yield state.settled(errors, noted(energies), at_soma=self.before)

    def _sent(self, scope: Scope, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what value neurons send upwards."""
        return {name: scope.site(name).response_to(v) for name, v in values.items()} if self.before else values

    def _begun(self, scope: Scope, moment: Moment) -> tuple[Scope, dict[str, Tensor]]:
        """Return the state in which settling begins, and its values: at first everybody sends what is predicted of them."""
        below = [scope.site(name) for name in scope.populations if name != scope.top]
        return scope, {site.population: site.drive if self.before else site.activity for site in below}

    def _watched(self, state: Scope, moment: Moment, errors: dict[str, Tensor], energies: list[Tensor]) -> dict[str, Tensor]:
        """Return the errors; add the mean energy per row to the list if somebody watches."""
        if state.is_watched:
            below = [e.flatten() for name, e in errors.items() if name != state.top]
            of_errors = sum(e.dot(e) for e in below) / (2 * len(errors[state.top]))
            energies.append(self.top_credit(state, moment).loss + of_errors)
        return errors

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the errors as credit, the top first."""
        learn_mirrors = self.feedback == "learned"
        top = self.top_credit(scope, moment)
        for name in reversed(scope.populations):
            site = scope.site(name)
            feedback = list(top.feedback) if name == scope.top else []
            error, signals = site.error, {"error": site.error}
            credit = Credit(None if self.before else error, error if self.before else None, feedback, signals=signals)
            if learn_mirrors:
                credit.feedback += mirror_updates(scope, name, credit)
            yield name, credit

    def _errors(self, state: Scope, moment: Moment, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the error of every population."""
        said = self.top_credit(state, moment)
        if self.before:
            at_top = state.site(state.top).soma_of(said)
            return {name: v - state.site(name).drive for name, v in values.items()} | {state.top: at_top}
        top = said.activity
        assert top is not None, "objectives at the top give credit on the activity"
        return {name: v - state.site(name).activity for name, v in values.items()} | {state.top: top}

    def _relaxed(self, state: Scope, errors: dict[str, Tensor], values: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
        """Return the values one step further down the slope of every row's energy.

        What is predicted exactly has no error: it carries nothing down, and stays the tensor that it was unless something
        arrives. Errors so reach one population more per step.
        """
        if self.before:
            return self._relaxed_drives(state, errors, values, rate)
        wrong = {name: e for name, e in errors.items() if values.get(name) is not state.site(name).activity}
        moved = {name: torch.sub(values[name], e, alpha=rate) for name, e in wrong.items() if name in values}
        relaxed = values | moved
        for name, error in wrong.items():
            carrying = [pathway for pathway in state.below(name) if pathway.pre in errors]
            somatic = state.site(name).somatic(error) if carrying else error
            for pathway in carrying:
                base, mine = relaxed[pathway.pre], relaxed[pathway.pre] is not values[pathway.pre]
                relaxed[pathway.pre] = state.transport_onto(base, pathway, somatic, rate, self.mirrored, overwrite=mine)
        return relaxed

    def _relaxed_drives(
        self, state: Scope, errors: dict[str, Tensor], values: dict[str, Tensor], rate: float
    ) -> dict[str, Tensor]:
        """Return the values one step on, where they are drives."""
        arrived: dict[str, Tensor] = {}
        for name, error in errors.items():
            for pathway in state.below(name):
                if pathway.pre in errors:
                    carried = state.transport(pathway, error, self.mirrored)
                    arrived[pathway.pre] = arrived[pathway.pre] + carried if pathway.pre in arrived else carried
        relaxed = {}
        for name, value in values.items():
            pull = state.site(name).somatic_at(arrived[name], value) - errors[name] if name in arrived else -errors[name]
            relaxed[name] = value + rate * pull
        return relaxed

    def _fixed_prediction(self, scope: Scope, moment: Moment) -> Scope:
        """Relax the errors alone: predictions, gates and presynaptic values keep their feedforward values."""
        errors = self._first_errors(scope, moment)
        for _ in range(self.steps):
            below = {name: error for name, error in errors.items() if name != scope.top}
            errors.update(self._relaxed(scope, errors, below, self.rate))
        return scope.settled(errors)

    def _first_errors(self, scope: Scope, moment: Moment) -> dict[str, Tensor]:
        """Return the errors that relax alone, before they do: none below the top."""
        top = self.top_credit(scope, moment)
        assert top.activity is not None, "objectives at the top give credit on the activity"
        errors = {name: torch.zeros_like(scope.site(name).activity) for name in scope.populations}
        return errors | {scope.top: top.activity}

    def _z_il(self, scope: Scope, moment: Moment, values: dict[str, Tensor]) -> Scope:
        """Keep the error of every population at the step at which it equals backprop's: L - l (Song et al. 2020)."""
        kept: dict[str, Tensor] = {}
        state = scope
        for name in reversed(scope.populations):
            errors = self._errors(state, moment, values)
            kept[name] = errors[name]
            values = self._relaxed(state, errors, values, rate=1.0)
            if name != scope.populations[0]:
                state = scope.predict(values)
        return scope.settled(kept)


def noted(energies: list[Tensor]) -> dict[str, Tensor] | None:
    """Return the energies of a settling as what is noted of it; None where nobody watches."""
    return {"energy": torch.stack(energies)} if energies else None
