"""Feedback and lateral pathways ``source=>target`` into the apical compartment.

A `FeedbackPathway` carries a signal ``s`` of its source (an activity, the trace of one, or an error) to the dendrites of
its target, ``B s``. Both ends may be pooled over space: a score or a dendritic prediction then exists per cell of the
pooled map ("2D spatial dependence"), or once per channel (global pooling). `MirrorPathway` has the connectivity of a
feedforward pathway, reversed.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import NetworkError
from neurossl.pathways import FeedforwardPathway, Pathway
from neurossl.populations import Population, Shape
from neurossl.updates import OuterProduct, Update

Pool = int | str | None


def pooled_shape(shape: Shape, pool: Pool) -> Shape:
    """Return the shape of an activity of this shape after score pooling.

    Raises
    ------
    ValueError
        If the kernel leaves no cell.
    """
    if pool is None or len(shape) == 1:
        return shape
    if pool == "global":
        return shape[:1]
    if not isinstance(pool, int) or pool < 1:
        raise ValueError(f"pool must be a kernel size, 'global' or None, got {pool!r}")
    cells = shape[0], shape[1] // pool, shape[2] // pool
    if min(cells) < 1:
        raise ValueError(f"a pooling kernel of {pool} leaves no cell of a map {shape}")
    return cells


def pooled(activity: Tensor, pool: Pool) -> Tensor:
    """Return the average over cells of kernel = stride = pool, flattened (channels, cells): (rows, values)."""
    if pool is None or activity.ndim == 2 or pool == 1:
        return activity.flatten(1)
    if pool == "global":
        return activity.mean((2, 3))
    return F.avg_pool2d(activity, int(pool)).flatten(1)


def unpooled(credit: Tensor, shape: Shape, pool: Pool, summed: bool = False) -> Tensor:
    """Return credit on the pooled values as credit on the activity, (rows, *shape).

    Neurons in the remainder at the border get none.

    Parameters
    ----------
    credit : Tensor, (rows, values)
    shape : tuple of int
    pool : int, "global" or None
    summed : bool
        The transpose of a sum over each cell instead of an average.
    """
    rows = len(credit)
    if pool is None or len(shape) == 1 or pool == 1:
        return credit.view(rows, *shape)
    channels, height, width = shape
    kernel_y, kernel_x = (height, width) if pool == "global" else (int(pool), int(pool))
    cells = credit if summed else credit / (kernel_y * kernel_x)
    high, wide = height // kernel_y, width // kernel_x
    # Built channels last in memory, as the activity is that it meets.
    cells = cells.view(rows, channels, high, wide).permute(0, 2, 3, 1)
    spread = cells[:, :, None, :, None].expand(rows, high, kernel_y, wide, kernel_x, channels)
    spread = spread.reshape(rows, high * kernel_y, wide * kernel_x, channels).permute(0, 3, 1, 2)
    if spread.shape[2:] == shape[1:]:
        return spread
    return F.pad(spread, (0, width - spread.shape[3], 0, height - spread.shape[2]))


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
    weight : Tensor, (target values, source values)
        B.
    needs : frozenset of str
        What its synapses need beyond their own two activities, in words of `neurossl.plasticity.locality.NEEDS`.
    is_dense : bool
        Whether the apical input is the product of the weights with the signal, and nothing else.

    Notes
    -----
    `neurossl.prediction` has forms with fewer weights.
    """

    kind = "feedback"
    arrow = "=>"
    needs: frozenset[str] = frozenset()
    is_dense = True

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
        self.source_pool = source_pool
        self.target_pool = target_pool
        self._target_shape: Shape = ()

    @property
    def is_lateral(self) -> bool:
        """Whether source and target are the same population."""
        return self.pre == self.post

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights."""
        try:
            self.weight_shape = (
                prod(pooled_shape(post.shape, self.target_pool)),
                prod(pooled_shape(pre.shape, self.source_pool)),
            )
        except ValueError as reason:
            raise NetworkError(f"pathway {self.name!r}: {reason}") from None
        self._target_shape = post.shape

    def signal(self, activity: Tensor) -> Tensor:
        """Return what the pathway carries of an activity of its source, pooled: (rows, source values)."""
        return pooled(activity, self.source_pool).to(self.weight.dtype)

    def error_signal(self, credit: Tensor) -> Tensor:
        """Return what the pathway carries of credit on its source: the sum over each pooled cell, (rows, source values)."""
        mean = pooled(credit, self.source_pool).to(self.weight.dtype)
        if credit.ndim == 2 or self.source_pool in (None, 1):
            return mean
        area = credit.shape[2] * credit.shape[3] if self.source_pool == "global" else int(self.source_pool) ** 2
        return mean * area

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input ``B s``: (rows, target values)."""
        return (self.factor(signal) @ self.operand.T).to(self.weight.dtype)

    def at_dendrite(self, activity: Tensor) -> Tensor:
        """Return the activity of the target as its apical compartment sees it, pooled: (rows, target values)."""
        return pooled(activity, self.target_pool).to(self.weight.dtype)

    def to_soma(self, apical: Tensor) -> Tensor:
        """Return credit on the pooled activity of the target as credit on its activity: (rows, *target shape)."""
        return unpooled(self.factor(apical), self._target_shape, self.target_pool)

    def delivered(self, signal: Tensor) -> Tensor:
        """Return `to_soma` of `apical`: the credit that a signal is on the activity of the target, (rows, *target shape)."""
        everywhere = len(self._target_shape) == 3 and self.weight_shape[0] == prod(self._target_shape)
        if not (everywhere and self.is_dense) or self.products is not None or signal.device.type != "cpu":
            return self.to_soma(self.apical(signal))
        # One product per place: its weights fit the cache, and the credit lies channels last, as the activity that it meets.
        # Slower with bfloat16.
        channels, height, width = self._target_shape
        onto_places = self.weight.view(channels, height * width, -1).permute(1, 2, 0)
        credit = torch.bmm(signal.expand(height * width, -1, -1), onto_places)
        return credit.permute(1, 2, 0).reshape(-1, *self._target_shape)

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j s_i``.

        Parameters
        ----------
        signal : Tensor, (rows, source values)
        apical_credit : Tensor, (rows, target values)
        """
        return OuterProduct(self.factor(apical_credit / max(1, len(signal))), self.factor(signal))

    def changes(self, signal: Tensor, apical_credit: Tensor) -> list[tuple[Pathway, Update]]:
        """Return the updates of every plastic set of weights that the pathway consists of; see `hebbian`."""
        return [(self, self.hebbian(signal, apical_credit))] if self.plastic else []


class MirrorPathway(Pathway):
    """A feedback pathway with the connectivity of a feedforward pathway, reversed, and weights of its own.

    It carries what arrives at the soma of the feedforward target back to the feedforward source: feedback alignment and
    predictive coding with learned feedback. The mirror of a fixed one-to-one pathway is fixed and one-to-one, too: that much
    is known from the anatomy, without any transport of weights.

    Parameters
    ----------
    forward : FeedforwardPathway
        The pathway ``below->above`` that it mirrors; its own name is ``above=>below``.
    plastic : bool
    init : str

    Attributes
    ----------
    weight : Tensor, (below, above, ...)
        Transposed in its first two axes with respect to the feedforward weights.
    """

    kind = "feedback"
    arrow = "=>"

    def __init__(self, forward: FeedforwardPathway, *, plastic: bool = False, init: str = "uniform") -> None:
        if forward.init == "identity" and not forward.plastic:
            plastic, init = False, "identity"
        super().__init__(forward.post, forward.pre, plastic=plastic, bias=False, init=init)
        self.forward_name = forward.name
        self._forward = forward

    def join(self, pre: Population, post: Population) -> None:
        """Fix the shape of the weights: that of the feedforward pathway with its first two axes swapped."""
        above, below, *kernel = self._forward.weight_shape
        self.weight_shape = (below, above, *kernel)

    def apical(self, somatic_credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit carried down, (rows, *below shape).

        Parameters
        ----------
        somatic_credit : Tensor, (rows, *above neurons)
        activity : Tensor, (rows, *below shape)
            For its shape and the slope of the normalisation.
        """
        credit = self._forward.connectivity.transpose(
            self.factor(somatic_credit), activity, self.operand.transpose(0, 1).contiguous()
        )
        return self._forward.unnormalised(credit, activity)

    def hebbian(self, presynaptic: Tensor, somatic_credit: Tensor) -> Update:
        """Return the feedforward update, transposed: both sets of weights see the same pair of activities."""
        update = self._forward.hebbian(presynaptic, somatic_credit)
        return Update(update.weight.transpose(0, 1).contiguous())
