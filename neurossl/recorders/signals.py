"""Inner signals of a rule over learning: scores, neuromodulators, dendrites, errors, by name."""

from __future__ import annotations

from collections.abc import Sequence

from neurossl.errors import OptionError
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation


class SignalRecorder(Recorder):
    """What a rule computes on the way to its update, observer by observer.

    Parameters
    ----------
    names : sequence of str
        CLAPP: score, saccade_score, gamma, saccade_gamma, dendrite; goodness rules: goodness, gamma; supervised rules and
        predictive coding: error; rules of your own: what their `Credit` lists in ``signals``.
    every : int
    populations : sequence of str, optional
        All of them by default.
    """

    wants_signals = True

    def __init__(self, names: Sequence[str] | str, every: int, populations: Sequence[str] | None = None) -> None:
        super().__init__(kind="signals", every=every)
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.populations = None if populations is None else tuple(populations)
        if not self.names:
            raise OptionError("SignalRecorder: would record nothing: name a signal such as 'score'")

    def declare(self, now: Observation) -> None:
        """See that the populations are there; signals declare themselves with their first record."""
        for population in self.populations or ():
            now.network.population(population)

    def after(self, now: Observation) -> None:
        """Record the signals of this moment.

        Raises
        ------
        OptionError
            If the rule has none of that name; lists those that it has.
        """
        missing = set(self.names)
        silent = set(self.populations or ())
        for population, signals in now.signals.items():
            if self.populations is not None and population not in self.populations:
                continue
            values = {name: signals[name] for name in self.names if name in signals}
            if not values:
                continue
            missing -= set(values)
            silent.discard(population)
            for name, value in values.items():
                axes = ("row", *(f"{name}_{axis}" for axis in range(1, value.ndim)))[: value.ndim]
                self.declares_one(population, name, axes)
            self.record(now, "signals", population, {_safe(name): value.float() for name, value in values.items()})
        if missing or silent:
            there = sorted({name for signals in now.signals.values() for name in signals})
            where = f"at {', '.join(map(repr, sorted(silent)))}" if silent and not missing else "here"
            lacking = ", ".join(map(repr, [name for name in self.names if name in missing] or self.names))
            raise OptionError(
                f"SignalRecorder: rule {now.rule.name!r} has no signal {lacking} {where}; "
                f"it has: {', '.join(there) or 'none'}"
            )

    def declares_one(self, population: str, name: str, axes: tuple[str, ...]) -> None:
        """Say the axes of a signal, before its first record."""
        self._dims[_safe(name)] = axes
        self._descriptions.setdefault(_safe(name), f"{name} of the rule")


def _safe(name: str) -> str:
    """Return a name without blanks and arrows."""
    return name.replace("->", "_to_").replace("=>", "_back_to_").replace(" ", "_").replace(":", "_")
