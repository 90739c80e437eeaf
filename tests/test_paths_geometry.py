"""The shape of paths: lines, circles, random walks, whose measures are known, and principal axes against scikit-learn."""

import numpy as np
import pytest
from path_trees import many_runs, one_run
from sklearn.decomposition import PCA

from analysis import effective_dimension, path_geometry, principal_axes, random_walk_variances
from neurossl.errors import OptionError, TrajectoryError

NAME = "retina->V1"


def right_angles(steps: int, shape: tuple[int, int] = (8, 9), seed: int = 0) -> np.ndarray:
    """Return a walk whose unit steps are at right angles: what a random walk becomes in many dimensions."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((shape[0] * shape[1], steps)))
    return np.concatenate([np.zeros((1, *shape)), basis.T.reshape(steps, *shape).cumsum(0)]) + 1.0


def circle(steps: int, radius: float = 3.0) -> np.ndarray:
    a, b = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 2)))[0].T
    angles = 2 * np.pi * np.arange(steps + 1) / steps
    return (radius * (np.cos(angles)[:, None] * a + np.sin(angles)[:, None] * b)).reshape(-1, 3, 4)


def test_a_line_is_straight_and_has_one_dimension() -> None:
    direction = np.random.default_rng(0).standard_normal((3, 4))
    path = np.array([0, 1, 3, 4.0])[:, None, None] * direction
    tree = one_run({NAME: path}, seen=[0, 10, 50, 60])
    found = path_geometry(tree).isel(pathway=0)
    length = np.linalg.norm(direction)
    assert float(found["path_length"]) == pytest.approx(4 * length)
    assert float(found["straightness"]) == pytest.approx(1)
    np.testing.assert_allclose(found["speed"].values[1:], length * np.array([0.1, 0.05, 0.1]))
    np.testing.assert_allclose(found["curvature"].values[1:-1], 0, atol=1e-5)
    assert np.isnan(found["curvature"].values[[0, -1]]).all()
    assert np.isnan(found["speed"].values[0])
    assert float(effective_dimension(tree)["effective_dimension"][0]) == pytest.approx(1)


def test_a_circle_comes_back() -> None:
    found = path_geometry(one_run({NAME: circle(12)})).isel(pathway=0)
    assert float(found["path_length"]) == pytest.approx(12 * 2 * 3 * np.sin(np.pi / 12))
    assert float(found["straightness"]) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found["curvature"].values[1:-1], 30)
    tree = one_run({NAME: circle(12)[:-1]})
    assert float(effective_dimension(tree)["effective_dimension"][0]) == pytest.approx(2), "two axes of equal variance"


@pytest.mark.parametrize("steps", [3, 10, 40])
def test_a_random_walk_has_the_variances_of_antognini_and_sohl_dickstein(steps: int) -> None:
    tree = one_run({NAME: right_angles(steps)})
    known = 1 / (2 - 2 * np.cos(np.pi * np.arange(1, steps + 1) / (steps + 1)))
    np.testing.assert_allclose(random_walk_variances(steps), known)
    found = principal_axes(tree, axes=3).isel(pathway=0)
    np.testing.assert_allclose(found["explained_variance"], known[:3] / known.sum())
    np.testing.assert_allclose(found["explained_if_random"], known[:3] / known.sum())
    shape = path_geometry(tree).isel(pathway=0)
    assert float(shape["straightness"]) == pytest.approx(1 / np.sqrt(steps))
    assert float(shape["straightness_if_random"]) == pytest.approx(1 / np.sqrt(steps))
    np.testing.assert_allclose(shape["curvature"].values[1:-1], 90)
    dimension = effective_dimension(tree).isel(pathway=0)
    assert float(dimension["effective_dimension"]) == pytest.approx(known.sum() ** 2 / np.square(known).sum())
    assert float(dimension["if_random"]) == pytest.approx(float(dimension["effective_dimension"]))


def test_a_long_random_walk_has_five_halves_dimensions_and_61_percent_on_its_first_axis() -> None:
    variances = random_walk_variances(1500)
    assert variances.sum() ** 2 / np.square(variances).sum() == pytest.approx(2.5, rel=2e-3)
    assert variances[0] / variances.sum() == pytest.approx(6 / np.pi**2, rel=2e-3)
    rng = np.random.default_rng(0)
    real = rng.standard_normal((30, 40, 100)).cumsum(0)
    found = principal_axes(one_run({NAME: real}), axes=1)
    assert float(found["explained_variance"][0, 0]) == pytest.approx(float(found["explained_if_random"][0]), rel=0.1)


def test_steps_of_other_lengths_have_a_random_walk_of_their_own() -> None:
    lengths = np.array([5.0, 1.0, 0.5, 2.0])
    path = np.zeros((5, 8, 9))
    path[1:] = (lengths[:, None, None] * np.diff(right_angles(4), axis=0)).cumsum(0)
    found = effective_dimension(one_run({NAME: path})).isel(pathway=0)
    assert float(found["if_random"]) == pytest.approx(float(found["effective_dimension"]))
    assert float(found["if_random"]) != pytest.approx(
        float(effective_dimension(one_run({NAME: right_angles(4)}))["if_random"][0])
    )


def test_principal_axes_are_those_of_scikit_learn() -> None:
    path = np.random.default_rng(2).standard_normal((9, 5, 6)).cumsum(0)
    found = principal_axes(one_run({NAME: path}), axes=4).isel(pathway=0)
    pca = PCA(4).fit(path.reshape(9, -1))
    known = pca.transform(path.reshape(9, -1))
    known -= known[0]
    np.testing.assert_allclose(np.abs(found["score"].values), np.abs(known), atol=1e-9)
    np.testing.assert_allclose(found["explained_variance"], pca.explained_variance_ratio_)
    np.testing.assert_allclose(found["explained_of_path"], pca.explained_variance_ratio_)
    assert (found["score"].values[-1] >= 0).all(), "the sign is fixed"
    np.testing.assert_allclose(found["score"].values[0], 0, atol=1e-12)


def test_rules_of_one_seed_share_their_axes_and_seeds_do_not() -> None:
    rng = np.random.default_rng(3)
    start = rng.standard_normal((2, 5, 6))
    runs = {
        r: [{NAME: np.concatenate([start[s][None], start[s] + rng.standard_normal((5, 5, 6)).cumsum(0)])} for s in (0, 1)]
        for r in "ab"
    }
    tree = many_runs(runs)
    found = principal_axes(tree, axes=3)
    assert found["score"].dims == ("rule", "seed", "snapshot", "pathway", "axis")
    for seed in (0, 1):
        together = np.concatenate([runs[r][seed][NAME].reshape(6, -1) for r in "ab"])
        pca = PCA(3).fit(together)
        here = found.sel(seed=seed).isel(pathway=0)
        np.testing.assert_allclose(here["explained_variance"].sel(rule="a"), pca.explained_variance_ratio_)
        scores = pca.transform(together) - pca.transform(start[seed].reshape(1, -1))
        np.testing.assert_allclose(np.abs(here["score"].values.reshape(12, 3)), np.abs(scores), atol=1e-9)
    alone = principal_axes(tree, axes=3, shared=())
    single = principal_axes(one_run({NAME: runs["b"][1][NAME]}), axes=3)
    np.testing.assert_allclose(alone["score"].sel(rule="b", seed=1), single["score"])
    larger = {
        r: [{NAME: start[s] + (100 if r == "a" else 1) * (one[NAME] - start[s])} for s, one in enumerate(of)]
        for r, of in runs.items()
    }
    scaled = [principal_axes(many_runs(of), axes=2, scaled=True)["score"] for of in (runs, larger)]
    np.testing.assert_allclose(scaled[0], scaled[1], atol=1e-9)


def test_snapshots_that_a_run_has_not_recorded_do_not_count() -> None:
    path = right_angles(6)
    tree = many_runs({"long": [{NAME: path}], "short": [{NAME: path[:4]}]})
    found = path_geometry(tree).isel(seed=0, pathway=0)
    assert found["path_length"].values.tolist() == pytest.approx([6, 3])
    assert effective_dimension(tree)["snapshots"].values.ravel().tolist() == [7, 4]
    assert np.isnan(found["step"].sel(rule="short").values[4:]).all()


def test_paths_that_stand_still_or_are_one_snapshot_have_no_shape() -> None:
    for path in (np.ones((3, 2, 2)), np.ones((1, 2, 2))):
        tree = one_run({NAME: path})
        assert np.isnan(float(path_geometry(tree)["straightness"][0]))
        assert np.isnan(float(effective_dimension(tree)["effective_dimension"][0]))
        assert principal_axes(tree)["score"].isnull().all()


def test_wrong_axes_are_refused() -> None:
    tree = one_run({NAME: right_angles(3)})
    with pytest.raises(OptionError, match="axes: expected a positive number, got 0"):
        principal_axes(tree, axes=0)
    with pytest.raises(TrajectoryError, match="no several runs along 'rule'"):
        principal_axes(tree, shared="rule")
