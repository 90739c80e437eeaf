"""Progress of long work: a bar in a terminal, a line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from neurossl.errors import OptionError

LINE_EVERY = 30.0
"""Seconds between lines where stderr is no terminal."""


class Progress:
    """How far something has come, as a context manager that is called with the number done.

    Parameters
    ----------
    report : "text", callable or None
        A function is given the number done and, where known, the total.
    what : str
    total : int, optional
    done : int
        What had been done before.
    unit : str
    """

    def __init__(
        self,
        report: str | Callable[[int, int | None], None] | None,
        what: str,
        total: int | None,
        done: int = 0,
        unit: str = "moment",
    ) -> None:
        if report not in (None, "text") and not callable(report):
            raise OptionError(f"report: expected 'text', a function or None, got {report!r}")
        self._report = report
        self._what, self._total, self._unit = what, total, unit
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        shown = report == "text" and is_terminal
        self._bar = tqdm(desc=what, total=total, initial=done, unit=unit) if shown else None
        self._lines = report == "text" and not is_terminal
        self._begun = self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        """Say how much is done."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif callable(self._report):
            self._report(done, self._total)
        elif self._lines and time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            line = f"{self._what}: {done}{of} {self._unit}s after {self._last - self._begun:.0f} s"
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
