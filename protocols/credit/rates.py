"""Which learning rate suits each condition: the one with the best validation accuracy on images set aside for this."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from analysis.probes import linear_probe
from neurossl.errors import NeurosslError, OptionError
from neurossl.generators import Generators
from neurossl.simulation import Simulation
from neurossl.stimuli import ImageSet, default_views
from protocols.credit.conditions import Condition
from protocols.harness.parallel import Progress
from protocols.harness.probes import population_features, set_aside
from protocols.harness.rules import safe_name
from protocols.harness.settings import Setting
from protocols.harness.trial import freeze_below_top, network_for, stream_for, synapses_for

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates of the feedforward weights to choose from: the same, and as many, for all conditions."""
FEEDBACK_RATE = 3e-3
"""Of the prediction weights and projections, in all conditions."""
CHOICE_SEED = 1000
"""Of the first run on which learning rates are chosen; none of those that are reported."""
HELD_OUT = 0.2
"""Fraction of the training images on which learning rates are chosen."""


class Choice(NamedTuple):
    """A learning rate to be tried."""

    condition: Condition
    rate: float
    seed: int = CHOICE_SEED
    network: str = ""
    """In place of the setting's."""

    @property
    def file(self) -> str:
        """Where its accuracy is kept, below the folder of the protocol."""
        place = f"{safe_name(self.network)}/" if self.network else ""
        return f"rates/{place}{self.condition.name}/rate-{self.rate:g}-seed-{self.seed}"


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
    condition, rate, seed, described = choice
    rule = condition.make()
    network = network_for(rule, images, described or setting.network)
    if condition.top_only:
        freeze_below_top(network)
    common = {"observers": setting.observers, "moments": setting.budget, "seed": seed}
    stream = stream_for(rule, images, images.train, images.train_labels, **common)
    simulation = Simulation(
        network, rule, synapses_for((rate, FEEDBACK_RATE), rule, network), seed=seed, device=setting.device
    )
    try:
        simulation.run(stream, report=lambda done, total: progress(done))
    except NeurosslError:
        return None
    generator = Generators(seed)["probe"]
    most = [min(n, len(part)) for n, part in zip(read, (images.train, images.test), strict=True)]
    few, views = images.limited(most[0], most[1], generator), default_views(images)
    hidden = [name for name in network.order if name != "readout"]
    train = population_features(simulation.circuit, views(few.train, generator), hidden)
    test = population_features(simulation.circuit, torch.cat([views(few.test, generator) for _ in range(2)]), hidden)
    labels = few.train_labels.numpy(), few.test_labels.repeat(2).numpy()
    found = [linear_probe(train[n].numpy(), labels[0], test[n].numpy(), labels[1]) for n in hidden]
    mean = float(np.mean(found))
    return mean if np.isfinite(mean) else None


def best_rate(tried: Sequence[dict[str, Any]]) -> float:
    """Return the rate with the highest validation accuracy, mean over seeds; the lowest one if all diverged somewhere."""
    found: dict[float, list[float]] = {}
    for one in tried:
        accuracy = one["accuracy"]
        found.setdefault(float(one["rate"]), []).append(np.nan if accuracy is None else accuracy)
    means = {rate: float(np.mean(values)) for rate, values in found.items()}
    finite = {rate: mean for rate, mean in means.items() if np.isfinite(mean)}
    return max(finite, key=lambda rate: finite[rate]) if finite else min(means)
