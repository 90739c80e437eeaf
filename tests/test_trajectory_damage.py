"""Damage, full disks, misuse and export: a stored run is whole, or the file that is not is named."""

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from stored import DENSE, INDEXED, declare, make_run, make_weights, python, snapshot

import analysis
import analysis.exported
import analysis.journal
from analysis import TrajectoryWriter, describe, export, manifest, open_trajectory, verify
from analysis.index import index_line
from analysis.records import Segment
from analysis.schema import group_of
from neurossl.errors import OptionError, StorageError, TrajectoryError
from neurossl.store import Variable


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


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


def adopted(other: Path, number: int, run: Path) -> str:
    """Return a line of the index of another run as if it were of this one."""
    line = json.loads((other / "segments.jsonl").read_text().splitlines()[number])
    del line["check"]
    return index_line(Segment(**{**line, "run": manifest(run)["run_id"]})) + "\n"


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
        (lambda run: shutil.copy(segment(run, 1), segment(run, 2)), r"000002\.nc does not match its checksum"),
        (swap, r"000001\.nc does not match its checksum"),
        (lambda run: os.truncate(segment(run, 1), 100), r"000001\.nc has 100 bytes"),
        (
            lambda run: segment(run, 1).write_bytes(bytes(segment(run, 1).stat().st_size)),
            r"000001\.nc does not match its checksum",
        ),
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
        open_trajectory(run).load()  # bytes that alone differ are found before they are used


@pytest.mark.parametrize("shape", [(5, 3), (5,)], ids=["resized", "without an axis"])
def test_a_segment_of_another_shape_is_refused_by_name(tmp_path, shape):
    run, other = make_weights(tmp_path / "run", 3), make_weights(tmp_path / "other", 3, shape)
    shutil.copy(segment(other, 1), segment(run, 1))
    edit_lines(run, lambda lines: [lines[0], adopted(other, 1, run), lines[2]])
    with pytest.raises(TrajectoryError, match=r"000001\.nc holds weights/retina_to_V1 as"):
        open_trajectory(run)


def test_segments_that_overlap_are_refused_by_name(tmp_path):
    run, other = make_weights(tmp_path / "run", 6, segment_records=2), make_weights(tmp_path / "other", 6, segment_records=1)
    shutil.copy(segment(other, 2), segment(run, 2))
    edit_lines(run, lambda lines: [*lines[:2], adopted(other, 2, run), lines[3]])
    with pytest.raises(
        TrajectoryError, match=r"000002\.nc starts at event 2, but trajectory/000001\.nc already reaches event 2"
    ):
        open_trajectory(run)


def test_a_line_that_a_running_run_has_not_finished_does_not_count(tmp_path):
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        for event in range(3):
            writer.record("activity", "V1", event, event, event, {"mean": 1.0})
        writer.commit()
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
        TrajectoryWriter(run)
    assert refusal.value.exit_status == 2
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_an_empty_folder_is_fine(tmp_path):
    make_weights(tmp_path, 1)
    assert verify(tmp_path).segments == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OptionError, match="exists already"):
        TrajectoryWriter(tmp_path / "file")
    with pytest.raises(OptionError, match=f"cannot write a run to {tmp_path}/file/run: Not a directory"):
        TrajectoryWriter(tmp_path / "file/run")


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    with TrajectoryWriter(tmp_path / "run") as writer:
        with pytest.raises(OptionError, match="cannot be stored as JSON"):
            writer.describe({"rule": object()})
        writer.describe({"needs": {"target", "neuromodulator"}, "seed": np.int64(7)})
    assert manifest(tmp_path / "run")["needs"] == ["neuromodulator", "target"]
    assert open_trajectory(tmp_path / "run").attrs["seed"] == 7


@pytest.mark.parametrize(
    ("member", "value"), [("network", "mlp"), ("needs", "target"), ("needs", [1]), ("seed", 2**70), ("rule", ["clapp"])]
)
def test_members_that_readers_count_on_are_checked_on_both_sides(run, tmp_path, member, value):
    with (
        TrajectoryWriter(tmp_path / "new") as writer,
        pytest.raises(OptionError, match=rf"cannot be stored: {member}\S* is"),
    ):
        writer.describe({member: value})
    assert member not in manifest(tmp_path / "new")
    about = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**about, member: value}))
    with pytest.raises(TrajectoryError, match=rf"is damaged: {member}\S* is"):
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
            with TrajectoryWriter(Path(sys.argv[1]), segment_records=1) as writer:
                writer.declare("activity", "V1", {"mean": Variable(())})
                writer.declare("weights", DENSE, {"weight": Variable(("synapse",))})
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
    writer = TrajectoryWriter(tmp_path / "run")
    writer.declare("activity", "V1", {"mean": Variable(())})
    writer.record("activity", "V1", 0, 0.0, 0, {"mean": 1.0})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(analysis.journal, function, full)
    with pytest.raises(StorageError, match=r"000000\.nc: No space left on device"):
        writer.close()
    assert manifest(tmp_path / "run")["state"] == "failed"
    assert open_trajectory(tmp_path / "run").sizes["event"] == 0


def test_the_size_is_announced_and_held_against_the_disk(tmp_path):
    with TrajectoryWriter(tmp_path / "run") as writer:
        assert "12.3 MB" in writer.announce(12_300_000)
        assert manifest(tmp_path / "run")["expected_bytes"] == 12_300_000
        with pytest.raises(OptionError, match=r"would take 1000000000000\.00 GB"):
            writer.announce(10**21)


# Misuse


def test_records_that_were_not_declared_so_are_refused(tmp_path):
    with TrajectoryWriter(tmp_path / "run") as writer:
        declare(writer)
        weight = snapshot(DENSE, 0, 5, 4)
        bias = snapshot("bias", 0, 5)
        with pytest.raises(OptionError, match="kind 'spikes/s' of 'V1': expected a word"):
            writer.declare("spikes/s", "V1", {"rate": Variable(())})
        with pytest.raises(OptionError, match=r"unknown variable .wieght. .* expected one of weight, bias"):
            writer.declare("weights", "V5->V6", {"wieght": Variable(("post", "pre"))})
        with pytest.raises(TrajectoryError, match="but it is recorded twice"):
            writer.declare("weights", "retina->V1", {"weight": Variable(("post", "pre"))})
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
    monkeypatch.setattr(analysis.exported, "_BLOCK", 400)  # several blocks for each layer
    file = export(run, tmp_path / "run.nc")
    tree = open_trajectory(run).load()
    with open_trajectory(file) as exported:
        xr.testing.assert_identical(exported.load(), tree)
    with xr.open_datatree(file) as plain:
        assert json.loads(plain.attrs.pop("manifest")) == analysis.manifest(run)
        assert list(plain["weights"].children) == ["retina_to_V1", "V1_to_V2", "V2_to_V3"]
        for node in tree.subtree:
            if node.path != "/":
                stored = "/".join(group_of(part) for part in node.path.strip("/").split("/"))
                xr.testing.assert_equal(plain[stored].to_dataset(inherit=False).load(), node.to_dataset(inherit=False))
        np.testing.assert_array_equal(plain["event"], tree["event"])
    with netCDF4.Dataset(file) as plain:
        assert plain.rule == "clapp"
        np.testing.assert_array_equal(plain["weights/retina_to_V1/weight"][4], snapshot(DENSE, 4, 5, 4))
    assert os.listdir(tmp_path / "run") == os.listdir(run)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_that_recorded_nothing_is_a_tree_too(tmp_path):
    TrajectoryWriter(tmp_path / "run").close()
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
    assert all(callable(getattr(analysis, name)) != name.isupper() for name in analysis.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_trajectori'; it has"):
        _ = analysis.open_trajectori
