"""The part of the tree that shows mailboxes: ``mbox/A.B.C.D/PID``, one file a program that may have one.

Everybody may write there, one message a write(2); whether it is accepted is the receiver's affair. Its owner may read what
its queue is like, at the node that has it. ``0.0.0.0`` stands for this node.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.node.letters import Letters

_PID_BITS = 16
MAX_PID = 2**22  #: proc(5), pid_max on 64-bit machines


def pack(home: int, pid: int) -> tuple[int, int]:
    """Key and file number of a place for the mailbox of ``pid``: together they hold address and PID."""
    return home << _PID_BITS | pid & (1 << _PID_BITS) - 1, 1 + (pid >> _PID_BITS)


def unpack(key: int, file: int) -> tuple[int, int]:
    """(home, pid); inverse of `pack`."""
    return key >> _PID_BITS, file - 1 << _PID_BITS | key & (1 << _PID_BITS) - 1


@dataclass(frozen=True, slots=True)
class Look:
    """What stat(2) shows of a mailbox."""

    mode: int
    uid: int


def look(letters: Letters | None, home: int, pid: int, admin: int) -> Look:
    owner = letters.owner(home, pid) if letters is not None else None
    if owner is None:
        return Look(stat.S_IFREG | 0o222, admin)
    return Look(stat.S_IFREG | 0o622, owner)


def home_of(name: str) -> int:
    """The home-node that a folder is called after; ENOENT when it is no address as we write them."""
    try:
        home = as_unsigned(name)
    except ValueError:
        raise OSError(errno.ENOENT, "") from None
    if to_ip(home) != name:
        raise OSError(errno.ENOENT, "")
    return home


def pid_of(name: str) -> int:
    """ENOENT when it cannot be the number of a process."""
    if not (name.isascii() and name.isdecimal() and str(int(name)) == name and 2 <= int(name) <= MAX_PID):
        raise OSError(errno.ENOENT, "")
    return int(name)


def listed(letters: Letters | None, own: int) -> Iterator[int]:
    """Folders of mbox/: this node by both its names, and homes of guests that have their mailboxes here."""
    yield from (0, own)
    if letters is not None:
        yield from sorted(set(letters.homes()) - {own})
