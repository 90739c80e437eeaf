"""What is given as an option: made what is meant, or refused with the name of the option."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.device import available_cores
from neurossl.errors import OptionError
from neurossl.files import absolute
from neurossl.stimuli import ImageSet, StreamedImages


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
