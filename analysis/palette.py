"""Colours that everybody can tell apart, on a light and on a dark ground.

A series has the same place in both palettes. They start from Okabe and Ito's and were moved apart until the least distance
in OKLab (Ottosson 2020) between any two, for normal sight and for the three kinds of dichromacy (Machado et al. 2009), was
0.11, with a contrast of 3 : 1 with the ground (WCAG 2.2, 1.4.11). Rules differ by marker and line as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

COLOURS = ("#004b87", "#af4c00", "#007f77", "#f230c0", "#c88500", "#2f93ff", "#000000", "#6e2623")
"""Of series on white, in files too."""
DARK_COLOURS = ("#1a60cb", "#e9741f", "#169e99", "#b97eff", "#fabf17", "#c1b8e8", "#e6e9ed", "#9d5128")
"""The same on the dark ground of a page."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")

Theme = Mapping[str, str]
LIGHT: Theme = {
    "ground": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#c9d0d8",
    "tint": "#f1f4f7",
    "link": "#0b57a8",
}
DARK: Theme = {
    "ground": "#14171b",
    "ink": "#e6e9ed",
    "soft": "#a3adb8",
    "line": "#3d4650",
    "tint": "#1e242b",
    "link": "#7db8ff",
}
"""Ground, text, lesser text, lines, ground of headings, and links of a page."""

_LOW, _HIGH = (0.27, 0.0, -0.105), (0.93, -0.012, 0.155)
"""Ends of the ramp in OKLab: lightness, green to red, blue to yellow."""
STEPS = 101


def look_of(place: int) -> dict[str, Any]:
    """Return colour, marker and line of the series of a place; a second round of colours has hollow markers."""
    colour, turn = COLOURS[place % len(COLOURS)], place // len(COLOURS)
    return {
        "color": colour,
        "marker": MARKERS[place % len(MARKERS)],
        "markerfacecolor": "white" if turn % 2 else colour,
        "linestyle": LINES[turn % len(LINES)],
    }


def ramp(steps: int = STEPS) -> list[str]:
    """Return colours from dark blue to light yellow in equal steps of OKLab, which every kind of colour vision tells apart.

    Parameters
    ----------
    steps : int
        How many.
    """
    return [
        _hex_of([low + (high - low) * n / (steps - 1) for low, high in zip(_LOW, _HIGH, strict=True)]) for n in range(steps)
    ]


def grey_name(colour: str) -> str:
    """Return the name of the variable that stands for a grey: ``g99`` for ``#999999``."""
    return f"g{colour[1:3]}"


def is_grey(colour: str) -> bool:
    """Return whether a colour has no hue; black, which is a series too, included."""
    return colour[1:3] == colour[3:5] == colour[5:7]


def on_dark(grey: str) -> str:
    """Return what a grey of a light page is on a dark one: white is the ground, black the ink."""
    share = 1 - int(grey[1:3], 16) / 255
    ground, ink = _channels(DARK["ground"]), _channels(DARK["ink"])
    return "#" + "".join(f"{round(g + share * (i - g)):02x}" for g, i in zip(ground, ink, strict=True))


def variables(greys: Iterable[str] = ()) -> tuple[str, str]:
    """Return the declarations of all colours of a page as CSS, for light and for dark.

    Parameters
    ----------
    greys : iterable of str
        Those that its figures use, as ``#rrggbb``.
    """
    used = sorted({*greys, "#000000", "#ffffff"})
    light = {**LIGHT, **{f"s{n}": c for n, c in enumerate(COLOURS)}, **{grey_name(c): c for c in used}}
    dark = {**DARK, **{f"s{n}": c for n, c in enumerate(DARK_COLOURS)}, **{grey_name(c): on_dark(c) for c in used}}
    light_css, dark_css = (";".join(f"--{name}:{colour}" for name, colour in theme.items()) for theme in (light, dark))
    return light_css, dark_css


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _hex_of(lab: list[float]) -> str:
    """Return a colour of OKLab as sRGB."""
    lightness, a, b = lab
    cones = (
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    )
    long, middle, short = (cone**3 for cone in cones)
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * min(1.0, max(0.0, _encoded(value)))):02x}" for value in linear)


def _encoded(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
