"""Descriptors of ours handed over to a stopped process, by a message to itself (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from mosfs.abi.flags import AF_UNIX, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SOCK_DGRAM
from mosfs.abi.numbers import SYS_CLOSE, SYS_RECVMSG, SYS_SOCKETPAIR
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.taken import paired_socket, take

#: Descriptors of one message; the kernel takes 253.
MOST = 250
_CONTROL = 128  # where the control message lies in the scratch


def hand(call: Calls, ours: Sequence[int]) -> list[int]:
    """The process's own descriptors for the same open files, in their order, with FD_CLOEXEC. OSError: EMFILE, ..."""
    found: list[int] = []
    at = layout.SCRATCH
    call.must(SYS_SOCKETPAIR, AF_UNIX, SOCK_DGRAM | os.O_CLOEXEC, 0, at)
    ends = struct.unpack("<2i", call.task.read(at, 8))
    try:
        with socket.socket(fileno=take(call.task.pid, ends[1], paired_socket(call.task.pid))) as sock:
            for i in range(0, len(ours), MOST):
                part = ours[i : i + MOST]
                socket.send_fds(sock, [b"."], list(part), socket.MSG_DONTWAIT)
                found += _received(call, ends[0], len(part))
        return found
    except OSError:
        for fd in found:
            call(SYS_CLOSE, fd)
        raise
    finally:
        for fd in ends:
            call(SYS_CLOSE, fd)


def _received(call: Calls, fd: int, count: int) -> list[int]:
    task, at = call.task, layout.SCRATCH
    room = 16 + 4 * count
    head = struct.pack("<QIxxxxQQQQixxxx", 0, 0, at + 64, 1, at + _CONTROL, (room + 7) & ~7, 0)
    task.write(at, head.ljust(64, b"\0") + struct.pack("<QQ", at + 80, 1))
    call.must(SYS_RECVMSG, fd, at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    length, _level, _kind = struct.unpack("<Qii", task.read(at + _CONTROL, 16))
    got = (min(length, room) - 16) // 4 if length > 16 else 0
    found = list(struct.unpack(f"<{got}i", task.read(at + _CONTROL + 16, 4 * got)))
    if len(found) < count:
        for each in found:
            call(SYS_CLOSE, each)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return found
