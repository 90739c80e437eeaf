"""A protocol at work: its folder, the trials that are missing, its index, and its report at the end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import analysis
from neurossl.errors import NeurosslError, OptionError
from protocols.harness import command
from protocols.harness.folder import (
    move_aside,
    opened,
    plain,
    read_json,
    refusing_to_write,
    telling_what_is_stored,
    write_json,
)
from protocols.harness.index import INDEX, Listed, check_options, indexed, manifest_of, write_index
from protocols.harness.parallel import Function, Outcome, each, side_by_side
from protocols.harness.printing import say, width
from protocols.harness.settings import Setting
from protocols.harness.signals import interrupted, number_of
from protocols.harness.trial import Trial

ResultsOf = Callable[[analysis.Comparison], analysis.Results]


class Experiment:
    """The folder of a protocol while it is at work, to be used in a ``with`` statement.

    Parameters
    ----------
    setting : Setting
    options : mapping
        What the results mean: they are stored, and held against those of what is gone on with.
    trials : sequence of Trial
        Or of anything else that the index can list, where a protocol does not learn.
    what : str
        The trials are, for people.

    Examples
    --------
    >>> with Experiment(setting, setting.options(lr=lr), trials) as experiment:  # doctest: +SKIP
    ...     experiment.learn()
    ...     return experiment.report(results_of)
    """

    def __init__(self, setting: Setting, options: Mapping[str, Any], trials: Sequence[Listed], what: str = "runs") -> None:
        self.setting = setting
        self.options = dict(options)
        self.trials = list(trials)
        self.what = what
        self.problems: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self._stack = ExitStack()

    @property
    def folder(self) -> Path:
        """Of the results."""
        return self.setting.out

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(opened(self.folder, self.setting.resume))
            check_options(self.folder, self.setting.protocol, self.options)
            with refusing_to_write(self.folder):
                self._write_index()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt) and str(self.folder) not in str(error):
            raise interrupted(number_of(error), self._interrupted) from None

    @property
    def _interrupted(self) -> str:
        return f"interrupted; what was recorded is kept in {self.folder}: add --resume to go on"

    def learn(self, trials: Sequence[Trial] | None = None, what: str | None = None) -> None:
        """Learn what has not been learned yet, and write into the index how far every run has come.

        Parameters
        ----------
        trials : sequence of Trial, optional
            Others than those of the index.
        what : str, optional
            These are, for people.
        """

        def learn_one(trial: Trial, progress: Callable[[int], None]) -> float:
            return trial.learn(self.folder, progress)

        self.carry_out(learn_one, lambda trial: trial.moments, self.trials if trials is None else trials, what or self.what)

    def carry_out(
        self,
        function: Function,
        moments: int | Callable[[Any], int],
        trials: Sequence[Any] | None = None,
        what: str | None = None,
    ) -> None:
        """Call a function that stores a run for every trial whose run has not finished yet."""
        todo = self.prepare(self.trials if trials is None else trials)
        shared = self.folder, self.setting.protocol, self.options, self.trials, command.given()
        with indexed(*shared) as self.states:
            outcomes = self.call(todo, function, moments=moments, what=what or self.what)
        self.problems |= {o.job.path: o.problem for o in outcomes if o.problem}

    def prepare(self, trials: Sequence[Any]) -> list[Any]:
        """Return the trials that have not finished; what cannot be gone on with is kept under another name."""
        todo = []
        for trial in trials:
            place = self.folder / trial.path
            for part in (place, *place.parents):
                if part == self.folder:
                    break
                if part.is_symlink():
                    raise OptionError(f"--out {self.folder}: {part} is a link, expected folders of the protocol's own")
            about = manifest_of(place) or {}
            if about.get("state") == "finished" and about.get("budget") in (None, getattr(trial, "moments", None)):
                continue
            if place.exists() and not (isinstance(trial, Trial) and trial.can_go_on(self.folder)):
                move_aside(place)
            todo.append(trial)
        return todo

    def call(
        self,
        jobs: Sequence[Any],
        function: Function,
        *,
        moments: int | Callable[[Any], int] | None = None,
        what: str,
        kept: Callable[[Any], str] | None = None,
    ) -> list[Outcome]:
        """Call a function for every job side by side; with ``kept``, the path of a file, what it returns is found again.

        Parameters
        ----------
        jobs, function, moments, what
            As for `side_by_side`; by default a job has as many moments as a run.
        kept : callable, optional
            Says of a job in which file, below the folder, its result is kept as JSON.
        """
        found: dict[int, Outcome] = {}
        if kept is not None:
            for number, job in enumerate(jobs):
                if (content := read_json(self.folder / kept(job))) is not None:
                    found[number] = Outcome(job, content)
        missing = [number for number in range(len(jobs)) if number not in found]
        outcomes = side_by_side(
            [jobs[number] for number in missing],
            function if kept is None else _keeping(function, self.folder, kept),
            workers=self.setting.workers,
            threads=self.setting.threads,
            moments=self.setting.budget if moments is None else moments,
            what=what,
            interrupted=self._interrupted,
        )
        found |= dict(zip(missing, outcomes, strict=True))
        self.problems |= {f"{what}, number {n + 1}": o.problem for n, o in found.items() if o.problem and kept is not None}
        return [found[number] for number in range(len(jobs))]

    def kept(self, file: str, measure: Callable[[], Any]) -> Any:
        """Return what a file below the folder keeps, or what a function returns, and keep it there as JSON."""
        if (content := read_json(self.folder / file)) is not None:
            return content
        return _keep(self.folder / file, measure())

    def finished(self, path: str) -> bool:
        """Return whether a run has finished."""
        return self.states.get(path) == "finished"

    def report(self, results_of: ResultsOf) -> analysis.Results:
        """Store the results of the runs that have finished, print them, and write the report.

        Parameters
        ----------
        results_of : callable
            Makes the results of a comparison of the runs that have finished; not all conditions need be there.

        Raises
        ------
        NeurosslError
            With exit status 1, if a run could not finish or the report could not be made; says what of both.
        """
        results = None
        if "finished" in self.states.values() or not self.problems:
            try:
                with telling_what_is_stored(self.folder):
                    comparison = analysis.open_comparison([self.folder]).finished()
                    results = self._finish(results_of(comparison), comparison)
            except Exception as error:
                if not self.problems:
                    raise
                said = " ".join(str(error).split())
                failed = said if isinstance(error, NeurosslError) else f"{type(error).__name__}: {said}"
                self.problems = {**dict(list(self.problems.items())[:2]), "the report": failed, **self.problems}
        self.tell_problems()
        assert results is not None, "without problems there are results"
        return results

    def finish(self, results: analysis.Results) -> analysis.Results:
        """Report what a protocol without runs has found.

        Raises
        ------
        NeurosslError
            With exit status 1, if something could not be measured.
        """
        with telling_what_is_stored(self.folder):
            self._finish(results)
        self.tell_problems()
        return results

    def _finish(self, results: analysis.Results, comparison: analysis.Comparison | None = None) -> analysis.Results:
        workers = self.setting.workers if self.setting.threads == 1 else 1
        return finish(self.folder, results, comparison, workers)

    def tell_problems(self) -> None:
        """End with an error if anything could not finish.

        Raises
        ------
        NeurosslError
            With exit status 1.
        """
        if self.problems:
            shown = [f"{path}: {reason}" for path, reason in self.problems.items()]
            failed = len(shown) - ("the report" in self.problems)
            told = "; ".join(shown[:3]) + ("; ..." if len(shown) > 3 else "")
            error = NeurosslError(
                f"{failed} of {len(self.trials) or 'the'} {self.what} could not finish; {told}; "
                f"what was recorded is kept in {self.folder}: add --resume to try these again"
            )
            error.exit_status = 1
            raise error

    def _write_index(self) -> None:
        write_index(self.folder, self.setting.protocol, self.options, self.trials, command.given())


def _keeping(function: Function, folder: Path, kept: Callable[[Any], str]) -> Function:
    """Return a function that also keeps what it returns in a file."""

    def call(job: Any, progress: Callable[[int], None]) -> Any:
        return _keep(folder / kept(job), function(job, progress))

    return call


def _keep(path: Path, content: Any) -> Any:
    """Write a value as JSON and return it as it will be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return plain(content)


def finish(
    folder: Path, results: analysis.Results, comparison: analysis.Comparison | None = None, workers: int = 1
) -> analysis.Results:
    """Store the results, print table and sentences, write the report and print its path last."""
    index = read_json(folder / INDEX)
    known = index.get("command") if isinstance(index, dict) else None
    results = replace(results, command=known or command.given())
    results.save(folder)
    say(results.text(width()))
    beside = partial(each, workers=workers)
    say(str(analysis.write_report(comparison, folder / "report.html", folder / "figures", results, beside)))
    return results
