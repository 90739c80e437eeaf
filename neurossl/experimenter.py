"""What an experimenter does to a running simulation, each act an entry of the stored run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.anatomy.populations import Population
from neurossl.dynamics.manipulations import Manipulation
from neurossl.errors import NetworkError

if TYPE_CHECKING:
    from neurossl.engine.weights import Weights


class Experimenter:
    """Lesions, frozen pathways, silenced, clamped and stimulated populations; a base of `Simulation`."""

    weights: Weights
    frozen: set[str]
    manipulations: dict[str, Manipulation]

    def note(self, what: str, **about: Any) -> None:
        """Store that something was done to the simulation now; `Simulation` does it."""
        raise AssertionError("a simulation notes it")

    def lesion(self, pathway: str) -> None:
        """Cut a pathway: its weights and biases become 0 and stay so.

        Raises
        ------
        NetworkError
            If there is no such pathway.
        """
        held = self.weights[pathway]
        with torch.no_grad():
            for parameter in held.present:
                parameter.zero_()
        self.weights.changed(pathway)
        self.frozen.add(pathway)
        self.note("lesion", pathway=pathway)

    def freeze(self, pathway: str) -> None:
        """Let a pathway keep its weights from now on."""
        self.weights.network.pathway(pathway)
        self.frozen.add(pathway)
        self.note("freeze", pathway=pathway)

    def thaw(self, pathway: str) -> None:
        """Let a frozen pathway learn again."""
        self.weights.network.pathway(pathway)
        self.frozen.discard(pathway)
        self.note("thaw", pathway=pathway)

    def silence(self, population: str) -> None:
        """Keep a population from sending anything, until `release`."""
        self._manipulate(population, "silence")

    def clamp(self, population: str, activity: Any) -> None:
        """Hold the activity of a population at a value, until `release`.

        Parameters
        ----------
        population : str
        activity : float, Tensor or array, broadcast to (*population shape)
        """
        shape = self._above(population).shape
        self._manipulate(population, "clamp", self._value(activity, shape, f"clamp({population!r})"))

    def stimulate(self, population: str, drive: Any) -> None:
        """Add a drive to that of the synapses of a population, until `release`.

        Parameters
        ----------
        population : str
        drive : float, Tensor or array, broadcast to (*neurons)
        """
        shape = self._above(population).neurons
        self._manipulate(population, "stimulate", self._value(drive, shape, f"stimulate({population!r})"))

    def release(self, population: str) -> None:
        """End what was done to a population."""
        self.weights.network.population(population)
        self.manipulations.pop(population, None)
        self.note("release", population=population)

    def _above(self, population: str) -> Population:
        found = self.weights.network.population(population)
        if found.is_input:
            raise NetworkError(f"{population!r} is the input population: change the stimulus instead")
        return found

    def _manipulate(self, population: str, kind: str, value: Tensor | None = None) -> None:
        self._above(population)
        self.manipulations[population] = Manipulation(kind, value)
        self.note(kind, population=population)

    def _value(self, given: Any, shape: tuple[int, ...], where: str) -> Tensor:
        weights = self.weights
        expected = f"{where}: expected a number or values of shape {shape}, got"
        try:
            value = torch.as_tensor(given).to(weights.device, weights.dtype)
        except (TypeError, ValueError, RuntimeError):
            raise NetworkError(f"{expected} {given!r}") from None
        if not bool(value.isfinite().all()):
            raise NetworkError(f"{where}: expected finite values, got {'NaN' if bool(value.isnan().any()) else 'infinity'}")
        try:
            return value.expand(shape).clone()
        except RuntimeError:
            raise NetworkError(f"{expected} {tuple(value.shape)}") from None
