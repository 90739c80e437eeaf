"""The results of a protocol: what is stored comes back, is drawn and is reported."""

import json
import math
from pathlib import Path

import pytest

from analysis.charts import draw
from analysis.report import write_report
from analysis.results import Chart, Results, read_results
from analysis.tables import number, put, text_table
from neurossl.errors import OptionError, TrajectoryError
from protocols.cli import main


@pytest.fixture
def results() -> Results:
    table = []
    for rule in ("near", "far"):
        for depth in (1, 2, 3):
            table.append(put({"rule": rule, "layer": depth}, "cosine", [0.5 / depth, 0.7 / depth]))
    table.append({"rule": "lost", "layer": 1, "cosine (mean)": math.nan})
    chart = Chart("cosine by layer", "layer", "cosine", "layer", "cosine with backprop", series="rule", levels={"none": 0.0})
    bars = Chart("one layer", "rule", "cosine", "rule", "cosine", where={"layer": 1}, kind="bars", text="Look at this.")
    curve = Chart("curve", "step", "loss", "step", "loss", data="curves", panel="rule", log="y", y_range=(1e-3, 1.0))
    curves = [{"rule": rule, "step": n, "loss": 1 / (n + 1)} for rule in ("near", "far") for n in range(40)]
    words, command = ["Near is <near>."], ("neurossl", "run", "mine", "--out", "a b")
    return Results(
        "mine",
        "Which is near?",
        table,
        words,
        [chart, bars, curve],
        {"curves": curves},
        options={"seeds": 2},
        command=command,
    )


def test_results_come_back(results: Results, tmp_path: Path) -> None:
    content = json.loads(results.save(tmp_path).read_text())
    assert content["protocol"] == "mine"
    assert content["table"][-1]["cosine (mean)"] is None, "JSON has no NaN"
    again = read_results(tmp_path)
    assert again.charts == results.charts
    assert again.table[:-1] == results.table[:-1]


def test_charts_draw_their_columns(results: Results) -> None:
    by_layer, bars, curve = (draw(results, chart) for chart in results.charts)
    assert by_layer is not None
    assert bars is not None
    assert curve is not None
    (panel,) = by_layer.axes
    drawn = {c.get_label(): c.lines[0].get_ydata().tolist() for c in panel.containers}
    assert drawn == {"near": pytest.approx([0.6, 0.3, 0.2]), "far": pytest.approx([0.6, 0.3, 0.2])}
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("layer", "cosine with backprop")
    assert [round(p.get_height(), 9) for p in bars.axes[0].patches] == [0.6, 0.6]
    assert [a.get_title() for a in curve.axes] == ["near", "far"]
    assert draw(results, Chart("none", "layer", "speed", "layer", "speed")) is None
    with pytest.raises(OptionError, match="kind is lines, points, bars or matrix"):
        Chart("wrong", "layer", "cosine", "layer", "cosine", kind="pie")


def test_a_series_looks_the_same_in_every_chart_and_absent_ones_leave_no_gap() -> None:
    names = [f"rule {n}" for n in range(10)]
    table = [{"layer": layer, "cosine": 0.5, "rule": name} for name in names for layer in ("V1", "V2")]

    def looks(shown: list[str]) -> dict[str, tuple[object, object, object, float]]:
        records = [r for r in table if r["rule"] in shown]
        chart = Chart("c", "layer", "cosine", "layer", "cosine", series="rule", kind="points", order=names)
        figure = draw(Results("p", "t", records, [], [chart]), chart)
        assert figure is not None
        marks = {str(c.get_label()): c.lines[0] for c in figure.axes[0].containers}
        return {
            name: (m.get_color(), m.get_marker(), m.get_markerfacecolor(), float(m.get_xdata()[0]))
            for name, m in marks.items()
        }

    every, few = looks(names), looks([names[0], names[8]])
    assert [look[:3] for look in few.values()] == [every[names[0]][:3], every[names[8]][:3]]
    assert len({look[:3] for look in every.values()}) == 10
    first, last = (look[3] for look in few.values())
    assert 0 < last - first < every[names[8]][3] - every[names[0]][3], "side by side"


def test_tables_are_for_people(results: Results) -> None:
    lines = text_table(results.table).splitlines()
    assert lines[0].split() == ["rule", "layer", "cosine"]
    assert lines[2].split() == ["near", "1", "0.6±1.3"]
    assert lines[-1].split() == ["lost", "1", "-"]
    assert [number(x) for x in (0, 3.0, 1234567, 0.12345, 12.345, 1e-9, 2.5e7)] == [
        *("0", "3", "1,234,567", "0.123", "12.3", "1.0e-09", "2.5e+07")
    ]


def test_the_report_is_made_again_from_what_is_stored(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.save(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Near is &lt;near&gt;." in page
    assert "Look at this." in page
    assert page.count("<figure ") == 3
    assert "neurossl run mine --out &#39;a b&#39;" in page, "as it was given, quoted"
    write_report(None, tmp_path / "other.html", tmp_path / "figures", results)
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        f"chart-{n}.{e}" for n in (1, 2, 3) for e in ("png", "svg", "csv")
    }


@pytest.mark.parametrize(
    "content",
    [
        "[" * 10**5,
        '{"protocol": "p", "title": "t", "table": [], "sentences": 3}',
        "",
        "[]",
        '{"table": 3, "charts": [{}]}',
        '{"protocol": "p"}',
        "\x00",
    ],
)
def test_damaged_results_are_named(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(TrajectoryError, match=r"results\.json: not the results of a protocol"):
        read_results(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert "results.json" in capsys.readouterr().err
