"""What is recorded of an animal: the score of every fixation, what one synapse sees, and how well scores separate.

Score of a population at a fixation: ``u = z . B c`` with the response z, the trace c of the previous fixation and the
weights B that the prediction pathway has at that moment. All of it is stored with the run:

    /scores/fixations        score (snapshot, population), saccade (snapshot)
    /synapse/<pathway>       the factors of the rule at one synapse, and its weight
    /separation/test_objects probability (snapshot, population)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.dynamics.circuit import Circuit
from neurossl.engine.projections import ApicalProjection
from neurossl.events import Moment, Neuromodulation, Saccade
from neurossl.plasticity import Contrastive
from neurossl.recorders import Observation, Recorder
from neurossl.simulation import Simulation
from neurossl.store import Variable
from protocols.streaming.signalled import SignalledSequence

SACCADE = Variable((), "1", "whether the eyes had jumped before the fixation", "bool")
SCORES = {"score": Variable(("population",), "1", "score u = z . B c before the update"), "saccade": SACCADE}
SEPARATION = {"probability": Variable(("population",), "1", "probability that a fixation scores above a saccade")}
FACTORS = {
    "presynaptic_activity": "presynaptic activity",
    "postsynaptic_gate": "postsynaptic gate",
    "dendritic_prediction": "dendritic prediction",
    "gamma": "neuromodulator, with its gain",
    "proposed_change": "product of the four factors",
}
SYNAPSE = {
    "begin": Variable((), "s", "begin of the fixation"),
    "saccade": SACCADE,
    **{name: Variable((), "1", meaning) for name, meaning in FACTORS.items()},
    "weight_before": Variable((), "1", "weight before its change"),
    "weight_after": Variable((), "1", "weight after its change"),
    "post": Variable((), "1", "index of the postsynaptic neuron", "int64"),
    "pre": Variable((), "1", "index of the presynaptic neuron", "int64"),
}


def predictions(circuit: Circuit, objective: Contrastive) -> dict[str, ApicalProjection]:
    """Return the prediction pathway onto every population."""
    network, found = circuit.network, {}
    for name in network.order:
        projection = circuit[objective.pathway_names(name, network.top)[0]]
        assert isinstance(projection, ApicalProjection), "predictions are dense"
        found[name] = projection
    return found


class ScoreRecorder(Recorder):
    """The score of every population at every fixation but the first, before its update, with what really happened.

    Parameters
    ----------
    stream : SignalledSequence
    objective : Contrastive
    """

    def __init__(self, stream: SignalledSequence, objective: Contrastive) -> None:
        super().__init__(kind="scores")
        self.stream = stream
        self.objective = objective

    def declare(self, now: Observation) -> None:
        """Declare the scores of all populations."""
        self.declares(self.kind, "fixations", SCORES, _populations(now))

    def before(self, now: Observation) -> None:
        """Score the present response with the trace."""
        activity = now.seen
        if activity.context is None:
            return
        scores = []
        for name, projection in predictions(now.circuit, self.objective).items():
            prediction = projection.apical(projection.signal(activity.context[projection.pathway.pre]))
            scores.append(float((projection.at_dendrite(activity[name]) * prediction).sum()))
        jumped = bool(self.stream.truth[now.moment - 1])
        self.record(now, self.kind, "fixations", {"score": np.array(scores), "saccade": jumped})


class SynapseRecorder(Recorder):
    """All that one feedforward synapse sees, during some moments.

    Parameters
    ----------
    stream : SignalledSequence
    pathway : str
        Dense, ``pre->post``.
    objective : Contrastive
    first, last : int
        Moments between which it is watched; the synapse is chosen at the first one, among those that are active in it.
    """

    def __init__(self, stream: SignalledSequence, pathway: str, objective: Contrastive, first: int, last: int) -> None:
        super().__init__(kind="synapse")
        self.stream = stream
        self.pathway = pathway
        self.objective = objective
        self.first, self.last = first, last
        self.synapse: tuple[int, int] | None = None
        self._seen: dict[str, Any] = {}

    def due(self, moment: int) -> bool:
        """Return whether this moment is to be watched."""
        return self.first <= moment <= self.last

    def declare(self, now: Observation) -> None:
        """Declare what one synapse sees."""
        self.declares(self.kind, self.pathway, SYNAPSE)

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
        factors = [float(presynaptic[pre]), float(response[post] > 0), float(apical[post])]
        factors.append(_gamma(float(response @ apical), moment))
        self._seen = {
            "begin": now.time - moment.duration,
            "saccade": bool(self.stream.truth[now.moment - 1]),
            **dict(zip(FACTORS, [*factors, float(np.prod(factors))], strict=True)),
            "weight_before": float(now.weights[self.pathway].weight[post, pre]),
            "post": post,
            "pre": pre,
        }

    def after(self, now: Observation) -> None:
        """See the weight after its change."""
        assert self.synapse is not None, "chosen before"
        weight = float(now.weights[self.pathway].weight[self.synapse])
        self.record(now, self.kind, self.pathway, {**self._seen, "weight_after": weight})

    def state(self) -> dict[str, Tensor]:
        """Return which synapse is watched, once it is chosen."""
        return {} if self.synapse is None else {"synapse": torch.tensor(self.synapse)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on watching the same synapse."""
        self.synapse = (int(state["synapse"][0]), int(state["synapse"][1])) if "synapse" in state else None


class SeparationRecorder(Recorder):
    """How well scores separate fixations from saccades: before learning, after it, and whenever `test` is called.

    Parameters
    ----------
    objective : Contrastive
    tested : callable
        Returns two views of every object, (objects, *input shape) each; called once, and the same whenever it is called.
    """

    def __init__(self, objective: Contrastive, tested: Callable[[], Sequence[Tensor]]) -> None:
        super().__init__(kind="separation")
        self.objective, self._draw = objective, tested

    @cached_property
    def _views(self) -> Sequence[Tensor]:
        return self._draw()

    def declare(self, now: Observation) -> None:
        """Declare the probabilities of all populations."""
        self.declares(self.kind, "test_objects", SEPARATION, _populations(now))

    def due(self, moment: int) -> bool:
        """Return that no moment is recorded."""
        return False

    def begin(self, now: Observation) -> None:
        """Test before learning."""
        super().begin(now)
        self._test(now)

    def end(self, now: Observation) -> None:
        """Test after learning."""
        self._test(now)

    def test(self, simulation: Simulation) -> None:
        """Test now, between two moments."""
        self._test(simulation.observe())

    def _test(self, now: Observation) -> None:
        found = separation(now.circuit, self.objective, *self._views)
        self.record(now, self.kind, "test_objects", {"probability": np.array(list(found.values()))})


def _populations(now: Observation) -> dict[str, tuple[str, np.ndarray]]:
    """Return the populations along the axis of that name, as `predictions` returns them."""
    return {"population": ("population", np.array(now.network.order))}


def _gamma(score: float, moment: Moment) -> float:
    """Return the neuromodulator of a hinge, with its gain."""
    event = moment.get(Neuromodulation)
    gains = (1.0, 1.0) if event is None or event.saccade_gain is None else (float(event.gain), float(event.saccade_gain))
    if Saccade in moment:
        return -gains[1] if score > -1 else 0.0
    return gains[0] if score < 1 else 0.0


def separation(circuit: Circuit, objective: Contrastive, first: Tensor, second: Tensor) -> dict[str, float]:
    """Return, per population, the probability that a fixation scores higher than a saccade (chance: 0.5).

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
