"""Representational similarity analysis (Kriegeskorte et al. 2008): which stimuli a population tells apart.

Dissimilarities of stimuli i and j with responses x_i, x_j over p neurons:

* ``correlation``: 1 - Pearson correlation over neurons
* ``squared_euclidean``: ``|x_i - x_j|^2 / p``
* ``crossnobis`` (Walther et al. 2016), of images i and j with the views a, b of each as independent measurements, the mean
  over a != b of ``(x_i^a - x_j^a)' S (x_i^b - x_j^b) / p`` with S the precision of the noise: unbiased, 0 on average for
  images that evoke the same mean response, and sometimes negative

How they are compared: `analysis.rdm_comparison`. Values agree with rsatoolbox (van den Bosch et al. 2025) where it computes
the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.crossing import Measure
from analysis.rdm_comparison import SECOND, comparison_measure, core_of, pairs_of
from analysis.representation_arrays import Undefined, as_responses, described, each, in_words, leading, matrix
from analysis.stimuli import codes, first_views, groups_of
from neurossl.errors import OptionError
from neurossl.surroundings import imported

LARGEST = 1e150
METRICS = ("correlation", "squared_euclidean", "crossnobis")
ALIKE = "stimuli that evoke the same response in all neurons have no correlation: use squared_euclidean"


def dissimilarity(
    response: Any, metric: str = "correlation", *, images: Any = None, precision: np.ndarray | str | None = None
) -> xr.DataArray:
    """Return how differently a population responds to each two stimuli; equations and sources above.

    Parameters
    ----------
    response : DataArray (..., stimulus, neuron) or array (stimuli, neurons)
    metric : str
        correlation, squared_euclidean or crossnobis.
    images : array, (stimuli,), optional
        For crossnobis: which image each stimulus shows; the coordinate ``image`` by default. All images have equally many
        views.
    precision : array (neurons, neurons) or "diagonal", optional
        For crossnobis: the inverse covariance of the noise (views about their image's mean); ``"diagonal"`` estimates one
        variance per neuron; the identity by default.

    Returns
    -------
    DataArray
        (..., stimulus, stimulus_2), for crossnobis (..., image, image_2), symmetric; where undefined NaN, with the reason in
        ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        For an unknown metric, no views, or a precision of another size.
    """
    response = as_responses(response)
    if metric not in METRICS:
        raise OptionError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    if precision is not None and metric != "crossnobis":
        raise OptionError(f"precision: goes with metric='crossnobis', got {metric!r}")
    views = None
    if metric == "crossnobis":
        shown = groups_of(response, images, "image", "crossnobis")
        views = _view_places(shown)
        _check_precision(precision, response.sizes["neuron"])
        kept = first_views(shown)
        labels = {"image": shown[kept]}
        labels |= {"label": response["label"].values[kept]} if "label" in response.coords else {}
        dim = "image"
    else:
        dim = "stimulus"
        labels = {name: response[name].values for name in (dim, "image", "label") if name in response.coords}
    count = len(views[0]) if views is not None else response.sizes[dim]
    before = leading(response)
    result = np.full([*(response.sizes[d] for d in before), count, count], np.nan)
    reasons: dict[str, str] = {}
    for place in each(response):
        try:
            values, present = matrix(response, place)
            if metric == "correlation":
                found, alike = _correlation(values)
                if alike:
                    reasons[described(response, place)] = f"{alike} {ALIKE}"
            elif views is None:
                found = _squared(values)
            else:
                own = precision if not isinstance(precision, np.ndarray) else precision[np.ix_(present, present)]
                found = _crossnobis(np.stack([values[v] for v in views]), own)
            result[tuple(place.values())] = found
        except Undefined as reason:
            reasons[described(response, place)] = str(reason)
    coords: dict[Any, Any] = {n: c.variable for n, c in response.coords.items() if set(c.dims) <= set(before)}
    coords.update({name: (dim, values) for name, values in labels.items()})
    if dim in labels:
        coords[dim + SECOND] = (dim + SECOND, labels[dim])
    attrs: dict[str, Any] = {"long_name": f"{metric} dissimilarity", "metric": metric, "units": "1"}
    attrs |= {"stimuli": response.attrs["stimuli"]} if "stimuli" in response.attrs else {}
    attrs |= {"undefined": in_words(reasons)} if reasons else {}
    return xr.DataArray(result, coords, [*before, dim, dim + SECOND], "dissimilarity", attrs)


def to_rsatoolbox(rdm: xr.DataArray) -> Any:
    """Return dissimilarities as ``rsatoolbox.rdm.RDMs``, leading dims as descriptors of the matrices.

    Raises
    ------
    TrajectoryError
        If this is no matrix of dissimilarities.
    ModuleNotFoundError
        If rsatoolbox is not installed.
    """
    dims = core_of(rdm)
    try:
        rdms = imported("rsatoolbox.rdm")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("rsatoolbox is not installed: pip install rsatoolbox") from None
    flat = rdm.transpose(..., *dims)
    before = [str(dim) for dim in flat.dims if dim not in dims]
    places = list(np.ndindex(*(flat.sizes[dim] for dim in before)))
    vectors = np.stack([pairs_of(flat.values[place]) for place in places])
    own = {
        dim: [flat[dim].values[place[i]].item() if dim in flat.coords else place[i] for place in places]
        for i, dim in enumerate(before)
    }
    patterns = {
        str(name): [str(value) if isinstance(value, np.str_) else value for value in coord.values]
        for name, coord in flat.coords.items()
        if coord.dims == (dims[0],)
    }
    return rdms.RDMs(
        vectors,
        dissimilarity_measure=str(rdm.attrs.get("metric", "")),
        rdm_descriptors=own,
        pattern_descriptors=patterns or None,
    )


def rsa_measure(metric: str = "correlation", comparison: str = "spearman") -> Measure:
    """Return the comparison of matrices of dissimilarities as a `Measure` of representations."""
    compared = comparison_measure(comparison)
    if metric not in ("correlation", "squared_euclidean"):
        raise OptionError(
            f"metric: expected correlation or squared_euclidean, got {metric!r} (crossnobis: dissimilarity, then compare)"
        )

    def prepare(values: np.ndarray) -> Any:
        if metric == "squared_euclidean":
            return compared.prepare(pairs_of(_squared(values)))
        found, alike = _correlation(values)
        if alike:
            raise Undefined(f"{alike} {ALIKE}")
        return compared.prepare(pairs_of(found))

    return Measure(f"RSA ({metric} dissimilarities, {comparison})", prepare, compared.compare)


def _correlation(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return 1 - correlation, and how many stimuli have none."""
    if values.shape[1] < 2:
        raise Undefined("one neuron: no correlation over neurons")
    alike = values.max(1) == values.min(1)
    x = values / np.maximum(np.abs(values).max(1, keepdims=True), np.finfo(float).tiny)
    x -= x.mean(1, keepdims=True)
    x[alike] = np.nan
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = 1 - x @ x.T
    np.fill_diagonal(found, np.where(alike, np.nan, 0.0))
    return found, int(alike.sum())


def _squared(values: np.ndarray) -> np.ndarray:
    x = values - values.mean(0)
    if np.abs(x).max() > LARGEST:
        raise Undefined(f"responses beyond {LARGEST:g}: their squares are infinite")
    gram = x @ x.T
    power = np.diag(gram)
    found = np.maximum(power[:, None] + power - gram - gram.T, 0) / values.shape[1]
    np.fill_diagonal(found, 0)
    return found


def _view_places(images: np.ndarray) -> np.ndarray:
    """Return the places of the first, the second, ... view of every image, (views, images)."""
    place = codes(images)
    counts = np.bincount(place)
    if counts.min() != counts.max() or counts[0] < 2 or len(counts) < 2:
        raise OptionError(
            f"crossnobis: expected at least two images with equally many views, two or more, got {len(counts)} with "
            f"{counts.min()} to {counts.max()}"
        )
    return np.argsort(place, kind="stable").reshape(len(counts), -1).T


def _check_precision(precision: Any, neurons: int) -> None:
    right = precision is None or (isinstance(precision, str) and precision == "diagonal")
    if not right and np.shape(precision) != (neurons, neurons):
        said = repr(precision) if isinstance(precision, str) else f"shape {np.shape(precision)}"
        raise OptionError(f"precision: expected 'diagonal' or an array ({neurons}, {neurons}), got {said}")


def _crossnobis(x: np.ndarray, precision: np.ndarray | str | None) -> np.ndarray:
    """Return the crossnobis dissimilarities of (views, images, neurons)."""
    views, images, neurons = x.shape
    if np.abs(x).max() > LARGEST:
        raise Undefined(f"responses beyond {LARGEST:g}: their squares are infinite")
    if isinstance(precision, str):
        deviations = x - x.mean(0)
        variance = np.square(deviations).sum((0, 1)) / (images * (views - 1))
        if not (variance > 0).all():
            raise Undefined(f"{int((variance <= 0).sum())} neurons do not vary between the views of an image: no precision")
        whitened = x / variance
    else:
        whitened = x if precision is None else x @ np.asarray(precision, dtype=np.float64)
    total, whitened_total = x.sum(0), whitened.sum(0)
    # Over all ordered pairs of different views: all pairs less those of a view with itself.
    kernel = whitened_total @ total.T - np.einsum("vip,vjp->ij", whitened, x, optimize=True)
    kernel /= views * (views - 1)
    own = np.diag(kernel)
    found = (own[:, None] + own - kernel - kernel.T) / neurons
    np.fill_diagonal(found, 0)
    return found
