"""Dual propagation: every neuron has two activities, whose difference carries the credit.

A population answers to its drive a with what arrives from above, D, added and subtracted (Hoier, Staudt & Zach 2023,
arXiv 2302.01228; 2402.08573), and the difference of both answers is sent down and learned from:

    s_l = ( rho(a_l + beta/2 D_l) - rho(a_l - beta/2 D_l) ) / beta        D_{l-1} = sum over pathways  W^T s_l
    dW_l = mean over rows of  s_l outer x_{l-1}

No slope of the transfer function is known to any synapse. For ``beta -> 0`` the difference is ``rho'(a_l) D_l``: backprop;
between linear populations it is that for every beta.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from neurossl.checks import is_finite
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.objectives.base import Objective, exact
from neurossl.plasticity.transports.backprop import TopDown, descend


class DualPropagation(TopDown):
    """Dual propagation from any objective at the top.

    Parameters
    ----------
    objective : Objective
    beta : float
        How far the two activities lie apart.

    Notes
    -----
    What arrives at a pooled population is un-pooled before it is added: to the winners of the free sweep, or spread.
    """

    transport = "dual propagation"
    transport_needs = frozenset({"weight transport", "activity held"})

    def __init__(self, objective: Objective, beta: float = 1.0) -> None:
        if not is_finite(beta) or not beta > 0:
            raise OptionError(f"dual propagation: expected a finite beta > 0, got {beta!r}")
        super().__init__(objective)
        self.beta = beta

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the difference of both activities of every population, the top first."""
        for name, credit in descend(scope, self.top_credit(scope, moment), mirrored=False, at_soma=self.difference):
            yield name, replace(credit, activity=None)

    def difference(self, site: Site, credit: Credit) -> Tensor:
        """Return the difference of both activities of a population, over beta, (rows, *neurons)."""
        assert credit.activity is not None, "objectives at the top give credit on the activity"
        drive, nudge = exact(site.drive), exact(site.at_neurons(credit.activity)) * (self.beta / 2)
        return (site.neurons_at(drive + nudge) - site.neurons_at(drive - nudge)) / self.beta
