"""Slowing programs down: when they stop, and when they go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.engine.brake import AGAIN, STAND, Brake, running_time
from mosfs.trace.task import TaskGone


class Tasks:
    """What the brake asked for, in order; ``runs``: a task is on a processor."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.runs = True
        self.waited: list[float] = []
        self.brake: Brake[str] = Brake(
            lambda name: True, lambda name: self.asked.append(f"stop {name}"), lambda name: self.asked.append(f"go {name}"),
            lambda pid: self.runs, self.waited.append,
        )


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def test_it_stands_and_runs_in_turn(tasks: Tasks) -> None:
    wanted, brake = {7: ("a", 0.5)}, tasks.brake
    brake.step(0.0, wanted)
    assert tasks.asked == ["stop a"] and brake.due() is None
    assert brake.stopped(7, 0.001, computing=True) and brake.due() == 0.001 + STAND
    brake.step(0.001 + STAND / 2, wanted)
    assert tasks.asked == ["stop a"]
    brake.step(0.001 + STAND, wanted)
    assert tasks.asked == ["stop a", "go a"]
    assert brake.due() == pytest.approx(0.001 + STAND + running_time(0.5))
    brake.step(0.001 + STAND + running_time(0.5), wanted)
    assert tasks.asked == ["stop a", "go a", "stop a"]


def test_who_runs_for_a_moment_is_waited_for(tasks: Tasks) -> None:
    wanted = {7: ("a", 1 / 256)}
    tasks.brake.step(0.0, wanted)
    assert tasks.brake.stopped(7, 0.0, computing=True)
    tasks.brake.step(STAND, wanted)
    assert tasks.asked == ["stop a", "go a", "stop a"] and tasks.waited == [running_time(1 / 256)]
    assert tasks.brake.stopped(7, STAND, computing=True)


def test_who_is_not_wanted_any_more_goes_on_at_once(tasks: Tasks) -> None:
    tasks.brake.step(0.0, {7: ("a", 0.5)})
    assert tasks.brake.stopped(7, 0.0, computing=True)
    tasks.brake.step(0.0, {})
    assert tasks.asked == ["stop a", "go a"] and not tasks.brake
    assert not tasks.brake.stopped(7, 1.0, computing=True)


def test_a_stop_that_comes_too_late_is_nobodys(tasks: Tasks) -> None:
    tasks.brake.step(0.0, {7: ("a", 0.5)})
    tasks.brake.step(0.0, {})
    assert not tasks.brake.stopped(7, 0.0, computing=True)
    assert tasks.asked == ["stop a"]


def test_who_does_not_run_is_looked_at_again(tasks: Tasks) -> None:
    tasks.runs = False
    tasks.brake.step(0.0, {7: ("a", 0.5)})
    assert tasks.asked == [] and tasks.brake.due() == AGAIN
    tasks.runs = True
    tasks.brake.step(AGAIN, {7: ("a", 0.5)})
    assert tasks.asked == ["stop a"]


def test_the_end_of_a_task_is_the_end_of_it(tasks: Tasks) -> None:
    tasks.brake.step(0.0, {7: ("a", 0.5)})
    tasks.brake.stopped(7, 0.0, computing=True)
    tasks.brake.gone(7)
    tasks.brake.step(1.0, {})
    assert tasks.asked == ["stop a"]


@pytest.mark.parametrize("standing", [False, True])
def test_who_is_killed_meanwhile_harms_nobody(standing: bool) -> None:
    """Its tracer has not heard of its end yet: whatever is asked of it fails."""

    def gone(name: str) -> None:
        if name == "a":
            raise TaskGone(7)
        asked.append(name)

    asked: list[str] = []
    brake: Brake[str] = Brake(lambda name: True, gone, gone, lambda pid: True, lambda seconds: None)
    wanted = {7: ("a", 1 / 256), 8: ("b", 1 / 256)}
    brake.step(0.0, wanted)
    if standing:
        assert brake.stopped(7, 0.0, computing=True) and brake.stopped(8, 0.0, computing=True)
    brake.step(STAND, wanted)
    brake.step(2 * STAND, {})
    assert asked == (["b"] * 3 if standing else ["b"])


def test_who_was_in_a_call_goes_on(tasks: Tasks) -> None:
    tasks.brake.step(0.0, {7: ("a", 0.5)})
    assert not tasks.brake.stopped(7, 0.0, computing=False)
    assert tasks.brake.due() == AGAIN


@given(st.floats(1 / 64, 63 / 64))
def test_the_share_is_the_share(share: float) -> None:
    assert running_time(share) / (running_time(share) + STAND) == pytest.approx(share)
