"""CLAPP's contrastive score.

CLAPP (Illing et al. 2021, arXiv 2010.08262) and CLAPP++ (Wu et al. 2026, arXiv 2601.21683) score a target response z with
the dendritic prediction of it from a context c, ``u = z . B c``; a fixation asks for a high score, a saccade for a low one:

    loss = f(u_fixation) + mean over landings of f(-u_saccade)        gamma = -d loss / d u
    credit on the target z: gamma B c        change of B: gamma z outer c        c gets none (it is a trace)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade
from neurossl.feedback import FeedbackPathway, Pool
from neurossl.network import Network
from neurossl.pathways import Pathway
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives import Objective
from neurossl.plasticity.rule import Credit
from neurossl.prediction import PredictionForm
from neurossl.updates import Update


class Contrast(NamedTuple):
    """A decreasing function of the score and minus its slope."""

    loss: Callable[[Tensor], Tensor]
    gamma: Callable[[Tensor], Tensor]


CONTRASTS: dict[str, Contrast] = {
    "hinge": Contrast(lambda u: (1 - u).clamp(min=0), lambda u: (u < 1).to(u.dtype)),
    "softplus": Contrast(lambda u: torch.logaddexp(1 - u, torch.zeros_like(u)), lambda u: (1 - u).sigmoid()),
    "linear": Contrast(lambda u: -u, torch.ones_like),
}
"""f(u): hinge ``max(0, 1-u)`` (slope 0 at the margin), softplus ``log(1+exp(1-u))``, linear ``-u``."""


class Transitions(NamedTuple):
    """Which response is compared with which context, and how strongly."""

    online: bool
    partner: Tensor  # (rows,) target row of the fixation from context row r
    landing: Tensor  # (landings, rows) target rows of the saccades from context row r
    fixation_gain: Tensor | None  # (rows,)
    saccade_gain: Tensor | None

    def gains(self, dtype: torch.dtype, traced: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the gains of fixations and saccades, 0 for rows without a trace; None for 1 everywhere."""
        stay, jump = (gain if gain is None else gain.to(dtype) for gain in (self.fixation_gain, self.saccade_gain))
        if traced is None:
            return stay, jump
        present = traced.to(dtype)
        return (present if stay is None else stay * present), (present if jump is None else jump * present)


def transitions(moment: Moment, rows: int, device: torch.device) -> Transitions:
    """Return the transitions that a moment describes.

    Online (no ``Fixation.partner``) the target is the present response and the context the trace; each observer has made
    either a fixation within the object or a saccade.

    Raises
    ------
    EventError
        If a batched moment names partners but no landings.
    """
    fixation = moment.require(Fixation, by="a contrastive objective")
    saccade = moment.get(Saccade)
    event = moment.get(Neuromodulation)
    gain = None if event is None else event.gain
    saccade_gain = gain if event is None or event.saccade_gain is None else event.saccade_gain
    if fixation.partner is not None:
        if saccade is None or saccade.landing is None:
            raise EventError("a batched contrastive moment needs Saccade(landing=...): the rows of other objects")
        landing = saccade.landing if saccade.landing.ndim == 2 else saccade.landing[None]
        if landing.shape[1] != rows:
            raise EventError(f"Saccade.landing: expected (landings, {rows}), got {tuple(landing.shape)}")
        return Transitions(False, fixation.partner, landing, gain, saccade_gain)
    moved = torch.zeros(rows, device=device, dtype=torch.bool)
    if saccade is not None:
        moved = ~moved if saccade.observers is None else saccade.observers
    stayed, jumped = (~moved).float(), moved.float()
    itself = torch.arange(rows, device=device)
    return Transitions(
        True,
        itself,
        itself[None],
        stayed if gain is None else stayed * gain,
        jumped if saccade_gain is None else jumped * saccade_gain,
    )


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

    awaits = (Fixation,)

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
        self.pools = pool
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
        where = context if isinstance(context, str) else "chosen"
        self.name = f"contrastive {contrast}, {where} context"
        if prediction != "full":
            self.name += f", {prediction} prediction"
        if not plastic:
            self.name += ", fixed below the top"

    def at_top(self) -> "Contrastive":
        """Return the score of the top with its own context, on the same prediction pathway."""
        context = "lateral" if isinstance(self.context, str) else self.context
        return Contrastive(self.contrast, context, self.pools, False, self.steepness, self.init, self.prediction)

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
        feedback: list[tuple[Pathway, Update]] = []
        losses: dict[str, Tensor] = {}
        strength = site.activity.new_zeros(site.rows, dtype=torch.float32)
        for name in self.pathway_names(site.population, site.top):
            pathway = site.feedback(name)
            credit, changes, losses[name] = self._pathway_credit(site, pathway, step, strength)
            feedback += changes
            total = credit if total is None else total + credit
        return Credit(total, feedback=feedback, losses=losses, silent=strength == 0)

    def _pathway_credit(
        self, site: Site, pathway: FeedbackPathway, step: Transitions, strength: Tensor
    ) -> tuple[Tensor, list[tuple[Pathway, Update]], Tensor]:
        """Return credit on the activity, changes of B and loss for one prediction pathway; add |gamma| to ``strength``."""
        context, traced = site.context(pathway, step.online)
        prediction = pathway.apical(context)
        response = pathway.at_dendrite(site.activity)
        target = response[step.partner]
        landed = response[step.landing]
        u_fixation = (target * prediction).sum(1)
        u_saccade = (landed * prediction).sum(2)
        losses, gamma_fixation, gamma_saccade = self.judge(u_fixation, u_saccade, step, traced)
        dendrite = torch.zeros_like(response).index_add_(0, step.partner, gamma_fixation[:, None] * prediction)
        dendrite.index_add_(0, step.landing.flatten(), (gamma_saccade[..., None] * prediction).flatten(0, 1))
        strength.index_add_(0, step.partner, gamma_fixation.abs().to(strength))
        strength.index_add_(0, step.landing.flatten(), gamma_saccade.abs().flatten().to(strength))
        postsynaptic = gamma_fixation[:, None] * target + (gamma_saccade[..., None] * landed).sum(0)
        learning = site.worth_selecting((gamma_fixation != 0) | (gamma_saccade != 0).any(0))
        if learning is None:
            changes = pathway.changes(context, postsynaptic)
        else:
            changes = pathway.changes(context[learning], postsynaptic[learning] * (len(learning) / site.rows))
        return pathway.to_soma(dendrite), changes, losses.mean()

    def judge(
        self, u_fixation: Tensor, u_saccade: Tensor, step: Transitions, traced: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss per context row and gamma of the fixation (rows,) and of each saccade (landings, rows)."""
        stay, jump = step.gains(u_fixation.dtype, traced)
        landings = len(u_saccade)
        if self.contrast == "phyll":
            if step.online or step.fixation_gain is not step.saccade_gain:
                raise EventError(
                    "contrast 'phyll' compares a fixation with a saccade of the same moment: both must be there"
                )
            excess = self.steepness * (u_saccade.mean(0) - u_fixation)
            losses = torch.logaddexp(excess, torch.zeros_like(excess))
            gamma = self.steepness * excess.sigmoid()
            if stay is not None:
                losses, gamma = losses * stay, gamma * stay
            return losses, gamma, (-gamma / landings).expand(landings, -1)
        f = CONTRASTS[self.contrast]
        fixation_loss, gamma_fixation = f.loss(u_fixation), f.gamma(u_fixation)
        saccade_loss, gamma_saccade = f.loss(-u_saccade).mean(0), -f.gamma(-u_saccade) / landings
        if stay is not None:
            fixation_loss, gamma_fixation = fixation_loss * stay, gamma_fixation * stay
        if jump is not None:
            saccade_loss, gamma_saccade = saccade_loss * jump, gamma_saccade * jump
        return fixation_loss + saccade_loss, gamma_fixation, gamma_saccade
