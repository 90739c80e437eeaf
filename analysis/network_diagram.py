"""A network as a diagram: populations from bottom to top, pathways coloured by their alignment with backprop; SVG by code.

Populations stand on the level of the longest way to them from an input. Pathways to the next row go straight, those that
skip one go round on the left; feedback goes round on the right, that of one source in one lane.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from math import floor, isfinite
from typing import Any, NamedTuple

from analysis.inline import XMLNS
from analysis.palette import LIGHT, STEPS, ramp
from neurossl.text import one_line

BOX, HEIGHT, PITCH, GAP = 112, 40, 92, 18
"""Width and height of a population, from one row to the next, and between two in a row; CSS pixels."""
MOST_IN_A_ROW = 3
LANE, NARROWEST_LANE, MOST_LANES = 30, 5, 150
"""Between two lanes; how close they may come so that all fit into so many pixels."""
LABELLED_LANE = 26
"""Lanes that are closer have no room for their values, which are in the table below the diagram."""
LEGEND, LEAST = 92, 348
_VARIABLE = re.compile(r"var\(--[a-z]+,([^)]*)\)")
LETTERS = 15
"""Of a name that fit into a box."""


class Edge(NamedTuple):
    """A pathway of a diagram."""

    name: str
    pre: str
    post: str
    feedback: bool
    plastic: bool


class Scale(NamedTuple):
    """What the ends of the colours stand for."""

    low: float
    high: float

    def colour(self, value: float) -> str:
        """Return the colour of a value; beyond the ends that of the end."""
        share = (value - self.low) / (self.high - self.low)
        return ramp()[round(min(1.0, max(0.0, share)) * (STEPS - 1))]


def scale_for(values: Collection[float]) -> Scale:
    """Return a scale up to 1 that begins at 0, or at the quarter below the least value."""
    finite = [value for value in values if isfinite(value)]
    least = min(finite, default=0.0)
    return Scale(0.0 if least > -0.02 else max(-1.0, floor(4 * least) / 4), 1.0)


def edges_of(network: Mapping[str, Any]) -> list[Edge]:
    """Return the pathways of a described network between populations that it has, feedforward first."""
    known = {str(p.get("name")) for p in network.get("populations") or ()}
    found = []
    for pathway in network.get("pathways") or ():
        name = str(pathway.get("name", ""))
        arrow = "=>" if "=>" in name else "->"
        pre, _, rest = name.partition(arrow)
        post = rest if rest in known else rest.rpartition(":")[0]
        if pre in known and post in known:
            kind = pathway.get("kind", "feedforward")
            found.append(Edge(name, pre, post, kind != "feedforward", bool(pathway.get("plastic", True))))
    return sorted(found, key=lambda edge: edge.feedback)


def network_diagram(
    network: Mapping[str, Any],
    alignment: Mapping[str, float] | None = None,
    *,
    by_construction: Collection[str] = (),
    scale: Scale | None = None,
    prefix: str = "network",
    title: str = "",
    themed: bool = False,
) -> str:
    """Return the diagram of a network as an ``<svg>`` element.

    Parameters
    ----------
    network : mapping
        As `Network.describe` returns it, and the manifest of a run holds it: populations and pathways by name.
    alignment : mapping of str to float, optional
        Cosine with the reference per pathway; a pathway that is not there, or is NaN, is drawn as not recorded.
    by_construction : collection of str
        Pathways whose cosine is 1 by construction: marked, not coloured.
    scale : Scale, optional
        That fits the values by default; one scale for several diagrams makes them comparable.
    prefix : str
        In front of identifiers.
    title : str
        What a screen reader says.
    themed : bool
        Whether its colours follow ``--ground``, ``--ink``, ``--soft`` and ``--tint`` of a page, rather than being its own.
    """
    values = {name: float(value) for name, value in (alignment or {}).items()}
    scale = scale or scale_for(values.values())
    plan = _Plan(network)
    parts = [*plan.feedback(values, scale), *plan.boxes()]
    parts[:0] = [line for edge in plan.forward for line in plan.pathway(edge, values, scale, edge.name in by_construction)]
    parts += _legend(plan, scale, prefix, bool(plan.back))
    said = one_line(title or f"Network {network.get('name', '')}")
    drawing = (
        f'<svg {XMLNS} viewBox="0 0 {plan.width:g} {plan.height:g}" width="{plan.width:g}" height="{plan.height:g}" '
        f'role="img" aria-labelledby="{prefix}-title" style="font:12px system-ui,sans-serif;color:{_ink()}">'
        f'<title id="{prefix}-title">{escape(said)}</title>{"".join(parts)}</svg>'
    )
    return drawing if themed else _VARIABLE.sub(r"\1", drawing)


def marks(value: float | None, scale: Scale, by_construction: bool) -> tuple[str, str, str]:
    """Return how a pathway is shown: its state, colour and text."""
    if by_construction:
        return "construction", "", "\N{IDENTICAL TO} 1"
    if value is None or not isfinite(value):
        return "missing", "", "\N{EN DASH}"
    return "value", scale.colour(value), f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


class _Plan:
    """Where everything stands."""

    def __init__(self, network: Mapping[str, Any]) -> None:
        self.populations = {str(p["name"]): p for p in network.get("populations") or ()}
        edges = edges_of(network)
        self.forward = [edge for edge in edges if not edge.feedback]
        self.back = [edge for edge in edges if edge.feedback]
        self.rows = _rows(self.populations, self.forward)
        self.row = {name: number for number, names in enumerate(self.rows) for name in names}
        widest = max(map(len, self.rows), default=1)
        self.straight = [edge for edge in self.forward if self.row[edge.post] - self.row[edge.pre] == 1]
        around = [edge for edge in self.forward if edge not in self.straight]
        spans = [tuple(sorted((self.row[edge.pre], self.row[edge.post]))) for edge in around]
        self.lane = dict(zip([edge.name for edge in around], _lanes(spans), strict=True))
        self.sources = list(dict.fromkeys(edge.pre for edge in self.back))
        reach = [[self.row[edge.pre], *(self.row[e.post] for e in self.back if e.pre == edge.pre)] for edge in self._first()]
        self.trunk = dict(zip(self.sources, _lanes([(min(rows), max(rows)) for rows in reach]), strict=True))
        left, self.left_pitch = _space(self.lane.values())
        right, self.right_pitch = _space(self.trunk.values())
        core = widest * BOX + (widest - 1) * GAP
        spare = max(0.0, LEAST - core - left - right)
        self.left = left + spare / 2 + (34 if around else 8)
        self.right_edge = self.left + core
        self.width = self.right_edge + right + spare / 2 + (34 if self.back else 8)
        self.bottom = 14 + (len(self.rows) - 1) * PITCH if self.rows else 14
        self.height = self.bottom + HEIGHT + LEGEND
        self.core = core

    def _first(self) -> list[Edge]:
        return [next(edge for edge in self.back if edge.pre == source) for source in self.sources]

    def middle(self, name: str) -> float:
        """Return where a population is from left to right."""
        names = self.rows[self.row[name]]
        width = len(names) * BOX + (len(names) - 1) * GAP
        return self.left + (self.core - width) / 2 + names.index(name) * (BOX + GAP) + BOX / 2

    def top(self, name: str) -> float:
        """Return the upper edge of a population."""
        return self.bottom - self.row[name] * PITCH

    def boxes(self) -> Iterator[str]:
        for name, about in self.populations.items():
            x, y = self.middle(name) - BOX / 2, self.top(name)
            size = " \N{MULTIPLICATION SIGN} ".join(f"{int(n):,}" for n in about.get("neurons") or about.get("shape") or ())
            dash, kind = (' stroke-dasharray="4 3"', "input, ") if about.get("input") else ("", "")
            yield (
                f"<g><title>{escape(one_line(name))}: {kind}{escape(size)} neurons</title>"
                f'<rect x="{x:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="6" fill="{_var("tint")}" '
                f'stroke="{_var("ink")}" stroke-width="1.2"{dash}/>'
                f'<text x="{x + BOX / 2:g}" y="{y + 17:g}" text-anchor="middle" font-weight="600" fill="{_var("ink")}">'
                f"{escape(_short(name))}</text>"
                f'<text x="{x + BOX / 2:g}" y="{y + 32:g}" text-anchor="middle" font-size="11" fill="{_var("soft")}">'
                f"{escape(size)}</text></g>"
            )

    def pathway(self, edge: Edge, values: Mapping[str, float], scale: Scale, fixed: bool) -> Iterator[str]:
        """Yield a feedforward pathway: a band in its colour with an outline, an arrow head and its value."""
        if edge in self.straight:
            beside = [e.name for e in self.straight if e.post == edge.post]
            above = [e.name for e in self.straight if e.pre == edge.pre]
            x1 = self.middle(edge.pre) + _spread(above.index(edge.name), len(above))
            x2 = self.middle(edge.post) + _spread(beside.index(edge.name), len(beside))
            y1, y2 = self.top(edge.pre), self.top(edge.post) + HEIGHT + 9
            route = f"M{x1:g} {y1:g}L{x2:g} {y2:g}"
            head = f"M{x2 - 7:g} {y2 + 1:g}L{x2 + 7:g} {y2 + 1:g}L{x2:g} {y2 - 8:g}Z"
            share = 0.5 if len(beside) == 1 else 0.36 + 0.28 * (beside.index(edge.name) % 2)
            at = x1 + (x2 - x1) * share + 11, y1 + (y2 - y1) * share + 4, "start"
        else:
            lane = self.left - 16 - self.left_pitch * (self.lane[edge.name] + 0.4)
            out = [e.name for e in self.forward if e.name in self.lane and e.pre == edge.pre]
            into = [e.name for e in self.forward if e.name in self.lane and e.post == edge.post]
            y1 = self.top(edge.pre) + HEIGHT / 2 + _apart(out.index(edge.name), len(out))
            y2 = self.top(edge.post) + HEIGHT / 2 + _apart(into.index(edge.name), len(into))
            x1, x2 = self.middle(edge.pre) - BOX / 2, self.middle(edge.post) - BOX / 2 - 9
            bend = min(10.0, abs(x1 - lane), abs(y1 - y2) / 2)
            route = (
                f"M{x1:g} {y1:g}L{lane + bend:g} {y1:g}Q{lane:g} {y1:g} {lane:g} {y1 - bend:g}L{lane:g} {y2 + bend:g}"
                f"Q{lane:g} {y2:g} {lane + bend:g} {y2:g}L{x2:g} {y2:g}"
            )
            head = f"M{x2 - 1:g} {y2 - 7:g}L{x2 - 1:g} {y2 + 7:g}L{x2 + 8:g} {y2:g}Z"
            at = lane - 7, (y1 + y2) / 2 + 4, "end"
        roomy = edge in self.straight or self.left_pitch >= LABELLED_LANE
        yield _band(edge, route, head, at if roomy else None, marks(values.get(edge.name), scale, fixed), 7.0)

    def feedback(self, values: Mapping[str, float], scale: Scale) -> Iterator[str]:
        """Yield the feedback pathways: a trunk per source, a branch into each target, coloured where it was recorded."""
        for source in self.sources:
            lane = self.right_edge + 16 + self.right_pitch * (self.trunk[source] + 0.4)
            branches = [edge for edge in self.back if edge.pre == source]
            from_x, from_y = self.middle(source) + BOX / 2, self.top(source) + 12
            ends = [self.top(edge.post) + HEIGHT - 11 for edge in branches]
            low, high = max([*ends, from_y]), min([*ends, from_y])
            line = f'fill="none" stroke="{_var("soft")}" stroke-width="1.6" stroke-dasharray="5 3"'
            yield f'<path d="M{from_x:g} {from_y:g}L{lane:g} {from_y:g}M{lane:g} {low:g}L{lane:g} {high:g}" {line}/>'
            for edge, y in zip(branches, ends, strict=True):
                x = self.middle(edge.post) + BOX / 2
                head = f"M{x + 8:g} {y - 5:g}L{x + 8:g} {y + 5:g}L{x:g} {y:g}Z"
                yield f'<path d="M{lane:g} {y:g}L{x + 8:g} {y:g}" {line}/>'
                shown = marks(values.get(edge.name), scale, False)
                if edge.name in values:
                    at = lane + 4, y + 13, "start"
                    yield _band(edge, f"M{lane:g} {y:g}L{x + 8:g} {y:g}", head, at, shown, 4.0)
                else:
                    title = f"<title>{escape(one_line(edge.name))}, feedback{_plastic(edge)}</title>"
                    yield f'<g>{title}<path d="{head}" fill="{_var("soft")}"/></g>'


def _band(
    edge: Edge, route: str, head: str, at: tuple[float, float, str] | None, shown: tuple[str, str, str], width: float
) -> str:
    """Return a pathway; all of its looks are there, and the one that holds is displayed, so that a page can change it."""
    state, colour, text = shown
    x, y, anchor = at or (0.0, 0.0, "start")
    hidden = "" if at else ' display="none"'
    inner = f'd="{route}" fill="none"'

    def seen(*states: str) -> str:
        return "" if state in states else ' style="display:none"'

    return (
        f'<g data-pathway="{escape(edge.name)}" data-state="{state}">'
        f"<title>{escape(one_line(edge.name))}{_plastic(edge)}</title>"
        f'<path {inner} stroke="{_var("ink")}" stroke-width="{width + 2:g}"/>'
        f'<path {inner} stroke="{_var("ground")}" stroke-width="{width:g}"/>'
        f'<path {inner} data-of="value" stroke="{colour or "none"}" stroke-width="{width:g}"{seen("value")}/>'
        f'<path {inner} data-of="missing" stroke="{_var("soft")}" stroke-width="{width:g}" stroke-dasharray="2 3"'
        f"{seen('missing')}/>"
        f'<path {inner} data-of="construction" stroke="{_var("ink")}" stroke-width="2"{seen("construction")}/>'
        f'<path d="{head}" fill="{_var("ink")}"/>'
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{hidden} fill="{_var("ink")}" stroke="{_var("ground")}" '
        f'stroke-width="4" stroke-linejoin="round" paint-order="stroke" font-variant-numeric="tabular-nums">'
        f"{escape(text)}</text></g>"
    )


def _legend(plan: _Plan, scale: Scale, prefix: str, feedback: bool) -> Iterator[str]:
    """Yield the colour bar with its ticks, and the other marks."""
    x, y, width = max(10.0, plan.width / 2 - 160), plan.height - LEGEND + 26, 320.0
    stops = "".join(f'<stop offset="{n / 20:g}" stop-color="{c}"/>' for n, c in enumerate(ramp(21)))
    ink, soft = _var("ink"), _var("soft")
    yield f'<defs><linearGradient id="{prefix}-ramp">{stops}</linearGradient></defs>'
    yield f'<text x="{x:g}" y="{y - 6:g}" font-size="11" fill="{ink}">cosine with backprop</text>'
    bar = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="10" fill="url(#{prefix}-ramp)"'
    yield f'{bar} stroke="{ink}" stroke-width=".8"/>'
    ticks = sorted({scale.low, *(tick / 4 for tick in range(floor(4 * scale.low), 5) if tick / 4 >= scale.low)})
    for tick in ticks if len(ticks) <= 6 else ticks[::2]:
        at = x + width * (tick - scale.low) / (scale.high - scale.low)
        label = f"{tick:g}".replace("-", "\N{MINUS SIGN}")
        yield f'<text x="{at:g}" y="{y + 22:g}" font-size="11" text-anchor="middle" fill="{ink}">{label}</text>'
    y += 42
    for place, (pattern, text) in enumerate(
        (
            (f'stroke="{soft}" stroke-width="7" stroke-dasharray="2 3"', "not recorded"),
            (f'stroke="{ink}" stroke-width="2"', "\N{IDENTICAL TO} 1: by construction"),
            (f'stroke="{soft}" stroke-width="1.6" stroke-dasharray="5 3"', "feedback"),
        )
    ):
        if text == "feedback" and not feedback:
            continue
        at = x + (0, 104, 252)[place]
        line = f'd="M{at:g} {y:g}L{at + 20:g} {y:g}" fill="none"'
        if place < 2:
            yield f'<path {line} stroke="{ink}" stroke-width="9"/><path {line} stroke="{_var("ground")}" stroke-width="7"/>'
        yield f'<path {line} {pattern}/><text x="{at + 25:g}" y="{y + 4:g}" font-size="11" fill="{ink}">{text}</text>'


def _rows(populations: Mapping[str, Any], edges: Sequence[Edge]) -> list[list[str]]:
    """Return the populations of each row, from the inputs up; many on one level take several rows."""
    level = dict.fromkeys(populations, 0)
    for _ in populations:  # the longest way has no more steps than there are populations
        changed = False
        for edge in edges:
            if edge.pre != edge.post and level[edge.post] <= level[edge.pre] < len(populations):
                level[edge.post] = level[edge.pre] + 1
                changed = True
        if not changed:
            break
    rows: list[list[str]] = []
    for number in sorted(set(level.values())):
        names = [name for name in populations if level[name] == number]
        rows += [names[start : start + MOST_IN_A_ROW] for start in range(0, len(names), MOST_IN_A_ROW)]
    return rows


def _lanes(spans: Sequence[tuple[int, ...]]) -> list[int]:
    """Return a lane for each span of rows, the least in which it meets no other; short ones are inside."""
    taken: list[list[tuple[int, int]]] = []
    found = [0] * len(spans)
    for place in sorted(range(len(spans)), key=lambda n: (spans[n][-1] - spans[n][0], spans[n][0])):
        low, high = spans[place][0], spans[place][-1]
        lane = next((n for n, used in enumerate(taken) if all(high <= a or low >= b for a, b in used)), len(taken))
        taken[lane:] = taken[lane:] or [[]]
        taken[lane].append((low, max(high, low + 1)))
        found[place] = lane
    return found


def _space(lanes: Collection[int]) -> tuple[float, float]:
    """Return how wide the lanes are together, and from one to the next."""
    count = max(lanes, default=-1) + 1
    pitch = max(NARROWEST_LANE, min(LANE, MOST_LANES / max(1, count)))
    return count * pitch, pitch


def _spread(place: int, count: int) -> float:
    return 0.0 if count == 1 else (place - (count - 1) / 2) * min(26.0, (BOX - 24) / (count - 1))


def _apart(place: int, count: int) -> float:
    """Return how far from the middle of a box's side the end of a pathway is, of so many."""
    return 0.0 if count == 1 else (place - (count - 1) / 2) * min(11.0, (HEIGHT - 8) / (count - 1))


def _plastic(edge: Edge) -> str:
    return "" if edge.plastic else ", fixed"


def _short(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= LETTERS else f"{shown[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _var(name: str) -> str:
    """Return a colour of the page, or that of the light one where the diagram stands alone."""
    return f"var(--{name},{LIGHT[name]})"


def _ink() -> str:
    return _var("ink")
