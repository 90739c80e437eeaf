"""Independent runs side by side: each in a process of its own, progress and outcome over a pipe.

A job that fails or dies never harms the others. Ctrl-C reaches every job once, so that it can store what it has.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tqdm import tqdm

from neurossl.errors import NeurosslError

Progress = Callable[[int], None]
Function = Callable[[Any, Progress], Any]


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
    return sys.platform == "linux" and "fork" in multiprocessing.get_all_start_methods()


def side_by_side(
    jobs: Sequence[Any],
    function: Function,
    *,
    workers: int,
    moments: int | Callable[[Any], int],
    what: str,
    label: Callable[[Any], str],
    interrupted: str,
) -> list[Outcome]:
    """Call a function for every job, in processes side by side, with one progress bar.

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
    label : callable
        Says of a job what it is.
    interrupted : str
        Said after Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        After every job has ended.
    """
    count = min(len(jobs), workers)
    if count > 1 and can_fork():
        _load_before_forking()
    progress: dict[Any, int] = {}
    total = sum(map(moments, jobs)) if callable(moments) else len(jobs) * moments
    with tqdm(total=total, desc=f"{len(jobs)} {what}", unit="moment", smoothing=0.05) as bar:

        def show(job: Any, done: int) -> None:
            bar.update(done - progress.get(job, 0))
            progress[job] = done
            bar.set_postfix_str(label(job), refresh=False)

        try:
            return run_jobs(jobs, function, count, show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(interrupted) from None


def run_jobs(
    jobs: Sequence[Any], function: Function, workers: int, on_progress: Callable[[Any, int], None]
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

    Returns
    -------
    list of Outcome
        In the order of the jobs.

    Raises
    ------
    KeyboardInterrupt
        After every running job has been interrupted and has ended.
    """
    if workers <= 1 or not can_fork():
        return [_here(job, function, on_progress) for job in jobs]
    context = multiprocessing.get_context("fork")
    outcomes: dict[int, Outcome] = {}
    running: dict[Connection, tuple[int, Any]] = {}
    waiting = list(enumerate(jobs))
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, job = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(job, function, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (number, process)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection), "pipes of this function"
                number, process = running[connection]
                try:
                    kind, content = connection.recv()
                except EOFError:
                    kind, content = "problem", f"its process ended with status {_status(process)}"
                if kind == "progress":
                    on_progress(jobs[number], content)
                    continue
                outcomes[number] = Outcome(jobs[number], **{kind: content})
                process.join()
                connection.close()
                del running[connection]
    except KeyboardInterrupt:
        for _, process in running.values():
            with suppress(ProcessLookupError, TypeError):
                os.kill(process.pid, signal.SIGINT)
        for _, process in running.values():
            process.join(60)
        raise
    return [outcomes[number] for number in range(len(jobs))]


def _load_before_forking() -> None:
    """Load once what every run would load for itself, which takes seconds: the optimisers' machinery and the probes'."""
    import sklearn.linear_model
    import sklearn.neighbors  # noqa: F401
    import torch

    torch.optim.AdamW([torch.zeros(1)])


def _status(process: Any) -> int | None:
    process.join()
    return process.exitcode


def _here(job: Any, function: Function, on_progress: Callable[[Any, int], None]) -> Outcome:
    try:
        return Outcome(job, function(job, lambda done: on_progress(job, done)))
    except NeurosslError as error:
        return Outcome(job, problem=" ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        return Outcome(job, problem=f"{type(error).__name__}: {error}")


def _child(job: Any, function: Function, connection: Connection) -> None:
    """Run one job in a process of its own."""
    signal.signal(signal.SIGINT, _interrupt_once)
    _single_threaded()
    try:
        connection.send(("result", function(job, lambda done: connection.send(("progress", done)))))
    except NeurosslError as error:
        connection.send(("problem", " ".join(str(error).split())))
    except KeyboardInterrupt:
        os._exit(130)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        traceback.print_exc()
        connection.send(("problem", f"{type(error).__name__}: {error}"))


def _interrupt_once(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt the first time; the terminal and the parent may both send the signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _single_threaded() -> None:
    """Give this process one thread: runs beside each other share the cores, and OpenMP does not survive a fork."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
