"""Prediction weights B that are optimal for one moment, and the weights that theory says they should be.

The predictions onto a population minimise its own loss, ``mean over contexts of f(u_fixation) + f(-u_saccade)``, plus
``decay/2 ||B||^2``. They are there when the change that the rule proposes is ``decay B``: when

    B = 1 / (rows decay) * sum over transitions of  gamma(u) z outer c        u = z . B c

so that B is known as soon as one number per transition, the neuromodulator gamma, is known.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.projections import ApicalProjection
from neurossl.engine.responses import respond
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade
from neurossl.plasticity import Contrastive, Objective, Site
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.objectives.scores import CONTRASTS


class OneWay(Contrastive):
    """A contrastive objective for the transitions that end in one half of the rows, with prediction weights of its own.

    Parameters
    ----------
    into : {"first", "second"}
        The half in which fixations and saccades land: rows before their partners, or after them. It labels the pathways.
    **options
        As for `Contrastive`.
    """

    def __init__(self, into: str, **options: Any) -> None:
        super().__init__(**options)
        self.into = into
        self.options = options

    def at_top(self) -> "OneWay":
        """Return the score of the top with its own context, on the same prediction pathway."""
        return OneWay(self.into, **{**self.options, "context": "lateral"})

    def pathway_names(self, population: str, top: str) -> list[str]:
        """Return the prediction pathways onto a population, with the half as their label."""
        return [f"{name}:{self.into}" for name in super().pathway_names(population, top)]

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return what the transitions into this half say; at the others the neuromodulator is silent."""
        fixations, saccades = (gain.to(site.activity.dtype) for gain in self.gains(moment))
        return super().credit(site, moment.with_events(Neuromodulation(fixations, saccades)))

    def gains(self, moment: Moment) -> tuple[Tensor, Tensor]:
        """Return from which context rows fixations, and saccades, end in this half, each (rows,) of bool.

        Raises
        ------
        EventError
            If the moment has no partners, or not one negative per row.
        """
        partner, negatives = self._targets(moment)
        mine = (torch.arange(len(partner), device=partner.device) < partner) == (self.into == "first")
        return mine[partner], mine[negatives]

    def pairs(self, site: Site, pathway: ApicalProjection, moment: Moment) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the transitions into this half join: first the fixations, then the saccades.

        Returns
        -------
        targets : Tensor, (transitions, target values)
        contexts : Tensor, (transitions, source values)
        sign : Tensor, (transitions,)
            Of the neuromodulator: 1 for fixations, -1 for saccades.
        """
        (partner, negatives), (fixations, saccades) = self._targets(moment), self.gains(moment)
        response, signal = pathway.at_dendrite(site.activity), site.context(pathway, online=False)[0]
        targets = response[torch.cat([partner[fixations], negatives[saccades]])]
        ones = targets.new_ones(len(partner))
        return targets, torch.cat([signal[fixations], signal[saccades]]), torch.cat([ones[fixations], -ones[saccades]])

    def _targets(self, moment: Moment) -> tuple[Tensor, Tensor]:
        """Return on which rows the fixation and the saccade from every row land, each (rows,)."""
        partner = moment.require(Fixation, by=self.name).partner
        negatives = moment.require(Saccade, by=self.name).negatives
        if partner is None or negatives is None or negatives.shape != (1, len(partner)):
            raise EventError(f"{self.name}: expected a batched moment with one negative per context row")
        return partner, negatives[0]


class BothWays(Objective):
    """A contrastive objective with one set of prediction weights for each direction between the halves of the rows.

    What is predicted lies in one of the halves, and that half decides which weights predict it, after fixations and after
    saccades: the two projections of the published theory code of Wu et al. 2026 (arXiv 2601.21683).

    Parameters
    ----------
    **options
        As for `Contrastive`.
    """

    def __init__(self, **options: Any) -> None:
        self.ways = tuple(OneWay(into, **options) for into in ("first", "second"))
        self.options = options
        self.name = f"{self.ways[0].name}, both ways"
        self.needs = self.ways[0].needs
        self.awaits = (Fixation, Saccade)

    def at_top(self) -> "BothWays":
        """Return the scores of the top with its own context, on the same prediction pathways."""
        return BothWays(**{**self.options, "context": "lateral"})

    def wire(self, network: Network, population: str) -> None:
        """Add the prediction pathways that are missing."""
        for way in self.ways:
            way.wire(network, population)

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the sum of what both ways say."""
        first, second = (way.credit(site, moment) for way in self.ways)
        assert first.activity is not None, "contrastive objectives give credit on the activity"
        assert second.activity is not None, "contrastive objectives give credit on the activity"
        changes, losses = first.feedback + second.feedback, {**first.losses, **second.losses}
        silent = None if first.silent is None or second.silent is None else first.silent & second.silent
        return Credit(first.activity + second.activity, feedback=changes, losses=losses, silent=silent)


@dataclass(frozen=True)
class Fit:
    """How far prediction weights are from their optimum.

    Attributes
    ----------
    loss : float
        Of the transitions that they predict, without the weight decay.
    residual : float
        ``||decay B - update|| / (decay ||B||)`` with the update that the rule proposes. The distance of B from the optimum,
        relative to the size of B, cannot exceed it: the loss is convex in B, so that the sum of loss and decay is strongly
        convex with constant ``decay``.
    steps : int
    """

    loss: float
    residual: float
    steps: int


@torch.no_grad()
def fit(way: OneWay, site: Site, moment: Moment, decay: float, tolerance: float = 1e-10, steps: int = 100) -> Fit:
    """Set the prediction weights of one way to their optimum for a moment.

    Newton's method with a line search on the coefficients of the sum over transitions; with a linear f its first step is the
    closed form ``update / decay``. Where the weights were before does not matter.

    Parameters
    ----------
    way : OneWay
        With a smooth f: softplus or linear.
    site : Site
        Of the population onto which they predict.
    moment : Moment
    decay : float
        lambda of the theory.
    tolerance : float
        Of the residual; the search also ends when rounding hides all progress.
    steps : int
        At most.

    Raises
    ------
    OptionError
        If f has a kink.
    """
    if way.contrast not in ("softplus", "linear"):
        raise OptionError(f"optimal predictions: expected a smooth contrast, softplus or linear, got {way.contrast!r}")
    f = CONTRASTS[way.contrast]
    ((found, _),) = way.credit(site, moment).feedback
    pathway = site.feedback(found)
    targets, contexts, sign = way.pairs(site, pathway, moment)
    overlap = (targets @ targets.T) * (contexts @ contexts.T)
    coefficients = torch.zeros_like(sign)

    def objective(of: Tensor) -> float:
        u = overlap @ of
        return float(f.loss(sign * u).sum() / site.rows + decay / 2 * of @ u)

    done, value = 0, objective(coefficients)
    while done < steps:
        u = overlap @ coefficients
        gamma, slope = sign * f.gamma(sign * u), f.bend(sign * u)
        error = decay * coefficients - gamma / site.rows
        size = float(coefficients @ u)
        if size > 0 and float(error @ overlap @ error) <= (tolerance * decay) ** 2 * size:
            break
        curvature = decay * torch.eye(len(u), dtype=u.dtype, device=u.device) - slope[:, None] / site.rows * overlap
        step = torch.linalg.solve(curvature, error)
        expected, length = float(error @ overlap @ step), 1.0
        while (after := objective(coefficients - length * step)) > value - 1e-4 * length * expected and length > 1e-8:
            length /= 2
        # Where rounding hides the descent, the full step is still the best guess.
        hidden = expected <= 1e-13 * abs(value)
        if not hidden and length <= 1e-8:
            break
        coefficients = coefficients - (1.0 if hidden else length) * step
        done, value = done + 1, after
    pathway.weight.copy_((coefficients[:, None] * targets).T @ contexts)
    credit = way.credit(site, moment)
    ((_, update),) = credit.feedback
    size = float(pathway.weight.norm())
    residual = float((decay * pathway.weight - update.weight).norm()) / (decay * size) if size else math.inf
    return Fit(float(credit.loss), residual, done)


@torch.no_grad()
def transport(objective: BothWays, circuit: Circuit, population: str) -> None:
    """Set the prediction weights onto a population to those that carry the prediction of the top down to it.

    With Q the linear map from the population to the (pooled) top, ``B = Q^T B_top Q`` for a lateral context, or
    ``Q^T B_top`` for that of the top, gives every transition the score that it has at the top, ``z . B c =
    (Q z) . B_top (Q c)``, hence the same neuromodulator, hence the credit ``gamma Q^T B_top Q c`` that backprop carries
    down: for any f, widths and weights.

    Parameters
    ----------
    objective : BothWays
        Without pooling at this population.
    circuit : Circuit
        Of a chain of linear populations without biases.
    population : str
    """
    network = circuit.network
    for way in objective.ways:
        onto, top = (circuit[name] for p in (population, network.top) for name in way.pathway_names(p, network.top))
        assert isinstance(onto, ApicalProjection), "a prediction pathway"
        assert isinstance(top, ApicalProjection), "a prediction pathway"
        if onto.name != top.name:
            down = top.at_dendrite(_transported_up(circuit, population))
            onto.weight.copy_(down @ top.weight @ down.T if onto.is_lateral else down @ top.weight)


def _transported_up(circuit: Circuit, population: str) -> Tensor:
    """Return how the top responds to every single value of a population, (values, *top shape)."""
    network, weights = circuit.network, circuit.weights
    size, shape = network.populations[population].size, network.populations[population].shape
    response = torch.eye(size, device=weights.device, dtype=weights.dtype).view(size, *shape)
    for above in network.order[network.order.index(population) + 1 :]:
        (projection,) = circuit.incoming(above)
        response = respond(network.populations[above], projection.drive(projection.presynaptic(response))).activity
    return response
