"""A process that does one job: it says what becomes of it, and ends with its parent, however that dies."""

import ctypes
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from neurossl.errors import Interrupted, NeurosslError
from protocols.harness.signals import SIGNALS, check, stopping, within, work_for
from protocols.harness.signals import interrupted as ended

PATIENCE = 60.0
"""Seconds that a run is given to store what it has, once it is told to end."""
DYING = 0.2
"""Seconds for which a process that has closed its pipes, because it dies, may still be the parent of its workers."""


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Give torch and the numerical libraries so many threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Ends:
    """What a worker has of the pipes: its own, that by which it sees its parent's end, and what is not for it."""

    own: Connection
    alive: int
    not_mine: tuple[int, ...]
    others: tuple[Connection, ...]
    parent: int


def child_of(job: Any, function: Callable[[Any, Callable[[int], None]], Any], ends: Ends) -> None:
    """Do one job in a process of its own, which ends here; signals are blocked when it begins."""
    status = 1
    try:
        for descriptor in ends.not_mine:
            os.close(descriptor)
        for other in ends.others:  # otherwise what this process holds would keep others from noticing that nobody reads
            other.close()
        _end_with_parent(ends)
        status = _answer(job, function, ends.own)
    except Interrupted as reason:
        status = reason.exit_status
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:  # closed before the program began
                    stream.flush()
        os._exit(status)


def _answer(job: Any, function: Callable[[Any, Callable[[int], None]], Any], connection: Connection) -> int:
    """Do a job, send what becomes of it, and return the status of the process."""

    def progress(done: int) -> None:
        check()
        try:
            connection.send(("progress", done))
        except OSError:
            time.sleep(DYING)
            raise ended(signal.SIGTERM, "nobody waits for this run any longer") from None

    try:
        with stopping(forked=True), computing_with(1):
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                found = "result", function(job, progress)
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    except Interrupted as reason:
        return reason.exit_status
    except NeurosslError as error:
        found = "problem", " ".join(str(error).split())
    except Exception as error:
        if isinstance(cause := within(error), Interrupted):
            return cause.exit_status
        traceback.print_exc()
        found = "problem", f"{type(error).__name__}: {error}"
    with suppress(OSError):
        connection.send(found)
        return 0
    return 1


def _end_with_parent(ends: Ends) -> None:
    """Have this process told to end when its parent dies, however that happens."""
    work_for(ends.parent)
    terminate_when_parent_dies = 1  # PR_SET_PDEATHSIG
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(terminate_when_parent_dies, signal.SIGTERM)
    if os.getppid() != ends.parent:
        os._exit(143)

    def watch() -> None:
        os.read(ends.alive, 1)  # returns when the parent's end of the pipe is closed: by its death
        time.sleep(DYING)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()
