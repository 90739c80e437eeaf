"""What was tried and gave a wrong answer once, and its siblings: each is right, or is refused in a line, now."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stored import python
from test_analysis import NETWORK, write_run
from tried import DEEP, stored

import analysis
from analysis.distances import weight_drift
from analysis.figures import alignment_figure, drift_figure
from analysis.own_figures import own_figures
from analysis.side_by_side import side_by_side
from analysis.statistics import estimate, over_seeds
from analysis.summary import moments_in_words, verdicts
from neurossl.errors import TrajectoryError
from neurossl.store import Variable
from protocols.cli import main

# Runs that are not the same experiment


def test_learning_rates_are_never_averaged(tmp_path: Path) -> None:
    runs = [
        stored(tmp_path / f"{lr}-{seed}", seed, accuracy=lambda event, lr=lr: 0.9 if lr < 1e-2 else 0.1, synapses={"lr": lr})
        for lr in (1e-4, 1e-1)
        for seed in (0, 1)
    ]
    with pytest.raises(TrajectoryError, match=r"differ in synapses.lr \(0.0001 and 0.1\)"):
        analysis.open_comparison(runs)
    tree = analysis.open_runs(runs)
    assert tree["performance"]["rule"].values.tolist() == ["clapp [lr=0.0001]", "clapp [lr=0.1]"]
    assert tree["performance"]["lr"].values.tolist() == [1e-4, 1e-1]
    final = over_seeds(tree["performance"]["probe_accuracy"].sel(event=20, population="V1"))
    assert final["mean"].values.tolist() == [0.9, 0.1]
    assert final["count"].values.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"budget": 20}, {"budget": 40}, ["clapp [budget=20]", "clapp [budget=40]"]),
        ({}, {"dtype": "bfloat16"}, ["clapp [dtype=none]", "clapp [dtype=bfloat16]"]),
        ({"dataset": "digits"}, {"dataset": "mnist"}, ["clapp [dataset=digits]", "clapp [dataset=mnist]"]),
        ({"label": "A"}, {"label": "B"}, ["A", "B"]),
        ({"synapses": {"lr": 1, "decay": 0.5}}, {"synapses": {"lr": 2, "decay": 0.25}}, None),
        ({"rule_options": {"negatives": 1}}, {"rule_options": {"negatives": 8}}, None),
        ({"threads": 1}, {"threads": 2}, None),
    ],
)
def test_nothing_else_that_differs_is_averaged_either(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], names: list[str] | None
) -> None:
    runs = [stored(tmp_path / "a", 0, **one), stored(tmp_path / "b", 1, **other)]
    tree = analysis.open_runs(runs, unfinished="keep")
    assert tree["performance"].sizes["rule"] == 2
    if names:
        assert tree["performance"]["rule"].values.tolist() == names
    assert int(tree["performance"]["probe_accuracy"].isel(event=0).notnull().sum("seed").max()) == 1


def test_what_cannot_be_told_in_a_few_words_is_refused_with_what_differs(tmp_path: Path) -> None:
    done = [{"what": "lesion", "moment": 3, "pathway": "V1->V2"}]
    runs = [stored(tmp_path / "a", 0), stored(tmp_path / "b", 1, interventions=done)]
    with pytest.raises(TrajectoryError, match=r"differ in interventions \(nothing and .*lesion.*give them different labels"):
        analysis.open_runs(runs)


def test_a_rerun_of_a_seed_is_no_second_one(tmp_path: Path) -> None:
    runs = [stored(tmp_path / "first", 0), stored(tmp_path / "rerun", 0), stored(tmp_path / "other", 1)]
    for door in (analysis.open_runs, analysis.open_comparison):
        with pytest.raises(TrajectoryError, match=r"same rule with the same seed \(0\): one says nothing new"):
            door(runs)
    exported = analysis.export(runs[0], tmp_path / "first.nc")
    with pytest.raises(TrajectoryError, match="is a copy of"):
        analysis.open_runs([runs[0], exported])
    with pytest.raises(TrajectoryError, match="is a copy of"):
        analysis.open_comparison([runs[0], exported])


def test_a_rerun_of_a_seed_hides_behind_no_other_learning_rate(tmp_path: Path) -> None:
    runs = [stored(tmp_path / str(n), 0, synapses={"lr": lr}) for n, lr in enumerate((0.1, 0.2, 0.2))]
    with pytest.raises(TrajectoryError, match="same seed"):
        analysis.open_runs(runs)


# Means


def test_what_is_not_finite_is_left_out_of_every_mean_alike_and_counted() -> None:
    for bad in (math.inf, -math.inf, math.nan):
        values = [0.5, 0.7, bad]
        one = estimate(values)
        many = over_seeds(xr.DataArray(values, dims="seed"))
        assert one.mean == pytest.approx(0.6)
        assert float(many["mean"]) == one.mean
        assert float(many["half_width"]) == one.half_width
        assert (one.n, one.left_out) == (2, 1)
        assert (int(many["count"]), int(many["left_out"])) == (2, 1)


def test_a_seed_that_diverged_does_not_count_and_the_cell_says_so(tmp_path: Path) -> None:
    runs = [
        stored(tmp_path / str(seed), seed, accuracy=lambda e, s=seed: math.inf if s == 2 and e else 0.5) for seed in range(3)
    ]
    comparison = analysis.open_comparison(runs)
    (record,) = comparison.table()
    assert record["linear probe accuracy, V1 (mean)"] == 0.5
    assert record["linear probe accuracy, V1 (n)"] == 2
    assert record["linear probe accuracy before learning, V1 (n)"] == 3
    curve = comparison.over_training("CLAPP", "performance", "probe_accuracy")
    assert curve is not None
    assert curve["mean"].sel(event=20).item() == 0.5
    assert curve["count"].values.ravel().tolist() == [3, 2, 2]
    assert "(n=2)" in analysis.summarise(comparison).text(200), "the cell of the terminal"
    assert "n = 2" in verdicts(comparison)[0]


def test_a_value_that_was_lost_at_the_end_is_not_replaced_by_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with analysis.TrajectoryWriter(path) as writer:
        writer.describe({"rule": "clapp", "seed": 0, "network": DEEP})
        for name in ("retina", "V1", "V2"):
            writer.declare("performance", name, {"probe_accuracy": Variable(())})
        for event in (0, 10):
            for name, value in (("V1", 0.5 + event), ("V2", math.nan if event else 0.25), ("retina", 0.75)):
                if name != "retina" or not event:
                    writer.record("performance", name, event, event, event, {"probe_accuracy": value})
    found = analysis.open_comparison([path]).accuracies("clapp")
    assert np.isnan(found["V2"]["final"]).all(), "not 0.25, which was before learning"
    assert found["V1"]["final"].tolist() == [10.5]
    assert found["retina"]["final"].tolist() == [0.75], "pixels do not learn: they are read out once"


def test_every_cell_says_n(tmp_path: Path) -> None:
    runs = [stored(tmp_path / str(seed), seed, cosine=lambda e, s=seed: math.nan if s == 1 else 0.25) for seed in range(3)]
    comparison = analysis.open_comparison(runs)
    (record,) = comparison.table()
    for column in record:
        if column.endswith(" (mean)"):
            assert isinstance(record[column.replace(" (mean)", " (n)")], int), column
    assert record["cosine with reference, V1->V2 (n)"] == 2
    assert "0.25" in comparison._repr_html_()
    assert "(n=2)" in comparison._repr_html_()
    frame = comparison.to_dataframe()
    mine = frame[(frame["part"] == "pathway") & (frame["name"] == "V1->V2")]
    assert mine["seed"].tolist() == [0, 1, 2]
    assert mine["moments"].tolist() == [2, 0, 2]
    assert mine["cosine"].isna().tolist() == [False, True, False]


def test_the_tables_of_a_comparison_are_what_the_runs_come_down_to(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{rule}{seed}", rule, seed) for rule in ("clapp", "lazy") for seed in range(2)]
    comparison = analysis.open_comparison(runs)
    dataset = comparison.to_dataset()
    assert dataset["cosine"].sel(rule="lazy", seed=1, pathway="V1->V2").item() == pytest.approx(0.51)
    assert dataset["probe_accuracy"].sel(rule="clapp", seed=0, population="V2").item() == pytest.approx(0.6)
    assert dataset["probe_accuracy_before"].sel(rule="clapp", seed=1, population="V2").item() == pytest.approx(0.51)
    assert dataset["drift"].sel(rule="clapp", seed=0, pathway="retina->V1").item() == pytest.approx(2)
    assert dataset["seconds"].sel(rule="lazy", seed=1).item() == 2.5
    frame = comparison.to_dataframe()
    assert len(frame) == 2 * 2 * (2 + 3), "rules x seeds x (pathways + populations)"
    assert frame["label"].unique().tolist() == ["CLAPP", "LAZY"]
    assert not frame.duplicated(["rule", "seed", "part", "name"]).any()
    hostile = analysis.open_comparison([stored(tmp_path / "h", label="<script>alert(1)</script>")])
    assert "<script>" not in hostile._repr_html_()


# Runs that stopped


def test_a_run_that_stopped_is_not_after_learning(tmp_path: Path) -> None:
    whole = [stored(tmp_path / str(seed), seed, range(0, 61, 10), budget=60) for seed in (0, 1)]
    early = stored(tmp_path / "early", 2, (0, 10), accuracy=lambda event: 0.0, budget=60)
    failed = stored(tmp_path / "failed", 3, (0, 10), accuracy=lambda event: 0.0, end="failed", budget=60)
    tree = analysis.open_runs([*whole, early, failed])
    assert tree["performance"]["seed"].values.tolist() == [0, 1]
    left = json.loads(tree.attrs["left_out"])
    assert [(entry["seed"], entry["why"]) for entry in left] == [(2, "stopped at event 10 of 60"), (3, "failed")]
    with pytest.raises(
        TrajectoryError, match=r"2 of 4 runs have not finished \(.*early: stopped at event 10 of 60, and 1 more"
    ):
        analysis.open_runs([*whole, early, failed], unfinished="refuse")
    with pytest.raises(TrajectoryError, match=r"unfinished='keep' opens them"):
        analysis.open_runs([early])
    assert analysis.open_runs([*whole, early], unfinished="keep")["performance"].sizes["seed"] == 3
    with pytest.raises(ValueError, match="expected 'leave out', 'keep' or 'refuse'"):
        analysis.open_runs(whole, unfinished="ignore")  # type: ignore[arg-type]
    comparison = analysis.open_comparison([*whole, early, failed])
    final = comparison.accuracies("CLAPP")["V1"]["final"]
    assert final[:2].tolist() == [pytest.approx(1.1)] * 2
    assert np.isnan(final[2:]).all()
    (record,) = comparison.table()
    assert record["linear probe accuracy, V1 (n)"] == 2
    assert np.isnan(comparison.to_dataset()["drift"].sel(seed=[2, 3])).all()
    assert "stopped at event 10 of 60: CLAPP seed 2" in comparison.unfinished()
    assert "failed: CLAPP seed 3" in comparison.unfinished()


def test_the_command_line_leaves_stopped_runs_out_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [stored(tmp_path / str(seed), seed, range(0, 61, 10), budget=60) for seed in (0, 1)]
    early = stored(tmp_path / "early", 2, (0, 10), accuracy=lambda event: 0.0, budget=60)
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, [*whole, early]), "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "1 of 3 runs have not finished (stopped at event 10 of 60: CLAPP seed 2)" in said
    assert "1 of 3 runs have not finished" in page.read_text()
    assert main(["report", str(early), "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert "not finished" in said
    assert "better than before" not in said, "nothing is after learning yet"


def test_recorders_that_do_not_meet_the_budget_leave_no_run_out(tmp_path: Path) -> None:
    run = stored(tmp_path / "run", 0, (0, 18, 36, 54), budget=60)
    assert analysis.open_runs([run])["performance"]["event"].values[-1] == 54
    with pytest.raises(TrajectoryError, match="stopped at event 36 of 60"):
        analysis.open_runs([stored(tmp_path / "other", 0, (0, 18, 36), budget=60)])


def test_a_killed_run_is_not_running_for_ever(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = python(
        """
        writer = TrajectoryWriter(sys.argv[1], segment_records=1)
        writer.describe({**CONFIGURATION, "label": "CLAPP"})
        declare(writer)
        for event in itertools.count():
            record(writer, event)
            if event == 5:
                print("ready", flush=True)
            time.sleep(0.05)
        """,
        run,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    assert analysis.manifest(run)["state"] == "running"
    file = analysis.export(run, tmp_path / "running.nc")
    process.send_signal(signal.SIGKILL)
    process.wait()
    about = analysis.manifest(run)
    assert about["state"] == "died"
    assert "has gone without ending the run" in about["reason"]
    assert "died" in analysis.open_comparison([run]).unfinished()
    with pytest.raises(TrajectoryError, match=r"died: process .* has gone"):
        analysis.open_runs([run])
    assert "running when it was exported" in analysis.open_comparison([file]).unfinished()
    with pytest.raises(TrajectoryError, match="running when it was exported"):
        analysis.open_runs([file])


# Moments


def test_seeds_recorded_at_different_events_are_all_drawn(tmp_path: Path) -> None:
    runs = [
        stored(tmp_path / "a", 0, (0, 10, 20), accuracy=lambda e: 1.0, cosine=lambda e: 0.1),
        stored(tmp_path / "b", 1, (0, 5, 15, 20, 25), accuracy=lambda e: 3.0, cosine=lambda e: 0.3),
    ]
    tree = analysis.open_runs(runs)
    assert tree["performance"]["event"].values.tolist() == [0, 5, 10, 15, 20, 25]
    assert tree["performance"]["observers_seen"].values.tolist() == [0, 40, 80, 120, 160, 200], "x is never missing"
    assert tree["performance"]["observers_seen"].dtype.kind == "i"
    comparison = analysis.open_comparison(runs)
    curve = comparison.over_training("CLAPP", "performance", "probe_accuracy")
    assert curve is not None
    assert curve["mean"].values.ravel().tolist() == [2, 3, 1, 3, 2, 3]
    assert curve["count"].values.ravel().tolist() == [2, 1, 1, 1, 2, 1]
    drift = comparison.drift("CLAPP")
    assert drift is not None
    assert np.isfinite(drift["observers_seen"].values).all()
    figure = alignment_figure(comparison)
    assert figure is not None
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "CLAPP"]
    assert list(line.get_xdata()) == [40, 80, 120, 160, 200], "the events of both seeds"
    assert "n = 1 to 2" in figure.legends[0].get_title().get_text()
    assert drift_figure(comparison) is not None


def test_moments_of_rules_with_other_batches_are_their_own(tmp_path: Path) -> None:
    runs = [
        stored(tmp_path / "a", 0, (0, 10, 20), observers=8),
        stored(tmp_path / "b", 0, (0, 15, 30), observers=64, rule="bp", label="BP"),
    ]
    tree = analysis.open_runs(runs)
    seen = tree["performance"]["observers_seen"]
    assert seen.dims == ("rule", "event")
    assert seen.sel(rule="clapp").values.tolist() == [0, 80, 120, 160, 240]
    assert seen.sel(rule="bp").values.tolist() == [0, 640, 960, 1280, 1920]
    comparison = analysis.open_comparison(runs)
    for label, x in (("CLAPP", [0, 80, 160]), ("BP", [0, 960, 1920])):
        curve = comparison.over_training(label, "performance", "loss")
        assert curve is not None
        assert curve["observers_seen"].values.tolist() == x, "no event of the other rule"


def test_pathways_recorded_at_different_events_keep_their_x(tmp_path: Path) -> None:
    with analysis.TrajectoryWriter(tmp_path / "run") as writer:
        writer.describe({"rule": "clapp", "label": "CLAPP", "seed": 0, "network": NETWORK})
        events = {"retina->V1": (0, 10, 20), "V1->V2": (0, 4, 20, 24)}
        for name in events:
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        for event in sorted({event for some in events.values() for event in some}):
            for name in [name for name, some in events.items() if event in some]:
                writer.record("weights", name, event, event * 0.5, event * 8, {"weight": np.full((2, 2), 1.0 + event)})
    drift = weight_drift(analysis.open_trajectory(tmp_path / "run"))
    assert drift["snapshot"].values.tolist() == [0, 4, 10, 20, 24]
    assert drift["observers_seen"].values.tolist() == [0, 32, 80, 160, 192]
    assert np.isnan(drift.sel(snapshot=4, pathway="retina->V1"))
    assert drift.sel(snapshot=24, pathway="V1->V2") == 24


def test_records_of_ones_own_at_different_events_are_drawn_where_they_are(tmp_path: Path) -> None:
    for seed, events in ((0, (0, 10)), (1, (0, 5, 20))):
        with analysis.TrajectoryWriter(tmp_path / str(seed)) as writer:
            writer.describe({"rule": "clapp", "label": "CLAPP", "seed": seed, "network": NETWORK})
            writer.declare("rates", "V1", {"rate": Variable(())})
            for event in events:
                writer.record("rates", "V1", event, event, event * 8, {"rate": float(event)})
    (drawn,) = own_figures(analysis.open_comparison([tmp_path / "0", tmp_path / "1"]))
    (line,) = [line for line in drawn[2].axes[0].lines if line.get_label() == "CLAPP"]
    assert list(line.get_xdata()) == [0, 40, 80, 160]
    assert list(line.get_ydata()) == [0, 5, 10, 20]


def test_arrays_side_by_side_say_when_every_moment_was() -> None:
    one = xr.DataArray([1.0, 2.0], {"event": [0, 2], "time": ("event", [0.0, 1.0])}, ["event"])
    other = xr.DataArray([3.0], {"event": [1], "time": ("event", [0.5])}, ["event"])
    found = side_by_side([one, other], xr.Variable("seed", [4, 7]))
    assert found["time"].values.tolist() == [0, 0.5, 1]
    assert found.sel(seed=7, event=1) == 3


def test_a_mean_over_training_says_over_how_many_moments(tmp_path: Path) -> None:
    """After a lesion at event 20 the rule proposes nothing, so that no cosine can be measured."""
    runs = [stored(tmp_path / str(s), s, range(0, 51, 10), cosine=lambda e: 0.5 if e <= 20 else math.nan) for s in range(2)]
    comparison = analysis.open_comparison(runs)
    (record,) = comparison.table()
    assert record["cosine with reference, V1->V2 (mean)"] == 0.5
    assert record["moments of that mean, V1->V2"] == 2
    assert record["moments recorded, V1->V2"] == 5
    (said,) = moments_in_words(comparison)
    assert "CLAPP retina->V1 2 of 5, V1->V2 2 of 5" in said
    assert said in analysis.summarise(comparison).sentences
    whole = analysis.open_comparison([stored(tmp_path / "whole")])
    assert moments_in_words(whole) == []
