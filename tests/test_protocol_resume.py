"""A protocol that is resumed: inside a run bit for bit, with more of what may grow, and never with other options."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from PIL import Image

import analysis
from neurossl.errors import OptionError
from protocols import compare_rules
from protocols.cli import main
from protocols.harness.trial import LearningTime

WORDS = ["--rules", "clapp++gap", "--seeds", "1", "--network", "mlp:24-24", "--observers", "32", "--budget", "1500"]


def words(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "protocols.cli", "run", "compare_rules", "--out", str(out), *WORDS, "--resume", *more]


def same_data(one: Path, other: Path) -> None:
    xr.testing.assert_identical(analysis.open_trajectory(one).load(), analysis.open_trajectory(other).load())


@pytest.mark.slow
def test_the_same_line_again_goes_on_inside_a_run_bit_for_bit(tmp_path: Path) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    subprocess.run(words(undisturbed), check=True, capture_output=True, timeout=120)
    ended = 0
    for _ in range(6):
        process = subprocess.Popen(words(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (out / "clapp++gap" / "seed-0" / "manifest.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
        assert ended in (0, 143)
        if ended == 0:
            break
    assert subprocess.run(words(out), check=False, capture_output=True, timeout=120).returncode == 0
    assert not list(out.glob("clapp++gap/*.interrupted-*")), "nothing was begun anew"
    same_data(undisturbed / "clapp++gap" / "seed-0", out / "clapp++gap" / "seed-0")


def test_raw_pixels_are_read_out_before_learning_alone_also_by_the_probe_of_a_run_that_goes_on(tmp_path: Path) -> None:
    common: dict[str, Any] = {"rules": ["bp"], "tiny": True, "workers": 1}
    compare_rules.run(str(tmp_path / "run"), budget=8, **common)
    compare_rules.run(str(tmp_path / "run"), budget=12, resume=True, **common)
    performance = analysis.open_trajectory(tmp_path / "run" / "bp" / "seed-0")["performance"]
    pixels = performance["probe_accuracy"].sel(population="retina").dropna("event")
    assert pixels["event"].values.tolist() == [0]


def test_the_time_of_learning_goes_on_from_a_checkpoint() -> None:
    later = LearningTime(None)
    later.restore({"seconds": LearningTime(None).state()["seconds"] + 100})
    assert 100 < later.seconds < 110


def test_more_seeds_rules_and_moments_are_added_to_what_is_there(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    compare_rules.run(out, rules=["clapp++gap"], seeds=1, budget=8, tiny=True, workers=1)
    compare_rules.run(out, rules=["bp"], seeds=2, budget=12, tiny=True, workers=1, resume=True)
    index = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert [(run["path"], run["state"]) for run in index["runs"]] == [
        (f"{rule}/seed-{seed}", "finished") for rule in ("clapp++gap", "bp") for seed in (0, 1)
    ]
    assert (index["options"]["rules"], index["options"]["seeds"], index["options"]["budget"]) == (
        ["clapp++gap", "bp"],
        [0, 1],
        12,
    )
    for rule in ("clapp++gap", "bp"):
        tree = analysis.open_trajectory(tmp_path / "run" / rule / "seed-0", verify=True)
        assert int(tree["observers_seen"][-1]) == 12 * 32
    assert not list(tmp_path.glob("run/*/*.interrupted-*")), "a longer run goes on from its end"


def test_options_that_change_the_meaning_are_refused_with_what_differs(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    compare_rules.run(out, rules=["bp"], tiny=True, workers=1)
    for options, said in (
        ({"lr": 0.5}, "was made with lr = None, not 0.5"),
        ({"observers": 16}, "was made with observers = 32, not 16"),
        ({"network": "mlp:8-8"}, "was made with network = mlp:32-32-32-32, not mlp:8-8"),
        ({"budget": 4}, "was made with budget = 8, which can only grow, not 4"),
    ):
        with pytest.raises(OptionError, match=said):
            compare_rules.run(out, workers=1, resume=True, **options)  # type: ignore[arg-type]


def test_images_that_have_changed_are_another_data_set_and_a_path_said_otherwise_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(3):
                shade = 40 * number + 100 * (name == "b")
                Image.new("RGB", (8, 8), (shade, shade, shade)).save(tmp_path / "set" / part / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    options = {"rules": ["bp"], "observers": 2, "workers": 1, "tiny": True}
    compare_rules.run("run", dataset="folder:./set", **options)  # type: ignore[arg-type]
    compare_rules.run(str(tmp_path / "run"), dataset=f"folder:{tmp_path / 'set'}", resume=True, **options)  # type: ignore[arg-type]
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "set" / "train" / "a" / "0.png")
    with pytest.raises(OptionError, match="was made with images = "):
        compare_rules.run("run", dataset="folder:set", resume=True, **options)  # type: ignore[arg-type]


def test_resume_starts_where_there_is_nothing_yet_and_refuses_what_is_no_protocols_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["run", "compare_rules", "--tiny", "--rules", "bp", "--out", str(tmp_path / "run"), "--resume"]
    assert main(line) == 0
    assert main(line) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("keep")
    assert main([*line[:-2], str(tmp_path / "other"), "--resume"]) == 2
    assert "there is nothing to resume" in capsys.readouterr().err
    assert os.listdir(tmp_path / "other") == ["mine.txt"]
