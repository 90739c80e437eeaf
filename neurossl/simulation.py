"""The simulation: a stream of moments in, updates applied, recorders told.

The order of steps within a moment is in `neurossl.moment`. One simulation makes the one decision about device, number type
and seed, and holds all that changes: `Simulation.state` returns it, `Simulation.restore` goes on from it bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from neurossl import moment as steps
from neurossl.anatomy.network import Network
from neurossl.checkpoint import Checkpointer
from neurossl.checks import whole
from neurossl.device import choose_device, choose_dtype
from neurossl.divergence import check_finite, check_stimulus
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.dynamics.sweep import Sweep
from neurossl.engine.execution import Execution
from neurossl.engine.optimisers import Optimisers
from neurossl.engine.tuning import tuned
from neurossl.engine.updates import Update
from neurossl.engine.weights import Parameters, Weights
from neurossl.errors import EventError, Interrupted, NeurosslError, OptionError
from neurossl.events import Event, Fixation, Moment, Neuromodulation
from neurossl.gathering import Gathering
from neurossl.generators import Generators
from neurossl.persistence import Persistent
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.plasticity.audit import audit, is_ones_own
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.needs import known_needs
from neurossl.plasticity.proposal import Signals, wired
from neurossl.progress import Progress
from neurossl.provenance import checked_about, gated_ledger, provenance
from neurossl.recorders.audience import Audience, show
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.signals import Asked, heeding_signals
from neurossl.store import Store
from neurossl.streaming import as_moment, check_goes_on, described_stream, moments_from, stream_of
from neurossl.units import exact


class Simulation(Persistent):
    """A network that learns by a rule from a stream of moments.

    Parameters
    ----------
    network : Network
        Is not changed: the simulation wires a copy.
    rule : Rule or str
    synapses : Synapses, optional
        AdamW with a learning rate of 1e-3 by default.
    weights : mapping of str to Parameters, optional
        Weights to begin with, copied; those of pathways that it lacks are drawn with the seed.
    seed : int
        Root of all named generators.
    device : {"auto", "cpu", "cuda"}
    dtype : {"float32", "float64"}
    products : {"bfloat16"}, optional
        Number type of matrix products, convolutions and activities; weights, scores, gates and optimisers keep ``dtype``.
        Twice as fast where the hardware has it, to three digits; not for rules that settle.
    execution : Execution, optional
        How it is computed; by default what a short measurement finds fastest on this processor (`engine.tuning`).
    store : Store, optional
        Where the run is recorded: `analysis.TrajectoryWriter`.
    recorders : iterable of Recorder
        What is recorded there.
    checkpoints : Checkpointer, optional
        Where there is a store, every 30 s by default. SIGTERM and Ctrl-C write one between two moments, and end the run.
    about : mapping, optional
        What the stored run says besides what the simulation knows: protocol, label, dataset.
    check_every : int
        Moments between checks for NaN and infinity; every recorded moment is checked as well.

    Examples
    --------
    >>> simulation = Simulation(mlp(64, [32, 32]), "clapp++gap", seed=1)
    >>> simulation.at(2.5)(lambda simulation: simulation.lesion("V1->V2"))
    >>> simulation.run(ViewPairs(images.train, images.train_labels, default_views(images)), report="text")
    """

    steps = steps.STEPS

    def __init__(
        self,
        network: Network,
        rule: Rule | str,
        synapses: Synapses | None = None,
        *,
        weights: Mapping[str, Parameters] | None = None,
        seed: int = 0,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        products: str | None = None,
        execution: Execution | None = None,
        store: Store | None = None,
        recorders: Iterable[Recorder] = (),
        checkpoints: Checkpointer | None = None,
        about: Mapping[str, Any] | None = None,
        check_every: int = 10,
    ) -> None:
        super().__init__()
        for name, given, kind in (("network", network, Network), ("synapses", synapses, Synapses)):
            if not isinstance(given, kind) and not (name == "synapses" and given is None):
                raise OptionError(f"{name}: expected a {kind.__name__}, got {given!r}")
        if checkpoints is not None and not isinstance(checkpoints, Checkpointer):
            raise OptionError(f"checkpoints: expected a Checkpointer(every=...), got {checkpoints!r}")
        if execution is not None and not isinstance(execution, Execution):
            raise OptionError(f"execution: expected an Execution, got {execution!r}")
        if store is not None and not hasattr(store, "record"):
            raise OptionError(f"store: expected a TrajectoryWriter(folder), got {store!r}")
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype)
        self.products = self._products(products)
        self.rule = make_rule(rule)
        known_needs(self.rule.needs, self.rule.name)
        awaited = self.rule.awaits
        if not isinstance(awaited, tuple | list) or not all(isinstance(t, type) and issubclass(t, Event) for t in awaited):
            raise OptionError(f"rule {self.rule.name!r}: awaits must be a tuple of types of events, got {awaited!r}")
        if self.products is not None and ("settling" in self.rule.needs or self.dtype != torch.float32):
            raise OptionError(
                f"products='bfloat16' needs dtype float32 and a rule that does not settle, not {self.rule.name!r}"
            )
        self.synapses = Synapses() if synapses is None else synapses
        self.generators = Generators(seed)
        self.check_every = whole(check_every, "check_every (moments)")
        self.dynamics = Sweep()
        self.store = store
        on_disk = store is not None and store.path is not None
        self.checkpoints = Checkpointer() if checkpoints is None and on_disk else checkpoints
        self.network = wired(self.rule, network)
        self._about = checked_about(about)
        self._audience = Audience(self.network, self.rule, store, () if recorders is None else recorders)
        try:
            self.synapses.check(self.network)
            self.weights = Weights.draw(self.network, self.seed, self.device, self.dtype, weights)
        except NeurosslError:
            self._audience.leave()  # so that the same recorders may be given again
            raise
        if execution is None:
            execution = tuned(self.network, self.device, self.dtype, self.products)
        execution = replace(execution, products=self.products, mapped=False)
        self.circuit = Circuit(self.network, self.weights, execution, self.frozen, self.manipulations)
        self.optimisers = Optimisers(self.network, self.weights, self.synapses)
        self.memory = Memory(self.generators)
        self.lineage = uuid4().hex  # whose checkpoints are whose
        self._noted_synapses = self.synapses.version
        self._begin()

    def _begin(self) -> None:
        """Set what counts and carries over from one moment to the next to its beginning."""
        self.moment = 0
        self.observers_seen = 0
        self.activity: Activity | None = None
        self._trace: dict[str, Tensor] | None = None
        self._gathering = Gathering(self.rule)
        self._done = 0
        self._stream_described: dict[str, Any] = {}
        self._is_running = False
        self._audited = False
        self._is_gated = "neuromodulator" in self.rule.needs

    @staticmethod
    def _products(name: str | None) -> torch.dtype | None:
        if name not in (None, "bfloat16"):
            raise OptionError(f"products: expected 'bfloat16' or None, got {name!r}")
        return torch.bfloat16 if name else None

    @property
    def seed(self) -> int:
        """The root seed."""
        return self.generators.root_seed

    @property
    def recorders(self) -> tuple[Recorder, ...]:
        """What is recorded; `add_recorder` and `remove_recorder` change it."""
        return tuple(self._audience)

    def add_recorder(self, recorder: Recorder) -> None:
        """Record something more from now on."""
        self._audience.add(recorder)
        if self._described:
            self.show([recorder], "begin", self.observe())

    def remove_recorder(self, recorder: Recorder) -> None:
        """Record something no longer."""
        self._audience.remove(recorder)

    def run(
        self, stream: Iterable[Moment | Event], report: str | Callable[[int, int | None], None] | None = None
    ) -> Simulation:
        """Learn from every moment of a stream.

        A run begins without a trace of what was seen before; a run that goes on from a checkpoint leaves out the moments
        that it has learned from already.

        Parameters
        ----------
        stream : iterable of Moment or Event
            A bare event is a moment of its own.
        report : "text", callable or None
            Progress: a bar on stderr (a line every 30 s where that is no terminal), or a function that is given the moments
            done and, where known, the total.

        Raises
        ------
        EventError
            If the stream lacks events that the rule waits for.
        DivergenceError
            At NaN or infinity; names moment, population and pathway.
        Interrupted
            When a signal asked for the end, after a checkpoint.
        """
        stream = stream_of(stream)
        total = len(stream) if isinstance(stream, Sized) else None
        goes_on = self._is_running
        self.begin_run(stream)
        try:
            stores = self.store is not None or self.checkpoints is not None
            with heeding_signals(stores) as asked, Progress(report, self.rule.name, total, self._done) as progress:
                self.start(stream)
                nothing = not goes_on and total != 0
                for moment in moments_from(stream, self._done):
                    self.step(moment)
                    self.count_done()
                    progress(self._done)
                    self._between_moments(asked)
                    nothing = False
                if nothing:
                    raise OptionError("run: the stream yields nothing: an iterator can be gone through only once")
                self.end_run()
        finally:
            self.leave_run()
        return self

    def begin_run(self, stream: Iterable[Moment | Event]) -> None:
        """Begin a run without a trace, or go on with the one in which the state was taken; `run` does it by itself."""
        if self._is_running:
            check_goes_on(self._stream_described, stream, self._done)
            if isinstance(stream, Sized):
                self._audience.announce(self.observe(), len(stream) - self._done)
            for lost in self._schedule.lost():
                warnings.warn(f"planned before the checkpoint and not asked for again: {lost}", stacklevel=3)
        else:
            self._done, self._trace, self._audited = 0, None, False
            self._gathering.clear()
        self._is_running = True
        self._stream_described = described_stream(stream)

    def count_done(self) -> None:
        """Count a moment of the stream, after which a checkpoint may be written; `run` does it by itself."""
        self._done += 1

    def end_run(self) -> None:
        """Write a last checkpoint and let the recorders see the end; `run` does it by itself."""
        if self.checkpoints is not None and not self._gathering.fixates:
            self.checkpoint()  # from which a longer stream goes on
        self.finish()
        self._warn_of_unreached()

    def _warn_of_unreached(self) -> None:
        """Say what was planned for a time at which the run has ended already."""
        for label in self._schedule.unreached():
            warnings.warn(f"not done: {label}; the run ended at {self.time:g} s (times are seconds)", stacklevel=4)

    def leave_run(self) -> None:
        """Be ready for another run; `run` does it by itself, however it ends."""
        self._is_running = False

    def _between_moments(self, asked: Asked) -> None:
        """Write a checkpoint if it is due, and end if a signal asked for it."""
        if asked.by is None:
            if self.checkpoints is not None and self.checkpoints.due(self.moment):
                self.checkpoint()
            return
        saved = ""
        if self.checkpoints is not None:
            saved = f"; a checkpoint is in {self.checkpoint()}"
        raise Interrupted(f"{asked.name} after moment {self.moment} (t = {self.time:g} s){saved}", asked.by)

    def start(self, stream: Any = None) -> None:
        """Describe the run and let the recorders see the state before the first update (row 0); `run` does it by itself."""
        if self._described:
            return
        if self.store is not None:
            if isinstance(stream, Sized):
                self._audience.announce(self.observe(), len(stream))
            self.store.describe(provenance(self, stream, self._about))
        self._described = True
        if self._log:
            self._store_log()
        self.show(self.recorders, "begin", self.observe())

    @torch.no_grad()
    def step(self, moment: Moment | Event) -> None:
        """Go through the steps of one moment."""
        self.start()
        with self.exactly():
            complete = self._present(self.arrive(moment))
            if complete is None:
                return
            self.count(complete)
            listening = self.listening()
            if listening:
                self.show(listening, "before", self.observe(complete, self.activity))
            self.examine(complete)
            signals: Signals | None = {} if any(r.wants_signals for r in listening) else None
            proposed = steps.proposals(
                self.rule,
                complete,
                self.memory,
                self.activity,
                dynamics=self.dynamics,
                circuit=self.circuit,
                signals=signals,
            )
            keep = any(r.wants_updates for r in listening)
            silent = steps.is_silent(complete, self.rule, self.activity)
            changes = {}
            if not silent or self.rule.state or keep or signals is not None:
                changes = steps.update(steps.reduced(proposed), self.optimisers.change, self.memory, silent, keep)
            self.close(complete, self.activity, changes, signals or {})

    def examine(self, moment: Moment) -> None:
        """See, at the first moment of a run, that a rule of one's own looks and remembers as it has declared."""
        if self._audited:
            return
        self._audited = True
        if is_ones_own(self.rule):
            activity = self.activity or steps.present(self.dynamics, self.circuit, moment, None)
            audit(self.rule, activity, moment, self.memory)

    def exactly(self) -> AbstractContextManager[object]:
        """Return a context without autocast, which would change results."""
        kind = self.device.type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    def arrive(self, moment: Moment | Event) -> Moment:
        """Intervene, let time pass, and return the moment on the device."""
        moment = as_moment(moment)
        moment.check()
        if Neuromodulation in moment and not self._is_gated:
            self._is_gated = True
            if self.store is not None:
                self.store.amend({"needs": gated_ledger(self.rule)})
        fixation = moment.get(Fixation)
        if fixation is not None and fixation.inputs:
            fixation = Fixation(self.circuit.stimulus_of(fixation), fixation.partner)
            moment = moment.with_events(fixation)
        if fixation is not None:
            # Before anything learns from it: NaN in the weights would be taken for a learning rate that is too high.
            check_stimulus(self.network, fixation.stimulus, self._where(self.moment + 1))
        duration = exact(moment.duration)
        for intervention in self._schedule.due(self, duration):
            noted = len(self._log)
            intervention.function(self)
            for entry in self._log[noted:]:
                entry |= intervention.description
            self._store_log()
            if len(self._log) == noted:
                self.note("call", **intervention.description)
        if self.synapses.version != self._noted_synapses:
            self.synapses.check(self.network)
            self._noted_synapses = self.synapses.version
            self.note("synapses", options=self.synapses.describe())
        self._schedule.time += duration
        return moment.to(self.device, self.dtype)

    def count(self, moment: Moment) -> None:
        """Count a moment from which something is learned."""
        self.moment += 1
        self.observers_seen += moment.observers

    def listening(self) -> list[Recorder]:
        """Return the recorders that want to see the present moment."""
        return self._audience.listening(self.moment)

    def show(self, recorders: Iterable[Recorder], step: str, now: Observation) -> None:
        """Let recorders see the simulation at one of their steps, and refuse one that changes it."""
        with torch.no_grad(), self.exactly():
            show(recorders, step, now, self.memory.tensors)

    def close(self, moment: Moment, activity: Activity | None, changes: dict[str, Update], signals: Signals) -> None:
        """End a moment: check for NaN and infinity, and show its update to the recorders that listen."""
        listening = self.listening()
        if listening or self.moment % self.check_every == 0:
            self.check(activity)
        if listening:
            self.show(listening, "after", self.observe(moment, activity, changes, signals))

    def finish(self) -> None:
        """End a run: check for NaN and infinity, and let the recorders see the end; `run` does it by itself."""
        self._gathering.end()
        self.check(self.activity)
        self.show(self.recorders, "end", self.observe())

    def check(self, activity: Activity | None = None) -> None:
        """Raise DivergenceError if an activity, a weight or a bias is not finite."""
        check_finite(self.network, self.weights, activity, self._where(self.moment), self.rule)

    def _where(self, moment: int) -> str:
        return f"moment {moment} (t = {self.time:g} s), rule {self.rule.name!r}, seed {self.seed}"

    def observe(
        self,
        moment: Moment | None = None,
        activity: Activity | None = None,
        updates: dict[str, Update] | None = None,
        signals: Signals | None = None,
    ) -> Observation:
        """Return what a recorder may see now."""
        return Observation(
            circuit=self.circuit,
            rule=self.rule,
            moment=self.moment,
            time=self.time,
            observers_seen=self.observers_seen,
            generators=self.generators,
            activity=activity,
            events=moment,
            updates=updates or {},
            signals=signals or {},
            memory=self.memory,
        )

    def respond(self, images: Any) -> Activity:
        """Return the activity that images evoke, without learning.

        Parameters
        ----------
        images : Tensor or array, (rows, *input shape)
            As the stream shows them: ``default_views(images).still(images.test)`` normalises as learning did. Whole numbers
            of 8 bits are pixels, and become values from 0 to 1 and nothing else.

        Raises
        ------
        EventError
            If they are no such images.
        """
        if not isinstance(images, Tensor | np.ndarray | Sequence | Mapping):
            raise EventError(
                f"respond: expected images as the stream shows them, (rows, *input shape), got {type(images).__name__}: for "
                "an image set default_views(images).still(images.test)"
            )
        shown = Moment(Fixation(images)).to(self.device, self.dtype).require(Fixation, by="respond")
        with torch.no_grad(), self.exactly():
            return self.dynamics.respond(self.circuit, self.circuit.stimulus_of(shown))

    def reset(self) -> None:
        """Begin anew with the weights as they are: clock, traces, optimisers, what the rule remembers, generators.

        Raises
        ------
        OptionError
            If the run is being stored: what is recorded goes on in time.
        """
        if self._described and self.store is not None:
            raise OptionError("reset: this run is being stored; make a new simulation with weights=simulation.weights")
        self.generators.restore({})
        self.optimisers.forget()
        self.memory.forget()
        self._schedule.restore({"time": "0", "waiting": [], "past": []})
        self.frozen.clear()
        self.manipulations.clear()
        self._log.clear()
        self._begin()

    def _present(self, moment: Moment) -> Moment | None:
        """Present the fixation, if there is one, and return the moment if the rule has all that it waits for."""
        joined = self._gathering.join(moment)
        if joined is None:
            return None
        fixation = moment.get(Fixation)
        if fixation is not None:
            self._respond_to(joined, fixation)
        return self._gathering.complete(joined)

    def _respond_to(self, moment: Moment, fixation: Fixation) -> None:
        """Let all populations respond, unless each can learn and be forgotten as soon as it has responded."""
        if self._learns_along(moment, fixation):
            self.activity, self._trace = None, None
            return
        self.activity = steps.present(self.dynamics, self.circuit, moment, self._trace)
        self._trace = self.activity.output if fixation.partner is None else None

    def _learns_along(self, moment: Moment, fixation: Fixation) -> bool:
        waited_for = all(t in moment for t in self.rule.awaits) and fixation.partner is not None
        listens = any(r.due(self.moment + 1) for r in self.recorders)
        return self.rule.learns_along and waited_for and not listens

    def __repr__(self) -> str:
        return (
            f"Simulation({self.network.name!r}, {self.rule.name!r}, seed {self.seed}, {self.device.type}, "
            f"{str(self.dtype).removeprefix('torch.')}; {self.moment} moments, {self.time:g} s, "
            f"{self.observers_seen} observers)"
        )
