"""What a recorder of one's own declares is stored, read, exported, described and drawn like what the package records."""

from pathlib import Path

import pytest
import xarray as xr

import analysis
from analysis.own_figures import own_figures
from neurossl import Network, Observation, Recorder, Simulation, WeightRecorder, Weights, mlp
from neurossl.stimuli import ViewPairs, default_views, load_images
from protocols.cli import main


def rates(now: Observation) -> dict[str, dict[str, object]]:
    return {name: {"rate": now.seen[name].mean(), "first": now.seen[name][0, :3]} for name in now.network.order}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "run"
    images = load_images("digits")
    stream = ViewPairs(images.train, images.train_labels, default_views(images), observers=8, moments=6)
    declared = {"units": {"rate": "Hz"}, "descriptions": {"rate": "mean rate"}, "dims": {"first": ("neuron",)}}
    with analysis.TrajectoryWriter(folder) as store:
        recorders = [Recorder(rates, kind="rates", every=2, **declared), WeightRecorder(every=3)]
        Simulation(mlp(images.shape, [5, 4]), "clapp++gap", store=store, recorders=recorders, device="cpu").run(stream)
    return folder


def test_three_lines_are_a_recorder(run: Path) -> None:
    data = analysis.open_trajectory(run)["rates/V1"].to_dataset()
    assert data["rate"].dims == ("snapshot",)
    assert data["first"].dims == ("snapshot", "neuron")
    assert data["rate"].attrs["units"] == "Hz"
    assert data["rate"].attrs["long_name"] == "mean rate"
    assert data["snapshot"].values.tolist() == [2, 4, 6]


def test_it_is_exported_described_and_drawn(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), str(tmp_path / "run.nc")]) == 0
    exported = xr.open_datatree(tmp_path / "run.nc")
    assert exported["rates/V2"]["rate"].size == 3
    exported.close()
    assert main(["info", str(run)]) == 0
    assert "rates" in capsys.readouterr().out
    names = [name for name, _, _ in own_figures(analysis.open_comparison([run]))]
    assert names == ["rates-rate", "rates-first"]
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "Recorded: rates, rate" in (tmp_path / "page.html").read_text()


def test_networks_and_weights_come_from_a_stored_run(run: Path) -> None:
    network = Network.from_run(run)
    assert network.describe() == analysis.manifest(run)["network"]
    start, end = Weights.from_run(run, event=0), Weights.from_run(run)
    stored = xr.open_datatree(run, engine="neurossl")["weights/V1_to_V2"]["weight"]
    assert (start["V1->V2"].weight.numpy() == stored.sel(snapshot=0).values).all()
    assert (end["V1->V2"].weight.numpy() == stored.sel(snapshot=6).values).all()
    with pytest.raises(ValueError, match=r"no snapshot of .* at event 5; there are: 0, 3, 6"):
        Weights.from_run(run, event=5)
