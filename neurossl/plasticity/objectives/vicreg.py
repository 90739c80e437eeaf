"""VICReg: invariance between two views, variance and covariance over observers (Bardes et al. 2022)."""

from torch import Tensor

from neurossl.plasticity.objectives.views import Slopes, TwoViews, centred, together, weight_of, without_diagonal


class VICReg(TwoViews):
    """VICReg (arXiv 2105.04906), at every population or the top.

    With var and C the variance and covariance over the n observers of a view (divided by n - 1) and d neurons,

        loss = invariance * mean over observers and neurons of (z - z')^2
             + variance * 1/2 sum over views of mean_i max(0, 1 - sqrt(var_i + 1e-4))
             + covariance * sum over views of sum_{i != j} C_ij^2 / d

    and credit is minus its slope; the gain of a row's neuromodulator multiplies the credit of the row, not the loss.

    Parameters
    ----------
    invariance, variance, covariance : float
        Weights of the three terms, as published by default.
    """

    name = "VICReg"
    short_name = "VICReg"

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        self.invariance = weight_of(invariance, "VICReg: invariance")
        self.variance = weight_of(variance, "VICReg: variance")
        self.covariance = weight_of(covariance, "VICReg: covariance")

    def slopes(self, one: Tensor, two: Tensor) -> Slopes:
        """Return the three terms and their slopes, the last two view by view."""
        return together(one, two, self.invariance, self._spread)

    def _spread(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the variance and covariance terms of one view, and their slope."""
        z, c = centred(z)
        n, d = z.shape
        std, between = (c.diagonal() + 1e-4).sqrt(), without_diagonal(c)
        lacking = (1 - std).clamp(min=0)
        loss = self.variance / 2 * lacking.mean() + self.covariance * between.square().sum() / d
        of_variance = -self.variance / (2 * d) * z * (lacking > 0) / std
        return loss, (of_variance + 4 * self.covariance / d * (z @ between)) / (n - 1)
