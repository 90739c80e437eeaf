"""CLAPP's prediction, score and neuromodulator: the one place where they are computed.

prediction   p = B c                      from the context c, at the dendrite
score        u = z . p                    of a response z
loss         f(u) after a fixation, mean over negatives of f(-u) after saccades
gamma        -d loss / d u
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl.engine.projections import ApicalProjection


class Contrast(NamedTuple):
    """A decreasing function of the score, minus its slope, and the slope of that.

    Attributes
    ----------
    loss : callable
        f(u).
    gamma : callable
        -f'(u): the neuromodulator of a fixation.
    bend : callable
        -f''(u): its slope with the score.
    """

    loss: Callable[[Tensor], Tensor]
    gamma: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]


CONTRASTS: dict[str, Contrast] = {
    "hinge": Contrast(lambda u: (1 - u).clamp(min=0), lambda u: (u < 1).to(u.dtype), torch.zeros_like),
    "softplus": Contrast(
        lambda u: torch.logaddexp(1 - u, torch.zeros_like(u)),
        lambda u: (1 - u).sigmoid(),
        lambda u: -(1 - u).sigmoid() * (u - 1).sigmoid(),
    ),
    "linear": Contrast(lambda u: -u, torch.ones_like, torch.zeros_like),
}
"""f(u): hinge ``max(0, 1-u)`` (slope 0 at the margin), softplus ``log(1+exp(1-u))``, linear ``-u``."""


def prediction(projection: ApicalProjection, context: Tensor) -> Tensor:
    """Return the dendritic prediction ``B c``, (rows, target values), of a context (rows, source values)."""
    return projection.apical(context)


def score(response: Tensor, predicted: Tensor) -> Tensor:
    """Return ``u = z . p``, the sum over the last axis."""
    return (response * predicted).sum(-1)


class Judgement(NamedTuple):
    """What the scores of a moment lead to.

    Attributes
    ----------
    losses : Tensor, (rows,)
        Per context row.
    gamma_fixation : Tensor, (rows,)
    gamma_saccade : Tensor, (negatives, rows)
    """

    losses: Tensor
    gamma_fixation: Tensor
    gamma_saccade: Tensor


def judge(
    contrast: str, u_fixation: Tensor, u_saccade: Tensor, stay: Tensor | None, jump: Tensor | None, steepness: float = 1.0
) -> Judgement:
    """Return loss and neuromodulator of the scores of a fixation and of the saccades from the same context.

    Parameters
    ----------
    contrast : str
        One of `CONTRASTS`, or "phyll": ``softplus(steepness (mean u_saccade - u_fixation))``.
    u_fixation : Tensor, (rows,)
    u_saccade : Tensor, (negatives, rows)
    stay, jump : Tensor, (rows,), or None
        Gains of the fixation and of the saccades; 1 where None.
    steepness : float
        Of phyll.
    """
    negatives = len(u_saccade)
    if contrast == "phyll":
        excess = steepness * (u_saccade.mean(0) - u_fixation)
        losses = torch.logaddexp(excess, torch.zeros_like(excess))
        gamma = steepness * excess.sigmoid()
        if stay is not None:
            losses, gamma = losses * stay, gamma * stay
        return Judgement(losses, gamma, (-gamma / negatives).expand(negatives, -1))
    f = CONTRASTS[contrast]
    fixation_loss, gamma_fixation = f.loss(u_fixation), f.gamma(u_fixation)
    saccade_loss, gamma_saccade = f.loss(-u_saccade).mean(0), -f.gamma(-u_saccade) / negatives
    if stay is not None:
        fixation_loss, gamma_fixation = fixation_loss * stay, gamma_fixation * stay
    if jump is not None:
        saccade_loss, gamma_saccade = saccade_loss * jump, gamma_saccade * jump
    return Judgement(fixation_loss + saccade_loss, gamma_fixation, gamma_saccade)
