"""One writer per folder, and nothing that it was given is lost: forks, ends without closing, kills at any moment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from stored import make_weights, python
from test_store import load, undisturbed

from analysis import TrajectoryWriter, describe, manifest, open_trajectory, verify
from neurossl.errors import StorageError
from neurossl.files import FolderLock
from neurossl.store import Variable

# One writer


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 2)
    with TrajectoryWriter.reopen(run):
        with pytest.raises(StorageError, match=f"is being written by process {os.getpid()} on") as refusal:
            TrajectoryWriter.reopen(run)
        assert refusal.value.exit_status == 2
        _, errors = python("TrajectoryWriter.reopen(sys.argv[1])", run).communicate()
        assert f"is being written by process {os.getpid()} on" in errors
    TrajectoryWriter.reopen(run).close()


def test_a_dead_process_holds_no_folder(tmp_path: Path) -> None:
    script = """
        writer = TrajectoryWriter(sys.argv[1], segment_records=1)
        writer.declare("activity", "V1", {"mean": Variable(())})
        writer.record("activity", "V1", 0, 0.0, 0, {"mean": 1.0})
        writer.commit()
        print("ready", flush=True)
        time.sleep(60)
    """
    process = python(script, tmp_path / "run")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(StorageError, match=f"process {process.pid} on"):
        TrajectoryWriter.reopen(tmp_path / "run")
    assert manifest(tmp_path / "run")["state"] == "running"
    assert f"({process.pid} on " in describe(tmp_path / "run")
    process.kill()
    process.communicate()
    about = manifest(tmp_path / "run")
    assert about["state"] == "died"
    assert f"process {process.pid} on" in about["reason"]
    assert "died run (process" in describe(tmp_path / "run")
    assert "has not ended: died run" in str(verify(tmp_path / "run"))
    TrajectoryWriter.reopen(tmp_path / "run").close()
    assert manifest(tmp_path / "run")["state"] == "finished"


def test_a_lock_outlives_neither_its_folder_nor_its_process(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    assert lock.held
    if not (child := os.fork()):
        os._exit(lock.held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child does not hold it"
    assert lock.held
    (tmp_path / ".lock").unlink()
    assert not lock.held
    lock.release()
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        FolderLock(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_writer_whose_folder_is_made_again_stops(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path / "run", segment_records=1)
    writer.declare("activity", "V1", {"mean": Variable(())})
    (tmp_path / "run").rename(tmp_path / "aside")
    make_weights(tmp_path / "run", 2)
    writer.record("activity", "V1", 0, 0.0, 0, {"mean": 1.0})
    with pytest.raises(StorageError, match="no longer that of this run"):
        writer.commit()
    verify(tmp_path / "run")


# Nothing is lost


def test_the_state_before_learning_is_written_at_once_and_the_rest_within_seconds(tmp_path: Path) -> None:
    import time

    writer = TrajectoryWriter(tmp_path / "run", segment_seconds=0.2)
    writer.declare("activity", "V1", {"mean": Variable(())})
    for event in range(2):
        writer.record("activity", "V1", event, event, event, {"mean": 1.0})
        deadline = time.monotonic() + 5
        while open_trajectory(tmp_path / "run").sizes["event"] <= event:  # nothing else is recorded meanwhile
            assert time.monotonic() < deadline
            time.sleep(0.02)
    writer.close()
    assert TrajectoryWriter.__init__.__kwdefaults__["segment_seconds"] == 30


@pytest.mark.parametrize(
    "end", ["pass", "sys.exit(3)", "raise ValueError('no')", "del writer; import gc; gc.collect(); time.sleep(0.3)"]
)
def test_a_script_that_never_closes_keeps_its_records(tmp_path: Path, end: str) -> None:
    script = f"""
        writer = TrajectoryWriter(sys.argv[1])
        writer.declare("activity", "V1", {{"mean": Variable(())}})
        for event in range(5):
            writer.record("activity", "V1", event, event, event, {{"mean": 1.0}})
        {end}
    """
    process = python(script, tmp_path / "run")
    process.communicate(timeout=60)
    assert process.returncode == {"pass": 0, "sys.exit(3)": 3}.get(end, 1 if "raise" in end else 0)
    assert open_trajectory(tmp_path / "run").sizes["event"] == 5
    about = manifest(tmp_path / "run")
    assert (about["state"], about["reason"]) == ("interrupted", "the program ended without closing the run")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_that_never_closes_keeps_its_records(tmp_path: Path, method: str) -> None:
    (tmp_path / "work.py").write_text(
        "import multiprocessing, sys\nfrom analysis import TrajectoryWriter\nfrom neurossl.store import Variable\n"
        "def work(path):\n"
        "    global writer\n"
        "    writer = TrajectoryWriter(path)\n"
        "    writer.declare('activity', 'V1', {'mean': Variable(())})\n"
        "    for event in range(5):\n"
        "        writer.record('activity', 'V1', event, event, event, {'mean': 1.0})\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(sys.argv[1],))\n"
        "    process.start()\n    process.join()\n    sys.exit(process.exitcode)\n"
    )
    command = [sys.executable, str(tmp_path / "work.py"), str(tmp_path / "run"), method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert open_trajectory(tmp_path / "run").sizes["event"] == 5
    assert manifest(tmp_path / "run")["state"] == "interrupted"


def test_a_run_that_holds_nothing_is_told_so(tmp_path: Path) -> None:
    python("writer = TrajectoryWriter(sys.argv[1]); os._exit(1)", tmp_path / "run").communicate()
    assert "holds nothing: no segment was ever stored" in str(verify(tmp_path / "run"))
    assert str(verify(tmp_path / "run")).splitlines()[-1] == "0 segments, 0 bytes: nothing is stored"
    assert "died run" in describe(tmp_path / "run")


def test_a_forked_child_is_refused_and_never_hangs(tmp_path: Path) -> None:
    script = """
        def refusals(writer):
            found = []
            for act in (
                lambda: writer.record("activity", "V1", 9, 9.0, 9, {"mean": 1.0}),
                writer.commit,
                writer.close,
                lambda: writer.amend({}),
            ):
                try:
                    act()
                except TrajectoryError as error:
                    found.append("forked child" in str(error))
            return found

        with TrajectoryWriter(sys.argv[1], segment_records=1) as writer:
            writer.declare("activity", "V1", {"mean": Variable(())})
            for event in range(20):
                writer.record("activity", "V1", event, event, event, {"mean": 1.0})
                if not (child := os.fork()):
                    assert refusals(writer) == [True] * 4
                    own = TrajectoryWriter(sys.argv[1] + str(event))
                    own.close()
                    sys.exit(0)
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    output, errors = python(script, tmp_path / "run").communicate(timeout=100)
    assert output.split() == ["0"] * 20, errors
    assert open_trajectory(tmp_path / "run").sizes["event"] == 20
    assert manifest(tmp_path / "run")["state"] == "finished"
    assert manifest(tmp_path / "run3")["state"] == "finished"


def test_a_child_forked_while_files_are_read_and_written_can_open_its_own(tmp_path: Path) -> None:
    make_weights(tmp_path / "other", 8)
    script = """
        import threading
        stop = threading.Event()
        def read():
            while not stop.is_set():
                open_trajectory(sys.argv[1] + "/other").load()
        def write():
            with TrajectoryWriter(sys.argv[1] + "/run", segment_records=1) as writer:
                writer.declare("activity", "V1", {"mean": Variable(())})
                event = 0
                while not stop.is_set():
                    writer.record("activity", "V1", event, event, event, {"mean": 1.0})
                    event += 1
        threads = [threading.Thread(target=function) for function in (read, read, write)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(40):
            if not (child := os.fork()):
                signal.alarm(20)
                open_trajectory(sys.argv[1] + "/other").load()
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        for thread in threads:
            thread.join()
        print(codes)
    """
    output, errors = python(script, tmp_path).communicate(timeout=200)
    assert json.loads(output) == [0] * 40, errors
    verify(tmp_path / "run")


LEARN = """
    import hashlib

    def learn(path, events=8, pause=0.0):
        "Learn some moments, going on after the last position that is noted, with a position every other moment."
        run, positions = path / "run", path / "position"
        if (run / "manifest.json").exists():
            writer = TrajectoryWriter.reopen(run, segment_records=9)
        else:
            writer = TrajectoryWriter(run, segment_records=9)
        with writer:
            writer.describe(CONFIGURATION)
            place = json.loads(positions.read_text()) if positions.exists() else None
            if place is None:
                place = {**writer.commit(), "segments": 0, "digest": hashlib.sha256(b"").hexdigest(), "next": 0}
            writer.rewind(place)
            declare(writer)
            for event in range(place["next"], events):
                record(writer, event)
                time.sleep(pause)
                if event % 2:
                    text = json.dumps({**writer.commit(), "next": event + 1})
                    positions.with_suffix(".new").write_text(text)
                    os.rename(positions.with_suffix(".new"), positions)

    def forget_half_made(path):
        "A run that was killed before it had a manifest holds nothing: its folder is made again."
        if (path / "run").exists() and not (path / "run/manifest.json").exists():
            assert {file.suffix for file in (path / "run").rglob("*")} <= {"", ".tmp"}
            shutil.rmtree(path / "run")
"""


@pytest.mark.slow
def test_killed_at_every_write_and_gone_on_with_the_run_is_that_of_one_who_never_was(tmp_path: Path) -> None:
    script = (
        LEARN
        + """
    def attempt(path, fatal):
        "Learn in a child that is killed at one of its calls of the system."
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        calls = itertools.count()
        def dying(function):
            def wrapped(*arguments, **options):
                if next(calls) == fatal:
                    os._exit(9)
                return function(*arguments, **options)
            return wrapped
        for name in ("fsync", "replace", "unlink", "rename", "open", "pwrite", "ftruncate", "mkdir"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            learn(path)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)

    fatal, code = 0, 9
    while code == 9:
        path = Path(sys.argv[1]) / str(fatal)
        path.mkdir()
        code = attempt(path, fatal)
        forget_half_made(path)
        again = attempt(path, (7 * fatal) % 50)  # the second is killed as well, somewhere else
        forget_half_made(path)
        print(fatal, code, again, attempt(path, -1))
        fatal += 1 if fatal < 40 else 4
    """
    )
    expected = undisturbed(tmp_path / "straight", 8)
    output, errors = python(script, tmp_path).communicate(timeout=280)
    outcomes = [tuple(map(int, line.split())) for line in output.splitlines()]
    assert len(outcomes) > 40, errors
    assert {code for _, code, _, _ in outcomes[:-1]} == {9}
    assert {again for _, _, again, _ in outcomes} <= {0, 9}, errors
    assert {last for *_, last in outcomes} == {0}, errors
    for fatal, *_ in outcomes:
        run = tmp_path / str(fatal) / "run"
        verify(run)
        xr.testing.assert_identical(load(run), expected)
        assert not list(run.rglob("*.tmp")), "what the dead left behind is removed"


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_with_the_run_is_that_of_one_who_never_was(tmp_path: Path) -> None:
    script = (
        LEARN
        + """
    import random
    import traceback
    generator, path = random.Random(1), Path(sys.argv[1])
    for attempt in range(40):
        if not (child := os.fork()):
            try:
                learn(path, 60, 0.002)
            finally:
                traceback.print_exc() if sys.exc_info()[0] else None
                os._exit(1 if sys.exc_info()[0] else 0)
        time.sleep(generator.random() * 0.15)
        os.kill(child, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        forget_half_made(path)
        if (path / "run").exists():
            verify(path / "run")
    learn(path, 60)
    """
    )
    expected = undisturbed(tmp_path / "straight", 60)
    process = python(script, tmp_path)
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert output.split().count("-9") > 20
    assert "1" not in output.split(), errors
    xr.testing.assert_identical(load(tmp_path / "run"), expected)
