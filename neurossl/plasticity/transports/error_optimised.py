"""Error-optimised predictive coding: the errors settle, and the values follow from them.

The same energy as in predictive coding, ``1/2 sum ||e_l||^2 + loss``, with the errors in place of the values as what moves
(Goemaere et al. 2025, arXiv 2505.20137). Each sweep carries every error up through all populations,

    z_l = mu_l + e_l        mu_l = rho(W_l z_{l-1} + b_l)        e_l <- e_l + rate * ( - dLoss/dz_l - e_l )

so that the signal does not fade with depth, as that of settling values does: after one step from 0, ``e_l`` is ``rate``
times the credit of backprop. Then every population learns from its error, and the top from that of the objective.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.transports.backprop import descend
from neurossl.plasticity.transports.predictive_coding import PredictiveCoding, noted


class ErrorOptimised(PredictiveCoding):
    """Predictive coding in which errors descend the energy.

    Parameters
    ----------
    objective : Objective
    steps : int
        Sweeps up and down.
    rate : float
        Size of a step; 1 puts every error where the present credit is.
    """

    def __init__(self, objective: Objective, steps: int = 5, rate: float = 0.1) -> None:
        super().__init__(objective, steps, rate)
        self.transport = "predictive coding, errors optimised"
        self.name = f"{self.transport} of {objective.name}"

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what the errors have settled to; where watched, the energy before every step and after the last is noted."""
        errors = {name: torch.zeros_like(scope.site(name).activity) for name in scope.populations if name != scope.top}
        state, energies = scope, list[Tensor]()
        for _ in range(self.steps):
            slopes = {name: g for name, credit in self._slopes(state, moment) if (g := credit.activity) is not None}
            self._watched(state, moment, errors | {scope.top: slopes[scope.top]}, energies)
            errors = {name: e + self.rate * (slopes[name] - e) if name in slopes else e for name, e in errors.items()}
            state = scope.perturb(errors)
        top = self.top_credit(state, moment).activity
        assert top is not None, "objectives at the top give credit on the activity"
        yield state.settled(self._watched(state, moment, errors | {scope.top: top}, energies), noted(energies))

    def _slopes(self, state: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        return descend(state, self.top_credit(state, moment), mirrored=False)
