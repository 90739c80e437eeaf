"""Differences paired by seed: against scipy, statsmodels and pingouin, and what is refused."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analysis.inference import compare_pairs, equivalence_test, holm, paired_difference
from analysis.power import detectable_difference, detectable_effect, seeds_needed
from analysis.statistics import estimate, estimate_of, over_seeds
from neurossl.errors import OptionError

RULES, SEEDS, POPULATIONS = ["clapp++gap", "dfa", "bp"], [3, 1, 7, 0, 12], ["V1", "V2"]


@pytest.fixture
def accuracy() -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = 0.8 + 0.02 * rng.normal(size=(3, 5, 2)) + 0.03 * np.arange(3)[:, None, None]
    coords = {"rule": RULES, "seed": SEEDS, "population": POPULATIONS, "label": ("rule", ["CLAPP", "DFA", "BP"])}
    return xr.DataArray(values, coords, ["rule", "seed", "population"])


def test_estimate_and_over_seeds_leave_out_the_same_and_say_so() -> None:
    values = [0.1, math.inf, 0.4, math.nan, 0.35, -math.inf]
    one = estimate(values)
    table = over_seeds(xr.DataArray(values, dims="seed"))
    assert one == estimate_of(table)
    assert (one.n, one.left_out) == (3, 3)
    assert one.mean == pytest.approx(np.mean([0.1, 0.4, 0.35]))
    low, high = stats.t.interval(0.95, 2, one.mean, stats.sem([0.1, 0.4, 0.35]))
    assert (one.mean - one.half_width, one.mean + one.half_width) == pytest.approx((low, high))
    assert one.text(2, n=True) == "0.28±0.40 (n = 3, 3 not finite left out)"
    assert estimate([0.5]).text(n=True) == "0.500 (n = 1)"
    nothing = over_seeds(xr.DataArray([[math.inf], [math.nan]], dims=("seed", "event")))
    assert (int(nothing["count"][0]), int(nothing["left_out"][0])) == (0, 2)
    assert math.isnan(nothing["mean"][0])
    assert estimate([math.nan]).left_out == 1
    with pytest.raises(OptionError, match=r"no dimension 'seed'.*event"):
        over_seeds(xr.DataArray([1.0], dims="event"))


def test_paired_differences_are_scipys_and_pingouins(accuracy: xr.DataArray) -> None:
    pingouin = pytest.importorskip("pingouin")
    a, b = accuracy.sel(rule="bp"), accuracy.sel(rule="dfa")
    found = paired_difference(a, b.isel(seed=[4, 2, 0, 3, 1], population=[1, 0]))  # another order, the same labels
    for population in POPULATIONS:
        x, y = a.sel(population=population).values, b.sel(population=population).values
        one, scipys = found.sel(population=population), stats.ttest_rel(x, y)
        assert float(one["t"]) == pytest.approx(scipys.statistic)
        assert float(one["p"]) == pytest.approx(scipys.pvalue)
        interval = scipys.confidence_interval(0.95)
        low, high = float(one["difference"] - one["half_width"]), float(one["difference"] + one["half_width"])
        assert (low, high) == pytest.approx(tuple(interval))
        assert float(one["hedges_g_av"]) == pytest.approx(pingouin.compute_effsize(x, y, paired=True, eftype="hedges"))
        assert float(one["d_z"]) == pytest.approx(pingouin.compute_effsize(x, y, paired=True, eftype="cohen_dz"))
        assert int(one["n"]) == 5
        assert int(one["positive"]) == int((x > y).sum())
        assert float(one["sign"]) == np.sign((x - y).mean())
        exact = float(paired_difference(a, b, test="wilcoxon")["p"].sel(population=population))
        assert exact == stats.wilcoxon(x, y).pvalue
    plain = paired_difference(list(a[:, 0].values), b[:, 0].values)
    assert float(plain["p"]) == pytest.approx(float(found["p"][0]))


def test_pairs_of_which_one_value_is_missing_are_left_out(accuracy: xr.DataArray) -> None:
    a, b = accuracy.sel(rule="bp", population="V1").copy(), accuracy.sel(rule="dfa", population="V1").copy()
    a[1], b[3] = math.nan, math.inf
    found = paired_difference(a, b)
    kept = [0, 2, 4]
    assert float(found["p"]) == pytest.approx(stats.ttest_rel(a.values[kept], b.values[kept]).pvalue)
    assert (int(found["n"]), int(found["left_out"])) == (3, 2)
    pingouin = pytest.importorskip("pingouin")
    size = pingouin.compute_effsize(a.values[kept], b.values[kept], paired=True, eftype="hedges")
    assert float(found["hedges_g_av"]) == pytest.approx(size)


def test_one_seed_and_differences_without_spread_prove_nothing() -> None:
    alone = paired_difference([0.9], [0.5])
    assert float(alone["difference"]) == pytest.approx(0.4)
    for name in ("p", "half_width", "t", "d_z", "hedges_g_av"):
        assert math.isnan(alone[name]), name
    none = paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert float(none["p"]) == 1
    constant = paired_difference([0.3, 0.4, 0.7], [0.1, 0.2, 0.5])
    assert math.isnan(constant["p"])
    assert float(constant["difference"]) == pytest.approx(0.2)
    assert not bool(equivalence_test([0.3, 0.4, 0.7], [0.1, 0.2, 0.5], 1.0)["equivalent"])


def test_seeds_that_do_not_match_are_refused_by_name(accuracy: xr.DataArray) -> None:
    a, b = accuracy.sel(rule="bp"), accuracy.sel(rule="dfa")
    with pytest.raises(OptionError, match="seed: 7 in the first alone, 8 in the second alone"):
        paired_difference(a, b.assign_coords(seed=[3, 1, 8, 0, 12]))
    with pytest.raises(OptionError, match="seed 3 is there more than once"):
        paired_difference(a, b.assign_coords(seed=[3, 3, 7, 0, 12]))
    with pytest.raises(OptionError, match="labels along 'seed'"):
        paired_difference(a[:, 0], b[:, 0].values)
    with pytest.raises(OptionError, match="5 and 2 values"):
        paired_difference(a[:, 0].values, [1.0, 2.0])
    with pytest.raises(OptionError, match="population: V2 in the first alone"):
        paired_difference(a, b.sel(population=["V1"]))
    with pytest.raises(OptionError, match="no dimension 'animal'"):
        paired_difference(a, b, dim="animal")
    with pytest.raises(OptionError, match="'wilcoxon'"):
        paired_difference(a, b, test="sign")


def test_holm_is_statsmodels_and_keeps_what_was_not_tested() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(1)
    for size in (1, 2, 7, 40):
        p = rng.random(size) ** 4
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    labelled = xr.DataArray([[0.01, math.nan], [0.04, 0.03]], {"rule": ["a", "b"]}, ["rule", "population"])
    found = holm(labelled)
    assert np.array_equal(found.values, [[0.03, math.nan], [0.06, 0.06]], equal_nan=True)
    assert found.attrs["tests"] == 3
    assert list(found["rule"].values) == ["a", "b"]
    assert labelled.name is None
    assert np.isnan(holm(np.array([math.nan]))).all()
    with pytest.raises(OptionError, match="between 0 and 1"):
        holm(np.array([0.5, 1.2]))


def test_holm_keeps_the_rate_of_wrong_claims_where_plain_tests_do_not() -> None:
    rng = np.random.default_rng(2)
    p = stats.ttest_1samp(rng.normal(size=(1000, 20, 5)), 0, axis=-1).pvalue
    plain = np.mean((p < 0.05).any(1))
    held = np.mean([(holm(family) < 0.05).any() for family in p])
    assert plain > 0.5
    assert held < 0.07


def test_every_pair_of_rules_once_in_the_family(accuracy: xr.DataArray) -> None:
    found = compare_pairs(accuracy)
    assert found.attrs["tests"] == 3 * 2
    one = found.sel(rule="bp", other_rule="clapp++gap", population="V2")
    wanted = paired_difference(accuracy.sel(rule="bp"), accuracy.sel(rule="clapp++gap")).sel(population="V2")
    for name in ("difference", "p", "half_width", "n", "hedges_g_av"):
        assert float(one[name]) == pytest.approx(float(wanted[name])), name
    other = found.sel(rule="clapp++gap", other_rule="bp", population="V2")
    assert float(other["difference"]) == -float(one["difference"])
    assert float(other["p_holm"]) == float(one["p_holm"])
    assert np.isnan(found["p_holm"].sel(rule="bp", other_rule="bp")).all()
    pairs = [("clapp++gap", "dfa"), ("clapp++gap", "bp"), ("dfa", "bp")]
    plain = np.array([found["p"].sel(rule=x, other_rule=y).values for x, y in pairs])
    corrected = np.array([found["p_holm"].sel(rule=x, other_rule=y).values for x, y in pairs])
    assert corrected == pytest.approx(holm(plain))
    gap = accuracy.where((accuracy["rule"] != "dfa") | (accuracy["seed"] != 7))
    assert int(compare_pairs(gap)["n"].sel(rule="bp", other_rule="dfa", population="V1")) == 4
    with pytest.raises(OptionError, match="two entries"):
        compare_pairs(accuracy.sel(rule=["bp"]))
    with pytest.raises(OptionError, match="no dimension 'rules'"):
        compare_pairs(accuracy, dim="rules")
    with pytest.raises(OptionError, match="choose it"):
        compare_pairs(accuracy.to_dataset(name="probe_accuracy"))  # type: ignore[arg-type]


def test_equivalence_is_pingouins_and_statsmodels(accuracy: xr.DataArray) -> None:
    pingouin = pytest.importorskip("pingouin")
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    a, b = accuracy.sel(rule="bp", population="V1"), accuracy.sel(rule="dfa", population="V1")
    for margin in (0.01, 0.05, 0.2):
        found = equivalence_test(a, b, margin)
        assert float(found["p"]) == pytest.approx(
            pingouin.tost(a.values, b.values, bound=margin, paired=True)["pval"].iloc[0]
        )
        assert float(found["p"]) == pytest.approx(weightstats.ttost_paired(a.values, b.values, -margin, margin)[0])
        inside = abs(found["difference"]) + found["half_width_90"] < margin
        assert bool(found["equivalent"]) == bool(inside)
        assert found.attrs["margin"] == margin
    with pytest.raises(OptionError, match="above 0"):
        equivalence_test(a, b, 0.0)


def test_no_difference_shown_is_not_equivalence() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 3), rng.normal(0, 1, 3)
    assert float(paired_difference(a, b)["p"]) > 0.05
    assert not bool(equivalence_test(a, b, 0.5)["equivalent"])


@pytest.mark.parametrize("n", [3, 5, 8, 30])
@pytest.mark.parametrize("tests", [1, 28])
def test_power_is_that_of_statsmodels_and_of_simulation(n: int, tests: int) -> None:
    power = pytest.importorskip("statsmodels.stats.power")
    effect = detectable_effect(n, tests=tests)
    theirs = power.TTestPower().power(effect, n, 0.05 / tests)
    if not math.isnan(theirs):  # far out scipy's noncentral t has no value
        assert theirs == pytest.approx(0.8, abs=1e-6)
    rng = np.random.default_rng(4)
    p = stats.ttest_1samp(rng.normal(effect, 1, size=(4000, n)), 0, axis=1).pvalue
    assert np.mean(p < 0.05 / tests) == pytest.approx(0.8, abs=0.025)


def test_how_many_seeds_a_difference_needs() -> None:
    needed = seeds_needed(0.02, 0.02)
    assert detectable_effect(needed) <= 1 < detectable_effect(needed - 1)
    assert seeds_needed(-0.02, 0.02) == needed == 10
    assert seeds_needed(0.02, 0.02, tests=28) > needed
    assert detectable_difference(0.015, 3) == 0.015 * detectable_effect(3)
    assert detectable_effect(1) == math.inf
    with pytest.raises(OptionError, match="more than"):
        seeds_needed(1e-4, 1.0)
    with pytest.raises(OptionError, match="spread"):
        seeds_needed(0.1, 0.0)
    with pytest.raises(OptionError, match="one test"):
        detectable_effect(3, tests=0)
    with pytest.raises(OptionError, match="alpha"):
        detectable_effect(3, alpha=5)
