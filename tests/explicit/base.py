"""A small network in explicit numpy: forward sweep, gates, winners, transport of credit, Hebbian outer products.

Conventions. Every array has the rows (observers) first. `params` is one flat dictionary with the names of the files:
"weight/V0->V1", "bias/V0->V1", "weight/V1=>V1" ... A *credit* is minus the gradient of a loss (it points uphill), and an
*update* is a dictionary with keys of `params`; it is the sum over rows of credit x presynaptic value, so credits must hold
the 1/R of a mean over rows already. Credit on an *activity* has the shape after pooling, on a
*drive* the shape before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .neurons import Array, from_windows, normalise, normalise_back, slope, spread, transfer, windows

Params = dict[str, Array]


@dataclass
class Population:
    """Units or a map; `neurons` is (units,) or (channels, height, width) before pooling."""

    name: str
    neurons: tuple[int, ...]
    transfer: str = "linear"
    pooling: dict | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the activity, after pooling."""
        if self.pooling is None:
            return self.neurons
        channels, height, width = self.neurons
        k = self.pooling["kernel"]
        return channels, height // k, width // k

    @property
    def size(self) -> int:
        """Number of values of the activity."""
        return int(np.prod(self.shape))


@dataclass
class Pathway:
    """Feedforward pathway; `kernel` None is dense, else a convolution (cross-correlation, zero padding)."""

    pre: str
    post: str
    kernel: int | None = None
    stride: int = 1
    padding: int = 0
    bias: bool = True
    normalisation: str | None = None

    @property
    def name(self) -> str:
        """Such as V0->V1."""
        return f"{self.pre}->{self.post}"


@dataclass
class Network:
    """Populations in the order of the sweep, the input first."""

    populations: list[Population]
    pathways: list[Pathway]

    def __getitem__(self, name: str) -> Population:
        return next(p for p in self.populations if p.name == name)

    @property
    def input(self) -> Population:
        """The stimulus' population."""
        return self.populations[0]

    @property
    def driven(self) -> list[Population]:
        """All but the input."""
        return self.populations[1:]

    @property
    def top(self) -> Population:
        """The last one."""
        return self.populations[-1]

    def onto(self, name: str) -> list[Pathway]:
        """Pathways that end at a population."""
        return [p for p in self.pathways if p.post == name]

    def out_of(self, name: str) -> list[Pathway]:
        """Pathways that start at a population."""
        return [p for p in self.pathways if p.pre == name]

    def weight_shape(self, path: Pathway) -> tuple[int, ...]:
        """(post, pre) or (post channels, pre channels, k, k); half as many presynaptic ones where they are doubled."""
        halves = 2 if path.normalisation == "doubled" else 1
        pre, post = self[path.pre].shape, self[path.post].neurons
        if path.kernel is None:
            return int(np.prod(post)), int(np.prod(pre)) // halves
        return post[0], pre[0] // halves, path.kernel, path.kernel

    def bias_shape(self, path: Pathway) -> tuple[int]:
        """One value per unit (dense) or channel (convolution)."""
        return (self.weight_shape(path)[0],)


@dataclass
class Sweep:
    """What one forward sweep leaves behind; `seen` are the presynaptic values after normalisation, by pathway."""

    activity: Params = field(default_factory=dict)
    drive: Params = field(default_factory=dict)
    seen: Params = field(default_factory=dict)


def respond(pop: Population, drive: Array) -> Array:
    """Activity: transfer, then pooling."""
    z = transfer(pop.transfer, drive)
    if pop.pooling is None:
        return z
    cells = windows(z, pop.pooling["kernel"])
    return cells.max(axis=-1) if pop.pooling["kind"] == "max" else cells.mean(axis=-1)


def unpool(pop: Population, drive: Array, credit: Array) -> Array:
    """Credit on the activity to credit on the neurons: to the (first) winner, or divided over an average's cell."""
    if pop.pooling is None:
        return credit.copy()
    k, (_, height, width) = pop.pooling["kernel"], pop.neurons
    if pop.pooling["kind"] == "average":
        return spread(credit, k, height, width)
    winner = windows(transfer(pop.transfer, drive), k).argmax(axis=-1)
    return from_windows(np.eye(k * k)[winner] * credit[..., None], k, height, width)


def to_drive(pop: Population, drive: Array, credit: Array) -> Array:
    """Credit on the activity to credit on the drive: un-pooled, times rho'."""
    return unpool(pop, drive, credit) * slope(pop.transfer, drive)


def taps(path: Pathway, x: Array, out: tuple[int, int]) -> list[tuple[int, int, Array]]:
    """For every (ky, kx) of a kernel, the presynaptic values that it sees at the postsynaptic locations."""
    p, s, (height, width) = path.padding, path.stride, out
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    return [
        (ky, kx, padded[:, :, ky : ky + s * (height - 1) + 1 : s, kx : kx + s * (width - 1) + 1 : s])
        for ky in range(path.kernel)
        for kx in range(path.kernel)
    ]


def excite(path: Pathway, weight: Array, seen: Array, neurons: tuple[int, ...]) -> Array:
    """W x (no bias) on the neurons of the postsynaptic population."""
    if path.kernel is None:
        return (seen.reshape(len(seen), -1) @ weight.T).reshape(len(seen), *neurons)
    out = np.zeros((len(seen), *neurons))
    for ky, kx, x in taps(path, seen, neurons[1:]):
        out += np.einsum("oc,rchw->rohw", weight[:, :, ky, kx], x)
    return out


def transport(path: Pathway, weight: Array, delta: Array, shape: tuple[int, ...]) -> Array:
    """W^T delta: credit on the postsynaptic drive to credit on what the synapses saw (of shape `shape`, without rows)."""
    if path.kernel is None:
        return (delta.reshape(len(delta), -1) @ weight).reshape(len(delta), *shape)
    channels, height, width = shape
    p, s = path.padding, path.stride
    _, _, out_h, out_w = delta.shape
    back = np.zeros((len(delta), channels, height + 2 * p, width + 2 * p))
    for ky in range(path.kernel):
        for kx in range(path.kernel):
            part = np.einsum("oc,rohw->rchw", weight[:, :, ky, kx], delta)
            back[:, :, ky : ky + s * (out_h - 1) + 1 : s, kx : kx + s * (out_w - 1) + 1 : s] += part
    return back[:, :, p : p + height, p : p + width]


def hebbian(path: Pathway, delta: Array, seen: Array) -> Params:
    """Update of a pathway: sum over rows (and locations) of delta outer x, and of delta for the bias."""
    if path.kernel is None:
        flat = delta.reshape(len(delta), -1)
        weight, bias = np.einsum("rj,ri->ji", flat, seen.reshape(len(seen), -1)), flat.sum(axis=0)
    else:
        weight = np.zeros((delta.shape[1], seen.shape[1], path.kernel, path.kernel))
        for ky, kx, x in taps(path, seen, delta.shape[2:]):
            weight[:, :, ky, kx] = np.einsum("rohw,rchw->oc", delta, x)
        bias = delta.sum(axis=(0, 2, 3))
    return {f"weight/{path.name}": weight} | ({f"bias/{path.name}": bias} if path.bias else {})


def drive_of(net: Network, params: Params, pop: Population, activity: Params, seen: Params | None = None) -> Array:
    """Drive of one population from the activities below it; what the synapses see is left in `seen`."""
    rows = len(next(iter(activity.values())))
    drive = np.zeros((rows, *pop.neurons))
    for path in net.onto(pop.name):
        x = normalise(path.normalisation, activity[path.pre])
        if seen is not None:
            seen[path.name] = x
        drive = drive + excite(path, params[f"weight/{path.name}"], x, pop.neurons)
        if path.bias:
            bias = params[f"bias/{path.name}"]
            drive = drive + (bias[:, None, None] if path.kernel is not None else bias.reshape(pop.neurons))
    return drive


def forward(net: Network, params: Params, stimulus: Array) -> Sweep:
    """The forward sweep."""
    sweep = Sweep({net.input.name: stimulus})
    for pop in net.driven:
        sweep.drive[pop.name] = drive_of(net, params, pop, sweep.activity, sweep.seen)
        sweep.activity[pop.name] = respond(pop, sweep.drive[pop.name])
    return sweep


def learn(net: Network, sweep: Sweep, name: str, delta: Array) -> Params:
    """Updates of all pathways onto a population from the credit on its drive."""
    parts = [hebbian(path, delta, sweep.seen[path.name]) for path in net.onto(name)]
    return {key: value for part in parts for key, value in part.items()}


def carry(net: Network, weight: Array, path: Pathway, sweep: Sweep, delta: Array) -> Array:
    """Credit on the drive of path.post to credit on the activity of path.pre, through a weight and the normalisation."""
    activity, seen = sweep.activity[path.pre], sweep.seen[path.name]
    return normalise_back(path.normalisation, activity, transport(path, weight, delta, seen.shape[1:]))


def backward(
    net: Network, params: Params, sweep: Sweep, credit: Params, weights: Params | None = None
) -> tuple[Params, Params]:
    """Updates of all pathways, and credit on all activities, from the credits that arise at some of the activities.

    The credit is carried down through the weights themselves (backprop), or, by pathway name, through those in `weights`,
    shaped like them.
    """
    total = {p.name: np.zeros_like(sweep.activity[p.name]) for p in net.populations}
    for name, part in credit.items():
        total[name] = total[name] + part
    update: Params = {}
    for pop in reversed(net.driven):
        delta = to_drive(pop, sweep.drive[pop.name], total[pop.name])
        update |= learn(net, sweep, pop.name, delta)
        for path in net.onto(pop.name):
            if path.pre != net.input.name:
                weight = params[f"weight/{path.name}"] if weights is None else weights[path.name]
                total[path.pre] = total[path.pre] + carry(net, weight, path, sweep, delta)
    return update, total
