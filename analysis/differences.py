"""In what runs differ: what may be averaged, and how those that differ are told apart.

Two runs are replicates if their manifests say the same but for the seed and for what belongs to one run alone (its state,
its process, when and where it ran, what it measured).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurossl.errors import TrajectoryError
from neurossl.text import one_line

_OWN_OF_A_RUN = {
    *("schema_version", "run_id", "state", "reason", "process", "last_sign_of_life", "started", "ended", "resumed"),
    *("segments", "stored_bytes", "expected_bytes", "seconds", "seed", "seeds", "command", "folder", "versions", "hardware"),
    *("measured", "fixed_weights"),
}
"""Members of a manifest that differ between runs of the same experiment."""
_SO_FAR = ("needs", "interventions")
"""Members that a run which has not finished may have in part."""
_DERIVED = ("rule_class", "engine")
"""Members that follow from others, and tell nobody anything."""
_SEED = re.compile(r"\b(seed)([ =:]+)-?\d+")
_SHORT, _TERSE = 80, 24
"""Characters of a text that can be the value of a coordinate, and that can be part of a name."""

About = Mapping[str, Any]


def member(about: About, name: str) -> Any:
    """Return a member of a manifest by its name, dotted where it lies deeper (``synapses.lr``); None if it is not there."""
    if name in about:
        return about[name]
    first, _, rest = name.partition(".")
    while rest:
        if isinstance(inner := about.get(first), Mapping) and (found := member(inner, rest)) is not None:
            return found
        more, _, rest = rest.partition(".")
        first = f"{first}.{more}"
    return None


def leaves(about: About, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the members of a manifest that are its experiment's, by their dotted names; lists are not taken apart.

    Parameters
    ----------
    about : mapping
        A manifest.
    without : collection of str
        Dotted names of members to leave out, with what is below them.
    """
    return dict(_leaves(about, "", without))


def _leaves(about: About, where: str, without: Collection[str]) -> Iterator[tuple[str, Any]]:
    for key, value in about.items():
        name = f"{where}{key}"
        if name in without or key == "seed" or (not where and key in _OWN_OF_A_RUN):
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.", without)
        elif value is not None:
            yield name, value


def signature(about: About, without: Collection[str] = ()) -> str:
    """Return a text that is the same for runs of the same experiment, as far as the first of them has told."""
    found = leaves(about, {*without, *_SO_FAR})
    return json.dumps({name: without_seed(found[name]) for name in sorted(found)}, default=str)


def differences(one: About, other: About, without: Collection[str] = ()) -> Iterator[str]:
    """Yield in words where two manifests differ in more than their seed.

    Parameters
    ----------
    one, other : mapping
    without : collection of str
        Dotted names of members that may differ.
    """
    ended = all(about.get("state") == "finished" for about in (one, other))
    for key in dict.fromkeys((*one, *other)):
        if key in _OWN_OF_A_RUN or key in without or (key == "needs" and not ended):
            continue
        mine, theirs = one.get(key), other.get(key)
        if key == "interventions" and not ended and isinstance(mine, list) and isinstance(theirs, list):
            so_far = min(len(mine), len(theirs))  # what is still to be done to a run is no difference
            mine, theirs = mine[:so_far], theirs[:so_far]
        yield from _between(key, mine, theirs, without)


def varying(abouts: Sequence[About], without: Collection[str] = ()) -> dict[str, list[Any]]:
    """Return the members that differ between runs and can be told in a word or two: dotted name -> value of every run.

    Numbers, truth values and short texts; None where a run has no such member. What follows from others is left out.
    """
    found = [leaves(about, without) for about in abouts]
    kept: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for one in found for name in one):
        values = [one.get(name) for one in found]
        if name.partition(".")[0] in _DERIVED or not all(map(_is_plain, values)):
            continue
        plain = [without_seed(value) for value in values]
        if any(value != plain[0] for value in plain):
            kept[name] = plain
    return kept


def told_apart(abouts: Sequence[About], without: Collection[str] = ()) -> list[str] | None:
    """Return for every run, in a few words, in what it differs from the others, as ``lr=0.1``; None where that is too long.

    Parameters
    ----------
    abouts : sequence of mapping
        Manifests of which no two are replicates.
    without : collection of str
        Members to leave out.
    """
    words: dict[tuple[str, ...], list[str]] = {}
    for name, values in varying(abouts, without).items():
        texts = [_text(value) for value in values]
        if max(map(len, texts)) <= _TERSE:
            leaf = name.rpartition(".")[2]
            words.setdefault(tuple(texts), [f"{leaf}={text}" for text in texts])
    names = [", ".join(parts) for parts in zip(*words.values(), strict=True)]
    return names if len(set(names)) == len(abouts) else None


def require_replicates(runs: Sequence[tuple[Path, About]]) -> None:
    """Make sure that runs, each a folder and its manifest, are the same experiment with several seeds.

    Raises
    ------
    TrajectoryError
        If one is a copy of another, has the same seed, or differs in anything else; says in what.
    """
    seen: list[tuple[Path, About]] = []
    for path, about in runs:
        for earlier, other in seen:
            if "run_id" in about and about["run_id"] == other.get("run_id"):
                raise TrajectoryError(f"{path} is a copy of {earlier}: the same run cannot count twice")
            if about.get("seed") == other.get("seed"):
                difference = next(differences(other, about), None)
                raise TrajectoryError(
                    f"{earlier} and {path} are the same rule with the same seed ({about.get('seed')})"
                    + (
                        f", but differ in {difference}: give them different labels"
                        if difference
                        else ": one says nothing new"
                    )
                )
        if seen:
            earlier, other = seen[0]
            difference = next(differences(other, about), None)
            if difference is not None:
                raise TrajectoryError(
                    f"{earlier} and {path} are the same rule, but differ in {difference}: only runs that differ in their "
                    "seed alone are averaged; compare them one by one, give them different labels, or open them with "
                    "analysis.open_runs, which tells them apart"
                )
        seen.append((path, about))


def _between(name: str, one: Any, other: Any, without: Collection[str]) -> Iterator[str]:
    """Yield in words where two values differ, each as deep inside as it is."""
    if name in without:
        return
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if key != "seed":
                yield from _between(f"{name}.{key}", one.get(key), other.get(key), without)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from _between(f"{name}[{place}]", *pair, without)
    elif without_seed(one) != without_seed(other):
        yield one_line(f"{name} ({_short(one)} and {_short(other)})")


def without_seed(value: Any) -> Any:
    """Return a member of a manifest without the seed that it tells, in texts and deeper inside as well."""
    if isinstance(value, list):
        return [without_seed(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: without_seed(inner) for key, inner in value.items() if key != "seed"}
    return _SEED.sub(r"\1\2", value) if isinstance(value, str) else value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _SHORT)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.12g}" if isinstance(value, float) else one_line(value)


def _short(value: Any) -> str:
    text = one_line("nothing" if value is None else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
