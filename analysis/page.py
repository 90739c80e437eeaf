"""The parts of a page: tables that become cards where they do not fit, figures with their numbers, files inside of links."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.drawn import as_csv, rows_of
from analysis.inline import Inline, inline
from analysis.narrow import make_narrow
from analysis.palette import variables
from neurossl.text import one_line

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

WIDEST = 1230
"""CSS pixels of the page's column."""
MOST_ROWS = 30
"""Of a table that stays open."""
LONG = 28
"""Letters of a word that a cell may break."""
_STEP = 80
_IN_DATA_URI = {ord(c): f"%{ord(c):02X}" for c in '%#"\r\n\t'}


@dataclass(frozen=True)
class Table:
    """A table of a page; where it is wider than the page, each row becomes a card that bears the headings.

    Parameters
    ----------
    name : str
        Identifier.
    caption : str
    columns : sequence of str
    rows : sequence of sequence of str
        Of as many cells as there are columns; the first is the heading of its row.
    note : str
        What stands below it.
    notes : sequence of str
        Further lines below it.
    classes : sequence of sequence of str, optional
        How cells look, such as ``better``.
    open : bool
        Whether it stays open when it is long.
    files : sequence of (str, str)
        Names of files to download, and the links that hold them.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    classes: Sequence[Sequence[str]] = ()
    open: bool = False
    files: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()

    @property
    def folded(self) -> bool:
        """Whether it is so long that it is opened on demand."""
        return len(self.rows) > MOST_ROWS and not self.open

    @property
    def fits(self) -> int:
        """The width of a window below which its rows are cards, in steps; beyond every window if it fits nowhere."""
        wanted = 0.0
        for place, heading in enumerate(self.columns):
            cells = [row[place] for row in self.rows]
            longest = max((len(word) for text in (heading, *cells) for word in text.split()), default=1)
            lines = max(map(len, cells), default=1)
            wanted += 7.8 * max(min(longest, LONG), min(lines, 18)) + 13
        return 9999 if wanted > WIDEST else int(-(-(wanted + 48) // _STEP) * _STEP)

    def look(self, row: int, column: int) -> str:
        """Return the classes of a cell: ``none`` where a card leaves it out, ``long`` where its words are broken."""
        text = self.rows[row][column]
        found = ["none"] if text in ("-", "\N{EN DASH}", "") else ["long"] if self.is_long(text) else []
        return " ".join([*found, self.classes[row][column]] if self.classes else found).strip()

    @staticmethod
    def is_long(text: str) -> bool:
        """Return whether a text has a word that is broken, lest it widen its column."""
        return max(map(len, text.split()), default=0) > LONG


@dataclass(frozen=True)
class Shown:
    """A figure of the page, drawn for a desk and for a phone, with its numbers."""

    name: str
    heading: str
    alt: str
    text: str
    wide: Inline
    narrow: Inline | None
    csv: str
    about: str

    @property
    def csv_uri(self) -> str:
        """The numbers as a link."""
        return data_uri(self.csv, "text/csv;charset=utf-8")

    @property
    def svg_uri(self) -> str:
        """The figure as a link."""
        return data_uri(self.wide.alone, "image/svg+xml;charset=utf-8")


@dataclass
class Section:
    """A part of the page under a heading, with what stands in it, in order."""

    name: str
    heading: str
    text: Sequence[str] = ()
    figures: Sequence[Shown] = ()
    tables: Sequence[Table] = ()
    lines: Sequence[tuple[str, Sequence[str]]] = ()
    missing: Sequence[str] = field(default_factory=list)
    view: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.text or self.figures or self.tables or self.lines or self.view or self.missing)


def show(figure: Figure, name: str, heading: str, alt: str, text: str = "") -> Shown:
    """Return a figure as a page shows it. The figure is rearranged for a phone on the way: save it before.

    Parameters
    ----------
    figure : Figure
    name : str
        Of its files and identifiers.
    heading, alt, text : str
        Above it, in place of it, and what to see in it.
    """
    rows = rows_of(figure)
    wide = inline(figure, f"{identifier(name)}-w")
    small = inline(figure, f"{identifier(name)}-n") if make_narrow(figure) else None
    panels = list(dict.fromkeys(str(row["panel"]) for row in rows if row.get("panel")))
    series = list(dict.fromkeys(str(row[key]) for row in rows for key in ("rule", "series") if row.get(key)))
    alt = one_line(alt[:1].upper() + alt[1:]).rstrip(".")
    about = [alt, *(f"{what}: {_listed(names)}" for what, names in (("Panels", panels), ("Series", series)) if names)]
    return Shown(identifier(name), heading, alt, text, wide, small, as_csv(rows), f"{'. '.join(about)}.")


def data_uri(content: str, kind: str) -> str:
    """Return a file as a link that holds it; only what a link cannot hold is written otherwise."""
    return f"data:{kind},{content.translate(_IN_DATA_URI)}"


def identifier(name: str) -> str:
    """Return a name that HTML, CSS and file systems take: letters of ASCII, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-").lower()[:60] or "figure"


def colours(figures: Iterable[Shown]) -> tuple[str, str]:
    """Return the variables of the page's colours, light and dark, with the greys of its figures."""
    return variables(
        {grey for shown in figures for drawn in (shown.wide, shown.narrow) if drawn is not None for grey in drawn.greys}
    )


def environment() -> Environment:
    """Return what renders the templates; everything that it puts in is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def steps_of(tables: Iterable[Table]) -> list[int]:
    """Return the widths at which tables of a page change, but for those that fit nowhere."""
    return sorted({table.fits for table in tables} - {9999})


def _listed(names: Sequence[Any], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
