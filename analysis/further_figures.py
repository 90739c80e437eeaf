"""Figures of paths and of representations for a page: those whose data were recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def further_figures(comparison: Comparison) -> Iterator[tuple[str, str, Callable[[], Figure | None], str]]:
    """Yield name, heading, what makes the figure (None where what it needs was not recorded) and section of each."""
    for section, module, table in ROOMS:
        source = comparison if section == "paths" else comparison.tree
        for name, (heading, make) in getattr(import_module(module), table).items():
            if name not in SHOWN_ELSEWHERE:
                yield name, heading, partial(_made, make, source), section


def _made(make: Callable[[Any], Figure | None], source: Any) -> Figure | None:
    try:
        return make(source)
    except NeurosslError:
        return None
