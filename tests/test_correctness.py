"""Noise of the test set: McNemar against statsmodels, a bootstrap of images, seeds and images together; coverage."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analysis.correctness import clustered_bootstrap, mcnemar, seeds_and_images
from neurossl.errors import OptionError


def answers(rng: np.random.Generator, images: int, views: int = 4, easy: float = 1.0, shift: float = 0.5) -> xr.DataArray:
    """Make up answers to views of images, some of which are easier than others."""
    chance = stats.norm.cdf(shift + easy * rng.normal(size=images))
    image = np.repeat(np.arange(images), views)
    right = (rng.random(images * views) < chance[image]).astype("int8")
    order = rng.permutation(images * views)  # stimuli need not be sorted by image
    coords = {"stimulus": np.arange(images * views)[order], "image": ("stimulus", image[order])}
    return xr.DataArray(right[order], coords, ["stimulus"], attrs={"stimuli": "abc"})


def test_mcnemar_is_statsmodels_exact_test() -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(0)
    a = answers(rng, 200, 1).expand_dims(population=["V1", "V2"]).copy()
    b = a.copy(data=np.where(rng.random(a.shape) < 0.15, rng.random(a.shape) < 0.3, a.values))
    found = mcnemar(a, b.isel(stimulus=rng.permutation(200)))
    for place, population in enumerate(("V1", "V2")):
        x, y = a.values[place], b.values[place]
        table = [[np.sum((x == i) & (y == j)) for j in (1, 0)] for i in (1, 0)]
        one = found.sel(population=population)
        assert float(one["p"]) == pytest.approx(tables.mcnemar(table, exact=True).pvalue)
        assert (int(one["only_a"]), int(one["only_b"])) == (table[0][1], table[1][0])
        assert float(one["difference"]) == pytest.approx(x.mean() - y.mean())
    assert float(mcnemar(a, a)["p"][0]) == 1
    missing = mcnemar(a.where(a["stimulus"] >= 50), b)
    assert (int(missing["n"][0]), int(missing["left_out"][0])) == (150, 50)


def test_mcnemar_refuses_what_it_is_not_made_for() -> None:
    rng = np.random.default_rng(1)
    views, single = answers(rng, 50, 4), answers(rng, 50, 1)
    with pytest.raises(OptionError, match="200 views of 50 images: choose one view"):
        mcnemar(views, views)
    with pytest.raises(OptionError, match="different stimuli"):
        mcnemar(single, single.assign_attrs(stimuli="xyz"))
    with pytest.raises(OptionError, match="in the first alone"):
        mcnemar(single, single.isel(stimulus=slice(0, 40)))
    with pytest.raises(OptionError, match=r"right\) or 0"):
        mcnemar(single, single * 0.5 + 0.1)


def test_the_bootstrap_of_images_is_that_of_scipy_and_repeats_itself() -> None:
    single = answers(np.random.default_rng(2), 120, 1)
    both = xr.concat([single, 1 - single], xr.DataArray(["V1", "V2"], dims="population"))
    for method in ("BCa", "percentile"):
        found = clustered_bootstrap(both, generator=7, method=method)
        by_image = single.sortby("image").values.astype(float)
        theirs = stats.bootstrap((by_image,), np.mean, n_resamples=2000, method=method, rng=np.random.default_rng(7))
        interval = theirs.confidence_interval
        one = found.sel(population="V1")
        assert (float(one["low"]), float(one["high"])) == pytest.approx(tuple(interval))
        assert float(one["standard_error"]) == pytest.approx(theirs.standard_error)
        assert float(one["mean"]) == pytest.approx(single.mean())
        assert found.identical(clustered_bootstrap(both, generator=7, method=method))
    # All cells are resampled alike: the complement mirrors.
    percentile = clustered_bootstrap(both, method="percentile")
    assert float(percentile["low"][0]) == pytest.approx(1 - float(percentile["high"][1]), abs=0.01)
    assert float(percentile["standard_error"][0]) == pytest.approx(float(percentile["standard_error"][1]))
    generator = np.random.default_rng(5)
    assert not clustered_bootstrap(both, generator=generator).identical(clustered_bootstrap(both, generator=generator))


def test_views_of_an_image_are_no_independent_stimuli() -> None:
    one = answers(np.random.default_rng(3), 100, 1)
    copies = xr.concat([one.assign_coords(stimulus=one["stimulus"] + 1000 * k) for k in range(6)], "stimulus")
    honest, naive = clustered_bootstrap(copies), clustered_bootstrap(copies, cluster=None)
    assert float(honest["standard_error"]) == pytest.approx(float(clustered_bootstrap(one)["standard_error"]))
    assert float(honest["standard_error"]) / float(naive["standard_error"]) == pytest.approx(math.sqrt(6), rel=0.1)
    assert (int(honest["clusters"]), int(honest["n"])) == (100, 600)


def test_a_bootstrap_of_a_few_is_refused_and_one_of_the_same_says_nothing() -> None:
    seeds = xr.DataArray([0.81, 0.83, 0.8], {"seed": [0, 1, 2]}, ["seed"])
    with pytest.raises(OptionError, match="bootstrap of 3 seeds is worthless"):
        clustered_bootstrap(seeds, dim="seed", cluster=None)
    right = answers(np.random.default_rng(4), 30) * 0 + 1
    found = clustered_bootstrap(right)
    assert float(found["mean"]) == 1
    assert math.isnan(found["low"])
    with pytest.raises(OptionError, match="no coordinate 'picture'"):
        clustered_bootstrap(right, cluster="picture")
    with pytest.raises(OptionError, match="nothing along 'stimuli'"):
        clustered_bootstrap(right, dim="stimuli")
    with pytest.raises(OptionError, match="'percentile'"):
        clustered_bootstrap(right, method="basic")
    empty = clustered_bootstrap(answers(np.random.default_rng(4), 30).where(False))
    assert (int(empty["n"]), int(empty["left_out"])) == (0, 120)
    assert math.isnan(empty["mean"])


def test_why_a_bootstrap_of_three_seeds_is_refused() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(400, 3))
    interval = stats.bootstrap((drawn,), np.mean, axis=1, method="percentile", n_resamples=500, rng=rng).confidence_interval
    covered = np.mean((interval.low < 0) & (interval.high > 0))
    student = stats.t.interval(0.95, 2, drawn.mean(1), stats.sem(drawn, axis=1))
    assert covered < 0.8
    assert np.mean((student[0] < 0) & (student[1] > 0)) > 0.92


def test_intervals_of_images_cover_the_truth() -> None:
    rng = np.random.default_rng(6)
    truth = float(stats.norm.cdf(0.5 / math.sqrt(2)))  # mean over images of cdf(0.5 + z)
    covered = {"image": 0, None: 0}
    trials = 150
    for _ in range(trials):
        found = answers(rng, 60, 8)
        for cluster in covered:
            one = clustered_bootstrap(found, cluster=cluster, resamples=400, generator=rng)
            covered[cluster] += bool(one["low"] < truth < one["high"])
    assert covered["image"] / trials > 0.88
    assert covered[None] / trials < 0.8, "views taken for images are too sure"


def crossed(rng: np.random.Generator, seeds: int, images: int, s: float, i: float, rest: float) -> xr.DataArray:
    values = s * rng.normal(size=(seeds, 1)) + i * rng.normal(size=(1, images)) + rest * rng.normal(size=(seeds, images))
    coords = {"seed": range(seeds), "stimulus": range(images), "image": ("stimulus", np.arange(images))}
    return xr.DataArray(values, coords, ["seed", "stimulus"])


def test_seeds_and_images_vary_together() -> None:
    rng = np.random.default_rng(7)
    covered = {"half_width": 0, "half_width_seeds": 0, "half_width_images": 0}
    trials = 400
    for _ in range(trials):
        found = seeds_and_images(crossed(rng, 5, 40, 0.3, 1.2, 1.0))
        for name in covered:
            covered[name] += bool(abs(found["mean"]) < found[name])
    assert 0.92 < covered["half_width"] / trials < 0.985
    assert covered["half_width_seeds"] / trials < 0.9, "another seed on the same images is the smaller question"
    assert covered["half_width_images"] / trials < 0.93


def test_seeds_and_images_are_the_analysis_of_variance() -> None:
    x = crossed(np.random.default_rng(8), 4, 30, 0.5, 1.0, 1.0)
    found = seeds_and_images(x)
    values = x.values
    by_seed = 30 * values.mean(1).var(ddof=1)
    by_image = 4 * values.mean(0).var(ddof=1)
    rest = (values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()).ravel()
    error = (rest**2).sum() / (3 * 29)
    variance = (by_seed + by_image - error) / 120
    freedom = (by_seed + by_image - error) ** 2 / (by_seed**2 / 3 + by_image**2 / 29 + error**2 / 87)
    assert float(found["half_width"]) == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(variance))
    assert float(found["mean"]) == pytest.approx(values.mean())
    assert (int(found["n"]), int(found["images"])) == (4, 30)
    views = xr.concat([x, x.assign_coords(stimulus=x["stimulus"] + 100)], "stimulus")
    assert float(seeds_and_images(views)["half_width"]) == pytest.approx(float(found["half_width"]))
    same = seeds_and_images(x.expand_dims(population=["V1"]).isel(population=[0]))
    assert float(same["half_width"][0]) == pytest.approx(float(found["half_width"]))


def test_seeds_that_saw_other_images_are_refused() -> None:
    x = crossed(np.random.default_rng(9), 2, 40, 0.5, 1.0, 1.0)
    nested = x.where((x["seed"] == 0) == (x["stimulus"] < 20))
    with pytest.raises(OptionError, match=r"0 images in common.*interval over seeds holds both"):
        seeds_and_images(nested)
    partly = seeds_and_images(x.where((x["seed"] == 0) | (x["stimulus"] < 30)))
    assert (int(partly["images"]), int(partly["images_left_out"])) == (30, 10)
    with pytest.raises(OptionError, match="1 seed: what another seed"):
        seeds_and_images(x.isel(seed=[0]))
    with pytest.raises(OptionError, match="no dimension 'seed'"):
        seeds_and_images(x.isel(seed=0))
