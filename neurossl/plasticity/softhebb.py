"""SoftHebb: Hebbian learning with a soft winner that takes all (Journe et al., ICLR 2023; Moraitis et al. 2022)."""

import torch

from neurossl.anatomy.connectivity import Mixing
from neurossl.anatomy.network import Network
from neurossl.checks import is_finite
from neurossl.errors import NetworkError, OptionError
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Site
from neurossl.plasticity.rule import Rule


class SoftHebb(Rule):
    """The neuron that is driven most learns what it sees, all others learn to stay away from it.

    With the drive u_j(p) at place p, of P places, ``y = softmax over neurons of temperature * u``, and y~ = y of the neuron
    with the largest u, -y of the others,

        dW_j = r_j mean over rows of 1/P sum_p y~_j(p) (x(p) - u_j(p) W_j)      r_j = sqrt(| ||W_j|| - 1 |)
        db_j = r_j mean over rows of 1/P sum_p y~_j(p)                          (1 if not adaptive)

    x(p) is what the synapses see from there. The weights of a neuron grow towards norm 1, where learning stops.

    Parameters
    ----------
    temperature : float
        Factor t of the drive before the softmax (an inverse temperature): the larger, the harder the competition.
    adaptive : bool
        Whether learning slows down as the norm of a neuron's weights, those of one pathway, approaches 1.

    Raises
    ------
    OptionError
        If the temperature is no finite number > 0.

    Notes
    -----
    The competition is inhibition within the population, which counts as its own activity in the ledger. Published: each
    population after those below have learned, with a rate per layer; here all learn at once. In networks with places it
    needs shared weights (convolutions).
    """

    name = "softhebb"
    transport = "none: Hebbian"
    learns_along = True

    def __init__(self, temperature: float = 1.0, adaptive: bool = True) -> None:
        if not is_finite(temperature) or temperature <= 0:
            raise OptionError(f"SoftHebb: temperature must be a finite number > 0, got {temperature!r}")
        self.temperature = temperature
        self.adaptive = adaptive

    def wire(self, network: Network) -> Network:
        """Refuse weights that differ from place to place."""
        for name, pathway in network.feedforward.items():
            neurons = network.populations[pathway.post].neurons
            if pathway.plastic and (isinstance(pathway.connectivity, Mixing) or pathway.weight_shape[0] != neurons[0]):
                raise NetworkError(
                    f"rule 'softhebb': the weights of {name!r} differ from place to place of the map {pathway.post!r} "
                    f"{neurons}: make it a Convolution, or the population one without places"
                )
        return network

    def credit_at(self, site: Site, moment: Moment) -> Credit:
        """Return y~ / P at the soma, u y~ / P summed over places as the decay, and r for every pathway."""
        u = site.drive
        y = (self.temperature * u).softmax(1)
        neuron = torch.arange(u.shape[1], device=u.device).view(-1, *[1] * (u.ndim - 2))
        signed = torch.where(neuron == u.argmax(1, keepdim=True), y, -y) / u[0, 0].numel()
        decay = (signed * u).flatten(2).sum(2) if u.ndim > 2 else signed * u
        norms = {name: weight.flatten(1).norm(dim=1) for name, weight in site.weights.items()} if self.adaptive else {}
        rates = {name: (norm - 1).abs().sqrt() for name, norm in norms.items()}
        return Credit(somatic=signed, decay=decay, rates=rates, signals={"winning": y})
