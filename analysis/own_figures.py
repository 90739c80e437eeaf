"""Figures of what recorders of one's own have recorded: each variable over training, one panel per population or pathway.

Arrays are drawn as their mean over the axes that they have besides the moments; the figure says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.comparison import Comparison, StoredRun
from analysis.drawing import literal
from analysis.figures import close_figure, mark_interventions, panels_for, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUILT_IN = frozenset({"weights", "updates", "alignment", "activity", "performance", "responses", "correctness"})
"""Groups of a run that have figures of their own, or none."""
MOST_PANELS = 12
"""Names that a figure shows; those beyond are left out, and the figure says how many."""


def own_figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure]]:
    """Yield (name, heading, figure) for every variable of every kind that recorders of one's own declared."""
    kinds = dict.fromkeys(kind for run in comparison.runs for kind in run.tree.children if kind not in BUILT_IN)
    for kind in kinds:
        variables = dict.fromkeys(
            v for run in comparison.runs for node in _nodes(run, kind).values() for v in node.data_vars
        )
        for variable in variables:
            figure = _figure(comparison, kind, str(variable))
            if figure is not None:
                yield f"{kind}-{variable}", f"Recorded: {kind}, {variable}", figure


def _nodes(run: StoredRun, kind: str) -> dict[str, xr.Dataset]:
    """Return the groups of a kind by the name that their recorder gave them."""
    group = run.tree.children.get(kind)
    if group is None:
        return {}
    return {str(node.attrs.get("name", key)): node.to_dataset() for key, node in group.children.items()}


def _figure(comparison: Comparison, kind: str, variable: str) -> Figure | None:
    curves: dict[str, dict[str, list[xr.DataArray]]] = {}
    averaged: set[str] = set()
    about: dict[str, str] = {}
    for label, runs in comparison.rules.items():
        for run in runs:
            for name, data in _nodes(run, kind).items():
                if variable not in data or data[variable].dtype.kind not in "fiub" or "snapshot" not in data[variable].dims:
                    continue
                array = data[variable]
                about = {**{k: str(v) for k, v in array.attrs.items()}, **about}
                others = [dim for dim in array.dims if dim != "snapshot"]
                averaged.update(map(str, others))
                curves.setdefault(name, {}).setdefault(label, []).append(array.astype("float64").mean(others))
    if not curves:
        return None
    shown = list(curves)[:MOST_PANELS]
    more = f"; {len(curves) - len(shown)} more are not shown" if len(curves) > len(shown) else ""
    mean = f", mean over {', '.join(sorted(averaged))}" if averaged else ""
    figure, panels = panels_for(len(shown), f"{about.get('long_name') or variable}{mean}{more}")
    for panel, name in zip(panels, shown, strict=True):
        for label, arrays in curves[name].items():
            beside = xr.concat(arrays, "seed", join="outer", coords="minimal", compat="override")
            x = arrays[int(np.argmax([a.size for a in arrays]))]["observers_seen"].values
            values = beside.mean("seed").values
            look = style(comparison, label)
            panel.plot(x[: len(values)], values, label=literal(label), ms=4, markevery=max(1, len(x) // 8), lw=1.5, **look)
            if len(arrays) > 1:
                error = (beside.std("seed", ddof=1) / np.sqrt(len(arrays))).values
                panel.fill_between(x[: len(values)], values - error, values + error, color=look["color"], alpha=0.15, lw=0)
        panel.set_title(literal(name))
    mark_interventions(panels, comparison)
    units = about.get("units", "1")
    close_figure(figure, panels, "observers seen", variable if units == "1" else f"{variable} ({units})")
    return figure
