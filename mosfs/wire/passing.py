"""Descriptors that come beside a message (unix(7), SCM_RIGHTS)."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable

#: Room for one descriptor. The kernel rounds it up, so that a second one fits.
ROOM = socket.CMSG_SPACE(array.array("i").itemsize)


def received(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """The descriptor that recvmsg(2) has brought, for the caller to close; -1: none. Those beyond it, which only somebody who is
    not of ours sends, are closed."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for extra in fds[1:]:
        os.close(extra)
    return fds[0] if fds else -1
