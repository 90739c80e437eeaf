"""Where the runs of a comparison come from: what they share, what differs between them, and every command that made any."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.comparison import Comparison
from analysis.differences import without_seed
from neurossl.text import one_line

MOST = 6
"""Different values that are listed; of more, their number is said."""
AGAIN = "again"


def provenance_of(comparison: Comparison, command: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return data, networks, software and hardware of all runs, and the commands that make them again.

    Parameters
    ----------
    comparison : Comparison
    command : sequence of str
        The words of the one command that made them all, where it is known; else those that their manifests keep are listed,
        each with the options that it was given.

    Returns
    -------
    list of (str, str)
        What differs between runs is listed in full, never that of the first run for all.
    """
    abouts = [run.about for run in (*comparison.runs, *comparison.left_out)]
    rows = [
        ("protocol", [about.get("protocol") for about in abouts]),
        ("data set", [about.get("images") or about.get("dataset") for about in abouts]),
        ("views", [about.get("views") for about in abouts]),
        ("stream", [without_seed(about.get("stream")) for about in abouts]),
        ("network", [_name(about.get("network")) for about in abouts]),
        ("device", [about.get("device") for about in abouts]),
        ("number type", [about.get("dtype") for about in abouts]),
        ("started", [min((str(a["started"]) for a in abouts if a.get("started")), default=None)]),
        ("versions", [_words(about.get("versions")) for about in abouts]),
        ("hardware", [_words(about.get("hardware")) for about in abouts]),
    ]
    told = [(name, _listed(values)) for name, values in rows]
    return [(name, text) for name, text in told if text] + [(AGAIN, line) for line in commands_of(abouts, command)]


def commands_of(abouts: Sequence[Mapping[str, Any]], command: Sequence[str] = ()) -> list[str]:
    """Return the different commands that made runs, quoted for a shell, or the one that is given."""
    if command:
        return [quoted(command)]
    lines: dict[str, None] = {}
    for about in abouts:
        words = about.get("command")
        if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
            lines[quoted(words)] = None
        elif isinstance(words, str) and words:
            lines[words] = None
    return list(lines)


def quoted(words: Sequence[str]) -> str:
    """Return the words of a command, or of several with ``&&`` between them, as a shell wants them."""
    return " ".join(word if word == "&&" else shlex.quote(word) for word in words)


def _listed(values: Sequence[Any]) -> str:
    different = list(dict.fromkeys(one_line(value) for value in values if value))
    more = f"; and {len(different) - MOST} more" if len(different) > MOST else ""
    return "; ".join(different[:MOST]) + more


def _name(network: Any) -> Any:
    return network.get("name") if isinstance(network, Mapping) else None


def _words(content: Any) -> str | None:
    return ", ".join(f"{key} {value}" for key, value in content.items()) if isinstance(content, Mapping) else None
