"""Feedback alignment: the error of the top comes down through fixed random feedback pathways.

FA (Lillicrap et al. 2016): ``credit_l = B_{l+1} (credit_{l+1} * rho'(a_{l+1}))``, layer by layer, with B shaped like the
transposed feedforward weights. DFA (Nokland 2016): ``credit_l = B_l e``, the error of the top, to all populations at once.
"""

from collections.abc import Iterator

from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.transports.backprop import TopDown, descend


class FeedbackAlignment(TopDown):
    """FA: layer by layer through fixed random mirror pathways.

    Parameters
    ----------
    objective : Objective
    init : str
        Initialisation of the feedback weights.
    """

    transport = "feedback alignment"
    transport_needs = frozenset({"layerwise error", "activity held"})

    def __init__(self, objective: Objective, init: str = "uniform") -> None:
        super().__init__(objective)
        self.init = init

    def wire_transport(self, network: Network) -> None:
        """Add a fixed mirror of every feedforward pathway that does not start at the input."""
        for pathway in list(network.feedforward.values()):
            if not network.populations[pathway.pre].is_input and network.mirror_of(pathway.name) is None:
                network.add(MirrorPathway(pathway, plastic=False, init=self.init))

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the credit that has come down through the mirrors, the top first."""
        yield from descend(scope, self.top_credit(scope, moment), mirrored=True)


class DirectFeedbackAlignment(TopDown):
    """DFA: the error of the top, directly to every population.

    Parameters
    ----------
    objective : Objective
    target_pool : int, "global" or None
        Whether the error arrives at every location of a map (None), or is the same within a cell or the whole map.
    init : str
        Initialisation of the feedback weights.
    """

    transport = "direct feedback alignment"
    transport_needs = frozenset({"broadcast error", "activity held"})

    def __init__(self, objective: Objective, target_pool: Pool = None, init: str = "uniform") -> None:
        super().__init__(objective)
        self.target_pool = target_pool
        self.init = init

    def wire_transport(self, network: Network) -> None:
        """Add a fixed pathway from the top to every other population."""
        source_pool = self.objective.pool(network, network.top)
        for population in network.order:
            if population != network.top and f"{network.top}=>{population}" not in network.pathways:
                network.add(
                    FeedbackPathway(
                        network.top,
                        population,
                        source_pool=source_pool,
                        target_pool=self.target_pool,
                        plastic=False,
                        init=self.init,
                    )
                )

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the error as it arrives, the top first."""
        top = self.top_credit(scope, moment)
        assert top.activity is not None, "objectives at the top give credit on the activity"
        error = top.activity
        yield scope.top, top
        for site in scope.sites():
            if site.population != scope.top:
                arrived = scope.broadcast(error, site.population)
                yield site.population, Credit(arrived, signals={"error": arrived})
