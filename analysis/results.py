"""The results of a protocol: one table, plain sentences, and charts described by the columns that they draw.

``RUN/results.json`` holds all of it, so that the report can be made again, or the numbers drawn otherwise, without the
protocol and without torch. Columns come in pairs where there are seeds or batches, ``NAME (mean)`` and
``NAME (95 % half-width)``, and in threes where something was timed: ``NAME (median)``, ``NAME (lower quartile)`` and
``NAME (upper quartile)``.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from analysis.records import ResultsRecord
from analysis.sealed import plain, read_sealed, seal
from analysis.statistics import Estimate, estimate
from neurossl.errors import OptionError, TrajectoryError
from neurossl.files import absolute, remove_abandoned, write_atomically
from neurossl.text import one_line, printable

Record = dict[str, Any]
RESULTS = "results.json"
MEAN, HALF_WIDTH, ERROR = " (mean)", " (95 % half-width)", " (standard error)"
MEDIAN, LOWER, UPPER = " (median)", " (lower quartile)", " (upper quartile)"


@dataclass(frozen=True)
class Chart:
    """What is drawn of a table.

    Parameters
    ----------
    title : str
    x, y : str
        Columns. A column of text makes an axis of categories. With ``NAME`` for ``y``, ``NAME (mean)`` is drawn and
        ``NAME (95 % half-width)`` makes the bars; or ``NAME (median)``, and the quartiles make the bars.
    x_label, y_label : str
        With units.
    series, panel : str, optional
        Columns that tell apart curves, and panels.
    stacked : bool
        Panels one below the other, each with a y axis of its own that bears the name of the panel.
    data : str
        "table", or the name of one of `Results.data`.
    where : mapping
        Only the records with these values.
    kind : {"lines", "points", "bars"}
    log : {"", "x", "y", "xy"}
    levels : mapping of str to float
        Named horizontal lines.
    y_range : (float, float), optional
    errors : str
        What the bars are.
    order : sequence of str
        Series in the order of their colours, so that charts of the same series give each the same; those of the records by
        default.
    text : str
        What to see.
    """

    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    series: str | None = None
    panel: str | None = None
    stacked: bool = False
    data: str = "table"
    where: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "lines"
    log: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)
    y_range: tuple[float, float] | None = None
    errors: str = "bars: 95 % interval of the mean"
    order: Sequence[str] = ()
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        object.__setattr__(self, "y_range", None if self.y_range is None else tuple(self.y_range))
        if self.y_range is not None and len(self.y_range) != 2:
            raise OptionError(f"chart {self.title!r}: y_range is the least and the largest value, got {self.y_range}")
        if self.kind not in ("lines", "points", "bars") or self.log not in ("", "x", "y", "xy"):
            raise OptionError(f"chart {self.title!r}: kind is lines, points or bars, log is '', x, y or xy")


@dataclass(frozen=True)
class Results:
    """What a protocol has found.

    Parameters
    ----------
    protocol, title : str
    table : list of dict
        Self-explaining column names; numbers as numbers, None where there is none (NaN becomes None).
    sentences : sequence of str
        What the data say, in words.
    charts : sequence of Chart
    data : mapping of str to list of dict
        Further tables for charts, such as curves.
    columns : sequence of str, optional
        What of the table is printed; all of it by default. ``NAME`` stands for the pair of mean and half-width.
    options : mapping
        With what the protocol was run.
    command : sequence of str
        The words of the command line that made them, as they were given.
    """

    protocol: str
    title: str
    table: Sequence[Record]
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    data: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    command: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", [printable(sentence) for sentence in self.sentences])
        object.__setattr__(self, "table", _without_nan(list(self.table)))
        object.__setattr__(self, "data", _without_nan({k: list(v) for k, v in self.data.items()}))

    def records(self, chart: Chart) -> list[Record]:
        """Return the records that a chart draws."""
        source = self.table if chart.data == "table" else self.data[chart.data]
        return [r for r in source if all(r.get(k) == v for k, v in chart.where.items())]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``results.json`` whole, with its checksum, and return its path."""
        path = absolute(folder) / RESULTS
        content = _without_nan({**asdict(self), "charts": [asdict(chart) for chart in self.charts]})
        remove_abandoned(path.parent)
        write_atomically(path, seal(plain(content), indent=1) + b"\n")
        return path


def read_results(folder: str | os.PathLike[str]) -> Results:
    """Return the results stored in a folder.

    Raises
    ------
    TrajectoryError
        If there are none, or the file is damaged or not what `Results.save` writes; one without a checksum, as written by
        hand, is taken as it is.
    """
    path = absolute(folder) / RESULTS
    content = read_sealed(path, ResultsRecord, "the results of a protocol")
    known = {f.name for f in fields(Chart)}
    charts = [Chart(**{k: v for k, v in chart.items() if k in known}) for chart in content.get("charts", ())]
    for chart in charts:
        if chart.data != "table" and chart.data not in content.get("data", {}):
            raise TrajectoryError(
                f"{path}: not the results of a protocol (chart {chart.title!r} draws {chart.data!r}, not there)"
            )
    known = {f.name for f in fields(Results)}
    return Results(**{k: v for k, v in content.items() if k in known and k != "charts"}, charts=charts)


def put(record: Record, column: str, value: Estimate | Sequence[float] | np.ndarray) -> Record:
    """Add a mean and the half-width of its 95 % interval to a record, as two columns; None where there is none."""
    found = value if isinstance(value, Estimate) else estimate(value)
    record[column + MEAN] = None if np.isnan(found.mean) else found.mean
    record[column + HALF_WIDTH] = None if np.isnan(found.half_width) else found.half_width
    return record


def put_with_error(record: Record, column: str, mean: float, standard_error: float) -> Record:
    """Add a mean and its standard error to a record, as two columns; None where there is none."""
    record[column + MEAN] = None if np.isnan(mean) else float(mean)
    record[column + ERROR] = None if np.isnan(standard_error) else float(standard_error)
    return record


def put_median(record: Record, column: str, values: Sequence[float] | np.ndarray) -> Record:
    """Add the median and the quartiles of repeated measurements to a record, as three columns; None where there are none."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    found = np.percentile(finite, (50, 25, 75)).tolist() if finite.size else [None] * 3
    record.update(zip((column + MEDIAN, column + LOWER, column + UPPER), found, strict=True))
    return record


def column_names(table: Iterable[Record]) -> list[str]:
    """Return the columns of a table in their order, those of a mean or a median as one."""
    names = list(dict.fromkeys(name for record in table for name in record))
    for suffix in (MEAN, HALF_WIDTH, ERROR, MEDIAN, LOWER, UPPER):
        names = [name.removesuffix(suffix) for name in names]
    return list(dict.fromkeys(names))


def cell(record: Record, column: str) -> str:
    """Return one cell as text: ``mean±half-width``, ``median [quartiles]``, a number with three digits, or text."""
    if record.get(column + MEDIAN) is not None:
        found = [record[column + suffix] for suffix in (MEDIAN, LOWER, UPPER)]
        if all(map(is_number, found)):
            middle, low, high = (number(value) if abs(value) >= 1 else f"{value:.3g}" for value in found)
            return f"{middle} [{low}-{high}]"
    if record.get(column + MEAN) is not None:
        mean, half = record[column + MEAN], record.get(column + HALF_WIDTH)
        if is_number(mean):
            return number(mean) + (f"±{number(half)}" if is_number(half) else "")
    value = record.get(column)
    if value is None:
        return "-"
    return number(value) if is_number(value) else one_line(str(value))


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a cell is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: float) -> str:
    """Return a number for people: three significant digits, whole numbers whole."""
    if isinstance(value, int) or (value == round(value) and abs(value) < 1e6):
        return f"{int(value):,}" if abs(value) >= 1000 else str(int(value))
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(3, digits)}f}"


def text_table(table: Sequence[Record], columns: Sequence[str] | None = None) -> str:
    """Return a table for a terminal; headings are wrapped above their columns."""
    shown = list(columns or column_names(table))
    cells = [[cell(record, column) for column in shown] for record in table]
    texts = [any(isinstance(r.get(c), str) for r in table) for c in shown]
    widths = []
    for place, column in enumerate(shown):
        longest_word = max(map(len, column.split()))
        widths.append(max(longest_word, min(len(column), 14), *(len(row[place]) for row in cells)) if cells else len(column))
    headings = [_wrapped(column, width) for column, width in zip(shown, widths, strict=True)]
    height = max(map(len, headings), default=0)
    lines = []
    for level in range(height):
        words = [h[level - height + len(h)] if level >= height - len(h) else "" for h in headings]
        lines.append(_row(words, widths, texts))
    lines.append("-" * len(_row(["-" * w for w in widths], widths, texts)))
    lines += [_row(row, widths, texts) for row in cells]
    return printable("\n".join(line.rstrip() for line in lines))


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


def _row(cells: Sequence[str], widths: Sequence[int], texts: Sequence[bool]) -> str:
    return "  ".join(f"{c:<{w}}" if t else f"{c:>{w}}" for c, w, t in zip(cells, widths, texts, strict=True))


def _without_nan(value: Any) -> Any:
    """Return a structure with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
