"""Optimisers: one torch optimiser per pathway, large weights a block of postsynaptic neurons at a time.

Updates point uphill, as torch.optim goes with ``maximize=True``. Each block of a large dense pathway is a parameter of its
optimiser, and only its own change is in memory. What an optimiser remembers is state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import Pathway
from neurossl.engine import limits
from neurossl.engine.torch_optimisers import make_optimiser, scaled
from neurossl.engine.updates import Update
from neurossl.engine.weights import Parameters, Weights
from neurossl.errors import OptionError, StorageError

Remembered = dict[str, Any]
"""What a torch optimiser remembers of one parameter."""


class Options(Protocol):
    """What says how a pathway changes; `neurossl.Synapses` does."""

    version: int

    def options_for(self, pathway: str) -> dict[str, Any]:
        """Return the options that hold for a pathway."""


class Optimisers:
    """What changes the weights: the only place where they change.

    Parameters
    ----------
    network : Network
    weights : Weights
    options : Options
        Learning rates, optimiser and bounds by pathway.
    """

    def __init__(self, network: Network, weights: Weights, options: Options) -> None:
        self._network = network
        self._weights = weights
        self._options = options
        self._optimisers: dict[str, _Optimiser] = {}
        self._signs: dict[str, Tensor] = {}
        self._rooms: dict[torch.dtype, Tensor] = {}
        self._waiting: dict[str, Tensor] = {}
        self.generation = 0
        """Grows whenever what an optimiser remembers lies elsewhere than before."""

    def change(self, name: str, update: Update, activity: Tensor | None = None) -> None:
        """Change the weights of a pathway by one step along an update.

        Parameters
        ----------
        name : str
        update : Update
            Ascent direction.
        activity : Tensor, (rows, *population shape), optional
            Of the postsynaptic population, for homeostasis.
        """
        pathway, held = self._network.pathways[name], self._weights[name]
        options = scaled(self._options.options_for(name), pathway)
        signs = self._sign(pathway, held, options["bounds"])
        optimiser = self._optimiser(pathway, held, options)
        self.generation += optimiser.part()
        optimiser.step(update, self._rooms)
        for hook in options["after"]:
            hook(pathway, held, activity)
        bound(held.weight, options["bounds"], signs)
        self._weights.changed(name)

    def _optimiser(self, pathway: Pathway, held: Parameters, options: dict[str, Any]) -> _Optimiser:
        """Return the optimiser of a pathway, with its present options."""
        known = self._optimisers.get(pathway.name)
        if known is not None and known.weight is not held.weight:  # other tensors hold the weights now
            self._waiting |= {f"{pathway.name}/{key}": tensor for key, tensor in known.state().items()}
            known = None
        if known is None or known.kind != options["optimizer"]:
            known = self._optimisers[pathway.name] = _Optimiser(pathway, held, options)
            self.generation += 1
            prefix = f"{pathway.name}/"
            mine = {key.removeprefix(prefix): t for key, t in self._waiting.items() if key.startswith(prefix)}
            self._waiting = {key: t for key, t in self._waiting.items() if not key.startswith(prefix)}
            known.restore(mine)
        elif known.version != self._options.version:
            known.adjust(options)
        known.version = self._options.version
        return known

    def _sign(self, pathway: Pathway, held: Parameters, bounds: Any) -> Tensor | None:
        """Return the sign that every synapse keeps, by Dale's law or because its own stays; None where it may change."""
        name = pathway.name
        anatomical = pathway.signs(self._network)
        if anatomical is None and bounds != "sign":
            self._signs.pop(name, None)  # which a later "sign" finds anew
        elif name not in self._signs:
            self._signs[name] = held.weight.sign() if anatomical is None else torch.from_numpy(anatomical).to(held.weight)
        return self._signs.get(name)

    def remembered(self, name: str) -> list[Remembered]:
        """Return what the optimiser of a pathway remembers of its weights, and of its biases; {} before the first step."""
        pathway, held = self._network.pathways[name], self._weights[name]
        return self._optimiser(pathway, held, scaled(self._options.options_for(name), pathway)).remembered()

    def remember(self, name: str, parts: Sequence[Remembered], shared: bool) -> None:
        """Let the optimiser of a pathway remember what `remembered` returned; held, not copied.

        Parameters
        ----------
        name : str
        parts : sequence of dict
        shared : bool
            Whether others count their steps in the same tensors, until this one takes a step by itself.
        """
        pathway, held = self._network.pathways[name], self._weights[name]
        self._optimiser(pathway, held, scaled(self._options.options_for(name), pathway)).remember(parts, shared)

    def sign(self, name: str) -> Tensor | None:
        """Return the sign that every synapse of a pathway keeps; None where it may change."""
        options = self._options.options_for(name)
        return self._sign(self._network.pathways[name], self._weights[name], options["bounds"])

    def state(self) -> dict[str, Tensor]:
        """Return what the optimisers remember, as named tensors: ``pathway/parameter/what``."""
        found = dict(self._waiting)
        for name, optimiser in self._optimisers.items():
            found |= {f"{name}/{key}": tensor for key, tensor in optimiser.state().items()}
        own = {name: sign for name, sign in self._signs.items() if self._network.pathways[name].signs(self._network) is None}
        return found | {f"{name}/sign": sign for name, sign in own.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned, and nothing else."""
        self._optimisers, self._signs, self._waiting = {}, {}, {}
        self.generation += 1
        for key, tensor in tensors.items():
            name, _, rest = key.rpartition("/")
            if rest == "sign":
                self._signs[name] = tensor.to(self._weights[name].weight)
            else:
                self._waiting[key] = tensor

    def forget(self) -> None:
        """Begin anew."""
        self.restore({})


def bound(weight: Tensor, bounds: Any, signs: Tensor | None) -> None:
    """Put weights back within their bounds, in place."""
    if signs is not None:
        weight.mul_(signs).clamp_(min=0).mul_(signs)
    if bounds is not None and not isinstance(bounds, str):
        weight.clamp_(*bounds)


class _Optimiser:
    """The torch optimiser of one pathway, and its blocks."""

    def __init__(self, pathway: Pathway, held: Parameters, options: Mapping[str, Any]) -> None:
        weight = held.weight
        self.kind = options["optimizer"]
        self.version = -1
        self._name = pathway.name
        self.weight = weight
        self._shared = False
        per_block = max(1, limits.BLOCK // max(1, weight[0].numel()))
        self._whole = callable(self.kind) or not pathway.in_blocks or per_block >= len(weight)
        self._blocks = [weight] if self._whole else list(weight.split(per_block))
        self._bias = held.bias
        self._parameters = [*self._blocks, *([] if held.bias is None else [held.bias])]
        self._optimiser = make_optimiser(self._parameters, options)
        # An optimiser of the user's own may descend.
        self._sign = 1 if self._optimiser.defaults.get("maximize", False) else -1

    def adjust(self, options: Mapping[str, Any]) -> None:
        """Go on with other options."""
        if callable(self.kind):
            return
        for group in self._optimiser.param_groups:
            for name in ("lr", "momentum", "betas", "eps", "weight_decay"):
                if name in group:
                    group[name] = options[name]

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

    def remembered(self) -> list[Remembered]:
        """Return what it remembers of the weights, and of the biases where there are any."""
        known = [self._optimiser.state.get(block, {}) for block in self._blocks]
        joined = {
            what: torch.cat([state[what] for state in known]) if not self._whole and _is_array(value) else value
            for what, value in known[0].items()
        }
        return [joined, *([] if self._bias is None else [self._optimiser.state.get(self._bias, {})])]

    def part(self) -> bool:
        """Count steps in tensors of its own from now on; return whether others did in the same until now."""
        shared, self._shared = self._shared, False
        if shared:
            for parameter in self._parameters:
                state = self._optimiser.state[parameter]
                own = {what: v.clone() for what, v in state.items() if isinstance(v, Tensor) and not v.ndim}
                self._optimiser.state[parameter] = {**state, **own}
        return shared

    def remember(self, parts: Sequence[Remembered], shared: bool) -> None:
        """Remember what `remembered` returned."""
        self._shared = shared and self._whole
        weights, *biases = parts
        if self._whole:
            self._optimiser.state[self._blocks[0]] = weights
        else:
            sizes = [len(block) for block in self._blocks]
            for what, value in weights.items():
                split = value.split(sizes) if _is_array(value) else [value] * len(sizes)
                for block, part in zip(self._blocks, split, strict=True):
                    self._optimiser.state[block][what] = part.clone() if isinstance(part, Tensor) else part
        if self._bias is not None and biases:
            self._optimiser.state[self._bias] = biases[0]

    def state(self) -> dict[str, Tensor]:
        """Return what it remembers, by number of the parameter."""
        found = {}
        for number, parameter in enumerate(self._parameters):
            for what, value in self._optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"{number}/{what}"] = value
                elif isinstance(value, int | float):
                    found[f"{number}/{what}#{type(value).__name__}"] = torch.tensor(value, dtype=torch.float64)
                elif value is not None:
                    raise StorageError(
                        f"the optimiser of {self._name!r} remembers {what!r} ({type(value).__name__}), which cannot be "
                        "stored: expected tensors and numbers"
                    )
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned."""
        for key, tensor in tensors.items():
            number, _, rest = key.partition("/")
            what, _, kind = rest.partition("#")
            if not number.isdecimal() or int(number) >= len(self._parameters):
                raise OptionError(f"the optimiser of {self._name!r}: state {key!r} belongs to no parameter")
            parameter = self._parameters[int(number)]
            value: Any
            if kind:
                value = int(tensor) if kind == "int" else float(tensor)
            elif tensor.shape == parameter.shape:
                value = torch.empty_like(parameter).copy_(tensor)
            else:
                value = tensor.to(parameter.device, copy=True)
            self._optimiser.state[parameter][what] = value


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0
