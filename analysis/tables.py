"""Tables: records with self-explaining column names, and how their cells are shown.

Columns come in threes where there are seeds or batches, ``NAME (mean)``, ``NAME (95 % half-width)`` and ``NAME (n)``, the
number of values behind the mean, and where something was timed: ``NAME (median)``, ``NAME (lower quartile)`` and ``NAME
(upper quartile)``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any, TypeGuard

import numpy as np

from analysis.statistics import Estimate, estimate
from neurossl.surroundings import imported
from neurossl.text import one_line, printable

Record = dict[str, Any]
MEAN, HALF_WIDTH, ERROR, N = " (mean)", " (95 % half-width)", " (standard error)", " (n)"
MEDIAN, LOWER, UPPER = " (median)", " (lower quartile)", " (upper quartile)"
LOW, HIGH = " (95 % from)", " (95 % to)"


def put(record: Record, column: str, value: Estimate | Sequence[float] | np.ndarray) -> Record:
    """Add a mean, the half-width of its 95 % interval and n to a record, as three columns; None where there is none."""
    found = value if isinstance(value, Estimate) else estimate(value)
    record[column + MEAN] = None if np.isnan(found.mean) else found.mean
    record[column + HALF_WIDTH] = None if np.isnan(found.half_width) else found.half_width
    if found.n or np.isnan(found.mean):  # an estimate made by hand need not say
        record[column + N] = found.n
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


def put_share(record: Record, column: str, count: int, of: int) -> Record:
    """Add how many of how many as a share and Wilson's 95 % interval, as three columns."""
    interval = imported("scipy.stats").binomtest(count, of).proportion_ci(method="wilson")
    return put_interval(record, column, count / of, float(interval.low), float(interval.high))


def put_interval(record: Record, column: str, value: float, low: float, high: float) -> Record:
    """Add a value and the ends of its 95 % interval, which need not lie at the same distance, as three columns."""
    found = {column: value, column + LOW: low, column + HIGH: high}
    return record | {name: None if np.isnan(one) else float(one) for name, one in found.items()}


def column_names(table: Iterable[Record]) -> list[str]:
    """Return the columns of a table in their order, those of a mean or a median as one."""
    names = list(dict.fromkeys(name for record in table for name in record))
    for suffix in (MEAN, HALF_WIDTH, ERROR, N, MEDIAN, LOWER, UPPER, LOW, HIGH):
        names = [name.removesuffix(suffix) for name in names]
    return list(dict.fromkeys(names))


def cell(record: Record, column: str, percent: bool = False) -> str:
    """Return one cell as text: ``mean±half-width``, ``median [quartiles]``, a number with three digits, or text.

    Where a mean rests on fewer values than the record has seeds, its n is said: ``0.48±0.06 (n=2)``.

    Parameters
    ----------
    record : dict
    column : str
        Without the suffix of a mean or median.
    percent : bool
        Whether a share is shown as percent.
    """
    if record.get(column + MEDIAN) is not None:
        found = [record[column + suffix] for suffix in (MEDIAN, LOWER, UPPER)]
        if all(map(is_number, found)):
            middle, low, high = (number(value) if abs(value) >= 1 else f"{value:.3g}" for value in found)
            return f"{middle} [{low}-{high}]"
    factor = 100.0 if percent else 1.0
    if record.get(column + MEAN) is not None:
        mean, half = record[column + MEAN], record.get(column + HALF_WIDTH)
        if is_number(mean):
            fewer = record.get(column + N) not in (None, record.get("seeds", record.get(column + N)))
            text = _with_half_width(factor * mean, factor * half) if is_number(half) else number(factor * mean)
            return f"{text} (n={record[column + N]})" if fewer else text
    value = record.get(column)
    if value is None:
        return "-"
    return number(factor * value if percent else value) if is_number(value) else one_line(str(value))


def _with_half_width(mean: float, half: float) -> str:
    """Return both with as many decimals as the half-width deserves: two digits of 0.12, one of 0.6, at most three."""
    if max(abs(mean), half) < 1e-2 or abs(mean) >= 1e6:
        return f"{number(mean)}±{number(half)}"
    leading = math.floor(math.log10(half)) if half >= 1e-4 else -4
    digits = min(3, max(0, (1 if half / 10.0**leading < 3.5 else 0) - leading))
    return f"{mean:,.{digits}f}±{half:,.{digits}f}"


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


def heading_of(column: str, headings: Mapping[str, str] | None) -> tuple[str, bool]:
    """Return the words above a column, and whether its shares are shown as percent."""
    heading = (headings or {}).get(column, column)
    return heading, heading.endswith("(%)") and not column.endswith("(%)")


def text_table(
    table: Sequence[Record],
    columns: Sequence[str] | None = None,
    headings: Mapping[str, str] | None = None,
    width: int | None = None,
) -> str:
    """Return a table for a terminal; headings are wrapped above their columns.

    Parameters
    ----------
    table : list of dict
    columns : sequence of str, optional
        Which are shown; all by default.
    headings : mapping of str to str, optional
        Shorter words above some of them.
    width : int, optional
        Of the terminal: words behind the first column are wrapped to fit, as far as that goes.
    """
    shown = list(columns or column_names(table))
    above = [heading_of(column, headings) for column in shown]
    cells = [[[cell(record, c, percent)] for c, (_, percent) in zip(shown, above, strict=True)] for record in table]
    texts = [any(isinstance(r.get(c), str) for r in table) for c in shown]
    words = [max(map(len, heading.split())) for heading, _ in above]
    filled = [max([n, *(len(row[place][0]) for row in cells)]) for place, n in enumerate(words)]
    widths = [max(n, min(len(heading), 14)) for n, (heading, _) in zip(filled, above, strict=True)]
    if not cells:
        widths = [len(heading) for heading, _ in above]
    elif sum(widths) + 2 * (len(widths) - 1) > (width or math.inf):
        widths = filled
    for place in sorted(range(1, len(shown)), key=lambda p: -widths[p]):
        too_wide = sum(widths) + 2 * (len(widths) - 1) - (width or math.inf)
        if texts[place] and too_wide > 0 and widths[place] > NARROWEST:
            widths[place] = max(NARROWEST, int(widths[place] - too_wide))
            for row in cells:
                row[place] = wrap(row[place][0], widths[place]) or [""]
            widths[place] = max(*(len(line) for row in cells for line in row[place]), len(above[place][0].split()[0]))
    wrapped = [_wrapped(heading, width) for (heading, _), width in zip(above, widths, strict=True)]
    height = max(map(len, wrapped), default=0)
    lines = [
        _row([["", *h][max(0, level - height + len(h) + 1)] for h in wrapped], widths, texts) for level in range(height)
    ]
    lines.append("-" * len(_row(["-" * w for w in widths], widths, texts)))
    for row in cells:
        for level in range(max(map(len, row), default=0)):
            lines.append(_row([part[level] if level < len(part) else "" for part in row], widths, texts))
    return printable("\n".join(line.rstrip() for line in lines))


NARROWEST = 18
"""Characters below which a column of words is not made narrower."""


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
