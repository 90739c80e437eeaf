"""What may be averaged: runs of one rule that differ in their seed alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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
_SEED = re.compile(r"\b(seed)([ =:]+)-?\d+")


def require_replicates(runs: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Make sure that runs, each a folder and its manifest, are the same experiment with several seeds.

    Raises
    ------
    TrajectoryError
        If one is a copy of another, has the same seed, or differs in anything else; says in what.
    """
    seen: list[tuple[Path, Mapping[str, Any]]] = []
    for path, about in runs:
        for earlier, other in seen:
            if "run_id" in about and about["run_id"] == other.get("run_id"):
                raise TrajectoryError(f"{path} is a copy of {earlier}: the same run cannot count twice")
            if about.get("seed") == other.get("seed"):
                difference = next(_differences(other, about), None)
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
            difference = next(_differences(other, about), None)
            if difference is not None:
                raise TrajectoryError(
                    f"{earlier} and {path} are the same rule, but differ in {difference}: only runs that differ in their "
                    "seed alone are averaged; compare them one by one, or give them different labels"
                )
        seen.append((path, about))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    ended = all(about.get("state") == "finished" for about in (one, other))
    for key in dict.fromkeys((*one, *other)):
        if key in _OWN_OF_A_RUN or (key == "needs" and not ended):
            continue
        mine, theirs = one.get(key), other.get(key)
        if key == "interventions" and not ended and isinstance(mine, list) and isinstance(theirs, list):
            so_far = min(len(mine), len(theirs))  # what is still to be done to a run is no difference
            mine, theirs = mine[:so_far], theirs[:so_far]
        yield from _between(key, mine, theirs)


def _between(name: str, one: Any, other: Any) -> Iterator[str]:
    """Yield in words where two values differ, each as deep inside as it is."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            if key != "seed":
                yield from _between(f"{name}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from _between(f"{name}[{place}]", *pair)
    elif _without_seed(one) != _without_seed(other):
        yield one_line(f"{name} ({_short(one)} and {_short(other)})")


def _without_seed(value: Any) -> Any:
    return _SEED.sub(r"\1\2", value) if isinstance(value, str) else value


def _short(value: Any) -> str:
    text = one_line("nothing" if value is None else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
