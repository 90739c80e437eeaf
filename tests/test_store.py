"""The store of a simulation: what may be declared and recorded, going back to a position, going on with a run."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stored import CONFIGURATION, DENSE, INDEX, INDEXED, declare, make_weights, python, record, snapshot

from analysis import TrajectoryWriter, describe, export, manifest, open_trajectory, verify
from analysis.schema import group_of
from neurossl.errors import OptionError, TrajectoryError
from neurossl.store import Store, Variable

SCORE = Variable(("side",), "Hz", "score of either eye", "float32")
COUNT = Variable((), "1", "spikes so far", "int64")


def test_the_writer_keeps_the_contract_of_a_store(tmp_path: Path) -> None:
    store: Store = TrajectoryWriter(tmp_path / "run")
    assert store.path == tmp_path / "run"
    store.close()


# Kinds of one's own


def own_kinds(path: Path, **limits: Any) -> Path:
    with TrajectoryWriter(path, **limits) as writer:
        writer.declare("scores", "V1 (left)", {"score": SCORE, "count": COUNT}, {"side": ("side", np.array(["λ", "right"]))})
        writer.declare("spikes", "V1", {"fired": Variable(("neuron",), "1", "whether the neuron fired", "bool")})
        for event in range(6):
            at = (event, event * 0.5, event * 2)
            writer.record("scores", "V1 (left)", *at, {"score": [event, event + 0.5], "count": np.int32(event * 3)})
            writer.record("spikes", "V1", *at, {"fired": np.arange(3) < event})
    return path


@pytest.mark.parametrize("limits", [{}, {"segment_records": 1}])
def test_a_kind_of_ones_own_is_stored_read_and_exported_like_the_others(tmp_path: Path, limits: dict[str, int]) -> None:
    run = own_kinds(tmp_path / "run", **limits)
    verify(run)
    with open_trajectory(export(run, tmp_path / "run.nc")) as exported:
        for tree in (open_trajectory(run), exported.load()):
            (group,) = tree["scores"].children.values()
            assert group.attrs["name"] == "V1 (left)"
            assert group["score"].dims == ("snapshot", "side")
            assert group["score"].dtype == np.float32
            assert (group["score"].attrs["units"], group["score"].attrs["long_name"]) == ("Hz", "score of either eye")
            assert list(group["side"].values) == ["λ", "right"]
            np.testing.assert_array_equal(group["score"].sel(snapshot=4), [4, 4.5])
            np.testing.assert_array_equal(group["count"], np.arange(6) * 3)
            np.testing.assert_array_equal(group["time"], np.arange(6) * 0.5)
            fired = tree["spikes/V1/fired"]
            assert fired.dtype == bool
            np.testing.assert_array_equal(fired, np.arange(3) < np.arange(6)[:, None])
    for path in (run, tmp_path / "run.nc"):
        assert "scores of V1 (left): 6 snapshots of score 2 float32, count int64" in describe(path)
        assert "score of either eye (side), in Hz" in describe(path)


@pytest.mark.parametrize(
    ("kind", "name", "variables", "named"),
    [
        ("my scores", "V1", {"score": SCORE}, "expected a word of letters"),
        ("event", "V1", {"score": SCORE}, "expected a word"),
        ("scores", "", {"score": SCORE}, "expected a name without control characters"),
        ("scores", "\x1b[2J", {"score": SCORE}, r"\\x1b\[2J.*expected a name without control characters"),
        ("scores", "a\udcff", {"score": SCORE}, "expected a name without control characters"),
        ("scores", "V1", {}, "at least one variable"),
        ("scores", "V1", {"time": SCORE}, "a variable cannot be called 'time'"),
        ("scores", "V1", {"score": ("side",)}, r"is declared as \('side',\), expected Variable"),
        ("scores", "V1", {"score": Variable("side")}, r"expected a tuple of words"),
        ("scores", "V1", {"score": Variable(("snapshot",))}, r"expected a tuple of words"),
        ("scores", "V1", {"score": Variable(("side", "side"))}, "each can be there once"),
        ("scores", "V1", {"score": Variable((), dtype="complex64")}, "dtype 'complex64', expected float32"),
        ("scores", "V1", {"score": Variable((), dtype="object")}, "dtype 'object', expected float32"),
        ("activity", "V1", {"mean": Variable(("neuron",))}, "one number per moment"),
        ("activity", "V1", {"rate": Variable(())}, "unknown variable 'rate' of activity of 'V1'"),
    ],
)
def test_what_cannot_be_stored_is_refused_when_it_is_declared(
    tmp_path: Path, kind: str, name: str, variables: dict[str, Any], named: str
) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer, pytest.raises(OptionError, match=named):
        writer.declare(kind, name, variables)


# Names


NAMES = [
    "λ->β",
    "β->λ",
    "視覚->運動",
    "運動->視覚",
    "é->V1",
    "è->V1",
    "a b->c",
    "a_b->c",
    "a->b_to_c",
    "a_to_b->c",
    "V1->V2",
]


def test_names_in_any_script_have_groups_of_their_own_and_come_back(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        for name in (*NAMES, "λ", "β"):
            writer.declare("activity", name, {"mean": Variable(())})
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        for place, name in enumerate((*NAMES, "λ", "β")):
            writer.record("activity", name, 0, 0.0, 0, {"mean": float(place)})
            writer.record("weights", name, 0, 0.0, 0, {"weight": np.full((2, 2), float(place))})
    tree = open_trajectory(export(tmp_path / "run", tmp_path / "run.nc"))
    found = {group.attrs["pathway"]: float(group["weight"][0, 0, 0]) for group in tree["weights"].children.values()}
    assert found == {name: float(place) for place, name in enumerate((*NAMES, "λ", "β"))}
    assert [float(tree["activity"]["mean"].sel(population=name)[0]) for name in found] == list(found.values())


def test_no_two_names_are_the_same_group_and_plain_ones_stay_as_they_were() -> None:
    generator = random.Random(0)
    letters = ["V", "1", "_", "_to_", "->", "=>", "_back_to_", " ", "λ", "視", ".", "-", ">"]
    names = {"".join(generator.choices(letters, k=generator.randint(1, 5))) for _ in range(20_000)}
    groups = {group_of(name) for name in names}
    assert len(groups) == len(names)
    assert all(group[0] not in ".-" for group in groups)
    assert [group_of(name) for name in ("V1->V2", "V2=>V1", "V1.a-b->V2")] == ["V1_to_V2", "V2_back_to_V1", "V1.a-b_to_V2"]


# Values


def test_an_array_that_is_changed_afterwards_is_stored_as_it_was(tmp_path: Path) -> None:
    weight, score = np.zeros((2, 2), np.float32), np.zeros(2, np.float32)
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
        writer.declare("scores", "V1", {"score": SCORE})
        for event in range(5):
            weight[:] = score[:] = event
            writer.record("weights", DENSE, event, event, event, {"weight": weight})
            writer.record("scores", "V1", event, event, event, {"score": score})
        weight[:] = score[:] = -1
    tree = open_trajectory(tmp_path / "run")
    np.testing.assert_array_equal(tree["weights/retina_to_V1/weight"][:, 0, 0], range(5))
    np.testing.assert_array_equal(tree["scores/V1/score"][:, 1], range(5))


BAD = [
    np.ones((2, 2), complex),
    np.array([[object()] * 2] * 2),
    np.array([["2026-01-01"] * 2] * 2, "datetime64[D]"),
    np.array([["a"] * 2] * 2),
    np.ones((2, 2), np.longdouble),
    np.ones((2, 0)),
    np.ones(2),
    [[1, 2], [3]],
    None,
]


@pytest.mark.parametrize("value", BAD, ids=lambda value: str(getattr(value, "dtype", value)))
def test_a_value_that_cannot_be_stored_is_refused_at_once_and_takes_nothing_with_it(tmp_path: Path, value: Any) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre")), "bias": Variable(("post",))})
        writer.declare("scores", "V1", {"score": Variable(("post", "pre"))})
        writer.declare("activity", "V1", {"mean": Variable(())})
        good = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
        writer.record("weights", DENSE, 0, 0.0, 0, good)
        for kind, name, values in (
            ("weights", DENSE, {"bias": np.ones(2), "weight": value}),
            ("scores", "V1", {"score": value}),
            ("activity", "V1", {"mean": value}),
        ):
            with pytest.raises(TrajectoryError, match=rf"{kind} of '{name}' at event 1: "):
                writer.record(kind, name, 1, 1.0, 1, values)
        writer.record("weights", DENSE, 1, 1.0, 1, good)
        writer.record("activity", "V1", 1, 1.0, 1, {"mean": np.float32(0.5)})
    tree = open_trajectory(tmp_path / "run")
    assert tree["weights/retina_to_V1"].sizes["snapshot"] == 2
    assert float(tree["activity"]["mean"][0, 0]) == 0.5
    assert "scores" not in tree


@pytest.mark.parametrize("moment", [(0.5, 0.0, 0), (0, float("nan"), 0), (0, 0.0, "many"), (-1, 0.0, 0), (2**63, 0.0, 0)])
def test_a_moment_that_is_none_is_refused(tmp_path: Path, moment: tuple[Any, Any, Any]) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        with pytest.raises(TrajectoryError, match="expected"):
            writer.record("activity", "V1", *moment, {"mean": 1.0})


# Describing


def test_a_run_is_described_at_once_and_amended_without_losing_anything(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path / "run")
    writer.describe({"rule": "clapp", "versions": {"mine": "1"}})
    about = manifest(tmp_path / "run")
    assert (about["rule"], about["state"], about["versions"]["mine"]) == ("clapp", "running", "1")
    assert about["versions"]["numpy"] == np.__version__
    writer.amend({"interventions": [{"time": 1.0, "what": "lesion V1->V2"}]})
    with pytest.raises(OptionError, match="state is written by the writer itself"):
        writer.amend({"state": "finished"})
    with pytest.raises(TrajectoryError, match="was made with rule = 'clapp', not 'bp'"):
        writer.describe({"rule": "bp"})
    writer.close(seconds=2.5)
    about = manifest(tmp_path / "run")
    assert about["interventions"][0]["what"] == "lesion V1->V2"
    assert (about["rule"], about["state"], about["seconds"]) == ("clapp", "finished", 2.5)


def test_a_run_is_not_described_after_its_first_record(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        writer.record("activity", "V1", 0, 0.0, 0, {"mean": 1.0})
        with pytest.raises(TrajectoryError, match="before its first record"):
            writer.describe({"rule": "clapp"})


# Going back and going on


def load(run: Path) -> xr.DataTree:
    tree = open_trajectory(run).load()
    tree.attrs.pop("state")
    return tree


def undisturbed(path: Path, events: int) -> xr.DataTree:
    with TrajectoryWriter(path) as writer:
        writer.describe(CONFIGURATION)
        declare(writer)
        for event in range(events):
            record(writer, event)
    return load(path)


@pytest.mark.parametrize("segment_records", [1, 7, 1000])
@pytest.mark.parametrize("place", [0, 1, 4, 9])
def test_a_run_that_goes_back_and_on_is_that_of_one_who_never_did(tmp_path: Path, segment_records: int, place: int) -> None:
    expected = undisturbed(tmp_path / "straight", 12)
    with TrajectoryWriter(tmp_path / "run", segment_records=segment_records) as writer:
        writer.describe(CONFIGURATION)
        declare(writer)
        for event in range(place):
            record(writer, event)
        position = json.loads(json.dumps(writer.commit()))
        for event in range(place, 10):
            record(writer, event + 3)  # what will not have been
        writer.commit()
        writer.rewind(position)
        for event in range(place, 12):
            record(writer, event)
    xr.testing.assert_identical(load(tmp_path / "run"), expected)
    verify(tmp_path / "run")


def test_a_run_goes_on_in_another_process_of_its_own(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "straight", 12)
    writer = TrajectoryWriter(tmp_path / "run")
    writer.describe(CONFIGURATION)
    declare(writer)
    for event in range(5):
        record(writer, event)
    position = writer.commit()
    for event in range(5, 8):
        record(writer, event)
    writer.close("interrupted", "Ctrl-C")
    (tmp_path / "run/trajectory/000009.nc").write_bytes(b"never listed")
    (tmp_path / "run/trajectory/mine.nc").write_bytes(b"not of a writer")
    with TrajectoryWriter.reopen(tmp_path / "run") as writer:
        assert manifest(tmp_path / "run")["state"] == "running"
        writer.describe({**CONFIGURATION, "more": 1})
        writer.rewind(position)
        declare(writer)
        for event in range(5, 12):
            record(writer, event)
    xr.testing.assert_identical(load(tmp_path / "run"), expected)
    about = manifest(tmp_path / "run")
    assert (about["state"], about["more"]) == ("finished", 1)
    assert about["resumed"][0]["reason"] == "Ctrl-C"
    assert (tmp_path / "run/trajectory/mine.nc").exists()
    assert len(list((tmp_path / "run/trajectory").glob("0*.nc"))) == about["segments"]


def test_what_is_recorded_after_a_commit_at_the_same_moment_joins_it(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as writer:
        declare(writer)
        for event in (0, 1):
            writer.record("activity", "V1", event, event, event, {"mean": float(event)})
            writer.record("performance", "V1", event, event, event, {"loss": 10.0 + event})
        position = writer.commit()
        for _ in range(2):
            writer.rewind(position)
            writer.record("performance", "V1", 1, 1.0, 1, {"probe_accuracy": 0.5})
            with pytest.raises(TrajectoryError, match="loss is already recorded"):
                writer.record("performance", "V1", 1, 1.0, 1, {"loss": 0.0})
            writer.commit()
    tree = open_trajectory(tmp_path / "run")
    assert list(tree["event"].values) == [0, 1]
    at = tree["performance"].to_dataset().sel(event=1, population="V1")
    assert (float(at["loss"]), float(at["probe_accuracy"])) == (11.0, 0.5)
    assert float(tree["activity"]["mean"].sel(event=1, population="V1")) == 1.0
    with TrajectoryWriter.reopen(tmp_path / "run") as writer:
        declare(writer)
        with pytest.raises(TrajectoryError, match="probe_accuracy is already recorded"):
            writer.record("performance", "V1", 1, 1.0, 1, {"probe_accuracy": 0.5})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"run_id": "another"}, "is of another run"),
        ({"segments": 99}, "has 99 segments, 2 are stored"),
        ({"segments": None}, "has None segments"),
        ({"segments": 1}, "before other segments than those stored"),
    ],
)
def test_a_position_that_is_none_of_this_run_is_refused_and_nothing_forgotten(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        declare(writer)
        for event in range(2):
            writer.record("activity", "V1", event, event, event, {"mean": 1.0})
        position = writer.commit()
        with pytest.raises(TrajectoryError, match=named):
            writer.rewind({**position, **changes})
    assert open_trajectory(tmp_path / "run").sizes["event"] == 2


def test_a_position_overtaken_by_another_course_is_refused(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run", segment_records=1) as writer:
        writer.declare("activity", "V1", {"mean": Variable(())})
        start = writer.commit()
        for mean in (1.0, 2.0):
            writer.record("activity", "V1", 0, 0.0, 0, {"mean": mean})
            if mean == 1.0:
                first = writer.commit()
                writer.rewind(start)
        writer.commit()
        with pytest.raises(TrajectoryError, match="before other segments than those stored"):
            writer.rewind(first)


def test_a_run_that_goes_on_is_declared_and_described_as_before(tmp_path: Path) -> None:
    undisturbed(tmp_path / "run", 3)
    own_kinds(tmp_path / "own")
    with TrajectoryWriter.reopen(tmp_path / "run") as writer:
        with pytest.raises(TrajectoryError, match="was made with seed = 3, not 4"):
            writer.describe({**CONFIGURATION, "seed": 4})
        with pytest.raises(TrajectoryError, match=r"weights of 'retina->V1' is declared as"):
            writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
        with pytest.raises(TrajectoryError, match="is declared with"):
            writer.declare("weights", "V1->V2", {"weight": Variable(("post", "pre", "ky", "kx"))}, attrs={"stride": 3})
        coords = {"synapse": ("synapse", INDEX + 1), "post": ("synapse", INDEX // 4), "pre": ("synapse", INDEX % 4)}
        with pytest.raises(TrajectoryError, match="other coordinates"):
            writer.declare("weights", INDEXED, {"weight": Variable(("synapse",))}, coords=coords)
        declare(writer)
        values = {"weight": np.ones((5, 4)), "bias": np.ones(5)}
        with pytest.raises(TrajectoryError, match="weight is float64, expected float32 as before"):
            writer.record("weights", DENSE, 3, 1.0, 3, values)
    with TrajectoryWriter.reopen(tmp_path / "own") as writer:
        with pytest.raises(TrajectoryError, match=r"scores of .* is declared as"):
            writer.declare("scores", "V1 (left)", {"score": SCORE._replace(units="1"), "count": COUNT})
        coords = {"side": ("side", np.array(["λ", "right"]))}
        writer.declare("scores", "V1 (left)", {"score": SCORE, "count": COUNT}, coords)
        with pytest.raises(TrajectoryError, match="score has 3 along 'side', expected 2"):
            writer.record("scores", "V1 (left)", 6, 3.0, 12, {"score": np.ones(3), "count": 1})


def test_a_damaged_run_is_not_gone_on_with(tmp_path: Path) -> None:
    run = make_weights(tmp_path / "run", 4)
    file = run / "trajectory/000002.nc"
    whole = file.read_bytes()
    file.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    with pytest.raises(TrajectoryError, match=r"000002\.nc does not match its checksum"):
        TrajectoryWriter.reopen(run)
    assert manifest(run)["state"] == "finished"
    assert not (run / ".lock").exists()
    file.write_bytes(whole)
    TrajectoryWriter.reopen(run).close()
    verify(run)


@pytest.mark.slow
def test_a_reader_of_a_run_that_goes_back_and_on_is_never_disturbed(tmp_path: Path) -> None:
    script = """
        path = Path(sys.argv[1])
        make_weights(path, 3)
        for _ in range(12):
            with TrajectoryWriter.reopen(path, segment_records=1) as writer:
                writer.declare("weights", DENSE, {"weight": Variable(("post", "pre"))})
                position = writer.commit() if _ == 0 else position
                for _ in range(3):
                    writer.rewind(position)
                    for event in range(3, 9):
                        writer.record("weights", DENSE, event, event, event, {"weight": snapshot(DENSE, event, 5, 4)})
                    writer.commit()
                    time.sleep(0.05)
    """
    process = python(script, tmp_path / "run")
    while not (tmp_path / "run/manifest.json").exists():
        assert process.poll() is None, process.communicate()[1]
    opened = 0
    while process.poll() is None:
        tree = open_trajectory(tmp_path / "run")
        if "weights" in tree:
            first = tree["weights/retina_to_V1/weight"][0]
            np.testing.assert_array_equal(first, snapshot(DENSE, 0, 5, 4))
            opened += 1
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert opened > 20
