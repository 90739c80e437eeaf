"""Latent predictive learning: predict the previous response, vary, do not repeat each other (Halvagal & Zenke 2023)."""

from torch import Tensor

from neurossl.plasticity.objectives.views import Slopes, TwoViews, centred, together, weight_of, without_diagonal


class LatentPrediction(TwoViews):
    """LPL (Nature Neuroscience 2023; code and erratum of fmi-basel/latent-predictive-learning), at every population.

    With var and C the variance and covariance over the n observers of a view (divided by n - 1) and M neurons,

        loss = pull * mean over observers and neurons of (z - z')^2
             + push * 1/2 sum over views of -mean_i log(var_i + 1e-4)
             + decorrelation * 1/2 sum over views of sum_{i != k} C_ik^2 / (M^2 - M)

        credit on z = -2 pull / (M n) (z - z') + push (z - mean z) / ((var + 1e-4) (n - 1) M)
                    - 2 decorrelation / ((n - 1)(M^2 - M)) sum_{k != i} C_ik (z_k - mean z_k)

    and the same for z': a predictive, a Hebbian and a decorrelating term, as in the code, where both views receive credit.
    The gain of a row's neuromodulator multiplies the credit of the row, not the loss.

    Parameters
    ----------
    pull, push, decorrelation : float
        Weights of the three terms, as published by default.
    """

    name = "latent prediction"
    short_name = "LPL"

    def __init__(self, pull: float = 1.0, push: float = 1.0, decorrelation: float = 10.0) -> None:
        self.pull = weight_of(pull, "LPL: pull")
        self.push = weight_of(push, "LPL: push")
        self.decorrelation = weight_of(decorrelation, "LPL: decorrelation")

    def slopes(self, one: Tensor, two: Tensor) -> Slopes:
        """Return the three terms and their slopes, the last two view by view."""
        return together(one, two, self.pull, self._spread)

    def _spread(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Hebbian and the decorrelating term of one view, and their slope."""
        z, c = centred(z)
        n, units = z.shape
        variance, between, pairs = c.diagonal() + 1e-4, without_diagonal(c), max(1, units * (units - 1))
        loss = -self.push / 2 * variance.log().mean() + self.decorrelation / 2 * between.square().sum() / pairs
        hebbian, shared = self.push * z / (variance * units), 2 * self.decorrelation * (z @ between) / pairs
        return loss, (shared - hebbian) / (n - 1)
