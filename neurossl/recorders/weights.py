"""Weights over learning: of whole pathways, or of some of their synapses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.pathways import Pathway
from neurossl.recorders.base import Recorder, Sink
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


def on_host(tensor: Tensor) -> np.ndarray:
    """Return a copy on the host that nobody else will change."""
    return tensor.detach().to("cpu", copy=True).numpy()


KERNEL_DIMS = {2: ("post", "pre"), 4: ("post", "pre", "ky", "kx")}


class ChosenSynapses:
    """Which synapses of a pathway are recorded: all, or a list of flat indices."""

    def __init__(self, pathway: Pathway, index: int | Sequence[int] | None, generator: torch.Generator) -> None:
        shape = pathway.weight_shape
        total = pathway.weight.numel()
        self.flat: Tensor | None = None
        if index is None or (isinstance(index, int) and index >= total):
            self.dims = KERNEL_DIMS[len(shape)]
            return
        if isinstance(index, int):
            chosen = torch.randperm(total, generator=generator)[:index].sort().values
        else:
            chosen = torch.as_tensor(list(index), dtype=torch.int64)
        if not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= total:
            raise OptionError(f"index of pathway {pathway.name!r}: expected flat indices from 0 to {total - 1}")
        self.flat = chosen.to(pathway.weight.device)
        self.dims = ("synapse",)
        self.places = np.unravel_index(chosen.numpy(), shape)

    def coords(self) -> dict[str, tuple[str, np.ndarray]]:
        """Return the coordinates of a chosen subset."""
        if self.flat is None:
            return {}
        names = ("post", "pre", "ky", "kx")
        flat = {"synapse": ("synapse", self.flat.cpu().numpy())}
        return flat | {n: ("synapse", np.asarray(p, np.int64)) for n, p in zip(names, self.places, strict=False)}

    def of(self, tensor: Tensor) -> np.ndarray:
        """Return the chosen entries on the host."""
        return on_host(tensor if self.flat is None else tensor.flatten()[self.flat])


class WeightRecorder(Recorder):
    """Weights (and biases) after every n-th update, the initial and the final ones included.

    Parameters
    ----------
    sink : Sink
    every : int
    pathways : sequence of str, optional
        All plastic pathways by default.
    index : int, sequence of int, or mapping of pathway name to either, optional
        Record only so many random synapses, or these (flat indices), and no biases.
    """

    def __init__(
        self,
        sink: Sink,
        every: int,
        pathways: Sequence[str] | None = None,
        index: int | Sequence[int] | Mapping[str, int | Sequence[int]] | None = None,
    ) -> None:
        super().__init__(sink, every)
        self.pathways = pathways
        self.index = index
        self._chosen: dict[str, ChosenSynapses] = {}
        self._last = -1

    def start(self, simulation: "Simulation") -> None:
        """Declare the pathways and record the initial weights."""
        network = simulation.network
        names = [n for n, p in network.pathways.items() if p.plastic] if self.pathways is None else list(self.pathways)
        for name in names:
            if name not in network.pathways:
                raise OptionError(f"WeightRecorder: there is no pathway {name!r} (there are: {', '.join(network.pathways)})")
            pathway = network.pathways[name]
            index = self.index.get(name) if isinstance(self.index, Mapping) else self.index
            chosen = ChosenSynapses(pathway, index, simulation.generators[f"recorders/weights/{name}"])
            self._chosen[name] = chosen
            dims: dict[str, tuple[str, ...]] = {"weight": chosen.dims}
            if pathway.bias is not None and chosen.flat is None:
                dims["bias"] = ("post",)
            self.sink.declare("weights", name, dims, chosen.coords())
        self._save(simulation)

    def after(self, simulation: "Simulation", activity: Activity, moment: Moment, changes: Mapping[str, Update]) -> None:
        """Record the weights."""
        self._save(simulation)

    def end(self, simulation: "Simulation") -> None:
        """Record the final weights."""
        self._save(simulation)

    def _save(self, simulation: "Simulation") -> None:
        if self._last == simulation.event:
            return
        self._last = simulation.event
        for name, chosen in self._chosen.items():
            pathway = simulation.network.pathways[name]
            values = {"weight": chosen.of(pathway.weight)}
            if pathway.bias is not None and chosen.flat is None:
                values["bias"] = on_host(pathway.bias)
            self._record(simulation, "weights", name, values)
