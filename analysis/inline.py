"""Figures as SVG for a page: text as text, small, and in colours that follow the theme of the reader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from analysis.drawing import saved_as_svg
from analysis.palette import COLOURS, grey_name, is_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_SERIES = {colour: f"s{place}" for place, colour in enumerate(COLOURS)}
_KEPT = {"d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "cx", "cy", "r"}
XMLNS = 'xmlns="http://www.w3.org/2000/svg"'


class Inline(NamedTuple):
    """A figure for a page.

    Attributes
    ----------
    themed : str
        An ``<svg>`` element for HTML: colours are variables of `analysis.palette.variables`, nothing is named outside of it.
    alone : str
        The same as a file: on white, with colours of its own.
    greys : set of str
        Which greys it uses.
    width : float
        In CSS pixels, at its own size.
    """

    themed: str
    alone: str
    greys: set[str]
    width: float


def inline(figure: Figure, prefix: str) -> Inline:
    """Return a figure as SVG for a page.

    Parameters
    ----------
    figure : Figure
    prefix : str
        In front of every identifier, so that figures on one page do not take each other's clips and markers.
    """
    _fix_words_on_fields(figure)
    root = ElementTree.fromstring(saved_as_svg(figure))
    _plain_names(root)
    _tidy(root)
    _prefixed(root, prefix)
    width, height = (float(root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("viewBox", f"0 0 {width:g} {height:g}")
    root.set("style", "stroke-linejoin:round;stroke-linecap:butt;font-family:system-ui,sans-serif")
    alone = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    alone = alone.replace("<svg ", f'<svg {XMLNS} width="{width:g}pt" height="{height:g}pt" ', 1)
    # The ground of the figure and of its panels is that of the page.
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "path" and child.get("style") == "fill:#ffffff":
                parent.remove(child)
    themed = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    greys = {colour for colour in _COLOUR.findall(themed) if is_grey(colour)}
    themed = _COLOUR.sub(_variable, themed)
    themed = themed.replace("<svg ", '<svg aria-hidden="true" focusable="false" fill="currentColor" ', 1)
    return Inline(themed, alone, greys, width * 96 / 72)


def _fix_words_on_fields(figure: Figure) -> None:
    """Keep numbers on coloured fields as they are: fields have the same colours in every theme, so what is on them has."""
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import to_hex

    for axes in figure.axes:
        if axes.images or any(isinstance(c, QuadMesh) for c in axes.collections):
            for text in axes.texts:
                colour = to_hex(text.get_color())
                if is_grey(colour):
                    text.set_color(f"{colour[:5]}{min(254, max(1, int(colour[5:], 16) - 1)):02x}")


def _variable(found: re.Match[str]) -> str:
    colour = found.group()
    if colour == "#000000":
        return "currentColor"
    name = _SERIES.get(colour) or (grey_name(colour) if is_grey(colour) else None)
    return f"var(--{name})" if name else colour


def _plain_names(root: ElementTree.Element) -> None:
    """Take the namespaces out: HTML knows SVG without them."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}


def _tidy(root: ElementTree.Element) -> None:
    """Leave out what nobody sees: metadata, groups without a meaning, families of fonts, the seventh decimal."""
    used = {name for element in root.iter() for name in _references(element)}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or (child.tag == "defs" and len(child) == 1 and child[0].tag == "style"):
                parent.remove(child)
    for element in root.iter():
        element.text = element.text if element.tag in ("text", "tspan", "title") else None
        element.tail = None if element.tag != "tspan" else (element.tail or "").rstrip("\n")
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for name in _KEPT & element.attrib.keys():
            element.set(name, _NUMBER.sub(_rounded, " ".join(element.attrib[name].split())))
        turn = element.get("transform", "")
        if turn.startswith("rotate(-0 "):
            del element.attrib["transform"]
        if "style" in element.attrib:
            element.set("style", ";".join(_declarations(element.attrib["style"])))
    _without_groups(root)
    for group in root.iter("g"):
        _share_style(group)


def _declarations(style: str) -> Iterator[str]:
    for declaration in style.split(";"):
        name, _, value = declaration.strip().partition(":")
        if name and name != "font-family":
            yield f"{name}:{_NUMBER.sub(_rounded, value.strip())}"


def _without_groups(element: ElementTree.Element) -> None:
    children: list[ElementTree.Element] = []
    for child in element:
        _without_groups(child)
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    element[:] = children


def _share_style(group: ElementTree.Element) -> None:
    """Say once for a group what is said of each of its members, as of the markers of a curve."""
    styles = {child.get("style") for child in group if child.tag == "use"}
    if len(styles) == 1 and "style" not in group.attrib and all(child.tag == "use" for child in group):
        group.set("style", styles.pop() or "")
        for child in group:
            child.attrib.pop("style", None)


def _references(element: ElementTree.Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        if name == "href" and value.startswith("#"):
            yield value[1:]
        yield from _REFERENCE.findall(value)


def _prefixed(root: ElementTree.Element, prefix: str) -> None:
    """Give every identifier, and every reference to one, a short name of the figure's own."""
    names = {
        old: f"{prefix}-{n}" for n, old in enumerate(dict.fromkeys(e.attrib["id"] for e in root.iter() if "id" in e.attrib))
    }
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, names[value])
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{names.get(value[1:], value[1:])}")
            elif "url(#" in value:
                element.set(name, _REFERENCE.sub(lambda m: f"url(#{names.get(m.group(1), m.group(1))})", value))


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found.group()):.1f}".removesuffix(".0")
