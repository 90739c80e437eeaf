"""CKA, CCA and Procrustes against their definitions and independent libraries; matrices between what runs have recorded."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import xarray as xr
from responses import labelled, tree_of_runs
from xarray.backends import BackendArray
from xarray.core import indexing

import analysis
from analysis import (
    canonical_correlations,
    cca,
    cka,
    noise_ceiling,
    procrustes,
    pwcca,
    similarity,
    similarity_matrices,
    similarity_of_rules,
    svcca,
)
from neurossl.errors import OptionError, TrajectoryError


def related(n=60, p=7, q=5, seed=0):
    """Return two representations that share some of their structure."""
    r = np.random.default_rng(seed)
    common = r.normal(size=(n, 4))
    return common @ r.normal(size=(4, p)) + r.normal(size=(n, p)), common @ r.normal(size=(4, q)) + r.normal(size=(n, q))


def rotation(p, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(p, p)))[0]


def hsic_by_definition(K, L):
    """Song et al. (2012), equation 4: the average over all ordered sets of different stimuli, by brute force."""
    n = len(K)
    total = 0.0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def hsic_with_grams(K, L):
    """Song et al. (2012), equation 5."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    return (
        np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    ) / (n * (n - 3))


def test_independent_representations_read_91_percent_with_biased_cka_and_none_with_the_debiased():
    r = np.random.default_rng(0)
    debiased, biased = [], []
    for _ in range(20):
        x, y = r.normal(size=(100, 1000)), r.normal(size=(100, 1000))
        debiased.append(float(cka(x, y)))
        biased.append(float(cka(x, y, debiased=False)))
    assert np.mean(biased) == pytest.approx(0.91, abs=0.005)
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(20) + 1e-3
    assert abs(np.mean(debiased)) < 0.01


@pytest.mark.parametrize(("p", "q"), [(3, 4), (3, 12), (12, 3), (12, 15)])
def test_debiased_cka_is_the_average_over_sets_of_different_stimuli(p, q):
    x, y = related(8, p, q)
    K, L = x @ x.T, y @ y.T
    for hsic in (hsic_by_definition, hsic_with_grams):
        expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
        assert float(cka(x + 5, y - 3)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("p", "q"), [(7, 5), (7, 90), (90, 80)])
def test_biased_cka_is_that_of_centred_gram_matrices(p, q):
    x, y = related(60, p, q)
    H = np.eye(60) - 1 / 60
    K, L = H @ x @ x.T @ H, H @ y @ y.T @ H
    assert float(cka(x, y, debiased=False)) == pytest.approx(
        np.sum(K * L) / np.linalg.norm(K) / np.linalg.norm(L), rel=1e-12
    )


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_does_not_change_with_rotation_scale_and_shift(debiased):
    x, y = related()
    value = float(cka(x, y, debiased=debiased))
    turned = 1e-6 * x @ rotation(7) + 3
    assert float(cka(turned, 1e8 * y, debiased=debiased)) == pytest.approx(value, rel=1e-9)
    assert float(cka(x, turned, debiased=debiased)) == pytest.approx(1, abs=1e-9)
    assert float(cka(y, x, debiased=debiased)) == pytest.approx(value, rel=1e-12)
    assert 0.05 < value < 0.95
    # A linear map that is no rotation does change it.
    assert float(cka(x @ np.diag([1, 1, 1, 1, 1, 1, 30.0]), y, debiased=debiased)) != pytest.approx(value, abs=1e-3)


def test_magnitudes_whose_fourth_power_is_no_number_are_compared_all_the_same():
    x, y = related()
    value = float(cka(x, y))
    assert float(cka(1e-100 * x, 1e120 * y)) == pytest.approx(value, rel=1e-10)
    assert float(procrustes(1e-100 * x, 1e120 * y)) == pytest.approx(float(procrustes(x, y)), rel=1e-10)


def test_canonical_correlations_are_the_cosines_of_the_angles_between_the_column_spaces():
    x, y = related()
    angles = scipy.linalg.subspace_angles(x - x.mean(0), y - y.mean(0))
    found = canonical_correlations(x, y)
    np.testing.assert_allclose(np.sort(found), np.sort(np.cos(angles)), atol=1e-10)
    assert float(cca(x, y)) == pytest.approx(np.cos(angles).mean(), abs=1e-10)


def test_canonical_correlations_agree_with_statsmodels():
    cancorr = pytest.importorskip("statsmodels.multivariate.cancorr")
    x, y = related()
    np.testing.assert_allclose(canonical_correlations(x, y), cancorr.CanCorr(x, y).cancorr, atol=1e-10)


def test_canonical_correlations_are_the_eigenvalues_of_the_covariances():
    x, y = related()
    C = np.cov(x.T, y.T)
    xx, xy, yy = C[:7, :7], C[:7, 7:], C[7:, 7:]
    square = np.linalg.eigvals(np.linalg.solve(yy, xy.T) @ np.linalg.solve(xx, xy))
    np.testing.assert_allclose(canonical_correlations(x, y), np.sqrt(np.sort(square.real)[::-1]), atol=1e-10)


def test_chance_of_canonical_correlations_is_said():
    r = np.random.default_rng(1)
    drawn = [canonical_correlations(r.normal(size=(40, 8)), r.normal(size=(40, 5))) for _ in range(200)]
    assert np.mean([np.mean(np.square(d)) for d in drawn]) == pytest.approx(drawn[0].attrs["chance"], rel=0.03)


def test_cca_does_not_change_with_any_invertible_map():
    x, y = related()
    value = float(cca(x, y))
    assert float(cca(x @ np.random.default_rng(3).normal(size=(7, 7)), y)) == pytest.approx(value, abs=1e-9)
    # A copy of a neuron and a constant neuron add no direction.
    assert float(cca(np.column_stack([x, x[:, 0], np.full(60, 0.1)]), y)) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("measure", [cca, pwcca, canonical_correlations])
def test_cca_of_too_few_stimuli_is_refused_with_the_remedy(measure):
    r = np.random.default_rng(0)
    with pytest.raises(
        TrajectoryError, match=r"20 stimuli for 19 and 19 directions: 19 of the .* are 1 .* use svcca, or cka"
    ):
        measure(r.normal(size=(20, 30)), r.normal(size=(20, 30)))
    with pytest.raises(TrajectoryError, match="6 of the correlations are 1"):
        measure(r.normal(size=(20, 15)), r.normal(size=(20, 10)))
    with pytest.raises(TrajectoryError, match="keep fewer with components= or variance="):
        svcca(r.normal(size=(20, 30)), r.normal(size=(20, 30)))


def test_svcca_is_cca_of_the_leading_principal_components():
    decomposition = pytest.importorskip("sklearn.decomposition")
    r = np.random.default_rng(0)
    scale = 2.0 ** -np.arange(100)
    x, y = r.normal(size=(60, 100)) * scale, r.normal(size=(60, 100)) * scale
    parts = []
    for one in (x, y):
        fit = decomposition.PCA(n_components=0.99, svd_solver="full").fit(one)
        parts.append(fit.transform(one))
    assert parts[0].shape[1] < 8
    assert float(svcca(x, y)) == pytest.approx(float(cca(*parts)), abs=1e-9)
    assert float(svcca(x, y, components=2)) == pytest.approx(float(cca(parts[0][:, :2], parts[1][:, :2])), abs=1e-9)
    assert float(svcca(x[:, :7], y[:, :5], variance=1)) == pytest.approx(float(cca(x[:, :7], y[:, :5])), abs=1e-9)


def test_pwcca_weighs_by_what_the_variates_account_for():
    # Neurons of x are its canonical variates: each weighs as its standard deviation.
    r = np.random.default_rng(0)
    basis = np.linalg.qr(r.normal(size=(50, 4)) - r.normal(size=(50, 4)).mean(0))[0]
    basis = np.linalg.qr(basis - basis.mean(0))[0]
    x = basis[:, :2] * [3, 1]
    y = np.column_stack([0.8 * basis[:, 0] + 0.6 * basis[:, 2], 0.2 * basis[:, 1] + np.sqrt(0.96) * basis[:, 3]])
    np.testing.assert_allclose(canonical_correlations(x, y), [0.8, 0.2], atol=1e-12)
    assert float(pwcca(x, y)) == pytest.approx((3 * 0.8 + 1 * 0.2) / 4, abs=1e-12)
    assert float(pwcca(y, x)) != pytest.approx(float(pwcca(x, y)), abs=1e-3)


@pytest.mark.parametrize("n", [60, 6])
def test_procrustes_is_what_scipy_finds(n):
    x, y = related(n, 7, 7)
    a, b = ((m - m.mean(0)) / np.linalg.norm(m - m.mean(0)) for m in (x, y))
    turn, scale = scipy.linalg.orthogonal_procrustes(a, b)
    angle = float(procrustes(x, y))
    assert np.cos(angle) == pytest.approx(scale, abs=1e-10)
    assert np.linalg.norm(a @ turn - b) == pytest.approx(2 * np.sin(angle / 2), abs=1e-9)
    assert scipy.spatial.procrustes(x, y)[2] == pytest.approx(np.sin(angle) ** 2, abs=1e-10)


def test_procrustes_is_a_metric_that_ignores_rotation_scale_and_shift():
    x, y = related()
    z = np.random.default_rng(4).normal(size=(60, 9))
    xy, yz, xz = float(procrustes(x, y)), float(procrustes(y, z)), float(procrustes(x, z))
    assert xz <= xy + yz
    assert xy == pytest.approx(float(procrustes(y, x)), abs=1e-12)
    assert float(procrustes(x, 4 * x @ rotation(7) - 1)) == pytest.approx(0, abs=1e-7)
    assert float(procrustes(np.column_stack([x, np.full(60, 0.3)]), y)) == pytest.approx(xy, abs=1e-12)


@pytest.mark.parametrize("measure", [cka, procrustes, cca, svcca, pwcca])
def test_what_has_no_similarity_is_nan_with_the_reason(measure):
    x, y = related()
    constant = measure(np.full((60, 4), 0.1), y)
    assert np.isnan(constant)
    assert "zero variance" in constant.attrs["undefined"]
    holed = x.copy()
    holed[3, 1] = np.nan
    assert "NaN or infinity in the responses to 1 stimuli" in measure(holed, y).attrs["undefined"]
    one = measure(x[:1], y[:1])
    assert np.isnan(one)
    assert "one stimulus" in one.attrs["undefined"] or "at least 4" in one.attrs["undefined"]
    # Constant neurons say nothing, and change nothing.
    assert float(measure(np.column_stack([x, np.full(60, 1 / 3)]), y)) == pytest.approx(float(measure(x, y)), abs=1e-9)


def test_stimuli_that_are_all_equally_far_apart_have_no_debiased_cka():
    found = cka(np.eye(10), np.random.default_rng(0).normal(size=(10, 4)))
    assert np.isnan(found)
    assert "equally far apart" in found.attrs["undefined"]
    assert "at least 4" in cka(np.eye(3), np.eye(3)).attrs["undefined"]


def test_responses_to_other_stimuli_are_refused():
    x, y = (labelled(m) for m in related())
    assert np.isfinite(cka(x, y))
    with pytest.raises(TrajectoryError, match=r"60 of 60 have another stimulus in y than in x"):
        cka(x, y.assign_coords(stimulus=y["stimulus"] + 1))
    with pytest.raises(TrajectoryError, match="60 in x, but 59 in y"):
        cka(x, y[:-1])
    with pytest.raises(TrajectoryError, match="what was shown differs"):
        cka(x.assign_attrs(stimuli="a" * 32), y.assign_attrs(stimuli="b" * 32))
    with pytest.raises(TrajectoryError, match="another label"):
        cka(x, y.assign_coords(label=("stimulus", np.zeros(60, int))))


def test_what_are_no_responses_is_refused():
    x, _ = related()
    with pytest.raises(TrajectoryError, match=r"expected an array \(stimuli, neurons\), got shape \(60, 7, 1\)"):
        cka(x[:, :, None], x)
    with pytest.raises(TrajectoryError, match="expected dims stimulus and neuron, got row, neuron"):
        cka(xr.DataArray(x, dims=("row", "neuron")), x)
    with pytest.raises(TrajectoryError, match="expected real numbers, got complex128"):
        cka(x + 1j, x)
    with pytest.raises(TrajectoryError, match="nothing along neuron"):
        cka(x[:, :0], x)
    with pytest.raises(OptionError, match=r"variance: expected a share above 0 and at most 1, got 1\.5"):
        svcca(x, x, variance=1.5)
    with pytest.raises(OptionError, match="components: expected a whole number from 1, got 0"):
        svcca(x, x, components=0)


def test_dims_in_front_are_matched_by_label_or_crossed():
    r = np.random.default_rng(0)
    x = xr.DataArray(r.normal(size=(2, 30, 4)), {"seed": [7, 8]}, ("seed", "stimulus", "neuron"))
    y = xr.DataArray(
        r.normal(size=(3, 2, 30, 5)), {"rule": list("abc"), "seed": [7, 8]}, ("rule", "seed", "stimulus", "neuron")
    )
    found = cka(x, y)
    assert found.dims == ("seed", "rule")
    assert float(found.sel(rule="b", seed=8)) == pytest.approx(float(cka(x.values[1], y.values[1, 1])))
    with pytest.raises(TrajectoryError, match="seed: labels differ between x and y"):
        cka(x, y.assign_coords(seed=[8, 9]))
    crossed = cka(x, y.rename(seed="seed_2"))
    assert float(crossed.sel(rule="c", seed=7, seed_2=8)) == pytest.approx(float(cka(x.values[0], y.values[2, 1])))
    # What is handed in in another order of dims, or as single precision, is the same.
    np.testing.assert_allclose(cka(x.transpose("neuron", "stimulus", "seed").astype("f4"), y), found, atol=1e-6)


def test_two_thousand_stimuli_and_a_thousand_neurons_take_well_below_a_second():
    import time

    r = np.random.default_rng(0)
    x, y = r.normal(size=(2000, 1024)).astype("f4"), r.normal(size=(2000, 1024)).astype("f4")
    spent = []
    for _ in range(3):
        start = time.process_time()
        cka(x, y)
        spent.append(time.process_time() - start)
    assert min(spent) < 2.0  # processor time, all threads; some 0.5 s where nothing else runs


def test_similarity_between_populations_of_many_runs():
    tree = tree_of_runs()
    found = similarity(tree, "population")
    assert found.dims == ("rule", "seed", "population", "population_2")
    assert found["population"].values.tolist() == ["V1", "V2"]
    assert found.attrs["stimuli_compared"] == 24
    one, other = (
        analysis.average_views(tree[f"responses/{p}"]["response"].sel(rule="bp", seed=1, snapshot=50)) for p in ("V1", "V2")
    )
    expected = float(cka(one.values, other.values))
    cell = found.sel(rule="bp", seed=1)
    assert float(cell.sel(population="V1", population_2="V2")) == pytest.approx(expected, rel=1e-6)
    assert float(cell.sel(population="V2", population_2="V1")) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(np.diagonal(cell), 1, atol=1e-12)


@pytest.mark.parametrize("measure", ["cka", "procrustes", "svcca", "rsa", "cca", "pwcca"])
def test_every_measure_fills_a_matrix_between_rules(measure):
    tree = tree_of_runs(rules=("a", "b", "c"), seeds=(0,), noise=0.2)
    options = {"variance": 0.9} if measure == "svcca" else {}
    found = similarity(tree, "rule", measure, views="each", **options).sel(population="V1", seed=0)
    assert found.dims == ("rule", "rule_2")
    assert bool(found.notnull().all())
    perfect = similarity_matrices.MEASURES[measure]().perfect
    np.testing.assert_allclose(np.diagonal(found), perfect, atol=1e-6)
    if measure != "pwcca":
        np.testing.assert_allclose(found, found.values.T)
    pair = [tree["responses/V1"]["response"].sel(rule=rule, seed=0, snapshot=50).values for rule in "ac"]
    alone = {"cka": cka, "procrustes": procrustes, "cca": cca, "pwcca": pwcca}.get(measure)
    if alone:
        assert float(found.sel(rule="a", rule_2="c")) == pytest.approx(float(alone(*pair)), rel=1e-9)
        assert float(found.sel(rule="c", rule_2="a")) == pytest.approx(float(alone(*pair[::-1])), rel=1e-9)


def test_similarity_along_snapshots_seeds_and_several_dims_together():
    tree = tree_of_runs()
    moments = similarity(tree, "snapshot", populations=["V2"])
    assert moments.dims == ("population", "rule", "seed", "snapshot", "snapshot_2")
    assert moments["observers_seen"].values.tolist() == [0, 1600]
    assert moments["observers_seen_2"].dims == ("snapshot_2",)
    both = similarity(tree, ("rule", "seed"), views="each")
    assert both.dims == ("population", "rule", "seed", "rule_2", "seed_2")
    seeds = similarity(tree, "seed", views="each")
    np.testing.assert_allclose(
        both.sel(rule="bp", rule_2="bp"), seeds.sel(rule="bp").transpose("population", "seed", "seed_2"), atol=1e-12
    )
    rules = similarity(tree, "rule", views="each", snapshot=0)
    assert float(rules.sel(population="V1", seed=2, rule="bp", rule_2="clapp")) == pytest.approx(
        float(cka(*(tree["responses/V1"]["response"].sel(rule=r, seed=2, snapshot=0) for r in ("bp", "clapp"))))
    )
    assert "snapshot" in similarity(tree, "rule", snapshot="all").dims


def test_blocks_of_memory_do_not_change_the_matrix(monkeypatch):
    tree = tree_of_runs(rules=("a", "b", "c"))
    whole = similarity(tree, ("rule", "seed"))
    monkeypatch.setattr(similarity_matrices, "BLOCK", 3 * 48 * 12 * 8)
    np.testing.assert_array_equal(similarity(tree, ("rule", "seed")), whole)


class Watched(BackendArray):
    """An array in a store that remembers the largest part that was read at once."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.largest = values, values.shape, values.dtype, 0

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key):
        part = self.values[np.ix_(*(np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)))]
        self.largest = max(self.largest, part.size)
        return part.reshape([n for n, k in zip(part.shape, key, strict=True) if not np.isscalar(k)])


def test_one_representation_is_read_at_a_time():
    tree = tree_of_runs()
    data = tree["responses/V1"].to_dataset()
    stored = Watched(data["response"].values)
    lazy = xr.Variable(data["response"].dims, indexing.LazilyIndexedArray(stored))
    source = {"V1": data["response"].copy(data=lazy).assign_attrs(data.attrs)}
    np.testing.assert_array_equal(similarity(source, ("rule", "seed")), similarity(tree, ("rule", "seed"), populations="V1"))
    analysis.representation_measures(source, snapshot="all")
    analysis.REPRESENTATION_FIGURES["similarity-start"][1](
        xr.DataTree.from_dict({"/responses/V1": data.assign(response=lazy)})
    )
    assert stored.largest == 48 * 12


def test_similarity_of_one_run_and_of_plain_arrays():
    tree = tree_of_runs(rules=("a",), seeds=(0,))
    one = xr.DataTree.from_dict(
        {f"/responses/{p}": tree[f"responses/{p}"].to_dataset().isel(rule=0, seed=0, drop=True) for p in ("V1", "V2")}
    )
    found = similarity(one)
    assert found.dims == ("population", "population_2")
    np.testing.assert_allclose(found, similarity(tree).isel(rule=0, seed=0))
    with pytest.raises(OptionError, match=r"expected some of population, snapshot, got rule: open several runs with"):
        similarity(one, "rule")
    x, y = related()
    assert float(similarity({"x": x, "y": y})[0, 1]) == pytest.approx(float(cka(x, y)))


def test_runs_that_are_missing_or_stopped_are_nan_with_the_reason():
    tree = tree_of_runs(seeds=(0, 1))
    data = tree["responses/V1"].to_dataset()
    data["response"] = data["response"].where(~((data["rule"] == "bp") & (data["seed"] == 1) & (data["snapshot"] == 50)))
    found = similarity(xr.DataTree.from_dict({"/responses/V1": data}), "rule").sel(population="V1")
    assert bool(found.sel(seed=0).notnull().all())
    assert np.isnan(found.sel(seed=1, rule="clapp", rule_2="bp"))
    assert float(found.sel(seed=1, rule="clapp", rule_2="clapp")) == pytest.approx(1)
    assert found.attrs["undefined"] == "population=V1, seed=1, rule=bp: not recorded"


def test_neurons_that_only_some_runs_recorded_are_left_out_where_they_are_not():
    tree = tree_of_runs(seeds=(0,), rules=("a", "b"))
    data = tree["responses/V1"].to_dataset()
    padded = data["response"].where((data["rule"] == "a") | (data["response"]["neuron"] < 8))
    found = similarity({"V1": padded.assign_attrs(data.attrs)}, "rule", views="each").squeeze()
    last = data["response"].sel(seed=0, snapshot=50)
    assert float(found[0, 1]) == pytest.approx(float(cka(last.sel(rule="a"), last.sel(rule="b")[:, :8])))


def test_other_stimuli_in_one_run_fail_loudly():
    tree = tree_of_runs()
    data = tree["responses/V1"].to_dataset()
    data["response"] = data["response"].where((data["rule"] == "bp") | (data["stimulus"] < 40))
    with pytest.raises(
        TrajectoryError, match=r"responses of seed=0, rule=clapp: 8 of 48 stimuli have none: the stimuli differ"
    ):
        similarity(xr.DataTree.from_dict({"/responses/V1": data}), "rule")
    digests = tree["responses/V1"].to_dataset().assign_coords(stimuli=("rule", ["abc", "abd"]))
    with pytest.raises(TrajectoryError, match="what was shown differs"):
        similarity(xr.DataTree.from_dict({"/responses/V1": digests}), "rule")
    two = {p: tree[f"responses/{p}"].to_dataset() for p in ("V1", "V2")}
    two["V2"].attrs["stimuli"] = "other"
    with pytest.raises(TrajectoryError, match=r"what was shown differs \(V1 abc, V2 other"):
        similarity(xr.DataTree.from_dict({f"/responses/{p}": d for p, d in two.items()}), "population")


def test_wrong_names_are_refused_with_what_there_is():
    tree = tree_of_runs()
    with pytest.raises(OptionError, match="measure: expected one of cka, procrustes, cca, svcca, pwcca, rsa, got 'CKA'"):
        similarity(tree, "rule", "CKA")
    with pytest.raises(OptionError, match="between: expected some of population, rule, seed, snapshot, got rules"):
        similarity(tree, "rules")
    with pytest.raises(OptionError, match="populations: expected some of V1, V2, got V9"):
        similarity(tree, populations=["V9"])
    with pytest.raises(OptionError, match="snapshot: expected 'last', 'all' or one of 0, 50, got 51"):
        similarity(tree, snapshot=51)
    with pytest.raises(OptionError, match="debiassed: no option of cka, which has debiased"):
        similarity(tree, debiassed=False)
    measure = similarity_matrices.cka_measure()
    assert similarity(tree, "rule", measure).identical(similarity(tree, "rule"))
    with pytest.raises(OptionError, match="debiased: options go with the name of a measure"):
        similarity(tree, "rule", measure, debiased=False)
    with pytest.raises(OptionError, match="views: expected 'mean' or 'each', got 'all'"):
        similarity(tree, views="all")
    with pytest.raises(TrajectoryError, match="no responses were recorded"):
        similarity(xr.DataTree.from_dict({"/activity": xr.Dataset()}))


def test_the_noise_ceiling_is_the_mean_over_pairs_of_seeds_with_the_interval_of_the_jackknife():
    tree = tree_of_runs(seeds=(0, 1, 2, 3))
    pairs = similarity(tree, "seed").sel(population="V1", rule="bp").values
    found = noise_ceiling(tree).sel(population="V1", rule="bp")
    upper = pairs[np.triu_indices(4, 1)]
    assert float(found["ceiling"]) == pytest.approx(upper.mean())
    assert int(found["seeds"]) == 4
    pseudo = []
    for left in range(4):
        kept = [i for i in range(4) if i != left]
        pseudo.append(4 * upper.mean() - 3 * pairs[np.ix_(kept, kept)][np.triu_indices(3, 1)].mean())
    half = scipy.stats.t.ppf(0.975, 3) * np.std(pseudo, ddof=1) / 2
    assert float(found["half_width"]) == pytest.approx(half)


def test_the_noise_ceiling_needs_two_seeds_and_an_interval_three():
    two = noise_ceiling(tree_of_runs(seeds=(0, 1)))
    assert bool(two["ceiling"].notnull().all())
    assert bool(two["half_width"].isnull().all())
    with pytest.raises(OptionError, match="one seed: there is nothing to compare it with"):
        noise_ceiling(tree_of_runs(seeds=(0,)))


def test_rules_beside_their_seeds():
    tree = tree_of_runs(rules=("a", "b"), seeds=(0, 1, 2))
    found = similarity_of_rules(tree).sel(population="V1")
    every = similarity(tree, ("rule", "seed")).sel(population="V1")
    between = every.sel(rule="a", rule_2="b").values
    assert float(found["same_seed"].sel(rule="a", rule_2="b")) == pytest.approx(np.diag(between).mean())
    assert float(found["other_seed"].sel(rule="a", rule_2="b")) == pytest.approx(between[~np.eye(3, dtype=bool)].mean())
    ceiling = noise_ceiling(tree).sel(population="V1")
    assert float(found["other_seed"].sel(rule="a", rule_2="a")) == pytest.approx(float(ceiling["ceiling"].sel(rule="a")))
    assert np.isnan(found["same_seed"].sel(rule="a", rule_2="a"))
    one = similarity_of_rules(tree_of_runs(seeds=(0,)))
    assert bool(one["other_seed"].isnull().all())
    assert bool(one["same_seed_half_width"].isnull().all())
    assert float(one["same_seed"].sel(population="V1", rule="clapp", rule_2="bp")) < 1
