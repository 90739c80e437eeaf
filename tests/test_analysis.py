"""Analysis: measures against closed forms, statistics against scipy, probes, reports of runs made by the real writer."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.datasets import load_digits

import analysis
from analysis.alignment import alignment_of_updates, alignment_over_training, weight_drift
from analysis.comparison import Comparison
from analysis.probes import linear_probe, nearest_neighbour_probe
from analysis.statistics import estimate, over_seeds
from neurossl.errors import OptionError, TrajectoryError
from neurossl.measures import TRUSTED, UNTRUSTED_BECAUSE, compare_updates, cosine, untrusted_because
from neurossl.store import Variable

finite = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-6)
updates = arrays(np.float64, (3, 4), elements=finite)


@settings(max_examples=50, deadline=None)
@given(updates, updates, st.floats(1e-3, 1e3))
def test_measures_keep_their_bounds_and_do_not_feel_scale(d: np.ndarray, g: np.ndarray, scale: float) -> None:
    one = compare_updates(d, g)
    if not (d.any() and g.any()):
        assert math.isnan(one["cosine"])
        return
    assert abs(one["cosine"]) <= 1 + 1e-12
    assert 0 <= one["angle"] <= 180
    assert 0 <= one["sign_agreement"] <= 1
    other = compare_updates(d * scale, g)
    assert other["cosine"] == pytest.approx(one["cosine"], abs=1e-9)
    assert other["norm_ratio"] == pytest.approx(scale * one["norm_ratio"], rel=1e-9)
    law = 1 + one["norm_ratio"] ** 2 - 2 * one["norm_ratio"] * one["cosine"]
    assert one["relative_error"] ** 2 == pytest.approx(law, rel=1e-6, abs=1e-9)
    tensors = compare_updates(torch.tensor(d), torch.tensor(g))
    assert tensors["cosine"] == pytest.approx(one["cosine"], abs=1e-12)
    assert tensors["relative_error"] == pytest.approx(one["relative_error"], rel=1e-9, abs=1e-12)
    assert tensors["sign_agreement"] == one["sign_agreement"]


def test_measures_in_known_cases() -> None:
    d, g = np.array([3.0, 0, -4]), np.array([0.0, 0, -2])
    found = compare_updates(d, g)
    assert found["cosine"] == pytest.approx(0.8)
    assert found["angle"] == pytest.approx(math.degrees(math.acos(0.8)))
    assert found["norm_ratio"] == 2.5
    assert found["sign_agreement"] == 1.0
    assert found["relative_error"] == pytest.approx(math.hypot(3, 2) / 2)
    assert cosine(d * 1e-30, g * 1e-30) == pytest.approx(0.8), "no clamping of small norms"
    assert math.isnan(cosine(d * 0, g))
    with pytest.raises(ValueError, match="equal shapes"):
        compare_updates(d, g[:2])


def test_trust_has_its_reasons() -> None:
    good = {"reference_norm": 1.0, "activity_growth": 2.0, "stability": 0.1, "reference_stability": 0.1, "cosine": 0.5}
    assert untrusted_because(**good) == TRUSTED
    for change, reason in (
        ({"reference_norm": 1e-9}, "reference_below_its_floor"),
        ({"activity_growth": 80.0}, "activity_grows"),
        ({"stability": 0.8}, "drift_whatever_the_data"),
        ({"cosine": math.nan}, "update_zero_or_not_finite"),
    ):
        assert UNTRUSTED_BECAUSE[untrusted_because(**{**good, **change})] == reason
    early = untrusted_because(**{**good, "stability": 0.8, "reference_stability": 0.7})
    assert early == TRUSTED, "early gradients agree as well"


def test_intervals_are_students() -> None:
    values = np.array([0.1, 0.4, 0.35, 0.2])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = estimate(values)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert math.isnan(estimate([1.0]).half_width)
    assert math.isnan(estimate([]).mean)
    labelled = xr.DataArray(np.stack([values, values + 1, [np.nan, 1, np.nan, np.nan]], 1), dims=("seed", "event"))
    labelled = labelled.assign_coords(event=[0, 5, 9])
    table = over_seeds(labelled)
    assert table["half_width"].sel(event=5) == pytest.approx(found.half_width)
    assert table["mean"].sel(event=9) == 1
    assert math.isnan(table["half_width"].sel(event=9))


def test_probes_read_out_digits() -> None:
    bunch = load_digits()
    data = bunch.data[:1200], bunch.target[:1200], bunch.data[1200:], bunch.target[1200:]
    assert linear_probe(*data) > 0.9
    assert nearest_neighbour_probe(*data) > 0.9
    shuffled = np.random.default_rng(0).permutation(data[1])
    assert linear_probe(data[0], shuffled, *data[2:]) < 0.25
    scaled = data[0] * 1e4 + 7, data[1], data[2] * 1e4 + 7, data[3]
    assert linear_probe(*scaled) == pytest.approx(linear_probe(*data), abs=0.01)
    with pytest.raises(OptionError, match="NaN"):
        linear_probe(data[0] * np.nan, *data[1:])
    with pytest.raises(OptionError, match="one label each"):
        linear_probe(data[0], data[1][:3], *data[2:])
    with pytest.raises(OptionError, match="two classes"):
        linear_probe(data[0], data[1] * 0, *data[2:])
    with pytest.raises(OptionError, match="neighbours"):
        nearest_neighbour_probe(*data, neighbours=0)


NETWORK = {
    "name": "small",
    "populations": [{"name": "retina", "input": True}, {"name": "V1"}, {"name": "V2"}],
    "pathways": [{"name": "retina->V1", "kind": "feedforward"}, {"name": "V1->V2", "kind": "feedforward"}],
}


def write_run(path: Path, rule: str, seed: int, gain: float = 0.1, cos: float = 0.5, **about: Any) -> Path:
    """Store a made-up run with the real writer."""
    rng = np.random.default_rng(seed)
    configuration = {"rule": rule, "label": rule.upper(), "seed": seed, "needs": ["target"], "network": NETWORK, **about}
    with analysis.TrajectoryWriter(path) as writer:
        writer.describe({"protocol": "made up", "reference": "BP", **configuration})
        measures = ("cosine", "norm_ratio", "trustworthy", "angle")
        for name in ("retina->V1", "V1->V2"):
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
            writer.declare(
                "updates", name, {"update": Variable(("post", "pre")), "reference_update": Variable(("post", "pre"))}
            )
            writer.declare("alignment", name, dict.fromkeys(measures, Variable(())))
        for name in ("retina", "V1", "V2"):
            writer.declare("performance", name, dict.fromkeys(("loss", "probe_accuracy", "knn_accuracy"), Variable(())))
        for event in range(0, 30, 10):
            at = {"event": event, "time": event * 0.5, "observers_seen": event * 8}
            for name in ("retina->V1", "V1->V2"):
                writer.record("weights", name, **at, values={"weight": np.full((2, 3), 1.0 + event / 10)})
                update = rng.normal(size=(2, 2, 3))
                writer.record("updates", name, **at, values={"update": update[0], "reference_update": update[1]})
                if event:
                    trusted = not (name == "V1->V2" and event == 20)
                    values = {"cosine": cos + 0.01 * seed, "norm_ratio": 2.0, "angle": 60.0, "trustworthy": trusted}
                    writer.record("alignment", name, **at, values=values)
            for name in ("V1", "V2"):
                accuracy = 0.5 + 0.01 * seed + (gain + 0.001 * seed if event else 0)
                values = {"loss": 1.0 / (1 + event), "probe_accuracy": accuracy, "knn_accuracy": accuracy}
                writer.record("performance", name, **at, values=values)
            if not event:
                writer.record("performance", "retina", **at, values={"probe_accuracy": 0.3, "knn_accuracy": 0.2})
        writer.close("finished", seconds=1.5 + seed)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    entries = []
    for rule, gain, cos in (("clapp", 0.1, 0.5), ("lazy", 0.0, 0.1), ("worse", -0.2, 0.3)):
        for seed in range(3):
            write_run(folder / rule / f"seed-{seed}", rule, seed, gain, cos)
            entries.append({"rule": rule, "seed": seed, "path": f"{rule}/seed-{seed}"})
    (folder / "comparison.json").write_text(json.dumps({"schema_version": 1, "runs": entries}))
    return folder


@pytest.fixture
def comparison(runs: Path) -> Comparison:
    return analysis.open_comparison([runs])


def test_alignment_leaves_out_what_is_not_trusted(runs: Path) -> None:
    tree = analysis.open_trajectory(runs / "clapp" / "seed-1")
    found = alignment_over_training(tree)
    assert found.attrs["masked"] == 1
    assert float(found["cosine"].sel(pathway="V1->V2", event=10)) == pytest.approx(0.51)
    assert math.isnan(found["cosine"].sel(pathway="V1->V2", event=20))
    everything = alignment_over_training(tree, trusted_only=False)
    assert float(everything["cosine"].sel(pathway="V1->V2", event=20)) == pytest.approx(0.51)


def test_alignment_of_stored_updates_and_drift(runs: Path) -> None:
    tree = analysis.open_trajectory(runs / "clapp" / "seed-1")
    again = alignment_of_updates(tree)
    group = tree["updates/V1_to_V2"]
    want = cosine(group["update"][1].values, group["reference_update"][1].values)
    assert float(again["cosine"].sel(pathway="V1->V2", snapshot=10)) == want
    drift = weight_drift(tree)
    assert drift.sel(pathway="retina->V1").values == pytest.approx([0, 1, 2])
    assert drift["observers_seen"].values.tolist() == [0, 80, 160]


def test_the_table_has_one_self_explaining_record_per_rule(comparison: Comparison) -> None:
    table = {record["rule"]: record for record in comparison.table()}
    clapp = table["CLAPP"]
    assert clapp["cosine with reference, V1->V2 (mean)"] == pytest.approx(0.51)
    t = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert clapp["cosine with reference, V1->V2 (95 % half-width)"] == pytest.approx(t)
    assert clapp["linear probe accuracy, V2 (mean)"] == pytest.approx(0.611)
    assert clapp["linear probe accuracy before learning, V2 (mean)"] == pytest.approx(0.51)
    assert clapp["linear probe accuracy, raw pixels (mean)"] == pytest.approx(0.3)
    assert clapp["seconds of learning (mean)"] == pytest.approx(2.5)
    assert clapp["information needed"] == "target"
    json.dumps(list(table.values()), allow_nan=False)
    text = analysis.summarise(comparison).text(width=120)
    assert max(len(line) for line in text.splitlines()[:6]) <= 120
    assert "61.1" in text
    assert "Before learning (CLAPP, n = 3): raw pixels 30.000±0.000 %" in text


def test_verdicts_say_plainly_what_the_data_support(comparison: Comparison) -> None:
    clapp, lazy, worse, about = analysis.verdicts(comparison)
    assert clapp.startswith("CLAPP: a linear readout is better than before learning at V1 (+10.1±0.2 points), V2")
    assert clapp.endswith("(n = 3).")
    assert "not shown to differ from before learning at V1" in lazy
    assert "WORSE than before learning at V1 (-19.9±0.2 points)" in worse
    assert "Holm's correction over 6 claims" in about


def test_comparisons_are_opened_from_runs_and_folders(runs: Path, tmp_path: Path) -> None:
    mixed = analysis.open_comparison([runs / "clapp" / "seed-0", runs / "lazy" / "seed-2"])
    assert list(mixed.rules) == ["CLAPP", "LAZY"]
    with pytest.raises(TrajectoryError, match="given twice"):
        analysis.open_comparison([runs, runs / "clapp" / "seed-0"])
    with pytest.raises(TrajectoryError, match="nothing"):
        analysis.open_comparison([tmp_path / "nothing"])
    (tmp_path / "comparison.json").write_text('{"runs": [{"path": "../elsewhere"}]}')
    with pytest.raises(TrajectoryError, match="outside its folder"):
        analysis.open_comparison([tmp_path])
    (tmp_path / "comparison.json").write_text("{broken")
    with pytest.raises(TrajectoryError, match="not the index"):
        analysis.open_comparison([tmp_path])


def test_the_report_is_one_page_and_says_what_is_missing(comparison: Comparison, tmp_path: Path) -> None:
    page = analysis.write_report(comparison, tmp_path / "report.html", figures=tmp_path / "figures").read_text()
    assert "http" not in page.replace("http-equiv", "").replace("xmlns=%22http://www.w3.org/2000/svg%22", "")
    assert "CLAPP: a linear readout is better than before learning" in page
    assert "comparisons of updates are not trusted" in page
    names = ("alignment", "probes", "drift", "norm_ratio", "loss", "relation")
    written = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg", "csv")} <= written
    bare = tmp_path / "bare"
    with analysis.TrajectoryWriter(bare) as writer:
        writer.describe({"rule": "<script>alert(1)</script>", "network": NETWORK})
        writer.declare("performance", "V1", {"loss": Variable(())})
        writer.record("performance", "V1", 1, 0.5, 8, {"loss": 1.0})
    page = analysis.write_report(analysis.open_comparison([bare]), tmp_path / "bare.html").read_text()
    assert "<script>alert" not in page
    assert "Not recorded in these runs: alignment with backprop over training" in page
    with pytest.raises(OptionError, match="cannot be written"):
        analysis.write_report(comparison, tmp_path / "report.html" / "below.html")


def test_reading_and_plotting_load_neither_torch_nor_brian2(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import analysis; seconds = time.perf_counter() - t;"
        f"analysis.write_report(analysis.open_comparison([{str(runs)!r}]), {str(tmp_path / 'r.html')!r});"
        "assert not {'torch', 'torchvision', 'brian2'} & set(sys.modules); assert seconds < 1, seconds"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_neurossl_loads_no_brian2() -> None:
    code = "import sys, neurossl; neurossl.Simulation; neurossl.Network; assert 'brian2' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
