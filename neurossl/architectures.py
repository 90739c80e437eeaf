"""Ready networks: retina, V1, V2, ... and, for supervised objectives, a linear readout."""

from collections.abc import Sequence
from math import prod
from typing import Any

from neurossl.connectivity import Convolution, Dense
from neurossl.errors import NetworkError, OptionError
from neurossl.network import Network
from neurossl.pathways import FeedforwardPathway
from neurossl.populations import InputPopulation, Pooling, Population


def mlp(
    inputs: int | Sequence[int],
    units: Sequence[int] = (256, 256, 256, 256),
    classes: int | None = None,
    transfer: str = "relu",
    normalisation: str | None = None,
    **pathway: Any,
) -> Network:
    """Return a chain of dense populations V1, V2, ...

    Parameters
    ----------
    inputs : int or shape
        Number of inputs, or the shape of the images, which are then flattened.
    units : sequence of int
        Neurons of V1, V2, ...
    classes : int, optional
        Add a linear population "readout" with one unit per class.
    transfer : str
        Of V1, V2, ...
    normalisation : {None, "length", "standard"}
        At the presynaptic side of every pathway (forward-forward needs "length").
    **pathway
        Further options of the feedforward pathways.
    """
    retina = InputPopulation("retina", inputs if isinstance(inputs, int) else prod(inputs))
    network = Network(retina, name="mlp " + "-".join(map(str, units)))
    below = retina.name
    for depth, neurons in enumerate(units, 1):
        above = Population(f"V{depth}", neurons, transfer)
        network.add(above, FeedforwardPathway(below, above.name, Dense(), normalisation=normalisation, **pathway))
        below = above.name
    _add_readout(network, below, classes, normalisation)
    return network


def convolutional(
    image: Sequence[int],
    blocks: Sequence[tuple[int, bool]],
    classes: int | None = None,
    transfer: str = "relu",
    kernel: int = 3,
    normalisation: str | None = None,
    **pathway: Any,
) -> Network:
    """Return a chain of convolutional populations.

    Parameters
    ----------
    image : (channels, height, width)
    blocks : sequence of (channels, max-pool after?)
        Each a convolution of stride 1 that keeps the size, the transfer function, and an optional 2x2 max-pooling.
    classes : int, optional
        Add a linear population "readout" with one unit per class.
    transfer : str
    kernel : int
        Odd.
    normalisation, **pathway
        As for `mlp`.

    Raises
    ------
    NetworkError
        If the image is too small for the poolings.
    """
    if len(tuple(image)) != 3:
        raise NetworkError(f"convolutional: expected images (channels, height, width), got {tuple(image)}")
    retina = InputPopulation("retina", image)
    names = "-".join(f"{channels}{'M' if pooled else ''}" for channels, pooled in blocks)
    network = Network(retina, name=f"conv {names}")
    below, shape = retina.name, retina.shape
    for depth, (channels, is_pooled) in enumerate(blocks, 1):
        pooling = Pooling("max", 2) if is_pooled else None
        above = Population(f"V{depth}", (channels, *shape[1:]), transfer, pooling)
        wiring = Convolution(kernel, 1, kernel // 2)
        network.add(above, FeedforwardPathway(below, above.name, wiring, normalisation=normalisation, **pathway))
        below, shape = above.name, above.shape
    _add_readout(network, below, classes, normalisation)
    return network


VGG6 = ((128, False), (256, True), (256, False), (512, True), (1024, True), (1024, True))


def vgg6(image: Sequence[int] = (3, 32, 32), classes: int | None = None, width: float = 1.0, **options: Any) -> Network:
    """Return the six-layer network of CLAPP and CLAPP++: 128 | 256 M | 256 | 512 M | 1024 M | 1024 M, 3x3 convolutions.

    Parameters
    ----------
    image : (channels, height, width)
    classes : int, optional
    width : float
        Factor on the number of channels.
    **options
        As for `convolutional`.

    Raises
    ------
    NetworkError
        If the width is not positive, or the image is too small for the poolings.
    """
    if not 0 < width < float("inf"):
        raise NetworkError(f"vgg6: width must be a finite number > 0, got {width}")
    blocks = [(max(1, round(channels * width)), is_pooled) for channels, is_pooled in VGG6]
    return convolutional(image, blocks, classes, **options)


def from_description(text: str, image: Sequence[int], classes: int | None = None, **options: Any) -> Network:
    """Return the network that a short text describes.

    Parameters
    ----------
    text : str
        ``mlp:256-256-256-256``, ``conv:32-64M-64-128M`` (M: 2x2 max-pooling after the layer), ``vgg6`` or ``vgg6:0.25``
        (factor on the channels).
    image : (channels, height, width)
    classes : int, optional
    **options
        As for `mlp` and `convolutional`.

    Raises
    ------
    OptionError
        If the text is none of these.
    NetworkError
        If the network does not fit the image.
    """
    kind, _, sizes = text.partition(":")
    try:
        if kind == "mlp":
            return mlp(image, [_positive(n) for n in sizes.split("-")], classes, **options)
        if kind == "conv":
            blocks = [(_positive(n.removesuffix("M")), n.endswith("M")) for n in sizes.split("-")]
            return convolutional(image, blocks, classes, **options)
        if kind == "vgg6":
            return vgg6(image, classes, float(sizes or 1), **options)
    except ValueError:
        pass
    raise OptionError(f"network {text!r}: expected mlp:256-256-256-256, conv:32-64M-64-128M, vgg6 or vgg6:0.25")


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _add_readout(network: Network, below: str, classes: int | None, normalisation: str | None) -> None:
    if classes is not None:
        network.add(Population("readout", classes, "linear"))
        network.add(FeedforwardPathway(below, "readout", Dense(), normalisation=normalisation))
