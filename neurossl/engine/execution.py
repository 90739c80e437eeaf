"""How a circuit is computed, as opposed to what: number type of the products, libraries, kernels, silent rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from neurossl.engine.products import LIBRARIES
from neurossl.errors import OptionError

FORMS = ("last", "first", "product")
"""How a convolution is computed: by its kernel, with maps that lie channels last or channels first in memory, or as one
product of matrices over all places."""


class Means(NamedTuple):
    """How one pathway is computed.

    Attributes
    ----------
    matrices : str
        Library of the products of matrices, one of `LIBRARIES`.
    drive, change : str or None
        Form of the drive of a convolution and of the change of its weights, one of `FORMS`; by the size of the map where
        None.
    """

    matrices: str = "blas"
    drive: str | None = None
    change: str | None = None


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
    matrices : {"blas", "onednn"}
        Library of the products of matrices (`engine.products`).
    drive, change : {"last", "first", "product"} or mapping of str
        Form of the drive of convolutions and of the change of their weights: of all, or by name of the pathway; those that
        are not named go by the size of their map.

    Raises
    ------
    OptionError
        If a library or a form does not exist.
    """

    products: torch.dtype | None = None
    mapped: bool = False
    matrices: str = "blas"
    drive: str | Mapping[str, str] = field(default_factory=dict)
    change: str | Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.matrices not in LIBRARIES:
            raise OptionError(f"Execution.matrices: expected {' or '.join(LIBRARIES)}, got {self.matrices!r}")
        for what in ("drive", "change"):
            given = getattr(self, what)
            for form in given.values() if isinstance(given, Mapping) else [given]:
                if form not in FORMS:
                    raise OptionError(
                        f"Execution.{what}: expected {', '.join(FORMS)} or one of them by pathway, got {form!r}"
                    )

    def of(self, pathway: str) -> Means:
        """Return how a pathway is computed."""
        drive = self.drive if isinstance(self.drive, str) else self.drive.get(pathway)
        change = self.change if isinstance(self.change, str) else self.change.get(pathway)
        return Means(self.matrices, drive, change)

    def describe(self) -> dict[str, Any]:
        """Return what a stored run says about how it was computed."""
        by_name = {w: v if isinstance(v := getattr(self, w), str) else dict(v) for w in ("drive", "change")}
        return {"matrices": self.matrices, **by_name}
