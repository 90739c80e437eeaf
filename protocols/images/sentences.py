"""What `image_benchmark` says: the order of the methods here and in the paper, what is decided, and what differs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.statistics import NO_INTERVAL
from protocols.images import published
from protocols.images.decisions import BySeed, Decision, published_order, said_of
from protocols.images.readouts import Split
from protocols.images.runs import SPLIT_SEED, Task

DEFAULT_NEGATIVES = "1, all for BP-InfoNCE"


def sentences_of(
    dataset: str,
    split: Split,
    mine: Mapping[str, Task],
    accuracies: Mapping[str, BySeed],
    final: Sequence[Decision],
    during: Sequence[Decision],
    options: Mapping[str, Any],
) -> list[str]:
    """Return what is said of one data set.

    Parameters
    ----------
    dataset : str
    split : Split
    mine : mapping of str to Task
        Of this data set, by label.
    accuracies : mapping
        Test accuracy of all populations together by label and seed.
    final, during : sequence of Decision
        After learning on the test images, and over training on images set aside, of this data set.
    options : mapping
        With what the protocol was run.
    """
    tested = {label: 100 * np.array(list(accuracies[label].values())) for label in mine if accuracies.get(label)}
    if not tested:
        return []
    order = sorted(tested, key=lambda label: -tested[label].mean())
    listed_here = ", ".join(f"{label} {tested[label].mean():.1f} %" for label in order)
    said = [f"{dataset}, from the best: {listed_here}{_unless_several(tested.values())}."]
    known = published.LINEAR_PROBE.get(published.known_as(dataset), {})
    listed = [label for label in order if mine[label].name in known]
    if listed:
        ranked = sorted(listed, key=lambda label: -known[mine[label].name])
        figures = ", ".join(_figure(dataset, label, mine[label].name) for label in ranked)
        said.append(f"Published (second-hand), from the best: {figures}.")
    said += published_order(dataset, {mine[label].name: label for label in mine}, accuracies)
    tests = len(split.images.test)
    accuracy = float(np.mean([values.mean() for values in tested.values()])) / 100
    sampling = 196 * np.sqrt(2 * accuracy * (1 - accuracy) / tests)
    said.append(
        f"{tests:,} test images: two methods that differ by less than {sampling:.1f} points in one run may differ by the "
        "choice of the test images alone."
    )
    said += said_of(final, during)
    return [*said, _what_differs(dataset, split, options, list(mine.values()))]


def _figure(dataset: str, label: str, name: str) -> str:
    """Return a published figure, and where it is from if not from the note on the paper."""
    known = published.known_as(dataset)
    told = " (of a re-implementation)" if (known, name) in published.FROM_A_REIMPLEMENTATION else ""
    return f"{label} {published.LINEAR_PROBE[known][name]:.1f} %{told}"


def _unless_several(found: Iterable[np.ndarray]) -> str:
    """Return what is said of an order in which not every method has several seeds."""
    return "" if all(len(values) > 1 for values in found) else f" ({NO_INTERVAL})"


def how_rates_were_chosen(options: Mapping[str, Any]) -> str:
    """Say with what budget every method chose its learning rate."""
    rates, seeds, epochs = options["rates"], options["trial_seeds"], options["trial_epochs"]
    return (
        f"Learning rates: every method that learns tried {', '.join(f'{rate:g}' for rate in rates)}, each for {epochs} "
        f"epoch{'s' * (epochs > 1)} with {seeds} seed{'s' * (seeds > 1)} that {'are' if seeds > 1 else 'is'} not reported "
        f"({SPLIT_SEED} on), and took the best on images set aside."
    )


def _what_differs(dataset: str, split: Split, options: Mapping[str, Any], tasks: Sequence[Task]) -> str:
    """Return what differs from the published setting."""
    name = published.known_as(dataset)
    if name not in published.LINEAR_PROBE:
        return f"{dataset}: no figures are published."
    here: list[tuple[Any, Any, str]] = [
        (options["network"], published.NETWORK, "network"),
        (len(split.learned), published.TRAINING_IMAGES[name], "images to learn from"),
        (split.images.shape[1], published.IMAGE_SIZE[name], "pixels per side"),
        (options["epochs"], published.EPOCHS, "epochs"),
        (options["observers"], published.OBSERVERS, "observers"),
        (options["prediction"], "full", "prediction weights"),
        (options["negatives"] or DEFAULT_NEGATIVES, DEFAULT_NEGATIVES, "negatives per positive pair"),
        (options["products"] or "float32", "float32", "matrix products"),
    ]
    differing = [f"{what} {mine} (published: {theirs})" for mine, theirs, what in here if mine != theirs]
    rates = sorted({task.rate for task in tasks if task.epochs})
    if rates and rates != [published.RATE]:
        differing.append(f"learning rates {', '.join(f'{r:g}' for r in rates)} (published: {published.RATE:g})")
    twice = options.get("published_readout")
    if twice not in (None, published.READOUT_EPOCHS):
        differing.append(f"epochs of the published readout {twice} (published: {published.READOUT_EPOCHS})")
    differing.append(
        f"readouts: logistic regressions of standardised features with a penalty chosen on {len(split.validation):,} images "
        f"set aside, from {len(split.images.train):,} labelled images (published: {published.READOUT})"
    )
    return f"What differs from the published setting: {'; '.join(differing)}."
