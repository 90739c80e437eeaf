"""Runs for xarray and dask: by engine, group, chunks, and many files as one."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stored import DENSE, make_run, make_weights, snapshot

from analysis import open_trajectory
from neurossl.errors import TrajectoryError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("backend") / "run")


def test_a_run_is_opened_by_its_engine_and_found_without_it(run: Path) -> None:
    for tree in (xr.open_datatree(run, engine="neurossl"), xr.open_datatree(str(run)), xr.open_datatree(run)):
        xr.testing.assert_identical(tree.load(), open_trajectory(run).load())
    groups = xr.open_groups(run, engine="neurossl")
    assert f"/weights/{DENSE}" in groups
    with pytest.raises(TrajectoryError, match="is not a run"):
        xr.open_datatree(run.parent, engine="neurossl")


@pytest.mark.parametrize("group", ["weights/V1->V2", "/weights/V1->V2", "weights/V1_to_V2"])
def test_one_group_is_a_dataset(run: Path, group: str) -> None:
    data = xr.open_dataset(run, engine="neurossl", group=group)
    assert data["weight"].dims == ("snapshot", "post", "pre", "ky", "kx")
    assert data.attrs["pathway"] == "V1->V2"
    assert set(data.coords) == {"snapshot", "time", "observers_seen"}
    assert "weight" not in xr.open_dataset(run, engine="neurossl", group=group, drop_variables=["weight"])


def test_a_group_that_is_not_there_is_said_with_those_that_are(run: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"has no group 'weights/V1->V9'.*weights/V1->V2"):
        xr.open_dataset(run, engine="neurossl", group="weights/V1->V9")
    with pytest.raises(TrajectoryError, match=r"has no group 'alignment/cosine'"):
        xr.open_dataset(run, engine="neurossl", group="alignment/cosine")


def test_chunks_are_whole_segments_some_of_them_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask")
    run = make_weights(tmp_path / "run", 10, segment_records=3)
    monkeypatch.setattr("analysis.lazy._CHUNK", 5 * 80)
    data = xr.open_dataset(run, engine="neurossl", group=f"weights/{DENSE}", chunks={})
    assert data["weight"].chunks[0] == (4, 3, 3)
    tree = xr.open_datatree(run, engine="neurossl", chunks={})
    assert tree[f"weights/{DENSE}/weight"].chunks[0] == (4, 3, 3)
    expected = [snapshot(DENSE, event, 5, 4) for event in range(10)]
    for scheduler in ("threads", "sync"):
        np.testing.assert_array_equal(tree[f"weights/{DENSE}/weight"].compute(scheduler=scheduler), expected)
    five = xr.open_dataset(run, engine="neurossl", group=f"weights/{DENSE}", chunks={"snapshot": 5})
    assert five["weight"].chunks[0] == (5, 5)


def test_seeds_are_opened_as_one(tmp_path: Path) -> None:
    pytest.importorskip("dask")
    runs = [make_weights(tmp_path / f"seed-{seed}", 4) for seed in range(3)]
    data = xr.open_mfdataset(
        [*map(str, runs)],
        engine="neurossl",
        group=f"weights/{DENSE}",
        combine="nested",
        concat_dim="seed",
        coords="minimal",
        compat="override",
    )
    assert data["weight"].dims == ("seed", "snapshot", "post", "pre")
    np.testing.assert_array_equal(data["weight"][2, 3], snapshot(DENSE, 3, 5, 4))
    scalars = [make_run(tmp_path / f"run-{seed}") for seed in range(2)]
    table = xr.open_mfdataset(scalars, engine="neurossl", group="performance", combine="nested", concat_dim="seed")
    assert table["loss"].sel(population="V1", event=9).values.tolist() == pytest.approx([1.1, 1.1])


def test_a_tree_can_be_sent_to_another_process(run: Path) -> None:
    tree = pickle.loads(pickle.dumps(open_trajectory(run)))
    np.testing.assert_array_equal(tree[f"weights/{DENSE}/weight"][3], snapshot(DENSE, 3, 5, 4))
    assert tree["weights/retina_to_V1"].path == f"/weights/{DENSE}"
