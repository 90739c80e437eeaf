"""Feedback and lateral pathways ``source=>target`` into the apical compartment.

A `FeedbackPathway` carries a signal ``s`` of its source (an activity, the trace of one, or an error) to the dendrites of
its target, ``B s``. Both ends may be pooled over space: a score or a dendritic prediction then exists per cell of the
pooled map ("2D spatial dependence"), or once per channel (global pooling). `MirrorPathway` has the connectivity of a
feedforward pathway, reversed.
"""

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.anatomy.shapes import Pool, Shape, plain_pool, pooled_shape
from neurossl.errors import NetworkError

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network


class FeedbackPathway(Pathway):
    """Synapses onto the apical compartment: ``source=>target``, dense between the (pooled) ends.

    Parameters
    ----------
    source, target : str
        Names of populations; a lateral pathway has the same twice.
    source_pool, target_pool : int, "global" or None
        Averaging over space before the pathway and at the dendrite; None keeps every location.
    plastic : bool
    init : str
        As for feedforward pathways.
    label : str
        Distinguishes several pathways between the same populations: ``source=>target:label``.

    Attributes
    ----------
    weight_shape : (target values, source values)
        Of B.
    needs : frozenset of str
        What its synapses need beyond their own two activities, in words of `neurossl.plasticity.NEEDS`.

    Notes
    -----
    `neurossl.anatomy.prediction` has forms with fewer weights.
    """

    kind = "feedback"
    arrow = "=>"
    in_blocks = True
    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        source: str,
        target: str,
        *,
        source_pool: Pool = None,
        target_pool: Pool = None,
        plastic: bool = True,
        init: str = "uniform",
        label: str = "",
    ) -> None:
        super().__init__(source, target, plastic=plastic, bias=False, init=init, label=label)
        self.source_pool = plain_pool(source_pool)
        self.target_pool = plain_pool(target_pool)
        self.source_shape: Shape = ()
        self.target_shape: Shape = ()

    @property
    def is_lateral(self) -> bool:
        """Whether source and target are the same population."""
        return self.pre == self.post

    def shape_in(self, network: "Network") -> Shape:
        """Return (target values, source values)."""
        self.source_shape, self.target_shape = network.populations[self.pre].shape, network.populations[self.post].shape
        try:
            return (
                prod(pooled_shape(self.target_shape, self.target_pool)),
                prod(pooled_shape(self.source_shape, self.source_pool)),
            )
        except ValueError as reason:
            raise NetworkError(f"pathway {self.name!r}: {reason}") from None

    def signs(self, network: "Network") -> np.ndarray | None:
        """Return the sign of every synapse by that of its presynaptic neuron."""
        signs = network.populations[self.pre].signs
        if signs is None:
            return None
        values = np.repeat(signs, prod(pooled_shape(self.source_shape, self.source_pool)[1:]))
        return values.reshape(1, -1, *[1] * (len(self.weight_shape) - 2))

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        pools = {"source_pool": self.source_pool, "target_pool": self.target_pool}
        return {**super().describe(), **{name: pool for name, pool in pools.items() if pool is not None}}


class MirrorPathway(Pathway):
    """A feedback pathway with the connectivity of a feedforward pathway, reversed, and weights of its own.

    It carries what arrives at the soma of the feedforward target back to the feedforward source: feedback alignment and
    predictive coding with learned feedback. The mirror of a fixed one-to-one pathway is fixed and one-to-one, too: that much
    is known from the anatomy, without any transport of weights.

    Parameters
    ----------
    forward : FeedforwardPathway or str
        The pathway ``below->above`` that it mirrors; its own name is ``above=>below``.
    plastic : bool
    init : str

    Attributes
    ----------
    weight_shape : (below, above, ...)
        Transposed in its first two axes with respect to the feedforward weights.
    """

    kind = "mirror"
    arrow = "=>"

    def __init__(self, forward: FeedforwardPathway, *, plastic: bool = False, init: str = "uniform") -> None:
        if forward.init == "identity" and not forward.plastic:
            plastic, init = False, "identity"
        super().__init__(forward.post, forward.pre, plastic=plastic, bias=False, init=init, label=forward.label)
        self.forward_name = forward.name

    def forward(self, network: "Network") -> FeedforwardPathway:
        """Return the pathway that it mirrors."""
        forward = network.pathways.get(self.forward_name)
        if not isinstance(forward, FeedforwardPathway):
            raise NetworkError(f"pathway {self.name!r} mirrors {self.forward_name!r}: add that to the network first")
        return forward

    def shape_in(self, network: "Network") -> Shape:
        """Return the shape of the feedforward weights with its first two axes swapped."""
        forward = self.forward(network)
        if len(forward.dims) != len(forward.weight_shape) or forward.dims[1] != "pre":
            raise NetworkError(
                f"pathway {self.name!r}: {forward.connectivity!r} has no mirror; expected Dense, Convolution or Mixing"
            )
        above, below, *kernel = forward.weight_shape
        return (below, above, *kernel)

    def signs(self, network: "Network") -> np.ndarray | None:
        """Return the sign of every synapse by that of its presynaptic neuron, above; a one-to-one pathway is as it is."""
        above = network.populations[self.pre]
        if above.signs is None or self.init == "identity":
            return None
        return self.signs_of(self.forward(network).connectivity, above.signs, above.neurons)

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the pathway."""
        return {**super().describe(), "mirrors": self.forward_name}
