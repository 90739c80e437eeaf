"""What the network diagram of a report shows: of every rule, the alignment of each pathway from moment to moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from analysis.comparison import Comparison
from analysis.drawn import as_csv
from analysis.inline import XMLNS
from analysis.network_diagram import Scale, edges_of, marks, network_diagram, scale_for
from analysis.page import Table, data_uri, identifier
from analysis.palette import LIGHT, ramp
from neurossl.text import one_line

MOST_MOMENTS = 61
"""Moments of a rule that the slider has; of more, so many at equal distances, the first and the last among them."""


@dataclass(frozen=True)
class Track:
    """A rule through training.

    Attributes
    ----------
    label : str
    network : mapping
        As the manifest describes it.
    observers : sequence of float
        Seen at each moment.
    values : sequence of mapping of str to float
        Mean cosine over seeds per pathway, at each moment; NaN where none was recorded.
    seeds : sequence of mapping of str to int
        How many seeds that is the mean of.
    fixed : frozenset of str
        Pathways whose cosine is 1 by construction.
    """

    label: str
    network: Mapping[str, Any]
    observers: Sequence[float]
    values: Sequence[Mapping[str, float]]
    seeds: Sequence[Mapping[str, int]]
    fixed: frozenset[str]


def tracks(comparison: Comparison) -> list[Track]:
    """Return every rule whose network is known, those with a recorded alignment first."""
    found = []
    for label, runs in comparison.rules.items():
        network = runs[0].about.get("network")
        if not isinstance(network, Mapping) or not edges_of(network):
            continue
        curve = comparison.over_training(label, "alignment", "cosine")
        observers: list[float] = []
        values: list[dict[str, float]] = []
        seeds: list[dict[str, int]] = []
        if curve is not None:
            mean, count = curve["mean"].transpose("event", "pathway"), curve["count"].transpose("event", "pathway")
            seen = curve["observers_seen"] if "observers_seen" in curve.coords else curve["event"]
            names = [str(name) for name in mean["pathway"].values]
            recorded = np.flatnonzero(np.isfinite(mean.values).any(1))
            if len(recorded) > MOST_MOMENTS:
                recorded = recorded[np.unique(np.linspace(0, len(recorded) - 1, MOST_MOMENTS).round().astype(int))]
            for place in recorded:
                observers.append(float(seen.values[place]))
                values.append(dict(zip(names, mean.values[place].tolist(), strict=True)))
                seeds.append(dict(zip(names, map(int, count.values[place]), strict=True)))
        found.append(Track(label, network, observers, values, seeds, frozenset(comparison.by_construction(label))))
    return sorted(found, key=lambda track: not track.observers)


@dataclass(frozen=True)
class View:
    """The part of a page with the diagram: what the template and its script need."""

    diagrams: Sequence[tuple[str, str, str]]
    labels: Sequence[tuple[str, str]]
    data: str
    moments: int
    last: str
    table: Table
    csv_uri: str
    svg_uri: str


def network_view(comparison: Comparison) -> View | None:
    """Return the diagrams of the networks, one for each that differs, at the end of training; None where there is none."""
    found = tracks(comparison)
    if not found:
        return None
    scale = scale_for([value for track in found for moment in track.values for value in moment.values()])
    networks: dict[str, Track] = {}
    for track in found:
        networks.setdefault(_form(track.network), track)
    places = {form: f"network-{n}" for n, form in enumerate(networks)}
    inside = [_drawn(track, scale, places[form], True).replace(f"{XMLNS} ", "", 1) for form, track in networks.items()]
    diagrams = [(places[form], track.label, svg) for (form, track), svg in zip(networks.items(), inside, strict=True)]
    first = found[0]
    content = {
        "scale": [scale.low, scale.high],
        "ramp": ramp(),
        "light": LIGHT,
        "rules": [
            {
                "label": one_line(track.label),
                "network": places[_form(track.network)],
                "observers": track.observers,
                "pathways": (names := [edge.name for edge in edges_of(track.network)]),
                "values": [[_short(moment.get(name)) for name in names] for moment in track.values],
                "fixed": [n for n, name in enumerate(names) if name in track.fixed],
                "seeds": [max(moment.values(), default=0) for moment in track.seeds],
            }
            for track in found
        ],
    }
    return View(
        diagrams,
        [(str(n), one_line(track.label)) for n, track in enumerate(found)],
        json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"),
        max(len(first.observers) - 1, 0),
        f"{first.observers[-1]:,.0f} observers seen" if first.observers else "no alignment was recorded",
        _table(found, scale),
        data_uri(as_csv([row for track in found for row in _rows(track)]), "text/csv;charset=utf-8"),
        data_uri(_drawn(first, scale, "network", False), "image/svg+xml;charset=utf-8"),
    )


def _drawn(track: Track, scale: Scale, prefix: str, themed: bool) -> str:
    values = {name: float("nan") for moment in track.values for name in moment}
    values |= track.values[-1] if track.values else {}
    title = f"{track.label}: cosine of the update with backprop's in every pathway"
    return network_diagram(
        track.network, values, by_construction=track.fixed, scale=scale, prefix=prefix, title=title, themed=themed
    )


def _rows(track: Track) -> list[dict[str, Any]]:
    return [
        {
            "rule": track.label,
            "pathway": name,
            "observers seen": seen,
            "cosine with backprop (mean over seeds)": value,
            "n": seeds[name],
            "1 by construction": name in track.fixed,
        }
        for seen, moment, seeds in zip(track.observers, track.values, track.seeds, strict=True)
        for name, value in moment.items()
        if isfinite(value)
    ]


def _table(found: Sequence[Track], scale: Scale) -> Table:
    """Return the last value of every pathway and rule: what the diagrams say, for those who cannot see or operate them."""
    names = list(dict.fromkeys(edge.name for track in found for edge in edges_of(track.network)))
    ends = [track.values[-1] if track.values else {} for track in found]
    shown = [name for name in names if any(isfinite(end.get(name, np.nan)) for end in ends)]
    rows = []
    for track, end in zip(found, ends, strict=True):
        cells = [marks(end.get(name), scale, name in track.fixed and name in end)[2] for name in shown]
        rows.append([one_line(track.label), f"{track.observers[-1]:,.0f}" if track.observers else "\N{EN DASH}", *cells])
    return Table(
        "alignment-at-the-end",
        "Cosine of the update with backprop's at the last moment recorded, mean over seeds",
        ["rule", "observers seen", *shown],
        rows,
        "\N{EN DASH}: not recorded or not trusted; \N{IDENTICAL TO} 1: 1 by construction, a rule compared with itself.",
    )


def _form(network: Mapping[str, Any]) -> str:
    populations = [[p.get("name"), p.get("neurons"), p.get("input")] for p in network.get("populations") or ()]
    return identifier(str(network.get("name"))) + json.dumps([populations, [edge._asdict() for edge in edges_of(network)]])


def _short(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else round(value, 3)
