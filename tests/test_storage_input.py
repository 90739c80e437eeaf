"""What is strange about files, names, terminals and users, and must not hurt."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import CONFIGURATION, DENSE, make_run, make_weights, python, snapshot

import analysis
from analysis import Chart, Results, TrajectoryWriter, describe, export, manifest, open_trajectory, read_results, verify
from analysis.validation import conform
from neurossl.errors import OptionError, TrajectoryError
from neurossl.files import absolute, remove_abandoned, temporary_for, write_atomically
from neurossl.store import Variable
from protocols.cli import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", 4)


# Temporary files


def test_two_exports_to_one_file_leave_one_whole_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.nc.tmp").write_text("a user's own")
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            export(run, tmp_path / "x.nc")
            outcomes.append("done")
        except OptionError as error:
            outcomes.append("refused" if "exists already" in str(error) else str(error))

    for _ in range(8):
        outcomes.clear()
        threads = [threading.Thread(target=attempt) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["done", "refused"]
        verify(tmp_path / "x.nc")
        (tmp_path / "x.nc").unlink()
    assert (tmp_path / "x.nc.tmp").read_text() == "a user's own"
    assert sorted(os.listdir(tmp_path)) == ["run", "x.nc.tmp"]


def test_two_exports_of_two_processes_to_one_file_leave_one_whole_file(run: Path, tmp_path: Path) -> None:
    processes = [python("export(sys.argv[1], sys.argv[2])", run, tmp_path / "x.nc") for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1]
    assert sum("exists already" in error for error in errors) == 2
    verify(tmp_path / "x.nc")


@pytest.mark.parametrize("name", ["report.html.tmp", "report.html"])
def test_a_link_planted_in_a_run_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("mine")
    (run / name).symlink_to(tmp_path / "precious")
    assert main(["report", str(run)]) == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert not (run / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["manifest.json", "segments.jsonl", "trajectory/000000.nc"])
def test_a_link_or_a_pipe_in_place_of_a_file_of_a_run_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TrajectoryError, match=r"it is a link|has .* bytes"):
        open_trajectory(run)
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(TrajectoryError, match=r"no ordinary file|has 0 bytes"):
        open_trajectory(run)


def test_temporaries_of_the_dead_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    script = """
        from neurossl.files import temporary_for
        with temporary_for(Path(sys.argv[1]) / "x.nc") as temporary:
            print(temporary.name, flush=True)
            time.sleep(60)
    """
    process = python(script, tmp_path)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    with temporary_for(tmp_path / "y.nc") as mine:
        assert remove_abandoned(tmp_path) == []
        process.kill()
        process.communicate()
        assert remove_abandoned(tmp_path) == [name]
        assert mine.exists()
    assert not list(tmp_path.iterdir())


def test_writing_many_times_at_once_leaves_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * 100_000 for number in range(4)]

    def write(content: bytes) -> None:
        for _ in range(10):
            write_atomically(tmp_path / "x", content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not (tmp_path / "x").exists() or (tmp_path / "x").read_bytes() in contents
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["manifest.json", "trajectory/000000.nc", "notes.txt", "report"])
def test_a_report_replaces_nothing_but_pages(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for command in ("report", "compare"):
        assert main([command, str(run), "--out", str(run / name)]) == 2
        assert "expected the name of an .html file" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


# Trees, folders, paths


def test_a_tree_whose_run_is_made_again_says_so(tmp_path: Path) -> None:
    import shutil

    make_weights(tmp_path / "run", 3)
    tree = open_trajectory(tmp_path / "run")
    np.testing.assert_array_equal(tree["weights/retina_to_V1/weight"][1], snapshot(DENSE, 1, 5, 4))
    shutil.rmtree(tmp_path / "run")
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
        for event in range(3):
            writer.record("weights", DENSE, event, event, event, {"weight": snapshot("other", event, 5, 4)})
    for row in (1, 2):
        with pytest.raises(TrajectoryError, match="if the run was made again since this tree was opened, open it again"):
            tree["weights/retina_to_V1/weight"][row].load()


def test_paths_stay_what_they_are_when_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    with TrajectoryWriter("run", segment_records=1) as writer, TrajectoryWriter("~/mine") as other:
        os.chdir("/")
        assert (writer.path, other.path) == (tmp_path / "run", tmp_path / "home/mine")
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
        for event in range(3):
            writer.record("weights", DENSE, event, event, event, {"weight": snapshot(DENSE, event, 5, 4)})
    monkeypatch.chdir(tmp_path)
    tree = open_trajectory("run")
    os.chdir("/")
    np.testing.assert_array_equal(tree["weights/retina_to_V1/weight"][1], snapshot(DENSE, 1, 5, 4))
    assert describe("~/mine").startswith(str(tmp_path / "home/mine"))
    assert export("~/mine", "~/mine.nc") == tmp_path / "home/mine.nc"
    with pytest.raises(OptionError, match="is no path"):
        absolute("a\0b")


def test_a_folder_whose_name_is_no_text_is_written_read_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff\xfe")), 3)
    assert open_trajectory(run).load()["weights/retina_to_V1"].sizes["snapshot"] == 3
    for command in ("info", "verify", "report", "compare"):
        options = ["--out", str(run / "c.html")] if command == "compare" else []
        assert main([command, str(run), *options]) == 0, capsys.readouterr().err
        assert main([command, str(run / "nothing"), *options]) == 2
    verify(export(run, tmp_path / "x.nc"))
    TrajectoryWriter.reopen(run).close()
    with TrajectoryWriter(run / "below") as writer:
        writer.describe({"dataset": f"folder:{run}"})
    assert manifest(run / "below")["dataset"] == f"folder:{run}"
    assert "\\udcff" in describe(run / "below")


def test_checkpoints_are_mentioned_and_left_alone(run: Path) -> None:
    (run / "checkpoints/000000003").mkdir(parents=True)
    (run / "checkpoints/000000003/state.json").write_text("{}")
    assert "checkpoints 000000003" in describe(run)
    assert "checkpoints: every checksum matches" in str(verify(run))
    (run / "checkpoints/0000000005.json").write_text('{"check": "no", "values": {}}')
    with pytest.raises(TrajectoryError, match=r"checkpoint 0000000005 \(its checksum is not right\)"):
        verify(run)
    TrajectoryWriter.reopen(run).close()
    assert (run / "checkpoints/000000003/state.json").exists()


# Checksums


def test_results_and_indices_carry_a_checksum_and_are_held_against_it(tmp_path: Path) -> None:
    Results("p", "t", [{"rule": "clapp", "y": 1.5}], ["It learns."]).save(tmp_path)
    make_weights(tmp_path / "a", 2)
    analysis.write_comparison(tmp_path, {"runs": [{"path": "a", "rule": "clapp", "seed": 0}]})
    verify(tmp_path)
    for name, old, new in (("results.json", "1.5", "1.6"), ("comparison.json", '"seed": 0', '"seed": 1')):
        whole = (tmp_path / name).read_text()
        (tmp_path / name).write_text(whole.replace(old, new))
        with pytest.raises(TrajectoryError, match=f"{name} does not match its checksum"):
            verify(tmp_path)
        (tmp_path / name).write_text(whole)
    assert read_results(tmp_path).table == [{"rule": "clapp", "y": 1.5}]
    with pytest.raises(TrajectoryError, match=r"runs\[0\]\.path is missing"):
        analysis.write_comparison(tmp_path, {"runs": [{"rule": "clapp"}]})


@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_damaged_export_is_found_before_it_is_parsed(run: Path, tmp_path: Path, place: float) -> None:
    file = export(run, tmp_path / "x.nc")
    assert verify(file).bytes == file.stat().st_size
    whole = file.read_bytes()
    where = int(place * len(whole))
    file.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
    for read in (open_trajectory, verify, describe):
        with pytest.raises(TrajectoryError, match=r"x\.nc (does not match its checksum|is damaged: its checksum)"):
            read(file)


def test_a_damaged_segment_is_neither_reported_nor_exported(run: Path, tmp_path: Path) -> None:
    file = run / "trajectory/000001.nc"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 512] = bytes(512)
    file.write_bytes(whole)
    for words in (["report", run], ["compare", run], ["export", run, tmp_path / "x.nc"], ["info", run], ["verify", run]):
        assert main([str(word) for word in words]) == 2
    assert not (tmp_path / "x.nc").exists()
    assert not (run / "report.html").exists()


# Labels and terminals


UGLY = "\x1b[31m$\\frac{$ <b>視</b>\x07"


def ugly_results(folder: Path) -> Path:
    table = [{UGLY: UGLY, "x": UGLY, "y": 1.0, "$_{": 2.0}, {UGLY: "$a^", "x": "$$", "y": 2.0, "$_{": 3.0}]
    chart: dict[str, Any] = {"series": UGLY, "levels": {"$\\sqrt{$": 1.5}, "text": UGLY}
    charts = [
        Chart("$\\frac{$ title $", "x", "y", "$x_$", "$y^$", **chart),
        Chart("t", "y", "$_{", "x", "y", panel=UGLY, stacked=True, errors="$\\bad$"),
    ]
    Results("p", f"{UGLY}", table, [UGLY], charts).save(folder)
    return folder


def test_mathematics_and_control_characters_in_labels_reach_neither_matplotlib_nor_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {
        "populations": [{"name": "$r$", "input": True}, {"name": "$\\frac{$"}],
        "pathways": [{"name": "$r$->$\\frac{$"}],
    }
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.describe({"rule": "clapp", "label": UGLY, "seed": 0, "network": network, "protocol": UGLY, "dataset": UGLY})
        writer.declare("performance", "$\\frac{$", {"loss": Variable(()), "probe_accuracy": Variable(())})
        for event in range(3):
            writer.record("performance", "$\\frac{$", event, event, event, {"loss": 1.0, "probe_accuracy": 0.5})
    ugly_results(tmp_path)
    for words in (
        ["info", tmp_path / "run"],
        ["report", tmp_path / "run"],
        ["report", tmp_path],
        ["verify", tmp_path / "run"],
    ):
        assert main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    assert not set(captured.out + captured.err) & {"\x1b", "\x07"}
    assert captured.err == ""
    assert "\\x1b[31m$\\frac{$" in captured.out
    for page in (tmp_path / "run/report.html", tmp_path / "report.html"):
        assert "\x1b" not in page.read_text()
        assert "<b>" not in page.read_text()


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        {"MPLBACKEND": "nonsense"},
        {"SOURCE_DATE_EPOCH": "yesterday"},
    ],
    ids=str,
)
def test_the_surroundings_do_not_matter(run: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys, analysis; from protocols.cli import main; folder = sys.argv[1];"
        "comparison = analysis.open_comparison([folder + '/run']);"
        "analysis.write_report(comparison, folder + '/r.html', folder + '/figures', analysis.read_results(folder));"
        "sys.exit(main(['report', folder]) or main(['info', folder + '/run']) or main(['report', folder + '/run']))"
    )
    ugly_results(tmp_path)
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=120, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""


# Comparing


def small(path: Path, seed: int = 0, **about: Any) -> Path:
    with TrajectoryWriter(path) as writer:
        writer.describe({**CONFIGURATION, "seed": seed, "stream": f"Pairs(16 observers, seed {seed})", **about})
        writer.declare("performance", "V1", {"probe_accuracy": Variable(())})
        writer.record("performance", "V1", 0, 0.0, 0, {"probe_accuracy": 0.5})
        writer.close(seconds=1.0 + seed)
    return path


def test_runs_that_differ_in_their_seed_alone_are_averaged(tmp_path: Path) -> None:
    runs = [small(tmp_path / str(seed), seed, command=f"--seed {seed}") for seed in range(3)]
    assert len(analysis.open_comparison(runs).rules["clapp"]) == 3
    assert len(analysis.open_comparison([*runs, small(tmp_path / "other", 0, rule="bp")]).rules) == 2


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({"synapses": {"optimizer": "adamw", "lr": 0.01}}, r"differ in synapses\.lr \(0\.001 and 0\.01\)"),
        ({"dataset": "mnist"}, r"differ in dataset \(digits and mnist\)"),
        ({"network": {"populations": [], "pathways": []}}, r"differ in network\.populations"),
        ({"interventions": [{"what": "lesion"}]}, r"differ in interventions \(nothing and "),
        ({"stream": "Pairs(32 observers, seed 1)"}, r"differ in stream"),
    ],
)
def test_runs_that_differ_in_anything_else_are_not_averaged(
    tmp_path: Path, about: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    synapses = {"optimizer": "adamw", "lr": 0.001}
    one, other = small(tmp_path / "a", 0, synapses=synapses), small(tmp_path / "b", 1, **{"synapses": synapses, **about})
    with pytest.raises(TrajectoryError, match=named):
        analysis.open_comparison([one, other])
    assert main(["compare", str(one), str(other), "--out", str(tmp_path / "r.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_same_run_does_not_count_twice(tmp_path: Path) -> None:
    import shutil

    one, again, other = small(tmp_path / "a", 0), small(tmp_path / "b", 0), small(tmp_path / "c", 1)
    with pytest.raises(TrajectoryError, match=r"the same rule with the same seed \(0\)"):
        analysis.open_comparison([one, other, again])
    copied = shutil.copytree(one, tmp_path / "d")
    with pytest.raises(TrajectoryError, match=r"d is a copy of .*a: the same run cannot count twice"):
        analysis.open_comparison([one, copied])


# The schema


@pytest.mark.parametrize(
    ("value", "expected", "fault"),
    [
        (True, int, "it is True, expected a whole number"),
        (2**63, int, "it is 9223372036854775808, expected a whole number"),
        (float("inf"), float, "it is inf, expected a number"),
        ([1, "a"], list[int], r"it\[1\] is 'a', expected a whole number"),
        ({"a": [None]}, dict[str, list[str]], r"it\.a\[0\] is None, expected text"),
        ("\x1b", int | None, r"it is '\\\\?x1b', expected a whole number"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(value: Any, expected: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        conform(value, expected, "it")


def test_a_value_of_its_type_passes() -> None:
    conform({"a": [1, 2.5]}, dict[str, list[float]], "it")
    conform(json.loads("null"), str | None, "it")
