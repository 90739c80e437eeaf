"""A simulation's state: taken as one object, and put back bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neurossl.anatomy.description import described_network
from neurossl.dynamics.manipulations import Manipulation
from neurossl.engine.execution import Execution
from neurossl.errors import OptionError
from neurossl.events import Moment
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
from neurossl.state import State, packed, unpacked

if TYPE_CHECKING:
    from neurossl.simulation import Simulation


def state_of(simulation: Simulation) -> State:
    """Return everything that changes while a simulation runs; the tensors are its own, not copies."""
    state = State()
    state.put("weights", simulation.weights.state_dict())
    state.put("optimiser", simulation.optimisers.state())
    state.put("rule", simulation.memory.tensors)
    state.put("generators", simulation.generators.state())
    state.put("trace", simulation._trace or {})
    state.put("manipulations", {n: m.value for n, m in simulation.manipulations.items() if m.value is not None})
    held = simulation._now.events if simulation._held is not None and simulation._now is not None else ()
    state.put("held", packed(held))
    state.put("waiting", packed(simulation._waiting))
    for number, recorder in enumerate(simulation.recorders):
        state.put(f"recorder/{number}", recorder.state())
    state.values = {
        "moment": simulation.moment,
        "observers_seen": simulation.observers_seen,
        "clock": simulation._schedule.state(),
        "done": simulation._done,
        "stream": simulation._stream_described,
        "running": simulation._is_running,
        "duration": simulation._now.duration if held and simulation._now is not None else None,
        "observers": simulation._now.observers if held and simulation._now is not None else None,
        "frozen": sorted(simulation.frozen),
        "manipulations": {name: m.kind for name, m in simulation.manipulations.items()},
        "interventions": simulation._log,
        "synapses": simulation.synapses.describe(),
        "seed": simulation.seed,
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


def put_back(simulation: Simulation, state: State) -> None:
    """Let a simulation go on from a state of this or of an equal simulation.

    Raises
    ------
    OptionError
        If it is the state of another network, rule or number type.
    """
    values, about = state.values, state.values["simulation"]
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
    simulation._waiting = unpacked(state.under("waiting"))
    held = unpacked(state.under("held"))
    if held:
        simulation._present(Moment(*held, duration=values["duration"], observers=values["observers"]))
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
    ledger = about["rule"]
    if rule is None and ledger["rule"] not in RULES:
        raise OptionError(f"from_checkpoint: {ledger['rule']!r} is a rule of one's own: pass rule=")
    if synapses is None:
        known = dict(state.values["synapses"])
        if known["after"]:
            raise OptionError(f"from_checkpoint: pass synapses= with after={known['after']}: functions are not stored")
        synapses = Synapses(**known)
    return {
        "network": described_network(about["network"]),
        "rule": make_rule(ledger["rule"], **ledger["rule_options"]) if rule is None else make_rule(rule),
        "synapses": synapses,
        "seed": state.values["seed"],
        "dtype": about["dtype"],
        "products": about["products"],
        "execution": Execution(**about["engine"]),
    }
