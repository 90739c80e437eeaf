"""Ctrl-C, SIGTERM (a scheduler's time is up) and SIGHUP (the terminal was closed): what runs ends and keeps what it has.

The first of these signals ends what runs, which then stores what it has; what comes while that is being stored changes
nothing, so that impatience loses no data.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from types import FrameType
from typing import Any

from neurossl.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
_told: list[int] = []
"""Signals since the outermost `stopping` or `noting` of this process began: after the first, others change nothing."""
_depth = 0
_parent: int | None = None
"""Process that this one works for, if it is a worker."""


def work_for(parent: int) -> None:
    """Note which process this one works for, so that a run can say that it ended with it."""
    global _parent
    _parent = parent


def interrupted(number: int, message: str = "") -> Interrupted:
    """Return what ends a run, and remember that a signal was heeded: those that follow change nothing."""
    if not _told:
        _told.append(number)
    if _parent is not None and os.getppid() != _parent:
        message = "the parent process ended" + (f": {message}" if message else "")
    return Interrupted(message or f"interrupted by {signal.Signals(number).name}", number)


def number_of(reason: KeyboardInterrupt) -> int:
    """Return the signal that interrupted."""
    return reason.exit_status - 128 if isinstance(reason, Interrupted) else signal.SIGINT


@contextmanager
def stopping(forked: bool = False) -> Iterator[None]:
    """Raise `Interrupted` at the first signal; ignore those that follow, and say so.

    Handlers that are not Python's own stay, as do signals that are ignored (``nohup``); outside of the main thread this does
    nothing.

    Parameters
    ----------
    forked : bool
        In a process that has just been forked, where handlers and signals are those of its parent: they count no longer.
    """
    if forked:
        _told.clear()

    def stop(number: int, frame: FrameType | None) -> None:
        if not _told:
            raise interrupted(number)
        if not forked:
            os.write(2, b"\nneurossl: storing what was recorded, please wait\n")

    with _handling(stop, replace=forked):
        yield


def check() -> None:
    """Raise `Interrupted` if there was a signal: where it came, the exception may have been swallowed by a callback."""
    if _told:
        raise interrupted(_told[0])


def within(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interruption that an exception stands for, or None.

    What is raised by a signal in the middle of compiled code (a library that is being imported) may come out as another
    exception, with the interruption as its cause.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def ignore_further() -> None:
    """Ignore signals until this process has ended, if one of them is why it ends: its status shall be that of the first."""
    for number in SIGNALS if _told else ():
        signal.signal(number, signal.SIG_IGN)


class Told:
    """A signal that was noted.

    Attributes
    ----------
    number : int or None
        Of the first signal.
    connection : Connection
        Can be waited for; something can be read once there was a signal.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.connection, self._end = Pipe(duplex=False)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Keep the first signal."""
        if not _told:
            _told.append(number)
            self.heed(number)

    def heed(self, number: int) -> None:
        """Count a signal as noted."""
        self.number = number
        self._end.send_bytes(b"!")

    def close(self) -> None:
        """Give the pipe back."""
        self.connection.close()
        self._end.close()


@contextmanager
def noting() -> Iterator[Told]:
    """Note signals instead of raising, for code that must not be left half way."""
    told = Told()
    try:
        with _handling(told.note, replace=True):
            if _told:  # it came before, and what it raised was swallowed, by a library that was being imported for instance
                told.heed(_told[0])
            yield told
    finally:
        told.close()


@contextmanager
def blocked() -> Iterator[None]:
    """Let signals wait, in this thread and in what it forks."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], replace: bool) -> Iterator[None]:
    global _depth
    before: dict[int, Any] = {}
    if not _depth:
        _told.clear()
    _depth += 1
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            present = signal.getsignal(number)
            if present in DEFAULTS or (replace and present is not signal.SIG_IGN):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        _depth -= 1
        for changed, present in before.items():
            if signal.getsignal(changed) == handler:
                signal.signal(changed, present)
