"""A run that is killed at any moment goes on from its last checkpoint, bit for bit, in the same run folder."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resumable import learn

from analysis import open_trajectory
from neurossl.checkpoint import read_checkpoint
from neurossl.state import State

SCRIPT = str(Path(__file__).with_name("resumable.py"))


def start(folder: Path, rule: str, moments: int, every: int = 40) -> subprocess.Popen[str]:
    """Start the run in a process of its own."""
    command = [sys.executable, SCRIPT, str(folder), rule, str(moments), str(every)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def go_on(folder: Path, rule: str, moments: int) -> State:
    """Go on in this process to the end, and return the state there."""
    return learn(folder, rule, moments, 40).state()


def assert_same_state(one: State, other: State) -> None:
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name]), name
    assert one.values == other.values


def assert_same_records(one: Path, other: Path) -> None:
    first, second = open_trajectory(one), open_trajectory(other)
    assert set(first.groups) == set(second.groups)
    for group in first.groups:
        here, there = first[group].to_dataset(), second[group].to_dataset()
        assert set(here.variables) == set(there.variables), group
        for name in here.variables:
            if name == "seconds":
                continue
            a, b = here[name].values, there[name].values
            assert a.dtype == b.dtype, (group, name)
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (group, name)


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not list((folder / "checkpoints").glob("*.json")):
        time.sleep(0.01)


@pytest.mark.parametrize("rule", ["clapp", "online", "pc", "ff"])
def test_a_killed_run_goes_on_bit_for_bit(rule: str, tmp_path: Path) -> None:
    whole, broken, moments = tmp_path / "whole", tmp_path / "broken", 200
    end = go_on(whole, rule, moments)
    process = start(broken, rule, moments)
    wait_for_checkpoint(broken, process)
    process.kill()
    process.communicate()
    reached = read_checkpoint(broken).values["moment"]
    assert 0 < reached < moments or process.returncode == 0
    assert_same_state(end, go_on(broken, rule, moments))
    assert_same_records(whole, broken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_between_two_moments_and_says_so(number: int, tmp_path: Path) -> None:
    process = start(tmp_path / "run", "clapp", 100_000)
    wait_for_checkpoint(tmp_path / "run", process)
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == ""
    (line,) = error.strip().splitlines()
    moment = read_checkpoint(tmp_path / "run").values["moment"]
    assert line.startswith(f"{signal.Signals(number).name} after moment {moment} (t = ")
    assert f"a checkpoint is in {tmp_path / 'run' / 'checkpoints' / f'{moment:010d}.json'}" in line
    assert open_trajectory(tmp_path / "run").attrs["state"] == "interrupted"


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    end = go_on(whole, "clapp", 100)
    process = start(broken, "clapp", 100)
    process.communicate()
    newest = max((broken / "checkpoints").glob("*.safetensors"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(bytes(data))
    with pytest.warns(
        UserWarning, match=f"checkpoint {newest.stem[:10]} .*checksum.* is damaged; the one of moment 80 is used"
    ):
        assert_same_state(end, go_on(broken, "clapp", 100))
    assert_same_records(whole, broken)


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    whole, short = tmp_path / "whole", tmp_path / "short"
    end = go_on(whole, "clapp", 120)
    go_on(short, "clapp", 70)
    assert_same_state(end, go_on(short, "clapp", 120))
    assert_same_records(whole, short)


def die_at(boundary: int, folder: Path, moments: int) -> bool:
    """Run in a forked child that dies just before one of its calls that write or rename; return whether it died."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = [boundary]

    def fragile(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] <= 0:
                os._exit(9)
            return function(*args, **options)

        return call

    try:
        for name in ("fsync", "replace", "rename", "unlink", "open", "truncate", "ftruncate"):
            setattr(os, name, fragile(getattr(os, name)))
        learn(folder, "clapp", moments, 20)
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.slow
def test_a_death_at_every_write_and_rename_costs_nothing(tmp_path: Path) -> None:
    moments, boundary, died = 40, 1, True
    end = learn(tmp_path / "whole", "clapp", moments, 20).state()
    while died:
        broken = tmp_path / f"broken-{boundary}"
        died = die_at(boundary, broken, moments)
        assert_same_state(end, learn(broken, "clapp", moments, 20).state())
        assert_same_records(tmp_path / "whole", broken)
        boundary += 1
    assert boundary > 20


@pytest.mark.slow
def test_kill_9_at_forty_random_moments_of_a_long_run(tmp_path: Path) -> None:
    whole, broken, moments = tmp_path / "whole", tmp_path / "broken", 2000
    end = go_on(whole, "clapp", moments)
    chance = random.Random(1)
    kills = 0
    while kills < 40:
        process = start(broken, "clapp", moments)
        time.sleep(chance.uniform(1.5, 4.0))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
    assert_same_state(end, go_on(broken, "clapp", moments))
    assert_same_records(whole, broken)
    assert kills >= 5
