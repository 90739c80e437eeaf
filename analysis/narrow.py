"""A figure made for a phone: the same panels one below the other, words wrapped, the legend below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.drawing import wrapped
from neurossl.surroundings import imported

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

WIDTH = 3.7
"""Inches: what is left of 390 pixels."""
CHARACTERS = 46
"""That fit into it in the size of a legend."""


def make_narrow(figure: Figure) -> bool:
    """Rearrange a figure in place, whoever drew it: one column of panels, as wide as a phone.

    Parameters
    ----------
    figure : Figure
        With panels in a grid; its colour bars stay with their panels.

    Returns
    -------
    bool
        False for a figure that is left as it is: one of pictures alone, which have nothing to read but where they stand.
    """
    imported("matplotlib")
    from matplotlib.gridspec import GridSpec

    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None and not hasattr(axes, "_colorbar")]
    if not panels or all(_is_picture(axes) for axes in panels):
        return False
    high = figure.get_figheight()
    legends = [_in_one_column(figure, legend) for legend in list(figure.legends)]
    title = figure.get_suptitle()
    lines = 0
    if title:
        heading = wrapped(title, CHARACTERS - 6)
        figure.suptitle(heading, fontsize=10.5)
        lines = heading.count("\n") + 1
    rows = len({spec.rowspan.start for axes in panels if (spec := axes.get_subplotspec()) is not None})
    square = all(axes.get_aspect() != "auto" for axes in panels)
    each = WIDTH * 0.95 if square else min(2.9, max(2.1, high / rows * 0.72))
    if len(panels) > 1:
        _stack(panels, GridSpec(len(panels), 1, figure=figure))
    for axes in panels:
        _wrap_axes(axes, each)
    beside = sum(0.17 * count + 0.15 for count in legends) + 0.2 * lines
    figure.set_size_inches(WIDTH, each * len(panels) + beside + 0.3)
    figure.set_layout_engine("constrained")
    return True


def _is_picture(axes: Axes) -> bool:
    return not axes.lines and not len(axes.get_xticks()) and not len(axes.get_yticks())


def _stack(panels: list[Axes], grid: Any) -> None:
    shared = {label for axes in panels if (label := axes.get_xlabel())}
    y = next((label for axes in panels if (label := axes.get_ylabel())), "")
    own = [axes.get_ylabel() for axes in panels]
    for place, axes in enumerate(panels):
        axes.set_subplotspec(grid[place, 0])
        # Panels in a row leave the labels to the outer ones.
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.set_ylabel(own[place] or y, fontsize=9)
        if len(shared) == 1:
            axes.set_xlabel(max(shared) if place == len(panels) - 1 else "", fontsize=9)


def _wrap_axes(axes: Axes, height: float) -> None:
    axes.set_title(wrapped(axes.get_title(), CHARACTERS - 8), fontsize=10)
    axes.set_xlabel(wrapped(axes.get_xlabel(), CHARACTERS - 8))
    axes.set_ylabel(wrapped(axes.get_ylabel(), max(14, round(height * 11))))
    words = [label.get_text() for label in axes.get_xticklabels()]
    if sum(len(word) + 2 for word in words) > CHARACTERS - 4:
        axes.tick_params(axis="x", labelrotation=90 if len(words) > 6 or max(map(len, words)) > 12 else 40)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("center" if label.get_rotation() == 90 else "right")
    legend = axes.get_legend()
    if legend is not None:
        for text in legend.get_texts():
            text.set_fontsize(min(8, text.get_fontsize()))


def _in_one_column(figure: Figure, legend: Legend) -> int:
    """Replace a legend of the figure by one that fits, and return how many lines it has."""
    drawn = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown = zip(legend.get_texts(), legend.legend_handles, strict=True)
    handles: list[Any] = [drawn.get(text.get_text(), handle) for text, handle in shown]
    labels = [wrapped(text.get_text(), CHARACTERS - 6) for text in legend.get_texts()]
    title = wrapped(legend.get_title().get_text(), CHARACTERS)
    figure.legends.remove(legend)
    columns = 2 if labels and max(map(len, labels)) <= CHARACTERS // 2 - 5 else 1
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "fontsize": 8.5, "frameon": False}
    new = figure.legend(handles, labels, title=title or None, title_fontsize=8.5, **place)
    new.get_title().set_fontsize(8.5)
    return -(-sum(label.count("\n") + 1 for label in labels) // columns) + (title.count("\n") + 1 if title else 0)
