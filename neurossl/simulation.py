"""The simulation: a stream of moments in, updates applied, recorders told.

Within one moment the order is fixed (`PHASES`); the result is as if all changes were proposed first and then applied
together. One simulation makes the one decision about device, number type and seed.
"""

from collections.abc import Callable, Iterable, Sized
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from neurossl.activity import Activity
from neurossl.device import choose_device, choose_dtype
from neurossl.errors import DivergenceError, EventError, OptionError
from neurossl.events import Event, Fixation, Moment, Saccade, Teaching
from neurossl.generators import Generators
from neurossl.network import Network
from neurossl.pathways import Pathway
from neurossl.plasticity import Rule, Synapses, make_rule
from neurossl.recorders import Recorder
from neurossl.units import seconds
from neurossl.updates import Update

PHASES: dict[str, str] = {
    "intervene": "what was asked for with at() and every(), if its time has come",
    "present": "the stimulus falls on the input population; one forward sweep; the previous fixation is the trace",
    "settle": "relaxation, where the rule has one",
    "modulate": "apical input and neuromodulator arrive; every population receives its credit",
    "update": "the proposed changes are applied",
    "record": "recorders see the state after the update",
}
"""What happens within one moment, in this order."""


class Simulation:
    """A network that learns by a rule from a stream of moments.

    Parameters
    ----------
    network : Network
        Weights that it does not have yet are drawn with the seed.
    rule : Rule or str
    synapses : Synapses, optional
        AdamW with a learning rate of 1e-3 by default.
    seed : int
        Root of all named generators.
    device : {"auto", "cpu", "cuda"}
    dtype : {"float32", "float64"}
    products : {"bfloat16"}, optional
        Number type of matrix products, convolutions and activities; weights, scores, gates and optimisers keep ``dtype``.
        Twice as fast where the hardware has it, to three digits; not for rules that settle.
    recorders : iterable of Recorder
    check_every : int
        Moments between checks for NaN and infinity; every recorded moment is checked as well.

    Examples
    --------
    >>> simulation = Simulation(mlp(64, [32, 32]), "clapp", seed=1)
    >>> simulation.at(2.5)(lambda simulation: simulation.network.pathways["V1->V2"].lesion())
    >>> simulation.run(ViewPairs(images.train, images.train_labels, default_views(images)), report="text")
    """

    phases = PHASES

    def __init__(
        self,
        network: Network,
        rule: Rule | str,
        synapses: Synapses | None = None,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        products: str | None = None,
        recorders: Iterable[Recorder] = (),
        check_every: int = 10,
    ) -> None:
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype)
        self.rule = make_rule(rule) if isinstance(rule, str) else rule
        self.synapses = synapses or Synapses()
        self.generators = Generators(seed)
        self.recorders = list(recorders)
        if check_every < 1:
            raise OptionError(f"check_every must be >= 1 moments, got {check_every}")
        self.check_every = check_every
        if products not in (None, "bfloat16"):
            raise OptionError(f"products: expected 'bfloat16' or None, got {products!r}")
        if products is not None and ("settling" in self.rule.needs or self.dtype != torch.float32):
            raise OptionError(
                f"products='bfloat16' needs dtype float32 and a rule that does not settle, not {self.rule.name!r}"
            )
        rounded = torch.bfloat16 if products else None
        self.network = self.rule.wire(network.complete(seed, self.device, self.dtype, rounded))
        for recorder in self.recorders:
            recorder.wire(network)
        self.event = 0
        self.time = 0.0
        self.observers_seen = 0
        self.activity: Activity | None = None
        self.moment: Moment | None = None
        self._waiting: list[Event] = []
        self._held: str | None = None
        self._interventions: list[tuple[float, float | None, Callable[[Simulation], Any]]] = []
        self._started = False

    @property
    def seed(self) -> int:
        """The root seed."""
        return self.generators.root_seed

    def at(self, time: Any) -> Callable[[Callable[["Simulation"], Any]], Callable[["Simulation"], Any]]:
        """Call a function once, before the first moment that begins at or after this biological time.

        Parameters
        ----------
        time : float (seconds) or Brian2 quantity
        """
        return self._schedule(seconds(time, "at"), None)

    def every(self, interval: Any) -> Callable[[Callable[["Simulation"], Any]], Callable[["Simulation"], Any]]:
        """Call a function once per interval of biological time, the first time after one interval.

        Parameters
        ----------
        interval : float (seconds) or Brian2 quantity
        """
        period = seconds(interval, "every")
        if period <= 0:
            raise OptionError(f"every: expected a time > 0 s, got {interval!r}")
        return self._schedule(self.time + period, period)

    def _schedule(
        self, time: float, period: float | None
    ) -> Callable[[Callable[["Simulation"], Any]], Callable[["Simulation"], Any]]:
        def keep(function: Callable[[Simulation], Any]) -> Callable[[Simulation], Any]:
            if not callable(function):
                raise OptionError(f"at, every: expected a function of the simulation, got {function!r}")
            self._interventions.append((time, period, function))
            return function

        return keep

    def run(
        self,
        stream: Iterable[Moment | Event],
        report: str | Callable[[int, int | None], None] | None = None,
    ) -> "Simulation":
        """Learn from every moment of a stream.

        Parameters
        ----------
        stream : iterable of Moment or Event
            A bare event is a moment of its own.
        report : "text", callable or None
            Progress: a bar on stderr, or a function that is given the moments done and, where known, the total.

        Raises
        ------
        EventError
            If the stream lacks events that the rule waits for.
        DivergenceError
            At NaN or infinity; names moment, population and pathway.
        """
        total = len(stream) if isinstance(stream, Sized) else None
        if report not in (None, "text") and not callable(report):
            raise OptionError(f"report: expected 'text', a function or None, got {report!r}")
        with torch.no_grad(), tqdm(total=total, desc=self.rule.name, unit="moment", disable=report != "text") as bar:
            self.start()
            for done, moment in enumerate(stream, 1):
                self.step(moment)
                bar.update()
                if callable(report):
                    report(done, total)
            self.finish()
        return self

    def start(self) -> None:
        """Let the recorders see the state before the first update (row 0); `run` does it by itself."""
        if not self._started:
            self._started = True
            for recorder in self.recorders:
                recorder.start(self)

    @torch.no_grad()
    def step(self, moment: Moment | Event) -> None:
        """Go through the phases of one moment."""
        complete = self._present(self._arrive(moment))
        if complete is None:
            return
        self._count(complete)
        if self.activity is None:
            self._learn_along(complete)
            return
        listening = self.listening()
        for recorder in listening:
            recorder.before(self, self.activity, complete)
        changes = self._learn(self.activity, complete, keep=any(r.wants_updates for r in listening))
        self.close(complete, self.activity, changes)

    def _arrive(self, moment: Moment | Event) -> Moment:
        """Intervene, let time pass, and return the moment on the device."""
        self.start()
        moment = moment if isinstance(moment, Moment) else Moment(moment)
        self._intervene()
        self.time += moment.duration
        return moment.to(self.device, self.dtype)

    def _count(self, moment: Moment) -> None:
        self.event += 1
        self.observers_seen += moment.observers

    def listening(self) -> list[Recorder]:
        """Return the recorders that want to see the present moment."""
        return [recorder for recorder in self.recorders if recorder.due(self.event)]

    def begin(self, moment: Moment | Event) -> Moment:
        """Begin a moment of which the learning is done elsewhere (`Replicas`), and return it on the device."""
        arrived = self._arrive(moment)
        for event_type in self.rule.awaits:
            arrived.require(event_type, by=f"rule {self.rule.name!r}")
        if arrived.require(Fixation, by="replicas").partner is None and Teaching not in arrived:
            raise EventError("replicas need batched moments: Fixation(stimulus, partner)")
        self._count(arrived)
        return arrived

    def look(self, moment: Moment) -> Activity:
        """Show the moment to the recorders that listen, before its update, and return the activity that they saw."""
        activity = self.network.sweep(moment.require(Fixation, by="simulation").stimulus)
        for recorder in self.listening():
            recorder.before(self, activity, moment)
        return activity

    def close(self, moment: Moment, activity: Activity | None, changes: dict[str, Update]) -> None:
        """End a moment: check for NaN and infinity, and show its update to the recorders that listen."""
        listening = self.listening()
        if listening or self.event % self.check_every == 0:
            self._check(activity)
        for recorder in listening:
            assert activity is not None, "recorders that listen have seen it"
            recorder.after(self, activity, moment, changes)

    def finish(self) -> None:
        """End a run: check for NaN and infinity, and let the recorders see the end; `run` does it by itself."""
        if self._held is not None:
            raise EventError(f"{self._held}, but the stream ended")
        self._check(self.activity)
        for recorder in self.recorders:
            recorder.end(self)

    @property
    def has_interventions(self) -> bool:
        """Whether something was asked for with at() or every()."""
        return bool(self._interventions)

    def _intervene(self) -> None:
        due = [entry for entry in self._interventions if entry[0] <= self.time]
        for entry in sorted(due, key=lambda e: e[0]):
            time, period, function = entry
            self._interventions.remove(entry)
            if period is not None:
                self._interventions.append((time + period, period, function))
            function(self)

    def _present(self, moment: Moment) -> Moment | None:
        """Sweep, if there is a fixation, and return the moment if the rule has all that it waits for."""
        fixation = moment.get(Fixation)
        if fixation is None:
            if self._held is not None and self.moment is not None:
                moment = self.moment.with_events(*moment)
            else:
                self._waiting += list(moment)
                return None
        else:
            if self._held is not None:
                raise EventError(f"{self._held}, but got the next Fixation")
            moment = moment.with_events(*(e for e in self._waiting if type(e) not in moment))
            self._waiting = []
            if self._learns_along(moment, fixation):
                self.activity = None
            else:
                self._sweep(moment, fixation)
        missing = [t.__name__ for t in self.rule.awaits if t not in moment]
        self.moment = moment
        self._held = f"rule {self.rule.name!r} waits for a {missing[0]} event after the Fixation" if missing else None
        return None if missing else moment

    def _sweep(self, moment: Moment, fixation: Fixation) -> None:
        previous = self.activity
        activity = self.network.sweep(fixation.stimulus)
        if fixation.partner is None and previous is not None and previous.rows == activity.rows:
            seen = torch.ones(activity.rows, dtype=torch.bool, device=self.device)
            activity = activity.with_changes(context=previous.output, traced=seen)
        saccade = moment.get(Saccade)
        if saccade is not None and saccade.observers is not None and len(saccade.observers) != activity.rows:
            raise EventError(f"Saccade.observers: expected one per row ({activity.rows}), got {len(saccade.observers)}")
        self.activity = activity

    def _learns_along(self, moment: Moment, fixation: Fixation) -> bool:
        """Return whether nobody needs the whole activity of this moment: every population can learn and be forgotten."""
        waited_for = all(t in moment for t in self.rule.awaits) and fixation.partner is not None
        return self.rule.learns_along and waited_for and not any(r.due(self.event + 1) for r in self.recorders)

    def _learn_along(self, moment: Moment) -> None:
        """Sweep, and let every population learn as soon as it has responded."""
        checked = self.event % self.check_every == 0
        for name, activity in self.network.sweep_along(moment.require(Fixation, by="simulation").stimulus):
            self.network.apply(self.rule.propose(activity, moment, name), self.synapses)
            if checked:
                self._check(activity, weights=False)
        if checked:
            self._check(None)

    def _learn(self, activity: Activity, moment: Moment, keep: bool) -> dict[str, Update]:
        """Settle, propose and apply; return the summed changes by pathway if they are to be kept."""
        changes: dict[str, Update] = {}
        for settled in self.rule.settling(activity, moment):
            proposals: Iterable[tuple[Pathway, Update]] = self.rule.propose(settled, moment)
            if keep:
                proposals = list(proposals)
                for pathway, update in proposals:
                    known = changes.get(pathway.name)
                    changes[pathway.name] = update if known is None else known.plus(update)
            self.network.apply(proposals, self.synapses)
        return changes

    def _check(self, activity: Activity | None, weights: bool = True) -> None:
        """Raise DivergenceError if an activity or a weight is not finite."""
        where = f"moment {self.event} (t = {self.time:g} s), rule {self.rule.name!r}, seed {self.seed}"
        broken_weights = _not_finite({n: p.weight for n, p in self.network.pathways.items()}) if weights else []
        broken = _not_finite(activity.output) if activity is not None else []
        if not broken and not broken_weights:
            return
        if broken and broken[0] == self.network.input.name:
            raise DivergenceError(f"{where}: the stimulus on population {broken[0]!r} is not finite: check the images")
        pathway = broken_weights[0] if broken_weights else self.network.incoming(broken[0])[0].name
        population = broken[0] if broken else self.network.pathways[pathway].post
        raise DivergenceError(
            f"{where}: NaN or infinity in population {population!r}, pathway {pathway!r}: "
            "lower the learning rate (lr) or the settling rate"
        )

    def __repr__(self) -> str:
        return (
            f"Simulation({self.network.name!r}, {self.rule.name!r}, seed {self.seed}, {self.device.type}, "
            f"{str(self.dtype).removeprefix('torch.')}; {self.event} moments, {self.time:g} s, "
            f"{self.observers_seen} observers)"
        )


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors with NaN or infinity; one transfer from the device."""
    if not tensors:
        return []
    # A sum is finite only if all terms are; it can overflow where they are not, so a suspect is looked at again.
    sums = torch.stack([t.sum() for t in tensors.values()])
    suspects = [name for name, ok in zip(tensors, sums.isfinite().tolist(), strict=True) if not ok]
    return [name for name in suspects if not bool(tensors[name].isfinite().all())]
