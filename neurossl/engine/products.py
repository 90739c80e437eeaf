"""Products of matrices on the CPU: two libraries compute them, and which is faster depends on the processor.

    blas      what torch calls by itself (MKL on x86, which is half as fast on the processors of another maker)
    onednn    the library of torch's convolutions, in float32

Both return the same but for rounding; `neurossl.engine.tuning` measures which is faster here.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.engine import limits

LIBRARIES = ("blas", "onednn")
"""What can compute a product; the first is torch's own choice."""


def has_onednn() -> bool:
    """Return whether this build of torch computes products of float32 matrices with oneDNN when asked to."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, library: str = "blas") -> Tensor:
    """Return ``x W^T + b``, (rows, neurons).

    Parameters
    ----------
    x : Tensor, (rows, values)
    weight : Tensor, (neurons, values)
    bias : Tensor, (neurons,), optional
    library : {"blas", "onednn"}
        Whom to ask, where there is a choice: small products, other number types, other devices and what is to be
        differentiated go torch's own way.
    """
    if library == "onednn" and _suits(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def outer(postsynaptic: Tensor, presynaptic: Tensor, library: str = "blas", room: Tensor | None = None) -> Tensor:
    """Return the sum over rows of outer products, ``post^T pre``, (post, pre); in ``room`` or in memory of its own.

    Parameters
    ----------
    postsynaptic : Tensor, (rows, post)
    presynaptic : Tensor, (rows, pre)
    library : {"blas", "onednn"}
    room : Tensor, (post, pre), optional
    """
    if library == "onednn" and _suits(postsynaptic.T, presynaptic.T):
        return torch.ops.mkldnn._linear_pointwise(postsynaptic.T, presynaptic.T, None, "none", [], "")
    return postsynaptic.T @ presynaptic if room is None else torch.mm(postsynaptic.T, presynaptic, out=room)


def _suits(x: Tensor, weight: Tensor) -> bool:
    if x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu" or weight.device.type != "cpu":
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    return x.ndim == 2 and x.numel() * len(weight) >= limits.SMALL_PRODUCT and has_onednn()
