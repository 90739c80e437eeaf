"""The report: one self-contained HTML page made of what is stored."""

import base64
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.charts import draw
from analysis.comparison import Comparison
from analysis.drawing import png, svg, without_tex
from analysis.figures import FIGURES
from analysis.own_figures import own_figures
from analysis.provenance import AGAIN, provenance_of, quoted
from analysis.results import Results
from analysis.summary import left_out_in_words, summarise
from analysis.tables import cell, column_names, heading_of
from analysis.words import interventions_in_words, synapses_in_words
from neurossl.errors import OptionError, StorageError
from neurossl.files import absolute, remove_abandoned, write_atomically
from neurossl.text import printable

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
LOCAL = ("presynaptic activity", "postsynaptic gate")


def write_report(
    comparison: Comparison | None,
    path: str | os.PathLike[str],
    figures: str | os.PathLike[str] | None = None,
    results: Results | None = None,
) -> Path:
    """Write the report of stored runs, of the results of a protocol, or of both.

    Parameters
    ----------
    comparison : Comparison, optional
        Stored runs: their figures, ledger and provenance.
    path : path
        Of the .html file; replaced whole if it exists, a link too, which is not followed.
    figures : path, optional
        Folder for the figures as PNG and SVG as well.
    results : Results, optional
        Of a protocol; those of the comparison by default (`summarise`).

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OptionError
        If the page cannot be written, or is no .html file.
    StorageError
        If the disk is full.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    target = absolute(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"report {target}: expected the name of an .html file")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if results is None:
        if comparison is None:
            raise OptionError("write_report: a report is of stored runs, of results, or of both; got neither")
        results = summarise(comparison)
    with without_tex():
        charts = _charts(results)
        shown = [] if comparison is None or not results.curves else _comparison_figures(comparison)
        drawn = [part for part in (*charts, *shown) if part.figure is not None]
        images = {part.name: png(part.figure) for part in drawn if part.figure is not None}
    page = environment.get_template("report.html").render(
        title=results.title,
        sentences=results.sentences,
        table=_page_table(results),
        caption=results.caption,
        figures=[(part.heading, part.alt, part.text, _data_uri(images[part.name])) for part in drawn],
        missing=[part.heading for part in (*charts, *shown) if part.figure is None],
        ledger=None if comparison is None else _ledger(comparison),
        runs=[] if comparison is None else _runs(comparison),
        interventions=[] if comparison is None else _interventions(comparison),
        masked=[] if comparison is None else left_out_in_words(comparison),
        provenance=_provenance(comparison, results),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target.parent)
        write_atomically(target, printable(page).encode())
        if figures is not None:
            with without_tex():
                _save(absolute(figures), images, {part.name: part.figure for part in drawn if part.figure is not None})
    except OSError as reason:
        kind = StorageError if reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else OptionError
        raise kind(f"report {target}: cannot be written ({reason.strerror or reason})") from None
    return target


class _Part(NamedTuple):
    """A figure of the page; None where nothing of the kind was recorded."""

    name: str
    heading: str
    alt: str
    text: str
    figure: "Figure | None"


def _charts(results: Results) -> list[_Part]:
    parts = []
    for number, chart in enumerate(results.charts, 1):
        alt = f"{chart.y_label} over {chart.x_label}" + (f", one panel per {chart.panel}" if chart.panel else "")
        parts.append(_Part(f"chart-{number}", chart.title, alt, chart.text, draw(results, chart)))
    return parts


def _comparison_figures(comparison: Comparison) -> list[_Part]:
    parts = [_Part(name, heading, ALT[name], "", make(comparison)) for name, (heading, make) in FIGURES.items()]
    own = own_figures(comparison)
    return parts + [_Part(name, heading, f"{heading} over observers seen", "", figure) for name, heading, figure in own]


def _page_table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the cells of the page's table."""
    columns = list(results.columns or column_names(results.table))
    above = [heading_of(column, results.headings) for column in columns]
    rows = [[cell(r, c, percent) for c, (_, percent) in zip(columns, above, strict=True)] for r in results.table]
    return [heading for heading, _ in above], rows


def _save(folder: Path, images: Mapping[str, bytes], figures: "Mapping[str, Figure]") -> None:
    if folder.is_symlink():
        raise OptionError(f"figures {folder}: it is a link, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        write_atomically(folder / f"{name}.png", image)
        write_atomically(folder / f"{name}.svg", svg(figures[name]))


def _data_uri(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _ledger(comparison: Comparison) -> dict[str, Any]:
    """Return which information each rule needs at the synapse."""
    needs = {label: list(runs[0].about.get("needs") or []) for label, runs in comparison.rules.items()}
    words = list(dict.fromkeys(word for listed in needs.values() for word in listed))
    return {"needs": [*LOCAL, *words], "rules": {label: {*LOCAL, *listed} for label, listed in needs.items()}}


def _runs(comparison: Comparison) -> list[dict[str, str]]:
    """Return the lines of all runs, those that do not count included."""
    return [_run(run.path.name, run.about) for run in (*comparison.runs, *comparison.left_out)]


def _run(name: str, about: Mapping[str, Any]) -> dict[str, str]:
    seconds = about.get("seconds")
    return {
        "rule": str(about.get("label") or about.get("rule") or name),
        "seed": str(about.get("seed", "-")),
        "state": str(about.get("state", "-")) + (f": {about['reason']}" if about.get("reason") else ""),
        "seconds": f"{seconds:.1f}" if isinstance(seconds, int | float) else "-",
        "synapses": synapses_in_words(about.get("synapses")) or "-",
    }


def _interventions(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return, for every run to which something was done, its name and what was done."""
    found = [
        (f"{run.label}, seed {run.about.get('seed', '-')}", interventions_in_words(run.about.get("interventions")))
        for run in comparison.runs
    ]
    return [(name, lines) for name, lines in found if lines]


def _provenance(comparison: Comparison | None, results: Results) -> list[tuple[str, str]]:
    """Return data, network, software and hardware, and the commands that did it, as they were given."""
    if comparison is None:
        return [(AGAIN, quoted(results.command))] if results.command else []
    return provenance_of(comparison, results.command)
