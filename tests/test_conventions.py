"""An exported file is what other programs expect: CF and ACDD, with every member of the manifest."""

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from stored import CONVOLUTION, DENSE, INDEXED, make_run

from analysis import TrajectoryWriter, export, manifest, open_trajectory
from neurossl.store import Variable


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cf")
    return export(make_run(folder / "run"), folder / "run.nc")


def faults(path: Path) -> list[str]:
    """Return the errors that the CF checker finds."""
    runner = pytest.importorskip("compliance_checker.runner")
    runner.CheckSuite.load_all_available_checkers()
    report = path.with_suffix(".json")
    runner.ComplianceChecker.run_checker(
        str(path), ["cf:1.8"], 0, "strict", output_filename=str(report), output_format="json"
    )
    found = json.loads(report.read_text())["cf:1.8"]
    return [f"{each['name']}: {each['msgs']}" for each in found["high_priorities"] if each["msgs"]]


def test_the_cf_checker_finds_no_fault_in_the_file(file: Path) -> None:
    assert faults(file) == []


@pytest.mark.parametrize("group", ["alignment", "performance", "weights/V1_to_V2", "weights/V2_to_V3"])
def test_the_cf_checker_finds_no_fault_in_any_group(file: Path, tmp_path: Path, group: str) -> None:
    with xr.open_dataset(file, group=group) as node, xr.open_dataset(file) as root:
        same = {key: root.attrs[key] for key in ("Conventions", "title", "history")}
        node.load().assign_attrs(same).to_netcdf(tmp_path / "group.nc")
    assert faults(tmp_path / "group.nc") == []


def test_every_member_of_the_manifest_is_an_attribute(file: Path) -> None:
    about = manifest(file)
    with netCDF4.Dataset(file) as dataset:
        attributes = {name: dataset.getncattr(name) for name in dataset.ncattrs()}
    assert attributes["Conventions"].startswith("CF-1.8")
    assert attributes["title"] == "compare_rules, clapp, digits, seed 3"
    assert about["started"] in attributes["history"]
    assert attributes["history"].endswith("exported by neurossl export")
    assert attributes["id"] == about["run_id"]
    for name, value in about.items():
        if isinstance(value, str):
            assert attributes[name] == value
        elif isinstance(value, int | float):
            assert float(attributes[name]) == value
        elif value is not None:
            assert json.loads(attributes[name]) == value
    assert json.loads(attributes["manifest"]) == about


def test_the_tree_of_the_file_is_that_of_the_run_with_its_numbers(file: Path) -> None:
    with open_trajectory(file) as exported:
        run = open_trajectory(file.parent / "run")
        xr.testing.assert_identical(exported.load(), run.load())
        for node in run.subtree:
            for name, variable in node.to_dataset(inherit=False).variables.items():
                found = exported[node.path][str(name)].dtype
                assert variable.dtype.kind == "U" or found == variable.dtype, (node.path, name)


def test_cf_xarray_finds_the_coordinates_of_every_variable(file: Path) -> None:
    pytest.importorskip("cf_xarray")
    with xr.open_datatree(file) as tree:
        for path, name in ((f"weights/{DENSE}", "weight"), (f"weights/{CONVOLUTION}", "weight")):
            node = open_trajectory(file)[path].to_dataset()
            assert set(node.coords) >= {"time", "observers_seen"}
            stored = tree["weights"][{DENSE: "retina_to_V1", CONVOLUTION: "V1_to_V2"}[path[8:]]].to_dataset()
            assert set(stored.cf.get_associated_variable_names(name)["coordinates"]) == {"time", "observers_seen"}
        indexed = tree["weights/V2_to_V3"].to_dataset()
        beside = set(indexed.cf.get_associated_variable_names("weight")["coordinates"])
        assert beside == {"time", "observers_seen", "post", "pre"}
        assert open_trajectory(file)[f"weights/{INDEXED}"]["synapse"].dtype == np.int64
        assert set(tree["alignment"].to_dataset().cf.get_associated_variable_names("cosine")["coordinates"]) == {
            "time",
            "observers_seen",
        }


def test_numbers_that_need_their_bits_keep_them(tmp_path: Path) -> None:
    large = [0, 2**31, 2**60]
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        writer.declare("scores", "V1", {"score": Variable(("unit",))}, {"unit": ("unit", np.array([1, 2**40]))})
        for event in range(3):
            writer.record("activity", "V1", event, event, large[event], {"mean": 0.0})
            writer.record("scores", "V1", event, event, large[event], {"score": np.zeros(2)})
    tree = open_trajectory(export(tmp_path / "run", tmp_path / "run.nc"))
    assert tree["observers_seen"].values.tolist() == large
    assert tree["scores/V1/unit"].values.tolist() == [1, 2**40]
    assert tree["scores/V1/unit"].dtype == np.int64
    xr.testing.assert_identical(tree.load(), open_trajectory(tmp_path / "run").load())
