"""Runs side by side: how they end with their parent or a signal, inside a pool, and what does not depend on them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr

import analysis
from neurossl.errors import OptionError
from protocols import compare_rules
from protocols.harness.folder import opened
from protocols.harness.parallel import each, run_jobs

LONG = ["--rules", "clapp++gap,bp", "--seeds", "1", "--network", "mlp:32-32", "--budget", "100000", "--observers", "32"]
"""Two runs that nobody waits for."""


def start(out: Path, *words: str, protocol: str = "compare_rules") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "protocols.cli", "run", protocol, "--out", str(out), *words]
    with open(out.with_suffix(".log"), "wb") as log:
        # A job of nohup ignores the closing of its terminal, and so would what it starts.
        hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        finally:
            signal.signal(signal.SIGHUP, hangup)


def said(out: Path) -> str:
    return out.with_suffix(".log").read_text(errors="replace")


def wait_for(condition: Callable[[], object], out: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, said(out)
        time.sleep(0.02)


def of_session(session: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, belongs = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if state != "Z" and int(belongs) == session:
                found.append(int(entry.name))
    return found


def learning(out: Path) -> bool:
    """Return whether both runs have begun."""
    return len(list(out.glob("*/seed-0/manifest.json"))) == 2


def test_each_is_map_and_what_a_process_could_not_do_is_done_here(capfd: pytest.CaptureFixture[str]) -> None:
    here = os.getpid()
    assert each(lambda n: (n, os.getpid() == here), [3, 1, 2], workers=2) == [(3, False), (1, False), (2, False)]
    assert each(lambda n: (n, os.getpid() == here), [3, 1, 2], workers=1) == [(3, True), (1, True), (2, True)]

    def only_here(n: int) -> int:
        if n == 1 and os.getpid() != here:
            raise OptionError("not in this process")
        return n

    def nowhere(n: int) -> int:
        raise OptionError(f"no {n}")

    assert each(only_here, [3, 1, 2], workers=2) == [3, 1, 2]
    with pytest.raises(OptionError, match="no 3"):
        each(nowhere, [3, 1], workers=2)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                mine = str(tmp_path).encode() in process.joinpath("cmdline").read_bytes()
            except OSError:
                continue
            if mine:
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_workers_end_with_their_parent_and_keep_what_they_have(number: int, out: Path) -> None:
    process = start(out, *LONG, "--workers", "2")
    wait_for(lambda: learning(out), out)
    time.sleep(0.3)
    os.kill(process.pid, number)  # the parent alone, as schedulers do
    assert process.wait(60) == (-9 if number == signal.SIGKILL else 128 + number)
    wait_for(lambda: not of_session(process.pid), out, 30)
    assert "Traceback" not in said(out)
    for rule in ("clapp++gap", "bp"):
        assert analysis.manifest(out / rule / "seed-0")["state"] == "interrupted"
        assert analysis.open_trajectory(out / rule / "seed-0", verify=True)["weights"].children
    if number != signal.SIGKILL:
        assert "add --resume to go on" in said(out).splitlines()[-1]
        states = [entry["state"] for entry in json.loads((out / "comparison.json").read_text())["runs"]]
        assert states == ["interrupted", "interrupted"]


@pytest.mark.slow
def test_a_run_in_this_process_ends_in_the_same_way(out: Path) -> None:
    process = start(out, *LONG, "--workers", "1")
    wait_for(lambda: (out / "clapp++gap" / "seed-0" / "manifest.json").is_file(), out)
    time.sleep(0.3)
    process.terminate()
    assert process.wait(60) == 143
    assert analysis.manifest(out / "clapp++gap" / "seed-0")["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_loses_nothing_of_what_the_first_has_saved(workers: str, out: Path) -> None:
    process = start(out, *LONG, "--workers", workers)
    first = ["clapp++gap", "bp"] if workers == "2" else ["clapp++gap"]
    wait_for(lambda: all((out / r / "seed-0" / "manifest.json").is_file() for r in first), out)
    time.sleep(0.3)
    for _ in range(30):  # to the whole group, as a terminal does
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    assert process.wait(60) == 130
    assert "Traceback" not in said(out)
    for rule in first:
        assert analysis.manifest(out / rule / "seed-0")["state"] == "interrupted"
        assert analysis.open_trajectory(out / rule / "seed-0", verify=True)["weights"].children
    assert json.loads((out / "comparison.json").read_text())["runs"][0]["state"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2])
def test_ctrl_c_while_workers_start_is_never_ignored_and_gives_no_traceback(delay: float, out: Path) -> None:
    process = start(out, *LONG, "--workers", "2")
    wait_for(lambda: (out / "comparison.json").is_file(), out)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130, said(out)
    assert "Traceback" not in said(out)
    wait_for(lambda: not of_session(process.pid), out, 30)


@pytest.mark.slow
def test_nobody_else_works_in_a_folder_while_a_worker_is_alive(out: Path) -> None:
    process = start(out, *LONG, "--workers", "2")
    wait_for(lambda: learning(out), out)
    before = sorted(p.name for p in out.iterdir())
    words = [sys.executable, "-m", "protocols.cli", "run", "compare_rules", "--out", str(out), *LONG, "--resume"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another process is at work in it" in done.stderr
    assert sorted(p.name for p in out.iterdir()) == before
    assert analysis.manifest(out / "clapp++gap" / "seed-0")["state"] == "running"
    process.kill()
    process.wait(60)


def test_the_lock_of_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, pathlib; from protocols.harness.folder import opened;"
        f"here = opened(pathlib.Path({str(tmp_path / 'x')!r}), True); here.__enter__();"
        f"open({str(tmp_path / 'x' / 'file')!r}, 'w'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    here = opened(tmp_path / "x", True)
    with here, pytest.raises(OptionError, match="another process is at work"), opened(tmp_path / "x", True):
        pass


def _compare(out: str) -> list[str]:
    return [str(record["rule"]) for record in compare_rules.run(out, rules=["clapp++gap"], seeds=2, tiny=True).table]


@pytest.mark.slow
def test_a_comparison_runs_inside_a_pool(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_compare, [str(tmp_path / "run")]) == [["CLAPP++ without spatial dependence"]]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_data_whatever_the_workers(tmp_path: Path) -> None:
    trees = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        words = ["--tiny", "--rules", "clapp++gap,pc", "--network", "mlp:200-200", "--budget", "12", "--workers", workers]
        environment = {**os.environ, "OMP_NUM_THREADS": "2"}
        command = [sys.executable, "-m", "protocols.cli", "run", "compare_rules", "--out", str(out), *words]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        assert analysis.manifest(out / "pc" / "seed-0")["threads"] == 1
        trees.append([analysis.open_trajectory(out / rule / "seed-0").load() for rule in ("clapp++gap", "pc")])
    for one, other in zip(*trees, strict=True):
        xr.testing.assert_identical(one, other)


def test_a_job_that_raises_something_odd_ends_alone() -> None:
    def work(job: int, progress: object) -> int:
        if job == 1:
            raise SystemExit(3)
        return job

    outcomes = run_jobs([0, 1, 2], work, 2, lambda job, done: None)
    assert [o.result for o in outcomes] == [0, None, 2]
    assert "ended with status" in outcomes[1].problem


@pytest.mark.slow
def test_a_log_is_given_a_few_lines_and_not_hundreds(out: Path) -> None:
    assert start(out, "--tiny", "--rules", "clapp++gap", "--budget", "200").wait(120) == 0
    lines = [line for line in said(out).splitlines() if "moments" in line]
    assert len(lines) <= 1, "one every 30 s"
    assert "\r" not in said(out)
