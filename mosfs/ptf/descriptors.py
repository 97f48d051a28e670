"""What calls on descriptors do to a guest's open private files, once home has made them. Home's kernel decides; this follows."""

from __future__ import annotations

import os

from mosfs.abi.args import as_c_int
from mosfs.abi.commands import F_DUPFD, F_DUPFD_CLOEXEC, F_SETFL
from mosfs.abi.numbers import SYS_CLOSE, SYS_CLOSE_RANGE, SYS_DUP, SYS_DUP2, SYS_DUP3, SYS_FCNTL, SYS_UMASK
from mosfs.ptf.store import Store

CLOSE_RANGE_CLOEXEC = 4
#: What fcntl F_SETFL can change (fcntl(2)).
CHANGEABLE = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_DIRECT | os.O_ASYNC
FOLLOWED = frozenset({SYS_CLOSE, SYS_DUP, SYS_DUP2, SYS_FCNTL, SYS_UMASK, SYS_DUP3, SYS_CLOSE_RANGE})


def follow(store: Store, nr: int, args: tuple[int, ...], result: int) -> None:
    """Call ``nr`` has returned ``result`` at home."""
    if nr not in FOLLOWED or result < 0:
        return
    first = as_c_int(args[0])
    if nr == SYS_CLOSE:
        store.forget(first)
    elif nr == SYS_UMASK:
        store.umask = args[0] & 0o777
    elif nr == SYS_CLOSE_RANGE:
        if not args[2] & CLOSE_RANGE_CLOEXEC:
            low, high = args[0] & 0xFFFFFFFF, args[1] & 0xFFFFFFFF
            for fd in [fd for fd in store.descriptors if low <= fd <= high]:
                store.forget(fd)
    elif nr == SYS_FCNTL and args[1] & 0xFFFFFFFF == F_SETFL:
        if first in store.descriptors:
            description = store.descriptors[first]
            description.flags = description.flags & ~CHANGEABLE | args[2] & CHANGEABLE
    elif nr != SYS_FCNTL or args[1] & 0xFFFFFFFF in (F_DUPFD, F_DUPFD_CLOEXEC):
        _dup(store, first, result)


def _dup(store: Store, old: int, new: int) -> None:
    if old == new:
        return
    description = store.descriptors.get(old)
    if description is None:
        store.forget(new)
    else:
        store.describe(new, description)
