"""What a Python program may ask of MOSIX: mosix(7), INTERFACE FOR PROGRAMS. The standard library is enough.

    from mosfs import api

    if api.running():
        api.migrate(3)
        print("on node", api.where())
        api.write("lock", 1)

Each request is an open(2) that opens nothing: the number it returns is the answer. Errors are OSError: ENOENT outside
`mosrun` and for unknown names, EPERM for a direction that a file does not have, ERANGE for a value out of range; those
of single files are in mosix(7). (`os.open` cannot be used: it takes the answer for a descriptor and changes its flags.)
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass

_SYS_OPEN = 2
HOME = 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _request(name: str, flags: int, value: int | ctypes.c_char_p = 0) -> int:
    """The answer as a C int; an IP address may be negative."""
    path = ctypes.c_char_p(f"/proc/self/{name}".encode())
    third = value if isinstance(value, ctypes.c_char_p) else ctypes.c_ulong(value & 0xFFFFFFFF)
    result = int(_libc.syscall(ctypes.c_long(_SYS_OPEN), path, ctypes.c_long(flags | os.O_CREAT), third))
    number = ctypes.get_errno()
    if result == -1 and number > 255:  # the C library takes addresses from 255.255.240.1 on for errors
        return -number
    if result == -1:
        raise OSError(number, os.strerror(number), f"/proc/self/{name}")
    return result


def _address(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _node(node: int | str) -> int:
    """A node number, or "1.2.3.4" as an unsigned integer in host order; ValueError if it is neither."""
    if isinstance(node, int):
        return node
    parts = [int(part) for part in node.split(".")]
    if len(parts) != 4 or not all(0 <= part <= 255 for part in parts):
        raise ValueError(f"{node!r} is not an IP address")
    return int.from_bytes(bytes(parts), "big")


def read(name: str) -> int:
    """The value of a control file."""
    return _request(name, os.O_RDONLY)


def write(name: str, value: int) -> None:
    """Set a control file."""
    _request(name, os.O_WRONLY, value)


def swap(name: str, value: int) -> int:
    """Set a control file; what it was before."""
    return _request(name, os.O_RDWR, value)


def running() -> bool:
    """Whether this program runs under mosrun."""
    try:
        read("nmigs")
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def where() -> int | str:
    """Where the program runs: 0 at home, else the node's number, or its IP if it has none."""
    value = read("whereami") & 0xFFFFFFFF
    return value if value <= 65535 else _address(value)


def migrate(node: int | str) -> None:
    """Move to a node (its number or IP; `HOME`), or have a move considered (-1). Returns when the program is there."""
    write("migrate", _node(node))


def in_cluster(node: int | str) -> bool:
    """Whether a node, by its number or IP, is one of this cluster."""
    return bool(_request("in_cluster", os.O_RDONLY, _node(node)))


def checkpoint_file(name: str) -> None:
    """Set the base name of this program's checkpoint files."""
    _request("checkpointfile", os.O_WRONLY, ctypes.c_char_p(os.fsencode(name)))


@dataclass(frozen=True, slots=True)
class Message:
    """About the last message that the program read. ``location``: where its sender ran when it sent it."""

    home: str
    pid: int
    location: str
    length: int


def last_message() -> Message | None:
    """None if no message was read yet (direct_communication(7))."""
    try:
        return Message(
            _address(read("sender_home") & 0xFFFFFFFF), read("sender_pid"), _address(read("sender_location") & 0xFFFFFFFF),
            read("message_length"),
        )  # fmt: skip
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
