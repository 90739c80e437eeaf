"""What `protocols.image_benchmark` is asked for: checked, and made into tasks; and which learning rate is best."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import analysis
from neurossl.errors import OptionError
from neurossl.events import Saccade
from neurossl.plasticity import RULES, Synapses
from protocols.compare_rules import LABELS
from protocols.harness.checks import check_memory, different
from protocols.harness.rules import safe_name
from protocols.harness.trial import network_for
from protocols.images.readouts import TOGETHER, Split
from protocols.images.report import PERCENT
from protocols.images.runs import RANDOM, Bench, Task

METHODS = (RANDOM, "clapp++gap", "clapp++", "clapp++dfb", "clapp++both", "bp-clapp++", "bp-infonce")
NAMES = {**LABELS, RANDOM: "before learning", "scff": "SCFF", "bp-clapp++": "BP-CLAPP++"}
SPLIT_SEED = 1000
"""Of the split of the images, and of the trials on which learning rates are chosen; none of those that are reported."""


def check_names(methods: Sequence[str], datasets: Sequence[str], rates: Sequence[float]) -> None:
    """Refuse unknown rules, and what is given twice or not at all.

    Raises
    ------
    OptionError
        Naming what was given.
    """
    different("methods", methods, (RANDOM, *RULES))
    if not datasets or len({place(name) for name in datasets}) < len(datasets):
        raise OptionError(f"datasets: expected one or more, with different names, got {', '.join(datasets) or 'none'}")
    if not rates or len(set(rates)) < len(rates):
        given = ", ".join(map(str, rates)) or "none"
        raise OptionError(f"rates: expected one or more different learning rates, got {given}")
    for rate in rates:
        Synapses(lr=rate)


def check_run(bench: Bench, name: str, split: Split, observers: int) -> None:
    """Refuse a rule that does not fit the network or the images.

    Raises
    ------
    OptionError
        Naming the rule and the option.
    """
    rule = bench.rule(name)
    network = network_for(rule, split.images, bench.network)
    check_memory(network)
    learned, _ = split.shown_to(rule)
    if observers > len(learned):
        raise OptionError(f"observers: expected at most the {len(learned)} images that are learned from, got {observers}")
    if bench.negatives is not None and name != RANDOM and Saccade not in rule.awaits and "infonce" not in name:
        raise OptionError(f"negatives: rule {name!r} does not tell fixations from saccades: leave it out")
    if bench.products and "settling" in rule.needs:
        raise OptionError(f"products: rule {name!r} settles, which needs float32: leave it out or leave out --products")


def place(dataset: str) -> str:
    """Return a name of a data set that one folder can have, below that of the protocol."""
    return safe_name(Path(dataset.rpartition(":")[2]).name or dataset)


def without_path(dataset: str) -> str:
    """Return how a data set was given, without where it is: results are shown to others."""
    kind, colon, _ = dataset.rpartition(":")
    return f"{kind}{colon}{place(dataset)}"


def task(bench: Bench, dataset: str, name: str, seed: int, rate: float, epochs: int) -> Task:
    """Return one rule with one seed on one data set."""
    label = NAMES.get(name, name) + (f", {dataset}" if len(bench.splits) > 1 else "")
    length = 0 if name == RANDOM else epochs
    return Task(dataset, name, label, seed, rate, length, f"{dataset}/{name}/seed-{seed}")


def rate_trial(of: Task, rate: float, epochs: int) -> Task:
    """Return a trial of a learning rate."""
    path = f"trials/{of.path.rpartition('/')[0]}/rate-{rate:g}"
    return replace(of, seed=SPLIT_SEED, rate=rate, epochs=epochs, path=path, trial=True)


def tried_rates(folder: Path, trials: Sequence[Task]) -> list[dict[str, Any]]:
    """Return what trials that have finished have found: data set, rule, rate and validation accuracy."""
    found = []
    for trial in trials:
        accuracy = analysis.open_trajectory(folder / trial.path)["performance"].to_dataset()["validation_accuracy"]
        last = float(accuracy.sel(population=TOGETHER)[-1])
        about = {"dataset": trial.dataset, "name": trial.name, "method": trial.label}
        found.append({**about, "learning rate": trial.rate, PERCENT: 100 * last})
    return found


def best_rates(tried: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate with the highest validation accuracy, by the label of what was tried."""
    best: dict[str, dict[str, Any]] = {}
    for record in tried:
        key = record["method"]
        if key not in best or record[PERCENT] > best[key][PERCENT]:
            best[key] = record
    return {key: record["learning rate"] for key, record in best.items()}
