"""The contract of an objective: what is good at one population.

An objective turns the activity of a population into the factors that it receives, and into changes of the feedback pathways
that it uses. It may stand at every population (local rules) or at the top (DFA, predictive coding, backprop).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.events import Event, Fixation, Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.given import Given
from neurossl.plasticity.locality import Site


class Objective(Given, ABC):
    """Base of all objectives.

    Attributes
    ----------
    name : str
    short_name : str
        For the name of its backprop reference, as in BP-CLAPP++.
    needs : frozenset of str
        Words of `neurossl.plasticity.NEEDS`.
    awaits : tuple of event types
    state : mapping of str to str
        What it remembers at a population, as `Rule.state`.
    normalisation : str or None
        Presynaptic normalisation that the objective counts on, so that what it scores is not simply passed on.
    """

    name: str
    short_name: str = ""
    needs: frozenset[str] = frozenset()
    awaits: tuple[type[Event], ...] = (Fixation,)
    state: Mapping[str, str] = {}
    normalisation: str | None = None

    def wire(self, network: Network, population: str) -> None:
        """Add the feedback pathways that the objective needs at a population and the network lacks."""

    def check(self, network: Network, population: str) -> None:
        """Raise NetworkError if the objective makes no sense at a population."""

    def pool(self, network: Network, population: str) -> Pool:
        """Return how the activity of a population is pooled for the score."""
        return None

    def named_in(self, network: Network, population: str) -> str:
        """Return what the objective is at a population: its name, and what else the anatomy there decides."""
        return self.name

    def at_top(self) -> "Objective":
        """Return the form that the objective takes when it stands at the top alone (for transports and references)."""
        return self

    def alone_at(self, population: str) -> "Objective":
        """Return the form that the objective takes when it stands at one population alone, as if that were the top."""
        return self.at_top()

    def apart(self, label: str) -> "Objective":
        """Return the same objective on feedback pathways of its own, beside those that a network has already."""
        return self

    @abstractmethod
    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return credit, pathway updates and loss at a population; changes nothing."""

    def factors(self, site: Site, moment: Moment) -> list[Factors]:
        """Return the factors of which the credit is the sum: the definition.

        By default the credit arrives at the dendrite as it is, with a neuromodulator of 1.
        """
        credit = self.credit(site, moment)
        arrived = credit.somatic if credit.activity is None else credit.activity
        assert arrived is not None, "objectives give credit"
        return [Factors(arrived.new_ones(len(arrived)), arrived, credit.activity is None)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def weighted_mean(losses: Tensor, gain: Tensor | None) -> Tensor:
    """Return the mean over rows of gain times loss."""
    return losses.mean() if gain is None else (losses * gain).mean()


def exact(activity: Tensor) -> Tensor:
    """Return an activity in the precision of losses: float32 where the products are bfloat16."""
    return activity.float() if activity.dtype == torch.bfloat16 else activity
