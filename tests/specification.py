"""The definition of a plasticity rule's update, from the equation alone: loops, einsum and float64.

    dW_ji = mean over observers of  gamma * dendrite_j * rho'(a_j) * x_i

Written without looking at the engine's kernels. What is read of the project is anatomy (shapes, kernels, pools), weights,
the stimulus and events; everything else (drive, slope, winners, scores, neuromodulators) is computed anew here.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl import Circuit, Convolution, FeedforwardPathway, Fixation, Moment, Phase, Saccade

SLOPE = {
    "relu": lambda a: (a > 0).double(),
    "linear": torch.ones_like,
    "tanh": lambda a: 1 - torch.tanh(a) ** 2,
    "softplus": torch.sigmoid,
}
RHO = {
    "relu": lambda a: a.clamp(min=0),
    "linear": lambda a: a,
    "tanh": torch.tanh,
    "softplus": lambda a: (1 + a.exp()).log(),
}


class Definition:
    """The response of a circuit to a stimulus, and the update that factors make of it.

    Attributes
    ----------
    z, a, x : dict of Tensor
        Activity and somatic drive by population, presynaptic activity by pathway.
    """

    def __init__(self, circuit: Circuit, stimulus: Tensor, values: Mapping[str, Tensor] | None = None) -> None:
        self.circuit, self.network, self.stimulus = circuit, circuit.network, stimulus
        sent: dict[str, Tensor] = {
            **(values or {}),
            self.network.input.name: stimulus.reshape(-1, *self.network.input.shape),
        }
        self.z: dict[str, Tensor] = {self.network.input.name: stimulus.reshape(-1, *self.network.input.shape)}
        self.a: dict[str, Tensor] = {}
        self.x: dict[str, Tensor] = {}
        for name in self.network.order:
            population = self.network.populations[name]
            drive = torch.zeros(len(stimulus), *population.neurons, dtype=torch.float64)
            for pathway in self.incoming(name):
                self.x[pathway.name] = normalised(sent[pathway.pre], pathway.normalisation)
                drive += self._drive(pathway, self.x[pathway.name])
            self.a[name] = drive
            self.z[name] = self._pooled(name, RHO[population.transfer.name](drive))
            sent.setdefault(name, self.z[name])

    def sending(self, values: Mapping[str, Tensor]) -> "Definition":
        """Return the response when populations send other values upwards than their activity."""
        return Definition(self.circuit, self.stimulus, values)

    def incoming(self, name: str) -> list[FeedforwardPathway]:
        return [p for p in self.network.feedforward.values() if p.post == name]

    def _patches(self, pathway: FeedforwardPathway, x: Tensor) -> Tensor:
        """Return what every postsynaptic place sees, (rows, pre, ky, kx, height, width), by loops over the places."""
        convolution = pathway.connectivity
        assert isinstance(convolution, Convolution)
        weight = self.circuit.weights[pathway.name].weight
        ky, kx = weight.shape[2:]
        (py, px), (sy, sx) = pair(convolution.padding), pair(convolution.stride)
        rows, channels, height, width = x.shape
        wide = torch.zeros(rows, channels, height + 2 * py, width + 2 * px, dtype=x.dtype)
        wide[:, :, py : py + height, px : px + width] = x
        if convolution.padding_mode == "reflect":
            wide = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (py, py), (px, px)), mode="reflect"))
        _, high, broad = pathway.post_neurons
        seen = torch.zeros(rows, channels, ky, kx, high, broad, dtype=x.dtype)
        for i in range(high):
            for j in range(broad):
                seen[..., i, j] = wide[:, :, i * sy : i * sy + ky, j * sx : j * sx + kx]
        return seen

    def _drive(self, pathway: FeedforwardPathway, x: Tensor) -> Tensor:
        weight, bias = self.circuit.weights[pathway.name]
        if isinstance(pathway.connectivity, Convolution):
            drive = torch.einsum("ocyx,rcyxhw->rohw", weight, self._patches(pathway, x))
            return drive if bias is None else drive + bias[:, None, None]
        drive = torch.einsum("oi,ri->ro", weight, x.flatten(1))
        return (drive if bias is None else drive + bias).reshape(-1, *pathway.post_neurons)

    def _windows(self, name: str) -> list[tuple[int, int, slice, slice]]:
        """Return (place in the pooled map, neurons of its window); a remainder at the border belongs to none."""
        population = self.network.populations[name]
        assert population.pooling is not None
        (ky, kx), (sy, sx) = population.pooling.window, population.pooling.step
        assert population.pooling.margin == (0, 0), "not needed here"
        _, high, wide = population.shape
        return [(i, j, slice(i * sy, i * sy + ky), slice(j * sx, j * sx + kx)) for i in range(high) for j in range(wide)]

    def _pooled(self, name: str, r: Tensor) -> Tensor:
        population = self.network.populations[name]
        if population.pooling is None:
            return r
        z = torch.zeros(len(r), *population.shape, dtype=r.dtype)
        for i, j, ys, xs in self._windows(name):
            window = r[:, :, ys, xs].flatten(2)
            z[:, :, i, j] = window.max(2).values if population.pooling.kind == "max" else window.mean(2)
        return z

    def at_soma(self, name: str, arrived: Tensor) -> Tensor:
        """Return credit on the activity at the somata: to the first winner of its window, or spread; times the slope."""
        return self.at_neurons(name, arrived) * SLOPE[self.network.populations[name].transfer.name](self.a[name])

    def at_neurons(self, name: str, arrived: Tensor) -> Tensor:
        """Return credit on the activity at the neurons: to the first winner of its window, or spread."""
        population = self.network.populations[name]
        somatic = arrived
        if population.pooling is not None:
            somatic = torch.zeros(len(arrived), *population.neurons, dtype=arrived.dtype)
            r = RHO[population.transfer.name](self.a[name])
            for i, j, ys, xs in self._windows(name):
                window = r[:, :, ys, xs]
                for row in range(len(arrived)):
                    for channel in range(population.shape[0]):
                        here = window[row, channel]
                        if population.pooling.kind == "max":
                            # With a rectified population whose window is silent, the drive decides; the slope is 0 anyway.
                            y, x = divmod(int(self.a[name][row, channel, ys, xs].argmax()), here.shape[1])
                            somatic[row, channel, ys.start + y, xs.start + x] += arrived[row, channel, i, j]
                        else:
                            somatic[row, channel, ys, xs] += arrived[row, channel, i, j] / here.numel()
        return somatic

    def update(self, name: str, factors: list[Any]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (dW, db) of every pathway onto a population from (gamma, dendrite, is_somatic)."""
        arrived = sum(torch.einsum("r,r...->r...", gamma.double(), dendrite.double()) for gamma, dendrite, _ in factors)
        somatic = arrived if factors[0][2] else self.at_soma(name, arrived)
        return {pathway.name: self.hebbian(pathway, somatic) for pathway in self.incoming(name)}

    def hebbian(self, pathway: FeedforwardPathway, somatic: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean over rows of somatic credit times presynaptic activity."""
        x, rows = self.x[pathway.name], len(somatic)
        if isinstance(pathway.connectivity, Convolution):
            weight = torch.einsum("rohw,rcyxhw->ocyx", somatic, self._patches(pathway, x)) / rows
            return weight, somatic.sum((0, 2, 3)) / rows
        flat = somatic.flatten(1)
        return torch.einsum("ro,ri->oi", flat, x.flatten(1)) / rows, flat.mean(0)

    # The three factors of CLAPP and forward-forward, from their equations (sections 1 to 3 of the reference).

    def cells(self, activity: Tensor, pool: Any) -> Tensor:
        """Return the average over cells of a map, (rows, channels times cells)."""
        if activity.ndim == 2 or pool is None:
            return activity.flatten(1)
        rows, _, height, width = activity.shape
        ky, kx = (height, width) if pool == "global" else (pool, pool)
        cells = [
            activity[:, :, i * ky : (i + 1) * ky, j * kx : (j + 1) * kx].mean((2, 3))
            for i in range(height // ky)
            for j in range(width // kx)
        ]
        return torch.stack(cells, 2).reshape(rows, -1)

    def spread(self, credit: Tensor, shape: tuple[int, ...], pool: Any) -> Tensor:
        """Return credit on averaged cells on the neurons; those in the remainder get none."""
        if len(shape) == 1 or pool is None:
            return credit.reshape(-1, *shape)
        channels, height, width = shape
        ky, kx = (height, width) if pool == "global" else (pool, pool)
        by_cell = credit.reshape(len(credit), channels, height // ky, width // kx)
        spread = torch.zeros(len(credit), *shape, dtype=credit.dtype)
        for y in range(height // ky * ky):
            for x in range(width // kx * kx):
                spread[:, :, y, x] = by_cell[:, :, y // ky, x // kx] / (ky * kx)
        return spread

    def clapp(self, name: str, names: list[str], moment: Moment, contrast: str) -> dict[str, Any]:
        """Return credit on a population, change of every B, scores and neuromodulators of a batched contrastive moment."""
        partner = moment.require(Fixation, "test").partner
        negatives = moment.require(Saccade, "test").negatives
        assert partner is not None
        shape = self.network.populations[name].shape
        rows, credit = len(partner), torch.zeros(len(partner), *shape, dtype=torch.float64)
        found: dict[str, Any] = {}
        for pathway_name in names:
            pathway, b = self.network.pathways[pathway_name], self.circuit.weights[pathway_name].weight
            z = self.cells(self.z[name], pathway.target_pool)  # type: ignore[attr-defined]
            c = self.cells(self.z[pathway.pre], pathway.source_pool)  # type: ignore[attr-defined]
            on_cells, change = torch.zeros_like(z), torch.zeros_like(b)
            score, gamma, saccade_gamma = torch.zeros(rows), torch.zeros(rows), torch.zeros(rows)
            score, gamma, saccade_gamma = score.double(), gamma.double(), saccade_gamma.double()
            for r in range(rows):
                predicted = b @ c[r]
                up = float(z[partner[r]] @ predicted)
                down = [float(z[n] @ predicted) for n in negatives[:, r]]
                if contrast == "hinge":
                    stay, jump = float(up < 1), [-float(u > -1) / len(down) for u in down]
                elif contrast == "softplus":
                    stay, jump = sigmoid(1 - up), [-sigmoid(1 + u) / len(down) for u in down]
                else:
                    stay = sigmoid(sum(down) / len(down) - up)
                    jump = [-stay / len(down)] * len(down)
                score[r], gamma[r], saccade_gamma[r] = up, stay, sum(jump)
                on_cells[partner[r]] += stay * predicted
                change += stay * torch.outer(z[partner[r]], c[r]) / rows
                for n, g in zip(negatives[:, r], jump, strict=True):
                    on_cells[n] += g * predicted
                    change += g * torch.outer(z[n], c[r]) / rows
            credit += self.spread(on_cells, shape, pathway.target_pool)  # type: ignore[attr-defined]
            found |= {pathway_name: change}
            found.setdefault(
                "signals", {"score": score, "gamma": gamma, "saccade_gamma": saccade_gamma, "dendrite": c @ b.T}
            )
        return {**found, "credit": credit}

    def clapp_as_published(self, name: str, moment: Moment, retrodiction: str) -> Tensor:
        """Return credit on a population by CLAPP with pairs of views and the hinge, both events in every row."""
        partner, negatives = moment.require(Fixation, "test").partner, moment.require(Saccade, "test").negatives
        assert partner is not None
        weights = self.circuit.weights
        b = weights[f"{name}=>{name}:k1"].weight
        r = weights[f"{name}=>{name}:back-k1"].weight if retrodiction == "own" else b.T
        z = self.cells(self.z[name], "global")
        credit = torch.zeros_like(z)
        for row in range(len(z)):
            events = [(int(partner[row]), 1.0, 1.0)] + [(int(n[row]), -1.0, 1 / len(negatives)) for n in negatives]
            for other, sign, share in events:
                if float(sign * (z[other] @ (b @ z[row]))) < 1:
                    credit[other] += sign * share * (b @ z[row])
                if float(sign * (z[row] @ (r @ z[other]))) < 1:
                    credit[row] += sign * share * (r @ z[other])
        return self.spread(credit, self.network.populations[name].shape, "global")

    def goodness(self, name: str, moment: Moment, paired: bool) -> tuple[Tensor, Tensor]:
        """Return gamma and dendrite of forward-forward, or of PhyLL."""
        z, sign = self.z[name].flatten(1), moment.require(Phase, "test").sign
        units = prod(self.network.populations[name].shape)
        g = (z * z).sum(1)
        gamma = torch.zeros(len(z), dtype=torch.float64)
        if paired:
            awake = [r for r in range(len(z)) if sign[r] > 0]
            asleep = [r for r in range(len(z)) if sign[r] < 0]
            for one, other in zip(awake, asleep, strict=True):
                gamma[one] = sigmoid(float(g[other] - g[one]) / units) * 2 / units
                gamma[other] = -gamma[one]
        else:
            for r in range(len(z)):
                gamma[r] = sigmoid(float(units - g[r])) if sign[r] > 0 else -sigmoid(float(g[r] - units))
        return gamma, 2 * self.z[name]

    def location_goodness(self, name: str, moment: Moment, thresholds: tuple[float, float]) -> Tensor:
        """Return credit at the soma of SCFF, place by place."""
        a, sign = self.a[name], moment.require(Phase, "test").sign
        rows, channels = a.shape[:2]
        r = a.clamp(min=0).reshape(rows, channels, -1)
        somatic = torch.zeros_like(r)
        for row in range(rows):
            of_phase = int((sign == sign[row]).sum())
            for p in range(r.shape[2]):
                g = float((r[row, :, p] ** 2).sum()) / channels
                gamma = sigmoid(thresholds[0] - g) if sign[row] > 0 else -sigmoid(g - thresholds[1])
                somatic[row, :, p] = gamma * (2 / channels) * r[row, :, p] / r.shape[2] * rows / of_phase
        return somatic.reshape(a.shape)

    def summed(self, credit: Tensor, pool: Any) -> Tensor:
        """Return the sum of credit over cells, (rows, channels times cells)."""
        if credit.ndim == 2 or pool is None:
            return credit.flatten(1)
        ky, kx = credit.shape[2:] if pool == "global" else (pool, pool)
        return self.cells(credit, pool) * ky * kx

    def backprop(
        self, top: Tensor, through: Mapping[str, Tensor] | None = None, block: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return credit on the activity of every population, carried down through transposed weights or others."""
        block = self.network.order if block is None else block
        credit = {block[-1]: top}
        for name in reversed(block):
            somatic = self.at_soma(name, credit[name])
            for pathway in self.incoming(name):
                if pathway.pre not in block:
                    continue
                assert pathway.normalisation is None, "not needed here"
                weight = (through or {}).get(pathway.name, self.circuit.weights[pathway.name].weight)
                down = self.transposed(pathway, somatic, weight)
                credit[pathway.pre] = credit.get(pathway.pre, torch.zeros_like(self.z[pathway.pre])) + down
        return credit

    def dual_propagation(self, top: Tensor, beta: float) -> dict[str, Tensor]:
        """Return the difference of both activities of every population, over beta."""
        arrived, differences = {self.network.top: top}, {}
        for name in reversed(self.network.order):
            rho, d = RHO[self.network.populations[name].transfer.name], self.at_neurons(name, arrived[name])
            differences[name] = (rho(self.a[name] + beta / 2 * d) - rho(self.a[name] - beta / 2 * d)) / beta
            for pathway in self.incoming(name):
                if pathway.pre != self.network.input.name:
                    down = self.transposed(pathway, differences[name], self.circuit.weights[pathway.name].weight)
                    arrived[pathway.pre] = arrived.get(pathway.pre, torch.zeros_like(down)) + down
        return differences

    def transposed(self, pathway: FeedforwardPathway, somatic: Tensor, weight: Tensor) -> Tensor:
        """Return what arrives below, by loops over the places."""
        shape = self.network.populations[pathway.pre].shape
        if not isinstance(pathway.connectivity, Convolution):
            return torch.einsum("oi,ro->ri", weight, somatic.flatten(1)).reshape(-1, *shape)
        (py, px), (sy, sx) = pair(pathway.connectivity.padding), pair(pathway.connectivity.stride)
        ky, kx = weight.shape[2:]
        channels, height, width = shape
        wide = torch.zeros(len(somatic), channels, height + 2 * py, width + 2 * px, dtype=torch.float64)
        for i in range(somatic.shape[2]):
            for j in range(somatic.shape[3]):
                wide[:, :, i * sy : i * sy + ky, j * sx : j * sx + kx] += torch.einsum(
                    "ro,ocyx->rcyx", somatic[:, :, i, j], weight
                )
        if pathway.connectivity.padding_mode != "reflect":
            return wide[:, :, py : py + height, px : px + width]
        below = torch.zeros(len(somatic), *shape, dtype=torch.float64)
        for y, source_y in enumerate(np.pad(np.arange(height), py, mode="reflect")):
            for x, source_x in enumerate(np.pad(np.arange(width), px, mode="reflect")):
                below[:, :, source_y, source_x] += wide[:, :, y, x]
        return below


def normalised(x: Tensor, how: str | None) -> Tensor:
    if how == "doubled":
        size = x.shape[1] // 2
        return normalised(x[:, :size], "standard") + normalised(x[:, size:], "standard")
    axes = tuple(range(1, x.ndim))
    if how == "standard":
        x = x - x.mean(axes, keepdim=True)
    return x if how is None else x / ((x**2).mean(axes, keepdim=True).sqrt() + 1e-8)


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def sigmoid(u: float) -> float:
    return float(1 / (1 + np.exp(-u)))


def deviation(got: Tensor, want: Tensor) -> float:
    """Return the largest difference relative to the largest entry."""
    assert got.shape == want.shape
    return float((got - want).abs().max()) / max(float(want.abs().max()), 1e-30)
