"""Whether a population responds alike to the views of one image, and differently to other images.

* ``invariance``: the share of the variance between images, ``s_b^2 / (s_b^2 + s_w^2)`` summed over neurons, with the
  unbiased variance components of a one-way analysis of variance, the intraclass correlation ICC(1) (Shrout & Fleiss 1979):
  1 if views make no difference, 0 if an image's views are no more alike than those of different images, whatever the number
  of views; can be negative.
* ``between_share``: the plain ratio of between-image to total sum of squares, which is ``(m - 1)/(n - 1)`` by chance, m
  images, n stimuli.
* ``cosine_within``, ``cosine_between``: mean cosine of the responses to two views of one image, and to two stimuli of
  different images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.representation_arrays import Undefined, as_responses, measured
from analysis.stimuli import codes, groups_of
from analysis.variance import variance_of
from neurossl.errors import OptionError

OUTPUTS = {
    "invariance": "share of the variance that is between images (ICC(1))",
    "between_share": "between-image over total sum of squares, uncorrected",
    "cosine_within": "mean cosine of responses to two views of one image",
    "cosine_between": "mean cosine of responses to stimuli of different images",
}


def invariance_across_views(response: Any, images: Any = None) -> xr.Dataset:
    """Return how alike the responses to the views of one image are; equations and sources above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    images : array, (stimuli,), optional
        Which image each stimulus shows; the coordinate ``image`` by default.

    Returns
    -------
    Dataset
        invariance, between_share, cosine_within, cosine_between, with the leading dims; NaN where undefined, with the
        reason in ``attrs["undefined"]`` of each. Stimuli without any response have no cosine and are left out of those.

    Raises
    ------
    OptionError
        If nothing says which image is shown, or no image has two views.
    TrajectoryError
        If these are no responses.
    """
    response = as_responses(response)
    shown = groups_of(response, images, "image", "invariance_across_views")
    place = codes(shown)
    count = int(place.max()) + 1
    if count == len(place) or count < 2:
        raise OptionError(
            f"invariance_across_views: expected several images, some with several views, got {count} images in "
            f"{len(place)} stimuli"
        )
    found = measured(response, lambda values: _measures(values, place), dict.fromkeys(OUTPUTS))
    for name, meaning in OUTPUTS.items():
        found[name].attrs |= {"long_name": meaning, "units": "1"}
    return found.assign_attrs(images=count)


def _measures(values: np.ndarray, place: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        variance = variance_of(values, place, what="image")
        component, within = variance.component.sum(), variance.error.sum()
        found["invariance"] = float(component / (component + within))
        found["between_share"] = float(variance.between.sum() / (variance.between.sum() + variance.within.sum()))
    except Undefined as reason:
        found |= {"invariance": reason, "between_share": reason}
    return found | _cosines(values, place)


def _cosines(values: np.ndarray, place: np.ndarray) -> dict[str, Any]:
    largest = float(np.abs(values).max())
    values = values / largest if largest > 0 else values
    norms = np.linalg.norm(values, axis=1)
    active = norms > 0
    unit, place = values[active] / norms[active, None], codes(place[active])
    if not len(unit):
        reason = Undefined("no stimulus evokes a response")
        return {"cosine_within": reason, "cosine_between": reason}
    sums = np.zeros((int(place.max()) + 1, unit.shape[1]))
    np.add.at(sums, place, unit)
    views = np.bincount(place)
    # The squared length of a sum of unit vectors is the sum of all their cosines, those with themselves included.
    within, everything = float(np.square(sums).sum()), float(np.square(sums.sum(0)).sum())
    pairs_within, pairs = int((views * (views - 1)).sum()), len(unit) * (len(unit) - 1)
    few = Undefined("no two views of one image evoke a response"), Undefined("one image evokes responses")
    return {
        "cosine_within": (within - len(unit)) / pairs_within if pairs_within else few[0],
        "cosine_between": (everything - within) / (pairs - pairs_within) if pairs > pairs_within else few[1],
    }
