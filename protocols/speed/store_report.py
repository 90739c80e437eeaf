"""What the cases of the store have taken, as records of the benchmark's table; bounds and words for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis import put_median
from analysis.tables import MEDIAN, Record, number

PROCESSOR, SECONDS = "seconds of the processor", "seconds"
PLAIN, ZARR = "seconds, one plain NetCDF file", "seconds, zarr"
RATIO, GROWN = "ours / plain NetCDF", "memory (MiB)"
SHOWN = (PROCESSOR, SECONDS, PLAIN, ZARR, RATIO, GROWN)
LARGE, EVENTS, MANY = "open a large run", "open a run of many events and read a scalar", "open many runs"
SYNAPSE, SINGLES = "read one synapse at all snapshots", "read single snapshots"
WRITING, COMPACTING = "store snapshots for good", "join small segments"

BOUNDS = {
    LARGE: ((PROCESSOR, 0.5),),
    EVENTS: ((PROCESSOR, 1.0), (GROWN, 300.0)),
    MANY: ((SECONDS, 5.0),),
    SYNAPSE: ((RATIO, 2.0),),
    SINGLES: ((RATIO, 2.0),),
}
"""The most that a column may be, by case, at the sizes of `protocols.speed.store_cases.Sizes`."""


def records(found: Mapping[tuple[str, ...], Any]) -> list[Record]:
    """Return one record per case that was measured, keyed ("store", name) in what was found."""
    table: list[Record] = []

    def add(case: str, taken: Mapping[str, Any], size: str) -> None:
        record: Record = {"case": case, "size": size}
        for column, name in (
            (PROCESSOR, "processor"),
            (SECONDS, "ours"),
            (PLAIN, "plain"),
            (ZARR, "zarr"),
            (GROWN, "memory"),
        ):
            if taken.get(name):
                put_median(record, column, taken[name])
        if taken.get("ours") and taken.get("plain"):
            put_median(record, RATIO, [a / b for a, b in zip(taken["ours"], taken["plain"], strict=True)])
        table.append(record)

    large, events, many = (found.get(("store", name)) for name in ("large", "events", "many"))
    if large:
        add(LARGE, large, f"{large['bytes'] / 1e9:.3g} GB in {large['segments']:,} segments")
    if events:
        add(EVENTS, events, f"{events['events']:,} events")
    if many:
        add(MANY, many, f"{many['runs']} runs")
    if reading := found.get(("store", "reading")):
        size = f"{reading['snapshots']:,} snapshots of {reading['bytes'] / 1e6 / reading['snapshots']:.3g} MB"
        add(SYNAPSE, reading["synapse"], size)
        add(SINGLES, reading["singles"], f"{reading['read']} of {size}")
    if writing := found.get(("store", "writing")):
        add(WRITING, writing, f"{writing['bytes'] / 1e6:.3g} MB")
    if compacting := found.get(("store", "compacting")):
        add(COMPACTING, compacting, f"{compacting['segments']} segments")
    return table


def sentences(table: list[Record]) -> list[str]:
    """Return what the records say, in words."""
    said = []
    for record in table:
        case, size = record["case"], record["size"]
        if record.get(RATIO + MEDIAN) is not None:
            said.append(
                f"To {case} ({size}) takes {number(record[RATIO + MEDIAN])} times as long as with one plain NetCDF file."
            )
        else:
            seconds = record[PROCESSOR + MEDIAN] if PROCESSOR + MEDIAN in record else record[SECONDS + MEDIAN]
            said.append(f"To {case} ({size}) takes {number(seconds)} s.")
    return said
