"""Transports from one objective at the top: backprop, the reference, and the base that it shares with its rivals.

credit of population l = sum over pathways l->m of  W_m^T ( credit_m * rho'(a_m) )
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.errors import NetworkError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.rule import Rule


class TopDown(Rule):
    """An objective at the top, and a way for its credit to reach the populations below.

    Parameters
    ----------
    objective : Objective
    """

    transport_needs: frozenset[str] = frozenset()

    def __init__(self, objective: Objective) -> None:
        self.objective = objective.at_top()
        self.objective_name = f"{self.objective.name}, at the top"
        self.needs = self.objective.needs | self.transport_needs
        self.awaits = self.objective.awaits
        self.state = self.objective.state
        self.normalisation = self.objective.normalisation
        self.name = f"{self.transport} of {objective.name}"

    def wire(self, network: Network) -> Network:
        """Add the feedback pathways of the objective at the top, then those of the transport."""
        place = self.stands_at(network)
        self.objective.check(network, place)
        self.objective.wire(network, place)
        self.wire_transport(network)
        return network

    def wire_transport(self, network: Network) -> None:
        """Add the feedback pathways of the transport; none unless overridden."""

    def top_credit(self, scope: Scope, moment: Moment) -> Credit:
        """Return what the objective says at the top."""
        return self._said_at(scope.site(scope.top), moment)

    def _said_at(self, site: Site, moment: Moment) -> Credit:
        """Return what the objective says at a population, with the error among the signals."""
        credit = self.objective.credit(site, moment)
        error = credit.somatic if credit.activity is None else credit.activity
        return credit if error is None else replace(credit, signals={"error": error, **credit.signals})

    def objective_in(self, network: Network) -> str:
        """Return the objective as it is at the top of a network."""
        return f"{self.objective.named_in(network, network.top)}, at the top"

    @abstractmethod
    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield (population, credit)."""

    def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says at the top."""
        return {scope.top: self.top_credit(scope, moment)}

    def reference(self) -> Rule | None:
        """Return backprop of the same objective."""
        return Backprop(self.objective)


def descend(
    scope: Scope,
    top: Credit,
    mirrored: bool,
    signed: bool = False,
    block: Sequence[str] | None = None,
    at_soma: Callable[[Site, Credit], Tensor] = Site.soma_of,
) -> Iterator[tuple[str, Credit]]:
    """Yield the credit of every population, the top first, transported pathway by pathway.

    A population is yielded only after its credit has been carried on, so that its weights may change at once.

    Parameters
    ----------
    scope : Scope
    top : Credit
        Of the uppermost population.
    mirrored, signed : bool
        Through which weights; see `Scope.transport`.
    block : sequence of str, optional
        Populations from the lowest to the uppermost, which credit does not leave; all of them by default.
    at_soma : callable
        What becomes of the credit of a population at its neurons, (rows, *neurons); un-pooled and gated by default.
    """
    arrived: dict[str, Tensor] = {}
    block = scope.populations if block is None else block
    for population in reversed(block):
        if population == block[-1]:
            credit = top
        elif population in arrived:
            error = arrived.pop(population)
            credit = Credit(error, signals={"error": error})
        else:
            continue
        site = scope.site(population)
        somatic = at_soma(site, credit)
        if not mirrored and site.is_held:
            somatic = torch.zeros_like(somatic)  # what an experimenter holds depends on no weight
        for pathway in scope.below(population):
            if pathway.pre in block:
                carried = scope.transport(pathway, somatic, mirrored, signed)
                arrived[pathway.pre] = arrived[pathway.pre] + carried if pathway.pre in arrived else carried
        yield population, replace(credit, somatic=somatic)


class Backprop(TopDown):
    """Backpropagation, the reference: credit goes down through transposed feedforward weights.

    With a contrastive objective this is BP-CLAPP++ or BP-InfoNCE of arXiv 2601.21683 (contexts detached), with a supervised
    one ordinary supervised learning.

    Parameters
    ----------
    objective : Objective
        Takes the form that it has at the top (`Objective.at_top`), with the same prediction pathways.
    at : str, optional
        Population at which the objective stands; the top by default. Credit goes down from there, and what lies above it
        receives none: so may networks that differ above it be compared with backprop of one objective.
    """

    transport = "backprop"
    transport_needs = frozenset({"weight transport", "activity held"})

    def __init__(self, objective: Objective, at: str | None = None) -> None:
        super().__init__(objective)
        self.at = at
        short = self.objective.short_name or self.objective.name
        self.name = "BP, supervised" if short == "supervised" else f"BP-{short}"
        if at is not None:
            self.objective = objective.alone_at(at)
            self.objective_name = f"{self.objective.name}, at {at}"
            self.name += f" at {at}"

    def stands_at(self, network: Network) -> str:
        """Return the population at which the objective stands.

        Raises
        ------
        NetworkError
            If the network has no such population, or shows the stimulus there.
        """
        if self.at is not None and self.at not in network.order:
            raise NetworkError(
                f"rule {self.name!r}: at: expected a population above the input ({', '.join(network.order)}), "
                f"got {self.at!r}"
            )
        return self.at or network.top

    def objective_in(self, network: Network) -> str:
        """Return the objective as it is where it stands, and where that is."""
        place = self.stands_at(network)
        return f"{self.objective.named_in(network, place)}, at {'the top' if place == network.top else place}"

    def top_credit(self, scope: Scope, moment: Moment) -> Credit:
        """Return what the objective says where it stands."""
        return self._said_at(scope.site(self.at or scope.top), moment)

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the gradient of the objective with respect to every population that leads to it, the uppermost first."""
        below = scope.populations
        block = None if self.at is None else below[: below.index(self.at) + 1]
        yield from descend(scope, self.top_credit(scope, moment), mirrored=False, block=block)

    def evaluate(self, scope: Scope, moment: Moment) -> dict[str, Credit]:
        """Return what the objective says where it stands."""
        return {self.at or scope.top: self.top_credit(scope, moment)}

    def reference(self) -> None:
        """Return None: backprop is the reference."""
        return None
