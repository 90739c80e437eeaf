"""What a page says of rules against each other: three answers, the claims behind them, every rule against every other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.closeness import relation_in_words
from analysis.drawn import as_csv
from analysis.inference import LEVEL, compare_pairs
from analysis.outcomes import about_rules, before_and_after
from analysis.page import Table, data_uri
from analysis.page_answers import answers
from analysis.page_claims import p_text
from analysis.relation_figures import relation_figure
from neurossl.errors import OptionError, TrajectoryError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.comparison import Comparison

QUESTIONS = ("How close?", "What does it buy?", "What is uncertain?")
BETTER, WORSE = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"


def three_answers(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the three questions of a page with their answers."""
    return list(zip(QUESTIONS, answers(comparison), strict=True))


def central_figure(comparison: Comparison) -> tuple[Figure | None, str]:
    """Return closeness against gain as a figure, and what it says, a line per population; None where too little is known."""
    try:
        found = comparison.relation
    except (TrajectoryError, OptionError):
        return None, ""
    return relation_figure(found), "\n".join(relation_in_words(found))


def pairs_table(tree: xr.DataTree) -> Table | None:
    """Return every rule against every other at the highest population that all of them read out, corrected together.

    None where there are fewer than two rules, or no seeds that they share.
    """
    about = about_rules(tree)
    if len(about) < 2 or "performance" not in tree.children:
        return None
    try:
        after = before_and_after(tree)["after"]
    except OptionError:
        return None
    complete = after.notnull().any("seed").all("rule")
    shared = [str(name) for name in after["population"].values if bool(complete.sel(population=name))]
    if not shared:
        return None
    top = shared[-1]
    found = compare_pairs(after.sel(population=top, drop=True))
    if int(found["n"].max()) < 1:
        return None
    rules = [str(rule) for rule in found["rule"].values]
    labels = [about[rule]["label"] for rule in rules]
    cells = [[_pair(found, one, other) for other in rules] for one in rules]
    off = ~np.eye(len(rules), dtype=bool)
    seeds = sorted({int(n) for n in found["n"].transpose("rule", "other_rule").values[off] if n})
    tests = int(found.attrs["tests"])
    note = (
        f"Row minus column, points, \N{PLUS-MINUS SIGN} half-width of the 95 % interval of the difference paired by seed "
        f"(n = {_range(seeds)}). "
    )
    note += (
        f"{BETTER} better, {WORSE} worse: p < {LEVEL:g} after Holm's correction over {tests} pairs."
        if tests
        else "With one seed there is no test."
    )
    return Table(
        "pairs",
        f"Readout of {top} after learning: each rule against every other",
        ["rule", *(f"against {label}" for label in labels)],
        [[label, *(text for text, _ in row)] for label, row in zip(labels, cells, strict=True)],
        note,
        [["", *(look for _, look in row)] for row in cells],
        files=[("pairs.csv", data_uri(as_csv(list(_pair_rows(found, rules, labels, top))), "text/csv;charset=utf-8"))],
    )


def _pair(found: xr.Dataset, one: str, other: str) -> tuple[str, str]:
    """Return the text and the look of a cell."""
    cell = found.sel(rule=one, other_rule=other)
    difference, half, p = (float(cell[name]) for name in ("difference", "half_width", "p_holm"))
    if one == other or not np.isfinite(difference):
        return "\N{EN DASH}", ""
    text = f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")
    text += f"\N{PLUS-MINUS SIGN}{100 * half:.1f}" if np.isfinite(half) else ""
    if not p < LEVEL:
        return text, ""
    return (f"{BETTER} {text}", "better") if difference > 0 else (f"{WORSE} {text}", "worse")


def _pair_rows(found: xr.Dataset, rules: list[str], labels: list[str], population: str) -> Iterator[dict[str, Any]]:
    for one, label in zip(rules, labels, strict=True):
        for other, against in zip(rules, labels, strict=True):
            if one != other:
                cell = found.sel(rule=one, other_rule=other)
                yield {
                    "rule": label,
                    "against": against,
                    "population": population,
                    "difference in accuracy (points), mean over seeds": 100 * float(cell["difference"]),
                    "half-width of the 95 % interval": 100 * float(cell["half_width"]),
                    "n": int(cell["n"]),
                    "p": float(cell["p"]),
                    "p after Holm's correction": float(cell["p_holm"]),
                }


def claims_table(comparison: Comparison) -> Table | None:
    """Return all claims that the page might make of readouts, with their tests; None where nothing was read out."""
    family = comparison.claims
    if not family:
        return None
    rows = []
    for claim in family:
        margin = f" within {100 * claim.margin:g} points" if np.isfinite(claim.margin) else ""
        value = claim.difference
        tests = [f"p {p_text(p)}" if np.isfinite(p) else "\N{EN DASH}" for p in (claim.p, claim.p_holm)]
        said = {"gain": "differs from before learning", "difference": f"differs from {claim.against}"}
        what = said.get(claim.kind, f"as good as {claim.against}{margin}")
        rows.append([claim.subject, claim.population, what, value.text(1, 100, sign=True), str(value.n), *tests])
        rows[-1].append("yes" if claim.holds else "not shown")
    columns = ["rule", "population", "claim", "difference (points)", "n", "test", "after Holm's correction", "holds"]
    classes = [["", "", "", "", "", "", "", "yes" if claim.holds else ""] for claim in family]
    note = f"Corrected together: {family[0].family} claims. Differences are paired by seed."
    return Table("claims", "Every claim of readouts, and whether it holds", columns, rows, note, classes)


def _range(values: list[int]) -> str:
    return "0" if not values else str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
