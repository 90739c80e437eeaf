"""The main job, small: what it writes, twice, interrupted, diverging, on folders of images."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import analysis
from neurossl.errors import NeurosslError, OptionError, TrajectoryError
from neurossl.files import write_atomically
from neurossl.plasticity import RULES, Rule, register
from protocols import compare_rules
from protocols.cli import main
from protocols.harness.parallel import run_jobs


def assert_identical_data(one: Path, *others: Path) -> None:
    """Assert that runs have stored the same, bit for bit (the containers carry a time of day of their own)."""
    first = analysis.open_trajectory(one, verify=True).load()
    assert first["weights/V3_to_V4/weight"].size
    assert first["alignment"]["cosine"].size
    for other in others:
        xr.testing.assert_identical(first, analysis.open_trajectory(other, verify=True).load())


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "run"
    compare_rules.run(str(out), rules=["clapp++gap", "pc", "bp"], seeds=2, tiny=True)
    return out


def test_it_writes_runs_table_and_report(comparison: Path) -> None:
    results = json.loads((comparison / "results.json").read_text())
    assert results["protocol"] == "compare_rules"
    by_rule = {record["rule"]: record for record in results["table"]}
    assert set(by_rule) == {"CLAPP++ without spatial dependence", "PC, supervised (6 steps of 0.05)", "BP, supervised"}
    clapp = by_rule["CLAPP++ without spatial dependence"]
    assert clapp["information needed"] == "neuromodulator, lateral context"
    assert clapp["seeds"] == 2
    assert clapp["cosine with reference, V3->V4 (mean)"] == pytest.approx(1, abs=1e-6)
    assert all(-1 <= v <= 1 for k, v in clapp.items() if k.startswith("cosine") and k.endswith("(mean)"))
    assert 0 <= clapp["linear probe accuracy, V4 (mean)"] <= 1
    assert clapp["seconds of learning (mean)"] > 0
    page = (comparison / "report.html").read_text()
    assert "://" not in page.replace("xmlns=%22http://www.w3.org/2000/svg%22", ""), "the page names nothing outside of it"
    assert len(page) < 5_000_000
    drawn = re.findall(r'<figure id="figure-([\w-]+)"', page)
    assert {"alignment", "norm-ratio", "probes", "drift", "loss"} <= set(drawn)
    files = {name.replace("_", "-") for name in os.listdir(comparison / "figures")}
    assert files == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg", "csv")}, "every figure, with its numbers"


def test_its_trajectories_have_the_schema(comparison: Path) -> None:
    tree = analysis.open_trajectory(comparison / "clapp++gap" / "seed-1", verify=True)
    assert tree.attrs["schema_version"] == 1
    assert (tree.attrs["rule"], tree.attrs["seed"], tree.attrs["dataset"]) == ("clapp++gap", 1, "digits")
    assert tree["weights/retina_to_V1/weight"].dims == ("snapshot", "post", "pre")
    assert tree["weights/V2_back_to_V2"].attrs["pathway"] == "V2=>V2"
    assert set(tree["performance"]["population"].values) >= {"retina", "V1", "V4"}
    assert bool(tree["alignment"]["cosine"].notnull().any())
    assert float(tree["observers_seen"][-1]) == 8 * 32
    assert float(tree["time"][-1]) == pytest.approx(8 * 0.5)


def test_same_feedforward_start_and_same_images_for_all_rules(comparison: Path) -> None:
    trees = [analysis.open_trajectory(comparison / rule / "seed-0") for rule in ("clapp++gap", "pc", "bp")]
    for name in ("retina_to_V1", "V3_to_V4"):
        first = [tree[f"weights/{name}/weight"][0].values for tree in trees]
        assert np.array_equal(first[0], first[1])
        assert np.array_equal(first[0], first[2])
    other = analysis.open_trajectory(comparison / "clapp++gap" / "seed-1")
    assert not np.array_equal(other["weights/V3_to_V4/weight"][0].values, trees[0]["weights/V3_to_V4/weight"][0].values)


def test_the_same_seed_twice_is_bit_identical_side_by_side_or_alone(comparison: Path, tmp_path: Path) -> None:
    compare_rules.run(str(tmp_path / "again"), rules=["clapp++gap"], seed=1, tiny=True, workers=1)
    assert_identical_data(comparison / "clapp++gap" / "seed-1", tmp_path / "again" / "clapp++gap" / "seed-1")


def test_report_and_compare_read_what_is_stored_without_torch(comparison: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from protocols.cli import main;"
        f"assert main(['report', {str(comparison)!r}, '--out', {str(tmp_path / 'one.html')!r}]) == 0;"
        f"runs = [{str(comparison / 'clapp++gap' / 'seed-0')!r}, {str(comparison / 'bp' / 'seed-1')!r}];"
        f"assert main(['compare', *runs, '--out', {str(tmp_path / 'two.html')!r}]) == 0;"
        f"assert main(['info', runs[0]]) == 0; assert main(['verify', runs[0]]) == 0;"
        f"assert main(['export', runs[0], {str(tmp_path / 'run.nc')!r}]) == 0;"
        "assert not {'torch', 'torchvision', 'brian2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.html").is_file()
    assert (tmp_path / "two.html").is_file()
    assert analysis.open_trajectory(tmp_path / "run.nc")["weights/retina_to_V1/weight"].sizes["snapshot"] == 5


def test_a_comparison_that_was_killed_is_read_as_far_as_it_came(comparison: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    shutil.copytree(comparison, out)
    index = json.loads((out / "comparison.json").read_text())
    shutil.rmtree(out / index["runs"][-1]["path"])
    with pytest.raises(TrajectoryError, match="is not a run"):
        analysis.verify(out)
    index["runs"] = [{**run, "state": "planned"} for run in index["runs"]]
    index.pop("check")
    (out / "comparison.json").write_text(json.dumps(index))
    there, twins = len(index["runs"]) - 1, 1
    assert analysis.verify(out).runs == there
    assert len(analysis.open_comparison([out]).runs) == there - twins == 6, (
        "a twin is the ceiling of its reference, no result"
    )
    assert f"a comparison of {there} runs" in analysis.describe(out)


def test_a_damaged_segment_is_named(comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(comparison / "clapp++gap" / "seed-0"), str(copy)], check=True)
    segment = next((copy / "trajectory").glob("*.nc"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    assert main(["verify", str(copy)]) == 2
    assert segment.name in capsys.readouterr().err


def test_an_existing_or_unwritable_out_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    assert main(["run", "compare_rules", "--tiny", "--out", str(tmp_path / "full")]) == 2
    assert "there is something already" in capsys.readouterr().err
    assert main(["run", "compare_rules", "--tiny", "--out", str(tmp_path / "full" / "mine.txt" / "below")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("full", ["protocols.harness.folder", "analysis.results", "analysis.report"])
def test_a_disk_that_fills_up_after_the_runs_is_said_in_one_line(
    full: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        if (path.parent / "bp" / "seed-0" / "segments.jsonl").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomically(path, data)

    monkeypatch.setattr(f"{full}.write_atomically", refuse)
    assert main(["run", "compare_rules", "--tiny", "--rules", "bp", "--out", str(tmp_path / "run")]) == 1
    assert "cannot be written (No space left on device)" in capsys.readouterr().err.splitlines()[-1]
    assert analysis.verify(tmp_path / "run").segments >= 1
    monkeypatch.undo()
    assert main(["run", "compare_rules", "--tiny", "--rules", "bp", "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_one_run_that_diverges_harms_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @register("test-explosive")
    class Explosive(Rule):
        """Credit that grows without bound."""

        def credit_at(self, site: object, moment: object) -> object:
            return site.activity * 1e38 * 1e38  # type: ignore[attr-defined]

    try:
        said = "1 of 2 runs could not finish; test-explosive/seed-0: rule 'test-explosive' at 'V1': its credit is NaN"
        with pytest.raises(NeurosslError, match=said) as caught:
            compare_rules.run(str(tmp_path / "run"), rules=["test-explosive", "clapp++gap"], tiny=True)
    finally:
        del RULES["test-explosive"]
    assert caught.value.exit_status == 1
    assert analysis.manifest(tmp_path / "run" / "test-explosive" / "seed-0")["state"] == "failed"
    assert analysis.manifest(tmp_path / "run" / "clapp++gap" / "seed-0")["state"] == "finished"
    assert [r["rule"] for r in json.loads((tmp_path / "run" / "results.json").read_text())["table"]] == [
        "CLAPP++ without spatial dependence"
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "1 of 2 runs have not finished (failed: test-explosive seed 0)" in page


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_what_was_recorded_and_resume_goes_on(
    tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["run", "compare_rules", "--out", str(out), "--rules", "clapp++gap,bp", "--seeds", "1", "--workers", workers]
    words += ["--network", "mlp:48-48-48-48", "--budget", "3000", "--observers", "32"]
    with open(tmp_path / "errors", "w+") as errors:
        process = subprocess.Popen([sys.executable, "-m", "protocols.cli", *words], stdout=errors, stderr=errors)
        deadline = time.monotonic() + 60
        while not (out / "clapp++gap" / "seed-0" / "segments.jsonl").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    said = (tmp_path / "errors").read_text()
    assert "Traceback" not in said
    assert "--resume" in said.splitlines()[-1]
    kept = analysis.open_trajectory(out / "clapp++gap" / "seed-0", verify=True)
    assert kept.attrs["state"] == "interrupted"
    assert kept["weights/retina_to_V1/weight"].sizes["snapshot"] >= 1
    assert analysis.verify(out).runs >= 1, "what is kept can be read as a whole"
    assert analysis.open_comparison([out]).table()
    states = [entry["state"] for entry in json.loads((out / "comparison.json").read_text())["runs"]]
    assert "interrupted" in states, "the index says how far every run has come"
    assert main(["report", str(out)]) == 0
    assert (
        "2 of 2 runs have not finished (interrupted: CLAPP++ without spatial dependence seed 0"
        in (out / "report.html").read_text()
    )
    assert main([*words, "--resume", "--lr", "0.5"]) == 2
    assert "was made with lr = None, not 0.5" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert analysis.manifest(out / "clapp++gap" / "seed-0")["state"] == "finished"


def test_a_job_that_dies_is_reported_and_harms_no_other() -> None:
    def work(job: int, progress: object) -> int:
        if job == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if job == 2:
            raise OptionError("no")
        return job * 10

    outcomes = run_jobs([0, 1, 2, 3], work, 2, lambda job, done: None)
    assert [o.result for o in outcomes] == [0, None, None, 30]
    assert "ended with status -9" in outcomes[1].problem
    assert outcomes[2].problem == "no"


def _folder_of_images(folder: Path, classes: str, images: int) -> str:
    for place in [folder / part / name for part in ("train", "test") for name in classes]:
        place.mkdir(parents=True)
        for number in range(images):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    return f"folder:{folder}"


def test_one_class_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NeurosslError, match="at least 2 classes, got 1"):
        compare_rules.run(str(tmp_path / "run"), dataset=_folder_of_images(tmp_path / "one", "a", 4), tiny=True)
    assert not (tmp_path / "run").exists()


def test_a_handful_of_images_is_enough(tmp_path: Path) -> None:
    dataset = _folder_of_images(tmp_path / "few", "ab", 1)
    compare_rules.run(str(tmp_path / "run"), dataset=dataset, rules=["bp"], observers=2, tiny=True)
    assert analysis.manifest(tmp_path / "run/bp/seed-0")["state"] == "finished"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_raises_ends_alone(workers: int) -> None:
    def work(job: int, progress: object) -> float:
        return 1 / job

    outcomes = run_jobs([0, 2], work, workers, lambda job, done: None)
    assert [outcome.result for outcome in outcomes] == [None, 0.5]
    assert outcomes[0].problem == "ZeroDivisionError: division by zero"


@pytest.mark.slow
def test_a_folder_of_images_in_a_convolutional_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 12)):
        for number, name in enumerate(("stripes", "dots", "plain")):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (20, 20, 3), np.uint8)
                pixels[:: (number + 1) * 2] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")
    words = ["--dataset", f"folder:{tmp_path / 'images'}", "--rules", "clapp++,dfa", "--network", "conv:4M-6M-8", "--tiny"]
    out = tmp_path / "run"
    assert main(["run", "compare_rules", "--out", str(out), *words]) == 0
    tree = analysis.open_trajectory(out / "clapp++" / "seed-0")
    assert tree["weights/V1_to_V2/weight"].dims == ("snapshot", "post", "pre", "ky", "kx")
    assert len(json.loads((out / "results.json").read_text())["table"]) == 2


@pytest.mark.slow
def test_three_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    words = ["run", "compare_rules", "--tiny", "--rules", "clapp-dfb", "--out"]
    processes = [context.Process(target=_exit_with, args=([*words, str(tmp_path / str(n))],)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert_identical_data(*(tmp_path / str(number) / "clapp-dfb" / "seed-0" for number in range(3)))


def _exit_with(words: list[str]) -> None:
    sys.exit(main(words))
