"""The gain of spatial dependence per network: paired by seed, corrected as one family, beside the plain network."""

import json
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.inference import holm, paired_difference
from protocols.cli import main
from protocols.images.readouts import TOGETHER
from protocols.images.report import PERCENT
from protocols.images.tasks import best_rates
from protocols.spatial.results import CONTEXTS, GAIN, METHODS, NAMES, Scores, decisions_of, label_of

PLAIN, OTHER = "residual:8:none", "tokens:4x8"
BY_SEED = {
    (PLAIN, "clapp++gap"): [0.40, 0.44, 0.41, 0.43],
    (PLAIN, "clapp++"): [0.50, 0.55, 0.52, 0.53],
    (OTHER, "clapp++gap"): [0.40, 0.41, 0.43, 0.39],
    (OTHER, "clapp++"): [0.41, 0.42, 0.45, 0.40],
    (PLAIN, "clapp-dfb"): [0.40, 0.44, 0.41],
    (PLAIN, "clapp++dfb"): [0.39, 0.47, 0.40],
}


def scores() -> Scores:
    """Return accuracies that were made up: the gain is 10 points in the plain network, and 1 in the other."""
    found = Scores.__new__(Scores)
    found.found = {
        label_of(*where): {"probe_accuracy": {TOGETHER: dict(enumerate(values))}} for where, values in BY_SEED.items()
    }
    return found


def test_gains_and_their_differences_are_paired_by_seed_and_one_family() -> None:
    gains, differences = decisions_of(scores(), [PLAIN, OTHER])
    assert [(c.asked.place, c.asked.what) for c in gains] == [
        (PLAIN, "lateral context"),
        (OTHER, "lateral context"),
        (PLAIN, "direct feedback"),
    ]
    assert [(c.asked.place, c.asked.what) for c in differences] == [(OTHER, "lateral context")]
    percent = {where: 100 * np.array(values) for where, values in BY_SEED.items()}
    plain = percent[PLAIN, "clapp++"] - percent[PLAIN, "clapp++gap"]
    other = percent[OTHER, "clapp++"] - percent[OTHER, "clapp++gap"]
    feedback = percent[PLAIN, "clapp++dfb"] - percent[PLAIN, "clapp-dfb"]
    for claim, values in zip([*gains, *differences], (plain, other, feedback, other - plain), strict=True):
        expected = paired_difference(values, np.zeros(len(values)))
        assert claim.difference.mean == pytest.approx(values.mean())
        assert claim.difference.half_width == pytest.approx(float(expected["half_width"]))
        assert claim.p == pytest.approx(float(expected["p"]))
    family = [*gains, *differences]
    assert np.allclose([c.p_holm for c in family], holm(np.array([c.p for c in family])))
    assert {c.family for c in family} == {4}
    assert [c.is_decided for c in family] == [True, True, False, True]
    assert gains[0].verdict.startswith("+10.5 points (95 % interval +9.6 to +11.4")
    assert "over 4 pairs): undecided" in gains[2].verdict


def test_nothing_is_decided_by_one_seed() -> None:
    one = scores()
    one.found = {
        label: {"probe_accuracy": {TOGETHER: {0: v["probe_accuracy"][TOGETHER][0]}}} for label, v in one.found.items()
    }
    gains, differences = decisions_of(one, [PLAIN, OTHER])
    assert gains
    assert all(c.verdict.endswith("(n = 1: no interval): nothing is claimed") for c in (*gains, *differences))
    assert not any(c.is_decided for c in (*gains, *differences))


def test_each_method_in_each_network_has_the_rate_that_is_best_there() -> None:
    tried = [
        {"method": label_of(network, "clapp++"), "learning rate": rate, PERCENT: accuracy}
        for network, found in {PLAIN: (40.0, 42.0, 41.0), OTHER: (45.0, 44.0, 43.0)}.items()
        for rate, accuracy in zip((3e-4, 1e-3, 3e-3), found, strict=True)
    ]
    assert best_rates(tried) == {label_of(PLAIN, "clapp++"): 1e-3, label_of(OTHER, "clapp++"): 3e-4}


@pytest.mark.slow
def test_every_method_learns_in_every_network_from_the_same_weights(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--networks", "conv:4-4M,tokens:4x4", "--dataset", "digits", "--images", "80", "--tiny"]
    assert main(["run", "spatial_dependence", "--out", str(out), *words]) == 0
    results = json.loads((out / "results.json").read_text())
    table = results["table"]
    assert [(r["network"], r["rule"]) for r in table] == [(n, m) for n in ("conv:4-4M", "tokens:4x4") for m in METHODS]
    gains = {(r["network"], r["context"]): r[f"{GAIN} (mean)"] for r in results["data"]["gains"]}
    tested = {(r["network"], r["method"]): r["test accuracy, all populations (%) (mean)"] for r in table}
    assert set(gains) == {(r["network"], context) for r in table for context in CONTEXTS}
    for (network, context), gain in gains.items():
        with_it, without = (tested[network, NAMES[rule]] for rule in CONTEXTS[context])
        assert gain == pytest.approx(with_it - without)
    folders = [path for path in out.iterdir() if (path / "clapp++").is_dir() and path.name != "trials"]
    assert len(folders) == 2
    for folder in folders:
        runs = [folder / method / "seed-0" for method in METHODS]
        assert {analysis.manifest(run)["protocol"] for run in runs} == {"spatial_dependence"}
        first = [analysis.open_trajectory(run)["weights/retina_to_V1/weight"].values[0] for run in runs]
        assert all(np.array_equal(one, first[0]) for one in first), "all begin with the same weights"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--networks", "conv:8,mlp:8"], "networks: mlp:8 has populations without places (V1); expected maps"),
        (["--networks", "conv:8,conv:8"], "networks: expected one or more different ones"),
        (["--networks", "tokens:5x8"], "patches of 5x5 pixels do not tile an image of 32x32"),
        (["--networks", "tokens:8"], "network 'tokens:8': expected mlp:256-256-256-256"),
        (["--rates", "0.1,0.1"], "rates: expected one or more different learning rates"),
        (["--epochs", "0"], "epochs: expected a whole number from 1"),
        (["--test-images", "0"], "test images: expected a whole number from 1"),
    ],
)
def test_bad_options_are_one_line(words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "spatial_dependence", "--out", str(tmp_path / "run"), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert named in line
    assert not (tmp_path / "run").exists()
