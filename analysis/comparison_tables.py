"""A comparison of runs as tables: one record per rule, one value per rule, seed and pathway or population, HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.cosine_references import COLUMN as REFERENCE
from analysis.cosine_references import reference_in_words, references_in_words
from analysis.runs import merged
from analysis.runs_grouping import seed_of
from analysis.tables import HALF_WIDTH, MEAN, N, Record, cell, column_names, put
from neurossl.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from analysis.comparison import Comparison

ACCURACIES = ("probe_accuracy", "knn_accuracy", "validation_accuracy")
COSINE, PROBE = "cosine with reference, ", "linear probe accuracy, "
SAME = "cosine of 1 by construction"


def record_of(comparison: Comparison, label: str) -> Record:
    """Return one rule as a record with self-explaining column names, means over seeds with their n."""
    runs = comparison.rules[label]
    about = runs[0].about
    record: Record = {
        "rule": label,
        "objective": about.get("objective"),
        "transport": about.get("transport"),
        "information needed": ", ".join(about.get("needs") or []) or "nothing beyond the synapse",
        "reference": about.get("reference"),
        REFERENCE: reference_in_words(about) or None,
        "seeds": len(runs),
        "states": ", ".join(sorted({str(run.about.get("state")) for run in runs})),
    }
    moments = comparison.alignments(label)
    for name, value in comparison.mean_alignment(label).items():
        put(record, COSINE + name, value)
        if moments is not None:
            counts = moments.sel(pathway=name)
            record[f"moments of that mean, {name}"] = float(counts["moments"].mean())
            record[f"moments recorded, {name}"] = float(counts["recorded"].mean())
    if same := comparison.by_construction(label):
        record[SAME] = ", ".join(same)
    for name, entry in comparison.accuracies(label).items():
        if name == runs[0].input:
            put(record, f"{PROBE}raw pixels", entry["final"])
        else:
            put(record, PROBE + name, entry["final"])
            put(record, f"linear probe accuracy before learning, {name}", entry["initial"])
    for name, entry in comparison.accuracies(label, "knn_accuracy").items():
        where = "raw pixels" if name == runs[0].input else name
        put(record, f"nearest-neighbour accuracy, {where}", entry["final"])
    return put(record, "seconds of learning", [run.about.get("seconds") or np.nan for run in runs])


def dataset_of(comparison: Comparison) -> xr.Dataset:
    """Return what the runs come down to.

    Returns
    -------
    Dataset
        (rule, seed, pathway): ``cosine`` averaged over training, over ``moments`` of ``recorded`` ones; ``drift``, the
        relative distance of the weights from the start at the end. (rule, seed, population): accuracies of probes after
        learning (``probe_accuracy``, ...) and before it (``probe_accuracy_before``, ...). (rule, seed): ``seconds``,
        ``state``. NaN where there is none: a run that has not finished has nothing after learning.
    """
    runs = comparison.tree["runs"].to_dataset()
    orders = {
        "pathway": [*comparison.pathways, *comparison.feedback],
        "population": merged([run.input, *run.populations] for run in comparison.runs),
    }
    parts: dict[str, list[xr.DataArray]] = {}
    for label, rule in comparison.names.items():
        for name, values in _of_rule(comparison, label).items():
            parts.setdefault(name, []).append(values.expand_dims(rule=[rule]))
    joined = {
        name: xr.concat(arrays, "rule", join="outer", coords="minimal", compat="override") for name, arrays in parts.items()
    }
    names = {
        dim: _ordered((v[dim].values for v in joined.values() if dim in v.dims), order) for dim, order in orders.items()
    }
    found = {}
    for name, whole in joined.items():
        labels: dict[str, Any] = {"rule": runs["rule"].values, "seed": runs["seed"].values, **names}
        found[name] = whole.reindex({dim: values for dim, values in labels.items() if dim in whole.dims})
    dataset = xr.Dataset(found, attrs=dict(comparison.tree.attrs))
    dataset = dataset.assign(seconds=runs["seconds"], state=runs["state"])
    if "alignment" in comparison.tree.children and "pathway" in dataset.coords:
        marks = comparison.tree["alignment"]["by_construction"].reset_coords(drop=True)
        marks = marks.reindex(pathway=dataset["pathway"].values, fill_value=False)
        dataset = dataset.assign_coords(by_construction=marks)
    return dataset.assign_coords({name: runs[name] for name in runs.coords if name not in dataset.coords})


def dataframe_of(comparison: Comparison) -> pd.DataFrame:
    """Return the same as a tidy table: one row per rule, seed, and pathway or population.

    Columns: rule, label, seed, ``part`` ("pathway" or "population"), ``name``, and the measures of either, NaN where they
    are of the other. Pathways and populations of which a run has nothing make no rows.
    """
    import pandas as pd

    dataset = comparison.to_dataset()
    frames = []
    for dim in ("pathway", "population"):
        mine = [str(name) for name in dataset.data_vars if dim in dataset[name].dims]
        if mine:
            table = dataset[mine].reset_coords(drop=True)
            if dim == "pathway" and "by_construction" in dataset.coords:
                table = table.assign(by_construction=dataset["by_construction"].reset_coords(drop=True))
            frame = table.to_dataframe().reset_index().rename(columns={dim: "name"}).dropna(how="all", subset=mine)
            frame.insert(0, "part", dim)
            frames.append(frame)
    first = ["rule", "label", "seed", "part", "name"]
    if not frames:
        return pd.DataFrame(columns=first)
    whole = pd.concat(frames, ignore_index=True)
    label = {rule: label for label, rule in comparison.names.items()}
    whole["label"] = whole["rule"].map(label)
    order = {rule: number for number, rule in enumerate(dataset["rule"].values)}
    whole = whole.sort_values("seed", kind="stable").sort_values("rule", kind="stable", key=lambda r: r.map(order))
    return whole[[*first, *(name for name in whole.columns if name not in first)]].reset_index(drop=True)


def html_of(comparison: Comparison) -> str:
    """Return one row per rule for a notebook: alignment and accuracies, mean ± half-width of the 95 % interval, and n."""
    table = comparison.table()
    columns = [name for name in column_names(table) if name.startswith((COSINE, PROBE))]
    short = [name.replace(COSINE, "cosine ").replace(PROBE, "probe ") for name in columns]
    heads = "".join(f"<th>{_text(name)}</th>" for name in short)
    rows = []
    for record in table:
        cells = "".join(f"<td>{_text(_cell(record, column))}</td>" for column in columns)
        rows.append(f"<tr><th>{_text(record['rule'])}</th><td>{record['seeds']}</td>{cells}</tr>")
    below = (
        "mean ± half-width of the 95 % interval over seeds (Student's t); † 1 by construction. " + comparison.unfinished()
    )
    notes = "".join(f"<p><small>{_text(note)}</small></p>" for note in references_in_words(comparison))
    return (
        f"<div><p>{_text(repr(comparison))}</p><table><thead><tr><th>rule</th><th>seeds</th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table><p><small>{_text(below)}</small></p>{notes}</div>"
    )


def _of_rule(comparison: Comparison, label: str) -> dict[str, xr.DataArray]:
    """Return what the runs of a rule come down to, along seed and pathway or population."""
    found: dict[str, xr.DataArray] = {}
    if (alignments := comparison.alignments(label)) is not None:
        plain = alignments.reset_coords(drop=True)
        found |= {"cosine": plain["mean"], "moments": plain["moments"], "recorded": plain["recorded"]}
    runs = comparison.rules[label]
    if (drifts := comparison.drifts(label)) is not None:
        ended = [seed_of(run) for run in runs if not run.incomplete]
        found["drift"] = _last(drifts.where(drifts["seed"].isin(ended)))
    for measure in ACCURACIES:
        if entries := comparison.accuracies(label, measure):
            coords = {"seed": list(map(seed_of, runs)), "population": list(entries)}
            for name, when in ((measure, "final"), (f"{measure}_before", "initial")):
                values = np.stack([entry[when] for entry in entries.values()], 1)
                found[name] = xr.DataArray(values, coords, ["seed", "population"])
    return found


def _last(values: xr.DataArray) -> xr.DataArray:
    """Return the last value that was recorded along snapshot; NaN where there is none."""
    values = values.transpose("snapshot", ...)
    last = values.isel(snapshot=0, drop=True) if values.sizes["snapshot"] else values.max("snapshot")
    for number in range(1, values.sizes["snapshot"]):
        one = values.isel(snapshot=number, drop=True)
        last = one.where(one.notnull(), last)
    return last.reset_coords(drop=True)


def _ordered(lists: Iterable[np.ndarray], order: Sequence[str]) -> list[str]:
    known = {name: number for number, name in enumerate(order)}
    names = dict.fromkeys(str(name) for names in lists for name in names)
    return sorted(names, key=lambda name: known.get(name, len(known)))


def _cell(record: Record, column: str) -> str:
    """Return a cell that says its n wherever it has no interval or rests on fewer seeds than there are."""
    if record.get(column + MEAN) is None:
        return "-"
    text, n = cell(record, column), record.get(column + N)
    if record.get(column + HALF_WIDTH) is None and n == record["seeds"]:
        text += f" (n={n})"
    same = column.startswith(COSINE) and column.removeprefix(COSINE) in str(record.get(SAME, "")).split(", ")
    return f"{text} †" if same else text


def _text(value: object) -> str:
    return escape(printable(str(value)))
