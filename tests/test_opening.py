"""Opening a run reads its index alone; reading keeps files open, as few as need be, whatever happens to them."""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import DENSE, INDEXED, make_run, make_weights, python, snapshot

from analysis import TrajectoryWriter, handles, open_trajectory, verify
from analysis.index import Layouts, index_line, read_index
from analysis.moments import Moments, fault, told
from analysis.records import Segment
from analysis.storage import read_manifest
from neurossl.errors import TrajectoryError
from neurossl.store import Variable


@pytest.fixture(autouse=True)
def none_held() -> None:
    handles.let_go(Path("/"))


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count which files are opened from now on."""
    found: list[str] = []
    before = handles.opened_for_reading

    def counting(path: Path) -> Any:
        found.append(path.name)
        return before(path)

    monkeypatch.setattr(handles, "opened_for_reading", counting)
    return found


def test_opening_reads_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", 12, segment_records=1)
    expected = open_trajectory(run).load()
    handles.let_go(run)
    for file in (run / "trajectory").iterdir():  # those with chosen synapses are read for their coordinates, once
        if file.name != "000000.nc":
            size = file.stat().st_size
            file.write_bytes(b"")
            os.truncate(file, size)
    names = opened(monkeypatch)
    tree = open_trajectory(run)
    assert names == ["000000.nc"]
    assert tree.sizes["event"] == expected.sizes["event"]
    assert tree[f"weights/{DENSE}"].sizes == expected[f"weights/{DENSE}"].sizes
    np.testing.assert_array_equal(tree[f"weights/{INDEXED}/synapse"], expected[f"weights/{INDEXED}/synapse"])
    with pytest.raises(TrajectoryError, match="does not match its checksum"):
        tree["performance/loss"].load()
    with pytest.raises(TrajectoryError, match="is damaged: "):
        open_trajectory(run, verify=True)


def test_a_file_is_opened_once_for_all_its_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", 30, segment_records=30)
    time.sleep(0.15)
    names = opened(monkeypatch)
    tree = open_trajectory(run)
    for row in range(1, 30):
        np.testing.assert_array_equal(tree[f"weights/{DENSE}/weight"][row], snapshot(DENSE, row, 5, 4))
        tree["performance/loss"].isel(event=row % 10).load()
    assert len(names) == len(set(names))


def test_few_files_are_held_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MOST", 3)
    run = make_weights(tmp_path / "run", 10)
    weight = open_trajectory(run)[f"weights/{DENSE}/weight"]
    for row in (*range(10), 3, 9):
        np.testing.assert_array_equal(weight[row], snapshot(DENSE, row, 5, 4))
        assert len(handles._open) <= 3
    with open_trajectory(run) as tree:
        tree[f"weights/{DENSE}/weight"][5].load()
        assert handles._open
    assert not handles._open, "a tree that is closed lets its files go"


def test_all_measures_of_more_runs_than_files_are_held_open_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(tmp_path / f"run-{number}", 12, segment_records=4) for number in range(4)]
    expected = [open_trajectory(run)["performance"].to_dataset().load() for run in runs]
    assert all(len(one.data_vars) > 1 for one in expected)
    handles.let_go(tmp_path)
    time.sleep(0.15)
    monkeypatch.setattr(handles, "MOST", 2)
    trees = [open_trajectory(run) for run in runs]
    names = opened(monkeypatch)
    for name in expected[0].data_vars:
        for tree, whole in zip(trees, expected, strict=True):
            np.testing.assert_array_equal(tree[f"performance/{name}"], whole[name])
    assert len(names) <= sum(len(list((run / "trajectory").glob("*.nc"))) for run in runs)


def test_a_file_that_is_another_one_is_opened_anew(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 4)
    time.sleep(0.15)
    weight = open_trajectory(run)[f"weights/{DENSE}/weight"]
    weight[2].load()
    file = run / "trajectory/000002.nc"
    whole = file.read_bytes()
    file.unlink()
    with pytest.raises(TrajectoryError, match=r"000002\.nc is missing"):
        weight[2].load()
    file.write_bytes((run / "trajectory/000003.nc").read_bytes())
    with pytest.raises(TrajectoryError, match=r"000002\.nc does not match its checksum"):
        weight[2].load()
    file.write_bytes(whole)
    np.testing.assert_array_equal(weight[2], snapshot(DENSE, 2, 5, 4))


def test_threads_read_through_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "MOST", 2)
    weight = open_trajectory(make_weights(tmp_path / "run", 8))[f"weights/{DENSE}/weight"]
    wrong: list[Any] = []

    def read(seed: int) -> None:
        for row in np.random.default_rng(seed).integers(0, 8, 40).tolist():
            if not np.array_equal(weight[row], snapshot(DENSE, row, 5, 4)):
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_child_opens_its_own_files_and_the_parent_keeps_its_own(tmp_path: Path) -> None:
    script = """
        weight = open_trajectory(make_weights(Path(sys.argv[1]) / "run", 6))[f"weights/{DENSE}/weight"]
        expected = [snapshot(DENSE, row, 5, 4) for row in range(6)]
        assert all(np.array_equal(weight[row], expected[row]) for row in range(6))
        codes = []
        for _ in range(8):
            if not (child := os.fork()):
                signal.alarm(60)
                same = all(np.array_equal(weight[row], expected[row]) for row in range(6))
                os._exit(0 if same else 1)
            assert all(np.array_equal(weight[row], expected[row]) for row in range(6))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(codes)
    """
    output, errors = python(script, tmp_path).communicate(timeout=200)
    assert json.loads(output or "0") == [0] * 8, errors


# What a line tells


def changed(run: Path, number: int, **members: Any) -> None:
    """Let a line of the index tell something else, sealed as if that were right."""
    segments = read_index(run, read_manifest(run))
    segments[number] = replace(segments[number], **members)
    layouts = Layouts()
    lines = [index_line(layouts.told_in(place, segment)) for place, segment in enumerate(segments)]
    (run / "segments.jsonl").write_text("".join(f"{line}\n" for line in lines))


def line_of(run: Path, number: int) -> Segment:
    return read_index(run, read_manifest(run))[number]


def test_lines_that_tell_what_cannot_be_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 6, segment_records=1)
    whole = (run / "segments.jsonl").read_bytes()
    segment = line_of(run, 2)
    assert isinstance(segment.layout, dict)
    axes: list[Any] = json.loads(json.dumps(segment.axes))

    def with_axis(**members: Any) -> list[Any]:
        return [{**axes[0], **members}, *axes[1:]]

    group = "weights/retina_to_V1"
    stack = segment.layout["stacks"][group]
    weight = stack["variables"]["weight"]

    def with_weight(**members: Any) -> dict[str, Any]:
        variables = {**stack["variables"], "weight": {**weight, **members}}
        return {**segment.layout, "stacks": {**segment.layout["stacks"], group: {**stack, "variables": variables}}}  # type: ignore[dict-item]

    wrong: list[tuple[dict[str, Any], str]] = [
        ({"axes": with_axis(count=10**15)}, "moments, expected at most"),
        ({"axes": with_axis(count=-1)}, "moments, expected at most"),
        ({"axes": with_axis(event="AAAA")}, "cannot be read"),
        ({"axes": with_axis(event=[50, 1])}, "events that are not its own"),
        ({"axes": with_axis(time=["a", 1])}, "cannot be read"),
        ({"axes": [axes[0]][:0]}, "has no moments of"),
        ({"axes": ["nonsense"]}, "lacks a member"),
        ({"layout": with_weight(dtype="object")}, "is no type of number"),
        ({"layout": with_weight(shape=[5])}, "has shape"),
        ({"layout": with_weight(shape=[5, 10**12])}, "of shape|claims to hold"),
        ({"layout": with_weight(dims=["post", "snapshot"])}, "has shape"),
        ({"layout": 99}, "which has none"),
        ({"layout": {"stacks": {}}}, "tables is missing"),
        ({"layout": {**segment.layout, "tables": {"alignment": {"labels": ["a", "a"], "variables": []}}}}, "twice"),
    ]
    for members, message in wrong:
        (run / "segments.jsonl").write_bytes(whole)
        changed(run, 2, **members)
        with pytest.raises(TrajectoryError, match=message):
            open_trajectory(run)
    (run / "segments.jsonl").write_bytes(whole)
    verify(run)


def test_a_line_that_tells_other_things_than_its_segment_is_found_when_it_is_read(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 4)
    segment = line_of(run, 2)
    assert segment.axes is not None
    changed(run, 2, axes=[{**segment.axes[0], "time": [7.0, 0.0]}])
    assert float(open_trajectory(run)[f"weights/{DENSE}/time"][2]) == 7
    with pytest.raises(TrajectoryError, match=r"000002\.nc holds other moments of weights/retina_to_V1 than its line"):
        verify(run)
    layout = json.loads(json.dumps(segment.layout).replace('"dtype": "float32"', '"dtype": "int32"'))
    (run / "segments.jsonl").unlink()
    make_weights(tmp_path / "other", 4)
    other = tmp_path / "other"
    changed(other, 0, layout=layout)
    changed(other, 1, layout=layout)
    changed(other, 2, layout=layout)
    changed(other, 3, layout=layout)
    with pytest.raises(TrajectoryError, match=r"holds weights/retina_to_V1/weight as float32 .* expected int32"):
        open_trajectory(other)[f"weights/{DENSE}/weight"][1].load()


numbers = st.integers(0, 2**62)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(numbers, min_size=1, max_size=30, unique=True), min_size=1, max_size=4),
    st.floats(0, 1e300),
    st.sampled_from(["product", "sum", "any"]),
    st.randoms(use_true_random=False),
)
def test_moments_come_back_bit_for_bit(parts: list[list[int]], step: float, kind: str, chance: Any) -> None:
    moments = []
    for part in parts:
        events = np.array(sorted(part), np.int64)
        with np.errstate(over="ignore"):
            times = {
                "product": events * step,
                "sum": np.cumsum(np.full(events.size, step)),
                "any": np.array([chance.random() * step for _ in part]),
            }[kind]
        moments.append(Moments(events, times, np.array([chance.randrange(2**62) for _ in part], np.int64)))
    records = [{"groups": [""], **json.loads(json.dumps(one.record()))} for one in moments if np.isfinite(one.times).all()]
    kept = [one for one in moments if np.isfinite(one.times).all()]
    for one, record in zip(kept, records, strict=True):
        assert fault(record, 100) is None
        assert told([record]).same_as(one)


def test_regular_moments_take_a_few_numbers_and_others_little_room() -> None:
    events = np.arange(100_000)
    regular = Moments(events, events * 0.1, events * 16).record()
    assert len(json.dumps(regular)) < 120
    drifting = Moments(events, np.cumsum(np.full(events.size, 0.1)), events * 16).record()
    assert len(json.dumps(drifting)) < 20_000


def test_segments_are_cut_by_bytes_and_seconds(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        names = [f"V{number}" for number in range(13)]
        for name in names:
            writer.declare("activity", name, {"mean": Variable(())})
        for event in range(2000):
            for name in names:
                writer.record("activity", name, event, event, event, {"mean": 0.5})
    assert len(list((tmp_path / "run/trajectory").glob("*.nc"))) <= 2 + 2000 * 13 // 2**15 + 1
    tree = open_trajectory(tmp_path / "run")
    assert float(tree["activity/mean"].sum()) == 13_000
    xr.testing.assert_equal(tree["activity/mean"][-1], tree["activity/mean"].isel(event=1999))
