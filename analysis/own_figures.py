"""Figures of what recorders of one's own have recorded: each variable over training, one panel per population or pathway.

Arrays are drawn as their mean over the axes that they have besides the moments; the figure says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.comparison import Comparison
from analysis.drawing import literal
from analysis.figures import BAND, close_figure, draw_band, mark_interventions, n_in_words, panels_for, style
from analysis.runs_found import StoredRun
from analysis.runs_grouping import seed_of
from analysis.side_by_side import side_by_side
from analysis.statistics import over_seeds

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
    curves: dict[str, dict[str, dict[int, xr.DataArray]]] = {}
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
                curves.setdefault(name, {}).setdefault(label, {})[seed_of(run)] = array.astype("float64").mean(others)
    if not curves:
        return None
    shown = list(curves)[:MOST_PANELS]
    more = f"; {len(curves) - len(shown)} more are not shown" if len(curves) > len(shown) else ""
    over = f", mean over {', '.join(sorted(averaged))}" if averaged else ""
    figure, panels = panels_for(len(shown), f"{about.get('long_name') or variable}{over}{more}")
    drawn: list[xr.Dataset] = []
    for panel, name in zip(panels, shown, strict=True):
        for label, by_seed in curves[name].items():
            beside = side_by_side(list(by_seed.values()), xr.Variable("seed", np.array(list(by_seed), int)))
            curve = over_seeds(beside).dropna("snapshot", subset=["mean"])
            if curve.sizes["snapshot"]:
                drawn.append(curve)
                x, mean, half, count = (curve[name].values for name in ("observers_seen", "mean", "half_width", "count"))
                draw_band(panel, x, mean, half, count, label, style(comparison, label))
        panel.set_title(literal(name))
    mark_interventions(panels, comparison)
    units = about.get("units", "1")
    axis = variable if units == "1" else f"{variable} ({units})"
    close_figure(figure, panels, "observers seen", axis, f"{BAND}, {n_in_words(drawn)}")
    return figure
