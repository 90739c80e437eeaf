"""What the benchmark has found: one record per case, bounds, growth, sentences and charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis import Chart, Results, put_median
from analysis.tables import LOWER, MEDIAN, UPPER, Record, number
from protocols.speed import store_report
from protocols.speed.side_by_side import Case

SECONDS, PLAIN_SECONDS = "seconds per step", "seconds per step, plain autograd"
RATIO = "ours / plain autograd"
RATE = "observers per second"
FLOOR, PLAIN_FLOOR = "step / arithmetic floor", "step / arithmetic floor, plain autograd"
FRACTION = "fraction of the matrix-product rate"
OWN = "ours / our reference case"
PEAK, PLAIN_PEAK = "peak memory (MiB)", "peak memory, plain autograd (MiB)"
ABOVE, PLAIN_ABOVE = "peak above the weights (MiB)", "peak above the weights, plain autograd (MiB)"
MEMORY = "peak above the weights, ours / plain autograd"
WORKING, PLAIN_WORKING = "working memory (MiB)", "working memory, plain autograd (MiB)"
WORKING_OWN = "working memory / that of the reference case"
OVERHEAD = "overhead (percent)"
PRODUCT = "GFLOP/s of a large square product"
EVERY = 50
RECORDED = {
    "alignment": f"recording alignment every {EVERY} steps",
    "weights": f"recording 1,000 weights per pathway every {EVERY} steps",
}
SHOWN = ("case", SECONDS, PLAIN_SECONDS, RATIO, RATE, FLOOR, OWN, MEMORY, OVERHEAD, "size", *store_report.SHOWN, "met")
AXES = {
    "observers": "observers per step",
    "pixels": "side of the images (pixels)",
    "layers": "layers",
}
Found = Mapping[tuple[str, ...], Any]


@dataclass(frozen=True)
class Bound:
    """The most that a column of a case may be."""

    column: str
    most: float


@dataclass(frozen=True)
class Scaling:
    """A case of a series that grows along an axis, one of `AXES`."""

    rule: str
    axis: str
    size: int
    case: Case


def results(
    found: Found,
    cases: Sequence[Case],
    growth: Sequence[Scaling],
    bounds: Mapping[str, Sequence[Bound]],
    references: Mapping[str, str],
    options: Mapping[str, Any],
) -> Results:
    """Return table, sentences and charts.

    Parameters
    ----------
    found : mapping
        Results of `protocols.speed.timing` by key: ("small", rule, kind), ("rates",), ("steps", first case of the group),
        ("memory", case, side), ("growth", rule, axis), ("recording",), ("store", case); what was not measured is not there.
    cases, growth : sequences
        What was to be measured.
    bounds : mapping of str to sequence of Bound
        By case.
    references : mapping of str to str
        The case to which a case is compared.
    options : mapping
    """
    table = [record for case in cases if (record := _case_record(case, found, references)) is not None]
    table += _recording_records(found)
    table += (kept := store_report.records(found))
    checked = _against_bounds(table, bounds)
    grown = _growth_records(found, growth)
    sides = _by_implementation(table)
    machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "device": options["device"]}
    rates = [
        put_median({"number type": name, **machine}, PRODUCT, [2e-9 * r for r in values])
        for name, values in found.get(("rates",), {}).items()
    ]
    return Results(
        "benchmark",
        "How fast is a step, beside plain autograd that computes the same?",
        table,
        [*_sentences(table, checked, grown, rates, found), *store_report.sentences(kept)],
        _charts(grown),
        {"bounds": checked, "growth": grown, "implementations": sides, "machine": rates},
        [c for c in SHOWN if any(r.get(c) is not None or r.get(c + MEDIAN) is not None for r in table)],
        options,
        caption="median [lower and upper quartile] of the repeats",
    )


def _steps(found: Found, name: str) -> tuple[dict[str, Any] | None, dict[str, list[float]]]:
    """Return the timing of a case and the product rates of its alternation."""
    for key, group in found.items():
        if key[0] == "steps" and name in group["cases"]:
            return group["cases"][name], group["rates"]
    return None, {}


def _case_record(case: Case, found: Found, references: Mapping[str, str]) -> Record | None:
    """Return what was found of a case, or None if nothing was."""
    timed, rates = _steps(found, case.name)
    memory = _memory(case, found)
    if timed is None and not memory:
        return None
    record: Record = {
        "case": case.name,
        "rule": case.rule,
        "network": case.network,
        "image side (pixels)": case.image[1],
        "observers per step": case.observers * case.replicas,
        "rows per step": case.rows,
        "products": case.products,
        "reference case": references.get(case.name),
    }
    if timed is not None:
        mine, plain = timed["ours"], timed["plain"]
        put_median(record, SECONDS, mine)
        put_median(record, PLAIN_SECONDS, plain)
        put_median(record, RATIO, _ratios(mine, plain))
        put_median(record, RATE, [case.observers * case.replicas / s for s in mine])
        work = sum(timed["multiply_adds"].values())
        if rates:
            floors = [work / rate for rate in rates[case.products]]
            put_median(record, FLOOR, _ratios(mine, floors))
            put_median(record, FRACTION, _ratios(floors, mine))
            if case.products == "float32":
                put_median(record, PLAIN_FLOOR, _ratios(plain, floors))
        reference, _ = _steps(found, references.get(case.name, ""))
        if reference is not None:
            put_median(record, OWN, _ratios(mine, reference["ours"]))
        record |= {
            "synapses (10^6)": timed["synapses"] / 1e6,
            "multiply-adds per step (10^9)": work / 1e9,
            "relative error of the updates (float64, small network)": found.get(("small", *case.kind)),
            "relative error of the updates": timed["error"],
            "tolerance": timed["tolerance"],
            "active rows (fraction)": timed["active"],
        }
    record |= memory
    others = [_memory_of(found, references.get(case.name, ""), side) for side in ("ours", "plain")]
    working = [other["working"] for other in others if other]
    if working and min(working) > 0 and WORKING in memory:
        record[WORKING_OWN] = memory[WORKING] / min(working)
    return record


def _ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(these, those, strict=True)]


def _memory_of(found: Found, name: str, side: str) -> dict[str, float]:
    """Return the peak, that above the weights, and that above weights and optimiser state, in MiB."""
    bytes_ = found.get(("memory", name, side))
    if not bytes_:
        return {}
    above = bytes_["peak"] - bytes_["before"]
    sizes = {"peak": bytes_["peak"], "above": above, "working": above - bytes_["optimiser state"]}
    return {kind: size / 2**20 for kind, size in sizes.items()}


def _memory(case: Case, found: Found) -> dict[str, float]:
    """Return the columns of memory that were measured."""
    columns: dict[str, float] = {}
    mine, plain = (_memory_of(found, case.name, side) for side in ("ours", "plain"))
    if mine:
        columns |= {PEAK: mine["peak"], ABOVE: mine["above"], WORKING: mine["working"]}
    if plain:
        columns |= {PLAIN_PEAK: plain["peak"], PLAIN_ABOVE: plain["above"], PLAIN_WORKING: plain["working"]}
    if mine and plain and plain["above"] > 0:
        columns[MEMORY] = mine["above"] / plain["above"]
    return columns


def _recording_records(found: Found) -> list[Record]:
    """Return what recording adds to a step, averaged over the steps between two records."""
    taken = found.get(("recording",))
    if taken is None:
        return []
    records = []
    for kind, name in RECORDED.items():
        extra = [100 * (a - b) / (EVERY * b) for a, b in zip(taken[kind], taken["none"], strict=True)]
        records.append(put_median(put_median({"case": name}, "seconds per recorded step", taken[kind]), OVERHEAD, extra))
    return records


def _against_bounds(table: Sequence[Record], bounds: Mapping[str, Sequence[Bound]]) -> list[Record]:
    """Return one record per bound of what was measured, and write into the table whether all bounds of a case are met."""
    checked = []
    for record in table:
        mine = []
        for bound in bounds.get(record["case"], ()):
            value = record.get(bound.column + MEDIAN, record.get(bound.column))
            if value is not None:
                met = "yes" if value <= bound.most else "no"
                mine.append(
                    {"case": record["case"], "what": bound.column, "measured": value, "at most": bound.most, "met": met}
                )
        if mine:
            record["required"] = "; ".join(f"{b['what']} <= {number(b['at most'])}" for b in mine)
            record["met"] = "yes" if all(b["met"] == "yes" for b in mine) else "no"
        checked += mine
    return checked


def _growth_records(found: Found, growth: Sequence[Scaling]) -> list[Record]:
    records = []
    for scaled in growth:
        group = found.get(("growth", scaled.rule, scaled.axis))
        if group is None:
            continue
        for side, name in (("ours", "neurossl"), ("plain", "plain autograd")):
            case = group["cases"][scaled.case.name]
            record = {"rule": scaled.rule, "axis": scaled.axis, AXES[scaled.axis]: scaled.size, "implementation": name}
            record |= {"network": scaled.case.network, "multiply-adds (10^9)": sum(case["multiply_adds"].values()) / 1e9}
            records.append(put_median(record, SECONDS, case[side]))
    return records


def _by_implementation(table: Sequence[Record]) -> list[Record]:
    """Return the table with a record for each side of a case, for charts."""
    columns = {SECONDS: PLAIN_SECONDS, FLOOR: PLAIN_FLOOR, ABOVE: PLAIN_ABOVE}
    records = []
    for record in table:
        for name, places in (("neurossl", columns.keys()), ("plain autograd", columns.values())):
            side: Record = {"case": record["case"], "implementation": name}
            for column, place in zip(columns, places, strict=True):
                side |= {column + k: record[place + k] for k in ("", MEDIAN, LOWER, UPPER) if place + k in record}
            if record.get("products") == "float32" or name == "neurossl":
                floor = side.get(FLOOR + MEDIAN)
                records.append(side | ({} if floor is None else {FRACTION: 1 / floor}))
    return records


def _sentences(
    table: Sequence[Record], checked: Sequence[Record], grown: Sequence[Record], rates: Sequence[Record], found: Found
) -> list[str]:
    """Return what the numbers say, in words."""
    said = []
    small = [error for key, error in found.items() if key[0] == "small"]
    errors = [r["relative error of the updates"] for r in table if r.get("products") == "float32" and RATIO + MEDIAN in r]
    if small:
        at_size = f" and {number(max(errors))} in float32 at the size timed" if errors else ""
        said.append(
            f"All rules propose the updates of plain autograd: relative error at most {number(max(small))} in float64 "
            f"(small networks){at_size}; with bfloat16 products no more than plain autograd's own under autocast."
        )
    for record in table:
        if record.get("active rows (fraction)", 1.0) < 1:
            said.append(f"{record['case']}: only {record['active rows (fraction)']:.1%} of the rows were active.")
    if rates:
        speeds = " and ".join(f"{number(r[PRODUCT + MEDIAN])} GFLOP/s in {r['number type']}" for r in rates)
        said.append(f"A large square matrix product runs at {speeds}; threads: {rates[0]['threads']}.")
    said += _unsteady(found)
    faster = [r for r in table if RATIO + MEDIAN in r and r[f"{RATIO} (upper quartile)"] < 1]
    slower = [r for r in table if RATIO + MEDIAN in r and r[f"{RATIO} (lower quartile)"] > 1]
    for name, records in (("Faster", faster), ("Slower", slower)):
        if records:
            listed = ", ".join(f"{r['case']} ({number(r[RATIO + MEDIAN])})" for r in records)
            said.append(f"{name} than plain autograd in three repeats of four (ours / plain): {listed}.")
    said += _growing(grown)
    if checked:
        met = sum(b["met"] == "yes" for b in checked)
        said.append(f"{met} of {len(checked)} bounds are met:")
        said += [
            f"{b['case']}: {b['what']} {number(b['measured'])}, required at most {number(b['at most'])}: "
            f"{'met' if b['met'] == 'yes' else 'not met'}."
            for b in checked
        ]
    return said


def _unsteady(found: Found) -> list[str]:
    """Return a warning if the rate of the same product has changed during the run."""
    values: dict[str, list[float]] = {}
    for key, group in found.items():
        for name, measured in (group["rates"] if key[0] == "steps" else group if key[0] == "rates" else {}).items():
            values.setdefault(name, []).extend(measured)
    spread = {name: max(v) / min(v) for name, v in values.items() if v}
    if not spread or max(spread.values()) < 1.25:
        return []
    return [
        f"The rate of one and the same product varied {number(max(spread.values()))}-fold during the run: something else "
        "used the machine; ratios of what was timed in turn are more reliable than seconds."
    ]


def _growing(grown: Sequence[Record]) -> list[str]:
    """Return how much a step grows from the smallest to the largest size, ours and plain."""
    said = []
    for axis, label in AXES.items():
        factors: dict[str, list[float]] = {}
        ends: list[int] = []
        for rule in dict.fromkeys(r["rule"] for r in grown if r["axis"] == axis):
            for side in ("neurossl", "plain autograd"):
                series = [r for r in grown if (r["axis"], r["rule"], r["implementation"]) == (axis, rule, side)]
                factors.setdefault(rule, []).append(series[-1][SECONDS + MEDIAN] / series[0][SECONDS + MEDIAN])
                ends = [series[0][label], series[-1][label]]
        if factors:
            listed = ", ".join(f"{rule} {number(a)} ({number(b)})" for rule, (a, b) in factors.items())
            said.append(f"{label}, from {ends[0]} to {ends[1]}: a step takes so many times longer, ours (plain): {listed}.")
    return said


def _charts(grown: Sequence[Record]) -> list[Chart]:
    quartiles = "bars: quartiles over repeats"
    both: dict[str, Any] = {"data": "implementations", "series": "implementation", "errors": quartiles}
    charts = [
        Chart("Time of a step", "case", SECONDS, "", "seconds per step", kind="points", log="y", **both),
        Chart(
            "Fraction of the machine's matrix-product rate",
            *("case", FRACTION, "", "arithmetic floor / time of a step"),
            kind="bars",
            levels={"a large square product": 1.0},
            text="The floor counts the products that a rule cannot do without; bfloat16 against the bfloat16 rate.",
            **both,
        ),
        Chart("Memory of a step", "case", ABOVE, "", "peak above the weights (MiB)", kind="bars", **both),
    ]
    for axis, label in AXES.items():
        if any(r["axis"] == axis for r in grown):
            charts.append(
                Chart(
                    f"How the cost of a step grows: {label}",
                    *(label, SECONDS, label, "seconds per step"),
                    series="implementation",
                    panel="rule",
                    data="growth",
                    where={"axis": axis},
                    log="xy",
                    errors=quartiles,
                )
            )
    return charts
