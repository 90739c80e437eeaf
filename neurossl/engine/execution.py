"""How a circuit is computed, as opposed to what: number type of the products, silent rows, buffers."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Execution:
    """Choices of the engine that change no result but by rounding.

    Parameters
    ----------
    products : torch.dtype, optional
        Number type of the products with the weights and of the activities (bfloat16); that of the weights by default.
    mapped : bool
        Whether the functions are mapped over replicas (`torch.func.vmap`): no rows are selected by their numbers, nothing
        is overwritten, and no value is read.
    """

    products: torch.dtype | None = None
    mapped: bool = False
