"""Ready networks: retina, V1, V2, ... and, for supervised objectives, a linear readout; and networks by description."""

from collections.abc import Sequence
from math import prod
from typing import Any

from neurossl.anatomy.blocks import residual, tokens
from neurossl.anatomy.connectivity import Convolution, Dense
from neurossl.anatomy.depth import deep
from neurossl.anatomy.ends import add_readout, image_shape, normalised, retina_of
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.anatomy.pooling import Pooling
from neurossl.anatomy.populations import Population
from neurossl.errors import NetworkError, NeurosslError, OptionError


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
    normalisation : {None, "length", "standard", "doubled"}
        At the presynaptic side of every pathway (forward-forward needs "length"); "doubled" (SCFF): the retina holds two
        images, the pathways from it see the sum of both, each standardised, and those above are "standard".
    **pathway
        Further options of the feedforward pathways.
    """
    retina = retina_of((prod(image_shape(inputs)),), normalisation)
    network = Network(retina, name="mlp " + "-".join(map(str, units)))
    below = retina.name
    for depth, neurons in enumerate(units, 1):
        above = Population(f"V{depth}", neurons, transfer)
        seen = normalised(below, normalisation)
        network.add(above, FeedforwardPathway(below, above.name, Dense(), normalisation=seen, **pathway))
        below = above.name
    add_readout(network, below, classes, normalisation)
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
    retina = retina_of(image, normalisation)
    names = "-".join(f"{channels}{'M' if pooled else ''}" for channels, pooled in blocks)
    network = Network(retina, name=f"conv {names}")
    below, shape = retina.name, retina.shape
    for depth, (channels, is_pooled) in enumerate(blocks, 1):
        pooling = Pooling("max", 2) if is_pooled else None
        above = Population(f"V{depth}", (channels, *shape[1:]), transfer, pooling)
        wiring = Convolution(kernel, 1, kernel // 2)
        seen = normalised(below, normalisation)
        network.add(above, FeedforwardPathway(below, above.name, wiring, normalisation=seen, **pathway))
        below, shape = above.name, above.shape
    add_readout(network, below, classes, normalisation)
    return network


def linear_stack(
    inputs: int | Sequence[int],
    units: Sequence[int] = (128,) * 6,
    classes: int | None = None,
    transfer: str = "linear",
    kernel: int | None = None,
    init: str = "orthogonal",
    normalisation: str | None = None,
    **pathway: Any,
) -> Network:
    """Return a chain of populations without biases: where theory says when a local update equals the backprop-derived one.

    With linear transfer, equal sizes and the default weights (orthonormal; semi-orthogonal, ``W W^T = 1``, into smaller
    populations) it meets the conditions of Theorem 3.1 of Wu et al. 2026 (arXiv 2601.21683).

    Parameters
    ----------
    inputs : int or shape
        Number of inputs, or the shape of the images; dense pathways see them flattened.
    units : sequence of int
        Neurons, or channels, of V1, V2, ...
    classes : int, optional
        Add a linear population "readout" with one unit per class (it has a bias).
    transfer : str
    kernel : int, optional
        Convolutions of this kernel and stride, which share no input pixel, instead of dense pathways.
    init : str
        "orthogonal", "uniform" (PyTorch's default) or another initialisation of `FeedforwardPathway`.
    normalisation, **pathway
        As for `mlp`.

    Raises
    ------
    NetworkError
        If convolutions are to see anything but images, or leave nothing of them.
    """
    shape = image_shape(inputs)
    if kernel is not None and len(shape) != 3:
        raise NetworkError(f"linear_stack: convolutions need images (channels, height, width), got {shape}")
    wiring = Dense() if kernel is None else Convolution(kernel, kernel, 0)
    retina = retina_of((prod(shape),) if kernel is None else shape, normalisation)
    name = f"{transfer} stack {'-'.join(map(str, units))}" + ("" if kernel is None else f", {kernel}x{kernel} convolutions")
    network = Network(retina, name=name)
    below: Population = retina
    for depth, size in enumerate(units, 1):
        neurons = wiring.output_shape(below.shape, size) if isinstance(wiring, Convolution) else (size,)
        above = Population(f"V{depth}", neurons, transfer)
        options = {"normalisation": normalised(below.name, normalisation), "bias": False, "init": init, **pathway}
        network.add(above, FeedforwardPathway(below.name, above.name, wiring, **options))
        below = above
    add_readout(network, below.name, classes, normalisation)
    return network


VGG6 = "128-256M-256-512M-1024M-1024M"
VGG8 = "128-256M-512M-512-1024M-1024M-1024-1024M"


def vgg6(image: Sequence[int] = (3, 32, 32), classes: int | None = None, width: float = 1.0, **options: Any) -> Network:
    """Return the six-layer network of CLAPP and CLAPP++: 128 | 256 M | 256 | 512 M | 1024 M | 1024 M.

    Each layer is a 3x3 convolution with bias, stride 1 and zero padding 1, then ReLU, then 2x2 max-pooling where there is an
    M; no normalisation; PyTorch's default initialisation (Wu et al. 2026, arXiv 2601.21683).

    Parameters
    ----------
    image : (channels, height, width)
        At least 16 pixels; published for 32 (CIFAR-10), 64 (Tiny ImageNet) and 96 (STL-10).
    classes : int, optional
    width : float
        Factor on the number of channels.
    **options
        As for `convolutional`.

    Raises
    ------
    NetworkError
        If the image is too small for the poolings.
    """
    return convolutional(image, _blocks(VGG6, width), classes, **options)


def vgg8(image: Sequence[int] = (3, 224, 224), classes: int | None = None, width: float = 1.0, **options: Any) -> Network:
    """Return the variant of `vgg6` for ImageNet: 128 | 256 M | 512 M | 512 | 1024 M | 1024 M | 1024 | 1024 M.

    Parameters
    ----------
    image : (channels, height, width)
        At least 32 pixels.
    classes, width, **options
        As for `vgg6`.

    Raises
    ------
    NetworkError
        If the image is too small for the poolings.
    """
    return convolutional(image, _blocks(VGG8, width), classes, **options)


def from_description(text: str, image: Sequence[int], classes: int | None = None, **options: Any) -> Network:
    """Return the network that a short text describes.

    Parameters
    ----------
    text : str
        ``mlp:256-256-256-256``, ``conv:32-64M-64-128M`` (M: 2x2 max-pooling after the layer), ``vgg6`` or ``vgg6:0.25``
        (factor on the channels), ``vgg8``, ``residual:64-128-256`` (channels of the blocks) or
        ``residual:64-128-256:plastic`` (kind of skip pathway: identity, plastic or none), ``tokens:4x64-64-64`` (patches of
        4x4 pixels, then channels of the blocks) or ``tokens:4x64-64-64:plastic``, ``deep:32x128`` (32 populations of 128
        neurons) or ``deep:32x128:none`` (without its scaling), ``linear:128-128-128`` (`linear_stack`) or
        ``linear:32-32-32:2`` (of convolutions of 2x2 patches).
    image : (channels, height, width)
    classes : int, optional
    **options
        As for the function of that name.

    Raises
    ------
    OptionError
        If the text is none of these.
    NetworkError
        If the network does not fit the image.
    """
    if not isinstance(text, str):
        raise OptionError(f"network: expected a description such as mlp:256-256, got {text!r}")
    kind, _, sizes = text.partition(":")
    try:
        if kind == "mlp":
            return mlp(image, [_positive(n) for n in sizes.split("-")], classes, **options)
        if kind == "conv":
            return convolutional(image, _blocks(sizes), classes, **options)
        if kind in ("vgg6", "vgg8"):
            width = 1.0 if text == kind else _factor(sizes)
            return (vgg6 if kind == "vgg6" else vgg8)(image, classes, width, **options)
        if kind == "residual":
            channels, _, skip = sizes.partition(":")
            blocks = [_positive(n) for n in channels.split("-")]
            return residual(image, blocks, classes, skip=skip or "identity", **options)
        if kind == "tokens":
            sizes, _, skip = sizes.partition(":")
            patch, _, channels = sizes.partition("x")
            blocks = [_positive(n) for n in channels.split("-")]
            return tokens(image, _positive(patch), blocks, classes, skip=skip or "identity", **options)
        if kind == "deep":
            sizes, _, scaling = sizes.partition(":")
            depth, _, neurons = sizes.partition("x")
            return deep(image, _positive(depth), _positive(neurons), classes, scaling=scaling or "depth", **options)
        if kind == "linear":
            channels, colon, kernel = sizes.partition(":")
            units = [_positive(n) for n in channels.split("-")]
            return linear_stack(image, units, classes, kernel=_positive(kernel) if colon else None, **options)
    except NeurosslError:
        raise
    except ValueError:
        pass
    raise OptionError(
        f"network {text!r}: expected mlp:256-256-256-256, conv:32-64M-64-128M, vgg6, vgg6:0.25, vgg8, residual:64-128-256, "
        "residual:64-128-256:plastic, tokens:4x64-64-64, deep:32x128, linear:128-128-128 or linear:32-32-32:2"
    )


def _blocks(text: str, width: float = 1.0) -> list[tuple[int, bool]]:
    """Return channels, times a width, and whether there is a pooling, of ``32-64M``."""
    if not 0 < width < float("inf"):
        raise OptionError(f"width: expected a factor > 0 on the number of channels, got {width:g}")
    channels = [round(_positive(n.removesuffix("M")) * width) for n in text.split("-")]
    if min(channels) < 1:
        raise OptionError(f"width: {width:g} leaves no channel in the narrowest map; expected a larger factor")
    return [(n, part.endswith("M")) for n, part in zip(channels, text.split("-"), strict=True)]


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 10**12:
        raise ValueError(text)
    return int(text)


def _factor(text: str) -> float:
    """Return a decimal number such as 0.25."""
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return float(text)
