"""What a run records is on the disk, whole, and comes back as it was."""

import itertools
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

import analysis
import analysis.inspect
import analysis.writer
from analysis import TrajectoryWriter, describe, export, manifest, open_trajectory, verify
from analysis.schema import safe_name
from neurossl.errors import OptionError, StorageError, TrajectoryError

CONFIGURATION = {
    "protocol": "compare_rules",
    "rule": "clapp",
    "objective": "contrastive",
    "needs": ["neuromodulator"],
    "reference": None,
    "seed": 3,
    "dataset": "digits",
    "network": {
        "populations": [{"name": "retina", "shape": [8, 8], "transfer": "identity"}, {"name": "V1", "shape": [5]}],
        "pathways": [{"name": "retina->V1", "kind": "feedforward", "shape": [5, 4], "plastic": True, "synapses": 20}],
    },
}
INDEX = np.array([3, 7, 19])
DENSE, CONVOLUTION, INDEXED, FEEDBACK = "retina->V1", "V1->V2", "V2->V3", "V3=>V2"


def snapshot(name: str, event: int, *shape: int) -> np.ndarray:
    """Return what the layer looks like at an event: the same every time it is asked for."""
    return np.random.default_rng([event, *name.encode()]).standard_normal(shape).astype(np.float32)


def declare(writer: TrajectoryWriter) -> None:
    writer.declare("weights", DENSE, {"weight": ("post", "pre"), "bias": ("post",)})
    writer.declare("weights", CONVOLUTION, {"weight": ("post", "pre", "ky", "kx")}, attrs={"stride": 2})
    writer.declare(
        "weights",
        INDEXED,
        {"weight": ("synapse",)},
        coords={"synapse": ("synapse", INDEX), "post": ("synapse", INDEX // 4), "pre": ("synapse", INDEX % 4)},
    )
    writer.declare("updates", FEEDBACK, {"update": ("post", "pre"), "reference_update": ("post", "pre")})
    writer.declare("alignment", DENSE, {"cosine": (), "trustworthy": ()})
    writer.declare("alignment", FEEDBACK, {"cosine": (), "angle": ()})
    writer.declare("activity", "V1", {"mean": ()})
    writer.declare("performance", "retina", {"probe_accuracy": ()})
    writer.declare("performance", "V1", {"loss": (), "probe_accuracy": ()})


def record(writer: TrajectoryWriter, event: int) -> None:
    """Record the weights at every event, updates and alignment at every second, performance at every third."""
    moment = (event, event * 0.25, event * 16)
    writer.record("weights", DENSE, *moment, {"weight": snapshot(DENSE, event, 5, 4), "bias": snapshot("bias", event, 5)})
    writer.record("weights", CONVOLUTION, *moment, {"weight": snapshot(CONVOLUTION, event, 6, 5, 3, 2)})
    writer.record("weights", INDEXED, *moment, {"weight": snapshot(INDEXED, event, 3)})
    if event % 2 == 0:
        updates = {"update": snapshot("local", event, 5, 4), "reference_update": snapshot("global", event, 5, 4)}
        writer.record("updates", FEEDBACK, *moment, updates)
        writer.record("alignment", DENSE, *moment, {"cosine": event / 10, "trustworthy": event > 0})
        writer.record("alignment", FEEDBACK, *moment, {"cosine": -event / 10, "angle": 90.0 + event})
    if event % 3 == 0:
        writer.record("activity", "V1", *moment, {"mean": float(event)})
        writer.record("performance", "retina", *moment, {"probe_accuracy": 0.5})
        writer.record("performance", "V1", *moment, {"loss": 2.0 - event / 10, "probe_accuracy": event / 10})


def make_run(path: Path, events: int = 10, segment_records: int = 10) -> Path:
    with TrajectoryWriter(path, CONFIGURATION, segment_records=segment_records) as writer:
        declare(writer)
        for event in range(events):
            record(writer, event)
        writer.close(seconds=1.5)
    return path


def make_weights(path: Path, events: int, shape: tuple[int, ...] = (5, 4), **options: float) -> Path:
    """Make a run of one pathway, by default with one segment for each event."""
    with TrajectoryWriter(path, CONFIGURATION, **{"segment_records": 1, **options}) as writer:
        writer.declare("weights", DENSE, {"weight": ("post", "pre")[: len(shape)]})
        for event in range(events):
            writer.record("weights", DENSE, event, event, event, {"weight": snapshot(DENSE, event, *shape)})
    return path


def python(script: str, *arguments: object) -> subprocess.Popen:
    """Start a process that can use everything in this file."""
    prelude = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_trajectory import *\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


# What was recorded comes back


def test_weights_come_back_bit_for_bit(run):
    weights = open_trajectory(run)["weights"]
    assert list(weights.children) == ["retina_to_V1", "V1_to_V2", "V2_to_V3"]
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
    assert trustworthy.dtype == bool
    np.testing.assert_array_equal(trustworthy.sel(pathway=DENSE), [False, True, False, True, True, True, False])
    assert not trustworthy.sel(pathway=FEEDBACK).any()
    np.testing.assert_array_equal(tree["activity"]["mean"].sel(population="V1"), [0, nan, 3, nan, 6, nan, 9])
    accuracy = tree["performance"]["probe_accuracy"]
    assert list(accuracy.population.values) == ["retina", "V1"]
    np.testing.assert_array_equal(accuracy.sel(population="retina", event=[3, 6]), [0.5, 0.5])
    assert tree["performance"]["loss"].sel(population="retina").isnull().all()


def test_a_pathway_declared_late_joins_the_table(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}, segment_records=1) as writer:
        writer.declare("alignment", "b->c", {"cosine": ()})
        writer.record("alignment", "b->c", 0, 0.0, 0, {"cosine": 0.5})
        writer.declare("alignment", "a->b", {"cosine": ()})
        writer.record("alignment", "a->b", 1, 1.0, 1, {"cosine": 0.25})
    cosine = open_trajectory(tmp_path / "run")["alignment"]["cosine"]
    assert list(cosine.pathway.values) == ["b->c", "a->b"]
    np.testing.assert_array_equal(cosine, [[0.5, np.nan], [np.nan, 0.25]])


def test_two_recorders_share_a_population(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}) as writer:
        writer.declare("performance", "V1", {"loss": ()})
        writer.declare("performance", "V1", {"knn_accuracy": ()})
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
    with TrajectoryWriter(tmp_path / "run", {}) as writer:
        writer.declare("weights", DENSE, {"weight": ("synapse",)})
        writer.record("weights", DENSE, 0, 0.0, 0, {"weight": values})
    np.testing.assert_array_equal(open_trajectory(tmp_path / "run")["weights/retina_to_V1"]["weight"][0], values)


def test_names_are_safe_and_come_back():
    assert safe_name("retina->V1") == "retina_to_V1"
    assert safe_name("V2=>V1") == "V2_back_to_V1"
    assert safe_name("layer 4/β") == "layer_4__"


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
    with TrajectoryWriter(tmp_path / "run", {}, segment_records=1) as writer:
        writer.declare("weights", DENSE, {"weight": ("post", "pre")})
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
    assert tree.attrs["state"] == "running"
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
        for call in range(24):
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
        with TrajectoryWriter(tmp_path / "run", CONFIGURATION) as writer:
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

    assert segments("records", segment_records=4) == 3
    assert segments("bytes", segment_records=1000, segment_bytes=6 * 80) == 2
    assert segments("seconds", segment_records=1000, segment_seconds=0.0) == 12
    assert segments("whole", segment_records=1000) == 1


def test_an_event_is_never_cut_in_two(run):
    lines = [json.loads(line) for line in (run / "segments.jsonl").read_text().splitlines()]
    assert len(lines) > 2
    assert all(earlier["last_event"] < later["first_event"] for earlier, later in itertools.pairwise(lines))


def test_flush_puts_everything_on_the_disk(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}) as writer:
        declare(writer)
        record(writer, 0)
        assert "weights" not in open_trajectory(tmp_path / "run")
        writer.flush()
        assert open_trajectory(tmp_path / "run")["weights/retina_to_V1"].sizes["snapshot"] == 1


def test_a_slow_disk_slows_the_run_instead_of_eating_the_memory(tmp_path, monkeypatch):
    encode, disk, recorded = analysis.writer.encode, threading.Event(), []
    monkeypatch.setattr(analysis.writer, "encode", lambda *arguments: disk.wait() and encode(*arguments))
    writer = TrajectoryWriter(tmp_path / "run", {}, segment_records=1)
    writer.declare("activity", "V1", {"mean": ()})

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


# Damage


def test_every_flipped_bit_is_found_and_its_file_named(run):
    generator = np.random.default_rng(0)
    files = [run / "manifest.json", run / "segments.jsonl", *(run / "trajectory").iterdir()]
    for number in range(60):
        file = files[number % len(files)]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 1 << generator.integers(8)
        file.write_bytes(damaged)
        with pytest.raises(TrajectoryError, match=file.name):
            verify(run)
        with pytest.raises(TrajectoryError, match=file.name):
            open_trajectory(run, verify=True)
        file.write_bytes(whole)
    assert str(verify(run)).endswith("every checksum matches")


def edit_lines(run: Path, edit) -> None:
    lines = (run / "segments.jsonl").read_text().splitlines(keepends=True)
    (run / "segments.jsonl").write_text("".join(edit(lines)))


def segment(run: Path, number: int) -> Path:
    return run / f"trajectory/{number:06d}.nc"


def swap(run: Path) -> None:
    segment(run, 1).rename(run / "aside")
    segment(run, 2).rename(segment(run, 1))
    (run / "aside").rename(segment(run, 2))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda run: segment(run, 2).unlink(), r"000002\.nc is missing"),
        (lambda run: shutil.copy(segment(run, 1), segment(run, 2)), r"000002\.nc holds events 1 to 1, expected 2"),
        (swap, r"000001\.nc holds events 2 to 2, expected 1 to 1"),
        (lambda run: os.truncate(segment(run, 1), 100), r"000001\.nc has 100 bytes"),
        (lambda run: segment(run, 1).write_bytes(bytes(segment(run, 1).stat().st_size)), r"000001\.nc is damaged"),
        (lambda run: edit_lines(run, lambda x: x[:1] + x[2:]), r"000002\.nc comes too early, expected .*000001\.nc"),
        (lambda run: edit_lines(run, lambda x: x[:2] + x[1:]), r"000001\.nc is listed again"),
        (lambda run: edit_lines(run, lambda x: [x[0], x[2], x[1], x[3]]), r"000002\.nc comes too early"),
        (lambda run: edit_lines(run, lambda x: x[:3]), r"lists 3 segments, expected 4.*000003\.nc"),
        (lambda run: edit_lines(run, lambda x: [*x[:3], x[3][:50]]), r"lists 3 segments, expected 4.*000003\.nc"),
        (lambda run: edit_lines(run, lambda x: [x[0], "nonsense\n", *x[2:]]), r"line 2 \(for .*000001\.nc\), is damaged"),
        (lambda run: edit_lines(run, lambda x: [x[0].replace("0,", "1,", 1), *x[1:]]), r"line 1 .*checksum"),
    ],
    ids=["gone", "doubled", "swapped", "cut", "zeroed", "unlisted", "twice", "order", "last", "torn", "nonsense", "edited"],
)
def test_a_run_that_does_not_fit_its_index_is_refused_by_name(tmp_path, damage, named):
    run = make_weights(tmp_path / "run", 4)
    damage(run)
    with pytest.raises(TrajectoryError, match=named):
        open_trajectory(run)


@pytest.mark.parametrize("shape", [(5, 3), (5,)], ids=["resized", "without an axis"])
def test_a_segment_of_another_shape_is_refused_by_name(tmp_path, shape):
    run, other = make_weights(tmp_path / "run", 3), make_weights(tmp_path / "other", 3, shape)
    shutil.copy(segment(other, 1), segment(run, 1))
    line = (other / "segments.jsonl").read_text().splitlines(keepends=True)[1]
    edit_lines(run, lambda lines: [lines[0], line, lines[2]])
    with pytest.raises(TrajectoryError, match=r"000001\.nc holds weights/retina_to_V1 as"):
        open_trajectory(run)


def test_segments_that_overlap_are_refused_by_name(tmp_path):
    run, other = make_weights(tmp_path / "run", 6, segment_records=2), make_weights(tmp_path / "other", 6, segment_records=1)
    shutil.copy(segment(other, 1), segment(run, 1))
    line = (other / "segments.jsonl").read_text().splitlines(keepends=True)[1]
    edit_lines(run, lambda lines: [lines[0], line, lines[2]])
    with pytest.raises(
        TrajectoryError, match=r"000001\.nc starts at event 1, but trajectory/000000\.nc already reaches event 1"
    ):
        open_trajectory(run)


def test_a_line_that_a_running_run_has_not_finished_does_not_count(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}, segment_records=1) as writer:
        writer.declare("activity", "V1", {"mean": ()})
        for event in range(3):
            writer.record("activity", "V1", event, event, event, {"mean": 1.0})
        writer.flush()
        with open(tmp_path / "run/segments.jsonl", "a") as index:
            index.write('{"file": "trajectory/000003.nc", "kin')
        assert open_trajectory(tmp_path / "run").sizes["event"] == 3


def test_what_is_no_run_is_said_in_one_line(tmp_path):
    with pytest.raises(TrajectoryError, match="is not a run"):
        open_trajectory(tmp_path / "nowhere")
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(TrajectoryError, match="cannot be read as NetCDF"):
        open_trajectory(tmp_path / "text.nc")
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "foreign.nc")
    with pytest.raises(TrajectoryError, match="no exported trajectory"):
        open_trajectory(tmp_path / "foreign.nc")


def test_a_run_of_a_later_schema_is_refused(run):
    about = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(about | {"schema_version": 2}))
    with pytest.raises(TrajectoryError, match="schema version 2"):
        open_trajectory(run)


# Where it cannot be written


def test_a_folder_that_holds_anything_is_refused_and_left_alone(run):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(OptionError, match="exists already") as refusal:
        TrajectoryWriter(run, CONFIGURATION)
    assert refusal.value.exit_status == 2
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_an_empty_folder_is_fine(tmp_path):
    make_weights(tmp_path, 1)
    assert verify(tmp_path).segments == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptionError, match="exists already"):
        TrajectoryWriter(tmp_path / "file", {})
    with pytest.raises(OptionError, match=f"cannot write a run to {tmp_path}/file/run: Not a directory"):
        TrajectoryWriter(tmp_path / "file/run", {})


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(OptionError, match="cannot be stored as JSON"):
        TrajectoryWriter(tmp_path / "run", {"rule": object()})
    with TrajectoryWriter(tmp_path / "run", {"needs": {"target", "neuromodulator"}, "seed": np.int64(7)}):
        pass
    assert manifest(tmp_path / "run")["needs"] == ["neuromodulator", "target"]
    assert open_trajectory(tmp_path / "run").attrs["seed"] == 7


@pytest.mark.parametrize(
    ("member", "value"), [("network", "mlp"), ("needs", "target"), ("needs", [1]), ("seed", 2**70), ("rule", ["clapp"])]
)
def test_members_that_readers_count_on_are_checked_on_both_sides(run, tmp_path, member, value):
    with pytest.raises(OptionError, match=f"cannot be stored: {member} is"):
        TrajectoryWriter(tmp_path / "new", {member: value})
    assert not (tmp_path / "new").exists()
    about = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**about, member: value}))
    with pytest.raises(TrajectoryError, match=f"is damaged: {member} is"):
        describe(run)


@pytest.mark.parametrize("content", ['{"schema_version": 1}', "[" * 100_000])
def test_a_manifest_that_says_nothing_is_damaged(run, content):
    (run / "manifest.json").write_text(content)
    with pytest.raises(TrajectoryError, match="is damaged"):
        open_trajectory(run)


def test_a_full_disk_stops_the_run_in_one_line_and_keeps_what_it_had(tmp_path):
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            with TrajectoryWriter(Path(sys.argv[1]), CONFIGURATION, segment_records=1) as writer:
                writer.declare("activity", "V1", {"mean": ()})
                writer.declare("weights", DENSE, {"weight": ("synapse",)})
                for event in range(1000):
                    writer.record("activity", "V1", event, event, event, {"mean": 1.0})
                    if event == 5:
                        writer.record("weights", DENSE, event, event, event, {"weight": np.ones(100_000)})
        except StorageError as error:
            print(error, error.exit_status, event < 999, sep="\\n")
    """
    output, errors = python(script, tmp_path / "run").communicate()
    message, status, early = output.splitlines()
    assert message == f"cannot write {tmp_path}/run/trajectory/000005.nc: File too large; the 5 segments before it are whole"
    assert (status, early, errors) == ("1", "True", "")
    assert verify(tmp_path / "run").segments == 5
    np.testing.assert_array_equal(open_trajectory(tmp_path / "run")["event"], range(5))
    about = manifest(tmp_path / "run")
    assert (about["state"], about["reason"]) == ("failed", message)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("function", ["write_atomically", "append_line"])
def test_close_tells_what_could_not_be_written(tmp_path, monkeypatch, function):
    writer = TrajectoryWriter(tmp_path / "run", {})
    writer.declare("activity", "V1", {"mean": ()})
    writer.record("activity", "V1", 0, 0.0, 0, {"mean": 1.0})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(analysis.writer, function, full)
    with pytest.raises(StorageError, match=r"000000\.nc: No space left on device"):
        writer.close()
    assert manifest(tmp_path / "run")["state"] == "failed"
    assert open_trajectory(tmp_path / "run").sizes["event"] == 0


def test_the_size_is_announced_and_held_against_the_disk(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}) as writer:
        assert "12.3 MB" in writer.announce(12_300_000)
        assert manifest(tmp_path / "run")["expected_bytes"] == 12_300_000
        with pytest.raises(OptionError, match=r"would take 1000000000000\.00 GB"):
            writer.announce(10**21)


# Misuse


def test_records_that_were_not_declared_so_are_refused(tmp_path):
    with TrajectoryWriter(tmp_path / "run", {}) as writer:
        declare(writer)
        weight = snapshot(DENSE, 0, 5, 4)
        bias = snapshot("bias", 0, 5)
        with pytest.raises(OptionError, match="unknown kind 'spikes'"):
            writer.declare("spikes", "V1", {})
        with pytest.raises(OptionError, match=r"unknown variable .wieght. .* expected one of weight, bias"):
            writer.declare("weights", "V5->V6", {"wieght": ("post", "pre")})
        with pytest.raises(TrajectoryError, match="which 'retina->V1' has taken"):
            writer.declare("weights", "retina_to_V1", {"weight": ("post", "pre")})
        with pytest.raises(TrajectoryError, match="'V7' at event 0 was never declared"):
            writer.record("activity", "V7", 0, 0.0, 0, {"mean": 1.0})
        with pytest.raises(TrajectoryError, match="'norm' was never declared"):
            writer.record("activity", "V1", 0, 0.0, 0, {"norm": 1.0})
        with pytest.raises(TrajectoryError, match="expected weight, bias, got weight"):
            writer.record("weights", DENSE, 0, 0.0, 0, {"weight": weight})
        with pytest.raises(TrajectoryError, match=r"expected the axes \(post, pre\)"):
            writer.record("weights", DENSE, 0, 0.0, 0, {"weight": bias, "bias": bias})
        with pytest.raises(TrajectoryError, match="weight has 4 along 'synapse', expected 3"):
            writer.record("weights", INDEXED, 0, 0.0, 0, {"weight": weight[0]})
        writer.record("weights", DENSE, 2, 0.0, 0, {"weight": weight, "bias": bias})
        with pytest.raises(TrajectoryError, match="weight is float64, expected float32"):
            writer.record("weights", DENSE, 3, 0.0, 0, {"weight": weight.astype(float), "bias": bias})
        with pytest.raises(TrajectoryError, match="weight has 4 along 'post', expected 5"):
            writer.record("weights", DENSE, 3, 0.0, 0, {"weight": weight[:4], "bias": bias})
        with pytest.raises(TrajectoryError, match="at event 2: weight is already recorded"):
            writer.record("weights", DENSE, 2, 0.0, 0, {"weight": weight, "bias": bias})
        with pytest.raises(TrajectoryError, match="event 2 is already recorded"):
            writer.record("activity", "V1", 1, 0.0, 0, {"mean": 1.0})
        with pytest.raises(OptionError, match="cannot end as 'done'"):
            writer.close("done")
    with pytest.raises(TrajectoryError, match="is closed"):
        writer.record("activity", "V1", 5, 0.0, 0, {"mean": 1.0})
    np.testing.assert_array_equal(open_trajectory(tmp_path / "run")["weights/retina_to_V1"]["weight"], [weight])


# Handing it on


def test_an_exported_file_is_the_same_tree(run, tmp_path, monkeypatch):
    monkeypatch.setattr(analysis.inspect, "_BLOCK", 400)  # several blocks for each layer
    file = export(run, tmp_path / "run.nc")
    tree = open_trajectory(run).load()
    with open_trajectory(file) as exported:
        xr.testing.assert_identical(exported.load(), tree)
    with xr.open_datatree(file) as plain:
        xr.testing.assert_identical(plain.load(), tree)
    with netCDF4.Dataset(file) as plain:
        assert plain.rule == "clapp"
        np.testing.assert_array_equal(plain["weights/retina_to_V1/weight"][4], snapshot(DENSE, 4, 5, 4))
    assert os.listdir(tmp_path / "run") == os.listdir(run)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_that_recorded_nothing_is_a_tree_too(tmp_path):
    TrajectoryWriter(tmp_path / "run", CONFIGURATION).close()
    xr.testing.assert_identical(
        open_trajectory(export(tmp_path / "run", tmp_path / "run.nc")), open_trajectory(tmp_path / "run")
    )
    assert "nothing yet" in describe(tmp_path / "run")


def test_a_segment_is_a_small_trajectory_in_itself(run):
    with xr.open_datatree(run / "trajectory/000001.nc") as part:
        whole = open_trajectory(run)
        snapshots = part["weights/retina_to_V1"]["snapshot"].values
        assert part.attrs["rule"] == "clapp"
        for name in ("weights/retina_to_V1", "weights/V2_to_V3"):
            here, there = (x[name].to_dataset(inherit=False).load() for x in (part, whole))
            xr.testing.assert_identical(here, there.sel(snapshot=snapshots))


def test_export_never_replaces_a_file(run, tmp_path):
    (tmp_path / "run.nc").write_text("mine")
    with pytest.raises(OptionError, match="exists already"):
        export(run, tmp_path / "run.nc")
    assert (tmp_path / "run.nc").read_text() == "mine"
    with pytest.raises(OptionError, match="is no folder"):
        export(run, tmp_path / "nowhere/run.nc")


def test_export_to_a_full_disk_leaves_nothing_behind(tmp_path):
    run = make_weights(tmp_path / "run", 3, shape=(200, 200))
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            export(sys.argv[1], sys.argv[2])
        except StorageError as error:
            print(error)
    """
    output, errors = python(script, run, tmp_path / "run.nc").communicate()
    assert output.startswith(f"cannot write {tmp_path}/run.nc: "), errors
    assert (len(output.splitlines()), errors) == (1, "")
    assert os.listdir(tmp_path) == ["run"]


def test_export_says_when_the_disk_is_too_small(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(StorageError, match="only 10 bytes are free"):
        export(run, tmp_path / "run.nc")


def test_a_run_is_described_in_words(run, tmp_path):
    for text in (describe(run), describe(export(run, tmp_path / "run.nc"))):
        assert "finished run of compare_rules" in text
        assert "rule       clapp" in text
        assert "seed       3" in text
        assert "up to event 9, 2.25 s of biological time, 144 observers" in text
        assert "2 populations, 1 pathways, 20 synapses" in text
        assert "weights of retina->V1: 10 snapshots of weight 5 x 4 float32, bias 5 float32" in text
        assert "alignment of retina->V1, V3=>V2: cosine, angle, trustworthy at 5 events" in text
    assert "learned in 1.5 s" in describe(run)


def test_a_comparison_is_described_and_verified_as_a_whole(tmp_path):
    for seed in (0, 1):
        make_weights(tmp_path / f"clapp/seed-{seed}", 2)
    runs = [{"rule": "clapp", "seed": seed, "path": f"clapp/seed-{seed}"} for seed in (0, 1)]
    (tmp_path / "comparison.json").write_text(json.dumps({"runs": runs}))
    assert "comparison of 2 runs" in describe(tmp_path)
    assert verify(tmp_path)[:2] == (2, 4)
    with pytest.raises(TrajectoryError, match="comparison of several runs"):
        open_trajectory(tmp_path)
    segment(tmp_path / "clapp/seed-1", 1).unlink()
    with pytest.raises(TrajectoryError, match=r"seed-1 is damaged.*000001\.nc cannot be read"):
        verify(tmp_path)


def test_reading_needs_neither_torch_nor_brian2_nor_time(run):
    script = """
        import sys, time
        start = time.perf_counter()
        import analysis
        print(time.perf_counter() - start)
        analysis.open_trajectory(sys.argv[1]).load()
        analysis.verify(sys.argv[1])
        print(sorted({"torch", "torchvision", "brian2", "sklearn", "matplotlib"} & set(sys.modules)))
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(run)], capture_output=True, text=True)
    seconds, heavy = process.stdout.splitlines()
    assert float(seconds) < 1
    assert heavy == "[]"


def test_public_names_are_listed_and_wrong_ones_refused():
    assert {"open_trajectory", "TrajectoryWriter", "verify", "export"} <= set(dir(analysis))
    modules = {module.name for module in pkgutil.iter_modules(analysis.__path__)}
    assert not modules & set(analysis.__all__), "importing a module would hide what has its name"
    assert all(callable(getattr(analysis, name)) for name in analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_trajectori'; it has"):
        _ = analysis.open_trajectori
