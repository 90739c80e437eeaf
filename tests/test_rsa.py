"""Dissimilarities and their comparison against rsatoolbox, scipy and the definitions."""

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import xarray as xr
from responses import labelled, tree_of_runs

from analysis import average_views, cka, compare_dissimilarities, dissimilarity, similarity, to_rsatoolbox
from neurossl.errors import OptionError, TrajectoryError


def responses(n=12, p=9, seed=0, **options):
    return labelled(np.random.default_rng(seed).normal(size=(n, p)) + 0.5, **options)


def upper(square):
    return np.asarray(square)[np.triu_indices(len(square), 1)]


def rsatoolbox_dataset(response):
    data = pytest.importorskip("rsatoolbox.data")
    descriptors = {"image": response["image"].values, "stimulus": response["stimulus"].values}
    return data.Dataset(np.array(response.values), obs_descriptors=descriptors)


@pytest.mark.parametrize(("metric", "theirs"), [("correlation", "correlation"), ("squared_euclidean", "euclidean")])
def test_dissimilarities_are_those_of_rsatoolbox(metric, theirs):
    rdm = pytest.importorskip("rsatoolbox.rdm")
    x = responses()
    found = dissimilarity(x, metric)
    expected = rdm.calc_rdm(rsatoolbox_dataset(x), theirs, descriptor="stimulus").get_matrices()[0]
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert found.dims == ("stimulus", "stimulus_2")
    assert found["stimulus_2"].values.tolist() == x["stimulus"].values.tolist()
    assert found["label"].values.tolist() == x["label"].values.tolist()


@pytest.mark.parametrize(("metric", "theirs"), [("correlation", "correlation"), ("squared_euclidean", "sqeuclidean")])
def test_dissimilarities_are_those_of_scipy(metric, theirs):
    x = np.random.default_rng(0).normal(size=(15, 6))
    expected = scipy.spatial.distance.pdist(x, theirs) / (6 if metric == "squared_euclidean" else 1)
    np.testing.assert_allclose(upper(dissimilarity(x, metric)), expected, atol=1e-12)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("noise", [None, "diagonal", "full"])
def test_crossnobis_is_that_of_rsatoolbox(views, noise):
    rdm = pytest.importorskip("rsatoolbox.rdm")
    x = responses(6 * views, 5, views=views)
    order = np.random.default_rng(1).permutation(6 * views)
    x = x.isel(stimulus=order)
    data = rsatoolbox_dataset(x)
    precision = theirs = None
    if noise == "full":
        a = np.random.default_rng(2).normal(size=(5, 9))
        precision = theirs = np.linalg.inv(a @ a.T)
    elif noise == "diagonal":
        residual = x.values - x.groupby("image").mean().sel(image=x["image"]).transpose(*x.dims).values
        precision, theirs = "diagonal", np.diag((6 * (views - 1)) / np.square(residual).sum(0))
    found = dissimilarity(x, "crossnobis", precision=precision)
    expected = rdm.calc_rdm_crossnobis(data, "image", noise=theirs)
    kept = found.sel(image=np.arange(6), image_2=np.arange(6))
    np.testing.assert_allclose(upper(kept), expected.dissimilarities[0], atol=1e-10)
    assert found.dims == ("image", "image_2")


def test_crossnobis_is_0_on_average_where_images_do_not_differ_and_unbiased_where_they_do():
    r = np.random.default_rng(0)
    images = np.repeat(np.arange(3), 2)
    truth = r.normal(size=(3, 20))
    truth[1] = truth[0]
    drawn = [dissimilarity(truth[images] + r.normal(size=(6, 20)), "crossnobis", images=images).values for _ in range(600)]
    plain = [dissimilarity(truth[images] + r.normal(size=(6, 20)), "squared_euclidean").values[0, 2] for _ in range(50)]
    error = np.std(drawn, 0) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn, 0)[0, 1]) < 4 * error[0, 1]
    assert np.mean(drawn, 0)[0, 2] == pytest.approx(np.square(truth[0] - truth[2]).mean(), abs=4 * error[0, 2])
    assert np.mean(plain) > 1


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("spearman", "spearman"),
        ("kendall", "tau-a"),
        ("pearson", "corr"),
        ("cosine", "cosine"),
        ("whitened_cosine", "cosine_cov"),
    ],
)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_comparisons_are_those_of_rsatoolbox(method, theirs, ties):
    rdm = pytest.importorskip("rsatoolbox.rdm")
    a, b = (dissimilarity(responses(seed=seed), "squared_euclidean") for seed in (0, 1))
    if ties:
        a, b = a.round(0), b.round(0)
    expected = rdm.compare(to_rsatoolbox(a), to_rsatoolbox(b), method=theirs)[0, 0]
    assert float(compare_dissimilarities(a, b, method)) == pytest.approx(expected, abs=1e-10)
    if method != "kendall" or not ties:
        assert float(compare_dissimilarities(a, a, method)) == pytest.approx(1, abs=1e-12)


def test_comparisons_follow_their_definitions():
    a, b = (dissimilarity(responses(8, seed=seed)) for seed in (0, 1))
    x, y = upper(a), upper(b)
    assert float(compare_dissimilarities(a, b)) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i in range(28) for j in range(i)]
    assert float(compare_dissimilarities(a, b, "kendall")) == pytest.approx(np.mean(signs), abs=1e-12)
    # The covariance of estimated dissimilarities, written out.
    first, second = np.triu_indices(8, 1)
    contrasts = np.zeros((28, 8))
    contrasts[np.arange(28), first], contrasts[np.arange(28), second] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T) ** 2)
    expected = x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))
    assert float(compare_dissimilarities(a, b, "whitened_cosine")) == pytest.approx(expected, abs=1e-12)


def test_the_whitened_cosine_of_squared_distances_is_the_biased_cka():
    x, y = responses(), responses(seed=1, p=20)
    distances = [dissimilarity(one, "squared_euclidean") for one in (x, y)]
    expected = float(cka(x, y, debiased=False))
    assert float(compare_dissimilarities(*distances, "whitened_cosine")) == pytest.approx(expected, abs=1e-12)


def test_matrices_of_many_runs_are_compared_along_their_labels():
    tree = tree_of_runs(seeds=(0, 1))
    response = tree["responses/V1"]["response"].isel(snapshot=1)
    found = dissimilarity(response, "squared_euclidean")
    assert found.dims == ("rule", "seed", "stimulus", "stimulus_2")
    between = compare_dissimilarities(found.sel(rule="bp"), found.rename(rule="other"))
    assert set(between.dims) == {"seed", "other"}
    np.testing.assert_allclose(between.sel(other="bp"), 1, atol=1e-12)
    one = [upper(found.sel(rule=rule, seed=1)) for rule in ("bp", "clapp")]
    assert float(between.sel(other="clapp", seed=1)) == pytest.approx(scipy.stats.spearmanr(*one).statistic)
    matrix = similarity(tree, "rule", "rsa", metric="squared_euclidean", views="each")
    assert float(matrix.sel(population="V1", seed=1, rule="bp", rule_2="clapp")) == pytest.approx(
        scipy.stats.spearmanr(*one).statistic
    )
    averaged = similarity(tree, "rule", "rsa", comparison="whitened_cosine", metric="squared_euclidean")
    expected = cka(*(average_views(response.sel(rule=rule, seed=1)) for rule in ("bp", "clapp")), debiased=False)
    assert float(averaged.sel(population="V1", seed=1, rule="bp", rule_2="clapp")) == pytest.approx(float(expected))


def test_rsatoolbox_gets_matrices_and_labels():
    pytest.importorskip("rsatoolbox")
    tree = tree_of_runs(seeds=(0, 1))
    found = dissimilarity(tree["responses/V1"]["response"].isel(snapshot=1), "squared_euclidean")
    theirs = to_rsatoolbox(found)
    assert (theirs.n_rdm, theirs.n_cond) == (4, 48)
    assert theirs.rdm_descriptors["rule"] == ["clapp", "clapp", "bp", "bp"]
    assert theirs.rdm_descriptors["seed"] == [0, 1, 0, 1]
    np.testing.assert_array_equal(theirs.get_matrices()[3], found.sel(rule="bp", seed=1))
    assert list(theirs.pattern_descriptors["image"]) == found["image"].values.tolist()
    subset = theirs.subset("rule", "bp").subset_pattern("label", [0, 1])
    assert (subset.n_rdm, subset.n_cond) == (2, 32)
    assert to_rsatoolbox(dissimilarity(np.random.default_rng(0).normal(size=(5, 4)))).n_cond == 5


def test_what_has_no_dissimilarity_is_nan_with_the_reason():
    x = responses()
    x[3] = 0.25
    found = dissimilarity(x)
    assert int(found.isnull().sum()) == 2 * 12 - 1
    assert found.attrs["undefined"].startswith("1 stimuli that evoke the same response in all neurons")
    compared = compare_dissimilarities(found, dissimilarity(responses(seed=1)))
    assert np.isnan(compared)
    assert compared.attrs["undefined"] == "11 of 66 dissimilarities are undefined"
    assert "one neuron" in dissimilarity(x[:, :1]).attrs["undefined"]
    equal = dissimilarity(np.eye(6), "squared_euclidean")
    assert "all dissimilarities are equal" in compare_dissimilarities(equal, equal).attrs["undefined"]
    assert float(compare_dissimilarities(equal, equal, "cosine")) == pytest.approx(1)
    nothing = dissimilarity(np.ones((6, 3)), "squared_euclidean")
    assert float(nothing.max()) == 0
    for method in ("cosine", "whitened_cosine"):
        assert "all dissimilarities are 0" in compare_dissimilarities(nothing, equal, method).attrs["undefined"]
    alone = dissimilarity(x[:1], "squared_euclidean")
    assert "one stimulus: no pairs" in compare_dissimilarities(alone, alone, "cosine").attrs["undefined"]


def test_equal_responses_are_not_told_apart_by_rounding():
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 50)) * 1e3, 4, 0)
    np.testing.assert_array_equal(dissimilarity(x, "squared_euclidean"), 0)


def test_wrong_use_is_refused_with_what_would_be_right():
    x = responses()
    with pytest.raises(
        OptionError, match="metric: expected one of correlation, squared_euclidean, crossnobis, got 'euclidean'"
    ):
        dissimilarity(x, "euclidean")
    with pytest.raises(OptionError, match="crossnobis: expected at least two images with equally many views"):
        dissimilarity(x, "crossnobis")
    with pytest.raises(OptionError, match="no coordinate 'image' along stimulus: pass images="):
        dissimilarity(x.values, "crossnobis")
    with pytest.raises(OptionError, match=r"precision: expected 'diagonal' or an array \(9, 9\), got shape \(4, 4\)"):
        dissimilarity(responses(views=2), "crossnobis", precision=np.eye(4))
    with pytest.raises(OptionError, match="precision: goes with metric='crossnobis'"):
        dissimilarity(x, precision=np.eye(9))
    a = dissimilarity(x)
    with pytest.raises(OptionError, match="expected one of spearman, kendall, pearson, cosine, whitened_cosine, got 'tau'"):
        compare_dissimilarities(a, a, "tau")
    with pytest.raises(TrajectoryError, match=r"as of analysis.dissimilarity, got stimulus, neuron"):
        compare_dissimilarities(a, x)
    with pytest.raises(TrajectoryError, match="of 12 and 11 stimuli"):
        compare_dissimilarities(a, dissimilarity(x[:-1]))
    with pytest.raises(TrajectoryError, match="another stimulus along stimulus"):
        compare_dissimilarities(a, dissimilarity(x[::-1]))
    with pytest.raises(TrajectoryError, match="what was shown differs"):
        compare_dissimilarities(a.assign_attrs(stimuli="a"), a.assign_attrs(stimuli="b"))
    with pytest.raises(OptionError, match="metric: expected correlation or squared_euclidean, got 'crossnobis'"):
        similarity(tree_of_runs(), "rule", "rsa", metric="crossnobis")
    assert isinstance(a, xr.DataArray)
