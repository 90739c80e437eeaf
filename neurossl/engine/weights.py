"""Weights: the state that learning changes, kept apart from the anatomy that says which there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.prediction import BandedPathway
from neurossl.device import choose_device, choose_dtype
from neurossl.engine.digest import weights_digest
from neurossl.engine.draw import draw
from neurossl.errors import NetworkError, StorageError, TrajectoryError

if TYPE_CHECKING:
    import xarray as xr


class Parameters(NamedTuple):
    """What is adjustable in one pathway.

    Attributes
    ----------
    weight : Tensor, (post, pre, ...)
    bias : Tensor, (post,), or None
    """

    weight: Tensor
    bias: Tensor | None = None

    @property
    def present(self) -> list[Tensor]:
        """Weights and, where there is one, bias."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]


class Weights(Mapping[str, Parameters]):
    """The weights of a network, by name of the pathway.

    Parameters
    ----------
    network : Network
        Says which weights there are and what shape they have.
    parameters : mapping of str to Parameters
        For every pathway of the network; held, not copied.

    Examples
    --------
    >>> weights = Weights.draw(network, seed=1)
    >>> weights["V1->V2"].weight.shape
    torch.Size([32, 64])
    >>> weights.save("weights.safetensors")
    """

    def __init__(self, network: Network, parameters: Mapping[str, Parameters]) -> None:
        self.network = network
        self._held = {name: parameters[name] for name in network.pathways}
        self._changes = dict.fromkeys(self._held, 0)

    @classmethod
    def draw(
        cls,
        network: Network,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        given: Mapping[str, Parameters] | None = None,
    ) -> Weights:
        """Draw the weights of a network; each pathway from a generator of its own, seeded by the root seed and its name.

        Parameters
        ----------
        network : Network
        seed : int
        device, dtype
            Where and in which precision the weights live; they never change the draw.
        given : mapping of str to Parameters, optional
            Weights that are there already and are copied instead.

        Raises
        ------
        NetworkError
            If a population receives no input, or given weights do not fit.
        """
        network.check()
        place, number_type = choose_device(device), choose_dtype(dtype)
        known = {} if given is None else given
        if not isinstance(known, Mapping):
            raise NetworkError(f"weights: expected parameters by pathway, got {type(known).__name__}")
        for name in known:
            network.pathway(name)
        drawn = {}
        for name, pathway in network.pathways.items():
            parts = _given(name, known[name]) if name in known else draw(pathway, network, int(seed))
            drawn[name] = _checked(network, name, *parts)
        return cls(network, drawn).to(place, number_type)

    def __getitem__(self, pathway: str) -> Parameters:
        if pathway not in self._held:
            self.network.pathway(pathway)
            raise NetworkError(f"pathway {pathway!r} has no weights: it was added to the network after they were drawn")
        return self._held[pathway]

    def __contains__(self, pathway: object) -> bool:
        return pathway in self._held

    def get(self, pathway: str, default: Any = None) -> Any:
        """Return the weights of a pathway, or a default where there are none."""
        return self._held.get(pathway, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(iter(self._held.values())).weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(iter(self._held.values())).weight.dtype

    def to(self, device: str | torch.device, dtype: str | torch.dtype | None = None) -> Weights:
        """Return a copy on a device, in a precision."""
        place, number_type = choose_device(device), self.dtype if dtype is None else choose_dtype(dtype)
        moved = {
            name: Parameters(*(None if p is None else _laid_out(p.detach().to(place, number_type, copy=True)) for p in held))  # type: ignore[arg-type]
            for name, held in self._held.items()
        }
        return Weights(self.network, moved)

    def clone(self) -> Weights:
        """Return a copy."""
        return self.to(self.device)

    def set(self, pathway: str, weight: Any, bias: Any = None) -> None:
        """Replace the weights of a pathway by a copy of the given ones, in place.

        Parameters
        ----------
        pathway : str
        weight : Tensor or array, (post, pre, ...)
        bias : Tensor or array, (post,), optional
            As it is where none is given.

        Raises
        ------
        NetworkError
            If the shapes are not those of the pathway.
        """
        held = self[pathway]
        what = f"weights of {pathway!r}"
        given = _tensor(weight, what), held.bias if bias is None else _tensor(bias, what)
        new = _checked(self.network, pathway, *given)
        with torch.no_grad():
            for old, value in zip(held, new, strict=True):
                if old is not None and value is not None and old is not value:
                    old.copy_(value)
        self.changed(pathway)

    def hold(self, pathway: str, parameters: Parameters) -> None:
        """Hold these very tensors, not copies; they may be parts of larger ones."""
        self._held[pathway] = parameters
        self._changes[pathway] += 1

    def changed(self, pathway: str) -> None:
        """Say that the weights of a pathway have been changed in place."""
        self._changes[pathway] += 1

    def version(self, pathway: str) -> tuple[int, int]:
        """Return what differs after every change of the weights of a pathway."""
        # The fused optimisers change weights without a new version of the tensor.
        return version(self._held[pathway].weight), self._changes[pathway]

    def state_dict(self, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        """Return all tensors by name, ``V1->V2.weight`` and ``V1->V2.bias``, as a module of torch does.

        Parameters
        ----------
        names : mapping of str to str, optional
            Pathway of every module, as for `load_state_dict`: only these pathways, under the names of the modules.
        """
        chosen = {name: name for name in self._held} if names is None else names
        for pathway in chosen.values():
            self.network.pathway(pathway)
        parts = ((f"{module}.{part}", getattr(self._held[name], part)) for module, name in chosen.items() for part in _PARTS)
        return {name: tensor for name, tensor in parts if tensor is not None}

    def load_state_dict(
        self, tensors: Mapping[str, Any], names: Mapping[str, str] | None = None, strict: bool = True
    ) -> None:
        """Copy tensors into the weights, for example those of a torch model.

        Parameters
        ----------
        tensors : mapping of str to Tensor or array
            As `state_dict` returns them, or that of a module of torch.
        names : mapping of str to str, optional
            Pathway of every module, where the names are others: ``{"features.0": "retina->V1"}``.
        strict : bool
            Whether every pathway has to be given, and every tensor to be used. With names: every feedforward pathway, and
            every tensor of modules that stand beside those that are named (``features.``), batch normalisation included.

        Raises
        ------
        NetworkError
            If names or shapes do not fit; nothing is changed then.
        """
        if not isinstance(tensors, Mapping):
            raise NetworkError(
                f"load_state_dict: expected a mapping of names to tensors, as module.state_dict(), got {tensors!r}"
            )
        renamed = {f"{pathway}.{part}": f"{module}.{part}" for module, pathway in (names or {}).items() for part in _PARTS}
        for pathway in (names or {}).values():
            self.network.pathway(pathway)
        mine, taken, new = self.state_dict(), set(), {}
        for name, held in mine.items():
            key = renamed.get(name, name)
            if key not in tensors:
                pathway = name.rpartition(".")[0]
                if strict and (names is None or name in renamed or pathway in self.network.feedforward):
                    there = ", ".join(list(tensors)[:6]) + (", ..." if len(tensors) > 6 else "")
                    raise NetworkError(
                        f"load_state_dict: there is no {key!r} for {name!r} (there are: {there or 'none'}); pass names= "
                        "that fit, or strict=False"
                    )
                continue
            value = _tensor(tensors[key], f"load_state_dict: {key!r}")
            if value.shape != held.shape:
                raise NetworkError(
                    f"load_state_dict: {key!r} has shape {tuple(value.shape)}, {name!r} needs {tuple(held.shape)}"
                )
            taken.add(key)
            new[name] = value
        unused = [key for key in tensors if key not in taken]
        beside = {module.rpartition(".")[0] for module in names or {}}
        lost = [key for key in unused if names is None or key.rpartition(".")[0].rpartition(".")[0] in beside]
        if strict and lost:
            raise NetworkError(f"load_state_dict: {lost[0]!r} belongs to no pathway; pass names= or strict=False")
        if not new:
            raise NetworkError("load_state_dict: no tensor has the name of a pathway; pass names={module: pathway}")
        checked = {}
        for pathway, parameters in self._held.items():
            parts = (new.get(f"{pathway}.{part}", getattr(parameters, part)) for part in _PARTS)
            checked[pathway] = _checked(self.network, pathway, *parts)
        with torch.no_grad():
            for name in new:
                pathway, _, part = name.rpartition(".")
                mine[name].copy_(getattr(checked[pathway], part))
                self.changed(pathway)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all weights to a safetensors file, whole or not at all."""
        from safetensors.torch import save

        from neurossl.files import write_atomically

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        about = {"network": json.dumps(self.network.describe()), "format": "neurossl weights"}
        place = Path(path).expanduser().absolute()
        try:
            write_atomically(place, save(tensors, metadata=about))
        except (OSError, ValueError) as reason:
            raise StorageError(
                f"weights {place}: cannot be written ({getattr(reason, 'strerror', None) or reason})"
            ) from None

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], network: Network | None = None, device: str | torch.device = "cpu"
    ) -> Weights:
        """Read weights that `save` wrote.

        Parameters
        ----------
        path : path
        network : Network, optional
            The network that they are for; the one that they were saved with by default.
        device

        Raises
        ------
        StorageError
            If the file cannot be read.
        NetworkError
            If the weights are not those of the network.
        """
        from safetensors import SafetensorError, safe_open

        from neurossl.anatomy.description import described_network

        place = Path(path).expanduser().absolute()
        try:
            with safe_open(str(place), framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except FileNotFoundError:
            raise StorageError(f"weights {place}: there is no such file") from None
        except (SafetensorError, OSError, ValueError) as reason:
            raise StorageError(f"weights {place}: cannot be read as safetensors ({str(reason).splitlines()[0]})") from None
        if network is None:
            try:
                network = described_network(json.loads(about["network"]))
            except (KeyError, json.JSONDecodeError):
                raise StorageError(f"weights {place}: the file does not say of which network; pass network=") from None
        is_double = any(tensor.dtype == torch.float64 for tensor in tensors.values())
        # Shapes are compared before anything is drawn: a file may claim any size.
        given = {}
        for name, pathway in network.pathways.items():
            parts = ("weight", "bias") if pathway.has_bias else ("weight",)
            missing = [f"{name}.{part}" for part in parts if f"{name}.{part}" not in tensors]
            if missing:
                raise NetworkError(f"weights {place}: there is no {missing[0]!r}")
            given[name] = _checked(network, name, *(tensors.pop(f"{name}.{part}") for part in parts))
        if tensors:
            raise NetworkError(f"weights {place}: {next(iter(tensors))!r} belongs to no pathway of {network.name!r}")
        return cls.draw(network, 0, device, torch.float64 if is_double else torch.float32, given)

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], event: int | None = None, device: str | torch.device = "cpu") -> Weights:
        """Return the weights that a run recorded.

        Parameters
        ----------
        run : path
            A run folder, or its export.
        event : int, optional
            Moments that had been learned from; the last snapshot by default.
        device

        Raises
        ------
        TrajectoryError
            If they were not recorded, not whole, or not then; of fixed pathways also if they were not drawn with the seed.
        """
        from neurossl.runs import opened, stored_network, stored_weights

        tree = opened(run)
        recorded = stored_weights(tree, event, str(run))
        given = {name: Parameters(*parts) for name, parts in recorded.items()}
        dtype = next(iter(given.values())).weight.dtype
        # Fixed pathways that were not recorded are what the seed draws, if they have not been given.
        made = cls.draw(stored_network(tree, str(run)), int(tree.attrs["seed"]), device, dtype, given)
        _require_drawn(made, given, tree, str(run))
        return made

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.state_dict().values())
        kind = f"{self.device}, {str(self.dtype).removeprefix('torch.')}" if self._held else "none"
        return f"Weights({self.network.name!r}: {len(self)} pathways, {count:,} values; {kind})"


_PARTS = Parameters._fields


def version(tensor: Tensor) -> int:
    """Return a number that grows with every change in place; 0 where none is kept (``torch.inference_mode``)."""
    return 0 if tensor.is_inference() else tensor._version


def _laid_out(tensor: Tensor) -> Tensor:
    """Return kernels channels last in memory, everything else as it is."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _tensor(given: Any, what: str) -> Tensor:
    """Return what is given as a tensor of numbers.

    Raises
    ------
    NetworkError
        If it is none.
    """
    try:
        tensor = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError, RuntimeError):
        raise NetworkError(f"{what}: expected a tensor or array of numbers, got {type(given).__name__}") from None
    if not tensor.is_floating_point() and not (tensor.ndim and tensor.dtype in (torch.int64, torch.int32)):
        raise NetworkError(f"{what}: expected a tensor or array of numbers, got {str(tensor.dtype).removeprefix('torch.')}")
    return tensor


def _given(name: str, parameters: Any) -> tuple[Tensor, Tensor | None] | tuple[Tensor]:
    """Return what is given as weight and bias of a pathway, or as weight alone, as tensors."""
    parts = parameters if isinstance(parameters, tuple | list) else (parameters,)
    if not 1 <= len(parts) <= 2:
        raise NetworkError(f"pathway {name!r}: expected Parameters(weight, bias), got {len(parts)} parts")
    what = f"pathway {name!r}"
    weight = _tensor(parts[0], what)
    return (weight,) if len(parts) == 1 else (weight, None if parts[1] is None else _tensor(parts[1], what))


def _checked(network: Network, name: str, weight: Tensor, bias: Tensor | None = None) -> Parameters:
    """Return parameters that fit a pathway; weights that do not exist are 0."""
    pathway = network.pathway(name)
    if tuple(weight.shape) != pathway.weight_shape:
        raise NetworkError(f"pathway {name!r}: weights must be {pathway.weight_shape}, got {tuple(weight.shape)}")
    if (bias is not None) != pathway.has_bias or (bias is not None and tuple(bias.shape) != pathway.weight_shape[:1]):
        expected = f"a bias of {pathway.weight_shape[:1]}" if pathway.has_bias else "no bias"
        raise NetworkError(f"pathway {name!r}: expected {expected}, got {None if bias is None else tuple(bias.shape)}")
    signs = pathway.signs(network)
    if signs is not None:
        wrong = int((weight * torch.from_numpy(signs).to(weight.device) < 0).sum())
        if wrong:
            raise NetworkError(
                f"pathway {name!r}: {wrong} weights have another sign than their presynaptic neuron (Dale's law): expected "
                "none below 0 of excitatory and none above 0 of inhibitory neurons"
            )
    if isinstance(pathway, BandedPathway):
        weight = weight * torch.from_numpy(pathway.near).to(weight.device)
    return Parameters(weight, bias)


def _require_drawn(weights: Weights, recorded: Mapping[str, Any], tree: xr.DataTree, where: str) -> None:
    """Refuse weights of pathways that were not recorded and are not what the seed draws.

    Raises
    ------
    TrajectoryError
        Naming the pathway, and the remedy.
    """
    said = json.loads(str(tree.attrs.get("fixed_weights", "{}")))
    done = json.loads(str(tree.attrs.get("interventions", "[]")))
    touched = {entry.get("pathway") for entry in done if entry.get("what") == "lesion"}
    for name, pathway in weights.network.pathways.items():
        if name in recorded:
            continue
        if pathway.plastic or name in touched or said.get(name) != weights_digest(weights[name]):
            why = "it has learned" if pathway.plastic else "it was given or lesioned, not drawn with the seed"
            raise TrajectoryError(
                f"{where}: {name!r} was not recorded, and {why}: record it, WeightRecorder(..., pathways=[..., {name!r}])"
            )
