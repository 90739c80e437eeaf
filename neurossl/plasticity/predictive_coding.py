"""Predictive coding: error units settle before the synapses learn.

Value neurons v and predictions ``mu_l = rho(W_l v_{l-1} + b_l)`` give errors ``e_l = v_l - mu_l``; the top error is the
credit of the objective at ``mu_L`` (with squared error: output clamped to the target). Values descend the energy
``1/2 sum ||e_l||^2 + loss`` of their own row,

    v_l <- v_l + rate * ( -e_l + sum over pathways l->m of  W_m^T (e_m * rho'(a_m)) ),

and the credit of a population is its error (Whittington & Bogacz 2017; Millidge et al. 2022; Salvatori et al. 2022).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Moment
from neurossl.feedback import MirrorPathway
from neurossl.network import Network
from neurossl.pathways import Pathway
from neurossl.plasticity.backprop import TopDown
from neurossl.plasticity.locality import GuardedMoment, View
from neurossl.plasticity.objectives import Objective
from neurossl.plasticity.rule import Credit
from neurossl.updates import Update

SCHEDULES = ("standard", "incremental", "fixed-prediction", "z-il")


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
    """

    def __init__(
        self,
        objective: Objective,
        steps: int = 20,
        rate: float = 0.1,
        schedule: str = "standard",
        feedback: str = "transposed",
    ) -> None:
        if schedule not in SCHEDULES:
            raise OptionError(f"schedule {schedule!r} does not exist, expected {', '.join(SCHEDULES)}")
        if feedback not in ("transposed", "learned", "fixed"):
            raise OptionError(f"feedback {feedback!r} does not exist, expected transposed, learned or fixed")
        if steps < 1 or not rate > 0:
            raise OptionError(f"predictive coding: expected steps >= 1 and rate > 0, got {steps} and {rate}")
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
        self.steps = steps
        self.rate = rate
        self.schedule = schedule

    def wire_transport(self, network: Network) -> None:
        """Add mirror pathways unless the feedback is transposed; refuse a Z-IL network that is no chain."""
        if self.schedule == "z-il" and any(len(network.incoming(n)) > 1 for n in network.order):
            raise NetworkError("schedule 'z-il' equals backprop in chains only: use 'fixed-prediction' with skip pathways")
        if not self.mirrored:
            return
        for pathway in list(network.feedforward.values()):
            if pathway.pre != network.input.name and f"{pathway.post}=>{pathway.pre}" not in network.pathways:
                network.add(MirrorPathway(pathway, plastic=self.feedback == "learned"))

    def settling(self, activity: Activity, moment: Moment, watched: bool = False) -> Iterator[Activity]:
        """Yield the settled activity once; the incremental schedule yields it before every step.

        Parameters
        ----------
        activity : Activity
        moment : Moment
        watched : bool
            Note the mean energy per row before every step and after the last, as ``notes["energy"]``.
        """
        view = View(activity, self.needs, self.name)
        guarded = GuardedMoment(moment, view)
        values = {name: activity.output[name] for name in view.populations if name != view.top}
        if self.schedule == "fixed-prediction":
            yield self._fixed_prediction(view, guarded)
        elif self.schedule == "z-il":
            yield self._z_il(view, guarded, values)
        else:
            incremental = self.schedule == "incremental"
            energies = []
            state = view  # before settling, what the populations send is what is predicted of them
            for step in range(self.steps):
                errors = self._errors(state, guarded, values)
                if watched:
                    energies.append(self._energy(state, guarded, errors))
                values = self._relaxed(state, errors, values, self.rate)
                if incremental:
                    yield state.settled(errors, {"energy": torch.stack(energies)} if watched else None)
                if not incremental or step < self.steps - 1:
                    state = view.predict(values, first=not incremental)
            if not incremental:
                errors = self._errors(state, guarded, values)
                if watched:
                    energies.append(self._energy(state, guarded, errors))
                yield state.settled(errors, {"energy": torch.stack(energies)} if watched else None)

    def settle(self, activity: Activity, moment: Moment, watched: bool = False) -> Activity:
        """Return the activity after the last step; see `settling`."""
        *_, last = self.settling(activity, moment, watched)
        return last

    def credit(self, view: View, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the errors as credit, the top first."""
        learn_mirrors = self.feedback == "learned"
        top = self.top_credit(view, moment)
        for name in reversed(view.populations):
            site = view.site(name)
            credit = Credit(site.error, feedback=list(top.feedback) if name == view.top else [])
            if learn_mirrors:
                credit.feedback += self._mirror_updates(view, name, credit)
            yield name, credit

    def _mirror_updates(self, view: View, population: str, credit: Credit) -> list[tuple[Pathway, Update]]:
        site = view.site(population)
        somatic = credit.at_soma(site)
        upper = [p for p in view.below(population) if p.pre in view.populations]
        return [(m, m.hebbian(site.presynaptic[p.name], somatic)) for p in upper for m in [view.mirror(p)]]

    def _errors(self, state: View, moment: Moment, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the error of every population."""
        top = self.top_credit(state, moment).activity
        assert top is not None, "objectives at the top give credit on the activity"
        return {name: v - state.site(name).activity for name, v in values.items()} | {state.top: top}

    def _energy(self, state: View, moment: Moment, errors: dict[str, Tensor]) -> Tensor:
        """Return the mean energy per row."""
        below = [e.flatten() for name, e in errors.items() if name != state.top]
        return self.top_credit(state, moment).loss + sum(e.dot(e) for e in below) / (2 * len(errors[state.top]))

    def _relaxed(self, state: View, errors: dict[str, Tensor], values: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
        """Return the values one step further down the slope of every row's energy.

        What is predicted exactly has no error: it carries nothing down, and stays the tensor that it was unless something
        arrives. Errors so reach one population more per step.
        """
        wrong = {name: e for name, e in errors.items() if values.get(name) is not state.site(name).activity}
        moved = {name: torch.sub(values[name], e, alpha=rate) for name, e in wrong.items() if name in values}
        relaxed = values | moved
        for name, error in wrong.items():
            carrying = [pathway for pathway in state.below(name) if pathway.pre in errors]
            somatic = state.site(name).somatic(error) if carrying else error
            for pathway in carrying:
                base, mine = relaxed[pathway.pre], relaxed[pathway.pre] is not values[pathway.pre]
                relaxed[pathway.pre] = state.carried_onto(base, pathway, somatic, rate, self.mirrored, overwrite=mine)
        return relaxed

    def _fixed_prediction(self, view: View, moment: Moment) -> Activity:
        """Relax the errors alone: predictions, gates and presynaptic values keep their feedforward values."""
        top = self.top_credit(view, moment)
        assert top.activity is not None, "objectives at the top give credit on the activity"
        errors = {name: torch.zeros_like(view.site(name).activity) for name in view.populations}
        errors[view.top] = top.activity
        for _ in range(self.steps):
            below = {name: error for name, error in errors.items() if name != view.top}
            errors.update(self._relaxed(view, errors, below, self.rate))
        return view.settled(errors)

    def _z_il(self, view: View, moment: Moment, values: dict[str, Tensor]) -> Activity:
        """Keep the error of every population at the step at which it equals backprop's: L - l (Song et al. 2020)."""
        kept: dict[str, Tensor] = {}
        state = view
        for name in reversed(view.populations):
            errors = self._errors(state, moment, values)
            kept[name] = errors[name]
            values = self._relaxed(state, errors, values, rate=1.0)
            if name != view.populations[0]:
                state = view.predict(values)
        return view.settled(kept)
