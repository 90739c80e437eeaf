"""InfoNCE between two views: every observer's second view against those of all others."""

import torch

from neurossl.anatomy.network import Network
from neurossl.anatomy.prediction import InterneuronPathway
from neurossl.anatomy.shapes import Pool
from neurossl.checks import whole
from neurossl.engine.updates import OuterProduct
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit, learning_gain
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.objectives.views import pairs_of_views


class InfoNCE(Objective):
    """InfoNCE between two views, as in BP-InfoNCE of arXiv 2601.21683.

    The pooled response of both views is projected with one matrix, ``p = B z``; cosine similarities of all first with all
    second views, divided by the temperature, enter a softmax over rows; loss ``-log softmax(i, i)``, mean over observers.
    Both views receive credit, unless the first is held.

    Parameters
    ----------
    temperature : float
    projection : int, optional
        Dimensions of the projection; as many as the population has channels by default (published: 1024, which are both).
    negatives : int, optional
        Other observers, the next ones, that every observer is compared with, as far as there are so many; all by default,
        as published.
    held : bool
        Hold the first view, the context to which the softmax compares all second views (`.detach()` before the projection):
        the second views alone receive credit, as the targets of CLAPP's score do and its context does not. The projection
        learns from both, as CLAPP's B does. Each object then has credit once, where CLAPP++, in which each view is the
        context of the other, has it twice.

    Notes
    -----
    Credit comes back from the projection through its transposed weights, within a pathway of the population's own, and to
    the first view when the second is there, unless that is held: the ledger says so here as it does of `MonoForward` and
    `ResponsePrediction`.
    """

    needs = frozenset({"lateral context", "other observers", "weight transport", "activity held"})
    name = "InfoNCE"
    short_name = "InfoNCE"

    def __init__(
        self,
        temperature: float = 0.1,
        projection: int | None = None,
        negatives: int | None = None,
        held: bool = False,
    ) -> None:
        if not temperature > 0:
            raise OptionError(f"InfoNCE: temperature must be > 0, got {temperature}")
        self.temperature = temperature
        self.negatives = None if negatives is None else whole(negatives, "InfoNCE: negatives (other observers)")
        if negatives is not None:
            self.name = f"InfoNCE, {negatives} negatives"
        self.projection = None if projection is None else whole(projection, "InfoNCE: dimensions of the projection")
        self.held = held
        if held:
            self.name += ", context held"
            self.short_name = "InfoNCE, context held"
            self.needs = self.needs - {"activity held"}

    def pool(self, network: Network, population: str) -> Pool:
        """Return global pooling, as published."""
        return "global" if len(network.populations[population].shape) == 3 else None

    def _name(self, population: str) -> str:
        return f"{population}=>{population}:projection"

    def wire(self, network: Network, population: str) -> None:
        """Add the projection."""
        if self._name(population) not in network.pathways:
            pool = self.pool(network, population)
            size = self.projection or network.populations[population].shape[0]
            ends = {"source_pool": pool, "target_pool": pool, "label": "projection"}
            network.add(InterneuronPathway(population, population, size, **ends))

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the credit of both views, or of the second, and the change of the projection."""
        first, second = pairs_of_views(moment, site.rows, "InfoNCE")
        pathway = site.feedback(self._name(site.population))
        response = pathway.at_dendrite(site.activity)
        if self.held:
            context, _ = site.context(pathway, online=False)
            response = response.index_copy(0, first, context[first])
        projected = pathway.apical(response)
        norm = projected.norm(dim=1, keepdim=True).clamp(min=1e-8)
        unit = projected / norm
        similarity = unit[first] @ unit[second].T / self.temperature
        if self.negatives is not None:
            one = torch.arange(len(first), device=first.device)
            similarity = similarity.masked_fill((one - one[:, None]) % len(first) > self.negatives, -torch.inf)
        log_probability = similarity.log_softmax(1)
        gain = learning_gain(moment)
        weight = torch.ones_like(norm[first, 0]) if gain is None else gain[first]
        loss = -(weight * log_probability.diagonal()).mean()
        slope = (log_probability.exp() - torch.eye(len(first), dtype=unit.dtype, device=unit.device)) * weight[:, None]
        slope = slope / (len(first) * self.temperature)
        d_unit = torch.zeros_like(unit)
        d_unit[first] = slope @ unit[second]
        d_unit[second] = slope.T @ unit[first]
        d_projected = (d_unit - unit * (d_unit * unit).sum(1, keepdim=True)) / norm
        update = OuterProduct(-d_projected, response)
        dendrite = -site.rows * (d_projected @ pathway.weight)
        if self.held:
            dendrite = dendrite.index_fill(0, first, 0)
        return Credit(pathway.to_soma(dendrite), feedback=[(pathway.name, update)], losses={pathway.name: loss})
