"""CLAPP's contrastive score.

CLAPP (Illing et al. 2021, arXiv 2010.08262) and CLAPP++ (Wu et al. 2026, arXiv 2601.21683) score a target response z with
the dendritic prediction of it from a context c, ``u = z . B c``; a fixation asks for a high score, a saccade for a low one:

    loss = f(u_fixation) + mean over negatives of f(-u_saccade)       gamma = -d loss / d u
    credit on the target z: gamma B c        change of B: gamma z outer c        c gets none (it is a trace)

The score itself and its neuromodulator are in `scores`.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy.feedback import FeedbackPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.prediction import PredictionForm
from neurossl.anatomy.shapes import Pool, pooled_shape
from neurossl.engine.projections import ApicalProjection
from neurossl.engine.updates import Update
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective
from neurossl.plasticity.objectives.scores import CONTRASTS, Judgement, judge, prediction, score
from neurossl.plasticity.objectives.transitions import Transitions, transitions


def spatial_pool(shape: tuple[int, ...], retina: tuple[int, ...]) -> Pool:
    """Return the pooling kernel of CLAPP++: 8x8, 4x4, 2x2 cells or one, by the size of the map relative to the image.

    For the six-layer network on 32, 64 and 96 pixels this gives the published 4-4-4-2-2-1, 8-8-8-4-4-2 and 12-12-12-6-6-3,
    for the eight-layer network on 224 pixels 28-28-14-14-14-7-7-7.
    """
    if len(shape) == 1 or len(retina) == 1:
        return None
    size, relative = shape[1], shape[1] / retina[1]
    cells = 8 if relative >= 0.75 else 4 if relative >= 0.2 else 2 if relative >= 0.05 else 1
    return max(1, size // cells)


class Contrastive(Objective):
    """CLAPP's contrastive score, with any context.

    Parameters
    ----------
    contrast : {"hinge", "softplus", "linear", "phyll"}
        phyll: ``softplus(steepness (mean u_saccade - u_fixation))``, one scalar from both events.
    context : {"lateral", "top", "both"} or mapping
        Where the context comes from: the population itself, the top (direct feedback), or both, with two independent
        prediction pathways; or the source of each population by name.
    pool : int, "global", "spatial", "spatial, global top", None, sequence or mapping
        Kernel of the average pooling of maps before the score; "spatial" as published for CLAPP++ (`spatial_pool`);
        "spatial, global top" with one cell at the top, as published for comparing updates with those of BP-CLAPP++; a
        sequence or mapping gives one per population.
    lateral_too : bool
        Add a lateral score to that of ``context``.
    steepness : float
        Of phyll.
    init : str
        Initialisation of the prediction weights B.
    prediction : str
        Form of B: "full", "low-rank:RANK" or "banded:DISTANCE" (`neurossl.prediction`).
    plastic : bool
        Whether the predictions below the top learn; otherwise they are fixed random feedback. Those of the top always learn.

    Notes
    -----
    Pathways that the network already has are used as they are, their pooling included.
    """

    short_name = "CLAPP++"
    awaits = (Fixation,)
    label = ""

    def __init__(
        self,
        contrast: str = "hinge",
        context: str | Mapping[str, str] = "lateral",
        pool: Pool | Sequence[Pool] | Mapping[str, Pool] = "global",
        lateral_too: bool = False,
        steepness: float = 1.0,
        init: str = "uniform",
        prediction: str = "full",
        plastic: bool = True,
    ) -> None:
        if contrast not in (*CONTRASTS, "phyll"):
            raise OptionError(f"contrast {contrast!r} does not exist, expected {', '.join(CONTRASTS)} or phyll")
        if isinstance(context, str) and context not in ("lateral", "top", "both"):
            raise OptionError(f"context {context!r} does not exist, expected lateral, top or both")
        self.contrast = contrast
        self.lateral_too = lateral_too or context == "both"
        self.context: str | Mapping[str, str] = "top" if context == "both" else context
        self.pools = pool.tolist() if isinstance(pool, np.ndarray) else pool
        self.steepness = steepness
        self.init = init
        self.prediction = prediction
        self.plastic = plastic
        self._form = PredictionForm.parse(prediction)
        needs = {"neuromodulator"} | self._form.needs
        if context != "top" or self.lateral_too:
            needs.add("lateral context")
        if self.context != "lateral":
            needs |= {"top-down activity", "activity held"}
        self.needs = frozenset(needs)
        where = "chosen" if not isinstance(self.context, str) else "both" if self.lateral_too else self.context
        where += "" if where != "both" or self.context == "top" else " (lateral twice)"
        self.name = f"contrastive {contrast}, {where} context"
        if prediction != "full":
            self.name += f", {prediction} prediction"
        if not plastic:
            self.name += ", fixed below the top"

    def at_top(self) -> "Contrastive":
        """Return the scores of the top, on the same prediction pathways: with "both" contexts it has two of its own."""
        context = "lateral" if isinstance(self.context, str) and not self.lateral_too else self.context
        return Contrastive(self.contrast, context, self.pools, self.lateral_too, self.steepness, self.init, self.prediction)

    def alone_at(self, population: str) -> "Contrastive":
        """Return the scores of the top as they are at a population: every context is its own, and one cell stays one."""
        found = self.at_top()
        if found.context == "top":
            found.context = {population: population}
        if found.pools == "spatial, global top":
            found.pools = "global"
        found.label = self.label
        return found

    def apart(self, label: str) -> "Contrastive":
        """Return the same scores on prediction pathways of their own."""
        found = copy(self)
        found.label = label
        return found

    def named_in(self, network: Network, population: str) -> str:
        """Return the name, and of a map in how many cells it is scored: a score of one cell is another objective."""
        shape = network.populations[population].shape
        if len(shape) == 1:
            return self.name
        names = self.pathway_names(population, network.top)
        wired = network.pathways.get(names[0])
        pool = self.pool(network, population) if not isinstance(wired, FeedbackPathway) else wired.target_pool
        cells = pooled_shape(shape, pool)[1:]
        return f"{self.name}, {'x'.join(map(str, cells)) if cells else '1x1'} cells"

    def pool(self, network: Network, population: str) -> Pool:
        """Return the pooling kernel of a population."""
        shape = network.populations[population].shape
        if len(shape) == 1:
            return None
        if self.pools == "spatial, global top" and population == network.top:
            return shape[1] if shape[1] == shape[2] else "global"
        if self.pools in ("spatial", "spatial, global top"):
            return spatial_pool(shape, network.input.shape)
        if isinstance(self.pools, Mapping):
            return self.pools[population]
        if isinstance(self.pools, Sequence) and not isinstance(self.pools, str):
            scored = [name for name in network.order if len(network.populations[name].shape) == 3]
            if len(self.pools) != len(scored):
                raise NetworkError(
                    f"pool: expected one kernel per map population ({', '.join(scored)}), got {list(self.pools)}"
                )
            return self.pools[scored.index(population)]
        return self.pools

    def pathway_names(self, population: str, top: str) -> list[str]:
        """Return the prediction pathways onto a population: the context's, then the lateral one where added."""
        if isinstance(self.context, str):
            source = population if self.context == "lateral" else top
        else:
            source = self.context.get(population, population)
        names = [f"{source}=>{population}"]
        if self.lateral_too:
            names.append(f"{population}=>{population}" + (":lateral" if source == population else ""))
        if self.label:
            names = [f"{name}-{self.label}" if ":" in name else f"{name}:{self.label}" for name in names]
        return names

    def wire(self, network: Network, population: str) -> None:
        """Add the prediction pathways that are missing."""
        for name in self.pathway_names(population, network.top):
            if name not in network.pathways:
                ends, _, label = name.partition(":")
                source = ends.partition("=>")[0]
                options = {
                    "source_pool": self.pool(network, source),
                    "target_pool": self.pool(network, population),
                    "plastic": self.plastic or population == network.top,
                    "init": self.init,
                }
                network.add(*self._form.pathways(source, population, label, options))

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the credit of all targets and the changes of the prediction weights."""
        step = transitions(moment, site.rows, site.activity.device)
        total: Tensor | None = None
        feedback: list[tuple[str, Update]] = []
        losses: dict[str, Tensor] = {}
        signals: dict[str, Tensor] = {}
        strength = site.activity.new_zeros(site.rows, dtype=torch.float32)
        for name in self.pathway_names(site.population, site.top):
            comparison = self.compare(site, name, step)
            feedback += self._changes(site, comparison)
            credit = comparison.projection.to_soma(self._dendrite(comparison, step, strength))
            total = credit if total is None else total + credit
            losses[name] = comparison.judgement.losses.mean()
            if site.is_watched:
                signals |= comparison.signals("" if not signals else name)
        return Credit(total, feedback=feedback, losses=losses, silent=strength == 0, signals=signals)

    def compare(self, site: Site, name: str, step: Transitions) -> "Comparison":
        """Return what one prediction pathway predicts, how the responses score, and what follows for the neuromodulator."""
        projection = site.feedback(name)
        context, traced = site.context(projection, step.online)
        predicted = prediction(projection, context)
        response = projection.at_dendrite(site.activity)
        target, landed = response[step.partner], response[step.negatives]
        u_fixation, u_saccade = score(target, predicted), score(landed, predicted)
        if self.contrast == "phyll" and (step.online or step.fixation_gain is not step.saccade_gain):
            raise EventError("contrast 'phyll' compares a fixation with a saccade of the same moment: both must be there")
        gains = step.gains(u_fixation.dtype, traced)
        judged = judge(self.contrast, u_fixation, u_saccade, *gains, self.steepness)
        return Comparison(projection, context, predicted, response, target, landed, u_fixation, u_saccade, gains, judged)

    def _dendrite(self, compared: "Comparison", step: Transitions, strength: Tensor) -> Tensor:
        """Return the sum of all factors at the dendrite, (rows, target values); add |gamma| of every row to ``strength``."""
        _, gamma_fixation, gamma_saccade = compared.judgement
        predicted = compared.predicted
        dendrite = torch.zeros_like(compared.response).index_add_(0, step.partner, gamma_fixation[:, None] * predicted)
        dendrite.index_add_(0, step.negatives.flatten(), (gamma_saccade[..., None] * predicted).flatten(0, 1))
        strength.index_add_(0, step.partner, gamma_fixation.abs().to(strength))
        strength.index_add_(0, step.negatives.flatten(), gamma_saccade.abs().flatten().to(strength))
        return dendrite

    def _changes(self, site: Site, compared: "Comparison") -> list[tuple[str, Update]]:
        """Return the changes of B, ``gamma z outer c`` summed over the events."""
        _, gamma_fixation, gamma_saccade = compared.judgement
        postsynaptic = gamma_fixation[:, None] * compared.target + (gamma_saccade[..., None] * compared.landed).sum(0)
        learning = site.worth_selecting((gamma_fixation != 0) | (gamma_saccade != 0).any(0))
        if learning is None:
            return compared.projection.changes(compared.context, postsynaptic)
        share = len(learning) / site.rows
        return compared.projection.changes(compared.context[learning], postsynaptic[learning] * share)

    def factors(self, site: Site, moment: Moment) -> list[Factors]:
        """Return, per prediction pathway, the factors of the fixation and of every saccade.

        A row that several contexts are compared with receives as many factors; where it receives fewer than others do, the
        neuromodulator of the rest is 0.
        """
        step = transitions(moment, site.rows, site.activity.device)
        found = []
        for name in self.pathway_names(site.population, site.top):
            compared = self.compare(site, name, step)
            dendrite = compared.projection.to_soma(compared.predicted)
            events = [(step.partner, compared.judgement.gamma_fixation)]
            events += list(zip(step.negatives, compared.judgement.gamma_saccade, strict=True))
            for target_of, gamma in events:
                waiting = list(range(len(target_of)))
                while waiting:
                    first = {int(target_of[r]): r for r in reversed(waiting)}
                    targets, contexts = torch.tensor(list(first)), torch.tensor(list(first.values()))
                    here = torch.zeros_like(gamma)
                    here[targets] = gamma[contexts]
                    arrived = torch.zeros_like(dendrite)
                    arrived[targets] = dendrite[contexts]
                    found.append(Factors(here, arrived))
                    waiting = [r for r in waiting if r not in set(first.values())]
        return found


class Comparison(NamedTuple):
    """One prediction pathway in one moment.

    Attributes
    ----------
    projection : ApicalProjection
    context : Tensor, (rows, source values)
    predicted : Tensor, (rows, target values)
    response : Tensor, (rows, target values)
    target : Tensor, (rows, target values)
        Response to the fixation from every context row.
    landed : Tensor, (negatives, rows, target values)
        Responses to the saccades.
    u_fixation : Tensor, (rows,)
    u_saccade : Tensor, (negatives, rows)
    gains : (Tensor or None, Tensor or None), each (rows,)
        Of fixation and saccades.
    judgement : Judgement
    """

    projection: ApicalProjection
    context: Tensor
    predicted: Tensor
    response: Tensor
    target: Tensor
    landed: Tensor
    u_fixation: Tensor
    u_saccade: Tensor
    gains: tuple[Tensor | None, Tensor | None]
    judgement: Judgement

    def signals(self, pathway: str) -> dict[str, Tensor]:
        """Return what may be recorded: scores, neuromodulators and the prediction, per context row."""
        ending = f" {pathway}" if pathway else ""
        return {
            f"score{ending}": self.u_fixation,
            f"saccade_score{ending}": self.u_saccade.mean(0),
            f"gamma{ending}": self.judgement.gamma_fixation,
            f"saccade_gamma{ending}": self.judgement.gamma_saccade.sum(0),
            f"dendrite{ending}": self.predicted,
        }
