"""Synapses: what a proposed update does to the weights: optimiser, learning rate, weight decay, bounds.

Updates point uphill, as torch.optim goes with ``maximize=True``. Large dense weights are changed a block of postsynaptic
neurons at a time: each block is a parameter of the optimiser, and only its own change is in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from neurossl.errors import OptionError
from neurossl.pathways import Pathway
from neurossl.updates import Update

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
BLOCK = 2**21
"""Weights that are changed at a time, where a dense pathway has more."""
OPTIONS = ("optimizer", "lr", "momentum", "betas", "weight_decay", "bounds")


class Synapses:
    """Learning rates and optimisers on updates, one optimiser per pathway.

    Parameters
    ----------
    optimizer : {"adamw", "adam", "sgd"} or callable
        A callable is given the list of tensors of a pathway and returns a `torch.optim.Optimizer`.
    lr : float
        Learning rate per moment.
    momentum : float
        Of sgd.
    betas : (float, float)
        Of adam and adamw.
    weight_decay : float
    bounds : (float or None, float or None), "sign", "dale" or None
        Limits of the weights after every change. "sign": no weight changes its sign. "dale": every presynaptic neuron is
        excitatory or inhibitory, whichever most of its initial weight is; the rest of its synapses are silent.
    pathways : mapping of str to mapping, optional
        Other options for the pathways whose name matches a pattern: ``{"*=>*": {"lr": 1e-4}}``; the last match counts.

    Raises
    ------
    OptionError
        For unknown options or values out of range.
    """

    def __init__(
        self,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 1e-3,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        bounds: tuple[float | None, float | None] | str | None = None,
        pathways: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.options: dict[str, Any] = {
            "optimizer": optimizer,
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "weight_decay": weight_decay,
            "bounds": bounds,
        }
        self.exceptions = {pattern: dict(options) for pattern, options in (pathways or {}).items()}
        for where, options in (("synapses", self.options), *((f"synapses of {p!r}", o) for p, o in self.exceptions.items())):
            _check(where, {**self.options, **options})
        self._optimisers: dict[str, _Optimiser] = {}
        self._signs: dict[str, Tensor] = {}
        self._rooms: dict[torch.dtype, Tensor] = {}

    def options_for(self, pathway: str) -> dict[str, Any]:
        """Return the options that hold for a pathway."""
        options = dict(self.options)
        for pattern, exception in self.exceptions.items():
            if fnmatchcase(pathway, pattern):
                options.update(exception)
        return options

    def change(self, pathway: Pathway, update: Update) -> None:
        """Change the weights of a pathway by one step along the update."""
        options = self.options_for(pathway.name)
        if pathway.name not in self._optimisers:
            self._optimisers[pathway.name] = _Optimiser(pathway, options)
            self._remember_signs(pathway, options["bounds"])
        self._optimisers[pathway.name].step(update, self._rooms)
        self.bound(pathway)
        pathway.changed()

    def _remember_signs(self, pathway: Pathway, bounds: Any) -> None:
        if bounds == "sign":
            self._signs[pathway.name] = pathway.weight.sign()
        elif bounds == "dale":
            outgoing = pathway.weight.transpose(0, 1).flatten(1).sum(1)
            shape = [1, -1, *[1] * (pathway.weight.ndim - 2)]
            self._signs[pathway.name] = torch.where(outgoing >= 0, 1, -1).to(pathway.weight.dtype).view(shape)

    def bound(self, pathway: Pathway) -> None:
        """Put the weights of a pathway back within its bounds."""
        bounds = self.options_for(pathway.name)["bounds"]
        if bounds is None:
            return
        if isinstance(bounds, str):
            sign = self._signs[pathway.name]
            pathway.weight.copy_((pathway.weight * sign).clamp_(min=0) * sign)
        else:
            pathway.weight.clamp_(*bounds)

    def describe(self) -> dict[str, Any]:
        """Return the options as stored with a run."""
        named = {k: v if not callable(v) else getattr(v, "__name__", "callable") for k, v in self.options.items()}
        return {**named, "pathways": self.exceptions}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.describe().items() if v)
        return f"Synapses({shown})"


class _Optimiser:
    """The torch optimiser of one pathway, and its blocks."""

    def __init__(self, pathway: Pathway, options: Mapping[str, Any]) -> None:
        weight = pathway.weight
        per_block = max(1, BLOCK // max(1, weight[0].numel()))
        self._whole = callable(options["optimizer"]) or not pathway.in_blocks or per_block >= len(weight)
        self._blocks = [weight] if self._whole else list(weight.split(per_block))
        self._bias = pathway.bias
        self._optimiser = make_optimiser([*self._blocks, *pathway.parameters[1:]], options)
        # An optimiser of the user's own may descend.
        self._sign = 1 if self._optimiser.defaults.get("maximize", False) else -1

    def step(self, update: Update, rooms: dict[torch.dtype, Tensor]) -> None:
        """Take one step; ``rooms`` are used again for the change of one block after the other."""
        first = 0
        for block in self._blocks:
            last = first + len(block)
            change = update.weight if self._whole else update.rows(first, last, rooms)
            self._give(block, change)
            if first == 0 and self._bias is not None and update.bias is not None:
                self._give(self._bias, update.bias)
            self._optimiser.step()
            self._optimiser.zero_grad(set_to_none=True)
            first = last

    def _give(self, parameter: Tensor, change: Tensor) -> None:
        """Hand over a change with the number type and the memory layout of its parameter."""
        if change.dtype != parameter.dtype or change.stride() != parameter.stride():
            change = torch.empty_like(parameter).copy_(change)
        parameter.grad = change if self._sign > 0 else -change


def make_optimiser(parameters: list[Tensor], options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return the torch optimiser that options of `Synapses` describe; its gradients are ascent directions."""
    kind, lr, decay = options["optimizer"], options["lr"], options["weight_decay"]
    if callable(kind):
        return kind(parameters)
    if kind == "sgd":
        return OPTIMISERS[kind](parameters, lr=lr, momentum=options["momentum"], weight_decay=decay, maximize=True)
    return OPTIMISERS[kind](parameters, lr=lr, betas=options["betas"], weight_decay=decay, fused=True, maximize=True)


def _check(where: str, options: dict[str, Any]) -> None:
    """Raise OptionError unless the options make sense."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise OptionError(f"{where}: {unknown[0]!r} does not exist, expected {', '.join(OPTIONS)}")
    if isinstance(options["optimizer"], str) and options["optimizer"] not in OPTIMISERS:
        raise OptionError(f"{where}: optimizer {options['optimizer']!r} does not exist, expected {', '.join(OPTIMISERS)}")
    for name in ("lr", "momentum", "weight_decay"):
        if not isinstance(options[name], Real) or not 0 <= options[name] < float("inf"):
            raise OptionError(f"{where}: {name} must be a finite number >= 0, got {options[name]}")
    betas = options["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise OptionError(f"{where}: betas must be two numbers >= 0 and < 1, got {betas}")
    bounds = options["bounds"]
    if isinstance(bounds, str) and bounds not in ("sign", "dale"):
        raise OptionError(f"{where}: bounds must be (low, high), 'sign', 'dale' or None, got {bounds!r}")
    if not isinstance(bounds, str) and bounds is not None:
        if not isinstance(bounds, Sequence) or len(bounds) != 2:
            raise OptionError(f"{where}: bounds must be (low, high), 'sign', 'dale' or None, got {bounds!r}")
        low, high = bounds
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise OptionError(f"{where}: bounds must be (low, high) with low <= high, got {bounds}")
