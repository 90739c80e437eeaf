"""The tree of one run: nodes as the user calls them, and nothing that is handed down to who does not have it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stored import CONVOLUTION, DENSE, FEEDBACK, make_run

from analysis import TrajectoryWriter, export, open_trajectory, segment
from analysis.schema import group_of
from neurossl.store import Variable


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("tree") / "run")


@pytest.fixture(scope="module", params=["run", "exported", "xarray", "chunks"])
def tree(request: pytest.FixtureRequest, run: Path) -> xr.DataTree:
    if request.param == "run":
        return open_trajectory(run)
    if request.param == "exported":
        file = run.parent / "run.nc"
        return open_trajectory(file if file.exists() else export(run, file))
    if request.param == "chunks":
        pytest.importorskip("dask")
        return xr.open_datatree(run, engine="neurossl", chunks={})
    return xr.open_datatree(run, engine="neurossl")


def test_nodes_are_called_as_the_user_calls_them(tree: xr.DataTree) -> None:
    assert set(tree["weights"].children) == {DENSE, CONVOLUTION, "V2->V3"}
    assert tree[f"weights/{DENSE}/weight"].dims == ("snapshot", "post", "pre")
    assert tree["updates/V3=>V2"].attrs["pathway"] == FEEDBACK
    assert tree["weights"][DENSE]["weight"].name == "weight"


def test_weights_have_their_own_axes_and_no_other(tree: xr.DataTree) -> None:
    weight = tree[f"weights/{DENSE}"]
    assert set(weight.to_dataset().sizes) == {"snapshot", "post", "pre"}
    assert set(weight.to_dataset().coords) == {"snapshot", "time", "observers_seen"}
    corner = weight["weight"].isel(post=slice(4), pre=slice(4))
    assert len(corner.to_dataset().to_dataframe()) == 16 * weight.to_dataset().sizes["snapshot"]
    assert len(tree["performance"].to_dataset().to_dataframe()) == tree.sizes["event"] * 2


def test_the_moments_of_the_root_are_there_without_an_index(tree: xr.DataTree) -> None:
    np.testing.assert_array_equal(tree["event"], [0, 2, 3, 4, 6, 8, 9])
    np.testing.assert_array_equal(tree["time"], np.array([0, 2, 3, 4, 6, 8, 9]) * 0.25)
    assert tree["observers_seen"].dims == ("event",)
    assert not tree.xindexes
    for kind in ("alignment", "activity", "performance"):
        table = tree[kind].to_dataset(inherit=False)
        assert "event" in table.xindexes
        assert {"time", "observers_seen"} <= set(table.coords)
        np.testing.assert_array_equal(table["event"], tree["event"])
        assert float(table["observers_seen"].sel(event=4)) == 64


def test_whether_a_comparison_is_trusted_is_a_number_that_can_be_missing(tree: xr.DataTree) -> None:
    trustworthy = tree["alignment/trustworthy"].sel(pathway=DENSE)
    assert trustworthy.dtype == float
    np.testing.assert_array_equal(trustworthy, [0, 1, np.nan, 1, 1, 1, np.nan])


def test_the_names_in_files_are_answered_too(run: Path) -> None:
    for tree in (
        open_trajectory(run),
        open_trajectory(run).copy(),
        open_trajectory(run).isel(snapshot=0, missing_dims="ignore"),
    ):
        assert tree["weights/V1_to_V2/weight"].attrs == tree["weights/V1->V2/weight"].attrs
        assert "V1_to_V2" in tree["weights"]
        assert "V9_to_V2" not in tree["weights"]
        assert tree["updates"]["V3_back_to_V2"].path == "/updates/V3=>V2"
        with pytest.raises(KeyError, match="V1_to_V9"):
            tree["weights/V1_to_V9"]
    backend = xr.open_datatree(run, engine="neurossl")
    assert backend["weights/V1_to_V2"].path == "/weights/V1->V2"
    doubled = backend.map_over_datasets(lambda node: node * 2)
    np.testing.assert_array_equal(doubled["weights/V1_to_V2/weight"], 2 * backend["weights/V1->V2/weight"])


@pytest.mark.parametrize("name", ["left/right", ".", "..", "V1->V2/β", "β", "V1_to_V2", " ", "a" * 200])
def test_every_name_can_be_found(tmp_path: Path, name: str) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        writer.declare("scores", name, {"score": Variable(("unit",))})
        writer.record("weights", name, 0, 0.0, 0, {"weight": np.ones((2, 3))})
        writer.record("scores", name, 0, 0.0, 0, {"score": np.ones(2)})
    export(tmp_path / "run", tmp_path / "run.nc")
    for path in (tmp_path / "run", tmp_path / "run.nc"):
        tree = open_trajectory(path)
        for kind, attribute in (("weights", "pathway"), ("scores", "name")):
            (node,) = tree[kind].children.values()
            assert node.attrs[attribute] == name
            assert node.name == (group_of(name) if "/" in name or name in (".", "..") else name)
            assert tree[kind][group_of(name)].path == node.path
    with xr.open_datatree(tmp_path / "run.nc") as plain:
        assert list(plain["weights"].children) == [group_of(name)]


def test_booleans_of_earlier_versions_are_read_as_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = segment.create_variable

    class Booleans:
        def __init__(self, stored: Any) -> None:
            self.stored = stored

        def __setitem__(self, key: Any, values: np.ndarray) -> None:
            self.stored[key] = np.nan_to_num(values).astype(np.int8)

    def as_before(group: Any, name: str, dims: tuple[str, ...], dtype: np.dtype, attributes: Any) -> Any:
        if name != "trustworthy":
            return written(group, name, dims, dtype, attributes)
        return Booleans(written(group, name, dims, np.dtype(bool), attributes))

    monkeypatch.setattr(segment, "create_variable", as_before)
    make_run(tmp_path / "run")
    trustworthy = open_trajectory(tmp_path / "run")["alignment/trustworthy"].sel(pathway=DENSE, event=[0, 2, 4, 6, 8])
    assert trustworthy.dtype == float
    np.testing.assert_array_equal(trustworthy, [0, 1, 1, 1, 1])
