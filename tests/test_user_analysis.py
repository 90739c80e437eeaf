"""What a newcomer asks of stored runs: what was done to them, where they come from, why they ended."""

import json
import os
import signal
import time
from html import escape
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from stored import CONFIGURATION, CONVOLUTION, declare, make_run, python, record

import analysis
from analysis import TrajectoryWriter, group_of, linear_probe, manifest, nearest_neighbour_probe, open_trajectory
from analysis.figures import alignment_figure
from analysis.words import interventions_in_words
from neurossl.errors import Interrupted, OptionError
from protocols.cli import main


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Interrupted("SIGTERM after moment 3 (t = 0.75 s)", signal.SIGTERM), "SIGTERM after moment 3 (t = 0.75 s)"),
        (KeyboardInterrupt(), "interrupted from the keyboard"),
    ],
    ids=["signal", "keyboard"],
)
def test_an_interrupted_run_names_what_interrupted_it(tmp_path: Path, error: BaseException, reason: str) -> None:
    def leave() -> None:
        with TrajectoryWriter(tmp_path / "run") as writer:
            declare(writer)
            record(writer, 0)
            raise error

    with pytest.raises(type(error)):
        leave()
    about = manifest(tmp_path / "run")
    assert (about["state"], about["reason"]) == ("interrupted", reason)


WORKERS = """
    from pathlib import Path
    from protocols.harness.parallel import run_jobs

    def work(name, progress):
        with TrajectoryWriter(Path(sys.argv[1]) / name) as writer:
            declare(writer)
            record(writer, 0)
            writer.commit()
            while True:
                time.sleep(0.01)
                progress(0)

    run_jobs(["a", "b"], work, 2, lambda job, done: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "the parent process ended"), (signal.SIGTERM, "interrupted by SIGTERM")]
)
def test_a_worker_says_whether_its_parent_ended_or_a_signal_came(tmp_path: Path, number: int, reason: str) -> None:
    process = python(WORKERS, tmp_path)
    runs = [tmp_path / name for name in "ab"]
    deadline = time.monotonic() + 60
    while not all((run / "segments.jsonl").is_file() and open_trajectory(run).children for run in runs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, number)
    process.communicate()
    while any(manifest(run)["state"] == "running" for run in runs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for run in runs:
        assert manifest(run)["state"] == "interrupted"
        assert manifest(run)["reason"].startswith(reason)


def test_probes_take_tensors_and_say_in_a_line_what_they_cannot_take() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = generator.standard_normal((40, 3)) + 4 * labels[:, None]
    arrays = features, labels, features, labels
    tensors = [torch.from_numpy(array) for array in arrays]
    for probe in (linear_probe, nearest_neighbour_probe):
        assert probe(*tensors) == probe(*arrays) == probe(*map(np.ndarray.tolist, arrays))
        with pytest.raises(OptionError, match=r"probe: training features cannot be made an array: [^\n]*requires grad"):
            probe(tensors[0].clone().requires_grad_(), *tensors[1:])
        with pytest.raises(OptionError, match="test features cannot be made an array"):
            probe(*tensors[:2], tensors[2].bfloat16(), tensors[3])


def test_groups_are_found_by_the_names_of_pathways(tmp_path: Path) -> None:
    tree = open_trajectory(make_run(tmp_path / "run", 2))
    assert tree["weights"][group_of(CONVOLUTION)].attrs["pathway"] == CONVOLUTION
    assert f"weights/{group_of(CONVOLUTION)}/weight" == "weights/V1_to_V2/weight"
    assert "analysis.group_of" in str(analysis.open_trajectory.__doc__)


DONE = [
    {"moment": 0, "time": 0.0, "what": "freeze", "pathway": "retina->V1"},
    {"moment": 4, "time": 1.0, "what": "silence", "population": "V1", "scheduled": "at", "function": "operate"},
    {
        "moment": 6,
        "time": 1.5,
        "what": "synapses",
        "options": {"optimizer": "sgd", "lr": 0.0, "pathways": {"V1*": {"lr": 3e-4}}},
    },
    {"moment": 8, "time": 2.0, "what": "drug", "dose": 3},
]
TOLD = [
    "0 s (moment 0): freeze retina->V1",
    "1 s (moment 4): silence V1 (at, operate)",
    "1.5 s (moment 6): synapses sgd, learning rate 0.0; V1*: learning rate 0.0003",
    "2 s (moment 8): drug dose 3",
]


@pytest.fixture
def operated(tmp_path: Path) -> Path:
    """Return a run to which something was done."""
    with TrajectoryWriter(tmp_path / "run") as writer:
        synapses = {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0.0}
        about = {"stream": "ViewPairs(digits)", "device": "cpu", "dtype": "float32", "synapses": synapses}
        writer.describe({**CONFIGURATION, "note": "x" * 200_000, **about})
        declare(writer)
        for event in range(10):
            record(writer, event)
        writer.amend({"interventions": DONE})
    return tmp_path / "run"


def test_what_was_done_to_a_run_is_told_wherever_the_run_is_described(
    operated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = analysis.export(operated, tmp_path / "run.nc")
    for path in (operated, file):
        assert json.loads(open_trajectory(path).attrs["interventions"]) == DONE
        assert main(["info", str(path)]) == 0
        lines = list(map(str.strip, capsys.readouterr().out.splitlines()))
        begin = lines.index("interventions")
        assert lines[begin + 1 : begin + 5] == TOLD
        for line in ("synapses   adamw, learning rate 0.002", "stream     ViewPairs(digits)", "dataset    digits"):
            assert line in lines
        assert {"device     cpu", "dtype      float32"} <= set(lines)
        assert main(["report", str(path)]) == 0
        page = Path(capsys.readouterr().out.splitlines()[-1])
        assert page == (tmp_path / "run.html" if path == file else operated / "report.html")
        assert all(f"<li>{escape(line)}</li>" in page.read_text() for line in TOLD)


def test_a_long_list_of_interventions_is_cut_short() -> None:
    lines = interventions_in_words([{"moment": moment, "time": 0.25 * moment, "what": "call"} for moment in range(1000)])
    assert (len(lines), lines[-1]) == (41, "and 960 more")


def test_an_exported_file_carries_the_manifest_of_its_run(operated: Path, tmp_path: Path) -> None:
    file = analysis.export(operated, tmp_path / "run.nc")
    assert manifest(file) == manifest(operated)
    with xr.open_datatree(file) as plain:
        assert json.loads(plain.attrs["manifest"])["versions"]["numpy"] == np.__version__
    again = tmp_path / "again.nc"
    with open_trajectory(file) as tree:
        tree.to_netcdf(again)
    known = {"state": "finished", "rule": "clapp", "seed": 3, "interventions": DONE}
    assert {key: manifest(again)[key] for key in known} == known, "what the attributes of the tree say"


def test_verify_says_what_it_has_verified(operated: Path, tmp_path: Path) -> None:
    file = analysis.export(operated, tmp_path / "run.nc")
    assert str(analysis.verify(file)) == (f"{file}, an exported file of {file.stat().st_size:,} bytes: its checksum matches")
    assert "runs" not in str(analysis.verify(operated))


def test_figures_mark_when_something_was_done(operated: Path, tmp_path: Path) -> None:
    comparison = analysis.open_comparison([operated])
    assert comparison.interventions.tolist() == [0, 64, 96, 128], "16 observers per moment"
    figure = alignment_figure(comparison)
    assert figure is not None
    for panel in figure.axes:
        upright = [line.get_xdata()[0] for line in panel.lines if line.get_label() == "intervention"]
        assert upright == [0, 64, 96, 128]
    untouched = alignment_figure(analysis.open_comparison([make_run(tmp_path / "untouched")]))
    assert untouched is not None
    assert not [line for panel in untouched.axes for line in panel.lines if line.get_label() == "intervention"]


def test_verify_of_a_protocol_that_only_measures_says_that_its_results_are_whole(tmp_path: Path) -> None:
    analysis.Results("p", "t", [{"rule": "clapp", "y": 1.5}], ["It learns."]).save(tmp_path)
    analysis.write_comparison(tmp_path, {"runs": []})
    assert str(analysis.verify(tmp_path)).splitlines() == [f"{tmp_path / 'results.json'} is whole", "no runs are stored"]
