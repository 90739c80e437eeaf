"""The data sets by name; a user's own are registered beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from neurossl.errors import OptionError
from neurossl.stimuli.datasets import embedded, published
from neurossl.stimuli.datasets.images import ImageSet


class DatasetRequest(NamedTuple):
    """What is asked of a data set.

    Attributes
    ----------
    root : Path
        Folder in which data sets are kept.
    size : (int, int), optional
        Height and width, pixels. A data set may return others: they are resized.
    download : bool
        Whether it may be fetched.
    """

    root: Path
    size: tuple[int, int] | None = None
    download: bool = False


Dataset = Callable[[DatasetRequest], ImageSet]
_DATASETS: dict[str, Dataset] = {}
_TAKEN = "folder", "stream", "tiny_imagenet"


def register_dataset(name: str) -> Callable[[Dataset], Dataset]:
    """Make a data set known by a name, so that `load_images` and protocols find it.

    Parameters
    ----------
    name : str
        Without a colon.

    Raises
    ------
    OptionError
        If the name is taken, by another function than one of the same name and module, as when a cell is run again.

    Examples
    --------
    >>> import numpy as np
    >>> @register_dataset("squares")
    ... def squares(request):
    ...     pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    ...     return ImageSet.from_arrays(pixels, np.arange(40) % 4, name="squares")
    """
    if not isinstance(name, str) or not name or ":" in name or not name.isprintable() or name in _TAKEN:
        raise OptionError(f"register_dataset: expected a name without a colon, got {name!r}")

    def keep(function: Dataset) -> Dataset:
        if not callable(function):
            raise OptionError(f"data set {name!r}: expected a function of a request, got {function!r}")
        before = _DATASETS.get(name, function)
        if _identity(before) != _identity(function):
            raise OptionError(f"data set {name!r} exists already: choose another name")
        _DATASETS[name] = function
        return function

    return keep


def _identity(function: Dataset) -> tuple[object, object]:
    named = getattr(function, "__qualname__", None)
    return (getattr(function, "__module__", None), named) if named and "<lambda>" not in named else (None, function)


def dataset_names() -> tuple[str, ...]:
    """Return the names of all data sets."""
    return (*_DATASETS, "tiny_imagenet", "folder:PATH", "stream:PATH")


def find_dataset(name: str) -> Dataset | None:
    """Return the data set of this name, if there is one."""
    return _DATASETS.get(name)


@register_dataset("digits")
def _digits(request: DatasetRequest) -> ImageSet:
    return embedded.load_digits()


@register_dataset("photographs")
def _photographs(request: DatasetRequest) -> ImageSet:
    return embedded.load_photographs(*request.size or (32, 32))


@register_dataset("mnist")
def _mnist(request: DatasetRequest) -> ImageSet:
    return published.load_handwriting("mnist", request.root, request.download)


@register_dataset("fashion_mnist")
def _fashion_mnist(request: DatasetRequest) -> ImageSet:
    return published.load_handwriting("fashion_mnist", request.root, request.download)


@register_dataset("cifar10")
def _cifar10(request: DatasetRequest) -> ImageSet:
    return published.load_cifar10(request.root, request.download)


@register_dataset("stl10")
def _stl10(request: DatasetRequest) -> ImageSet:
    return published.load_stl10(request.root, request.download)
