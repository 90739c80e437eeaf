"""Barlow Twins: every neuron correlates with itself between two views, and with no other (Zbontar et al. 2021)."""

from torch import Tensor

from neurossl.plasticity.objectives.views import Slopes, TwoViews, weight_of, without_diagonal


class BarlowTwins(TwoViews):
    """Barlow Twins (arXiv 2103.03230), at every population (by blocks: Siddiqui et al. 2023, arXiv 2302.01647) or the top.

    With s the responses standardised over the n observers of their view and the cross-correlation ``C = s^T s' / n``,

        loss = sum_i (1 - C_ii)^2 + redundancy * sum_{i != j} C_ij^2

    and credit is minus its slope, through the standardisation as well; the gain of a row's neuromodulator multiplies the
    credit of the row, not the loss.

    Parameters
    ----------
    redundancy : float
        Weight of the correlations between neurons.

    Notes
    -----
    The variance is biased and 1e-5 is added to it, as in the batch normalisation of the published code: a neuron that is
    the same for all observers receives credit 0.
    """

    name = "Barlow Twins"
    short_name = "Barlow"

    def __init__(self, redundancy: float = 0.005) -> None:
        self.redundancy = weight_of(redundancy, "Barlow Twins: redundancy")

    def slopes(self, one: Tensor, two: Tensor) -> Slopes:
        """Return ``dL/dz = (g - mean g - s mean(g s)) / std`` of both views, with g = dL/ds."""
        (s, std), (t, other_std) = _standardised(one), _standardised(two)
        correlation = s.T @ t / len(s)
        between = without_diagonal(correlation)
        missing = 1 - correlation.diagonal()
        loss = missing.square().sum() + self.redundancy * between.square().sum()
        excess = 2 * (self.redundancy * between - missing.diag()) / len(s)
        return loss, _through(t @ excess.T, s, std), _through(s @ excess, t, other_std)


def _standardised(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return responses with mean 0 and variance 1 over observers, and by what they were divided, (units,)."""
    std = (z.var(0, unbiased=False) + 1e-5).sqrt()
    return (z - z.mean(0)) / std, std


def _through(slope: Tensor, s: Tensor, std: Tensor) -> Tensor:
    """Return the slope with standardised responses as that with the responses."""
    return (slope - slope.mean(0) - s * (slope * s).mean(0)) / std
