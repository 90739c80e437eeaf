"""Receptive fields: the weights of the first pathway as images, lazily."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from analysis.pathway_weights import PathwayWeights, pathway_weights, recorded_pathways
from neurossl.errors import OptionError, TrajectoryError


def receptive_fields(tree: xr.DataTree, pathway: str | None = None, shape: Sequence[int] | None = None) -> xr.DataArray:
    """Return the weights of a pathway from the input as images, (..., snapshot, neuron, channel, y, x).

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathway : str, optional
        The first recorded feedforward pathway by default.
    shape : sequence of int, optional
        Of the presynaptic population, (channels, height, width) or (height, width). By default that of the network that
        the run describes; a population without one is taken for a square image of one channel if its size is a square
        number, which ``attrs["shape"]`` then says. A convolution's kernels have theirs.

    Returns
    -------
    DataArray
        Lazy: what is selected is read. A convolution has one neuron per channel.

    Raises
    ------
    TrajectoryError
        If the weights were not recorded, or only some synapses of them, or no shape is known.
    OptionError
        If ``shape`` is of another size.
    """
    if pathway is None:
        forward = [name for name in recorded_pathways(tree) if "->" in name]
        if not forward:
            raise TrajectoryError("no weights of a feedforward pathway were recorded")
        pathway = forward[0]
    one = pathway_weights(tree, pathway)[0]
    weight = one.weight
    own = weight.dims[len(one.carried) + 1 :]
    dims = (*one.carried, "snapshot", "neuron", "channel", "y", "x")
    if own == ("post", "pre", "ky", "kx"):
        names = {"post": "neuron", "pre": "channel", "ky": "y", "kx": "x"}
        fields = weight.rename(names).drop_vars([n for n in ("presynaptic",) if n in weight.coords])
        return fields.assign_attrs(shape="of the kernels", pathway=pathway).rename("receptive_field")
    if own != ("post", "pre"):
        raise TrajectoryError(f"{pathway}: weights along {', '.join(map(str, own))} are no images; expected post and pre")
    found, said = _shape(tree, one, shape)
    array = _Reshaped(weight, found)
    coords = {name: c for name, c in weight.coords.items() if set(map(str, c.dims)) <= {*one.carried, "snapshot"}}
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(array), {**weight.attrs, "shape": said, "pathway": pathway})
    return xr.DataArray(variable, coords, name="receptive_field")


def _shape(tree: xr.DataTree, one: PathwayWeights, asked: Sequence[int] | None) -> tuple[tuple[int, int, int], str]:
    size = int(one.weight.sizes["pre"])
    if asked is not None:
        given = tuple(int(n) for n in asked)
        if len(given) not in (2, 3) or math.prod(given) != size:
            raise OptionError(f"shape: expected (channels, height, width) of {size} values in {one.name!r}, got {given}")
        return (given if len(given) == 3 else (1, *given)), "as given"  # type: ignore[return-value]
    described = _described(tree, one.name.partition("->")[0])
    if len(described) in (2, 3) and math.prod(described) == size:
        return (described if len(described) == 3 else (1, *described)), "of the network"  # type: ignore[return-value]
    side = math.isqrt(size)
    if side * side != size:
        raise TrajectoryError(
            f"{one.name}: the {size} presynaptic neurons have no shape: give shape=(channels, height, width)"
        )
    return (1, side, side), "taken for a square image of one channel: the network describes no shape"


def _described(tree: xr.DataTree, population: str) -> tuple[int, ...]:
    """Return the shape of a population as the run describes its network, or ()."""
    try:
        network: dict[str, Any] = json.loads(tree.attrs["network"])
        return next(tuple(p["shape"]) for p in network["populations"] if p["name"] == population)
    except (KeyError, TypeError, ValueError, StopIteration):
        return ()


class _Reshaped(BackendArray):
    """Weights (..., post, pre) as (..., post, channel, y, x); whole rows of neurons are read, and only those asked for."""

    def __init__(self, weight: xr.DataArray, shape: tuple[int, int, int]) -> None:
        self.weight, self.image = weight, shape
        self.shape = (*weight.shape[:-1], *shape)
        self.dtype = weight.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        rows = self.weight.isel(dict(zip(self.weight.dims[:-1], key[:-3], strict=True))).values
        pixels = rows.reshape(*rows.shape[:-1], *self.image)
        kept = 0
        for chosen in reversed(key[-3:]):
            pixels = pixels[(..., chosen, *[slice(None)] * kept)]
            kept += isinstance(chosen, slice) or np.ndim(chosen) > 0
        return pixels
