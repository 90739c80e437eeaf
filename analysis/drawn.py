"""The numbers of a figure, as it draws them: noted by what draws it, or read back from its lines, bars, points and images.

A row says the panel, the series, where it is and how large, with the ends of its interval where one is drawn. Columns bear
the labels of the axes, units included.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from neurossl.surroundings import imported
from neurossl.text import one_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
SIGNIFICANT = 7
"""Digits of a number in a file; a figure shows three."""
Y = "{y}"
"""In the name of a noted column: the label of the y axis, units included."""
_NOTED: WeakKeyDictionary[Figure, list[tuple[Axes | None, Row]]] = WeakKeyDictionary()


def note(place: Figure | Axes, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to the numbers of a figure, such as the n that the figure itself does not show.

    Parameters
    ----------
    place : Figure or Axes
        Rows of axes get the title of these as their panel.
    rows : iterable of mapping
        Column to value; the values as they are drawn.
    """
    imported("matplotlib")
    from matplotlib.axes import Axes

    panel, figure = (place, place.get_figure(root=True)) if isinstance(place, Axes) else (None, place)
    assert figure is not None, "axes are of a figure"
    _NOTED.setdefault(figure, []).extend((panel, dict(row)) for row in rows)


def rows_of(figure: Figure) -> list[Row]:
    """Return the numbers of a figure: those noted, else those of its artists."""
    noted = _NOTED.get(figure)
    if not noted:
        return list(_read(figure))
    y = next((label for axes in figure.axes if (label := _label(axes.get_ylabel()))), "value")
    found = []
    for panel, row in noted:
        title = _label(panel.get_title()) if panel is not None else ""
        found.append(({"panel": title} if title else {}) | {name.replace(Y, y): value for name, value in row.items()})
    return found


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV (RFC 4180): one line of column names, numbers as numbers, nothing where there is none."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([one_line(name) for name in columns])
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "" if value is None else str(int(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{value:.{SIGNIFICANT}g}" if math.isfinite(value) else ""
    return one_line(value)


class _Place(NamedTuple):
    """Where a row stands: the panel and the names of its axes."""

    panel: str
    x: str
    y: str
    x_names: dict[float, str]
    y_names: dict[float, str]

    def row(self, series: str, x: Any, y: Any, low: Any = None, high: Any = None) -> Row:
        row = {"panel": self.panel} if self.panel else {}
        row |= {"series": series} if series else {}
        row |= {self.x: _named(x, self.x_names), self.y: _named(y, self.y_names)}
        return row if low is None else row | {f"{self.y} (low)": low, f"{self.y} (high)": high}


def _read(figure: Figure) -> Iterator[Row]:
    imported("matplotlib")
    labels = [_label(axes.get_xlabel()) for axes in figure.axes], [_label(axes.get_ylabel()) for axes in figure.axes]
    x, y = (next((label for label in found if label), name) for found, name in zip(labels, ("x", "y"), strict=True))
    for number, axes in enumerate(figure.axes, 1):
        if hasattr(axes, "_colorbar"):
            continue
        panel = _label(axes.get_title()) or (f"panel {number}" if len(figure.axes) > 1 else "")
        place = _Place(panel, _label(axes.get_xlabel()) or x, _label(axes.get_ylabel()) or y, *_names(axes))
        yield from _of_axes(axes, place)


def _of_axes(axes: Axes, place: _Place) -> Iterator[Row]:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
    from matplotlib.container import BarContainer, ErrorbarContainer

    inside: set[Artist] = set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            inside |= {c for c in container.get_children() if c is not None}
            yield from _of_error_bars(container, place)
        elif isinstance(container, BarContainer):
            inside |= set(container.patches)
            for bar in container.patches:
                middle = bar.get_x() + bar.get_width() / 2
                yield place.row(_label(container.get_label()), middle, bar.get_y() + bar.get_height())
    bands = [c for c in axes.collections if isinstance(c, PolyCollection) and not isinstance(c, QuadMesh)]
    for line in axes.lines:
        if line in inside or line.get_transform() != axes.transData or not np.size(line.get_xdata()):
            continue
        xs, ys = np.asarray(line.get_xdata(orig=False), float), np.asarray(line.get_ydata(orig=False), float)
        ends = next((found for band in bands if (found := _ends(band, line.get_color(), xs)) is not None), None)
        label = _label(line.get_label())
        for n in range(len(xs)):
            yield place.row(label, xs[n], ys[n], *(() if ends is None else (ends[0][n], ends[1][n])))
    for collection in axes.collections:
        if collection in inside:
            continue
        label = _label(collection.get_label())
        if isinstance(collection, PathCollection):
            for at in np.asarray(collection.get_offsets(), float):
                yield place.row(label, at[0], at[1])
        elif isinstance(collection, LineCollection) and label:
            for segment in collection.get_segments():
                if len(segment) == 2:
                    yield place.row(label, *np.mean(segment, axis=0))
        elif isinstance(collection, QuadMesh):
            yield from _of_grid(_plain(collection.get_array()), place, label or "value")
    for image in axes.images:
        values = _plain(image.get_array())
        if values.ndim == 2:
            yield from _of_grid(values, place, _label(image.get_label()) or "value")


def _plain(values: Any) -> np.ndarray:
    """Return the values of an image, NaN where they are masked."""
    return np.ma.filled(np.ma.asarray(values).astype(float), np.nan)


def _of_error_bars(container: Any, place: _Place) -> Iterator[Row]:
    line, _, bars = container.lines
    vertical = [c for c in bars if container.has_yerr]
    segments = vertical[-1].get_segments() if vertical else []
    ends = {float(s[0][0]): (float(s[0][1]), float(s[-1][1])) for s in segments if len(s)}
    if line is None:
        return
    for x, y in zip(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float), strict=True):
        yield place.row(_label(container.get_label()), x, y, *ends.get(float(x), ()))


def _of_grid(values: np.ndarray, place: _Place, name: str) -> Iterator[Row]:
    if values.ndim == 2 and not place.x_names and not place.y_names:  # a picture: a row each of its rows
        for number, row in enumerate(values):
            yield {"panel": place.panel, "row": number, **{f"column {n}": float(f"{v:.4g}") for n, v in enumerate(row)}}
        return
    for (row, column), value in np.ndenumerate(values if values.ndim == 2 else np.atleast_2d(values)):
        yield {**place.row("", float(column), float(row)), name: float(value)}


def _ends(band: Any, colour: Any, xs: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the lower and upper edge of a band at the places of a line, or None if it is not that line's."""
    from matplotlib.colors import to_rgb

    paths, faces = band.get_paths(), band.get_facecolor()
    if not len(paths) or not len(faces) or not np.allclose(to_rgb(faces[0]), to_rgb(colour), atol=1e-3):
        return None
    vertices = np.concatenate([path.vertices for path in paths])
    found = [vertices[np.isclose(vertices[:, 0], x), 1] for x in xs]
    if not any(map(len, found)):
        return None
    return np.array([f.min() if len(f) else np.nan for f in found]), np.array([f.max() if len(f) else np.nan for f in found])


def _names(axes: Axes) -> tuple[dict[float, str], dict[float, str]]:
    """Return what the ticks of the axes are called, where they bear names rather than numbers."""
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        places = axis.get_majorticklocs()
        words = map(_label, axis.get_major_formatter().format_ticks(places.tolist()))
        named = {float(place): word for place, word in zip(places, words, strict=True) if word and not _is_number(word)}
        # Numbers in the manner of engineers or of mathematics are no names.
        found.append({} if any("mathdefault" in word for word in named.values()) or _is_engineering(axis) else named)
    return found[0], found[1]


def _named(value: Any, names: Mapping[float, str]) -> Any:
    """Return the name of the nearest tick for a place on an axis of names; series side by side stand within half a step."""
    if not names or not isinstance(value, float) or not math.isfinite(value):
        return value
    nearest = min(names, key=lambda tick: abs(tick - value))
    return names[nearest] if abs(nearest - value) <= 0.5 else value


def _is_engineering(axis: Any) -> bool:
    from matplotlib.ticker import FixedLocator

    return not isinstance(axis.get_major_locator(), FixedLocator)


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-").replace(",", ""))
    except ValueError:
        return False
    return True


def _label(text: Any) -> str:
    """Return a label as it was before it was made safe for matplotlib; nothing for those that matplotlib gave itself."""
    shown = one_line(str(text).replace(r"\$", "$"))
    return "" if shown.startswith("_") else shown
