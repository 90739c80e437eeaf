"""Figures of paths and of representations for a page: those whose data were recorded."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from analysis.comparison import Comparison
from neurossl.errors import NeurosslError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOMS = (
    ("paths", "analysis.path_figures", "PATH_FIGURES"),
    ("representations", "analysis.representation_figures", "REPRESENTATION_FIGURES"),
)
"""Section of the page, module, and its table: name -> (heading, function of the tree of many runs)."""
SHOWN_ELSEWHERE = ("path_drift",)
"""What `analysis.figures` draws already."""


def further_figures(comparison: Comparison) -> Iterator[tuple[str, str, Figure | None, str]]:
    """Yield name, heading, figure and section of each; None where what it needs was not recorded."""
    for section, module, table in ROOMS:
        for name, (heading, make) in getattr(import_module(module), table).items():
            if name in SHOWN_ELSEWHERE:
                continue
            try:
                figure = make(comparison if section == "paths" else comparison.tree)
            except NeurosslError:
                figure = None
            yield name, heading, figure, section
