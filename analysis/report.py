"""The report: one self-contained HTML page made of what is stored.

It begins with three sentences, then shows results, the network, figures, and where all of it comes from. Figures are SVG
whose colours follow the theme of the reader; each has its numbers beside it as CSV.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.comparison import Comparison
from analysis.drawn import as_csv
from analysis.network_view import network_view
from analysis.page import Section, Shown, Table, colours, data_uri, environment, steps_of
from analysis.page_claims import tree_of
from analysis.page_figures import Drawn, Each, figures_of_page
from analysis.page_statistics import claims_table, pairs_table, three_answers
from analysis.provenance import AGAIN, provenance_of, quoted
from analysis.results import Results
from analysis.summary import left_out_in_words, summarise
from analysis.tables import cell, column_names, heading_of
from analysis.words import interventions_in_words, synapses_in_words
from neurossl.errors import OptionError, StorageError
from neurossl.files import absolute, remove_abandoned, write_atomically
from neurossl.text import printable

LOCAL = ("presynaptic activity", "postsynaptic gate")
MOST_COMMANDS = 6
"""That are shown without being asked for."""
MOST_LINES = 15
"""Of a list."""


def write_report(
    comparison: Comparison | None,
    path: str | os.PathLike[str],
    figures: str | os.PathLike[str] | None = None,
    results: Results | None = None,
    each: Each | None = None,
) -> Path:
    """Write the report of stored runs, of the results of a protocol, or of both.

    Parameters
    ----------
    comparison : Comparison, optional
        Stored runs: their figures, ledger and provenance.
    path : path
        Of the .html file; replaced whole if it exists, a link too, which is not followed.
    figures : path, optional
        Folder for the figures as PNG and SVG as well, and for their numbers as CSV.
    results : Results, optional
        Of a protocol; those of the comparison by default (`summarise`).
    each : callable, optional
        In place of ``map`` where figures are drawn, section by section: one that works in processes side by side.

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
    target = absolute(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise OptionError(f"report {target}: expected the name of an .html file")
    if results is None:
        if comparison is None:
            raise OptionError("write_report: a report is of stored runs, of results, or of both; got neither")
        results = summarise(comparison)
    answers = [] if comparison is None or not results.curves else three_answers(comparison)
    drawn = figures_of_page(comparison, results, figures is not None, each)
    sections = [section for section in _sections(comparison, results, drawn) if not section.is_empty]
    provenance, commands = _provenance(comparison, results)
    shown = [figure for section in sections for figure in section.figures]
    tables = [*(table for section in sections for table in section.tables), provenance]
    views = [section.view for section in sections if section.view]
    page = (
        environment()
        .get_template("report.html")
        .render(
            title=results.title,
            answers=answers,
            sections=sections,
            view=views[0] if views else None,
            provenance=provenance,
            commands=commands,
            few=MOST_COMMANDS,
            most=MOST_LINES,
            colours=colours(shown),
            steps=steps_of([*tables, *(view.table for view in views)]),
        )
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target.parent)
        write_atomically(target, printable(page).encode())
        if figures is not None:
            _save(absolute(figures), _files(drawn))
    except OSError as reason:
        kind = StorageError if reason.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else OptionError
        raise kind(f"report {target}: cannot be written ({reason.strerror or reason})") from None
    return target


def _files(drawn: Sequence[Drawn]) -> dict[str, bytes]:
    """Return the contents of the files of all figures: as PNG, as the page's SVG, and their numbers."""
    files: dict[str, bytes] = {}
    for one in drawn:
        if one.shown is not None:
            vector, numbers = one.shown.wide.alone.encode(), one.shown.csv.encode()
            files |= {f"{one.file}.png": one.image, f"{one.file}.svg": vector, f"{one.file}.csv": numbers}
    return files


def _save(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.is_symlink():
        raise OptionError(f"figures {folder}: it is a link, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(folder / name, content)


def _sections(comparison: Comparison | None, results: Results, drawn: Sequence[Drawn]) -> Iterator[Section]:
    """Yield the sections of the page in their order; those without content are left out by the caller."""

    def figures(section: str) -> list[Shown]:
        return [one.shown for one in drawn if one.section == section and one.shown is not None]

    words = list(results.sentences)
    if not words and comparison is not None:
        words = ["No readouts were recorded, so nothing can be said about the representations."]
    yield Section("words", "In words", lines=[("", words)] if words else [])
    if results.table:
        yield Section("results", "Results", tables=[_page_table(results)])
    if comparison is not None and results.curves:
        yield Section("relation", "Closeness and what it buys", figures=figures("relation"))
        yield Section("network", "Where in the network the updates are like backprop's", view=network_view(comparison))
    yield Section("charts", "Figures of the results", figures=figures("charts"))
    yield Section("updates", "How close the updates are to backprop's", figures=figures("updates"))
    yield Section("training", "What training does", figures=figures("training"))
    yield Section("paths", "Where the weights go", figures=figures("paths"))
    yield Section("representations", "What is represented", figures=figures("representations"))
    yield Section("recorded", "What recorders of one's own saw", figures=figures("recorded"))
    absent = [one.heading for one in drawn if one.shown is None and one.section != "relation"]
    yield Section("missing", "What was not recorded", missing=absent)
    if comparison is not None and results.curves:
        found = pairs_table(tree_of(comparison)), claims_table(comparison)
        tables = [table for table in found if table is not None]
        yield Section("rules", "Rules against each other", tables=tables)
    if comparison is not None:
        yield Section("ledger", "Information needed at the synapse", tables=[_ledger(comparison)])
        yield Section("left-out", "What is left out", lines=[("", left)] if (left := left_out_in_words(comparison)) else [])
        yield Section("runs", "Runs", tables=[_runs(comparison)])
        done = "What was done to the simulations while they ran, in biological time."
        interventions = _interventions(comparison)
        yield Section("interventions", "Interventions", [done] if interventions else [], lines=interventions)


def _page_table(results: Results) -> Table:
    columns = list(results.columns or column_names(results.table))
    above = [heading_of(column, results.headings) for column in columns]
    rows = [[cell(r, c, percent) for c, (_, percent) in zip(columns, above, strict=True)] for r in results.table]
    file = "results.csv", data_uri(as_csv(results.table), "text/csv;charset=utf-8")
    words = [heading for heading, _ in above]
    notes = list(results.notes)
    return Table("results", "Results, a row each", words, rows, results.caption, open=True, files=[file], notes=notes)


def _ledger(comparison: Comparison) -> Table:
    """Return which information each rule needs at the synapse."""
    needs = {label: list(runs[0].about.get("needs") or []) for label, runs in comparison.rules.items()}
    words = [*LOCAL, *dict.fromkeys(word for listed in needs.values() for word in listed)]
    rows = [[label, *("yes" if word in (*LOCAL, *listed) else "no" for word in words)] for label, listed in needs.items()]
    note = "A rule that reaches for anything that it has not declared here is stopped by the simulation."
    classes = [[{"yes": "yes", "no": "none"}.get(text, "") for text in row] for row in rows]
    return Table("ledger", "Which information each rule needs", ["rule", *words], rows, note, classes)


def _runs(comparison: Comparison) -> Table:
    """Return the lines of all runs, those that do not count included."""
    rows = [_run(run.path.name, run.about) for run in (*comparison.runs, *comparison.left_out)]
    return Table("runs", "Runs, those that do not count included", ["rule", "seed", "state", "seconds", "synapses"], rows)


def _run(name: str, about: Mapping[str, Any]) -> list[str]:
    seconds = about.get("seconds")
    return [
        str(about.get("label") or about.get("rule") or name),
        str(about.get("seed", "-")),
        str(about.get("state", "-")) + (f": {about['reason']}" if about.get("reason") else ""),
        f"{seconds:.1f}" if isinstance(seconds, int | float) else "-",
        synapses_in_words(about.get("synapses")) or "-",
    ]


def _interventions(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return, for every run to which something was done, its name and what was done."""
    found = [
        (f"{run.label}, seed {run.about.get('seed', '-')}", interventions_in_words(run.about.get("interventions")))
        for run in comparison.runs
    ]
    return [(name, lines) for name, lines in found if lines]


def _provenance(comparison: Comparison | None, results: Results) -> tuple[Table, list[str]]:
    """Return data, network, software and hardware, and the commands that did it, as they were given."""
    rows = [] if comparison is None else provenance_of(comparison, results.command)
    commands = [text for name, text in rows if name == AGAIN]
    if comparison is None and results.command:
        commands = [quoted(results.command)]
    about = [[name, text] for name, text in rows if name != AGAIN]
    if comparison is None or results.protocol != "comparison":
        about = [["protocol", results.protocol], *(row for row in about if row != ["protocol", results.protocol])]
    return Table("provenance", "Where the numbers come from", ["what", "value"], about), commands
