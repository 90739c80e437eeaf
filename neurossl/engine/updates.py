"""Updates: what a rule proposes to add to the weights of a pathway."""

import torch
from torch import Tensor

from neurossl.engine.products import outer


class Update:
    """A proposed change, an ascent direction: what is to be added to the weights, before the learning rate.

    Parameters
    ----------
    weight : Tensor, (post, pre, ...)
    bias : Tensor, (post,), optional
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight: Tensor | None = weight
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """Change of the weights, (post, pre, ...)."""
        assert self._weight is not None, "given when made"
        return self._weight

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """Change of the weights and, where there is one, of the bias."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def rows(self, first: int, last: int, rooms: dict[torch.dtype, Tensor]) -> Tensor:
        """Return the change of the synapses onto some postsynaptic neurons; valid until ``rooms`` are used again."""
        return self.weight[first:last]

    def scaled(self, factor: float) -> "Update":
        """Return the update times a factor."""
        if factor == 1:
            return self
        return Update(self.weight * factor, None if self.bias is None else self.bias * factor)

    def plus(self, other: "Update") -> "Update":
        """Return the sum of two updates of one pathway."""
        known = [bias for bias in (self.bias, other.bias) if bias is not None]
        bias = sum(known[1:], known[0]) if known else None
        return Update(self.weight + other.weight, bias)

    def __repr__(self) -> str:
        return f"Update({tuple(self.weight.shape)}{'' if self.bias is None else ' + bias'})"


def room_for(neurons: int, presynaptic: Tensor, rooms: dict[torch.dtype, Tensor]) -> Tensor:
    """Return room for the change of all synapses onto some neurons, (neurons, presynaptic values), used again and again."""
    size = neurons * presynaptic.shape[-1]
    room = rooms.get(presynaptic.dtype)
    if room is None or len(room) < size or room.device != presynaptic.device:
        room = rooms[presynaptic.dtype] = presynaptic.new_empty(size)
    return room[:size].view(neurons, -1)


class OuterProduct(Update):
    """The Hebbian change of dense synapses, ``sum over rows of post_j pre_i``, computed when and as far as it is needed.

    Large matrices are so changed a block of neurons at a time, without the memory of a whole update.

    Parameters
    ----------
    postsynaptic : Tensor, (rows, post)
    presynaptic : Tensor, (rows, pre)
    bias : Tensor, (post,), optional
    library : str
        What computes the product (`engine.products`).
    """

    def __init__(self, postsynaptic: Tensor, presynaptic: Tensor, bias: Tensor | None = None, library: str = "blas") -> None:
        self._weight = None
        self._library = library
        self._factors = postsynaptic, presynaptic
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """Change of the weights, (post, pre)."""
        if self._weight is None:
            self._weight = outer(*self._factors, self._library)
        return self._weight

    def rows(self, first: int, last: int, rooms: dict[torch.dtype, Tensor]) -> Tensor:
        """Return the change of the synapses onto some postsynaptic neurons; valid until ``rooms`` are used again."""
        if self._weight is not None:
            return self._weight[first:last]
        postsynaptic, presynaptic = self._factors
        room = room_for(last - first, presynaptic, rooms)
        return outer(postsynaptic[:, first:last], presynaptic, self._library, room)

    def scaled(self, factor: float) -> Update:
        """Return the update times a factor."""
        if factor == 1:
            return self
        postsynaptic, presynaptic = self._factors
        bias = None if self.bias is None else self.bias * factor
        return OuterProduct(postsynaptic * factor, presynaptic, bias, self._library)
