"""The page of a report as it is written: what it holds, that it stands alone, and that its numbers are those drawn."""

import csv
import io
import itertools
import json
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from reported import BESIDE, FORWARD, ODD_NAMES, write_made_up, write_several

import analysis
from analysis.drawn import as_csv, note, rows_of
from analysis.figures import FIGURES, REFERENCES, panels_for
from analysis.inline import inline
from analysis.narrow import make_narrow
from analysis.network_diagram import edges_of, network_diagram, scale_for
from analysis.page import Table, data_uri
from analysis.palette import COLOURS, DARK, DARK_COLOURS, LIGHT, on_dark, ramp
from protocols.harness.parallel import each

NAMESPACE = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """What a page consists of: its elements with their attributes, and its text."""

    VOID = frozenset({"meta", "input", "br", "img", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def downloads(page: Page) -> dict[str, str]:
    """Return the files that a page holds, by name."""
    return {a["download"]: unquote(a["href"].partition(",")[2]) for a in page.of("a") if "download" in a}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("reported")
    comparison = analysis.open_comparison(write_several(folder, ODD_NAMES, 2))
    text = analysis.write_report(comparison, folder / "report.html").read_text()
    return text, Page(text)


def test_the_page_is_whole_and_stands_alone(written: tuple[str, Page]) -> None:
    text, page = written
    assert not page.open, "every element is closed"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r"url\(#([^)]+)\)", re.sub(r'href="data:[^"]*"', "", text))
    used += [a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")]
    used += [name for _, a in page.elements for key in ("for", "aria-labelledby") for name in a.get(key, "").split()]
    assert set(used) <= set(ids), set(used) - set(ids)
    addresses = re.findall(r"https?://[^\s\"'<>%]+", text)
    assert set(addresses) <= {NAMESPACE}
    assert all(a.get("src", "").startswith("data:") for tag, a in page.elements if "src" in a)
    assert not page.of("link")
    assert "default-src 'none'" in page.of("meta")[2]["content"]
    assert not any(name.startswith("on") for _, a in page.elements for name in a), "no handlers in attributes"


def test_names_are_text_whatever_they_look_like(written: tuple[str, Page]) -> None:
    text, page = written
    assert "<script>alert" not in text
    assert len(page.of("script")) == 2
    said = "".join(page.texts)
    assert all(said.count(name) > 3 for name in ODD_NAMES)
    data = json.loads(text.partition('id="network-data">')[2].partition("</script>")[0])
    assert [rule["label"] for rule in data["rules"]] == list(ODD_NAMES)


def test_the_page_can_be_read_out(written: tuple[str, Page]) -> None:
    _, page = written
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), "no level is skipped"
    assert page.of("html")[0]["lang"] == "en"
    assert page.of("a")[0]["class"] == "skip", "the first thing to reach"
    assert len(page.of("caption")) == len(page.of("table"))
    assert {a.get("scope") for a in page.of("th")} == {"col", "row"}
    pictures = [a for _, a in page.elements if a.get("role") == "img"]
    assert pictures
    assert all(a.get("aria-label") or a.get("aria-labelledby") for a in pictures)
    labelled = {a["for"] for a in page.of("label")}
    assert {a["id"] for tag in ("input", "select") for a in page.of(tag)} <= labelled
    assert all(a.get("data-label") for a in page.of("td"))
    for link in page.of("a"):
        assert "download" not in link or link["aria-label"].startswith(("Data as CSV", "Figure as SVG"))


def test_it_answers_first(written: tuple[str, Page]) -> None:
    text, _ = written
    places = [
        text.index(word) for word in ("How close?", "What does it buy?", "What is uncertain?", "In words", "Provenance")
    ]
    assert places == sorted(places)
    assert "neurossl run &#39;my protocol.py&#39; --lr 0.01" in text


def test_the_data_of_each_figure_are_its_numbers(written: tuple[str, Page], tmp_path: Path) -> None:
    _, page = written
    files = downloads(page)
    comparison = analysis.open_comparison(write_several(tmp_path, ODD_NAMES, 2))
    rows = list(csv.DictReader(io.StringIO(files["alignment.csv"])))
    curves = [row for row in rows if not row.get("line") and row["rule"] == ODD_NAMES[0] and row["panel"] == "V1 → V2"]
    want = (
        comparison.over_training(ODD_NAMES[0], "alignment", "cosine").sel(pathway="V1->V2").dropna("event", subset=["mean"])
    )
    column = "cosine with backprop, mean over seeds"
    assert [float(row[column]) for row in curves] == pytest.approx(want["mean"].values, rel=1e-6)
    halves = [float(row["half-width of the 95 % interval"]) for row in curves]
    assert halves == pytest.approx(want["half_width"].values, rel=1e-6)
    assert {row["n"] for row in curves} == {"2"}
    assert [float(row["observers seen"]) for row in curves] == want["observers_seen"].values.tolist()
    assert {row["line"] for row in rows if row.get("line")} == {REFERENCES[name][0] for name in BESIDE}
    for name, content in files.items():
        if name.endswith(".csv"):
            table = list(csv.reader(io.StringIO(content)))
            assert len(table) > 1, name
            assert {len(row) for row in table} == {len(table[0])}, name
        else:
            root = ElementTree.fromstring(content)
            assert root.tag == f"{{{NAMESPACE}}}svg"
            assert "var(--s" not in content, "a file has colours of its own"
    assert len([name for name in files if name.endswith(".csv")]) == len(page.of("figure")) + 2, (
        "tables of results and pairs"
    )


def test_what_is_noted_is_what_the_artists_draw(tmp_path: Path) -> None:
    comparison = analysis.open_comparison(write_several(tmp_path, ("one", "two"), 3))
    for name, (_, make) in FIGURES.items():
        figure = make(comparison)
        if figure is None:
            continue
        noted = {
            (row.get("panel"), row["rule"], row.get("observers seen"), float(f"{value:.7g}"))
            for row in rows_of(figure)
            if "line" not in row and "observers seen" in row
            for key, value in row.items()
            if key.endswith("mean over seeds")
        }
        drawn = set()
        for axes in figure.axes:
            for line in axes.lines:
                if line.get_label() in ("one", "two"):
                    drawn |= {
                        (axes.get_title(), line.get_label(), x, float(f"{y:.7g}"))
                        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
                    }
        assert name == "probes" or noted == drawn != set()


def test_numbers_are_read_back_from_what_others_drew() -> None:
    figure, panels = panels_for(2, "drawn by hand")
    x = np.array([0.0, 1.0, 2.0])
    panels[0].plot(x, x**2, color=COLOURS[0], label="squares")
    panels[0].fill_between(x, x**2 - 1, x**2 + 1, color=COLOURS[0], alpha=0.2)
    panels[0].set_xlabel("length (mm)")
    panels[0].set_ylabel("area (mm$^2$)")
    panels[1].errorbar([0, 1], [3.0, 4.0], [0.5, 0.25], label="means", ls="none", marker="o")
    panels[1].set_xticks([0, 1], ["left", "right"])
    panels[1].set_title("sides")
    rows = rows_of(figure)
    assert rows[2] == {
        "panel": "panel 1",
        "series": "squares",
        "length (mm)": 2.0,
        "area (mm$^2$)": 4.0,
        "area (mm$^2$) (low)": 3.0,
        "area (mm$^2$) (high)": 5.0,
    }
    assert [row["length (mm)"] for row in rows[3:]] == ["left", "right"]
    assert rows[4]["area (mm$^2$) (low)"] == 3.75
    image, (panel,) = panels_for(1, "a field")
    panel.imshow([[1.0, np.nan], [3.0, 4.0]])
    rows = rows_of(image)
    assert [row["column 0"] for row in rows] == [1, 3]
    assert [row["column 1"] for row in rows] == pytest.approx([np.nan, 4], nan_ok=True)
    panel.set_xticks([0, 1], ["here", "there"])
    assert rows_of(image)[2] == {"x": "here", "y": 1.0, "value": 3.0}
    note(image, [{"a": 1.0, "b": None}, {"a": float("nan"), "c": 'two\n"words"'}])
    assert as_csv(rows_of(image)) == 'a,b,c\r\n1,,\r\n,,"two ""words"""\r\n'


def test_figures_take_the_colours_of_the_page() -> None:
    figure, (panel,) = panels_for(1, "a < b & c")
    for colour in COLOURS:
        panel.plot([0, 1], [0, 1], color=colour, marker="o")
    panel.imshow([[0.0, 1.0]], extent=(0, 1, 0, 1))
    panel.text(0.5, 0.5, "on a field", color="white")
    found = inline(figure, "here")
    assert all(f"var(--s{place})" in found.themed for place in range(len(COLOURS)) if COLOURS[place] != "#000000")
    assert "currentColor" in found.themed
    assert "a &lt; b &amp; c" in found.themed, "text is text"
    assert "#fffffe" in found.themed, "what stands on a field keeps its colour: the field does"
    assert 'id="here-0"' in found.themed
    root = ElementTree.fromstring(found.alone)
    assert root.get("width", "").endswith("pt")
    assert make_narrow(figure)
    small = inline(figure, "small")
    assert small.width < 390 < found.width


def lightness(colour: str) -> float:
    """Return the relative luminance of WCAG."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG."""
    low, high = sorted((lightness(one), lightness(other)))
    return (high + 0.05) / (low + 0.05)


DICHROMACY = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear sRGB."""


def seen(colours: list[str], eyes: str) -> np.ndarray:
    """Return colours in OKLab as seen by one kind of eyes."""
    channels = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in colours])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(DICHROMACY[eyes]).T, 0, 1)
    cones = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    cones.append([0.0883024619, 0.2817188376, 0.6299787005])
    lab = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099]]
    lab.append([0.0259040371, 0.7827717662, -0.8086757660])
    return np.cbrt(linear @ np.array(cones).T) @ np.array(lab).T


@pytest.mark.parametrize("eyes", DICHROMACY)
@pytest.mark.parametrize("palette", [COLOURS, DARK_COLOURS], ids=["light", "dark"])
def test_series_are_told_apart_by_every_kind_of_eyes(palette: tuple[str, ...], eyes: str) -> None:
    lab = seen(list(palette), eyes)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(len(palette), 1)]
    assert distances.min() > 0.1


@pytest.mark.parametrize("eyes", DICHROMACY)
def test_the_ramp_is_even_and_never_turns_back(eyes: str) -> None:
    lab = seen(ramp(11), eyes)
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert (np.diff(lab[:, 0]) > 0).all()
    assert steps.max() / steps.min() < 1.6


def test_both_themes_can_be_read() -> None:
    for theme, palette in ((LIGHT, COLOURS), (DARK, DARK_COLOURS)):
        assert all(
            contrast(theme[name], theme[ground]) >= 4.5 for name in ("ink", "soft", "link") for ground in ("ground", "tint")
        )
        assert all(contrast(colour, theme["ground"]) >= 3 for colour in palette)
    assert on_dark("#ffffff") == DARK["ground"]
    assert on_dark("#000000") == DARK["ink"]


def test_a_network_is_drawn_from_bottom_to_top() -> None:
    names = [f"P{n}" for n in range(30)]
    pathways = [{"name": f"{a}->{b}", "kind": "feedforward"} for a, b in itertools.pairwise(names)]
    pathways += [{"name": f"{a}->{b}", "kind": "feedforward"} for a, b in zip(names, names[2:], strict=False)]
    pathways += [{"name": f"P29=>{b}", "kind": "feedback"} for b in names[1:]]
    network = {"populations": [{"name": n, "neurons": [4, 8, 8], "input": n == "P0"} for n in names], "pathways": pathways}
    drawing = network_diagram(network, {"P0->P1": 0.5, "P1->P2": -0.25, "P2->P3": float("nan")}, by_construction=["P3->P4"])
    root = ElementTree.fromstring(drawing)
    boxes = [float(box.get("y", "")) for box in root.iter(f"{{{NAMESPACE}}}rect") if box.get("rx")]
    assert boxes == sorted(boxes, reverse=True)
    assert len(set(boxes)) == 30
    groups = {g.get("data-pathway"): g.get("data-state") for g in root.iter() if g.get("data-pathway")}
    assert len(groups) == len([edge for edge in edges_of(network) if not edge.feedback])
    states = [groups[name] for name in ("P0->P1", "P1->P2", "P2->P3", "P3->P4", "P4->P5")]
    assert states == ["value", "value", "missing", "construction", "missing"]
    assert "\N{MINUS SIGN}0.25" in "".join(root.itertext())
    assert float(root.get("width", "")) < 700, "thirty feedback pathways of one source share a lane"
    assert scale_for([0.5, -0.1]) == (-0.25, 1.0)
    assert scale_for([]) == (0.0, 1.0)
    assert scale_for([0.0, float("nan")]).colour(2.0) == ramp()[-1]


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"populations": [{"name": "a"}], "pathways": []},
        {"populations": [{"name": "a"}, {"name": "b"}], "pathways": [{"name": "a->b"}, {"name": "b->a"}, {"name": "a->a"}]},
        {"populations": [{"name": str(n), "input": True} for n in range(9)], "pathways": [{"name": "0->nowhere"}]},
        {"populations": [{"name": "a:b"}, {"name": "c"}], "pathways": [{"name": "a:b->c:second", "kind": "feedforward"}]},
    ],
    ids=["nothing", "one", "a circle", "inputs", "labels"],
)
def test_any_network_is_drawn(network: dict[str, object]) -> None:
    assert ElementTree.fromstring(network_diagram(network)).tag.endswith("svg")


def test_the_slider_has_the_values_that_were_recorded(tmp_path: Path) -> None:
    comparison = analysis.open_comparison(write_several(tmp_path, ("one", "two"), 2))
    text = analysis.write_report(comparison, tmp_path / "report.html").read_text()
    data = json.loads(text.partition('id="network-data">')[2].partition("</script>")[0])
    rule = data["rules"][1]
    assert rule["observers"] == [100.0 * event for event in range(1, 8)]
    assert rule["pathways"][: len(FORWARD)] == list(FORWARD)
    curve = comparison.over_training("two", "alignment", "cosine")["mean"].sel(pathway="V1->V2")
    found = [moment[1] for moment in rule["values"]]
    assert found == pytest.approx(curve.dropna("event").values, abs=5e-4)
    assert rule["values"][2][0] is None, "not trusted"
    assert rule["fixed"] == [2, 3]
    assert rule["seeds"] == [2] * 7


def test_tables_become_cards_where_they_do_not_fit() -> None:
    small = Table("a", "a", ["rule", "n"], [["x", "3"]])
    wide = Table("b", "b", ["rule", *(f"column number {n}" for n in range(30))], [["x", *["1.000±0.001"] * 30]])
    assert small.fits < 390 < wide.fits
    assert wide.fits == 9999
    assert Table("c", "c", ["rule"], [["L" + "o" * 300]]).fits < 1280, "a long word is broken"
    assert small.look(0, 1) == ""
    assert Table("d", "d", ["rule", "x"], [["a", "-"]]).look(0, 1) == "none"


def test_files_in_links_come_back() -> None:
    content = 'a,"b ""#%"\r\nα\t<x>&amp;,1\r\n'
    assert unquote(data_uri(content, "text/csv").partition(",")[2]) == content


def test_one_run_without_anything_else_has_a_page(tmp_path: Path) -> None:
    comparison = analysis.open_comparison([write_made_up(tmp_path / "run", "alone", 0)])
    page = Page(analysis.write_report(comparison, tmp_path / "report.html").read_text())
    said = "".join(page.texts)
    assert "one seed" in said.lower()
    assert "Rules against each other" in said, "its claims are listed"
    assert not [a for a in page.of("table") if a["id"] == "table-pairs"]


@pytest.mark.slow
def test_sections_may_be_drawn_in_processes_side_by_side(tmp_path: Path) -> None:
    runs = write_several(tmp_path, ("one", "two"), 1)
    pages = []
    for name, beside in (("one", None), ("two", partial(each, workers=2))):
        comparison = analysis.open_comparison(runs)
        page = analysis.write_report(comparison, tmp_path / f"{name}.html", tmp_path / name, each=beside)
        pages.append({"page": page.read_bytes()} | {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert pages[0] == pages[1]
    assert len(pages[0]) > 6
