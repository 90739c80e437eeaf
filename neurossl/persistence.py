"""A simulation's state: taken as one object, and put back bit for bit."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from neurossl.anatomy.description import described_network
from neurossl.anatomy.network import Network
from neurossl.checkpoint import Checkpointer, read_checkpoint
from neurossl.checkpoint_files import FOLDER, forget_later
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.dynamics.manipulations import Manipulation
from neurossl.engine.execution import Execution
from neurossl.engine.optimisers import Optimisers
from neurossl.errors import NeurosslError, OptionError
from neurossl.events import Moment
from neurossl.experimenter import Experimenter
from neurossl.gathering import Gathering
from neurossl.generators import Generators
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.plasticity.memory import Memory
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.state import State
from neurossl.store import Store


def state_of(simulation: Persistent) -> State:
    """Return everything that changes while a simulation runs; the tensors are its own, not copies."""
    state = State()
    state.put("weights", simulation.weights.state_dict())
    state.put("optimiser", simulation.optimisers.state())
    state.put("rule", simulation.memory.tensors)
    state.put("generators", simulation.generators.state())
    # A fixation that waits is presented again, in the context that it had.
    fixates = simulation._gathering.fixates and simulation.activity is not None
    state.put("trace", (simulation.activity.context if fixates else simulation._trace) or {})  # type: ignore[union-attr]
    state.put("manipulations", {n: m.value for n, m in simulation.manipulations.items() if m.value is not None})
    waiting, about_waiting = simulation._gathering.state()
    for name, tensors in waiting.items():
        state.put(name, tensors)
    for number, recorder in enumerate(simulation.recorders):
        state.put(f"recorder/{number}", recorder.state())
    state.values = {
        "moment": simulation.moment,
        "observers_seen": simulation.observers_seen,
        "clock": simulation._schedule.state(),
        "done": simulation._done,
        "stream": dict(simulation._stream_described),
        "running": simulation._is_running,
        **about_waiting,
        "frozen": sorted(simulation.frozen),
        "manipulations": {name: m.kind for name, m in simulation.manipulations.items()},
        "interventions": [dict(entry) for entry in simulation._log],
        "synapses": simulation.synapses.describe(),
        "seed": simulation.generators.root_seed,
        "recorders": [type(recorder).__name__ for recorder in simulation.recorders],
        "simulation": {
            "network": simulation.network.describe(),
            "rule": simulation.rule.describe(),
            "rule_class": type(simulation.rule).__qualname__,
            "device": simulation.device.type,
            "dtype": str(simulation.dtype).removeprefix("torch."),
            "products": None if simulation.products is None else str(simulation.products).removeprefix("torch."),
            "engine": simulation.circuit.execution.describe(),
        },
    }
    return state


def put_back(simulation: Persistent, state: State, synapses: bool = True) -> None:
    """Let a simulation go on from a state of this or of an equal simulation.

    Parameters
    ----------
    simulation : Persistent
    state : State
    synapses : bool
        Whether the options of the synapses are put back, too.

    Raises
    ------
    OptionError
        If it is the state of another network, rule or number type.
    """
    if not isinstance(state, State):
        raise OptionError(f"restore: expected what simulation.state() returns, got {type(state).__name__}")
    values, about = state.values, state.values["simulation"]
    if synapses:
        simulation.synapses.put_back(values["synapses"])
    mine = state_of(simulation).values["simulation"]
    for what in ("network", "rule", "rule_class", "dtype", "products"):
        if about[what] != mine[what]:
            raise OptionError(f"restore: the state is of another {what}: expected {mine[what]}, got {about[what]}")
    # What was rounded one way goes on being rounded that way.
    simulation.circuit.execution = replace(simulation.circuit.execution, **about["engine"])
    simulation.generators.root_seed = values["seed"]
    simulation.weights.load_state_dict(state.under("weights"))
    simulation.optimisers.restore(state.under("optimiser"))
    simulation.memory.forget()
    simulation.memory.tensors = {name: t.to(simulation.device, copy=True) for name, t in state.under("rule").items()}
    simulation.generators.restore(state.under("generators"))
    simulation.frozen.clear()
    simulation.frozen.update(values["frozen"])
    held_at = state.under("manipulations")
    simulation.manipulations.clear()
    simulation.manipulations |= {
        name: Manipulation(kind, held_at.get(name)) for name, kind in values["manipulations"].items()
    }
    simulation._begin()
    simulation._schedule.restore(values["clock"])
    simulation.moment, simulation.observers_seen = values["moment"], values["observers_seen"]
    simulation._done, simulation._is_running = values["done"], values["running"]
    simulation._stream_described = values["stream"]
    simulation._log[:] = [dict(entry) for entry in values["interventions"]]
    simulation._trace = {n: t.to(simulation.device) for n, t in state.under("trace").items()} or None
    held = simulation._gathering.restore(state.under("waiting"), state.under("held"), values)
    if held is not None:
        simulation._present(held)
    for number, recorder in enumerate(simulation.recorders):
        if values["recorders"][number : number + 1] == [type(recorder).__name__]:
            recorder.restore(state.under(f"recorder/{number}"))


def made_again(state: State, rule: Rule | str | None, synapses: Synapses | None) -> dict[str, Any]:
    """Return what a simulation is made with that can go on from a state.

    Parameters
    ----------
    state : State
    rule : Rule or str, optional
        By default the rule that was run, by its name and options.
    synapses : Synapses, optional
        By default with the options that were stored.
    """
    about = state.values["simulation"]
    made = _rule_again(about["rule"]) if rule is None else make_rule(rule)
    if synapses is None:
        try:
            synapses = Synapses(**state.values["synapses"])
        except OptionError as reason:
            raise OptionError(f"from_checkpoint: pass synapses=: functions are not stored ({reason})") from None
    return {
        "network": described_network(about["network"]),
        "rule": made,
        "synapses": synapses,
        "seed": state.values["seed"],
        "dtype": about["dtype"],
        "products": about["products"],
        "execution": Execution(**about["engine"]),
    }


def _rule_again(ledger: Mapping[str, Any]) -> Rule:
    """Return the rule that a state says was run.

    Raises
    ------
    OptionError
        If it cannot be made from its name and options.
    """
    try:
        made = make_rule(ledger["rule"], **ledger["rule_options"])
    except (NeurosslError, TypeError, ValueError):
        made = None
    if made is None or made.describe() != ledger:
        raise OptionError(f"from_checkpoint: {ledger['rule']!r} is a rule of one's own, or was made by hand: pass rule=")
    return made


class Persistent(Experimenter, ABC):
    """What can be stopped and gone on with: everything that changes in a simulation, named; a base of `Simulation`."""

    network: Network
    rule: Rule
    synapses: Synapses
    circuit: Circuit
    optimisers: Optimisers
    memory: Memory
    generators: Generators
    checkpoints: Checkpointer | None
    device: torch.device
    dtype: torch.dtype
    products: torch.dtype | None
    observers_seen: int
    activity: Activity | None
    _trace: Mapping[str, Tensor] | None
    _gathering: Gathering
    lineage: str
    _done: int
    _stream_described: dict[str, Any]

    @property
    @abstractmethod
    def recorders(self) -> tuple[Recorder, ...]:
        """What is recorded."""

    @abstractmethod
    def observe(self) -> Observation:
        """Return what a recorder may see now."""

    @abstractmethod
    def _begin(self) -> None:
        """Set what counts and carries over from one moment to the next to its beginning."""

    @abstractmethod
    def _present(self, moment: Moment) -> Moment | None:
        """Present a fixation, and return the moment if the rule has all that it waits for."""

    def state(self) -> State:
        """Return everything that changes while the simulation runs; `restore` goes on from it bit for bit."""
        return state_of(self).clone()

    def restore(self, state: State) -> Self:
        """Go on from a state of this or of an equal simulation, bit for bit on a CPU.

        Raises
        ------
        OptionError
            If it is the state of another network, rule or number type.
        """
        put_back(self, state)
        return self

    def checkpoint(self) -> str:
        """Write a checkpoint now, with all that was recorded before it, and return its path.

        Raises
        ------
        OptionError
            If there is no place for it.
        """
        place = None if self.store is None or self.store.path is None else self.store.path / FOLDER
        if self.checkpoints is None or (place is None and self.checkpoints.path is None):
            raise OptionError("checkpoint: there is no place for it; pass store= or checkpoints=Checkpointer(path=...)")
        state = state_of(self)
        state.values["lineage"] = self.lineage
        if self.store is not None:
            state.values["position"] = self.store.commit()
        return str(self.checkpoints.write(state, place or self.checkpoints.path))  # type: ignore[arg-type]

    @classmethod
    def from_checkpoint(
        cls,
        run: str | os.PathLike[str],
        *,
        rule: Rule | str | None = None,
        synapses: Synapses | None = None,
        device: str | torch.device = "auto",
        store: Store | None = None,
        moment: int | None = None,
        **options: Any,
    ) -> Self:
        """Return a simulation that goes on from the last checkpoint of a run.

        Parameters
        ----------
        run : path
            Of the run, or of its checkpoints.
        rule : Rule or str, optional
            By default the rule that was run, by its name and options.
        synapses : Synapses, optional
            By default with the options that were stored.
        device : str
        store : Store, optional
            Where recording goes on: ``TrajectoryWriter.reopen(run)``.
        moment : int, optional
            Of the checkpoint; the newest that is whole by default.
        **options
            As when made: recorders, checkpoints, about.

        Raises
        ------
        OptionError
            If there is no checkpoint, or the rule cannot be made from its name.
        """
        fixed = sorted({"seed", "dtype", "network", "products", "weights", "execution"} & set(options))
        if fixed:
            raise OptionError(f"from_checkpoint: {fixed[0]} is that of the checkpoint; leave it out")
        state = read_checkpoint(run, moment)
        simulation = cls(**made_again(state, rule, synapses), device=device, store=store, **options)  # type: ignore[call-arg]
        simulation.resume(state)
        return simulation

    def resume(self, state: State) -> None:
        """Restore a checkpoint, and let the store forget what was recorded after it; the synapses stay as they are."""
        put_back(self, state, synapses=False)
        self.lineage = state.values.get("lineage") or self.lineage
        if self.store is not None:
            if "position" not in state.values:
                raise OptionError("resume: the checkpoint was written without a store; there is nothing to go on with")
            mine = [type(recorder).__name__ for recorder in self.recorders]
            if mine != state.values["recorders"]:
                raise OptionError(
                    f"resume: the run was recorded by {', '.join(state.values['recorders']) or 'nobody'}, "
                    f"not by {', '.join(mine) or 'nobody'}: give the same recorders, in the same order"
                )
            self.store.rewind(state.values["position"])
            if self.store.path is not None:
                forget_later(self.store.path / FOLDER, self.moment)
            for recorder in self.recorders:
                recorder.resume(self.observe())
            self._described = True
            if self.synapses.describe() != state.values["synapses"]:
                self.note("synapses", options=self.synapses.describe())
            self._store_log()
