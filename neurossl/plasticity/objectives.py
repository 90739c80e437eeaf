"""What is good, at one population: the supervised objectives and goodness. The contrastive ones are in `contrastive`.

An objective turns the activity of a population into credit ``-d(sum of losses)/dz`` and into changes of the feedback
pathways that it uses. It may stand at every population (local rules) or at the top (DFA, predictive coding, backprop).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from neurossl.errors import EventError, OptionError
from neurossl.events import Event, Fixation, Moment, Phase, Teaching
from neurossl.feedback import Pool
from neurossl.network import Network
from neurossl.plasticity.locality import Site
from neurossl.plasticity.rule import Credit, learning_gain


class Objective(ABC):
    """Base of all objectives.

    Attributes
    ----------
    name : str
    needs : frozenset of str
        Words of `neurossl.plasticity.locality.NEEDS`.
    awaits : tuple of event types
    normalisation : str or None
        Presynaptic normalisation that the objective counts on, so that what it scores is not simply passed on.
    """

    name: str
    needs: frozenset[str] = frozenset()
    awaits: tuple[type[Event], ...] = (Fixation,)
    normalisation: str | None = None

    def wire(self, network: Network, population: str) -> None:  # noqa: B027 - most objectives use no pathway
        """Add the feedback pathways that the objective needs at a population and the network lacks."""

    def pool(self, network: Network, population: str) -> Pool:
        """Return how the activity of a population is pooled for the score."""
        return None

    def at_top(self) -> "Objective":
        """Return the form that the objective takes when it stands at the top alone (for transports and references)."""
        return self

    @abstractmethod
    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return credit, pathway updates and loss at a population; changes nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def weighted_mean(losses: Tensor, gain: Tensor | None) -> Tensor:
    """Return the mean over rows of gain times loss."""
    return losses.mean() if gain is None else (losses * gain).mean()


def exact(activity: Tensor) -> Tensor:
    """Return an activity in the precision of losses: float32 where the products are bfloat16."""
    return activity.float() if activity.dtype == torch.bfloat16 else activity


def _scaled(credit: Tensor, gain: Tensor | None) -> Tensor:
    return credit if gain is None else credit * gain.view(-1, *[1] * (credit.ndim - 1))


class _Supervised(Objective):
    """Base of the objectives that compare the top with the label."""

    needs = frozenset({"target"})
    awaits = (Fixation, Teaching)

    def _target(self, site: Site, moment: Moment) -> tuple[Tensor, Tensor]:
        """Return the activity as (rows, units) and the label as one-hot rows."""
        output = exact(site.activity).flatten(1)
        teaching = moment.require(Teaching, by=f"objective {self.name!r}")
        if len(teaching.labels) != len(output):
            raise EventError(f"Teaching.labels: expected one per row ({len(output)}), got {len(teaching.labels)}")
        return output, teaching.one_hot(output.shape[1], site.population).to(output.dtype)


class CrossEntropy(_Supervised):
    """``-log softmax(z)[label]``; credit ``onehot - softmax(z)``."""

    name = "cross-entropy"

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the error of the softmax."""
        output, target = self._target(site, moment)
        gain = learning_gain(moment)
        log_probability = output.log_softmax(1)
        loss = weighted_mean(-(log_probability * target).sum(1), gain)
        error = _scaled(target - log_probability.exp(), gain)
        return Credit(error.view(site.activity.shape), losses={"loss": loss})


class SquaredError(_Supervised):
    """``1/2 ||onehot - z||^2``; credit ``onehot - z``."""

    name = "squared-error"

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the residual."""
        output, target = self._target(site, moment)
        gain = learning_gain(moment)
        residual = target - output
        loss = weighted_mean(residual.square().sum(1) / 2, gain)
        return Credit(_scaled(residual, gain).view(site.activity.shape), losses={"loss": loss})


class Goodness(Objective):
    """Forward-forward: high sum of squares awake, low asleep (Hinton 2022, arXiv 2212.13345).

    With goodness ``g = sum_j z_j^2`` and threshold theta, the loss of a row is ``log(1 + exp(theta - g))`` awake and
    ``log(1 + exp(g - theta))`` asleep; the neuromodulator ``sigmoid(theta - g)`` or ``-sigmoid(g - theta)``; the dendrite
    the cell's own activity, ``2 z_j``.

    Parameters
    ----------
    threshold : float, optional
        By default the number of units that are summed over.
    paired : bool
        PhyLL (Momeni et al. 2023): no threshold; ``softplus(steepness (g_asleep - g_awake) / units)`` of paired rows, so
        that one scalar has to be computed from both phases.
    steepness : float
        Of the paired form.
    """

    name = "goodness"
    needs = frozenset({"neuromodulator", "phases"})
    awaits = (Fixation, Phase)
    normalisation = "length"

    def __init__(self, threshold: float | None = None, paired: bool = False, steepness: float = 1.0) -> None:
        self.threshold = threshold
        self.paired = paired
        self.steepness = steepness
        if paired:
            self.name = "paired goodness"
            if threshold is not None:
                raise OptionError("Goodness: the paired form has no threshold")

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return ``gamma 2 z``."""
        z = exact(site.activity)
        sign = moment.require(Phase, by=f"objective {self.name!r}").sign.to(z.dtype)
        if len(sign) != len(z):
            raise EventError(f"Phase.sign: expected one per row ({len(z)}), got {len(sign)}")
        gain = learning_gain(moment)
        units = z[0].numel()
        goodness = z.flatten(1).square().sum(1)
        if self.paired:
            gamma, losses = self._paired(goodness / units, sign)
            gamma = gamma / units
        else:
            margin = sign * ((units if self.threshold is None else self.threshold) - goodness)
            losses = torch.logaddexp(margin, torch.zeros_like(margin))
            gamma = sign * margin.sigmoid()
        if gain is not None:
            gamma = gamma * gain
        gamma = gamma.view(-1, *[1] * (z.ndim - 1))
        return Credit(2 * gamma * z, losses={"loss": weighted_mean(losses, gain)})

    def _paired(self, goodness: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """Return gamma and loss per row, for as many rows awake as asleep, in the same order."""
        awake, asleep = (sign > 0).nonzero()[:, 0], (sign < 0).nonzero()[:, 0]
        if len(awake) != len(asleep):
            raise EventError(f"paired goodness: expected as many rows awake as asleep, got {len(awake)} and {len(asleep)}")
        excess = self.steepness * (goodness[asleep] - goodness[awake])
        losses, gamma = torch.zeros_like(goodness), torch.zeros_like(goodness)
        # The mean is over pairs; a row's share of the mean over rows is therefore doubled.
        losses[awake] = 2 * torch.logaddexp(excess, torch.zeros_like(excess))
        gamma[awake] = 2 * self.steepness * excess.sigmoid()
        gamma[asleep] = -gamma[awake]
        return gamma, losses


class LocationGoodness(Objective):
    """SCFF: goodness at every location, two thresholds (Chen et al. 2025, arXiv 2409.11593).

    ``g(p) = mean over channels of max(0, a(p))^2``, scored before pooling and whatever the transfer function. Loss:
    ``mean_p softplus(theta_awake - g)`` awake, ``mean_p softplus(g - theta_asleep)`` asleep, each averaged over its own
    phase, plus ``penalty * ||g||`` of the rows awake.

    Parameters
    ----------
    thresholds : (float, float)
        Awake and asleep.
    penalty : float
    """

    name = "goodness per location"
    needs = frozenset({"neuromodulator", "phases"})
    awaits = (Fixation, Phase)
    normalisation = "standard"

    def __init__(self, thresholds: tuple[float, float] = (1.0, 2.0), penalty: float = 0.0) -> None:
        self.thresholds = thresholds
        self.penalty = penalty

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return credit at the soma, ``gamma(p) (2/C) max(0, a(p))``."""
        response = exact(site.drive).clamp(min=0)
        rows, channels = response.shape[:2]
        sign = moment.require(Phase, by=f"objective {self.name!r}").sign.to(response.dtype)
        gain = learning_gain(moment)
        goodness = response.square().mean(1).reshape(rows, -1)  # a dense population is one location
        locations = goodness.shape[1]
        awake = (sign > 0)[:, None]
        margin = torch.where(awake, self.thresholds[0] - goodness, goodness - self.thresholds[1])
        share = rows / torch.where(sign > 0, (sign > 0).sum(), (sign < 0).sum()).to(response.dtype)
        norm = goodness.norm(dim=1)
        losses = torch.logaddexp(margin, torch.zeros_like(margin)).mean(1) + self.penalty * norm * (sign > 0)
        gamma = torch.where(awake, margin.sigmoid(), -margin.sigmoid()) / locations
        tiny = torch.finfo(norm.dtype).tiny
        gamma = gamma - self.penalty * goodness * awake / norm.clamp(min=tiny)[:, None]
        weight = share if gain is None else share * gain
        gamma = (gamma * weight[:, None]).view(rows, 1, *response.shape[2:])
        return Credit(somatic=gamma * (2 / channels) * response, losses={"loss": weighted_mean(losses, weight)})
