"""Timers and limits of CPU time (setitimer(2), timer_create(2), RLIMIT_CPU of getrlimit(2)): what is read, and what becomes of it.

They are home's kernel's all the time, in the program's own process, and that counts what the process uses at home. `spent` tells
what the CPU time used away leaves of one; `Alarm` is when home wants to hear of the body, so that it can let one expire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from mosfs.abi.flags import RLIMIT_CPU
from mosfs.abi.flags import TIMER_ABSTIME as TIMER_ABSTIME
from mosfs.abi.numbers import SYS_GETITIMER, SYS_PRLIMIT64, SYS_SETITIMER, SYS_SETRLIMIT, SYS_TIMER_GETTIME, SYS_TIMER_SETTIME
from mosfs.calls.cputime import Used, clock_pid
from mosfs.wire.orders import LARGEST

#: ITIMER_VIRTUAL and ITIMER_PROF, and their signals.
INTERVAL_TIMERS = {1: 26, 2: 27}
VIRTUAL = 1
SIGXCPU = 24
#: A pair of timevals or timespecs: interval, value.
PAIR = struct.Struct("<4q")
LIMIT = struct.Struct("<2Q")
SECOND = 10**9
#: The lowest bits of a clock of CPU time tell what it counts: 1 for user mode only (include/linux/posix-timers_types.h).
_WHICH, _VIRTUAL_CLOCK = 3, 1


class PosixTimer(NamedTuple):
    """A timer of timer_create(2) that counts CPU time of its own process: in user mode only if ``virtual``."""

    number: int
    signal: int
    clock: int
    virtual: bool


class Alarm(NamedTuple):
    """CPU time that a program has used away, ns in all and in user mode, at which home wants to know; 0 for never."""

    total: int = 0
    user: int = 0

    def sendable(self) -> Alarm:
        """As it goes over a channel: what is further off than anybody computes is as far as a frame can say."""
        return Alarm(min(self.total, LARGEST), min(self.user, LARGEST))

    def reached(self, used: Used) -> bool:
        return bool((self.total and sum(used) >= self.total) or (self.user and used.user >= self.user))

    def wait(self, used: Used) -> float:
        """Seconds until it can be reached at the earliest, by a body with one thread."""
        left = [at - now for at, now in ((self.total, sum(used)), (self.user, used.user)) if at]
        return max(min(left, default=0), 0) / SECOND


FRAME = struct.Struct("<2Q")
#: Calls that may read or set such a timer or limit.
CALLS = frozenset({SYS_GETITIMER, SYS_SETITIMER, SYS_SETRLIMIT, SYS_PRLIMIT64, SYS_TIMER_SETTIME, SYS_TIMER_GETTIME})


def concerns(nr: int, args: tuple[int, ...]) -> bool:
    """Whether the call reads or sets such a timer, or such a limit."""
    if nr in (SYS_GETITIMER, SYS_SETITIMER):
        return args[0] & 0xFFFFFFFF in INTERVAL_TIMERS
    if nr in (SYS_SETRLIMIT, SYS_PRLIMIT64):
        return args[0 if nr == SYS_SETRLIMIT else 1] & 0xFFFFFFFF == RLIMIT_CPU
    return nr in (SYS_TIMER_SETTIME, SYS_TIMER_GETTIME)


def spent(left: int, interval: int, used: int) -> tuple[int, int]:
    """(what is left of a timer, 0 for nothing; how often it has expired) after ``used`` of its time. ``left`` is not 0."""
    if used < left:
        return left - used, 0
    if not interval:
        return 0, 1
    late = used - left
    return interval - late % interval, 1 + late // interval


def of_clock(clock: int, pid: int) -> bool:
    """Whether a clock counts the CPU time of the process ``pid``, which has the timer."""
    return clock < 0 and clock_pid(clock) in (0, pid)


def posix_timers(text: str, pid: int) -> list[PosixTimer]:
    """The timers of CPU time in the text of /proc/PID/timers (proc(5))."""
    found = []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.strip()
        if name == "ClockID" and of_clock(clock := int(value), pid):
            signal = int(fields["signal"].partition("/")[0])
            found.append(PosixTimer(int(fields["ID"]), signal, clock, clock & _WHICH == _VIRTUAL_CLOCK))
    return found


def earliest(lefts: Iterable[tuple[int, bool]], used: Used) -> Alarm:
    """The alarm for timers of which so much is left, when ``used`` has been counted: (ns, whether of user mode only)."""
    totals: list[int] = []
    users: list[int] = []
    for left, virtual in lefts:
        (users if virtual else totals).append(left)
    return Alarm(sum(used) + min(totals) if totals else 0, used.user + min(users) if users else 0)


def of_kernel(sig: int) -> bytes:
    """The siginfo of a signal that the kernel itself sends (SI_KERNEL)."""
    return struct.pack("<3i", sig, 0, 0x80).ljust(128, b"\0")
