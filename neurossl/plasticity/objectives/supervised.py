"""Supervised objectives: the activity of the top says the class.

cross-entropy    -log softmax(z)[label]        dendrite  onehot - softmax(z)
squared error    1/2 ||onehot - z||^2          dendrite  onehot - z
"""

from abc import abstractmethod

from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.errors import EventError, NetworkError
from neurossl.events import Fixation, Moment, Teaching
from neurossl.plasticity.credit import Credit, learning_gain, per_row
from neurossl.plasticity.factors import Factors
from neurossl.plasticity.locality import Site
from neurossl.plasticity.objectives.base import Objective, exact, weighted_mean


class _Supervised(Objective):
    """Base of the objectives that compare the top with the label."""

    short_name = "supervised"
    needs = frozenset({"target"})
    awaits = (Fixation, Teaching)

    def check(self, network: Network, population: str) -> None:
        """Refuse a top whose units cannot be class scores.

        Raises
        ------
        NetworkError
            If they are rectified: they could not say of a class that it is not there.
        """
        neurons = network.populations[population]
        if len(neurons.shape) != 1:
            raise NetworkError(
                f"objective {self.name!r} at {population!r}: its units are to be class scores, but it is a map "
                f"{neurons.shape}: add a readout, for example classes=10"
            )
        if neurons.transfer.name in ("relu", "triangle", "softplus"):
            raise NetworkError(
                f"objective {self.name!r} at {population!r}: rectified units are no class scores: give the network a linear "
                "readout, for example classes=10"
            )

    @abstractmethod
    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return error and loss per row, (rows, units) and (rows,), of outputs and one-hot targets."""

    def judge_rows(self, output: Tensor, moment: Moment, where: str) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return error, losses and gain of class scores, (rows, classes), that stand somewhere."""
        teaching = moment.require(Teaching, by=f"objective {self.name!r}")
        if teaching.labels.ndim != 1 or len(teaching.labels) != len(output):
            raise EventError(f"Teaching.labels: expected one per row ({len(output)}), got {tuple(teaching.labels.shape)}")
        target = teaching.one_hot(output.shape[1], where).to(output.dtype)
        error, losses = self.judge(output, target)
        return error, losses, learning_gain(moment)

    def factors(self, site: Site, moment: Moment) -> list[Factors]:
        """Return the error at the dendrite; the neuromodulator is the gain."""
        error, losses, gain = self.judge_rows(exact(site.activity).flatten(1), moment, site.population)
        gamma = losses.new_ones(len(losses)) if gain is None else gain.to(losses)
        return [Factors(gamma, error.view(site.activity.shape))]

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the error."""
        error, losses, gain = self.judge_rows(exact(site.activity).flatten(1), moment, site.population)
        error = error.view(site.activity.shape)
        scaled = error if gain is None else error * per_row(gain, error)
        return Credit(scaled, losses={"loss": weighted_mean(losses, gain)}, signals={"error": error})


class CrossEntropy(_Supervised):
    """``-log softmax(z)[label]``; credit ``onehot - softmax(z)``."""

    name = "cross-entropy"

    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error of the softmax, and the loss."""
        log_probability = output.log_softmax(1)
        return target - log_probability.exp(), -(log_probability * target).sum(1)


class SquaredError(_Supervised):
    """``1/2 ||onehot - z||^2``; credit ``onehot - z``."""

    name = "squared-error"

    def judge(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residual, and the loss."""
        residual = target - output
        return residual, residual.square().sum(1) / 2
