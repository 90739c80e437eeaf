"""The animals of `protocols.streaming_fixations`: what each has, and what is recorded of it."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from neurossl.anatomy.architectures import from_description
from neurossl.generators import Generators
from neurossl.plasticity import Contrastive, Local
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from neurossl.stimuli import FixationSequence, default_views
from protocols.harness.checks import check_memory
from protocols.harness.learning import about
from protocols.harness.probes import Probes
from protocols.harness.settings import Setting
from protocols.harness.trial import Trial, synapses_for
from protocols.streaming.recorders import ScoreRecorder, SeparationRecorder, SynapseRecorder
from protocols.streaming.signalled import SignalledSequence

RATES = (1e-4, 2e-3)
"""Learning rates of AdamW, of the feedforward and of the prediction weights: the best of a few for single fixations."""
TESTS = 12
"""Times at which it is tested how well scores separate fixations from saccades."""
EXCERPT = 3
"""Objects during which one synapse is watched, at the end of learning."""
SYNAPSES = 2000
"""Recorded per pathway."""


@dataclass(frozen=True)
class Condition:
    """What the animal has: its context, its saccade signal, and whether the feedback is lesioned half way."""

    name: str
    label: str
    context: str
    signal: str = "true"
    lesion: bool = False


CONDITIONS = (
    Condition("lateral", "lateral context", "lateral"),
    Condition("feedback", "direct feedback", "top"),
    Condition("feedback-lesion", "direct feedback, lesioned half way", "top", lesion=True),
    Condition("shuffled", "lateral, shuffled saccade signal", "lateral", signal="shuffled"),
    Condition("no-signal", "lateral, no saccade signal", "lateral", signal="none"),
)


def animal(setting: Setting, condition: Condition, seed: int, fixations: int, fixation: float) -> Trial:
    """Return an animal.

    Parameters
    ----------
    setting : Setting
    condition : Condition
    seed : int
    fixations : int
        On an object before the saccade to the next.
    fixation : float
        Its duration, seconds.
    """
    images, moments = setting.images, setting.budget
    objective = Contrastive(context=condition.context)
    rule = Local(objective)
    rule.name = "clapp++gap" if condition.context == "lateral" else "clapp-dfb"
    views = default_views(images)
    fixated = FixationSequence(
        images.train,
        images.train_labels,
        views,
        fixations_per_object=fixations,
        moments=moments,
        seed=seed,
        fixation_duration=fixation,
    )
    stream = SignalledSequence(fixated, condition.signal)
    network = from_description(setting.network, images.shape)
    check_memory(network)
    probe = Probes(images, seed, (100, 50) if setting.tiny else (5000, 2000))
    every = max(1, moments // (4 if setting.tiny else 40))
    generator = Generators(seed)["recorders/test-fixations"]

    def tested() -> list[Tensor]:
        return [views(images.test, generator) for _ in range(2)]

    last = moments - moments % fixations
    watched = list(network.feedforward)[1]
    separation = SeparationRecorder(objective, tested)
    reference = rule.reference()
    return Trial(
        name=condition.name,
        label=condition.label,
        seed=seed,
        path=f"{condition.name}/seed-{seed}",
        rule=rule,
        network=network,
        stream=stream,
        synapses=synapses_for(RATES, rule, network),
        moments=moments,
        recorders=[
            WeightRecorder(every=every, index=SYNAPSES),
            UpdateRecorder(every=max(1, every // 5), reference=reference),
            ActivityRecorder(every=every),
            PerformanceRecorder(every=every, probe=probe),
            ScoreRecorder(stream, objective),
            SynapseRecorder(stream, watched, objective, last - EXCERPT * fixations + 1, last),
            separation,
        ],
        probe=probe,
        device=setting.device,
        prepare=partial(plan_life, separation=separation, life=moments * fixation, lesion=condition.lesion),
        about=about(setting) | {"observers": 1},
    )


def plan_life(simulation: Simulation, separation: SeparationRecorder, life: float, lesion: bool) -> None:
    """Ask for the lesion in the middle of life (s), and for the tests during it."""
    if lesion:
        simulation.at(life / 2)(lesion_feedback)
    simulation.every(life / TESTS)(separation.test)


def lesion_feedback(simulation: Simulation) -> None:
    """Cut the direct feedback from the top to the populations below it."""
    network = simulation.network
    for pathway in network.feedback.values():
        if pathway.pre == network.top and pathway.post != network.top:
            simulation.lesion(pathway.name)
