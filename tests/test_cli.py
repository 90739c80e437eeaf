"""The command line: what it prints, what it refuses, with which exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurossl.selftest import shipped_files
from protocols.cli import main, protocol_names
from protocols.harness.options import parse


def neurossl(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "protocols.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload]


def refusal(capsys: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    """Run a command that is refused and return its one line."""
    assert main(words) == status
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def test_list_names_every_protocol_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == protocol_names()
    assert "compare_rules" in protocol_names()
    assert all(len(line) > 30 for line in lines)


def test_help_lists_the_options_of_a_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "compare_rules", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--dataset", "--rules", "--seeds", "--budget", "--network", "--device", "--tiny"))


def test_reading_commands_need_no_torch() -> None:
    code = (
        "import sys, protocols.cli as c; c.main(['list']); assert 'torch' not in sys.modules and 'brian2' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["fly"], "there are: list"),
        (["rn"], "did you mean 'run'"),
        (["run"], "compare_rules"),
        (["run", "compare_rule", "--out", "x"], "did you mean 'compare_rules'"),
        (["run", "missing.py", "--out", "x"], "no such file"),
        (["run", "compare_rules"], "--out is needed"),
        (["run", "compare_rules", "--out"], "needs a value"),
        (["run", "compare_rules", "--out", "x", "--speed", "3"], "--speed does not exist"),
        (["run", "compare_rules", "--out", "x", "--seed", "3", "--seed", "4"], "given twice"),
        (["run", "compare_rules", "--out", "x", "--seeds", "three"], "expected a whole number, got 'three'"),
        (["run", "compare_rules", "--out", "x", "--tiny=yes"], "takes no value"),
        (["run", "compare_rules", "--out", "x", "--rules", "clap"], "did you mean 'clapp'"),
        (["run", "compare_rules", "--out", "x", "--rules", "clapp++gap,clapp++gap"], "different names"),
        (["run", "compare_rules", "--out", "x", "--seeds", "0"], "seeds: expected a whole number from 1"),
        (["run", "compare_rules", "--out", "x", "--seeds", "99999999999"], "got 99999999999"),
        (["run", "compare_rules", "--out", "x", "--seed", "9" * 30], "seed: expected a whole number of at most 64 bits"),
        (["run", "compare_rules", "--out", "x", "--budget", "9" * 30], "budget: expected a whole number from 1"),
        (["run", "compare_rules", "--out", "x", "--workers", "0"], "workers: expected a whole number from 1"),
        (["run", "compare_rules", "--out", "x", "--observers", "5000"], "observers: expected at most the"),
        (["run", "compare_rules", "--out", ""], "--out needs a value"),
        (["run", "compare_rules", "--out="], "--out needs a value"),
        (["run", "compare_rules", "--out", "x", "--device", "cpu:1"], "expected auto, cpu or cuda"),
        (["run", "compare_rules", "--out", "x", "--network", "vgg6:-1"], "expected a factor > 0 on the number of channels"),
        (["run", "compare_rules", "--out", "x", "--network", "vgg6:inf"], "expected a factor > 0 on the number of channels"),
        (["run", "compare_rules", "--out", "x", "--network", "conv:8MM"], "expected mlp:256"),
        (["run", "compare_rules", "--out", "x", "--network", "mlp:9999999999"], "choose a smaller one"),
        (["run", "compare_rules", "--out", "x", "--budget", "-3"], "budget"),
        (["run", "compare_rules", "--out", "x", "--dataset", "digit"], "digit"),
        (["run", "compare_rules", "--out", "x", "--dataset", "folder:/nowhere"], "/nowhere"),
        (["run", "compare_rules", "--out", "x", "--device", "tpu"], "expected auto, cpu or cuda"),
        (["run", "compare_rules", "--out", "x", "--network", "mlp:two"], "expected mlp:256"),
        (["run", "compare_rules", "--out", "x", "--network", "conv:8M-8M-8M-8M-8M"], "V5"),
        (["run", "compare_rules", "--out", "x", "--lr", "-1"], "lr must be"),
        (["info"], "expected 1 paths, got 0"),
        (["info", ""], "expected a path"),
        (["info", "long" * 1000], "File name too long"),
        (["info", "nowhere"], "nowhere"),
        (["verify", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["compare", "nowhere", "neither"], "nowhere"),
        (["export", "nowhere", "file.nc"], "nowhere"),
        (["selftest", "--speed", "3"], "--speed does not exist"),
        (["selftest", "--dtype", "int8"], "int8"),
        (["selftest", "--device", "tpu"], "tpu"),
        (["selftest", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refusal(capsys, *words)
    assert not list(tmp_path.iterdir()), "nothing is written for bad input"


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = refusal(capsys, "run", "compare_rules", "--out", str(tmp_path / "x"), "--device", "cuda")
    assert "not available on this machine" in line


def test_selftest_command_passes_and_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = next(f for f in shipped_files() if f.name == "clapp_lateral_hinge.npz")
    assert main(["selftest", str(file)]) == 0
    assert "1 of 1 files" in capsys.readouterr().out
    arrays = dict(np.load(file))
    arrays["layer0_weight_grad"] = arrays["layer0_weight_grad"] * (1 + 1e-6)
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert main(["selftest", str(tmp_path / "wrong.npz")]) == 1
    assert "FAIL" in capsys.readouterr().out
    del arrays["layer0_weight_grad"]
    np.savez(tmp_path / "missing.npz", **arrays)
    assert main(["selftest", str(tmp_path / "missing.npz")]) == 1
    assert "'layer0_weight_grad' is missing" in capsys.readouterr().out


def _altered(tmp_path: Path, meta: dict[str, object] | None = None, file: str = "ff.npz", **arrays: np.ndarray) -> str:
    """Return a reference file with some of its content altered."""
    stored = dict(np.load(next(f for f in shipped_files() if f.name == file)))
    about = {**json.loads(str(stored.pop("meta"))), **(meta or {})}
    np.savez(tmp_path / "altered.npz", meta=json.dumps(about), **{**stored, **arrays})
    return str(tmp_path / "altered.npz")


def test_selftest_takes_no_array_of_another_shape_for_the_right_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    negative = np.load(next(f for f in shipped_files() if f.name == "ff.npz"))["negative"]
    assert main(["selftest", _altered(tmp_path, negative=negative.reshape(9, 4, 5))]) == 1
    assert "'negative' has shape (9, 4, 5), not (9, 20)" in capsys.readouterr().out
    name = "clapp_spatial_hinge.npz"
    index = np.load(next(f for f in shipped_files() if f.name == name))["negative_index"]
    assert main(["selftest", _altered(tmp_path, file=name, negative_index=np.tile(index, 2))]) == 1
    assert "'negative_index' has shape (24,), not (12)" in capsys.readouterr().out


@pytest.mark.parametrize("meta", [{"transfer": [None, "relu"]}, {"dims": None}, {"dims": "many"}, {"dims": [20, 16, 10**9]}])
def test_selftest_fails_a_file_whose_description_does_not_fit(
    meta: dict[str, object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["selftest", _altered(tmp_path, meta)]) == 1
    assert "does not fit together" in capsys.readouterr().out


def test_selftest_reads_null_layer_by_layer(tmp_path: Path) -> None:
    each = {"loss_pool": [None] * 3, "context_layer": [None] * 3}
    assert main(["selftest", _altered(tmp_path, each, "clapp_pooled_hinge.npz")]) == 0


def test_selftest_refuses_damaged_files_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no reference for rule ['ff']" in refusal(capsys, "selftest", _altered(tmp_path, {"rule": ["ff"]}))
    damaged = tmp_path / "damaged.npz"
    np.savez_compressed(damaged, **dict(np.load(shipped_files()[0])))
    whole = damaged.read_bytes()
    for place in range(40, len(whole), len(whole) // 40):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert main(["selftest", str(damaged)]) in (0, 1, 2)
        assert "Traceback" not in capsys.readouterr().err


def test_options_come_from_the_signature() -> None:
    def run(out: str, *, rate: float = 0.1, names: list[str] | None = None, fast: bool = False) -> None:
        """Do it."""

    words = ["--out", "o", "--rate=1e-3", "--names", "a,b", "c", "--fast"]
    assert parse(run, words, "it") == {"out": "o", "rate": 1e-3, "names": ["a", "b", "c"], "fast": True}


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m protocols.cli --help | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr


def test_a_script_is_a_protocol(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text('"""Mine."""\n\ndef run(out: str, *, size: int = 1) -> None:\n    print(out, size + 1)\n')
    done = neurossl("run", str(script), "--out", "there", "--size", "2", env={**os.environ})
    assert (done.returncode, done.stdout) == (0, "there 3\n")
    script.write_text("def run(out, size=1):\n    print(out, size + 1)\n")
    done = neurossl("run", str(script), "--out", "there", "--size", "2", env={**os.environ})
    assert (done.returncode, done.stdout) == (0, "there 3\n"), "no annotations: the types of the defaults"
    script.write_text("x = 1\n")
    done = neurossl("run", str(script), "--out", "there")
    assert done.returncode == 2
    assert "has no function run" in done.stderr


@pytest.mark.parametrize(
    ("content", "status", "named"),
    [
        ("def run(out: str:\n    pass\n", 2, "line 1: SyntaxError: invalid syntax"),
        ("x = 1\nimport nothing_of_this_name\n", 2, "line 2: ModuleNotFoundError: No module named"),
        ("def run(out: 'Nothing') -> None:\n    pass\n", 2, "run() has an annotation that is no type"),
        ("def run(out: str) -> None:\n    int(out)\n", 1, "line 2: ValueError: invalid literal for int()"),
    ],
)
def test_a_script_that_fails_is_told_in_one_line(
    content: str, status: int, named: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(content)
    line = refusal(capsys, "run", str(script), "--out", str(tmp_path / "x"), status=status)
    assert named in line
    assert "mine.py" in line
