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
from mosfs.abi.numbers import (
    SYS_ACCEPT,
    SYS_ACCEPT4,
    SYS_EPOLL_PWAIT,
    SYS_EPOLL_PWAIT2,
    SYS_EPOLL_WAIT,
    SYS_READ,
    SYS_READV,
    SYS_RECVFROM,
    SYS_RECVMMSG,
    SYS_RECVMSG,
    SYS_RT_SIGTIMEDWAIT,
    SYS_SEMTIMEDOP,
    SYS_SENDMMSG,
    SYS_SENDMSG,
    SYS_SENDTO,
    SYS_WRITE,
    SYS_WRITEV,
)
from mosfs.calls.deadlines import LENGTHS, Unit

SOL_SOCKET, SO_RCVTIMEO, SO_SNDTIMEO = 1, 20, 21
#: Those that say their time themselves.
_OF_ARGUMENT = {
    nr: LENGTHS[nr] for nr in (SYS_EPOLL_WAIT, SYS_EPOLL_PWAIT, SYS_EPOLL_PWAIT2, SYS_RT_SIGTIMEDWAIT, SYS_SEMTIMEDOP)
}
#: Calls that a socket's own limit concerns.
SOCKET_OPTION = {
    **dict.fromkeys(
        (SYS_READ, SYS_READV, SYS_RECVFROM, SYS_RECVMSG, SYS_RECVMMSG, SYS_ACCEPT, SYS_ACCEPT4), SO_RCVTIMEO,
    ),
    **dict.fromkeys((SYS_WRITE, SYS_WRITEV, SYS_SENDTO, SYS_SENDMSG, SYS_SENDMMSG), SO_SNDTIMEO),
}  # fmt: skip
#: Calls that may be concerned at all.
CALLS = frozenset({*_OF_ARGUMENT, *SOCKET_OPTION})
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
    length = _OF_ARGUMENT.get(nr)
    if length is None:
        return None
    if length.unit is Unit.MILLISECONDS:
        timeout = as_c_int(args[length.argument])
        return timeout / 1000 if timeout >= 0 else None
    data = read(length.argument) if args[length.argument] else None
    if data is None or len(data) < PAIR_SIZE:
        return None
    seconds, parts = _PAIR.unpack_from(data)
    return float(seconds + parts * length.unit.value / 1e9)


def of_socket(timeval: bytes) -> float | None:
    """The same of SO_RCVTIMEO and SO_SNDTIMEO (socket(7)): zero is any time."""
    seconds, us = _PAIR.unpack_from(timeval)
    return seconds + us / 1e6 or None


def result(nr: int) -> int:
    """What the call returns when its time is over."""
    return _OF_ARGUMENT[nr].result if nr in _OF_ARGUMENT else -errno.EAGAIN
