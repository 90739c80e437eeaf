"""Projections: pathways with their weights, which conduct and change.

    somatic     drive of the soma ``W x + b``, Hebbian change ``mean over rows of somatic_credit_j x_i``
    apical      input of the dendrite ``B s``, change ``mean over rows of apical_credit_j s_i``
    mirror      credit transported from the soma of a feedforward target back to its source, through weights of its own

Rules are handed projections where they may use them (`neurossl.plasticity.locality`); the forms of prediction with fewer
weights are in `engine.predictions`.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.engine import kernels
from neurossl.engine.execution import Execution, Means
from neurossl.engine.pooling import pooled, unpooled
from neurossl.engine.products import LIBRARIES, linear
from neurossl.engine.updates import OuterProduct, Update
from neurossl.engine.weights import Parameters, Weights
from neurossl.errors import NetworkError


class Held(Protocol):
    """Weights, and how they are computed with; `neurossl.Circuit` is one."""

    weights: Weights
    execution: Execution
    frozen: Collection[str]

    def __getitem__(self, pathway: str) -> Projection[Any]:
        """Return a pathway with its weights."""


SomePathway = TypeVar("SomePathway", bound=Pathway)


class Projection(Generic[SomePathway]):
    """A pathway with its weights.

    Attributes
    ----------
    pathway : Pathway
        Its anatomy.
    name : str
    """

    def __init__(self, pathway: SomePathway, circuit: Held) -> None:
        self.pathway = pathway
        self.name = pathway.name
        self._circuit = circuit
        self._products = circuit.execution.products
        self._rounded: tuple[tuple[int, int], Tensor] | None = None

    @property
    def parameters(self) -> Parameters:
        """Weights and bias."""
        return self._circuit.weights[self.name]

    @property
    def weight(self) -> Tensor:
        """Weights (post, pre, ...)."""
        return self.parameters.weight

    @property
    def bias(self) -> Tensor | None:
        """Bias (post,), where there is one."""
        return self.parameters.bias

    @property
    def plastic(self) -> bool:
        """Whether rules may change it now."""
        return self.pathway.plastic and self.name not in self._circuit.frozen

    @property
    def means(self) -> Means:
        """How it is computed."""
        return self._circuit.execution.of(self.name)

    @property
    def operand(self) -> Tensor:
        """Weights in the number type of the products; rounded anew when they have changed."""
        weight = self.weight
        if self._products is None or self._products == weight.dtype:
            return weight
        version = self._circuit.weights.version(self.name)
        if self._rounded is None or self._rounded[0] != version:
            room = None if self._rounded is None else self._rounded[1]
            rounded = weight.to(self._products) if room is None else room.copy_(weight)
            self._rounded = version, rounded
        return self._rounded[1]

    def factor(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the number type of the products."""
        return tensor if self._products is None else tensor.to(self._products)

    def no_update(self) -> Update:
        """Return an update that is 0 everywhere."""
        return Update(*(torch.zeros_like(parameter) for parameter in self.parameters.present))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pathway!r})"


class SomaticProjection(Projection[FeedforwardPathway]):
    """A feedforward pathway with its weights."""

    def presynaptic(self, activity: Tensor) -> Tensor:
        """Return what the synapses see of the activity of ``pre``, (rows, *pre shape)."""
        if self.pathway.normalisation is None:
            return activity
        centred, scale = self._normal_terms(activity)
        seen = centred / scale
        return seen.view(len(activity), 2, *seen.shape[1:]).sum(1) if self._is_doubled else seen

    @property
    def _is_doubled(self) -> bool:
        return self.pathway.normalisation == "doubled"

    def _parts(self, activity: Tensor) -> Tensor:
        """Return the activity with one row for every part that is normalised by itself: a row, or each of its halves."""
        if not self._is_doubled:
            return activity
        rows, size, *rest = activity.shape
        return activity.reshape(2 * rows, size // 2, *rest)

    def _normal_terms(self, activity: Tensor) -> tuple[Tensor, Tensor]:
        axes = tuple(range(1, activity.ndim))
        parts = self._parts(activity).to(self.weight.dtype)
        if self.pathway.normalisation in ("standard", "doubled"):
            parts = parts - parts.mean(axes, keepdim=True)
        return parts, parts.square().mean(axes, keepdim=True).sqrt() + 1e-8

    def drive(self, presynaptic: Tensor) -> Tensor:
        """Return the somatic drive that the pathway adds, (rows, *post neurons)."""
        bias = None if self.bias is None else self.factor(self.bias)
        drive = kernels.drive(self.pathway.connectivity, self.factor(presynaptic), self.operand, bias, self.means)
        neurons = self.pathway.post_neurons
        if drive.shape[1:] == neurons:
            return drive
        if drive[0].numel() != prod(neurons):
            kind = type(self.pathway.connectivity).__name__
            raise NetworkError(
                f"pathway {self.name!r}: {kind}.drive() must give {neurons} per row, got {tuple(drive.shape[1:])}"
            )
        return drive.view(-1, *neurons)

    def hebbian(self, presynaptic: Tensor, somatic_credit: Tensor) -> Update:
        """Return the update ``mean over rows of somatic_credit_j x_i``.

        Parameters
        ----------
        presynaptic : Tensor, (rows, *pre shape)
        somatic_credit : Tensor, (rows, *post neurons)
        """
        factors = self.factor(presynaptic), self.factor(somatic_credit), self.operand
        return kernels.hebbian(self.pathway.connectivity, *factors, self.pathway.has_bias, self.means)

    def transpose(self, somatic_credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on the activity of ``pre`` through the transposed weights (weight transport).

        Parameters
        ----------
        somatic_credit : Tensor, (rows, *post neurons)
        activity : Tensor, (rows, *pre shape)
            Activity of ``pre``, for its shape and for the slope of the normalisation.
        """
        somatic = self.factor(somatic_credit)
        credit = kernels.transpose(self.pathway.connectivity, somatic, self.as_seen(activity), self.operand, self.means)
        return self.unnormalised(credit, activity)

    def as_seen(self, activity: Tensor) -> Tensor:
        """Return something with the shape of what the synapses see of an activity of ``pre``."""
        return activity[:, : activity.shape[1] // 2] if self._is_doubled else activity

    def transposed_onto(
        self, base: Tensor, somatic_credit: Tensor, activity: Tensor, factor: float, overwrite: bool = False
    ) -> Tensor:
        """Return ``base``, which may be overwritten, plus a factor times what `transpose` returns, (rows, *pre shape)."""
        if self.pathway.normalisation is None:
            somatic = self.factor(somatic_credit)
            overwrite = overwrite and not self._circuit.execution.mapped
            return kernels.transposed_onto(
                self.pathway.connectivity, base, somatic, activity, self.operand, factor, overwrite, self.means
            )
        return base + factor * self.transpose(somatic_credit, activity)

    def unnormalised(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on what the synapses see as credit on the activity, (rows, *pre shape)."""
        if self.pathway.normalisation is None:
            return credit
        centred, scale = self._normal_terms(activity)
        if self._is_doubled:  # both halves see the same synapses
            credit = credit.repeat_interleave(2, 0)
        axes = tuple(range(1, activity.ndim))
        root = scale - 1e-8
        along = (credit * centred).mean(axes, keepdim=True) / (root * scale).clamp(min=torch.finfo(root.dtype).tiny)
        credit = (credit - centred * along) / scale
        if self.pathway.normalisation != "length":
            credit = credit - credit.mean(axes, keepdim=True)
        return credit.reshape(activity.shape)


class ApicalProjection(Projection[FeedbackPathway]):
    """A feedback or lateral pathway with its weights B, (target values, source values)."""

    is_dense = True
    """Whether the apical input is the product of the weights with the signal, and nothing else."""

    @property
    def is_lateral(self) -> bool:
        """Whether source and target are the same population."""
        return self.pathway.is_lateral

    def signal(self, activity: Tensor) -> Tensor:
        """Return what the pathway carries of an activity of its source, pooled: (rows, source values)."""
        return pooled(activity, self.pathway.source_pool).to(self.weight.dtype)

    def error_signal(self, credit: Tensor) -> Tensor:
        """Return what the pathway carries of credit on its source: the sum over each pooled cell, (rows, source values)."""
        pool = self.pathway.source_pool
        mean = pooled(credit, pool).to(self.weight.dtype)
        if credit.ndim == 2 or pool in (None, 1):
            return mean
        area = credit.shape[2] * credit.shape[3] if pool == "global" else int(pool) ** 2
        return mean * area

    def apical(self, signal: Tensor) -> Tensor:
        """Return the apical input ``B s``: (rows, target values)."""
        return linear(self.factor(signal), self.operand, library=self.means.matrices).to(self.weight.dtype)

    def at_dendrite(self, activity: Tensor) -> Tensor:
        """Return the activity of the target as its apical compartment sees it, pooled: (rows, target values)."""
        return pooled(activity, self.pathway.target_pool).to(self.weight.dtype)

    def to_soma(self, apical: Tensor) -> Tensor:
        """Return credit on the pooled activity of the target as credit on its activity: (rows, *target shape)."""
        return unpooled(self.factor(apical), self.pathway.target_shape, self.pathway.target_pool)

    def delivered(self, signal: Tensor) -> Tensor:
        """Return `to_soma` of `apical`: the credit that a signal is on the activity of the target, (rows, *target shape)."""
        shape = self.pathway.target_shape
        everywhere = len(shape) == 3 and self.pathway.weight_shape[0] == prod(shape)
        if not (everywhere and self.is_dense) or self._products is not None or signal.device.type != "cpu":
            return self.to_soma(self.apical(signal))
        # The credit is to lie channels last, as the activity that it meets.
        if self.means.matrices != LIBRARIES[0]:
            return self.to_soma(self.apical(signal)).contiguous(memory_format=torch.channels_last)
        # One product per place: its weights fit the cache. Slower with bfloat16, and than one by another library.
        channels, height, width = shape
        onto_places = self.weight.view(channels, height * width, -1).permute(1, 2, 0)
        credit = torch.bmm(signal.expand(height * width, -1, -1), onto_places)
        return credit.permute(1, 2, 0).reshape(-1, *shape)

    def hebbian(self, signal: Tensor, apical_credit: Tensor) -> Update:
        """Return ``mean over rows of apical_credit_j s_i``.

        Parameters
        ----------
        signal : Tensor, (rows, source values)
        apical_credit : Tensor, (rows, target values)
        """
        share = self.factor(apical_credit / max(1, len(signal)))
        return OuterProduct(share, self.factor(signal), None, self.means.matrices)

    def changes(self, signal: Tensor, apical_credit: Tensor) -> list[tuple[str, Update]]:
        """Return the updates of every plastic set of weights that the pathway consists of; see `hebbian`."""
        return [(self.name, self.hebbian(signal, apical_credit))] if self.plastic else []


class MirrorProjection(Projection[MirrorPathway]):
    """A mirror pathway with its weights, (below, above, ...)."""

    @property
    def _forward(self) -> SomaticProjection:
        forward = self._circuit[self.pathway.forward_name]
        assert isinstance(forward, SomaticProjection), "a mirror is of a feedforward pathway"
        return forward

    def apical(self, somatic_credit: Tensor, activity: Tensor, signed: bool = False) -> Tensor:
        """Return credit transported, (rows, *below shape).

        Parameters
        ----------
        somatic_credit : Tensor, (rows, *above neurons)
        activity : Tensor, (rows, *below shape)
            For its shape and the slope of the normalisation.
        signed : bool
            Whether the weights take the signs of the feedforward ones.
        """
        forward = self._forward
        weight = self.operand.transpose(0, 1).contiguous()
        if signed:
            weight = weight.abs() * forward.operand.sign()
        somatic = self.factor(somatic_credit)
        credit = kernels.transpose(forward.pathway.connectivity, somatic, forward.as_seen(activity), weight, self.means)
        return forward.unnormalised(credit, activity)

    def hebbian(self, presynaptic: Tensor, somatic_credit: Tensor) -> Update:
        """Return the feedforward update, transposed: both sets of weights see the same pair of activities."""
        update = self._forward.hebbian(presynaptic, somatic_credit)
        return Update(update.weight.transpose(0, 1).contiguous())
