"""What tests of the measures beside a cosine share: what happened in a moment, what was recorded, gradients written out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from conftest import MemoryStore, simulated
from oracle import Autograd
from torch import Tensor

from neurossl import Circuit, Simulation, Weights
from neurossl.events import Fixation, Moment, Saccade, Teaching
from neurossl.plasticity import Rule, Synapses
from neurossl.recorders import AlignmentMeasures


def partner_of(moment: Moment) -> Tensor:
    return moment.require(Fixation, "test").partner


def negatives_of(moment: Moment) -> Tensor:
    return moment.require(Saccade, "test").negatives


def labels_of(moment: Moment) -> Tensor:
    return moment.require(Teaching, "test").labels


def recorded(
    circuit: Circuit, rule: Rule | str, moments: Sequence[Moment], seed: int = 0, lr: float = 1e-3, **options: Any
) -> tuple[MemoryStore, Simulation]:
    """Return what was recorded, and the simulation."""
    store = MemoryStore()
    recorder = AlignmentMeasures(1, **options)
    simulation = simulated(circuit, rule, Synapses("sgd", lr=lr), seed=seed, store=store, recorders=[recorder])
    simulation.run(moments)
    return store, simulation


def gradients_of(circuit: Circuit, loss_of: Callable[[dict[str, Tensor]], Tensor], stimulus: Tensor) -> dict[str, Tensor]:
    """Return minus the gradient of a loss at the top, by autograd."""
    oracle = Autograd(circuit)
    z, _ = oracle.sweep(stimulus, detach=False)
    found = oracle.gradients(loss_of(z))
    return {name: found[name][0] for name in circuit.network.feedforward}


def supervised_gradients(circuit: Circuit, stimulus: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return gradients_of(circuit, lambda z: F.cross_entropy(z["readout"], labels), stimulus)


def beginning(circuit: Circuit, simulation: Simulation) -> Circuit:
    """Return the circuit with which a simulation began: given weights, and the feedback that its seed draws."""
    network = simulation.network
    return Circuit(network, Weights.draw(network, simulation.seed, dtype="float64", given=circuit.weights))
