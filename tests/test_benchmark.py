"""The benchmark: both sides do the same before they are timed, operations are counted right, the report says what is."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Refusal, clones, drawn, same
from matplotlib.container import ErrorbarContainer
from torch import Tensor

from analysis.charts import draw
from analysis.results import read_results
from analysis.tables import put_median, text_table
from neurossl.anatomy.architectures import convolutional, mlp, vgg6
from neurossl.anatomy.connectivity import Connectivity, Convolution
from neurossl.engine import kernels
from neurossl.engine.updates import OuterProduct, Update
from neurossl.errors import OptionError
from neurossl.plasticity import Rule, make_rule
from protocols.cli import main
from protocols.harness.isolation import Laboratory, Unmeasured
from protocols.speed import cases, store_report, timing
from protocols.speed import report as benchmark_report
from protocols.speed.operation_counts import ProductRate, multiply_adds
from protocols.speed.plain_autograd import plain_model
from protocols.speed.report import Bound
from protocols.speed.side_by_side import TOLERANCES, Case, Disagreement, both_sides, disagreement, small_disagreement

CPU = torch.device("cpu")
CASES = {case.name: case for group in cases.CASES for case in group}


# --- both sides do the same --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_our_updates_are_those_of_plain_autograd(case: Case) -> None:
    assert small_disagreement(case, CPU) < 1e-10
    found = disagreement(both_sides(replace(case.small(), products=case.products), CPU))
    assert found["error"] < found["tolerance"]
    assert found["active"] == 1.0, "every observer is active"
    assert found["tolerance"] == TOLERANCES[torch.float32] or case.products == "bfloat16"


def test_what_is_rounding_on_both_sides_is_no_disagreement() -> None:
    """Eight layers below the top, 20 steps leave errors of 1e-8 of what they are the difference of."""
    deep = cases.mlp("PC", "pc", 256, layers=8, observers=32, views=1, classes=10, options=cases.SETTLING)
    assert small_disagreement(deep, CPU) < 1e-10
    found = disagreement(both_sides(deep, CPU))
    assert found["error"] < found["tolerance"]
    assert found["tolerance"] > TOLERANCES[torch.float32], "plain autograd itself is that far from its update in float64"


def test_the_weights_are_those_before_the_proof() -> None:
    sides = both_sides(CASES["CLAPP++ (spatial)"].small(), CPU)
    before = clones(sides.circuits[0].weights)
    disagreement(sides)
    assert same(before, clones(sides.circuits[0].weights))


def test_a_wrong_convolution_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.hebbian

    def wrong(connectivity: Connectivity, *arguments: Any) -> Update:
        update = right(connectivity, *arguments)
        if isinstance(connectivity, Convolution):
            update.weight[0] *= 1 + 1e-8
        return update

    monkeypatch.setattr(kernels, "hebbian", wrong)
    with pytest.raises(Disagreement, match=r"CLAPP\+\+ \(global\) \(float64, small network\): our updates differ"):
        small_disagreement(CASES["CLAPP++ (global)"], CPU)


def test_a_wrong_dense_update_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OuterProduct.rows

    def wrong(self: OuterProduct, *arguments: object) -> Tensor:
        return right(self, *arguments) * 2  # type: ignore[arg-type]

    monkeypatch.setattr(OuterProduct, "weight", property(lambda self: 1.001 * self._factors[0].T @ self._factors[1]))
    monkeypatch.setattr(OuterProduct, "rows", wrong)
    with pytest.raises(Disagreement, match="PC"):
        small_disagreement(CASES["PC"], CPU)


def test_rules_without_a_plain_counterpart_are_refused() -> None:
    for name in ("scff", "phyll", "fa", "z-il", "clapp++both", "bp-infonce"):
        rule = make_rule(name)
        classes = 3 if "target" in rule.needs else None
        network = rule.wire(convolutional((2, 8, 8), [(3, False)], classes, normalisation=rule.normalisation))
        with pytest.raises(OptionError, match="has no plain autograd counterpart"):
            plain_model(drawn(network), rule)


# --- operation counts --------------------------------------------------------------------------------------------------


def dense(rule: Rule, classes: int | None = None) -> dict[str, int]:
    return multiply_adds(rule.wire(mlp(10, [7, 5], classes, normalisation=rule.normalisation)), rule)


def nonzero(counted: dict[str, int]) -> dict[str, int]:
    return {kind: n for kind, n in counted.items() if n}


def test_dense_products_are_counted() -> None:
    forward = 10 * 7 + 7 * 5
    both = {"forward": forward, "weight gradients": forward}
    assert nonzero(dense(make_rule("ff"))) == both
    predictions = 7 * 7 + 5 * 5
    assert nonzero(dense(make_rule("clapp++gap"))) == both | {"feedback": predictions, "feedback gradients": predictions}
    from_top = 7 * 5 + 5 * 5
    assert nonzero(dense(make_rule("clapp-dfb"))) == both | {"feedback": from_top, "feedback gradients": from_top}
    assert nonzero(dense(make_rule("bp-clapp++"))) == both | {
        "feedback": 5 * 5,
        "feedback gradients": 5 * 5,
        "input gradients": 7 * 5,
    }
    assert nonzero(dense(make_rule("dfa-clapp"))) == both | {"feedback": 5 * 5 + 5 * 7, "feedback gradients": 5 * 5}


def test_supervised_products_are_counted() -> None:
    forward, between = 10 * 7 + 7 * 5 + 5 * 3, 7 * 5 + 5 * 3
    both = {"forward": forward, "weight gradients": forward}
    assert nonzero(dense(make_rule("bp"), 3)) == both | {"input gradients": between}
    assert nonzero(dense(make_rule("dfa"), 3)) == both | {"feedback": 3 * (7 + 5)}
    assert nonzero(dense(make_rule("pc", steps=6), 3)) == both | {"settling": 6 * 2 * between}
    for name in ("fa", "z-il", "ipc"):
        with pytest.raises(OptionError, match="not counted"):
            dense(make_rule(name), 3)


def test_convolutions_are_counted_at_every_location_before_pooling() -> None:
    rule = make_rule("clapp++")
    network = rule.wire(convolutional((3, 16, 16), [(4, True), (5, False)]))
    first, second = 16 * 16 * 4 * 3 * 9, 8 * 8 * 5 * 4 * 9
    cells = (4 * 4 * 4) ** 2 + (5 * 4 * 4) ** 2
    assert nonzero(multiply_adds(network, rule)) == {
        "forward": first + second,
        "weight gradients": first + second,
        "feedback": cells,
        "feedback gradients": cells,
    }


def test_the_network_of_the_paper_costs_what_the_paper_needs() -> None:
    maps = [(3, 128, 32), (128, 256, 32), (256, 256, 16), (256, 512, 16), (512, 1024, 8), (1024, 1024, 4)]
    products = [pre * post * 9 * side**2 for pre, post, side in maps]
    local, reference = make_rule("clapp++"), make_rule("bp-clapp++")
    counted = multiply_adds(local.wire(vgg6()), local)
    assert counted["forward"] == counted["weight gradients"] == sum(products)
    assert counted["feedback"] == 2 * 8192**2 + 4 * 4096**2, "201 million prediction weights"
    assert counted["input gradients"] == 0
    counted = multiply_adds(reference.wire(vgg6()), reference)
    assert counted["input gradients"] == sum(products[1:]), "no credit is carried to the retina"
    assert counted["feedback"] == 1024**2
    assert 2e-9 * sum(products) * 64 == pytest.approx(154, rel=0.01), "GFLOP of 32 observers with two views"


def test_a_product_has_a_rate() -> None:
    assert ProductRate(torch.float32, CPU, 64)() > 1e6


# --- measuring ---------------------------------------------------------------------------------------------------------


def allocate(mebibytes: int) -> int:
    """Called in a process of its own."""
    return int(torch.ones(mebibytes, 2**18).sum())


MARKS: list[int] = []


def leave_a_mark() -> int:
    """Called in a process of its own."""
    MARKS.append(len(MARKS))
    return len(MARKS)


def kept_of_what_was_freed(mebibytes: int) -> float:
    """Called in a process of its own."""
    allocate(3 * mebibytes)  # blocks up to this size would be kept from now on
    timing._return_freed_memory()
    before = timing._start_peak(CPU)
    allocate(mebibytes)
    after = timing._resident("VmRSS")
    assert before is not None
    assert after is not None
    return (after - before) / 2**20


def test_steps_are_taken_in_turn() -> None:
    taken: list[str] = []
    steps = {name: (lambda name=name: taken.append(name)) for name in ("ours", "plain")}
    seconds, rates = timing.alternate(steps, CPU, 3, 0.0, {"float32": ProductRate(torch.float32, CPU, 8)})
    assert {k: len(v) for k, v in seconds.items()} == {"ours": 3, "plain": 3}
    assert len(rates["float32"]) == 3
    assert taken[-6:] == ["ours", "plain"] * 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_the_peak_of_memory_is_that_of_the_step() -> None:
    before = timing._start_peak(CPU)
    allocate(64)
    peak = timing._read_peak(CPU)
    assert before is not None
    assert peak is not None
    assert 60 < (peak - before) / 2**20 < 80


def test_measurements_have_processes_of_their_own() -> None:
    laboratory = Laboratory(threads=1)
    assert laboratory.call(torch.get_num_threads) == 1
    assert laboratory.call(os.getpid) != laboratory.call(os.getpid)
    with pytest.raises(OptionError, match="no plain autograd counterpart"):
        laboratory.call(small_disagreement, replace(CASES["BP"], rule="fa"), CPU)
    with pytest.raises(Unmeasured, match="ZeroDivisionError"):
        laboratory.call(divmod, 1, 0)
    with pytest.raises(Unmeasured, match="killed, perhaps for lack of memory"):
        laboratory.call(signal.raise_signal, signal.SIGKILL)
    assert laboratory.call(abs, -3) == 3, "one that fails does not harm the next"


def test_a_measurement_starts_from_what_was_loaded_alone() -> None:
    laboratory = Laboratory(threads=1)
    assert [laboratory.call(leave_a_mark) for _ in range(2)] == [1, 1]


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell's background job ignores it, and Brian2 hands it on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_measurement_ends_at_once(heeding_ctrl_c: None) -> None:
    laboratory = Laboratory(threads=1)
    laboratory.call(abs, -1)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        laboratory.call(time.sleep, 60)
    assert time.monotonic() - begun < 30
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_freed_memory_is_given_back_whatever_was_freed_before() -> None:
    assert Laboratory(threads=1).call(kept_of_what_was_freed, 8) < 1


# --- the report --------------------------------------------------------------------------------------------------------


def test_medians_and_quartiles_are_stored_shown_and_drawn(tmp_path: Path) -> None:
    record = put_median({"case": "it"}, "seconds", [1.0, 2.0, 3.0, 4.0, 100.0])
    assert record == {
        "case": "it",
        "seconds (median)": 3.0,
        "seconds (lower quartile)": 2.0,
        "seconds (upper quartile)": 4.0,
    }
    assert text_table([record]).splitlines()[-1].split() == ["it", "3", "[2-4]"]
    assert put_median({}, "seconds", [])["seconds (median)"] is None
    table = [put_median({"case": "it", "side": "ours"}, "seconds", [1.0, 2.0, 5.0])]
    chart = benchmark_report.Chart("t", "case", "seconds", "", "seconds", series="side", kind="bars", errors="quartiles")
    figure = draw(benchmark_report.Results("p", "t", table, charts=[chart]), chart)
    assert figure is not None
    bars = next(c for c in figure.axes[0].containers if isinstance(c, ErrorbarContainer))
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1].tolist() == [1.5, 3.5]


def fake(ours: Sequence[float], plain: Sequence[float], rate: float) -> dict[str, object]:
    counted = {"forward": 2_000_000, "weight gradients": 1_000_000}
    common = {"multiply_adds": counted, "synapses": 10, "error": 1e-7, "tolerance": 1e-3, "active": 1.0}
    cases = {"CLAPP++ (global)": {**common, "ours": ours, "plain": plain}}
    cases["BP-CLAPP++"] = {**common, "ours": [8.0], "plain": [9.0]}
    return {"cases": cases, "rates": {"float32": [rate] * len(ours)}}


def test_bounds_are_met_or_not_by_what_was_measured() -> None:
    found = {
        ("steps", "CLAPP++ (spatial)"): {"cases": {}, "rates": {}},
        ("steps", "CLAPP++ (global)"): fake([6.0], [3.0], 1e6),
        ("memory", "CLAPP++ (global)", "ours"): {"before": 2**20, "peak": 4 * 2**20, "optimiser state": 2**20},
        ("memory", "CLAPP++ (global)", "plain"): {"before": 2**20, "peak": 7 * 2**20, "optimiser state": 2**20},
        ("memory", "BP-CLAPP++", "ours"): {"before": 2**20, "peak": 10 * 2**20, "optimiser state": 2**20},
        ("memory", "BP-CLAPP++", "plain"): {"before": 2**20, "peak": 6 * 2**20, "optimiser state": 2**20},
        ("recording",): {"none": [1.0, 1.0], "alignment": [6.0, 6.0], "weights": [1.0, 2.0]},
    }
    bounds = {
        "CLAPP++ (global)": [
            Bound(benchmark_report.RATIO, 1.0),
            Bound(benchmark_report.FLOOR, 2.0),
            Bound(benchmark_report.OWN, 0.8),
            Bound(benchmark_report.MEMORY, 0.5),
            Bound(benchmark_report.WORKING_OWN, 0.4),
        ],
        benchmark_report.RECORDED["alignment"]: [Bound(benchmark_report.OVERHEAD, 10.0)],
    }
    cases = [CASES["CLAPP++ (spatial)"], CASES["CLAPP++ (global)"], CASES["BP-CLAPP++"]]
    references = {"CLAPP++ (global)": "BP-CLAPP++"}
    results = benchmark_report.results(found, cases, [], bounds, references, {"device": "cpu"})
    outcome = {b["what"]: (b["measured"], b["met"]) for b in results.data["bounds"]}
    assert outcome == {
        "ours / plain autograd": (2.0, "no"),
        "step / arithmetic floor": (2.0, "yes"),
        "ours / our reference case": (0.75, "yes"),
        "peak above the weights, ours / plain autograd": (0.5, "yes"),
        "working memory / that of the reference case": (0.5, "no"),
        "overhead (percent)": (10.0, "yes"),
    }
    record = results.table[0]
    assert record["case"] == "CLAPP++ (global)", "what was not measured is not there"
    assert record["met"] == "no"
    assert record["fraction of the matrix-product rate (median)"] == 0.5
    assert record["observers per second (median)"] == pytest.approx(32 / 6)
    assert "4 of 6 bounds are met:" in results.sentences
    assert "CLAPP++ (global): ours / plain autograd 2, required at most 1: not met." in results.sentences


def test_a_rate_that_varies_is_told() -> None:
    found = {("rates",): {"float32": [1e9, 2e9], "bfloat16": [1e9]}}
    results = benchmark_report.results(found, [], [], {}, {}, {"device": "cpu"})
    assert any("varied 2-fold" in sentence for sentence in results.sentences)


def test_bounds_and_references_name_cases() -> None:
    names = [case.name for group in cases.CASES + cases.FULL_CASES for case in group]
    assert len(set(names)) == len(names)
    stored = {store_report.LARGE, store_report.EVENTS, store_report.MANY, store_report.SYNAPSE, store_report.SINGLES}
    assert set(store_report.BOUNDS) == stored
    assert set(cases.BOUNDS) <= {*names, *benchmark_report.RECORDED.values(), *stored}
    for group in cases.CASES + cases.FULL_CASES:
        for case in group:
            reference = cases.REFERENCES.get(case.name)
            assert reference is None or reference in {c.name for c in group}, "compared within one alternation"


@pytest.mark.slow
def test_tiny_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["run", "benchmark", "--out", str(out), "--tiny", "--repeats", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    content = json.loads((out / "results.json").read_text())
    records = {r["case"]: r for r in content["table"]}
    assert set(records) == {*CASES, *benchmark_report.RECORDED.values()}
    for name in CASES:
        record = records[name]
        assert record["seconds per step (median)"] > 0
        assert record["relative error of the updates (float64, small network)"] < 1e-10
        assert record["active rows (fraction)"] == 1
    assert records["CLAPP++ (spatial)"]["network"] == "vgg6:0.03"
    assert content["data"]["bounds"] == [], "no bound is stated for small networks"
    assert {(r["axis"], r["implementation"]) for r in content["data"]["growth"]} == {
        (axis, side) for axis in benchmark_report.AXES for side in ("neurossl", "plain autograd")
    }
    results = read_results(out)
    assert all(draw(results, chart) is not None for chart in results.charts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "speed"], "expected some of steps, memory, growth, recording, store, got speed"),
        (["--repeats", "0"], "repeats: expected a whole number from 1"),
        (["--full", "--tiny"], "give one of them"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("benchmark", options)


def test_a_disagreement_stops_the_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(self: Laboratory, function: object, *arguments: object) -> None:
        raise Disagreement("CLAPP++: our updates differ")

    monkeypatch.setattr(Laboratory, "call", disagree)
    assert main(["run", "benchmark", "--out", str(tmp_path / "x"), "--tiny"]) == 1
    assert "our updates differ" in capsys.readouterr().err
    assert not (tmp_path / "x" / "results.json").exists()


def test_what_cannot_be_measured_is_named_and_the_rest_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(self: Laboratory, function: object, *arguments: object) -> object:
        if function is timing.peak_memory:
            raise Unmeasured("peak_memory: its process ended")
        if function is small_disagreement:
            return 1e-15
        if function is timing.machine_rates:
            return {"float32": [1e9]}
        assert function is timing.recording_overhead
        return {"none": [1.0], "alignment": [2.0], "weights": [1.0]}

    monkeypatch.setattr(Laboratory, "call", call)
    words = ["--tiny", "--repeats", "1", "--parts", "memory,recording"]
    assert main(["run", "benchmark", "--out", str(tmp_path / "x"), *words]) == 1
    assert "memory, CLAPP++ (spatial), ours: peak_memory: its process ended" in capsys.readouterr().err
    kept = json.loads((tmp_path / "x" / "results.json").read_text())["table"]
    assert [r["case"] for r in kept] == list(benchmark_report.RECORDED.values())
    assert kept[0]["overhead (percent) (median)"] == 2.0


def test_the_store_is_measured_beside_plain_files(tmp_path: Path) -> None:
    assert main(["run", "benchmark", "--out", str(tmp_path / "x"), "--tiny", "--repeats", "2", "--parts", "store"]) == 0
    table = json.loads((tmp_path / "x" / "results.json").read_text())["table"]
    assert [record["case"] for record in table] == [
        store_report.LARGE,
        store_report.EVENTS,
        store_report.MANY,
        store_report.SYNAPSE,
        store_report.SINGLES,
        store_report.WRITING,
        store_report.COMPACTING,
    ]
    for record in table:
        measured = record.get("seconds of the processor (median)", record.get("seconds (median)"))
        assert 0 < measured < 60, record
    assert all("ours / plain NetCDF (median)" in record for record in table[3:])


def test_the_bounds_of_the_store_are_stated_at_full_size_alone() -> None:
    found = {("store", "large"): {"processor": [0.6, 0.6], "bytes": 50 * 10**9, "segments": 1500}}
    options = {"device": "cpu"}
    stated = benchmark_report.results(found, [], [], cases.full_plan(False).bounds, {}, options)
    assert [bound["met"] for bound in stated.data["bounds"]] == ["no"]
    assert "To open a large run (50 GB in 1,500 segments) takes 0.600 s." in stated.sentences
    assert not cases.tiny_plan().bounds
