"""The figures of a page: what each is made of, and how it comes to be drawn for a desk, a phone and a file.

A figure is made, drawn and forgotten before the next. Sections of the page may be drawn side by side: the figures of one
share what they measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from analysis.charts import draw
from analysis.comparison import Comparison
from analysis.drawing import png, title_of, without_tex
from analysis.figures import FIGURES
from analysis.further_figures import further_figures
from analysis.own_figures import own_figures
from analysis.page import Shown, identifier, show
from analysis.page_statistics import central_figure
from analysis.results import Chart, Results
from neurossl.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALT = {
    "alignment": "Curves of the cosine between local and backprop-derived updates over training, one panel per pathway",
    "probes": "Test accuracy of linear probes per population and rule, with baselines",
    "drift": "Curves of the relative distance of the weights from their initial values, one panel per pathway",
    "feedback_drift": "Curves of the relative distance of the feedback weights from their start, one panel per pathway",
    "norm_ratio": "Curves of the norm of the local relative to the backprop-derived update, one panel per pathway",
    "loss": "Curves of the loss at each population over training",
}
UPDATES = ("alignment", "norm_ratio")
"""Figures of the section on updates; the others are of what training does."""
CENTRAL = "Readout against closeness to backprop, a mean with intervals and its seeds per rule, one panel per population"


@dataclass(frozen=True)
class Part:
    """A figure of the page before it is made.

    Attributes
    ----------
    name, heading : str
    alt : str
        Said in its place; its title where that is empty.
    section : str
    make : callable
        Returns the figure, or None where nothing of the kind was recorded, and what it says.
    """

    name: str
    heading: str
    alt: str
    section: str
    make: Callable[[], tuple[Figure | None, str]]


@dataclass(frozen=True)
class Drawn:
    """A figure of the page, drawn.

    Attributes
    ----------
    section, heading : str
    shown : Shown or None
        None where nothing of the kind was recorded.
    file : str
        Name of its files, without a suffix.
    image : bytes
        As PNG, where that was asked for.
    """

    section: str
    heading: str
    shown: Shown | None
    file: str = ""
    image: bytes = b""


Each = Callable[[Callable[[Sequence[Part]], list[Drawn]], Sequence[Sequence[Part]]], Iterable[list[Drawn]]]
"""What calls a function for every item of a sequence, as ``map`` does."""


def figures_of_page(comparison: Comparison | None, results: Results, images: bool, each: Each | None = None) -> list[Drawn]:
    """Return all figures, in the order of the page.

    Parameters
    ----------
    comparison : Comparison, optional
        Stored runs.
    results : Results
        Of a protocol.
    images : bool
        Whether as PNG too.
    each : callable, optional
        Takes the place of ``map``, such as one that calls in processes side by side.
    """
    parts = _parts(comparison, results)
    sections: dict[str, list[int]] = {}
    for place, part in enumerate(parts):
        sections.setdefault(part.section, []).append(place)
    imported("matplotlib.backends.backend_agg")  # once, before any process is forked
    imported("matplotlib.backends.backend_svg")
    with without_tex():
        drawn = (each or map)(partial(_all_drawn, images), [[parts[n] for n in places] for places in sections.values()])
        found = {
            n: one
            for places, some in zip(sections.values(), drawn, strict=True)
            for n, one in zip(places, some, strict=True)
        }
    return [found[place] for place in range(len(parts))]


def _all_drawn(images: bool, parts: Sequence[Part]) -> list[Drawn]:
    return [_drawn(part, images) for part in parts]


def _parts(comparison: Comparison | None, results: Results) -> list[Part]:
    """Return what the page may show, in its order."""
    parts = []
    for number, chart in enumerate(results.charts, 1):
        alt = chart.y_label + (f" over {chart.x_label}" if chart.x_label else "")
        alt += f", one panel per {chart.panel}" if chart.panel else ""
        parts.append(Part(f"chart-{number}", chart.title, alt, "charts", partial(_chart, results, chart)))
    if comparison is None or not results.curves:
        return parts
    heading = "Does a rule that is closer to backprop read out better?"
    parts.append(Part("relation", heading, CENTRAL, "relation", partial(central_figure, comparison)))
    for name, (heading, make) in FIGURES.items():
        section = "updates" if name in UPDATES else "training"
        parts.append(Part(name, heading, ALT[name], section, partial(_silent, make, comparison)))
    # A run of seconds, for tests, has no path to speak of.
    for name, heading, further, section in () if results.options.get("tiny") else further_figures(comparison):
        parts.append(Part(name, heading, "", section, partial(_silent, further)))
    for name, heading, figure in own_figures(comparison):
        parts.append(Part(name, heading, f"{heading} over observers seen", "recorded", partial(_made, figure)))
    return parts


def _chart(results: Results, chart: Chart) -> tuple[Figure | None, str]:
    return draw(results, chart), chart.text


def _silent(make: Callable[..., Figure | None], *of: Any) -> tuple[Figure | None, str]:
    return make(*of), ""


def _made(figure: Figure) -> tuple[Figure, str]:
    return figure, ""


def _drawn(part: Part, image: bool) -> Drawn:
    """Make a figure and draw it; as PNG before the page rearranges it."""
    figure, text = part.make()
    if figure is None:
        return Drawn(part.section, part.heading, None)
    file = identifier(part.name) if part.section == "recorded" else part.name
    alt = part.alt or title_of(figure) or part.heading
    picture = png(figure) if image else b""
    return Drawn(part.section, part.heading, show(figure, part.name, part.heading, alt, text), file, picture)
