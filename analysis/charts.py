"""Charts of the tables of a protocol: what a `Chart` describes as a matplotlib figure."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.drawing import literal
from analysis.drawn import note
from analysis.figures import close_figure, panels_for
from analysis.palette import look_of
from analysis.results import Chart, Results
from analysis.tables import ERROR, HALF_WIDTH, HIGH, LOW, LOWER, MEAN, MEDIAN, UPPER, Record, is_number, number
from neurossl.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(results: Results, chart: Chart) -> "Figure | None":
    """Return a chart of results as a figure, or None if none of its numbers is there."""
    imported("matplotlib")
    from matplotlib.ticker import MaxNLocator

    records = [r for r in results.records(chart) if _value(r, chart.y) is not None and r.get(chart.x) is not None]
    if not records:
        return None
    if chart.kind == "matrix":
        return _draw_matrix(records, chart)
    names = _distinct(records, chart.panel)
    series = [*chart.order, *(name for name in _distinct(records, chart.series) if name not in chart.order)]
    figure, panels = panels_for(len(names), chart.title, stacked=chart.stacked)
    categories = _categories(records, chart.x)
    drawn = set(_distinct(records, chart.series))
    beside = [label for label in series if label in drawn]
    for panel, name in zip(panels, names, strict=True):
        for place, label in enumerate(series):
            mine = [
                r
                for r in records
                if (chart.panel is None or r.get(chart.panel) == name)
                and (chart.series is None or r.get(chart.series) == label)
            ]
            if mine:
                where = beside.index(label), len(beside)
                _draw_series(panel, chart, mine, str(label), place, where, categories)
        for level, height in chart.levels.items():
            panel.axhline(height, color="0.55", lw=1.2, ls=":", label=literal(level), zorder=0)
        if chart.panel is not None and not chart.stacked:
            panel.set_title(literal(str(name)), fontsize=11)
        if "x" in chart.log:
            panel.set_xscale("log")
            sizes = sorted({r[chart.x] for r in records})
            if len(sizes) <= 8:
                panel.set_xticks(sizes, [number(size) if size >= 1 else f"{size:g}" for size in sizes])
                panel.set_xticks([], minor=True)
        elif not categories and all(isinstance(r[chart.x], int) for r in records):
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        if "y" in chart.log:
            panel.set_yscale("log")
        if categories:
            long = max(map(len, categories)) * len(categories) > 40
            panel.set_xticks(
                range(len(categories)),
                list(map(literal, categories)),
                rotation=30 if long else 0,
                ha="right" if long else "center",
            )
        if chart.y_range is not None:
            panel.set_ylim(*chart.y_range)
    columns = [name for name in (chart.panel, chart.series, chart.x) if name is not None]
    note(figure, ({k: v for k, v in r.items() if k in (*columns, chart.y, "seeds") or _of(chart.y, k)} for r in records))
    note(figure, ({"level": name, chart.y: height} for name, height in chart.levels.items()))
    has_errors = any(r.get(chart.y + suffix) is not None for r in records for suffix in (HALF_WIDTH, ERROR, LOWER, LOW))
    close_figure(figure, panels, chart.x_label, chart.y_label, chart.errors if has_errors else "")
    if chart.stacked:
        for panel, name in zip(panels, names, strict=True):
            panel.set_ylabel(literal(fill(str(name), 14)), fontsize=9)
    return figure


def _draw_series(
    panel: "Axes",
    chart: Chart,
    records: Sequence[Record],
    label: str,
    place: int,
    beside: tuple[int, int],
    categories: Sequence[str],
) -> None:
    """Draw a series in the look of its place in the chart's order, side by side with the others (its slot, of how many)."""
    slot, count = beside
    heights = np.array([_value(r, chart.y) for r in records], dtype=float)
    around = np.array([_around(r, chart.y) for r in records], dtype=float).T
    if categories:
        x = np.array([categories.index(str(r[chart.x])) for r in records], dtype=float)
    else:
        x = np.array([r[chart.x] for r in records], dtype=float)
        order = np.argsort(x, kind="stable")
        x, heights, around = x[order], heights[order], around[:, order]
    look = look_of(place)
    shown = literal(label) if chart.series is not None else None
    errors = around.tolist() if around.any() else None
    if chart.kind == "bars":
        width = 0.8 / count
        panel.bar(
            x + (slot - (count - 1) / 2) * width, heights, width, yerr=errors, color=look["color"], label=shown, capsize=2
        )
        return
    most = (0.12, 0.6) if chart.kind == "points" else (0.04, 0.25)
    apart = min(most[0], most[1] / count) if categories else 0.0
    shift = (slot - (count - 1) / 2) * apart
    if chart.kind != "lines":
        look["linestyle"] = "none"
    every = max(1, len(x) // 12)
    # Where there are many points, series mark different ones, so that their bars do not hide each other.
    some = place % every, every
    look |= {"markevery": some, "errorevery": some}
    panel.errorbar(x + shift, heights, errors, label=shown, ms=5, lw=1.5, capsize=2, elinewidth=0.9, **look)


def _draw_matrix(records: Sequence[Record], chart: Chart) -> "Figure":
    """Draw shares as a matrix: rows are series, columns what lies along x."""
    imported("matplotlib")
    from matplotlib.figure import Figure

    columns, rows = (
        [*chart.order, *(n for n in _distinct(records, c) if n not in chart.order)] for c in (chart.x, chart.series)
    )
    values = np.full((len(rows), len(columns)), np.nan)
    for record in records:
        values[rows.index(record.get(chart.series or "")), columns.index(record[chart.x])] = _value(record, chart.y)
    figure = Figure(figsize=(2.6 + 0.52 * len(columns), 1.9 + 0.42 * len(rows)), layout="constrained")
    panel = figure.subplots()
    drawn = panel.imshow(values, vmin=0, vmax=max(1.0, float(np.nanmax(values))), cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and value > 0:
            ink = "white" if value < 0.5 else "black"
            panel.text(column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center", color=ink, fontsize=8)
    panel.set_xticks(range(len(columns)), [literal(str(name)) for name in columns], rotation=40, ha="right", fontsize=9)
    panel.set_yticks(range(len(rows)), [literal(str(name)) for name in rows], fontsize=9)
    panel.set(xlabel=literal(chart.x_label), ylabel=literal(chart.y_label))
    panel.set_title(literal(chart.title), fontsize=11)
    figure.colorbar(drawn, ax=panel, label="share", shrink=0.8)
    columns_of = [name for name in (chart.series, chart.x) if name is not None]
    note(figure, ({k: v for k, v in r.items() if k in (*columns_of, chart.y) or _of(chart.y, k)} for r in records))
    return figure


def _of(quantity: str, column: str) -> bool:
    """Return whether a column is the mean, an end of the interval, the n, ... of a quantity."""
    return column.startswith(f"{quantity} (") and column.endswith(")")


def _value(record: Mapping[str, Any], column: str) -> Any:
    found = [record.get(column + suffix) for suffix in (MEAN, MEDIAN, "")]
    return next((value for value in found if isinstance(value, str | int | float)), None)


def _around(record: Mapping[str, Any], column: str) -> tuple[float, float]:
    """Return how far the bar of a record reaches below and above its value."""
    middle, low, high = (record.get(column + suffix) for suffix in (MEDIAN, LOWER, UPPER))
    if is_number(middle) and is_number(low) and is_number(high):
        return middle - low, high - middle
    middle, low, high = (record.get(column + suffix) for suffix in ("", LOW, HIGH))
    if is_number(middle) and is_number(low) and is_number(high):
        return max(0.0, middle - low), max(0.0, high - middle)
    halves = (record.get(column + suffix) for suffix in (HALF_WIDTH, ERROR))
    half = next((half for half in halves if is_number(half)), 0.0)
    return half, half


def _distinct(records: Sequence[Record], column: str | None) -> list[Any]:
    return [None] if column is None else list(dict.fromkeys(r.get(column) for r in records))


def _categories(records: Sequence[Record], column: str) -> list[str]:
    """Return the categories of an axis, or nothing for numbers."""
    if all(isinstance(r[column], int | float) for r in records):
        return []
    return list(dict.fromkeys(str(r[column]) for r in records))
