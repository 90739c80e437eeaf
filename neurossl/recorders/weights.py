"""Weights over learning: of whole pathways, or of some of their synapses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import Pathway
from neurossl.checks import indices, whole
from neurossl.engine.digest import weights_digest
from neurossl.errors import OptionError
from neurossl.recorders.base import on_host
from neurossl.recorders.observation import Observation
from neurossl.recorders.snapshots import SnapshotRecorder
from neurossl.store import Variable


class ChosenSynapses:
    """Which synapses of a pathway are recorded: all, or a list of flat indices."""

    def __init__(
        self, network: Network, pathway: Pathway, index: int | Sequence[int] | None, generator: torch.Generator
    ) -> None:
        shape = pathway.weight_shape
        self.names = pathway.dims
        self.along = pathway.coords(network)
        total = prod(shape)
        self.flat: Tensor | None = None
        where = f"index of pathway {pathway.name!r}"
        count = whole(index, where) if isinstance(index, Integral) else None
        if index is None or (count is not None and count >= total):
            self.dims = pathway.dims
            return
        if count is not None:
            chosen = torch.randperm(total, generator=generator)[:count].sort().values
        else:
            chosen = torch.from_numpy(indices(index, total, where))
        self.flat = chosen
        self.dims = ("synapse",)
        self.places = np.unravel_index(chosen.numpy(), shape)

    def coords(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return what lies along the axes: which synapses were chosen, and what the connectivity says of them."""
        if self.flat is None:
            return self.along
        place = {name: np.asarray(p, np.int64) for name, p in zip(self.names, self.places, strict=False)}
        along = {name: values[tuple(place[axis] for axis in axes)] for name, (axes, values) in self.along.items()}
        return {name: (("synapse",), values) for name, values in {"synapse": self.flat.numpy(), **place, **along}.items()}

    def of(self, tensor: Tensor) -> np.ndarray:
        """Return the chosen entries on the host."""
        return on_host(tensor if self.flat is None else tensor.flatten()[self.flat.to(tensor.device)])


def chosen_bytes(now: Observation, name: str, index: int | Sequence[int] | None) -> int:
    """Return how much the chosen synapses of a pathway take, once."""
    weight = now.weights[name].weight
    total = weight.numel()
    if index is None:
        count = total
    elif isinstance(index, Integral):
        count = min(int(index), total)
    else:
        count = len(indices(index, total, f"index of pathway {name!r}"))
    return count * weight.element_size()


class WeightRecorder(SnapshotRecorder):
    """Weights (and biases) after every n-th update, the initial and the final ones included.

    Pathways that are not plastic are stored once, at the beginning, and again only after somebody has changed them (a
    lesion); their group has the attribute ``fixed``. What feedback alignment did can then be told from what is stored: the
    angle between its feedback and the transposed forward weights needs both.

    Parameters
    ----------
    every : int
        Moments between snapshots.
    pathways : sequence of str, optional
        By default all plastic pathways, and the fixed feedback pathways such as the random ones of feedback alignment.
    index : int, sequence of int, or mapping of pathway name to either, optional
        Record only so many random synapses, or these (flat indices), and no biases. A sequence for all pathways means the
        plastic ones, unless ``pathways`` names others.
    """

    def __init__(
        self,
        every: int,
        pathways: Sequence[str] | None = None,
        index: int | Sequence[int] | Mapping[str, int | Sequence[int]] | None = None,
    ) -> None:
        super().__init__(kind="weights", every=every)
        self.pathways = [pathways] if isinstance(pathways, str) else pathways
        self.index = index
        self._chosen: dict[str, ChosenSynapses] = {}
        self._stored: dict[str, str] = {}
        self._versions: dict[str, tuple[int, int]] = {}

    def declare(self, now: Observation) -> None:
        """Choose the synapses and declare the pathways.

        Raises
        ------
        OptionError
            If there is nothing to record, or no such pathway.
        """
        network = now.network
        names = self._named(network)
        if not names:
            raise OptionError("WeightRecorder would store nothing: no pathway is plastic; name them in pathways=")
        if isinstance(self.index, Mapping):
            unknown = [name for name in self.index if name not in network.pathways]
            if unknown:
                raise OptionError(f"WeightRecorder: index names {unknown[0]!r}, which is no pathway of the network")
        for name in names:
            if name not in network.pathways:
                raise OptionError(f"WeightRecorder: there is no pathway {name!r} (there are: {', '.join(network.pathways)})")
            pathway = network.pathways[name]
            index = self._index_of(name)
            chosen = ChosenSynapses(network, pathway, index, now.generators[f"recorders/weights/{name}"])
            self._chosen[name] = chosen
            dtype = str(now.weights.dtype).removeprefix("torch.")
            variables = {"weight": Variable(chosen.dims, "1", "weight", dtype)}
            if pathway.has_bias and chosen.flat is None:
                variables["bias"] = Variable(("post",), "1", "bias", dtype)
            self.declares("weights", name, variables, chosen.coords(), {} if pathway.plastic else {"fixed": 1})

    def expected_bytes(self, now: Observation, moments: int) -> int:
        """Return how much the snapshots of so many moments take, the first and the last included."""
        pathways = now.network.pathways
        known = [name for name in self._named(now.network) if name in pathways]
        snapshots = moments // self.every + 2
        return sum(
            (snapshots if pathways[name].plastic else 1) * chosen_bytes(now, name, self._index_of(name)) for name in known
        )

    def _named(self, network: Network) -> list[str]:
        if self.pathways is not None:
            return list(self.pathways)
        is_list = self.index is not None and not isinstance(self.index, Mapping | Integral)
        fixed = () if is_list else network.feedback
        return [name for name, pathway in network.pathways.items() if pathway.plastic or name in fixed]

    def _index_of(self, name: str) -> int | Sequence[int] | None:
        return self.index.get(name) if isinstance(self.index, Mapping) else self.index

    def detach(self) -> None:
        """Give the store back, and forget what was seen of its simulation."""
        super().detach()
        self._chosen = {}
        self._stored, self._versions = {}, {}

    def state(self) -> dict[str, Tensor]:
        """Return the moment of the last snapshot, which synapses are recorded, and what is stored of fixed pathways."""
        chosen = {f"chosen/{name}": c.flat for name, c in self._chosen.items() if c.flat is not None}
        stored = {f"stored/{name}": digest_tensor(digest) for name, digest in self._stored.items()}
        return {**super().state(), **chosen, **stored}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned."""
        super().restore(state)
        stored = {name.removeprefix("stored/"): tensor for name, tensor in state.items() if name.startswith("stored/")}
        self._stored, self._versions = {name: digest_of(tensor) for name, tensor in stored.items()}, {}
        chosen = {name.removeprefix("chosen/"): t.tolist() for name, t in state.items() if name.startswith("chosen/")}
        if chosen:
            self.index = chosen

    def save(self, now: Observation) -> None:
        """Record the weights."""
        for name, chosen in self._chosen.items():
            held = now.weights[name]
            if not now.network.pathways[name].plastic and not self._has_changed(now, name):
                continue
            values = {"weight": chosen.of(held.weight)}
            if held.bias is not None and chosen.flat is None:
                values["bias"] = on_host(held.bias)
            self.record(now, "weights", name, values)

    def _has_changed(self, now: Observation, name: str) -> bool:
        """Return whether a fixed pathway differs from what is stored of it, and remember it as it is."""
        version = now.weights.version(name)
        if self._versions.get(name) == version:
            return False
        self._versions[name] = version
        digest, before = weights_digest(now.weights[name]), self._stored.get(name)
        self._stored[name] = digest
        return digest != before


def digest_tensor(digest: str) -> Tensor:
    """Return a digest of hexadecimal digits as a tensor, which a checkpoint can hold."""
    return torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)


def digest_of(tensor: Tensor) -> str:
    """Return the digest that `digest_tensor` was given."""
    return bytes(tensor.tolist()).hex()
