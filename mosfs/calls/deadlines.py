"""Calls that end when a time is over: what clocks show by then.

Away, the call is made at home while the program reads clocks that are an estimate of home's (docs/design/migration.md, Clocks). So
who sleeps until nine o'clock might find that it is not nine yet, which no kernel lets happen (clock_nanosleep(2), futex(2)).
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import FUTEX_CLOCK_REALTIME, FUTEX_COMMAND, FUTEX_LOCK_PI, FUTEX_WAIT, FUTEX_WAITS, IPC_NOWAIT, TIMER_ABSTIME
from mosfs.abi.numbers import (
    SYS_CLOCK_NANOSLEEP,
    SYS_EPOLL_PWAIT,
    SYS_EPOLL_PWAIT2,
    SYS_EPOLL_WAIT,
    SYS_FUTEX,
    SYS_NANOSLEEP,
    SYS_POLL,
    SYS_PPOLL,
    SYS_PSELECT6,
    SYS_RT_SIGTIMEDWAIT,
    SYS_SELECT,
    SYS_SEMTIMEDOP,
)


class Unit(Enum):
    """How an argument says a time: an int, or a struct of two numbers. ns of one of the last."""

    MILLISECONDS = 10**6
    TIMEVAL = 10**3
    TIMESPEC = 1


class Length(NamedTuple):
    """Which argument is a time from the beginning on, and the result of a call that ends by it."""

    argument: int
    unit: Unit
    result: int


LENGTHS = {
    SYS_NANOSLEEP: Length(0, Unit.TIMESPEC, 0),
    SYS_POLL: Length(2, Unit.MILLISECONDS, 0),
    SYS_PPOLL: Length(2, Unit.TIMESPEC, 0),
    SYS_SELECT: Length(4, Unit.TIMEVAL, 0),
    SYS_PSELECT6: Length(4, Unit.TIMESPEC, 0),
    SYS_EPOLL_WAIT: Length(3, Unit.MILLISECONDS, 0),
    SYS_EPOLL_PWAIT: Length(3, Unit.MILLISECONDS, 0),
    SYS_EPOLL_PWAIT2: Length(3, Unit.TIMESPEC, 0),
    SYS_RT_SIGTIMEDWAIT: Length(2, Unit.TIMESPEC, -errno.EAGAIN),
    SYS_SEMTIMEDOP: Length(3, Unit.TIMESPEC, -errno.EAGAIN),
}
CALLS = frozenset({*LENGTHS, SYS_CLOCK_NANOSLEEP, SYS_FUTEX})
#: A clock, and with which of the two that a page corrects it goes.
_WITH = {time.CLOCK_REALTIME: 0, time.CLOCK_TAI: 0, time.CLOCK_MONOTONIC: 1, time.CLOCK_BOOTTIME: 1}
#: Bytes of struct timespec and struct timeval.
_PAIR = 16
_NSEC = 10**9
#: struct sembuf; and how many of them are looked at (SEMOPM, by default).
_SEMBUF, _MOST_OPERATIONS = struct.Struct("<Hhh"), 500


class Deadline(NamedTuple):
    """A call that ends with ``result`` does so when realtime and CLOCK_MONOTONIC show no less than this, ns; 0: no matter what.
    ``wall``: how far realtime was ahead when it began."""

    realtime: int
    monotonic: int
    wall: int
    result: int


def deadline(
    nr: int, args: tuple[int, ...], read: Callable[[int, int], bytes], shown: Callable[[int], int | None]
) -> Deadline | None:
    """Of the call ``nr`` with ``args`` that begins now; None if it does not end by a time, or nobody knows what the program reads.

    ``read``: memory of the program (address, size; OSError); ``shown``: what its clocks show, ns.
    """
    realtime, monotonic = shown(time.CLOCK_REALTIME), shown(time.CLOCK_MONOTONIC)
    said = _said(nr, args, read)
    if said is None or realtime is None or monotonic is None:
        return None
    clock, ns, result = said
    wall = realtime - monotonic
    if clock is None:
        return Deadline(realtime + ns, monotonic + ns, wall, result)
    now, which = shown(clock), _WITH.get(clock)
    if now is None or which is None:
        return None
    rest = ns - now
    return Deadline(0, monotonic + rest, wall, result) if which else Deadline(realtime + rest, 0, wall, result)


def _said(nr: int, args: tuple[int, ...], read: Callable[[int, int], bytes]) -> tuple[int | None, int, int] | None:
    """(clock of the moment, None for a time from now on; ns; the result by which the call ends then), None for no time at all."""
    if nr == SYS_CLOCK_NANOSLEEP:
        ns, clock = _ns(args[2], Unit.TIMESPEC, read), as_c_int(args[0])
        if clock not in _WITH or ns is None:
            return None
        return clock if args[1] & TIMER_ABSTIME else None, ns, 0
    if nr == SYS_FUTEX:
        operation = args[1] & FUTEX_COMMAND
        if operation not in FUTEX_WAITS or (ns := _ns(args[3], Unit.TIMESPEC, read)) is None:
            return None
        realtime = operation == FUTEX_LOCK_PI or args[1] & FUTEX_CLOCK_REALTIME
        clock = time.CLOCK_REALTIME if realtime else time.CLOCK_MONOTONIC
        return None if operation == FUTEX_WAIT else clock, ns, -errno.ETIMEDOUT
    if nr == SYS_SEMTIMEDOP and _at_once(args[1], args[2], read):
        return None
    at, unit, result = LENGTHS[nr]
    ns = _ns(args[at], unit, read)
    return None if ns is None else (None, ns, result)


def _at_once(at: int, count: int, read: Callable[[int, int], bytes]) -> bool:
    """Whether one of these operations on semaphores shall not wait: EAGAIN need not mean then that a time is over (semop(2))."""
    try:
        return any(flags & IPC_NOWAIT for _, _, flags in _SEMBUF.iter_unpack(read(at, _SEMBUF.size * min(count, _MOST_OPERATIONS))))
    except OSError:
        return True


def _ns(value: int, unit: Unit, read: Callable[[int, int], bytes]) -> int | None:
    if unit is Unit.MILLISECONDS:
        return as_c_int(value) * unit.value if as_c_int(value) >= 0 else None
    if not value:
        return None
    try:
        data = read(value, _PAIR)
    except OSError:
        return None
    seconds, parts = (int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8))
    return seconds * _NSEC + parts * int(unit.value)
