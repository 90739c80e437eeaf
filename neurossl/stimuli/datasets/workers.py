"""Threads that decode pictures in the background, ahead of their use."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from neurossl.device import available_cores

_TOGETHER = 16


class Workers:
    """Threads that work in the background.

    Those of `concurrent.futures` are waited for when a program ends, those here are not: Ctrl-C ends it at once. After a
    fork the child starts threads of its own.

    Parameters
    ----------
    count : int, optional
        One per core by default, at most 8.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or min(8, available_cores())
        self._process = -1
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Have something done; the result or the exception is in the future that is returned."""
        if self._process != os.getpid():
            # Whoever else asks meanwhile finds a queue that somebody works on.
            waiting: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
            for _ in range(self.count):
                threading.Thread(target=_work, args=(waiting,), daemon=True, name="decoding").start()
            self._waiting, self._process = waiting, os.getpid()
        future: Future[Any] = Future()
        self._waiting.put((future, work, arguments))
        return future


def _work(waiting: "SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]]") -> None:
    while True:
        future, work, arguments = waiting.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(*arguments))
            except BaseException as reason:
                future.set_exception(reason)
        del future, work, arguments


WORKERS = Workers()
"""Shared by all that is decoded in this process."""


def together(files: Sequence[Path]) -> list[Sequence[Path]]:
    """Return files in the groups in which they are decoded."""
    return [files[first : first + _TOGETHER] for first in range(0, len(files), _TOGETHER)]


def results_ahead(work: Callable[..., list[Any]], files: Sequence[Path], *arguments: Any) -> Iterator[Any]:
    """Yield the results of ``work(files, *arguments)`` one by one and in order, while the next are being worked out."""
    pending: deque[Future[list[Any]]] = deque()
    groups = iter(together(files))
    try:
        while True:
            while len(pending) < 4 * WORKERS.count and (group := next(groups, None)) is not None:
                pending.append(WORKERS.submit(work, group, *arguments))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
