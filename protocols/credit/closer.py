"""Tables and sentences of `protocols.closer_is_better`: how closeness to backprop and the gain of a readout go together.

Ways to carry the credit of one objective in one network are the units, as in `analysis.relation`; seeds are repeats. What is
asked is decided on means over the populations below the top, where alone transports differ, once for single updates and once
for accumulated changes, in every network and for every objective that backprop is shown to learn there: one family of tests.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import analysis
from analysis.correlations import between
from analysis.outcomes import about_rules
from analysis.results import Chart, Results
from analysis.statistics import NO_INTERVAL, Estimate, estimate
from analysis.tables import HALF_WIDTH, HIGH, LOW, MEAN, Record, column_names, put, put_interval
from protocols.credit.conditions import OBJECTIVES, Condition
from protocols.credit.rates import Chosen, Tried, budget_in_words

KINDS = {
    "single": "cosine of single updates with BP's",
    "accumulated": "cosine of accumulated changes with BP's run",
}
BELOW = "mean below the top"
GAINED = "gain (points)"
BP_GAINS = "gain of BP (points)"
BEYOND = "BP minus the best other way (points)"
RHO, RHO_BP, WITHIN = "Spearman without BP", "Spearman with BP", "Spearman within seeds"


class Group(NamedTuple):
    """One objective in one network."""

    network: str
    objective: str
    conditions: tuple[Condition, ...]

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{OBJECTIVES[self.objective][0]}, {self.network}"


class Found(NamedTuple):
    """What was measured in a group, by (transport, seed, population); populations end with `BELOW`."""

    gain: xr.DataArray
    closeness: Mapping[str, xr.DataArray]


def results_of(
    groups: Sequence[Group],
    paths: Mapping[tuple[str, str], Sequence[Path]],
    tried: Sequence[Tried],
    rates: Chosen,
    options: Mapping[str, Any],
) -> Results:
    """Return table, sentences and charts.

    Parameters
    ----------
    groups : sequence of Group
    paths : mapping
        Of the finished runs, by network and objective.
    tried : sequence of Tried
    rates : mapping
        Chosen, by network and name of the condition.
    options : mapping
    """
    measured = {
        group: found for group in groups if (found := measure(group, paths[group.network, group.objective])) is not None
    }
    table: list[Record] = []
    for group, found in measured.items():
        for kind in KINDS:
            table += [_relation(group, found, kind, str(p)) for p in reversed(found.gain["population"].values)]
    _correct(table)
    ways = [record for group, found in measured.items() for record in _ways(group, found, rates)]
    columns = [
        name
        for name in column_names(table)
        if name not in ("ways", "p", "p within seeds", "p within seeds, corrected", WITHIN)
    ]
    title = "Does a rule that is closer to backprop make better representations?"
    return Results(
        "closer_is_better",
        title,
        table,
        [*_sentences(table), budget_in_words(tried, rates)],
        [_chart(kind, words) for kind, words in KINDS.items()],
        {"ways": ways},
        columns=columns,
        options=dict(options),
        caption=(
            "Spearman's correlation over ways to carry credit, [95 % interval: Fisher's z, Bonett and Wright], "
            "p by permutation of the ways, corrected (Holm) over the rows of the mean below the top; ± 95 % over seeds; the "
            "best other way is chosen by the same runs"
        ),
        curves=False,
    )


def measure(group: Group, paths: Sequence[Path]) -> Found | None:
    """Return gains and closeness of all ways of a group, from their stored runs; None without backprop and another one."""
    if not paths:
        return None
    tree = analysis.open_comparison(paths).tree  # without feedback weights that have other shapes in FA than in DFA
    about = about_rules(tree)
    labels = {f"{c.label}, {group.network}": c for c in group.conditions}
    transports = {rule: labels[str(told["label"])].transport for rule, told in about.items()}
    if "BP" not in transports.values() or len(transports) < 2:
        return None
    outcome = analysis.before_and_after(tree)
    single = analysis.over_training(tree)
    accumulated = analysis.accumulated_alignment(tree, analysis.own_references(tree))["cosine"].isel(snapshot=-1)
    order = [str(p) for p in outcome["population"].values if str(p) != "readout"]
    gain = _named((outcome["after"] - outcome["before"]).sel(population=order), transports)
    found = {"single": single, "accumulated": accumulated}
    return Found(_with_mean(gain, order), {kind: _closeness(values, transports, order) for kind, values in found.items()})


def _named(values: xr.DataArray, transports: Mapping[str, str]) -> xr.DataArray:
    """Return values with the names of the transports in place of the rules."""
    kept = values.reset_coords(drop=True).sel(rule=list(transports))
    return kept.assign_coords(rule=list(transports.values())).rename(rule="transport")


def _closeness(values: xr.DataArray, transports: Mapping[str, str], order: Sequence[str]) -> xr.DataArray:
    """Return cosines by the population that a pathway leads to; those of BP are 1."""
    forward = [f"{pre}->{post}" for pre, post in zip(["retina", *order], order, strict=False)]
    chosen = (
        _named(values.sel(pathway=forward), transports).rename(pathway="population").assign_coords(population=list(order))
    )
    is_bp = chosen["transport"] == "BP"
    return _with_mean(chosen.where(~is_bp, 1.0), order)


def _with_mean(values: xr.DataArray, order: Sequence[str]) -> xr.DataArray:
    """Return values of the populations below the top, where alone transports differ, and, last, their mean."""
    below = values.sel(population=list(order[:-1]))
    return xr.concat([below, below.mean("population").expand_dims(population=[BELOW])], "population").transpose(
        "transport", "seed", "population"
    )


def _relation(group: Group, found: Found, kind: str, population: str) -> Record:
    gain = found.gain.sel(population=population)
    closeness = found.closeness[kind].sel(population=population)
    bp = gain.sel(transport="BP")
    others = [name for name in gain["transport"].values if name != "BP"]
    record: Record = {"objective": OBJECTIVES[group.objective][0], "network": group.network, "closeness": KINDS[kind]}
    record |= {"population": population, "ways": len(others)}
    put(record, BP_GAINS, 100 * bp.values)
    if others:
        best = gain.sel(transport=others).mean("seed").idxmax("transport").item()
        put(record, BEYOND, 100 * (bp - gain.sel(transport=best)).values)
        record["the best other way"] = str(best)
    for column, names in ((RHO, others), (RHO_BP, ["BP", *others])):
        x, y = _both(closeness.sel(transport=names).mean("seed"), gain.sel(transport=names).mean("seed"))
        rho, low, high, p = between("spearman", x, y)
        record = put_interval(record, column, rho, low, high)
        if column == RHO:
            record["p"] = _plain(p)
    of_seeds = [(closeness.sel(transport=others, seed=seed), gain.sel(transport=others, seed=seed)) for seed in gain["seed"]]
    ranks = np.array([_ranks(*pair) for pair in of_seeds])
    record["p within seeds"] = _plain(float(analysis.paired_difference(ranks, 0 * ranks)["p"]))
    return put(record, WITHIN, ranks)


def _plain(p: float) -> float | None:
    return None if np.isnan(p) else p


def _ranks(x: xr.DataArray, y: xr.DataArray) -> float:
    """Return Spearman's correlation of two arrays by transport."""
    return between("spearman", *_both(x, y))[0]


def _both(x: xr.DataArray, y: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of both where both are known."""
    there = np.isfinite(x.values) & np.isfinite(y.values)
    return x.values[there], y.values[there]


def _correct(table: Sequence[Record]) -> None:
    """Add corrected p-values and verdicts to the rows of the mean below the top: one family of what can be asked."""
    asked = [row for row in table if row["population"] == BELOW]
    able = [row for row in asked if _estimate(row, BP_GAINS).is_above(0) and row["p"] is not None]
    for row, p in zip(able, analysis.holm(np.array([row["p"] for row in able])), strict=True):
        row["p, corrected"] = float(p)
        better = "better" if row[RHO] > 0 else "WORSE"
        row["verdict"] = f"decided: closer reads out {better}" if p < 0.05 else "undecided"
    known = [row for row in able if row["p within seeds"] is not None]
    for row, p in zip(known, analysis.holm(np.array([row["p within seeds"] for row in known])), strict=True):
        row["p within seeds, corrected"] = float(p)
    for row in asked:
        row.setdefault("p within seeds, corrected", None)
        row.setdefault("p, corrected", None)
        gain = _estimate(row, BP_GAINS)
        idle = "BP is not shown to gain" if gain.has_interval else NO_INTERVAL
        row.setdefault("verdict", "too few ways" if gain.is_above(0) else f"{idle}: not tested")


def _estimate(row: Record, column: str) -> Estimate:
    mean, half = row[column + MEAN], row[column + HALF_WIDTH]
    return Estimate(np.nan if mean is None else mean, np.nan if half is None else half)


def _sentences(table: Sequence[Record]) -> Iterator[str]:
    asked = [row for row in table if row["population"] == BELOW]
    tested = [row for row in asked if row["p, corrected"] is not None]
    better = [row for row in tested if row["verdict"].endswith("better")]
    worse = [row for row in tested if row["verdict"].endswith("WORSE")]
    if tested:
        yield (
            f"Is closer to backprop better, for the same objective carried down in different ways? Of {len(tested)} tests "
            f"(objective, network, measure of closeness; those in which BP is shown to gain): closer reads out better in "
            f"{len(better)}, worse in {len(worse)}, undecided in {len(tested) - len(better) - len(worse)}."
        )
        among = [row for row in tested if row["p within seeds, corrected"] is not None]
        decided = [row for row in among if row["p within seeds, corrected"] < 0.05]
        rising = sum(_estimate(row, WITHIN).mean > 0 for row in decided)
        yield (
            "That is said of ways to carry credit in general, of which these are a sample. Of these very ones, seeds "
            f"being the units (the correlation within a seed is not 0, corrected over {len(among)}): closer better in "
            f"{rising}, worse in {len(decided) - rising}, undecided in {len(among) - len(decided)}."
        )
        settings = {(row["objective"], row["network"]): _estimate(row, BEYOND) for row in tested}
        ahead = [one for one in settings.values() if one.is_above(0)]
        behind = [one for one in settings.values() if one.is_below(0)]
        yield (
            f"BP itself, the closest, reads out better than the best of the others in {len(ahead)} of {len(settings)} "
            f"settings, worse in {len(behind)} (95 % intervals; the best is chosen by the same runs, to BP's disadvantage)."
        )
    for row in asked:
        where = f"{row['objective']}, {row['network']}, {row['closeness']}"
        gains = f"BP gains {_estimate(row, BP_GAINS).text(1, sign=True)} points"
        if row["p, corrected"] is None:
            yield f"{where}: {row['verdict']} ({gains})."
            continue
        within = _estimate(row, WITHIN)
        yield (
            f"{where}: {row['verdict']}: Spearman {_interval(row, RHO)} over {row['ways']} ways (p corrected "
            f"{row['p, corrected']:.2g}), {_interval(row, RHO_BP)} with BP among them; among these ways, within seeds, "
            f"{within.text(2, sign=True)}. {gains}, {_estimate(row, BEYOND).text(1, sign=True)} more than the best other "
            f"way ({row['the best other way']})."
        )


def _interval(row: Record, column: str) -> str:
    low, high = row[column + LOW], row[column + HIGH]
    return f"{row[column]:+.2f}" + ("" if low is None else f" [{low:+.2f}, {high:+.2f}]")


def _ways(group: Group, found: Found, rates: Chosen) -> Iterator[Record]:
    """Yield closeness and gain of every way, mean below the top, for the charts."""
    names = {c.transport: c.name for c in group.conditions}
    for transport in found.gain["transport"].values:
        record: Record = {"setting": group.label, "transport": str(transport)}
        record["learning rate"] = rates[group.network, names[str(transport)]]
        put(record, GAINED, 100 * found.gain.sel(transport=transport, population=BELOW).values)
        for kind, words in KINDS.items():
            mine = estimate(found.closeness[kind].sel(transport=transport, population=BELOW))
            record[words] = None if np.isnan(mine.mean) else mine.mean
            record[f"{words}, 95 % half-width"] = None if np.isnan(mine.half_width) else mine.half_width
        yield record


def _chart(kind: str, words: str) -> Chart:
    return Chart(
        f"What a readout gains, against closeness to BP: {'single updates' if kind == 'single' else 'accumulated changes'}",
        words,
        GAINED,
        "cosine, mean below the top",
        "after minus before learning (points)",
        series="transport",
        panel="setting",
        data="ways",
        kind="points",
        levels={"nothing gained": 0.0},
        text="BP is at a cosine of 1 with itself. If closer is better, the points rise to the right, and BP is the highest.",
    )
