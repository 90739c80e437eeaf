"""A network from what a stored run says about it: the inverse of `Network.describe`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurossl.anatomy.connectivity import Connectivity, Convolution, Dense, LocalFields, Mixing, Sparse
from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.network import Network
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.anatomy.pooling import Pooling
from neurossl.anatomy.populations import InputPopulation, Population
from neurossl.anatomy.prediction import BandedPathway, InterneuronPathway, LowRankPathway
from neurossl.errors import NetworkError, NeurosslError


def described_network(description: Mapping[str, Any]) -> Network:
    """Return the network that a description is of.

    Parameters
    ----------
    description : mapping
        As `Network.describe` returns it.

    Raises
    ------
    NetworkError
        If it is none, or has a connectivity of one's own, which cannot be made again from its name.
    """
    try:
        network = Network(name=str(description["name"]))
        for population in description["populations"]:
            network.add(_population(population))
        for pathway in description["pathways"]:
            network.add(_pathway(pathway, network))
    except NeurosslError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, AssertionError) as reason:
        raise NetworkError(f"the description of a network lacks something ({type(reason).__name__}: {reason})") from None
    differing = [p["name"] for p in description["pathways"] if network.pathways[p["name"]].describe() != dict(p)]
    if differing:
        raise NetworkError(f"pathway {differing[0]!r} cannot be made again from its description")
    return network


def _population(about: Mapping[str, Any]) -> Population:
    if about["input"]:
        return InputPopulation(about["name"], about["neurons"])
    pooling = None
    if about["pooling"] is not None:
        kind, sizes = about["pooling"].split()
        kernel, stride = (_size(text) for text in sizes.split("/"))
        pooling = Pooling(kind, kernel, stride, tuple(about.get("pooling_padding", (0, 0))))
    return Population(about["name"], about["neurons"], about["transfer"], pooling, about.get("inhibitory"))


def _size(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns or rows)


def _pathway(about: Mapping[str, Any], network: Network) -> Pathway:
    common: dict[str, Any] = {"plastic": about["plastic"], "init": about["init"]}
    if about["kind"] == "mirror":
        forward = network.pathway(about["mirrors"])
        assert isinstance(forward, FeedforwardPathway), "what is mirrored is feedforward"
        return MirrorPathway(forward, **common)
    arrow = "->" if about["kind"] == "feedforward" else "=>"
    pre, _, rest = about["name"].partition(arrow)
    post, _, label = rest.partition(":")
    common["label"] = label
    if about["kind"] == "feedforward":
        scale = {"bias": about["bias"], "gain": about.get("gain", 1.0)}
        options = {"normalisation": about.get("normalisation"), **scale, **common}
        return FeedforwardPathway(pre, post, _connectivity(about), **options)
    form, _, size = about.get("form", "full").partition(":")
    pools: dict[str, Any] = {name: about.get(name) for name in ("source_pool", "target_pool")}
    if form == "low-rank":
        through = network.pathway(about["through"])
        assert isinstance(through, InterneuronPathway), "interneurons come first"
        return LowRankPathway(through, target_pool=pools["target_pool"], **common)
    if form == "banded":
        return BandedPathway(pre, post, int(size), **pools, **common)
    if form == "interneurons":
        return InterneuronPathway(pre, post, int(size), **pools, **common)
    return FeedbackPathway(pre, post, **pools, **common)


def _connectivity(about: Mapping[str, Any]) -> Connectivity:
    if "kernel" in about:
        kernel, stride, padding = (tuple(about[name]) for name in ("kernel", "stride", "padding"))
        return Convolution(kernel, stride, padding, about.get("padding_mode", "zeros"))
    if "partners" in about:
        return Sparse(about["partners"], about["partners_seed"])
    if "fields" in about:
        return LocalFields(*(tuple(part) for part in about["fields"]))
    if "mixing" in about:
        return Mixing()
    if "connectivity" in about:
        raise NetworkError(f"pathway {about['name']!r}: {about['connectivity']} cannot be made again from its name")
    return Dense()
