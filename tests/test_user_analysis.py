"""What a newcomer asks of stored runs: what was done to them, where they come from, why they ended."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from stored import CONVOLUTION, declare, make_run, python, record

import analysis
from analysis import TrajectoryWriter, group_of, linear_probe, manifest, nearest_neighbour_probe, open_trajectory
from neurossl.errors import Interrupted, OptionError


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
