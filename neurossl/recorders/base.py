"""Recorders: observers of a simulation that hand what they see to its store.

A recorder never changes a result: it draws from generators of its own and leaves the weights as they were. Moment n is the
state after the n-th learning moment; moment 0 the state before the first. One of your own, in three lines::

    def scores(now):
        return {"V1": {"rate": now.activity["V1"].mean()}}

    recorder = Recorder(scores, kind="scores", every=10, units={"rate": "1"})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError
from neurossl.recorders.observation import Observation
from neurossl.store import Coords, Store, Variable
from neurossl.units import without_unit

if TYPE_CHECKING:
    from neurossl.anatomy.network import Network
    from neurossl.plasticity.rule import Rule

Values = Mapping[str, Mapping[str, Any]]


class Recorder:
    """A function of the simulation that is stored, and base of all recorders.

    Parameters
    ----------
    function : callable, optional
        Is given an `Observation` after every update that is due, from the first on, and returns
        ``{name: {variable: value}}``: for every population, pathway or anything else, numbers or arrays of one shape.
        Subclasses override `declare` and `after`.
    kind : str
        Name of the group in which the values are stored.
    every : int
        Learning moments between records.
    units : mapping of str to str
        Of the variables.
    descriptions : mapping of str to str
        Of the variables.
    dims : mapping of str to sequence of str
        Names of the axes of variables that are arrays.

    Attributes
    ----------
    wants_updates : bool
        Whether it needs the proposed updates.
    wants_signals : bool
        Whether it needs the inner signals of the rule.
    """

    wants_updates = False
    wants_signals = False

    def __init__(
        self,
        function: Callable[[Observation], Values] | None = None,
        *,
        kind: str = "own",
        every: int = 1,
        units: Mapping[str, str] | None = None,
        descriptions: Mapping[str, str] | None = None,
        dims: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        if function is not None and not callable(function):
            raise OptionError(f"{type(self).__name__}: expected a function of the observation, got {function!r}")
        if function is None and type(self) is Recorder:
            raise OptionError("Recorder: would record nothing: give it a function of the observation")
        if not isinstance(kind, str):
            raise OptionError(f"{type(self).__name__}: kind is the name of a group, got {kind!r}")
        for name, given in (("units", units), ("descriptions", descriptions), ("dims", dims)):
            if given is not None and not isinstance(given, Mapping):
                raise OptionError(f"{type(self).__name__}: {name} go by variable, as {{'rate': ...}}, got {given!r}")
        self.function = function
        self.kind = kind
        self.every = whole(every, f"{type(self).__name__}: every (moments)")
        self._units, self._descriptions, self._dims = dict(units or {}), dict(descriptions or {}), dict(dims or {})
        self._store: Store | None = None
        self._declared: set[tuple[str, str]] = set()
        self._looked: set[str] = set()
        self._former: tuple[Store | None, set[tuple[str, str]]] = (None, set())

    def first_look(self, step: str) -> bool:
        """Return whether it looks for the first time at this step of a moment: begin, before, after or end."""
        first = step not in self._looked
        self._looked.add(step)
        return first

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Take the store of a simulation.

        Raises
        ------
        OptionError
            If there is none: what is recorded would be lost. Or if the recorder has one already.
        """
        if store is None:
            raise OptionError(f"{self!r} has nowhere to record to: give the simulation store=TrajectoryWriter(folder)")
        if self._store is not None:
            raise OptionError(f"{self!r} records another simulation already: make one of its own for each")
        self._store = store
        if self._former[0] is store:  # taken away for a while
            self._declared = self._former[1]

    def detach(self) -> None:
        """Give the store back: another simulation may have the recorder."""
        self._former = self._store, self._declared
        self._store = None
        self._declared, self._looked = set(), set()

    def wire(self, network: Network) -> None:
        """Add the pathways that the recorder's reference needs."""

    def due(self, moment: int) -> bool:
        """Return whether this moment is to be recorded."""
        return moment % self.every == 0

    def begin(self, now: Observation) -> None:
        """Declare, and record the state before the first update where that is possible."""
        self.declare(now)

    def declare(self, now: Observation) -> None:
        """Declare what will be recorded; a recorder of a function does so at its first record."""

    def before(self, now: Observation) -> None:
        """See a moment after the response and before its update."""

    def after(self, now: Observation) -> None:
        """See a moment after its update."""
        if self.function is None:
            return
        said = self.function(now)
        if not isinstance(said, Mapping) or not all(isinstance(values, Mapping) for values in said.values()):
            raise OptionError(
                f"{self!r}: its function must return {{name: {{variable: value}}}}, as {{'V1': {{'rate': 1}}}}, got {said!r}"
            )
        variables = {variable for values in said.values() for variable in values}
        if not variables:
            raise OptionError(f"{self!r}: its function returns nothing to record")
        if not all(isinstance(name, str) for name in (*said, *variables)):
            raise OptionError(f"{self!r}: names of records and variables are text, got {said!r}")
        for given in (self._units, self._descriptions, self._dims):
            unknown = [variable for variable in given if variable not in variables]
            if unknown:
                raise OptionError(f"{self!r}: {unknown[0]!r} is described, but records are {', '.join(sorted(variables))}")
        for name, values in said.items():
            self.record(now, self.kind, name, values)

    def end(self, now: Observation) -> None:
        """See the end of a run."""

    def resume(self, now: Observation) -> None:
        """Go on recording after a checkpoint."""
        self.declare(now)

    def expected_bytes(self, now: Observation, moments: int) -> int:
        """Return the bytes that so many moments will take on the disk, as far as known before; numbers count for nothing."""
        return 0

    def state(self) -> dict[str, Tensor]:
        """Return what the recorder remembers from one record to the next, as named tensors."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `state` returned."""

    def declares(
        self,
        kind: str,
        name: str,
        variables: Mapping[str, Variable],
        coords: Coords | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the store what will be recorded under a kind and name; ``attrs`` become attributes of its group."""
        if (kind, name) not in self._declared:
            assert self._store is not None, "attached before it declares"
            self._store.declare(kind, name, variables, coords or {}, attrs or {})
            self._declared.add((kind, name))

    def record(self, now: Observation, kind: str, name: str, values: Mapping[str, Any]) -> None:
        """Hand values to the store; what has not been declared is described by what it is.

        Parameters
        ----------
        now : Observation
        kind, name : str
        values : mapping of str to number, Tensor or array
        """
        assert self._store is not None, "attached before it records"
        arrays = {key: on_host(without_unit(value, f"{self!r}: {key!r}")) for key, value in values.items()}
        if (kind, name) not in self._declared:
            self.declares(kind, name, {key: self._variable(key, array) for key, array in arrays.items()})
        self._store.record(kind, name, now.moment, now.time, now.observers_seen, arrays)

    def _variable(self, key: str, array: Any) -> Variable:
        shape = np.shape(array)
        dims = tuple(self._dims.get(key, ())) or tuple(f"{key}_{axis}" for axis in range(len(shape)))
        if len(dims) != len(shape):
            raise OptionError(f"{self!r}: {key!r} has {len(shape)} axes, dims names {len(dims)}: {', '.join(dims)}")
        dtype = "float64" if np.ndim(array) == 0 and not isinstance(array, bool) else str(np.asarray(array).dtype)
        return Variable(dims, self._units.get(key, "1"), self._descriptions.get(key, ""), dtype)

    def __repr__(self) -> str:
        what = "" if self.function is None else f"{getattr(self.function, '__name__', 'function')}, "
        return f"{type(self).__name__}({what}every {self.every} moments)"


def wire_reference(reference: Rule, network: Network) -> list[str]:
    """Add the feedback pathways that a reference needs and a network lacks, fixed: nobody learns them but the reference.

    Parameters
    ----------
    reference : Rule
        With whose updates those of the rule of the network are compared.
    network : Network
        With the pathways of that rule.

    Returns
    -------
    list of str
        Names of the pathways that were added.
    """
    known = set(network.pathways)
    reference.wire(network)
    added = [name for name in network.pathways if name not in known]
    for name in added:
        network.pathways[name].plastic = False
    return added


def on_host(value: Any) -> Any:
    """Return a number, or a copy on the host that nobody else will change."""
    if isinstance(value, Tensor):
        host = value.detach().to("cpu", copy=True)
        host = host.float() if host.dtype == torch.bfloat16 else host
        return host.numpy() if host.ndim else host.item()
    return value
