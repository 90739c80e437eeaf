"""Does the credit of a population foresee what a change of its activity does to the objective? (M8)

At a few observers the activity is pushed by eps along M random unit directions v, one observer and one direction at a time,
and the reference objective of the moment is computed anew, contexts held:

    rho = Pearson over v of  -<credit, v>  with  L(z + eps v) - L(z),   then the mean over the observers

Backprop's credit has a rho of nearly 1 (what is missing are kinks within eps), random credit one of about 0. All in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.dynamics.manipulations import Manipulation
from neurossl.events import Fixation, Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.proposal import losses
from neurossl.plasticity.rule import Rule


class Perturbed:
    """The reference objective of one moment, as a function of the activity of a population at single observers.

    Parameters
    ----------
    reference : Rule
    activity : Activity
        The response.
    moment : Moment
    generator : torch.Generator
        Of the observers and the directions.
    directions : int
    rows : int
        Rows at which the activity is pushed.
    size : float
        eps.
    """

    def __init__(
        self,
        reference: Rule,
        activity: Activity,
        moment: Moment,
        generator: torch.Generator,
        directions: int = 32,
        rows: int = 4,
        size: float = 1e-3,
    ) -> None:
        now = activity.circuit
        weights = now.weights.to(now.device, torch.float64)
        execution = replace(now.execution, products=None)
        self._circuit = Circuit(now.network, weights, execution, now.frozen, now.manipulations)
        self._reference, self._generator = reference, generator
        self._moment = moment.to(now.device, torch.float64)
        self._stimulus = self._circuit.stimulus_of(self._moment.require(Fixation, by="perturbation"))
        swept = self._circuit.sweep(self._stimulus)
        traces = {name: trace.double() for name, trace in activity.held.items()} if activity.context is not None else None
        self._held = swept.output if traces is None else traces
        self._base = swept.with_changes(context=self._held, traced=activity.traced)
        self._rows = torch.randperm(activity.rows, generator=generator)[:rows].to(now.device)
        self._directions, self._size = directions, size
        self._initial = self._loss(self._base)

    def _loss(self, activity: Activity) -> float:
        return sum(float(part) for part in losses(self._reference, activity, self._moment).values())

    def correlations(self, population: str, credits: Mapping[str, Credit]) -> dict[str, float]:
        """Return rho of several credits at a population, on the same directions.

        Parameters
        ----------
        population : str
        credits : mapping of str to Credit
            By a name of one's own. On the activity; at the soma if one of them is given there alone.

        Returns
        -------
        dict of str to float
            NaN where a credit or the change of the objective is the same in all directions, or an experimenter holds the
            population.
        """
        said = {
            name: credit for name, credit in credits.items() if credit.activity is not None or credit.somatic is not None
        }
        unknown = dict.fromkeys(credits, math.nan)
        at_soma = any(credit.activity is None for credit in said.values())
        if not said or population in self._circuit.manipulations:
            return unknown
        if at_soma and any(credit.somatic is None for credit in said.values()):
            return unknown
        anatomy = self._circuit.network.populations[population]
        shape = anatomy.neurons if at_soma else anatomy.shape
        pushes = self._unit(shape)
        true = self._at_the_soma(population, pushes) if at_soma else self._on_the_activity(population, pushes)
        found = dict(unknown)
        for name, credit in said.items():
            tensor = credit.somatic if at_soma else credit.activity
            assert tensor is not None, "one of both is given"
            here = tensor[self._rows].double()
            foreseen = -(here * pushes).flatten(2).sum(2)
            found[name] = _mean_correlation(foreseen, true)
        return found

    def _unit(self, shape: tuple[int, ...]) -> Tensor:
        """Return random unit directions, (directions, rows, *shape)."""
        drawn = torch.randn(self._directions, len(self._rows), *shape, generator=self._generator, dtype=torch.float64)
        length = drawn.flatten(2).norm(dim=2)
        return (drawn / length.view(*length.shape, *[1] * len(shape))).to(self._circuit.device)

    def _on_the_activity(self, population: str, pushes: Tensor) -> Tensor:
        """Return the change of the objective with each push, (directions, rows): only the pushed rows respond anew."""
        network = self._circuit.network
        top = self._reference.stands_at(network)
        count, rows = pushes.shape[:2]
        pushed = (self._base.output[population][self._rows] + self._size * pushes).flatten(0, 1)
        shown = self._stimulus[self._rows].repeat(count, *[1] * (self._stimulus.ndim - 1))
        swept = self._circuit.sweep(shown, {population: pushed})
        output = pushed if population == top else swept.output[top]
        onto_top = [p.name for p in network.incoming(top)]
        changes = []
        for number in range(count * rows):
            row = self._rows[number % rows]
            z = _with_row(self._base.output[top], row, output[number])
            seen = {name: _with_row(self._base.presynaptic[name], row, swept.presynaptic[name][number]) for name in onto_top}
            activity = self._base.with_changes(
                output={**self._base.output, top: z},
                source={**self._base.source, top: z},
                responses={**self._base.responses, top: self._base.responses[top]._replace(activity=z)},
                presynaptic={**self._base.presynaptic, **seen},
            )
            changes.append(self._loss(activity) - self._initial)
        return torch.tensor(changes, dtype=torch.float64).view(count, rows).to(pushes.device)

    def _at_the_soma(self, population: str, pushes: Tensor) -> Tensor:
        """Return the change of the objective with each push of the drive, (directions, rows)."""
        count, rows = pushes.shape[:2]
        changes = []
        for direction in range(count):
            for number in range(rows):
                added = pushes.new_zeros(self._base.rows, *pushes.shape[2:])
                added[self._rows[number]] = self._size * pushes[direction, number]
                held = {**self._circuit.manipulations, population: Manipulation("stimulate", added)}
                circuit = Circuit(
                    self._circuit.network, self._circuit.weights, self._circuit.execution, self._circuit.frozen, held
                )
                swept = circuit.sweep(self._stimulus).with_changes(context=self._held, traced=self._base.traced)
                changes.append(self._loss(swept) - self._initial)
        return torch.tensor(changes, dtype=torch.float64).view(count, rows).to(pushes.device)


def _with_row(tensor: Tensor, row: Tensor, value: Tensor) -> Tensor:
    """Return a copy with another row."""
    changed = tensor.clone()
    changed[row] = value
    return changed


def _mean_correlation(foreseen: Tensor, true: Tensor) -> float:
    """Return the mean over rows of Pearson's correlation over directions, (directions, rows); NaN rows left out."""
    a, b = foreseen - foreseen.mean(0), true - true.mean(0)
    norms = a.norm(dim=0) * b.norm(dim=0)
    there = norms > 0
    return float(((a * b).sum(0)[there] / norms[there]).mean()) if bool(there.any()) else math.nan
