"""The report in a real Chromium: in both themes, at the width of a phone and of a desk, by keyboard, without a network."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reported import ODD_NAMES, write_several

import analysis

playwright = pytest.importorskip("playwright.sync_api", reason="playwright's Python package is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
SIZES = {"phone": (390, 844), "small phone": (320, 568), "tablet": (800, 1000), "desk": (1280, 900)}
THEMES = ("light", "dark")

OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && box.right > wide + 1 && !e.closest(".skip") && !e.closest("thead") && !e.closest("svg");
  });
  const named = out.slice(0, 5).map(e => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40));
  return [document.documentElement.scrollWidth - wide, named];
}"""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => { const l = c.slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  const ground = e => {
    for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255, 255]; };
  const found = {};
  const unseen = ["SCRIPT", "STYLE", "TITLE", "OPTION"];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const silent = !walker.currentNode.textContent.trim() || !e.getClientRects().length;
    if (silent || unseen.includes(e.tagName.toUpperCase())) continue;
    const look = getComputedStyle(e), svg = e.closest("svg");
    const ink = rgba(svg ? look.fill : look.color), behind = ground(e);
    const [low, high] = [light(ink), light(behind)].sort((a, b) => a - b);
    const key = e.tagName + " " + ink + " on " + behind;
    found[key] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browsed")
    comparison = analysis.open_comparison(write_several(folder, ODD_NAMES, 2))
    return analysis.write_report(comparison, folder / "report.html", folder / "figures")


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(browser: Any, report: Path, size: str = "desk", theme: str = "light", script: bool = True) -> Any:
    """Return the page as it is shown, with what went wrong and what was asked for in ``page.said`` and ``page.asked``."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=script, accept_downloads=True
    )
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_page(browser: Any, report: Path, size: str, theme: str) -> None:
    page = opened(browser, report, size, theme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate(OVERFLOW) == [0, []]
    assert page.said == [], "nothing on the console"
    assert page.asked == [report.as_uri()], "nothing is asked of a network"
    page.context.close()


@pytest.mark.parametrize("size", ["phone", "desk"])
def test_all_text_can_be_read(browser: Any, report: Path, size: str, theme: str) -> None:
    page = opened(browser, report, size, theme)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 5
    assert {look: ratio for look, ratio in ratios.items() if ratio < 4.5} == {}
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 27)")
    page.context.close()


def test_figures_follow_the_theme_and_the_width(browser: Any, report: Path) -> None:
    looks = {}
    for theme in THEMES:
        page = opened(browser, report, "desk", theme)
        query = "getComputedStyle(document.querySelector('#figure-alignment .wide svg path[style*=\"--s0\"]')).stroke"
        looks[theme] = page.evaluate(query)
        assert page.locator("#figure-alignment .wide").is_visible()
        assert not page.locator("#figure-alignment .narrow").is_visible()
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.locator("#figure-alignment .narrow").is_visible()
        assert not page.locator("#figure-alignment .wide").is_visible()
        sizes = page.evaluate(
            "[...document.querySelectorAll('#figure-alignment .narrow text')].map(t => t.getBoundingClientRect().height)"
        )
        assert min(sizes) > 9, "text in figures is no smaller than on paper"
        page.context.close()
    assert looks == {"light": "rgb(0, 75, 135)", "dark": "rgb(26, 96, 203)"}


def shown(page: Any) -> dict[str, str]:
    """Return what the diagram says of each pathway."""
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('[data-network]:not([hidden]) [data-pathway]')]"
        ".map(g => [g.dataset.pathway, g.dataset.state + ' ' + g.querySelector('text').textContent]))"
    )


def test_the_network_is_led_through_training_by_keyboard(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    slider = page.locator("#network-moment")
    last = shown(page)
    assert last["V2->V3"] == "construction \N{IDENTICAL TO} 1"
    assert slider.get_attribute("aria-valuetext") == "700 observers seen"
    slider.focus()
    page.keyboard.press("Home")
    first = shown(page)
    assert first["V1->V2"] != last["V1->V2"]
    assert slider.get_attribute("aria-valuetext") == "100 observers seen"
    assert page.locator("#network-said").text_content() == "100 observers seen, mean over 2 seeds"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown(page)["retina->V1"] == "missing \N{EN DASH}", "not trusted at this moment"
    rule = page.locator("#network-rule")
    rule.focus()
    page.keyboard.press("ArrowDown")
    assert rule.input_value() == "1"
    assert slider.get_attribute("aria-valuetext") == "300 observers seen", "another rule at the same moment"
    title = page.locator("[data-network]:not([hidden]) svg > title").text_content()
    assert title.startswith(f"{ODD_NAMES[1]}, 300 observers seen: ")
    with page.expect_download() as caught:
        page.locator("#network-file").press("Enter")
    saved = Path(caught.value.path()).read_text()
    assert saved.startswith("<svg")
    assert "var(--" not in saved
    assert "300 observers seen" in saved
    page.context.close()


def test_without_a_script_the_end_of_training_is_shown(browser: Any, report: Path) -> None:
    page = opened(browser, report, script=False)
    assert not page.locator(".controls").is_visible()
    assert page.locator("[data-network] svg").first.is_visible()
    assert "700 observers seen" in page.locator("#network").text_content()
    assert page.locator("#table-alignment-at-the-end").is_visible()
    page.context.close()


def test_everything_is_reached_by_keyboard_in_order(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    reached: list[str] = []
    ring = []
    for _ in range(200):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(e => e === document.body ? '' : e.getAttribute('download') || e.id || e.textContent)(document.activeElement)"
        )
        if not name:
            break
        reached.append(name)
        ring.append(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert reached[0] == "To the content"
    assert set(ring) == {"solid"}, "where the focus is can be seen"
    files = page.evaluate("[...document.querySelectorAll('a[download]')].map(a => a.download)")
    assert [name for name in reached if name in files or name == "network-file"] == files
    assert reached.index("network-rule") < reached.index("network-moment") < reached.index("alignment.csv")
    page.context.close()


def test_downloads_are_the_files_of_the_figures(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    for name in ("alignment.csv", "probes.csv", "alignment.svg"):
        with page.expect_download() as caught:
            page.locator(f"a[download='{name}']").press("Enter")
        content = Path(caught.value.path()).read_bytes()
        if name.endswith(".csv"):
            assert content == (report.parent / "figures" / name).read_bytes(), "as in the folder of figures"
            assert len(list(csv.reader(io.StringIO(content.decode())))) > 3
        else:
            assert content.startswith(b"<svg xmlns=")
    page.context.close()


def test_what_is_drawn_is_where_the_data_say(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    rows = list(csv.DictReader(io.StringIO((report.parent / "figures" / "drift.csv").read_text())))
    mine = [row for row in rows if row["panel"] == "V1 → V2" and row["rule"] == ODD_NAMES[0]]
    column = next(name for name in mine[0] if name.endswith("mean over seeds"))
    paths = page.evaluate(
        "[...document.querySelectorAll('#figure-drift .wide svg path[style*=\"--s0\"]')].map(p => p.getAttribute('d'))"
    )
    curves = [
        [float(word) for word in d.replace("M", " ").replace("L", " ").split()]
        for d in paths
        if d.count("L") == len(mine) - 1
    ]
    heights = [-y for y in curves[1][1::2]]
    want = [float(row[column]) for row in mine]
    scale = (heights[-1] - heights[0]) / (want[-1] - want[0])
    assert [(y - heights[0]) / scale + want[0] for y in heights] == pytest.approx(want, abs=0.01)
    page.context.close()


def test_it_prints_on_white(browser: Any, report: Path) -> None:
    page = opened(browser, report, "desk", "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.context.close()
