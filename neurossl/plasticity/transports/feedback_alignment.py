"""Feedback alignment: the error of the top comes down through feedback pathways with weights of their own.

FA (Lillicrap et al. 2016): ``credit_l = B_{l+1} (credit_{l+1} * rho'(a_{l+1}))``, layer by layer, with B shaped like the
transposed feedforward weights, random and fixed. DFA (Nokland 2016): ``credit_l = B_l e``, the error of the top, to all
populations at once. Between FA and backprop:

    sign-symmetric (Liao et al. 2016)              |B| sign(W)^T in place of B
    Kolen-Pollack (1994; Akrout et al. 2019)       dB = (dW)^T: with the same weight decay, B and W^T become equal
"""

from collections.abc import Iterator
from dataclasses import replace

from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.checks import one_of
from neurossl.engine.updates import Update
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.transports.backprop import TopDown, descend


class FeedbackAlignment(TopDown):
    """FA: layer by layer through mirror pathways.

    Parameters
    ----------
    objective : Objective
    init : str
        Initialisation of the feedback weights.
    feedback : {"fixed", "sign", "learned"}
        Whether the feedback weights stay as they are, take the signs of the feedforward ones (which is known from no
        anatomy: the ledger says weight transport), or learn with the same pair of activities: what the feedforward synapse
        learns, transposed. Give both the same `Synapses`: under SGD with a weight decay, ``W - B^T`` then shrinks by
        ``1 - lr * weight_decay`` in every moment, whatever is learned.
    """

    def __init__(self, objective: Objective, init: str = "uniform", feedback: str = "fixed") -> None:
        one_of(feedback, ("fixed", "sign", "learned"), "feedback alignment: feedback")
        kind = {"fixed": "", "sign": "sign-symmetric ", "learned": "Kolen-Pollack "}[feedback]
        self.transport = f"{kind}feedback alignment"
        signs = {"weight transport"} if feedback == "sign" else set()
        self.transport_needs = frozenset({"layerwise error", "activity held"} | signs)
        super().__init__(objective)
        self.feedback = feedback
        self.init = init

    def wire_transport(self, network: Network) -> None:
        """Add a mirror of every feedforward pathway that does not start at the input."""
        wire_mirrors(network, plastic=self.feedback == "learned", init=self.init)

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the credit that has come down through the mirrors, the top first."""
        for name, credit in descend(scope, self.top_credit(scope, moment), True, self.feedback == "sign"):
            if self.feedback == "learned":
                credit = replace(credit, feedback=[*credit.feedback, *mirror_updates(scope, name, credit)])
            yield name, credit


def wire_mirrors(network: Network, plastic: bool, init: str = "uniform") -> None:
    """Add a mirror of every feedforward pathway that does not start at the input and has none."""
    for pathway in list(network.feedforward.values()):
        if not network.populations[pathway.pre].is_input and network.mirror_of(pathway.name) is None:
            network.add(MirrorPathway(pathway, plastic=plastic, init=init))


def mirror_updates(scope: Scope, population: str, credit: Credit) -> list[tuple[str, Update]]:
    """Return what the mirrors of the pathways onto a population learn: the feedforward updates, transposed."""
    upper = [pathway for pathway in scope.below(population) if pathway.pre in scope.populations]
    somatic = scope.site(population).soma_of(credit) if upper else None
    return [update for pathway in upper if somatic is not None for update in scope.mirror_update(pathway, somatic)]


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
        wire_broadcast(network, self.objective, self.target_pool, plastic=False, init=self.init)

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the error as it arrives, the top first."""
        yield from broadcast(scope, self.top_credit(scope, moment))


def broadcast(scope: Scope, top: Credit) -> Iterator[tuple[str, Credit]]:
    """Yield the error of the top as it arrives at every population through its direct pathway, the top first."""
    assert top.activity is not None, "objectives at the top give credit on the activity"
    error = top.activity
    yield scope.top, top
    for site in scope.sites():
        if site.population != scope.top:
            arrived = scope.broadcast(error, site.population)
            yield site.population, Credit(arrived, signals={"error": arrived})


def wire_broadcast(network: Network, objective: Objective, target_pool: Pool, plastic: bool, init: str = "uniform") -> None:
    """Add a pathway for the error of the top to every other population that has none."""
    source_pool = objective.pool(network, network.top)
    for population in network.order:
        if population != network.top and f"{network.top}=>{population}" not in network.pathways:
            network.add(
                FeedbackPathway(
                    network.top,
                    population,
                    source_pool=source_pool,
                    target_pool=target_pool,
                    plastic=plastic,
                    init=init,
                )
            )
