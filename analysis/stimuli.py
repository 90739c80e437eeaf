"""What was shown: labels, images and their views along ``stimulus``, and whether responses are to the same stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import as_responses, each
from neurossl.errors import OptionError, TrajectoryError


def groups_of(response: xr.DataArray, given: Any, name: str, why: str) -> np.ndarray:
    """Return labels or images, one per stimulus: those given, else the coordinate.

    Raises
    ------
    OptionError
        If there are none, or not one per stimulus.
    """
    if given is None:
        if name not in response.coords or response[name].dims != ("stimulus",):
            raise OptionError(f"{why}: the responses have no coordinate '{name}' along stimulus: pass {name}s=")
        return np.asarray(response[name].values)
    values = np.asarray(given)
    if values.shape != (response.sizes["stimulus"],):
        raise OptionError(f"{name}s: expected one per stimulus, ({response.sizes['stimulus']},), got {values.shape}")
    return values


def images_of(response: xr.DataArray, given: Any = None) -> np.ndarray:
    """Return which image each stimulus shows; each its own where nothing says so."""
    if given is None and "image" not in response.coords:
        return np.arange(response.sizes["stimulus"])
    return groups_of(response, given, "image", "views")


def view_means(values: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the mean over the views of each image, (images, neurons), in the order of `first_views`."""
    places = codes(images)
    if places.max() + 1 == len(values):
        return values
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    return np.add.reduceat(values[order], starts, axis=0) / np.bincount(places)[:, None]


def first_views(images: np.ndarray) -> np.ndarray:
    """Return the place of the first view of each image."""
    return np.sort(np.unique(images, return_index=True)[1])


def codes(groups: np.ndarray) -> np.ndarray:
    """Return groups as whole numbers from 0, in the order in which they first appear."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=int)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def average_views(response: Any, images: Any = None) -> xr.DataArray:
    """Return the mean response to the views of each image, (..., stimulus, neuron): one row per image.

    Parameters
    ----------
    response : DataArray or array
    images : array, (stimuli,), optional
        Which image each stimulus shows; the coordinate ``image`` by default.

    Raises
    ------
    OptionError
        If nothing says which image is shown.
    """
    response = as_responses(response)
    shown = groups_of(response, images, "image", "average_views")
    first = response.isel(stimulus=first_views(shown))
    result = np.empty(first.shape)
    for place in each(response):
        at = tuple(place.values())
        result[at] = view_means(np.asarray(response.isel(place).values, dtype=np.float64), shown)
    return first.copy(data=result)


def check_same_stimuli(responses: Mapping[str, xr.DataArray]) -> None:
    """Refuse responses to different stimuli.

    Raises
    ------
    TrajectoryError
        If the digest of what was shown, identities, images or labels of the stimuli, or their number differ.
    """
    (first, one), *others = responses.items()
    digests = {name: digest for name, response in responses.items() for digest in _digests(response)}
    every = {digest for response in responses.values() for digest in _digests(response)}
    if len(every) > 1:
        shown = ", ".join(f"{name} {digest[:8]}" for name, digest in digests.items())
        raise TrajectoryError(
            f"stimuli: what was shown differs ({shown}; {len(every)} digests): compare responses to the same probe set"
        )
    for name, other in others:
        if one.sizes["stimulus"] != other.sizes["stimulus"]:
            raise TrajectoryError(
                f"stimuli: {one.sizes['stimulus']} in {first}, but {other.sizes['stimulus']} in {name}: compare responses "
                "to the same stimuli"
            )
        for label in ("stimulus", "image", "label"):
            if label in one.coords and label in other.coords:
                differ = np.asarray(one[label].values != other[label].values)
                if differ.any():
                    raise TrajectoryError(
                        f"stimuli: {int(differ.sum())} of {differ.size} have another {label} in {name} than in {first}: "
                        "compare responses to the same stimuli in the same order"
                    )


def _digests(response: xr.DataArray) -> set[str]:
    """Return the digests of what was shown that an attribute or a coordinate holds."""
    found = response.coords["stimuli"].values if "stimuli" in response.coords else response.attrs.get("stimuli", ())
    flat = [found] if isinstance(found, str) else np.ravel(np.asarray(found, dtype=object)).tolist()
    return {str(digest) for digest in flat if isinstance(digest, str) and digest}
