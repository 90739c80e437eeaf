"""What weights become: spectra, distributions, turnover, time to learn, feedback alignment and receptive fields."""

import numpy as np
import pytest
import xarray as xr
from path_trees import Watched, group, many_runs, one_run
from scipy import stats

from analysis import feedback_angle, receptive_fields, time_to_learn, turnover, weight_distribution, weight_spectrum
from neurossl.errors import OptionError, TrajectoryError

NAME = "retina->V1"
rng = np.random.default_rng(0)


def with_singular_values(values: np.ndarray, post: int = 6, pre: int = 8) -> np.ndarray:
    left = np.linalg.qr(rng.standard_normal((post, post)))[0][:, : len(values)]
    right = np.linalg.qr(rng.standard_normal((pre, pre)))[0][:, : len(values)]
    return (left * values) @ right.T


def test_spectrum_of_matrices_with_known_singular_values() -> None:
    values = np.array([4.0, 2.0, 1.0, 1.0, 0.5, 0.25])
    flat, one = np.full(6, 3.0), np.array([5.0, 0, 0, 0, 0, 0])
    found = weight_spectrum(one_run({NAME: np.stack([with_singular_values(v) for v in (values, flat, one)])})).isel(
        pathway=0
    )
    np.testing.assert_allclose(found["singular_value"], [values, flat, one], atol=1e-12)
    assert found["spectral_norm"].values.tolist() == pytest.approx([4, 3, 5])
    shares = values / values.sum()
    entropy = stats.entropy(shares)
    assert found["effective_rank"].values.tolist() == pytest.approx([np.exp(entropy), 6, 1])
    energy = values**2
    assert found["stable_rank"].values.tolist() == pytest.approx([energy.sum() / 16, 6, 1])
    assert found["participation_ratio"].values.tolist() == pytest.approx([energy.sum() ** 2 / (energy**2).sum(), 6, 1])
    change = weight_spectrum(one_run({NAME: np.stack([with_singular_values(values)] * 2)}), of="change").isel(pathway=0)
    assert (change["singular_value"] == 0).all()
    assert change["effective_rank"].isnull().all()


def test_spectra_of_convolutions_and_of_sparse_pathways() -> None:
    kernels = rng.standard_normal((2, 4, 3, 2, 2))
    found = weight_spectrum(one_run({NAME: kernels, "V1->V2": rng.standard_normal((2, 7, 9))}))
    known = np.linalg.svd(kernels[1].reshape(4, 12), compute_uv=False)
    np.testing.assert_allclose(found["singular_value"].sel(pathway=NAME)[1, :4], known)
    assert found["singular_value"].sel(pathway=NAME)[1, 4:].isnull().all(), "the smaller pathway has fewer"
    partners = np.stack([rng.choice(10, 3, replace=False) for _ in range(5)])
    table = rng.standard_normal((1, 5, 3))
    full = np.zeros((5, 10))
    np.put_along_axis(full, partners, table[0], 1)
    weight = xr.Dataset(
        {"weight": (("snapshot", "post", "partner"), table)},
        {"snapshot": [0], "presynaptic": (("post", "partner"), partners)},
        {"pathway": NAME},
    )
    sparse = weight_spectrum(xr.DataTree.from_dict({"/weights/a": weight}))
    np.testing.assert_allclose(sparse["singular_value"][0, 0], np.linalg.svd(full, compute_uv=False))


def test_independent_weights_have_the_spectral_norm_of_yin_bai_and_krishnaiah() -> None:
    found = weight_spectrum(one_run({NAME: 0.3 * rng.standard_normal((1, 300, 200))}))
    assert float(found["spectral_norm"][0, 0]) == pytest.approx(float(found["spectral_norm_if_random"][0, 0]), rel=0.03)


def test_a_spectrum_needs_all_synapses() -> None:
    tree = xr.DataTree.from_dict({"/weights/a": group(NAME, rng.standard_normal((2, 5)), coords={"synapse": range(5)})})
    with pytest.raises(TrajectoryError, match="only 5 chosen synapses"):
        weight_spectrum(tree)
    with pytest.raises(OptionError, match="'weight' or 'change', got 'bias'"):
        weight_spectrum(one_run({NAME: np.ones((2, 3, 4))}), of="bias")


def test_distribution_is_that_of_scipy() -> None:
    values = np.stack([rng.standard_normal((30, 20)), rng.exponential(size=(30, 20))])
    found = weight_distribution(many_runs({"a": [{NAME: values}], "b": [{NAME: 2 * values[:1]}]}), bins=25, near=0.5)
    first = found.sel(rule="a", seed=0, pathway=NAME)
    np.testing.assert_allclose(first["skewness"], stats.skew(values.reshape(2, -1), axis=1))
    np.testing.assert_allclose(first["kurtosis"], stats.kurtosis(values.reshape(2, -1), axis=1))
    np.testing.assert_allclose(first["mean"], values.mean((1, 2)))
    np.testing.assert_allclose(first["deviation"], values.std((1, 2)))
    level = 0.5 * np.sqrt(np.square(values[0]).mean())
    np.testing.assert_allclose(first["near_zero"], (np.abs(values) < level).mean((1, 2)))
    width = np.diff(found["weight"].sel(pathway=NAME).values)[0]
    np.testing.assert_allclose(first["density"].sum("bin") * width, 1)
    assert found["density"].sel(rule="b", seed=0, pathway=NAME)[1].isnull().all(), "not recorded"
    constant = weight_distribution(one_run({NAME: np.zeros((2, 3, 4))})).isel(pathway=0)
    assert constant["skewness"].isnull().all()
    np.testing.assert_allclose(constant["density"].sum("bin") * np.diff(constant["weight"])[0], 1)
    for wrong in ({"bins": 0}, {"near": 0.0}):
        with pytest.raises(OptionError, match="expected a positive number, got 0"):
            weight_distribution(one_run({NAME: values}), **wrong)  # type: ignore[arg-type]


def test_turnover_of_synapses_that_are_exchanged() -> None:
    first = np.arange(1.0, 21).reshape(4, 5)
    swapped = first.copy()
    swapped.flat[[19, 0]] = swapped.flat[[0, 19]]
    opposite = -swapped
    found = turnover(one_run({NAME: np.stack([first, swapped, opposite])}), fraction=0.2).isel(pathway=0)
    assert found["since_start"].values.tolist() == pytest.approx([0, 0.25, 0.25])
    np.testing.assert_allclose(found["since_previous"], [np.nan, 0.25, 0])
    assert found["sign_changes"].values.tolist() == pytest.approx([0, 0, 1])
    drawn = turnover(one_run({NAME: rng.standard_normal((2, 200, 200))}), fraction=0.1)
    assert float(drawn["since_start"][1, 0]) == pytest.approx(drawn.attrs["chance"], abs=0.02)
    assert float(drawn["sign_changes"][1, 0]) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(OptionError, match="between 0 and 1, got 1"):
        turnover(one_run({NAME: first[None]}), fraction=1)


def test_time_to_learn_is_between_two_snapshots() -> None:
    path = np.array([0, 1, 4, 6, 9.5, 10])[:, None, None] * np.ones((3, 4)) + 1
    tree = one_run({NAME: path, "V1->V2": np.ones((6, 2, 2))}, seen=[0, 10, 20, 30, 40, 50])
    found = time_to_learn(tree, fractions=(0.4, 0.5, 0.9))
    assert found["observers"].sel(pathway=NAME).values.tolist() == [20, 30, 40]
    assert found["not_before"].sel(pathway=NAME).values.tolist() == [10, 20, 30]
    assert found["fraction"].values.tolist() == [0.4, 0.5, 0.9]
    assert found["observers"].sel(pathway="V1->V2").isnull().all(), "it has not learned"
    for wrong in ((), (0.0,), (1.5,)):
        with pytest.raises(OptionError, match="fractions: expected numbers between 0 and 1"):
            time_to_learn(tree, fractions=wrong)


def forward(count: int = 3) -> dict[str, np.ndarray]:
    return {
        "retina->V1": rng.standard_normal((count, 6, 9)),
        "V1->V2": rng.standard_normal((count, 5, 6)),
        "V2->V3": rng.standard_normal((count, 4, 5)),
    }


def test_feedback_equal_to_the_transposed_path_is_at_no_angle() -> None:
    weights = forward()
    product = np.einsum("tab,tbc->tca", weights["V2->V3"], weights["V1->V2"])
    weights |= {
        "V2=>V1": -np.swapaxes(weights["V1->V2"], 1, 2),
        "V3=>V2": np.swapaxes(weights["V2->V3"], 1, 2),
        "V3=>V1": product,
    }
    found = feedback_angle(one_run(weights))
    np.testing.assert_allclose(found["angle"].sel(pathway="V2=>V1"), 180, atol=1e-4)
    np.testing.assert_allclose(found["angle"].sel(pathway="V3=>V2"), 0, atol=1e-4)
    np.testing.assert_allclose(found["angle"].sel(pathway="V3=>V1"), 0, atol=1e-4)
    assert found["cosine_with_top"].isnull().all(), "the top has no lateral weights"
    np.testing.assert_allclose(found["deviation_by_chance"].sel(pathway="V3=>V1"), np.degrees(1 / np.sqrt(24)))


def test_fixed_feedback_stored_once_is_compared_with_every_snapshot_and_approached() -> None:
    weights, target = forward(), rng.standard_normal((6, 4))
    weights["V2->V3"][:], weights["V1->V2"][:] = rng.standard_normal((4, 5)), rng.standard_normal((5, 6))
    aligned = np.linalg.pinv(weights["V2->V3"][0]) @ target.T
    weights["V1->V2"][1] = 0.5 * weights["V1->V2"][0] + 0.5 * aligned
    weights["V1->V2"][2] = aligned
    tree = one_run(weights)
    tree["weights/V3_back_to_V1"] = xr.DataTree(group("V3=>V1", target[None]))
    angles = feedback_angle(tree)["angle"].sel(pathway="V3=>V1").values
    assert angles[0] > angles[1] > angles[2]
    assert angles[2] == pytest.approx(0, abs=1e-4)


def test_feedback_of_the_top_through_its_own_lateral_weights() -> None:
    weights = forward()
    weights["V3=>V3"] = rng.standard_normal((3, 4, 4))
    weights["V3=>V2"] = np.swapaxes(weights["V2->V3"], 1, 2) @ weights["V3=>V3"]
    found = feedback_angle(one_run(weights))
    np.testing.assert_allclose(found["cosine_with_top"].sel(pathway="V3=>V2"), 1)
    assert (found["cosine"].sel(pathway="V3=>V2") < 0.99).all()
    assert "lateral" in str(found["reason"].sel(pathway="V3=>V3").values)


def test_feedback_of_convolutions_and_what_has_no_angle() -> None:
    kernels = rng.standard_normal((2, 5, 4, 3, 3))
    weights = {
        "retina->V1": rng.standard_normal((2, 4, 1, 3, 3)),
        "V1->V2": kernels,
        "V2->V3": rng.standard_normal((2, 3, 5)),
    }
    weights |= {"V2=>V1": np.swapaxes(kernels, 1, 2), "V3=>V1": rng.standard_normal((2, 4, 3)), "V9=>V1": np.ones((2, 4, 4))}
    found = feedback_angle(one_run(weights))
    np.testing.assert_allclose(found["angle"].sel(pathway="V2=>V1"), 0, atol=1e-4)
    assert "convolutions" in str(found["reason"].sel(pathway="V3=>V1").values)
    assert "no path forward from V1 to V9" in str(found["reason"].sel(pathway="V9=>V1").values)
    assert found["angle"].sel(pathway=["V3=>V1", "V9=>V1"]).isnull().all()
    with pytest.raises(TrajectoryError, match="no feedback weights were recorded"):
        feedback_angle(one_run({NAME: kernels}))
    with pytest.raises(TrajectoryError, match="'V1->V2' were recorded; there are those of V2=>V1"):
        feedback_angle(one_run(weights), "V1->V2")
    with pytest.raises(TrajectoryError, match="no angle of V9=>V1 can be given: no path forward"):
        feedback_angle(one_run(weights), "V9=>V1")


def test_feedback_that_only_some_rules_have() -> None:
    weights = forward()
    fa = weights | {"V3=>V2": np.swapaxes(weights["V2->V3"], 1, 2)}
    found = feedback_angle(many_runs({"fa": [fa], "bp": [weights]}))
    np.testing.assert_allclose(found["angle"].sel(rule="fa"), 0, atol=1e-4)
    assert found["angle"].sel(rule="bp").isnull().all()
    assert str(found["reason"].sel(rule="bp").values.item()) == "its weights were not stored"


def test_unrelated_feedback_is_at_right_angles_within_chance() -> None:
    found = []
    for _ in range(300):
        weights = forward(1)
        found.append(float(feedback_angle(one_run(weights | {"V3=>V2": rng.standard_normal((1, 5, 4))}))["angle"][0, 0]))
    assert np.mean(found) == pytest.approx(90, abs=3)
    assert np.std(found) == pytest.approx(np.degrees(1 / np.sqrt(20)), rel=0.15)


NETWORK = '{"populations": [{"name": "retina", "shape": [2, 3, 4], "input": true}], "pathways": []}'


def test_receptive_fields_have_the_shape_of_the_input_and_are_lazy() -> None:
    values = rng.standard_normal((3, 50, 24))
    tree = one_run({NAME: values, "V1->V2": np.ones((3, 2, 50))}, network=NETWORK)
    Watched.largest = 0
    fields = receptive_fields(tree)
    assert fields.dims == ("snapshot", "neuron", "channel", "y", "x")
    assert fields.shape == (3, 50, 2, 3, 4)
    assert Watched.largest == 0, "nothing is read yet"
    np.testing.assert_array_equal(fields[1, 7].values, values[1, 7].reshape(2, 3, 4))
    assert Watched.largest == 24
    np.testing.assert_array_equal(
        fields[:, [3, 5], 0, 1:, 2].values, values.reshape(3, 50, 2, 3, 4)[:, [3, 5]][:, :, 0, 1:, 2]
    )
    np.testing.assert_array_equal(fields[0, 2, :, :, [0, 3]].values, values[0, 2].reshape(2, 3, 4)[:, :, [0, 3]])
    np.testing.assert_array_equal(fields.values, values.reshape(3, 50, 2, 3, 4))
    many = receptive_fields(many_runs({"a": [{NAME: values}], "b": [{NAME: values}]}, network=NETWORK))
    np.testing.assert_array_equal(many.sel(rule="b", seed=0)[2, 1].values, values[2, 1].reshape(2, 3, 4))


def test_receptive_fields_without_a_shape_are_square_or_asked_for() -> None:
    square = receptive_fields(one_run({NAME: rng.standard_normal((1, 3, 16))}))
    assert square.shape == (1, 3, 1, 4, 4)
    assert "taken for a square" in square.attrs["shape"]
    tree = one_run({NAME: rng.standard_normal((1, 3, 24))})
    with pytest.raises(TrajectoryError, match=r"24 presynaptic neurons have no shape: give shape="):
        receptive_fields(tree)
    assert receptive_fields(tree, shape=(4, 6)).shape == (1, 3, 1, 4, 6)
    with pytest.raises(OptionError, match=r"of 24 values in 'retina->V1', got \(5, 5\)"):
        receptive_fields(tree, shape=(5, 5))
    kernels = rng.standard_normal((2, 4, 3, 5, 5))
    fields = receptive_fields(one_run({NAME: kernels}))
    assert fields.dims == ("snapshot", "neuron", "channel", "y", "x")
    np.testing.assert_array_equal(fields.values, kernels)
    sampled = xr.DataTree.from_dict({"/weights/a": group(NAME, np.ones((2, 5)), coords={"synapse": range(5)})})
    with pytest.raises(TrajectoryError, match="along synapse are no images"):
        receptive_fields(sampled)
    with pytest.raises(TrajectoryError, match="no weights of a feedforward pathway"):
        receptive_fields(one_run({"V1=>V1": np.ones((1, 2, 2))}))
