"""Very deep networks: dense populations with skip pathways, and gains with which signals and changes keep their size."""

from collections.abc import Sequence
from math import prod, sqrt

from neurossl.anatomy.ends import image_shape, normalised, retina_of
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway
from neurossl.anatomy.populations import Population
from neurossl.checks import one_of, whole
from neurossl.errors import NetworkError

SCALINGS = ("depth", "none")


def deep(
    inputs: int | Sequence[int],
    populations: int = 32,
    neurons: int = 128,
    classes: int | None = None,
    transfer: str = "relu",
    scaling: str = "depth",
    normalisation: str | None = None,
) -> Network:
    """Return a residual network of so many dense populations of one size, without biases.

    Every population above V1 is driven by the one below through plastic synapses and, one to one, through a fixed skip
    pathway. With D inputs, N neurons and L layers of synapses (the readout's included) the drives are

        V1       a_1 theta x                      a_1 = 1 / sqrt(D)
        V2 ...   r + a theta r                    a   = 1 / sqrt(N L)
        readout  a_L theta r                      a_L = 1 / N

    with ``theta ~ N(0, 1)`` at first, which is what learns (`FeedforwardPathway`, gain): the scalings of muPC (Innocenti et
    al. 2025, arXiv 2505.13124; "depth-muP"), made so that activities, and what a step of learning changes of them, depend
    neither on width nor on depth, and that one learning rate serves all sizes. There a skip carries the drive of the
    population below, here what it sends: the same where the transfer function is linear. Predictive coding as in that paper
    is ``pc:values=drive`` here.

    Parameters
    ----------
    inputs : int or shape
        Number of inputs, or the shape of the images, which are then flattened.
    populations : int
        V1, V2, ...
    neurons : int
        Of each.
    classes : int, optional
        Add a linear population "readout" with one unit per class; without, L is the number of populations.
    transfer : str
    scaling : {"depth", "none"}
        "none": PyTorch's initialisation and no gains, the usual parameterisation (the control).
    normalisation
        As for `mlp`; it holds for skip pathways, too.

    Raises
    ------
    NetworkError
        If a size is no whole number >= 1.
    OptionError
        If the scaling does not exist.
    """
    depth = whole(populations, "deep: populations", error=NetworkError)
    width = whole(neurons, "deep: neurons", error=NetworkError)
    scaled = one_of(scaling, SCALINGS, "deep: scaling") == "depth"
    name = f"deep {depth}x{width}" + ("" if scaled else ", no scaling")
    network = Network(retina_of((prod(image_shape(inputs)),), normalisation), name=name)
    layers = depth + (classes is not None)
    init = "normal" if scaled else "uniform"

    def grown(below: str, above: Population, gain: float) -> None:
        used, seen = gain if scaled else 1.0, normalised(below, normalisation)
        network.add(above, FeedforwardPathway(below, above.name, normalisation=seen, bias=False, init=init, gain=used))

    grown("retina", Population("V1", width, transfer), 1 / sqrt(network.input.size))
    for below in range(1, depth):
        pre, post = f"V{below}", f"V{below + 1}"
        grown(pre, Population(post, width, transfer), 1 / sqrt(width * layers))
        seen = normalised(pre, normalisation)
        skip = FeedforwardPathway(pre, post, normalisation=seen, bias=False, plastic=False, init="identity", label="skip")
        network.add(skip)
    if classes is not None:
        grown(f"V{depth}", Population("readout", classes, "linear"), 1 / width)
    return network
