"""Measurements in processes of their own: forked from a server that has loaded its libraries and done nothing else.

A measured process must not inherit what an earlier measurement has left behind: memory that was freed but not returned,
kernels already compiled, threads that do not survive a fork. The server loads torch once, so that a process costs
milliseconds.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from neurossl.errors import NeurosslError, OptionError

Result = TypeVar("Result")


class Unmeasured(NeurosslError):
    """A measurement whose process failed or was killed."""

    exit_status = 1


class Laboratory:
    """Calls functions of importable modules, each in a fresh process; a context manager.

    Parameters
    ----------
    threads : int
        Threads that torch uses in every process.

    Raises
    ------
    OptionError
        Where processes cannot be forked.
    """

    def __init__(self, threads: int) -> None:
        if not hasattr(os, "fork"):
            raise OptionError("benchmark: measurements need processes of their own, which this system cannot fork")
        self.threads = threads
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Laboratory":
        return self

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", "from protocols.forked import serve; serve()"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        # In a group of its own, so that whatever ends this process early ends the server and what it measures, once.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns, called in a process of its own.

        Raises
        ------
        NeurosslError
            What the function raised.
        Unmeasured
            If its process failed otherwise or was killed; names the function and the status.
        """
        self._server = self._server or self._start()
        assert self._server.stdin is not None, "opened as a pipe"
        assert self._server.stdout is not None, "opened as a pipe"
        try:
            pickle.dump((function, arguments, self.threads), self._server.stdin)
            self._server.stdin.flush()
            kind, content = pickle.load(self._server.stdout)
        except (EOFError, OSError) as reason:
            raise Unmeasured(f"{function.__name__}: the process that starts measurements has ended ({reason!r})") from None
        if kind == "error":
            raise content
        if kind == "problem":
            raise Unmeasured(f"{function.__name__}: {content}")
        return content

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is None:
            return
        if kind is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGTERM)
        self._server.communicate()


def serve() -> None:
    """Read calls from the standard input until it ends; answer each from a forked process."""
    import torch

    import protocols.stopwatch  # noqa: F401 - loaded once for all processes

    torch.optim.AdamW([torch.zeros(1)])  # loads the machinery of the optimisers, which takes seconds
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not disturb the answers
    while True:
        try:
            function, arguments, threads = pickle.load(calls)
        except EOFError:
            return
        child = os.fork()
        if not child:
            torch.set_num_threads(threads)
            _answer(function, arguments, answers)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            why = ": killed, perhaps for lack of memory" if status == -signal.SIGKILL else ""
            pickle.dump(("problem", f"its process ended with status {status}{why}"), answers)
            answers.flush()


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], answers: Any) -> None:
    try:
        answer = ("result", function(*arguments))
    except NeurosslError as error:
        answer = ("error", error)
    except BaseException as error:
        traceback.print_exc()
        answer = ("problem", f"{type(error).__name__}: {error}")
    pickle.dump(answer, answers)
    answers.flush()
