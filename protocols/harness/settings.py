"""The options that protocols share, each described once, and the setting that follows from them.

A protocol takes the ones that fit it as ``**common: Unpack[Batched]`` and calls `settle`, which checks them, loads the
images and fills in what was not given: what is stored when a run is resumed, or else the protocol's own defaults.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.device import available_cores, choose_device
from neurossl.errors import OptionError, StimulusError
from neurossl.files import absolute
from neurossl.stimuli import ImageSet, StreamedImages, load_images
from protocols.harness.index import stored_options

Values = Mapping[str, Any]


class Machine(TypedDict, total=False):
    """What every protocol takes.

    Parameters
    ----------
    device : str
        auto, cpu or cuda.
    tiny : bool
        A few seconds, for tests: less of everything that is not given.
    """

    device: str
    tiny: bool


class Measured(Machine, total=False):
    """What protocols take that measure.

    Parameters
    ----------
    resume : bool
        Go on with what there is, with the same options; more seeds, rules or a larger budget may be asked for.
    """

    resume: bool


class Files(TypedDict, total=False):
    """Where images come from.

    Parameters
    ----------
    data_dir : str, optional
        Where the data sets with a name are.
    download : bool
        Fetch what is not there.
    """

    data_dir: str | None
    download: bool


class Data(Files, total=False):
    """Which images are shown.

    Parameters
    ----------
    dataset : str
        digits (embedded), photographs (embedded), mnist, fashion_mnist, cifar10, stl10, tiny_imagenet, or folder:PATH with
        train/ and test/ or val/ of class folders.
    """

    dataset: str


class Runs(Measured, total=False):
    """What protocols take that make several runs.

    Parameters
    ----------
    seeds : int, optional
        Number of seeds, 0, 1, ...
    seed : int, optional
        Run this one seed alone.
    workers : int, optional
        Runs side by side; by default one per core on a CPU.
    threads : int, optional
        Threads of every run; with more than 1, runs go one after another, and the last digits differ.
    """

    seeds: int | None
    seed: int | None
    workers: int | None
    threads: int | None


class Shown(Data, Runs, total=False):
    """Several runs on one image set."""


class Observed(Shown, total=False):
    """What protocols take in which many observers learn at once.

    Parameters
    ----------
    budget : int, optional
        Moments of learning per run.
    observers : int
        Objects per moment, each of which is seen twice.
    """

    budget: int | None
    observers: int


class Single(Shown, total=False):
    """What protocols take in which a network learns from one moment after the other.

    Parameters
    ----------
    network : str, optional
        mlp:256-256-256-256, conv:32-64M-64-128M, vgg6 or vgg6:0.25; dense for handwriting, else convolutional.
    """

    network: str | None
    budget: int | None


class Batched(Observed, total=False):
    """What protocols take in which many observers learn at once in one network."""

    network: str | None


@dataclass(frozen=True)
class Setting:
    """What the runs of a protocol share.

    Attributes
    ----------
    protocol : str
    out : Path
        Folder of the results, absolute.
    device : str
    workers, threads : int
        Runs at a time, and threads of each.
    resume, tiny : bool
    seeds : tuple of int
    dataset : str
    images : ImageSet or None
    digest : str
        Of the images; "" without any.
    network : str
    budget, observers : int
        0 where the protocol has none.
    stored : mapping
        Options of what is gone on with; empty where there is nothing yet.
    """

    protocol: str
    out: Path
    device: str
    workers: int
    threads: int
    resume: bool
    tiny: bool
    seeds: tuple[int, ...]
    dataset: str = ""
    loaded: ImageSet | None = None
    digest: str = ""
    network: str = ""
    budget: int = 0
    observers: int = 0
    stored: Values = field(default_factory=dict)

    @property
    def images(self) -> ImageSet:
        """The images that are shown."""
        assert self.loaded is not None, "a protocol that shows images"
        return self.loaded

    def choose(self, name: str, given: Sequence[Any] | None, usual: Sequence[Any]) -> list[Any]:
        """Return a list that may grow: what is stored and what is given besides, or else what is usual."""
        stored = list(self.stored.get(name, ()))
        if given is None:
            return stored or list(usual)
        return stored + [value for value in given if value not in stored]

    def options(self, **own: Any) -> dict[str, Any]:
        """Return what results mean: what was settled here and a protocol's own options, as they are stored."""
        shared: dict[str, Any] = {"dataset": self.dataset, "network": self.network}
        shared |= {"budget": self.budget, "observers": self.observers}
        shared = {name: value for name, value in shared.items() if value}
        digest = {"images": self.digest} if self.digest else {}
        return {**shared, "device": self.device, "threads": self.threads, **digest, "seeds": list(self.seeds), **own}


def settle(out: str, protocol: str, common: Mapping[str, Any], usual: Values, tiny: Values | None = None) -> Setting:
    """Return the setting that follows from what was given.

    Parameters
    ----------
    out : str
    protocol : str
    common : mapping
        What was given of the shared options.
    usual, tiny : mapping
        What a protocol takes where nothing is given, and with ``tiny``: seeds, dataset, network, budget, observers; for
        the network also the number of units of one that suits the images.

    Raises
    ------
    OptionError, StimulusError
        Naming the option.
    """
    folder = absolute(out)
    resume, is_tiny = bool(common.get("resume")), bool(common.get("tiny"))
    stored = stored_options(folder) if resume else {}
    left = {**usual, **((tiny or {}) if is_tiny else {})}

    def chosen(name: str) -> Any:
        given = common.get(name)
        return given if given is not None else stored.get(name, left.get(name))

    device = str(choose_device(common.get("device") or "auto"))
    threads, workers = choose_threads(common.get("threads"), device), choose_workers(common.get("workers"), device)
    if threads > 1 and common.get("workers") not in (None, 1):
        raise OptionError(f"--threads {threads}: runs with several threads go one after another: leave --workers out")
    seeds = _seeds(common, stored.get("seeds"), left.get("seeds", 1))
    budget = positive("budget", chosen("budget")) if "budget" in left else 0
    observers = positive("observers", chosen("observers")) if "observers" in left else 0
    setting = Setting(protocol, folder, device, workers, threads, resume, is_tiny, seeds, stored=stored)
    if "dataset" not in left:
        return setting
    dataset = located(str(chosen("dataset")))
    images = load_images(dataset, data_dir=home(common.get("data_dir")), download=bool(common.get("download")))
    network = str(chosen("network") or "") if "network" in left else ""
    if "network" in left and len(images.classes) < 2:
        raise StimulusError(f"data set {dataset!r}: the readouts need at least 2 classes, got {len(images.classes)}")
    if observers:
        enough_images(images, observers)
    if network.isdecimal():  # units of a network that suits the images
        network = default_network(images, int(network))
    setting = replace(setting, dataset=dataset, loaded=images, digest=digest_of(images))
    return replace(setting, network=network, budget=budget, observers=observers)


def reject_unknown(given: Mapping[str, Any], known: type) -> None:
    """Refuse keywords that no shared option has, as Python does.

    Raises
    ------
    TypeError
    """
    unknown = set(given) - set(get_type_hints(known))
    if unknown:
        raise TypeError(f"run() got an unexpected keyword argument {min(unknown)!r}")


def located(dataset: str) -> str:
    """Return a data set whose folder is named by its absolute path."""
    kind, colon, path = dataset.partition(":")
    return f"{kind}:{absolute(path)}" if colon and kind in ("folder", "stream") and path else dataset


def home(folder: str | None) -> str | None:
    """Return a folder by its absolute path."""
    return None if folder is None else str(absolute(folder))


def digest_of(images: ImageSet) -> str:
    """Return what tells an image set from another: a digest of pixels and labels, or of the list of files where streamed."""
    found = hashlib.sha256(repr((images.classes, images.shape)).encode())
    for part in (images.train, images.train_labels, images.test, images.test_labels, images.unlabelled):
        if isinstance(part, StreamedImages):
            for file in part.files:
                found.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode(errors="surrogateescape"))
        elif isinstance(part, Tensor):
            for rows in part.split(4096):
                found.update(rows.contiguous().numpy())
    return found.hexdigest()[:16]


def positive(name: str, value: Any, most: int = 10**9) -> int:
    """Return a whole number from 1 to ``most``.

    Raises
    ------
    OptionError
        If it is less or more, or no whole number.
    """
    try:
        number = index(value)
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise OptionError(f"{name}: expected a whole number from 1 to {most:,}, got {value}")
    return number


def different(name: str, given: Sequence[Any], known: Iterable[Any] | None = None) -> None:
    """Refuse a list that is empty, names something twice, or something unknown.

    Raises
    ------
    OptionError
        Naming what was given, and what is known.
    """
    all_known = None if known is None else list(known)
    unknown = [] if all_known is None else [value for value in given if value not in all_known]
    if unknown or not given or len(set(given)) < len(given):
        expected = "one or more different ones" if all_known is None else f"different names out of {', '.join(all_known)}"
        raise OptionError(f"{name}: expected {expected}, got {', '.join(map(str, unknown or given)) or 'none'}")


def _seeds(common: Mapping[str, Any], stored: Sequence[int] | None, usual: int) -> tuple[int, ...]:
    """Return the one seed asked for, or as many as asked for from 0 on, besides those that are stored."""
    seed, seeds = common.get("seed"), common.get("seeds")
    if seed is not None and seeds is not None:
        raise OptionError(f"--seed {seed} runs one seed, --seeds {seeds} several: give one of them")
    if seed is not None:
        if not -(2**63) <= seed < 2**63:
            raise OptionError(f"seed: expected a whole number of at most 64 bits, got {seed}")
        return tuple(dict.fromkeys([*(stored or ()), int(seed)]))
    if seeds is None and stored:
        return tuple(stored)
    asked = range(positive("seeds", usual if seeds is None else seeds, 1000))
    return tuple(dict.fromkeys([*(stored or ()), *asked]))


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


def choose_threads(threads: int | None, device: str) -> int:
    """Return the threads of every run: as many as asked for, or 1 on a CPU, where runs share the cores, and 4 beside a GPU.

    Raises
    ------
    OptionError
        If it is less than one.
    """
    if threads is not None:
        return positive("threads", threads, 1024)
    return 1 if torch.device(device).type == "cpu" else 4


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
