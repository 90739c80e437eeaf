"""Replicas: several simulations of one experiment, such as its seeds, advanced together along a leading axis of the state.

Small networks keep a processor busy with calls rather than with arithmetic; eight of them cost little more than one. The
weights of all replicas lie in one tensor of which each simulation holds a part, and what a moment does is written once: the
same functions are mapped over the leading axis (`torch.func.vmap`). Recorders and probes see ordinary simulations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from neurossl import moment as steps
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.execution import Execution
from neurossl.engine.optimisers import bound, make_optimiser
from neurossl.engine.updates import Update
from neurossl.engine.weights import Parameters, Weights
from neurossl.errors import EventError, NeurosslError, OptionError
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Teaching
from neurossl.plasticity.guard import visible
from neurossl.plasticity.memory import Memory
from neurossl.simulation import Simulation

Stacks = dict[str, tuple[Tensor, ...]]


class Replicas:
    """Simulations that are advanced together.

    Parameters
    ----------
    simulations : sequence of Simulation
        Alike but for their seeds: the same populations and pathways, rule, synapses, device and number type. Once joined,
        they are advanced here alone.

    Raises
    ------
    OptionError
        If they are not alike, or are what cannot be joined: an optimiser of one's own, homeostasis, learning at every step
        of settling, bfloat16 products, interventions.

    Examples
    --------
    >>> simulations = [Simulation(mlp(64, [32, 32]), "clapp", seed=seed) for seed in range(8)]
    >>> Replicas(simulations).run([ViewPairs(images, labels, views, seed=seed) for seed in range(8)])
    """

    def __init__(self, simulations: Sequence[Simulation]) -> None:
        self.simulations = list(simulations)
        _check_alike(self.simulations)
        first = self.simulations[0]
        self._network, self._rule, self._frozen = first.network, first.rule, first.frozen
        self._stacks: Stacks = {}
        self._memory: dict[str, Tensor] = {}
        alike: dict[str, tuple[dict[str, Any], list[Tensor]]] = {}
        for name, pathway in self._network.pathways.items():
            parts = [s.weights[name].present for s in self.simulations]
            stacks = tuple(torch.stack(parameters) for parameters in zip(*parts, strict=True))
            self._stacks[name] = stacks
            for number, simulation in enumerate(self.simulations):
                simulation.weights.hold(name, Parameters(*(stack[number] for stack in stacks)))
            if pathway.plastic:
                options = first.synapses.options_for(name)
                alike.setdefault(repr(options), (options, []))[1].extend(stacks)
        # One call for all pathways of the same options: a step consists of calls.
        self._optimisers = [make_optimiser(parameters, options) for options, parameters in alike.values()]
        self._bounds = {name: (first.synapses.options_for(name)["bounds"], self._signs(name)) for name in self._stacks}

    def _signs(self, name: str) -> Tensor | None:
        """Return the sign that every synapse of a pathway keeps."""
        signs = self._network.pathways[name].signs(self._network)
        weight = self._stacks[name][0]
        if signs is not None:
            return torch.from_numpy(signs).to(weight)
        return weight.sign() if self.simulations[0].synapses.options_for(name)["bounds"] == "sign" else None

    def run(
        self, streams: Sequence[Iterable[Moment | Event]], report: Callable[[int, int | None], None] | None = None
    ) -> Replicas:
        """Learn from one stream per replica, moment by moment, as `Simulation.run` does.

        Parameters
        ----------
        streams : sequence of iterable of Moment
        report : callable, optional
            Is given the moments done.

        Raises
        ------
        OptionError
            If there is not one stream per replica.
        EventError
            If the streams are not of one length, or their moments not alike.
        DivergenceError
            At NaN or infinity; names moment, population, pathway and seed.
        """
        if len(streams) != len(self.simulations):
            raise OptionError(f"replicas: expected one stream per simulation ({len(self.simulations)}), got {len(streams)}")
        for simulation, stream in zip(self.simulations, streams, strict=True):
            simulation.start(stream)
        done = 0
        iterators = [iter(stream) for stream in streams]
        while True:
            moments = [next(iterator, None) for iterator in iterators]
            if all(m is None for m in moments):
                break
            if any(m is None for m in moments):
                raise EventError(f"replicas: the streams are not of one length: one of them ended after {done} moments")
            self.step([m for m in moments if m is not None])
            done += 1
            if report is not None:
                report(done, None)
        for simulation in self.simulations:
            simulation.finish()
        return self

    @torch.no_grad()
    def step(self, moments: Sequence[Moment | Event]) -> None:
        """Go through one moment of every replica."""
        simulations = self.simulations
        ready = [self._arrive(s, m) for s, m in zip(simulations, moments, strict=True)]
        simulations[0].examine(ready[0])
        listening = [s.listening() for s in simulations]
        activities = [self._look(s, m) if heard else None for s, m, heard in zip(simulations, ready, listening, strict=True)]
        changes = self._propose(ready)
        silent = [number for number, moment in enumerate(ready) if steps.is_silent(moment)]
        if len(silent) < len(simulations):
            kept = self._parts(silent)
            self._change(changes)
            self._put_back(silent, kept)
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
        if fixation.inputs:
            arrived = arrived.with_events(Fixation(simulation.circuit.stimulus_of(fixation), fixation.partner))
        simulation.count(arrived)
        return arrived

    @staticmethod
    def _look(simulation: Simulation, moment: Moment) -> Activity:
        """Show the moment to the recorders that listen, before its update, and return the activity that they saw."""
        activity = steps.present(simulation.dynamics, simulation.circuit, moment, None)
        simulation.show(simulation.listening(), "before", simulation.observe(moment, activity))
        return activity

    def _change(self, changes: Stacks) -> None:
        """Apply what is proposed for all replicas at once."""
        for name, change in changes.items():
            for stack, part in zip(self._stacks[name], change, strict=True):
                stack.grad = part
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for name in changes:
            bounds, signs = self._bounds[name]
            bound(self._stacks[name][0], bounds, signs)

    def _parts(self, numbers: Sequence[int]) -> list[Tensor]:
        """Return copies of the weights and of what the optimisers remember of some replicas."""
        return [tensor[number].clone() for number in numbers for tensor in self._tensors()]

    def _put_back(self, numbers: Sequence[int], kept: list[Tensor]) -> None:
        """Put back what `_parts` returned: replicas without a neuromodulator have not changed."""
        if not numbers:
            return
        tensors = self._tensors()
        for number in numbers:
            for tensor in tensors:
                tensor[number].copy_(kept.pop(0)) if kept else tensor[number].zero_()

    def _tensors(self) -> list[Tensor]:
        stacks = [stack for stacks in self._stacks.values() for stack in stacks]
        remembered = [
            value
            for optimiser in self._optimisers
            for state in optimiser.state.values()
            for value in state.values()
            if isinstance(value, Tensor) and value.ndim
        ]
        return stacks + remembered

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
            circuit = Circuit(self._network, weights, Execution(mapped=True), self._frozen)
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
    if any(s.has_interventions for s in simulations):
        raise OptionError("replicas: interventions (at, every, when, lesions) are of one simulation: run them one by one")
    for name in first.network.pathways:
        options = first.synapses.options_for(name)
        if options["after"] or callable(options["optimizer"]):
            raise OptionError("replicas: homeostasis and optimisers of one's own are of one simulation: run them one by one")


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
        object.__setattr__(event, part.name, parts.get(part.name, () if part.name == "inputs" else None))
    if "_one_hot" in parts:
        object.__setattr__(event, "_one_hot", parts["_one_hot"])
    return event
