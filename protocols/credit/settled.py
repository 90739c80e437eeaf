"""Arms of `protocols.ssl_credit_assignment` that a referee asks for: settling until nothing moves, and backprop as often."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.events import Moment
from neurossl.plasticity import Backprop, Objective, PredictiveCoding
from neurossl.plasticity.locality import Scope

REST, WINDOW = 0.01, 10
"""Values are at rest once so many steps in a row have lowered the energy by less than this share of what all have."""
MOST_STEPS = 200


class SettledPredictiveCoding(PredictiveCoding):
    """Predictive coding that settles to an equilibrium: until ten steps change the energy by less than a hundredth.

    The values descend the energy of all rows. The rate of a step is that of Barzilai and Borwein (1988),
    ``|dv|^2 / <dv, dg>`` of the last changes of values and slope; a step that raises the energy is taken back and tried
    again with a quarter of its rate. The synapses learn once, from the errors at the end. The energy of rectified units has
    kinks, and at its minimum the force need not be 0: that is why rest is told by the energy.

    Parameters
    ----------
    objective : Objective
    steps : int
        Most steps, those that are taken back among them.
    rate : float
        Of the first step.
    """

    def __init__(self, objective: Objective, steps: int = MOST_STEPS, rate: float = 0.1) -> None:
        super().__init__(objective, steps=steps, rate=rate)
        self.needs = self.needs | {"other observers"}  # one energy, and one rate, for all of them
        self.transport = "predictive coding, at rest"

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what has settled; its notes are the "energy" per row before and after every step."""
        state, values = self._begun(scope, moment)
        errors = self._errors(state, moment, values)
        energies = [self._energy(state, moment, errors)]
        force, rate = self._force(state, errors, values), self.rate
        while len(energies) <= self.steps and not self.is_at_rest(energies):
            moved = {name: value + rate * force[name] for name, value in values.items()}
            there = scope.predict(moved)
            wrong = self._errors(there, moment, moved)
            reached = self._energy(there, moment, wrong)
            if not reached <= energies[-1]:
                energies.append(energies[-1])
                rate /= 4
                continue
            state, values, errors, before = there, moved, wrong, force
            energies.append(reached)
            force = self._force(state, errors, values)
            slower = _inner(before, before) - _inner(before, force)
            rate *= _inner(before, before) / slower if slower > 0 else 2.0
        yield state.settled(errors, {"energy": torch.tensor(energies)})

    @staticmethod
    def is_at_rest(energies: Sequence[float]) -> bool:
        """Return whether the energies before and after every step say that nothing moves any more."""
        if len(energies) <= WINDOW:
            return False
        return energies[-1 - WINDOW] - energies[-1] <= REST * (energies[0] - energies[-1])

    def _force(self, state: Scope, errors: dict[str, Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the force on all values: minus the slope of the energy of their row."""
        moved = self._relaxed(state, errors, values, 1.0)
        return {name: moved[name] - value for name, value in values.items()}

    def _energy(self, state: Scope, moment: Moment, errors: dict[str, Tensor]) -> float:
        """Return the mean energy per row."""
        below = sum(float(e.square().sum()) for name, e in errors.items() if name != state.top)
        return float(self.top_credit(state, moment).loss) + below / (2 * len(errors[state.top]))


def _inner(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[name] * other[name]).sum()) for name in one)


class RepeatedBackprop(Backprop):
    """Backprop that learns from every moment so many times, each time from a new sweep: as often as incremental PC does.

    Parameters
    ----------
    objective : Objective
    times : int
    """

    changes_while_settling = True

    def __init__(self, objective: Objective, times: int) -> None:
        super().__init__(objective)
        self.times = whole(times, "repeated backprop: times")
        self.needs = self.needs | {"settling"}  # as learning again from the same moment is called
        self.transport = f"backprop, {times} times per moment"
        self.name = f"{self.transport} of {objective.name}"

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield the response as it is, and then what it has become by learning."""
        yield scope
        for _ in range(self.times - 1):
            yield scope.predict({}, first=False)
