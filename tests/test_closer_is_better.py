"""Closeness to backprop and gain, over ways to carry the credit of one objective: what is measured, and what is decided."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import Refusal

import analysis
from analysis.outcomes import about_rules
from protocols import closer_is_better
from protocols.credit.closer import BELOW, BP_GAINS, KINDS, RHO, RHO_BP, Found, Group, _correct, _relation, _sentences
from protocols.credit.conditions import CARRIERS, conditions_for

WAYS = ("bp", "fa", "dfa", "pc", "local")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closer") / "run"
    closer_is_better.run(
        str(folder), networks=["mlp:12-10-8", "conv:3M-4M-6"], objectives=["infonce"], transports=WAYS, tiny=True
    )
    return folder


def test_every_network_and_objective_has_rows_for_both_measures_and_all_populations_below_the_top(out: Path) -> None:
    table = json.loads((out / "results.json").read_text())["table"]
    assert {(r["closeness"], r["population"]) for r in table} == {
        (k, p) for k in KINDS.values() for p in ("V1", "V2", BELOW)
    }
    assert {r["ways"] for r in table} == {4}
    assert {r["network"] for r in table} == {"mlp:12-10-8", "conv:3M-4M-6"}, "FA and DFA have feedback of other shapes there"
    assert len(list((out / "figures").glob("chart-*.png"))) == 2


def test_the_numbers_are_those_of_the_stored_runs(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    tree = analysis.open_runs(sorted(out.glob("mlp*/infonce-*/seed-*")))
    (rule,) = (name for name, about in about_rules(tree).items() if about["label"] == "InfoNCE, DFA, mlp:12-10-8")
    outcome = analysis.before_and_after(tree)
    gain = (outcome["after"] - outcome["before"]).sel(rule=rule, population=["V1", "V2"]).mean().item()
    ways = [r for r in results["data"]["ways"] if r["setting"] == "InfoNCE, mlp:12-10-8"]
    (way,) = (r for r in ways if r["transport"] == "DFA")
    assert way["gain (points) (mean)"] == pytest.approx(100 * gain)
    cosine = analysis.over_training(tree).sel(rule=rule, pathway=["retina->V1", "V1->V2"]).mean().item()
    assert way[KINDS["single"]] == pytest.approx(cosine)
    assert next(r for r in ways if r["transport"] == "BP")[KINDS["single"]] == 1


def group(gains: dict[str, float], cosines: dict[str, float], seeds: int = 6) -> list[dict[str, object]]:
    """Return the corrected rows of a group whose gains and cosines are what they are said to be, with a little noise."""
    noise = 0.002 * np.sin(np.arange(seeds * len(gains)) * 7).reshape(len(gains), seeds, 1)
    labels = {"transport": list(gains), "seed": np.arange(seeds), "population": [BELOW]}

    def values(of: dict[str, float]) -> xr.DataArray:
        return xr.DataArray(
            np.array(list(of.values())).reshape(-1, 1, 1) + noise, labels, ("transport", "seed", "population")
        )

    found = Found(values(gains), {"single": values(cosines)})
    one = Group("mlp:8-8", "infonce", tuple(conditions_for("infonce", 6, 0.05, CARRIERS)))
    table = [_relation(one, found, "single", BELOW)]
    _correct(table)
    return table


COSINES = {"BP": 1.0, "a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3, "e": 0.1, "f": 0.0}


@pytest.mark.parametrize(
    ("slope", "bp", "verdict"),
    [
        (0.1, 0.12, "decided: closer reads out better"),
        (-0.1, 0.12, "decided: closer reads out WORSE"),
        (0.1, 0.0, "BP is not shown to gain: not tested"),
    ],
)
def test_the_verdict_follows_from_what_was_put_in(slope: float, bp: float, verdict: str) -> None:
    gains = {name: bp if name == "BP" else 0.05 + slope * cosine for name, cosine in COSINES.items()}
    (row,) = group(gains, COSINES)
    assert row["verdict"] == verdict
    assert row[f"{BP_GAINS} (mean)"] == pytest.approx(100 * bp, abs=0.3)
    assert row[RHO] == pytest.approx(np.sign(slope))
    said = " ".join(_sentences([row]))
    assert verdict in said
    if bp:
        assert f"closer reads out better in {int(slope > 0)}, worse in {int(slope < 0)}, undecided in 0" in said
        assert "BP itself, the closest, reads out better than the best of the others in" in said


def test_of_one_seed_nothing_is_tested() -> None:
    (row,) = group({name: 0.1 * cosine for name, cosine in COSINES.items()}, COSINES, seeds=1)
    assert row["verdict"] == "n = 1: no interval: not tested"


def test_no_relation_is_undecided_and_backprop_counts_where_it_is_said_to() -> None:
    gains = dict(zip(COSINES, (0.3, 0.05, 0.09, 0.03, 0.1, 0.04, 0.07), strict=True))
    (row,) = group(gains, COSINES)
    assert row["verdict"] == "undecided"
    assert isinstance(row[RHO_BP], float)
    assert isinstance(row[RHO], float)
    assert row[RHO_BP] > row[RHO]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--transports", "pc,ipc"], "transports: expected different names out of"),
        (["--networks", "mlp:8"], "mlp:8 has no population below the top"),
        (["--networks", "mlp:8-8,mlp:8-8"], "networks: expected one or more different ones"),
        (["--objectives", "hinge"], "objectives: expected different names out of"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("closer_is_better", options)
