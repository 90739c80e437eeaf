"""Printing that a terminal without the characters does not stop: after a whole run of learning, a ± must not be the end."""

import shutil
import sys
from contextlib import suppress

from neurossl.text import printable

PLAIN = {"±": "+-", "→": "->", "✓": "x", "·": ".", "…": "...", "\u00a0": " ", "\u2013": "-", "\u2212": "-"}


def say(text: str) -> None:
    """Print a text; what stdout cannot encode is written in plainer characters.

    A stdout that is closed, or takes no more, ends no work: what is said is in the report as well.
    """
    if sys.stdout is None:
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    with suppress(OSError, ValueError):
        print("".join(_plain(character, encoding) for character in printable(text)), flush=True)


def width() -> int:
    """Return the columns of the terminal, at least 120; 160 where there is none."""
    return max(shutil.get_terminal_size((160, 24)).columns, 120)


def _plain(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
        return character
    except UnicodeEncodeError:
        return PLAIN.get(character) or character.encode(encoding, "backslashreplace").decode(encoding)
