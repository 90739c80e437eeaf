"""Which learning rate suits each condition: the one with the best validation accuracy on images set aside for this."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from analysis.probes import linear_probe
from neurossl.errors import NeurosslError, OptionError
from neurossl.generators import Generators
from neurossl.simulation import Simulation
from neurossl.stimuli import ImageSet, default_views
from protocols.credit.conditions import Condition
from protocols.harness.experiment import Experiment
from protocols.harness.learning import learning_trial
from protocols.harness.parallel import Progress
from protocols.harness.probes import population_features, set_aside
from protocols.harness.rules import safe_name
from protocols.harness.settings import Setting
from protocols.harness.trial import Trial, freeze_below_top, network_for, stream_for, synapses_for

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Learning rates of the feedforward weights to choose from: the same, and as many, for all conditions."""
TINY_RATES = (3e-4, 1e-3)
FEEDBACK_RATE = 3e-3
"""Of the prediction weights and projections, in all conditions."""
CHOICE_SEED = 1000
"""Of the runs on which learning rates are chosen; none of those that are reported."""
HELD_OUT = 0.2
"""Fraction of the training images on which learning rates are chosen."""


class Choice(NamedTuple):
    """A learning rate to be tried."""

    network: str
    condition: Condition
    rate: float

    @property
    def file(self) -> str:
        """Where its accuracy is kept, below the folder of the protocol."""
        return f"rates/{safe_name(self.network)}/{self.condition.name}/rate-{self.rate:g}"


class Tried(NamedTuple):
    """What a learning rate has come to: validation accuracy, None if it diverges."""

    choice: Choice
    accuracy: float | None


Chosen = dict[tuple[str, str], float]
"""Learning rates by network and name of the condition."""


def rates_of(setting: Setting) -> tuple[float, ...]:
    """Return the learning rates that a protocol tries."""
    return TINY_RATES if setting.tiny else RATES


def choose_rates(
    experiment: Experiment,
    networks: Sequence[str],
    conditions: Sequence[Condition],
    images: ImageSet,
    read: tuple[int, int],
) -> tuple[list[Tried], Chosen]:
    """Try every learning rate in every network for every condition, and return what was found and which are best.

    Parameters
    ----------
    experiment : Experiment
    networks : sequence of str
    conditions : sequence of Condition
    images : ImageSet
        Without those for tests, as from `without_test`.
    read : (int, int)
        Most images for the probes to learn from, and to score.
    """
    setting = experiment.setting
    choices = [Choice(n, condition, rate) for n in networks for condition in conditions for rate in rates_of(setting)]
    outcomes = experiment.call(
        choices,
        partial(try_rate, setting=setting, images=images, read=read),
        what="learning rates tried",
        kept=lambda choice: f"{choice.file}-{setting.budget}-moments.json",
    )
    tried = [Tried(outcome.job, outcome.result) for outcome in outcomes]
    by_place: dict[tuple[str, str], list[Tried]] = {}
    for one in tried:
        by_place.setdefault((one.choice.network, one.choice.condition.name), []).append(one)
    return tried, {place: best_rate(mine) for place, mine in by_place.items()}


def without_test(images: ImageSet, observers: int) -> ImageSet:
    """Return the training images alone, some of every class held out in place of the test images.

    Raises
    ------
    OptionError
        If fewer are left than there are observers.
    """
    held_out = set_aside(images.train_labels, HELD_OUT, CHOICE_SEED)
    if int((~held_out).sum()) < observers:
        raise OptionError(f"observers: {observers} do not fit the {int((~held_out).sum())} images to choose rates on")
    return replace(
        images,
        train=images.train[~held_out],
        train_labels=images.train_labels[~held_out],
        test=images.train[held_out],
        test_labels=images.train_labels[held_out],
    )


def try_rate(
    choice: Choice, progress: Progress, *, setting: Setting, images: ImageSet, read: tuple[int, int]
) -> float | None:
    """Return the validation accuracy of linear probes after learning, mean over populations; None if it diverges.

    Parameters
    ----------
    choice : Choice
    progress : callable
    setting : Setting
    images : ImageSet
        Without those for tests, as from `without_test`.
    read : (int, int)
        Most images for the probes to learn from, and to score.
    """
    network_name, condition, rate = choice
    rule = condition.make()
    network = network_for(rule, images, network_name)
    if condition.top_only:
        freeze_below_top(network)
    common = {"observers": setting.observers, "moments": setting.budget, "seed": CHOICE_SEED}
    stream = stream_for(rule, images, images.train, images.train_labels, **common)
    simulation = Simulation(
        network, rule, synapses_for((rate, FEEDBACK_RATE), rule, network), seed=CHOICE_SEED, device=setting.device
    )
    try:
        simulation.run(stream, report=lambda done, total: progress(done))
    except NeurosslError:
        return None
    generator = Generators(CHOICE_SEED)["probe"]
    most = [min(n, len(part)) for n, part in zip(read, (images.train, images.test), strict=True)]
    few, views = images.limited(most[0], most[1], generator), default_views(images)
    hidden = [name for name in network.order if name != "readout"]
    train = population_features(simulation.circuit, views(few.train, generator), hidden)
    test = population_features(simulation.circuit, torch.cat([views(few.test, generator) for _ in range(2)]), hidden)
    labels = few.train_labels.numpy(), few.test_labels.repeat(2).numpy()
    found = [linear_probe(train[n].numpy(), labels[0], test[n].numpy(), labels[1]) for n in hidden]
    mean = float(np.mean(found))
    return mean if np.isfinite(mean) else None


def best_rate(tried: Sequence[Tried]) -> float:
    """Return the rate with the highest validation accuracy; the lowest one if all diverged."""
    finite = [one for one in tried if one.accuracy is not None and np.isfinite(one.accuracy)]
    best = max(finite, key=lambda one: one.accuracy or 0.0, default=min(tried, key=lambda one: one.choice.rate))
    return best.choice.rate


def at_the_edge(tried: Sequence[Tried], chosen: Chosen) -> list[tuple[str, str, float]]:
    """Return network, condition and rate where the best rate is the lowest or the highest that was tried."""
    rates = sorted({one.choice.rate for one in tried})
    places = {(one.choice.network, one.choice.condition.name): one.choice.condition for one in tried}
    ends = {rates[0], rates[-1]} if rates else set()
    return [(place[0], of.label, chosen[place]) for place, of in places.items() if chosen[place] in ends]


def budget_in_words(tried: Sequence[Tried], chosen: Chosen) -> str:
    """Return with what budget learning rates were chosen, and where the best lies at the end of what was tried."""
    rates = sorted({one.choice.rate for one in tried})
    several = len({one.choice.network for one in tried}) > 1
    edge = [f"{of}{f' in {network}' if several else ''} {rate:g}" for network, of, rate in at_the_edge(tried, chosen)]
    return (
        f"Learning rates: for every condition the best of {', '.join(f'{rate:g}' for rate in rates)} on images held out of "
        f"the training set, with one seed that is not reported; at the end of what was tried: {'; '.join(edge) or 'none'}."
    )


def trial_of(
    place: Setting, condition: Condition, label: str, seed: int, rate: float, read: tuple[int, int], path: str | None = None
) -> Trial:
    """Return the trial of a condition in the network of a setting."""
    return learning_trial(
        place,
        condition.name,
        label,
        condition.make(),
        seed,
        (rate, FEEDBACK_RATE),
        path=path,
        records=4 if place.tiny else 8,
        read=read,
        reference=condition.reference(),
        change=freeze_below_top if condition.top_only else None,
    )
