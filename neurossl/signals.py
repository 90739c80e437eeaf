"""Signals that ask a run to end: heeded between two moments, so that what has been learned is stored."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Asked:
    """Whether the end has been asked for, and by which signal."""

    def __init__(self) -> None:
        self.by: int | None = None

    @property
    def name(self) -> str:
        """Name of the signal."""
        return "" if self.by is None else signal.Signals(self.by).name


@contextmanager
def heeding_signals(enabled: bool = True) -> Iterator[Asked]:
    """Note signals instead of ending at once; a second Ctrl-C while the first is being heeded changes nothing.

    Parameters
    ----------
    enabled : bool
        Whether there is anything to store. Only the main thread can receive signals.
    """
    asked = Asked()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def heed(number: int, frame: FrameType | None) -> None:
        if asked.by is None:
            asked.by = number

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before: dict[int, Any] = {}
    for number in numbers:
        known = signal.getsignal(number)
        # One that the parent ignores stays ignored, as for a job in the background of a shell; so does what is not Python's.
        if known is None or (known is signal.SIG_IGN and number != signal.SIGINT):
            continue
        before[number] = known
        signal.signal(number, heed)
    try:
        yield asked
    finally:
        for number, known in before.items():
            signal.signal(number, known)
