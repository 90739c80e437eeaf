"""A run as zarr: the same values, in few files, or one line that says what is missing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stored import CONVOLUTION, make_run, make_weights

from analysis import export, manifest, open_trajectory
from analysis.schema import group_of
from analysis.zarr_exporter import layout_of
from neurossl.errors import OptionError, StorageError
from protocols.cli import main


def test_a_run_is_the_same_in_zarr(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    run = make_run(tmp_path / "run")
    assert main(["export", str(run), str(tmp_path / "run.zarr"), "--format", "zarr"]) == 0
    expected = open_trajectory(run)
    with xr.open_datatree(tmp_path / "run.zarr", engine="zarr", chunks=None, consolidated=False) as tree:
        assert json.loads(tree.attrs["manifest"]) == manifest(run)
        np.testing.assert_array_equal(tree["event"], expected["event"])
        for node in expected.subtree:
            if node.path != "/" and node.has_data:
                stored = "/".join(group_of(part) for part in node.path.strip("/").split("/"))
                found, wanted = (tree[stored].to_dataset(inherit=False).load(), node.to_dataset(inherit=False).load())
                assert set(found.coords) == set(wanted.coords)
                xr.testing.assert_equal(found, wanted)
                assert {name: v.attrs["units"] for name, v in found.data_vars.items()} == {
                    name: v.attrs["units"] for name, v in wanted.data_vars.items()
                }
        assert tree["weights/V1_to_V2"].attrs["pathway"] == CONVOLUTION
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.zarr"]


def test_many_snapshots_lie_in_one_file(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    run = make_weights(tmp_path / "run", 60, segment_records=20)
    export(run, tmp_path / "run.zarr", format="zarr")
    files = [path for path in (tmp_path / "run.zarr/weights/retina_to_V1/weight").rglob("*") if path.is_file()]
    assert len(files) == 2, "a shard and its metadata"


@pytest.mark.parametrize(
    ("shape", "chunks", "shards"),
    [
        ((5000, 100, 100), (26, 100, 100), (1664, 100, 100)),
        ((3, 10, 10), (3, 10, 10), (3, 10, 10)),
        ((10, 10_000, 10_000), (1, 10_000, 10_000), (1, 10_000, 10_000)),
        ((0, 4), (1, 4), (1, 4)),
    ],
)
def test_chunks_divide_shards(shape: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...]) -> None:
    assert layout_of(shape, 4) == (chunks, shards)


def test_without_zarr_it_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_weights(tmp_path / "run", 2)
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert main(["export", str(run), str(tmp_path / "z"), "--format=zarr"]) == 2
    assert capsys.readouterr().err == (
        "neurossl: export --format zarr needs zarr, which is not installed: pip install 'zarr>=3'\n"
    )
    assert not (tmp_path / "z").exists()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 2)
    with pytest.raises(OptionError, match="format hdf does not exist, expected netcdf or zarr"):
        export(run, tmp_path / "x", format="hdf")
    with pytest.raises(OptionError, match="exists already"):
        export(run, run, format="zarr")
    for words in (["--format"], ["--format", "zarr"], [str(run), "x", "--format"]):
        assert main(["export", *words]) == 2


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    run = make_weights(tmp_path / "run", 2)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.zarr_exporter._synchronise", full)
    with pytest.raises(StorageError, match=r"cannot write .*z: No space left on device"):
        export(run, tmp_path / "z", format="zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
