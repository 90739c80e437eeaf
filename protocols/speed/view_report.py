"""Table, sentences and charts of `protocols.view_speed`."""

from collections.abc import Mapping, Sequence

import numpy as np

import analysis
from analysis.tables import LOWER, MEDIAN, UPPER, Record, put_median
from protocols.speed.views import OURS, THEIRS

EVERYTHING = "everything"
FASTER = "times as fast"
RATES = {THEIRS: "views per second, torchvision", OURS: "views per second, neurossl"}


def record_of(step: str, threads: int, rows: int, rates: Mapping[str, Sequence[float]]) -> Record:
    """Return what was measured of one step."""
    record: Record = {"step": step, "threads": threads, "views at a time": rows}
    for who, column in RATES.items():
        put_median(record, column, rates[who])
    return put_median(record, FASTER, np.array(rates[OURS]) / np.array(rates[THEIRS]))


def drawn(table: Sequence[Record]) -> dict[str, list[Record]]:
    """Return what the charts draw: a record per curve and place."""
    rates, ratios, steps = [], [], []
    for record in table:
        threads = f"{record['threads']} thread" + "s" * (record["threads"] > 1)
        place = {"views at a time": record["views at a time"], "threads": threads}
        found = {who: {s: record[column + s] for s in (MEDIAN, LOWER, UPPER)} for who, column in RATES.items()}
        if record["step"] == EVERYTHING:
            for who, rate in found.items():
                rates.append({**place, "series": f"{who}, {threads}", **{f"rate{s}": rate[s] for s in rate}})
            ratios.append({**place, **{f"ratio{s}": record[FASTER + s] for s in (MEDIAN, LOWER, UPPER)}})
        else:
            for who, rate in found.items():
                cost = {MEDIAN: 1e6 / rate[MEDIAN], LOWER: 1e6 / rate[UPPER], UPPER: 1e6 / rate[LOWER]}
                steps.append({"step": record["step"], "who": who, **{f"microseconds{s}": cost[s] for s in cost}})
    return {"rates": rates, "ratios": ratios, "steps": steps}


def charts_of(table: Sequence[Record], middle: int) -> list[analysis.Chart]:
    """Return the charts; those of single steps are of so many views at a time."""
    highest = max(record[FASTER + UPPER] for record in table if record["step"] == EVERYTHING)
    bars = "medians; bars: quartiles of repeated measurements"
    return [
        analysis.Chart(
            "Views per second", "views at a time", "rate", "views at a time", "views per second", series="series",
            data="rates", log="xy", errors=bars,
        ),
        analysis.Chart(
            "How many times as fast as torchvision", "views at a time", "ratio", "views at a time",
            "views per second, relative to torchvision", series="threads", data="ratios", log="x",
            levels={"20 times": 20.0}, y_range=(0.0, 1.15 * max(20.0, highest)), errors=bars,
        ),
        analysis.Chart(
            f"What a view costs, step by step ({middle} at a time)", "step", "microseconds", "",
            "microseconds per view", series="who", data="steps", kind="points", log="y", errors=bars,
            text="Each step alone. Ours contain the conversion of the picture to floating point and a copy of the result.",
        ),
    ]  # fmt: skip


def sentences_of(table: Sequence[Record], agreement: Mapping[str, float], count: int, repeats: int) -> list[str]:
    """Return what was found, in words."""
    whole = sorted((r for r in table if r["step"] == EVERYTHING), key=lambda r: r[FASTER + MEDIAN])
    said = []
    for what, record in (("least", whole[0]), ("most", whole[-1])):
        ours, theirs = (record[RATES[who] + MEDIAN] for who in (OURS, THEIRS))
        said.append(
            f"The {what}: with {record['views at a time']} views at a time and torch on {record['threads']} thread(s), "
            f"{ours:,.0f} views per second against torchvision's {theirs:,.0f}, {record[FASTER + MEDIAN]:.1f} times as many "
            f"(median of {repeats} turns, quartiles {record[FASTER + LOWER]:.1f} and {record[FASTER + UPPER]:.1f})."
        )
    least = min(agreement.values())
    verdict = "do not differ more than by chance" if least > 1e-3 else "DIFFER, so the speeds compare different things"
    looks = f"{', '.join(agreement)} (Kolmogorov-Smirnov, smallest p {least:.2g})"
    return [*said, f"{count:,} views of one picture by each {verdict} in {looks}."]
