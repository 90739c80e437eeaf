"""Text from files and users, made fit for a terminal."""

import re
import unicodedata

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return ``text`` without what steers a terminal or cannot be encoded: written out, such as ``\x1b``; lines stay."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def one_line(text: object) -> str:
    """Return any text as one line that is safe to print."""
    return printable(" ".join(str(text).split()))


def is_plain(text: str) -> bool:
    """Return whether ``text`` can be stored and printed as it is: not empty, one line, no control characters."""
    return bool(text) and printable(text) == text and not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)
