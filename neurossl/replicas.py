"""Replicas: several simulations of one experiment, such as its seeds, advanced together along a leading axis.

Small networks keep a processor busy with calls rather than with arithmetic; eight of them cost little more than one. The
weights of all replicas lie in one tensor of which each network holds a part, and what a rule proposes is written once: the
same functions are mapped over the leading axis (`torch.func.vmap`). Recorders and probes see ordinary simulations.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from neurossl.errors import EventError, OptionError
from neurossl.events import Event, Fixation, Moment, Teaching
from neurossl.plasticity.locality import visible
from neurossl.plasticity.synapses import make_optimiser
from neurossl.simulation import Simulation
from neurossl.updates import Update

Weights = dict[str, tuple[Tensor, ...]]


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
        If they are not alike, or are what cannot be joined: bounds by name, an optimiser of one's own, learning at every
        step of settling, bfloat16 products, interventions.

    Examples
    --------
    >>> simulations = [Simulation(mlp(64, [32, 32]), "clapp", seed=seed) for seed in range(8)]
    >>> Replicas(simulations).run([ViewPairs(images, labels, views, seed=seed) for seed in range(8)])
    """

    def __init__(self, simulations: Sequence[Simulation]) -> None:
        self.simulations = list(simulations)
        _check_alike(self.simulations)
        first = self.simulations[0]
        self._network, self._rule = first.network, first.rule
        self._network.is_mapped = True
        self._stacks: Weights = {}
        alike: dict[str, tuple[dict[str, Any], list[Tensor]]] = {}
        for name, pathway in self._network.pathways.items():
            parts = [s.network.pathways[name] for s in self.simulations]
            stacks = tuple(torch.stack(parameters) for parameters in zip(*(p.parameters for p in parts), strict=True))
            self._stacks[name] = stacks
            for number, part in enumerate(parts):
                part.hold(*(stack[number] for stack in stacks))
            if pathway.plastic:
                options = first.synapses.options_for(name)
                alike.setdefault(repr(options), (options, []))[1].extend(stacks)
        # One call for all pathways of the same options: a step consists of calls.
        self._optimisers = [make_optimiser(parameters, options) for options, parameters in alike.values()]
        self._bounded = [name for name in self._stacks if first.synapses.options_for(name)["bounds"] is not None]

    def run(
        self, streams: Sequence[Iterable[Moment | Event]], report: Callable[[int, int | None], None] | None = None
    ) -> "Replicas":
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
        ready = [s.begin(m) for s, m in zip(simulations, moments, strict=True)]
        listening = [s.listening() for s in simulations]
        activities = [s.look(m) if heard else None for s, m, heard in zip(simulations, ready, listening, strict=True)]
        changes = self._propose(ready)
        for name, change in changes.items():
            for stack, part in zip(self._stacks[name], change, strict=True):
                stack.grad = part
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for name in (name for name in self._bounded if name in changes):
            for simulation in simulations:
                simulation.synapses.bound(simulation.network.pathways[name])
        for number, simulation in enumerate(simulations):
            seen = changes if listening[number] else {}
            mine = {name: Update(*(part[number] for part in change)) for name, change in seen.items()}
            simulation.close(ready[number], activities[number], mine)

    def _propose(self, moments: Sequence[Moment]) -> Weights:
        """Return what the rule proposes for all replicas, each tensor with their leading axis."""
        seen = [Moment(*(e for e in m if visible(type(e), self._rule.needs)), observers=m.observers) for m in moments]
        events, axes = _stacked(seen, self._network.populations[self._network.top].size)
        pathways = list(self._network.pathways.values())
        held = {p.name: p.parameters for p in pathways}

        def one(weights: Weights, tensors: Mapping[type[Event], Mapping[str, Tensor]]) -> Weights:
            for pathway in pathways:
                pathway.hold(*weights[pathway.name])
            moment = Moment(*(_event(kind, parts) for kind, parts in tensors.items()), observers=moments[0].observers)
            activity = self._network.sweep(moment.require(Fixation, by="replicas").stimulus)
            activity = self._rule.settle(activity, moment)
            return {p.name: u.parts for p, u in self._rule.propose(activity, moment)}

        try:
            return torch.func.vmap(one, in_dims=(0, axes))(self._stacks, events)
        except (RuntimeError, ValueError) as reason:
            line = str(reason).split("\n")[0]
            raise OptionError(
                f"rule {self._rule.name!r} cannot be joined over replicas ({line}): run them one by one"
            ) from None
        finally:
            for name, parameters in held.items():
                self._network.pathways[name].hold(*parameters)

    def __repr__(self) -> str:
        return f"Replicas({len(self.simulations)} x {self.simulations[0]!r})"


def _check_alike(simulations: Sequence[Simulation]) -> None:
    """Raise OptionError unless the simulations can be joined."""
    if not simulations:
        raise OptionError("replicas: expected at least one simulation")
    first = simulations[0]
    looks = [
        (s.network.describe(), s.rule.describe(), s.synapses.describe(), s.device, s.dtype, s.event) for s in simulations
    ]
    for what, place in (("rule", 1), ("network", 0), ("synapses", 2), ("device", 3), ("dtype", 4), ("event", 5)):
        if any(look[place] != looks[0][place] for look in looks):
            raise OptionError(f"replicas: the simulations differ in their {what}; they may differ in their seeds alone")
    if getattr(first.rule, "schedule", None) == "incremental":
        raise OptionError(f"replicas: rule {first.rule.name!r} changes its weights while it settles: run them one by one")
    if first.network.products is not None:
        raise OptionError("replicas: products='bfloat16' is not for replicas: run them one by one")
    if any(s.has_interventions for s in simulations):
        raise OptionError("replicas: interventions (at, every) are of one simulation: run them one by one")
    for name in first.network.pathways:
        options = first.synapses.options_for(name)
        if isinstance(options["bounds"], str) or callable(options["optimizer"]):
            raise OptionError(
                "replicas: bounds by name and optimisers of one's own are of one simulation: run them one by one"
            )


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
    """Return an event of these tensors."""
    given: dict[str, Any] = {name: tensor for name, tensor in parts.items() if name != "_one_hot"}
    event = kind(**given)
    if "_one_hot" in parts:
        vars(event)["_one_hot"] = parts["_one_hot"]
    return event
