"""Calls that wait for a limited time: how long, by their arguments and by their socket, and what they return after it."""

from __future__ import annotations

import errno
import struct

import pytest

from mosfs.abi.syscalls import BY_NAME
from mosfs.calls import timeouts

HALF = struct.pack("<2q", 1, 500_000_000)


def _limit(name: str, *args: int, memory: bytes | None = None) -> float | None:
    return timeouts.of_argument(BY_NAME[name].nr, (*args, *([0] * (6 - len(args)))), lambda _index: memory)


def test_milliseconds_are_a_c_int() -> None:
    assert _limit("epoll_wait", 3, 0x1000, 1, 250) == 0.25
    assert _limit("epoll_wait", 3, 0x1000, 1, 0xFFFFFFFF) is None
    assert _limit("epoll_pwait", 3, 0x1000, 1, 0xFFFFFFFFFFFFFFFF) is None
    assert _limit("epoll_pwait", 3, 0x1000, 1, 0) == 0


@pytest.mark.parametrize(("name", "at"), [("epoll_pwait2", 3), ("rt_sigtimedwait", 2), ("semtimedop", 3)])
def test_times_behind_a_pointer(name: str, at: int) -> None:
    args = [5] * 6
    args[at] = 0x1000
    assert _limit(name, *args, memory=HALF) == 1.5
    assert _limit(name, *args, memory=None) is None
    args[at] = 0
    assert _limit(name, *args, memory=HALF) is None


def test_no_limit_of_a_socket_is_zero() -> None:
    assert timeouts.of_socket(struct.pack("<2q", 0, 0)) is None
    assert timeouts.of_socket(struct.pack("<2q", 2, 250_000)) == 2.25


def test_each_direction_has_its_own_limit() -> None:
    assert {timeouts.SOCKET_OPTION[BY_NAME[name].nr] for name in ("read", "recvmsg", "accept4")} == {timeouts.SO_RCVTIMEO}
    assert {timeouts.SOCKET_OPTION[BY_NAME[name].nr] for name in ("write", "sendmsg", "sendto")} == {timeouts.SO_SNDTIMEO}


def test_what_is_returned_when_the_time_is_over() -> None:
    assert [timeouts.result(BY_NAME[f"epoll_{name}"].nr) for name in ("wait", "pwait", "pwait2")] == [0, 0, 0]
    assert {timeouts.result(BY_NAME[name].nr) for name in ("rt_sigtimedwait", "semtimedop", "read")} == {-errno.EAGAIN}
