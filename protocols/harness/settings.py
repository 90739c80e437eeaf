"""The setting of a protocol: what its shared options come to.

A protocol calls `settle` with them, which checks them, loads the images and fills in what was not given: what is stored when
a run is resumed, or else the protocol's own defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurossl.device import choose_device
from neurossl.errors import OptionError, StimulusError
from neurossl.files import absolute
from neurossl.stimuli import ImageSet, load_images
from protocols.harness.checks import choose_threads, choose_workers, digest_of, enough_images, home, located, positive
from protocols.harness.index import stored_options

Values = Mapping[str, Any]


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
        shared["tiny"] = self.tiny
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
    is_tiny = is_tiny or bool(stored.get("tiny"))  # which decides what is measured
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
    setting = Setting(
        protocol, folder, device, workers, threads, resume, is_tiny, seeds, budget=budget, observers=observers, stored=stored
    )
    if "dataset" not in left:
        return setting
    dataset = located(str(chosen("dataset")))
    images = load_images(dataset, data_dir=home(common.get("data_dir")), download=bool(common.get("download")))
    network = str(chosen("network") or "") if "network" in left else ""
    if len(images.classes) < 2:
        raise StimulusError(f"data set {dataset!r}: the readouts need at least 2 classes, got {len(images.classes)}")
    if observers:
        enough_images(images, observers)
    if network.isdecimal():  # units of a network that suits the images
        network = default_network(images, int(network))
    return replace(setting, dataset=dataset, loaded=images, digest=digest_of(images), network=network)


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


def default_network(images: ImageSet, units: int = 256) -> str:
    """Return the network for these images: dense for handwriting, convolutional for what is larger or has colours."""
    small = images.shape[0] == 1 and images.shape[1] <= 28
    return "mlp:" + "-".join([str(units)] * 4) if small else "conv:32M-64M-128M-128M"
