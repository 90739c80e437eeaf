"""A signal that comes in the middle of compiled code, and comes out as another exception."""

import signal
from collections.abc import Iterator

import pytest

from neurossl.errors import Interrupted
from protocols import cli
from protocols.harness.parallel import run_jobs
from protocols.harness.signals import SIGNALS, stopping, within


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Begin with Python's own handlers, and give back what there was: a library, or a command that was interrupted."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def swallowed(*_: object) -> None:
    """What Cython did to an interruption while scikit-learn was being imported."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as reason:
        raise ValueError("not a valid PEP 3118 buffer format string") from reason


def test_the_command_line_says_interrupted_and_exits_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "list", swallowed)
    with stopping():
        pass
    assert cli.main(["list"]) == 130
    said = capsys.readouterr().err
    assert said == "neurossl: interrupted by SIGINT\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_ends_as_interrupted(workers: int) -> None:
    if workers == 1:
        with pytest.raises(Interrupted), stopping():
            run_jobs([1], swallowed, workers, lambda job, done: None)
    else:  # each worker was interrupted by itself: it has no result
        with stopping():
            outcomes = run_jobs([1, 2], swallowed, workers, lambda job, done: None)
        assert [o.problem for o in outcomes] == ["its process ended with status 130"] * 2


def test_an_ordinary_error_stays_what_it_is() -> None:
    assert within(ValueError("no")) is None
