"""Where learning leads: accumulated alignment, its chance levels and distances, against closed forms and simulations."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from path_trees import Watched, group, many_runs, one_run
from scipy.stats import ortho_group

import analysis
from analysis import (
    accumulated_alignment,
    distance_between,
    distance_to_end,
    distance_to_start,
    own_references,
    weight_drift,
)
from analysis import pathway_weights as reading
from neurossl.errors import OptionError, TrajectoryError
from neurossl.measures import compare_updates

NAME = "retina->V1"


def directions(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    """Return orthonormal directions, (count, *shape)."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((int(np.prod(shape)), count)))
    return basis.T.reshape(count, *shape)


def line(start: np.ndarray, direction: np.ndarray, steps: int = 4) -> np.ndarray:
    """Return a straight path of unit steps, (steps, ...)."""
    return start + np.arange(steps).reshape(-1, *[1] * start.ndim) * direction


def walk(seed: int, shape: tuple[int, ...] = (6, 5), steps: int = 4, start: np.ndarray | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    moves = rng.standard_normal((steps, *shape))
    moves[0] = rng.standard_normal(shape) if start is None else start
    return moves.cumsum(0)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 150.0])
def test_cosine_distance_and_ratio_of_paths_at_a_known_angle(degrees: float) -> None:
    a, b = directions((6, 5), 2)
    start, angle = np.random.default_rng(1).standard_normal((6, 5)), np.radians(degrees)
    tree = one_run({NAME: line(start, 2 * (np.cos(angle) * a + np.sin(angle) * b))})
    found = accumulated_alignment(tree, one_run({NAME: line(start, a)})).sel(pathway=NAME)
    assert np.isnan(found["cosine"].values[0]), "nothing has moved at the start"
    np.testing.assert_allclose(found["cosine"].values[1:], np.cos(angle), atol=1e-12)
    np.testing.assert_allclose(found["norm_ratio"].values[1:], 2)
    np.testing.assert_allclose(found["relative_distance"].values[1:], np.sqrt(5 - 4 * np.cos(angle)), atol=1e-12)
    np.testing.assert_allclose(found["chance"].values[1:], 1 / np.sqrt(30))
    assert str(found["reason"].values) == ""


def test_it_is_the_measure_of_updates_applied_to_changes() -> None:
    start = walk(0)[0]
    rule, reference = walk(1, start=start), walk(2, start=start)
    found = accumulated_alignment(one_run({NAME: rule.astype("float32")}), one_run({NAME: reference.astype("float32")}))
    for at in (1, 2, 3):
        known = compare_updates((rule[at] - rule[0]), (reference[at] - reference[0]))
        assert float(found["cosine"][at, 0]) == pytest.approx(known["cosine"], abs=1e-6)
        assert float(found["relative_distance"][at, 0]) == pytest.approx(known["relative_error"], rel=1e-5)


def test_chance_levels_are_those_of_random_rotations() -> None:
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((3, 12)) * np.array([[5.0], [2.0], [1.0]])
    change = rng.standard_normal((8, 3)) @ shared
    aim = rng.standard_normal((8, 3)) @ shared + 0.1 * rng.standard_normal((8, 12))
    start = rng.standard_normal((8, 12))
    tree, reference = one_run({NAME: np.stack([start, start + change])}), one_run({NAME: np.stack([start, start + aim])})
    found = accumulated_alignment(tree, reference).isel(snapshot=1, pathway=0)

    def spread(make: Any) -> float:
        cosines = [np.vdot(turned, aim) / np.linalg.norm(turned) / np.linalg.norm(aim) for turned in make]
        assert abs(np.mean(cosines)) < 4 * np.std(cosines) / np.sqrt(len(cosines))
        return float(np.std(cosines))

    post, pre = ortho_group.rvs(8, 4000, random_state=1), ortho_group.rvs(12, 4000, random_state=2)
    assert spread(turn @ change for turn in post) == pytest.approx(float(found["chance_shared_inputs"]), rel=0.04)
    assert spread(change @ turn for turn in pre) == pytest.approx(float(found["chance_shared_outputs"]), rel=0.04)
    assert spread(rng.standard_normal((4000, 8, 12))) == pytest.approx(float(found["chance"]), rel=0.04)
    assert found["chance_shared_inputs"] > 2 * found["chance"], "what both read makes unrelated neurons look alike"


def test_runs_are_paired_by_seed_and_by_the_next_one_for_the_control() -> None:
    paths = {rule: [walk(10 * s + r, start=walk(s)[0]) for s in range(3)] for r, rule in enumerate(("bp", "dfa"), 1)}
    tree = many_runs({rule: [{NAME: path} for path in of] for rule, of in paths.items()})
    found = accumulated_alignment(tree, "bp")
    assert found["cosine"].dims == ("rule", "seed", "snapshot", "pathway")
    other = accumulated_alignment(tree, "bp", pairing="other seed")
    changes = {rule: [path[-1] - path[0] for path in of] for rule, of in paths.items()}
    for seed in range(3):
        for given, partner in ((found, seed), (other, (seed + 1) % 3)):
            known = compare_updates(changes["dfa"][seed], changes["bp"][partner])["cosine"]
            assert float(given["cosine"].sel(rule="dfa", seed=seed)[-1, 0]) == pytest.approx(known)
    assert found["by_construction"].values.tolist() == [True, False]
    np.testing.assert_allclose(found["cosine"].sel(rule="bp").values[:, 1:], 1)
    alone = accumulated_alignment(one_run({NAME: paths["dfa"][1]}, rule="dfa", seed=1), tree.sel(rule="bp"))
    assert float(alone["cosine"][-1, 0]) == pytest.approx(float(found["cosine"].sel(rule="dfa", seed=1)[-1, 0]))
    apart = accumulated_alignment(tree.sel(rule="dfa"), tree.sel(rule="bp"))["cosine"]
    np.testing.assert_allclose(apart, found["cosine"].sel(rule="dfa"))
    assert found["label"].values.tolist() == ["BP", "DFA"]


def test_each_rule_with_the_reference_that_its_manifest_names() -> None:
    starts = walk(0)[0]
    runs = {rule: [{NAME: walk(n, start=starts)}] for n, rule in enumerate(("clapp", "ff", "bp-clapp++", "bp"), 1)}
    tree = many_runs(runs, references=["BP-CLAPP++", "BP-GOODNESS", "None", "None"])
    references = own_references(tree)
    assert references == {"clapp": "bp-clapp++", "bp-clapp++": "bp-clapp++", "bp": "bp"}
    found = accumulated_alignment(tree, references)
    assert "no reference here" in str(found["reason"].sel(rule="ff").values.item())
    assert bool(found["cosine"].sel(rule="ff").isnull().all())
    xr.testing.assert_equal(
        found["cosine"].sel(rule="clapp"), accumulated_alignment(tree, "BP-CLAPP++")["cosine"].sel(rule="clapp")
    )
    with pytest.raises(TrajectoryError, match="do not say what their references are"):
        own_references(many_runs(runs))


def test_the_ceiling_is_the_reference_with_its_twin_on_other_stimuli() -> None:
    start = [walk(s)[0] for s in (0, 1)]
    paths = {rule: [walk(10 * s + r, start=start[s]) for s in (0, 1)] for r, rule in enumerate(("bp", "dfa", "twin"), 1)}
    tree = many_runs({rule: [{NAME: path} for path in of] for rule, of in paths.items()})
    known = [compare_updates(paths["twin"][s][-1] - start[s], paths["bp"][s][-1] - start[s])["cosine"] for s in (0, 1)]
    both, twin = tree.sel(rule=["bp", "dfa"]), tree.sel(rule=["twin"])
    found = accumulated_alignment(both, "bp", ceiling=twin)
    np.testing.assert_allclose(found["ceiling"].sel(rule="dfa").transpose("snapshot", ...)[-1, :, 0], known)
    named = accumulated_alignment(tree, "bp", ceiling="twin")
    np.testing.assert_allclose(named["ceiling"].sel(rule="dfa"), found["ceiling"].sel(rule="dfa"))
    assert "ceiling" not in accumulated_alignment(tree, "bp")
    single = accumulated_alignment(
        one_run({NAME: paths["dfa"][0]}), one_run({NAME: paths["bp"][0]}), ceiling=one_run({NAME: paths["twin"][0]})
    )
    assert float(single["ceiling"][-1, 0]) == pytest.approx(known[0])
    several = accumulated_alignment(tree, {"dfa": "bp", "bp": "twin"}, ceiling={"bp": "twin"})
    np.testing.assert_allclose(several["ceiling"].sel(rule="dfa").transpose("snapshot", ...)[-1, :, 0], known)
    assert several["ceiling"].sel(rule="bp").isnull().all()
    with pytest.raises(TrajectoryError, match="several references: give ceiling="):
        accumulated_alignment(tree, {"dfa": "bp", "bp": "twin"}, ceiling="twin")
    with pytest.raises(TrajectoryError, match="ceiling names 'dfa', which is no reference here; there are bp"):
        accumulated_alignment(tree, "bp", ceiling={"dfa": "twin"})
    with pytest.raises(TrajectoryError, match="there is no rule 'other'; there are bp, dfa, twin"):
        accumulated_alignment(tree, "bp", ceiling="other")


def test_only_moments_at_equal_observers_are_compared() -> None:
    start = walk(0)[0]
    tree = one_run({NAME: walk(1, start=start)}, seen=[0, 10, 20, 30])
    reference = walk(2, start=start)
    found = accumulated_alignment(tree, one_run({NAME: reference}, seen=[0, 20, 40, 60]))["cosine"].values[:, 0]
    assert np.isfinite(found).tolist() == [False, False, True, False]
    rule = walk(1, start=start)
    assert found[2] == pytest.approx(compare_updates(rule[2] - start, reference[1] - start)["cosine"])
    with pytest.raises(TrajectoryError, match=r"no common moments.*0, 10, 20, 30 observers, the reference at 0, 11"):
        accumulated_alignment(tree, one_run({NAME: reference}, seen=[0, 11, 21, 31]))
    with pytest.raises(TrajectoryError, match="first recorded at 0 observers, the reference at 10"):
        accumulated_alignment(tree, one_run({NAME: reference}, seen=[10, 20, 30, 40]))


def test_other_initial_weights_are_said_and_refused_where_there_is_nothing_else() -> None:
    start = walk(0)[0]
    rule = {NAME: walk(1, start=start), "V1->V2": walk(5)}
    reference = {NAME: walk(2, start=start), "V1->V2": walk(6)}
    found = accumulated_alignment(one_run(rule), one_run(reference))
    assert np.isfinite(found["cosine"].sel(pathway=NAME).values[1:]).all()
    assert found["cosine"].sel(pathway="V1->V2").isnull().all()
    assert "other initial weights" in str(found["reason"].sel(pathway="V1->V2").values)
    with pytest.raises(TrajectoryError, match="V1->V2: other initial weights"):
        accumulated_alignment(one_run(rule), one_run(reference), "V1->V2")
    half = walk(1, start=start).astype("float32")
    assert np.isfinite(
        accumulated_alignment(one_run({NAME: half}), one_run({NAME: walk(2, start=start)}))["cosine"][1:]
    ).all()


def test_what_has_not_moved_has_no_direction() -> None:
    start = walk(0)[0]
    still = np.stack([start] * 4)
    for rule, reference in ((still, walk(1, start=start)), (walk(1, start=start), still)):
        found = accumulated_alignment(one_run({NAME: rule}), one_run({NAME: reference}))
        assert found["cosine"].isnull().all()
        assert "not moved" in str(found["reason"].values.item())


def test_chosen_synapses_are_compared_only_with_the_same_ones() -> None:
    start = walk(0, (7,))[0]
    rule, reference = walk(1, (7,), start=start), walk(2, (7,), start=start)

    def tree(values: np.ndarray, index: list[int]) -> xr.DataTree:
        return xr.DataTree.from_dict({"/weights/V1_to_V2": group("V1->V2", values, coords={"synapse": index})})

    index = [0, 2, 3, 8, 9, 11, 20]
    found = accumulated_alignment(tree(rule, index), tree(reference, index))
    known = compare_updates(rule[-1] - start, reference[-1] - start)["cosine"]
    assert float(found["cosine"][-1, 0]) == pytest.approx(known)
    assert float(found["chance"][-1, 0]) == pytest.approx(7**-0.5)
    assert found["chance_shared_inputs"].isnull().all()
    with pytest.raises(TrajectoryError, match="other synapses were chosen"):
        accumulated_alignment(tree(rule, index), tree(reference, [*index[:-1], 21]))


def test_synapses_of_other_runs_in_one_tree_are_not_counted() -> None:
    values = np.full((2, 1, 3, 5), np.nan)
    values[0, 0, :, :3], values[1, 0, :, 2:] = walk(1, (3,), 3), walk(2, (3,), 3)
    coords = {"rule": ["a", "b"], "seed": [0], "synapse": [1, 4, 6, 7, 9]}
    tree = xr.DataTree.from_dict({"/weights/V1->V2": group("V1->V2", values, ("rule", "seed"), coords=coords)})
    drift = weight_drift(tree)
    path = walk(2, (3,), 3)
    assert float(drift.sel(rule="b")[0, -1, 0]) == pytest.approx(
        np.linalg.norm(path[-1] - path[0]) / np.linalg.norm(path[0])
    )
    with pytest.raises(TrajectoryError, match="other synapses"):
        accumulated_alignment(tree.sel(rule=["b"]), tree.sel(rule="a"))


def test_runs_without_a_pathway_and_shorter_runs_are_nan() -> None:
    start = walk(0)[0]
    runs = {
        "bp": [{NAME: walk(1, start=start), "V1->V2": walk(2, start=start)}],
        "ff": [{NAME: walk(3, start=start)[:2]}],
    }
    tree = many_runs(runs)
    found = accumulated_alignment(tree, "bp")
    ff = found.sel(rule="ff", seed=0)
    assert np.isfinite(ff["cosine"].sel(pathway=NAME)).values.tolist() == [False, True, False, False]
    assert ff["cosine"].sel(pathway="V1->V2").isnull().all()
    assert str(ff["reason"].sel(pathway="V1->V2").values) == "not recorded, or not moved"
    drift = weight_drift(tree).sel(rule="ff", seed=0, pathway=NAME)
    assert np.isfinite(drift).values.tolist() == [True, True, False, False]
    alone = weight_drift(one_run({NAME: runs["ff"][0][NAME]}))
    np.testing.assert_allclose(alone.values[:, 0], drift.values[:2])


def test_wrong_names_are_answered_with_those_there_are() -> None:
    tree = many_runs({"bp": [{NAME: walk(1)}], "dfa": [{NAME: walk(1)}]})
    with pytest.raises(TrajectoryError, match="no weights of 'V1->V9' were recorded; there are those of retina->V1"):
        weight_drift(tree, ["V1->V9"])
    with pytest.raises(TrajectoryError, match="no weights of 'V1->V9'"):
        accumulated_alignment(tree, "bp", "V1->V9")
    with pytest.raises(TrajectoryError, match="no rule 'backprop'; there are bp, dfa"):
        accumulated_alignment(tree, "backprop")
    with pytest.raises(TrajectoryError, match="give the tree of the reference run"):
        accumulated_alignment(one_run({NAME: walk(1)}), "bp")
    with pytest.raises(TrajectoryError, match=r"several rules \(bp, dfa\): select one"):
        accumulated_alignment(one_run({NAME: walk(1)}), tree)
    with pytest.raises(OptionError, match="'seed' or 'other seed', got 'none'"):
        accumulated_alignment(tree, "bp", pairing="none")
    with pytest.raises(TrajectoryError, match="no other seed"):
        accumulated_alignment(tree, "bp", pairing="other seed")
    with pytest.raises(TrajectoryError, match="no weights were recorded"):
        weight_drift(xr.DataTree())
    with pytest.raises(TrajectoryError, match="expected the tree of a run"):
        weight_drift(walk(1))  # type: ignore[arg-type]
    with pytest.raises(TrajectoryError, match="no run of seed 7"):
        accumulated_alignment(one_run({NAME: walk(1)}, seed=7), tree.sel(rule="bp"))
    with pytest.raises(TrajectoryError, match="no pathway was asked for"):
        weight_drift(tree, [])


def test_a_large_layer_is_read_in_blocks_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    start = walk(0, (40, 30))[0]
    rules = ("bp", "dfa")
    runs = {rule: [{NAME: walk(n, (40, 30), 12, start)}] for n, rule in enumerate(rules, 1)}
    tree = many_runs(runs)

    def everything() -> list[xr.Dataset]:
        return [
            accumulated_alignment(tree, "bp").drop_vars("reason"),
            distance_between(tree),
            distance_to_end(tree, "bp").drop_vars("reason"),
            distance_to_start(tree),
            analysis.path_geometry(tree),
            analysis.effective_dimension(tree),
            analysis.principal_axes(tree),
        ]

    whole = everything()
    monkeypatch.setattr(reading, "MEMORY", 40 * 30 * 8)
    monkeypatch.setattr("analysis.path_shape.MEMORY", 40 * 30 * 8)
    Watched.largest = 0
    for one, other in zip(everything(), whole, strict=True):
        xr.testing.assert_allclose(one, other)
    assert Watched.largest <= 40 * 30, "never more than one snapshot"


def test_distance_to_the_end_of_the_reference() -> None:
    a, b = directions((6, 5), 2)
    start = walk(0)[0]
    tree = many_runs({"bp": [{NAME: line(start, a)}], "away": [{NAME: line(start, b)}]})
    found = distance_to_end(tree, "bp").isel(seed=0, pathway=0)
    np.testing.assert_allclose(found["relative_distance"].sel(rule="bp"), [1, 2 / 3, 1 / 3, 0], atol=1e-12)
    np.testing.assert_allclose(found["distance"].sel(rule="away"), np.sqrt(9 + np.arange(4) ** 2))
    with pytest.raises(TrajectoryError, match="other initial weights"):
        distance_to_end(one_run({NAME: walk(3)}), one_run({NAME: walk(4)}))


def test_distances_between_rules() -> None:
    a, b = directions((6, 5), 2)
    start = walk(0)[0]
    paths = {"east": line(start, a), "north": line(start, b), "west": line(start, -a), "elsewhere": walk(9)}
    found = distance_between(many_runs({rule: [{NAME: path}] for rule, path in paths.items()})).isel(seed=0, pathway=0)
    assert found["distance"].dims == ("rule", "other", "snapshot")
    last = found.isel(snapshot=-1)
    np.testing.assert_allclose(last["cosine"].sel(rule="east", other=["east", "north", "west"]), [1, 0, -1], atol=1e-12)
    np.testing.assert_allclose(
        last["relative_distance"].sel(rule="east", other=["east", "north", "west"]), [0, 1, np.sqrt(2)], atol=1e-12
    )
    np.testing.assert_allclose(last["distance"].sel(rule="north", other="west"), 3 * np.sqrt(2))
    np.testing.assert_allclose(last["distance"].values, last["distance"].values.T)
    assert last["distance"].sel(rule="elsewhere", other="east").isnull()
    with pytest.raises(TrajectoryError, match="no several runs along 'rule'"):
        distance_between(one_run({NAME: walk(1)}))


def test_distance_to_start_is_absolute_and_drift_relative() -> None:
    path = walk(4)
    found = distance_to_start(one_run({NAME: path}))
    np.testing.assert_allclose(found["distance"][:, 0], np.linalg.norm((path - path[0]).reshape(4, -1), axis=1))
    np.testing.assert_allclose(weight_drift(one_run({NAME: path})), found["distance"] / np.linalg.norm(path[0]))
    from_zero = one_run({NAME: path - path[0]})
    assert weight_drift(from_zero).isnull().all()
    assert found["observers_seen"].values.tolist() == [0, 100, 200, 300]
