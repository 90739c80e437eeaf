"""Predictive coding that the error of the top reaches directly: a hybrid of DFA and PC.

Errors of predictive coding reach one population more with every step of settling. Here a direct pathway from the top sets
them all at once, as in DFA, and settling starts from there,

    v_l = mu_l + B_l e_L                         e_L the error of the top in the sweep
    v_l <- v_l + rate * ( -e_l + sum over pathways l->m of  W_m^T (e_m * rho'(a_m)) + kappa B_l e_L )      e_L as it is now
    dB_l = mean over rows of (e_l - B_l e_L) outer e_L            where B learns: what settling makes of the error of the top

With the schedule "fixed-prediction", predictions, gates and presynaptic values stay what they are in the sweep, and the
errors alone settle (as in Millidge et al. 2022, where they begin at 0),

    e_l = B_l e_L
    e_l <- e_l + rate * ( -e_l + sum over pathways l->m of  W_m^T (e_m * rho'(a_m)) + kappa B_l e_L )      e_L stays

which goes from DFA to backprop as the steps grow in number (kappa = 0), whatever B is.

No steps are DFA; no direct pathway (B = 0) is predictive coding. This form is not a published one.
"""

from collections.abc import Iterator

from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.checks import is_finite, one_of, whole
from neurossl.engine.updates import Update
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.transports.feedback_alignment import broadcast, wire_broadcast
from neurossl.plasticity.transports.predictive_coding import PredictiveCoding


class DirectPredictiveCoding(PredictiveCoding):
    """Predictive coding that starts from errors sent directly, and may be driven by them.

    Parameters
    ----------
    objective : Objective
    steps : int
        Relaxation steps; none is DFA.
    rate : float
        Size of a step.
    kappa : float
        How strongly the error of the top drives the values during settling.
    feedback : {"fixed", "learned"}
        Whether the direct pathway is random and fixed, or learns to send what settling arrives at; without steps there is
        nothing to learn.
    schedule : {"standard", "fixed-prediction"}
        Whether values settle and predictions with them, or predictions, gates and presynaptic values keep their feedforward
        values and the errors alone settle.

    Raises
    ------
    OptionError
        For an option out of its range.
    """

    def __init__(
        self,
        objective: Objective,
        steps: int = 6,
        rate: float = 0.1,
        kappa: float = 0.0,
        feedback: str = "fixed",
        schedule: str = "standard",
    ) -> None:
        one_of(schedule, ("standard", "fixed-prediction"), "direct predictive coding: schedule")
        super().__init__(objective, rate=rate, schedule=schedule)
        one_of(feedback, ("fixed", "learned"), "direct predictive coding: feedback")
        if not is_finite(kappa) or kappa < 0:
            raise OptionError(f"direct predictive coding: expected a finite kappa >= 0, got {kappa!r}")
        self.steps = whole(steps, "direct predictive coding: steps", least=0)
        self.kappa = kappa
        self.learns_direct = feedback == "learned" and self.steps > 0
        settles = {"settling", "weight transport", "phases"} if self.steps else {"activity held"}
        self.needs = self.objective.needs | {"broadcast error"} | settles
        self.transport = "predictive coding, direct feedback" + (", fixed predictions" if schedule != "standard" else "")
        self.name = f"{self.transport} of {objective.name}"

    def wire_transport(self, network: Network) -> None:
        """Add a pathway from the top to every other population."""
        wire_broadcast(network, self.objective, None, plastic=self.learns_direct)

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what has settled; without steps the sweep itself."""
        if self.steps:
            yield from super().settling(scope, moment)
        else:
            yield scope

    def _begun(self, scope: Scope, moment: Moment) -> tuple[Scope, dict[str, Tensor]]:
        _, predicted = super()._begun(scope, moment)
        error = self._top_error(scope, moment)
        values = {name: mu + scope.broadcast(error, name) for name, mu in predicted.items()}
        return scope.predict(values), values

    def _first_errors(self, scope: Scope, moment: Moment) -> dict[str, Tensor]:
        error = self._top_error(scope, moment)
        sent = {name: scope.broadcast(error, name) for name in scope.populations if name != scope.top}
        return sent | {scope.top: error}

    def _relaxed(self, state: Scope, errors: dict[str, Tensor], values: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
        relaxed = super()._relaxed(state, errors, values, rate)
        if not self.kappa:
            return relaxed
        drive = rate * self.kappa
        return {name: v + drive * state.broadcast(errors[state.top], name) for name, v in relaxed.items()}

    def _top_error(self, scope: Scope, moment: Moment) -> Tensor:
        error = self.top_credit(scope, moment).activity
        assert error is not None, "objectives at the top give credit on the activity"
        return error

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the errors as credit, the top first."""
        if not self.steps:
            yield from broadcast(scope, self.top_credit(scope, moment))
            return
        error = self._top_error(scope, moment)
        for name, credit in super().credit(scope, moment):
            if self.learns_direct and name != scope.top:
                credit.feedback += self._lesson(scope, name, error)
            yield name, credit

    def _lesson(self, scope: Scope, population: str, error: Tensor) -> list[tuple[str, Update]]:
        """Return what the direct pathway onto a population learns: what it has not sent of what has settled."""
        site = scope.site(population)
        direct, missed = site.feedback(f"{scope.top}=>{population}"), site.error - scope.broadcast(error, population)
        return direct.changes(direct.error_signal(error), direct.at_dendrite(missed))
