"""The command with which a protocol was started, as it was given: what the report prints for doing it again."""

import sys
from collections.abc import Collection, Sequence
from contextvars import ContextVar

_given: ContextVar[tuple[str, ...]] = ContextVar("command", default=())


def remember(words: list[str]) -> None:
    """Keep the words of a command line."""
    _given.set(("neurossl", *words))


def given() -> list[str]:
    """Return the words of the command line, or of the script that called a protocol; nothing in an interactive session."""
    main = sys.modules.get("__main__")
    script = [] if not sys.argv or not getattr(main, "__file__", None) else ["python", *sys.argv]
    return list(_given.get()) or script


def joined(before: Sequence[str], now: Sequence[str], growing: Collection[str]) -> list[str]:
    """Return the command that makes what two have made, the second of which went on with the first.

    Parameters
    ----------
    before, now : sequence of str
        Words, as `given` returned them.
    growing : collection of str
        Options of which the second may name further values.
    """
    first, second = _options(before), _options(now)
    if first is None or second is None or first[0][:3] != second[0][:3]:
        return list(now)
    options = dict(first[1])
    for flag, value in second[1].items():
        known = options.get(flag)
        if known and value and flag.removeprefix("--").replace("-", "_") in growing and not value.isdecimal():
            value = ",".join(dict.fromkeys([*known.split(","), *value.split(",")]))
        options[flag] = value
    options.pop("--resume", None)
    return [*first[0], *(word for flag, value in options.items() for word in ([flag] if value is None else [flag, value]))]


def _options(words: Sequence[str]) -> tuple[list[str], dict[str, str | None]] | None:
    """Return the words before the first option, and the options; None where there are none."""
    start = next((place for place, word in enumerate(words) if word.startswith("--")), None)
    if start is None:
        return None
    found: dict[str, str | None] = {}
    flag = ""
    for word in words[start:]:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            found[flag] = value if equals else None
        else:
            known = found[flag]
            found[flag] = word if known is None else f"{known},{word}"
    return list(words[:start]), found
