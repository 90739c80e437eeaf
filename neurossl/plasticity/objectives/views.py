"""Two views of many observers: what an objective reads from statistics over them.

z and z', (n, units), are the responses of a population to both views of n objects; a map is averaged over space. An
objective says a loss of all of them and its slopes; the credit of a row is minus the slope, times the number of rows of the
moment (of which the engine takes the mean), times the gain of its neuromodulator. Both views receive credit, so that the
first response is held until the second is there.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.shapes import Pool
from neurossl.checks import is_finite
from neurossl.engine.pooling import pooled, unpooled
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation, Moment
from neurossl.plasticity.credit import Credit, learning_gain, per_row
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, exact

Slopes = tuple[Tensor, Tensor, Tensor]
"""A loss, (), and its slopes with the responses to both views, (observers, units) each."""


def pairs_of_views(moment: Moment, rows: int, by: str) -> tuple[Tensor, Tensor]:
    """Return the rows that show every object first and those that show it again, (observers,) each.

    Raises
    ------
    EventError
        If the moment has no pairs, or fewer than two of them.
    """
    partner = moment.require(Fixation, by=by).partner
    if partner is None:
        raise EventError(f"{by} compares many observers at once: it needs Fixation.partner (a batched moment)")
    row = torch.arange(rows, device=partner.device)
    first = row[row < partner]
    if len(first) < 2:
        raise EventError(
            f"{by} compares every observer with others, but the moment has {len(first)}: raise observers to 2 or more"
        )
    return first, partner[first]


class TwoViews(Objective):
    """Base of objectives that a population's responses to both views of all observers decide."""

    needs = frozenset({"lateral context", "other observers", "activity held"})

    @abstractmethod
    def slopes(self, one: Tensor, two: Tensor) -> Slopes:
        """Return the loss, and its slopes with both responses, (observers, units) each."""

    def pool(self, network: Network, population: str) -> Pool:
        """Return global pooling for maps."""
        return "global" if len(network.populations[population].shape) == 3 else None

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return minus the slopes, times the gain of every row."""
        first, second = pairs_of_views(moment, site.rows, self.name)
        z = exact(site.activity)
        pool: Pool = "global" if z.ndim == 4 else None
        response = pooled(z, pool)
        loss, one, two = self.slopes(response[first], response[second])
        slope = torch.zeros_like(response).index_add_(0, first, one).index_add_(0, second, two)
        credit = unpooled(-site.rows * slope, tuple(z.shape[1:]), pool)
        gain = learning_gain(moment)
        return Credit(credit if gain is None else credit * per_row(gain, credit), losses={"loss": loss})


def together(one: Tensor, two: Tensor, pull: float, spread: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Slopes:
    """Return loss and slopes of ``pull * mean of (z - z')^2`` and of a term of each view by itself.

    Parameters
    ----------
    one, two : Tensor, (observers, units)
    pull : float
    spread : callable
        Returns the term of one view, and its slope.
    """
    apart = one - two
    pulled = 2 * pull * apart / apart.numel()
    (loss, slope), (other_loss, other_slope) = spread(one), spread(two)
    return pull * apart.square().mean() + loss + other_loss, pulled + slope, other_slope - pulled


def centred(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return responses without their mean over observers, and their covariance (divided by observers - 1)."""
    z = z - z.mean(0)
    return z, z.T @ z / (len(z) - 1)


def without_diagonal(matrix: Tensor) -> Tensor:
    """Return a square matrix with 0 on its diagonal."""
    return matrix - matrix.diagonal().diag()


def weight_of(value: float, what: str) -> float:
    """Return the weight of a term.

    Raises
    ------
    OptionError
        If it is no finite number >= 0.
    """
    if not is_finite(value) or value < 0:
        raise OptionError(f"{what}: expected a finite number >= 0, got {value!r}")
    return float(value)
