"""The options that protocols share, each described once; a protocol takes what fits as ``**common: Unpack[Batched]``."""

from collections.abc import Mapping
from typing import Any, TypedDict, get_type_hints


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
        mlp:256-256-256-256, conv:32-64M-64-128M, vgg6:0.25, residual:64-128-256:plastic, tokens:4x64-64-64 or
        deep:32x128;
        dense for handwriting, else convolutional.
    """

    network: str | None
    budget: int | None


class Batched(Observed, total=False):
    """What protocols take in which many observers learn at once in one network."""

    network: str | None


def reject_unknown(given: Mapping[str, Any], known: type) -> None:
    """Refuse keywords that no shared option has, as Python does.

    Raises
    ------
    TypeError
    """
    unknown = set(given) - set(get_type_hints(known))
    if unknown:
        raise TypeError(f"run() got an unexpected keyword argument {min(unknown)!r}")
