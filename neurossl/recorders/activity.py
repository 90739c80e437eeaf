"""Activity over learning: statistics of every population, and single neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from neurossl.checks import indices, whole
from neurossl.errors import OptionError
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.store import Variable

STATISTICS = {
    "mean": Variable((), "1", "mean over rows and neurons"),
    "sparseness": Variable((), "1", "Treves-Rolls sparseness, mean over rows"),
    "norm": Variable((), "1", "norm of the activity, mean over rows"),
    "effective_rank": Variable((), "1", "effective rank (Roy & Vetterli 2007)"),
    "active_fraction": Variable((), "1", "fraction of the rows whose neuromodulator is open"),
}


class ActivityRecorder(Recorder):
    """Mean, sparseness, norm and effective rank of every population's activity, and which part of the rows learns.

    Sparseness is Treves and Rolls' ``1 - <z>^2 / <z^2>`` over neurons, averaged over rows: 0 for equal, towards 1 for
    few active neurons. The effective rank is the exponential of the entropy of the normalised singular values of the
    centred activity (Roy & Vetterli 2007), maps averaged over space. The active fraction is that of the rows whose
    neuromodulator is open, where the objective has one that can shut (with the hinge: scores within the margin).

    Parameters
    ----------
    every : int
        Moments between records.
    """

    def __init__(self, every: int) -> None:
        super().__init__(kind="activity", every=every)
        self._active: dict[str, float] = {}

    def declare(self, now: Observation) -> None:
        """Declare every population above the input."""
        for name in now.network.order:
            self.declares("activity", name, STATISTICS)

    def before(self, now: Observation) -> None:
        """See which rows are about to learn."""
        said = now.evaluate()
        self._active = {n: 1 - float(c.silent.float().mean()) for n, c in said.items() if c.silent is not None}

    def after(self, now: Observation) -> None:
        """Record the numbers of every population."""
        for name in now.network.order:
            z = now.seen.output[name].detach()
            flat = z.flatten(1)
            power = flat.square().mean(1)
            sparseness = torch.where(power > 0, 1 - flat.mean(1).square() / power.clamp(min=1e-30), torch.nan)
            code = z.mean((2, 3)) if z.ndim == 4 else flat
            values = {
                "mean": float(flat.mean()),
                "sparseness": float(sparseness.nanmean()),
                "norm": float(flat.norm(dim=1).mean()),
                "effective_rank": effective_rank(code),
            }
            if name in self._active:
                values["active_fraction"] = self._active[name]
            self.record(now, "activity", name, values)


def effective_rank(code: Tensor) -> float:
    """Return the effective rank of (rows, channels); 0 for constant activity."""
    centred = (code - code.mean(0)).double()
    # The eigenvalues of the smaller Gram matrix are the squares of the singular values, several times faster.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = singular / singular.sum().clamp(min=1e-300)
    share = share[share > 0]
    return float((-(share * share.log()).sum()).exp()) if len(share) else 0.0


class NeuronRecorder(Recorder):
    """Activity of chosen neurons during the moment, observer by observer, stored as ``/neurons/<population>``.

    What is shown is whatever the moment shows: for the responses to the same stimuli see `ResponseRecorder`.

    Parameters
    ----------
    neurons : mapping of str to int or sequence of int
        Per population a number of neurons, drawn at random, or their flat indices.
    every : int
    observers : int
        The first rows that are recorded; the number of rows must not fall below.
    """

    def __init__(self, neurons: Mapping[str, int | Sequence[int]], every: int, observers: int = 1) -> None:
        super().__init__(kind="neurons", every=every)
        if not neurons or not isinstance(neurons, Mapping):
            raise OptionError(
                f"NeuronRecorder: would record nothing: name a population and its neurons as {{'V1': 10}}, got {neurons!r}"
            )
        self.neurons = dict(neurons)
        self.observers = whole(observers, "NeuronRecorder: observers")
        self._chosen: dict[str, Tensor] = {}

    def declare(self, now: Observation) -> None:
        """Choose the neurons and declare them."""
        for name, asked in self.neurons.items():
            size = now.network.population(name).size
            if name in self._chosen:
                chosen = self._chosen[name]
            elif isinstance(asked, Integral) and not isinstance(asked, bool):
                generator = now.generators[f"recorders/neurons/{name}"]
                chosen = torch.randperm(size, generator=generator)[: whole(asked, f"neurons of {name!r}")].sort().values
            else:
                chosen = torch.from_numpy(indices(asked, size, f"NeuronRecorder: neurons of {name!r}"))
            self._chosen[name] = chosen
            variable = Variable(("observer", "neuron"), "1", "activity", "float32")
            self.declares("neurons", name, {"activity": variable}, {"neuron": ("neuron", np.asarray(chosen))})

    def after(self, now: Observation) -> None:
        """Record the chosen neurons."""
        for name, chosen in self._chosen.items():
            activity = now.seen.output[name].flatten(1)
            if len(activity) < self.observers:
                raise OptionError(f"NeuronRecorder: expected at least {self.observers} rows, the moment has {len(activity)}")
            values = activity[: self.observers, chosen.to(activity.device)].float()
            self.record(now, "neurons", name, {"activity": values})

    def detach(self) -> None:
        """Give the store back, and forget which neurons of its simulation were chosen."""
        super().detach()
        self._chosen = {}

    def state(self) -> dict[str, Tensor]:
        """Return which neurons are recorded."""
        return {f"chosen/{name}": chosen for name, chosen in self._chosen.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember which neurons are recorded."""
        self._chosen = {name.removeprefix("chosen/"): chosen.cpu() for name, chosen in state.items()}
