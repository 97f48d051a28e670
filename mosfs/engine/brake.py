"""Slowing down programs that write their memory faster than it can be sent ahead: they stand still for a moment, again and again.

Live migration of virtual machines does the same ("auto-converge" of QEMU). A program stands `STAND` seconds at a time, whatever
its share, so that nobody waits longer for it; the share decides how long it runs in between. One that waits for something writes
nothing, and is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mosfs.trace.proc import on_processor
from mosfs.trace.task import TaskGone

#: Seconds that a program stands still at a time, and until we look again at one that waits for something.
STAND = 0.010
AGAIN = 0.002
#: Who runs for less is waited for: in the meantime nothing else could be done, and a memory is written in no time.
WAITED_FOR = 0.001

T = TypeVar("T")


@dataclass(slots=True)
class Slowed(Generic[T]):
    """``next``: when it is stopped, or goes on (monotonic seconds); ``asked``: it has been asked to stop, and has not yet."""

    subject: T
    share: float
    next: float
    asked: bool = False
    standing: bool = False


def spin(seconds: float) -> None:
    """Wait so short a time that the kernel's timers would make it longer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def running_time(share: float) -> float:
    """Seconds to run between two stops, for a program that shall run ``share`` of the time (0 to 1, both excluded)."""
    return STAND * share / (1 - share)


class Brake(Generic[T]):
    """``may_stop``: nothing else is wanted of a task, so that it may be asked to stop; ``interrupt`` asks it; ``go_on`` resumes it.
    Tasks are known by PID; ``running`` tells whether one is on a processor."""

    def __init__(
        self, may_stop: Callable[[T], bool], interrupt: Callable[[T], None], go_on: Callable[[T], None],
        running: Callable[[int], bool] = on_processor, wait: Callable[[float], None] = spin,
    ) -> None:
        self._may_stop = may_stop
        self._interrupt = interrupt
        self._go_on = go_on
        self._running = running
        self._wait = wait
        self._slowed: dict[int, Slowed[T]] = {}

    def __bool__(self) -> bool:
        return bool(self._slowed)

    def due(self) -> float | None:
        """When `step` has something to do (monotonic seconds); None for never."""
        return min((slowed.next for slowed in self._slowed.values() if not slowed.asked), default=None)

    def stopped(self, pid: int, now: float, *, computing: bool) -> bool:
        """The task has stopped for no other reason; True: for ours, and it shall stand for a moment. Not if it was in a call, which
        it would make again and again (``computing`` False)."""
        slowed = self._slowed.get(pid)
        if slowed is None or not slowed.asked:
            return False
        slowed.asked, slowed.standing, slowed.next = False, computing, now + (STAND if computing else AGAIN)
        return computing

    def gone(self, pid: int) -> None:
        """The task has ended, or somebody else deals with it."""
        self._slowed.pop(pid, None)

    def step(self, now: float, wanted: Mapping[int, tuple[T, float]]) -> None:
        """``wanted``: who shall be slowed down from now on, and to which share of the time; all others are released."""
        for pid, (subject, share) in wanted.items():
            self._slowed.setdefault(pid, Slowed(subject, share, now)).share = share
        for pid, slowed in list(self._slowed.items()):
            with suppress(TaskGone):  # it was killed: its end is on the way
                if slowed.standing:
                    if pid not in wanted or now >= slowed.next:
                        self._release(slowed, now, again=pid in wanted)
                elif not slowed.asked and pid in wanted and now >= slowed.next:
                    slowed.next = now + AGAIN
                    if self._may_stop(slowed.subject) and self._running(pid):
                        slowed.asked = True
                        self._interrupt(slowed.subject)
            if pid not in wanted:
                self._slowed.pop(pid, None)

    def _release(self, slowed: Slowed[T], now: float, *, again: bool) -> None:
        seconds = running_time(slowed.share)
        slowed.standing, slowed.next = False, now + seconds
        self._go_on(slowed.subject)
        if again and seconds < WAITED_FOR:
            self._wait(seconds)
            if self._may_stop(slowed.subject):
                slowed.asked = True
                self._interrupt(slowed.subject)
