"""The results of a protocol: one table, plain sentences, and charts described by the columns that they draw.

``RUN/results.json`` holds all of it, so that the report can be made again, or the numbers drawn otherwise, without the
protocol and without torch. How columns are named is in `analysis.tables`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import ResultsRecord
from analysis.sealed import plain, read_sealed, seal
from analysis.tables import Record, text_table
from neurossl.errors import OptionError, TrajectoryError
from neurossl.files import absolute, remove_abandoned, write_atomically
from neurossl.text import printable

RESULTS = "results.json"
CAPTION = "mean±half-width of the 95 % interval (Student's t) where two numbers stand in a cell"


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
    kind : {"lines", "points", "bars", "matrix"}
        Of a matrix, ``x`` are the columns, ``series`` the rows, and ``y``, of 0 to 1, is written and coloured.
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
        if self.kind not in ("lines", "points", "bars", "matrix") or self.log not in ("", "x", "y", "xy"):
            raise OptionError(f"chart {self.title!r}: kind is lines, points, bars or matrix, log is '', x, y or xy")


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
        What of the table is shown; all of it by default. ``NAME`` stands for the pair of mean and half-width.
    options : mapping
        With what the protocol was run.
    command : sequence of str
        The words of the command line that made them, as they were given.
    headings : mapping of str to str
        Shorter words above some columns; "(%)" at the end of one has shares shown as percent.
    caption : str
        What stands below the table.
    notes : sequence of str
        Lines below that, such as with which reference cosines are.
    curves : bool
        Whether the report shows the figures of the runs as well.
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
    headings: Mapping[str, str] = field(default_factory=dict)
    caption: str = CAPTION
    notes: Sequence[str] = ()
    curves: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", [printable(sentence) for sentence in self.sentences])
        object.__setattr__(self, "notes", [printable(note) for note in self.notes])
        object.__setattr__(self, "table", _without_nan(list(self.table)))
        object.__setattr__(self, "data", _without_nan({k: list(v) for k, v in self.data.items()}))

    def text(self, width: int | None = None) -> str:
        """Return table, caption, notes and sentences for a terminal of so many columns."""
        table = text_table(self.table, self.columns, self.headings, width)
        parts = [table, self.caption if self.table else "", *(self.notes if self.table else ()), *self.sentences]
        return printable("\n".join(part for part in parts if part))

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


def _without_nan(value: Any) -> Any:
    """Return a structure with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
