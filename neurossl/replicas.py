"""Replicas: several simulations of one experiment, such as its seeds, advanced together along a leading axis of the state.

Small networks keep a processor busy with calls rather than with arithmetic; eight of them cost little more than one. The
weights of all replicas lie in one tensor of which each simulation holds a part, and what a moment does is written once: the
same functions are mapped over the leading axis (`torch.func.vmap`). Recorders and probes see ordinary simulations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from neurossl import moment as steps
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.execution import Execution
from neurossl.engine.optimisers import bound
from neurossl.engine.torch_optimisers import make_optimiser, scaled
from neurossl.engine.updates import Update
from neurossl.engine.weights import Parameters, Weights
from neurossl.errors import EventError, NeurosslError, OptionError
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Teaching
from neurossl.plasticity.guard import visible
from neurossl.plasticity.memory import Memory
from neurossl.progress import Progress
from neurossl.simulation import Simulation
from neurossl.streaming import stream_of

Stacks = dict[str, tuple[Tensor, ...]]


class Replicas:
    """Simulations that are advanced together.

    Parameters
    ----------
    simulations : sequence of Simulation
        Alike but for their seeds: the same populations and pathways, rule, synapses, device and number type. Between two
        runs each is a simulation as any other.

    Raises
    ------
    OptionError
        If they are not alike, or are what cannot be joined: an optimiser of one's own, homeostasis, learning at every step
        of settling, bfloat16 products, interventions.

    Examples
    --------
    >>> simulations = [Simulation(mlp(64, [32, 32]), "clapp++gap", seed=seed) for seed in range(8)]
    >>> Replicas(simulations).run([ViewPairs(images, labels, views, seed=seed) for seed in range(8)])
    """

    def __init__(self, simulations: Sequence[Simulation]) -> None:
        _check_are_simulations(simulations)
        self.simulations = list(simulations)
        _check_alike(self.simulations)
        first = self.simulations[0]
        self._network, self._rule, self._synapses = first.network, first.rule, first.synapses
        self._stacks: Stacks = {}
        self._memory: dict[str, Tensor] = {}
        self._optimisers: list[torch.optim.Optimizer] = []
        self._options: list[int] = []
        self._shared: list[Any] = []
        self._apart = False
        self._optimiser_of: dict[str, torch.optim.Optimizer] = {}
        self._join()

    def _join(self) -> None:
        """Put what the simulations hold beside each other: weights, what their optimisers remember, and the rule.

        Raises
        ------
        OptionError
            If something has been done to one of them that is not done to all.
        """
        simulations = self.simulations
        if any(s.has_plans or s.frozen or s.manipulations for s in simulations):
            raise OptionError(
                "replicas: interventions (at, every, when, lesions, frozen or manipulated populations) are of one "
                "simulation: run them one by one"
            )
        if any(r.wants_signals for s in simulations for r in s.recorders):
            raise OptionError("replicas: inner signals are recorded of one simulation: leave out the SignalRecorder")
        moved = [name for name in self._network.pathways if not self._holds(name)]
        for name in moved:
            held = [s.weights[name].present for s in simulations]
            stacks = tuple(torch.stack(parameters) for parameters in zip(*held, strict=True))
            self._stacks[name] = stacks
            for number, simulation in enumerate(simulations):
                simulation.weights.hold(name, Parameters(*(stack[number] for stack in stacks)))
        known = {name: [s.optimisers.remembered(name) for s in simulations] for name in self._plastic}
        counts = [{tuple(_count(part) for part in parts) for parts in several} for several in known.values()]
        self._make_optimisers(apart=any(len(different) > 1 for different in counts))
        for name, several in known.items():
            state = self._optimiser_of[name].state
            if self._apart:
                for simulation, parts in zip(simulations, several, strict=True):
                    state |= dict(zip(simulation.weights[name].present, parts, strict=True))
                continue
            for stack, remembered in zip(self._stacks[name], zip(*several, strict=True), strict=True):
                state[stack] = {what: _joined([part[what] for part in remembered]) for what in remembered[0]}
        kept = [s.memory.tensors for s in simulations]
        self._memory = {key: torch.stack([_remembered(tensors, key) for tensors in kept]) for key in kept[0]}

    def _touched(self) -> bool:
        """Return whether anything that was joined lies elsewhere since it was given back."""
        return self._shared != self._places()

    def _places(self) -> list[Any]:
        """Return where everything lies: options, optimisers and weights of all simulations."""
        held = [id(s.weights[name]) for s in self.simulations for name in self._network.pathways]
        return [self._versions, [s.optimisers.generation for s in self.simulations], held]

    def _holds(self, name: str) -> bool:
        """Return whether the weights of a pathway still are parts of one tensor."""
        stacks = self._stacks.get(name)
        if stacks is None:
            return False
        held = [s.weights[name].present for s in self.simulations]
        return all(
            part.data_ptr() == stack[number].data_ptr() and part.shape == stack.shape[1:]
            for number, parts in enumerate(held)
            for stack, part in zip(stacks, parts, strict=True)
        )

    def _make_optimisers(self, apart: bool) -> None:
        """Make an optimiser for all pathways of the same options: one call steps the weights of all simulations.

        Parameters
        ----------
        apart : bool
            Whether the simulations have taken, or are about to take, different numbers of steps.
        """
        self._apart = apart
        if any(s.synapses.describe() != self._synapses.describe() for s in self.simulations):
            raise OptionError("replicas: the simulations differ in their synapses; they may differ in their seeds alone")
        alike: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for name in self._plastic:
            options = scaled(self._synapses.options_for(name), self._network.pathways[name])
            if options["after"] or callable(options["optimizer"]):
                raise OptionError(
                    "replicas: homeostasis and optimisers of one's own are of one simulation: run them one by one"
                )
            alike.setdefault(repr(options), (options, []))[1].append(name)
        self._optimisers, self._optimiser_of = [], {}
        for options, names in alike.values():
            each = [p for name in names for s in self.simulations for p in s.weights[name].present]
            parameters = each if apart else [stack for name in names for stack in self._stacks[name]]
            self._optimisers.append(make_optimiser(parameters, options))
            self._optimiser_of |= dict.fromkeys(names, self._optimisers[-1])
        self._options = self._versions

    def _join_apart(self) -> None:
        """Go on with steps that every simulation counts for itself: some of them do not learn from this moment."""
        known = {name: [s.optimisers.remembered(name) for s in self.simulations] for name in self._plastic}
        self._make_optimisers(apart=True)
        for name, several in known.items():
            for simulation, parts in zip(self.simulations, several, strict=True):
                own = [{what: _own(value) for what, value in part.items()} for part in parts]
                self._optimiser_of[name].state |= dict(zip(simulation.weights[name].present, own, strict=True))

    @property
    def _versions(self) -> list[int]:
        return [simulation.synapses.version for simulation in self.simulations]

    @property
    def _plastic(self) -> list[str]:
        return [name for name, pathway in self._network.pathways.items() if pathway.plastic]

    def _give_back(self) -> None:
        """Let every simulation have what its optimisers and the rule remember of it."""
        for name in self._plastic:
            state = self._optimiser_of[name].state
            for number, simulation in enumerate(self.simulations):
                if self._apart:
                    parts = [state.get(p, {}) for p in simulation.weights[name].present]
                else:
                    whole = [state.get(stack, {}) for stack in self._stacks[name]]
                    parts = [{what: _of(value, number) for what, value in part.items()} for part in whole]
                simulation.optimisers.remember(name, parts, shared=not self._apart)
        self._shared = self._places()
        for number, simulation in enumerate(self.simulations):
            simulation.memory.tensors = {key: tensor[number].clone() for key, tensor in self._memory.items()}

    def run(
        self, streams: Iterable[Iterable[Moment | Event]], report: str | Callable[[int, int | None], None] | None = None
    ) -> Replicas:
        """Learn from one stream per replica, moment by moment, as `Simulation.run` does.

        Parameters
        ----------
        streams : iterable of streams
            One for each simulation.
        report : "text", callable or None
            As for `Simulation.run`.

        Raises
        ------
        OptionError
            If there is not one stream per replica.
        EventError
            If the streams are not of one length, or their moments not alike.
        DivergenceError
            At NaN or infinity; names moment, population, pathway and seed.
        """
        given = list(streams)
        if len(given) != len(self.simulations):
            raise OptionError(f"replicas: expected one stream per simulation ({len(self.simulations)}), got {len(given)}")
        several = [stream_of(stream) for stream in given]
        total = len(several[0]) if isinstance(several[0], Sized) else None
        self._join()
        for simulation, stream in zip(self.simulations, several, strict=True):
            simulation.begin_run(stream)
        done = 0
        iterators = [iter(stream) for stream in several]
        try:
            with Progress(report, f"{len(several)} x {self._rule.name}", total) as progress:
                for simulation, stream in zip(self.simulations, several, strict=True):
                    simulation.start(stream)
                while True:
                    moments = [next(iterator, None) for iterator in iterators]
                    if all(m is None for m in moments):
                        break
                    if any(m is None for m in moments):
                        raise EventError(
                            f"replicas: the streams are not of one length: one of them ended after {done} moments"
                        )
                    self._step([m for m in moments if m is not None])
                    done += 1
                    progress(done)
                    self._write_checkpoints()
            self._give_back()
            for simulation in self.simulations:
                simulation.end_run()
        finally:
            self._give_back()
            for simulation in self.simulations:
                simulation.leave_run()
        return self

    def _write_checkpoints(self) -> None:
        """Write the checkpoints that are due."""
        due = [s for s in self.simulations if s.checkpoints is not None and s.checkpoints.due(s.moment)]
        if due:
            self._give_back()
        for simulation in self.simulations:
            simulation.count_done()
        for simulation in due:
            simulation.checkpoint()

    def step(self, moments: Sequence[Moment | Event]) -> None:
        """Go through one moment of every replica."""
        # What was given back is held by both sides: it need not be given again as long as nobody has touched it.
        joins = bool(self._rule.state) or self._touched()
        if joins:
            self._join()
        try:
            self._step(moments)
        finally:
            if joins:
                self._give_back()

    @torch.no_grad()
    def _step(self, moments: Sequence[Moment | Event]) -> None:
        simulations = self.simulations
        if self._options != self._versions or any(s.has_plans or s.frozen or s.manipulations for s in simulations):
            self._join()  # which goes on with other options, or says what it cannot do
        with simulations[0].exactly():
            ready = [self._arrive(s, m) for s, m in zip(simulations, moments, strict=True)]
            simulations[0].examine(ready[0])
            listening = [s.listening() for s in simulations]
            activities = [
                self._look(s, m) if heard else None for s, m, heard in zip(simulations, ready, listening, strict=True)
            ]
            changes = self._propose(ready)
            self._change(changes, [not steps.is_silent(moment, self._rule) for moment in ready])
            for number, simulation in enumerate(simulations):
                seen = changes if listening[number] else {}
                mine = {name: Update(*(part[number] for part in change)) for name, change in seen.items()}
                simulation.close(ready[number], activities[number], mine, {})

    def _arrive(self, simulation: Simulation, moment: Moment | Event) -> Moment:
        """Begin a moment of one replica, and return it on the device."""
        simulation.start()
        arrived = simulation.arrive(moment)
        for event_type in self._rule.awaits:
            arrived.require(event_type, by=f"rule {self._rule.name!r}")
        fixation = arrived.require(Fixation, by="replicas")
        if fixation.partner is None and Teaching not in arrived:
            raise EventError("replicas need batched moments: Fixation(stimulus, partner)")
        simulation.count(arrived)
        return arrived

    @staticmethod
    def _look(simulation: Simulation, moment: Moment) -> Activity:
        """Show the moment to the recorders that listen, before its update, and return the activity that they saw."""
        activity = steps.present(simulation.dynamics, simulation.circuit, moment, None)
        simulation.show(simulation.listening(), "before", simulation.observe(moment, activity))
        return activity

    def _change(self, changes: Stacks, learning: Sequence[bool]) -> None:
        """Apply what is proposed, to the replicas that learn from this moment."""
        if not self._apart and not all(learning):
            self._give_back()
            self._join_apart()
        for name, change in changes.items():
            if not self._apart:
                for stack, part in zip(self._stacks[name], change, strict=True):
                    stack.grad = _laid_out(part, stack)
                continue
            each = zip(*(part.unbind() for part in change), strict=True)
            for simulation, learns, parts in zip(self.simulations, learning, each, strict=True):
                for parameter, part in zip(simulation.weights[name].present, parts, strict=True):
                    parameter.grad = _laid_out(part, parameter) if learns else None
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for name in changes:
            bounds = self._synapses.options_for(name)["bounds"]
            if bounds is not None or self._network.pathways[name].signs(self._network) is not None:
                for simulation in self.simulations:
                    bound(simulation.weights[name].weight, bounds, simulation.optimisers.sign(name))

    def _propose(self, moments: Sequence[Moment]) -> Stacks:
        """Return what the rule proposes for all replicas, each tensor with their leading axis."""
        needs = self._rule.needs
        kinds = {type(e) for e in moments[0] if visible(type(e), needs)} | {Neuromodulation}
        seen = [Moment(*(e for e in m if type(e) in kinds), observers=m.observers) for m in moments]
        events, axes = _stacked(seen, self._network.populations[self._network.top].size)

        def one(
            stacks: Stacks, remembered: dict[str, Tensor], tensors: Mapping[type[Event], Mapping[str, Tensor]]
        ) -> tuple[Stacks, dict[str, Tensor]]:
            weights = Weights(self._network, {name: Parameters(*parts) for name, parts in stacks.items()})
            circuit = Circuit(self._network, weights, Execution(mapped=True))
            moment = Moment(*(_event(kind, parts) for kind, parts in tensors.items()), observers=moments[0].observers)
            memory = Memory()
            memory.tensors = dict(remembered)
            activity = circuit.sweep(circuit.stimulus_of(moment.require(Fixation, by="replicas")))
            proposed = steps.proposals(self._rule, moment, memory, activity)
            return {name: update.parts for name, update, _ in proposed}, memory.noted()

        try:
            changes, noted = torch.func.vmap(one, in_dims=(0, 0, axes))(self._stacks, self._memory, events)
        except NeurosslError:
            raise
        except (RuntimeError, ValueError) as reason:
            line = str(reason).split("\n")[0]
            raise OptionError(
                f"rule {self._rule.name!r} cannot be joined over replicas ({line}): run them one by one"
            ) from None
        self._memory = {**self._memory, **noted}
        return changes

    def __repr__(self) -> str:
        return f"Replicas({len(self.simulations)} x {self.simulations[0]!r})"


def _check_alike(simulations: Sequence[Simulation]) -> None:
    """Raise OptionError unless the simulations can be joined."""
    if not simulations:
        raise OptionError("replicas: expected at least one simulation")
    if len({id(s) for s in simulations}) < len(simulations):
        raise OptionError("replicas: one simulation is there twice: make one for each seed")
    first = simulations[0]
    looks = [
        (s.network.describe(), s.rule.describe(), s.synapses.describe(), s.device, s.dtype, s.moment) for s in simulations
    ]
    for what, place in (("rule", 1), ("network", 0), ("synapses", 2), ("device", 3), ("dtype", 4), ("moments learned", 5)):
        if any(look[place] != looks[0][place] for look in looks):
            raise OptionError(f"replicas: the simulations differ in their {what}; they may differ in their seeds alone")
    if first.rule.changes_while_settling:
        raise OptionError(f"replicas: rule {first.rule.name!r} changes its weights while it settles: run them one by one")
    if first.products is not None:
        raise OptionError("replicas: products='bfloat16' is not for replicas: run them one by one")


def _check_are_simulations(simulations: Any) -> None:
    """Raise OptionError unless it is a sequence of simulations."""
    if not isinstance(simulations, Sequence) or not all(isinstance(s, Simulation) for s in simulations):
        raise OptionError(f"replicas: expected a list of simulations, got {type(simulations).__name__}")


def _count(remembered: Mapping[str, Any]) -> float:
    """Return how many steps an optimiser remembers; -1 where it counts none, or has taken none."""
    return float(remembered["step"]) if "step" in remembered else -1.0


def _joined(values: Sequence[Any]) -> Any:
    """Return what optimisers remember in one tensor; a count is the same for all."""
    first = values[0]
    return torch.stack(list(values)) if isinstance(first, Tensor) and first.ndim else _own(first)


def _of(value: Any, number: int) -> Any:
    """Return the part of one simulation of what is remembered in one tensor."""
    return value[number] if isinstance(value, Tensor) and value.ndim else value


def _own(value: Any) -> Any:
    """Return a count in a tensor of its own."""
    return value.clone() if isinstance(value, Tensor) and not value.ndim else value


def _laid_out(change: Tensor, parameter: Tensor) -> Tensor:
    """Return a change with the memory layout of its parameter."""
    return change if change.stride() == parameter.stride() else torch.empty_like(parameter).copy_(change)


def _remembered(tensors: Mapping[str, Tensor], key: str) -> Tensor:
    """Return what a rule remembers in one simulation as in the others."""
    if key not in tensors:
        raise OptionError(f"replicas: the rule remembers {key!r} in some of the simulations: run them one by one")
    return tensors[key]


def _stacked(
    moments: Sequence[Moment], classes: int
) -> tuple[dict[type[Event], dict[str, Tensor]], dict[type[Event], dict[str, int | None]]]:
    """Return the tensors of all events, stacked where the replicas differ, and the axis of each (None where they do not)."""
    events: dict[type[Event], dict[str, Tensor]] = {}
    axes: dict[type[Event], dict[str, int | None]] = {}
    for event in moments[0]:
        kind = type(event)
        several = [m.require(kind, by="replicas") for m in moments]
        parts = {f.name: [getattr(e, f.name) for e in several] for f in fields(kind)}
        parts = {name: tensors for name, tensors in parts.items() if isinstance(tensors[0], Tensor)}
        taught = [e for e in several if isinstance(e, Teaching)]
        if taught and all(int(e.labels.max()) < classes for e in taught):
            # Its check of the labels reads numbers, which a mapped function cannot.
            parts["_one_hot"] = [e.one_hot(classes, "top") for e in taught]
        if any(t is None or t.shape != ts[0].shape for ts in parts.values() for t in ts):
            raise EventError(f"replicas: the moments are not alike in their {kind.__name__}")
        same = {name: name != "stimulus" and all(torch.equal(ts[0], t) for t in ts) for name, ts in parts.items()}
        events[kind] = {name: ts[0] if same[name] else torch.stack(ts) for name, ts in parts.items()}
        axes[kind] = {name: None if same[name] else 0 for name in parts}
    return events, axes


def _event(kind: type[Event], parts: Mapping[str, Tensor]) -> Event:
    """Return an event of these tensors, which have been looked at already."""
    event = object.__new__(kind)
    for part in fields(kind):
        object.__setattr__(event, part.name, parts.get(part.name, () if part.name in ("inputs", "sizes") else None))
    if "_one_hot" in parts:
        object.__setattr__(event, "_one_hot", parts["_one_hot"])
    return event
