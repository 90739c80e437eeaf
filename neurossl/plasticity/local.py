"""Local rules: the objective stands at every population, and nobody has to tell the synapse.

CLAPP and CLAPP++ are `Local(Contrastive(...))`, forward-forward is `Local(Goodness())`, SCFF `Local(LocationGoodness())`.
"""

from collections.abc import Iterator

from neurossl.activity import Activity
from neurossl.events import Moment
from neurossl.network import Network
from neurossl.plasticity.backprop import Backprop
from neurossl.plasticity.locality import GuardedMoment, View
from neurossl.plasticity.objectives import Objective
from neurossl.plasticity.rule import Credit, Rule


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
        self.normalisation = objective.normalisation
        self.learns_along = not self.needs & {"top-down activity", "activity held"}
        self.name = f"local {objective.name}"

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways of the objective at every population."""
        for population in network.order:
            if any(p.plastic for p in network.incoming(population)):
                self.objective.wire(network, population)
        return network

    def credit(self, view: View, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield what the objective says at every population."""
        for site in view.sites():
            yield site.population, self.objective.credit(site, moment)

    def judged(self, activity: Activity, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says at every population."""
        view = View(activity, self.needs, self.name)
        guarded = GuardedMoment(moment, view)
        return {site.population: self.objective.credit(site, guarded) for site in view.sites()}

    def reference(self) -> Rule:
        """Return backprop of the same objective at the top."""
        return Backprop(self.objective)
