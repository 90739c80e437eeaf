"""Figures as files: no mathematics in labels, no clock in what is saved."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from neurossl.surroundings import imported, undisturbed
from neurossl.text import one_line, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def literal(label: str) -> str:
    """Return a label that matplotlib shows as it is: a dollar is a dollar, not the beginning of mathematics."""
    return "\n".join(one_line(line) for line in printable(label).split("\n")).replace("$", r"\$")


def wrapped(label: str, width: int) -> str:
    """Return a literal label with no line longer than ``width`` characters; words that are longer are broken."""
    lines = label.replace(r"\$", "$").split("\n")
    return "\n".join(part for line in lines for part in (wrap(line, width) or [""])).replace("$", r"\$")


def title_of(figure: Figure | None) -> str:
    """Return the title of a figure as it was before it was made literal; nothing without one."""
    return "" if figure is None else one_line(figure.get_suptitle().replace("\n", "; ").replace(r"\$", "$"))


@contextmanager
def without_tex() -> Iterator[None]:
    """Draw without LaTeX, whatever a matplotlibrc of the user's says: it need not be installed here."""
    matplotlib = imported("matplotlib")
    with matplotlib.rc_context({"text.usetex": False}):
        yield


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    imported("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with undisturbed(), _without_warnings():
        figure.set_dpi(130)
        _lay_out(figure)
        FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def saved_as_svg(figure: Figure) -> bytes:
    """Return a figure as SVG with its text as text, for a page."""
    matplotlib = imported("matplotlib")
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neurossl"}), undisturbed(), _without_warnings():
        figure.set_dpi(72)
        _lay_out(figure)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Find the layout, once for all formats: as `savefig` does, but without a first drawing in which nothing is drawn."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a name in a script that the font does not have
        warnings.filterwarnings("ignore", "Tight layout|constrained_layout not applied", UserWarning)
        yield
