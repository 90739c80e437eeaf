"""The central figure: how close a rule is to backprop, against what a readout finds, one panel per population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from analysis.drawing import literal
from analysis.figures import close_figure, panels_for
from analysis.page_claims import p_text
from analysis.palette import look_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = "large: mean of a rule ± half-width of the 95 % interval over seeds (Student's t); small: its seeds"


def relation_figure(found: xr.Dataset, title: str = "") -> Figure | None:
    """Return a `relation` as scatter, one panel per population; None if no population has a rule to show.

    Every rule has a colour and a marker, its seeds are small, its mean large with 95 % intervals in both directions. A
    vertical dotted line is the noise ceiling of x, where it was recorded; horizontal dashed lines are what backprop reaches.

    Parameters
    ----------
    found : Dataset
        From `analysis.relation`.
    title : str
        Above the figure.
    """
    populations = [p for p in found["population"].values if bool(found["x_mean"].sel(population=p).notnull().any())]
    if not populations:
        return None
    factor = 100.0 if _is_share(found) else 1.0
    figure, panels = panels_for(
        len(populations), title or "Does a rule that is closer to backprop read out better?", 3.1, 3.4
    )
    for panel, population in zip(panels, populations, strict=True):
        _panel(panel, found.sel(population=population), factor)
        panel.set_title(f"{literal(str(population))}\n{_statistics(found.sel(population=population))}", fontsize=10)
    y = str(found.attrs["y"])
    if factor == 100:
        y += " (points)" if any(word in y for word in ("gain", "minus")) else " (%)"
    ranking = str(found.attrs.get("ranking", ""))
    close_figure(figure, panels, _folded(found.attrs["x"]), _folded(y), f"{BARS}\n{ranking}" if ranking else BARS)
    return figure


def _panel(panel: Axes, one: xr.Dataset, factor: float) -> None:
    for place, rule in enumerate(one["rule"].values):
        look = look_of(place) | {"linestyle": "none"}
        mine = one.sel(rule=rule)
        label = literal(str(mine["label"].item()))
        if "y_backprop" in one and bool(mine["y_backprop"].notnull()):
            level = factor * float(mine["y_backprop"])
            panel.axhline(level, color=look["color"], lw=1.2, ls="--", zorder=1, label=f"{label} (reaches)")
        if bool(mine["x_mean"].isnull()):
            continue
        panel.plot(mine["x"].values, factor * mine["y"].values, ms=3.5, alpha=0.45, zorder=2, **look)
        x_error, y_error = (np.nan_to_num(float(mine[f"{name}_half_width"])) for name in ("x", "y"))
        center = float(mine["x_mean"]), factor * float(mine["y_mean"])
        panel.errorbar(*center, factor * y_error, x_error, ms=8, capsize=2.5, lw=1.2, zorder=3, label=label, **look)
    if "x_ceiling" in one and bool(one["x_ceiling"].notnull()):
        panel.axvline(
            float(one["x_ceiling"]), color="0.35", lw=1.2, ls=":", label="backprop on as many other observers (expected)"
        )
    panel.axvline(0, color="0.85", lw=0.8, zorder=0)
    panel.grid(axis="y", color="0.93")


def _statistics(one: xr.Dataset) -> str:
    """Return the correlation between rules in one line."""
    if not np.isfinite(one["spearman"]):
        return f"{int(one['rules'])} rules: too few"
    corrected = p_text(float(one["spearman_p_holm"]))
    return f"Spearman {float(one['spearman']):+.2f}, {int(one['rules'])} rules, p {corrected} (Holm)"


def _is_share(found: xr.Dataset) -> bool:
    """Return whether y is a share of right answers, which is shown in percent."""
    return "accuracy" in str(found.attrs["y"])


def _folded(text: str, width: int = 38) -> str:
    """Return a label in lines that fit below a panel."""
    from textwrap import fill

    return fill(str(text), width)
