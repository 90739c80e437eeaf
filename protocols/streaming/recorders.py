"""What an animal experiences online: scores of single fixations, and what one synapse sees.

Score of a population at a fixation: ``u = z . B c`` with the response z, the trace c of the previous fixation and the
weights B that the prediction pathway has at that moment.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.dynamics.circuit import Circuit
from neurossl.engine.projections import ApicalProjection
from neurossl.events import Moment, Neuromodulation, Saccade
from neurossl.generators import concern_seed
from neurossl.plasticity import Contrastive, Rule
from neurossl.recorders import Recorder
from neurossl.recorders.observation import Observation
from neurossl.simulation import Simulation
from neurossl.stimuli import FixationSequence
from neurossl.store import Store

SIGNALS = ("true", "shuffled", "none")


class SignalledSequence:
    """Fixations of one observer, with a saccade signal that is true, shuffled or missing.

    A saccade comes once in ``fixations_per_object`` moments; its neuromodulator is as much stronger, so that fixations and
    saccades weigh the same over time.

    Parameters
    ----------
    stream : FixationSequence
        Of one observer.
    signal : {"true", "shuffled", "none"}
        shuffled: as many signals, at random moments. none: every moment is taken for a fixation within the object.
    """

    def __init__(self, stream: FixationSequence, signal: str) -> None:
        self.stream = stream
        self.signal = signal
        number = torch.arange(len(stream))
        self.truth = (number % stream.fixations_per_object == 0) & (number > 0)
        generator = torch.Generator().manual_seed(concern_seed(stream.seed, "stimuli/shuffled-signals"))
        order = torch.randperm(len(stream), generator=generator)
        self.signalled = {"true": self.truth, "shuffled": self.truth[order], "none": torch.zeros_like(self.truth)}[signal]

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Moment]:
        gains = torch.ones(1), torch.full((1,), max(1.0, self.stream.fixations_per_object - 1.0))
        for number, moment in enumerate(self.stream):
            kept = [event for event in moment if not isinstance(event, Saccade)]
            if bool(self.signalled[number]):
                kept.append(Saccade(observers=torch.ones(1, dtype=torch.bool)))
            yield Moment(*kept, Neuromodulation(*gains), duration=moment.duration, observers=1)

    def __repr__(self) -> str:
        return f"{self.stream!r}, saccade signal: {self.signal}"


def predictions(circuit: Circuit, objective: Contrastive) -> dict[str, ApicalProjection]:
    """Return the prediction pathway onto every population."""
    network, found = circuit.network, {}
    for name in network.order:
        projection = circuit[objective.pathway_names(name, network.top)[0]]
        assert isinstance(projection, ApicalProjection), "predictions are dense"
        found[name] = projection
    return found


class ScoreRecorder(Recorder):
    """Keeps the score of every population at every moment, before its update, with what really happened.

    Parameters
    ----------
    stream : SignalledSequence
    objective : Contrastive

    Attributes
    ----------
    scores : list of (time, saccade, {population: score})
        Time in s, at the end of the fixation.
    """

    def __init__(self, stream: SignalledSequence, objective: Contrastive) -> None:
        super().__init__(kind="scores")
        self.stream = stream
        self.objective = objective
        self.scores: list[tuple[float, bool, dict[str, float]]] = []

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Record without a store as well: what is kept is kept here."""

    def before(self, now: Observation) -> None:
        """Score the present response with the trace."""
        activity = now.seen
        if activity.context is None:
            return
        found = {}
        for name, projection in predictions(now.circuit, self.objective).items():
            prediction = projection.apical(projection.signal(activity.context[projection.pathway.pre]))
            found[name] = float((projection.at_dendrite(activity[name]) * prediction).sum())
        self.scores.append((now.time, bool(self.stream.truth[now.moment - 1]), found))


class SynapseRecorder(Recorder):
    """Keeps all that one feedforward synapse sees, during some moments.

    Parameters
    ----------
    stream : SignalledSequence
    pathway : str
        Dense, ``pre->post``.
    objective : Contrastive
    first, last : int
        Moments between which it watches; the synapse is chosen at the first one, among those that are active in it.

    Attributes
    ----------
    seen : list of dict
        Per moment: begin and end (s), whether the eyes had jumped, presynaptic activity, postsynaptic gate, dendritic
        prediction, gamma (with its gain), proposed change (their product), and the weight before and after.
    """

    def __init__(self, stream: SignalledSequence, pathway: str, objective: Contrastive, first: int, last: int) -> None:
        super().__init__(kind="synapse")
        self.stream = stream
        self.pathway = pathway
        self.objective = objective
        self.first, self.last = first, last
        self.synapse: tuple[int, int] | None = None
        self.seen: list[dict[str, Any]] = []

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Record without a store as well: what is kept is kept here."""

    def due(self, moment: int) -> bool:
        """Return whether this moment is to be watched."""
        return self.first <= moment <= self.last

    def before(self, now: Observation) -> None:
        """See the factors of the rule."""
        activity, moment = now.seen, now.happened
        target = now.network.pathways[self.pathway].post
        prediction = predictions(now.circuit, self.objective)[target]
        assert activity.context is not None, "watched after the first fixation"
        context = prediction.signal(activity.context[prediction.pathway.pre])
        apical, response = prediction.apical(context)[0], prediction.at_dendrite(activity[target])[0]
        presynaptic = activity.presynaptic[self.pathway][0].flatten()
        if self.synapse is None:
            self.synapse = int((response * apical.abs()).argmax()), int(presynaptic.argmax())
        post, pre = self.synapse
        gamma = _gamma(float(response @ apical), moment)
        gate = float(response[post] > 0)
        self.seen.append(
            {
                "begin": now.time - moment.duration,
                "end": now.time,
                "jumped": bool(self.stream.truth[now.moment - 1]),
                "presynaptic activity": float(presynaptic[pre]),
                "postsynaptic gate": gate,
                "dendritic prediction": float(apical[post]),
                "gamma": gamma,
                "proposed change": gamma * float(apical[post]) * gate * float(presynaptic[pre]),
                "before": float(now.weights[self.pathway].weight[post, pre]),
            }
        )

    def after(self, now: Observation) -> None:
        """See the weight after its change."""
        assert self.synapse is not None, "chosen before"
        self.seen[-1]["after"] = float(now.weights[self.pathway].weight[self.synapse])


class SeparationRecorder(Recorder):
    """Tests how well scores tell fixations from saccades: before learning, after it, and whenever `test` is called.

    Parameters
    ----------
    objective : Contrastive
    tested : callable
        Returns two views of every object, (objects, *input shape) each; called once.

    Attributes
    ----------
    found : list of dict
        time (s), population, told apart.
    """

    def __init__(self, objective: Contrastive, tested: Callable[[], Sequence[Tensor]]) -> None:
        super().__init__(kind="separation")
        self.objective, self._draw = objective, tested
        self.found: list[dict[str, Any]] = []

    @cached_property
    def _views(self) -> Sequence[Tensor]:
        return self._draw()

    def attach(self, store: Store | None, rule: Rule) -> None:
        """Record without a store as well: what is kept is kept here."""

    def due(self, moment: int) -> bool:
        """Return that no moment is recorded."""
        return False

    def begin(self, now: Observation) -> None:
        """Test before learning."""
        self.test(now)

    def end(self, now: Observation) -> None:
        """Test after learning."""
        self.test(now)

    def test(self, now: Observation | Simulation) -> None:
        """Test now."""
        for name, value in tell_apart(now.circuit, self.objective, *self._views).items():
            self.found.append({"time": now.time, "population": name, "told apart": value})


def _gamma(score: float, moment: Moment) -> float:
    """Return the neuromodulator of a hinge, with its gain."""
    event = moment.get(Neuromodulation)
    gains = (1.0, 1.0) if event is None or event.saccade_gain is None else (float(event.gain), float(event.saccade_gain))
    if Saccade in moment:
        return -gains[1] if score > -1 else 0.0
    return gains[0] if score < 1 else 0.0


def tell_apart(circuit: Circuit, objective: Contrastive, first: Tensor, second: Tensor) -> dict[str, float]:
    """Return how well the score tells fixations from saccades: the probability that a fixation scores higher (chance: 0.5).

    Parameters
    ----------
    circuit : Circuit
    objective : Contrastive
    first, second : Tensor, (objects, *input shape)
        Two views of every object; saccades go from the first view of one to the second view of the next.
    """
    before, now = (circuit.sweep(views.to(circuit.device, circuit.weights.dtype)) for views in (first, second))
    found = {}
    for name, projection in predictions(circuit, objective).items():
        prediction = projection.apical(projection.signal(before[projection.pathway.pre]))
        response = projection.at_dendrite(now[name])
        stayed = (response * prediction).sum(1).double().cpu().numpy()
        jumped = (response.roll(-1, 0) * prediction).sum(1).double().cpu().numpy()
        higher = stayed[:, None] - jumped[None]
        found[name] = float(np.mean((higher > 0) + 0.5 * (higher == 0)))
    return found
