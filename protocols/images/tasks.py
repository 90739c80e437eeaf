"""What `protocols.image_benchmark` is asked for: checked, and made into tasks; and which learning rate is best."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import analysis
from neurossl.errors import OptionError
from neurossl.events import Saccade
from neurossl.plasticity import RULES, Synapses
from protocols.compare_rules import LABELS
from protocols.harness.checks import check_memory, different
from protocols.harness.experiment import Experiment
from protocols.harness.references import Compared, common_reference
from protocols.harness.rules import safe_name
from protocols.harness.trial import network_for
from protocols.images.readouts import TOGETHER, Split
from protocols.images.report import PERCENT
from protocols.images.runs import RANDOM, SPLIT_SEED, Bench, Task, trial_of

METHODS = (
    *(RANDOM, "clapp++gap", "clapp++", "clapp++dfb", "clapp++both", "infonce-local"),
    *("bp-clapp++", "bp-clapp++spatial", "bp-infonce", "bp-infonce-held"),
)
"""The control, the local rules, and backprop: with the score of the whole map and with the spatial one at its top, with both
views free and with one held. Every claim of the paper then has a pair that differs in what it is about alone."""
NAMES = {**LABELS, RANDOM: "before learning"}


def check_names(
    methods: Sequence[str], datasets: Sequence[str], rates: Sequence[float], seeds: Sequence[int], trial_seeds: int
) -> None:
    """Refuse unknown rules, what is given twice or not at all, and seeds of trials among those that are reported.

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
    trying = range(SPLIT_SEED, SPLIT_SEED + trial_seeds)
    if len(rates) > 1 and (shared := [seed for seed in seeds if seed in trying]):
        raise OptionError(
            f"seed: {shared[0]} serves to choose learning rates ({trying[0]} to {trying[-1]} do): take another"
        )


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


def compared_with(reference: str, bench: Bench, methods: Sequence[str]) -> dict[tuple[str, str], Compared]:
    """Return with what every rule is compared on every data set, where all are compared with one backprop.

    Raises
    ------
    OptionError
        If it is no backprop, or no rule can be compared with it.
    """
    rules = {name: bench.rule(name) for name in methods if name != RANDOM}
    usual = {name: bench.rule_options(name) for name in RULES}
    found = {}
    for dataset, split in bench.splits.items():
        for name, compared in common_reference(reference, rules, split.images, bench.network, usual).items():
            found[dataset, name] = compared
    return found


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


def rate_trials(of: Task, rate: float, epochs: int, seeds: int) -> list[Task]:
    """Return the trials of a learning rate, with so many seeds that are not reported."""
    folder = f"trials/{of.path.rpartition('/')[0]}/rate-{rate:g}"
    trying = range(SPLIT_SEED, SPLIT_SEED + seeds)
    return [replace(of, seed=n, rate=rate, epochs=epochs, path=f"{folder}/seed-{n}", trial=True) for n in trying]


def tried_rates(folder: Path, trials: Sequence[Task]) -> list[dict[str, Any]]:
    """Return what trials that have finished have found: data set, rule, rate, seed and validation accuracy."""
    found = []
    for trial in trials:
        accuracy = analysis.open_trajectory(folder / trial.path)["performance"].to_dataset()["validation_accuracy"]
        last = float(accuracy.sel(population=TOGETHER)[-1])
        about = {"dataset": trial.dataset, "name": trial.name, "method": trial.label}
        found.append({**about, "learning rate": trial.rate, "seed": trial.seed, PERCENT: 100 * last})
    return found


def best_rates(tried: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate with the highest validation accuracy, mean over seeds, by the label of what was tried."""
    found: dict[str, dict[float, list[float]]] = {}
    for record in tried:
        found.setdefault(record["method"], {}).setdefault(record["learning rate"], []).append(record[PERCENT])
    return {key: max(rates, key=lambda rate: fmean(rates[rate])) for key, rates in found.items()}


def learn_at_best_rates(
    experiment: Experiment, tasks: Sequence[Task], bench: Bench, rates: Sequence[float], epochs: int, seeds: int = 1
) -> tuple[list[Task], list[dict[str, Any]]]:
    """Try the learning rates, learn every task at the best of them, and return the tasks as learned and what was tried.

    Parameters
    ----------
    experiment : Experiment
        With the trials of the tasks, which are replaced.
    tasks : sequence of Task
    bench : Bench
    rates : sequence of float
        Of one, nothing is tried.
    epochs, seeds : int
        Of the trials of a rate, and how many there are.
    """
    first = experiment.setting.seeds[0]
    learning = [one for one in tasks if one.seed == first and one.epochs and len(rates) > 1]
    trials = [trial for one in learning for rate in rates for trial in rate_trials(one, rate, epochs, seeds)]
    experiment.learn([trial_of(one, bench) for one in trials], "trials of learning rates")
    tried = tried_rates(experiment.folder, [one for one in trials if one.path not in experiment.problems])
    best = best_rates(tried)
    if any(one.label not in best for one in trials):
        experiment.tell_problems()
    chosen = [replace(one, rate=best.get(one.label, one.rate)) for one in tasks]
    experiment.trials = [trial_of(one, bench) for one in chosen]
    experiment.learn()
    return chosen, tried
