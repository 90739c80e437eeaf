"""One run of learning, recorded and stored: what protocols that compare rules in one setting share.

Every rule learns in the same network, from the same initial feedforward weights and the same views of the same images.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import analysis
from neurossl.architectures import from_description
from neurossl.device import available_cores
from neurossl.errors import OptionError
from neurossl.generators import Generators
from neurossl.network import Network
from neurossl.plasticity import Rule, Synapses
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from neurossl.stimuli import DoubledInput, ImageSet, Stream, StreamedImages, ViewPairs, WakeSleep, default_views
from protocols.harness.folder import (
    differing_options,
    move_aside,
    new_folder,
    plain,
    refusing_to_write,
    telling_what_is_stored,
    write_json,
)
from protocols.harness.parallel import Outcome, Progress, side_by_side
from protocols.harness.probes import Probes


@dataclass(frozen=True)
class Setting:
    """What all runs of a protocol share."""

    dataset: str
    network: str
    budget: int
    observers: int
    device: str
    records: int
    probe_images: tuple[int, int]


@dataclass(frozen=True)
class Run:
    """One rule with one seed.

    Attributes
    ----------
    protocol : str
    name : str
        Of the rule, or of the condition.
    label : str
        The same for people.
    rule : Rule
    seed : int
    rates : (float, float)
        Learning rates of AdamW, of the feedforward and of the feedback weights.
    path : str
        Of the run, below the folder of the protocol.
    reference : Rule, optional
        With whose updates those of the rule are compared.
    snapshots : int
        Times at which the weights are stored after the initial ones.
    top_only : bool
        Whether the pathways below the top keep their initial weights.
    """

    protocol: str
    name: str
    label: str
    rule: Rule
    seed: int
    rates: tuple[float, float]
    path: str
    reference: Rule | None = None
    snapshots: int = 4
    top_only: bool = False


def positive(name: str, value: int, most: int = 10**9) -> int:
    """Return a whole number from 1 to ``most``.

    Raises
    ------
    OptionError
        If it is less or more.
    """
    if not 1 <= value <= most:
        raise OptionError(f"{name}: expected a whole number from 1 to {most:,}, got {value}")
    return value


def storable(seed: int) -> int:
    """Return a seed that fits into a stored run.

    Raises
    ------
    OptionError
        If it has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**63:
        raise OptionError(f"seed: expected a whole number of at most 64 bits, got {seed}")
    return seed


def choose_seeds(seed: int | None, seeds: int | None, default: int) -> list[int]:
    """Return the one seed asked for, or as many as asked for from 0 on.

    Raises
    ------
    OptionError
        If both are given, or one of them cannot be.
    """
    if seed is not None and seeds is not None:
        raise OptionError(f"--seed {seed} runs one seed, --seeds {seeds} several: give one of them")
    if seed is not None:
        return [storable(seed)]
    return list(range(positive("seeds", default if seeds is None else seeds, 1000)))


def enough_images(images: ImageSet, observers: int) -> None:
    """Refuse more observers than there are images to learn from.

    Raises
    ------
    OptionError
        Naming both.
    """
    if observers > len(images.train):
        count = f"{len(images.train):,}"
        raise OptionError(f"observers: expected at most the {count} images that are learned from, got {observers}")


def choose_workers(workers: int | None, device: str) -> int:
    """Return how many runs go side by side: as many as asked for or one per core; those on a GPU take turns.

    Raises
    ------
    OptionError
        If it is less than one.
    """
    asked = available_cores() if workers is None else positive("workers", workers)
    return asked if torch.device(device).type == "cpu" else 1


def check_memory(network: Network) -> None:
    """Refuse a network whose weights, updates and optimiser cannot fit into the memory of this machine.

    Raises
    ------
    OptionError
        Naming the network.
    """
    synapses = sum(pathway.synapses for pathway in network.pathways.values())
    needed, there = 4 * 4 * synapses, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise OptionError(
            f"network {network.name!r}: {synapses:,} synapses with updates and optimiser take {needed / 1e9:,.0f} GB, "
            f"this machine has {there / 1e9:,.0f} GB: choose a smaller one"
        )


def default_network(images: ImageSet, units: int = 256) -> str:
    """Return the network for these images: dense for handwriting, convolutional for what is larger or has colours."""
    small = images.shape[0] == 1 and images.shape[1] <= 28
    return "mlp:" + "-".join([str(units)] * 4) if small else "conv:32M-64M-128M-128M"


def network_for(rule: Rule, images: ImageSet, network: str) -> Network:
    """Return the network for a rule: the same for all, with a readout where the rule is taught."""
    classes = len(images.classes) if "target" in rule.needs else None
    return from_description(network, images.shape, classes, normalisation=rule.normalisation)


def freeze_below_top(network: Network) -> None:
    """Make every feedforward pathway but those onto the top keep its weights."""
    for pathway in network.feedforward.values():
        pathway.plastic = pathway.post == network.top


def stream_for(
    rule: Rule, images: ImageSet, pixels: Tensor | StreamedImages, labels: Tensor | None, landings: int = 1, **common: Any
) -> Stream:
    """Return the stream of moments that a rule waits for, on the same views for all rules.

    Parameters
    ----------
    rule : Rule
    images : ImageSet
        Says which views suit, and how many classes there are.
    pixels, labels
        What is shown, as for `Stream`; ``images.train`` as a rule.
    landings : int
        As for `ViewPairs`; other streams have none.
    **common
        As for `Stream`.
    """
    views = default_views(images)
    if rule.normalisation == "standard":
        return DoubledInput(pixels, labels, views, **common)
    if "phases" in rule.needs and "settling" not in rule.needs:
        negatives = "labels" if "label in the stimulus" in rule.needs else "hybrids"
        return WakeSleep(pixels, labels, views, len(images.classes), negatives=negatives, **common)
    return ViewPairs(pixels, labels, views, landings=landings, **common)


def stream_of(setting: Setting, images: ImageSet, rule: Rule, seed: int) -> Stream:
    """Return the stream of a run of this setting."""
    common = {"observers": setting.observers, "moments": setting.budget, "seed": seed}
    return stream_for(rule, images, images.train, images.train_labels, **common)


def synapses_for(rates: tuple[float, float]) -> Synapses:
    """Return AdamW with these learning rates of the feedforward and of the feedback weights."""
    return Synapses("adamw", lr=rates[0], pathways={"*=>*": {"lr": rates[1]}})


def learn(run: Run, progress: Progress, *, folder: Path, setting: Setting, images: ImageSet) -> float:
    """Run one rule with one seed, store it, and return the seconds that learning took."""
    rule, reference = run.rule, run.reference
    network = network_for(rule, images, setting.network)
    if run.top_only:
        freeze_below_top(network)
    views = default_views(images)
    synapses = synapses_for(run.rates)
    stream = stream_of(setting, images, rule, run.seed)
    every = max(1, setting.budget // setting.records)
    configuration = {
        "protocol": run.protocol,
        **rule.describe(),
        "label": run.label,
        "reference": None if reference is None else reference_name(rule),
        "seed": run.seed,
        "dataset": setting.dataset,
        "images": repr(images),
        "views": repr(views),
        "stream": repr(stream),
        "synapses": synapses.describe(),
        "budget": setting.budget,
        "observers": setting.observers,
        "device": setting.device,
        "dtype": "float32",
    }
    generator = Generators(run.seed)["probe"]
    probe = Probes(images, views, generator, most=setting.probe_images, neutral="label in the stimulus" in rule.needs)
    probing = 0.0

    def timed_probe(simulation: Simulation) -> Mapping[str, Mapping[str, float]]:
        nonlocal probing
        begun = time.perf_counter()
        found = probe(simulation)
        probing += time.perf_counter() - begun
        return found

    network.complete(run.seed, torch.device(setting.device), torch.float32)
    rule.wire(network)
    configuration["network"] = network.describe()
    with analysis.TrajectoryWriter(folder / run.path, configuration) as writer:
        recorders = [
            WeightRecorder(writer, every=max(1, setting.budget // run.snapshots)),
            *([UpdateRecorder(writer, every, reference)] if reference is not None else []),
            ActivityRecorder(writer, every),
            PerformanceRecorder(writer, every, timed_probe),
        ]
        simulation = Simulation(network, rule, synapses, seed=run.seed, device=setting.device, recorders=recorders)
        begun = time.perf_counter()
        simulation.run(stream, report=lambda done, total: progress(done))
        seconds = time.perf_counter() - begun - probing
        writer.close("finished", seconds=seconds)
    return seconds


def reference_name(rule: Rule) -> str:
    """Return the short name of backprop on the rule's objective."""
    names = {"contrastive": "BP-CLAPP", "goodness": "BP-goodness", "InfoNCE": "BP-InfoNCE"}
    return next((name for start, name in names.items() if rule.objective_name.startswith(start)), "BP, supervised")


def learn_all(
    runs: Sequence[Run], *, folder: Path, setting: Setting, images: ImageSet, workers: int, interrupted: str
) -> list[Outcome]:
    """Learn every run and store it; see `side_by_side`."""
    function = partial(learn, folder=folder, setting=setting, images=images)
    return side_by_side(
        runs,
        function,
        workers=workers,
        moments=setting.budget,
        what="runs",
        label=lambda run: f"{run.name} seed {run.seed}",
        interrupted=interrupted,
    )


def start(
    folder: Path,
    protocol: str,
    options: Mapping[str, Any],
    runs: Sequence[Any],
    resume: bool | None = None,
    also: Sequence[Any] = (),
) -> set[str]:
    """Make the folder of a protocol and its index, and return the paths of the runs that are already finished.

    Parameters
    ----------
    folder : Path
    protocol : str
    options : mapping
    runs : sequence
        As for `write_index`.
    resume : bool, optional
        Go on in a folder that is there; None where a protocol cannot. What unfinished runs have recorded is kept under
        another name.
    also : sequence
        Further runs that are not part of the comparison.

    Raises
    ------
    OptionError
        If the folder holds anything though nothing is resumed, was made with other options, or cannot be written.
    """
    done: set[str] = set()
    if resume:
        for key, was in differing_options(folder / "comparison.json", options).items():
            raise OptionError(f"--resume: {folder} was made with {key} = {was}, not {options[key]}")
        for run in (*runs, *also):
            place = folder / run.path
            if place.is_dir() and analysis.manifest(place).get("state") == "finished":
                done.add(run.path)
            elif place.exists():
                move_aside(place)
    else:
        new_folder(folder, resumable=resume is not None)
    with refusing_to_write(folder):
        write_index(folder, protocol, options, runs)
    return done


@contextmanager
def indexed(folder: Path, protocol: str, options: Mapping[str, Any], runs: Sequence[Any]) -> Iterator[dict[str, str]]:
    """Write into the index how far every run has come, also when interrupted, and into what is yielded: state by path."""
    states: dict[str, str] = {}
    try:
        yield states
    finally:
        with telling_what_is_stored(folder):
            states |= {entry["path"]: entry["state"] for entry in write_index(folder, protocol, options, runs)}


def write_index(folder: Path, protocol: str, options: Mapping[str, Any], runs: Sequence[Any]) -> list[dict[str, Any]]:
    """Write ``comparison.json``, which lists the runs that there are or will be, and return its entries.

    Parameters
    ----------
    folder : Path
    protocol : str
    options : mapping
    runs : sequence of `Run`, or of anything else with path, name, label and seed
    """
    entries = []
    for run in runs:
        is_there = (folder / run.path / "manifest.json").is_file()
        about = analysis.manifest(folder / run.path) if is_there else {"state": "planned"}
        entry = {"rule": run.name, "label": run.label, "seed": run.seed, "path": run.path}
        entries.append({**entry, "state": about.get("state"), "seconds": about.get("seconds")})
    content = {"schema_version": 1, "protocol": protocol, "options": plain(options), "runs": entries}
    write_json(folder / "comparison.json", content)
    return entries
