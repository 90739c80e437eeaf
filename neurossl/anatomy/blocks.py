"""Ready networks of blocks with skip pathways: residual networks of maps, and networks of patch tokens.

A block is two populations, the second also driven by what the block comes from; their drives add up at the soma, before the
transfer function:

    residual   V2 = rho(3x3 convolution of V1)             V3 = rho(3x3 convolution of V2 + skip of V1)
    tokens     V2 = rho(V1 mixed over places)              V3 = rho(dense layer of every token of V2 + skip of V1)
"""

from collections.abc import Sequence
from typing import Any

from neurossl.anatomy.connectivity import Connectivity, Convolution, Mixing
from neurossl.anatomy.ends import add_readout, normalised, retina_of
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.anatomy.populations import Population
from neurossl.checks import whole
from neurossl.errors import NetworkError, OptionError

SKIPS: dict[str, dict[str, Any] | None] = {
    "identity": {"plastic": False, "init": "identity"},
    "plastic": {"plastic": True, "init": "identity"},
    "none": None,
}
"""Skip pathways: fixed one-to-one, plastic 1x1 convolutions that begin one-to-one, or none (the control)."""


def residual(
    image: Sequence[int] = (3, 32, 32),
    blocks: Sequence[int] = (64, 128, 256),
    classes: int | None = None,
    transfer: str = "relu",
    skip: str = "identity",
    normalisation: str | None = None,
    **pathway: Any,
) -> Network:
    """Return a residual convolutional network: V1, then two populations per block, the second also driven by a skip pathway.

    ``V1->V2`` and ``V2->V3`` are 3x3 convolutions, ``V1->V3`` the skip pathway, a 1x1 convolution without bias (the basic
    block of He et al. 2016, arXiv 1512.03385, without normalisation). A one-to-one pathway into more channels than it comes
    from leaves the others without skip (option A there).

    Parameters
    ----------
    image : (channels, height, width)
    blocks : sequence of int
        Channels of each block; where they differ from those of the block before, the block also halves the map (stride 2).
    classes : int, optional
        Add a linear population "readout" with one unit per class.
    transfer : str
    skip : {"identity", "plastic", "none"}
        One of `SKIPS`.
    normalisation, **pathway
        As for `mlp`; the normalisation holds for skip pathways, too.

    Raises
    ------
    OptionError
        If the kind of skip pathway does not exist.
    NetworkError
        If there is no block, or the image is no map.
    """
    network = _begun("residual", image, blocks, skip, normalisation)
    options = {"normalisation": normalisation, **pathway}
    below = _grown(network, "retina", blocks[0], Convolution(3, 1, 1), transfer, options)
    for channels in blocks:
        stride = 1 if channels == below.shape[0] else 2
        between = _grown(network, below.name, channels, Convolution(3, stride, 1), transfer, options)
        above = _grown(network, between.name, channels, Convolution(3, 1, 1), transfer, options)
        _skip(network, below, above, stride, skip, normalisation)
        below = above
    add_readout(network, below.name, classes, normalisation)
    return network


def tokens(
    image: Sequence[int] = (3, 32, 32),
    patch: int = 4,
    blocks: Sequence[int] = (64, 64, 64),
    classes: int | None = None,
    transfer: str = "relu",
    skip: str = "identity",
    normalisation: str | None = None,
    **pathway: Any,
) -> Network:
    """Return a network of patch tokens: V1, one token per patch of the image, then two populations per block.

    ``retina->V1`` is a dense layer on every patch, with the same weights for all. In a block, ``V1->V2`` mixes the tokens
    (`Mixing`: every channel by itself), ``V2->V3`` is a dense layer on every token, and ``V1->V3`` the skip pathway, a 1x1
    convolution without bias. It is the MLP-Mixer of Tolstikhin et al. 2021 (arXiv 2105.01601) with one dense layer in place
    of each MLP of two, one skip around both in place of one around each, and no normalisation. Tokens lie on the map where
    their patches do, so that they take the part of places: in scores with spatial dependence and in readouts.

    Parameters
    ----------
    image : (channels, height, width)
    patch : int
        Pixels per side of a patch.
    blocks : sequence of int
        Channels of each block; V1 has those of the first.
    classes : int, optional
        Add a linear population "readout" with one unit per class.
    transfer : str
    skip : {"identity", "plastic", "none"}
        One of `SKIPS`.
    normalisation, **pathway
        As for `mlp`; the normalisation holds for skip pathways, too.

    Raises
    ------
    OptionError
        If the kind of skip pathway does not exist.
    NetworkError
        If there is no block, the image is no map, or patches do not tile it.
    """
    network = _begun("tokens", image, blocks, skip, normalisation)
    side = whole(patch, "tokens: patch", error=NetworkError)
    height, width = network.input.shape[1:]
    if height % side or width % side:
        raise NetworkError(f"tokens: patches of {side}x{side} pixels do not tile an image of {height}x{width}")
    network.name = f"{network.name}, patches of {side}x{side}"
    options = {"normalisation": normalisation, **pathway}
    below = _grown(network, "retina", blocks[0], Convolution(side, side, 0), transfer, options)
    for channels in blocks:
        between = _grown(network, below.name, below.shape[0], Mixing(), transfer, options)
        above = _grown(network, between.name, channels, Convolution(1, 1, 0), transfer, options)
        _skip(network, below, above, 1, skip, normalisation)
        below = above
    add_readout(network, below.name, classes, normalisation)
    return network


def _begun(kind: str, image: Sequence[int], blocks: Sequence[int], skip: str, normalisation: str | None) -> Network:
    """Return a network of a retina alone, named for what it will be."""
    if skip not in SKIPS:
        raise OptionError(f"{kind}: skip {skip!r} does not exist, expected {', '.join(SKIPS)}")
    if len(tuple(image)) != 3 or not len(blocks):
        raise NetworkError(f"{kind}: expected images (channels, height, width) and blocks, got {image} and {blocks}")
    name = f"{kind} {'-'.join(map(str, blocks))}" + ("" if skip == "identity" else f", skip {skip}")
    return Network(retina_of(image, normalisation), name=name)


def _grown(
    network: Network, below: str, channels: int, wiring: Connectivity, transfer: str, options: dict[str, Any]
) -> Population:
    """Add a population of so many channels, driven by what is below it, and return it."""
    shape = network.populations[below].shape
    place = wiring.output_shape(shape, channels)[1:] if isinstance(wiring, Convolution) else shape[1:]
    above = Population(f"V{len(network.order) + 1}", (channels, *place), transfer)
    seen = normalised(below, options["normalisation"])
    network.add(above, FeedforwardPathway(below, above.name, wiring, **{**options, "normalisation": seen}))
    return above


def _skip(network: Network, below: Population, above: Population, stride: int, skip: str, normalisation: str | None) -> None:
    """Add the skip pathway of a block, if it has one."""
    kind = SKIPS[skip]
    if kind is not None:
        wiring, seen = Convolution(1, stride, 0), normalised(below.name, normalisation)
        network.add(FeedforwardPathway(below.name, above.name, wiring, normalisation=seen, bias=False, **kind))
