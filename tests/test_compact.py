"""Segments made one: what can be read stays, whatever happens on the way."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from stored import CONFIGURATION, DENSE, declare, make_run, make_weights, python, record

from analysis import TrajectoryWriter, compact, export, manifest, open_trajectory, verify
from analysis.index import index_line, read_index
from analysis.storage import read_manifest
from neurossl.errors import OptionError, StorageError, TrajectoryError
from neurossl.store import Variable
from protocols.cli import main


def load(run: Path) -> xr.DataTree:
    return open_trajectory(run).load()


def files(run: Path) -> list[str]:
    return sorted(name for name in os.listdir(run / "trajectory") if not name.startswith("."))


def test_a_compacted_run_is_the_same_tree_in_fewer_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", 30, segment_records=1)
    before, names = load(run), files(run)
    assert main(["compact", str(run)]) == 0
    assert "30 segments became 2" in capsys.readouterr().out
    assert len(names) == 30
    assert files(run) == ["000000.nc", "000001-1.nc"]
    xr.testing.assert_identical(load(run), before)
    verify(run)
    assert open_trajectory(export(run, tmp_path / "run.nc")).load().identical(before)
    assert main(["compact", str(run)]) == 0
    assert "2 segments, none of them to be joined" in capsys.readouterr().out
    assert manifest(run)["stored_bytes"] == sum((run / "trajectory" / name).stat().st_size for name in files(run))


@pytest.mark.parametrize("size", [1, 20_000, 60_000])
def test_no_joined_segment_is_larger_than_asked_for_and_all_are_numbered(tmp_path: Path, size: int) -> None:
    run = make_run(tmp_path / "run", 12, segment_records=3)
    before = load(run)
    compact(run, size)
    segments = read_index(run, read_manifest(run))
    assert [int(Path(s.file).name[:6]) for s in segments] == list(range(len(segments)))
    assert all(segment.merges == 1 or segment.bytes <= size for segment in segments)
    assert sum(segment.merges for segment in segments) == manifest(run)["segments"]
    xr.testing.assert_identical(load(run), before)
    compact(run)
    compact(run)
    xr.testing.assert_identical(load(run), before)
    assert len(files(run)) == 2


def test_a_run_goes_on_after_it_was_compacted(tmp_path: Path) -> None:
    make_run(tmp_path / "straight", 20)
    run = make_run(tmp_path / "run", 12, segment_records=1)
    compact(run)
    for last in (16, 20):
        with TrajectoryWriter.reopen(run, segment_records=1) as writer:
            declare(writer)
            for event in range(last - 4 if last == 20 else 12, last):
                record(writer, event)
            writer.close(seconds=1.5)
        compact(run)
    verify(run)
    for tree in (expected := load(tmp_path / "straight"), found := load(run)):
        tree.attrs.clear()
    xr.testing.assert_identical(found, expected)


def positions(run: Path, counts: tuple[int, ...]) -> list[dict]:
    """Make a run, and return its positions after so many events."""
    found = []
    with TrajectoryWriter(run, segment_records=1) as writer:
        writer.describe(CONFIGURATION)
        declare(writer)
        for event in range(12):
            record(writer, event)
            if event + 1 in counts:
                found.append(writer.commit())
    return found


def checkpoint(run: Path, position: dict) -> None:
    """Write what of a checkpoint matters here."""
    import hashlib

    values = {"position": position, "tensors": ""}
    check = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / f"{position['event']:010d}.json").write_text(json.dumps({"check": check, "values": values}))


def test_a_run_goes_back_to_its_checkpoints_after_it_was_compacted_twice(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for position in (kept := positions(run, (5, 8))):
        checkpoint(run, position)
    before = load(run)
    compact(run)
    assert [s.merges for s in read_index(run, read_manifest(run))] == [1, 4, 3, 4]
    xr.testing.assert_identical(load(run), before)
    compact(run)
    for position, events in ((kept[1], 8), (kept[0], 5)):
        with TrajectoryWriter.reopen(run) as writer:
            writer.rewind(position)
            assert writer.commit()["digest"] == position["digest"]
            declare(writer)
            record(writer, events)
            again = writer.commit()
        compact(run)
        with TrajectoryWriter.reopen(run) as writer:
            writer.rewind(again)
        xr.testing.assert_equal(
            load(run)[f"weights/{DENSE}"].to_dataset(),
            before[f"weights/{DENSE}"].to_dataset().isel(snapshot=slice(events + 1)),
        )


def test_a_position_that_no_checkpoint_names_is_refused_within_a_joined_segment(tmp_path: Path) -> None:
    run = tmp_path / "run"
    within, whole = positions(run, (5, 12))
    compact(run)
    with TrajectoryWriter.reopen(run) as writer:
        with pytest.raises(TrajectoryError, match="lies within segments that compact has made one"):
            writer.rewind(within)
        with pytest.raises(TrajectoryError, match="before other segments than those stored"):
            writer.rewind({**whole, "digest": within["digest"]})
        writer.rewind(whole)
    assert load(run)[f"weights/{DENSE}"].sizes["snapshot"] == 12


def test_a_run_that_goes_on_is_refused(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        with pytest.raises(OptionError, match="run is running: wait until it has ended"):
            compact(tmp_path / "run")
        assert main(["compact", str(tmp_path / "run")]) == 2
        assert not writer._journal.ended
    with pytest.raises(TrajectoryError, match="is not a run"):
        compact(tmp_path)
    with pytest.raises(OptionError, match="expected at least 1"):
        compact(tmp_path / "run", 0)


def test_a_damaged_segment_stops_it_and_everything_stays(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 6)
    names, file = files(run), run / "trajectory/000003.nc"
    whole = file.read_bytes()
    file.write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    with pytest.raises(TrajectoryError, match=r"000003\.nc does not match its checksum"):
        compact(run)
    file.write_bytes(whole)
    assert not (run / ".lock").exists()
    verify(run)
    assert set(names) <= set(files(run))


def test_a_full_disk_stops_it_and_everything_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_weights(tmp_path / "run", 6)
    before, names = load(run), files(run)
    usage = shutil.disk_usage(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(StorageError, match="are to be written beside the old, 100 are free"):
        compact(run)
    assert files(run) == names
    xr.testing.assert_identical(load(run), before)


def test_a_tree_that_was_open_says_what_has_happened(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 6)
    tree = open_trajectory(run)
    compact(run)
    with pytest.raises(
        TrajectoryError, match=r"is missing; if the run was made again since this tree was opened, open it again"
    ):
        tree[f"weights/{DENSE}/weight"][3].load()


def test_killed_at_any_write_the_run_is_the_one_or_the_other(tmp_path: Path) -> None:
    script = """
        def dying(function):
            def wrapped(*arguments, **options):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return wrapped
        template = make_run(Path(sys.argv[1]) / "template", 8, segment_records=1)
        for call in range(40):
            run = Path(sys.argv[1]) / str(call)
            shutil.copytree(template, run)
            if not (child := os.fork()):
                left = call
                for name in ("fsync", "replace", "unlink", "link"):
                    setattr(os, name, dying(getattr(os, name)))
                compact(run)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    output, errors = python(script, tmp_path).communicate()
    codes = [int(code) for code in output.split()]
    assert codes[:8] == [-9] * 8 or codes[:8] == [9] * 8, errors
    assert codes[-1] == 0, "there are more writes than were cut short"
    expected = load(tmp_path / "template")
    counts = set()
    for call in range(len(codes)):
        run = tmp_path / str(call)
        xr.testing.assert_identical(load(run), expected)
        verify(run)
        counts.add(len(read_index(run, read_manifest(run))))
        with TrajectoryWriter.reopen(run) as writer:
            declare(writer)
        assert len(files(run)) == len(read_index(run, read_manifest(run))), "what is left over goes when it is gone on with"
        compact(run)
        verify(run)
    assert counts == {2, 8}


def test_an_index_of_an_earlier_version_is_made_good(tmp_path: Path) -> None:
    from dataclasses import replace

    run = make_run(tmp_path / "run", 12, segment_records=1)
    before = load(run)
    segments = read_index(run, read_manifest(run))
    lines = [index_line(replace(segment, layout=None, axes=None)) for segment in segments]
    (run / "segments.jsonl").write_text("".join(line + "\n" for line in lines))
    assert "layout" not in lines[0]
    xr.testing.assert_identical(load(run), before)
    compact(run)
    assert all(segment.layout and segment.axes for segment in read_index(run, read_manifest(run)))
    xr.testing.assert_identical(load(run), before)


def test_scalars_at_a_seam_become_one_event(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        writer.declare("performance", "V1", {"loss": Variable(()), "probe_accuracy": Variable(())})
        for event in range(6):
            writer.record("activity", "V1", event, event, event, {"mean": float(event)})
            writer.record("performance", "V1", event, event, event, {"loss": 10.0 + event})
            writer.commit()
            writer.record("performance", "V1", event, event, event, {"probe_accuracy": event / 10})
            writer.commit()
    before = load(tmp_path / "run")
    assert before.sizes["event"] == 6
    np.testing.assert_array_equal(before["performance/probe_accuracy"][:, 0], np.arange(6) / 10)
    compact(tmp_path / "run")
    xr.testing.assert_identical(load(tmp_path / "run"), before)
