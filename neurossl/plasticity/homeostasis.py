"""What keeps a population in its working range, after the update of its synapses (``Synapses(after=[...])``)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neurossl.anatomy.connectivity import Mixing
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.checks import is_finite
from neurossl.engine.weights import Parameters
from neurossl.errors import OptionError


@dataclass(frozen=True)
class WeightNormalisation:
    """Multiplicative scaling of all synapses onto a neuron, so that their weights have one norm (Oja; Turrigiano 2008).

    Parameters
    ----------
    norm : float
        Euclidean norm of the incoming weights of a pathway, per postsynaptic neuron.
    """

    norm: float = 1.0

    def __post_init__(self) -> None:
        if not is_finite(self.norm) or not self.norm > 0:
            raise OptionError(f"WeightNormalisation: norm must be > 0, got {self.norm}")

    def __call__(self, pathway: Pathway, parameters: Parameters, activity: Tensor | None) -> None:
        """Scale the weights of a feedforward pathway in place; leave others."""
        if isinstance(pathway, FeedforwardPathway):
            flat = parameters.weight.flatten(1)
            tiny = torch.finfo(flat.dtype).tiny
            scale = self.norm / flat.norm(dim=1).clamp(min=tiny)
            parameters.weight.mul_(scale.view(-1, *[1] * (parameters.weight.ndim - 1)))


@dataclass(frozen=True)
class Homeostasis:
    """Intrinsic plasticity: the bias of a neuron that is too quiet grows, that of one too active shrinks.

    ``b_j += rate * (target - mean over observers of z_j)``, for every pathway onto a population that has biases.

    Parameters
    ----------
    target : float
        Activity.
    rate : float
        Per moment.
    """

    target: float
    rate: float = 1e-2

    def __post_init__(self) -> None:
        if not is_finite(self.target) or not is_finite(self.rate) or self.rate < 0:
            raise OptionError(f"Homeostasis: expected a target and a rate >= 0, got {self.target!r} and {self.rate!r}")

    def __call__(self, pathway: Pathway, parameters: Parameters, activity: Tensor | None) -> None:
        """Change the biases of a feedforward pathway in place; leave others."""
        bias = parameters.bias
        if bias is None or activity is None or not isinstance(pathway, FeedforwardPathway):
            return
        mean = activity.mean(0)
        if mean.ndim == 3 and isinstance(pathway.connectivity, Mixing):  # one bias per place
            mean = mean.mean(0)
        elif mean.ndim == 3 and bias.numel() != mean.numel():  # one bias per channel
            mean = mean.mean((1, 2))
        if mean.numel() != bias.numel():
            raise OptionError(
                f"Homeostasis of {pathway.name!r}: {bias.numel()} biases do not fit an activity of {tuple(mean.shape)}: "
                "leave it out there, Synapses(pathways={...: {'after': []}})"
            )
        bias.add_((self.target - mean.flatten()).to(bias), alpha=self.rate)
