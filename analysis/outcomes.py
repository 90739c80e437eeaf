"""What runs come to, by rule and seed: what readouts find before and after learning, how close updates are to backprop."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from analysis.alignment import alignment_over_training
from neurossl.errors import OptionError, TrajectoryError
from neurossl.text import one_line

MEASURE = "probe_accuracy"
_ABOUT = (
    *("label", "reference", "reference_objective", "transport", "objective"),
    *("reference_at", "own_reference", "own_reference_objective"),
)
_STIMULI = "stream options."


def before_and_after(tree: xr.DataTree, measure: str = MEASURE) -> xr.Dataset:
    """Return a measure of performance at the start and at the end of learning, ([rule, seed,] population).

    Parameters
    ----------
    tree : DataTree
        Of many runs, from `analysis.open_runs`, or of one.
    measure : str
        A variable of ``/performance``.

    Returns
    -------
    Dataset
        ``before`` (at event 0) and ``after`` (at the last event that any seed of the rule recorded: a run that stopped
        earlier has NaN, since what it had then is not what learning leads to). Only populations above the input that were
        read out after learning.

    Raises
    ------
    TrajectoryError
        If no performance was recorded.
    OptionError
        If there is no such measure; names those that there are.
    """
    if "performance" not in tree.children:
        raise TrajectoryError("no performance was recorded: nothing is known of what a readout finds")
    group = tree.children["performance"].to_dataset(inherit=True)
    if measure not in group:
        raise OptionError(
            f"there is no measure {measure!r} in /performance; there are {', '.join(map(str, group.data_vars))}"
        )
    values = group[measure].load().transpose(..., "event", "population")
    values = values.where(np.isfinite(values))
    event = values["event"]
    last = event.where(values.notnull() & (event > 0)).max("event")
    complete = last == (last.max("seed") if "seed" in last.dims else last)
    found = xr.Dataset({"before": _at(values, event == 0), "after": _at(values, event == last).where(complete)})
    known = found["after"].notnull()
    there = known.any([dim for dim in known.dims if dim != "population"])
    inputs = _inputs(tree)
    learned = [place for place, name in enumerate(found["population"].values) if there.values[place] and name not in inputs]
    found = found.isel(population=learned)
    return found.drop_vars([name for name in ("event", "time", "observers_seen") if name in found.coords])


def _inputs(tree: xr.DataTree) -> set[str]:
    """Return the populations that nothing leads to, whose readout is that of the stimulus."""
    network = tree.attrs.get("network")
    if network:
        told = json.loads(network) if isinstance(network, str) else network
        return {str(population["name"]) for population in told.get("populations", []) if population.get("input")}
    groups = tree.children["weights"].children.items() if "weights" in tree.children else ()
    names = [str(group.attrs.get("pathway", key)) for key, group in groups]
    if "alignment" in tree.children:
        names += map(str, tree.children["alignment"].coords["pathway"].values)
    pairs = [name.partition("->")[::2] for name in names if "->" in name]
    return {pre for pre, _ in pairs} - {post for _, post in pairs}


def _at(values: xr.DataArray, there: xr.DataArray) -> xr.DataArray:
    """Return the values at the one event of each run that is meant; NaN where there is none."""
    return values.where(there).sum("event", min_count=1)


def over_training(tree: xr.DataTree, name: str = "cosine") -> xr.DataArray:
    """Return a measure of alignment as its mean over training, ([rule, seed,] pathway).

    Parameters
    ----------
    tree : DataTree
        Of many runs, or of one.
    name : str
        A variable of ``/alignment``.

    Returns
    -------
    DataArray
        The mean over the moments of learning at which it is trusted and finite. NaN where the comparison is 1 by
        construction (``by_construction``): such a value says nothing.

    Raises
    ------
    TrajectoryError
        If no alignment was recorded.
    OptionError
        If there is no such measure; names those that there are.
    """
    measures = alignment_over_training(tree)
    if name not in measures or "pathway" not in measures[name].dims:
        raise OptionError(f"there is no {name!r} in /alignment; there are {', '.join(map(str, measures.data_vars))}")
    values = measures[name].load()
    mean = values.where(np.isfinite(values) & (values["event"] > 0)).mean("event")
    own = measures.coords.get("by_construction")
    return mean if own is None else mean.where(~own.astype(bool))


def about_rules(tree: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Return what is known of each rule of a tree of many runs: label, reference, transport, objective and stimuli.

    Parameters
    ----------
    tree : DataTree

    Returns
    -------
    dict of str to dict
        By rule; "" for what is not known. ``stimuli`` is a dict of the options of streams that vary between rules. A label
        that several rules share is no label: the rule's name stands for it.
        Empty for the tree of one run.
    """
    nodes = [node for node in tree.subtree if "rule" in node.coords and node.coords["rule"].ndim]
    if not nodes:
        return {}
    rules = [str(rule) for rule in nodes[0].coords["rule"].values]
    along: dict[str, xr.DataArray] = {}
    for node in nodes:
        if [str(rule) for rule in node.coords["rule"].values] == rules:
            along = {str(name): one for name, one in node.coords.items() if one.dims == ("rule",)} | along
    known = {name: [str(tree.attrs.get(name, "") or "")] * len(rules) for name in _ABOUT}
    known |= {name: [str(value) for value in along[name].values] for name in _ABOUT if name in along}
    labels = known["label"]
    known["label"] = [
        one_line(label) if label and labels.count(label) == 1 else rule for label, rule in zip(labels, rules, strict=True)
    ]
    shown = [one for one in along.values() if str(one.attrs.get("long_name", "")).startswith(_STIMULI)]
    return {
        rule: {
            **{name: known[name][place] for name in _ABOUT},
            "stimuli": {str(one.name): str(one.values[place]) for one in shown},
        }
        for place, rule in enumerate(rules)
    }
