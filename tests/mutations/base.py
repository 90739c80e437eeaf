"""A deliberate mistake in a rule."""

from typing import NamedTuple

OBJECTIVES, TRANSPORTS, ENGINE = "plasticity/objectives/", "plasticity/transports/", "engine/"


class Mutant(NamedTuple):
    """One mistake: in which file (below ``neurossl/``) what text, found there once, becomes what other text."""

    family: str
    file: str
    old: str
    new: str
    mistake: str

    def applied(self, source: str) -> str:
        """Return the source with the mistake."""
        assert source.count(self.old) == 1, f"{self}: found {source.count(self.old)} times"
        return source.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.family}: {self.mistake}"


def mistakes(family: str, file: str, *changes: tuple[str, str, str]) -> list[Mutant]:
    """Return mutants of one file from (old text, new text, what the mistake is)."""
    return [Mutant(family, file, *change) for change in changes]
