"""What pages, figures and commands told wrongly once: trust, names, intervals and the way to make them again."""

import html
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from test_analysis import write_run
from tried import stored

import analysis
from analysis.alignment import alignment_over_training, why_untrusted
from analysis.distances import weight_drift
from analysis.figures import FIGURES, alignment_figure, drift_figure, loss_figure, probe_figure
from analysis.summary import left_out_in_words
from neurossl.errors import TrajectoryError
from neurossl.store import Variable
from protocols.cli import main
from protocols.harness import command

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
    drawn = set(re.findall(r'<figure id="figure-([\w-]+)"', page))
    assert {name.replace("_", "-") for name in FIGURES} - {"norm-ratio"} <= drawn


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
    _, _, below = page.read_text().partition("<h3>To make it again</h3>")
    return [html.unescape(line) for line in re.findall(r"<pre><code>(.*?)</code></pre>", below, re.S)]


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
