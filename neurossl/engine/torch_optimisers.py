"""The optimisers of torch that options describe, for weights that may be a gain times variables of order one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.pathways import Pathway


def scaled(options: Mapping[str, Any], pathway: Pathway) -> dict[str, Any]:
    """Return options with which weights ``W = gain * theta`` change as an optimiser of ``theta`` would have them change.

    The gradient of ``theta`` is ``gain`` times that of ``W``. SGD: ``dW = gain^2 lr G``. Adam divides by the size of the
    gradient: ``dW = gain lr sign(G)``, roughly, and its epsilon is held against ``gain`` times the gradient of ``W``. What
    decays keeps its time constant.

    Parameters
    ----------
    options : mapping
        Of `neurossl.Synapses`.
    pathway : Pathway
    """
    gain, kind = pathway.gain, options["optimizer"]
    found = {**options, "eps": 1e-8 / gain}
    if gain == 1:
        return found
    rate = gain**2 if kind == "sgd" else gain
    decay = rate if kind in ("sgd", "adamw") else gain**2
    return found | {"lr": options["lr"] * rate, "weight_decay": options["weight_decay"] / decay}


def make_optimiser(parameters: list[Tensor], options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the torch optimiser that options describe; its gradients are ascent directions."""
    kind, lr, decay = options["optimizer"], options["lr"], options["weight_decay"]
    if callable(kind):
        return kind(parameters)
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=options["momentum"], weight_decay=decay, maximize=True)
    known = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    betas, eps = options["betas"], options["eps"]
    return known[kind](parameters, lr=lr, betas=betas, eps=eps, weight_decay=decay, fused=True, maximize=True)
