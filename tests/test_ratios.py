"""Ratios of means: the interval inverts the paired t test, and covers."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from analysis import ratio_of_means
from neurossl.errors import OptionError


def test_at_its_ends_a_paired_t_test_has_p_of_five_per_cent() -> None:
    generator = np.random.default_rng(0)
    b = 10 + generator.standard_normal(8)
    a = 0.4 * b + generator.standard_normal(8)
    found = ratio_of_means(a, b)
    assert float(found["ratio"]) == pytest.approx(a.mean() / b.mean())
    assert float(found["low"]) < float(found["ratio"]) < float(found["high"])
    for end in ("low", "high"):
        assert stats.ttest_1samp(a - float(found[end]) * b, 0).pvalue == pytest.approx(0.05, abs=1e-9)


def test_it_covers_the_true_ratio_in_nineteen_of_twenty_draws() -> None:
    generator = np.random.default_rng(1)
    shared = generator.standard_normal((4000, 6))
    a = xr.DataArray(2 + shared + generator.standard_normal((4000, 6)), dims=("draw", "seed"))
    b = xr.DataArray(8 + shared, dims=("draw", "seed"))
    found = ratio_of_means(a, b)
    covered = (found["low"] <= 0.25) & (found["high"] >= 0.25)
    assert bool(found["low"].notnull().all())
    assert float(covered.mean()) == pytest.approx(0.95, abs=0.012)


def test_a_mean_below_that_may_be_nothing_leaves_no_interval() -> None:
    found = ratio_of_means([1.0, 1.1, 0.9], [0.1, -0.1, 0.05])
    assert np.isfinite(found["ratio"])
    assert np.isnan(found["low"])
    assert np.isnan(found["high"])
    assert np.isnan(ratio_of_means([1.0], [2.0])["low"])
    assert np.isnan(ratio_of_means([1.0, 2.0], [0.0, 0.0])["ratio"])


def test_what_is_not_finite_is_left_out_and_seeds_have_to_match() -> None:
    found = ratio_of_means([2.5, np.nan, 3.0, 2.0], [5.0, 5.0, 6.0, 4.0])
    assert (int(found["n"]), int(found["left_out"])) == (3, 1)
    assert float(found["ratio"]) == pytest.approx(0.5)
    assert float(found["low"]) == pytest.approx(0.5, abs=1e-6)
    one = xr.DataArray([1.0, 2.0], dims="seed", coords={"seed": [0, 1]})
    with pytest.raises(OptionError, match="2 in the second alone"):
        ratio_of_means(one, one.assign_coords(seed=[0, 2]))
