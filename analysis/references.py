"""Which rule of a comparison is backprop of another one's objective: the one that it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from analysis.cosine_references import own_reference
from analysis.outcomes import about_rules
from neurossl.errors import TrajectoryError

About = Mapping[str, Mapping[str, Any]]
"""By rule, what `analysis.outcomes.about_rules` tells of it."""


def is_backprop(about: Mapping[str, Any]) -> bool:
    """Return whether a rule, as `about_rules` tells of it, transports credit by backprop."""
    return str(about.get("transport", "")).lower().startswith("backprop")


def backprop_of(rule: str, about: About) -> list[str]:
    """Return the rules that are backprop of the objective of a rule, those that learned from the same stimuli first.

    Runs say of which objective their own reference is. Where they do not (written by hand, or before that was stored), rules
    are known by the name or the label of the reference with whose updates theirs were compared.
    """
    mine = about[rule]
    name, objective = own_reference(mine)

    def is_reference(other: str) -> bool:
        its = about[other]
        if objective:
            return is_backprop(its) and its.get("objective") == objective
        return bool(name) and name in (other, its.get("label"))

    found = [other for other in about if other != rule and is_reference(other)]
    return sorted(found, key=lambda other: about[other].get("stimuli") != mine.get("stimuli"))


def counterpart(rule: str, about: About) -> str | None:
    """Return the rule that is backprop of the same objective, else ``bp``, else None; a backprop rule has none.

    Parameters
    ----------
    rule : str
    about : mapping
        From `about_rules`.
    """
    if is_backprop(about[rule]):
        return None
    named = backprop_of(rule, about)
    return named[0] if named else "bp" if "bp" in about and rule != "bp" else None


def own_references(tree: xr.DataTree) -> dict[str, str]:
    """Return, for each rule of a tree of many runs, the one that is backprop of its objective on the same stimuli.

    Parameters
    ----------
    tree : DataTree
        Of many runs, with ``reference`` along ``rule``.

    Returns
    -------
    dict of str to str
        Rule -> rule. A rule without a reference (backprop itself) is its own. One whose reference is not there, or learned
        from other stimuli (other negatives, another way of sampling), is left out: the paths of the two part for that reason
        as well.

    Raises
    ------
    TrajectoryError
        If the tree is of one run, or the runs do not say what their references are.
    """
    about = about_rules(tree)
    if not about or not any("reference" in node.coords for node in tree.subtree):
        raise TrajectoryError("the runs do not say what their references are: name one, or give {rule: reference}")
    found: dict[str, str] = {}
    for rule, its in about.items():
        if not own_reference(its)[0]:
            found[rule] = rule
            continue
        same = [other for other in backprop_of(rule, about) if about[other].get("stimuli") == its.get("stimuli")]
        if same:
            found[rule] = same[0]
    return found
