"""What a run records is on the disk, whole, and comes back as it was."""

import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from stored import (
    CONFIGURATION,
    CONVOLUTION,
    DENSE,
    FEEDBACK,
    INDEX,
    INDEXED,
    declare,
    make_run,
    make_weights,
    python,
    record,
    snapshot,
)

import analysis
import analysis.journal
from analysis import TrajectoryWriter, export, manifest, open_trajectory, verify
from analysis.schema import group_of
from neurossl.errors import TrajectoryError
from neurossl.store import Variable


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


# What was recorded comes back


def test_weights_come_back_bit_for_bit(run):
    weights = open_trajectory(run)["weights"]
    assert list(weights.children) == [DENSE, CONVOLUTION, INDEXED]
    expected = {
        "retina_to_V1": (DENSE, ("post", "pre"), (5, 4)),
        "V1_to_V2": (CONVOLUTION, ("post", "pre", "ky", "kx"), (6, 5, 3, 2)),
        "V2_to_V3": (INDEXED, ("synapse",), (3,)),
    }
    for group, (name, dims, shape) in expected.items():
        weight = weights[group]["weight"]
        assert weights[group].attrs["pathway"] == name
        assert weight.attrs["sampled"] == "after_update"
        assert weight.dims == ("snapshot", *dims)
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, [snapshot(name, event, *shape) for event in range(10)])
        np.testing.assert_array_equal(weight.snapshot, np.arange(10))
        np.testing.assert_array_equal(weight.time, np.arange(10) * 0.25)
        np.testing.assert_array_equal(weight.observers_seen, np.arange(10) * 16)
    np.testing.assert_array_equal(weights["retina_to_V1"]["bias"], [snapshot("bias", event, 5) for event in range(10)])
    np.testing.assert_array_equal(weights["V2_to_V3"]["synapse"], INDEX)
    np.testing.assert_array_equal(weights["V2_to_V3"]["post"], INDEX // 4)
    assert weights["V1_to_V2"].attrs["stride"] == 2


def test_updates_come_back_beside_their_reference(run):
    updates = open_trajectory(run)["updates/V3_back_to_V2"]
    assert updates.attrs["pathway"] == FEEDBACK
    np.testing.assert_array_equal(updates.snapshot, [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(updates["update"], [snapshot("local", event, 5, 4) for event in (0, 2, 4, 6, 8)])
    np.testing.assert_array_equal(updates["reference_update"][-1], snapshot("global", 8, 5, 4))


def test_scalars_share_the_union_of_their_events(run):
    tree = open_trajectory(run)
    events = [0, 2, 3, 4, 6, 8, 9]
    np.testing.assert_array_equal(tree["event"], events)
    np.testing.assert_array_equal(tree["time"], np.array(events) * 0.25)
    np.testing.assert_array_equal(tree["observers_seen"], np.array(events) * 16)
    nan = np.nan
    cosine = tree["alignment"]["cosine"]
    np.testing.assert_array_equal(cosine.sel(pathway=DENSE), [0, 0.2, nan, 0.4, 0.6, 0.8, nan])
    np.testing.assert_array_equal(cosine.sel(pathway=FEEDBACK), [0, -0.2, nan, -0.4, -0.6, -0.8, nan])
    np.testing.assert_array_equal(cosine["observers_seen"], np.array(events) * 16)
    np.testing.assert_array_equal(cosine["time"], np.array(events) * 0.25)
    np.testing.assert_array_equal(tree["alignment"]["angle"].sel(pathway=DENSE), [nan] * 7)
    trustworthy = tree["alignment"]["trustworthy"]
    np.testing.assert_array_equal(trustworthy.sel(pathway=DENSE), [0, 1, nan, 1, 1, 1, nan])
    assert trustworthy.sel(pathway=FEEDBACK).isnull().all()
    np.testing.assert_array_equal(tree["activity"]["mean"].sel(population="V1"), [0, nan, 3, nan, 6, nan, 9])
    accuracy = tree["performance"]["probe_accuracy"]
    assert list(accuracy.population.values) == ["retina", "V1"]
    np.testing.assert_array_equal(accuracy.sel(population="retina", event=[3, 6]), [0.5, 0.5])
    assert tree["performance"]["loss"].sel(population="retina").isnull().all()


def test_a_pathway_declared_late_joins_the_table(tmp_path):
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("alignment", "b->c", {"cosine": Variable(())})
        writer.record("alignment", "b->c", 0, 0.0, 0, {"cosine": 0.5})
        writer.declare("alignment", "a->b", {"cosine": Variable(())})
        writer.record("alignment", "a->b", 1, 1.0, 1, {"cosine": 0.25})
    cosine = open_trajectory(tmp_path / "run")["alignment"]["cosine"]
    assert list(cosine.pathway.values) == ["b->c", "a->b"]
    np.testing.assert_array_equal(cosine, [[0.5, np.nan], [np.nan, 0.25]])


def test_two_recorders_share_a_population(tmp_path):
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("performance", "V1", {"loss": Variable(())})
        writer.declare("performance", "V1", {"knn_accuracy": Variable(())})
        writer.record("performance", "V1", 1, 1.0, 1, {"loss": 0.5})
        writer.record("performance", "V1", 1, 1.0, 1, {"knn_accuracy": 0.75})
    performance = open_trajectory(tmp_path / "run")["performance"]
    assert performance["loss"].item() == 0.5
    assert performance["knn_accuracy"].item() == 0.75


def test_the_root_describes_the_run(run):
    attributes = open_trajectory(run).attrs
    assert attributes["schema_version"] == 1
    assert (attributes["protocol"], attributes["rule"], attributes["seed"]) == ("compare_rules", "clapp", 3)
    assert json.loads(attributes["network"]) == CONFIGURATION["network"]
    assert json.loads(attributes["needs"]) == ["neuromodulator"]
    assert attributes["state"] == "finished"


def test_everything_has_units_and_a_long_name(run, tmp_path):
    files = [*sorted((run / "trajectory").iterdir()), export(run, tmp_path / "run.nc")]
    for file in files:
        with netCDF4.Dataset(file) as dataset:
            groups = [dataset, *(group for kind in dataset.groups.values() for group in (kind, *kind.groups.values()))]
            variables = [variable for group in groups for variable in group.variables.values()]
            assert len(variables) > 20
            for variable in variables:
                assert variable.units, variable
                assert variable.long_name, variable
                assert variable.name != "time" or (variable.units == "s" and variable.dtype == np.float64)
                assert variable.dtype not in (np.float32, np.float64) or np.isnan(variable._FillValue)


def test_divergence_and_half_precision_are_not_hidden(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, 0.1], np.float16)
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("weights", DENSE, {"weight": Variable(("synapse",))})
        writer.record("weights", DENSE, 0, 0.0, 0, {"weight": values})
    np.testing.assert_array_equal(open_trajectory(tmp_path / "run")["weights/retina_to_V1"]["weight"][0], values)


def test_names_are_safe_and_come_back():
    assert group_of("retina->V1") == "retina_to_V1"
    assert group_of("V2=>V1") == "V2_back_to_V1"
    assert group_of("layer 4/β").startswith("layer_4__-")


# Lazily


def test_one_snapshot_needs_one_segment(tmp_path):
    run = make_weights(tmp_path / "run", 6)
    weight = open_trajectory(run)["weights/retina_to_V1"]["weight"]
    for number in (0, 1, 2, 4, 5):
        (run / f"trajectory/00000{number}.nc").unlink()
    np.testing.assert_array_equal(weight[3], snapshot(DENSE, 3, 5, 4))
    np.testing.assert_array_equal(weight.sel(snapshot=3, post=2), snapshot(DENSE, 3, 5, 4)[2])
    with pytest.raises(TrajectoryError, match=r"000004\.nc"):
        weight[3:5].load()


@pytest.mark.parametrize(
    "key",
    [
        np.s_[3],
        np.s_[-1],
        np.s_[::-1],
        np.s_[1:9:3],
        np.s_[8:2:-2],
        np.s_[4:4],
        np.s_[[9, 0, 5, 0]],
        np.s_[[]],
        np.s_[:, 2],
        np.s_[:, :, 1:3],
        np.s_[2:8, ::-2, -1],
        np.s_[5, [3, 0]],
        np.s_[3, 4, 2],
    ],
    ids=str,
)
def test_indexing_across_segments_is_that_of_numpy(run, key):
    weight = open_trajectory(run)["weights/retina_to_V1"]["weight"]
    expected = np.array([snapshot(DENSE, event, 5, 4) for event in range(10)])
    np.testing.assert_array_equal(weight[key], expected[key])


def test_synapses_can_be_picked_one_by_one_and_by_grid(run):
    weight = open_trajectory(run)["weights/retina_to_V1"]["weight"]
    expected = np.array([snapshot(DENSE, event, 5, 4) for event in range(10)])
    grid = weight.isel(snapshot=[0, 9, 4], post=[4, 1], pre=[0, 2])
    np.testing.assert_array_equal(grid, expected[np.ix_([0, 9, 4], [4, 1], [0, 2])])
    points = weight.isel(snapshot=xr.DataArray([7, 1]), post=xr.DataArray([0, 3]), pre=xr.DataArray([2, 2]))
    np.testing.assert_array_equal(points, expected[[7, 1], [0, 3], [2, 2]])


def test_dask_takes_over_where_it_is_installed(run):
    pytest.importorskip("dask")
    weight = open_trajectory(run)["weights/retina_to_V1"]["weight"]
    chunked = weight.chunk(snapshot=3)
    assert chunked.chunks[0] == (3, 3, 3, 1)
    np.testing.assert_array_equal(chunked.compute(scheduler="threads"), weight)


# While it runs, and when it stops


def test_a_run_can_be_followed_while_it_is_written(tmp_path):
    process = python("make_weights(Path(sys.argv[1]), 300)", tmp_path / "run")
    while not (tmp_path / "run/manifest.json").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    seen = [0]
    while process.poll() is None:
        tree = open_trajectory(tmp_path / "run")
        if "weights" in tree:
            weight = tree["weights/retina_to_V1"]["weight"]
            np.testing.assert_array_equal(weight[-1], snapshot(DENSE, weight.sizes["snapshot"] - 1, 5, 4))
            seen.append(weight.sizes["snapshot"])
    assert process.wait() == 0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "never caught it running"
    assert open_trajectory(tmp_path / "run")["weights/retina_to_V1"].sizes["snapshot"] == 300


def test_reading_and_writing_in_one_process_take_turns(tmp_path):
    other = make_run(tmp_path / "other")
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
        for event in range(60):
            writer.record("weights", DENSE, event, event, event, {"weight": snapshot(DENSE, event, 5, 4)})
            weight = open_trajectory(other)["weights/retina_to_V1"]["weight"]
            np.testing.assert_array_equal(weight[event % 10], snapshot(DENSE, event % 10, 5, 4))
    verify(tmp_path / "run")


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_a_killed_run_keeps_every_segment_it_acknowledged(tmp_path, acknowledged):
    run = tmp_path / "run"
    process = python("make_weights(Path(sys.argv[1]), 100_000)", run)
    index = run / "segments.jsonl"
    while not index.exists() or index.read_bytes().count(b"\n") < acknowledged:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    verify(run)
    tree = open_trajectory(run, verify=True)
    assert tree.attrs["state"] == "died"
    weight = tree["weights/retina_to_V1"]["weight"]
    assert weight.sizes["snapshot"] >= acknowledged
    np.testing.assert_array_equal(weight, [snapshot(DENSE, event, 5, 4) for event in weight.snapshot.values])


def test_a_kill_at_any_write_leaves_a_whole_run(tmp_path):
    script = """
        def die_at(call):
            calls = itertools.count()
            def dying(function):
                def wrapped(*arguments, **options):
                    if next(calls) == call:
                        os._exit(9)
                    return function(*arguments, **options)
                return wrapped
            os.fsync, os.replace = dying(os.fsync), dying(os.replace)
        for call in range(34):
            if not (child := os.fork()):
                die_at(call)
                make_weights(Path(sys.argv[1]) / str(call), 4)
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    output, errors = python(script, tmp_path).communicate()
    codes = [int(code) for code in output.split()]
    assert codes[:20] == [9] * 20, errors
    assert codes[-1] == 0, "the run has more writes than were cut short"
    found = []
    for call in range(len(codes)):
        run = tmp_path / str(call)
        if (run / "manifest.json").exists():
            verify(run)
            tree = open_trajectory(run)
            found.append(tree["weights/retina_to_V1"].sizes["snapshot"] if "weights" in tree else 0)
    assert found == sorted(found)
    assert set(found) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (None, "finished", None),
        (KeyboardInterrupt(), "interrupted", "interrupted from the keyboard"),
        (ValueError("no such\nstimulus"), "failed", "ValueError: no such stimulus"),
    ],
    ids=["finished", "interrupted", "failed"],
)
def test_however_a_run_ends_its_records_are_kept(tmp_path, error, state, reason):
    def leave():
        with TrajectoryWriter(tmp_path / "run") as writer:
            declare(writer)
            for event in range(5):
                record(writer, event)
            if error:
                raise error

    if error:
        with pytest.raises(type(error)):
            leave()
    else:
        leave()
    about = manifest(tmp_path / "run")
    assert (about["state"], about["reason"]) == (state, reason)
    assert open_trajectory(tmp_path / "run")["weights/retina_to_V1"].sizes["snapshot"] == 5


def test_the_manifest_says_with_what_the_run_was_made(run):
    about = manifest(run)
    assert about["rule"] == "clapp"
    assert about["seconds"] == 1.5
    assert about["versions"]["numpy"] == np.__version__
    assert about["hardware"]["cpus"] == os.cpu_count()
    assert about["started"] <= about["ended"]
    assert about["segments"] == len(list((run / "trajectory").iterdir()))


def test_a_segment_waits_for_records_bytes_or_time(tmp_path):
    def segments(name, **limits):
        make_weights(tmp_path / name, 12, **limits)
        return len(list((tmp_path / name / "trajectory").iterdir()))

    first = 1  # the state before learning is not kept waiting
    assert segments("records", segment_records=4) == first + 3
    assert segments("bytes", segment_records=1000, segment_bytes=6 * 80) == first + 2
    assert segments("seconds", segment_records=1000, segment_seconds=0.0) == 12
    assert segments("whole", segment_records=1000) == first + 1


def test_an_event_is_never_cut_in_two(run):
    lines = [json.loads(line) for line in (run / "segments.jsonl").read_text().splitlines()]
    assert len(lines) > 2
    assert all(earlier["last_event"] < later["first_event"] for earlier, later in itertools.pairwise(lines))


def test_commit_puts_everything_on_the_disk(tmp_path):
    with TrajectoryWriter(tmp_path / "run") as writer:
        declare(writer)
        record(writer, 0)
        assert "weights" not in open_trajectory(tmp_path / "run")
        writer.commit()
        assert open_trajectory(tmp_path / "run")["weights/retina_to_V1"].sizes["snapshot"] == 1


def test_a_slow_disk_slows_the_run_instead_of_eating_the_memory(tmp_path, monkeypatch):
    encode, disk, recorded = analysis.journal.encode, threading.Event(), []
    monkeypatch.setattr(analysis.journal, "encode", lambda *arguments: disk.wait() and encode(*arguments))
    writer = TrajectoryWriter(tmp_path / "run", segment_records=1)
    writer.declare("activity", "V1", {"mean": Variable(())})

    def simulate():
        for event in range(20):
            writer.record("activity", "V1", event, event, event, {"mean": 1.0})
            recorded.append(event)

    simulation = threading.Thread(target=simulate)
    simulation.start()
    simulation.join(0.3)
    assert len(recorded) < 6
    disk.set()
    simulation.join()
    writer.close()
    assert open_trajectory(tmp_path / "run").sizes["event"] == 20


def test_the_same_records_make_the_same_files(tmp_path):
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second")
    xr.testing.assert_identical(open_trajectory(first).load(), open_trajectory(second).load())
    for file in sorted((first / "trajectory").iterdir()):
        one, other = file.read_bytes(), (second / "trajectory" / file.name).read_bytes()
        assert len(one) == len(other)
        differing = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        assert len(differing) <= 20, "four times of creation and a checksum of 4 bytes each in the HDF5 root header"
        assert max(differing, default=0) < 2048
