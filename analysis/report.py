"""The report: one self-contained HTML page made of what is stored."""

import base64
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.comparison import Comparison, verdicts
from analysis.figures import FIGURES
from analysis.storage import write_atomically
from neurossl.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALT = {
    "alignment": "Curves of the cosine between local and backprop-derived updates over training, one panel per pathway",
    "probes": "Test accuracy of linear probes per population and rule, with baselines",
    "drift": "Curves of the relative distance of the weights from their initial values, one panel per pathway",
    "norm_ratio": "Curves of the norm of the local relative to the backprop-derived update, one panel per pathway",
    "loss": "Curves of the loss at each population over training",
}
LOCAL = ("presynaptic activity", "postsynaptic gate")


def write_report(
    comparison: Comparison, path: str | os.PathLike[str], figures: str | os.PathLike[str] | None = None
) -> Path:
    """Write the report of stored runs.

    Parameters
    ----------
    comparison : Comparison
    path : path
        Of the .html file; replaced whole if it exists.
    figures : path, optional
        Folder for the figures as PNG and SVG as well.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OptionError
        If the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    target = Path(path)
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn = [(name, heading, draw(comparison)) for name, (heading, draw) in FIGURES.items()]
    images = {name: _png(figure) for name, _, figure in drawn if figure is not None}
    table = comparison.table()
    page = environment.get_template("report.html").render(
        title="How close is local learning to backprop?",
        sentences=verdicts(comparison),
        columns=_columns(table),
        table=table,
        cell=_cell,
        figures=[(heading, ALT[name], _data_uri(images[name])) for name, heading, _ in drawn if name in images],
        missing=[heading for _, heading, figure in drawn if figure is None],
        ledger=_ledger(comparison),
        runs=[_run(run.path.name, run.about) for run in comparison.runs],
        masked=_masked(comparison),
        provenance=_provenance(comparison),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, page.encode())
        if figures is not None:
            _save(Path(figures), images, {name: figure for name, _, figure in drawn if figure is not None})
    except OSError as reason:
        raise OptionError(f"report {target}: cannot be written ({reason.strerror or reason})") from None
    return target


def _save(folder: Path, images: Mapping[str, bytes], figures: "Mapping[str, Figure]") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        write_atomically(folder / f"{name}.png", image)
        figures[name].savefig(folder / f"{name}.svg")


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    # The layout is settled now; it need not be found again for the next format.
    figure.set_layout_engine("none")
    return buffer.getvalue()


def _data_uri(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _columns(table: list[dict[str, Any]]) -> list[str]:
    """Return the columns of the page's table: means with their half-widths in one cell."""
    words = ["rule", "information needed", "reference"]
    names = dict.fromkeys(c for record in table for c in record if c.endswith(" (mean)"))
    shown = ("cosine", "linear probe accuracy,", "seconds")
    return words + [c.removesuffix(" (mean)") for c in names if c.startswith(shown)]


def _cell(record: Mapping[str, Any], column: str) -> str:
    """Return a cell as text."""
    if column in record:
        return str(record[column] or "-")
    mean, half = record.get(f"{column} (mean)"), record.get(f"{column} (95 % half-width)")
    if mean is None:
        return "-"
    percent = "accuracy" in column
    factor, digits = (100, 1) if percent else (1, 1 if "seconds" in column else 3)
    spread = f" ± {factor * half:.{digits}f}" if half is not None else ""
    return f"{factor * mean:.{digits}f}{spread}{' %' if percent else ''}"


def _ledger(comparison: Comparison) -> dict[str, Any]:
    """Return which information each rule needs at the synapse."""
    needs = {label: list(runs[0].about.get("needs") or []) for label, runs in comparison.rules.items()}
    words = list(dict.fromkeys(word for listed in needs.values() for word in listed))
    return {"needs": [*LOCAL, *words], "rules": {label: {*LOCAL, *listed} for label, listed in needs.items()}}


def _masked(comparison: Comparison) -> list[str]:
    """Return, per rule, how many comparisons of updates were not trusted."""
    lines = []
    for label, runs in comparison.rules.items():
        count = sum(run.untrusted for run in runs)
        if count:
            lines.append(f"{label}: {count} comparisons of updates are not trusted and are left out.")
    return lines


def _run(name: str, about: Mapping[str, Any]) -> dict[str, str]:
    seconds = about.get("seconds")
    return {
        "rule": str(about.get("label") or about.get("rule") or name),
        "seed": str(about.get("seed", "-")),
        "state": str(about.get("state", "-")) + (f": {about['reason']}" if about.get("reason") else ""),
        "seconds": f"{seconds:.1f}" if isinstance(seconds, int | float) else "-",
        "synapses": _options(about.get("synapses")),
    }


def _options(options: Any) -> str:
    if not isinstance(options, Mapping):
        return "-"
    return ", ".join(
        f"{k} {v}" for k, v in options.items() if v and k in ("optimizer", "lr", "weight_decay", "momentum", "bounds")
    )


def _provenance(comparison: Comparison) -> list[tuple[str, str]]:
    """Return what the runs have in common: data, network, budget, software, hardware."""
    about = comparison.runs[0].about
    network = about.get("network") or {}
    rows = [("protocol", about.get("protocol")), ("data set", about.get("images") or about.get("dataset"))]
    rows += [("views", about.get("views")), ("stream", about.get("stream")), ("network", network.get("name"))]
    rows += [("device", about.get("device")), ("number type", about.get("dtype")), ("started", about.get("started"))]
    for name in ("versions", "hardware"):
        content = about.get(name)
        if isinstance(content, Mapping):
            rows.append((name, ", ".join(f"{k} {v}" for k, v in content.items())))
    options = {k: about[k] for k in ("dataset", "budget", "observers") if about.get(k) is not None}
    if about.get("protocol") and options:
        rules = list(dict.fromkeys(str(run.about.get("rule")) for run in comparison.runs))
        seeds = {run.about.get("seed") for run in comparison.runs}
        flags = " ".join(f"--{k} {v}" for k, v in options.items())
        command = f"neurossl run {about['protocol']} --out RUN --rules {','.join(rules)} --seeds {len(seeds)} {flags}"
        rows.append(("again", command))
    return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in rows if value]
