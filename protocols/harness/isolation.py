"""Measurements in processes of their own: forked from a server that has loaded its libraries and done nothing else.

A measured process must not inherit what an earlier measurement has left behind: memory that was freed but not returned,
kernels already compiled, threads that do not survive a fork. The server loads torch once, so that a process costs
milliseconds.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from neurossl.errors import NeurosslError, OptionError

Result = TypeVar("Result")

LOADED = ("protocols.speed.timing", "torch._dynamo")
"""Modules that the server imports; the second is what torch's optimisers load on their first use, which takes seconds."""


class Unmeasured(NeurosslError):
    """A measurement whose process failed or was killed."""

    exit_status = 1


class Laboratory:
    """Calls functions of importable modules, each in a fresh process.

    Parameters
    ----------
    threads : int
        Threads that torch uses in every process.

    Raises
    ------
    OptionError
        Where processes cannot be forked.

    Notes
    -----
    A fresh process imports the main module of this one, as all of `multiprocessing` does: a script of the user's that
    measures has to begin with ``if __name__ == "__main__":``.
    """

    def __init__(self, threads: int) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            raise OptionError("benchmark: measurements need processes of their own, which this system cannot fork")
        self.threads = threads
        self._context = multiprocessing.get_context("forkserver")

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns, called in a process of its own, which ends with this call.

        Raises
        ------
        NeurosslError
            What the function raised.
        Unmeasured
            If its process failed otherwise or was killed; names the function and the status.
        """
        _start_server()
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_answer, args=(theirs, self.threads, function, arguments), daemon=True)
        with ours:
            try:
                with theirs:
                    process.start()
                kind, content = ours.recv()
            except EOFError:
                process.join()
                why = ": killed, perhaps for lack of memory" if process.exitcode == -signal.SIGKILL else ""
                kind, content = "problem", f"its process ended with status {process.exitcode}{why}"
            finally:
                if process.pid is not None:
                    process.kill()  # it has answered or is not waited for any longer
                    process.join()
        if kind == "error":
            raise content
        if kind == "problem":
            raise Unmeasured(f"{function.__name__}: {content}")
        return content


def _start_server() -> None:
    """Start the server, unless there is one, so that Ctrl-C reaches neither it nor what it forks: this process ends them."""
    multiprocessing.set_forkserver_preload(list(LOADED))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(answers: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call a function in a process of its own and send what becomes of it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        answers.send(("result", function(*arguments)))
    except NeurosslError as error:
        answers.send(("error", error))
    except BaseException as error:
        traceback.print_exc()
        answers.send(("problem", f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process of a laboratory"
    parent.join()
    os._exit(1)
