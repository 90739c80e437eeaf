"""Many runs as one labelled object: every variable by rule and seed, and nothing read before it is asked for.

    tree = open_runs("out")                                 # the folder of a protocol, run folders, exported files
    tree["alignment"]["cosine"].sel(rule="clapp").mean("seed")
    tree["weights/V1->V2"]["weight"].sel(rule="dfa", seed=0).isel(snapshot=-1)

Runs stand side by side by their labels, never by their order, and only runs that differ in nothing but what ``by`` names
share a place along the other dimensions: those that differ in anything else have another name along ``rule``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from analysis.construction import equal_pathways
from analysis.runs_found import Paths, StoredRun, find_runs, split_complete, split_twins
from analysis.runs_grouping import Grouping, group_runs
from analysis.runs_tree import Misfit, beside, groups_of
from analysis.schema import LABELS, ROOT_KEYS, SCHEMA_VERSION, UNITS
from analysis.tree import RunTree
from neurossl.errors import OptionError

Unfinished = Literal["leave out", "keep", "refuse"]
BY = ("rule", "seed")


def open_runs(
    paths: Paths,
    by: Sequence[str] = BY,
    unfinished: Unfinished = "leave out",
    kinds: Collection[str] | None = None,
) -> xr.DataTree:
    """Return stored runs side by side, as one lazy tree.

    Parameters
    ----------
    paths : path or iterable of path
        Run folders, files made by ``neurossl export``, and folders with a ``comparison.json``, in any mixture.
    by : sequence of str
        Members of the manifest along which runs lie, dotted where they lie deeper: ``("rule", "synapses.lr", "seed")``. Each
        is a dimension called as its last part (``lr``). Along ``rule``, runs that differ in anything that ``by`` does not
        name are told apart: by their rule, else their label, else by what differs, as ``clapp [lr=0.1]``.
    unfinished : {"leave out", "keep", "refuse"}
        What to do with runs that have not finished, or have stopped before their budget. Those left out are listed in
        ``tree.attrs["left_out"]``.
    kinds : collection of str, optional
        Groups to open, such as ``("alignment", "performance")``; all by default.

    Returns
    -------
    DataTree
        ``/alignment`` (rule, seed, event, pathway); ``/activity`` and ``/performance`` (rule, seed, event, population);
        ``/weights/<pathway>`` (rule, seed, snapshot, post, pre[, ky, kx]) and all other kinds alike; ``/runs`` (rule, seed)
        with path, state, seconds and run_id. Populations and pathways come in the order of the network, events are those of
        all runs, and where a run has none there is NaN (whole numbers become float only then).

        Coordinates: ``time`` and ``observers_seen`` along the events where all runs agree, else along rule or seed as well;
        for events that a run did not record they are interpolated. In the tables, what varies of the manifests (``label``,
        ``objective``, ``lr``, ...) along the dimensions along which it varies; ``/alignment`` has ``by_construction`` (rule,
        pathway): the reference is the very same computation there, so that a cosine of 1 says nothing.

        The attributes of the root are what all runs share; ``left_out``, ``not_begun`` and ``twins`` (runs that repeat one
        of these on other stimuli, as a ceiling; open them apart) list others (JSON).

    Raises
    ------
    TrajectoryError
        If a path is no run; runs are copies of one another, stand at the same place or cannot be told apart; tensors of one
        name have different shapes or are of different stimuli; or no run has finished.
    OptionError
        If ``by`` names no members of the manifests, or ``kinds`` what was not recorded.
    """
    found, absent = find_runs(paths)
    runs, twins = split_twins(found)
    kept, out = split_complete(runs, unfinished)
    tree = tree_of_runs(group_runs(kept, by), by, out, absent, kinds=kinds)
    if twins:
        tree.attrs["twins"] = json.dumps([str(run.path) for run in twins])
    return tree


def tree_of_runs(
    grouping: Grouping,
    by: Sequence[str],
    out: Iterable[tuple[StoredRun, str]] = (),
    absent: Sequence[Path] = (),
    kinds: Collection[str] | None = None,
    misfits: Literal["refuse", "leave out"] = "refuse",
) -> xr.DataTree:
    """Return the tree of runs that have their places; what does not fit is refused, or listed in ``attrs["misfits"]``."""
    groups = groups_of(grouping)
    if kinds is not None:
        known = list(dict.fromkeys(path.partition("/")[0] for path in groups))
        if isinstance(kinds, str) or (unknown := [kind for kind in kinds if kind not in known]):
            what = kinds if isinstance(kinds, str) else unknown[0]
            raise OptionError(f"kinds names {what!r}: expected a list of some of {', '.join(known)}")
        groups = {path: group for path, group in groups.items() if path.partition("/")[0] in kinds}
    members = grouping.members(by)
    orders = {"pathway": pathway_order(grouping), "population": population_order(grouping)}
    nodes = {"/": xr.Dataset(attrs=_attributes(grouping, by, out, absent))}
    nodes["/runs"] = _runs(grouping).assign_coords(members)
    told: list[str] = []
    for path in sorted(groups, key=lambda path: _rank(path, orders["pathway"] + orders["population"])):
        label = LABELS.get(path)
        try:
            group = beside(path, groups[path], grouping, orders[label] if label else ())
        except Misfit as misfit:
            if misfits == "refuse":
                raise
            told.append(str(misfit))
            continue
        if label is not None:
            group = group.assign_coords({name: value for name, value in members.items() if name not in group.variables})
        if path == "alignment":
            group = group.assign_coords(by_construction=by_construction(grouping, list(map(str, group["pathway"].values))))
        nodes[f"/{path}"] = group
    if told:
        nodes["/"].attrs["misfits"] = json.dumps(told)
    return RunTree.from_dict(nodes)


def pathway_order(grouping: Grouping) -> list[str]:
    """Return the pathways of all networks: the feedforward ones from the input on, then feedback, each in network order."""
    runs = list(grouping.runs.values())
    return [*merged(run.pathways for run in runs), *merged(run.feedback for run in runs)]


def population_order(grouping: Grouping) -> list[str]:
    """Return the populations of all networks, the input first."""
    return merged([run.input, *run.populations] for run in grouping.runs.values())


def merged(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return the names of all lists, each new one behind its neighbour in its own."""
    merged: list[str] = []
    for names in lists:
        behind = 0
        for name in names:
            if name not in merged:
                merged.insert(behind, name)
            behind = merged.index(name) + 1
    return merged


def by_construction(grouping: Grouping, pathways: Sequence[str]) -> xr.Variable:
    """Return, (rule, ..., pathway), where update and reference are the same computation, so that their cosine is 1 anyway.

    See `analysis.construction.equal_pathways`.
    """
    dims = [dim for dim in grouping.dims if dim != "seed"]
    kept = [place for place, dim in enumerate(grouping.dims) if dim != "seed"]
    found = np.zeros((*(grouping.shape[axis] for axis in kept), len(pathways)), bool)
    for place, run in grouping.runs.items():
        same = equal_pathways(run.about)
        found[tuple(place[axis] for axis in kept)] |= np.array([str(name) in same for name in pathways], bool)
    told = {"units": "1", "long_name": "whether update and reference are equal by construction"}
    return xr.Variable([*dims, "pathway"], found, told)


def _rank(path: str, order: Sequence[str]) -> tuple[int, int]:
    """Return where a group comes: tables, weights, updates, others; by pathway or population in the order of the network."""
    kind, _, name = path.partition("/")
    kinds = [*LABELS, "weights", "updates"]
    return (kinds.index(kind) if kind in kinds else len(kinds), order.index(name) if name in order else len(order))


def _runs(grouping: Grouping) -> xr.Dataset:
    """Return what is one thing per run."""
    texts = {
        "path": ("path of the run", lambda run: str(run.path)),
        "state": ("state of the run", lambda run: str(run.about.get("state") or "")),
        "run_id": ("identifier of the run", lambda run: str(run.about.get("run_id") or "")),
    }
    variables = {}
    for name, (long_name, get) in texts.items():
        values = np.full(grouping.shape, "", object)
        for place, run in grouping.runs.items():
            values[place] = get(run)
        variables[name] = xr.Variable(grouping.dims, values.astype(str), {"units": "1", "long_name": long_name})
    seconds = np.full(grouping.shape, np.nan)
    for place, run in grouping.runs.items():
        value: Any = run.about.get("seconds")
        seconds[place] = np.nan if value is None else value
    about = {"units": "s", "long_name": "wall-clock time of learning"}
    return xr.Dataset(variables | {"seconds": xr.Variable(grouping.dims, seconds, about)}, grouping.coordinates())


def _attributes(
    grouping: Grouping, by: Sequence[str], out: Iterable[tuple[StoredRun, str]], absent: Sequence[Path]
) -> dict[str, Any]:
    """Return what all runs share, and which runs do not count."""
    runs = list(grouping.runs.values())
    shared: dict[str, Any] = {}
    for key in ROOT_KEYS:
        values = [run.about.get(key) for run in runs]
        if values[0] is not None and all(value == values[0] for value in values) and key not in ("rule", "seed", "seeds"):
            shared[key] = values[0] if isinstance(values[0], str | int | float) else json.dumps(values[0])
    left = [
        {
            "path": str(run.path),
            "rule": run.label,
            "seed": run.about.get("seed"),
            "state": run.about.get("state"),
            "why": why,
        }
        for run, why in out
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        **shared,
        "units": UNITS,
        "by": json.dumps(list(by)),
        "runs": len(runs),
        "left_out": json.dumps(left),
        "not_begun": json.dumps([str(path) for path in absent]),
    }
