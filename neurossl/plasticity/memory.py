"""What a rule remembers from one moment to the next: running averages, traces, eligibilities. Part of the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.anatomy.populations import Population
from neurossl.engine.projections import SomaticProjection
from neurossl.errors import EventError, NetworkError, OptionError
from neurossl.generators import Generators

if TYPE_CHECKING:
    from neurossl.plasticity.rule import Rule

KINDS = ("population", "rows", "scalar", "synapses")


class Memory:
    """The declared state of a rule at every population, and what it has been asked to become.

    Parameters
    ----------
    generators : Generators, optional
        The simulation's named generators.
    """

    def __init__(self, generators: Generators | None = None) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._pending: dict[str, Tensor] = {}
        self._generators = generators or Generators()

    def generator(self, name: str) -> torch.Generator:
        """Return a named generator."""
        return self._generators[name]

    def at(
        self, name: str, population: Population, rule: Rule, like: Tensor, projections: Sequence[SomaticProjection]
    ) -> dict[str, Any]:
        """Return the rule's state at a population; 0 where nothing has been remembered yet.

        Parameters
        ----------
        name : str
            Of the population.
        population : Population
        rule : Rule
        like : Tensor, (rows, ...)
            For the number of rows, device and number type.
        projections : sequence of SomaticProjection
            Onto the population.
        """
        dtype = torch.float32 if like.dtype == torch.bfloat16 else like.dtype
        found: dict[str, Any] = {}
        for item, kind in rule.state.items():
            if kind == "synapses":
                shape = {p.name: (len(like), *p.weight.shape) for p in projections}
                found[item] = {p: self._held(f"{name}/{item}/{p}", of, like, dtype) for p, of in shape.items()}
                continue
            shapes = {"population": population.shape, "rows": (len(like), *population.shape), "scalar": ()}
            if kind not in shapes:
                raise OptionError(f"rule {rule.name!r}: state {item!r} is {kind!r}, expected one of {', '.join(KINDS)}")
            found[item] = self._held(f"{name}/{item}", shapes[kind], like, dtype)
        return found

    def _held(self, key: str, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
        held = self.tensors.get(key)
        if held is not None and held.shape != shape and bool(held.any()):
            raise EventError(
                f"the rule remembers {key!r} of {len(held)} rows, but the moment has {len(like)}: keep the number of "
                "observers within a run, or call simulation.reset()"
            )
        if held is None or held.shape != shape:
            held = self.tensors[key] = torch.zeros(shape, dtype=dtype, device=like.device)
        return held

    def remember(
        self, population: str, said: Mapping[str, Tensor | Mapping[str, Tensor]], rule: Rule, held: Mapping[str, Any]
    ) -> None:
        """Note new values, which hold once the moment's changes are applied.

        Parameters
        ----------
        population : str
        said : mapping
            By name; for "synapses" a mapping by pathway.
        rule : Rule
        held : mapping
            What has been remembered until now (`at`), whose shapes they keep.

        Raises
        ------
        NetworkError
            If the rule has not declared them, or they have another shape.
        """
        for item, value in said.items():
            if item not in rule.state:
                declared = ", ".join(rule.state) or "nothing"
                raise NetworkError(
                    f"rule {rule.name!r} at {population!r}: state {item!r} is not declared (declared: {declared}): "
                    f"add state = {{{item!r}: ...}} to the rule"
                )
            before = held[item] if isinstance(held[item], Mapping) else {"": held[item]}
            for pathway, new in (value if isinstance(value, Mapping) else {"": value}).items():
                where = f"rule {rule.name!r} at {population!r}: state {item!r} ({rule.state[item]})"
                if pathway not in before:
                    there = ", ".join(map(repr, before)) if rule.state[item] == "synapses" else "one tensor"
                    raise NetworkError(f"{where}: expected {there}, got {pathway or 'one tensor'!r}")
                new = torch.as_tensor(new, dtype=before[pathway].dtype, device=before[pathway].device)
                if new.shape != before[pathway].shape:
                    shapes = f"expected {tuple(before[pathway].shape)}, got {tuple(new.shape)}"
                    raise NetworkError(f"{where} must keep its shape: {shapes}")
                # A copy where it is what the synapses hold or saw: the state changes by itself alone.
                self._pending[f"{population}/{item}" + (f"/{pathway}" if pathway else "")] = new.detach().clone()

    def keep(self) -> None:
        """Let what was noted hold."""
        self.tensors.update(self._pending)
        self._pending = {}

    def noted(self) -> dict[str, Tensor]:
        """Return what has been noted and does not hold yet."""
        return dict(self._pending)

    def forget(self) -> None:
        """Forget everything."""
        self.tensors, self._pending = {}, {}
