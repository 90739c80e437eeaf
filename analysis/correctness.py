"""How sure an accuracy is, given the images that it was measured on: from the answer of a probe to every test stimulus.

Another test set would give another accuracy, whatever the seed. Views of one image stand or fall together, so that the
image is the unit. Three questions, three answers:

* do two readouts differ on these very stimuli? `mcnemar` (one answer per image),
* how far would the accuracy of this network move with other images? `clustered_bootstrap`,
* how far would it move with other images *and* another seed? `seeds_and_images`. An interval over seeds alone, on the same
  images, answers for the seeds alone.

Answers are what `/correctness/<population>` of a run holds: 1 right, 0 wrong, NaN not asked, along ``stimulus``.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from analysis.inference import matched
from analysis.statistics import student_half_width
from neurossl.errors import OptionError, TrajectoryError
from neurossl.surroundings import imported

FEWEST = 8
"""Units below which a bootstrap is refused: an interval from three is a 95 % interval in name, and covers 2 of 3 times."""
AT_ONCE = 2**21
"""Numbers that a bootstrap draws at a time."""


def mcnemar(a: xr.DataArray, b: xr.DataArray, dim: str = "stimulus", cluster: str = "image") -> xr.Dataset:
    """Return whether two readouts differ on the same stimuli, by McNemar's exact test.

    Of the stimuli that one alone answers rightly, half would go to either if they were equally good; the p-value is that of
    a two-sided binomial test (McNemar 1947, `scipy.stats.binomtest`).

    Parameters
    ----------
    a, b : DataArray, (..., stimulus), 1 right, 0 wrong, NaN not asked
    dim : str
    cluster : str
        Coordinate along ``dim`` of what the stimuli are views of; each may occur once.

    Returns
    -------
    Dataset
        ``difference`` of the accuracies, ``only_a`` and ``only_b`` (stimuli that one alone gets right), ``p``, ``n`` and
        ``left_out``.

    Raises
    ------
    OptionError
        If the stimuli are not the same, an answer is neither 0 nor 1, or several stimuli are views of one image: they are
        not independent, and the test would be too sure.
    """
    _same_stimuli(a, b)
    first, second = matched(a, b, dim)
    for answers in (first, second):
        _require_answers(answers)
    if cluster in first.coords:
        views, units = first[cluster].size, len(np.unique(first[cluster].values))
        if units < views:
            raise OptionError(
                f"McNemar's test needs independent stimuli, and there are {views} views of {units} {cluster}s: choose one "
                "view of each, or use clustered_bootstrap of the difference"
            )
    first, second = xr.broadcast(first.reset_coords(drop=True), second.reset_coords(drop=True))
    whole = np.isfinite(first) & np.isfinite(second)
    only_a = ((first == 1) & (second == 0)).sum(dim)
    only_b = ((first == 0) & (second == 1)).sum(dim)
    n = whole.sum(dim)
    binomtest = imported("scipy.stats").binomtest

    def p(mine: int, theirs: int) -> float:
        return float(binomtest(int(mine), int(mine + theirs), 0.5).pvalue) if mine + theirs else 1.0

    tested = xr.apply_ufunc(p, only_a, only_b, vectorize=True, output_dtypes=[float]).where(n > 0)
    difference = (only_a - only_b) / n.where(n > 0)
    found = {"difference": difference, "only_a": only_a, "only_b": only_b, "p": tested, "n": n}
    return xr.Dataset({**found, "left_out": first.sizes[dim] - n}, attrs={"test": "McNemar, exact"})


def clustered_bootstrap(
    values: xr.DataArray,
    cluster: str | None = "image",
    dim: str = "stimulus",
    generator: int | np.random.Generator = 0,
    resamples: int = 2000,
    method: str = "BCa",
    level: float = 0.95,
) -> xr.Dataset:
    """Return the mean over stimuli and its interval, resampling whole images with all their views.

    The bootstrap of Efron (1987) by `scipy.stats.bootstrap`, with clusters as the units. All cells (rules, populations,
    ...) are resampled alike.

    Parameters
    ----------
    values : DataArray, (..., stimulus)
        Answers (1 right, 0 wrong), or a difference of two readouts' answers to the same stimuli; NaN is left out.
    cluster : str or None
        Coordinate along ``dim`` that names the unit; None where each entry is one.
    dim : str
    generator : int or numpy.random.Generator
        The same one gives the same interval.
    resamples : int
    method : str
        "BCa" (corrected for bias and acceleration) or "percentile".
    level : float

    Returns
    -------
    Dataset
        ``mean``, ``low``, ``high``, ``standard_error``, ``clusters``, ``n`` and ``left_out``. Where all clusters are alike,
        such as all answers right, a bootstrap says nothing: NaN.

    Raises
    ------
    OptionError
        If there are fewer than `FEWEST` units, or no such dimension, coordinate or method.
    """
    methods = {"bca": "BCa", "percentile": "percentile"}
    if method.lower() not in methods:
        raise OptionError(f"method must be 'BCa' or 'percentile', got {method!r}")
    if not 0 < level < 1 or resamples < 1:
        raise OptionError(f"a level between 0 and 1 and at least one resample are needed, got {level!r} and {resamples!r}")
    sums, counts = _per_cluster(values, dim, cluster)
    units = sums.sizes["unit"]
    what = cluster or dim
    if units < FEWEST:
        raise OptionError(
            f"a bootstrap of {units} {what}s is worthless: so few can hardly be resampled, and a 95 % interval would miss "
            f"the truth far more often than 1 in 20 times (at least {FEWEST} are needed; over seeds use paired_difference "
            "or over_seeds, which know Student's t)"
        )
    seed = int(generator.integers(2**63)) if isinstance(generator, np.random.Generator) else int(generator)
    rows = [part.values.reshape(-1, units) for part in (sums, counts)]
    found = _bootstrap(rows[0], rows[1], seed, resamples, methods[method.lower()], level)
    shape, others = sums.shape[:-1], sums.dims[:-1]
    n = counts.sum("unit").astype(int)
    cells = {name: (others, found[:, place].reshape(shape)) for place, name in enumerate(("low", "high", "standard_error"))}
    return xr.Dataset(
        {
            "mean": sums.sum("unit") / n.where(n > 0),
            **cells,
            "clusters": (counts > 0).sum("unit"),
            "n": n,
            "left_out": values.sizes[dim] - n,
        },
        attrs={"units_resampled": what, "method": methods[method.lower()], "resamples": resamples, "level": level},
    )


def _bootstrap(sums: np.ndarray, counts: np.ndarray, seed: int, resamples: int, method: str, level: float) -> np.ndarray:
    """Return low, high and standard error of the ratio of sums per row, (rows, 3)."""
    stats = imported("scipy.stats")
    cells, units = sums.shape
    batch = max(1, AT_ONCE // units)
    found = np.full((cells, 3), np.nan)

    def ratio(total: np.ndarray, count: np.ndarray, axis: int = -1) -> np.ndarray:
        return total.sum(axis) / count.sum(axis)

    for cell in range(cells):
        shown = counts[cell] > 0
        means = sums[cell][shown] / counts[cell][shown]
        if shown.sum() < FEWEST or np.ptp(means) == 0:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            drawn = stats.bootstrap(
                (sums[cell], counts[cell]),
                ratio,
                paired=True,
                vectorized=True,
                n_resamples=resamples,
                batch=batch,
                method=method,
                confidence_level=level,
                rng=np.random.default_rng(seed),  # all cells alike
            )
        interval = drawn.confidence_interval
        found[cell] = interval.low, interval.high, drawn.standard_error
    return found


def seeds_and_images(
    values: xr.DataArray, seed: str = "seed", dim: str = "stimulus", cluster: str | None = "image"
) -> xr.Dataset:
    """Return the mean and its interval for another seed and other images at once.

    Each seed has answered to each image, so that the two sources cross: ``x_si = mean + seed_s + image_i + rest_si``, and
    ``var(mean) = var_seed / S + var_image / I + var_rest / (S I)``, from the mean squares of a two-way analysis of variance
    without replication; degrees of freedom by Satterthwaite (Gallas 2006; Hillis 2007: many readers, many cases).

    Parameters
    ----------
    values : DataArray, (..., seed, stimulus)
        Answers, or differences of two rules' answers for the same seed and stimulus.
    seed, dim : str
    cluster : str or None
        Coordinate along ``dim`` of the image; views of one image are averaged first.

    Returns
    -------
    Dataset
        ``mean``, ``half_width`` (95 %, seeds and images), ``half_width_seeds`` (another seed on these images, Student's t),
        ``half_width_images`` (other images for these networks), ``share_of_seeds`` (of the variance of the mean), ``n``
        seeds, ``images`` that all of them have seen and ``images_left_out``.

    Raises
    ------
    OptionError
        If there are fewer than two seeds or `FEWEST` images that all seeds have seen.
    """
    if seed not in values.dims:
        raise OptionError(f"there is no dimension {seed!r}: for one network use clustered_bootstrap")
    sums, counts = _per_cluster(values, dim, cluster)
    with np.errstate(invalid="ignore"):
        means = (sums / counts.where(counts > 0)).transpose(..., seed, "unit")
    shown = means.notnull()
    begun = shown.any("unit").any([d for d in means.dims if d not in (seed, "unit")])  # a seed that nobody has is no seed
    means, shown = means.sel({seed: begun.values}), shown.sel({seed: begun.values})
    common = shown.all([d for d in means.dims if d != "unit"]).values
    seeds, images = means.sizes[seed], int(common.sum())
    if seeds < 2:
        raise OptionError(
            f"{seeds} seed{'s' * (seeds != 1)}: what another seed would give cannot be said; use clustered_bootstrap"
        )
    if images < FEWEST:
        raise OptionError(
            f"all seeds have seen {images} {cluster or dim}s in common, and {FEWEST} at least are needed: where every seed "
            "has images of its own, the interval over seeds holds both already (over_seeds)"
        )
    x = means.isel(unit=common)
    grand, of_seed, of_image = x.mean([seed, "unit"]), x.mean("unit"), x.mean(seed)
    by_seed = images * ((of_seed - grand) ** 2).sum(seed) / (seeds - 1)
    by_image = seeds * ((of_image - grand) ** 2).sum("unit") / (images - 1)
    rest = ((x - of_seed - of_image + grand) ** 2).sum([seed, "unit"]) / ((seeds - 1) * (images - 1))
    cells = seeds * images
    images_alone = (by_image - rest).clip(0)
    variance = (by_seed + images_alone) / cells
    freedom = (by_seed + images_alone) ** 2 / (
        by_seed**2 / (seeds - 1) + (images_alone > 0) * (by_image**2 / (images - 1) + rest**2 / ((seeds - 1) * (images - 1)))
    )
    t = imported("scipy.stats").t
    quantile = xr.apply_ufunc(t.ppf, 0.975, freedom)
    return xr.Dataset(
        {
            "mean": grand,
            "half_width": quantile * np.sqrt(variance),
            "half_width_seeds": xr.apply_ufunc(student_half_width, of_seed.std(seed, ddof=1), seeds),
            "half_width_images": xr.apply_ufunc(student_half_width, of_image.std("unit", ddof=1), images),
            "share_of_seeds": by_seed / cells / variance.where(variance > 0),
        }
    ).assign(n=seeds, images=images, images_left_out=int(len(common) - images))


def _per_cluster(values: xr.DataArray, dim: str, cluster: str | None) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the sum and the number of values per cluster, (..., unit)."""
    if dim not in values.dims or not values.sizes[dim]:
        raise OptionError(f"there is nothing along {dim!r}; there are {', '.join(map(str, values.dims)) or 'none'}")
    if cluster is None:
        unit = np.arange(values.sizes[dim])
    elif cluster not in values.coords or values.coords[cluster].dims != (dim,):
        raise OptionError(
            f"there is no coordinate {cluster!r} along {dim!r}: name the one that says which stimuli belong together, or "
            "cluster=None where each stands for itself"
        )
    else:
        unit = np.unique(values.coords[cluster].values, return_inverse=True)[1]
    others: list[Hashable] = [d for d in values.dims if d != dim]
    plain = values.drop_vars([n for n, c in values.coords.items() if dim in c.dims]).transpose(*others, dim).astype(float)
    finite = np.isfinite(plain.values)
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    coords, dims = dict(plain.coords), [*others, "unit"]

    def added(numbers: np.ndarray) -> xr.DataArray:
        return xr.DataArray(np.add.reduceat(numbers[..., order], starts, axis=-1), coords, dims)

    return added(np.where(finite, plain.values, 0.0)), added(finite.astype(float))


def _require_answers(answers: xr.DataArray) -> None:
    values = np.asarray(answers.values, dtype=float)
    wrong = np.isfinite(values) & (values != 0) & (values != 1)
    if wrong.any():
        raise OptionError(f"answers are 1 (right) or 0 (wrong), got {values[wrong][0]:g}")


def _same_stimuli(a: xr.DataArray, b: xr.DataArray) -> None:
    one, other = a.attrs.get("stimuli"), b.attrs.get("stimuli")
    if one is not None and other is not None and one != other:
        raise OptionError(f"these are answers to different stimuli (digests {one} and {other}): they cannot be compared")


def answers_beside(runs: Mapping[int, xr.DataTree], population: str, readout: str = "probe") -> xr.DataArray:
    """Return the answers of several runs after learning side by side, (seed, stimulus), for `seeds_and_images`.

    Parameters
    ----------
    runs : mapping of seed to DataTree
        Each of one run that stored ``/correctness``.
    population : str
    readout : str
        "probe" or "nearest_neighbour".

    Returns
    -------
    DataArray
        1 right, 0 wrong, NaN where a seed was not asked; ``image`` along stimulus. Views of an image may differ between
        seeds: that is part of what another seed would change.

    Raises
    ------
    TrajectoryError
        If a run has no such answers, or one stimulus is a view of different images.
    """
    found = []
    for seed, tree in runs.items():
        groups = tree.children["correctness"].children if "correctness" in tree.children else {}
        named = {str(group.attrs.get("name", group.attrs.get("population", key))): group for key, group in groups.items()}
        if population not in named or readout not in named[population].data_vars:
            raise TrajectoryError(
                f"seed {seed}: no answers of {readout!r} in {population!r} were recorded stimulus by stimulus"
            )
        last = named[population][readout].isel(snapshot=-1)
        kept = [name for name in ("stimulus", "image") if name in last.coords]
        last = last.drop_vars([name for name in last.coords if name not in kept])
        found.append(last.astype(float).load().assign_coords(seed=seed))
    try:
        return xr.concat(found, "seed", join="outer", coords="different", compat="no_conflicts", combine_attrs="drop")
    except xr.MergeError:
        raise TrajectoryError("a stimulus is a view of one image in one run and of another in the next") from None
