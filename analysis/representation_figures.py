"""Figures of representations, of the tree of one run or of many: how similar they are, what they are like, how they change.

Each function takes the tree of `analysis.open_runs` (or of one run) and returns a ``matplotlib.figure.Figure``, or None
where no responses were recorded. Similarities are coloured from light to dark and written into the cells; rules differ by
colour, marker and line style. Bars and bands are 95 % intervals over seeds; each figure says how many seeds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.between_seeds import similarity_of_rules
from analysis.crossing import paired
from analysis.drawing import literal
from analysis.palette import look_of
from analysis.rdm_comparison import SECOND
from analysis.representation_arrays import leading, responses_in
from analysis.representations import MEASURES, representation_measures
from analysis.similarities import cka_measure
from analysis.similarity_matrices import similarity
from analysis.statistics import over_seeds
from analysis.stimuli import images_of, view_means
from neurossl.errors import TrajectoryError
from neurossl.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR_MAP = "cividis_r"
"""Even in lightness and the same to colour-blind eyes; its dark end is full similarity."""
SHOWN = ("participation_ratio", "invariance", "separability", "d_prime", "population_sparseness", "omega_squared")
MOST_MOMENTS = 25
"""Moments of which the change of a representation is drawn; of more, so many, evenly spaced."""
MOST_WIDTH = 12.0
"""Inches of matrices side by side."""
MOST_CELLS = 12
"""Rows of a matrix up to which values are written into its cells."""


def rules_figure(tree: xr.DataTree) -> Figure | None:
    """Return how similar the final representations of rules are, between different seeds, one matrix per population.

    On the diagonal is what different seeds of one rule reach: no other rule can be expected to be closer. With one seed,
    rules from the same start are compared, and there is no diagonal.
    """
    found = _responses(tree)
    if found is None or next(iter(found.values())).sizes["rule"] < 2:
        return None
    both = similarity_of_rules(found)
    several = bool(both["other_seed"].notnull().any())
    shown = both["other_seed"] if several else both["same_seed"]
    half = both["other_seed_half_width"] if several else both["same_seed_half_width"]
    what = "between different seeds; on the diagonal seeds of one rule" if several else "rules from the same start"
    title = f"similarity of the final representations of rules\n{_measured(both)}; {_seeds(both['seeds'])}\n{what}"
    return _matrices(shown, half, "rule", "population", title)


def populations_figure(tree: xr.DataTree) -> Figure | None:
    """Return how similar the final representations of a network's populations are, one matrix per rule, mean over seeds."""
    found = _responses(tree)
    if found is None or len(found) < 2:
        return None
    every = similarity(found, "population")
    over = over_seeds(every)
    title = f"similarity of the populations of one network after learning\n{_measured(every)}; {_seeds(over['count'])}"
    # A representation with itself is 1 by construction, and is left white.
    other = every["population"] != every["population" + SECOND]
    return _matrices(over["mean"].where(other), over["half_width"], "population", "rule", title)


def measures_figure(tree: xr.DataTree, measures: Sequence[str] = SHOWN) -> Figure | None:
    """Return measures of every population's representation after learning, and before as a dash, one panel per measure."""
    found = _responses(tree)
    if found is None:
        return None
    final = representation_measures(found, measures)
    several = all("snapshot" in response.dims and response.sizes["snapshot"] > 1 for response in found.values())
    initial = representation_measures({n: r.isel(snapshot=0) for n, r in found.items()}, measures) if several else None
    shown = [name for name in measures if bool(final[name].notnull().any())]
    if not shown:
        return None
    figure, panels = _panels(
        len(shown), "representations after learning" + (" (dashes: before)" if several else ""), 3.6, 2.9
    )
    populations = list(found)
    rules = [str(rule) for rule in final["rule"].values]
    offsets = np.linspace(-0.3, 0.3, len(rules)) if len(rules) > 1 else np.zeros(1)
    counts = []
    for panel, name in zip(panels, shown, strict=True):
        over = over_seeds(final[name])
        counts.append(over["count"])
        for number, rule in enumerate(rules):
            one = over.isel(rule=number)
            half = np.nan_to_num(one["half_width"].values)
            place = np.arange(len(populations)) + offsets[number]
            look = look_of(number) | {"linestyle": "none"}
            panel.errorbar(place, one["mean"].values, half, label=literal(rule), ms=5.5, capsize=2, **look)
            if initial is not None:
                before = initial[name].isel(rule=number).mean("seed").values
                panel.plot(place, before, ls="none", marker="_", ms=9, color=look["color"], alpha=0.7)
        panel.set_title(literal(MEASURES[name][0]), fontsize=10)
        panel.set_xticks(np.arange(len(populations)), list(map(literal, populations)))
        panel.set_xlim(-0.5, len(populations) - 0.5)
        panel.grid(axis="y", color="0.9")
    _legend(figure, panels[0], _intervals("bars", xr.concat(counts, "measure")))
    return figure


def change_figure(tree: xr.DataTree) -> Figure | None:
    """Return how similar each population's representation is to that before learning, over training."""
    found = _responses(tree)
    if found is None or any("snapshot" not in r.dims or r.sizes["snapshot"] < 2 for r in found.values()):
        return None
    curves = {}
    for name, response in found.items():
        count = response.sizes["snapshot"]
        kept = np.unique(np.linspace(0, count - 1, min(count, MOST_MOMENTS)).round().astype(int))
        some = response.isel(snapshot=kept)
        first = some.isel(snapshot=0, drop=True)
        curves[name] = _to_first(first, some)
    figure, panels = _panels(len(curves), "similarity to the representation before learning (debiased linear CKA)", 2.9, 3.0)
    counts = []
    for panel, (name, curve) in zip(panels, curves.items(), strict=True):
        over = over_seeds(curve)
        counts.append(over["count"])
        for number, rule in enumerate(over["rule"].values):
            one = over.isel(rule=number).dropna("snapshot", subset=["mean"])
            x = one["observers_seen"].values if one.get("observers_seen") is not None else one["snapshot"].values
            x = x if np.ndim(x) == 1 else one["snapshot"].values
            panel.plot(x, one["mean"].values, label=literal(str(rule)), ms=4, lw=1.5, **look_of(number))
            low, high = (one["mean"] - one["half_width"]).values, (one["mean"] + one["half_width"]).values
            if np.isfinite(low).any():
                panel.fill_between(x, low, high, color=look_of(number)["color"], alpha=0.15, lw=0)
        panel.set_title(literal(name), fontsize=10)
        panel.axhline(0, color="0.6", lw=0.8)
        panel.set_ylim(min(-0.05, panel.get_ylim()[0]), 1.05)
        seen = all("observers_seen" in c.coords and c["observers_seen"].ndim == 1 for c in curves.values())
        panel.set_xlabel("observers seen" if seen else "event", fontsize=9)
    _legend(figure, panels[0], _intervals("bands", xr.concat(counts, "population")))
    return figure


REPRESENTATION_FIGURES: dict[str, tuple[str, Callable[[xr.DataTree], Figure | None]]] = {
    "similarity-rules": ("Do rules arrive at the same representation?", rules_figure),
    "similarity-populations": ("How similar the populations of a network are", populations_figure),
    "representations": ("What the representations are like", measures_figure),
    "similarity-start": ("How far representations have moved from the start", change_figure),
}
"""Name -> (heading, function of the tree of runs)."""


def _responses(tree: xr.DataTree) -> dict[str, xr.DataArray] | None:
    """Return the responses with dims rule and seed, whether there are several or not; None if none were recorded."""
    try:
        found = responses_in(tree)
    except TrajectoryError:
        return None
    attrs = getattr(tree, "attrs", {})
    for dim, label in (("seed", attrs.get("seed", 0)), ("rule", str(attrs.get("rule", "run")))):
        found = {
            name: response
            if dim in leading(response)
            else response.drop_vars(dim, errors="ignore").expand_dims({dim: [label]})
            for name, response in found.items()
        }
    return found


def _to_first(first: xr.DataArray, some: xr.DataArray) -> xr.DataArray:
    """Return the CKA of each representation with the first, views of one image averaged as they are read."""
    images, measure = images_of(some), cka_measure()
    averaged = replace(measure, prepare=lambda values: measure.prepare(view_means(values, images)))
    return paired(some, first, averaged)


def _matrices(mean: xr.DataArray, half: xr.DataArray, along: str, panel_dim: str, title: str) -> Figure:
    """Draw one matrix per label of a dim, with values and half-widths in the cells."""
    from matplotlib import colormaps

    labels = [literal(str(label)) for label in mean[along].values]
    names = [str(name) for name in mean[panel_dim].values]
    size = max(2.6, 0.58 * len(labels) + 1.2)
    columns = min(len(names), max(1, int(MOST_WIDTH / size)))
    columns = -(-len(names) // -(-len(names) // columns))
    figure, panels = _panels(len(names), title, size, size, columns)
    lowest = float(mean.min())
    low = np.floor(10 * lowest) / 10 if np.isfinite(lowest) and lowest < 1 else 0.0
    colours = colormaps[COLOUR_MAP]
    for number, (panel, name) in enumerate(zip(panels, names, strict=True)):
        square = mean.sel({panel_dim: name}).transpose(along, along + SECOND).values
        widths = half.sel({panel_dim: name}).transpose(along, along + SECOND).values
        image = panel.imshow(square, vmin=low, vmax=1, cmap=colours)
        for (row, column), value in np.ndenumerate(square) if len(labels) <= MOST_CELLS else ():
            if np.isfinite(value):
                width = f"\n±{widths[row, column]:.2f}" if np.isfinite(widths[row, column]) else ""
                lightness = np.dot(colours((value - low) / (1 - low))[:3], (0.299, 0.587, 0.114))
                look: dict[str, Any] = {
                    "ha": "center",
                    "va": "center",
                    "fontsize": 7,
                    "color": "black" if lightness > 0.5 else "white",
                }
                panel.text(column, row, f"{value:.2f}{width}", linespacing=0.95, **look)
        lowest_row, first = number + columns >= len(names), number % columns == 0
        across = labels if lowest_row else [""] * len(labels)
        panel.set_xticks(range(len(labels)), across, rotation=40, ha="right", fontsize=8)
        panel.set_yticks(range(len(labels)), labels if first else [""] * len(labels), fontsize=8)
        panel.tick_params(length=0)
        panel.set_title(literal(name), fontsize=10)
        panel.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=panels, shrink=0.6, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("similarity (±: 95 % interval)" if bool(half.notnull().any()) else "similarity", fontsize=9)
    return figure


def _panels(count: int, title: str, width: float, height: float, columns: int = 0) -> tuple[Figure, list[Axes]]:
    imported("matplotlib")
    from matplotlib.figure import Figure

    columns = columns or (count if count <= 4 else 3 if count <= 6 else 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(6.0, width * columns + 0.8), height * rows + 1.1), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in grid[count:]:
        unused.remove()
    for panel in grid[:count]:
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(literal(title), fontsize=11)
    return figure, grid[:count]


def _legend(figure: Figure, panel: Axes, title: str) -> None:
    handles, labels = panel.get_legend_handles_labels()
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": 4, "fontsize": 9, "frameon": False}
    figure.legend(handles, labels, title=literal(title), title_fontsize=9, **place)


def _seeds(counts: xr.DataArray) -> str:
    """Return how many seeds there are, in words."""
    least, most = int(counts.min()), int(counts.max())
    if most <= 1:
        return "n = 1 seed: no interval"
    return f"n = {most} seeds" if least == most else f"n = {least} to {most} seeds"


def _intervals(what: str, counts: xr.DataArray) -> str:
    """Return what bars or bands are, and of how many seeds."""
    return f"{what}: 95 % interval of the mean (Student's t), {_seeds(counts)}" if int(counts.max()) > 1 else _seeds(counts)


def _measured(found: xr.Dataset | xr.DataArray) -> str:
    return f"{found.attrs['long_name']}, {found.attrs['stimuli_compared']} images"
