"""Blocks: an objective at every n-th population, and backprop inside the block below it.

Between local learning and backprop lie objectives of several populations each, as Barlow Twins in four blocks of a ResNet
(Siddiqui et al. 2023, arXiv 2302.01647). Counted from the top downwards, the objective stands at the uppermost population
of every block, and

    credit of population l = sum over pathways l->m  of  W_m^T ( credit_m * rho'(a_m) )     m in the block of l

No credit enters the block below. Blocks of one are `Local`, one block of all is `Backprop`.
"""

from collections.abc import Iterator, Sequence

from neurossl.anatomy.network import Network
from neurossl.checks import whole
from neurossl.errors import NetworkError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.rule import Rule
from neurossl.plasticity.transports.backprop import Backprop, descend


class Blocks(Rule):
    """An objective at every n-th population, in networks that are a chain.

    Parameters
    ----------
    objective : Objective
        Takes the form that it has at the top (`Objective.at_top`) where one block holds all populations.
    size : int
        Populations per block; the lowest block holds what is left.
    """

    transport = "backprop within blocks"

    def __init__(self, objective: Objective, size: int = 2) -> None:
        self.size = whole(size, "blocks: size")
        self.objective = objective
        self.objective_name = f"{objective.name}, at every population"
        if self.size == 1:
            self.transport = "none: own dendrite"
            self.needs = objective.needs
        else:
            self.objective_name = f"{objective.name}, at the top of every block of {self.size}"
            self.needs = objective.needs | {"weight transport", "activity held"}
        self.awaits = objective.awaits
        self.normalisation = objective.normalisation
        self.name = f"{objective.name}, in blocks of {self.size}"

    def blocks(self, populations: Sequence[str]) -> list[list[str]]:
        """Return the populations of every block, the uppermost block first; each from its lowest to its uppermost one."""
        ends = range(len(populations), 0, -self.size)
        return [list(populations[max(0, end - self.size) : end]) for end in ends]

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways of the objective at the top of every block that learns.

        Raises
        ------
        NetworkError
            If the network is no chain.
        """
        below = [network.input.name, *network.order]
        for name, expected in zip(network.order, below, strict=False):
            if [pathway.pre for pathway in network.incoming(name)] != [expected]:
                raise NetworkError(
                    f"rule {self.name!r}: blocks are those of a chain, but {name!r} does not listen to {expected!r} alone: "
                    "use an objective at every population ('clapp++gap') or at the top ('bp-clapp++')"
                )
        for block in reversed(self.blocks(network.order)):
            if any(pathway.plastic for name in block for pathway in network.incoming(name)):
                objective = self._objective_in(network.order)
                objective.check(network, block[-1])
                objective.wire(network, block[-1])
        return network

    def _objective_in(self, populations: Sequence[str]) -> Objective:
        return self.objective.at_top() if self.size > 1 and self.size >= len(populations) else self.objective

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield what the objective of its block says to every population, the top first; in blocks of one, the lowest."""
        if self.size == 1:
            for site in scope.sites():
                yield site.population, self.objective.credit(site, site.guard(moment))
            return
        for block in self.blocks(scope.populations):
            yield from descend(scope, self._said(scope, block[-1], moment), mirrored=False, block=block)

    def _said(self, scope: Scope, population: str, moment: Moment) -> Credit:
        site = scope.site(population)
        return self._objective_in(scope.populations).credit(site, site.guard(moment))

    def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says at the top of every block."""
        if self.size == 1:
            return dict(self.credit(scope, moment))
        return {block[-1]: self._said(scope, block[-1], moment) for block in self.blocks(scope.populations)}

    def reference(self) -> Rule:
        """Return backprop of the same objective at the top."""
        return Backprop(self.objective)
