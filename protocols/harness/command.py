"""The command with which a protocol was started, as it was given: what the report prints for doing it again."""

import sys
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
