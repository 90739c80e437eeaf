"""Whether a measured alignment may be reported at all (pitfall P1), and what a step along an update is worth.

A comparison of updates means something as long as (a) activity does not grow from population to population, (b) the
reference update is more than rounding, (c) the rule does not drift in one direction whatever the data, and (d) what is
learned is worth more than random populations of which only the readout learns.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from analysis.alignment import alignment_over_training
from neurossl.errors import TrajectoryError
from neurossl.measures import DRIFT_LIMIT, GROWTH_LIMIT, REFERENCE_FLOOR

MARGIN = 0.02
"""Accuracy by which a rule must beat the frozen baseline."""
GATES = ("activity", "reference", "drift", "performance")
"""(a) to (d)."""


def gates(
    tree: xr.DataTree, baseline: xr.DataTree | xr.DataArray | float | None = None, population: str | None = None
) -> xr.Dataset:
    """Return which of the conditions hold under which a report of alignment means something.

    Parameters
    ----------
    tree : DataTree
        Of one run or of many.
    baseline : DataTree, DataArray or float, optional
        Accuracy of the same network with frozen random populations: a run of it, numbers along rule or seed, or one number.
        By default what the probe found before learning, which is the same where only the probe learns.
    population : str, optional
        At which the accuracy is read; the last one by default.

    Returns
    -------
    Dataset
        Per rule and seed where there are several. ``value``, ``limit`` and ``holds`` (1, 0, NaN where nothing was recorded)
        along ``gate``:

        activity      largest ratio of the norms of successive populations < 50
        reference     smallest norm of a reference update > 1e-7
        drift         largest mean stability over pathways <= 0.30, where that of the reference is not as high
        performance   accuracy after learning minus that of the baseline >= 0.02

        ``all_hold``, and ``reasons``: what does not hold, in words.

    Raises
    ------
    TrajectoryError
        If nothing of it was recorded, or the baseline has no accuracy of the population.
    """
    found: dict[str, xr.DataArray] = {}
    if "alignment" in tree.children:
        table = alignment_over_training(tree, trusted_only=False)
        if "reference_norm" in table:
            found["reference"] = _over_all(table["reference_norm"], "min")
        if "activity_growth" in table:
            found["activity"] = _over_all(table["activity_growth"], "max")
        if "stability" in table:
            mine = table["stability"].mean("event")
            other = table["reference_stability"].mean("event") if "reference_stability" in table else mine.where(False)
            # A reference that agrees with itself as well is the data's doing, not a drift.
            drift = mine.where(~(other > DRIFT_LIMIT), np.minimum(mine, DRIFT_LIMIT)).where(mine.notnull())
            found["drift"] = _over_all(drift, "max")
    if "activity" not in found and "activity" in tree.children:
        growth = _growth(tree)
        if growth is not None:
            found["activity"] = growth
    if "performance" in tree.children:
        found["performance"] = _gain(tree, baseline, population)
    if not found:
        raise TrajectoryError(f"{tree.attrs.get('rule', 'this run')}: neither alignment nor performance was recorded")
    limits = xr.DataArray([GROWTH_LIMIT, REFERENCE_FLOOR, DRIFT_LIMIT, MARGIN], {"gate": list(GATES)}, ["gate"])
    blank = xr.zeros_like(next(iter(found.values()))) * np.nan
    value = xr.concat([found.get(name, blank) for name in GATES], "gate", coords="minimal", compat="override")
    value = value.assign_coords(gate=list(GATES))
    # 1e-9: an accuracy is a count over stimuli, and 0.52 - 0.50 is not quite 0.02.
    met = xr.where(value["gate"] == "activity", value < limits, value > limits)
    met = xr.where(value["gate"] == "drift", value <= limits + 1e-9, met)
    met = xr.where(value["gate"] == "performance", value >= limits - 1e-9, met)
    holds = met.where(value.notnull()).transpose(*value.dims)
    reasons = xr.apply_ufunc(_words, holds, value, input_core_dims=[["gate"], ["gate"]], vectorize=True)
    return xr.Dataset(
        {
            "value": value.assign_attrs(units="1", long_name="what is compared with the limit"),
            "limit": limits.assign_attrs(units="1", long_name="limit"),
            "holds": holds.assign_attrs(units="1", long_name="whether the condition holds (NaN: not recorded)"),
            "all_hold": (holds == 1).all("gate"),
            "reasons": reasons,
        }
    )


def _over_all(values: xr.DataArray, how: str) -> xr.DataArray:
    """Return the extreme over events and names; other dims are kept."""
    over = [name for name in ("event", "pathway", "population") if name in values.dims]
    return getattr(values, how)(over).drop_vars([n for n in ("by_construction",) if n in values.coords], errors="ignore")


def _growth(tree: xr.DataTree) -> xr.DataArray | None:
    """Return the largest ratio of the recorded norms of successive populations above the input."""
    activity = tree.children["activity"].to_dataset(inherit=True)
    said = tree.attrs.get("network")
    if "norm" not in activity or said is None:
        return None
    network = json.loads(said) if isinstance(said, str) else said
    norm, known = activity["norm"], {str(name) for name in activity["population"].values}
    names = [p["name"] for p in network.get("pathways", []) if p.get("kind", "feedforward") == "feedforward"]
    ends = [(pre, post.partition(":")[0]) for pre, _, post in (name.partition("->") for name in names)]
    ratios = [
        norm.sel(population=post, drop=True) / norm.sel(population=pre, drop=True)
        for pre, post in ends
        if {pre, post} <= known
    ]
    return _over_all(xr.concat(ratios, "pathway", coords="minimal", compat="override"), "max") if ratios else None


def _gain(tree: xr.DataTree, baseline: Any, population: str | None) -> xr.DataArray:
    """Return the accuracy after learning minus that of the baseline."""
    last, first = _accuracy(tree, population, "the run")
    if baseline is None:
        return last - first
    if isinstance(baseline, xr.DataTree):
        baseline, _ = _accuracy(baseline, population or str(last.attrs["population"]), "the baseline")
        shared = [name for name in baseline.dims if name in last.dims]
        beyond = [name for name in baseline.dims if name not in last.dims]
        baseline = baseline.mean(beyond) if beyond else baseline
        if "rule" in shared and baseline.sizes["rule"] == 1:
            baseline = baseline.isel(rule=0, drop=True)
    return last - baseline


def _accuracy(tree: xr.DataTree, population: str | None, what: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the last and the first recorded accuracy of a population."""
    if "performance" not in tree.children or "probe_accuracy" not in tree.children["performance"].data_vars:
        raise TrajectoryError(f"gates: {what} has no accuracy of a probe")
    accuracy = tree.children["performance"].to_dataset(inherit=True)["probe_accuracy"]
    names = [str(name) for name in accuracy["population"].values]
    # The last population that was read after learning: a readout is not.
    read = [n for n in names if bool((accuracy.sel(population=n).notnull() & (accuracy["event"] > 0)).any())]
    chosen = population if population is not None else (read or names)[-1]
    if chosen not in names:
        raise TrajectoryError(f"gates: {what} has no accuracy of {chosen!r}, only of {', '.join(names)}")
    series = accuracy.sel(population=chosen, drop=True)
    place = xr.where(series.notnull(), xr.DataArray(np.arange(series.sizes["event"]), dims=["event"]), -1).max("event")
    last = series.isel(event=place.clip(min=0)).where(place >= 0).drop_vars("event")
    first = series.where(series["event"] == 0).max("event")
    drop = [name for name in ("time", "observers_seen") if name in last.coords]
    return last.drop_vars(drop).assign_attrs(population=chosen), first


def _words(holds: np.ndarray, value: np.ndarray) -> str:
    """Return what does not hold, in words."""
    said = {
        "activity": "activity grows {:.0f}-fold from one population to the next (limit 50)",
        "reference": "the reference update falls to {:.1e} (limit 1e-7): rounding is compared",
        "drift": "updates of different moments agree ({:.2f}, limit 0.30) although those of the reference do not: a drift",
        "performance": "the readout gains {:+.3f} on the frozen baseline (limit +0.02)",
    }
    parts = []
    for name, kept, number in zip(GATES, holds, value, strict=True):
        if np.isnan(kept):
            parts.append(f"{name}: not recorded")
        elif not kept:
            parts.append(said[name].format(number))
    return "; ".join(parts)


def efficiency(measures: xr.Dataset) -> xr.Dataset:
    """Return what a step along the rule's update brings beside a step of the same size along the reference's (M9).

    ``efficiency = decrease along the rule / decrease along the reference``, of the objective of the reference.

    Parameters
    ----------
    measures : Dataset
        The table of alignment, from `alignment_over_training`.

    Returns
    -------
    Dataset
        Of those that were recorded: ``efficiency`` (one pathway stepped, on the same observers), ``joint_efficiency`` (all
        pathways, equal at each of them), ``heldout_efficiency`` and ``heldout_joint_efficiency`` (on other observers).
        Negative where the rule's step does harm; NaN where the reference's own step brings nothing.

    Raises
    ------
    TrajectoryError
        If no steps were recorded.
    """
    pairs = {
        "efficiency": ("loss_decrease", "reference_decrease"),
        "joint_efficiency": ("joint_decrease", "joint_reference_decrease"),
        "heldout_efficiency": ("heldout_decrease", "heldout_reference_decrease"),
        "heldout_joint_efficiency": ("heldout_joint_decrease", "heldout_joint_reference_decrease"),
    }
    there = {name: pair for name, pair in pairs.items() if all(part in measures for part in pair)}
    if not there:
        raise TrajectoryError(
            "efficiency: no steps along the reference were recorded: add AlignmentMeasures to the recorders"
        )
    found = {name: measures[mine] / measures[other].where(measures[other] > 0) for name, (mine, other) in there.items()}
    words = "decrease of the reference objective along the update over that along the reference update"
    return xr.Dataset({name: value.assign_attrs(units="1", long_name=words) for name, value in found.items()})
