"""Local rules: the objective stands at every population, and nobody has to tell the synapse.

CLAPP and CLAPP++ are `Local(Contrastive(...))`, forward-forward is `Local(Goodness())`, SCFF `Local(LocationGoodness())`.
"""

from collections.abc import Iterator

from neurossl.anatomy.network import Network
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.rule import Rule
from neurossl.plasticity.transports.backprop import Backprop


class Local(Rule):
    """An objective at every population that has plastic synapses.

    Parameters
    ----------
    objective : Objective
    needs : set of str
        What the rule needs besides what its objective declares, for example "label in the stimulus".
    """

    transport = "none: own dendrite"

    def __init__(self, objective: Objective, needs: frozenset[str] | set[str] = frozenset()) -> None:
        self.objective = objective
        self.objective_name = f"{objective.name}, at every population"
        self.needs = objective.needs | frozenset(needs)
        self.awaits = objective.awaits
        self.state = objective.state
        self.normalisation = objective.normalisation
        self.learns_along = "top-down activity" not in self.needs
        self.name = f"local {objective.name}"

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways of the objective at every population."""
        for population in network.order:
            if any(p.plastic for p in network.incoming(population)):
                self.objective.check(network, population)
                self.objective.wire(network, population)
        return network

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield what the objective says at every population."""
        for site in scope.sites():
            yield site.population, self.objective.credit(site, site.guard(moment))

    def factors(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, list[Factors]]]:
        """Yield the factors of the objective at every population."""
        for site in scope.sites():
            yield site.population, self.objective.factors(site, site.guard(moment))

    def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says at every population."""
        return dict(Local.credit(self, scope, moment))

    def reference(self) -> Rule:
        """Return backprop of the same objective at the top."""
        return Backprop(self.objective)
