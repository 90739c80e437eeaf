"""CLAPP as published: what comes next is predicted, and what was before is retrodicted.

Along a sequence of fixations with responses z (Illing et al. 2021, arXiv 2010.08262), for every number of steps k,

    prediction      u = z_later . B_k c      of the later response from the present one, c = z_now, held
    retrodiction    u' = c . R_k z_later     of the present response from the later one, held

    loss = mean over fixations of f(u) + mean over saccades of f(-u), the same of u', mean over k
    credit: gamma B_k c on what comes later, gamma' R_k z_later on what was before
    dB_k = gamma z_later outer c        dR_k = gamma' c outer z_later

A saccade leads to another object in place of the later one. Fixations and saccades are averaged by themselves: an observer
that makes either one or the other (CLAPP) and one that is taught both (CLAPP-s) take steps of the same size.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.anatomy.feedback import FeedbackPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.checks import one_of, whole
from neurossl.engine.updates import Update
from neurossl.errors import EventError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade, Succession
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, exact
from neurossl.plasticity.objectives.scores import CONTRASTS, score


class Clapp(Objective):
    """CLAPP's prediction and retrodiction of responses to the same object.

    Parameters
    ----------
    contrast : {"hinge", "softplus", "linear"}
    steps : int
        How far it looks ahead; published 5, on columns of patches (`PatchSequence`). Pairs of views are one step.
    retrodiction : {"own", "transposed", "none"}
        Whether the present response learns, too: through weights R of its own (CLAPP), through those of the prediction,
        transposed (CLAPP-s), or not.
    init : str
        Initialisation of B and R.

    Notes
    -----
    ``Neuromodulation.gain`` of a row multiplies its fixation, ``saccade_gain`` its saccade; events with a gain of 0 do not
    happen, and are not counted.
    """

    short_name = "Hinge-CPC"
    awaits = (Fixation,)

    def __init__(self, contrast: str = "hinge", steps: int = 1, retrodiction: str = "own", init: str = "uniform") -> None:
        one_of(contrast, tuple(CONTRASTS), "contrast")
        one_of(retrodiction, ("own", "transposed", "none"), "retrodiction")
        self.contrast = contrast
        self.steps = whole(steps, "CLAPP: steps")
        self.retrodiction = retrodiction
        self.init = init
        held = {"own": {"activity held"}, "transposed": {"activity held", "weight transport"}, "none": set()}
        self.needs = frozenset({"neuromodulator", "lateral context"} | held[retrodiction])
        self.name = f"CLAPP, {contrast}, {self.steps} step{'s' if self.steps > 1 else ''}, retrodiction {retrodiction}"

    def pool(self, network: Network, population: str) -> Pool:
        """Return global pooling: the code of a patch is the mean over its places."""
        return "global" if len(network.populations[population].shape) == 3 else None

    def pathway_names(self, population: str) -> list[str]:
        """Return the pathways onto a population: predictions of 1, 2, ... steps, then retrodictions."""
        directions = ("k", "back-k") if self.retrodiction == "own" else ("k",)
        return [f"{population}=>{population}:{d}{k + 1}" for d in directions for k in range(self.steps)]

    def wire(self, network: Network, population: str) -> None:
        """Add the prediction pathways that are missing."""
        pool = self.pool(network, population)
        for name in self.pathway_names(population):
            if name not in network.pathways:
                label = name.partition(":")[2]
                ends = population, population
                network.add(FeedbackPathway(*ends, source_pool=pool, target_pool=pool, label=label, init=self.init))

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the credit of all responses, and the changes of B and R."""
        f = CONTRASTS[self.contrast]
        total: Tensor | None = None
        feedback: list[tuple[str, Update]] = []
        losses: dict[str, Tensor] = {}
        signals: dict[str, Tensor] = {}
        names = self.pathway_names(site.population)
        steps = _steps(moment, exact(site.activity), self.steps)
        for name, step in zip(names, steps, strict=False):
            ahead = ":back-" not in name
            projection = site.feedback(name)
            z = projection.at_dendrite(site.activity)
            held, _ = site.context(projection, online=False)  # other than z where only a step is tried on
            held = z if self.retrodiction == "transposed" else held
            guess = projection.apical(held)  # of what comes later; backwards, by every row of what was before
            now, from_later = (guess, z) if ahead else (z, guess)
            then, other = from_later[step.later], from_later[step.elsewhere]
            u, away = score(then, now), score(other, now)
            stay, jump = step.stay.to(u), step.jump.to(u)
            losses[name] = (stay * f.loss(u) + jump * f.loss(-away).mean(0)).mean()
            gamma, away_gamma = stay * f.gamma(u), -jump * f.gamma(-away) / len(away)
            onto_later = torch.zeros_like(z).index_add_(0, step.later, gamma[:, None] * now)
            onto_later.index_add_(0, step.elsewhere.flatten(), (away_gamma[..., None] * now).flatten(0, 1))
            onto_now = gamma[:, None] * then + (away_gamma[..., None] * other).sum(0)
            if ahead:
                feedback += projection.changes(held, onto_now)
                dendrite = onto_later
                if self.retrodiction == "transposed":
                    dendrite = dendrite + onto_now @ projection.weight
            else:
                feedback += projection.changes(held, onto_later)
                dendrite = onto_now
            credit = projection.to_soma(dendrite)
            total = credit if total is None else total + credit
            if site.is_watched:
                ending = f" {name}" if signals else ""
                signals |= {f"score{ending}": u, f"gamma{ending}": gamma, f"dendrite{ending}": guess}
        return Credit(total, feedback=feedback, losses=losses, signals=signals)


class _Step(NamedTuple):
    """What one pathway compares: a row later, (rows,), those elsewhere, (saccades, rows), and what both kinds count."""

    later: Tensor
    elsewhere: Tensor
    stay: Tensor
    jump: Tensor


def _steps(moment: Moment, like: Tensor, steps: int) -> list[_Step]:
    """Return what is compared: predictions of 1, 2, ... steps, then retrodictions.

    Raises
    ------
    EventError
        If the moment shows no fixation after another, or not so many.
    """
    fixation = moment.require(Fixation, by="CLAPP")
    found = moment.get(Succession)
    gains = moment.get(Neuromodulation)
    rows, one = len(like), like.new_ones(len(like))
    stay = one if gains is None else gains.gain.to(one)
    jump = stay if gains is None or gains.saccade_gain is None else gains.saccade_gain.to(one)
    if found is not None:
        later, elsewhere, stays = found.later, found.elsewhere[:, :, None], found.stays
    elif fixation.partner is not None:
        saccade = moment.get(Saccade)
        if saccade is None or saccade.negatives is None:
            raise EventError("CLAPP compares fixations with saccades: the moment needs Saccade(negatives=...)")
        later, stays = fixation.partner[None], None
        elsewhere = saccade.negatives.reshape(1, -1, rows)[None].expand(2, 1, -1, rows)
    else:
        raise EventError(
            "CLAPP needs fixations that follow each other within one moment: show it ViewPairs or PatchSequence"
        )
    if len(later) != steps:
        raise EventError(f"CLAPP of {steps} steps, but the moment shows {len(later)}: give the rule steps={len(later)}")
    result = []
    for direction in range(2):
        for k in range(steps):
            there = later[k] >= 0
            happens = [there * stay, there * jump]
            if stays is not None:
                happens = [happens[0] * stays[direction], happens[1] * ~stays[direction]]
            # The mean over all rows is taken later; that over the events of this kind is meant.
            shares = [e * rows / ((e != 0).sum().clamp(min=1) * steps) for e in happens]
            result.append(_Step(later[k].clamp(min=0), elsewhere[direction, k].clamp(min=0), *shares))
    return result
