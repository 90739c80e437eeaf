"""Noise, bias and variance, positive fractions, gates and efficiency: against closed forms, simulations and statsmodels."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import dense_circuit, full_moment, simulated

from analysis import (
    TrajectoryWriter,
    alignment_over_training,
    bias_variance,
    corrected_cosine,
    efficiency,
    expected_ceiling,
    gates,
    open_trajectory,
    positive_fraction,
    weight_drift,
)
from neurossl.errors import TrajectoryError
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# Ceiling


def test_the_cosine_of_larger_batches_follows_from_that_of_halves() -> None:
    """Signal and white noise in many dimensions, batches of 1, 2 and 8 units of observers."""
    rng = np.random.default_rng(0)
    size, signal = 2000, rng.normal(size=2000) * 0.5
    for factor in (2, 8):
        small, large = [], []
        for _ in range(200):
            noise = rng.normal(size=(2, factor, size))
            small.append(cosine(signal + noise[0, 0], signal + noise[1, 0]))
            large.append(cosine(signal + noise[0].mean(0), signal + noise[1].mean(0)))
        assert expected_ceiling(float(np.mean(small)), factor) == pytest.approx(np.mean(large), abs=0.005)
        assert abs(np.mean(large) - np.mean(small)) > 0.1


def test_the_formula_in_numbers_arrays_and_labels() -> None:
    assert expected_ceiling(0.5) == pytest.approx(2 / 3)
    assert expected_ceiling(0.5, 1) == 0.5
    assert expected_ceiling(1.0, 7) == 1
    assert expected_ceiling(0.0) == 0
    assert math.isnan(expected_ceiling(-1.0))
    assert math.isnan(expected_ceiling(math.nan))
    half = xr.DataArray([0.5, np.nan], {"pathway": ["a", "b"]}, ["pathway"])
    found = expected_ceiling(half)
    assert found["pathway"].values.tolist() == ["a", "b"]
    assert np.allclose(found, [2 / 3, np.nan], equal_nan=True)
    assert np.allclose(expected_ceiling(np.array([0.5, 1.0])), [2 / 3, 1])
    for wrong in (0, -1, math.nan):
        with pytest.raises(TrajectoryError, match="factor must be > 0"):
            expected_ceiling(0.5, wrong)
    with pytest.raises(TrajectoryError, match="expected cosines, got 45"):
        expected_ceiling(np.array([0.5, 45.0]))


def test_corrected_for_noise_the_cosine_is_that_of_the_expected_updates() -> None:
    rng = np.random.default_rng(1)
    d, g = (rng.normal(size=3000) for _ in range(2))
    d = 0.6 * g + 0.8 * d
    rows: dict[str, list[float]] = {"ceiling": [], "self_ceiling": [], "cross_cosine": []}
    for _ in range(100):
        mine, other = d + 2 * rng.normal(size=(2, 3000)), g + rng.normal(size=(2, 3000))
        rows["ceiling"].append(cosine(*other))
        rows["self_ceiling"].append(cosine(*mine))
        rows["cross_cosine"].append((cosine(mine[0], other[1]) + cosine(mine[1], other[0])) / 2)
    measures = xr.Dataset({name: ("event", values) for name, values in rows.items()})
    assert float(corrected_cosine(measures)) == pytest.approx(cosine(d, g), abs=0.02)
    assert abs(np.mean(rows["cross_cosine"]) - cosine(d, g)) > 0.2, "which the plain one is not"
    noise = measures.assign(ceiling=-measures["ceiling"])
    assert math.isnan(float(corrected_cosine(noise)))
    with pytest.raises(TrajectoryError, match="'ceiling' was not recorded: add AlignmentMeasures"):
        corrected_cosine(measures.drop_vars("ceiling"))


# Bias and variance


def test_bias_and_variance_of_a_known_distribution() -> None:
    rng = np.random.default_rng(2)
    g = rng.normal(size=(30, 40))
    expected = 2 * g + rng.normal(size=(30, 40))
    noise = 3.0
    repeats = 400
    updates = xr.DataArray(expected + noise * rng.normal(size=(repeats, 30, 40)), dims=["repeat", "post", "pre"])
    found = bias_variance(updates, xr.DataArray(g, dims=["post", "pre"]))
    true = 1 - cosine(expected.ravel(), g.ravel())
    power = np.sum(expected**2)
    assert float(found["bias_corrected"]) == pytest.approx(true, abs=0.003)
    assert float(found["variance"]) == pytest.approx(noise**2 * g.size / power, rel=0.02)
    along = float(np.sum(expected * g) / np.linalg.norm(g))
    assert float(found["projection"]) == pytest.approx(along, rel=0.01)
    rest = power + noise**2 * g.size - along**2 - noise**2
    assert float(found["snr"]) == pytest.approx(along / math.sqrt(rest), rel=0.01)
    few = bias_variance(updates.isel(repeat=slice(4)), xr.DataArray(g, dims=["post", "pre"]))
    assert float(few["bias"]) > true + 0.1, "the noise that is left in a mean of four"
    assert abs(float(few["bias_corrected"]) - true) < 0.1


def test_bias_and_variance_in_closed_form() -> None:
    updates = np.array([[[3.0, 1.0]], [[3.0, -1.0]]])
    found = bias_variance(updates, np.array([[1.0, 0.0]]))
    assert float(found["bias"]) == 0
    assert float(found["projection"]) == 3
    assert float(found["snr"]) == 3
    assert float(found["variance"]) == pytest.approx(2 / (9 - 1))
    assert int(found["count"]) == 2
    labelled = xr.DataArray(updates, dims=["repeat", "post", "pre"])
    once = xr.DataArray([[1.0, 0.0]], dims=["post", "pre"])
    by_rule = bias_variance(xr.concat([labelled, 2 * labelled], "rule"), once)
    assert by_rule["bias"].dims == ("rule",)
    assert by_rule["projection"].values.tolist() == [3, 6]
    assert float(bias_variance(labelled, xr.concat([once, 3 * once], "repeat"))["projection"]) == 3
    same = bias_variance(np.ones((3, 4)), np.ones(4))
    assert float(same["bias"]) == pytest.approx(0, abs=1e-12)
    assert float(same["variance"]) == 0
    assert math.isnan(float(same["snr"])), "nothing beside the reference"
    silent = bias_variance(np.zeros((3, 4)), np.ones(4))
    assert math.isnan(float(silent["bias"]))
    assert math.isnan(float(bias_variance(np.ones((3, 4)), np.zeros(4))["projection"]))


def test_updates_that_cannot_be_compared_are_refused() -> None:
    updates = xr.DataArray(np.ones((3, 2, 4)), {"pre": [0, 1, 2, 3]}, ["repeat", "post", "pre"])
    reference = xr.DataArray(np.ones((2, 4)), {"pre": [4, 5, 6, 7]}, ["post", "pre"])
    with pytest.raises(TrajectoryError, match="not of the same synapses"):
        bias_variance(updates, reference)
    with pytest.raises(TrajectoryError, match="at least two repeats along 'repeat'"):
        bias_variance(updates.isel(repeat=[0]), reference)
    with pytest.raises(TrajectoryError, match="at least two repeats along 'seed'"):
        bias_variance(updates, reference, dim="seed")
    with pytest.raises(TrajectoryError, match="the same axes of synapses"):
        bias_variance(updates, reference.rename(pre="presynaptic"))
    with pytest.raises(TrajectoryError, match="expected an array of numbers, got str"):
        bias_variance("updates", reference)


# Trees


NETWORK = {
    "populations": [{"name": "retina", "input": True}, {"name": "V1"}, {"name": "V2"}],
    "pathways": [{"name": "retina->V1", "kind": "feedforward"}, {"name": "V1->V2", "kind": "feedforward"}],
}


def tree(alignment: dict[str, Any] | None = None, accuracy: Any = None, norm: Any = None, **attrs: Any) -> xr.DataTree:
    """Return a tree of one run (event, name), or of many with leading axes rule and seed."""

    def table(variables: dict[str, Any], label: str, names: list[str]) -> xr.Dataset:
        arrays = {name: np.asarray(values, float) for name, values in variables.items()}
        dims = ("rule", "seed", "event", label)
        coords: dict[str, Any] = {label: names, "event": np.arange(next(iter(arrays.values())).shape[-2])}
        if next(iter(arrays.values())).ndim == 4:
            coords["rule"] = ["a", "b"]
        return xr.Dataset({name: (dims[-array.ndim :], array) for name, array in arrays.items()}, coords)

    nodes = {"/": xr.Dataset(attrs={"network": json.dumps(NETWORK), "rule": "a", **attrs})}
    if alignment is not None:
        nodes["/alignment"] = table(alignment, "pathway", ["retina->V1", "V1->V2"])
    if accuracy is not None:
        nodes["/performance"] = table({"probe_accuracy": accuracy}, "population", ["retina", "V1", "V2"])
    if norm is not None:
        nodes["/activity"] = table({"norm": norm}, "population", ["V1", "V2"])
    return xr.DataTree.from_dict(nodes)


# Positive fraction


def test_the_positive_fraction_and_its_interval() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    cosines = np.array([[0.1, 0.5], [-0.2, 0.5], [0.3, 0.5], [np.nan, 0.5], [0.2, -0.1]])
    norms = np.ones_like(cosines) * [1.0, 0.1]
    measures = {"cosine": cosines, "update_norm": norms, "reference_norm": np.ones_like(cosines)}
    found = positive_fraction(tree(measures))
    assert found["fraction"].values.tolist() == [0.75, 0.8]
    assert found["count"].values.tolist() == [4, 5]
    for name, hits, trials in (("retina->V1", 3, 4), ("V1->V2", 4, 5)):
        expected = proportion.proportion_confint(hits, trials, method="wilson")
        one = found.sel(pathway=name)
        assert (float(one["lower"]), float(one["upper"])) == pytest.approx(expected)
    assert float(found["network_fraction"]) == 0.75, "0.15, -0.15, 0.35, not known, 0.19"
    assert int(found["network_count"]) == 4
    marked = positive_fraction(tree(measures, by_construction='["V1->V2"]'))
    assert marked["count"].values.tolist() == [4, 0]
    assert np.isnan(marked["fraction"].values).tolist() == [False, True]
    assert float(marked["network_fraction"]) == 0.75, "the descent of the network has all pathways"


def test_zero_updates_have_no_cosine_but_an_inner_product() -> None:
    cosines, norms = np.array([[np.nan, 0.5]]), np.array([[0.0, 1.0]])
    measures = {"cosine": cosines, "update_norm": norms, "reference_norm": np.ones((1, 2)), "trustworthy": [[0.0, 1.0]]}
    found = positive_fraction(tree(measures))
    assert found["count"].values.tolist() == [0, 1]
    assert float(found["network_fraction"]) == 1


def test_seeds_are_kept_apart_or_pooled() -> None:
    rng = np.random.default_rng(0)
    cosines = rng.normal(size=(2, 3, 10, 2))
    measures = {"cosine": cosines, "update_norm": np.ones_like(cosines), "reference_norm": np.ones_like(cosines)}
    many = tree(measures)
    apart = positive_fraction(many)
    assert apart["fraction"].dims == ("rule", "seed", "pathway")
    assert np.allclose(apart["fraction"], (cosines > 0).mean(2))
    pooled = positive_fraction(many, dim=("event", "seed"))
    assert np.allclose(pooled["fraction"], (cosines > 0).mean((1, 2)))
    assert (pooled["upper"] - pooled["lower"] < (apart["upper"] - apart["lower"]).mean("seed")).all()
    with pytest.raises(TrajectoryError, match="expected dim of rule, seed, event, got 'repeat'"):
        positive_fraction(many, dim="repeat")
    with pytest.raises(TrajectoryError, match="needs 'update_norm', not recorded"):
        positive_fraction(tree({"cosine": cosines}))


def test_what_is_not_trusted_does_not_count_and_without_trust_everything_does() -> None:
    ones = np.ones((3, 2))
    cosines = np.array([[0.1, 0.2], [-0.1, 0.2], [0.1, 0.2]])
    measures = {"cosine": cosines, "update_norm": ones, "reference_norm": ones}
    doubted = {**measures, "trustworthy": [[1, 1], [0, 1], [np.nan, 1]]}
    assert positive_fraction(tree(doubted))["fraction"].values.tolist() == [1, 1]
    assert positive_fraction(tree(doubted))["count"].values.tolist() == [2, 3], "of nothing recorded nothing is doubted"
    assert positive_fraction(tree(measures))["fraction"].values.tolist() == pytest.approx([2 / 3, 1])
    assert alignment_over_training(tree(doubted)).attrs["masked"] == 1
    assert alignment_over_training(tree(measures)).attrs["masked"] == 0
    old = tree(doubted)
    stored = (
        old["alignment"].to_dataset().assign(trustworthy=(("event", "pathway"), [[True, True], [False, True], [True] * 2]))
    )
    old["alignment"] = xr.DataTree(stored)
    assert alignment_over_training(old).attrs["masked"] == 1, "as older runs hold it"


# Gates


FINE = {
    "cosine": np.full((3, 2), 0.5),
    "reference_norm": np.full((3, 2), 0.1),
    "stability": [[np.nan] * 2, [0.1, 0.2], [0.1, 0.0]],
    "reference_stability": [[np.nan] * 2, [0.1, 0.1], [0.1, 0.1]],
}
ACCURACY = [[0.8, 0.50, 0.50], [np.nan, 0.55, 0.52], [np.nan, 0.56, 0.52]]


def test_all_gates_hold() -> None:
    found = gates(tree(FINE, ACCURACY, norm=np.array([[1.0, 3], [1, 4], [1, 2]])))
    assert found["holds"].values.tolist() == [1, 1, 1, 1]
    assert found["value"].values.tolist() == pytest.approx([4, 0.1, 0.1, 0.02])
    assert bool(found["all_hold"])
    assert found["reasons"].item() == ""


def test_each_gate_fails_alone_with_its_reason() -> None:
    norm = np.array([[1.0, 3], [1, 4], [1, 2]])
    cases: dict[str, tuple[xr.DataTree, str]] = {
        "activity": (tree(FINE, ACCURACY, norm * [1, 30]), "activity grows 120-fold from one population to the next"),
        "reference": (tree({**FINE, "reference_norm": np.full((3, 2), 1e-8)}, ACCURACY, norm), "falls to 1.0e-08"),
        "drift": (tree({**FINE, "stability": np.full((3, 2), 0.6)}, ACCURACY, norm), "agree (0.60, limit 0.30)"),
        "performance": (tree(FINE, np.array(ACCURACY) * [1, 1, 0.5], norm), "gains +0.010 on the frozen baseline"),
    }
    for name, (one, words) in cases.items():
        found = gates(one)
        assert found["gate"].values[found["holds"].values == 0].tolist() == [name]
        assert words in found["reasons"].item()
        assert not found["all_hold"]
    steady = {**FINE, "stability": np.full((3, 2), 0.6), "reference_stability": np.full((3, 2), 0.5)}
    assert float(gates(tree(steady, ACCURACY, norm))["holds"].sel(gate="drift")) == 1, "the data's doing"
    grown = {**FINE, "activity_growth": np.full((3, 2), 60.0)}
    assert float(gates(tree(grown, ACCURACY, norm))["value"].sel(gate="activity")) == 60, "recorded, it is not computed"


def test_the_baseline_may_be_a_run_a_number_or_the_beginning() -> None:
    run = tree(FINE, ACCURACY)
    value = {"gate": "performance"}
    assert float(gates(run)["value"].sel(value)) == pytest.approx(0.02)
    assert float(gates(run, 0.40)["value"].sel(value)) == pytest.approx(0.12)
    assert float(gates(run, population="V1")["value"].sel(value)) == pytest.approx(0.06)
    frozen = tree(None, np.array(ACCURACY) - 0.2)
    assert float(gates(run, frozen)["value"].sel(value)) == pytest.approx(0.2)
    many = tree(None, np.array(ACCURACY) + np.arange(6).reshape(2, 3, 1, 1) / 10)
    found = gates(many, frozen)
    assert found["value"].sel(value).dims == ("rule", "seed")
    assert np.allclose(found["value"].sel(value), 0.2 + np.arange(6).reshape(2, 3) / 10)
    assert set(found["holds"].sel(gate="drift").values.ravel().tolist()) != {1.0}
    assert "drift: not recorded" in str(found["reasons"][0, 0].item())
    with pytest.raises(TrajectoryError, match="the run has no accuracy of 'V9', only of retina, V1, V2"):
        gates(run, population="V9")
    with pytest.raises(TrajectoryError, match="the baseline has no accuracy of a probe"):
        gates(run, tree(FINE))
    with pytest.raises(TrajectoryError, match="neither alignment nor performance was recorded"):
        gates(tree())


def test_efficiency_is_a_ratio_of_decreases() -> None:
    decreases = {"loss_decrease": [[0.2, -0.1]], "reference_decrease": [[0.4, 0.2]]}
    found = efficiency(xr.Dataset({name: (("event", "pathway"), values) for name, values in decreases.items()}))
    assert found["efficiency"].values.tolist() == [[0.5, -0.5]]
    assert set(found) == {"efficiency"}
    harmful = {"joint_decrease": [[0.2]], "joint_reference_decrease": [[-0.1]]}
    none = efficiency(xr.Dataset({name: (("event", "pathway"), values) for name, values in harmful.items()}))
    assert math.isnan(none["joint_efficiency"].item())
    with pytest.raises(TrajectoryError, match="no steps along the reference were recorded"):
        efficiency(xr.Dataset({"loss_decrease": 1.0}))


# A run


def test_a_stored_run_is_judged(tmp_path: Path) -> None:
    circuit = dense_circuit(None)
    with TrajectoryWriter(tmp_path / "run") as store:
        probe = {"V1": {"probe_accuracy": 0.5}, "V2": {"probe_accuracy": 0.5}}
        recorders = [UpdateRecorder(1), ActivityRecorder(1), PerformanceRecorder(1, lambda now: probe), WeightRecorder(2)]
        simulated(circuit, "clapp++gap", store=store, recorders=recorders).run(
            [full_moment(circuit, seed=k) for k in range(4)]
        )
    stored = open_trajectory(tmp_path / "run")
    found = gates(stored)
    assert found["holds"].sel(gate=["activity", "reference", "performance"]).values.tolist() == [1, 1, 0]
    assert "the readout gains +0.000" in found["reasons"].item()
    fractions = positive_fraction(stored)
    assert fractions["count"].values.tolist()[1] == 0, "the top is its own reference"
    with pytest.raises(TrajectoryError, match="no weights of 'V1->V3' were recorded"):
        weight_drift(stored, ["V1->V3"])
    assert weight_drift(stored, "V1->V2").sizes["pathway"] == 1
