"""Does local learning match backprop on natural images? The published table, made again.

Every rule learns from the same views of the same images, in the same network from the same weights, for the same number of
epochs. Linear readouts of every population, and of all together, say what each representation is worth. Choices (learning
rates, penalties of the readouts) are made on images set aside; the test images are read once, at the end of a run.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import analysis
from neurossl.architectures import from_description
from neurossl.device import choose_device
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Saccade
from neurossl.plasticity import RULES, Synapses
from neurossl.prediction import PredictionForm
from neurossl.stimuli import load_images
from protocols.compare_rules import LABELS
from protocols.harness.folder import finish, telling_what_is_stored, unfinished
from protocols.harness.learning import check_memory, choose_workers, indexed, network_for, positive, start
from protocols.harness.parallel import side_by_side
from protocols.images import published
from protocols.images.readouts import TOGETHER, Split, split_images
from protocols.images.report import PERCENT, results_of
from protocols.images.runs import RANDOM, Bench, Task, known_rule, learn_images

METHODS = (RANDOM, "clapp++gap", "clapp++", "clapp++dfb", "clapp++both", "bp-clapp++", "bp-infonce")
NAMES = {**LABELS, RANDOM: "before learning", "scff": "SCFF", "bp-clapp++": "BP-CLAPP++"}
SPLIT_SEED = 1000
"""Of the split of the images, and of the trials on which learning rates are chosen; none of those that are reported."""
AGAIN = ": add --resume to try these again"
SET_ASIDE = 0.1
"""Fraction of the labelled training images that is set aside for choices."""


def run(
    out: str,
    *,
    datasets: Sequence[str] = ("photographs",),
    data_dir: str | None = None,
    download: bool = False,
    size: int | None = None,
    images: int | None = None,
    readout_images: int | None = None,
    methods: Sequence[str] = METHODS,
    network: str | None = None,
    prediction: str = "full",
    landings: int | None = None,
    epochs: int | None = None,
    observers: int = published.OBSERVERS,
    rates: Sequence[float] = (published.RATE,),
    trial_epochs: int = 5,
    seeds: int | None = None,
    products: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    tiny: bool = False,
) -> analysis.Results:
    """Train every rule on natural images for so many epochs and read out what it has learned, beside the published table.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    datasets : sequence of str
        photographs (embedded), digits (embedded), cifar10, stl10, tiny_imagenet, folder:PATH or stream:PATH.
    data_dir : str, optional
        Where the data sets with a name are.
    download : bool
        Fetch what is not there.
    size : int, optional
        Resize the images to so many pixels.
    images : int, optional
        Use so many training images of each data set; all by default.
    readout_images : int, optional
        Labelled images that readouts learn from; all that are used by default.
    methods : sequence of str
        Names of rules, and random for a network that does not learn.
    network : str, optional
        vgg6:0.125 on a CPU and vgg6, as published, on a GPU by default; or conv:32-64M-64-128M, ...
    prediction : str
        Form of the prediction weights: full, low-rank:RANK or banded:DISTANCE.
    landings : int, optional
        Other images that every fixation is told from, per step; 1 for CLAPP++ and all for BP-InfoNCE by default.
    epochs : int, optional
        Times that every image is shown; 30 on a CPU and 300, as published, on a GPU by default.
    observers : int
        Images per moment, each seen twice.
    rates : sequence of float
        Learning rate of AdamW; of several, each rule is given the one that is best in a trial.
    trial_epochs : int
        Epochs of a trial.
    seeds : int, optional
        Number of seeds, 0, 1, ...; 2 by default.
    products : str, optional
        bfloat16 for matrix products of this number type.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Runs side by side; by default one per core on a CPU.
    resume : bool
        Keep the finished runs of an interrupted benchmark with the same options and do the rest.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    on_gpu = torch.device(chosen_device).type == "cuda"
    if tiny:
        images, epochs, trial_epochs = images or 200, epochs or 1, 1
    length = positive("epochs", epochs if epochs is not None else published.EPOCHS if on_gpu else 30)
    count = positive("seeds", seeds if seeds is not None else 1 if tiny else 2, 1000)
    description = network or ("conv:4M-6M-6M" if tiny else published.NETWORK if on_gpu else f"{published.NETWORK}:0.125")
    _check_names(methods, datasets, rates)
    PredictionForm.parse(prediction)
    if products not in (None, "bfloat16"):
        raise OptionError(f"products: expected bfloat16, got {products!r}")
    for name, value in {
        "trial epochs": trial_epochs,
        "observers": observers,
        "landings": landings,
        "images": images,
        "readout images": readout_images,
    }.items():
        if value is not None:
            positive(name, value)
    if landings is not None and landings >= observers:
        raise OptionError(f"landings: expected fewer than the {observers} observers, got {landings}")
    splits: dict[str, Split] = {}
    for name in datasets:
        found = load_images(name, data_dir=data_dir, download=download, size=size)
        if len(found.classes) < 2:
            raise StimulusError(f"data set {name!r}: the readouts need at least 2 classes, got {len(found.classes)}")
        from_description(description, found.shape)
        splits[_place(name)] = split_images(found, SET_ASIDE, SPLIT_SEED, images, readout_images, 200 if tiny else None)
    bench = Bench(description, observers, chosen_device, products, prediction, landings, 4 if tiny else 20, splits)
    for name in methods:
        for split in splits.values():
            _check_run(bench, name, split, observers)
    options = {
        "datasets": [_without_path(name) for name in datasets],
        "size": size,
        "images": images,
        "readout_images": readout_images,
        "methods": list(methods),
        "network": description,
        "prediction": prediction,
        "landings": landings,
        "epochs": length,
        "observers": observers,
        "rates": list(rates),
        "trial_epochs": trial_epochs,
        "seeds": count,
        "products": products,
        "device": chosen_device,
    }
    folder = Path(out)
    tasks = [_task(bench, d, m, s, rates[0], length) for d in splits for m in methods for s in range(count)]
    trials = [_trial(t, r, trial_epochs) for t in tasks if t.seed == 0 and t.epochs for r in rates] if len(rates) > 1 else []
    done = start(folder, "image_benchmark", options, tasks, resume, also=trials)
    problems = _learn(trials, done, folder, bench, "trials of learning rates", processes)
    tried = _tried(folder, [trial for trial in trials if trial.path not in problems])
    best = _best_rates(tried)
    if problems and any((t.dataset, t.name) not in best for t in trials):
        raise unfinished(problems, len(trials), "trials", folder, AGAIN)
    tasks = [_task(bench, t.dataset, t.name, t.seed, best.get((t.dataset, t.name), t.rate), length) for t in tasks]
    with indexed(folder, "image_benchmark", options, tasks) as states:
        problems = _learn(tasks, done, folder, bench, "runs", processes)
    with telling_what_is_stored(folder):
        if "finished" in states.values():
            comparison = analysis.open_comparison([folder])
            results = finish(folder, results_of(comparison, tasks, splits, tried, options), comparison)
    if problems:
        raise unfinished(problems, len(tasks), "runs", folder, AGAIN)
    return results


def _check_names(methods: Sequence[str], datasets: Sequence[str], rates: Sequence[float]) -> None:
    """Refuse unknown rules, and what is given twice or not at all."""
    unknown = [name for name in methods if not known_rule(name)]
    if unknown or not methods or len(set(methods)) < len(methods):
        given = ", ".join(unknown or methods) or "none"
        raise OptionError(f"methods: expected different names out of {RANDOM}, {', '.join(RULES)}, got {given}")
    places = [_place(name) for name in datasets]
    if not datasets or len(set(places)) < len(places):
        raise OptionError(f"datasets: expected one or more, with different names, got {', '.join(datasets) or 'none'}")
    if not rates or len(set(rates)) < len(rates):
        raise OptionError(
            f"rates: expected one or more different learning rates, got {', '.join(map(str, rates)) or 'none'}"
        )
    for rate in rates:
        Synapses(lr=rate)


def _check_run(bench: Bench, name: str, split: Split, observers: int) -> None:
    """Refuse a rule that does not fit the network or the images."""
    rule = bench.rule(name)
    network = network_for(rule, split.images, bench.network)
    check_memory(network)
    learned, _ = split.shown_to(rule)
    if observers > len(learned):
        raise OptionError(f"observers: expected at most the {len(learned)} images that are learned from, got {observers}")
    if bench.landings is not None and name != RANDOM and Saccade not in rule.awaits and "infonce" not in name:
        raise OptionError(f"landings: rule {name!r} does not tell fixations from saccades: leave it out")
    if bench.products and "settling" in rule.needs:
        raise OptionError(f"products: rule {name!r} settles, which needs float32: leave it out or leave out --products")


def _place(dataset: str) -> str:
    """Return a name of a data set that a folder can have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", Path(dataset.rpartition(":")[2]).name or dataset)


def _without_path(dataset: str) -> str:
    """Return how a data set was given, without where it is: results are shown to others."""
    kind, colon, _ = dataset.rpartition(":")
    return f"{kind}{colon}{_place(dataset)}"


def _task(bench: Bench, dataset: str, name: str, seed: int, rate: float, epochs: int) -> Task:
    label = NAMES.get(name, name) + (f", {dataset}" if len(bench.splits) > 1 else "")
    length = 0 if name == RANDOM else epochs
    return Task(dataset, name, label, seed, rate, length, f"{dataset}/{name}/seed-{seed}")


def _trial(task: Task, rate: float, epochs: int) -> Task:
    path = f"trials/{task.dataset}/{task.name}/rate-{rate:g}"
    return Task(task.dataset, task.name, task.label, SPLIT_SEED, rate, epochs, path, trial=True)


def _learn(tasks: Sequence[Task], done: set[str], folder: Path, bench: Bench, what: str, workers: int) -> dict[str, str]:
    """Run what is not done yet, and return why runs could not finish, by path."""
    todo = [task for task in tasks if task.path not in done]
    if not todo:
        return {}
    outcomes = side_by_side(
        todo,
        partial(learn_images, folder=folder, bench=bench),
        moments=bench.moments,
        what=what,
        label=lambda task: f"{task.path}",
        interrupted=f"interrupted; finished runs are kept in {folder}: add --resume to go on",
        workers=workers,
    )
    return {o.job.path: o.problem for o in outcomes if o.problem}


def _tried(folder: Path, trials: Sequence[Task]) -> list[dict[str, Any]]:
    """Return what trials that have finished have found: data set, rule, rate and validation accuracy."""
    found = []
    for trial in trials:
        accuracy = analysis.open_trajectory(folder / trial.path)["performance"].to_dataset()["validation_accuracy"]
        last = float(accuracy.sel(population=TOGETHER)[-1])
        about = {"dataset": trial.dataset, "name": trial.name, "method": trial.label}
        found.append({**about, "learning rate": trial.rate, PERCENT: 100 * last})
    return found


def _best_rates(tried: Sequence[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Return the learning rate with the highest validation accuracy, per data set and rule."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for record in tried:
        key = record["dataset"], record["name"]
        if key not in best or record[PERCENT] > best[key][PERCENT]:
            best[key] = record
    return {key: record["learning rate"] for key, record in best.items()}
