"""A control: prediction weights that are taught to make the local credit equal to backprop's.

How well could a local rule do if its predictions were as good as they can be? The "theoretically optimal update" of Wu et
al. 2026 (arXiv 2601.21683, figures 3b and 4c): the prediction weights B of every population below the top descend

    D = || dL/dz - dL_l/dz ||_F^2     (sum over rows and neurons)

the distance of the credit of the own loss L_l from that of the loss L at the top, which backprop brings down as a teacher.
The top learns its own B, and all feedforward synapses learn from the local credit, as ever. With p = B c the prediction, z
its targets, and e the difference of both credits per row, pooled like the activity,

    dD/dp = 2/rows^2 * sum over the targets of p of  [ gamma e + (dgamma/du) (p . e) z ]
"""

from collections.abc import Iterator

from torch import Tensor

from neurossl.engine.updates import Update
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.objectives.contrastive import Comparison, Contrastive
from neurossl.plasticity.objectives.scores import CONTRASTS, score
from neurossl.plasticity.objectives.transitions import Transitions, transitions
from neurossl.plasticity.transports.backprop import Backprop
from neurossl.plasticity.transports.local import Local


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

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield the local credit of every population, the top first, with predictions that approach backprop's."""
        sites = {site.population: site for site in scope.sites()}
        for population, wanted in self.teacher.credit(scope, moment):
            if population not in sites:
                continue
            credit = self.objective.credit(sites[population], moment)
            if population != scope.top:
                assert credit.activity is not None, "contrastive objectives give credit on the activity"
                assert wanted.activity is not None, "backprop gives credit on the activity below the top"
                error = credit.activity - wanted.activity
                credit.feedback = self.lessons(sites[population], moment, error)
            yield population, credit

    def lessons(self, site: Site, moment: Moment, error: Tensor) -> list[tuple[str, Update]]:
        """Return the descent of D for every prediction pathway onto a population.

        Parameters
        ----------
        site : Site
        moment : Moment
        error : Tensor, (rows, *shape)
            Local credit minus backprop's.
        """
        step = transitions(moment, site.rows, site.activity.device)
        changes: list[tuple[str, Update]] = []
        for name in self.contrastive.pathway_names(site.population, site.top):
            compared = self.contrastive.compare(site, name, step)
            slope = self._slope(compared, step, compared.projection.at_dendrite(error))
            changes += compared.projection.changes(compared.context, (-2 / site.rows) * slope)
        return changes

    def _slope(self, compared: Comparison, step: Transitions, error: Tensor) -> Tensor:
        """Return ``rows^2 / 2 * dD/dp``, (rows, target values)."""
        missed, missed_landed = error[step.partner], error[step.negatives]
        _, gamma_fixation, gamma_saccade = compared.judgement
        slope = gamma_fixation[:, None] * missed + (gamma_saccade[..., None] * missed_landed).sum(0)
        pull = score(missed, compared.predicted), score(missed_landed, compared.predicted)
        bend_fixation, bend_saccade = self._bend(compared.u_fixation, compared.u_saccade, pull, compared.gains)
        return slope + bend_fixation[:, None] * compared.target + (bend_saccade[..., None] * compared.landed).sum(0)

    def _bend(
        self,
        u_fixation: Tensor,
        u_saccade: Tensor,
        pull: tuple[Tensor, Tensor],
        gains: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Tensor, Tensor]:
        """Return the slope of ``sum of gamma (p . e)`` with the scores: (rows,) and, for saccades, (negatives, rows)."""
        (to_fixation, to_saccade), (stay, jump) = pull, gains
        negatives = len(u_saccade)
        if self.contrastive.contrast == "phyll":
            steepness = self.contrastive.steepness
            excess = steepness * (u_saccade.mean(0) - u_fixation)
            slope = steepness**2 * excess.sigmoid() * (-excess).sigmoid() * (to_fixation - to_saccade.mean(0))
            slope = slope if stay is None else slope * stay
            return -slope, (slope / negatives).expand(negatives, -1)
        curve = CONTRASTS[self.contrastive.contrast].bend
        fixation, saccade = curve(u_fixation) * to_fixation, curve(-u_saccade) * to_saccade / negatives
        return fixation if stay is None else fixation * stay, saccade if jump is None else saccade * jump
