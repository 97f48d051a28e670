"""How mosd, tracers and hosts are scheduled: they do little at a time, and programs wait for it, so they go first.

Who does much for its programs takes from others what these may not take, so it goes like them (`Share`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from mosfs.native import lib
from mosfs.trace import autogroup

#: Nice value, and the length of a slice in nanoseconds.
NICE, SLICE = -5, 200_000

#: Parts of a processor: who takes more than the first for its programs loses its nice value, until it takes less than the second.
#: Where many compute, a fair share is less: then that, and half of it, but no less than the third.
MUCH, LITTLE, LEAST = 0.2, 0.1, 0.02
#: With such a fair share or more there is nobody before whom we would have to go.
QUIET = 0.5


def prompt(tell: Callable[[str], object]) -> None:
    """Be scheduled soon after waking up, however many programs compute here."""
    if (error := lib.mos_prompt(NICE, SLICE)) < 0:
        tell(f"no short time slices: {os.strerror(-error)}")
    autogroup.renice(os.getpid(), NICE)
    lib.mos_quiet(fair_share() >= QUIET)


def fair_share() -> float:
    """The part of a processor that each of those has who want one, by the load of the last minute (getloadavg(3)); 1 at most."""
    return min(1.0, (os.cpu_count() or 1) / max(os.getloadavg()[0], 1.0))


def wanted(nice: int, used: float, programs: Iterable[int], fair: float = 1.0) -> int:
    """The nice value for a process that has ``nice`` and took ``used`` of a processor, for programs with these nice values.

    ``fair``: see `fair_share`."""
    much = min(MUCH, max(fair, LEAST))
    if used > (much if nice == NICE else much * LITTLE / MUCH):
        return max(0, min(programs, default=0))
    return NICE


def nice_of(pid: int) -> int:
    """getpriority(2); 0 for what has ended."""
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except ProcessLookupError:
        return 0


class Share:
    """Of this process. Where its nice value could not be lowered in the beginning, nothing is changed."""

    def __init__(
        self, tell: Callable[[str], object], clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time, fair: Callable[[], float] = fair_share,
    ) -> None:
        self._tell, self._clock, self._all, self._fair = tell, clock, used, fair
        self._since, self._used = clock(), used()
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._may = self._nice == NICE
        self._group = True  # the session has the nice value too

    def look(self, programs: Iterable[int]) -> None:
        """Once a second. ``programs``: the nice values of those that are served, asked for if they matter."""
        now, used, fair = self._clock(), self._all(), self._fair()
        lib.mos_quiet(fair >= QUIET)
        if not self._may or now <= self._since:
            return
        nice = wanted(self._nice, (used - self._used) / (now - self._since), programs, fair)
        self._since, self._used = now, used
        if nice != self._nice:
            if lib.mos_prompt(nice, SLICE):
                self._may = False
                self._tell("the nice value of a daemon stays as it is: it may not be lowered any more")
                return
            self._nice, self._group = nice, False
        if not self._group:
            self._group = autogroup.renice(os.getpid(), nice)
