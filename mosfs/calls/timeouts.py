"""Calls that wait for a time that is counted from their beginning, and that end with EINTR whatever interrupts them (signal(7)).

The kernel never makes them again; after a move or an ignored signal we do, and then they must not wait for all of their
time again. The others restart by themselves with the time that is left, or wait until a moment.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import NamedTuple

from mosfs.abi.args import as_c_int

SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO = 1, 20, 21
#: epoll_wait, epoll_pwait: argument 3 counts milliseconds.
_MILLISECONDS = frozenset({232, 281})
#: epoll_pwait2, rt_sigtimedwait, semtimedop: which argument points to a struct timespec.
_TIMESPEC = {441: 3, 128: 2, 220: 3}
#: Calls that a socket's own limit concerns: read readv recvfrom recvmsg recvmmsg accept accept4, write writev sendto sendmsg
#: sendmmsg.
SOCKET_OPTION = {
    **dict.fromkeys((0, 19, 45, 47, 299, 43, 288), SO_RCVTIMEO), **dict.fromkeys((1, 20, 44, 46, 307), SO_SNDTIMEO),
}  # fmt: skip
#: Calls that may be concerned at all.
CALLS = frozenset({*_MILLISECONDS, *_TIMESPEC, *SOCKET_OPTION})
_PAIR = struct.Struct("<2q")
#: struct timespec, struct timeval
PAIR_SIZE = _PAIR.size


class Wait(NamedTuple):
    """The call ``nr`` with ``args`` must not wait beyond ``until`` (seconds of CLOCK_MONOTONIC)."""

    nr: int
    args: tuple[int, ...]
    until: float


def of_argument(nr: int, args: tuple[int, ...], read: Callable[[int], bytes | None]) -> float | None:
    """Seconds that the call waits by an argument of its own; None for any time. ``read(i)``: what argument i points to."""
    if nr in _MILLISECONDS:
        timeout = as_c_int(args[3])
        return timeout / 1000 if timeout >= 0 else None
    at = _TIMESPEC.get(nr)
    data = read(at) if at is not None and args[at] else None
    if data is None or len(data) < PAIR_SIZE:
        return None
    seconds, ns = _PAIR.unpack_from(data)
    return float(seconds + ns / 1e9)


def of_socket(timeval: bytes) -> float | None:
    """The same of SO_RCVTIMEO and SO_SNDTIMEO (socket(7)): zero is any time."""
    seconds, us = _PAIR.unpack_from(timeval)
    return seconds + us / 1e6 or None


def result(nr: int) -> int:
    """What the call returns when its time is over."""
    return 0 if nr in _MILLISECONDS or nr == 441 else -errno.EAGAIN
