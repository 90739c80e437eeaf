"""Independent runs side by side: each in a process of its own, progress and outcome over a pipe.

A job that fails or dies never harms the others. A signal reaches every job once, so that it can store what it has; when the
parent dies, by whatever cause, its jobs are told to end in the same way. Every run computes with the same number of threads,
whether it has a process of its own or not, since the last digits of a sum depend on it.
"""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from neurossl.errors import Interrupted, NeurosslError
from neurossl.progress import Progress as Bar
from protocols.harness.signals import blocked, check, noting, number_of, stopping, within
from protocols.harness.signals import interrupted as ended
from protocols.harness.worker import PATIENCE, Ends, child_of, computing_with

Progress = Callable[[int], None]
Function = Callable[[Any, Progress], Any]
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    job : object
    result : object
        What the function returned; None if it failed.
    problem : str
        Why it failed, in one line; empty otherwise.
    """

    job: Any
    result: Any = None
    problem: str = ""


def can_fork() -> bool:
    """Return whether runs can share what is in memory with processes of their own."""
    if multiprocessing.current_process().daemon:  # as the workers of a Pool, which may not have children
        return False
    return sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()


def side_by_side(
    jobs: Sequence[Any],
    function: Function,
    *,
    workers: int,
    moments: int | Callable[[Any], int],
    what: str,
    interrupted: str,
    threads: int = 1,
) -> list[Outcome]:
    """Call a function for every job, in processes side by side, and show how far all of them are.

    Parameters
    ----------
    jobs : sequence
        Hashable.
    function : callable
        As for `run_jobs`.
    workers : int
        Jobs at a time.
    moments : int or callable
        Steps of progress per job, or a function that says how many a job has.
    what : str
        Of the jobs, for the bar.
    interrupted : str
        Said after Ctrl-C.
    threads : int
        Of every job.

    Raises
    ------
    Interrupted
        After every job has ended.
    """
    if not jobs:
        return []
    progress: dict[Any, int] = {}
    total = sum(map(moments, jobs)) if callable(moments) else len(jobs) * moments
    with Bar("text", f"{len(jobs)} {what}", total) as bar:

        def show(job: Any, done: int) -> None:
            progress[job] = done
            bar(sum(progress.values()))

        try:
            return run_jobs(jobs, function, min(len(jobs), workers), show, threads)
        except KeyboardInterrupt as reason:
            raise ended(number_of(reason), interrupted) from None


def run_jobs(
    jobs: Sequence[Any], function: Function, workers: int, on_progress: Callable[[Any, int], None], threads: int = 1
) -> list[Outcome]:
    """Call ``function(job, progress)`` for every job, at most ``workers`` at a time.

    Parameters
    ----------
    jobs : sequence
    function : callable
        Is given a job and a function to report progress with; what it raises ends its job alone.
    workers : int
        1 runs the jobs one after another in this process.
    on_progress : callable
        Is given a job and the steps done.
    threads : int
        Of every job; processes side by side have one each, since OpenMP does not survive a fork.

    Returns
    -------
    list of Outcome
        In the order of the jobs.

    Raises
    ------
    Interrupted
        After every running job has been told to end and has ended.
    """
    if workers <= 1 or threads > 1 or not can_fork():
        with stopping(), computing_with(threads):
            return [_here(job, function, on_progress) for job in jobs]
    _load_before_forking()
    with noting() as told, _Workers(function) as there:
        waiting = list(enumerate(jobs))
        outcomes: dict[int, Outcome] = {}
        while waiting or there.running:
            while waiting and len(there.running) < workers and told.number is None:
                there.start(*waiting.pop(0))
            if told.number is not None:
                there.end(told.number)
                raise ended(told.number)
            for connection in wait([*there.running, told.connection]):
                if connection is told.connection:
                    continue
                assert isinstance(connection, Connection), "pipes of these workers"
                number, kind, content = there.receive(connection)
                if kind == "progress":
                    on_progress(jobs[number], content)
                else:
                    outcomes[number] = Outcome(jobs[number], **{kind: content})
    return [outcomes[number] for number in range(len(jobs))]


def each(function: Callable[[Item], Made], items: Sequence[Item], workers: int) -> list[Made]:
    """Return what a function returns for every item, as ``map`` does, in processes side by side where there are several.

    What a process could not do is done here, so that what is raised is raised here.

    Raises
    ------
    Interrupted
        After every process has been told to end and has ended.
    """
    if min(workers, len(items)) <= 1 or not can_fork():
        return list(map(function, items))
    outcomes = run_jobs(range(len(items)), lambda place, _: function(items[place]), workers, lambda *_: None)
    return [function(items[one.job]) if one.problem else one.result for one in outcomes]


class _Workers:
    """Processes that each do one job, and the ends of the pipes from them."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.running: dict[Connection, tuple[int, BaseProcess]] = {}
        self._context = multiprocessing.get_context("fork")
        # Nothing is ever written into it: its end tells the workers that this process is no more.
        self._alive, self._hold = os.pipe()

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._hold)  # what still runs, because something was raised here, ends now
        os.close(self._alive)

    def start(self, number: int, job: Any) -> None:
        """Fork a process for a job; signals wait until it is known here and ready to be told."""
        with blocked():
            ours, theirs = self._context.Pipe(duplex=False)
            own = Ends(theirs, self._alive, (self._hold,), (ours, *self.running), os.getpid())
            process = self._context.Process(target=child_of, args=(job, self.function, own), daemon=True)
            process.start()
            theirs.close()
            self.running[ours] = (number, process)

    def receive(self, connection: Connection) -> tuple[int, str, Any]:
        """Return the number of the job, and the kind and content of what its process says."""
        number, process = self.running[connection]
        try:
            kind, content = connection.recv()
        except (EOFError, OSError):
            process.join()
            kind, content = "problem", f"its process ended with status {process.exitcode}"
        if kind != "progress":
            del self.running[connection]
            process.join()
            connection.close()
        return number, kind, content

    def end(self, signal_number: int) -> None:
        """Tell every process to end, and wait until it has, reading what it still says so that nothing blocks it."""
        for _, process in self.running.values():
            with suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, signal_number)  # type: ignore[arg-type]
        deadline = time.monotonic() + PATIENCE
        while self.running and (left := deadline - time.monotonic()) > 0:
            for connection in wait(list(self.running), left):
                assert isinstance(connection, Connection), "pipes of these workers"
                self.receive(connection)
        for _, process in self.running.values():
            process.kill()
            process.join()


def _load_before_forking() -> None:
    """Load once what every run would load for itself, which takes seconds: the optimisers' machinery and the probes'.

    Signals wait meanwhile: an exception in the middle of an import leaves a library half there, or comes out as another.
    """
    with blocked():
        import sklearn.linear_model
        import sklearn.neighbors  # noqa: F401
        import torch

        torch.optim.AdamW([torch.zeros(1)])


def _here(job: Any, function: Function, on_progress: Callable[[Any, int], None]) -> Outcome:
    def progress(done: int) -> None:
        check()
        on_progress(job, done)

    try:
        return Outcome(job, function(job, progress))
    except Interrupted:
        raise
    except NeurosslError as error:
        return Outcome(job, problem=" ".join(str(error).split()))
    except Exception as error:
        if (reason := within(error)) is not None:
            raise reason from None
        traceback.print_exc()
        return Outcome(job, problem=f"{type(error).__name__}: {error}")
