"""Many runs as one tree: labels of all runs, lazy tensors, and what is refused because it cannot stand side by side."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from test_analysis import NETWORK, write_run

import analysis
from analysis.alignment import alignment_over_training
from analysis.distances import weight_drift
from neurossl.errors import OptionError, TrajectoryError
from neurossl.store import Variable


def tensors(path: Path, seed: int, events: list[int], rule: str = "clapp", label: str = "", **about: Any) -> Path:
    """Store weights (snapshot, post, pre) that tell seed and event, and whole numbers beside them."""
    kinds = {"size": (3, 4), **about.pop("kinds", {})}
    with analysis.TrajectoryWriter(path) as writer:
        writer.describe({"rule": rule, "label": label or rule.upper(), "seed": seed, "network": NETWORK, **about})
        writer.declare("weights", "V1->V2", {"weight": Variable(("post", "pre"))})
        writer.declare("counts", "V1", {"spikes": Variable(("neuron",), dtype="int64")})
        for event in events:
            at = {"event": event, "time": event * 0.5, "observers_seen": event * 8}
            weight = np.full(kinds["size"], 100.0 * seed + event) + np.arange(np.prod(kinds["size"])).reshape(kinds["size"])
            writer.record("weights", "V1->V2", **at, values={"weight": weight})
            writer.record("counts", "V1", **at, values={"spikes": np.array([seed, event])})
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [tensors(tmp_path / "a", 0, [0, 10, 20]), tensors(tmp_path / "b", 4, [0, 5, 20])]


def test_any_part_of_a_tensor_is_what_the_run_has_there(two: list[Path]) -> None:
    weight = analysis.open_runs(two)["weights/V1->V2"]["weight"]
    assert weight.dims == ("rule", "seed", "snapshot", "post", "pre")
    assert "V1_to_V2" in analysis.open_runs(two)["weights"], "the stored name is an answer, too"
    assert weight["snapshot"].values.tolist() == [0, 5, 10, 20]
    assert weight["seed"].values.tolist() == [0, 4]
    whole = weight.values
    for seed, path in zip((0, 4), two, strict=True):
        (node,) = analysis.open_trajectory(path)["weights"].children.values()
        own = node["weight"]
        there = whole[0, [0, 4].index(seed)][np.isin(weight["snapshot"].values, own["snapshot"].values)]
        assert (there == own.values).all()
    assert np.isnan(whole[0, 0, 1]).all()
    assert np.isnan(whole[0, 1, 2]).all()
    keys: list[Any] = [
        (0, 1, 3),
        (0, slice(None), [3, 0], slice(None, None, -1), [1, 1, 0]),
        (0, [1, 0], -1, 2, slice(1, 4, 2)),
        (slice(0, 0),),
        (0, 0, slice(1, 1)),
        (Ellipsis, 0),
    ]
    plain = xr.DataArray(whole, dims=weight.dims)
    for key in keys:
        xr.testing.assert_equal(weight[key].drop_vars(weight[key].coords), plain[key])
    points = {"snapshot": xr.DataArray([0, 3], dims="point"), "pre": xr.DataArray([2, 1], dims="point")}
    xr.testing.assert_equal(weight.isel(points).drop_vars(weight.isel(points).coords), plain.isel(points))


def test_nothing_is_read_before_it_is_asked_for(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis.runs_lazy as lazy

    read: list[tuple[int, ...]] = []
    original = lazy._RunsArray._put

    def counted(self: Any, values: np.ndarray, *rest: Any) -> None:
        read.append(values.shape)
        original(self, values, *rest)

    monkeypatch.setattr(lazy._RunsArray, "_put", counted)
    tree = analysis.open_runs(two)
    repr(tree)
    assert not read
    _ = tree["weights/V1->V2"]["weight"].sel(seed=4, snapshot=5).isel(post=slice(0, 2), pre=0).values
    assert read == [(1, 2, 1)], "one run, one snapshot, two neurons, one synapse each"


def test_whole_numbers_stay_whole_unless_something_is_missing(two: list[Path], tmp_path: Path) -> None:
    gappy = analysis.open_runs(two)["counts/V1"]["spikes"]
    assert gappy.dtype == np.float64
    assert np.isnan(gappy.sel(seed=0, snapshot=5)).all()
    full = analysis.open_runs([two[0], tensors(tmp_path / "c", 7, [0, 10, 20])])["counts/V1"]["spikes"]
    assert full.dtype == np.int64
    assert full.sel(seed=7, snapshot=20).values[0].tolist() == [7, 20]


def test_dask_and_netcdf_take_it(two: list[Path], tmp_path: Path) -> None:
    tree = analysis.open_runs(two)
    weight = tree["weights/V1->V2"]["weight"]
    pytest.importorskip("dask")
    assert (weight.chunk(snapshot=1).mean("snapshot").values == weight.mean("snapshot").values).all()
    frame = tree["weights/V1->V2"].to_dataset().isel(post=slice(0, 2), pre=slice(0, 2)).to_dataframe()
    assert len(frame) == 2 * 4 * 2 * 2, "no axis of others is inherited"
    tables = tree.drop_nodes(["weights", "counts"])
    tables.to_netcdf(tmp_path / "tables.nc")


def test_the_tables_have_what_every_run_recorded_at_its_events(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{rule}{seed}", rule, seed) for rule in ("clapp", "lazy") for seed in (2, 0)]
    tree = analysis.open_runs(runs)
    assert tree["alignment"]["rule"].values.tolist() == ["clapp", "lazy"]
    assert tree["performance"]["population"].values.tolist() == ["retina", "V1", "V2"], "the order of the network"
    for path in runs:
        one, about = analysis.open_trajectory(path), analysis.manifest(path)
        mine = tree["alignment"]["cosine"].sel(rule=about["rule"], seed=about["seed"])
        own = one["alignment"]["cosine"].sel(pathway=mine["pathway"])
        np.testing.assert_array_equal(mine.values, own.values)
    assert tree["alignment"]["observers_seen"].dims == ("event",)
    assert tree["alignment"]["label"].values.tolist() == ["CLAPP", "LAZY"]
    assert tree["runs"]["seconds"].sel(rule="lazy", seed=2) == 3.5
    assert tree["runs"]["path"].sel(rule="clapp", seed=0) == str(runs[1])


def test_measures_take_the_tree_of_one_run_and_of_many(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), "clapp", seed) for seed in (0, 1)]
    many = analysis.open_runs(runs)
    drift, found = weight_drift(many), alignment_over_training(many)
    for seed, path in enumerate(runs):
        one = analysis.open_trajectory(path)
        own = weight_drift(one)
        assert (drift.sel(rule="clapp", seed=seed, pathway=own["pathway"]).values == own.values).all()
        same = alignment_over_training(one)["cosine"]
        mine = found["cosine"].sel(rule="clapp", seed=seed, pathway=same["pathway"])
        np.testing.assert_array_equal(mine.values, same.values)
    assert drift.dims == ("rule", "seed", "snapshot", "pathway")
    assert found.attrs["masked"] == 2


def test_by_names_any_member_of_the_manifest(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"{lr}-{seed}", "clapp", seed, synapses={"lr": lr, "decay": 0})
        for lr in (0.1, 1e-3)
        for seed in (0, 1)
    ]
    tree = analysis.open_runs(runs, by=("rule", "synapses.lr", "seed"))
    assert tree["alignment"]["cosine"].dims == ("rule", "lr", "seed", "event", "pathway")
    assert tree["alignment"]["lr"].values.tolist() == [1e-3, 0.1]
    assert tree["runs"]["path"].sel(rule="clapp", lr=0.1, seed=1) == str(runs[1])
    only = analysis.open_runs(runs[:2], by=("seed",))
    assert only["alignment"]["cosine"].dims == ("seed", "event", "pathway")
    with pytest.raises(
        TrajectoryError, match=r"same seed \(0\), but differ in synapses.lr \(0.1 and 0.001\): name it in by"
    ):
        analysis.open_runs(runs, by=("seed",))
    with pytest.raises(TrajectoryError, match="name 'seed' in by"):
        analysis.open_runs(runs, by=("rule", "synapses.lr"))
    with pytest.raises(
        OptionError, match=r"'lrr', of which no run says anything: those that vary are rule, seed, synapses.lr"
    ):
        analysis.open_runs(runs, by=("rule", "lrr"))
    for by, said in (
        ("rule", "expected names"),
        (("rule", "rule"), "twice"),
        (("rule", "time"), "axis of what was recorded"),
    ):
        with pytest.raises(OptionError, match=said):
            analysis.open_runs(runs, by=by)
    with pytest.raises(OptionError, match="some of alignment, performance"):
        analysis.open_runs(runs, kinds=["aligment"])
    assert set(analysis.open_runs(runs, kinds=["alignment"]).children) == {"runs", "alignment"}


def test_exported_files_and_folders_of_protocols_stand_beside_run_folders(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "out" / str(seed), "clapp", seed) for seed in range(3)]
    analysis.write_comparison(tmp_path / "out", {"runs": [{"path": str(seed)} for seed in (0, 1)]})
    file = analysis.export(runs[2], tmp_path / "two.nc")
    mixed, plain = analysis.open_runs([tmp_path / "out", file]), analysis.open_runs(runs)
    for name in ("alignment", "performance", "weights/V1->V2", "updates/V1->V2"):
        assert mixed[name].to_dataset().drop_vars("bias", errors="ignore").equals(plain[name].to_dataset()), name
    with pytest.raises(TrajectoryError, match="is a copy of"):
        analysis.open_runs([runs[2], file])


def test_tensors_of_another_shape_are_refused_with_what_to_do(two: list[Path], tmp_path: Path) -> None:
    other = tensors(tmp_path / "c", 5, [0, 10], kinds={"size": (3, 5)})
    with pytest.raises(TrajectoryError, match=r"weights/V1->V2 has 4 along pre in .*a, 5 in .*c: select runs of one arch"):
        analysis.open_runs([*two, other])
    with pytest.raises(TrajectoryError, match=r"lies along|has 4 along"):
        analysis.open_runs([*two, other], kinds=["weights"])
    assert set(analysis.open_runs([*two, other], kinds=["counts"]).children) == {"runs", "counts"}
    comparison = analysis.open_comparison([*two, other])
    assert "select runs" in json.loads(comparison.tree.attrs["misfits"])[0]
    assert comparison.drift("CLAPP") is not None, "what is one number per run is not lost"


def test_responses_to_different_stimuli_are_refused(tmp_path: Path) -> None:
    def stored(seed: int, digest: str) -> Path:
        with analysis.TrajectoryWriter(tmp_path / f"{seed}{digest}") as writer:
            writer.describe({"rule": "clapp", "seed": seed, "network": NETWORK})
            coords = {"stimulus": ("stimulus", np.array([3, 7]))}
            writer.declare("seen", "V1", {"response": Variable(("stimulus",))}, coords=coords, attrs={"stimuli": digest})
            writer.record("seen", "V1", 0, 0.0, 0, {"response": np.array([1.0, 2.0])})
        return tmp_path / f"{seed}{digest}"

    same = analysis.open_runs([stored(0, "abc"), stored(1, "abc")])
    assert same["seen/V1"]["response"].sel(stimulus=7).values.ravel().tolist() == [2, 2]
    with pytest.raises(TrajectoryError, match="were shown different stimuli"):
        analysis.open_runs([tmp_path / "0abc", stored(2, "def")])


def test_networks_of_several_depths_are_united_in_order(tmp_path: Path) -> None:
    def stored(rule: str, names: list[str], feedback: list[str]) -> Path:
        network = {
            "populations": [{"name": "retina", "input": True}, *({"name": n.split("->")[1]} for n in names)],
            "pathways": [
                *({"name": n, "kind": "feedforward"} for n in names),
                *({"name": n, "kind": "feedback"} for n in feedback),
            ],
        }
        with analysis.TrajectoryWriter(tmp_path / rule) as writer:
            writer.describe({"rule": rule, "seed": 0, "network": network, "by_construction": names[-1:]})
            for name in [*reversed(names), *feedback]:
                writer.declare("alignment", name, {"cosine": Variable(()), "trustworthy": Variable(())})
                writer.record("alignment", name, 1, 0.5, 8, {"cosine": 0.5, "trustworthy": True})
        return tmp_path / rule

    deep = stored("deep", ["retina->V1", "V1->V2", "V2->V3"], ["V3=>V1"])
    wide = stored("wide", ["retina->V1", "V1->V2", "V2->top"], ["V2=>V2", "V3=>V1"])
    group = analysis.open_runs([deep, wide])["alignment"]
    assert group["pathway"].values.tolist() == ["retina->V1", "V1->V2", "V2->top", "V2->V3", "V2=>V2", "V3=>V1"]
    assert np.isnan(group["cosine"].sel(rule="deep", pathway="V2->top")).all()
    marked = group["by_construction"].to_pandas()
    assert marked.columns[marked.loc["deep"]].tolist() == ["V2->V3"]
    assert marked.columns[marked.loc["wide"]].tolist() == ["V2->top"]
    comparison = analysis.open_comparison([deep, wide])
    assert comparison.pathways == ["retina->V1", "V1->V2", "V2->top", "V2->V3"]
    assert comparison.feedback == ["V2=>V2", "V3=>V1"]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"by_construction": ["V1->V2"]}, ["V1->V2"]),
        ({"by_construction": []}, []),
        ({"objective": "contrastive", "transport": "none: own dendrite", "reference": "BP-CLAPP++"}, ["V1->V2"]),
        ({"objective": "contrastive", "transport": "none: own dendrite", "reference": "BP-InfoNCE"}, []),
        (
            {"objective": "cross-entropy", "transport": "direct feedback alignment", "reference": "BP, supervised"},
            ["V1->V2"],
        ),
        ({"objective": "cross-entropy", "transport": "predictive coding", "reference": "BP, supervised"}, []),
        ({"objective": "cross-entropy", "transport": "backprop", "reference": "BP, supervised"}, ["retina->V1", "V1->V2"]),
        ({"transport": None}, []),
    ],
)
def test_what_is_one_by_construction_is_marked(tmp_path: Path, about: dict[str, Any], expected: list[str]) -> None:
    marks = analysis.open_runs([write_run(tmp_path / "run", "x", 0, **about)])["alignment"]["by_construction"]
    assert marks["pathway"].values[marks.sel(rule="x").values].tolist() == expected


def test_a_hundred_runs_open_fast(tmp_path: Path) -> None:
    first = write_run(tmp_path / "0", "clapp", 0)
    runs = [first]
    for seed in range(1, 100):
        runs.append(write_small(tmp_path / str(seed), seed) if seed > 4 else write_run(tmp_path / str(seed), "clapp", seed))
    trees = [analysis.open_trajectory(run) for run in runs]
    del trees
    start = time.process_time()
    for run in runs:
        analysis.open_trajectory(run)
    alone = time.process_time() - start
    start = time.process_time()
    tree = analysis.open_runs(runs)
    together = time.process_time() - start
    assert tree["performance"].sizes["seed"] == 100
    assert together < alone + 2.5, "what is added to the opening of each run"


def write_small(path: Path, seed: int) -> Path:
    with analysis.TrajectoryWriter(path) as writer:
        writer.describe(_same(path, seed))
        writer.declare("performance", "V1", {"probe_accuracy": Variable(())})
        writer.record("performance", "V1", 0, 0.0, 0, {"probe_accuracy": 0.5})
        writer.close("finished")
    return path


def _same(path: Path, seed: int) -> dict[str, Any]:
    about = analysis.manifest(path.parent / "0")
    return {key: about[key] for key in ("protocol", "rule", "label", "needs", "network", "reference")} | {"seed": seed}


def test_copies_and_reruns_are_refused(tmp_path: Path) -> None:
    one, again = write_run(tmp_path / "a", "clapp", 0), write_run(tmp_path / "b", "clapp", 0)
    with pytest.raises(TrajectoryError, match=r"same rule with the same seed \(0\): one says nothing new"):
        analysis.open_runs([one, again])
    with pytest.raises(TrajectoryError, match="given twice"):
        analysis.open_runs([one, tmp_path / "." / "a"])
    copied = shutil.copytree(one, tmp_path / "copy")
    with pytest.raises(TrajectoryError, match="copy is a copy of"):
        analysis.open_runs([one, copied])
