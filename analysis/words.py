"""What the manifest of a run says, in words: for ``neurossl info`` and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurossl.text import one_line

MOST_INTERVENTIONS = 40
"""Of a run that are listed; of more, the first ones and how many there are."""
_OPTIONS = {"lr": "learning rate", "momentum": "momentum", "weight_decay": "weight decay", "bounds": "bounds"}


def synapses_in_words(options: Any) -> str:
    """Return the options of synapses, those of single pathways last: ``adamw, learning rate 0.001; V1->V2: fixed``.

    Parameters
    ----------
    options : mapping
        As `neurossl.Synapses.describe` returns them; nothing is said of anything else.
    """
    if not isinstance(options, Mapping):
        return ""
    exceptions = options.get("pathways")
    parts = [_options(options)]
    if isinstance(exceptions, Mapping):
        parts += [f"{pattern}: {_options(own)}" for pattern, own in exceptions.items() if isinstance(own, Mapping)]
    return one_line("; ".join(part for part in parts if part))


def interventions_in_words(entries: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Return a line for each of the first interventions: ``0.5 s (moment 2): lesion V1->V2 (at, operate)``.

    Parameters
    ----------
    entries : sequence of mapping, optional
        The member ``interventions`` of a manifest.
    """
    listed = list(entries or ())
    lines = [_intervention(entry) for entry in listed[:MOST_INTERVENTIONS]]
    left = len(listed) - len(lines)
    return [*lines, f"and {left:,} more"] if left else lines


def _options(options: Mapping[str, Any]) -> str:
    words = [str(options["optimizer"])] if options.get("optimizer") else []
    # A learning rate of 0 is worth saying; of anything else 0 means that there is none.
    words += [
        f"{word} {options[key]}" for key, word in _OPTIONS.items() if options.get(key) or (key == "lr" and key in options)
    ]
    return ", ".join(words)


def _intervention(entry: Mapping[str, Any]) -> str:
    when = f"{entry['time']:g} s" if "time" in entry else "at some time"
    when += f" (moment {entry['moment']})" if "moment" in entry else ""
    known = ("moment", "time", "what", "pathway", "population", "options", "scheduled", "function")
    on = [str(entry[key]) for key in ("pathway", "population") if entry.get(key)]
    on += [synapses_in_words(entry["options"])] if entry.get("options") else []
    on += [f"{key} {value}" for key, value in entry.items() if key not in known]
    how = ", ".join(str(entry[key]) for key in ("scheduled", "function") if entry.get(key))
    return one_line(" ".join([f"{when}:", entry.get("what", "something"), ", ".join(on), f"({how})" if how else ""]))
