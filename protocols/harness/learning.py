"""The trial that most protocols make: a rule learns from views of images, with everything recorded now and then."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from neurossl.anatomy.network import Network
from neurossl.plasticity import Backprop, Rule
from neurossl.recorders import (
    ActivityRecorder,
    AlignmentMeasures,
    PerformanceRecorder,
    ResponseRecorder,
    UpdateRecorder,
    WeightRecorder,
)
from neurossl.stimuli import ImageSet, default_views
from protocols.harness import command
from protocols.harness.checks import check_memory
from protocols.harness.probes import Probes, fixed_stimuli
from protocols.harness.references import Compared
from protocols.harness.settings import Setting
from protocols.harness.trial import Trial, network_for, shown_alone, stream_for, synapses_for

SNAPSHOTS = 4
"""Times at which weights and responses are stored after the initial ones."""
BESIDE = ("ceiling", "baselines", "credit")
"""What is measured beside the alignment at these times; a record takes as long as six moments of learning."""
TWIN = 1_000_003
"""Added to the seed of a stream for one of the same rule that draws other views."""
STIMULI, NEURONS = 200, 256
"""Test images to which responses are stored, and most neurons per population: 0.2 MB per population each time."""


def learning_trial(
    setting: Setting,
    name: str,
    label: str,
    rule: Rule,
    seed: int,
    rates: tuple[float, float],
    *,
    records: int,
    read: tuple[int, int],
    path: str | None = None,
    network: str | None = None,
    reference: Rule | Compared | None = None,
    change: Callable[[Network], Any] | None = None,
) -> Trial:
    """Return one rule with one seed, in the network and on the images of a setting.

    Every rule is given the same network, the same initial feedforward weights and the same views of the same images.

    Parameters
    ----------
    setting : Setting
    name, label : str
        Of the rule or condition, and the same for people.
    rule : Rule
    seed : int
    rates : (float, float)
        Learning rates of AdamW, of the feedforward and of the feedback weights.
    records : int
        Times at which updates, activity and readouts are recorded.
    read : (int, int)
        Most training and test images for the readouts.
    path : str, optional
        Of the run, below the folder of the protocol; NAME/seed-N by default.
    network : str, optional
        Instead of the setting's.
    reference : Rule or Compared, optional
        With whose updates those of the rule are compared; backprop of its own objective by default.
    change : callable, optional
        Changes the network before anything is drawn.
    """
    built = network_for(rule, setting.images, network or setting.network)
    if change is not None:
        change(built)
    check_memory(built)
    told = about(setting)
    if isinstance(reference, Compared):
        told |= {"reference_left_out": reference.reason} if reference.reason else {}
        reference = reference.reference
    else:
        reference = reference or rule.reference()
    probe = Probes(setting.images, seed, read, encode=shown_alone(rule, setting.images))
    every, rarely = max(1, setting.budget // records), max(1, setting.budget // SNAPSHOTS)
    watched = [] if reference is None else [UpdateRecorder(every, reference), AlignmentMeasures(rarely, reference, BESIDE)]
    return Trial(
        name=name,
        label=label,
        seed=seed,
        path=path or f"{name}/seed-{seed}",
        rule=rule,
        network=built,
        stream=stream_for(
            rule,
            setting.images,
            setting.images.train,
            setting.images.train_labels,
            observers=setting.observers,
            moments=setting.budget,
            seed=seed,
        ),
        synapses=synapses_for(rates, rule, built),
        moments=setting.budget,
        recorders=[
            WeightRecorder(every=rarely),
            *watched,
            ActivityRecorder(every=every),
            PerformanceRecorder(every=every, probe=probe),
            responses(setting.images, rule, rarely, min(STIMULI, read[1])),
        ],
        probe=probe,
        device=setting.device,
        about=told,
    )


def twin_trial(setting: Setting, trial: Trial) -> Trial:
    """Return a trial that repeats another from the same weights, on views drawn anew; its weights alone are recorded.

    How far the paths of the two differ says how close to its path another rule could come (see `analysis.paths`).
    """
    shown = stream_for(
        trial.rule,
        setting.images,
        setting.images.train,
        setting.images.train_labels,
        observers=setting.observers,
        moments=setting.budget,
        seed=trial.seed + TWIN,
    )
    return replace(
        trial,
        label=f"{trial.label}, other views",
        path=f"twins/{trial.path}",
        stream=shown,
        recorders=[WeightRecorder(every=max(1, setting.budget // SNAPSHOTS))],
        probe=None,
        about={**trial.about, "twin_of": trial.label},
    )


def twins_of_references(setting: Setting, trials: Sequence[Trial]) -> list[Trial]:
    """Return twins of the trials that are backprop of the objective of another one, on the same stimuli."""
    shown = [trial.stream.describe() for trial in trials]

    def objective(trial: Trial, rule: Rule) -> str:
        return rule.objective_in(rule.wire(trial.rule.wire(trial.network.copy())))

    needed = [
        (objective(trial, one), of) for trial, of in zip(trials, shown, strict=True) if (one := trial.rule.reference())
    ]
    return [
        twin_trial(setting, trial)
        for trial, of in zip(trials, shown, strict=True)
        if isinstance(trial.rule, Backprop) and (objective(trial, trial.rule), of) in needed
    ]


def responses(images: ImageSet, rule: Rule, every: int, most: int = STIMULI) -> ResponseRecorder:
    """Return the recorder of responses to some test images, the same for all rules and seeds.

    Parameters
    ----------
    images : ImageSet
    rule : Rule
        Is shown single images as `shown_alone` says.
    every : int
        Moments between records.
    most : int
        Most images.
    """

    return ResponseRecorder(fixed_stimuli(images, most), every, neurons=NEURONS, encode=shown_alone(rule, images))


def about(setting: Setting) -> dict[str, Any]:
    """Return what the manifest of every run of a protocol says."""
    return {
        "protocol": setting.protocol,
        "dataset": setting.dataset,
        "images": repr(setting.images),
        "views": repr(default_views(setting.images)),
        "observers": setting.observers,
        "threads": setting.threads,
        "command": command.given(),
    }
