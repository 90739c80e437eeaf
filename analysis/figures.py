"""Figures of a comparison: matplotlib figures with labelled axes, in colours that everybody can tell apart.

Each function takes a `Comparison` and returns a `matplotlib.figure.Figure`, or None if nothing of the kind was recorded.
Rules differ by colour (`analysis.palette`), marker and line style. Bars and bands are 95 % intervals over seeds. What
is 1 by construction is drawn faint: it says nothing about a rule.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.comparison import Comparison
from analysis.drawing import literal, wrapped
from analysis.drawn import Y, note
from analysis.palette import look_of
from analysis.statistics import estimate
from neurossl.surroundings import imported

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAND = "bands: mean ± half-width of the 95 % interval over seeds (Student's t)"
LETTERS = 40
"""Of a name in a legend before it is broken."""
ROOMY = 4
"""Lines of a legend for which every figure has room."""
MOST_POINTS = 1000
"""Moments of a curve that are drawn; of more, so many at equal distances, the first and the last among them."""
HALF = "half-width of the 95 % interval"
REFERENCES = {
    "ceiling": ("noise ceiling: backprop on two halves of the observers", ":"),
    "shuffled_cosine": ("baseline: other observers are taught", (0, (1, 3))),
    "random_cosine": ("baseline: random credit", (0, (4, 2, 1, 2))),
}
"""Variables beside the cosine that are drawn with it, thin and in the colour of the rule: words and line."""
MOST_MARKS = 40
"""Interventions that are marked; more, such as one per moment, would hide the curves."""
BAR = "bars: mean ± half-width of the 95 % interval over seeds (Student's t)"
MEASURES = {
    "cosine": ("alignment of the proposed with the backprop-derived update", "cosine with backprop"),
    "angle": ("angle between the proposed and the backprop-derived update", "angle to backprop (degrees)"),
    "norm_ratio": ("size of the proposed update relative to the backprop-derived one", "norm / norm of backprop"),
    "sign_agreement": ("signs of the proposed update that are those of the backprop-derived one", "fraction of equal signs"),
    "relative_error": ("distance of the proposed from the backprop-derived update", "relative error"),
}
"""Title and axis of a figure of each measure of alignment."""


def style(comparison: Comparison, label: str) -> dict[str, Any]:
    """Return colour, marker and line of a rule, the same in all figures of a comparison."""
    return look_of(list(comparison.rules).index(label))


def alignment_figure(comparison: Comparison, measure: str = "cosine") -> "Figure | None":
    """Return a measure of alignment over training, one panel per pathway.

    Events at which no seed's comparison is trustworthy are left out.
    """
    title, axis = MEASURES.get(measure, (measure.replace("_", " "), measure))
    curves = _recorded({label: comparison.over_training(label, "alignment", measure) for label in comparison.rules})
    shown = _with_values([*comparison.pathways, *comparison.feedback], curves, "pathway")
    if not shown:
        return None
    figure, panels = panels_for(len(shown), title)
    for panel, pathway in zip(panels, shown, strict=True):
        for label, curve in curves.items():
            if pathway in curve["pathway"].values:
                faint = pathway in comparison.by_construction(label)
                _curve(panel, comparison, label, curve.sel(pathway=pathway), faint=faint)
        panel.set_title(_arrow(pathway))
        panel.axhline(1 if measure != "angle" else 0, color="0.6", lw=0.8)
        if measure == "cosine":
            _draw_references(panel, comparison, list(curves), pathway)
            panel.axhline(0, color="0.6", lw=0.8)
            panel.set_ylim(min(-0.35, *(float(curve["mean"].min()) - 0.05 for curve in curves.values())), 1.05)
        elif measure == "angle":
            panel.axhline(90, color="0.6", lw=0.8)
        else:
            panel.set_yscale("log")
            panel.minorticks_off()
    mark_interventions(panels, comparison)
    same = {label: set(comparison.by_construction(label)) & set(shown) for label in curves}
    marked = f"; faint: {'1' if measure == 'cosine' else 'equal'} by construction" if any(same.values()) else ""
    close_figure(figure, panels, "observers seen", axis, f"{BAND}, {n_in_words(curves.values())}{marked}")
    return figure


def probe_figure(comparison: Comparison, measure: str = "probe_accuracy") -> "Figure | None":
    """Return the accuracy of a probe per population after learning, with the baselines: before learning and raw pixels."""
    accuracies = {label: comparison.accuracies(label, measure) for label in comparison.rules}
    populations = [p for p in comparison.populations if any(p in a for a in accuracies.values())]
    if not populations:
        return None
    what = "linear probe" if measure == "probe_accuracy" else "nearest-neighbour probe"
    figure, (panel,) = panels_for(1, f"{what} of every population, after learning", width=8.5, height=4.6)
    places = np.arange(len(populations))
    offsets = np.linspace(-0.3, 0.3, max(2, len(comparison.rules)))
    initial = np.full(len(populations), np.nan)
    pixels: list[float] = []
    counts: list[int] = []
    for number, (label, found) in enumerate(accuracies.items()):
        final = [estimate(found[p]["final"]) if p in found else estimate([]) for p in populations]
        ends = list(zip(populations, final, strict=True))
        half = np.array([0 if np.isnan(e.half_width) else 100 * e.half_width for e in final])
        counts += [int(np.isfinite(found[p]["final"]).sum()) for p in populations if p in found]
        look = style(comparison, label)
        x = places + (offsets[number] if len(comparison.rules) > 1 else 0)
        look["linestyle"] = "none"
        panel.errorbar(x, [100 * e.mean for e in final], half, label=literal(label), ms=7, capsize=2.5, **look)
        numbers = [(e.mean, e.half_width, np.isfinite(found[p]["final"]).sum() if p in found else 0) for p, e in ends]
        columns = f"{Y}, mean over seeds", HALF, "n"
        for (p, _), (mean, width, n) in zip(ends, numbers, strict=True):
            if n:
                note(
                    panel,
                    [{"rule": label, "population": p, **dict(zip(columns, (100 * mean, 100 * width, n), strict=True))}],
                )
        for place, p in enumerate(populations):
            if p in found and np.isnan(initial[place]):
                initial[place] = 100 * np.nanmean(found[p]["initial"]) if np.isfinite(found[p]["initial"]).any() else np.nan
        for run in comparison.rules[label][:1]:
            if run.input in found:
                pixels.append(100 * estimate(found[run.input]["final"]).mean)
    panel.hlines(initial, places - 0.42, places + 0.42, color="0.35", lw=1.6, ls="--", label="before learning (first rule)")
    before = [(p, value) for p, value in zip(populations, initial, strict=True) if np.isfinite(value)]
    note(panel, ({"rule": "before learning (first rule)", "population": p, f"{Y}, mean over seeds": v} for p, v in before))
    if pixels:
        alike = np.ptp(pixels) < 1e-6
        panel.axhline(pixels[0], color="0.55", lw=1.4, ls=":", label="raw pixels" if alike else "raw pixels (first rule)")
        note(panel, [{"rule": "raw pixels" if alike else "raw pixels (first rule)", f"{Y}, mean over seeds": pixels[0]}])
    panel.set_xticks(places, list(map(literal, populations)))
    panel.grid(axis="y", color="0.9")
    close_figure(figure, [panel], "population", "test accuracy (%)", f"{BAR}, {_seeds(counts)}")
    return figure


def drift_figure(comparison: Comparison, feedback: bool = False) -> "Figure | None":
    """Return how far the weights of each feedforward or feedback pathway have moved from the start, over training.

    Feedback that is fixed has nothing to show.
    """
    curves = _recorded({label: comparison.drift(label) for label in comparison.rules})
    wanted = comparison.feedback if feedback else comparison.pathways
    shown = [name for name in _with_values(wanted, curves, "pathway") if _moments_of(curves, name) > 1]
    if not shown:
        return None
    which = "feedback weights" if feedback else "weights"
    figure, panels = panels_for(len(shown), f"distance of the {which} from the start")
    for panel, pathway in zip(panels, shown, strict=True):
        for label, curve in curves.items():
            if pathway in curve["pathway"].values:
                _curve(panel, comparison, label, curve.sel(pathway=pathway), axis="snapshot")
        panel.set_title(_arrow(pathway))
    mark_interventions(panels, comparison)
    panels[0].set_ylim(bottom=0)
    close_figure(figure, panels, "observers seen", "|W(t) - W(0)| / |W(0)|", f"{BAND}, {n_in_words(curves.values())}")
    return figure


def loss_figure(comparison: Comparison) -> "Figure | None":
    """Return the loss of each population over training, relative to its first recorded value."""
    curves = _recorded({label: comparison.over_training(label, "performance", "loss") for label in comparison.rules})
    shown = _with_values(comparison.populations, curves, "population")
    if not shown:
        return None
    figure, panels = panels_for(len(shown), "loss of the objective at each population, relative to the first recorded")
    for panel, population in zip(panels, shown, strict=True):
        for label, curve in curves.items():
            if population in curve["population"].values:
                one = curve.sel(population=population).dropna("event", subset=["mean"])
                if one.sizes["event"]:
                    first = one["mean"][0]
                    scaled = one.assign(mean=one["mean"] / first, half_width=one["half_width"] / abs(first))
                    _curve(panel, comparison, label, scaled)
        panel.set_title(literal(population))
    mark_interventions(panels, comparison)
    close_figure(figure, panels, "observers seen", "loss / first loss", f"{BAND}, {n_in_words(curves.values())}")
    return figure


def panels_for(
    count: int, title: str, width: float = 2.9, height: float = 3.3, stacked: bool = False
) -> "tuple[Figure, list[Axes]]":
    """Return a figure with panels in rows of three or four that share their axes, or stacked, sharing the x axis alone."""
    imported("matplotlib")
    from matplotlib.figure import Figure

    columns = 1 if stacked else count if count <= 4 else 3 if count <= 6 else 4
    rows = -(-count // columns)
    size = (8.5, 1.25 * rows + 1.2) if stacked else (max(6.5, width * columns), height * rows + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=not stacked)
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.remove()
    figure.suptitle(literal(title), fontsize=12)
    return figure, panels[:count]


def mark_interventions(panels: "list[Axes]", comparison: Comparison) -> None:
    """Draw a thin line wherever something was done to a simulation; the axis is observers seen."""
    places = comparison.interventions
    for place in places if len(places) <= MOST_MARKS else ():
        for panel in panels:
            panel.axvline(place, color="0.45", lw=0.7, ls=(0, (2, 2)), zorder=0, label="intervention")


def _draw_references(panel: "Axes", comparison: Comparison, labels: "Sequence[str]", pathway: str) -> None:
    """Draw what a cosine is to be measured against, where it was recorded: the noise ceiling of a rule, and baselines."""
    for label in labels:
        for name, (words, line) in REFERENCES.items():
            curve = comparison.over_training(label, "alignment", name)
            if curve is None or pathway not in curve["pathway"].values:
                continue
            one = curve.sel(pathway=pathway).dropna("event", subset=["mean"])
            if not one.sizes["event"]:
                continue
            colour = style(comparison, label)["color"]
            x = one["observers_seen"].values if "observers_seen" in one.coords else one["event"].values
            panel.plot(x, one["mean"].values, color=colour, lw=1.1, ls=line, alpha=0.75, zorder=1)
            panel.plot([], [], color="0.35", lw=1.1, ls=line, label=words)
            rows = zip(x.tolist(), *(one[key].values.tolist() for key in ("mean", "half_width", "count")), strict=True)
            columns = "observers seen", f"{Y}, mean over seeds", HALF, "n"
            note(panel, ({"rule": label, **dict(zip(columns, row, strict=True)), "line": words} for row in rows))


def n_in_words(curves: "Iterable[xr.Dataset]") -> str:
    """Say on how many seeds the means of curves rest, as ``n = 3`` or ``n = 1 to 3``; a mean that is drawn has one."""
    return _seeds([int(n) for curve in curves for n in curve["count"].values.ravel() if n])


def _seeds(counts: "Sequence[int]") -> str:
    least, most = min(counts, default=0), max(counts, default=0)
    return f"n = {most}" if least == most else f"n = {least} to {most}"


def _recorded(curves: "Mapping[str, xr.Dataset | None]") -> "dict[str, xr.Dataset]":
    """Return the curves of which anything was recorded."""
    return {label: c for label, c in curves.items() if c is not None and bool(c["mean"].notnull().any())}


def _with_values(names: "Sequence[str]", curves: "Mapping[str, xr.Dataset]", dim: str) -> list[str]:
    """Return the pathways or populations of which any curve has a value."""
    return [n for n in names if any(n in c[dim].values and c["mean"].sel({dim: n}).notnull().any() for c in curves.values())]


def _moments_of(curves: "Mapping[str, xr.Dataset]", pathway: str) -> int:
    """Return the most moments that any curve of a pathway has."""
    having = [curve["mean"].sel(pathway=pathway) for curve in curves.values() if pathway in curve["pathway"].values]
    return max(int(mean.notnull().sum()) for mean in having)


def _curve(
    panel: "Axes", comparison: Comparison, label: str, curve: "xr.Dataset", axis: str = "event", faint: bool = False
) -> None:
    """Draw a mean with its 95 % interval over observers seen."""
    curve = curve.dropna(axis, subset=["mean"])
    if not curve.sizes[axis]:
        return
    x = curve["observers_seen"].values if "observers_seen" in curve.coords else curve[axis].values
    look = style(comparison, label)
    draw_band(panel, x, curve["mean"].values, curve["half_width"].values, curve["count"].values, label, look, faint)


def draw_band(
    panel: "Axes",
    x: np.ndarray,
    mean: np.ndarray,
    half: np.ndarray,
    count: np.ndarray,
    label: str,
    look: dict[str, Any],
    faint: bool = False,
) -> None:
    """Draw a mean over x, with a band where it has an interval; one of two seeds, which is wide, does not set the axis."""
    if len(x) > MOST_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
        x, mean, half, count = (values[kept] for values in (x, mean, half, count))
    rows = zip(x.tolist(), mean.tolist(), half.tolist(), count.tolist(), strict=True)
    columns = "observers seen", f"{Y}, mean over seeds", HALF, "n"
    note(panel, ({"rule": label, **dict(zip(columns, row, strict=True)), "1 by construction": faint} for row in rows))
    alpha = 0.3 if faint else 1.0
    panel.plot(x, mean, label=literal(label), ms=4, markevery=max(1, len(x) // 8), lw=1.5, alpha=alpha, **look)
    if np.isfinite(half).any() and not faint:
        limits = panel.dataLim.frozen()
        panel.fill_between(x, mean - half, mean + half, color=look["color"], alpha=0.15, lw=0)
        if count.max() < 3:
            panel.dataLim.set(limits)


def close_figure(figure: "Figure", panels: "list[Axes]", x: str, y: str, errors: str = BAND) -> None:
    """Label the axes once and put one legend below, with what its bars or bands are."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
        if x == "observers seen":
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.set_xlabel(literal(x), fontsize=10)
        panel.set_ylabel(literal(y), fontsize=10)
        panel.label_outer()
    handles: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        names = [wrapped(name, LETTERS) for name in handles]
        longest = max(len(line) for name in names for line in name.split("\n"))
        columns = max(1, min(3, int(figure.get_figwidth() / (0.075 * longest + 0.55))))
        lines = sum(name.count("\n") + 1 for name in names) / columns
        if lines > ROOMY:  # a long legend is not to squeeze the panels
            figure.set_figheight(figure.get_figheight() + 0.18 * (lines - ROOMY))
        place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "fontsize": 9, "frameon": False}
        figure.legend(handles.values(), names, title=literal(errors) or None, **place)
    elif errors:
        figure.supxlabel(literal(errors), fontsize=9)


def _arrow(pathway: str) -> str:
    return literal(pathway.replace("->", " → ").replace("=>", " ⇒ "))


FIGURES: dict[str, tuple[str, Callable[[Comparison], "Figure | None"]]] = {
    "alignment": ("Alignment with backprop over training", alignment_figure),
    "probes": ("What a linear readout finds in every population", probe_figure),
    "drift": ("How far the weights have moved", drift_figure),
    "feedback_drift": ("How far the feedback weights have moved", lambda c: drift_figure(c, feedback=True)),
    "norm_ratio": ("Size of the updates", lambda c: alignment_figure(c, "norm_ratio")),
    "loss": ("Loss over training", loss_figure),
}
"""The figures of a report: name -> (heading, function)."""
