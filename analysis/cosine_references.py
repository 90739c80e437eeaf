"""Against which reference the cosines of each rule are measured: one of its own, or one that is common to all rules.

A cosine says how close an update is to backprop of one objective. Rules that are measured against different objectives have
no common scale: whoever ranks them has to say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neurossl.text import one_line

if TYPE_CHECKING:
    from analysis.comparison import Comparison

COLUMN = "reference of the cosines"
"""Of tables that have cosines with a reference."""
OWN = "Each rule is measured against backprop of its own objective: the order compares different objectives."
"""What is said where rules are ranked that have different references."""
_UNKNOWN = ("", "None", "nan")

About = Mapping[str, Mapping[str, Any]]
"""By rule, its manifest, or what `analysis.outcomes.about_rules` tells of it."""


@dataclass
class Reference:
    """A reference of cosines.

    Attributes
    ----------
    words : str
        What it is, and where its objective stands.
    objective, at : str
        The objective without its place, and the population at which it stands; "" where that is not known.
    rules : list of str
        Whose cosines it is the reference of.
    """

    words: str
    objective: str
    at: str
    rules: list[str] = field(default_factory=list)


def reference_in_words(about: Mapping[str, Any]) -> str:
    """Return what the reference of a run's cosines is: ``BP of OBJECTIVE, at the top``; "" where it has none.

    Parameters
    ----------
    about : mapping
        A manifest.
    """
    name, objective = (_text(about, key) for key in ("reference", "reference_objective"))
    if not name or not objective:
        return name
    return one_line(f"BP of {objective}" if name.lower().startswith(("bp", "backprop")) else f"{name} ({objective})")


def cosine_references(about: About) -> list[Reference]:
    """Return the different references of the cosines of several rules, in the order of the rules.

    The top of one network and a population of another that bears its name are one place: an objective that stands at V4 is
    the same for a network that ends there, and for one with a readout above.
    """
    found: dict[tuple[str, str], Reference] = {}
    for rule, its in about.items():
        words = reference_in_words(its)
        if not words:
            continue
        objective, at = _without_place(words, _text(its, "reference_at")), _text(its, "reference_at")
        one = found.setdefault((objective, at or words), Reference(words, objective, at))
        if one.words != words:
            one.words = f"{objective}, at {at}"
        one.rules.append(rule)
    merged: dict[str, Reference] = {}
    for one in found.values():  # the same words of networks whose tops have different names
        merged.setdefault(one.words, Reference(one.words, one.objective, one.at)).rules.extend(one.rules)
    return list(merged.values())


def is_chosen(about: About) -> bool:
    """Return whether all rules that have cosines share one reference that is not the own one of some of them."""
    if len(cosine_references(about)) != 1:
        return False
    return any(
        _text(its, "reference_at") and _text(its, "own_reference_objective") != _text(its, "reference_objective")
        for its in about.values()
        if reference_in_words(its)
    )


def ranking_in_words(about: About) -> str:
    """Return what has to be said of rules that are ranked by their alignment: nothing where they share a reference."""
    return OWN if len(cosine_references(about)) > 1 else ""


def references_in_words(comparison: Comparison) -> list[str]:
    """Return one line per reference: whose cosines it is the reference of, and which rule of the comparison learns by it."""
    about = {label: runs[0].about for label, runs in comparison.rules.items() if runs[0].about.get("reference")}
    everybody = {label: runs[0].about for label, runs in comparison.rules.items()}
    said = []
    for one in cosine_references(about):
        learning = [label for label, its in everybody.items() if _learns_by(its, one)]
        by = f"{_listed(learning)} learns by it" if learning else "no run of this comparison learns by it"
        line = f"cosines of {_listed(one.rules)}: {one.words} ({by})"
        drawn = [label for label in one.rules if about[label].get("reference_fixed")]
        if drawn:
            line += f"; its prediction weights do not learn in {_listed(drawn)}: they stay as they are drawn"
        said.append(one_line(line))
    for label, its in everybody.items():
        if reason := _text(its, "reference_left_out"):
            said.append(one_line(f"no cosines of {label}: {reason}"))
    return said


def _listed(labels: Sequence[str]) -> str:
    """Return labels one after another, told apart although some have a comma."""
    return ("; " if any("," in label for label in labels) else ", ").join(labels)


def _learns_by(about: Mapping[str, Any], reference: Reference) -> bool:
    """Return whether a run learns by exactly this reference."""
    if not _text(about, "transport").lower().startswith("backprop"):
        return False
    words = f"BP of {_text(about, 'objective')}"
    if words == reference.words:
        return True
    top = _top(about)
    return bool(top) and top == reference.at and _without_place(words, top) == reference.objective


def _top(about: Mapping[str, Any]) -> str:
    """Return the last population of the network of a run; "" where it is not known."""
    network = about.get("network") or {}
    network = json.loads(network) if isinstance(network, str) else network
    populations = [str(p["name"]) for p in network.get("populations", ()) if not p.get("input")]
    return populations[-1] if populations else ""


def _without_place(words: str, at: str) -> str:
    return words.removesuffix(", at the top").removesuffix(f", at {at}" if at else "")


def _text(about: Mapping[str, Any], key: str) -> str:
    value = about.get(key)
    text = "" if value is None else str(value)
    return "" if text in _UNKNOWN else text


def own_reference(about: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and objective of a rule's own reference, whatever its cosines are measured against; "" where it has none.

    Runs of versions that had no common references do not tell them apart.
    """
    own = _text(about, "own_reference")
    if own or _text(about, "reference_at"):
        return own, _text(about, "own_reference_objective")
    return _text(about, "reference"), _text(about, "reference_objective")
