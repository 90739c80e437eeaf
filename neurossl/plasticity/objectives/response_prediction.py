"""Prediction of the next response without negatives: predictive coding across fixations."""

from neurossl.anatomy.feedback import FeedbackPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.errors import EventError
from neurossl.events import Fixation, Moment
from neurossl.plasticity.credit import Credit, learning_gain, per_row
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, weighted_mean


class ResponsePrediction(Objective):
    """A population predicts its response to the other view (as RPL, eLife 110895, and MPC, arXiv 2503.21796).

    With the context c, the response z to the other view, held as a target, and the lateral pathway B,

        loss = mean over rows of |z - B c|^2       change of B: 2 (z - B c) outer c       credit on c: 2 B^T (z - B c)

    There are no negatives: nothing but the target's being held keeps the responses from becoming all the same, and one that
    is 0 everywhere predicts itself. The gain of the context's row multiplies its loss.

    Notes
    -----
    The error ``z - B c`` arises at the dendrites, where the prediction arrives; to reach the cells that predicted it has to
    go back through the transposed weights of the population's own pathway, which is transport of weights, as in low-rank
    predictions; and their activity has to be held until then.
    """

    name = "prediction of the next response"
    short_name = "RPL"
    needs = frozenset({"lateral context", "weight transport", "activity held"})

    def pool(self, network: Network, population: str) -> Pool:
        """Return global pooling for maps."""
        return "global" if len(network.populations[population].shape) == 3 else None

    def wire(self, network: Network, population: str) -> None:
        """Add the lateral prediction pathway."""
        if f"{population}=>{population}" not in network.pathways:
            pool = self.pool(network, population)
            network.add(FeedbackPathway(population, population, source_pool=pool, target_pool=pool))

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the credit of the contexts and the change of the prediction."""
        partner = moment.require(Fixation, by=self.name).partner
        if partner is None:
            raise EventError(
                f"objective {self.name!r} gives credit to the context, which is over when its target arrives: it needs "
                "Fixation.partner (a batched moment)"
            )
        pathway = site.feedback(f"{site.population}=>{site.population}")
        context, _ = site.context(pathway, online=False)
        error = pathway.at_dendrite(site.activity)[partner] - pathway.apical(context)
        losses, gain = error.square().sum(1), learning_gain(moment)
        weighted = 2 * (error if gain is None else error * per_row(gain, error))
        return Credit(
            pathway.to_soma(weighted @ pathway.weight),
            feedback=pathway.changes(context, weighted),
            losses={pathway.name: weighted_mean(losses, gain)},
            signals={"error": error},
        )
