"""The clock: exact whatever the durations, with at, every and when in the order of their times."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from brian2 import Quantity, ms, second
from conftest import MemoryStore, dense_circuit, full_moment, simulated

from neurossl import Fixation, Moment, Saccade, Simulation
from neurossl.errors import EventError, OptionError
from neurossl.recorders import WeightRecorder


def lasting(*durations: Any) -> list[Moment]:
    moment = full_moment(dense_circuit(None))
    return [Moment(*moment, duration=duration) for duration in durations]


def simulation_of(**options: Any) -> Simulation:
    return simulated(dense_circuit(None), "clapp++gap", **options)


@pytest.mark.parametrize(
    ("duration", "at", "before"),
    [
        (0.1, 1.0, 11),
        (0.1, 0.3, 4),
        (0.2, 1.0, 6),
        (0.3, 0.9, 4),
        (0.3, 1.0, 5),
        (0.25, 1.0, 5),
        (0.1, 0.0, 1),
        (1 / 3, 1, 4),
    ],
)
def test_at_happens_before_the_first_moment_that_begins_then(duration: float, at: float, before: int) -> None:
    simulation, seen = simulation_of(), []
    simulation.at(at)(lambda s: seen.append(s.moment + 1))
    simulation.run(lasting(*[duration] * 12))
    assert seen == [before]


@pytest.mark.parametrize(
    ("duration", "interval", "calls"),
    [
        (0.1, 0.5, [6, 11, 16]),
        (0.2, 1.0, [6, 11, 16]),
        (0.3, 0.9, [4, 7, 10, 13, 16, 19]),
        (0.3, 0.3, list(range(2, 21))),
        (0.1, 0.3, [4, 7, 10, 13, 16, 19]),
        (0.25, 0.6, [4, 6, 9, 11, 13, 16, 18]),
    ],
)
def test_every_happens_once_per_interval(duration: float, interval: float, calls: list[int]) -> None:
    simulation, seen = simulation_of(), []
    simulation.every(interval)(lambda s: seen.append(s.moment + 1))
    simulation.run(lasting(*[duration] * 20))
    assert seen == calls


@pytest.mark.parametrize(("duration", "interval"), [(0.5, 0.1), (0.25, 0.2499), (1.0, 0.999)])
def test_an_interval_shorter_than_a_moment_is_refused(duration: float, interval: float) -> None:
    simulation = simulation_of()
    simulation.every(interval)(lambda s: None)
    with pytest.raises(EventError, match=rf"every\({interval:g}\): moments last {duration:g} s and nothing happens between"):
        simulation.run(lasting(duration))
    for wrong in (0, -1, float("nan"), "often"):
        with pytest.raises(OptionError, match="every"):
            simulation.every(wrong)(lambda s: None)


@pytest.mark.parametrize(("duration", "moments", "time"), [(0.1, 8, 0.8), (0.2, 4, 0.8), (0.3, 11, 3.3), (0.7, 9, 6.3)])
def test_the_stored_time_is_that_number_and_not_nearly_that(duration: float, moments: int, time: float) -> None:
    store = MemoryStore()
    simulation = simulation_of(store=store, recorders=[WeightRecorder(1)])
    simulation.run(lasting(*[duration] * moments))
    assert simulation.time == time
    stored = {event: when for _, _, event, when, _, _ in store.records}
    assert stored[moments] == time
    assert all(when == float(event * Fraction(str(duration))) for event, when in stored.items())


def test_a_thousand_moments_do_not_drift() -> None:
    simulation = simulation_of()
    saccade = Moment(Saccade(), duration=0.1)
    for _ in range(1000):
        simulation.arrive(saccade)
    assert simulation.time == 100.0
    assert simulation.moment == 0, "time passes, nothing is learned"


@pytest.mark.parametrize("unit", [100 * ms, 0.1 * second, np.float64(0.1), np.float32(0.1), Fraction(1, 10)])
def test_times_are_seconds_of_any_kind(unit: float | Quantity) -> None:
    simulation, seen = simulation_of(), []
    simulation.at(3 * unit)(lambda s: seen.append(("at", s.time)))
    simulation.every(unit)(lambda s: seen.append(("every", s.time)))
    simulation.run(lasting(*[unit] * 5))
    assert seen == [("every", 0.1), ("every", 0.2), ("at", 0.3), ("every", 0.3), ("every", 0.4)]
    assert simulation.time == 0.5


def test_what_is_due_together_happens_in_the_order_of_its_times() -> None:
    simulation, seen = simulation_of(), []
    for time in (0.9, 0.6, 0.6, 0.3):
        simulation.at(time)(lambda s, time=time: seen.append(time))
    simulation.run(lasting(1.0, 1.0))
    assert seen == [0.3, 0.6, 0.6, 0.9]


def test_what_an_intervention_schedules_happens_in_its_turn() -> None:
    simulation, seen = simulation_of(), []

    @simulation.at(0.2)
    def begin(s: Simulation) -> None:
        seen.append(("begin", s.time))
        s.at(0.4)(lambda s: seen.append(("later", s.time)))
        s.every(0.3)(lambda s: seen.append(("often", s.time)))

    simulation.run(lasting(*[0.1] * 10))
    assert seen == [("begin", 0.2), ("later", 0.4), ("often", 0.5), ("often", 0.8)]
    assert begin.__name__ == "begin", "the decorated function is still there"


def test_when_happens_once_before_the_first_moment_at_which_it_holds() -> None:
    simulation, asked, seen = simulation_of(), [], []

    def condition(s: Simulation) -> bool:
        asked.append(s.moment)
        return s.moment >= 2

    simulation.when(condition)(lambda s: seen.append(s.moment))
    simulation.when(lambda s: False)(lambda s: seen.append(-1))
    simulation.run(lasting(*[0.1] * 5)).run(lasting(0.1))
    assert seen == [2]
    assert asked == [0, 1, 2], "asked no more when it has happened"
    for wrong in (True, 3, None):
        with pytest.raises(OptionError, match="when: expected a condition"):
            simulation.when(wrong)(lambda s: None)  # type: ignore[arg-type]
    for schedule in (simulation.at(1), simulation.every(1), simulation.when(lambda s: True)):
        with pytest.raises(OptionError, match="expected a function of the simulation"):
            schedule(None)  # type: ignore[arg-type]


def test_time_goes_on_over_runs_and_from_a_state() -> None:
    calls: list[tuple[int, float]] = []

    def made() -> Simulation:
        simulation = simulation_of()
        simulation.at(0.3)(count)
        simulation.every(0.2)(count)
        return simulation

    def count(s: Simulation) -> None:
        calls.append((s.moment, s.time))

    whole = made().run(lasting(*[0.1] * 8))
    undisturbed, calls = calls, []
    first = made().run(lasting(*[0.1] * 4))
    second = made().restore(first.state()).run(lasting(*[0.1] * 4))
    assert calls == undisturbed
    assert (second.time, second.moment) == (whole.time, whole.moment) == (0.8, 8)


def test_bare_events_take_their_time_too() -> None:
    simulation = simulation_of()
    view = full_moment(dense_circuit(None)).require(Fixation, "test").stimulus[:1]
    simulation.run([Fixation(view), Moment(Saccade(), duration=0.05), Moment(Fixation(view), duration=0.3)])
    assert simulation.time == 0.6
    assert simulation.moment == 2
