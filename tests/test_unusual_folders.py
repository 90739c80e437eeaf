"""Folders of protocols in unusual order: gone on with otherwise, planted, edited, killed at the first write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis import TrajectoryWriter
from neurossl.errors import NeurosslError, OptionError, TrajectoryError
from protocols import compare_rules
from protocols.cli import main
from protocols.harness.command import joined
from protocols.harness.folder import read_json, write_json
from protocols.harness.index import GROWING, stored_options

TINY = {"tiny": True, "workers": 1, "network": "mlp:8-8", "budget": 4}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a rule in a file of the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(
        "from neurossl import Rule\n\n\nclass Hebb(Rule):\n"
        "    def __init__(self, gain=1.0):\n        self.gain = gain\n\n"
        "    def credit_at(self, site, moment):\n        return self.gain * site.activity\n"
    )
    return path


def test_the_same_line_goes_on_with_a_rule_from_a_relative_path_and_says_with_what_it_was_made(script: Path) -> None:
    for more in ({}, {"resume": True}, {"resume": True, "seeds": 2}):
        compare_rules.run("out", rules=["mine.py:Hebb:gain=0.5"], **TINY, **more)  # type: ignore[arg-type]
    runs = [run.about for run in analysis.open_comparison("out").runs]
    assert [run["rule_options"] for run in runs] == [{"gain": 0.5}] * 2


def test_a_rule_that_was_edited_is_not_averaged_with_its_former_self(script: Path) -> None:
    compare_rules.run("out", rules=["mine.py:Hebb"], **TINY)  # type: ignore[arg-type]
    script.write_text(script.read_text().replace("return self.gain", "return -self.gain"))
    with pytest.raises(OptionError, match=r"mine\.py:Hebb has changed since the runs in .* were made"):
        compare_rules.run("out", rules=["mine.py:Hebb"], resume=True, seeds=2, **TINY)  # type: ignore[arg-type]


def test_no_file_is_run_because_a_folder_says_so(script: Path) -> None:
    compare_rules.run("out", rules=["mine.py:Hebb"], **TINY)  # type: ignore[arg-type]
    script.write_text("raise SystemExit('executed')\n")
    with pytest.raises(OptionError, match="runs of a rule in a file, which is run if you name it"):
        compare_rules.run("out", resume=True, **TINY)  # type: ignore[arg-type]


def test_what_tiny_decides_is_taken_over_when_a_folder_is_gone_on_with(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    compare_rules.run(out, rules=["clapp++gap"], **TINY)  # type: ignore[arg-type]
    rest = {name: value for name, value in TINY.items() if name != "tiny"}
    table = compare_rules.run(out, rules=["bp"], resume=True, **rest).table  # type: ignore[arg-type]
    assert len(table) == 2
    recorders = {run.label: run.about["recorders"] for run in analysis.open_comparison(out).runs}
    assert recorders["BP, supervised"][0] == recorders["CLAPP++ without spatial dependence"][0]


def test_an_index_or_a_measurement_that_was_edited_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare_rules.run(str(out), rules=["clapp++gap", "bp"], **TINY)  # type: ignore[arg-type]
    edited = json.loads((out / "comparison.json").read_text())
    del edited["runs"][-1]
    (out / "comparison.json").write_text(json.dumps(edited, indent=1) + "\n")
    with pytest.raises(TrajectoryError, match="does not match its checksum"):
        analysis.verify(out)
    with pytest.raises(NeurosslError, match="does not match its checksum"):
        compare_rules.run(str(out), resume=True, **TINY)  # type: ignore[arg-type]
    write_json(tmp_path / "kept.json", [1.5, 2.5])
    assert read_json(tmp_path / "kept.json") == [1.5, 2.5]
    (tmp_path / "kept.json").write_text((tmp_path / "kept.json").read_text().replace("2.5", "9.5"))
    with pytest.raises(OptionError, match="was damaged or edited"):
        read_json(tmp_path / "kept.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OptionError, match="cannot be read"):
        read_json(tmp_path / "pipe.json")


@pytest.mark.parametrize("where", ["trajectory", "rule"])
def test_nothing_is_written_or_removed_through_a_planted_link(tmp_path: Path, where: str) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    compare_rules.run(str(out), rules=["clapp++gap"], **TINY)  # type: ignore[arg-type]
    victim.mkdir()
    for name in ("000000.nc", "000001.nc", "seed-0"):
        (victim / name).write_bytes(b"mine")
    if where == "trajectory":
        run = out / "clapp++gap" / "seed-0"
        for segment in (run / "trajectory").iterdir():
            segment.unlink()
        (run / "trajectory").rmdir()
        (run / "trajectory").symlink_to(victim)
        (run / "segments.jsonl").write_text("")
        with pytest.raises(NeurosslError, match="it is a link"):
            TrajectoryWriter.reopen(run)
    else:
        (out / "clapp++gap").rename(out / "moved")
        (out / "clapp++gap").symlink_to(victim)
        with pytest.raises(NeurosslError, match="is a link"):
            compare_rules.run(str(out), resume=True, **TINY)  # type: ignore[arg-type]
    assert sorted(file.name for file in victim.iterdir()) == ["000000.nc", "000001.nc", "seed-0"]


def test_a_folder_that_holds_the_temporaries_of_a_dead_process_alone_can_be_begun(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom neurossl import files\n"
        "files.os.replace = lambda *a, **k: os._exit(9)\n"
        f"Path({str(out)!r}).mkdir()\nfiles.write_atomically(Path({str(out)!r}) / 'comparison.json', b'{{}}')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert list(out.iterdir())
    assert stored_options(out) == {}
    assert len(compare_rules.run(str(out), rules=["bp"], resume=True, **TINY).table) == 1  # type: ignore[arg-type]


def test_a_run_without_a_whole_checkpoint_is_begun_anew(tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare_rules.run(str(out), rules=["clapp++gap"], **TINY)  # type: ignore[arg-type]
    for file in (out / "clapp++gap" / "seed-0" / "checkpoints").glob("*.json"):
        file.write_text("[" * 100_000)
    with pytest.raises(TrajectoryError, match=r"checkpoint .* \(it is no checkpoint \(RecursionError\)\)"):
        analysis.verify(out)
    grown = {**TINY, "budget": 8}
    assert len(compare_rules.run(str(out), rules=["clapp++gap"], resume=True, **grown).table) == 1  # type: ignore[arg-type]
    assert (out / "clapp++gap" / "seed-0.interrupted-1").is_dir()


def test_the_command_of_a_report_makes_what_the_folder_holds(tmp_path: Path) -> None:
    first = ["neurossl", "run", "compare_rules", "--tiny", "--rules", "clapp++gap,bp", "--budget", "12", "--out", "o"]
    then = ["neurossl", "run", "compare_rules", "--out", "o", "--resume"]
    assert joined(first, then, GROWING) == first
    more = [*then, "--rules", "ff", "bp", "--budget", "16"]
    assert joined(first, more, GROWING) == [*first[:5], "clapp++gap,bp,ff", "--budget", "16", "--out", "o"]
    out = str(tmp_path / "out")
    assert main(["run", "compare_rules", "--tiny", "--rules", "bp", "--budget", "4", "--out", out]) == 0
    assert main(["run", "compare_rules", "--out", out, "--resume"]) == 0
    assert list(analysis.read_results(out).command)[-6:] == ["--rules", "bp", "--budget", "4", "--out", out]


def test_results_of_an_earlier_budget_are_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    compare_rules.run(str(out), rules=["bp"], **TINY)  # type: ignore[arg-type]
    index = read_json(out / "comparison.json")
    index["options"]["budget"] = 8
    write_json(out / "comparison.json", index)
    assert main(["report", str(out)]) == 0
    assert "is of an earlier budget than the runs there" in capsys.readouterr().out


def test_control_and_treated_of_one_seed_are_told_to_be_labelled(tmp_path: Path) -> None:
    for name, lr in (("a", 1e-3), ("b", 1e-2)):
        compare_rules.run(str(tmp_path / name), rules=["bp"], lr=lr, **TINY)  # type: ignore[arg-type]
    paths = [tmp_path / name / "bp" / "seed-0" for name in ("a", "b")]
    with pytest.raises(TrajectoryError, match=r"same seed \(0\), but differ in .*: give them different labels"):
        analysis.open_comparison(paths)


def test_the_packages_can_be_run_by_their_names_below_neurossl() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neurossl.protocols.cli", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(analysis.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert "compare_rules" in done.stdout
