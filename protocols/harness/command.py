"""The command with which a protocol was started, as it was given: what the report prints for doing it again."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_given: ContextVar[tuple[str, ...]] = ContextVar("command", default=())


@contextmanager
def remembered(words: Sequence[str]) -> Iterator[None]:
    """Keep the words of a command line while it is carried out: a protocol that a script calls later was not given them."""
    token = _given.set(("neurossl", *words))
    try:
        yield
    finally:
        _given.reset(token)


def given() -> list[str]:
    """Return the words of the command line, or of the script that called a protocol; nothing in an interactive session."""
    main = sys.modules.get("__main__")
    script = [] if not sys.argv or not getattr(main, "__file__", None) else ["python", *sys.argv]
    return list(_given.get()) or script


THEN = "&&"
"""Between two commands that no single one can replace."""


def joined(before: Sequence[str], now: Sequence[str], growing: Collection[str]) -> list[str]:
    """Return the command that makes what two have made, the second of which went on with the first.

    Parameters
    ----------
    before, now : sequence of str
        Words, as `given` returned them.
    growing : collection of str
        Options of which the second may name further values.

    Returns
    -------
    list of str
        Of one command where it can say it all; else both, one after the other (`THEN`): ``--seed 3`` and then ``--seed 5``
        is neither of them alone, nor is a rule that was asked for beside those of the defaults.
    """
    if not now or not before:  # an interactive session has no command: what is known is better than nothing
        return list(now or before)
    first, second = _options(before), _options(now)
    if THEN in before or first is None or second is None or first[0][:3] != second[0][:3]:
        return _one_after_the_other(before, now)
    options = dict(first[1])
    for flag, value in second[1].items():
        known, name = options.get(flag), flag.removeprefix("--").replace("-", "_")
        if flag in ("--seed", "--seeds"):
            if (flag not in options or known != value) and not (flag == "--seeds" and _are_numbers(known, value)):
                return _one_after_the_other(before, now)
            value = known if flag == "--seed" else str(max(int(known or 0), int(value or 0)))
        elif name in growing and value and not value.isdecimal():
            if not known:
                return _one_after_the_other(before, now)
            value = ",".join(dict.fromkeys([*known.split(","), *value.split(",")]))
        options[flag] = value
    options.pop("--resume", None)
    return [*first[0], *(word for flag, value in options.items() for word in ([flag] if value is None else [flag, value]))]


def _one_after_the_other(before: Sequence[str], now: Sequence[str]) -> list[str]:
    first = [word for word in before if word != "--resume" or THEN in before]
    again = [*now, *([] if "--resume" in now or now[:1] != ["neurossl"] else ["--resume"])]
    return first if first[-len(again) :] == again else [*first, THEN, *again]


def _are_numbers(*values: str | None) -> bool:
    return all(value is not None and value.isdecimal() for value in values)


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
