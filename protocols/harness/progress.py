"""Progress of long work on stderr: a bar on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LOG_INTERVAL = 30.0
"""Seconds between two lines of a log."""


class LogLines:
    """Progress in a file or a pipe: a line at the beginning, one every 30 s, and one at the end.

    Parameters
    ----------
    total : int
        Steps.
    what : str
        That is done.
    unit : str
        Of the steps.
    """

    def __init__(self, total: int, what: str, unit: str) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done = 0
        self.about = ""
        self._begun = time.monotonic()
        self._said = -float("inf")

    def __enter__(self) -> Self:
        self._say()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._say()

    def update(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self.done += steps
        if time.monotonic() - self._said >= LOG_INTERVAL:
            self._say()

    def set_postfix_str(self, about: str, refresh: bool = False) -> None:
        """Say what the steps are part of."""
        self.about = about

    def _say(self) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._begun
        about = f", {self.about}" if self.about else ""
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s, {seconds:.0f} s{about}", file=sys.stderr, flush=True
        )


def progress_bar(total: int, what: str, unit: str = "moment") -> "LogLines | tqdm[None]":
    """Return what shows the progress of so many steps, to be used in a ``with`` statement."""
    if not sys.stderr.isatty():
        return LogLines(total, what, unit)
    tqdm.monitor_interval = 0  # its thread would not survive the forks of what runs side by side
    return tqdm(total=total, desc=what, unit=unit, smoothing=0.05)
