"""Observables of stored runs against closed forms, and a classifier that finds rules where there is something to see."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from analysis.observables import ACTIVITIES, PARTS, WEIGHTS, observables, table_of
from neurossl.errors import OptionError, TrajectoryError
from protocols import rule_fingerprints
from protocols.fingerprints.classifying import SEED_FOLDS, Table, tables
from protocols.fingerprints.results import results_of

PATHWAYS, POPULATIONS = ["retina->V1", "V1->V2", "V2->V3"], ["V1", "V2", "V3"]


def tree_of(weights: list[np.ndarray], responses: list[np.ndarray]) -> xr.DataTree:
    nodes = {}
    for pathway, values in zip(PATHWAYS, weights, strict=True):
        nodes[f"/weights/{pathway}"] = xr.Dataset(
            {"weight": (("snapshot", "post", "pre"), values)}, attrs={"pathway": pathway}
        )
    for name, values in zip(POPULATIONS, responses, strict=True):
        nodes[f"/responses/{name}"] = xr.Dataset(
            {"response": (("snapshot", "stimulus", "neuron"), values)}, attrs={"name": name}
        )
    return xr.DataTree.from_dict(nodes)


def random_tree(seed: int = 0, snapshots: int = 4, units: int = 12) -> xr.DataTree:
    draw = np.random.default_rng(seed)
    weights = [draw.standard_normal((snapshots, units, units)) for _ in PATHWAYS]
    return tree_of(weights, [np.maximum(draw.standard_normal((snapshots, 30, units)), 0) for _ in POPULATIONS])


def value(found: xr.Dataset, name: str, part: str = "lowest", snapshot: int = -1) -> float:
    kind, axis = ("weights", "weight_observable") if name in WEIGHTS else ("activities", "activity_observable")
    return float(found[kind].sel({axis: name, "part": part}).isel(snapshot=snapshot))


def test_weights_that_grow_keep_their_direction_and_move_by_what_they_grow() -> None:
    first = np.random.default_rng(1).standard_normal((50, 40))
    grown = np.stack([first, 1.5 * first, 2.0 * first])
    found = observables(tree_of([grown] * 3, [np.ones((3, 5, 4))] * 3), PATHWAYS, POPULATIONS)
    assert value(found, "moved") == pytest.approx(1.0)
    assert value(found, "kept_direction") == pytest.approx(1.0)
    assert value(found, "deviation") == pytest.approx(2.0)
    assert value(found, "step_cosine") == pytest.approx(1.0)
    assert value(found, "sign_changes") == 0
    assert value(found, "kurtosis") == pytest.approx(float(((first - first.mean()) ** 4).mean() / first.var() ** 2 - 3))


def test_a_change_of_rank_one_has_the_smallest_rank_and_an_orthogonal_one_the_largest() -> None:
    draw = np.random.default_rng(2)
    first = draw.standard_normal((16, 16))
    low = np.stack([first, first + np.outer(draw.standard_normal(16), draw.standard_normal(16))])
    full = np.stack([first, first + np.linalg.qr(draw.standard_normal((16, 16)))[0]])
    responses = [np.ones((2, 5, 4))] * 3
    assert value(observables(tree_of([low] * 3, responses), PATHWAYS, POPULATIONS), "change_rank") == pytest.approx(1 / 16)
    assert value(observables(tree_of([full] * 3, responses), PATHWAYS, POPULATIONS), "change_rank") == pytest.approx(1.0)


def test_responses_of_identical_neurons_are_correlated_and_of_one_dimension() -> None:
    draw = np.random.default_rng(3)
    same = np.repeat(draw.random((2, 40, 1)), 8, axis=2)
    weights = [draw.standard_normal((2, 6, 6))] * 3
    found = observables(tree_of(weights, [same] * 3), PATHWAYS, POPULATIONS)
    assert value(found, "pair_correlation") == pytest.approx(1.0)
    assert value(found, "dimension") == pytest.approx(1 / 8)
    assert value(found, "active_share") == 1.0
    apart = np.tile(np.eye(8), (2, 5, 1))
    found = observables(tree_of(weights, [apart] * 3), PATHWAYS, POPULATIONS)
    assert value(found, "sparseness") == pytest.approx(1 - 1 / 8)
    assert value(found, "pair_correlation") == pytest.approx(-1 / 7)


def test_observables_do_not_depend_on_the_order_of_neurons_or_the_number_of_layers() -> None:
    tree = random_tree()
    found = observables(tree, PATHWAYS, POPULATIONS)
    assert found["weights"].dims == ("part", "snapshot", "weight_observable")
    assert list(found["part"].values) == list(PARTS)
    order = np.random.default_rng(4).permutation(12)
    shuffled = tree_of(
        [tree[f"weights/{name}"]["weight"].values[:, order] for name in PATHWAYS],
        [tree[f"responses/{name}"]["response"].values[:, :, order] for name in POPULATIONS],
    )
    xr.testing.assert_allclose(observables(shuffled, PATHWAYS, POPULATIONS), found)
    assert observables(tree, PATHWAYS[:2], POPULATIONS[:2])["weights"].shape == found["weights"].shape


def test_silent_populations_and_weights_that_stand_still_have_no_statistics_rather_than_wrong_ones() -> None:
    tree = tree_of([np.zeros((2, 4, 4))] * 3, [np.zeros((2, 5, 4))] * 3)
    found = observables(tree, PATHWAYS, POPULATIONS)
    assert np.isnan(value(found, "moved"))
    assert np.isnan(value(found, "sparseness"))
    assert np.isfinite(table_of([found], ("weights", "activities"), [0, 1])).all()


def test_what_is_not_recorded_is_refused_by_name() -> None:
    tree = random_tree()
    with pytest.raises(TrajectoryError, match=r"weights of 'V3->V4' are not recorded"):
        observables(tree, ["V3->V4"], ["V3"])
    with pytest.raises(TrajectoryError, match="as many snapshots"):
        observables(tree_of([np.ones((3, 4, 4))] * 3, [np.ones((2, 5, 4))] * 3), PATHWAYS, POPULATIONS)
    with pytest.raises(TypeError, match="generator"):
        observables(tree, PATHWAYS, POPULATIONS, units=4)


def test_the_same_generator_draws_the_same_neurons_and_fewer_than_there_are() -> None:
    tree = random_tree()
    one, two = (observables(tree, PATHWAYS, POPULATIONS, 4, np.random.default_rng(5)) for _ in range(2))
    xr.testing.assert_identical(one, two)
    everything = observables(tree, PATHWAYS, POPULATIONS, 100, np.random.default_rng(5))
    xr.testing.assert_allclose(everything, observables(tree, PATHWAYS, POPULATIONS))


def outcomes(signal: float, seeds: int = 6) -> list[SimpleNamespace]:
    """Return runs of three rules whose observables differ by so much, in two architectures and data sets."""
    found = []
    for dataset in ("digits", "photographs"):
        for architecture in ("small", "large"):
            for number, rule in enumerate(("bp", "clapp", "ff")):
                for seed in range(seeds):
                    draw = np.random.default_rng([number, seed, len(dataset), len(architecture)])
                    sizes = {"weights": (3, 3, len(WEIGHTS)), "activities": (3, 3, len(ACTIVITIES))}
                    seen = {k: (draw.standard_normal(s) + signal * number).tolist() for k, s in sizes.items()}
                    about = {"dataset": dataset, "architecture": architecture, "rate": 1e-3, "observers": 32}
                    observed = {str(units): seen for units in (None, 16, 4)}
                    found.append(SimpleNamespace(result={"rule": rule, "seed": seed, **about, "observables": observed}))
    return found


@pytest.mark.slow
def test_rules_that_leave_a_trace_are_found_and_rules_that_do_not_are_at_chance() -> None:
    told, untold = (tables(outcomes(signal), 3, 1) for signal in (2.0, 0.0))
    for found, low, high in ((told, 0.95, 1.0), (untold, 0.1, 0.6)):
        mine = [one["accuracy"] for one in found["trials"] if one["held"] == SEED_FOLDS and one["units"] == "all"]
        assert low <= np.mean(mine) <= high
        assert 0.1 < np.mean(found["permuted"]) < 0.6
        shares = {}
        for one in found["confusion"]:
            shares.setdefault((one["held out"], one["rule"]), []).append(one["share"])
        assert all(sum(each) == pytest.approx(1) for each in shares.values())
        assert sum(one["importance"] for one in found["importance"]) == pytest.approx(1)
    results = results_of(json.loads(json.dumps(told)), {})
    assert "100.0±0.0 %" in results.sentences[0]
    assert {row["held out"] for row in results.table} == {"seeds", "architecture", "data set"}


def test_no_run_is_in_the_forest_that_names_it() -> None:
    table = Table.of(outcomes(1.0, seeds=3))
    assert len(table.rules) == 36
    # Rules that are written into the features of one seed only help nobody who has not seen that seed.
    from protocols.fingerprints.classifying import _held_out

    draw = np.random.default_rng(6)
    leak = draw.standard_normal((36, 3))
    leak[:, 0] = [hash((str(rule), int(seed))) % 997 for rule, seed in zip(table.rules, table.seeds, strict=True)]
    named = _held_out(table, leak, SEED_FOLDS, 1)
    assert named is not None
    assert (named == table.rules).mean() < 0.75


def test_one_architecture_and_data_set_are_not_held_out() -> None:
    few = [one for one in outcomes(1.0, 3) if (one.result["dataset"], one.result["architecture"]) == ("digits", "small")]
    table = Table.of(few)
    from protocols.fingerprints.classifying import ARCHITECTURE, _held_out

    assert _held_out(table, table.features(("weights",), [0]), ARCHITECTURE, 1) is None


@pytest.mark.slow
def test_the_protocol_runs_and_goes_on(tmp_path: Path) -> None:
    options = {"tiny": True, "workers": 1, "datasets": ["digits"], "networks": ["mlp:8-8-8"], "rules": ["clapp", "bp"]}
    results = rule_fingerprints.run(str(tmp_path / "out"), **options, permutations=2)
    assert {row["observables"] for row in results.table} == {"weights and activities", "weights", "activities"}
    assert all(row["held out"] == "seeds" for row in results.table)
    assert (tmp_path / "out" / "report.html").is_file()
    more = rule_fingerprints.run(str(tmp_path / "out"), resume=True, workers=1)
    assert more.table == results.table
    grown = rule_fingerprints.run(str(tmp_path / "out"), resume=True, workers=1, seeds=4)
    assert grown.table[0]["seeds"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 2}, "3 seeds"),
        ({"rules": ["bp"]}, "2 rules"),
        ({"permutations": 0}, "permutations"),
        ({"datasets": ["nowhere"]}, "nowhere"),
        ({"networks": ["mlp:x"]}, "mlp:x"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises((OptionError, ValueError), match=said):
        rule_fingerprints.run(str(tmp_path / "out"), tiny=True, **options)
    assert not (tmp_path / "out").exists()


def test_a_matrix_is_drawn_with_its_numbers_and_has_them_as_data() -> None:
    from analysis import Chart
    from analysis.charts import draw
    from analysis.drawn import rows_of

    told = tables(outcomes(2.0, 3), 1, 1)
    results = results_of(told, {})
    chart = next(chart for chart in results.charts if chart.kind == "matrix")
    figure = draw(results, chart)
    assert figure is not None
    (image,) = figure.axes[0].images
    assert image.get_array().shape == (3, 3)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["bp", "clapp", "ff"]
    rows = rows_of(figure)
    assert len(rows) == 9
    assert {"rule", "called", "share"} <= rows[0].keys()
    with pytest.raises(OptionError, match="matrix"):
        Chart("x", "a", "b", "a", "b", kind="heat")
