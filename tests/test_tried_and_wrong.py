"""What was tried and gave a wrong answer once, and its siblings: each is right, or is refused in a line, now."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from stored import python
from test_analysis import NETWORK, write_run

import analysis
from analysis.alignment import alignment_over_training, why_untrusted
from analysis.distances import weight_drift
from analysis.figures import FIGURES, alignment_figure, drift_figure, loss_figure, probe_figure
from analysis.own_figures import own_figures
from analysis.side_by_side import side_by_side
from analysis.statistics import estimate, over_seeds
from analysis.summary import left_out_in_words, moments_in_words, verdicts
from neurossl.errors import TrajectoryError
from neurossl.store import Variable
from protocols.cli import main
from protocols.harness import command

DEEP = {
    "populations": [{"name": "retina", "input": True}, {"name": "V1"}, {"name": "V2"}],
    "pathways": [
        {"name": "retina->V1", "kind": "feedforward"},
        {"name": "V1->V2", "kind": "feedforward"},
        {"name": "V2=>V1", "kind": "feedback", "plastic": True},
        {"name": "V2=>V2", "kind": "feedback", "plastic": False},
    ],
}


def stored(
    path: Path,
    seed: int = 0,
    events: Any = (0, 10, 20),
    accuracy: Any = lambda event: 0.5 + event / 100,
    cosine: Any = lambda event: 0.4,
    end: str | None = "finished",
    observers: int = 8,
    trust: bool = True,
    **about: Any,
) -> Path:
    """Store a run with chosen events, accuracies and cosines; ``end=None`` leaves it as it is when its process is killed."""
    writer = analysis.TrajectoryWriter(path)
    writer.describe({"rule": "clapp", "label": "CLAPP", "seed": seed, "network": DEEP, "reference": "BP", **about})
    names = [p["name"] for p in (about.get("network", DEEP) or DEEP)["pathways"]]
    measures = ["cosine", "norm_ratio", *(["trustworthy"] if trust else [])]
    for name in names:
        writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        writer.declare("alignment", name, dict.fromkeys(measures, Variable(())))
    writer.declare("performance", "V1", dict.fromkeys(("probe_accuracy", "loss"), Variable(())))
    for event in events:
        at = {"event": event, "time": event * 0.5, "observers_seen": event * observers}
        for name in names:
            if event == 0 or "V2=>V2" not in name:
                writer.record("weights", name, **at, values={"weight": np.full((2, 3), 1.0 + event / 10)})
            if event and "=>" not in name:
                found = {"cosine": cosine(event), "norm_ratio": 2.0, "trustworthy": True}
                writer.record("alignment", name, **at, values={key: found[key] for key in measures})
        values = {"probe_accuracy": accuracy(event), "loss": 1 / (1 + event)}
        writer.record("performance", "V1", **at, values=values)
    if end is not None:
        writer.close(end, seconds=1.0)
    else:
        writer.flush() if hasattr(writer, "flush") else writer.close("interrupted")
    return path


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


# Trust


def test_alignment_without_trust_is_shown_and_counts_as_not_judged(tmp_path: Path) -> None:
    run = stored(tmp_path / "run", trust=False)
    found = alignment_over_training(analysis.open_trajectory(run))
    assert found.attrs["masked"] == 0
    assert found.attrs["unjudged"] == 4
    assert found["cosine"].sel(pathway="V1->V2").values[1:].tolist() == [0.4, 0.4]
    comparison = analysis.open_comparison([run])
    assert comparison.mean_alignment("CLAPP")["V1->V2"].mean == 0.4
    assert alignment_figure(comparison) is not None
    assert "Alignment with backprop" in analysis.write_report(comparison, tmp_path / "page.html").read_text()
    mixed = analysis.open_runs([run, stored(tmp_path / "judged", 1)])
    trusted = mixed["alignment"]["trustworthy"].sel(event=10, pathway="V1->V2").values.ravel()
    assert np.isnan(trusted[0])
    assert trusted[1] == 1


def test_nothing_recorded_is_not_untrusted(tmp_path: Path) -> None:
    tree = analysis.open_runs([stored(tmp_path / "run")])
    assert np.isnan(tree["alignment"]["trustworthy"].sel(event=0)).all()
    assert alignment_over_training(tree).attrs["masked"] == 0
    assert analysis.open_comparison([tmp_path / "run"]).untrusted("CLAPP") == {}


def test_why_a_comparison_is_not_trusted_is_told() -> None:
    flags = {
        "flag_values": [0, 1, 2, 3, 4],
        "flag_meanings": "trusted not_finite reference_below_its_floor activity_grows drift",
    }
    table = xr.Dataset(
        {
            "cosine": (("event", "pathway"), [[0.5, 0.2], [0.1, np.nan], [0.3, 0.4]]),
            "trustworthy": (("event", "pathway"), [[1.0, 0.0], [0.0, np.nan], [0.0, 1.0]]),
            "untrusted_because": (("event", "pathway"), [[0.0, 4.0], [2.0, np.nan], [4.0, 0.0]], flags),
        }
    )
    assert why_untrusted(table) == {"drift": 2, "reference below its floor": 1}
    assert why_untrusted(table.drop_vars("untrusted_because")) == {"unknown": 3}
    assert why_untrusted(table.drop_vars(["untrusted_because", "trustworthy"])) == {}
    tree = xr.DataTree.from_dict({"/alignment": table})
    hidden = alignment_over_training(tree)
    assert hidden.attrs["masked"] == 3
    assert np.isnan(hidden["cosine"].values[[0, 1, 2], [1, 0, 0]]).all()
    assert hidden["untrusted_because"].values[0, 1] == 4, "the reason stays"


def test_a_page_tells_how_many_are_left_out_and_why(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "clapp", 0)
    (line, *_) = left_out_in_words(analysis.open_comparison([run]))
    assert line == "CLAPP: 1 comparisons of updates are not trusted and are left out (1 for reasons not stored)."


def test_a_manifest_without_a_network_makes_no_empty_page(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with analysis.TrajectoryWriter(run) as writer:
        writer.describe({"rule": "clapp", "label": "CLAPP", "seed": 0})
        for name in ("retina->V1", "V1->V2", "V2=>V1"):
            writer.declare("alignment", name, {"cosine": Variable(())})
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        writer.declare("performance", "V1", {"probe_accuracy": Variable(()), "loss": Variable(())})
        for event in (0, 10):
            for name in ("retina->V1", "V1->V2", "V2=>V1"):
                writer.record("alignment", name, event, event, event, {"cosine": 0.5})
                writer.record("weights", name, event, event, event, {"weight": np.full((2, 2), 1.0 + event)})
            writer.record("performance", "V1", event, event, event, {"probe_accuracy": 0.5, "loss": 1.0})
    comparison = analysis.open_comparison([run])
    assert comparison.pathways == ["retina->V1", "V1->V2"]
    assert comparison.feedback == ["V2=>V1"]
    assert comparison.populations == ["V1"]
    (record,) = comparison.table()
    assert record["cosine with reference, V1->V2 (mean)"] == 0.5
    assert record["linear probe accuracy, V1 (mean)"] == 0.5
    for name, (_, draw) in FIGURES.items():
        assert draw(comparison) is not None or name == "norm_ratio", name
    page = analysis.write_report(comparison, tmp_path / "page.html").read_text()
    assert page.count("<figure ") >= 5


# Names


def test_a_mistyped_pathway_is_refused_with_those_there_are(tmp_path: Path) -> None:
    run = stored(tmp_path / "run")
    for tree in (analysis.open_trajectory(run), analysis.open_runs([run])):
        with pytest.raises(TrajectoryError, match=r"no weights of 'V1-V2' were recorded; there are those of .*V1->V2"):
            weight_drift(tree, ["V1-V2"])
        with pytest.raises(TrajectoryError, match="V1-V2"):
            weight_drift(tree, ["V1->V2", "V1-V2"])
        with pytest.raises(TrajectoryError, match="no pathway was asked for"):
            weight_drift(tree, [])
        assert weight_drift(tree, ["V1->V2"])["pathway"].values.tolist() == ["V1->V2"]


def test_feedback_pathways_are_listed_and_drawn(tmp_path: Path) -> None:
    comparison = analysis.open_comparison([stored(tmp_path / str(seed), seed) for seed in range(2)])
    assert comparison.pathways == ["retina->V1", "V1->V2"]
    assert comparison.feedback == ["V2=>V1", "V2=>V2"]
    drift = comparison.drift("CLAPP")
    assert drift is not None
    assert drift["pathway"].values.tolist() == ["retina->V1", "V1->V2", "V2=>V1", "V2=>V2"], "the order of the network"
    figure = drift_figure(comparison, feedback=True)
    assert figure is not None
    assert [panel.get_title() for panel in figure.axes] == ["V2 ⇒ V1"], "feedback that is fixed has nothing to show"
    page = analysis.write_report(comparison, tmp_path / "page.html").read_text()
    assert "How far the feedback weights have moved" in page
    assert comparison.to_dataset()["drift"].sel(pathway="V2=>V1").notnull().all()


# Figures


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_bears_its_own_title_and_the_interval(tmp_path: Path, name: str) -> None:
    runs = [
        stored(tmp_path / str(s), s, accuracy=lambda e, s=s: 0.5 + s / 10, cosine=lambda e, s=s: s / 10) for s in range(3)
    ]
    comparison = analysis.open_comparison(runs)
    figure = FIGURES[name][1](comparison)
    assert figure is not None
    word = {
        "alignment": "alignment",
        "probes": "probe",
        "drift": "distance",
        "feedback_drift": "feedback",
        "norm_ratio": "size",
    }
    assert word.get(name, "loss") in figure._suptitle.get_text()
    titles = [FIGURES[other][1](comparison)._suptitle.get_text() for other in FIGURES]
    assert len(set(titles)) == len(FIGURES), "no two figures have the same title"
    said = figure.legends[0].get_title().get_text()
    assert "95 % interval" in said
    assert "n = 3" in said
    assert "standard error" not in said


def test_bands_are_the_95_percent_interval(tmp_path: Path) -> None:
    values = [0.1, 0.4, 0.6]
    runs = [stored(tmp_path / str(seed), seed, cosine=lambda e, v=v: v) for seed, v in enumerate(values)]
    figure = alignment_figure(analysis.open_comparison(runs))
    assert figure is not None
    (band,) = figure.axes[1].collections
    edges = band.get_paths()[0].vertices[:, 1]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (edges.min(), edges.max()) == pytest.approx((low, high))


def test_what_is_one_by_construction_is_faint_and_the_figure_says_so(tmp_path: Path) -> None:
    runs = [stored(tmp_path / str(seed), seed, by_construction=["V1->V2"]) for seed in range(3)]
    comparison = analysis.open_comparison(runs)
    assert comparison.by_construction("CLAPP") == ["V1->V2"]
    (record,) = comparison.table()
    assert record["cosine of 1 by construction"] == "V1->V2"
    figure = alignment_figure(comparison)
    assert figure is not None
    below, top = (next(line for line in panel.lines if line.get_label() == "CLAPP") for panel in figure.axes)
    assert below.get_alpha() == 1
    assert top.get_alpha() < 0.5
    assert "faint: 1 by construction" in figure.legends[0].get_title().get_text()
    assert "†" in comparison._repr_html_()


def test_no_page_has_standard_errors_beside_intervals(tmp_path: Path) -> None:
    comparison = analysis.open_comparison([stored(tmp_path / str(seed), seed) for seed in range(3)])
    for draw in (alignment_figure, probe_figure, drift_figure, loss_figure):
        figure = draw(comparison)
        assert figure is not None
        words = [t.get_text() for t in figure.legends[0].get_texts()] + [figure.legends[0].get_title().get_text()]
        assert not any("standard error" in word for word in words)


def test_no_protocol_draws_standard_errors() -> None:
    """All bars of all pages are of one kind, so that those of a protocol can be held beside those of the curves below it."""
    for script in (Path(__file__).parents[1] / "protocols").rglob("*.py"):
        assert "standard error" not in script.read_text(), script


# Commands


def run_rules(out: Path, *words: str) -> int:
    return main(["run", "compare_rules", "--out", str(out), "--tiny", "--workers", "1", *words])


def again(page: Path) -> list[str]:
    """Return the commands that a page says make it again."""
    found = re.findall(r"<pre><code>(.*?)</code></pre>", page.read_text(), re.S)
    return [line.replace("&amp;", "&").replace("&#39;", "'").replace("&#34;", '"') for line in found]


@pytest.mark.slow
def test_the_command_that_makes_a_page_again_has_every_option(tmp_path: Path) -> None:
    asked = ("--rules", "ff", "--seed", "3", "--lr", "0.01", "--network", "mlp:12-12")
    assert run_rules(tmp_path / "a", *asked) == 0
    (line,) = again(tmp_path / "a" / "report.html")
    for option, value in zip(asked[::2], asked[1::2], strict=True):
        assert f"{option} {value}" in line
    assert run_rules(tmp_path / "b", "--rules", "ff", "--seed", "4", "--lr", "0.01", "--network", "mlp:12-12") == 0
    page = tmp_path / "both.html"
    runs = [str(tmp_path / "a" / "ff" / "seed-3"), str(tmp_path / "b" / "ff" / "seed-4")]
    assert main(["compare", *runs, "--out", str(page)]) == 0
    lines = again(page)
    assert len(lines) == 2, "each run has its own"
    assert "--seed 3" in lines[0]
    assert "--seed 4" in lines[1]
    assert (
        run_rules(tmp_path / "a", "--rules", "ff", "--seed", "5", "--lr", "0.01", "--network", "mlp:12-12", "--resume") == 0
    )
    (line,) = again(tmp_path / "a" / "report.html")
    assert "--seed 3" in line
    assert "--seed 5" in line
    made = tmp_path / "made"
    for part in line.replace(str(tmp_path / "a"), str(made)).split(" && "):
        assert main(shlex.split(part)[1:]) == 0
    seeds = [run.about["seed"] for run in analysis.open_comparison(made).runs]
    assert seeds == [3, 5], "the command makes what the page is of"


GROWING = ("rules", "seeds", "budget")
RUN = ["neurossl", "run", "p", "--out", "o"]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (["--seed", "3", "--lr", "0.1"], ["--resume"], ["--seed", "3", "--lr", "0.1"]),
        (["--seeds", "3"], ["--seeds", "5", "--resume"], ["--seeds", "5"]),
        (["--seeds", "5"], ["--seeds", "3", "--resume"], ["--seeds", "5"]),
        (["--rules", "a,b"], ["--rules", "b,c", "--resume"], ["--rules", "a,b,c"]),
        (["--budget", "10"], ["--budget", "20", "--resume"], ["--budget", "20"]),
        (["--seed=3"], ["--seed", "3", "--resume"], ["--seed", "3"]),
        (["--seed", "3"], ["--seed", "4", "--resume"], None),
        (["--seed", "3"], ["--seeds", "4", "--resume"], None),
        (["--lr", "0.1"], ["--rules", "c", "--resume"], None),
        (["--lr", "0.1"], ["--seeds", "2", "--resume"], None),
    ],
)
def test_a_resumed_command_drops_nothing(before: list[str], now: list[str], expected: list[str] | None) -> None:
    found = command.joined([*RUN, *before], [*RUN, *now], GROWING)
    assert found == ([*RUN, *expected] if expected else [*RUN, *before, "&&", *RUN, *now])
    assert command.joined(found, [*RUN, *now], GROWING) == found, "written twice in a session"


def test_what_goes_on_without_a_command_keeps_the_one_known() -> None:
    assert command.joined([*RUN, "--seed", "3"], [], GROWING) == [*RUN, "--seed", "3"]
    assert command.joined([], [*RUN, "--seed", "3"], GROWING) == [*RUN, "--seed", "3"]
    both = command.joined([*RUN, "--seed", "3"], ["python", "more.py"], GROWING)
    assert both == [*RUN, "--seed", "3", "&&", "python", "more.py"]


def test_a_protocol_called_later_was_not_given_the_command_before() -> None:
    outside = command.given()
    with command.remembered(["run", "p", "--seed", "3"]):
        assert command.given() == ["neurossl", "run", "p", "--seed", "3"]
    assert command.given() == outside


def test_provenance_is_of_all_runs(tmp_path: Path) -> None:
    runs = [
        stored(tmp_path / "a", 0, label="A", dataset="digits", device="cpu", command=["neurossl", "run", "--lr", "0.1"]),
        stored(tmp_path / "b", 0, label="B", dataset="mnist", device="cuda", command=["neurossl", "run", "--lr", "a b"]),
    ]
    page = analysis.write_report(analysis.open_comparison(runs), tmp_path / "page.html")
    assert again(page) == ["neurossl run --lr 0.1", "neurossl run --lr 'a b'"]
    for told in ("digits; mnist", "cpu; cuda"):
        assert told in page.read_text()


def test_a_process_without_a_name_is_asked_for_its_life(tmp_path: Path) -> None:
    """A run on another host, the last sign of life of which is a time without a zone or no time at all, has died as well."""
    from analysis.storage import why_dead

    process = {"host": "elsewhere", "pid": 1, "started": ""}
    for seen in ("2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00", "yesterday"):
        assert why_dead({"process": process, "last_sign_of_life": seen}), seen
    assert why_dead({"process": process})
    assert why_dead({"state": "running"}), "a run of which nobody says who writes it"
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    assert not why_dead({"process": process, "last_sign_of_life": now})
    assert not why_dead({"process": analysis_process(), "last_sign_of_life": "2020-01-01T00:00:00+00:00"})


def analysis_process() -> dict[str, Any]:
    from neurossl.process import ProcessId

    return ProcessId.current().describe()


def test_reading_loads_no_torch(tmp_path: Path) -> None:
    run = stored(tmp_path / "run")
    code = f"import sys, analysis; analysis.open_runs([{str(run)!r}]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr
