"""Mono-Forward: every population names the object through a small readout of its own (arXiv 2501.09238)."""

from neurossl.anatomy.network import Network
from neurossl.anatomy.prediction import InterneuronPathway
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit, per_row
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, exact, weighted_mean
from neurossl.plasticity.objectives.supervised import CrossEntropy


class MonoForward(CrossEntropy):
    """Cross-entropy of ``G = M z`` at every population below the top, of the activity itself at the top.

        loss = -log softmax(G)[label]      e = onehot - softmax(G)      change of M: e outer z      credit on z: M^T e

    M, ``V1=>V1:classes``, goes from all cells of the population to as many interneurons as the top has units. No gradient
    leaves a population. The gain of a row multiplies its loss.

    Notes
    -----
    ``M^T e`` is carried by the transposed weights of a pathway of the population's own. The ledger calls that transport of
    weights wherever it happens, between populations or within one (low-rank and response predictions): another set of
    synapses would have to have the same weights.
    """

    name = "cross-entropy of own readouts"
    needs = frozenset({"target", "weight transport"})

    def check(self, network: Network, population: str) -> None:
        """Refuse a top whose units cannot be class scores."""
        if population == network.top:
            super().check(network, population)

    def _name(self, population: str) -> str:
        return f"{population}=>{population}:classes"

    def wire(self, network: Network, population: str) -> None:
        """Add the readout of a population below the top."""
        if population != network.top and self._name(population) not in network.pathways:
            classes = network.populations[network.top].size
            network.add(InterneuronPathway(population, population, classes, label="classes"))

    def at_top(self) -> Objective:
        """Return cross-entropy."""
        return CrossEntropy()

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return ``M^T e`` and the change of M; at the top e."""
        if site.is_top:
            return super().credit(site, moment)
        pathway = site.feedback(self._name(site.population))
        z = pathway.at_dendrite(exact(site.activity))
        error, losses, gain = self.judge_rows(pathway.apical(z), moment, pathway.name)
        weighted = error if gain is None else error * per_row(gain, error)
        return Credit(
            pathway.to_soma(weighted @ pathway.weight),
            feedback=pathway.changes(z, weighted),
            losses={pathway.name: weighted_mean(losses, gain)},
            signals={"error": error},
        )

    def factors(self, site: Site, moment: Moment) -> list[Factors]:
        """Return the credit at the dendrite; at the top the error."""
        return super().factors(site, moment) if site.is_top else Objective.factors(self, site, moment)
