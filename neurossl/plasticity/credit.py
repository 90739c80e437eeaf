"""Credit: what a rule says to one population, and on the way to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from neurossl.engine.updates import Update
from neurossl.events import Moment, Neuromodulation


@dataclass
class Credit:
    """What an objective or a transport says to one population.

    Attributes
    ----------
    activity : Tensor, (rows, *population shape), optional
        Credit on the activity, ``sum of gamma * dendrite``: minus the derivative of the summed loss, so that the Hebbian
        mean over rows gives the ascent direction of the mean loss.
    somatic : Tensor, (rows, *neurons), optional
        The same at the soma, when it has already gone through pooling and gate.
    feedback : list of (name of a pathway, update)
        Changes of the feedback pathways that took part.
    losses : dict of str to Tensor
        Mean loss, per part (one per feedback pathway, or "loss").
    silent : Tensor of bool, (rows,), optional
        Rows whose credit is known to be 0: their neuromodulator is shut.
    decay : Tensor, (rows, post), (post,) or (), optional
        Heterosynaptic depression: what is subtracted of every incoming weight, as a fraction of it (Oja: ``z_j^2``). One per
        row is averaged over rows, as all credit is.
    synaptic : mapping of str to Tensor, (rows, *shape of the weights)
        Updates of incoming pathways that are no product of two activities of this moment, such as eligibility traces; their
        mean over rows is added to the Hebbian update.
    rates : mapping of str to Tensor, (post,)
        How plastic the synapses of every neuron are, by incoming pathway: a factor of all that changes its weights and its
        bias; 1 where left out.
    state : mapping of str to Tensor
        New values of the rule's own state at this population (`Rule.state`).
    signals : dict of str to Tensor
        What was computed on the way and may be recorded by name: score, gamma, dendrite, error.
    """

    activity: Tensor | None = None
    somatic: Tensor | None = None
    feedback: list[tuple[str, Update]] = field(default_factory=list)
    losses: dict[str, Tensor] = field(default_factory=dict)
    silent: Tensor | None = None
    decay: Tensor | None = None
    synaptic: Mapping[str, Tensor] = field(default_factory=dict)
    rates: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor | Mapping[str, Tensor]] = field(default_factory=dict)
    signals: dict[str, Tensor] = field(default_factory=dict)

    def gained(self, gain: Tensor | None) -> "Credit":
        """Return the credit of every row times a gain, (rows,): what a neuromodulator does."""
        if gain is None:
            return self
        activity, somatic = (t if t is None else t * per_row(gain, t) for t in (self.activity, self.somatic))
        decay = self.decay
        if decay is not None:
            decay = decay * (per_row(gain, decay) if decay.ndim == 2 else gain.mean().to(decay.dtype))
        synaptic = {name: t * per_row(gain, t) for name, t in self.synaptic.items()}
        return replace(self, activity=activity, somatic=somatic, decay=decay, synaptic=synaptic)

    @property
    def loss(self) -> Tensor:
        """Sum of the parts."""
        return sum(self.losses.values())  # type: ignore[return-value]


def learning_gain(moment: Moment) -> Tensor | None:
    """Return the neuromodulatory gain per row, or None for 1 everywhere.

    It scales what any rule says; a rule that does not declare the neuromodulator itself need not see it for that, and the
    stored run says that there was one.
    """
    event = Moment.get(moment, Neuromodulation)
    return None if event is None else event.gain


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per row so that it multiplies a tensor (rows, ...)."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
