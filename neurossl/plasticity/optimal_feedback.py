"""A control: prediction weights that are taught to make the local credit equal to backprop's.

How well could a local rule do if its predictions were as good as they can be? The "theoretically optimal update" of Wu et
al. 2026 (arXiv 2601.21683, figures 3b and 4c): the prediction weights B of every population below the top descend

    D = || dL/dz - dL_l/dz ||_F^2     (sum over rows and neurons)

the distance of the credit of the own loss L_l from that of the loss L at the top, which backprop brings down as a teacher.
The top learns its own B, and all feedforward synapses learn from the local credit, as ever. With p = B c the prediction, z
its targets, and e the difference of both credits per row, pooled like the activity,

    dD/dp = 2/rows^2 * sum over the targets of p of  [ gamma e + (dgamma/du) (p . e) z ]
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.feedback import FeedbackPathway
from neurossl.pathways import Pathway
from neurossl.plasticity.backprop import Backprop
from neurossl.plasticity.contrastive import Contrastive, Transitions, transitions
from neurossl.plasticity.local import Local
from neurossl.plasticity.locality import Site, View
from neurossl.plasticity.rule import Credit
from neurossl.updates import Update


def _logistic_slope(u: Tensor) -> Tensor:
    return -(1 - u).sigmoid() * (u - 1).sigmoid()


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "hinge": torch.zeros_like,
    "softplus": _logistic_slope,
    "linear": torch.zeros_like,
}
"""Slope of the neuromodulator of a fixation with the score, per contrast: minus the curvature of f."""


class OptimalFeedback(Local):
    """A contrastive objective at every population, its predictions below the top taught by backprop.

    Parameters
    ----------
    objective : Contrastive
        With predictions that learn. Backprop starts from its form at the top (`Contrastive.at_top`).

    Raises
    ------
    OptionError
        If the objective is another, or its predictions are fixed.
    """

    transport = "none: own dendrite; its predictions are taught by backprop"

    def __init__(self, objective: Contrastive) -> None:
        if not isinstance(objective, Contrastive) or not objective.plastic:
            raise OptionError(f"optimal feedback teaches the predictions of a contrastive objective, got {objective!r}")
        self.teacher = Backprop(objective)
        super().__init__(objective, self.teacher.needs)
        self.contrastive = objective
        self.name = f"{objective.name}, predictions taught by backprop"

    def credit(self, view: View, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the local credit of every population, the top first, with predictions that approach backprop's."""
        sites = {site.population: site for site in view.sites()}
        for population, wanted in self.teacher.credit(view, moment):
            if population not in sites:
                continue
            credit = self.objective.credit(sites[population], moment)
            if population != view.top:
                assert credit.activity is not None, "contrastive objectives give credit on the activity"
                assert wanted.activity is not None, "backprop gives credit on the activity below the top"
                error = credit.activity - wanted.activity
                credit.feedback = self.lessons(sites[population], moment, error)
            yield population, credit

    def lessons(self, site: Site, moment: Moment, error: Tensor) -> list[tuple[Pathway, Update]]:
        """Return the descent of D for every prediction pathway onto a population.

        Parameters
        ----------
        site : Site
        moment : Moment
        error : Tensor, (rows, *shape)
            Local credit minus backprop's.
        """
        step = transitions(moment, site.rows, site.activity.device)
        changes: list[tuple[Pathway, Update]] = []
        for name in self.contrastive.pathway_names(site.population, site.top):
            pathway = site.feedback(name)
            context, traced = site.context(pathway, step.online)
            slope = self._slope(site, pathway, step, context, traced, pathway.at_dendrite(error))
            changes += pathway.changes(context, (-2 / site.rows) * slope)
        return changes

    def _slope(
        self, site: Site, pathway: FeedbackPathway, step: Transitions, context: Tensor, traced: Tensor | None, error: Tensor
    ) -> Tensor:
        """Return ``rows^2 / 2 * dD/dp``, (rows, target values)."""
        prediction, response = pathway.apical(context), pathway.at_dendrite(site.activity)
        target, landed = response[step.partner], response[step.landing]
        missed, missed_landed = error[step.partner], error[step.landing]
        u_fixation, u_saccade = (target * prediction).sum(1), (landed * prediction).sum(2)
        _, gamma_fixation, gamma_saccade = self.contrastive.judge(u_fixation, u_saccade, step, traced)
        slope = gamma_fixation[:, None] * missed + (gamma_saccade[..., None] * missed_landed).sum(0)
        pull = (prediction * missed).sum(1), (prediction * missed_landed).sum(2)
        bend_fixation, bend_saccade = self._bend(u_fixation, u_saccade, pull, step.gains(response.dtype, traced))
        return slope + bend_fixation[:, None] * target + (bend_saccade[..., None] * landed).sum(0)

    def _bend(
        self,
        u_fixation: Tensor,
        u_saccade: Tensor,
        pull: tuple[Tensor, Tensor],
        gains: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Return the slope of ``sum of gamma (p . e)`` with the scores: (rows,) and, for saccades, (landings, rows)."""
        (to_fixation, to_saccade), (stay, jump) = pull, gains
        landings = len(u_saccade)
        if self.contrastive.contrast == "phyll":
            steepness = self.contrastive.steepness
            excess = steepness * (u_saccade.mean(0) - u_fixation)
            slope = steepness**2 * excess.sigmoid() * (-excess).sigmoid() * (to_fixation - to_saccade.mean(0))
            slope = slope if stay is None else slope * stay
            return -slope, (slope / landings).expand(landings, -1)
        curve = SLOPES[self.contrastive.contrast]
        fixation, saccade = curve(u_fixation) * to_fixation, curve(-u_saccade) * to_saccade / landings
        return fixation if stay is None else fixation * stay, saccade if jump is None else saccade * jump
