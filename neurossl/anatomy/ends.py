"""What all ready networks begin and end with: a retina of one image or two, and a linear readout for labels."""

from collections.abc import Sequence

import numpy as np

from neurossl.anatomy.connectivity import Dense
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.anatomy.populations import InputPopulation, Population
from neurossl.checks import whole
from neurossl.errors import NetworkError


def image_shape(inputs: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of images, or of so many inputs, in numbers of Python."""
    sizes = list(inputs) if np.iterable(inputs) else [inputs]
    return tuple(whole(size, "inputs", error=NetworkError) for size in sizes)


def retina_of(shape: Sequence[int], normalisation: str | None) -> InputPopulation:
    """Return the input population of one image, or of two side by side."""
    sizes = image_shape(shape)
    if normalisation == "doubled":
        sizes = (2 * sizes[0], *sizes[1:])
    return InputPopulation("retina", sizes)


def normalised(below: str, normalisation: str | None) -> str | None:
    """Return what a pathway does with what it sees: two images are there at the retina alone."""
    return "standard" if normalisation == "doubled" and below != "retina" else normalisation


def add_readout(network: Network, below: str, classes: int | None, normalisation: str | None) -> None:
    """Add a linear population "readout" with one unit per class, if there are classes."""
    if classes is not None:
        network.add(Population("readout", classes, "linear"))
        network.add(FeedforwardPathway(below, "readout", Dense(), normalisation=normalised(below, normalisation)))
