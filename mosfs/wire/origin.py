"""Where a node's connections come from: ports below 1024, which of all its users only root can have (ip(7)).

So the other end, before it knows anything else, tells the daemons of a node from its ordinary users (`daemon.door`): these may
connect as often as they like, and keep nobody out. Where a port cannot be had, any other does, and counts as a user's.

Datagrams of root's daemons all come from such a port, so the kernel drops the others (`without_users`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import socket
import struct
from collections.abc import Iterator

#: The first port that ordinary users may have.
ORDINARY = 1024
#: Ports to connect from: those that the kernel's NFS client uses too. Each serves one connection to each node and port.
RESERVED = range(665, ORDINARY)
#: Some of them may be in use, or were a minute ago (TIME_WAIT): so many are tried.
TRIES = 8

#: Errors that another port may not have.
TAKEN = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})


_SO_ATTACH_FILTER = 26
_SOCK_FILTER = struct.Struct("HBBI")
#: Classic BPF (socket(7), SO_ATTACH_FILTER) over a datagram, which begins with its source port: its length, or nothing.
_FROM_ROOT = (
    _SOCK_FILTER.pack(0x28, 0, 0, 0),  # load the first two bytes
    _SOCK_FILTER.pack(0x35, 0, 1, ORDINARY),  # go on if at least this, else skip one
    _SOCK_FILTER.pack(0x06, 0, 0, 0),  # nothing of it
    _SOCK_FILTER.pack(0x06, 0, 0, 0xFFFFFFFF),  # all of it
)


def is_roots(port: int) -> bool:
    """Whether who connects from ``port`` has been root of its computer."""
    return 0 < port < ORDINARY


def without_users(sock: socket.socket) -> None:
    """Have the kernel drop what comes to this UDP socket from ports that any user can have; where it cannot, all comes."""
    program = ctypes.create_string_buffer(b"".join(_FROM_ROOT))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FROM_ROOT), ctypes.addressof(program)))


def ports() -> Iterator[int]:
    """What to connect from, in the order in which to try; the last, 0, is any port."""
    if os.geteuid() == 0:
        yield from random.sample(RESERVED, TRIES)
    yield 0


def bound(ip: str, port: int) -> socket.socket:
    """A TCP socket that connects from ``ip`` and ``port`` (0: any); OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if port:  # connections to other nodes may have it, too
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:  # the same, for a port that is chosen later
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((ip, port))
    except BaseException:
        sock.close()
        raise
    return sock


def connected(ip: str, to: tuple[str, int], patience: float) -> socket.socket:
    """A connection from ``ip``, for who may wait: ``patience`` seconds; OSError."""
    for port in ports():
        try:
            sock = bound(ip, port)
            try:
                sock.settimeout(patience)
                sock.connect(to)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            if not (port and error.errno in TAKEN):
                raise
        else:
            return sock
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
