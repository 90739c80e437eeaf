"""Dimension, invariance, separability, sparseness and tuning against closed forms and independent libraries."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from responses import labelled, tree_of_runs

import analysis
from analysis import (
    average_views,
    class_d_prime,
    class_tuning,
    effective_rank,
    fisher_separability,
    invariance_across_views,
    lifetime_sparseness,
    participation_ratio,
    population_sparseness,
    representation_measures,
    two_nn,
)
from neurossl.errors import OptionError, TrajectoryError


def close_on_average(values, expected, least=0.0):
    """Whether the mean of draws is what is expected, within four standard errors."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return abs(np.mean(values) - expected) < 4 * error + least


# --- dimension


def test_the_participation_ratio_of_a_known_spectrum_is_right_with_few_stimuli_and_biased_without_the_correction():
    r = np.random.default_rng(0)
    scale = np.sqrt(1 / np.arange(1, 201))
    truth = (scale**2).sum() ** 2 / (scale**4).sum()
    draws = [r.normal(size=(40, 200)) * scale @ np.linalg.qr(r.normal(size=(200, 200)))[0] for _ in range(60)]
    corrected = [float(participation_ratio(x)) for x in draws]
    plain = [float(participation_ratio(x, corrected=False)) for x in draws]
    assert truth == pytest.approx(21.06, abs=0.01)
    assert close_on_average(corrected, truth, least=0.05 * truth)
    assert np.mean(plain) == pytest.approx(1 / (1 / truth + 1 / 40), rel=0.05)
    many = r.normal(size=(4000, 200)) * scale
    assert float(participation_ratio(many)) == pytest.approx(truth, rel=0.05)


def test_both_traces_of_the_participation_ratio_are_averages_over_sets_of_different_stimuli():
    from itertools import permutations

    x = np.random.default_rng(0).normal(size=(7, 3)) * [3, 1, 1] + 5
    half = [[np.sum((a - b) ** 2) / 2 for b in x] for a in x]
    sets = list(permutations(range(7), 4))
    square_of_trace = np.mean([half[i][j] * half[q][r] for i, j, q, r in sets])
    trace_of_square = np.mean([((x[i] - x[j]) @ (x[q] - x[r])) ** 2 / 4 for i, j, q, r in sets])
    assert float(participation_ratio(x)) == pytest.approx(square_of_trace / trace_of_square, rel=1e-10)


def test_the_plain_participation_ratio_and_the_effective_rank_follow_from_the_eigenvalues():
    for shape in [(30, 8), (8, 30)]:
        x = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 3, shape[1])
        values = np.linalg.eigvalsh(np.cov(x.T))
        values = values[values > 1e-12]
        assert float(participation_ratio(x, corrected=False)) == pytest.approx(values.sum() ** 2 / np.square(values).sum())
        assert float(effective_rank(x)) == pytest.approx(np.exp(scipy.stats.entropy(np.sqrt(values))))


def test_dimensions_do_not_change_with_rotation_scale_and_shift():
    r = np.random.default_rng(0)
    x = r.normal(size=(50, 6)) * [4, 2, 1, 1, 1, 1]
    turned = 1e-90 * (x @ np.linalg.qr(r.normal(size=(6, 6)))[0])
    for measure in (participation_ratio, effective_rank, two_nn):
        assert float(measure(turned)) == pytest.approx(float(measure(x)), rel=1e-6)
        assert float(measure(np.column_stack([x, np.full(50, 0.1)]) + 2)) == pytest.approx(float(measure(x)), rel=1e-6)


@pytest.mark.parametrize("method", ["likelihood", "fit"])
@pytest.mark.parametrize("embedded", [3, 40])
def test_two_nn_finds_the_dimension_of_a_curved_set(method, embedded):
    r = np.random.default_rng(0)
    draws = []
    for _ in range(10):
        u, v = r.uniform(size=(2, 600))
        sheet = np.column_stack([np.sqrt(u + 0.1) * np.cos(6 * u), np.sqrt(u + 0.1) * np.sin(6 * u), v])
        draws.append(float(two_nn(sheet @ r.normal(size=(3, embedded)), method=method)))
    assert np.mean(draws) == pytest.approx(2, abs=0.12)


def test_two_nn_agrees_with_its_formula_and_exact_distances():
    from scipy.spatial.distance import cdist

    x = np.random.default_rng(0).normal(size=(80, 20))
    x[1] = x[0] + 1e-7
    near = np.sort(cdist(x, x), 1)
    log_ratio = np.log(near[:, 2] / near[:, 1])
    assert float(two_nn(x)) == pytest.approx(79 / log_ratio.sum(), rel=1e-6)
    order = np.sort(log_ratio)[:72]
    y = -np.log(1 - np.arange(1, 73) / 80)
    slope = np.linalg.lstsq(order[:, None], y, rcond=None)[0][0]
    assert float(two_nn(x, method="fit")) == pytest.approx(slope, rel=1e-6)
    assert float(two_nn(np.concatenate([x, x]))) == pytest.approx(float(two_nn(x)), rel=1e-9)


def test_two_nn_agrees_with_scikit_dimension():
    skdim = pytest.importorskip("skdim")
    x = np.random.default_rng(0).normal(size=(200, 5))
    assert float(two_nn(x, method="fit")) == pytest.approx(skdim.id.TwoNN().fit_transform(x), rel=1e-6)


def test_the_corrected_participation_ratio_is_that_of_its_authors():
    dimensionality = pytest.importorskip("dimensionality")
    x = np.random.default_rng(0).normal(size=(60, 30)) * np.linspace(3, 0.3, 30) + 2
    theirs = dimensionality.participation_ratio(x, return_all=True)
    assert float(participation_ratio(x)) == pytest.approx(theirs["row"], rel=1e-10)
    assert float(participation_ratio(x, corrected=False)) == pytest.approx(theirs["naive"], rel=1e-10)


def test_what_has_no_dimension_is_nan_with_the_reason():
    for measure in (participation_ratio, effective_rank, two_nn):
        found = measure(np.full((9, 3), 0.1))
        assert np.isnan(found)
        assert "zero variance" in found.attrs["undefined"]
        assert np.isnan(measure(np.ones((1, 3))))
    assert "at least 4" in participation_ratio(np.eye(3)).attrs["undefined"]
    assert "equally far apart" in participation_ratio(np.eye(9)).attrs["undefined"]
    assert "same distance" in two_nn(np.eye(9)).attrs["undefined"]
    assert "2 different responses" in two_nn(np.repeat(np.eye(2), 5, 0)).attrs["undefined"]
    assert float(participation_ratio(np.random.default_rng(0).normal(size=(50, 1)))) == pytest.approx(1, abs=0.1)
    with pytest.raises(OptionError, match="method: expected likelihood or fit, got 'mle'"):
        two_nn(np.eye(9), method="mle")


# --- invariance


@pytest.mark.parametrize("views", [2, 5])
def test_invariance_is_the_share_of_the_variance_between_images_whatever_the_number_of_views(views):
    r = np.random.default_rng(0)
    images = np.repeat(np.arange(30), views)
    draws, plain = [], []
    for _ in range(60):
        x = 2 * r.normal(size=(30, 10))[images] + r.normal(size=(30 * views, 10))
        found = invariance_across_views(x, images)
        draws.append(float(found["invariance"]))
        plain.append(float(found["between_share"]))
    assert close_on_average(draws, 4 / 5, least=0.005)
    assert np.mean(plain) > 0.82
    nothing = [float(invariance_across_views(r.normal(size=(30 * views, 10)), images)["invariance"]) for _ in range(60)]
    assert close_on_average(nothing, 0, least=0.002)
    chance = [float(invariance_across_views(r.normal(size=(30 * views, 10)), images)["between_share"]) for _ in range(60)]
    assert close_on_average(chance, 29 / (30 * views - 1))


def test_invariance_with_different_numbers_of_views_is_right_too():
    r = np.random.default_rng(0)
    images = np.repeat(np.arange(30), np.tile([2, 2, 12], 10))
    draws = []
    for _ in range(200):
        x = r.normal(size=(30, 10))[images] + r.normal(size=(len(images), 10))
        draws.append(float(invariance_across_views(x, images)["invariance"]))
    assert close_on_average(draws, 1 / 2, least=0.004)
    # Searle's mean number of views, not the plain mean: with 30 images of 16 / 3 views it is another number.
    views = np.bincount(images)
    means = np.array([x[images == i].mean(0) for i in range(30)])
    between = (views[:, None] * (means - x.mean(0)) ** 2).sum() / 29
    within = ((x - means[images]) ** 2).sum() / (len(images) - 30)
    component = (between - within) / ((len(images) - (views**2).sum() / len(images)) / 29)
    assert draws[-1] == pytest.approx(component / (component + within), rel=1e-10)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_invariance_of_one_neuron_is_the_intraclass_correlation_of_pingouin():
    pingouin = pytest.importorskip("pingouin")
    pandas = pytest.importorskip("pandas")
    r = np.random.default_rng(0)
    images, view = np.repeat(np.arange(12), 3), np.tile(np.arange(3), 12)
    x = r.normal(size=12)[images] + r.normal(size=36)
    table = pandas.DataFrame({"image": images, "view": view, "x": x})
    icc = pingouin.intraclass_corr(table, "image", "view", "x")
    expected = float(icc.loc[icc["Type"].isin(["ICC1", "ICC(1,1)"]), "ICC"].iloc[0])
    assert float(invariance_across_views(x[:, None], images)["invariance"]) == pytest.approx(expected, abs=1e-8)


def test_cosines_within_and_between_images_are_means_over_pairs():
    x = np.random.default_rng(0).normal(size=(10, 4)) + 1
    images = np.array([0, 0, 1, 1, 1, 2, 3, 3, 2, 4])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, images[:, None] == images
    found = invariance_across_views(x, images)
    assert float(found["cosine_within"]) == pytest.approx(cosine[same & ~np.eye(10, dtype=bool)].mean())
    assert float(found["cosine_between"]) == pytest.approx(cosine[~same].mean())
    silent = np.concatenate([x, np.zeros((2, 4))])
    again = invariance_across_views(silent, np.append(images, [0, 5]))
    assert float(again["cosine_within"]) == pytest.approx(float(found["cosine_within"]))


def test_views_that_make_no_difference_are_perfectly_invariant():
    images = np.repeat(np.arange(6), 2)
    x = np.random.default_rng(0).normal(size=(6, 3))[images]
    found = invariance_across_views(x, images)
    assert float(found["invariance"]) == pytest.approx(1)
    assert float(found["cosine_within"]) == pytest.approx(1)
    constant = invariance_across_views(np.zeros((12, 3)), images)
    assert "zero variance" in constant["invariance"].attrs["undefined"]
    assert "no stimulus evokes a response" in constant["cosine_within"].attrs["undefined"]
    with pytest.raises(OptionError, match="expected several images, some with several views, got 12 images in 12 stimuli"):
        invariance_across_views(labelled(np.random.default_rng(0).normal(size=(12, 3))))
    with pytest.raises(OptionError, match="no coordinate 'image' along stimulus: pass images="):
        invariance_across_views(x)


# --- separability


def test_the_trace_ratio_of_normal_classes_is_right_with_few_stimuli_and_0_for_random_labels():
    r = np.random.default_rng(0)
    means = r.normal(size=(4, 25)) * 0.6
    truth = np.square(means - means.mean(0)).sum() / 4 / (25 * 1.5**2)
    labels = np.tile(np.arange(4), 8)
    draws, plain, random = [], [], []
    for _ in range(150):
        x = means[labels] + 1.5 * r.normal(size=(32, 25))
        draws.append(float(fisher_separability(x, labels)))
        plain.append(float(fisher_separability(x, labels, corrected=False)))
        random.append(float(fisher_separability(x, r.permutation(labels))))
    assert close_on_average(draws, truth)
    assert np.mean(plain) > truth + 0.08
    assert np.mean(random) < 0.01
    nothing = [float(fisher_separability(r.normal(size=(32, 25)), labels)) for _ in range(150)]
    assert close_on_average(nothing, 0)


def test_the_plain_trace_ratio_is_that_of_the_scatter_matrices():
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    x = np.random.default_rng(0).normal(size=(30, 4)) + np.repeat([[0], [1], [3]], 10, 0)
    labels = np.repeat(np.arange(3), 10)
    fit = discriminant.LinearDiscriminantAnalysis(solver="eigen", store_covariance=True).fit(x, labels)
    within = np.trace(fit.covariance_)
    between = np.trace(np.cov(x.T, bias=True)) - within
    assert float(fisher_separability(x, labels, corrected=False)) == pytest.approx(between / within)


def test_views_of_one_image_do_not_count_as_samples_of_their_class():
    r = np.random.default_rng(0)
    images = np.repeat(np.arange(24), 4)
    labels = images % 3
    draws = []
    for _ in range(100):
        x = labelled(r.normal(size=(24, 20))[images] + 0.1 * r.normal(size=(96, 20)), views=4)
        assert (x["label"].values == labels).all()
        draws.append([float(fisher_separability(x)), float(fisher_separability(x.values, labels))])
        draws[-1].append(float(class_tuning(x)["omega_squared"].mean()))
        draws[-1].append(float(class_d_prime(x).mean()))
    ours, naive, omega, d_prime = np.transpose(draws)
    assert close_on_average(ours, 0, least=0.002)
    assert close_on_average(omega, 0, least=0.003)
    assert close_on_average(d_prime, 0, least=0.01)
    assert naive.mean() > 0.05


def test_d_prime_of_two_normal_classes_is_their_distance_and_0_for_random_labels():
    r = np.random.default_rng(0)
    labels = np.tile([0, 1], 1500)
    x = r.normal(size=(3000, 5)) * 0.5
    x[labels == 1, 0] += 1
    found = class_d_prime(x, labels)
    assert found.dims == ("class",)
    np.testing.assert_allclose(found, 2, atol=0.08)
    wide = [float(class_d_prime(r.normal(size=(40, 500)), labels[:40]).mean()) for _ in range(100)]
    assert close_on_average(wide, 0)


def test_classes_with_too_few_images_have_no_d_prime():
    labels = np.array([0] * 8 + [1] * 8 + [2] * 3)
    found = class_d_prime(np.random.default_rng(0).normal(size=(19, 4)), labels)
    assert found.notnull().values.tolist() == [True, True, False]
    assert found.attrs["undefined"] == "class 2: fewer than 4 images"
    exact = class_d_prime(np.eye(2)[labels[:16]], labels[:16])
    assert np.isnan(exact).all()
    assert "does not vary along its axis" in exact.attrs["undefined"]
    infinite = fisher_separability(np.eye(2)[labels[:16]], labels[:16])
    assert "the ratio is infinite" in infinite.attrs["undefined"]
    alone = fisher_separability(np.eye(3), [0, 1, 2])
    assert "one sample of each class" in alone.attrs["undefined"]
    for measure in (fisher_separability, class_d_prime, class_tuning):
        with pytest.raises(OptionError, match="expected labels of at least two classes, got 1"):
            measure(np.eye(4), np.zeros(4))
        with pytest.raises(OptionError, match="no coordinate 'label' along stimulus: pass labels="):
            measure(np.eye(4))
        with pytest.raises(OptionError, match=r"labels: expected one per stimulus, \(4,\), got \(5,\)"):
            measure(np.eye(4), np.zeros(5))


# --- sparseness and tuning


def test_sparseness_of_known_responses():
    one_of_many, equal = np.eye(4)[:1], np.ones((1, 4))
    assert float(population_sparseness(one_of_many)[0]) == pytest.approx(3 / 4)
    assert float(population_sparseness(one_of_many, normalised=True)[0]) == pytest.approx(1)
    assert float(population_sparseness(equal)[0]) == pytest.approx(0)
    r = np.random.default_rng(0).exponential(size=(4000, 3))
    found = lifetime_sparseness(r)
    assert found.dims == ("neuron",)
    np.testing.assert_allclose(found, 0.5, atol=0.03)  # <r>^2 / <r^2> of the exponential distribution
    np.testing.assert_allclose(lifetime_sparseness(1e-200 * r), found)
    expected = 1 - r.mean(1) ** 2 / np.square(r).mean(1)
    np.testing.assert_allclose(population_sparseness(r), expected, atol=1e-12)


def test_the_effective_rank_is_that_which_is_recorded_during_learning():
    torch = pytest.importorskip("torch")
    from neurossl.recorders.activity import effective_rank as recorded

    x = np.random.default_rng(0).normal(size=(40, 12)) * np.linspace(0.1, 2, 12)
    assert float(effective_rank(x)) == pytest.approx(float(recorded(torch.from_numpy(x))), rel=1e-6)


def test_silent_and_negative_responses_have_no_sparseness():
    x = np.array([[0.0, 0, 0], [1, 2, 0]])
    found = population_sparseness(x)
    assert found.isnull().values.tolist() == [True, False]
    assert found.attrs["undefined"] == "1 stimuli evoke no response"
    assert lifetime_sparseness(x).attrs["undefined"] == "1 neurons never respond"
    negative = population_sparseness(x - 1)
    assert negative.isnull().all()
    assert "negative responses" in negative.attrs["undefined"]
    assert "one neuron" in population_sparseness(x[:, :1] + 1, normalised=True).attrs["undefined"]


def test_the_variance_that_classes_explain_follows_from_the_f_statistic_of_scipy():
    r = np.random.default_rng(0)
    labels = r.integers(0, 4, 40)
    x = r.normal(size=(40, 6)) + labels[:, None] * np.linspace(0, 1, 6)
    F = scipy.stats.f_oneway(*(x[labels == c] for c in range(4))).statistic
    found = class_tuning(x, labels)
    np.testing.assert_allclose(found["eta_squared"], 3 * F / (3 * F + 36), atol=1e-12)
    np.testing.assert_allclose(found["omega_squared"], 3 * (F - 1) / (3 * (F - 1) + 40), atol=1e-12)


def test_the_corrected_share_of_random_labels_is_0():
    r = np.random.default_rng(0)
    found = class_tuning(r.normal(size=(30, 3000)), np.tile(np.arange(3), 10))
    assert close_on_average(found["omega_squared"].values, 0, least=0.002)
    assert close_on_average(found["eta_squared"].values, 2 / 29)


def test_preferred_class_and_selectivity():
    labels = np.array([3, 3, 5, 5, 9, 9])
    x = np.column_stack([[4.0, 2, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    found = class_tuning(x, labels)
    np.testing.assert_array_equal(found["preferred"], [3, 9, np.nan, np.nan])
    np.testing.assert_allclose(found["selectivity"], [(3 - 0.5) / (3 + 0.5), 1, 0, np.nan])
    assert "negative responses" in class_tuning(x - 1, labels)["selectivity"].attrs["undefined"]
    assert bool(class_tuning(x - 1, labels)["eta_squared"][:2].notnull().all())
    with pytest.raises(OptionError, match="expected labels that are numbers"):
        class_tuning(x, list("aabbcc"))


# --- all together


def test_measures_of_many_runs_are_those_of_single_representations():
    tree = tree_of_runs()
    found = representation_measures(tree)
    assert found["participation_ratio"].dims == ("population", "rule", "seed")
    assert int(found["snapshot"]) == 50
    one = tree["responses/V2"]["response"].sel(rule="bp", seed=1, snapshot=50)
    expected = {
        "participation_ratio": participation_ratio(one),
        "effective_rank": effective_rank(one),
        "two_nn": two_nn(one),
        "invariance": invariance_across_views(one)["invariance"],
        "separability": fisher_separability(one),
        "d_prime": class_d_prime(one).mean(),
        "population_sparseness": population_sparseness(one).mean(),
        "lifetime_sparseness": lifetime_sparseness(one).mean(),
        "selectivity": class_tuning(one)["selectivity"].mean(),
        "omega_squared": class_tuning(one)["omega_squared"].mean(),
    }
    assert set(expected) == set(found.data_vars)
    cell = found.sel(population="V2", rule="bp", seed=1)
    for name, value in expected.items():
        assert float(cell[name]) == pytest.approx(float(value)), name
    over = representation_measures(tree, "invariance", populations=["V1"], snapshot="all")
    assert over["invariance"].dims == ("population", "rule", "seed", "snapshot")
    assert float(over["invariance"].sel(population="V1", rule="bp", seed=0, snapshot=50)) == pytest.approx(
        float(found["invariance"].sel(population="V1", rule="bp", seed=0))
    )


def test_what_a_measure_lacks_is_said_and_the_others_are_there():
    r = np.random.default_rng(0)
    found = representation_measures({"V1": r.normal(size=(20, 4))})
    assert float(found["participation_ratio"].squeeze()) > 1
    assert "no coordinate 'image' along stimulus" in found["invariance"].attrs["undefined"]
    assert "no coordinate 'label' along stimulus" in found["separability"].attrs["undefined"]
    assert "negative responses" in found["population_sparseness"].attrs["undefined"]
    tree = tree_of_runs(seeds=(0, 1))
    data = tree["responses/V1"].to_dataset()
    data["response"] = data["response"].where((data["rule"] == "bp") | (data["seed"] == 0))
    missing = representation_measures(xr.DataTree.from_dict({"/responses/V1": data}))
    for name in missing:
        assert np.isnan(missing[name].sel(rule="clapp", seed=1))
        assert missing[name].attrs["undefined"] == "population=V1, rule=clapp, seed=1: not recorded"
        assert int(missing[name].isnull().sum()) == 1


def test_wrong_names_are_refused_with_what_there_is():
    tree = tree_of_runs()
    with pytest.raises(OptionError, match=r"measures: expected some of participation_ratio, .*, got dimension"):
        representation_measures(tree, ["dimension"])
    with pytest.raises(OptionError, match="populations: expected some of V1, V2, got V3"):
        representation_measures(tree, populations="V3")
    with pytest.raises(TrajectoryError, match="no responses were recorded"):
        representation_measures(xr.DataTree.from_dict({"/activity": xr.Dataset()}))


@pytest.mark.parametrize("factor", [1e-300, 1e-150, 1e290])
def test_no_measure_depends_on_the_unit_of_the_responses(factor):
    response = (
        tree_of_runs(rules=("a",), seeds=(0,))["responses/V1"]["response"].astype("f8").isel(rule=0, seed=0, snapshot=1)
    )
    once, again = (representation_measures(one) for one in (response, factor * response))
    for name in once:
        assert float(again[name].squeeze()) == pytest.approx(float(once[name].squeeze()), rel=1e-9), name
    cosines = invariance_across_views(factor * response)["cosine_within"]
    assert float(cosines) == pytest.approx(float(invariance_across_views(response)["cosine_within"]), rel=1e-9)
    for measure in (analysis.cka, analysis.procrustes):
        expected = float(measure(response[:, :5], response[:, 5:]))
        assert float(measure(factor * response[:, :5], response[:, 5:])) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(analysis.dissimilarity(factor * response), analysis.dissimilarity(response), atol=1e-9)
    if factor > 1:
        assert "their squares are infinite" in analysis.dissimilarity(factor * response, "crossnobis").attrs["undefined"]


def test_axes_of_a_map_are_stacked_into_neurons():
    maps = xr.DataArray(np.random.default_rng(0).random((9, 3, 2, 2)), dims=("stimulus", "channel", "y", "x"))
    with pytest.raises(TrajectoryError, match=r"stack the axes of one stimulus with \.stack\(neuron=\(\.\.\.\)\)"):
        participation_ratio(maps)
    stacked = maps.stack(neuron=("channel", "y", "x"))
    assert float(participation_ratio(stacked)) == pytest.approx(float(participation_ratio(maps.values.reshape(9, 12))))
    assert lifetime_sparseness(stacked).sizes == {"neuron": 12}


def test_views_are_averaged_image_by_image():
    x = labelled(np.arange(24.0).reshape(12, 2), views=3)
    shuffled = x.isel(stimulus=[0, 5, 1, 2, 3, 4, 9, 6, 7, 8, 11, 10])
    found = average_views(shuffled)
    assert found["image"].values.tolist() == [0, 1, 3, 2]
    np.testing.assert_allclose(found.sel(stimulus=found["image"] == 3)[0], x.values[9:12].mean(0))
    assert average_views(x.expand_dims(seed=[1, 2])).dims == ("seed", "stimulus", "neuron")
    with pytest.raises(OptionError, match="pass images="):
        average_views(x.values)


def test_every_public_name_is_there_and_says_what_it_does():
    names = (
        "similarity cka cca svcca procrustes dissimilarity participation_ratio two_nn noise_ceiling representation_measures"
    )
    for name in names.split():
        function = getattr(analysis, name)
        assert callable(function), name
        assert function.__doc__


# --- figures


def words_of(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_every_figure_of_many_runs_shows_rules_populations_and_the_number_of_seeds():
    pytest.importorskip("matplotlib")
    tree = tree_of_runs(rules=("clapp", "pay $5", "bp"))
    for name, (heading, draw) in analysis.REPRESENTATION_FIGURES.items():
        figure = draw(tree)
        words = words_of(figure)
        assert heading
        assert "n = 3 seeds" in words, name
        for label in ("V1", "V2", "clapp", "bp", r"pay \$5"):
            assert label in words, (name, label)


def test_values_in_the_cells_are_the_means_over_seeds():
    tree = tree_of_runs(rules=("a", "b"))
    words = words_of(analysis.REPRESENTATION_FIGURES["similarity-rules"][1](tree))
    found = analysis.similarity_of_rules(tree).sel(population="V1", rule="a", rule_2="b")
    assert f"{float(found['other_seed']):.2f}\n±{float(found['other_seed_half_width']):.2f}" in words
    one = analysis.REPRESENTATION_FIGURES["similarity-rules"][1](tree_of_runs(rules=("a", "b"), seeds=(4,)))
    assert "n = 1 seed: no interval" in words_of(one)
    assert "±" not in words_of(one)


def test_figures_of_one_run_and_of_runs_without_responses():
    tree = tree_of_runs(rules=("a",), seeds=(0,))
    one = xr.DataTree.from_dict(
        {f"/responses/{p}": tree[f"responses/{p}"].to_dataset().isel(rule=0, seed=0, drop=True) for p in ("V1", "V2")}
    )
    one.attrs = {"rule": "clapp", "seed": 3}
    drawn = {name: draw(one) for name, (_, draw) in analysis.REPRESENTATION_FIGURES.items()}
    assert drawn.pop("similarity-rules") is None
    for figure in drawn.values():
        assert "n = 1 seed: no interval" in words_of(figure)
        assert "clapp" in words_of(figure)
    nothing = xr.DataTree.from_dict({"/activity": xr.Dataset()})
    assert all(draw(nothing) is None for _, draw in analysis.REPRESENTATION_FIGURES.values())


def test_a_run_that_is_missing_is_left_out_of_figures_and_counted():
    tree = tree_of_runs(rules=("a", "b"))
    nodes = {p: tree[f"responses/{p}"].to_dataset() for p in ("V1", "V2")}
    for data in nodes.values():
        data["response"] = data["response"].where((data["rule"] == "a") | (data["seed"] < 2))
    missing = xr.DataTree.from_dict({f"/responses/{p}": data for p, data in nodes.items()})
    for _, draw in analysis.REPRESENTATION_FIGURES.values():
        assert "n = 2 to 3 seeds" in words_of(draw(missing))
