"""Damaged and hostile files through the real commands: one line and status 2, or the right answer; never a traceback."""

import copy
import faulthandler
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from stored import make_run, make_weights

from analysis import Chart, Results, TrajectoryWriter, export, open_trajectory, verify, write_comparison
from analysis.index import index_line
from analysis.records import Segment
from analysis.sealed import seal
from neurossl.errors import TrajectoryError
from neurossl.files import digest
from neurossl.text import printable
from protocols.cli import main

TIMES = 300
SECONDS = 15.0

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """End a test in which something spins where Python cannot see it."""
    faulthandler.dump_traceback_later(280, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protocol's folder: two runs, their index, results; and an exported run."""
    folder = tmp_path_factory.mktemp("stored")
    entries = []
    for seed, name in enumerate(("a", "b")):
        run = make_run(folder / "out" / name, 4)
        about = json.loads((run / "manifest.json").read_text())
        del about["check"]
        (run / "manifest.json").write_bytes(seal({**about, "seed": seed, "label": "CLAPP"}, indent=2))
        entries.append({"rule": "clapp", "seed": seed, "path": name, "state": "finished"})
    write_comparison(folder / "out", {"schema_version": 1, "protocol": "p", "options": {"seeds": 2}, "runs": entries})
    table = [{"rule": name, "x": x, "y (mean)": x * 2.5, "y (95 % half-width)": 0.5} for name in "ab" for x in (1, 2)]
    charts = [Chart("a chart", "x", "y", "x", "y", series="rule", levels={"chance": 0.5}, y_range=(0, 6))]
    Results("p", "Title", table, ["A sentence."], charts, {"more": table}, options={"seeds": 2}).save(folder / "out")
    export(folder / "out/a", folder / "a.nc")
    return folder


def run_command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Run a command; whatever it is given, it ends soon, with one line if it refuses, and nothing that steers a terminal."""
    begun = time.process_time()  # on a busy machine the clock on the wall says nothing
    status = main([str(word) for word in words])
    seconds = time.process_time() - begun
    captured = capsys.readouterr()
    assert seconds < SECONDS, f"{words}: {seconds:.1f} s"
    assert status in (0, 2), (words, captured.err)
    assert len(captured.err.splitlines()) == (1 if status else 0), (words, captured.err)
    assert "Traceback" not in captured.err + captured.out
    for text in (captured.err, captured.out):
        assert printable(text) == text, words
    return status, captured.out


def damaged(whole: bytes, generator: random.Random) -> bytes:
    """Return bytes with one of the things that happen to files."""
    data = bytearray(whole)
    place = generator.randrange(len(data))
    length = generator.choice([1, 2, 8, 64, 512, 4096])
    kind = generator.randrange(9)
    if kind <= 1:
        data[place] ^= 1 << generator.randrange(8)
    elif kind == 2:
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == 3:
        del data[place:]
    elif kind == 4:
        del data[place : place + length]
    elif kind == 5:
        data[place:place] = data[max(0, place - length) : place]
    elif kind == 6:
        data[place : place + length] = generator.randbytes(len(data[place : place + length]))
    elif kind == 7:
        data += generator.choice([b"\n", b"\0", generator.randbytes(length)])
    else:
        other = generator.randrange(len(data))
        low, high = sorted((place, other))
        size = min(length, high - low, len(data) - high)
        data[low : low + size], data[high : high + size] = data[high : high + size], data[low : low + size]
    return bytes(data)


def each_damage(file: Path, seed: int, times: int = TIMES) -> Iterator[int]:
    """Damage a file in many ways, one after the other, and leave it as it was."""
    whole, generator = file.read_bytes(), random.Random(seed)
    try:
        done = 0
        while done < times:
            content = damaged(whole, generator)
            if content != whole:
                file.write_bytes(content)
                yield done
                done += 1
    finally:
        file.write_bytes(whole)


def same_export(run: Path, file: Path, expected: xr.DataTree) -> None:
    with open_trajectory(file) as tree:
        xr.testing.assert_identical(tree.load(), expected)
    file.unlink()


@pytest.mark.parametrize("name", ["manifest.json", "segments.jsonl", "trajectory/000001.nc"])
def test_a_damaged_run_is_refused_in_a_line_or_read_as_it_was(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run = shutil.copytree(stored / "out/a", tmp_path / "a")
    expected, (_, described) = open_trajectory(run).load(), run_command(capsys, "info", run)
    refused = 0
    for number in each_damage(run / name, seed=1):
        status, said = run_command(capsys, "info", run)
        assert status == 2 or said == described
        refused += status == 2
        status, _ = run_command(capsys, "export", run, tmp_path / "x.nc")
        if status == 0:
            same_export(run, tmp_path / "x.nc", expected)
        if number % 5 == 0:
            run_command(capsys, "verify", run)
        if number % 20 == 0:
            run_command(capsys, "compare", run, "--out", tmp_path / "r.html")
            try:
                TrajectoryWriter.reopen(run).close()
            except TrajectoryError:
                continue
            pytest.fail("gone on with") if status else None
            shutil.rmtree(run)
            shutil.copytree(stored / "out/a", run)
    assert refused > 0.9 * TIMES
    assert not (tmp_path / "x.nc").exists()


@pytest.mark.parametrize("name", ["results.json", "comparison.json"])
def test_damaged_results_are_refused_in_a_line_or_read_as_they_were(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = shutil.copytree(stored / "out", tmp_path / "out")
    _, described = run_command(capsys, "info", out)
    status, reported = run_command(capsys, "report", out, "--out", tmp_path / "r.html")
    assert status == 0
    page = (tmp_path / "r.html").read_bytes()
    refused = 0
    for number in each_damage(out / name, seed=2):
        status, said = run_command(capsys, "info", out)
        assert status == 2 or said == described
        verified, _ = run_command(capsys, "verify", out)
        refused += verified == 2
        if verified == 0 or number % 30 == 0:
            status, said = run_command(capsys, "report", out, "--out", tmp_path / "r.html")
            assert status == 2 or said == reported
            assert status == 2 or (tmp_path / "r.html").read_bytes() == page
    assert refused > 0.9 * TIMES


def test_a_damaged_export_is_refused_in_a_line_or_read_as_it_was(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(shutil.copy(stored / "a.nc", tmp_path / "a.nc"))
    expected, (_, described) = open_trajectory(file).load(), run_command(capsys, "info", file)
    refused = 0
    for _ in each_damage(file, seed=3):
        status, said = run_command(capsys, "info", file)
        assert status == 2 or said == described
        refused += status == 2
        if status == 0:
            with open_trajectory(file) as tree:
                xr.testing.assert_identical(tree.load(), expected)
        run_command(capsys, "verify", file)
    assert refused > 0.9 * TIMES


# Files that are whole, but say what they should not


STRANGE: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        3,
        2**62,
        2**70,
        1e308,
        float("nan"),
        float("inf"),
        0.5,
        "",
        "x",
        "\x1b[2J\x1b]0;t\x07",
        "$\\frac{$",
    ),
    *(
        [],
        {},
        [[[[]]]],
        [None],
        {"a": {"b": []}},
        "../../../etc",
        "/etc/passwd",
        "\0",
        "\udcff",
        "λ" * 5000,
        [1] * 5000,
        {"x": 1e400},
    ),
    *("<script>alert(1)</script>", "finished", "running", "1970-01-01", {"host": 1}, [{"name": "V1", "shape": [2**60] * 9}]),
]


def mutated(content: Any, generator: random.Random) -> Any:
    """Return JSON with some of its members gone or of another kind."""
    content = copy.deepcopy(content)
    for _ in range(generator.choice([1, 1, 1, 3])):
        node, steps = content, generator.randrange(1, 6)
        while isinstance(node, dict | list) and node:
            key = generator.choice(list(node) if isinstance(node, dict) else range(len(node)))
            steps -= 1
            if steps and isinstance(node[key], dict | list) and node[key]:
                node = node[key]
                continue
            if generator.random() < 0.25:
                del node[key]
            else:
                node[key] = copy.deepcopy(generator.choice(STRANGE))
            break
    return content


def hostile(file: Path, generator: random.Random) -> None:
    """Replace a file by one that says strange things under a checksum that is right."""
    if file.name == "segments.jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            del line["check"]
        place = generator.randrange(len(lines))
        lines[place] = mutated(lines[place], generator)
        file.write_bytes(b"".join(seal(line) + b"\n" for line in lines))
        return
    content = json.loads(file.read_text())
    content.pop("check", None)
    content = mutated(content, generator)
    indent, end = (2, b"") if file.name == "manifest.json" else (1, b"\n")
    file.write_bytes(seal(content, indent=indent) + end)


@pytest.mark.parametrize("name", ["a/manifest.json", "a/segments.jsonl", "results.json", "comparison.json"])
def test_a_hostile_file_does_no_harm(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    out = shutil.copytree(stored / "out", tmp_path / "out")
    whole, generator = (out / name).read_bytes(), random.Random(4)
    quick: list[Callable[[], Any]] = [
        lambda: run_command(capsys, "info", out),
        lambda: run_command(capsys, "info", out / "a"),
        lambda: run_command(capsys, "verify", out),
        lambda: run_command(capsys, "export", out / "a", tmp_path / "x.nc"),
    ]
    drawn: list[Callable[[], Any]] = [
        lambda: run_command(capsys, "report", out, "--out", tmp_path / "r.html"),
        lambda: run_command(capsys, "report", out / "a", "--out", tmp_path / "r.html"),
        lambda: run_command(capsys, "compare", out, "--out", tmp_path / "r.html"),
    ]
    commands = [*quick, drawn[0], *quick, drawn[1], *quick, drawn[2]]
    for number in range(TIMES):
        hostile(out / name, generator)
        commands[number % len(commands)]()
        (tmp_path / "x.nc").unlink(missing_ok=True)
        (out / name).write_bytes(whole)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "elsewhere", "r.html"}
    assert {path.name for path in out.iterdir()} == {"a", "b", "results.json", "comparison.json"}


def test_a_segment_that_claims_to_hold_more_than_it_has_is_refused_before_anything_is_allocated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_weights(tmp_path / "run", 1)
    with netCDF4.Dataset(run / "trajectory/000000.nc", "w") as dataset:
        dataset.createDimension("event", 2**33)
        for name, dtype in (("event", "i8"), ("time", "f8"), ("observers_seen", "i8")):
            dataset.createVariable(name, dtype, ("event",), fill_value=False)
    file = run / "trajectory/000000.nc"
    line = json.loads((run / "segments.jsonl").read_text())
    del line["check"]
    line |= {"sha256": digest(file), "bytes": file.stat().st_size, "last_event": 2**33 - 1}
    (run / "segments.jsonl").write_text(index_line(Segment(**line)) + "\n")
    with pytest.raises(TrajectoryError, match=r"cannot read .*: it claims to hold 206,158,430,208 bytes"):
        open_trajectory(run)["weights/retina->V1/weight"].load()  # its line tells another story, so that it can be opened
    line |= {"layout": None, "axes": None}
    (run / "segments.jsonl").write_text(index_line(Segment(**line)) + "\n")
    for words in (("info", run), ("report", run), ("export", run, tmp_path / "x.nc")):
        assert run_command(capsys, *words)[0] == 2
    with pytest.raises(TrajectoryError, match=r"000000\.nc is damaged: it claims to hold 206,158,430,208 bytes"):
        open_trajectory(run)


def test_an_export_that_claims_to_hold_more_than_it_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as dataset:
        dataset.schema_version = 1
        dataset.createDimension("event", 2**33)
        dataset.createVariable("event", "i8", ("event",), fill_value=False)
    assert run_command(capsys, "info", tmp_path / "x.nc")[0] == 2
    with pytest.raises(TrajectoryError, match="claims to hold 68,719,476,736 bytes"):
        open_trajectory(tmp_path / "x.nc")


def test_a_file_written_anew_by_another_tool_is_read_though_it_has_no_checksum(stored: Path, tmp_path: Path) -> None:
    with xr.open_datatree(stored / "a.nc") as tree:
        tree.load().to_netcdf(tmp_path / "again.nc")
    expected = open_trajectory(stored / "a.nc").load()
    again = open_trajectory(tmp_path / "again.nc").load()
    np.testing.assert_array_equal(again["weights/retina_to_V1/weight"], expected["weights/retina_to_V1/weight"])
    with pytest.raises(TrajectoryError, match="carries no checksum"):
        verify(tmp_path / "again.nc")
