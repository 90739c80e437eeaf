"""Goodness: what a population is to have a lot of awake and little of asleep (forward-forward, PhyLL, SCFF)."""

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.checks import is_finite, one_of
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.events import Fixation, Moment, Phase
from neurossl.plasticity.credit import Credit, learning_gain, per_row
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, exact, weighted_mean

KEPT = 0.1
"""How much of a running mean of peers is that of the present moment."""


class Goodness(Objective):
    """Forward-forward: high sum of squares awake, low asleep (Hinton 2022, arXiv 2212.13345).

    With goodness ``g = sum_j z_j^2`` and threshold theta, the loss of a row is ``log(1 + exp(theta - g))`` awake and
    ``log(1 + exp(g - theta))`` asleep; the neuromodulator ``sigmoid(theta - g)`` or ``-sigmoid(g - theta)``; the dendrite
    the cell's own activity, ``2 z_j``.

    Peer normalisation keeps units of a population equally active awake (the reproduction of loeweX): with a running mean
    ``m_j <- 0.9 m_j + 0.1 (mean awake of z_j)``, 0.5 at first, the loss also has ``peers * mean_j (mean_k m_k - m_j)^2``,
    and the gate is open for silent units as well, so that they can come back.

    Parameters
    ----------
    threshold : float, optional
        By default the number of units that are summed over; 1 with the mean.
    goodness : {"sum", "mean"}
        Of squares: the sum (Hinton's code), or the mean (what several reproductions take, with a threshold of 2).
    peers : float
        Strength of peer normalisation (published 0.03); for dense populations.
    paired : bool
        In the spirit of PhyLL (Momeni et al. 2023): no threshold; ``softplus(steepness (g_asleep - g_awake))`` of paired
        rows with mean goodness, so that one scalar has to be computed from both phases. PhyLL itself compares with a fixed
        random projection; its contrast on the score of CLAPP, as in Wu et al. 2026, is the rule ``clapp-phyll``.
    steepness : float
        Of the paired form.
    """

    name = "goodness"
    short_name = "goodness"
    needs = frozenset({"neuromodulator", "phases"})
    awaits = (Fixation, Phase)
    normalisation = "length"

    def __init__(
        self,
        threshold: float | None = None,
        paired: bool = False,
        steepness: float = 1.0,
        goodness: str = "sum",
        peers: float = 0.0,
    ) -> None:
        one_of(goodness, ("sum", "mean"), "goodness")
        if not is_finite(peers) or peers < 0:
            raise OptionError(f"Goodness: expected peers >= 0, got {peers!r}")
        self.threshold = threshold
        self.paired = paired
        self.steepness = steepness
        self.is_mean = goodness == "mean" or paired
        self.peers = float(peers)
        if paired:
            self.name = "paired goodness"
            if threshold is not None:
                raise OptionError("Goodness: the paired form has no threshold")
        elif self.is_mean:
            self.name = "mean goodness"
        if self.peers:
            self.state = {"habit": "population"}
            self.needs = self.needs | {"other observers"}
            self.name += ", peers"

    def check(self, network: Network, population: str) -> None:
        """Refuse peer normalisation of maps, whose neurons are peers of others at other places.

        Raises
        ------
        NetworkError
        """
        if self.peers and len(network.populations[population].neurons) != 1:
            raise NetworkError(f"objective {self.name!r} at {population!r}: peers are for dense populations: leave them out")

    def factors(self, site: Site, moment: Moment) -> list[Factors]:
        """Return the neuromodulator, and the own activity at the dendrite."""
        gamma, _, _ = self._judge_rows(site, moment)
        return [Factors(gamma, 2 * exact(site.activity))]

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return ``gamma 2 z``."""
        gamma, losses, goodness = self._judge_rows(site, moment)
        z = exact(site.activity)
        loss = weighted_mean(losses, learning_gain(moment))
        signals = {"gamma": gamma, "dendrite": 2 * z, "goodness": goodness}
        credit = 2 * per_row(gamma, z) * z
        if not self.peers:
            return Credit(credit, losses={"loss": loss}, signals=signals)
        awake = (moment.require(Phase, by=f"objective {self.name!r}").sign > 0).to(z)
        share = KEPT / awake.sum().clamp(min=1)
        begun = 0.5  # what a rule remembers begins at 0
        habit = (1 - KEPT) * (site.state["habit"] + begun) + share * (awake @ z)
        unlike = habit - habit.mean()
        pull = -self.peers * (2 / z.shape[1]) * share * len(z) * awake[:, None] * unlike
        losses_of = {"loss": loss, "peers": self.peers * unlike.square().mean()}
        return Credit(somatic=credit + pull, losses=losses_of, state={"habit": habit - begun}, signals=signals)

    def _judge_rows(self, site: Site, moment: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """Return the neuromodulator, the loss before any gain, and the goodness of every row."""
        z = exact(site.activity)
        sign = moment.require(Phase, by=f"objective {self.name!r}").sign.to(z.dtype)
        if len(sign) != len(z):
            raise EventError(f"Phase.sign: expected one per row ({len(z)}), got {len(sign)}")
        gain = learning_gain(moment)
        units = z[0].numel()
        goodness = z.flatten(1).square().sum(1)
        if self.is_mean:
            goodness = goodness / units
        if self.paired:
            gamma, losses = self._paired(goodness, sign)
        else:
            usual = 1 if self.is_mean else units
            margin = sign * ((usual if self.threshold is None else self.threshold) - goodness)
            losses = torch.logaddexp(margin, torch.zeros_like(margin))
            gamma = sign * margin.sigmoid()
        gamma = gamma / units if self.is_mean else gamma
        return (gamma if gain is None else gamma * gain), losses, goodness

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

    The retina holds two images, twice the same awake, two different ones asleep. Each is standardised, then the drives that
    they cause through the same synapses are added (`FeedforwardPathway`, normalisation "doubled"): standardised after they
    were added, they would look alike awake and asleep. Populations above see the response as it is, standardised.

    ``g(p) = mean over channels of max(0, a(p))^2``, scored before pooling and whatever the transfer function. Loss:
    ``mean_p softplus(theta_awake - g)`` awake, ``mean_p softplus(g - theta_asleep)`` asleep, each averaged over its own
    phase, plus ``penalty * ||g||`` of the rows awake.

    Parameters
    ----------
    thresholds : (float, float)
        Awake and asleep.
    penalty : float

    Notes
    -----
    The published code adds the bias once per half, here it counts once. It standardises unpadded halves, and what lies
    around them again after padding, with n - 1 in the deviation. Its first two layers are these; for the third it joins the
    responses to different images anew.
    """

    name = "goodness per location"
    short_name = "goodness"
    needs = frozenset({"neuromodulator", "phases"})
    awaits = (Fixation, Phase)
    normalisation = "doubled"

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
        loss = weighted_mean(losses, weight)
        somatic = gamma * (2 / channels) * response
        signals = {"gamma": gamma.flatten(1), "dendrite": response * (2 / channels), "goodness": goodness}
        return Credit(somatic=somatic, losses={"loss": loss}, signals=signals)
